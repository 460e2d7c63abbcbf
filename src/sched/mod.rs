//! Which destination? The schedulers, by their kernel names.
//!
//! A scheduler sees its service's destinations as a [`Pool`]: a list in the kernel's order, newest
//! first. It keeps a [`State`] of its own, which is told of every change to the list. Destinations of
//! weight 0 and overloaded ones get nothing new.

mod hash;
mod load;
mod locality;
mod maglev;
mod turn;

use std::net::IpAddr;

pub use locality::Expiration;
pub use maglev::SLOTS as MH_SERVERS_MAX;

use crate::packet::Endpoint;
use crate::world::{Instant, Rng};

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
    /// `lblc`: locality-based least connection.
    Lblc,
    /// `lblcr`: the same with several servers for one destination address.
    Lblcr,
    /// `dh`: destination hashing.
    Dh,
    /// `sh`: source hashing.
    Sh,
    /// `sed`: shortest expected delay.
    Sed,
    /// `nq`: never queue.
    Nq,
    /// `fo`: weighted failover.
    Fo,
    /// `ovf`: weighted overflow.
    Ovf,
    /// `mh`: Maglev hashing.
    Mh,
    /// `twos`: the better of two drawn by weight.
    Twos,
}

impl Scheduler {
    /// Every scheduler, in the order of ipvsadm's manual.
    pub const ALL: &'static [Self] = &[
        Self::Rr,
        Self::Wrr,
        Self::Lc,
        Self::Wlc,
        Self::Lblc,
        Self::Lblcr,
        Self::Dh,
        Self::Sh,
        Self::Sed,
        Self::Nq,
        Self::Fo,
        Self::Ovf,
        Self::Mh,
        Self::Twos,
    ];

    /// The name that `-s` takes.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Rr => "rr",
            Self::Wrr => "wrr",
            Self::Lc => "lc",
            Self::Wlc => "wlc",
            Self::Lblc => "lblc",
            Self::Lblcr => "lblcr",
            Self::Dh => "dh",
            Self::Sh => "sh",
            Self::Sed => "sed",
            Self::Nq => "nq",
            Self::Fo => "fo",
            Self::Ovf => "ovf",
            Self::Mh => "mh",
            Self::Twos => "twos",
        }
    }

    /// What it does, as half a sentence for people.
    pub const fn sentence(self) -> &'static str {
        match self {
            Self::Rr => "each server in turn",
            Self::Wrr => "each server in turn, as often as its weight says",
            Self::Lc => "the server with the fewest connections",
            Self::Wlc => "the fewest connections for its weight; the default",
            Self::Lblc => "a destination address keeps its server, until that is overloaded",
            Self::Lblcr => "a destination address keeps a set of servers, which grows under load",
            Self::Dh => "by a hash of the destination address",
            Self::Sh => "by a hash of the client's address",
            Self::Sed => "the shortest expected delay: connections plus one, for its weight",
            Self::Nq => "an idle server if there is one, else as sed",
            Self::Fo => "the server of the highest weight that can be used",
            Self::Ovf => "the highest weight that has fewer connections than its weight",
            Self::Mh => "by Maglev's consistent hash of the client's address",
            Self::Twos => "the less loaded of two that are drawn by weight",
        }
    }

    /// The scheduler of that name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|s| s.name() == name)
    }

    /// The names that `-b` shows for bits 0, 1 and 2 of a service with this scheduler.
    pub const fn flag_names(self) -> [&'static str; 3] {
        match self {
            Self::Sh => ["sh-fallback", "sh-port", "flag-3"],
            Self::Mh => ["mh-fallback", "mh-port", "flag-3"],
            Self::Rr
            | Self::Wrr
            | Self::Lc
            | Self::Wlc
            | Self::Lblc
            | Self::Lblcr
            | Self::Dh
            | Self::Sed
            | Self::Nq
            | Self::Fo
            | Self::Ovf
            | Self::Twos => Flags::NAMES,
        }
    }
}

/// What `-b` says to a scheduler.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Flags(pub u8);

impl Flags {
    /// `sh-fallback`, `mh-fallback`: an unusable server's clients go to others.
    pub const FALLBACK: u8 = 1;
    /// `sh-port`, `mh-port`: a client's port counts.
    pub const PORT: u8 = 2;
    /// The names of the three bits for schedulers that have none of their own.
    pub const NAMES: [&'static str; 3] = ["flag-1", "flag-2", "flag-3"];

    const fn has(self, flag: u8) -> bool {
        self.0 & flag != 0
    }
}

/// What a scheduler may know of a destination.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Candidate {
    /// Where it is; nobody else in the pool is there.
    pub at: Endpoint,
    /// 0 quiesces.
    pub weight: u32,
    /// The latest weight that was not 0; 0 if there was none.
    pub last_weight: u32,
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

/// The packet that asks for a destination.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Request {
    /// Who sent it.
    pub client: Endpoint,
    /// The address that it was sent to.
    pub virt: IpAddr,
    /// The service's flags, which may be edited under a scheduler.
    pub flags: Flags,
    /// When.
    pub now: Instant,
    /// How long destination addresses are remembered.
    pub expiration: Expiration,
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
    /// `lblc`.
    Lblc(locality::Locality),
    /// `lblcr`.
    Lblcr(locality::Replicated),
    /// `dh`.
    Dh(hash::Buckets),
    /// `sh`.
    Sh(hash::Buckets),
    /// `sed`.
    Sed,
    /// `nq`.
    Nq,
    /// `fo`.
    Fo,
    /// `ovf`.
    Ovf,
    /// `mh`.
    Mh(maglev::Maglev),
    /// `twos`.
    Twos(Rng),
}

impl State {
    /// The memory of a scheduler that has just been attached to a service.
    pub fn attach(kind: Scheduler, pool: &impl Pool, rng: &mut Rng) -> Self {
        let mut state = match kind {
            Scheduler::Rr => Self::Rr(turn::RoundRobin::default()),
            Scheduler::Wrr => return Self::Wrr(turn::Weighted::attach(pool)),
            Scheduler::Lc => Self::Lc,
            Scheduler::Wlc => Self::Wlc,
            Scheduler::Lblc => Self::Lblc(locality::Locality::new(rng)),
            Scheduler::Lblcr => Self::Lblcr(locality::Replicated::new(rng)),
            Scheduler::Dh => Self::Dh(hash::Buckets::default()),
            Scheduler::Sh => Self::Sh(hash::Buckets::default()),
            Scheduler::Sed => Self::Sed,
            Scheduler::Nq => Self::Nq,
            Scheduler::Fo => Self::Fo,
            Scheduler::Ovf => Self::Ovf,
            Scheduler::Mh => Self::Mh(maglev::Maglev::default()),
            Scheduler::Twos => Self::Twos(Rng::new(rng.next_u64())),
        };
        state.retable(pool);
        state
    }

    /// Takes in a change of the list; `pool` is the list as it is now.
    pub fn changed(&mut self, change: Change, pool: &impl Pool) {
        match self {
            Self::Rr(state) => state.changed(change),
            Self::Wrr(state) => state.changed(change, pool),
            Self::Dh(_) if change == Change::Edited => {}
            Self::Dh(_) | Self::Sh(_) | Self::Mh(_) => self.retable(pool),
            Self::Lc | Self::Wlc | Self::Lblc(_) | Self::Lblcr(_) => {}
            Self::Sed | Self::Nq | Self::Fo | Self::Ovf | Self::Twos(_) => {}
        }
    }

    /// Makes the tables of those that have one.
    fn retable(&mut self, pool: &impl Pool) {
        match self {
            Self::Dh(buckets) => buckets.evenly(pool),
            Self::Sh(buckets) => buckets.by_weight(pool),
            Self::Mh(state) => state.changed(pool),
            Self::Rr(_) | Self::Wrr(_) | Self::Lc | Self::Wlc | Self::Lblc(_) | Self::Lblcr(_) => {}
            Self::Sed | Self::Nq | Self::Fo | Self::Ovf | Self::Twos(_) => {}
        }
    }

    /// The index of the destination for a new connection, or `None` if there is none to offer.
    pub fn pick(&mut self, pool: &impl Pool, request: &Request) -> Option<usize> {
        match self {
            Self::Rr(state) => state.pick(pool),
            Self::Wrr(state) => state.pick(pool),
            Self::Lc => load::least(pool),
            Self::Wlc => load::weighted_least(pool),
            Self::Lblc(state) => state.pick(pool, request),
            Self::Lblcr(state) => state.pick(pool, request),
            Self::Dh(buckets) => buckets.by_destination(pool, request),
            Self::Sh(buckets) => buckets.by_source(pool, request),
            Self::Sed => load::shortest_delay(pool),
            Self::Nq => load::never_queue(pool),
            Self::Fo => load::heaviest(pool),
            Self::Ovf => load::not_overflowing(pool),
            Self::Mh(state) => state.pick(pool, request),
            Self::Twos(die) => load::two_choices(die, pool),
        }
    }

    /// Whether [`collect`](Self::collect) ever has anything to do.
    pub const fn collects(&self) -> bool {
        matches!(self, Self::Lblc(_) | Self::Lblcr(_))
    }

    /// Forgets addresses that nobody has asked for; to be called once a minute.
    pub fn collect(&mut self, now: Instant, expiration: Expiration) {
        match self {
            Self::Lblc(state) => state.collect(now, expiration.lblc),
            Self::Lblcr(state) => state.collect(now, expiration.lblcr),
            Self::Rr(_) | Self::Wrr(_) | Self::Lc | Self::Wlc | Self::Dh(_) | Self::Sh(_) => {}
            Self::Sed | Self::Nq | Self::Fo | Self::Ovf | Self::Mh(_) | Self::Twos(_) => {}
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

    /// A service whose servers A, B, C … were added in that order, as the kernel keeps it. Their
    /// addresses follow each other.
    pub(crate) struct Bench {
        pub(crate) list: Vec<Candidate>,
        pub(crate) flags: Flags,
        pub(crate) now: Instant,
        names: Vec<char>,
        first_server: IpAddr,
        rng: Rng,
        state: State,
    }

    fn step(addr: IpAddr, by: usize) -> IpAddr {
        let by = u32::try_from(by).expect("few");
        match addr {
            IpAddr::V4(addr) => IpAddr::V4((u32::from(addr) + by).into()),
            IpAddr::V6(addr) => IpAddr::V6((u128::from(addr) + u128::from(by)).into()),
        }
    }

    fn addr(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    impl Bench {
        pub(crate) fn new(kind: Scheduler) -> Self {
            let (list, mut rng) = (Vec::new(), Rng::new(1));
            let state = State::attach(kind, &list, &mut rng);
            Self {
                list,
                flags: Flags::default(),
                now: Instant::ZERO,
                names: Vec::new(),
                first_server: addr("172.16.0.2"),
                rng,
                state,
            }
        }

        pub(crate) fn with(kind: Scheduler, weights: &[u32]) -> Self {
            Self::from(kind, "172.16.0.2", weights)
        }

        /// The first server's address is `first`; all listen on port 80.
        pub(crate) fn from(kind: Scheduler, first: &str, weights: &[u32]) -> Self {
            let mut bench = Self::new(kind);
            bench.first_server = addr(first);
            weights.iter().for_each(|&w| bench.add(w));
            bench
        }

        pub(crate) fn add(&mut self, weight: u32) {
            let name = b'A' + u8::try_from(self.names.len() % 26).expect("a letter");
            let at = step(self.first_server, self.names.len());
            self.put(char::from(name), at, weight);
        }

        /// Adds a server of the first 26 that was removed.
        pub(crate) fn add_again(&mut self, name: char, weight: u32) {
            let number = usize::try_from(u32::from(name) - u32::from('A')).expect("a letter");
            self.put(name, step(self.first_server, number), weight);
        }

        fn put(&mut self, name: char, at: IpAddr, weight: u32) {
            self.list.insert(
                0,
                Candidate {
                    at: Endpoint::new(at, 80),
                    weight,
                    last_weight: weight,
                    active: 0,
                    inactive: 0,
                    overloaded: false,
                },
            );
            self.names.insert(0, name);
            self.state.changed(Change::Added, &self.list);
        }

        pub(crate) fn at(&mut self, name: char) -> &mut Candidate {
            let index = self.names.iter().position(|&n| n == name).expect("named");
            &mut self.list[index]
        }

        pub(crate) fn edit(&mut self, name: char, weight: u32) {
            let server = self.at(name);
            server.weight = weight;
            if weight > 0 {
                server.last_weight = weight;
            }
            self.state.changed(Change::Edited, &self.list);
        }

        pub(crate) fn remove(&mut self, name: char) {
            let index = self.names.iter().position(|&n| n == name).expect("named");
            self.list.remove(index);
            self.names.remove(index);
            self.state.changed(Change::Removed(index), &self.list);
        }

        pub(crate) fn attach(&mut self, kind: Scheduler) {
            self.state = State::attach(kind, &self.list, &mut self.rng);
        }

        pub(crate) const fn state(&self) -> &State {
            &self.state
        }

        pub(crate) fn collect(&mut self) {
            self.state.collect(self.now, Expiration::default());
        }

        /// Picks once; the connection stays active.
        pub(crate) fn pick(&mut self, client: Endpoint, virt: IpAddr) -> Option<usize> {
            let (flags, now) = (self.flags, self.now);
            let request = Request { client, virt, flags, now, expiration: Expiration::default() };
            let index = self.state.pick(&self.list, &request)?;
            self.list[index].active += 1;
            Some(index)
        }

        fn named(&self, picked: Option<usize>) -> char {
            picked.map_or('-', |index| self.names[index])
        }

        /// Picks `count` times for the same client.
        pub(crate) fn picks(&mut self, count: usize) -> String {
            let client = Endpoint::new(addr("10.0.0.2"), 1000);
            (0..count)
                .map(|_| {
                    let picked = self.pick(client, addr("10.1.1.1"));
                    self.named(picked)
                })
                .collect()
        }

        /// Picks once for each of `count` clients whose addresses follow each other.
        pub(crate) fn clients(&mut self, first: &str, count: usize) -> String {
            let picked = self.client_indices(first, count);
            picked.into_iter().map(|picked| self.named(picked)).collect()
        }

        pub(crate) fn client_indices(&mut self, first: &str, count: usize) -> Vec<Option<usize>> {
            let client = |i| Endpoint::new(step(addr(first), i), 1000);
            (0..count).map(|i| self.pick(client(i), addr("10.1.1.1"))).collect()
        }

        /// Picks once for each of `count` destination addresses that follow each other.
        pub(crate) fn destinations(&mut self, first: &str, count: usize) -> String {
            let client = Endpoint::new(addr("10.0.0.2"), 1000);
            (0..count)
                .map(|i| {
                    let picked = self.pick(client, step(addr(first), i));
                    self.named(picked)
                })
                .collect()
        }

        /// The story of the kernel's `sh` and `mh` recordings: 32 clients of equal servers, the
        /// same from other ports, B drained, B at weight 3, A removed.
        pub(crate) fn hashed(kind: Scheduler, flags: u8) -> [String; 5] {
            let mut bench = Self::from(kind, "10.81.0.11", &[1, 1, 1]);
            bench.flags = Flags(flags);
            let round = |bench: &mut Self, port: u16, step: u16| -> String {
                (0..32_u16)
                    .map(|i| {
                        let (n, port) = (i * 7, port + i * step);
                        let client = addr(&format!("10.90.{}.{}", n / 200, n % 200 + 1));
                        let picked = bench.pick(Endpoint::new(client, port), addr("10.80.0.10"));
                        bench.named(picked)
                    })
                    .collect()
            };
            let equal = round(&mut bench, 4000, 1);
            let other_ports = round(&mut bench, 9000, 3);
            bench.edit('B', 0);
            let drained = round(&mut bench, 14_000, 1);
            bench.edit('B', 3);
            let heavier = round(&mut bench, 18_000, 1);
            bench.remove('A');
            [equal, other_ports, drained, heavier, round(&mut bench, 22_000, 1)]
        }
    }

    #[test]
    fn names_lead_back_to_their_scheduler() {
        for &kind in Scheduler::ALL {
            assert_eq!(Scheduler::named(kind.name()), Some(kind));
        }
        assert_eq!(Scheduler::named("wlcc"), None);
    }

    #[test]
    fn every_scheduler_serves_nobody_without_servers_and_the_only_one_with_one() {
        for &kind in Scheduler::ALL {
            let mut bench = Bench::new(kind);
            assert_eq!(bench.picks(2), "--", "{kind:?}");
            bench.add(3);
            assert_eq!(bench.picks(3), "AAA", "{kind:?}");
            bench.at('A').overloaded = true;
            let kept = matches!(kind, Scheduler::Lblc);
            assert_eq!(bench.picks(1), if kept { "A" } else { "-" }, "{kind:?}");
            bench.edit('A', 0);
            assert_eq!(bench.picks(1), "-", "{kind:?}");
            bench.remove('A');
            assert_eq!(bench.picks(1), "-", "{kind:?}");
        }
    }
}
