//! By locality: `lblc` and `lblcr`, which remember the server of each destination address, so that
//! one cache gets all that is asked of one origin.
//!
//! Kept from the kernel: when a remembered server is left for another (more active connections than
//! its weight while another server is under half of its own), how many addresses are remembered, and
//! what is forgotten when. Left out: the order in which its 1024 buckets are walked; addresses are
//! kept in a keyed map, since clients choose them.

use std::net::IpAddr;
use std::time::Duration;

use super::load::{self, overhead};
use super::{Candidate, Pool, Request};
use crate::packet::Endpoint;
use crate::world::{Instant, Keyed, Map, Rng};

/// Addresses beyond which those out of use are forgotten early.
const CROWD: usize = 16_384;
/// Addresses beyond which no new one is remembered.
const ADDRESSES_MAX: usize = 24_576;
/// Members of a set that need not be servers of the service any more.
const REMOVED_MAX: usize = 16;
/// Out of use, when there is a crowd.
const IDLE: Duration = Duration::from_secs(360);
/// One collection in so many looks for what has expired.
const EXPIRY_EVERY: u32 = 30;

/// How long `lblc` and `lblcr` remember what nobody asks for (`net.ipv4.vs.lblc_expiration`,
/// `net.ipv4.vs.lblcr_expiration`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Expiration {
    /// Of `lblc`.
    pub lblc: Duration,
    /// Of `lblcr`; also how long a set of servers must be left alone to lose one of them.
    pub lblcr: Duration,
}

impl Default for Expiration {
    fn default() -> Self {
        let day = Duration::from_secs(86_400);
        Self { lblc: day, lblcr: day }
    }
}

/// What is remembered of destination addresses.
#[derive(Debug, Clone)]
struct Cache<T> {
    entries: Map<IpAddr, Entry<T>>,
    /// Collections since the last that looked for what has expired.
    collections: u32,
}

#[derive(Debug, Clone)]
struct Entry<T> {
    what: T,
    last_use: Instant,
}

impl<T> Cache<T> {
    fn new(rng: &mut Rng) -> Self {
        Self { entries: Map::with_hasher(Keyed::new(rng)), collections: 1 }
    }

    /// What is remembered of an address that is asked for now.
    fn touch(&mut self, request: &Request) -> Option<&mut T> {
        let entry = self.entries.get_mut(&request.virt)?;
        entry.last_use = request.now;
        Some(&mut entry.what)
    }

    /// Remembers, unless too much is remembered already.
    fn put(&mut self, request: &Request, what: T) {
        if self.entries.len() < ADDRESSES_MAX || self.entries.contains_key(&request.virt) {
            self.entries.insert(request.virt, Entry { what, last_use: request.now });
        }
    }

    fn collect(&mut self, now: Instant, expiration: Duration) {
        if self.collections % EXPIRY_EVERY == 0 {
            self.entries.retain(|_, entry| now.since(entry.last_use) < expiration);
            self.collections = 1;
            return;
        }
        let Some(excess) = self.entries.len().checked_sub(CROWD + 1) else {
            self.collections += 1;
            return;
        };
        let mut goal = ((excess + 1) * 4 / 3).min(CROWD / 2);
        self.entries.retain(|_, entry| {
            let goes = goal > 0 && now.since(entry.last_use) >= IDLE;
            goal -= usize::from(goes);
            !goes
        });
    }
}

/// A server that is remembered: by its endpoint, which outlives its removal from the list, and by
/// the place where it was last seen.
#[derive(Debug, Clone, Copy)]
struct Known {
    server: Endpoint,
    place: usize,
}

impl Known {
    fn at(pool: &impl Pool, place: usize) -> Self {
        Self { server: pool.candidate(place).at, place }
    }

    /// Its place in the list, if it stands there.
    fn find(&mut self, pool: &impl Pool) -> Option<usize> {
        let is_at = |&i: &usize| i < pool.len() && pool.candidate(i).at == self.server;
        let place = Some(self.place).filter(is_at).or_else(|| (0..pool.len()).find(is_at))?;
        self.place = place;
        Some(place)
    }
}

/// The memory of `lblc`: a server for each address.
#[derive(Debug, Clone)]
pub struct Locality(Cache<Known>);

impl Locality {
    pub(super) fn new(rng: &mut Rng) -> Self {
        Self(Cache::new(rng))
    }

    pub(super) fn pick(&mut self, pool: &impl Pool, request: &Request) -> Option<usize> {
        // That the remembered server has reached its upper threshold does not count.
        let known = self.0.touch(request).and_then(|known| known.find(pool));
        let good = |&i: &usize| pool.candidate(i).weight > 0 && !is_overrun(pool, i);
        if let Some(place) = known.filter(good) {
            return Some(place);
        }
        let place = load::weighted_least(pool)?;
        self.0.put(request, Known::at(pool, place));
        Some(place)
    }

    pub(super) fn collect(&mut self, now: Instant, expiration: Duration) {
        self.0.collect(now, expiration);
    }
}

/// The memory of `lblcr`: a set of servers for each address.
#[derive(Debug, Clone)]
pub struct Replicated(Cache<Set>);

/// The servers of an address, newest first.
#[derive(Debug, Clone)]
struct Set {
    members: Vec<Known>,
    modified: Instant,
}

impl Replicated {
    pub(super) fn new(rng: &mut Rng) -> Self {
        Self(Cache::new(rng))
    }

    pub(super) fn pick(&mut self, pool: &impl Pool, request: &Request) -> Option<usize> {
        let Some(set) = self.0.touch(request) else {
            let place = load::weighted_least(pool)?;
            let members = vec![Known::at(pool, place)];
            self.0.put(request, Set { members, modified: request.now });
            return Some(place);
        };
        let least = set.least_loaded(pool);
        if set.members.len() > 1 && request.now.since(set.modified) > request.expiration.lblcr {
            set.shrink(pool, request.now);
        }
        if let Some(place) = least.filter(|&i| !is_overrun(pool, i)) {
            return Some(place);
        }
        let place = load::weighted_least(pool)?;
        set.insert(pool, place, request.now);
        Some(place)
    }

    pub(super) fn collect(&mut self, now: Instant, expiration: Duration) {
        self.0.collect(now, expiration);
    }
}

impl Set {
    fn least_loaded(&mut self, pool: &impl Pool) -> Option<usize> {
        let places = self.members.iter_mut().filter_map(|known| known.find(pool));
        load::weighted_least_of(places.map(|i| (i, pool.candidate(i))))
    }

    /// Takes out the member that carries most for its weight. One that was removed from the service
    /// carries nothing any more, but is one of them.
    fn shrink(&mut self, pool: &impl Pool, now: Instant) {
        let load = |known: &mut Known| match known.find(pool).map(|i| pool.candidate(i)) {
            Some(candidate) => (overhead(candidate), candidate.weight),
            None => (0, 1),
        };
        let loads = self.members.iter_mut().map(load).enumerate().filter(|(_, (_, w))| *w > 0);
        let heavier = |a: (u64, u32), b: (u64, u32)| {
            u128::from(a.0) * u128::from(b.1) > u128::from(b.0) * u128::from(a.1)
        };
        let most = loads.reduce(|most, next| if heavier(next.1, most.1) { next } else { most });
        if let Some((member, _)) = most {
            self.members.remove(member);
            self.modified = now;
        }
    }

    /// Adds a server. What was removed from the service stays a member, for it may come back, but
    /// makes room when there are many such.
    fn insert(&mut self, pool: &impl Pool, place: usize, now: Instant) {
        let new = Known::at(pool, place);
        if self.members.iter().any(|known| known.server == new.server) {
            return;
        }
        if self.members.len() >= pool.len() + REMOVED_MAX {
            self.members.retain_mut(|known| known.find(pool).is_some());
        }
        self.members.insert(0, new);
        self.modified = now;
    }
}

/// Whether a server has more active connections than its weight while another is under half of its
/// own.
fn is_overrun(pool: &impl Pool, place: usize) -> bool {
    let has_room = |c: Candidate| u64::from(c.active) * 2 < u64::from(c.weight);
    let server = pool.candidate(place);
    server.active > server.weight && (0..pool.len()).any(|i| has_room(pool.candidate(i)))
}

#[cfg(test)]
mod tests {
    use super::super::tests::Bench;
    use super::super::Scheduler::{Lblc, Lblcr};
    use super::super::State;
    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    fn remembered(bench: &Bench) -> usize {
        match bench.state() {
            State::Lblc(state) => state.0.entries.len(),
            State::Lblcr(state) => state.0.entries.len(),
            other => panic!("{other:?}"),
        }
    }

    /// The `lblc` and `lblcr` recordings of the kernel: weights 2, six bare SYNs, the same again,
    /// eight established flows to the first address, a new address, a server drained, one removed.
    #[test]
    fn the_picks_are_those_of_the_kernel() {
        for kind in [Lblc, Lblcr] {
            let mut bench = Bench::with(kind, &[2, 2, 2]);
            assert_eq!(bench.destinations("10.91.0.1", 6), "CBACBA");
            assert_eq!(bench.destinations("10.91.0.1", 6), "CBACBA");
            for _ in 0..8 {
                assert_eq!(bench.destinations("10.91.0.1", 1), "C");
            }
            for _ in 0..3 {
                assert_eq!(bench.destinations("10.91.0.50", 1), "B");
            }
            bench.edit('A', 0);
            assert_eq!(bench.destinations("10.91.0.1", 6), "CBBCBB");
            bench.remove('B');
            assert_eq!(bench.destinations("10.91.0.1", 6), "CCCCCC");
        }
    }

    /// Weights 10, one address loaded until it moves, then another (`lblc_overload`,
    /// `lblcr_overload`).
    #[test]
    fn an_overrun_server_is_left_as_the_kernel_leaves_it() {
        for (kind, second, again) in
            [(Lblc, "BBBBAAAAAAAAAAAA", "BBBBBB"), (Lblcr, "BBBBAAAAAAAAAAAB", "CBCBCB")]
        {
            let mut bench = Bench::with(kind, &[10, 10, 10]);
            assert_eq!(bench.destinations("10.91.0.1", 3), "CBA");
            let mut times = |addr, count| -> String {
                (0..count).map(|_| bench.destinations(addr, 1)).collect()
            };
            assert_eq!(times("10.91.0.1", 16), "CCCCCCCCCCBBBBBB");
            assert_eq!(times("10.91.0.2", 16), second);
            assert_eq!(times("10.91.0.1", 6), again);
        }
    }

    #[test]
    fn a_server_removed_and_added_again_is_remembered() {
        for kind in [Lblc, Lblcr] {
            let mut bench = Bench::with(kind, &[1, 1]);
            assert_eq!(bench.destinations("10.91.0.1", 2), "BA");
            bench.remove('A');
            bench.add_again('A', 1);
            bench.at('A').active = 5;
            assert_eq!(bench.destinations("10.91.0.2", 1), "A");
        }
    }

    #[test]
    fn no_more_than_24576_addresses_are_remembered_and_all_are_served() {
        for kind in [Lblc, Lblcr] {
            let mut bench = Bench::with(kind, &[1, 1]);
            let picks = bench.destinations("10.0.0.0", 30_000);
            assert!(!picks.contains('-'));
            assert_eq!(remembered(&bench), ADDRESSES_MAX);
        }
    }

    #[test]
    fn a_crowd_loses_its_idle_ones_within_minutes_and_anybody_after_a_day() {
        for kind in [Lblc, Lblcr] {
            let mut bench = Bench::with(kind, &[1, 1]);
            bench.destinations("10.0.0.0", 19_384);
            let mut minutes = |count| {
                for _ in 0..count {
                    bench.now = bench.now.after(MINUTE);
                    bench.collect();
                }
                remembered(&bench)
            };
            assert_eq!(minutes(5), 19_384);
            assert_eq!(minutes(1), 19_384 - 4000);
            assert_eq!(minutes(23 * 60), 15_384);
            assert_eq!(minutes(90), 0);
        }
    }

    #[test]
    fn after_a_day_of_peace_a_set_loses_its_most_loaded_server() {
        let mut bench = Bench::with(Lblcr, &[1, 4]);
        assert_eq!(bench.destinations("10.91.0.1", 1), "B");
        bench.at('B').active = 5;
        bench.at('A').weight = 40;
        assert_eq!(bench.destinations("10.91.0.1", 1), "A");
        bench.at('A').active = 0;
        bench.now = bench.now.after(Duration::from_secs(86_401));
        assert_eq!(bench.destinations("10.91.0.1", 1), "A");
        match bench.state() {
            State::Lblcr(state) => {
                let mut sets = state.0.entries.values();
                assert_eq!(sets.next().map(|entry| entry.what.members.len()), Some(1));
            }
            other => panic!("{other:?}"),
        }
    }
}
