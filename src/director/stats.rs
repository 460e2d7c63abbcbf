//! Counters of services, destinations and the whole, and how fast they move.
//!
//! Kept from the kernel: a request counts before it is sent on, with its IP length as received, also
//! when it is dropped afterwards for TTL, MTU or a missing route; what is shown is a sample taken
//! every two seconds, by `ip_vs_est.c`'s arithmetic; zeroing takes the last sample as the new zero,
//! so that what was counted since then appears afterwards.
//!
//! Unlike the kernel's timer, a sample of many services is taken in portions, so that no packet waits
//! for all of them. Left out on purpose: `run_estimation`.

use std::time::Duration;

use super::Director;
use crate::config::{Refusal, ServiceKey};
use crate::world::Instant;

/// How often samples are taken.
const SAMPLE_EVERY: Duration = Duration::from_secs(2);

/// Services and destinations that are looked at in one go.
const PORTION: usize = 2048;

/// Five counters.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Connections made by the scheduler.
    pub conns: u64,
    /// Packets from clients.
    pub in_packets: u64,
    /// Packets from servers.
    pub out_packets: u64,
    /// Bytes of those from clients, IP header included.
    pub in_bytes: u64,
    /// Bytes of those from servers.
    pub out_bytes: u64,
}

impl Counts {
    /// What came since `earlier`.
    #[must_use]
    pub const fn since(&self, earlier: &Self) -> Self {
        Self {
            conns: self.conns.wrapping_sub(earlier.conns),
            in_packets: self.in_packets.wrapping_sub(earlier.in_packets),
            out_packets: self.out_packets.wrapping_sub(earlier.out_packets),
            in_bytes: self.in_bytes.wrapping_sub(earlier.in_bytes),
            out_bytes: self.out_bytes.wrapping_sub(earlier.out_bytes),
        }
    }
}

/// What has gone through since the beginning, and the last sample of it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Stats {
    /// Connections made by the scheduler.
    pub conns: u64,
    /// Packets from clients.
    pub in_packets: u64,
    /// Packets from servers.
    pub out_packets: u64,
    /// Bytes of those from clients, IP header included.
    pub in_bytes: u64,
    /// Bytes of those from servers.
    pub out_bytes: u64,
    sampled: Counts,
    zero: Counts,
    estimate: Estimate,
}

impl Stats {
    /// Counts a packet of `bytes` from a client.
    pub(super) const fn count_in(&mut self, bytes: u16) {
        self.in_packets = self.in_packets.wrapping_add(1);
        self.in_bytes = self.in_bytes.wrapping_add(bytes as u64);
    }

    /// Counts a packet of `bytes` from a server.
    pub(super) const fn count_out(&mut self, bytes: u16) {
        self.out_packets = self.out_packets.wrapping_add(1);
        self.out_bytes = self.out_bytes.wrapping_add(bytes as u64);
    }

    /// All that was counted, up to now.
    pub const fn live(&self) -> Counts {
        Counts {
            conns: self.conns,
            in_packets: self.in_packets,
            out_packets: self.out_packets,
            in_bytes: self.in_bytes,
            out_bytes: self.out_bytes,
        }
    }

    /// What listings show: counted from the zero point to the last sample.
    pub const fn shown(&self) -> Counts {
        self.sampled.since(&self.zero)
    }

    /// Connections, packets and bytes a second, as listings show them.
    pub const fn rates(&self) -> Counts {
        self.estimate.shown()
    }

    pub(super) fn sample(&mut self) {
        let live = self.live();
        self.estimate.step(&live.since(&self.sampled));
        self.sampled = live;
    }

    /// Takes the last sample as zero.
    pub(super) fn reset(&mut self) {
        self.zero = self.sampled;
        self.estimate = Estimate::default();
    }
}

/// Smoothed rates: connections and packets in 1/1024, bytes in 1/32 a second.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Estimate(Counts);

impl Estimate {
    fn step(&mut self, new: &Counts) {
        let old = &mut self.0;
        for (rate, delta, per_tick) in [
            (&mut old.conns, new.conns, 512),
            (&mut old.in_packets, new.in_packets, 512),
            (&mut old.out_packets, new.out_packets, 512),
            (&mut old.in_bytes, new.in_bytes, 16),
            (&mut old.out_bytes, new.out_bytes, 16),
        ] {
            *rate = smooth(*rate, delta.wrapping_mul(per_tick));
        }
    }

    const fn shown(&self) -> Counts {
        Counts {
            conns: self.0.conns.wrapping_add(511) >> 10,
            in_packets: self.0.in_packets.wrapping_add(511) >> 10,
            out_packets: self.0.out_packets.wrapping_add(511) >> 10,
            in_bytes: self.0.in_bytes.wrapping_add(15) >> 5,
            out_bytes: self.0.out_bytes.wrapping_add(15) >> 5,
        }
    }
}

/// A quarter of the way from `old` to `new`, rounded down also when going down.
const fn smooth(old: u64, new: u64) -> u64 {
    let step = i64::from_ne_bytes(new.wrapping_sub(old).to_ne_bytes()) >> 2;
    old.wrapping_add(u64::from_ne_bytes(step.to_ne_bytes()))
}

/// How far the sample of this round has come.
#[derive(Debug)]
pub(super) struct Sampling {
    due: Instant,
    /// The next place to look at; none between rounds.
    next: Option<usize>,
}

impl Sampling {
    pub(super) const fn new() -> Self {
        Self { due: Instant::ZERO, next: None }
    }
}

impl Director {
    /// Goes on with a sample that is due.
    pub fn sample(&mut self, now: Instant) {
        let from = match self.sampling.next {
            Some(from) => from,
            None if now >= self.sampling.due && self.knobs.run_estimation => {
                self.sampling.due = now.after(SAMPLE_EVERY);
                self.total.sample();
                0
            }
            None => return,
        };
        let places = self.services.places();
        let to = places.min(from.saturating_add(PORTION));
        self.services.stats_at(from..to).for_each(Stats::sample);
        self.sampling.next = (to < places).then_some(to);
    }

    /// When [`sample`](Self::sample) has something to do, if anything may move.
    pub(super) fn sample_deadline(&self) -> Option<Instant> {
        if self.sampling.next.is_some() {
            return Some(Instant::ZERO);
        }
        let idle = self.services.is_empty() && self.total.rates() == Counts::default();
        (self.knobs.run_estimation && !idle).then_some(self.sampling.due)
    }

    /// `-Z`: takes the last sample as zero; of one service with its destinations, or of everything.
    ///
    /// # Errors
    /// [`Refusal::NoSuchService`].
    pub fn zero(&mut self, key: Option<&ServiceKey>) -> Result<(), Refusal> {
        let Some(key) = key else {
            self.total.reset();
            let places = self.services.places();
            self.services.stats_at(0..places).for_each(Stats::reset);
            return Ok(());
        };
        let id = self.services.find(key).ok_or(Refusal::NoSuchService)?;
        self.services.service_mut(id).stats.reset();
        for dest in self.services.service(id).dests.clone() {
            self.services.dest_mut(dest).stats.reset();
        }
        Ok(())
    }
}

/// Connections of TCP and SCTP to a server since one was established last.
#[derive(Debug, Clone, Copy, Default)]
pub struct Tries {
    /// How many.
    pub count: u32,
    /// When the first of them was begun.
    pub since: Instant,
    /// How many packets the server had sent through us then.
    pub after: u64,
}

impl Tries {
    /// One is begun; the server has sent so many packets through us.
    pub(super) const fn begin(&mut self, now: Instant, out_packets: u64) {
        if self.count == 0 {
            self.since = now;
            self.after = out_packets;
        }
        self.count = self.count.saturating_add(1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_fades_as_the_kernel_lets_it_fade() {
        let mut stats = Stats { conns: 33, in_packets: 33, in_bytes: 1320, ..Stats::default() };
        let mut bytes = Vec::new();
        let mut conns = Vec::new();
        for _ in 0..9 {
            stats.sample();
            bytes.push(stats.rates().in_bytes);
            conns.push(stats.rates().conns);
        }
        assert_eq!(bytes[..8], [165, 124, 93, 70, 52, 39, 29, 22]);
        assert_eq!(conns, [4, 3, 2, 2, 1, 1, 1, 1, 0]);
    }

    #[test]
    fn a_steady_rate_is_approached_by_quarters() {
        let mut stats = Stats::default();
        let mut shown = Vec::new();
        for _ in 0..3 {
            stats.in_packets += 2000;
            stats.sample();
            shown.push(stats.rates().in_packets);
        }
        assert_eq!(shown, [250, 437, 578]);
    }

    #[test]
    fn a_sample_of_many_services_is_taken_in_portions_and_on_time() {
        use crate::config::rules::load;
        use crate::world::Rng;
        let rules: String =
            (0..3 * PORTION).map(|i| format!("-A -t 10.{}.{}.1:80\n", i / 250, i % 250)).collect();
        let config = load("r", &rules).expect("good rules");
        let mut director = Director::new(10, Rng::new(1));
        for (spec, _) in config.services.values() {
            director.add_service(spec.clone()).expect("a new service");
        }
        for place in director.services.stats_at(0..3 * PORTION) {
            place.in_packets = 2048;
        }
        let sampled = |director: &Director| {
            director.services.iter().filter(|service| service.stats.shown().in_packets > 0).count()
        };
        let now = Instant::from_millis(10);
        assert_eq!(director.sample_deadline(), Some(Instant::ZERO));
        for portion in 1..=3 {
            director.sample(now);
            assert_eq!(sampled(&director), portion * PORTION);
        }
        assert_eq!(director.sample_deadline(), Some(now.after(SAMPLE_EVERY)));
        let key = *config.services.keys().next().expect("one");
        assert_eq!(director.zero(Some(&key)), Ok(()));
        assert_eq!(sampled(&director), 3 * PORTION - 1);
        assert_eq!(director.zero(None), Ok(()));
        assert_eq!(sampled(&director), 0);
        let none = ServiceKey::Mark { family: crate::packet::Family::V4, mark: 1 };
        assert_eq!(director.zero(Some(&none)), Err(Refusal::NoSuchService));
    }

    #[test]
    fn zeroing_forgets_what_was_sampled_and_not_what_came_since() {
        let mut stats = Stats { in_packets: 10, ..Stats::default() };
        assert_eq!(stats.shown().in_packets, 0);
        stats.sample();
        stats.in_packets += 3;
        assert_eq!(stats.shown().in_packets, 10);
        stats.reset();
        assert_eq!((stats.shown(), stats.rates()), (Counts::default(), Counts::default()));
        stats.sample();
        assert_eq!(stats.shown().in_packets, 3);
        assert_eq!(stats.live().in_packets, 13);
    }
}
