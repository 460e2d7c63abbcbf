//! How many ICMP errors may leave.
//!
//! Kept from the kernel: `icmp_ratelimit` and `icmp_ratemask` (one error a second to each target
//! with a burst of 6, too-big messages exempt), `icmp_msgs_per_sec` and `icmp_msgs_burst` (1000 a
//! second overall with a burst of 50, asked first).
//!
//! Left out on purpose: the kernel's milder limit for IPv6 targets behind short prefixes.

use std::net::IpAddr;
use std::time::Duration;

use crate::packet::icmp;
use crate::world::{Instant, Keyed, Map, Rng};

/// Targets that are remembered; a target that is forgotten has its full burst again.
const TARGETS_MAX: usize = 8192;

/// Each target: one a second, six at once.
const TARGET: Rate = Rate { interval: Duration::from_secs(1), burst: 6 };

/// All targets together: a thousand a second, fifty at once.
const OVERALL: Rate = Rate { interval: Duration::from_millis(1), burst: 50 };

/// A token every `interval`, `burst` of them at most.
#[derive(Debug, Clone, Copy)]
struct Rate {
    interval: Duration,
    burst: u32,
}

/// A token bucket, told by the instant at which it is, or was, full again.
#[derive(Debug, Clone, Copy)]
struct Bucket {
    full_at: Instant,
}

impl Bucket {
    /// Takes a token if there is one.
    fn take(&mut self, now: Instant, rate: Rate) -> bool {
        let from = self.full_at.max(now);
        let full_at = from.after(rate.interval);
        if full_at.since(now) > rate.interval * rate.burst {
            return false;
        }
        self.full_at = full_at;
        true
    }
}

/// The buckets of one host.
#[derive(Debug, Clone)]
pub struct Limits {
    overall: Bucket,
    targets: Map<IpAddr, Bucket>,
}

impl Limits {
    /// Full buckets.
    pub fn new(rng: &mut Rng) -> Self {
        let overall = Bucket { full_at: Instant::ZERO };
        Self { overall, targets: Map::with_hasher(Keyed::new(rng)) }
    }

    /// Whether `error` may be sent to `target` now; counts it if so.
    pub fn allow(&mut self, now: Instant, target: IpAddr, error: icmp::Error) -> bool {
        if matches!(error, icmp::Error::TooBig(_)) {
            return true;
        }
        if !self.overall.take(now, OVERALL) {
            return false;
        }
        if self.targets.len() >= TARGETS_MAX && !self.targets.contains_key(&target) {
            self.targets.retain(|_, bucket| bucket.full_at > now);
            if self.targets.len() >= TARGETS_MAX {
                return false;
            }
        }
        self.targets.entry(target).or_insert(Bucket { full_at: now }).take(now, TARGET)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sent(limits: &mut Limits, now: Instant, target: IpAddr, tries: usize) -> usize {
        let error = icmp::Error::PortUnreachable;
        (0..tries).filter(|_| limits.allow(now, target, error)).count()
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
        assert!((0..500).all(|_| limits.allow(Instant::ZERO, target, error)));
    }

    #[test]
    fn the_memory_of_targets_is_bounded() {
        let mut limits = Limits::new(&mut Rng::new(1));
        for i in 0..40_000u32 {
            let now = Instant::from_millis(u64::from(i));
            let _ =
                limits.allow(now, std::net::Ipv4Addr::from(i).into(), icmp::Error::TimeExceeded);
            assert!(limits.targets.len() <= TARGETS_MAX);
        }
    }
}
