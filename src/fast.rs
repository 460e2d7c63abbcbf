//! The journey of a packet, on one page: receive → mark → touch, admit → rewrite → egress.
//!
//! Each step answers, or ends the journey by `?`. Kept from the kernel: what is sent to us meets the
//! director before the host, what travels through us meets it between routing and output; route,
//! TTL and MTU are looked at in that order, after states and counters have moved.
//!
//! Nothing here allocates, logs or calls the system.

use std::hash::BuildHasher;
use std::net::IpAddr;

use crate::conn::Forward;
use crate::director::forward;
use crate::director::mark::Marks;
use crate::director::{Binding, Decision, Director, Told};
use crate::net::{is_link_local, Hop, Router};
use crate::packet::icmp::{Error, Source};
use crate::packet::tunnel::{Kind, Outer};
use crate::packet::{extensions, ip, options, proto, tunnel, vnet};
use crate::packet::{DropReason, Family, Fragment, Headers, Packet, Verdict, Why};
use crate::world::{Instant, Keyed, Rng};

/// What a packet meets: a router with a director in it.
#[derive(Debug)]
pub struct Fast {
    /// The host and router on the wire.
    pub router: Router,
    /// The load balancer.
    pub director: Director,
    /// The rules that give packets their firewall mark.
    pub marks: Marks,
    /// Keys the source ports of GUE.
    flow_key: Keyed,
    rng: Rng,
}

impl Fast {
    /// Puts a router and a director together; `rng` gives identifications to tunnel headers.
    pub const fn new(router: Router, director: Director, mut rng: Rng) -> Self {
        let flow_key = Keyed::new(&mut rng);
        Self { router, director, marks: Marks::none(), flow_key, rng }
    }

    /// A frame fresh from a port. What is to be sent is a frame again.
    pub fn handle(&mut self, now: Instant, packet: &mut Packet) -> Verdict {
        let headers = match self.router.receive(packet) {
            Ok(headers) => headers,
            Err(verdict) => return verdict,
        };
        if headers.has_options() {
            if let Err(verdict) = self.router.note_options(now, packet, &headers) {
                return verdict;
            }
        }
        self.carry(now, packet, headers, u16::MAX)
    }

    /// An IP packet that was put together from fragments of at most `largest` bytes: it does not
    /// travel on in larger ones.
    pub fn handle_whole(&mut self, now: Instant, packet: &mut Packet, largest: u16) -> Verdict {
        match Headers::parse(packet) {
            Ok(mut headers) => {
                // A fragment in a fragment is looked at as it is, if it begins its packet.
                if headers.family == Family::V6 && headers.fragment == Fragment::First {
                    headers.fragment = Fragment::Whole;
                }
                self.carry(now, packet, headers, largest)
            }
            Err(reason) => Verdict::Drop(reason),
        }
    }

    fn carry(
        &mut self,
        now: Instant,
        packet: &mut Packet,
        headers: Headers,
        largest: u16,
    ) -> Verdict {
        packet.mark = self.marks.mark(packet.link, &headers, packet.bytes());
        let journey = if self.router.is_local(headers.dst) {
            self.for_us(now, packet, headers, largest)
        } else if packet.mark != 0 && self.router.is_local_by_mark(packet.mark, headers.dst) {
            self.for_us(now, packet, headers, largest).map_err(in_silence)
        } else {
            self.through_us(now, packet, headers, largest)
        };
        journey.unwrap_or_else(|verdict| verdict)
    }

    /// A packet for an address of ours: a service's, or our own.
    fn for_us(
        &mut self,
        now: Instant,
        packet: &mut Packet,
        headers: Headers,
        largest: u16,
    ) -> Result<Verdict, Verdict> {
        match headers.fragment {
            Fragment::Whole => {}
            _ if extensions::unfit(packet.bytes(), &headers).is_none() => {
                return Err(Verdict::Punt(Why::Fragment));
            }
            // No error comes in fragments (RFC 4443 section 2.4), and any later one is taken for one.
            _ if headers.proto == proto::ICMPV6
                && self.director.wants_whole(&headers)
                && (headers.fragment == Fragment::Later
                    || headers.payload(packet.bytes()).first().is_none_or(|&kind| kind < 128)) =>
            {
                return Err(Verdict::Drop(DropReason::FragmentMalformed));
            }
            Fragment::Later => return Err(Verdict::Punt(Why::Local)),
            Fragment::First => {}
        }
        let binding = match self.director.request(now, packet, &headers) {
            Decision::Carry(binding) => binding,
            Decision::Pass => return Err(Verdict::Punt(Why::Local)),
            Decision::Refuse(error, reason) => return Err(refuse(error, reason)),
            Decision::Drop(reason) => return Err(Verdict::Drop(reason)),
            Decision::Learnt { server, told } => {
                self.router.learn_path(now, server, told);
                return Err(Verdict::Drop(DropReason::TunnelError));
            }
            Decision::Bypass => self.bypass(now, packet, &headers)?,
            Decision::Relay { at, told } => {
                packet.pull(usize::from(at));
                return Err(refuse(self.retold(now, told), DropReason::TunnelError));
            }
        };
        self.towards_server(now, packet, headers, &binding, largest)
    }

    /// What nobody serves goes on to where it was sent, if that is not here (`cache_bypass`). IPv6 is
    /// entered first and found to be ours then.
    fn bypass(
        &mut self,
        now: Instant,
        packet: &Packet,
        headers: &Headers,
    ) -> Result<Binding, Verdict> {
        let (ours, gone) = (self.router.is_local(headers.dst), DropReason::NoDestination);
        if ours && headers.family == Family::V4 {
            return Err(refuse(Error::PortUnreachable, gone));
        }
        match self.director.bypass(now, packet, headers) {
            Ok(binding) if !ours => Ok(binding),
            Err(Decision::Drop(reason)) => Err(Verdict::Drop(reason)),
            Ok(_) | Err(_) => Err(Verdict::Drop(gone)),
        }
    }

    /// What a client is told about the tunnel to its server.
    fn retold(&mut self, now: Instant, told: Told) -> Error {
        match told {
            Told::Error(error) => error,
            Told::TooBig { server, told, kind } => {
                let link = self.router.route(server).map_or(u16::MAX, |hop| hop.mtu);
                // Who is told first hears what was known before.
                let mtu = match self.router.learn_path(now, server, told) {
                    true => self.router.path_mtu(now, server, link),
                    false => link,
                };
                let inner = tunnel::inner_mtu(mtu, Family::of(server), kind);
                Error::TooBig(u32::from(inner.unwrap_or(mtu)))
            }
        }
    }

    /// A request on its way to a real server.
    fn towards_server(
        &mut self,
        now: Instant,
        packet: &mut Packet,
        mut headers: Headers,
        binding: &Binding,
        largest: u16,
    ) -> Result<Verdict, Verdict> {
        let server = binding.dest.addr;
        if server.is_loopback() && binding.forward == Forward::Masq {
            return Err(Verdict::Drop(DropReason::LoopbackServer));
        }
        if self.router.is_local(server) {
            self.help(now, packet, &headers, binding)?;
            if binding.forward == Forward::Masq {
                packet.unsummed = None;
            }
            forward::deliver(packet, &headers, binding).map_err(Verdict::Drop)?;
            return Err(Verdict::Punt(Why::Local));
        }
        let no_route = refuse(Error::HostUnreachable, DropReason::NoRoute);
        let mut hop = self.router.route(server).ok_or(no_route)?;
        hop.mtu = self.router.path_mtu(now, server, hop.mtu);
        if headers.ttl <= 1 {
            return Err(refuse(Error::TimeExceeded, DropReason::TtlExceeded));
        }
        ip::decrement_ttl(packet.bytes_mut(), headers.family);
        headers.ttl -= 1;
        self.check_fit(&headers, vnet::longest_piece(packet), binding, hop, largest)?;
        self.help(now, packet, &headers, binding)?;
        let flow_hash = match binding.tunnel {
            Kind::Gue { .. } => self.flow_hash(&headers, packet.bytes()),
            Kind::Ipip | Kind::Gre { .. } => 0,
        };
        let was_cut = largest != u16::MAX;
        let outer = || self.outer(&hop, binding, flow_hash, was_cut);
        forward::rewrite(packet, &headers, binding, outer).map_err(Verdict::Drop)?;
        packet.unsummed = None;
        // A tunnel's outer header is of our own making: also what is behind an IPv6 one may be cut.
        let outer_six = binding.forward == Forward::Tunnel && server.is_ipv6();
        let too_long = outer_six && vnet::longest_piece(packet) > usize::from(hop.mtu);
        // In a tunnel of the other family nobody remembers how long the fragments were; only that they
        // were not to be cut is taken for a length, and a very short one.
        const MISTAKEN: u16 = 0x40;
        let crosses = binding.forward == Forward::Tunnel && headers.family != Family::of(server);
        let largest = match crosses {
            true if was_cut && outer_six && headers.dont_fragment => MISTAKEN,
            true => u16::MAX,
            false => largest,
        };
        let largest = if too_long { largest.min(hop.mtu) } else { largest };
        Ok(self.leave(now, packet, hop, largest))
    }

    /// Lets the connection's helper look at a request, where it has one.
    fn help(
        &mut self,
        now: Instant,
        packet: &mut Packet,
        headers: &Headers,
        binding: &Binding,
    ) -> Result<(), Verdict> {
        let Some(id) = binding.helped else { return Ok(()) };
        self.director.help_request(now, id, packet, headers).map_err(Verdict::Drop)
    }

    /// Whether a request fits into what its path carries, or may be cut.
    fn check_fit(
        &self,
        headers: &Headers,
        longest: usize,
        binding: &Binding,
        hop: Hop,
        largest: u16,
    ) -> Result<(), Verdict> {
        let tunnelled = binding.forward == Forward::Tunnel;
        let room = match tunnelled {
            true => tunnel::inner_mtu(hop.mtu, Family::of(binding.dest.addr), binding.tunnel)
                .ok_or(Verdict::Drop(DropReason::TooBig))?,
            false => hop.mtu,
        };
        let may_cut = !headers.dont_fragment
            || (tunnelled && headers.family == Family::V4 && !self.director.knobs.pmtu_disc);
        // An IPv6 packet that came in fragments leaves in such, and they must fit.
        let len = match headers.family {
            Family::V6 => longest.min(usize::from(largest)),
            Family::V4 => longest,
        };
        let is_error = binding.quotes_at.is_some();
        if len <= usize::from(room) || may_cut || is_error && headers.family == Family::V4 {
            return Ok(());
        }
        if is_error {
            return Err(Verdict::Drop(DropReason::TooBig));
        }
        Err(refuse(Error::TooBig(u32::from(room)), DropReason::TooBig))
    }

    /// What tells one flow from others in a tunnel's outer header.
    fn flow_hash(&self, headers: &Headers, bytes: &[u8]) -> u32 {
        let ports = headers.flow(bytes).map(|flow| (flow.src.port, flow.dst.port));
        let hash = self.flow_key.hash_one((headers.src, headers.dst, headers.proto, ports));
        u32::try_from(hash >> 32).expect("half of it")
    }

    /// What a tunnel says in its outer header.
    fn outer(
        &mut self,
        hop: &Hop,
        binding: &Binding,
        flow_hash: u32,
        will_be_cut: bool,
    ) -> Option<Outer> {
        let dst = binding.dest.addr;
        Some(Outer {
            src: self.router.source_for(hop, dst)?,
            dst,
            kind: binding.tunnel,
            flow_hash,
            copy_dont_fragment: self.director.knobs.pmtu_disc,
            id: self.rng.next_u16(),
            will_be_cut,
        })
    }

    /// A packet for somebody else: a server's answer, an error about one, or plain traffic.
    fn through_us(
        &mut self,
        now: Instant,
        packet: &mut Packet,
        mut headers: Headers,
        largest: u16,
    ) -> Result<Verdict, Verdict> {
        // Whoever does not forward tells nobody, but that IPv6 has no way.
        let off = !self.forwards(headers.family);
        if off && (headers.family == Family::V4 || self.router.route(headers.dst).is_some()) {
            return Err(Verdict::Drop(DropReason::ForwardingOff));
        }
        // IPv6 is put together before anybody looks where it goes, IPv4 when it is about to leave.
        let is_v6 = headers.family == Family::V6;
        let in_pieces = headers.fragment != Fragment::Whole
            && self.director.wants_whole(&headers)
            && extensions::unfit(packet.bytes(), &headers).is_none();
        if in_pieces && is_v6 {
            return Err(Verdict::Punt(Why::Fragment));
        }
        let told =
            |error, reason| Verdict::Punt(Why::Error { error, source: Source::Ingress, reason });
        let no_route = told(Error::NetUnreachable, DropReason::NoRoute);
        let hop = self.router.route(headers.dst).ok_or(no_route)?;
        let reassembled = largest != u16::MAX;
        if is_v6 && hop.link != packet.link {
            beyond_scope(headers.src)?;
        }
        if headers.ttl <= 1 && (is_v6 || !reassembled) {
            return Err(told(Error::TimeExceeded, DropReason::TtlExceeded));
        }
        let too_long = vnet::longest_piece(packet) > usize::from(hop.mtu);
        let too_big = told(Error::TooBig(u32::from(hop.mtu)), DropReason::TooBig);
        if too_long && headers.dont_fragment && (!reassembled || is_v6 && largest > hop.mtu) {
            return Err(too_big);
        }
        if in_pieces {
            return Err(Verdict::Punt(Why::Fragment));
        }
        ip::decrement_ttl(packet.bytes_mut(), headers.family);
        headers.ttl = headers.ttl.saturating_sub(1);
        let related = self.director.related(now, packet, &headers);
        if let Decision::Drop(DropReason::TransportShort) = related {
            return Err(Verdict::Drop(DropReason::TransportShort));
        }
        if let Decision::Carry(binding) = related {
            // It was forwarded once already, and is once more: the kernel counts both.
            if headers.ttl <= 1 {
                return Err(told(Error::TimeExceeded, DropReason::TtlExceeded));
            }
            ip::decrement_ttl(packet.bytes_mut(), headers.family);
            headers.ttl -= 1;
            forward::rewrite(packet, &headers, &binding, || None).map_err(Verdict::Drop)?;
            let no_route = told(Error::NetUnreachable, DropReason::NoRoute);
            let hop = self.router.route(binding.dest.addr).ok_or(no_route)?;
            return Ok(self.leave(now, packet, hop, largest));
        }
        match self.director.reply(now, packet, &headers) {
            Err(Decision::Refuse(error, reason)) => Err(told(error, reason)),
            Err(Decision::Drop(reason)) => Err(Verdict::Drop(reason)),
            // What came in fragments that must not be cut is not cut again, however short they were.
            _ if reassembled && headers.family == Family::V4 && headers.dont_fragment => {
                Err(too_big)
            }
            Ok(())
            | Err(
                Decision::Pass
                | Decision::Carry(_)
                | Decision::Learnt { .. }
                | Decision::Bypass
                | Decision::Relay { .. },
            ) => {
                self.record(packet, &hop, headers.dst);
                Ok(self.leave(now, packet, hop, largest))
            }
        }
    }

    /// Writes the address that a packet leaves from into its options, if they ask for it.
    fn record(&self, packet: &mut Packet, hop: &Hop, dst: IpAddr) {
        packet.unsummed = None;
        if packet.recorded == 0 {
            return;
        }
        // What was translated is routed again as if it were our own.
        let src = Headers::quoted(packet.bytes()).map_or(dst, |headers| headers.src);
        let rerouted = self.director.knobs.snat_reroute && self.router.is_local(src);
        let own = if rerouted { Some(src) } else { self.router.source_for(hop, dst) };
        if let Some(IpAddr::V4(own)) = own {
            options::record(packet, own);
        }
    }

    const fn forwards(&self, family: Family) -> bool {
        match family {
            Family::V4 => self.director.knobs.ip_forward,
            Family::V6 => self.director.knobs.ip6_forward,
        }
    }

    /// Sends a finished packet; one that came in fragments leaves in fragments no larger.
    fn leave(&mut self, now: Instant, packet: &mut Packet, hop: Hop, largest: u16) -> Verdict {
        if largest != u16::MAX && packet.len() > usize::from(hop.mtu.min(largest)) {
            // IPv6 is cut as little as any path must carry, and be it into one fragment.
            let is_v6 = packet.bytes().first().is_some_and(|first| first >> 4 == 6);
            let least = if is_v6 { ip::V6_MTU_MIN } else { 0 };
            let mtu = hop.mtu.min(largest.max(least));
            return Verdict::Punt(Why::TooLong { link: hop.link, next: hop.next, mtu });
        }
        self.router.egress(now, packet, hop)
    }
}

/// An address that is ours by a packet's mark alone is none that we speak from: who sent the packet
/// hears nothing, neither from the director nor from the host.
const fn in_silence(verdict: Verdict) -> Verdict {
    match verdict {
        Verdict::Punt(Why::Error { reason, .. }) => Verdict::Drop(reason),
        Verdict::Punt(Why::Local) => Verdict::Drop(DropReason::LocalUnwanted),
        other @ (Verdict::Punt(_) | Verdict::Transmit(_) | Verdict::Drop(_)) => other,
    }
}

/// From one port to another nothing travels that nobody in particular sent, or that is link-local
/// (RFC 4291 section 2.5.6).
fn beyond_scope(src: IpAddr) -> Result<(), Verdict> {
    let reason = DropReason::Martian;
    if src.is_unspecified() {
        return Err(Verdict::Drop(reason));
    }
    if !is_link_local(src) {
        return Ok(());
    }
    let error = Error::Relayed { kind: 1, code: 2, rest: [0; 4] };
    Err(Verdict::Punt(Why::Error { error, source: Source::Ingress, reason }))
}

/// A request that its sender is told about, in the name of the address that it was sent to.
const fn refuse(error: Error, reason: DropReason) -> Verdict {
    Verdict::Punt(Why::Error { error, source: Source::Destination, reason })
}
