//! The side that learns and answers: what the fast side punts ends here.
//!
//! Every packet handed to [`Slow::handle`] has one [`Outcome`], so that the account of frames stays
//! whole: received is forwarded, answered, dropped under a name, or waiting. What waits (for a
//! neighbour, for its other fragments) is settled later and counted in [`Counters`].
//!
//! Frames to be sent come out of [`Slow::take`]. ICMP errors and resets do not go there by themselves: they
//! come out of [`Slow::take_error`] as IP packets, so that the director may count or rewrite what
//! is said about its connections, and are sent by [`Slow::send`]. That is the kernel's order, where
//! such errors pass the hook for local output.
//!
//! Kept from the kernel: the rate limits of errors, who is told what, reassembly before the director
//! sees a packet. Left out on purpose: any socket; nobody but ICMP listens on our addresses.

mod discovery;
pub mod fragment;
mod local;

use std::collections::VecDeque;
use std::net::IpAddr;
use std::time::Duration;

use crate::net::limit::Limits;
use crate::net::neigh::{Action, Waiting};
use crate::net::{frame, is_link_local, Hop, Router};
use crate::packet::icmp::{self, Error, Source};
use crate::packet::options::{self, Echo};
use crate::packet::{
    vnet, DropCounters, DropReason, Family, Headers, LinkId, Mac, Packet, Verdict, Why,
};
use crate::world::{Instant, Knobs, Rng};

use fragment::{Added, Came, Reassembly};

/// Frames that wait to be taken; more are lost.
const OUTBOX_MAX: usize = 4096;

/// ICMP errors that wait to be taken; the oldest goes first.
const ERRORS_MAX: usize = 1024;

/// Conflicts that are reported at a time, and stations of one address; more are only counted.
const CONFLICTS_MAX: usize = 64;
const CLAIMANTS_MAX: usize = 4;

/// For each address and station, a conflict is reported once in this time.
const REPORT_EVERY: Duration = Duration::from_secs(60);

/// How a punted packet ended, or did not end yet.
#[derive(Debug)]
#[must_use]
pub enum Outcome {
    /// It was for us, and we answered or learnt from it.
    Answered,
    /// It is on its way: the frames are in the outbox.
    Forwarded,
    /// It waits; [`Counters`] will say what became of it.
    Waits,
    /// Gone, to be counted under this reason.
    Dropped(DropReason),
    /// The last fragment made a packet whole: to be processed as if it had come so, and to be given to
    /// [`Slow::handle_whole`] if it is punted again. The fragments that came before are counted as
    /// [`joined`](Counters::joined).
    Reassembled(Packet, Came),
}

/// What became of packets whose outcome was [`Waits`](Outcome::Waits), and what we did ourselves.
/// At any time: packets that were told to wait = `forwarded + joined + dropped.total()` and those
/// that [still wait](Slow::waiting).
#[derive(Debug, Clone, Default)]
pub struct Counters {
    /// Packets that waited for a neighbour and are on their way.
    pub forwarded: u64,
    /// Fragments that waited and became part of a whole packet.
    pub joined: u64,
    /// Packets that waited in vain.
    pub dropped: DropCounters,
    /// Frames of our own that were put into the outbox.
    pub own_sent: u64,
    /// Packets of our own that could not be sent.
    pub own_lost: u64,
    /// ICMP errors that were not made because too many were.
    pub errors_limited: u64,
    /// Claims of others to addresses of ours.
    pub conflicts: u64,
}

/// Another station claims an address of ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Conflict {
    /// Our address.
    pub addr: IpAddr,
    /// Who claims it.
    pub mac: Mac,
    /// Where.
    pub link: LinkId,
}

/// The slow side of one host.
#[derive(Debug)]
pub struct Slow {
    /// What happened later, or on our own account.
    pub counters: Counters,
    /// Whether neighbour advertisements say that we are a router (RFC 4861 section 4.4).
    pub router: bool,
    rng: Rng,
    limits: Limits,
    reassembly: Reassembly,
    /// Packets of our own among those that wait for neighbours.
    own_waiting: usize,
    outbox: VecDeque<Packet>,
    errors: VecDeque<Packet>,
    conflicts: Vec<Conflict>,
    /// Conflicts that were reported lately.
    reported: Vec<(Conflict, Instant)>,
}

impl Slow {
    /// A slow side that draws its identifications and keys from `rng`.
    pub fn new(mut rng: Rng) -> Self {
        Self {
            counters: Counters::default(),
            router: true,
            limits: Limits::new(&mut rng),
            reassembly: Reassembly::new(&mut rng),
            rng,
            own_waiting: 0,
            outbox: VecDeque::new(),
            errors: VecDeque::new(),
            conflicts: Vec::new(),
            reported: Vec::new(),
        }
    }

    /// The conflicts that were reported last, and when.
    pub fn disputed(&self) -> &[(Conflict, Instant)] {
        &self.reported
    }

    /// Takes over what the operator says about advertisements and errors.
    pub fn set_knobs(&mut self, knobs: &Knobs) {
        self.router = knobs.ip6_forward;
        self.limits.interval_v4 = Duration::from_millis(knobs.icmp_ratelimit_ms.into());
        self.limits.interval_v6 = Duration::from_millis(knobs.icmp6_ratelimit_ms.into());
    }

    /// Takes a packet that was punted. Its `link` is still the port that it came in by.
    pub fn handle(&mut self, now: Instant, net: &mut Router, packet: Packet, why: Why) -> Outcome {
        self.handle_whole(now, net, packet, why, &Came::default())
    }

    /// Takes a packet that was punted after it had been put together.
    pub fn handle_whole(
        &mut self,
        now: Instant,
        net: &mut Router,
        packet: Packet,
        why: Why,
        came: &Came,
    ) -> Outcome {
        let outcome = match why {
            Why::Arp => self.arp(now, net, &packet),
            Why::Discovery => self.discovery(now, net, &packet),
            Why::Local => self.local(now, net, packet),
            Why::Fragment => self.gather(now, net, &packet),
            Why::Resolve { link, next } => {
                self.resolve(now, net, (link, next), Waiting { packet, own: false })
            }
            Why::TooLong { link, next, mtu } => {
                self.cut(now, net, &packet, Hop { link, next, mtu }, Some(came))
            }
            Why::Error { error, source, reason } => {
                // The packet counts under its own reason, whether or not its sender can be told.
                let _ = self.tell(now, net, &packet, error, source);
                Outcome::Dropped(reason)
            }
        };
        self.settle(now, net);
        outcome
    }

    /// Does what is due: asks neighbours again, gives up on them and on lost fragments.
    pub fn poll(&mut self, now: Instant, net: &mut Router) {
        net.neighbours_mut().poll(now);
        self.settle(now, net);
        while let Some(expired) = self.reassembly.poll(now) {
            self.drop_later(DropReason::FragmentTimeout, expired.pieces);
            let Some(first) = expired.first else { continue };
            // Only the host that the packet was for complains (RFC 1122 section 3.3.2).
            if Headers::of(first.bytes()).is_ok_and(|headers| net.is_local(headers.dst)) {
                let error = Error::ReassemblyTimeExceeded;
                let _ = self.tell(now, net, &first, error, Source::Destination);
            }
        }
    }

    /// When [`poll`](Self::poll) is due next.
    pub fn deadline(&self, net: &Router) -> Option<Instant> {
        let deadlines = [net.neighbours().deadline(), self.reassembly.deadline()];
        deadlines.into_iter().flatten().min()
    }

    /// Tells every network of all our addresses.
    pub fn announce(&mut self, now: Instant, net: &mut Router) {
        for addr in net.addresses() {
            self.announce_address(now, net, addr);
        }
    }

    /// Sends an IP packet of our own by the routes; it is cut where it is too long. Its `link`
    /// matters only for a link-local receiver.
    pub fn send(&mut self, now: Instant, net: &mut Router, packet: Packet) {
        let dst = Headers::quoted(packet.bytes()).map(|headers| headers.dst);
        let hop = dst.ok().and_then(|dst| {
            let hop = net.route_from(packet.link, dst)?;
            Some(Hop { mtu: net.path_mtu(now, dst, hop.mtu), ..hop })
        });
        match hop {
            Some(hop) => self.send_over(now, net, packet, hop),
            None => self.counters.own_lost += 1,
        }
        self.settle(now, net);
    }

    /// The next frame to be sent, on its `link`.
    pub fn take(&mut self) -> Option<Packet> {
        self.outbox.pop_front()
    }

    /// The next ICMP error or reset, an IP packet that is to be given to [`send`](Self::send), as it is or
    /// rewritten. Call until `None` after every [`handle`](Self::handle) and [`poll`](Self::poll).
    pub fn take_error(&mut self) -> Option<Packet> {
        self.errors.pop_front()
    }

    /// Who claimed our addresses since the last call.
    pub fn take_conflicts(&mut self) -> Vec<Conflict> {
        std::mem::take(&mut self.conflicts)
    }

    /// Received packets that wait for a neighbour or for their other fragments.
    pub const fn waiting(&self, net: &Router) -> usize {
        net.neighbours().waiting() - self.own_waiting + self.reassembly.waiting()
    }

    /// Makes the ICMP error that says `error` about `packet` to its sender.
    ///
    /// # Errors
    /// [`DropReason::ErrorForbidden`] if nothing may be said about it, [`DropReason::RateLimited`],
    /// [`DropReason::NoRoute`] if there is no way back.
    pub fn tell(
        &mut self,
        now: Instant,
        net: &Router,
        packet: &Packet,
        error: Error,
        source: Source,
    ) -> Result<(), DropReason> {
        let bytes = packet.bytes();
        let about = Headers::quoted(bytes).map_err(|_| DropReason::ErrorForbidden)?;
        if !icmp::may_answer(bytes, &about, error) {
            return Err(DropReason::ErrorForbidden);
        }
        let from = match source {
            Source::Destination if net.is_local(about.dst) => about.dst,
            Source::Destination | Source::Ingress => {
                own_address(net, packet.link, &about).ok_or(DropReason::NoRoute)?
            }
        };
        if !self.limits.allow(now, about.src, net.prefix_len(about.src), error) {
            self.counters.errors_limited += 1;
            return Err(DropReason::RateLimited);
        }
        let options = echo_of(now, net, packet, &about, from, error)?;
        let back = net.route_from(packet.link, about.src).map_or(u16::MAX, |hop| hop.mtu);
        let mtu = net.path_mtu(now, about.src, back);
        let told = icmp::error(packet, error, from, self.rng.next_u16(), options.bytes(), mtu)?;
        self.say(told);
        Ok(())
    }

    /// Puts an answer about somebody's flow where the director sees it before it is sent.
    fn say(&mut self, answer: Packet) {
        if self.errors.len() >= ERRORS_MAX {
            self.errors.pop_front();
            self.counters.own_lost += 1;
        }
        self.errors.push_back(answer);
    }

    /// Puts fragments together.
    fn gather(&mut self, now: Instant, net: &Router, packet: &Packet) -> Outcome {
        let added = self.reassembly.add(now, packet);
        let evicted = self.reassembly.evicted();
        self.drop_later(DropReason::FragmentLimit, evicted);
        match added {
            Added::Held => Outcome::Waits,
            Added::Refused { reason, others } => {
                self.drop_later(reason, others);
                Outcome::Dropped(reason)
            }
            Added::Whole { packet, mut came, pieces } => {
                self.counters.joined += (pieces - 1) as u64;
                let for_us = Headers::of(packet.bytes()).is_ok_and(|about| {
                    let by_mark = || net.is_local_by_mark(packet.mark, about.dst);
                    about.family == Family::V4 && (net.is_local(about.dst) || by_mark())
                });
                if for_us {
                    came.forget_pieces();
                }
                Outcome::Reassembled(packet, came)
            }
        }
    }

    /// Lets a packet wait for a neighbour.
    fn resolve(
        &mut self,
        now: Instant,
        net: &mut Router,
        (link, next): (LinkId, IpAddr),
        waiting: Waiting,
    ) -> Outcome {
        let own = waiting.own;
        match net.neighbours_mut().wait(now, link, next, waiting) {
            Ok(()) => {
                self.own_waiting += usize::from(own);
                Outcome::Waits
            }
            Err(reason) => Outcome::Dropped(reason),
        }
    }

    /// Sends a packet in fragments; `came` is `None` for one of our own. What becomes of the first
    /// counts for the packet; the others are our own.
    fn cut(
        &mut self,
        now: Instant,
        net: &mut Router,
        packet: &Packet,
        hop: Hop,
        came: Option<&Came>,
    ) -> Outcome {
        let own = came.is_none();
        let pieces = match self.pieces(packet, hop.mtu, came.unwrap_or(&Came::default())) {
            Ok(pieces) => pieces,
            Err(reason) => return Outcome::Dropped(reason),
        };
        let mut outcome = Outcome::Dropped(DropReason::TooBig);
        for (i, piece) in pieces.into_iter().enumerate() {
            let this = self.emit(now, net, piece, hop, own || i > 0);
            if i == 0 {
                outcome = this;
            } else if matches!(this, Outcome::Dropped(_)) {
                self.counters.own_lost += 1;
            }
        }
        outcome
    }

    /// Cuts a packet into fragments; a super-frame into what it stands for first.
    fn pieces(
        &mut self,
        packet: &Packet,
        mtu: u16,
        came: &Came,
    ) -> Result<Vec<Packet>, DropReason> {
        let mut whole = Vec::new();
        let mut room = Packet::with_capacity(packet.len());
        vnet::split(packet, 0, &mut room, |piece| whole.push(piece.kept()));
        // IPv6 that came in shorter fragments may leave in one: it fits, and has its fragment header.
        let in_one = whole.len() == 1 && packet.bytes().first().is_some_and(|b| b >> 4 == 6);
        let mut pieces = Vec::new();
        for packet in whole {
            match in_one || packet.len() > usize::from(mtu) {
                true => pieces.extend(fragment::split(&packet, mtu, self.rng.next_u32(), came)?),
                false => pieces.push(packet),
            }
        }
        Ok(pieces)
    }

    /// Sends a packet of our own over `hop`.
    fn send_over(&mut self, now: Instant, net: &mut Router, packet: Packet, hop: Hop) {
        let outcome = if packet.len() > usize::from(hop.mtu) {
            self.cut(now, net, &packet, hop, None)
        } else {
            self.emit(now, net, packet, hop, true)
        };
        if matches!(outcome, Outcome::Dropped(_)) {
            self.counters.own_lost += 1;
        }
    }

    /// Sends a packet that fits.
    fn emit(
        &mut self,
        now: Instant,
        net: &mut Router,
        mut packet: Packet,
        hop: Hop,
        own: bool,
    ) -> Outcome {
        match net.egress(now, &mut packet, hop) {
            Verdict::Transmit(link) => self.put_out(link, packet, own),
            Verdict::Punt(Why::Resolve { link, next }) => {
                self.resolve(now, net, (link, next), Waiting { packet, own })
            }
            Verdict::Punt(_) => Outcome::Dropped(DropReason::TooBig),
            Verdict::Drop(reason) => Outcome::Dropped(reason),
        }
    }

    fn put_out(&mut self, link: LinkId, mut packet: Packet, own: bool) -> Outcome {
        if self.outbox.len() >= OUTBOX_MAX {
            return Outcome::Dropped(DropReason::PortRefused);
        }
        packet.link = link;
        packet.own = own;
        self.outbox.push_back(packet);
        self.counters.own_sent += u64::from(own);
        Outcome::Forwarded
    }

    /// Does what the neighbours' machine wants done.
    fn settle(&mut self, now: Instant, net: &mut Router) {
        while let Some(action) = net.neighbours_mut().take() {
            match action {
                Action::Solicit { link, target, to, for_whom } => {
                    self.solicit(net, link, target, to, for_whom);
                }
                Action::Send { link, to, waiting } => self.send_waiting(net, link, to, waiting),
                Action::Lost { waiting, reason } => self.lose(now, net, &waiting, reason),
            }
        }
    }

    fn send_waiting(&mut self, net: &Router, link: LinkId, to: Mac, waiting: Waiting) {
        let Waiting { mut packet, own } = waiting;
        self.own_waiting -= usize::from(own);
        let from = net.link(link).map_or(Mac::default(), |link| link.mac);
        let outcome = match frame(&mut packet, from, to) {
            Ok(()) => self.put_out(link, packet, own),
            Err(reason) => Outcome::Dropped(reason),
        };
        match (outcome, own) {
            (Outcome::Dropped(_), true) => self.counters.own_lost += 1,
            (Outcome::Dropped(reason), false) => self.drop_later(reason, 1),
            (_, true) => {}
            (_, false) => self.counters.forwarded += 1,
        }
    }

    fn lose(&mut self, now: Instant, net: &Router, waiting: &Waiting, reason: DropReason) {
        if waiting.own {
            self.own_waiting -= 1;
            self.counters.own_lost += 1;
            return;
        }
        self.drop_later(reason, 1);
        if reason == DropReason::NeighbourFailed {
            let error = Error::HostUnreachable;
            let _ = self.tell(now, net, &waiting.packet, error, Source::Ingress);
        }
    }

    fn drop_later(&mut self, reason: DropReason, count: usize) {
        for _ in 0..count {
            self.counters.dropped.add(reason);
        }
    }
}

/// Our address for speaking to the sender of a packet that came in on `link`, as the kernel chooses it:
/// the one nearest to the way back, for IPv6 one of that port, if there is a way back.
fn own_address(net: &Router, link: LinkId, about: &Headers) -> Option<IpAddr> {
    if is_link_local(about.src) {
        return net.ingress_source(link, about.family, about.src);
    }
    let hop = net.route(about.src)?;
    match about.family {
        Family::V4 => net.source_for(&hop, about.src),
        Family::V6 => net.ingress_source(link, about.family, about.src),
    }
}

/// The options that what `from` says about a packet carries.
fn echo_of(
    now: Instant,
    net: &Router,
    packet: &Packet,
    about: &Headers,
    from: IpAddr,
    error: Error,
) -> Result<Echo, DropReason> {
    if !about.has_options() {
        return Ok(Echo::NONE);
    }
    let wrong = match error {
        Error::Parameter(at) => Some(at),
        _ => None,
    };
    let header = packet.bytes().get(..usize::from(about.transport)).unwrap_or_default();
    let echo = options::echo(header, wrong, &net.as_host(now, Some(from)));
    echo.ok_or(DropReason::ErrorForbidden)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::Link;
    use crate::packet::eth::{ethertype, Ethernet, HEADER};
    use crate::packet::ip::{decrement_ttl, Fresh};
    use crate::packet::{proto, Family, Fragment};

    pub(super) const WAN: LinkId = LinkId(0);
    pub(super) const LAN: LinkId = LinkId(1);
    pub(super) const OURS: Mac = Mac([2, 0, 0, 0, 1, 1]);
    pub(super) const PEER: Mac = Mac([2, 0, 0, 0, 1, 9]);

    pub(super) fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    pub(super) fn at(ms: u64) -> Instant {
        Instant::from_millis(ms)
    }

    /// A host like the one of the golden recordings: clients behind 10.80.0.2, servers on the LAN.
    pub(super) fn host() -> (Slow, Router) {
        let port = |name: &str, last, addresses: &[(&str, u8)]| Link {
            name: name.into(),
            tap: true,
            mac: Mac([2, 0, 0, 0, 1, last]),
            mtu: 1500,
            addresses: addresses.iter().map(|&(addr, len)| (ip(addr), len)).collect(),
        };
        let wan = port("wan", 1, &[("10.80.0.1", 24), ("fd80::1", 64)]);
        let lan = port("lan", 2, &[("10.81.0.1", 24), ("fd81::1", 64)]);
        let mut net = Router::new(vec![wan, lan], Rng::new(1));
        net.add_route(ip("10.90.0.0"), 16, None, Some(ip("10.80.0.2"))).unwrap();
        net.add_route(ip("fd90::"), 16, Some(WAN), Some(ip("fd80::2"))).unwrap();
        net.add_neighbour(at(0), WAN, ip("10.80.0.2"), PEER);
        net.add_neighbour(at(0), WAN, ip("fd80::2"), PEER);
        net.add_virtual(ip("10.80.0.10"));
        net.add_virtual(ip("fd80::10"));
        (Slow::new(Rng::new(2)), net)
    }

    pub(super) fn packet(src: &str, dst: &str, proto: u8, payload: &[u8]) -> Packet {
        let mut packet = Packet::copy_of(WAN, payload);
        let (src, dst) = (ip(src), ip(dst));
        Fresh { src, dst, proto, ttl: 64, tos: 0, dont_fragment: false, id: 7 }
            .push(&mut packet)
            .unwrap();
        packet
    }

    pub(super) fn hex(text: &str) -> Vec<u8> {
        let digits: Vec<char> = text.chars().filter(|c| !c.is_whitespace()).collect();
        digits
            .chunks(2)
            .map(|d| u8::from_str_radix(&d.iter().collect::<String>(), 16).unwrap())
            .collect()
    }

    /// Sends all errors, and gives what comes out as (link, frame without its Ethernet header).
    pub(super) fn drain(slow: &mut Slow, net: &mut Router, now: Instant) -> Vec<Packet> {
        while let Some(error) = slow.take_error() {
            slow.send(now, net, error);
        }
        std::iter::from_fn(|| slow.take()).collect()
    }

    /// What comes out, as IP packets.
    pub(super) fn sent(slow: &mut Slow, net: &mut Router, now: Instant) -> Vec<Packet> {
        let mut frames = drain(slow, net, now);
        for frame in &mut frames {
            let header = Ethernet::parse(frame.bytes()).unwrap();
            assert_eq!(header.src.0[5], u8::try_from(frame.link.0 + 1).unwrap());
            frame.pull(HEADER);
        }
        frames
    }

    fn resolve(next: &str) -> Why {
        Why::Resolve { link: LAN, next: ip(next) }
    }

    #[test]
    fn a_neighbour_that_never_answers_makes_the_host_unreachable() {
        for (src, dst, kind, code) in
            [("10.90.1.1", "10.81.0.99", 3, 1), ("fd90::1:1", "fd81::99", 1, 3)]
        {
            let (mut slow, mut net) = host();
            let mut about = packet(src, dst, proto::UDP, &[0; 8]);
            let family = Family::of(ip(src));
            decrement_ttl(about.bytes_mut(), family);
            let outcome = slow.handle(at(0), &mut net, about.clone(), resolve(dst));
            assert!(matches!(outcome, Outcome::Waits));
            assert_eq!(slow.waiting(&net), 1);
            for ms in [0, 1000, 2000] {
                slow.poll(at(ms), &mut net);
                let asked = drain(&mut slow, &mut net, at(ms));
                assert_eq!((asked.len(), asked[0].link), (1, LAN), "asked at {ms} ms");
            }
            assert_eq!(slow.deadline(&net), Some(at(3000)));
            slow.poll(at(3000), &mut net);
            let told = sent(&mut slow, &mut net, at(3000));
            let headers = Headers::of(told[0].bytes()).unwrap();
            let own = if family == Family::V4 { "10.80.0.1" } else { "fd80::1" };
            assert_eq!((headers.src, headers.dst, told[0].link), (ip(own), ip(src), WAN));
            let message = headers.payload(told[0].bytes());
            assert_eq!(message[..2], [kind, code]);
            assert_eq!(&message[8..], about.bytes());
            assert!(icmp::is_intact(told[0].bytes(), &headers));
            assert_eq!(slow.counters.dropped.of(DropReason::NeighbourFailed), 1);
            assert_eq!(slow.waiting(&net), 0);
        }
    }

    #[test]
    fn our_own_packets_that_wait_are_no_received_ones() {
        let (mut slow, mut net) = host();
        slow.send(at(0), &mut net, packet("10.81.0.1", "10.81.0.50", 99, &[]));
        assert_eq!((slow.waiting(&net), net.neighbours().waiting()), (0, 1));
        slow.poll(at(1000), &mut net);
        slow.poll(at(2000), &mut net);
        slow.poll(at(3000), &mut net);
        assert_eq!((slow.counters.own_lost, slow.counters.dropped.total()), (1, 0));
        assert!(slow.take_error().is_none(), "nobody is told about our own packet");
        slow.send(at(0), &mut net, packet("10.81.0.1", "172.16.0.1", 99, &[]));
        assert_eq!(slow.counters.own_lost, 2, "no route");
    }

    #[test]
    fn a_long_packet_leaves_in_the_pieces_that_the_kernel_makes() {
        let (mut slow, mut net) = host();
        net.add_neighbour(at(0), LAN, ip("10.81.0.11"), PEER);
        let long = packet("10.90.1.1", "10.81.0.11", proto::UDP, &[0x64; 1480]);
        let why = Why::TooLong { link: LAN, next: ip("10.81.0.11"), mtu: 1400 };
        let outcome = slow.handle(at(0), &mut net, long, why);
        assert!(matches!(outcome, Outcome::Forwarded));
        let lens: Vec<_> = sent(&mut slow, &mut net, at(0)).iter().map(Packet::len).collect();
        assert_eq!(lens, [1396, 124]);
        assert_eq!((slow.counters.own_sent, slow.counters.forwarded), (1, 0));
    }

    #[test]
    fn a_long_packet_that_waits_counts_once() {
        let (mut slow, mut net) = host();
        let next = ip("10.81.0.11");
        let long = packet("10.90.1.1", "10.81.0.11", proto::UDP, &[0x64; 4000]);
        let why = Why::TooLong { link: LAN, next, mtu: 1400 };
        let outcome = slow.handle(at(0), &mut net, long, why);
        assert!(matches!(outcome, Outcome::Waits));
        assert_eq!(slow.waiting(&net), 1);
        net.add_neighbour(at(1), LAN, next, PEER);
        slow.poll(at(1), &mut net);
        assert_eq!(drain(&mut slow, &mut net, at(1)).len(), 1 + 3, "the question and three pieces");
        assert_eq!((slow.counters.forwarded, slow.waiting(&net)), (1, 0));
    }

    #[test]
    fn fragments_for_us_come_back_whole_and_then_are_answered_in_fragments() {
        for (src, dst, proto, kind) in [
            ("10.90.1.1", "10.80.0.10", proto::ICMP, 8),
            ("fd90::1:1", "fd80::10", proto::ICMPV6, 128),
        ] {
            let (mut slow, mut net) = host();
            let mut message = vec![9; 4000];
            message[..4].copy_from_slice(&[kind, 0, 0, 0]);
            let sum = match Family::of(ip(src)) {
                Family::V4 => crate::packet::checksum::of(&message),
                Family::V6 => crate::packet::checksum::transport(ip(src), ip(dst), proto, &message),
            };
            message[2..4].copy_from_slice(&sum.to_be_bytes());
            let long = packet(src, dst, proto, &message);
            let mut whole = None;
            for piece in fragment::split(&long, 1400, 5, &Came::default()).unwrap() {
                match slow.handle(at(0), &mut net, piece, Why::Fragment) {
                    Outcome::Waits => {}
                    Outcome::Reassembled(packet, _) => whole = Some(packet),
                    other => panic!("{other:?}"),
                }
            }
            let whole = whole.unwrap();
            assert_eq!((whole.bytes(), slow.counters.joined), (long.bytes(), 2));
            let outcome = slow.handle(at(0), &mut net, whole, Why::Local);
            assert!(matches!(outcome, Outcome::Answered));
            let pieces = sent(&mut slow, &mut net, at(0));
            assert_eq!(pieces.len(), 3);
            let first = Headers::of(pieces[0].bytes()).unwrap();
            assert_eq!((first.fragment, first.src), (Fragment::First, ip(dst)));
        }
    }

    #[test]
    fn a_lost_fragment_is_told_by_the_virtual_address_after_thirty_seconds() {
        let (mut slow, mut net) = host();
        let long = packet("10.90.1.1", "10.80.0.10", proto::UDP, &[0x66; 2000]);
        let pieces = fragment::split(&long, 1500, 0, &Came::default()).unwrap();
        let outcome = slow.handle(at(0), &mut net, pieces[0].clone(), Why::Fragment);
        assert!(matches!(outcome, Outcome::Waits));
        let mut other = packet("10.90.1.2", "10.80.0.10", proto::UDP, &[0x66; 2000]);
        other = fragment::split(&other, 1500, 0, &Came::default()).unwrap().remove(1);
        let _ = slow.handle(at(300), &mut net, other, Why::Fragment);
        assert_eq!((slow.waiting(&net), slow.deadline(&net)), (2, Some(at(30_000))));
        slow.poll(at(31_000), &mut net);
        let told = sent(&mut slow, &mut net, at(31_000));
        assert_eq!(told.len(), 1, "a later fragment alone: silence");
        let headers = Headers::of(told[0].bytes()).unwrap();
        assert_eq!((headers.src, headers.len, headers.tos), (ip("10.80.0.10"), 576, 0xc0));
        let message = headers.payload(told[0].bytes());
        assert_eq!((message[0], message[1]), (11, 1));
        assert_eq!(message[8..], pieces[0].bytes()[..548]);
        assert_eq!(slow.counters.dropped.of(DropReason::FragmentTimeout), 2);
    }

    #[test]
    fn errors_are_made_once_a_second_and_the_packet_counts_as_told() {
        let (mut slow, mut net) = host();
        let why = Why::Error {
            error: Error::TimeExceeded,
            source: Source::Ingress,
            reason: DropReason::TtlExceeded,
        };
        for _ in 0..9 {
            let about = packet("10.90.1.1", "10.81.0.11", proto::UDP, &[0; 9]);
            let outcome = slow.handle(at(0), &mut net, about, why);
            assert!(matches!(outcome, Outcome::Dropped(DropReason::TtlExceeded)));
        }
        let told = sent(&mut slow, &mut net, at(0));
        assert_eq!((told.len(), slow.counters.errors_limited), (6, 3));
        assert_eq!(Headers::of(told[0].bytes()).unwrap().src, ip("10.80.0.1"));
    }

    #[test]
    fn an_error_can_be_rewritten_before_it_is_sent() {
        let (mut slow, net) = host();
        let about = packet("10.90.1.1", "10.80.0.10", proto::UDP, &[0; 9]);
        slow.tell(at(0), &net, &about, Error::PortUnreachable, Source::Destination).unwrap();
        let error = slow.take_error().unwrap();
        assert_eq!((error.bytes()[0], error.link), (0x45, WAN));
        assert!(slow.take().is_none(), "nothing is sent before the director has seen it");
    }

    #[test]
    fn nothing_that_is_punted_panics_at_any_length() {
        let shapes = [
            packet("10.90.1.1", "10.80.0.10", proto::TCP, &[0x50; 40]),
            packet("10.90.1.1", "10.80.0.10", proto::UDP, &[0; 20]),
            packet("10.90.1.1", "10.80.0.10", proto::ICMP, &[8; 20]),
            packet("fd90::1:1", "fd80::10", proto::ICMPV6, &[135; 40]),
            packet("fd90::1:1", "fd80::10", 44, &[17; 40]),
            packet("fd90::1:1", "fd80::10", 0, &[0; 40]),
        ];
        let error = Error::ProtocolUnreachable;
        let whys = [
            Why::Arp,
            Why::Discovery,
            Why::Local,
            Why::Fragment,
            resolve("10.81.0.5"),
            Why::TooLong { link: LAN, next: ip("10.81.0.5"), mtu: 30 },
            Why::Error { error, source: Source::Ingress, reason: DropReason::NoRoute },
        ];
        let (mut slow, mut net) = host();
        for shape in &shapes {
            for len in 0..=shape.len() {
                for why in whys {
                    let cut = Packet::copy_of(
                        LinkId(u16::try_from(len % 3).unwrap()),
                        &shape.bytes()[..len],
                    );
                    let _ = slow.handle(at(len as u64), &mut net, cut, why);
                }
            }
        }
        drain(&mut slow, &mut net, at(0));
        slow.poll(at(100_000), &mut net);
        let _ = drain(&mut slow, &mut net, at(100_000));
    }

    #[test]
    fn the_account_of_what_waited_is_whole_at_any_time() {
        let (mut slow, mut net) = host();
        let mut rng = Rng::new(11);
        let mut told_to_wait = 0;
        for step in 0..4000u64 {
            let now = at(step * 7);
            let draw = rng.next_u16();
            let dst = format!("10.81.0.{}", 2 + rng.next_u16() % 40);
            let long = packet("10.90.1.1", &dst, proto::UDP, &[1; 3000]);
            let mut pieces = fragment::split(&long, 1500, 0, &Came::default()).unwrap();
            let piece = pieces.swap_remove(usize::from(draw) % 3);
            let hop = Hop { link: LAN, next: ip(&dst), mtu: 1400 };
            let (punted, why) = match draw % 5 {
                0 | 1 => (piece, Why::Fragment),
                2 => (piece, resolve(&dst)),
                3 => (long, Why::TooLong { link: LAN, next: hop.next, mtu: hop.mtu }),
                _ => {
                    net.add_neighbour(now, LAN, hop.next, PEER);
                    net.neighbours_mut().remove(LAN, ip(&format!("10.81.0.{}", 2 + draw % 7)));
                    slow.send(now, &mut net, long);
                    continue;
                }
            };
            if matches!(slow.handle(now, &mut net, punted, why), Outcome::Waits) {
                told_to_wait += 1;
            }
            slow.poll(now, &mut net);
            drain(&mut slow, &mut net, now);
            let c = &slow.counters;
            let settled = c.forwarded + c.joined + c.dropped.total();
            assert_eq!(told_to_wait, settled + slow.waiting(&net) as u64, "step {step}");
        }
        let c = &slow.counters;
        assert!(c.forwarded > 0 && c.joined > 0 && c.dropped.total() > 0);
    }

    #[test]
    fn the_outbox_is_bounded() {
        let (mut slow, mut net) = host();
        for _ in 0..OUTBOX_MAX + 10 {
            slow.send(at(0), &mut net, packet("10.80.0.1", "10.90.1.1", 99, &[]));
        }
        assert_eq!(slow.counters.own_lost, 10);
        assert_eq!(slow.counters.own_sent, OUTBOX_MAX as u64);
        let header = Ethernet::parse(slow.take().unwrap().bytes()).unwrap();
        assert_eq!(header, Ethernet { dst: PEER, src: OURS, ethertype: ethertype::IPV4 });
    }
}
