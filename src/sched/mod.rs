//! Which destination? The schedulers, by their kernel names.
//!
//! A scheduler sees its service's destinations as a [`Pool`]: a list in the kernel's order, newest
//! first. It keeps a [`State`] of its own, which is told of every change to the list. Destinations of
//! weight 0 and overloaded ones get nothing new.

mod load;
mod turn;

/// A scheduler's kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub enum Scheduler {
    /// `rr`: round robin.
    Rr,
    /// `wrr`: weighted round robin.
    Wrr,
    /// `lc`: least connection.
    Lc,
    /// `wlc`: weighted least connection, the default.
    #[default]
    Wlc,
}

impl Scheduler {
    /// Every scheduler.
    pub const ALL: &'static [Self] = &[Self::Rr, Self::Wrr, Self::Lc, Self::Wlc];

    /// The name that `-s` takes.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Rr => "rr",
            Self::Wrr => "wrr",
            Self::Lc => "lc",
            Self::Wlc => "wlc",
        }
    }

    /// The scheduler of that name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|s| s.name() == name)
    }
}

/// What a scheduler may know of a destination.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Candidate {
    /// 0 quiesces.
    pub weight: u32,
    /// Active connections.
    pub active: u32,
    /// Inactive connections.
    pub inactive: u32,
    /// Its upper threshold has been reached.
    pub overloaded: bool,
}

impl Candidate {
    /// Whether it may get anything new.
    pub const fn is_usable(self) -> bool {
        self.weight > 0 && !self.overloaded
    }
}

/// The destinations of one service in the kernel's order, newest first.
pub trait Pool {
    /// How many there are.
    fn len(&self) -> usize;

    /// The destination at `index`, which is below [`len`](Self::len).
    fn candidate(&self, index: usize) -> Candidate;

    /// Whether there is none.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// How the list of destinations changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// A new destination stands at the head of the list.
    Added,
    /// The destination that stood at this index is gone.
    Removed(usize),
    /// A destination was edited.
    Edited,
}

/// What a service's scheduler remembers between two picks.
#[derive(Debug, Clone)]
pub enum State {
    /// `rr`.
    Rr(turn::RoundRobin),
    /// `wrr`.
    Wrr(turn::Weighted),
    /// `lc`.
    Lc,
    /// `wlc`.
    Wlc,
}

impl State {
    /// The memory of a scheduler that has just been attached to a service.
    pub fn attach(kind: Scheduler, pool: &impl Pool) -> Self {
        match kind {
            Scheduler::Rr => Self::Rr(turn::RoundRobin::default()),
            Scheduler::Wrr => Self::Wrr(turn::Weighted::attach(pool)),
            Scheduler::Lc => Self::Lc,
            Scheduler::Wlc => Self::Wlc,
        }
    }

    /// Takes in a change of the list; `pool` is the list as it is now.
    pub fn changed(&mut self, change: Change, pool: &impl Pool) {
        match self {
            Self::Rr(state) => state.changed(change),
            Self::Wrr(state) => state.changed(pool),
            Self::Lc | Self::Wlc => {}
        }
    }

    /// The index of the destination for a new connection, or `None` if there is none to offer.
    pub fn pick(&mut self, pool: &impl Pool) -> Option<usize> {
        match self {
            Self::Rr(state) => state.pick(pool),
            Self::Wrr(state) => state.pick(pool),
            Self::Lc => load::least(pool),
            Self::Wlc => load::weighted_least(pool),
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    impl Pool for Vec<Candidate> {
        fn len(&self) -> usize {
            Self::len(self)
        }

        fn candidate(&self, index: usize) -> Candidate {
            self[index]
        }
    }

    /// A service whose servers A, B, C … were added in that order, as the kernel keeps it.
    pub(crate) struct Bench {
        pub(crate) list: Vec<Candidate>,
        names: Vec<char>,
        state: State,
    }

    impl Bench {
        pub(crate) fn new(kind: Scheduler) -> Self {
            let list = Vec::new();
            let state = State::attach(kind, &list);
            Self { list, names: Vec::new(), state }
        }

        pub(crate) fn with(kind: Scheduler, weights: &[u32]) -> Self {
            let mut bench = Self::new(kind);
            weights.iter().for_each(|&w| bench.add(w));
            bench
        }

        pub(crate) fn add(&mut self, weight: u32) {
            let name = char::from(b'A' + u8::try_from(self.names.len()).expect("few"));
            self.list.insert(0, Candidate { weight, active: 0, inactive: 0, overloaded: false });
            self.names.insert(0, name);
            self.state.changed(Change::Added, &self.list);
        }

        pub(crate) fn at(&mut self, name: char) -> &mut Candidate {
            let index = self.names.iter().position(|&n| n == name).expect("named");
            &mut self.list[index]
        }

        pub(crate) fn edit(&mut self, name: char, weight: u32) {
            self.at(name).weight = weight;
            self.state.changed(Change::Edited, &self.list);
        }

        pub(crate) fn remove(&mut self, name: char) {
            let index = self.names.iter().position(|&n| n == name).expect("named");
            self.list.remove(index);
            self.names.remove(index);
            self.state.changed(Change::Removed(index), &self.list);
        }

        pub(crate) fn attach(&mut self, kind: Scheduler) {
            self.state = State::attach(kind, &self.list);
        }

        /// Picks `count` times; every connection stays active.
        pub(crate) fn picks(&mut self, count: usize) -> String {
            let mut out = String::new();
            for _ in 0..count {
                match self.state.pick(&self.list) {
                    Some(index) => {
                        self.list[index].active += 1;
                        out.push(self.names[index]);
                    }
                    None => out.push('-'),
                }
            }
            out
        }
    }

    #[test]
    fn names_lead_back_to_their_scheduler() {
        for &kind in Scheduler::ALL {
            assert_eq!(Scheduler::named(kind.name()), Some(kind));
        }
        assert_eq!(Scheduler::named("wlcc"), None);
    }
}
