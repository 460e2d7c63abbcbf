//! ICMP errors about our connections, both ways (RFC 5508 is the same idea for NAT).
//!
//! Kept from the kernel: IPv4 unreachable, source quench and time exceeded are looked at, parameter
//! problem and redirect are not; every ICMPv6 error is. Addresses and ports inside the quoted packet
//! are translated and its IPv4 header checksum mended, its transport checksum is not. Errors count as
//! packets and leave state and timer alone. An error that does not concern a connection passes. Errors
//! about our own tunnels are told to the client, about the packet inside; "fragmentation needed" teaches
//! the path's MTU, and the first one tells the client what was known before, as in the kernel.

use std::net::IpAddr;

use super::forward::{kind_of, Binding};
use super::{Decision, Director, Told};
use crate::conn::Forward;
use crate::packet::icmp::Error;
use crate::packet::ip::{self, Which};
use crate::packet::{
    checksum, l4, proto, tunnel, DropReason, Endpoint, Family, Flow, Fragment, Headers, Packet,
};
use crate::world::Instant;

/// Bytes of an ICMP header in front of what it quotes.
const ICMP_HEADER: u16 = 8;

/// The packet that an ICMP error quotes.
pub(super) struct Quote {
    /// Where it begins in the IP packet.
    at: u16,
    /// Its flow.
    flow: Flow,
}

/// What an ICMP error quotes, if it is one of those that are looked at and quotes enough.
pub(super) fn quote(bytes: &[u8], headers: &Headers) -> Option<Quote> {
    let icmp = headers.payload(bytes);
    if !is_error(icmp, headers) {
        return None;
    }
    let quoted = icmp.get(usize::from(ICMP_HEADER)..)?;
    let inner = Headers::quoted(quoted).ok().filter(|inner| inner.family == headers.family)?;
    let flow = inner.flow(quoted)?;
    Some(Quote { at: headers.transport + ICMP_HEADER, flow })
}

/// Whether a packet is an error about a packet of which it quotes no ports: no connection can be made
/// from that.
pub(super) fn quotes_too_little(bytes: &[u8], headers: &Headers) -> bool {
    let icmp = headers.payload(bytes);
    let quoted = icmp.get(usize::from(ICMP_HEADER)..).filter(|_| is_error(icmp, headers));
    quoted.is_some_and(|quoted| {
        Headers::quoted(quoted).is_ok_and(|inner| {
            let known = inner.family == headers.family && l4::has_ports(inner.proto);
            known && inner.fragment != Fragment::Later && inner.flow(quoted).is_none()
        })
    })
}

/// Whether a packet is an ICMP error of those that are looked at.
fn is_error(icmp: &[u8], headers: &Headers) -> bool {
    let Some(&kind) = icmp.first() else { return false };
    headers.fragment != Fragment::Later
        && match (headers.family, headers.proto) {
            (Family::V4, proto::ICMP) => matches!(kind, 3 | 4 | 11),
            (Family::V6, proto::ICMPV6) => kind < 128,
            _ => false,
        }
}

impl Director {
    /// An error that only travels through us, about a connection to an address that is not ours
    /// (a service known by mark).
    pub fn related(&mut self, now: Instant, packet: &Packet, headers: &Headers) -> Decision {
        if !self.services.has_family(headers.family) {
            return Decision::Pass;
        }
        match quote(packet.bytes(), headers) {
            Some(quote) => self.related_request(now, packet, headers, &quote),
            None if self.knobs.schedule_icmp && quotes_too_little(packet.bytes(), headers) => {
                Decision::Drop(DropReason::TransportShort)
            }
            None => Decision::Pass,
        }
    }

    /// An error about a packet in a tunnel of ours: what is said about it to the client. `None` if it
    /// is not such a message, or quotes too little.
    pub(super) fn about_tunnel(&mut self, bytes: &[u8], headers: &Headers) -> Option<Decision> {
        let icmp = headers.payload(bytes);
        // The kernel does not look into tunnels over IPv6.
        if headers.family == Family::V6 || !is_error(icmp, headers) {
            return None;
        }
        let quoted = icmp.get(usize::from(ICMP_HEADER)..)?;
        let outer = Headers::quoted(quoted).ok().filter(|outer| outer.src == headers.dst)?;
        if outer.fragment == Fragment::Later {
            return None;
        }
        let (at, kind) = tunnel::quoted(quoted, &outer)?;
        let inside = quoted.get(at..)?;
        let inner = Headers::quoted(inside).ok().filter(|inner| inner.family == Family::V4)?;
        let id = self.table.find_request(&inner.flow(inside)?)?;
        let conn = self.table.get(id);
        let spec = &self.services.dest(conn.dest_id).spec;
        let ours = conn.forward == Forward::Tunnel
            && conn.dest.addr == outer.dst
            && kind_of(spec.tunnel) == kind;
        if !ours {
            return None;
        }
        if !is_sound(bytes, headers) {
            return Some(Decision::Drop(DropReason::IcmpMalformed));
        }
        let said = [icmp[0], icmp[1], icmp[4], icmp[5], icmp[6], icmp[7]];
        let told = match retell(said, outer.dst, &inner, kind) {
            Ok(told) => told,
            Err(learnt) => return Some(learnt),
        };
        let at = headers.transport + ICMP_HEADER + u16::try_from(at).ok()?;
        self.count_out(id, u16::try_from(inside.len()).unwrap_or(u16::MAX));
        Some(Decision::Relay { at, told })
    }

    /// An error from the client's side: it quotes what the virtual end sent to the client.
    pub(super) fn related_request(
        &mut self,
        now: Instant,
        packet: &Packet,
        headers: &Headers,
        quote: &Quote,
    ) -> Decision {
        let bytes = packet.bytes();
        let flow = quote.flow.reversed();
        let known = self.table.find_request(&flow);
        let id = match known.map_or_else(|| self.admit_related(now, packet.mark, &flow), Ok) {
            Ok(id) => id,
            Err(decision) => return decision,
        };
        let mut binding = self.binding(id);
        binding.quotes_at = Some(quote.at);
        if binding.forward == Forward::Masq && !is_sound(bytes, headers) {
            return Decision::Drop(DropReason::IcmpMalformed);
        }
        self.count_in(id, headers.len);
        Decision::Carry(binding)
    }

    /// An error that quotes what a client sent, and has come to us instead of the client: it counts as if
    /// it went there. `None` if it is none.
    pub(super) fn misdirected(
        &mut self,
        packet: &Packet,
        headers: &Headers,
        quote: &Quote,
    ) -> Option<Decision> {
        let id = self.table.find_reply(&quote.flow.reversed())?;
        if !is_sound(packet.bytes(), headers) {
            return Some(Decision::Drop(DropReason::IcmpMalformed));
        }
        self.count_out(id, headers.len);
        Some(Decision::Pass)
    }

    /// An error from the server's side, or from a router there: it quotes what the client sent to
    /// the server. It reaches the client as if the virtual address had said it.
    pub(super) fn related_reply(
        &mut self,
        packet: &mut Packet,
        headers: &Headers,
        quote: &Quote,
    ) -> Result<(), DropReason> {
        let Some(id) = self.table.find_reply(&quote.flow.reversed()) else { return Ok(()) };
        let virt = self.table.get(id).virt;
        if !is_sound(packet.bytes(), headers) {
            return Err(DropReason::IcmpMalformed);
        }
        translate(packet, headers, quote.at, Which::Source, Which::Destination, virt);
        self.count_out(id, headers.len);
        Ok(())
    }
}

/// What the client is told; an error if it does not want to know.
fn retell(
    [kind, code, rest @ ..]: [u8; 6],
    server: IpAddr,
    inner: &Headers,
    kind_of_tunnel: tunnel::Kind,
) -> Result<Told, Decision> {
    if (kind, code) != (3, 4) {
        return Ok(Told::Error(Error::Relayed { kind, code, rest }));
    }
    let told = u32::from(u16::from_be_bytes([rest[2], rest[3]]));
    match inner.dont_fragment {
        true => Ok(Told::TooBig { server, told, kind: kind_of_tunnel }),
        false => Err(Decision::Learnt { server, told }),
    }
}

/// Translates an error from the client's side for the real server.
pub(super) fn translate_request(
    packet: &mut Packet,
    headers: &Headers,
    at: u16,
    binding: &Binding,
) -> Result<(), DropReason> {
    translate(packet, headers, at, Which::Destination, Which::Source, binding.dest);
    Ok(())
}

/// Writes `end` as the `outside` address of the error and as the `inside` address and port of what it
/// quotes, and sums the ICMP message up anew.
fn translate(
    packet: &mut Packet,
    headers: &Headers,
    at: u16,
    outside: Which,
    inside: Which,
    end: Endpoint,
) {
    let bytes = packet.bytes_mut();
    ip::set_address(bytes, outside, end.addr);
    let quoted = &mut bytes[usize::from(at)..];
    if let Ok(inner) = Headers::quoted(quoted) {
        ip::set_address(quoted, inside, end.addr);
        let port = usize::from(inner.transport) + if inside == Which::Source { 0 } else { 2 };
        if let Some(place) = quoted.get_mut(port..port + 2) {
            place.copy_from_slice(&end.port.to_be_bytes());
        }
    }
    let (src, dst) = match outside {
        Which::Source => (end.addr, headers.dst),
        Which::Destination => (headers.src, end.addr),
    };
    let icmp = &mut bytes[usize::from(headers.transport)..];
    icmp[2..4].fill(0);
    let sum = match headers.family {
        Family::V4 => checksum::of(icmp),
        Family::V6 => checksum::transport(src, dst, proto::ICMPV6, icmp),
    };
    icmp[2..4].copy_from_slice(&sum.to_be_bytes());
}

/// Whether the message's own checksum is right.
fn is_sound(bytes: &[u8], headers: &Headers) -> bool {
    let icmp = headers.payload(bytes);
    match headers.family {
        Family::V4 => checksum::of(icmp) == 0,
        Family::V6 => checksum::transport(headers.src, headers.dst, proto::ICMPV6, icmp) == 0,
    }
}
