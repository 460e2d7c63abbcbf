//! By turn: `rr` and `wrr`.
//!
//! Both walk the list from where they stopped. A cursor of 0 stands before the first destination, a
//! cursor of k on the k-th. Kept from the kernel: what a change of the list does to the cursor, and
//! that `wrr` with servers added one at a time begins at the lowest weight.

use super::{Change, Pool};

/// The memory of `rr`.
#[derive(Debug, Clone, Default)]
pub struct RoundRobin {
    cursor: usize,
}

impl RoundRobin {
    pub(super) fn changed(&mut self, change: Change) {
        match change {
            Change::Added if self.cursor > 0 => self.cursor += 1,
            // The one under the cursor is gone: its predecessor takes its place.
            Change::Removed(index) if self.cursor > index => self.cursor -= 1,
            Change::Added | Change::Removed(_) | Change::Edited => {}
        }
    }

    pub(super) fn pick(&mut self, pool: &impl Pool) -> Option<usize> {
        let count = pool.len();
        let mut order = (0..count).map(|step| (self.cursor + step) % count);
        let next = order.find(|&i| pool.candidate(i).is_usable())?;
        self.cursor = next + 1;
        Some(next)
    }
}

/// The memory of `wrr`.
#[derive(Debug, Clone)]
pub struct Weighted {
    cursor: usize,
    /// Destinations of at least this weight are taken in the present pass.
    threshold: u32,
    /// The threshold of the first pass.
    highest: u32,
    /// Greatest common divisor of the weights, 1 if there is none.
    step: u32,
    /// The divisor and the highest weight, 0 if there is none.
    divisor: u32,
    heaviest: u32,
}

impl Weighted {
    pub(super) fn attach(pool: &impl Pool) -> Self {
        let mut state =
            Self { cursor: 0, threshold: 0, highest: 0, step: 1, divisor: 0, heaviest: 0 };
        state.measure(pool, Change::Edited);
        state.threshold = state.highest;
        state
    }

    /// One that was added need not have all the others looked at again.
    fn measure(&mut self, pool: &impl Pool, change: Change) {
        let news = match change {
            Change::Added => 0..1,
            Change::Removed(_) | Change::Edited => {
                (self.divisor, self.heaviest) = (0, 0);
                0..pool.len()
            }
        };
        for weight in news.map(|i| pool.candidate(i).weight) {
            self.divisor = gcd(self.divisor, weight);
            self.heaviest = self.heaviest.max(weight);
        }
        self.step = self.divisor.max(1);
        self.highest = self.heaviest.saturating_sub(self.step - 1);
    }

    pub(super) fn changed(&mut self, change: Change, pool: &impl Pool) {
        self.cursor = 0;
        self.measure(pool, change);
        if self.threshold > self.highest || self.threshold == 0 {
            self.threshold = self.highest;
        } else if self.step > 1 {
            self.threshold =
                (self.threshold / self.step).saturating_mul(self.step).saturating_add(1);
        }
    }

    /// The kernel walks pass after pass until one with the lowest threshold has covered everybody.
    /// A pass that nobody can pass is skipped here, so that weights of a thousand million and an
    /// overloaded server cost no more than others.
    pub(super) fn pick(&mut self, pool: &impl Pool) -> Option<usize> {
        let usable = |i: &usize| pool.candidate(*i).is_usable();
        let heaviest = (0..pool.len()).filter(usable).map(|i| pool.candidate(i).weight).max();
        let Some(heaviest) = heaviest else {
            self.cursor = 0;
            self.threshold = self.highest;
            return None;
        };
        // Two rounds suffice: the rest of the present pass, then a pass that `heaviest` can pass.
        for _ in 0..3 {
            let passes = |i: &usize| usable(i) && pool.candidate(*i).weight >= self.threshold;
            if let Some(next) = (self.cursor..pool.len()).find(passes) {
                self.cursor = next + 1;
                return Some(next);
            }
            self.cursor = 0;
            self.threshold = match self.threshold.saturating_sub(self.step) {
                0 => self.highest,
                lower => lower,
            };
            let above = self.threshold.saturating_sub(heaviest);
            self.threshold -=
                above.div_ceil(self.step).saturating_mul(self.step).min(self.threshold);
        }
        None
    }
}

/// The greatest common divisor; 0 has every divisor.
pub(super) const fn gcd(mut a: u32, mut b: u32) -> u32 {
    while b != 0 {
        (a, b) = (b, a % b);
    }
    a
}

#[cfg(test)]
mod tests {
    use super::super::tests::Bench;
    use super::super::Scheduler::{Rr, Wrr};

    #[test]
    fn rr_visits_the_newest_first() {
        assert_eq!(Bench::with(Rr, &[1, 5, 9]).picks(7), "CBACBAC");
    }

    #[test]
    fn rr_skips_drained_and_overloaded_servers_and_knows_when_none_is_left() {
        let mut bench = Bench::with(Rr, &[1, 0, 1]);
        assert_eq!(bench.picks(3), "CAC");
        bench.at('C').overloaded = true;
        assert_eq!(bench.picks(2), "AA");
        bench.edit('A', 0);
        assert_eq!(bench.picks(1), "-");
    }

    #[test]
    fn rr_keeps_its_place_when_servers_come_and_go() {
        let mut bench = Bench::with(Rr, &[1, 1, 1]);
        assert_eq!(bench.picks(2), "CB");
        bench.add(1);
        assert_eq!(bench.picks(2), "AD");
        bench.remove('D');
        assert_eq!(bench.picks(1), "C");
        bench.remove('A');
        assert_eq!(bench.picks(2), "BC");
    }

    #[test]
    fn wrr_gives_the_orders_that_the_kernel_gives() {
        assert_eq!(Bench::with(Wrr, &[3, 1]).picks(14), "BAAABAAABAAABA");
        let mut bench = Bench::with(Wrr, &[4, 2, 1]);
        assert_eq!(bench.picks(16), "CBAAABACBAAABACB");
        bench.edit('B', 3);
        assert_eq!(bench.picks(14), "CBAABABACBAABABA"[..14]);
        assert_eq!(Bench::with(Wrr, &[6, 4, 2]).picks(15), "CBAABACBAABACBA");
    }

    #[test]
    fn wrr_attached_to_a_full_list_begins_at_the_highest_weight() {
        let mut bench = Bench::with(Rr, &[4, 2, 1]);
        bench.attach(Wrr);
        assert_eq!(bench.picks(16), "AABACBAAABACBAAA");
    }

    #[test]
    fn wrr_with_a_huge_overloaded_server_answers_at_once() {
        let mut bench = Bench::with(Wrr, &[2_147_483_647, 1, 2]);
        bench.at('A').overloaded = true;
        assert_eq!(bench.picks(6), "CBCCBC");
        bench.edit('B', 0);
        bench.edit('C', 0);
        assert_eq!(bench.picks(1), "-");
    }
}
