//! Putting a packet into a tunnel, and finding what is in one: IP in IP (RFC 2003, RFC 2473), GRE
//! (RFC 2784), generic UDP encapsulation (GUE, draft-ietf-intarea-gue, variant 0).
//!
//! Kept from the kernel: the outer TTL is the inner one after it was counted down; TOS is copied but
//! "congestion experienced" becomes ECT(0) outside; the outer DF is the inner one, and off for an
//! IPv6 packet; the outer identification is 0 with DF; the UDP source port of GUE is a hash of the inner
//! flow within the local port range. Remote checksum offload asks for nothing more than a checksum
//! here, since what comes from a wire has its own checksum already; so it is in the kernel.
//!
//! Left out on purpose: GRE keys and sequence numbers (read over, never written), GUE options.

use std::net::IpAddr;

use super::ip::Fresh;
use super::{checksum, proto, vnet, DropReason, Family, Headers, Packet};

/// What stands between the outer IP header and the packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Kind {
    /// Nothing: IP in IP.
    #[default]
    Ipip,
    /// A GRE header.
    Gre {
        /// With a checksum over header and packet.
        checksum: bool,
    },
    /// UDP and GUE headers.
    Gue {
        /// The UDP port that the server listens on.
        port: u16,
        /// With a UDP checksum; without one it is 0, over IPv6 too (RFC 6935).
        checksum: bool,
    },
}

impl Kind {
    /// Bytes between the outer IP header and the packet.
    const fn header(self) -> u16 {
        match self {
            Self::Ipip => 0,
            Self::Gre { checksum: false } => 4,
            Self::Gre { checksum: true } => 8,
            Self::Gue { .. } => UDP + GUE,
        }
    }
}

/// What a tunnel's outer headers need that the packet does not say.
#[derive(Debug, Clone, Copy)]
pub struct Outer {
    /// Our address.
    pub src: IpAddr,
    /// The server's.
    pub dst: IpAddr,
    /// What goes in between.
    pub kind: Kind,
    /// Copy "don't fragment" of an IPv4 packet (`pmtu_disc`).
    pub copy_dont_fragment: bool,
    /// Identification of the outer IPv4 header; used without DF, and where DF does not help.
    pub id: u16,
    /// It came in fragments and leaves in such, whatever DF says.
    pub will_be_cut: bool,
    /// A hash of the inner flow.
    pub flow_hash: u32,
}

/// The local port range from which GUE takes its source ports (`net.ipv4.ip_local_port_range`).
const SOURCE_PORTS: std::ops::Range<u16> = 32768..60999;

const UDP: u16 = 8;
const GUE: u16 = 4;

const ETHERTYPE_V4: [u8; 2] = [0x08, 0x00];
const ETHERTYPE_V6: [u8; 2] = [0x86, 0xdd];

/// Bytes that a tunnel adds in front of a packet when the outer header is of `family`.
pub const fn overhead(family: Family, kind: Kind) -> u16 {
    let outer = match family {
        Family::V4 => 20,
        Family::V6 => 40,
    };
    outer + kind.header()
}

/// The longest inner packet when the path to the server carries `mtu` bytes; `None` if that is less than
/// the outer family guarantees (RFC 791: 68, RFC 8200: 1280), for then nothing travels.
pub fn inner_mtu(mtu: u16, outer: Family, kind: Kind) -> Option<u16> {
    let least = match outer {
        Family::V4 => 68,
        Family::V6 => super::ip::V6_MTU_MIN,
    };
    mtu.checked_sub(overhead(outer, kind)).filter(|&mtu| mtu >= least)
}

/// Puts the outer headers in front. `inner` says what the packet's header says now, TTL counted down.
/// Those of a super-frame are a pattern: lengths and checksums get right when it is split.
///
/// # Errors
/// As [`Fresh::push`].
pub fn encapsulate(packet: &mut Packet, inner: &Headers, outer: &Outer) -> Result<(), DropReason> {
    if packet.offload.kind == vnet::Kind::Whole {
        vnet::complete(packet);
    }
    const CONGESTION: u8 = 3;
    let tos = if inner.tos & CONGESTION == CONGESTION { inner.tos & !1 } else { inner.tos };
    let dont_fragment =
        outer.copy_dont_fragment && inner.family == Family::V4 && inner.dont_fragment;
    let id = if dont_fragment && !outer.will_be_cut { 0 } else { outer.id };
    let proto = match (outer.kind, inner.family) {
        (Kind::Ipip, Family::V4) => proto::IPIP,
        (Kind::Ipip, Family::V6) => proto::IPV6,
        (Kind::Gre { checksum }, family) => push_gre(packet, family, checksum)?,
        (Kind::Gue { port, checksum }, family) => push_gue(packet, family, port, checksum, outer)?,
    };
    let (src, dst) = (outer.src, outer.dst);
    let sum_waits = outer.kind == Kind::Gre { checksum: true } && sum_may_wait(packet);
    let before = packet.len();
    Fresh { src, dst, proto, ttl: inner.ttl, tos, dont_fragment, id }.push(packet)?;
    if sum_waits {
        let header = u16::try_from(packet.len() - before).expect("an IP header is short");
        vnet::leave_gre_sum(packet, header);
    }
    Ok(())
}

/// Whether a sum over the whole packet can be left to its sender. One over a super-frame cannot: it
/// is made for each piece.
fn sum_may_wait(packet: &Packet) -> bool {
    packet.sums_wait && packet.offload.kind == vnet::Kind::Whole
}

fn push_gre(packet: &mut Packet, inner: Family, with_sum: bool) -> Result<u8, DropReason> {
    let kind = Kind::Gre { checksum: with_sum };
    let header = packet.push(usize::from(kind.header())).ok_or(DropReason::NoHeadroom)?;
    header.fill(0);
    header[2..4].copy_from_slice(match inner {
        Family::V4 => &ETHERTYPE_V4,
        Family::V6 => &ETHERTYPE_V6,
    });
    if with_sum {
        header[0] = GRE_CHECKSUM;
        if !sum_may_wait(packet) {
            let sum = checksum::of(packet.bytes());
            packet.bytes_mut()[4..6].copy_from_slice(&sum.to_be_bytes());
        }
    }
    Ok(proto::GRE)
}

fn push_gue(
    packet: &mut Packet,
    inner: Family,
    port: u16,
    with_sum: bool,
    outer: &Outer,
) -> Result<u8, DropReason> {
    let whole = packet.offload.kind == vnet::Kind::Whole;
    let len = u16::try_from(packet.len()).ok().and_then(|len| len.checked_add(UDP + GUE));
    let len = if whole { len.ok_or(DropReason::TooBig)? } else { 0 };
    let header = packet.push(usize::from(UDP + GUE)).ok_or(DropReason::NoHeadroom)?;
    header.fill(0);
    header[0..2].copy_from_slice(&source_port(outer.flow_hash).to_be_bytes());
    header[2..4].copy_from_slice(&port.to_be_bytes());
    header[4..6].copy_from_slice(&len.to_be_bytes());
    header[9] = match inner {
        Family::V4 => proto::IPIP,
        Family::V6 => proto::IPV6,
    };
    if with_sum {
        let sum = match checksum::transport(outer.src, outer.dst, proto::UDP, packet.bytes()) {
            0 => 0xffff,
            sum => sum,
        };
        packet.bytes_mut()[6..8].copy_from_slice(&sum.to_be_bytes());
    }
    Ok(proto::UDP)
}

/// A hash scaled into the local port range.
fn source_port(hash: u32) -> u16 {
    let width = u64::from(SOURCE_PORTS.end - SOURCE_PORTS.start);
    let step = (u64::from(hash) * width) >> 32;
    SOURCE_PORTS.start + u16::try_from(step).expect("below the width of the range")
}

const GRE_CHECKSUM: u8 = 0x80;
const GRE_KEY: u8 = 0x20;
const GRE_SEQUENCE: u8 = 0x10;

/// Where the IP packet begins in what follows an outer header of protocol GRE; `None` if it is another
/// version or holds no IP packet. `whole` says that nothing is cut off, so that a checksum can be
/// held against it. A sum of 0 is not made yet: a sender on the same host left it to a device, and
/// the packet met none.
pub fn in_gre(bytes: &[u8], whole: bool) -> Option<usize> {
    let &[flags, version, a, b, ..] = bytes else { return None };
    let known = flags & !(GRE_CHECKSUM | GRE_KEY | GRE_SEQUENCE) == 0 && version == 0;
    if !known || ![ETHERTYPE_V4, ETHERTYPE_V6].contains(&[a, b]) {
        return None;
    }
    let unmade = bytes.get(4..6) == Some(&[0, 0]);
    if whole && flags & GRE_CHECKSUM != 0 && !unmade && checksum::of(bytes) != 0 {
        return None;
    }
    let fields = (flags & (GRE_CHECKSUM | GRE_KEY | GRE_SEQUENCE)).count_ones();
    let at = 4 + 4 * usize::try_from(fields).ok()?;
    (bytes.len() > at).then_some(at)
}

/// Where the IP packet begins in the data of a UDP datagram to a GUE port; `None` if it is a control
/// message or holds no IP packet. Variant 1 is the IP packet itself.
pub fn in_gue(bytes: &[u8]) -> Option<usize> {
    const CONTROL: u8 = 0x20;
    let &[first, protocol, ..] = bytes else { return None };
    if first >> 6 == 1 {
        return Some(0);
    }
    let is_packet = matches!(protocol, proto::IPIP | proto::IPV6);
    if first >> 6 != 0 || first & CONTROL != 0 || !is_packet {
        return None;
    }
    let at = usize::from(GUE) + 4 * usize::from(first & 0x1f);
    (bytes.len() > at).then_some(at)
}

/// A packet of a tunnel as an ICMP error quotes it: how far it is to the packet inside, counted from
/// the outer IP header, and what kind of tunnel that is.
pub fn quoted(bytes: &[u8], outer: &Headers) -> Option<(usize, Kind)> {
    let at = usize::from(outer.transport);
    let rest = outer.payload(bytes);
    let (skip, kind) = match outer.proto {
        proto::IPIP | proto::IPV6 => (0, Kind::Ipip),
        proto::GRE => (in_gre(rest, false)?, Kind::Gre { checksum: rest[0] & GRE_CHECKSUM != 0 }),
        proto::UDP => {
            let port = u16::from_be_bytes([*rest.get(2)?, *rest.get(3)?]);
            let data = rest.get(usize::from(UDP)..)?;
            let checksum = rest[6..8] != [0, 0];
            (usize::from(UDP) + in_gue(data)?, Kind::Gue { port, checksum })
        }
        _ => return None,
    };
    Some((at + skip, kind))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::packet::LinkId;

    const KINDS: [Kind; 5] = [
        Kind::Ipip,
        Kind::Gre { checksum: false },
        Kind::Gre { checksum: true },
        Kind::Gue { port: 6080, checksum: false },
        Kind::Gue { port: 6080, checksum: true },
    ];

    fn inner(family: Family) -> Packet {
        let mut packet = Packet::copy_of(LinkId(0), b"\x0f\xa0\x00\x35\x00\x0d\0\0query");
        let (src, dst) = ends(family);
        Fresh { src, dst, proto: proto::UDP, ttl: 9, tos: 3, dont_fragment: true, id: 5 }
            .push(&mut packet)
            .unwrap();
        packet
    }

    fn ends(family: Family) -> (IpAddr, IpAddr) {
        match family {
            Family::V4 => ([10, 81, 0, 1].into(), [10, 81, 0, 11].into()),
            Family::V6 => ("fd81::1".parse().unwrap(), "fd81::11".parse().unwrap()),
        }
    }

    fn tunnelled(kind: Kind, inside: Family, outside: Family) -> Packet {
        through(inner(inside), kind, outside)
    }

    fn through(mut packet: Packet, kind: Kind, outside: Family) -> Packet {
        let headers = Headers::of(packet.bytes()).unwrap();
        let (src, dst) = ends(outside);
        let (will_be_cut, flow_hash) = (false, 1 << 31);
        let outer =
            Outer { src, dst, kind, copy_dont_fragment: true, id: 7, will_be_cut, flow_hash };
        encapsulate(&mut packet, &headers, &outer).unwrap();
        packet
    }

    #[test]
    fn what_is_put_in_is_found_again_and_as_long_as_was_said() {
        for kind in KINDS {
            for inside in [Family::V4, Family::V6] {
                for outside in [Family::V4, Family::V6] {
                    let sent = inner(inside);
                    let packet = tunnelled(kind, inside, outside);
                    let headers = Headers::of(packet.bytes()).unwrap();
                    assert_eq!((headers.ttl, headers.tos), (9, 2));
                    assert_eq!(packet.len() - sent.len(), usize::from(overhead(outside, kind)));
                    let (at, found) = quoted(packet.bytes(), &headers).unwrap();
                    assert_eq!((&packet.bytes()[at..], found), (sent.bytes(), kind));
                }
            }
        }
    }

    #[test]
    fn checksums_are_right_where_they_are_asked_for() {
        for outside in [Family::V4, Family::V6] {
            for kind in KINDS {
                let packet = tunnelled(kind, Family::V4, outside);
                let headers = Headers::of(packet.bytes()).unwrap();
                let rest = headers.payload(packet.bytes());
                match kind {
                    Kind::Ipip | Kind::Gre { checksum: false } => {}
                    Kind::Gre { checksum: true } => assert_eq!(checksum::of(rest), 0),
                    Kind::Gue { checksum: false, .. } => assert_eq!(rest[6..8], [0, 0]),
                    Kind::Gue { checksum: true, .. } => {
                        let (src, dst) = (headers.src, headers.dst);
                        assert_eq!(checksum::transport(src, dst, proto::UDP, rest), 0);
                    }
                }
            }
        }
    }

    #[test]
    fn a_gre_sum_that_may_wait_is_made_by_whoever_sends_the_packet() {
        for outside in [Family::V4, Family::V6] {
            let kind = Kind::Gre { checksum: true };
            let made = tunnelled(kind, Family::V4, outside);
            let mut left = inner(Family::V4);
            left.sums_wait = true;
            let mut left = through(left, kind, outside);
            let at = usize::from(Headers::of(left.bytes()).unwrap().transport);
            assert_eq!(left.bytes()[at + 4..at + 6], [0, 0]);
            assert!(in_gre(&left.bytes()[at..], true).is_some(), "a neighbour takes it as it is");

            let mut header = left.clone();
            assert!(vnet::push_header(&mut header));
            let word = |at: usize| u16::from_ne_bytes([header.bytes()[at], header.bytes()[at + 1]]);
            let start = u16::try_from(at).unwrap();
            assert_eq!((header.bytes()[0], word(2), word(6), word(8)), (1, start + 8, start, 4));

            vnet::complete(&mut left);
            assert_eq!(left.bytes(), made.bytes());
        }
    }

    #[test]
    fn source_ports_lie_within_the_local_range() {
        assert_eq!((source_port(0), source_port(u32::MAX)), (32768, 60998));
    }

    #[test]
    fn what_is_cut_short_or_foreign_holds_no_packet() {
        for len in 0..=4 {
            assert_eq!(in_gre(&[0, 0, 8, 0][..len], true), None);
            assert_eq!(in_gue(&[0, 4, 0, 0][..len]), None);
        }
        assert_eq!(in_gre(&[0, 1, 8, 0, 0x45], true), None, "version 1");
        assert_eq!(in_gre(&[0, 0, 8, 6, 0x45], true), None, "ARP");
        assert_eq!(in_gre(&[0x80, 0, 8, 0, 1, 2, 0, 0, 0x45], true), None, "wrong checksum");
        assert_eq!(in_gue(&[0x20, 4, 0, 0, 0x45]), None, "control");
        assert_eq!(in_gue(&[0x02, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x45]), Some(12));
    }
}
