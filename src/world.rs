//! All that the core may know of the outside: what time it is, a die, and the operator's knobs.
//!
//! Nothing here asks the system. `io` reads the clock and makes an [`Instant`]; the seed of the
//! [`Rng`] comes from the system once, or from the command line, so that a run can be repeated.

mod siphash;
pub use siphash::siphash13;

use std::cmp::Ordering;
use std::hash::{BuildHasher, Hasher};
use std::time::Duration;

/// A point in time: nanoseconds since an arbitrary start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Instant(u64);

impl Instant {
    /// The start of time.
    pub const ZERO: Self = Self(0);

    /// The instant `nanos` nanoseconds after the start.
    pub const fn from_nanos(nanos: u64) -> Self {
        Self(nanos)
    }

    /// The instant `millis` milliseconds after the start.
    pub const fn from_millis(millis: u64) -> Self {
        Self(millis.saturating_mul(1_000_000))
    }

    /// Nanoseconds since the start.
    pub const fn nanos(self) -> u64 {
        self.0
    }

    /// Whole milliseconds since the start.
    pub const fn millis(self) -> u64 {
        self.0 / 1_000_000
    }

    /// The time from `earlier` to this instant; zero if `earlier` is later.
    pub const fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }

    /// This instant plus `duration`; stays at the end of time rather than wrap.
    #[must_use]
    pub fn after(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)))
    }
}

/// A seeded die (splitmix64). Not for secrets; good enough to spread hashes and choices.
#[derive(Debug, Clone)]
pub struct Rng(u64);

impl Rng {
    /// A die that always falls the same way for the same `seed`.
    pub const fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next 64 bits.
    pub const fn next_u64(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// The next 32 bits.
    pub const fn next_u32(&mut self) -> u32 {
        (self.next_u64() >> 32) as u32
    }

    /// The next 16 bits.
    pub const fn next_u16(&mut self) -> u16 {
        (self.next_u64() >> 48) as u16
    }

    /// A die of its own for one user of chance, so that users do not disturb each other's sequence. What
    /// can be learnt about one, say from the identifications of packets, tells nothing of the others.
    #[must_use]
    pub fn fork(&self, user: u64) -> Self {
        Self(siphash13((self.0, !self.0), &user.to_le_bytes()))
    }
}

/// Builds keyed hashers: without the key nobody can choose entries that collide, and a given seed still
/// makes the same tables. Four or five of them are asked for each packet, so they fold products instead
/// of being proof against one who sees their output, which nobody does.
#[derive(Debug, Clone)]
pub struct Keyed(u64);

impl Keyed {
    /// A family of hashers keyed by the next draw of `rng`.
    pub const fn new(rng: &mut Rng) -> Self {
        Self(rng.next_u64())
    }
}

impl BuildHasher for Keyed {
    type Hasher = Folding;

    fn build_hasher(&self) -> Folding {
        Folding { state: self.0, key: self.0.rotate_left(29) | 1 }
    }
}

/// See [`Keyed`].
#[derive(Debug, Clone)]
pub struct Folding {
    state: u64,
    key: u64,
}

impl Hasher for Folding {
    fn write(&mut self, bytes: &[u8]) {
        let mut words = bytes.chunks_exact(8);
        for word in &mut words {
            let word = word.try_into().expect("eight bytes");
            self.write_u64(u64::from_le_bytes(word));
        }
        let rest = words.remainder();
        if !rest.is_empty() {
            let word = rest.iter().rev().fold(1, |word, &byte| word << 8 | u64::from(byte));
            self.write_u64(word);
        }
    }

    fn write_u8(&mut self, word: u8) {
        self.write_u64(word.into());
    }

    fn write_u16(&mut self, word: u16) {
        self.write_u64(word.into());
    }

    fn write_u32(&mut self, word: u32) {
        self.write_u64(word.into());
    }

    fn write_u64(&mut self, word: u64) {
        self.state = fold(self.state ^ word, self.key);
    }

    #[expect(clippy::cast_possible_truncation, reason = "both halves are used")]
    fn write_u128(&mut self, word: u128) {
        self.write_u64(word as u64);
        self.write_u64((word >> 64) as u64);
    }

    fn write_usize(&mut self, word: usize) {
        self.write_u64(word as u64);
    }

    fn finish(&self) -> u64 {
        fold(self.state, 0x9e37_79b9_7f4a_7c15)
    }
}

/// Both halves of the product of two words, folded into one.
#[expect(clippy::cast_possible_truncation, reason = "both halves are used")]
const fn fold(a: u64, b: u64) -> u64 {
    let product = (a as u128).wrapping_mul(b as u128);
    (product as u64) ^ ((product >> 64) as u64)
}

/// A map whose layout depends on the seed alone.
pub type Map<K, V> = std::collections::HashMap<K, V, Keyed>;

/// The knobs of an operator that the packet path looks at: `net.ipv4.ip_forward` and `net.ipv4.vs.*`
/// under the kernel's names and with its defaults. `config::knob` knows their ranges and sentences.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Knobs {
    /// Route what is neither for us nor a service's (IPv4).
    pub ip_forward: bool,
    /// Route what is neither for us nor a service's (IPv6).
    pub ip6_forward: bool,
    /// One first packet in so many is dropped when `drop_packet` is 3.
    pub am_droprate: u32,
    /// Milliseconds between two ICMP errors to an IPv4 target, after a burst; 0 is no limit.
    pub icmp_ratelimit_ms: u32,
    /// The same for IPv6.
    pub icmp6_ratelimit_ms: u32,
    /// Pages of available memory below which the automatic defences act.
    pub amemthresh: u32,
    /// No effect here.
    pub backup_only: bool,
    /// A service by mark without a server sends packets on to where they were sent, unless that is here.
    pub cache_bypass: bool,
    /// No effect here.
    pub conntrack: bool,
    /// 0 off, 1 and 2 when memory is short, 3 always: drop entries at random.
    pub drop_entry: u32,
    /// The same: drop first packets.
    pub drop_packet: u32,
    /// No effect here.
    pub ignore_tunneled: bool,
    /// Seconds that lblc remembers an address.
    pub lblc_expiration_s: u32,
    /// Seconds that lblcr remembers an address.
    pub lblcr_expiration_s: u32,
    /// An ICMP error that no connection knows makes one.
    pub schedule_icmp: bool,
    /// As `drop_entry`: the second set of TCP tables.
    pub secure_tcp: u32,
    /// Counters and rates are sampled; without, what is shown stands still.
    pub run_estimation: bool,
    /// No effect here.
    pub snat_reroute: bool,
    /// 0: a SYN on an old connection stays with it; 1: TIME_WAIT and CLOSE are scheduled anew;
    /// 2: FIN_WAIT of a one-sided connection too.
    pub conn_reuse_mode: u32,
    /// A packet whose server was removed ends the connection instead of being dropped.
    pub expire_nodest_conn: bool,
    /// A persistence template whose server has weight 0 is not used.
    pub expire_quiescent_template: bool,
    /// Answer "port unreachable" to a real server that speaks without a connection.
    pub nat_icmp_send: bool,
    /// Copy the inner "don't fragment" to the outer header and refuse what does not fit.
    pub pmtu_disc: bool,
    /// An SCTP association may begin with any chunk but ABORT.
    pub sloppy_sctp: bool,
    /// A TCP connection may begin with any packet but RST.
    pub sloppy_tcp: bool,
}

impl Default for Knobs {
    fn default() -> Self {
        Self {
            ip_forward: true,
            ip6_forward: true,
            am_droprate: 10,
            icmp_ratelimit_ms: 1000,
            icmp6_ratelimit_ms: 1000,
            amemthresh: 1024,
            backup_only: false,
            cache_bypass: false,
            conntrack: false,
            drop_entry: 0,
            drop_packet: 0,
            ignore_tunneled: false,
            lblc_expiration_s: 86400,
            lblcr_expiration_s: 86400,
            schedule_icmp: false,
            secure_tcp: 0,
            run_estimation: true,
            snat_reroute: true,
            conn_reuse_mode: 1,
            expire_nodest_conn: false,
            expire_quiescent_template: false,
            nat_icmp_send: false,
            pmtu_disc: true,
            sloppy_sctp: false,
            sloppy_tcp: false,
        }
    }
}

/// Sorts a list, equals in the order they had. For lists that no packet waits for: its code is there once, and
/// not once more, four kilobytes, for every type.
pub fn sort_by<T>(list: &mut Vec<T>, compare: impl Fn(&T, &T) -> Ordering) {
    let order = order_of(list.len(), &|a, b| compare(&list[a], &list[b]));
    let mut items: Vec<_> = list.drain(..).map(Some).collect();
    list.extend(order.into_iter().filter_map(|place| items[place].take()));
}

/// The places of a list as they follow one another when it is sorted.
fn order_of(len: usize, compare: &dyn Fn(usize, usize) -> Ordering) -> Vec<usize> {
    let mut order: Vec<_> = (0..len).collect();
    order.sort_by(|&a, &b| compare(a, b));
    order
}

/// A set or map of all that comes, by one entry after the other: `collect` would sort them first, which
/// is four kilobytes for every type.
pub fn gathered<T, C: Default + Extend<T>>(all: impl Iterator<Item = T>) -> C {
    let mut gathered = C::default();
    gathered.extend(all);
    gathered
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_gives_the_same_draws_and_forks_differ() {
        let (mut a, mut b) = (Rng::new(7), Rng::new(7));
        assert_eq!(a.next_u64(), b.next_u64());
        assert_ne!(a.fork(0).next_u64(), a.fork(1).next_u64());
    }

    #[test]
    fn hashes_depend_on_the_key_and_spread_neighbours() {
        let hashes = |seed: u64| -> Vec<u64> {
            let keyed = Keyed::new(&mut Rng::new(seed));
            (0..4096_u32).map(|n| keyed.hash_one(std::net::IpAddr::from(n.to_be_bytes()))).collect()
        };
        assert_eq!(hashes(1), hashes(1));
        assert_ne!(hashes(1), hashes(2));
        for seed in 0..8 {
            // Maps choose a place by the low bits and tell neighbours apart by the high ones.
            for shift in [0, 32, 57] {
                let mut load = [0_u32; 128];
                let bits = |hash: u64| usize::try_from(hash >> shift & 127).expect("seven bits");
                hashes(seed).into_iter().for_each(|hash| load[bits(hash)] += 1);
                assert!(load.iter().all(|&n| n < 80), "seed {seed}, shift {shift}: {load:?}");
            }
        }
    }

    #[test]
    fn bytes_of_every_length_hash_apart() {
        let keyed = Keyed::new(&mut Rng::new(5));
        let mut hashes: Vec<u64> = (0..40).map(|len| keyed.hash_one(vec![0_u8; len])).collect();
        hashes.sort_unstable();
        hashes.dedup();
        assert_eq!(hashes.len(), 40);
    }

    #[test]
    fn equals_keep_their_order_when_sorted() {
        let mut list: Vec<_> = (0..100_u32).map(|n| (n * 7 % 10, n)).collect();
        let mut sorted = list.clone();
        sorted.sort_by_key(|(key, _)| *key);
        sort_by(&mut list, |a, b| a.0.cmp(&b.0));
        assert_eq!(list, sorted);
    }

    #[test]
    fn time_neither_wraps_nor_runs_backwards() {
        let late = Instant::from_nanos(u64::MAX);
        assert_eq!(late.after(Duration::from_secs(1)), late);
        assert_eq!(Instant::ZERO.since(late), Duration::ZERO);
    }
}
