//! By load: `lc` and `wlc`.
//!
//! Kept from the kernel (late 6.1): a server's load is 256 times its active connections plus all of
//! its connections; ties go to the one that stands first in the list.

use super::{Candidate, Pool};

/// What a server carries.
fn overhead(server: Candidate) -> u64 {
    let (active, inactive) = (u64::from(server.active), u64::from(server.inactive));
    (active << 8) + active + inactive
}

/// `lc`: the smallest load, whatever the weight.
pub(super) fn least(pool: &impl Pool) -> Option<usize> {
    usable(pool).min_by_key(|&(_, server)| overhead(server)).map(|(index, _)| index)
}

/// `wlc`: the smallest load for its weight.
pub(super) fn weighted_least(pool: &impl Pool) -> Option<usize> {
    usable(pool)
        .reduce(|best, next| if is_lighter(next.1, best.1) { next } else { best })
        .map(first)
}

/// Whether `a` carries less for its weight than `b`. The products do not fit into 64 bits for the
/// largest weights.
fn is_lighter(a: Candidate, b: Candidate) -> bool {
    u128::from(overhead(a)) * u128::from(b.weight) < u128::from(overhead(b)) * u128::from(a.weight)
}

fn usable(pool: &impl Pool) -> impl Iterator<Item = (usize, Candidate)> + '_ {
    (0..pool.len()).map(|i| (i, pool.candidate(i))).filter(|(_, server)| server.is_usable())
}

const fn first(pair: (usize, Candidate)) -> usize {
    pair.0
}

#[cfg(test)]
mod tests {
    use super::super::tests::Bench;
    use super::super::Scheduler::{Lc, Wlc};

    #[test]
    fn the_orders_are_those_of_the_kernel() {
        assert_eq!(Bench::with(Lc, &[1, 2, 1]).picks(16), "CBACBACBACBACBAC");
        assert_eq!(Bench::with(Wlc, &[1, 2, 1]).picks(16), "CBABCBABCBABCBAB");
    }

    #[test]
    fn an_active_connection_weighs_more_than_256_inactive_ones() {
        let mut bench = Bench::with(Lc, &[1, 1]);
        bench.at('A').active = 1;
        bench.at('B').inactive = 256;
        assert_eq!(bench.picks(1), "B");
    }

    #[test]
    fn idle_servers_are_taken_newest_first_whatever_their_weight() {
        assert_eq!(Bench::with(Wlc, &[100, 1]).picks(2), "BA");
    }

    #[test]
    fn the_largest_weights_and_loads_do_not_overflow() {
        let mut bench = Bench::with(Wlc, &[2_147_483_647, 2_147_483_646]);
        bench.at('A').active = u32::MAX - 9;
        bench.at('B').active = u32::MAX - 9;
        assert_eq!(bench.picks(1), "A");
    }
}
