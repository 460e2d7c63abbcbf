//! By load: `lc`, `wlc`, `sed`, `nq`, `ovf` and `twos`, and `fo`, which goes by weight alone.
//!
//! Kept from the kernel (late 6.1): a server's load is 256 times its active connections plus all of
//! its connections; ties go to the one that stands first in the list; `ovf` takes one connection more
//! than the weight; `twos` has one lot too many, which the first server gets.

use super::{Candidate, Pool};
use crate::world::Rng;

/// What a server carries.
pub(super) fn overhead(server: Candidate) -> u64 {
    let (active, inactive) = (u64::from(server.active), u64::from(server.inactive));
    (active << 8) + active + inactive
}

/// What a server will carry with one more, by active connections alone.
fn expected(server: Candidate) -> u64 {
    u64::from(server.active) + 1
}

/// `lc`: the smallest load, whatever the weight.
pub(super) fn least(pool: &impl Pool) -> Option<usize> {
    usable(pool).min_by_key(|&(_, server)| overhead(server)).map(first)
}

/// `wlc`: the smallest load for its weight.
pub(super) fn weighted_least(pool: &impl Pool) -> Option<usize> {
    weighted_least_of((0..pool.len()).map(|i| (i, pool.candidate(i))))
}

/// `wlc` among some.
pub(super) fn weighted_least_of(all: impl Iterator<Item = (usize, Candidate)>) -> Option<usize> {
    lightest(all.filter(|(_, server)| server.is_usable()), overhead)
}

/// `sed`: the shortest expected delay.
pub(super) fn shortest_delay(pool: &impl Pool) -> Option<usize> {
    lightest(usable(pool), expected)
}

/// `nq`: never queue; a server without active connections, however slow, before any other.
pub(super) fn never_queue(pool: &impl Pool) -> Option<usize> {
    let idle = usable(pool).find(|(_, server)| server.active == 0).map(first);
    idle.or_else(|| shortest_delay(pool))
}

/// `fo`: fail over; the greatest weight.
pub(super) fn heaviest(pool: &impl Pool) -> Option<usize> {
    greatest_weight(usable(pool))
}

/// `ovf`: overflow; the greatest weight that is not exceeded by active connections.
pub(super) fn not_overflowing(pool: &impl Pool) -> Option<usize> {
    greatest_weight(usable(pool).filter(|(_, server)| server.active <= server.weight))
}

/// `twos`: two servers drawn by weight, the one with the smaller load for its weight.
pub(super) fn two_choices(die: &mut Rng, pool: &impl Pool) -> Option<usize> {
    let lots = usable(pool).map(|(_, server)| u64::from(server.weight)).sum::<u64>();
    if lots == 0 {
        return None;
    }
    let mut draw = || {
        let mut lot = below(die, lots + 1);
        usable(pool).find(|(_, server)| {
            let is_drawn = lot <= u64::from(server.weight);
            lot = lot.saturating_sub(server.weight.into());
            is_drawn
        })
    };
    let (one, other) = (draw()?, draw()?);
    // The kernel's products have 32 bits with a sign.
    let cost = |load: Candidate, weight: Candidate| {
        low_bits(overhead(load)).wrapping_mul(low_bits(weight.weight.into()))
    };
    Some(first(if cost(one.1, other.1) > cost(other.1, one.1) { other } else { one }))
}

/// A number below `limit`, each as likely as any other (to one part in 2^32 for real weights).
fn below(die: &mut Rng, limit: u64) -> u64 {
    let product = u128::from(die.next_u64()) * u128::from(limit);
    u64::try_from(product >> 64).expect("a quotient by 2^64")
}

#[expect(clippy::cast_possible_truncation, reason = "the low bits are wanted")]
const fn low_bits(number: u64) -> i32 {
    number as i32
}

/// The one that carries least for its weight. The products do not fit into 64 bits for the largest
/// weights.
fn lightest(
    all: impl Iterator<Item = (usize, Candidate)>,
    cost: impl Fn(Candidate) -> u64,
) -> Option<usize> {
    let product = |a, b: Candidate| u128::from(cost(a)) * u128::from(b.weight);
    let is_lighter = |a, b| product(a, b) < product(b, a);
    all.reduce(|best, next| if is_lighter(next.1, best.1) { next } else { best }).map(first)
}

fn greatest_weight(all: impl Iterator<Item = (usize, Candidate)>) -> Option<usize> {
    all.reduce(|best, next| if next.1.weight > best.1.weight { next } else { best }).map(first)
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
    use super::super::Scheduler::{Fo, Lc, Nq, Ovf, Sed, Twos, Wlc};

    #[test]
    fn the_orders_are_those_of_the_kernel() {
        assert_eq!(Bench::with(Lc, &[1, 2, 1]).picks(16), "CBACBACBACBACBAC");
        assert_eq!(Bench::with(Wlc, &[1, 2, 1]).picks(16), "CBABCBABCBABCBAB");
        assert_eq!(Bench::with(Sed, &[1, 2, 1]).picks(16), "BCBABCBABCBABCBA");
        assert_eq!(Bench::with(Nq, &[1, 2, 1]).picks(16), "CBABBCBABCBABCBA");
        assert_eq!(Bench::with(Ovf, &[1, 2, 1]).picks(9), "BBBCCAA--");
        assert_eq!(Bench::with(Ovf, &[2, 4, 3]).picks(12), "BBBBBCCCCAAA");
    }

    /// `sed_532_dr`, `nq_532_dr`: bare SYNs are active, too.
    #[test]
    fn the_orders_of_sed_and_nq_with_weights_are_those_recorded_from_the_kernel() {
        assert_eq!(Bench::with(Sed, &[5, 3, 2]).picks(24), "ABACABACBAABACABACBAABAC");
        assert_eq!(Bench::with(Nq, &[5, 3, 2]).picks(24), "CBAAABACBAABACABACBAABAC");
    }

    #[test]
    fn sed_and_nq_ignore_inactive_connections() {
        for kind in [Sed, Nq] {
            let mut bench = Bench::with(kind, &[1, 1]);
            bench.at('B').inactive = 1_000_000;
            assert_eq!(bench.picks(4), "BABA");
        }
    }

    #[test]
    fn fo_takes_the_heaviest_as_recorded_from_the_kernel() {
        let mut bench = Bench::with(Fo, &[5, 9, 7]);
        assert_eq!(bench.picks(3), "BBB");
        bench.edit('B', 0);
        assert_eq!(bench.picks(3), "CCC");
        bench.edit('A', 7);
        assert_eq!(bench.picks(3), "CCC");
        bench.at('C').overloaded = true;
        assert_eq!(bench.picks(1), "A");
        bench.edit('A', 0);
        assert_eq!(bench.picks(2), "--");
    }

    #[test]
    fn twos_draws_by_weight_and_prefers_the_less_loaded() {
        let mut bench = Bench::with(Twos, &[1, 3]);
        let picks = bench.picks(4000);
        let of_a = picks.matches('A').count();
        assert!((900..1100).contains(&of_a), "{of_a} of 4000 went to a quarter of the weight");
        bench.at('B').overloaded = true;
        assert_eq!(bench.picks(3), "AAA");
        bench.edit('A', 0);
        assert_eq!(bench.picks(1), "-");
        assert_eq!(Bench::with(Twos, &[]).picks(1), "-");
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
        for kind in [Wlc, Sed, Nq] {
            let mut bench = Bench::with(kind, &[2_147_483_647, 2_147_483_646]);
            bench.at('A').active = u32::MAX - 9;
            bench.at('B').active = u32::MAX - 9;
            assert_eq!(bench.picks(1), "A");
        }
        let mut bench = Bench::with(Twos, &[2_147_483_647; 3]);
        bench.at('A').active = u32::MAX - 9;
        bench.at('A').inactive = u32::MAX;
        assert_eq!(bench.picks(5).len(), 5);
    }
}
