//! By address, with the least unrest: `mh`, Maglev hashing (Eisenbud et al., NSDI 2016, 3.4).
//!
//! Kept from the kernel: 4093 slots, SipHash-1-3 with its two fixed keys, weights cut down to 6 bits,
//! that a server set to weight 0 keeps the slots of its last weight, and that servers beyond the
//! number of slots get none.
//!
//! The table is made anew at the first pick after a change, so that loading a service of many servers
//! makes it once. The room for it is taken when the change comes in.

use super::hash::{client_key, fold_server};
use super::turn::gcd;
use super::{Flags, Pool, Request};
use crate::packet::{Endpoint, Family};
use crate::world::siphash13;

/// Slots, and so the most servers: a prime, so that every step visits all of them.
pub const SLOTS: usize = 4093;
/// Significant bits of the greatest weight.
const WEIGHT_BITS: u32 = 6;
const EMPTY: u16 = u16::MAX;

/// Where a server begins, and where clients look.
const FIRST_KEY: u64 = 2_654_435_761;
/// How far a server steps.
const SECOND_KEY: u64 = 2_654_446_892;

/// The memory of `mh`.
#[derive(Debug, Clone, Default)]
pub struct Maglev {
    /// Of each slot, the server: its index, counted from the first that has a share.
    slots: Vec<u16>,
    walkers: Vec<Walker>,
    is_stale: bool,
}

/// A server that looks for slots.
#[derive(Debug, Clone, Copy)]
struct Walker {
    at: usize,
    step: usize,
    /// Slots that it takes at a time.
    turns: u32,
}

impl Maglev {
    pub(super) fn changed(&mut self, pool: &impl Pool) {
        self.slots.clear();
        self.slots.reserve(SLOTS);
        self.walkers.clear();
        self.walkers.reserve(pool.len().min(SLOTS));
        self.is_stale = true;
    }

    pub(super) fn pick(&mut self, pool: &impl Pool, request: &Request) -> Option<usize> {
        if self.is_stale {
            self.settle(pool, Family::of(request.client.addr));
        }
        let usable = |&i: &usize| pool.candidate(i).is_usable();
        let client = client_key(request);
        let own = hash(FIRST_KEY, client) % SLOTS;
        let first = self.at(pool, own)?;
        if usable(&first) {
            return Some(first);
        }
        // Thousands of slots need not be asked when no server could answer.
        if !request.flags.has(Flags::FALLBACK) || !(0..pool.len()).any(|i| usable(&i)) {
            return None;
        }
        let others = (0..SLOTS).map(|off| (off + own) % SLOTS);
        let others = others.map(|off| {
            let off = u32::try_from(off).expect("a slot fits 32 bits");
            hash(FIRST_KEY, client.wrapping_add(off)) % SLOTS
        });
        others.filter_map(|slot| self.at(pool, slot)).find(usable)
    }

    fn at(&self, pool: &impl Pool, slot: usize) -> Option<usize> {
        let server = self.slots.get(slot).copied().filter(|&server| server != EMPTY)?;
        Some(first_with_share(pool) + usize::from(server))
    }

    /// Gives every slot to a server.
    fn settle(&mut self, pool: &impl Pool, family: Family) {
        self.is_stale = false;
        self.slots.clear();
        self.walkers.clear();
        let servers = first_with_share(pool)..pool.len();
        let weights = || servers.clone().map(|i| pool.candidate(i).last_weight);
        let unit = weights().fold(0, gcd);
        if unit == 0 {
            return;
        }
        let greatest = weights().max().unwrap_or(0) / unit;
        let shift = (u32::BITS - greatest.leading_zeros()).saturating_sub(WEIGHT_BITS);
        self.walkers.extend(servers.clone().map(|i| {
            let candidate = pool.candidate(i);
            let least = u32::from(candidate.last_weight > 0);
            let turns = ((candidate.last_weight / unit) >> shift).max(least);
            Walker::new(family, candidate.at, turns)
        }));
        self.slots.resize(SLOTS, EMPTY);
        self.fill();
    }

    /// Goes round the servers, of which one at least has turns, until all slots are taken.
    fn fill(&mut self) {
        let mut free = SLOTS;
        loop {
            for (server, walker) in self.walkers.iter_mut().enumerate() {
                let server = u16::try_from(server).expect("no more servers than slots");
                for _ in 0..walker.turns {
                    while self.slots[walker.at] != EMPTY {
                        walker.at = (walker.at + walker.step) % SLOTS;
                    }
                    self.slots[walker.at] = server;
                    free -= 1;
                    if free == 0 {
                        return;
                    }
                }
            }
        }
    }
}

impl Walker {
    fn new(family: Family, server: Endpoint, turns: u32) -> Self {
        let key = fold_server(family, server.addr).wrapping_add(server.port.into());
        let at = hash(FIRST_KEY, key) % SLOTS;
        Self { at, step: hash(SECOND_KEY, key) % (SLOTS - 1) + 1, turns }
    }
}

/// The kernel leaves the table alone when more servers come than there are slots: the newest, at the
/// head of the list, have no share.
fn first_with_share(pool: &impl Pool) -> usize {
    pool.len().saturating_sub(SLOTS)
}

/// 32 bits of hash, as wide as the kernel's.
fn hash(key: u64, value: u32) -> usize {
    let hash = siphash13((key, key), &value.to_le_bytes()) & 0xffff_ffff;
    usize::try_from(hash).expect("32 bits")
}

#[cfg(test)]
mod tests {
    use super::super::tests::Bench;
    use super::super::Scheduler::Mh;
    use super::super::State;
    use super::*;
    use crate::sched::hash::fold;

    fn maglev(bench: &mut Bench) -> &Maglev {
        bench.clients("10.0.0.2", 1);
        match bench.state() {
            State::Mh(maglev) => maglev,
            other => panic!("{other:?}"),
        }
    }

    fn turns(weights: &[u32]) -> Vec<u32> {
        let mut bench = Bench::with(Mh, weights);
        maglev(&mut bench).walkers.iter().rev().map(|walker| walker.turns).collect()
    }

    #[test]
    fn the_hash_has_the_kernels_check_values() {
        assert_eq!(hash(FIRST_KEY, 0), 0x1d5a_77c2);
        assert_eq!(hash(FIRST_KEY, 1), 0x16ec_66b2);
    }

    #[test]
    fn servers_begin_and_step_where_the_kernels_do() {
        for (server, at, step) in [
            ("172.16.0.2:80", 678, 551),
            ("172.16.0.3:80", 1954, 525),
            ("172.16.0.4:80", 1628, 3830),
            ("172.16.0.2:8080", 3952, 355),
        ] {
            let server: std::net::SocketAddr = server.parse().expect("an endpoint");
            let server = Endpoint::new(server.ip(), server.port());
            let walker = Walker::new(Family::V4, server, 1);
            assert_eq!((walker.at, walker.step), (at, step), "{server}");
        }
    }

    #[test]
    fn clients_look_where_the_kernels_do() {
        for (client, slot, with_port) in [
            ("10.0.0.2", 1884, 2247),
            ("10.0.0.3", 3741, 362),
            ("192.0.2.1", 2891, 1155),
            ("198.51.100.77", 1482, 2551),
            ("2001:db8::2", 1523, 2793),
        ] {
            let key = fold(client.parse().expect("an address"));
            assert_eq!(hash(FIRST_KEY, key) % SLOTS, slot, "{client}");
            assert_eq!(hash(FIRST_KEY, key + 1000) % SLOTS, with_port, "{client}");
        }
    }

    #[test]
    fn equal_weights_share_the_slots_and_the_newest_gets_the_odd_one() {
        let mut bench = Bench::with(Mh, &[1, 1, 1]);
        let slots = &maglev(&mut bench).slots;
        let share = |server: u16| slots.iter().filter(|&&s| s == server).count();
        assert_eq!([share(2), share(1), share(0)], [1364, 1364, 1365]);
    }

    #[test]
    fn weights_are_cut_down_to_six_bits() {
        assert_eq!(turns(&[1, 64]), [1, 32]);
        assert_eq!(turns(&[1, 63]), [1, 63]);
        assert_eq!(turns(&[1, 1000]), [1, 62]);
        assert_eq!(turns(&[100, 200, 6400]), [1, 1, 32]);
        assert_eq!(turns(&[0, 1, 2_147_483_647]), [0, 1, 63]);
    }

    #[test]
    fn the_picks_are_those_of_the_kernel() {
        let mut bench = Bench::with(Mh, &[1, 2, 3]);
        assert_eq!(bench.clients("10.0.0.2", 16), "CCCCACBBCBCCBBBC");
    }

    #[test]
    fn weight_0_refuses_the_servers_own_clients_and_moves_nobody_else() {
        let mut bench = Bench::with(Mh, &[1, 2, 3]);
        bench.edit('C', 0);
        assert_eq!(bench.clients("10.0.0.2", 16), "----A-BB-B--BBB-");
        bench.flags = Flags(Flags::FALLBACK);
        let served = bench.clients("10.0.0.2", 16);
        assert!(!served.contains(['-', 'C']), "{served}");
        assert_eq!((&served[4..5], &served[6..8]), ("A", "BB"));
        "AB".chars().for_each(|name| bench.edit(name, 0));
        assert_eq!(bench.clients("10.0.0.2", 3), "---");
    }

    #[test]
    fn servers_that_never_had_a_weight_and_no_servers_serve_nobody() {
        assert_eq!(Bench::with(Mh, &[0, 0]).clients("10.0.0.2", 2), "--");
        assert_eq!(Bench::with(Mh, &[]).clients("10.0.0.2", 2), "--");
        assert_eq!(Bench::with(Mh, &[0, 1]).clients("10.0.0.2", 2), "BB");
    }

    #[test]
    fn more_servers_than_slots_leave_the_newest_without_a_share() {
        let mut bench = Bench::with(Mh, &[1; SLOTS]);
        let before = bench.client_indices("10.0.0.2", 50);
        bench.add(1);
        let after = bench.client_indices("10.0.0.2", 50);
        let moved_on = |index: &Option<usize>| index.map(|i| i + 1);
        assert_eq!(before.iter().map(moved_on).collect::<Vec<_>>(), after);
    }

    /// `mh` and its flags, recorded.
    #[test]
    fn the_recorded_stories_of_the_kernel_repeat() {
        for (flags, story) in [
            (
                0,
                [
                    "BCBBCAACCABAACCAAABCCCBBABBACCCA",
                    "BCBBCAACCABAACCAAABCCCBBABBACCCA",
                    "-C--CAACCA-AACCAAA-CCC--A--ACCCA",
                    "BCBBBABCCABAABCAABBCCBBBABBBBBBA",
                    "BCBBBCBCCBBBBBCBBBBCCBBBBBBBBBBB",
                ],
            ),
            (
                Flags::PORT,
                [
                    "ABCBCCABBCBBCAACAABBAACACAAACAAC",
                    "BAABBBCBBAACBBCCBBBAACACCBBCBCBA",
                    "C--A--CAC-C-AACC--CCCCA-CC-A-A-A",
                    "CBBBBABAABCABBBBBBBACCBBABCCBBCC",
                    "BBCCBBBBBBCBBBCBBBBBBBBBBBCCBCBB",
                ],
            ),
            (
                Flags::FALLBACK,
                [
                    "BCBBCAACCABAACCAAABCCCBBABBACCCA",
                    "BCBBCAACCABAACCAAABCCCBBABBACCCA",
                    "ACACCAACCACAACCAAAACCCCCACAACCCA",
                    "BCBBBABCCABAABCAABBCCBBBABBBBBBA",
                    "BCBBBCBCCBBBBBCBBBBCCBBBBBBBBBBB",
                ],
            ),
        ] {
            assert_eq!(Bench::hashed(Mh, flags), story, "flags {flags}");
        }
    }

    #[test]
    fn the_recorded_picks_by_weight_and_of_ipv6_repeat() {
        let mut bench = Bench::from(Mh, "10.81.0.11", &[5, 3, 1]);
        assert_eq!(
            bench.clients("10.90.0.1", 64),
            "BBBBAABCABAAAAABAACBBABAAAACAABACBAAAAACAAAAACBBACBBCBABCBAABCAA"
        );
        let mut bench = Bench::from(Mh, "fd81::11", &[1, 1, 1]);
        let picks: String = (0..24)
            .map(|i| bench.clients(&format!("fd90::{:x}:{:x}", i + 1, 3 * i + 1), 1))
            .collect();
        assert_eq!(picks, "ABAACBCCACAACCBBCAABABBB");
    }
}
