//! Neighbours: which station has an address, for ARP and neighbour discovery alike.
//!
//! The states are those of RFC 4861 section 7.3.2 and a permanent one. Kept from the kernel: the
//! timers (reachable 30 s, spread over 0.5 to 1.5; delay 5 s; 1 s between probes), three questions
//! to all and three to the known station, and packets that wait in a bounded queue of which the
//! oldest goes first (`unres_qlen`).
//!
//! Left out on purpose: confirmation by transport protocols (a director sees too little of them),
//! proxies, and the kernel's three garbage thresholds; there is one limit.
//!
//! The machine does no sending of its own: what is to be done comes out of [`Neighbours::take`].

use std::collections::VecDeque;
use std::net::IpAddr;
use std::time::Duration;

use crate::packet::{DropReason, Headers, LinkId, Mac, Packet};
use crate::world::{sort_by, Instant, Keyed, Map, Rng};

/// Neighbours that are known at most.
pub const NEIGHBOURS_MAX: usize = 4096;

/// Neighbours that are being asked for the first time, at most: a scan of a network must not drive
/// out those who are there.
pub const INCOMPLETE_MAX: usize = 1024;

/// Packets that wait for one neighbour, and for all together.
pub const QUEUE_MAX: usize = 64;
/// Packets that wait for all neighbours together.
pub const QUEUES_MAX: usize = 1024;

const REACHABLE: Duration = Duration::from_secs(30);
const DELAY: Duration = Duration::from_secs(5);
const RETRANSMIT: Duration = Duration::from_secs(1);
const PROBES: u8 = 3;

/// Timers are looked at no more often than this, so that a walk over all of them stays cheap.
const GRAIN: Duration = Duration::from_millis(20);

/// What is known of a neighbour.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// Asked for, no answer yet.
    Incomplete,
    /// Known to be there until a moment.
    Reachable,
    /// Known, but not whether it is still there.
    Stale,
    /// Used while stale: somebody may yet confirm it.
    Delay,
    /// Being asked whether it is still there.
    Probe,
    /// Told by the operator; never forgotten, never asked.
    Permanent,
}

/// What a message says about a neighbour.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Evidence {
    /// It is worth an entry where there is none (somebody asks for us, so we shall answer).
    pub create: bool,
    /// It answers a question of ours.
    pub solicited: bool,
    /// It replaces what is known.
    pub overrides: bool,
}

/// A packet that waits. Its `link` is still the port that it came in by.
#[derive(Debug, Clone)]
pub struct Waiting {
    /// A finished IP packet.
    pub packet: Packet,
    /// It is our own, not a received one.
    pub own: bool,
}

/// What is to be done for the neighbours.
#[derive(Debug, Clone)]
pub enum Action {
    /// Ask for `target` on `link`: the station `to`, or all.
    Solicit {
        /// Where.
        link: LinkId,
        /// For whom.
        target: IpAddr,
        /// The station that is believed to have it.
        to: Option<Mac>,
        /// Whose packet waits for the answer: the sender of the newest.
        for_whom: Option<IpAddr>,
    },
    /// Send a packet that waited, to this station.
    Send {
        /// Where.
        link: LinkId,
        /// To whom.
        to: Mac,
        /// What.
        waiting: Waiting,
    },
    /// A packet that waited will not be sent.
    Lost {
        /// What.
        waiting: Waiting,
        /// [`DropReason::NeighbourFailed`] or [`DropReason::NeighbourQueue`].
        reason: DropReason,
    },
}

#[derive(Debug, Clone)]
struct Entry {
    state: State,
    mac: Mac,
    /// When a reachable one becomes stale, a delayed one is probed, a probe is repeated.
    until: Instant,
    used: Instant,
    probes: u8,
    queue: VecDeque<Waiting>,
}

type Key = (LinkId, IpAddr);

/// All neighbours of a host.
#[derive(Debug)]
pub struct Neighbours {
    entries: Map<Key, Entry>,
    incomplete: usize,
    waiting: usize,
    actions: VecDeque<Action>,
    next: Option<Instant>,
    rng: Rng,
}

impl Neighbours {
    /// Nobody is known yet.
    pub fn new(mut rng: Rng) -> Self {
        Self {
            entries: Map::with_hasher(Keyed::new(&mut rng)),
            incomplete: 0,
            waiting: 0,
            actions: VecDeque::new(),
            next: None,
            rng,
        }
    }

    /// The operator's word that `mac` has `addr`.
    pub fn add_permanent(&mut self, now: Instant, link: LinkId, addr: IpAddr, mac: Mac) {
        let entry = Entry::new(State::Permanent, mac, now);
        let was = self.entries.insert((link, addr), entry);
        if let Some(mut was) = was {
            self.leave_incomplete(&was);
            self.flush(link, mac, &mut was.queue);
        }
    }

    /// Forgets the neighbours on links that do not stay, and every told one; what was learnt on
    /// the other links is kept.
    pub fn keep(&mut self, stays: impl Fn(LinkId) -> bool) {
        let told = |entry: &Entry| matches!(entry.state, State::Permanent);
        let goes = |(key, entry): (&Key, &Entry)| (told(entry) || !stays(key.0)).then_some(*key);
        let gone: Vec<Key> = self.entries.iter().filter_map(goes).collect();
        for (link, addr) in gone {
            self.remove(link, addr);
        }
    }

    /// Takes back the operator's word.
    pub fn remove(&mut self, link: LinkId, addr: IpAddr) {
        if let Some(entry) = self.entries.remove(&(link, addr)) {
            self.leave_incomplete(&entry);
            self.lose(entry.queue, DropReason::NeighbourFailed);
        }
    }

    /// The station to send to, if one is known. Using a stale neighbour starts its examination.
    pub fn hop(&mut self, now: Instant, link: LinkId, addr: IpAddr) -> Option<Mac> {
        let entry = self.entries.get_mut(&(link, addr))?;
        entry.used = now;
        match entry.state {
            State::Incomplete => return None,
            State::Permanent | State::Delay | State::Probe => return Some(entry.mac),
            State::Reachable if now < entry.until => return Some(entry.mac),
            State::Reachable | State::Stale => {}
        }
        entry.state = State::Delay;
        entry.until = now.after(DELAY);
        let (mac, until) = (entry.mac, entry.until);
        self.expect(until);
        Some(mac)
    }

    /// Lets a packet wait for a neighbour, who is asked for if nobody has asked yet. If the
    /// neighbour is known by now, the packet is sent at once. All comes out of [`take`](Self::take).
    ///
    /// # Errors
    /// [`DropReason::NeighbourLimit`] if there is no room for another neighbour,
    /// [`DropReason::NeighbourQueue`] if too many packets wait for others.
    pub fn wait(
        &mut self,
        now: Instant,
        link: LinkId,
        addr: IpAddr,
        waiting: Waiting,
    ) -> Result<(), DropReason> {
        if let Some(to) = self.hop(now, link, addr) {
            self.actions.push_back(Action::Send { link, to, waiting });
            return Ok(());
        }
        self.solicit_first(now, link, addr, sender(&waiting))?;
        let full = self.waiting >= QUEUES_MAX;
        let queue = &mut self.entries.get_mut(&(link, addr)).expect("made above").queue;
        if queue.len() >= QUEUE_MAX || (full && !queue.is_empty()) {
            let waiting = queue.pop_front().expect("it is not empty");
            self.actions.push_back(Action::Lost { waiting, reason: DropReason::NeighbourQueue });
        } else if full {
            return Err(DropReason::NeighbourQueue);
        } else {
            self.waiting += 1;
        }
        queue.push_back(waiting);
        Ok(())
    }

    /// Takes in what a message says: `mac` has `addr`. `None` stands for a message that names no
    /// station. Follows RFC 4861 section 7.2.5; ARP says which of its messages count as what.
    /// Gives whether anything is known of the neighbour now.
    pub fn learn(
        &mut self,
        now: Instant,
        (link, addr): (LinkId, IpAddr),
        mac: Option<Mac>,
        evidence: Evidence,
    ) -> bool {
        let Some(entry) = self.entries.get_mut(&(link, addr)) else {
            return mac
                .is_some_and(|mac| evidence.create && self.insert_stale(now, link, addr, mac));
        };
        let reachable_until = now.after(spread(REACHABLE, &mut self.rng));
        match (entry.state, mac) {
            (State::Permanent, _) => {}
            (State::Incomplete, None) => return false,
            (State::Incomplete, Some(mac)) => {
                entry.settle(mac, evidence.solicited, reachable_until);
                let mut queue = std::mem::take(&mut entry.queue);
                self.incomplete -= 1;
                self.flush(link, mac, &mut queue);
            }
            (_, Some(mac)) if mac != entry.mac && !evidence.overrides => {
                if entry.state == State::Reachable {
                    entry.state = State::Stale;
                }
            }
            (_, mac) => {
                let changed = mac.is_some_and(|mac| mac != entry.mac);
                if evidence.solicited || changed {
                    entry.settle(mac.unwrap_or(entry.mac), evidence.solicited, reachable_until);
                }
            }
        }
        true
    }

    /// Does what is due: asks again, gives up, begins to probe.
    pub fn poll(&mut self, now: Instant) {
        if self.next.is_none_or(|next| now < next) {
            return;
        }
        let mut next: Option<Instant> = None;
        let mut failed = Vec::new();
        for (&(link, target), entry) in &mut self.entries {
            if !matches!(entry.state, State::Incomplete | State::Delay | State::Probe) {
                continue;
            }
            if entry.until <= now {
                if entry.state == State::Delay {
                    entry.state = State::Probe;
                    entry.probes = 0;
                }
                if entry.probes >= PROBES {
                    failed.push((link, target));
                    continue;
                }
                entry.probes += 1;
                entry.until = now.after(RETRANSMIT);
                let to = (entry.state == State::Probe).then_some(entry.mac);
                let for_whom = entry.queue.back().and_then(sender);
                self.actions.push_back(Action::Solicit { link, target, to, for_whom });
            }
            next = Some(next.map_or(entry.until, |next| next.min(entry.until)));
        }
        self.next = next.map(|next| next.max(now.after(GRAIN)));
        // The order of a map depends on its key; what is seen outside shall not.
        sort_by(&mut failed, Ord::cmp);
        for (link, addr) in failed {
            self.remove(link, addr);
        }
    }

    /// When [`poll`](Self::poll) is due.
    pub const fn deadline(&self) -> Option<Instant> {
        self.next
    }

    /// The next thing to be done.
    pub fn take(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }

    /// Received packets and our own that wait now.
    pub const fn waiting(&self) -> usize {
        self.waiting
    }

    /// What is known of a neighbour.
    pub fn state(&self, now: Instant, link: LinkId, addr: IpAddr) -> Option<State> {
        self.entries.get(&(link, addr)).map(|entry| match entry.state {
            State::Reachable if now >= entry.until => State::Stale,
            state => state,
        })
    }

    /// Makes an incomplete entry and asks for it, unless there is one.
    fn solicit_first(
        &mut self,
        now: Instant,
        link: LinkId,
        addr: IpAddr,
        for_whom: Option<IpAddr>,
    ) -> Result<(), DropReason> {
        if self.entries.contains_key(&(link, addr)) {
            return Ok(());
        }
        if self.incomplete >= INCOMPLETE_MAX {
            return Err(DropReason::NeighbourLimit);
        }
        self.make_room(now)?;
        let mut entry = Entry::new(State::Incomplete, Mac::default(), now);
        entry.probes = 1;
        entry.until = now.after(RETRANSMIT);
        self.expect(entry.until);
        self.entries.insert((link, addr), entry);
        self.incomplete += 1;
        self.actions.push_back(Action::Solicit { link, target: addr, to: None, for_whom });
        Ok(())
    }

    fn insert_stale(&mut self, now: Instant, link: LinkId, addr: IpAddr, mac: Mac) -> bool {
        if self.make_room(now).is_err() {
            return false;
        }
        self.entries.insert((link, addr), Entry::new(State::Stale, mac, now));
        true
    }

    /// Forgets the neighbour that was used the longest ago if all places are taken: a stale one, or
    /// else a reachable one.
    fn make_room(&mut self, now: Instant) -> Result<(), DropReason> {
        if self.entries.len() < NEIGHBOURS_MAX {
            return Ok(());
        }
        let rank = |entry: &Entry| match entry.state {
            State::Stale => Some(0),
            State::Reachable if now >= entry.until => Some(0),
            State::Reachable => Some(1),
            State::Incomplete | State::Delay | State::Probe | State::Permanent => None,
        };
        let candidates = self
            .entries
            .iter()
            .filter_map(|(key, entry)| rank(entry).map(|rank| (rank, entry.used, *key)));
        let (_, _, key) = candidates.min().ok_or(DropReason::NeighbourLimit)?;
        self.entries.remove(&key);
        Ok(())
    }

    fn flush(&mut self, link: LinkId, to: Mac, queue: &mut VecDeque<Waiting>) {
        self.waiting -= queue.len();
        self.actions.extend(queue.drain(..).map(|waiting| Action::Send { link, to, waiting }));
    }

    fn lose(&mut self, queue: VecDeque<Waiting>, reason: DropReason) {
        self.waiting -= queue.len();
        self.actions.extend(queue.into_iter().map(|waiting| Action::Lost { waiting, reason }));
    }

    fn leave_incomplete(&mut self, entry: &Entry) {
        if entry.state == State::Incomplete {
            self.incomplete -= 1;
        }
    }

    fn expect(&mut self, at: Instant) {
        self.next = Some(self.next.map_or(at, |next| next.min(at)));
    }
}

impl Entry {
    const fn new(state: State, mac: Mac, now: Instant) -> Self {
        Self { state, mac, until: now, used: now, probes: 0, queue: VecDeque::new() }
    }

    const fn settle(&mut self, mac: Mac, solicited: bool, reachable_until: Instant) {
        self.mac = mac;
        self.state = if solicited { State::Reachable } else { State::Stale };
        self.until = reachable_until;
    }
}

/// Whom a packet is from.
fn sender(waiting: &Waiting) -> Option<IpAddr> {
    Headers::quoted(waiting.packet.bytes()).ok().map(|headers| headers.src)
}

/// `base` times a random factor from 0.5 to 1.5 (RFC 4861 section 6.3.2).
fn spread(base: Duration, rng: &mut Rng) -> Duration {
    base / 2 + base.mul_f64(f64::from(rng.next_u16()) / f64::from(u16::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINK: LinkId = LinkId(0);
    const MAC: Mac = Mac([2, 0, 0, 0, 0, 9]);
    const OTHER: Mac = Mac([2, 0, 0, 0, 0, 8]);
    const ANSWER: Evidence = Evidence { create: false, solicited: true, overrides: true };
    const REQUEST: Evidence = Evidence { create: true, solicited: false, overrides: true };

    fn addr(n: u32) -> IpAddr {
        std::net::Ipv4Addr::from(0x0a00_0000 + n).into()
    }

    fn ms(ms: u64) -> Instant {
        Instant::from_millis(ms)
    }

    fn new() -> Neighbours {
        Neighbours::new(Rng::new(5))
    }

    fn waiting(tag: u8) -> Waiting {
        Waiting { packet: Packet::copy_of(LinkId(1), &[tag]), own: false }
    }

    /// The actions so far, short: `?` asks all, `p` probes, a digit is sent, `!` and a digit lost.
    fn log(n: &mut Neighbours) -> String {
        let mut log = String::new();
        while let Some(action) = n.take() {
            match action {
                Action::Solicit { to: None, .. } => log.push('?'),
                Action::Solicit { to: Some(_), .. } => log.push('p'),
                Action::Send { waiting, .. } => log += &waiting.packet.bytes()[0].to_string(),
                Action::Lost { waiting, .. } => {
                    log += &format!("!{}", waiting.packet.bytes()[0]);
                }
            }
        }
        log
    }

    #[test]
    fn a_silent_neighbour_is_asked_three_times_and_then_given_up() {
        let mut n = new();
        n.wait(ms(0), LINK, addr(1), waiting(1)).unwrap();
        n.wait(ms(10), LINK, addr(1), waiting(2)).unwrap();
        assert_eq!(log(&mut n), "?");
        for (at, want) in [(999, ""), (1000, "?"), (1999, ""), (2000, "?"), (2999, "")] {
            n.poll(ms(at));
            assert_eq!(log(&mut n), want, "at {at} ms");
        }
        assert_eq!(n.deadline(), Some(ms(3000)));
        n.poll(ms(3000));
        assert_eq!(log(&mut n), "!1!2");
        assert_eq!((n.state(ms(3000), LINK, addr(1)), n.waiting()), (None, 0));
        assert_eq!(n.deadline(), None);
    }

    #[test]
    fn an_answer_sends_what_waited_in_order() {
        let mut n = new();
        n.wait(ms(0), LINK, addr(1), waiting(1)).unwrap();
        n.wait(ms(0), LINK, addr(1), waiting(2)).unwrap();
        assert_eq!(n.hop(ms(0), LINK, addr(1)), None);
        assert!(n.learn(ms(500), (LINK, addr(1)), Some(MAC), ANSWER));
        assert_eq!(log(&mut n), "?12");
        assert_eq!(n.hop(ms(501), LINK, addr(1)), Some(MAC));
        assert_eq!(n.state(ms(501), LINK, addr(1)), Some(State::Reachable));
        n.wait(ms(502), LINK, addr(1), waiting(3)).unwrap();
        assert_eq!(log(&mut n), "3");
    }

    #[test]
    fn a_neighbour_walks_from_reachable_over_stale_delay_and_probe_to_gone() {
        let mut n = new();
        n.wait(ms(0), LINK, addr(1), waiting(1)).unwrap();
        n.learn(ms(0), (LINK, addr(1)), Some(MAC), ANSWER);
        log(&mut n);
        assert_eq!(n.state(ms(14_999), LINK, addr(1)), Some(State::Reachable));
        assert_eq!(n.state(ms(45_001), LINK, addr(1)), Some(State::Stale));
        n.poll(ms(50_000));
        assert_eq!(log(&mut n), "", "nobody asks for a neighbour that is not used");
        assert_eq!(n.hop(ms(60_000), LINK, addr(1)), Some(MAC));
        assert_eq!(n.state(ms(60_000), LINK, addr(1)), Some(State::Delay));
        assert_eq!(n.deadline(), Some(ms(65_000)));
        for at in [65_000, 66_000, 67_000] {
            n.poll(ms(at));
            assert_eq!(log(&mut n), "p");
            assert_eq!(n.hop(ms(at), LINK, addr(1)), Some(MAC), "used while it is probed");
        }
        n.poll(ms(68_000));
        assert_eq!(n.hop(ms(68_000), LINK, addr(1)), None);
    }

    #[test]
    fn a_probe_that_is_answered_makes_reachable_again() {
        let mut n = new();
        n.learn(ms(0), (LINK, addr(1)), Some(MAC), REQUEST);
        assert_eq!(n.state(ms(0), LINK, addr(1)), Some(State::Stale));
        n.hop(ms(0), LINK, addr(1));
        n.poll(ms(5000));
        assert_eq!(log(&mut n), "p");
        n.learn(ms(5001), (LINK, addr(1)), None, ANSWER);
        assert_eq!(n.state(ms(5001), LINK, addr(1)), Some(State::Reachable));
        n.poll(ms(6500));
        assert_eq!((log(&mut n).as_str(), n.deadline()), ("", None));
    }

    #[test]
    fn another_station_needs_the_override_flag() {
        let mut n = new();
        let quiet = Evidence { create: false, solicited: false, overrides: false };
        n.wait(ms(0), LINK, addr(1), waiting(1)).unwrap();
        n.learn(ms(0), (LINK, addr(1)), Some(MAC), ANSWER);
        n.learn(ms(1), (LINK, addr(1)), Some(OTHER), quiet);
        assert_eq!(n.state(ms(1), LINK, addr(1)), Some(State::Stale));
        assert_eq!(n.hop(ms(1), LINK, addr(1)), Some(MAC));
        n.learn(ms(2), (LINK, addr(1)), Some(OTHER), Evidence { overrides: true, ..quiet });
        assert_eq!(n.hop(ms(2), LINK, addr(1)), Some(OTHER));
    }

    #[test]
    fn a_permanent_neighbour_is_neither_asked_nor_changed() {
        let mut n = new();
        n.wait(ms(0), LINK, addr(1), waiting(1)).unwrap();
        n.add_permanent(ms(0), LINK, addr(1), MAC);
        assert_eq!(log(&mut n), "?1");
        n.learn(ms(1), (LINK, addr(1)), Some(OTHER), ANSWER);
        assert_eq!(n.hop(ms(1_000_000), LINK, addr(1)), Some(MAC));
        n.poll(ms(2_000_000));
        assert_eq!(log(&mut n), "");
        assert_eq!(n.incomplete, 0);
    }

    #[test]
    fn the_oldest_packet_of_a_long_queue_goes() {
        let mut n = new();
        for tag in 0..70 {
            n.wait(ms(0), LINK, addr(1), waiting(tag)).unwrap();
        }
        assert_eq!(log(&mut n), "?!0!1!2!3!4!5");
        assert_eq!(n.waiting(), QUEUE_MAX);
    }

    #[test]
    fn all_queues_together_are_bounded_too() {
        let mut n = new();
        for i in 0..20 {
            for tag in 0..64 {
                let fits = n.waiting() < QUEUES_MAX;
                assert_eq!(n.wait(ms(0), LINK, addr(i), waiting(tag)).is_ok(), fits);
            }
        }
        assert_eq!(n.waiting(), QUEUES_MAX);
    }

    #[test]
    fn a_scan_neither_outgrows_the_limit_nor_drives_out_the_permanent() {
        let mut n = new();
        n.add_permanent(ms(0), LINK, addr(0), MAC);
        for i in 1..6000 {
            n.learn(ms(u64::from(i)), (LINK, addr(i)), Some(MAC), REQUEST);
        }
        assert_eq!(n.entries.len(), NEIGHBOURS_MAX);
        assert_eq!(n.hop(ms(7000), LINK, addr(1)), None, "the oldest went");
        assert_eq!(n.hop(ms(7000), LINK, addr(5999)), Some(MAC));
        let refused = (10_000..20_000)
            .filter(|&i| n.wait(ms(7000), LINK, addr(i), waiting(0)).is_err())
            .count();
        assert_eq!(refused, 10_000 - INCOMPLETE_MAX);
        assert_eq!(n.entries.len(), NEIGHBOURS_MAX);
        assert_eq!(n.hop(ms(7000), LINK, addr(0)), Some(MAC));
    }
}
