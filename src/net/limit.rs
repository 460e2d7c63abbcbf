//! How many ICMP errors may leave.
//!
//! Kept from the kernel: `icmp_ratelimit` and `icmp_ratemask` (one error a second to each target
//! with a burst of 6, too-big messages exempt), `icmp_msgs_per_sec` and `icmp_msgs_burst` (1000 a
//! second overall with a burst of 50, asked first); that an IPv4 packet without a route costs twice,
//! since routing (`error_cost`, `error_burst`) and ICMP draw from the same bucket; the milder limit for
//! IPv6 targets behind short prefixes.

use std::net::IpAddr;
use std::time::Duration;

use crate::packet::icmp;
use crate::world::{Instant, Keyed, Map, Rng};

/// Targets that are remembered; a target that is forgotten has its full burst again.
const TARGETS_MAX: usize = 8192;

/// Between two errors to a target, unless the operator says otherwise.
const INTERVAL: Duration = Duration::from_secs(1);

/// So many at once to a target that was left in peace.
const BURST: u32 = 6;

/// What routing takes and keeps of a target's bucket before it says that there is no way.
const NO_ROUTE: Rate = Rate { interval: Duration::from_secs(1), burst: 5 };

/// All targets together: a thousand a second, fifty at once.
const OVERALL: Rate = Rate { interval: Duration::from_millis(1), burst: 50 };

/// A token every `interval`, `burst` of them at most.
#[derive(Debug, Clone, Copy)]
struct Rate {
    interval: Duration,
    burst: u32,
}

/// A bucket that time drips into; rates may differ from taking to taking.
#[derive(Debug, Clone, Copy)]
struct Bucket {
    held: Duration,
    looked_at: Instant,
}

impl Bucket {
    /// As full as any.
    const fn full(now: Instant) -> Self {
        Self { held: Duration::from_secs(60), looked_at: now }
    }

    /// Takes what an error costs, if it is there. As in the kernel, looking pours off what is more
    /// than a burst: all of it, at a rate without limit.
    fn take(&mut self, now: Instant, rate: Rate) -> bool {
        self.held = self.level(now).min(rate.interval * rate.burst);
        self.looked_at = now;
        let rest = self.held.checked_sub(rate.interval);
        self.held = rest.unwrap_or(self.held);
        rest.is_some()
    }

    fn level(&self, now: Instant) -> Duration {
        self.held.saturating_add(now.since(self.looked_at))
    }
}

/// The buckets of one host.
#[derive(Debug, Clone)]
pub struct Limits {
    overall: Bucket,
    targets: Map<IpAddr, Bucket>,
    /// Between two errors to an IPv4 target (`net.ipv4.icmp_ratelimit`); zero is no limit.
    pub interval_v4: Duration,
    /// To an IPv6 target (`net.ipv6.icmp.ratelimit`).
    pub interval_v6: Duration,
}

impl Limits {
    /// Full buckets, Linux's limits.
    pub fn new(rng: &mut Rng) -> Self {
        let overall = Bucket::full(Instant::ZERO);
        let targets = Map::with_hasher(Keyed::new(rng));
        Self { overall, targets, interval_v4: INTERVAL, interval_v6: INTERVAL }
    }

    /// Whether `error` may be sent to `target`, to which a route for `prefix` bits leads, now; counts
    /// it if so.
    pub fn allow(&mut self, now: Instant, target: IpAddr, prefix: u8, error: icmp::Error) -> bool {
        if matches!(error, icmp::Error::TooBig(_)) {
            return true;
        }
        let interval = match target {
            IpAddr::V4(_) => self.interval_v4,
            IpAddr::V6(_) => self.interval_v6 / (1 << (128u8.saturating_sub(prefix) >> 5)),
        };
        let rate = Rate { interval, burst: BURST };
        if self.targets.len() >= TARGETS_MAX && !self.targets.contains_key(&target) {
            let full = interval.max(INTERVAL) * BURST;
            self.targets.retain(|_, bucket| bucket.level(now) < full);
            if self.targets.len() >= TARGETS_MAX {
                return false;
            }
        }
        let bucket = self.targets.entry(target).or_insert(Bucket::full(now));
        // IPv4's routing has a limit of its own, and the same bucket.
        let routing = matches!(error, icmp::Error::NetUnreachable) && target.is_ipv4();
        if routing && !bucket.take(now, NO_ROUTE) {
            return false;
        }
        self.overall.take(now, OVERALL) && bucket.take(now, rate)
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
    fn a_missing_route_costs_two_errors_and_one_when_nothing_is_said() {
        let mut limits = Limits::new(&mut Rng::new(1));
        let target = IpAddr::from([10, 0, 0, 1]);
        let mut told = |ms, error| limits.allow(Instant::from_millis(ms), target, 24, error);
        let no_route = icmp::Error::NetUnreachable;
        let answers: Vec<_> = (0..5).map(|i| told(i * 30, no_route)).collect();
        assert_eq!(answers, [true, true, false, false, false]);
        assert!(!told(1100, no_route) && told(2300, icmp::Error::PortUnreachable));
    }

    #[test]
    fn without_a_limit_all_is_told_and_every_word_empties_the_bucket_of_routing() {
        let mut limits = Limits::new(&mut Rng::new(1));
        limits.interval_v4 = Duration::ZERO;
        let target = IpAddr::from([10, 0, 0, 1]);
        assert_eq!(sent(&mut limits, Instant::ZERO, target, 20), 20);
        let no_route = icmp::Error::NetUnreachable;
        assert!(!limits.allow(Instant::from_millis(999), target, 24, no_route));
        assert!(limits.allow(Instant::from_millis(1000), target, 24, no_route));
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
    fn targets_of_ipv6_behind_short_prefixes_are_told_more() {
        for (prefix, again_ms) in [(128, 1000), (64, 250), (32, 125), (0, 63)] {
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
