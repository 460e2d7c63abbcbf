//! What the director does when memory is short, or always when it is told so: `drop_entry`,
//! `drop_packet`, `secure_tcp`.
//!
//! Kept from the kernel: modes 1 and 2 are the same wish, of which 1 says that memory suffices and 2
//! that it does not; the countdown of dropped packets, which begins with a drop; which entries may be
//! dropped at random, a 32nd of the table each second, and how often a young conversation is spared.
//!
//! Left out on purpose: looking at the memory. Whoever runs the director tells it
//! ([`Director::set_memory`]); until it is told, memory suffices.

use std::time::Duration;

use super::Director;
use crate::conn::state::{SctpState, TcpState};
use crate::conn::{Conn, ConnId, Flags, State};
use crate::world::{Instant, Knobs, Rng};

/// How often entries are dropped, and modes looked at.
const EVERY: Duration = Duration::from_secs(1);

/// The mode of a defence that acts always.
const ALWAYS: u32 = 3;

/// An entry whose last packet is younger is spared.
const YOUNG_S: u64 = 60;

/// Conversations with more packets from the client are spared.
const PACKETS_MAX: usize = 8;

/// Counters of the defences.
#[derive(Debug)]
pub(super) struct Defence {
    /// Free and buffer pages.
    available_pages: u64,
    drop_counter: i64,
    /// By packets from the client: how many candidates are still spared.
    spared: [u8; PACKETS_MAX + 1],
    due: Instant,
    rng: Rng,
}

impl Defence {
    pub(super) const fn new(rng: Rng) -> Self {
        let (available_pages, drop_counter) = (u64::MAX, 0);
        let spared = [0; PACKETS_MAX + 1];
        Self { available_pages, drop_counter, spared, due: Instant::ZERO, rng }
    }

    fn is_short(&self, knobs: &Knobs) -> bool {
        self.available_pages < u64::from(knobs.amemthresh)
    }

    fn acts(&self, mode: u32, knobs: &Knobs) -> bool {
        mode == ALWAYS || (mode != 0 && self.is_short(knobs))
    }

    /// Whether TCP takes its second set of tables.
    pub(super) fn secures_tcp(&self, knobs: &Knobs) -> bool {
        knobs.secure_tcp != 0 && self.acts(knobs.secure_tcp, knobs)
    }

    /// Whether a packet that would make a connection is to be dropped: one in so many.
    pub(super) fn drops_packet(&mut self, knobs: &Knobs) -> bool {
        if knobs.drop_packet == 0 || !self.acts(knobs.drop_packet, knobs) {
            return false;
        }
        let rate = self.rate(knobs);
        self.drop_counter -= 1;
        if rate == 0 || self.drop_counter > 0 {
            return false;
        }
        self.drop_counter = rate;
        true
    }

    /// The automatic mode counts afresh each time it is looked at.
    fn refill(&mut self, knobs: &Knobs) {
        if matches!(knobs.drop_packet, 1 | 2) && self.is_short(knobs) {
            self.drop_counter = self.rate(knobs);
        }
    }

    fn rate(&self, knobs: &Knobs) -> i64 {
        if knobs.drop_packet == ALWAYS {
            return i64::from(knobs.am_droprate);
        }
        let threshold = u64::from(knobs.amemthresh);
        let missing = threshold.saturating_sub(self.available_pages).max(1);
        i64::try_from(threshold / missing).unwrap_or(i64::MAX)
    }

    /// Whether an old entry is the one in so many that goes.
    fn drops_candidate(&mut self, now: Instant, conn: &Conn) -> bool {
        let left = conn.deadline.since(now);
        if left > Duration::from_secs(u64::from(conn.timeout_s).saturating_sub(YOUNG_S)) {
            return false;
        }
        let Ok(packets @ 1..=PACKETS_MAX) = usize::try_from(conn.in_packets) else { return false };
        let spared = &mut self.spared[packets];
        *spared = spared.saturating_sub(1);
        if *spared > 0 {
            return false;
        }
        *spared = u8::try_from(packets).unwrap_or(u8::MAX);
        true
    }
}

impl Director {
    /// How many pages of memory are free or in buffers; less than `amemthresh` wakes the automatic
    /// defences.
    pub const fn set_memory(&mut self, pages: u64) {
        self.defence.available_pages = pages;
    }

    /// Whether a defence depends on [`set_memory`](Self::set_memory).
    pub const fn minds_memory(&self) -> bool {
        let knobs = &self.knobs;
        matches!(knobs.drop_entry, 1 | 2)
            || matches!(knobs.drop_packet, 1 | 2)
            || matches!(knobs.secure_tcp, 1 | 2)
    }

    /// Does each second what the defences do by time.
    pub(super) fn defend(&mut self, now: Instant) {
        if now < self.defence.due {
            return;
        }
        self.defence.due = now.after(EVERY);
        let short = self.defence.is_short(&self.knobs);
        let knobs = &mut self.knobs;
        for mode in [&mut knobs.drop_entry, &mut knobs.drop_packet, &mut knobs.secure_tcp] {
            if matches!(*mode, 1 | 2) {
                *mode = if short { 2 } else { 1 };
            }
        }
        self.defence.refill(&self.knobs);
        if self.defence.acts(self.knobs.drop_entry, &self.knobs) {
            self.drop_entries(now);
        }
    }

    /// When [`defend`](Self::defend) has something to do.
    pub(super) fn defence_due(&self) -> Option<Instant> {
        let wanted = self.minds_memory() || self.knobs.drop_entry != 0;
        wanted.then_some(self.defence.due)
    }

    /// Drops entries of a 32nd of the buckets, chosen at random.
    fn drop_entries(&mut self, now: Instant) {
        for _ in 0..self.table.bucket_count() / 32 {
            let bucket = self.defence.rng.next_u64();
            let ids: Vec<ConnId> = self.table.ids_of_bucket(bucket).collect();
            for id in ids {
                // What controls an entry may lie in the same bucket, and go with it.
                let is_free = self.table.is_there(id) && self.table.get(id).controls() == 0;
                if is_free && self.is_dropped(now, id) {
                    self.end_early(now, id);
                }
            }
        }
    }

    fn is_dropped(&mut self, now: Instant, id: ConnId) -> bool {
        let conn = self.table.get(id);
        match conn.state {
            State::Assured if !self.is_of_one_packet(conn) => false,
            State::None if conn.flags.has(Flags::TEMPLATE) && !self.is_of_one_packet(conn) => true,
            State::Tcp(TcpState::SynRecv | TcpState::SynAck)
            | State::Sctp(SctpState::Init1 | SctpState::Init) => true,
            State::Tcp(TcpState::Established)
            | State::Sctp(SctpState::Established)
            | State::None
            | State::Assured
            | State::Udp => self.defence.drops_candidate(now, conn),
            State::Tcp(_) | State::Sctp(_) => false,
        }
    }

    /// Whether a template belongs to a service of one-packet scheduling.
    fn is_of_one_packet(&self, template: &Conn) -> bool {
        let service = self.services.dest(template.dest_id).service();
        service.is_some_and(|id| self.services.service(id).spec.one_packet)
    }

    /// Ends a connection before its time; its template goes with its last connection unless one was
    /// ever established.
    fn end_early(&mut self, now: Instant, id: ConnId) {
        let template = self.table.controller(id);
        self.end(now, id);
        let Some(template) = template else { return };
        let conn = self.table.get(template);
        if conn.controls() == 0 && conn.state != State::Assured {
            self.end(now, template);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::rules::load;
    use crate::packet::{proto, Endpoint};

    fn dropped(defence: &mut Defence, knobs: &Knobs) -> String {
        let each = |_| if defence.drops_packet(knobs) { 'x' } else { '.' };
        (0..7).map(each).collect()
    }

    #[test]
    fn every_so_many_packets_one_is_dropped_beginning_with_the_first() {
        let mut defence = Defence::new(Rng::new(1));
        let mut knobs = Knobs { drop_packet: 3, am_droprate: 3, ..Knobs::default() };
        assert_eq!(dropped(&mut defence, &knobs), "x..x..x");
        knobs.drop_packet = 1;
        assert_eq!(dropped(&mut defence, &knobs), ".......");
        defence.available_pages = 512;
        defence.refill(&knobs);
        assert_eq!(dropped(&mut defence, &knobs), ".x.x.x.");
        knobs.am_droprate = 0;
        knobs.drop_packet = 3;
        assert_eq!(dropped(&mut defence, &knobs), ".......");
    }

    #[test]
    fn an_entry_that_went_with_another_of_its_bucket_does_not_go_again() {
        let rules = "-A -t 10.0.0.1:21 -s rr\n-a -t 10.0.0.1:21 -r 10.0.0.2:21 -m\n";
        let config = load("r", rules).expect("good rules");
        let (service, dests) = config.services.values().next().expect("there is one");
        let mut director = Director::new(100_000, Rng::new(1));
        assert_eq!(director.add_service(service.clone()), Ok(()));
        assert_eq!(director.add_dest(&service.key, dests[0].clone()), Ok(()));
        let dest = director.services.iter().next().expect("it was added").dests[0];
        let end = |last, port| Endpoint::new([10, 0, 0, last].into(), port);
        let mut pair = |port: u16| {
            let mut half = |port| {
                let mut conn = Conn::new(proto::TCP, end(9, port), end(1, 21), end(2, 21));
                conn.state = State::Tcp(TcpState::SynRecv);
                director.attach(&mut conn, dest);
                director.enter(Instant::ZERO, conn, None).expect("there is room")
            };
            let (control, data) = (half(port), half(port.wrapping_mul(31)));
            director.table.control(control, data);
            let count = director.table.bucket_count() as u64;
            let holds = |id, bucket| director.table.ids_of_bucket(bucket).any(|at| at == id);
            let together = (0..count).any(|bucket| holds(control, bucket) && holds(data, bucket));
            if !together {
                director.end(Instant::ZERO, data);
                director.end(Instant::ZERO, control);
            }
            together
        };
        assert!((1..60_000).any(&mut pair), "two are in one bucket");
        for _ in 0..1000 {
            director.drop_entries(Instant::ZERO);
            assert_eq!(director.table.len(), director.table.iter().count());
        }
        assert!(director.table.is_empty());
    }

    #[test]
    fn secure_tcp_follows_its_mode_and_the_memory() {
        let mut defence = Defence::new(Rng::new(1));
        let secure = |defence: &Defence| {
            (0..4)
                .map(|mode| {
                    let knobs = Knobs { secure_tcp: mode, ..Knobs::default() };
                    defence.secures_tcp(&knobs)
                })
                .collect::<Vec<_>>()
        };
        assert_eq!(secure(&defence), [false, false, false, true]);
        defence.available_pages = 1023;
        assert_eq!(secure(&defence), [false, true, true, true]);
    }
}
