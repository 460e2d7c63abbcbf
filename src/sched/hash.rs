//! By address: `dh` and `sh`, and how addresses become keys.
//!
//! Kept from the kernel: tables of 256 buckets, the multiplication that spreads addresses over them,
//! that a server of weight 0 keeps its buckets (its clients are refused, all others stay where they
//! are), and the way in which `sh-fallback` goes on.

use std::net::IpAddr;

use super::{Flags, Pool, Request};
use crate::packet::{Endpoint, Family};

/// 2^8 buckets.
const BITS: u32 = 8;
const BUCKETS: usize = 1 << BITS;

/// An address in 32 bits: IPv4 as it is, IPv6 folded.
pub(super) fn fold(addr: IpAddr) -> u32 {
    match addr {
        IpAddr::V4(addr) => addr.into(),
        IpAddr::V6(addr) => words(addr.into()).into_iter().fold(0, |all, word| all ^ word),
    }
}

/// A server's address in 32 bits. An IPv4 service looks only at the first word of a server that it
/// reaches by IPv6.
pub(super) fn fold_server(service: Family, addr: IpAddr) -> u32 {
    match (service, addr) {
        (Family::V4, IpAddr::V6(addr)) => words(addr.into())[0],
        (Family::V4, IpAddr::V4(_)) | (Family::V6, _) => fold(addr),
    }
}

#[expect(clippy::cast_possible_truncation, reason = "the shifts leave 32 bits")]
const fn words(addr: u128) -> [u32; 4] {
    [(addr >> 96) as u32, (addr >> 64) as u32, (addr >> 32) as u32, addr as u32]
}

/// What a client is known by: its address, and its port if the service wants that.
pub(super) fn client_key(request: &Request) -> u32 {
    let Endpoint { addr, port } = request.client;
    let port = if request.flags.has(Flags::PORT) { port } else { 0 };
    fold(addr).wrapping_add(port.into())
}

/// Spreads 32 bits over the buckets.
const fn bucket_of(key: u32) -> usize {
    (key.wrapping_mul(0x61c8_8647) >> (32 - BITS)) as usize
}

/// Which server each bucket belongs to, as indices into the list; empty without servers.
#[derive(Debug, Clone, Default)]
pub struct Buckets(Vec<u32>);

impl Buckets {
    /// `dh`: every server in turn, whatever its weight.
    pub(super) fn evenly(&mut self, pool: &impl Pool) {
        self.fill(pool, |_| 1);
    }

    /// `sh`: every server in turn, as many buckets at a time as its weight.
    pub(super) fn by_weight(&mut self, pool: &impl Pool) {
        self.fill(pool, |index| pool.candidate(index).weight.max(1));
    }

    fn fill(&mut self, pool: &impl Pool, share: impl Fn(usize) -> u32) {
        self.0.clear();
        if pool.is_empty() {
            return;
        }
        let mut turns = (0..pool.len()).cycle();
        while self.0.len() < BUCKETS {
            let Some(index) = turns.next() else { return };
            let room = BUCKETS - self.0.len();
            let count = usize::try_from(share(index)).map_or(room, |share| share.min(room));
            let server = u32::try_from(index).expect("fewer than 2^32 servers");
            self.0.extend(std::iter::repeat_n(server, count));
        }
    }

    fn at(&self, bucket: usize) -> Option<usize> {
        self.0.get(bucket).map(|&server| server as usize)
    }

    /// `dh`.
    pub(super) fn by_destination(&self, pool: &impl Pool, request: &Request) -> Option<usize> {
        self.at(bucket_of(fold(request.virt))).filter(|&i| pool.candidate(i).is_usable())
    }

    /// `sh`. With `sh-fallback`, the buckets that follow twice the client's own are tried; the
    /// doubling is the kernel's.
    pub(super) fn by_source(&self, pool: &impl Pool, request: &Request) -> Option<usize> {
        let usable = |&i: &usize| pool.candidate(i).is_usable();
        let own = bucket_of(client_key(request));
        let first = self.at(own)?;
        if usable(&first) {
            return Some(first);
        }
        if !request.flags.has(Flags::FALLBACK) {
            return None;
        }
        let others = (0..BUCKETS).map(|off| ((off + own) % BUCKETS + own) % BUCKETS);
        others.filter_map(|bucket| self.at(bucket)).find(usable)
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::Bench;
    use super::super::Scheduler::{Dh, Sh};
    use super::*;

    #[test]
    fn keys_are_those_of_the_kernel() {
        for (addr, key) in [
            ("10.0.0.2", 137),
            ("10.0.0.3", 235),
            ("192.0.2.1", 50),
            ("198.51.100.77", 103),
            ("203.0.113.255", 55),
            ("2001:db8::2", 160),
        ] {
            assert_eq!(bucket_of(fold(addr.parse().expect("an address"))), key, "{addr}");
        }
    }

    #[test]
    fn sh_gives_the_picks_of_the_kernel() {
        let mut bench = Bench::with(Sh, &[1, 2, 3]);
        assert_eq!(bench.clients("10.0.0.2", 16), "ACACBCCCCBCBCCBC");
    }

    #[test]
    fn dh_gives_the_picks_of_the_kernel_whatever_the_weights() {
        let mut bench = Bench::with(Dh, &[1, 2, 3]);
        assert_eq!(bench.destinations("10.1.1.1", 16), "BCBABABACACAABCB");
        bench.edit('A', 100);
        assert_eq!(bench.destinations("10.1.1.1", 16), "BCBABABACACAABCB");
        bench.edit('A', 0);
        assert_eq!(bench.destinations("10.1.1.1", 16), "BCB-B-B-C-C--BCB");
    }

    #[test]
    fn a_server_that_is_full_keeps_its_buckets_and_fallback_serves_its_clients() {
        let mut bench = Bench::with(Sh, &[1, 1, 1]);
        let before = bench.clients("10.0.0.2", 32);
        bench.at('B').overloaded = true;
        let after = bench.clients("10.0.0.2", 32);
        assert_eq!(after, before.replace('B', "-"));
        bench.flags = Flags(Flags::FALLBACK);
        let served = bench.clients("10.0.0.2", 32);
        let same = |(old, new): (char, char)| old == 'B' || old == new;
        assert!(before.chars().zip(served.chars()).all(same), "{before} {served}");
        assert!(!served.contains(['B', '-']), "{served}");
        "AC".chars().for_each(|name| bench.edit(name, 0));
        assert_eq!(bench.clients("10.0.0.2", 3), "---");
    }

    #[test]
    fn nobody_and_a_giant_are_no_trouble() {
        assert_eq!(Bench::with(Sh, &[]).clients("10.0.0.2", 2), "--");
        assert_eq!(Bench::with(Dh, &[]).clients("10.0.0.2", 2), "--");
        let mut bench = Bench::with(Sh, &[1, 2_147_483_647]);
        assert_eq!(bench.clients("10.0.0.2", 4), "BBBB");
    }

    #[test]
    fn an_ipv4_service_knows_an_ipv6_server_by_its_first_word() {
        let addr = "2001:db8::2".parse().expect("an address");
        assert_eq!(fold_server(Family::V4, addr), 0x2001_0db8);
        assert_eq!(fold_server(Family::V6, addr), 0x2001_0db8 ^ 2);
    }

    /// `sh` and its flags, recorded.
    #[test]
    fn the_recorded_stories_of_the_kernel_repeat() {
        for (flags, story) in [
            (
                0,
                [
                    "ACBAABBACBBCCBAACBAABBACBBCCBABB",
                    "ACBAABBACBBCCBAACBAABBACBBCCBABB",
                    "AC-AA--AC--CC-AAC-AA--AC--CC-A--",
                    "BABBABBCBACBABBABBCBACBABBCBBABB",
                    "CBBBBBBCCBBBBBBBCCBBBBBBCCBBBBBB",
                ],
            ),
            (
                Flags::PORT,
                [
                    "CCABBCABBCABBCBCCABBCABBCABBCABB",
                    "AABABCCABABCCABABBCABABBCABABBCC",
                    "--C-CCA--CA--CA--CA-CA--CA--CCA-",
                    "BBCAABBCCABBBBCCABBBBCABBBBCABBB",
                    "BBBCBCBBBBBBCBBBBBBCBCBBBBCBCBBB",
                ],
            ),
            (
                Flags::FALLBACK,
                [
                    "ACBAABBACBBCCBAACBAABBACBBCCBABB",
                    "ACBAABBACBBCCBAACBAABBACBBCCBABB",
                    "ACAAAAAACAACCAAACAAAAAACAACCAAAA",
                    "BABBABBCBACBABBABBCBACBABBCBBABB",
                    "CBBBBBBCCBBBBBBBCCBBBBBBCCBBBBBB",
                ],
            ),
            (
                Flags::FALLBACK | Flags::PORT,
                [
                    "CCABBCABBCABBCBCCABBCABBCABBCABB",
                    "AABABCCABABCCABABBCABABBCABABBCC",
                    "AACACCAAACAAACAAACAACAAACAAACCAA",
                    "BBCAABBCCABBBBCCABBBBCABBBBCABBB",
                    "BBBCBCBBBBBBCBBBBBBCBCBBBBCBCBBB",
                ],
            ),
        ] {
            assert_eq!(Bench::hashed(Sh, flags), story, "flags {flags}");
        }
    }

    #[test]
    fn the_recorded_picks_by_weight_and_of_ipv6_repeat() {
        let mut bench = Bench::from(Sh, "10.81.0.11", &[5, 3, 1]);
        assert_eq!(
            bench.clients("10.90.0.1", 64),
            "BBAABAACAABCABBAABAACAABCABBAABAAAAABCABBAABAAAAABCABBBABAAAAABB"
        );
        let mut bench = Bench::from(Sh, "fd81::11", &[1, 1, 1]);
        let picks: String = (0..24)
            .map(|i| bench.clients(&format!("fd90::{:x}:{:x}", i + 1, 3 * i + 1), 1))
            .collect();
        assert_eq!(picks, "BBABBABBABBBBBBAABAABABB");
    }

    #[test]
    fn the_recorded_story_of_dh_repeats() {
        let mut bench = Bench::from(Dh, "10.81.0.11", &[1, 1, 1]);
        let round = |bench: &mut Bench| -> String {
            (0..32).map(|i| bench.destinations(&format!("10.91.0.{}", i * 5 + 1), 1)).collect()
        };
        assert_eq!(round(&mut bench), "AACBACBACBCBAACBACBACACBAACBACBA");
        bench.edit('A', 0);
        assert_eq!(round(&mut bench), "--CB-CB-CBCB--CB-CB-C-CB--CB-CB-");
    }
}
