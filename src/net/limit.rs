//! How many ICMP errors may leave.
//!
//! Kept from the kernel: `icmp_ratelimit` and `icmp_ratemask` (one error a second to each target
//! with a burst of 6, too-big messages exempt), the milder limit for IPv6 targets behind short
//! prefixes, the limit of its own that errors about missing IPv4 routes have (one a second, a burst of
//! 5, out of the same bucket), `icmp_msgs_per_sec` and `icmp_msgs_burst` (1000 a second overall with a
//! burst of 50, asked before the target's own).

use std::net::IpAddr;
use std::time::Duration;

use crate::packet::icmp;
use crate::world::{Instant, Keyed, Map, Rng};

/// Targets that are remembered; a target that is forgotten has its full burst again.
const TARGETS_MAX: usize = 8192;

/// So many errors a target is sent at once.
const BURST: u32 = 6;

/// What an error about a missing route costs beforehand, and how much there can be for that.
const ROUTE_COST_MS: u32 = 1000;
const ROUTE_BURST: u32 = 5;

/// All targets together: a thousand a second, fifty at once.
const OVERALL_COST: Duration = Duration::from_millis(1);
const OVERALL_BURST: u32 = 50;

/// A bucket that fills by a millisecond a millisecond.
#[derive(Debug, Clone, Copy)]
struct Bucket {
    tokens_ms: u32,
    filled: Instant,
}

impl Bucket {
    /// One that nobody has used for long.
    const fn full(now: Instant) -> Self {
        Self { tokens_ms: u32::MAX, filled: now }
    }

    /// Takes `cost_ms` if they are there, out of `burst` times as many at most: what is beyond is lost.
    fn take(&mut self, now: Instant, cost_ms: u32, burst: u32) -> bool {
        let most = cost_ms.saturating_mul(burst);
        self.tokens_ms = self.tokens(now).min(most);
        self.filled = now;
        match self.tokens_ms.checked_sub(cost_ms) {
            Some(rest) => self.tokens_ms = rest,
            None => return false,
        }
        true
    }

    /// What is in it now.
    fn tokens(&self, now: Instant) -> u32 {
        let since = u32::try_from(now.since(self.filled).as_millis()).unwrap_or(u32::MAX);
        self.tokens_ms.saturating_add(since)
    }
}

/// The buckets of one host.
#[derive(Debug, Clone)]
pub struct Limits {
    /// `net.ipv4.icmp_ratelimit`: milliseconds between errors to one target, 0 for no limit.
    pub v4_ms: u32,
    /// `net.ipv6.icmp.ratelimit`.
    pub v6_ms: u32,
    /// When all targets together have their full burst again.
    overall_full: Instant,
    targets: Map<IpAddr, Bucket>,
}

impl Limits {
    /// Full buckets.
    pub fn new(rng: &mut Rng) -> Self {
        let targets = Map::with_hasher(Keyed::new(rng));
        Self { v4_ms: 1000, v6_ms: 1000, overall_full: Instant::ZERO, targets }
    }

    /// Whether `error` may be sent to `target`, to which a route for `prefix` bits leads, now; counts
    /// it if so.
    pub fn allow(&mut self, now: Instant, target: IpAddr, prefix: u8, error: icmp::Error) -> bool {
        if matches!(error, icmp::Error::TooBig(_)) {
            return true;
        }
        let cost_ms = match target {
            IpAddr::V4(_) => self.v4_ms,
            IpAddr::V6(_) => self.v6_ms >> (128u8.saturating_sub(prefix) >> 5),
        };
        if !self.has_room(now, target, cost_ms) {
            return false;
        }
        let no_route = target.is_ipv4() && matches!(error, icmp::Error::NetUnreachable);
        let bucket = self.targets.entry(target).or_insert(Bucket::full(now));
        if no_route && !bucket.take(now, ROUTE_COST_MS, ROUTE_BURST) {
            return false;
        }
        let wait = self.overall_full.since(now);
        if wait + OVERALL_COST > OVERALL_COST * OVERALL_BURST {
            return false;
        }
        self.overall_full = self.overall_full.max(now).after(OVERALL_COST);
        bucket.take(now, cost_ms, BURST)
    }

    /// Whether `target` is remembered or can be; targets with a full burst are forgotten for it.
    fn has_room(&mut self, now: Instant, target: IpAddr, cost_ms: u32) -> bool {
        if self.targets.len() < TARGETS_MAX || self.targets.contains_key(&target) {
            return true;
        }
        let most = cost_ms.saturating_mul(BURST).max(ROUTE_COST_MS * ROUTE_BURST);
        self.targets.retain(|_, bucket| bucket.tokens(now) < most);
        self.targets.len() < TARGETS_MAX
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sent(limits: &mut Limits, now: Instant, target: IpAddr, tries: usize) -> usize {
        let error = icmp::Error::PortUnreachable;
        (0..tries).filter(|_| limits.allow(now, target, 24, error)).count()
    }

    #[test]
    fn a_target_gets_six_at_once_and_then_one_a_second() {
        let mut limits = Limits::new(&mut Rng::new(1));
        let target = IpAddr::from([10, 0, 0, 1]);
        let at = Instant::from_millis;
        assert_eq!(sent(&mut limits, at(0), target, 20), 6);
        assert_eq!(sent(&mut limits, at(999), target, 20), 0);
        assert_eq!(sent(&mut limits, at(1000), target, 20), 1);
        assert_eq!(sent(&mut limits, at(3500), target, 20), 2);
        assert_eq!(sent(&mut limits, at(60_000), target, 20), 6);
    }

    #[test]
    fn all_targets_together_get_fifty_at_once() {
        let mut limits = Limits::new(&mut Rng::new(1));
        let flood = |limits: &mut Limits, now| -> usize {
            (0..200u8).map(|i| sent(limits, now, [10, 0, 1, i].into(), 1)).sum()
        };
        assert_eq!(flood(&mut limits, Instant::from_millis(0)), 50);
        assert_eq!(flood(&mut limits, Instant::from_millis(10)), 10);
    }

    #[test]
    fn too_big_is_always_told() {
        let mut limits = Limits::new(&mut Rng::new(1));
        let target = IpAddr::from([10, 0, 0, 1]);
        let error = icmp::Error::TooBig(1400);
        assert!((0..500).all(|_| limits.allow(Instant::ZERO, target, 24, error)));
    }

    #[test]
    fn the_memory_of_targets_is_bounded() {
        let mut limits = Limits::new(&mut Rng::new(1));
        for i in 0..40_000u32 {
            let now = Instant::from_millis(u64::from(i));
            let target = std::net::Ipv4Addr::from(i).into();
            let _ = limits.allow(now, target, 24, icmp::Error::TimeExceeded);
            assert!(limits.targets.len() <= TARGETS_MAX);
        }
    }

    #[test]
    fn a_missing_route_costs_twice_and_never_comes_soon_after_another_error() {
        let mut limits = Limits::new(&mut Rng::new(1));
        let target = IpAddr::from([10, 0, 0, 1]);
        let (at, none) = (Instant::from_millis, icmp::Error::NetUnreachable);
        let told = |limits: &mut Limits, now, error| limits.allow(now, target, 24, error);
        assert_eq!((0..9).filter(|_| told(&mut limits, at(0), none)).count(), 2);
        assert_eq!(sent(&mut limits, at(0), target, 9), 0, "the third took the last for nothing");

        limits.v4_ms = 0;
        assert_eq!(sent(&mut limits, at(60_000), target, 40), 40);
        assert!(!told(&mut limits, at(60_900), none), "what was left is lost without a limit");
        assert!(told(&mut limits, at(62_000), none));
    }

    #[test]
    fn targets_of_ipv6_behind_short_prefixes_are_told_more() {
        for (prefix, again_ms) in [(128, 1000), (64, 250), (32, 125), (0, 62)] {
            let mut limits = Limits::new(&mut Rng::new(1));
            let target = IpAddr::from([0xfd80, 0, 0, 0, 0, 0, 0, 1]);
            let mut told = |now| {
                let error = icmp::Error::PortUnreachable;
                limits.allow(Instant::from_millis(now), target, prefix, error)
            };
            assert_eq!((0..20).filter(|_| told(10_000)).count(), 6);
            assert!(!told(10_000 + again_ms - 1) && told(10_000 + again_ms), "/{prefix}");
        }
    }
}
