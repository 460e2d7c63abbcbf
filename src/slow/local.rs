//! Packets for an address of ours that no service took: what a host without open ports says.
//!
//! Kept from the kernel (RFC 1122, RFC 9293 section 3.10.7.1): an echo request is answered, a TCP
//! segment reset, a datagram refused with "port unreachable", another protocol with "protocol
//! unreachable"; what has a wrong checksum is dropped in silence.
//!
//! Left out on purpose: sockets, ICMP errors about what we said ourselves.

use std::net::IpAddr;

use super::{echo_of, Outcome, Slow};
use crate::net::Router;
use crate::packet::extensions::{self, Refused};
use crate::packet::icmp::{self, Error, Source};
use crate::packet::ip::Fresh;
use crate::packet::options::Echo;
use crate::packet::{checksum, proto, DropReason, Family, Fragment, Headers, Packet};
use crate::world::Instant;

const TCP_HEADER: usize = 20;
const UDP_HEADER: usize = 8;
const TTL: u8 = 64;
/// Datagrams whose checksum may leave out their end (RFC 3828).
const UDP_LITE: u8 = 136;
/// What stands in IPv6 where nothing follows.
const NO_NEXT_HEADER: u8 = 59;
/// What routers tell each other of groups (RFC 7761); nobody routes those here.
const PIM: u8 = 103;

const FIN: u8 = 0x01;
const SYN: u8 = 0x02;
const RST: u8 = 0x04;
const ACK: u8 = 0x10;

impl Slow {
    /// Takes an IP packet for an address of ours.
    pub(super) fn local(&mut self, now: Instant, net: &mut Router, mut packet: Packet) -> Outcome {
        let headers = match Headers::of(packet.bytes()) {
            Ok(headers) => headers,
            Err(reason) => return Outcome::Dropped(reason),
        };
        if let Some(error) = extensions::unfit(packet.bytes(), &headers) {
            return self.refuse(now, net, &packet, error);
        }
        if headers.fragment != Fragment::Whole {
            return self.gather(now, net, &packet);
        }
        if headers.family == Family::V6 {
            match extensions::for_host(packet.bytes()) {
                Ok(()) => {}
                Err(Refused(Some(error))) => return self.refuse(now, net, &packet, error),
                Err(Refused(None)) => return Outcome::Dropped(DropReason::ExtensionHeaders),
            }
        }
        let Ok(options) = echo_of(now, net, &packet, &headers, headers.dst, Error::PortUnreachable)
        else {
            return Outcome::Dropped(DropReason::IpOptions);
        };
        match (headers.proto, headers.family) {
            (proto::ICMP, Family::V4) | (proto::ICMPV6, Family::V6) => {
                self.local_icmp(now, net, packet, &headers, &options)
            }
            // Who answers for all routers of a network speaks for none of them.
            (proto::TCP, _) if net.is_anycast(headers.dst) => {
                Outcome::Dropped(DropReason::LocalUnwanted)
            }
            (proto::TCP, _) => match reset(&packet, &headers, &options) {
                Ok(Some(answer)) => {
                    self.say(answer);
                    Outcome::Answered
                }
                Ok(None) => Outcome::Dropped(DropReason::LocalUnwanted),
                Err(reason) => Outcome::Dropped(reason),
            },
            (proto::UDP, _) => match check_udp(&packet, &headers) {
                Ok(len) => {
                    packet.truncate(usize::from(headers.transport) + len);
                    self.refuse(now, net, &packet, Error::PortUnreachable)
                }
                Err(reason) => Outcome::Dropped(reason),
            },
            (UDP_LITE, _) if !is_lite(&packet, &headers) => {
                Outcome::Dropped(DropReason::TransportChecksum)
            }
            (UDP_LITE, _) => self.refuse(now, net, &packet, Error::PortUnreachable),
            // Neither who tells what groups it is in nor a packet that says that it carries nothing
            // (RFC 8200 section 4.7) wants an answer.
            (proto::IGMP | PIM, Family::V4) | (NO_NEXT_HEADER | PIM, Family::V6) => {
                Outcome::Dropped(DropReason::LocalUnwanted)
            }
            _ => self.refuse(now, net, &packet, Error::ProtocolUnreachable),
        }
    }

    fn local_icmp(
        &mut self,
        now: Instant,
        net: &mut Router,
        mut packet: Packet,
        headers: &Headers,
        options: &Echo,
    ) -> Outcome {
        if !icmp::is_intact(packet.bytes(), headers) {
            return Outcome::Dropped(DropReason::IcmpMalformed);
        }
        if !icmp::is_question(packet.bytes(), headers) {
            if let Some((host, told)) = narrow_path(packet.bytes(), headers, net) {
                net.learn_path(now, host, told);
            }
            return Outcome::Dropped(DropReason::LocalUnwanted);
        }
        let (id, day_ms) = (self.rng.next_u16(), net.as_host(now, None).day_ms);
        // Who is asked as one of many answers as itself.
        let own = (net.is_anycast(headers.dst) || headers.dst.is_multicast()).then_some(());
        let own = own.and_then(|()| net.ingress_source(packet.link, headers.family, headers.src));
        let headers = &Headers { dst: own.unwrap_or(headers.dst), ..*headers };
        match icmp::reply(&mut packet, headers, id, options.bytes(), day_ms) {
            Ok(()) => {
                self.send(now, net, packet);
                Outcome::Answered
            }
            Err(reason) => Outcome::Dropped(reason),
        }
    }

    fn refuse(&mut self, now: Instant, net: &Router, packet: &Packet, error: Error) -> Outcome {
        match self.tell(now, net, packet, error, Source::Destination) {
            Ok(()) => Outcome::Answered,
            Err(reason) => Outcome::Dropped(reason),
        }
    }
}

/// What a router says to us of the path that an answer of ours took, or a datagram: to whom, and how many
/// bytes it carries. Who says so of IPv6 is believed whoever has sent it.
fn narrow_path(bytes: &[u8], headers: &Headers, net: &Router) -> Option<(IpAddr, u32)> {
    const ECHO_REPLY: u8 = 0;
    let message = headers.payload(bytes);
    let (rest, quoted) = message.get(4..)?.split_first_chunk::<4>()?;
    let told = u32::from_be_bytes(*rest);
    let about = Headers::quoted(quoted).ok().filter(|about| about.family == headers.family)?;
    let kind = *about.payload(quoted).first_chunk::<8>()?.first()?;
    let (is_ours, told) = match (headers.family, message[0], message[1], about.proto) {
        (Family::V4, 3, 4, proto::UDP) => (net.is_local(about.src), told & 0xffff),
        (Family::V4, 3, 4, proto::ICMP) => {
            (kind == ECHO_REPLY && net.is_local(about.src), told & 0xffff)
        }
        (Family::V6, 2, _, proto::ICMPV6) => (true, told),
        _ => (false, 0),
    };
    is_ours.then_some((about.dst, told))
}

/// The answer to a segment for a port where nobody listens; `None` for a reset.
fn reset(packet: &Packet, headers: &Headers, options: &Echo) -> Result<Option<Packet>, DropReason> {
    let segment = headers.payload(packet.bytes());
    if segment.len() < TCP_HEADER {
        return Err(DropReason::TransportShort);
    }
    let header_len = usize::from(segment[12] >> 4) * 4;
    if header_len < TCP_HEADER || header_len > segment.len() {
        return Err(DropReason::TransportShort);
    }
    if checksum::transport(headers.src, headers.dst, proto::TCP, segment) != 0 {
        return Err(DropReason::TransportChecksum);
    }
    let flags = segment[13];
    if flags & RST != 0 {
        return Ok(None);
    }
    let word = |at: usize| {
        u32::from_be_bytes([segment[at], segment[at + 1], segment[at + 2], segment[at + 3]])
    };
    let (seq, ack, flags) = if flags & ACK != 0 {
        (word(8), 0, RST)
    } else {
        let data = u32::try_from(segment.len() - header_len).unwrap_or(0);
        let length = data + u32::from(flags & SYN != 0) + u32::from(flags & FIN != 0);
        (0, word(4).wrapping_add(length), RST | ACK)
    };
    let mut answer = [0; TCP_HEADER];
    answer[0..2].copy_from_slice(&segment[2..4]);
    answer[2..4].copy_from_slice(&segment[0..2]);
    answer[4..8].copy_from_slice(&u32::to_be_bytes(seq));
    answer[8..12].copy_from_slice(&u32::to_be_bytes(ack));
    answer[12] = 5 << 4;
    answer[13] = flags;
    let (src, dst) = (headers.dst, headers.src);
    let sum = checksum::transport(src, dst, proto::TCP, &answer);
    answer[16..18].copy_from_slice(&sum.to_be_bytes());
    let mut answer = Packet::copy_of(packet.link, &answer);
    // Congestion marks are not for a reset to echo.
    let tos = headers.tos & !3;
    Fresh { src, dst, proto: proto::TCP, ttl: TTL, tos, dont_fragment: true, id: 0 }
        .push_with(&mut answer, options.bytes())?;
    Ok(Some(answer))
}

/// How long a datagram is that is worth an error (RFC 768, RFC 8200 section 8.1). What lies behind it may
/// be part of the checksum, since the kernel sums up whole packets where it puts them together.
fn check_udp(packet: &Packet, headers: &Headers) -> Result<usize, DropReason> {
    let segment = headers.payload(packet.bytes());
    if segment.len() < UDP_HEADER {
        return Err(DropReason::TransportShort);
    }
    // In IPv6, a length of 0 is that of the packet (RFC 2675 section 4).
    let len = match (usize::from(u16::from_be_bytes([segment[4], segment[5]])), headers.family) {
        (0, Family::V6) => segment.len(),
        (len, _) => len,
    };
    let datagram = segment.get(..len).filter(|datagram| datagram.len() >= UDP_HEADER);
    let datagram = datagram.ok_or(DropReason::TransportShort)?;
    let is_right =
        |bytes: &[u8]| checksum::transport(headers.src, headers.dst, proto::UDP, bytes) == 0;
    let right = match (headers.family, datagram[6..8] == [0, 0]) {
        (Family::V4, true) => true,
        (Family::V6, true) => false,
        _ => is_right(datagram) || is_right(segment),
    };
    right.then_some(len).ok_or(DropReason::TransportChecksum)
}

/// Whether a UDP-Lite datagram is worth an error (RFC 3828 section 3.1).
fn is_lite(packet: &Packet, headers: &Headers) -> bool {
    let segment = headers.payload(packet.bytes());
    if segment.len() < UDP_HEADER || segment[6..8] == [0, 0] {
        return false;
    }
    let coverage = match usize::from(u16::from_be_bytes([segment[4], segment[5]])) {
        0 => segment.len(),
        coverage => coverage,
    };
    let covered = segment.get(..coverage).filter(|covered| covered.len() >= UDP_HEADER);
    // The pseudo-header has the length of all, the sum is that of what is covered.
    covered.is_some_and(|covered| {
        let pseudo = checksum::half(headers.src, headers.dst, UDP_LITE, segment.len());
        checksum::of(&[&pseudo.to_be_bytes()[..], covered].concat()) == 0
    })
}

#[cfg(test)]
mod tests {
    use super::super::tests::{at, hex, host, ip, packet, sent, WAN};
    use super::*;
    use crate::packet::icmp::HEADER;
    use crate::packet::Why;

    /// What a host that was sent `hex` from the WAN says to it, and how it counted.
    fn said(bytes: &[u8]) -> (Vec<Packet>, Outcome) {
        let (mut slow, mut net) = host();
        let outcome = slow.handle(at(0), &mut net, Packet::copy_of(WAN, bytes), Why::Local);
        (sent(&mut slow, &mut net, at(0)), outcome)
    }

    #[test]
    fn segments_are_reset_as_the_kernel_recorded_it() {
        let golden = [
            (
                "4500002812344000400612e80a5a01010a50000a0fa0270f000003e800000000500220003f970000",
                "45000028000040004006251c0a50000a0a5a0101270f0fa000000000000003e9501400005f840000",
            ),
            (
                "4500002812344000400612e80a5a01010a50000a0fa0270f000003e800000005501020003f840000",
                "45000028000040004006251c0a50000a0a5a0101270f0fa000000005000000005004000063780000",
            ),
        ];
        for (segment, answer) in golden {
            let (said, outcome) = said(&hex(segment));
            assert!(matches!(outcome, Outcome::Answered));
            assert_eq!(said[0].bytes(), hex(answer));
        }
        let reset =
            "4500002812344000400612e80a5a01010a50000a0fa0270f000003e800000000500420003f950000";
        let (said, outcome) = said(&hex(reset));
        assert!(said.is_empty() && matches!(outcome, Outcome::Dropped(DropReason::LocalUnwanted)));
    }

    fn segment(src: &str, dst: &str, flags: u8, data: &[u8]) -> Vec<u8> {
        let mut segment = vec![0x0f, 0xa0, 0, 80, 0, 0, 3, 0xe8, 0, 0, 0, 77, 0x50, flags];
        segment.extend_from_slice(&[0x20, 0, 0, 0, 0, 0]);
        segment.extend_from_slice(data);
        let sum = checksum::transport(ip(src), ip(dst), proto::TCP, &segment);
        segment[16..18].copy_from_slice(&sum.to_be_bytes());
        packet(src, dst, proto::TCP, &segment).bytes().to_vec()
    }

    #[test]
    fn a_reset_acknowledges_what_the_segment_took_of_the_sequence() {
        for (src, dst) in [("10.90.1.1", "10.80.0.10"), ("fd90::1:1", "fd80::10")] {
            for (flags, data, seq, ack, answer) in [
                (SYN, 9, 0, 1010, RST | ACK),
                (FIN, 0, 0, 1001, RST | ACK),
                (0, 0, 0, 1000, RST | ACK),
                (0x29, 0, 0, 1001, RST | ACK),
                (SYN | ACK, 0, 77, 0, RST),
                (0x18, 5, 77, 0, RST),
            ] {
                let (said, _) = said(&segment(src, dst, flags, &vec![7; data]));
                let headers = Headers::of(said[0].bytes()).unwrap();
                let tcp = headers.payload(said[0].bytes());
                assert_eq!(tcp[4..8], u32::to_be_bytes(seq));
                assert_eq!(tcp[8..12], u32::to_be_bytes(ack));
                assert_eq!((tcp[13], headers.ttl, headers.src), (answer, 64, ip(dst)));
                let sum = checksum::transport(headers.src, headers.dst, proto::TCP, tcp);
                assert_eq!(sum, 0);
            }
        }
    }

    #[test]
    fn wrong_checksums_are_met_with_silence() {
        for (src, dst) in [("10.90.1.1", "10.80.0.10"), ("fd90::1:1", "fd80::10")] {
            let mut bytes = segment(src, dst, SYN, &[]);
            let last = bytes.len() - 1;
            bytes[last - 5] ^= 1;
            let udp = packet(src, dst, proto::UDP, &[0, 1, 0, 2, 0, 9, 1, 1, 7]);
            let echo = match Family::of(ip(src)) {
                Family::V4 => packet(src, dst, proto::ICMP, &[8, 0, 1, 1, 0, 0, 0, 0]),
                Family::V6 => packet(src, dst, proto::ICMPV6, &[128, 0, 1, 1, 0, 0, 0, 0]),
            };
            for bytes in [&bytes[..], udp.bytes(), echo.bytes()] {
                let (said, outcome) = said(bytes);
                assert!(said.is_empty() && matches!(outcome, Outcome::Dropped(_)));
            }
        }
    }

    #[test]
    fn datagrams_and_unknown_protocols_are_refused() {
        let udp = |v6: bool| {
            let (src, dst) =
                if v6 { ("fd90::1:1", "fd80::10") } else { ("10.90.1.1", "10.80.0.10") };
            let mut datagram = vec![0x0f, 0xa0, 0, 53, 0, 9, 0, 0, 7];
            let sum = checksum::transport(ip(src), ip(dst), proto::UDP, &datagram);
            datagram[6..8].copy_from_slice(&sum.to_be_bytes());
            packet(src, dst, proto::UDP, &datagram)
        };
        let cases = [
            (udp(false), 3, 3),
            (udp(true), 1, 4),
            (packet("10.90.1.1", "10.80.0.10", 99, b"proto 99"), 3, 2),
            (packet("fd90::1:1", "fd80::10", 99, b"proto 99"), 4, 1),
            (packet("10.90.1.1", "10.80.0.10", proto::ICMPV6, &[128; 8]), 3, 2),
        ];
        for (about, kind, code) in cases {
            let (said, outcome) = said(about.bytes());
            assert!(matches!(outcome, Outcome::Answered));
            let headers = Headers::of(said[0].bytes()).unwrap();
            assert!(icmp::is_intact(said[0].bytes(), &headers));
            let message = headers.payload(said[0].bytes());
            assert_eq!((message[0], message[1]), (kind, code));
            assert_eq!(&message[HEADER..], about.bytes());
        }
    }

    #[test]
    fn an_echo_to_our_own_address_takes_the_way_of_the_routes() {
        let request =
            hex("4500002400094000400125240a5a01010a51000108006668000100016162636465666768");
        let (said, outcome) = said(&request);
        assert!(matches!(outcome, Outcome::Answered));
        let headers = Headers::of(said[0].bytes()).unwrap();
        assert_eq!((headers.src, headers.dst), (ip("10.81.0.1"), ip("10.90.1.1")));
        assert_eq!((said[0].link, headers.ttl, headers.dont_fragment), (WAN, 64, false));
        assert_eq!(headers.payload(said[0].bytes()), hex("00006e68000100016162636465666768"));
    }
}
