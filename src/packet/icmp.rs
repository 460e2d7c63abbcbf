//! ICMP (RFC 792), ICMPv6 (RFC 4443) and neighbour discovery (RFC 4861).
//!
//! Errors about a packet, answers to echo requests, and the two neighbour messages are built here,
//! whole but for the link header. Kept from the kernel (`icmp_send`, `icmp6_send`): TTL 64, "don't
//! fragment" clear, TOS `(orig & 0x1e) | 0xc0`, a quote that fills 576 bytes (IPv6: 1280), and the
//! packets about which nothing is said.
//!
//! Left out on purpose: redirects, router discovery.

use std::net::{IpAddr, Ipv6Addr};

use super::ip::{Fresh, V4_HEADER, V6_HEADER};
use super::{checksum, proto, DropReason, Family, Fragment, Headers, LinkId, Mac, Packet};

/// Bytes of an ICMP header with its four bytes of "rest".
pub const HEADER: usize = 8;

/// An ICMPv4 error is no longer than what every host takes (RFC 1812 section 4.3.2.3).
const ERROR_MAX_V4: usize = 576;

/// An ICMPv6 error is no longer than the least MTU (RFC 4443 section 2.4 (c)).
const ERROR_MAX_V6: usize = 1280;

/// TTL and hop limit of what we say ourselves.
const TTL: u8 = 64;

const ECHO_REPLY: u8 = 0;
const ECHO_REQUEST: u8 = 8;
const TIMESTAMP: u8 = 13;
const TIMESTAMP_REPLY: u8 = 14;
const ECHO_REQUEST_V6: u8 = 128;
const ECHO_REPLY_V6: u8 = 129;
const NEIGHBOUR_SOLICITATION: u8 = 135;
const NEIGHBOUR_ADVERTISEMENT: u8 = 136;
const REDIRECT_V6: u8 = 137;

/// The errors that a host or router of ours sends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Error {
    /// Destination unreachable: a router has no route (3/0, ICMPv6 1/0).
    NetUnreachable,
    /// Destination unreachable: no route to a server, or the neighbour does not answer (3/1, ICMPv6 1/3).
    HostUnreachable,
    /// Destination unreachable: nobody listens (3/3, ICMPv6 1/4).
    PortUnreachable,
    /// Destination unreachable: unknown protocol (3/2); ICMPv6 parameter problem 4/1.
    ProtocolUnreachable,
    /// Time exceeded in transit (11/0, ICMPv6 3/0).
    TimeExceeded,
    /// Time exceeded in reassembly (11/1, ICMPv6 3/1).
    ReassemblyTimeExceeded,
    /// Fragmentation needed (3/4) or packet too big (2/0), with the MTU in bytes.
    TooBig(u32),
    /// Parameter problem: the byte of the header at this place is wrong (12/0, ICMPv6 4/0).
    Parameter(u8),
    /// What somebody else said, of the packet's own family.
    Relayed {
        /// Type.
        kind: u8,
        /// Code.
        code: u8,
        /// The four bytes after the checksum.
        rest: [u8; 4],
    },
}

impl Error {
    /// Type and code.
    pub const fn wire(self, family: Family) -> (u8, u8) {
        match (self, family) {
            (Self::NetUnreachable, Family::V4) => (3, 0),
            (Self::NetUnreachable, Family::V6) => (1, 0),
            (Self::HostUnreachable, Family::V4) => (3, 1),
            (Self::HostUnreachable, Family::V6) => (1, 3),
            (Self::PortUnreachable, Family::V4) => (3, 3),
            (Self::PortUnreachable, Family::V6) => (1, 4),
            (Self::ProtocolUnreachable, Family::V4) => (3, 2),
            (Self::ProtocolUnreachable, Family::V6) => (4, 1),
            (Self::TimeExceeded, Family::V4) => (11, 0),
            (Self::TimeExceeded, Family::V6) => (3, 0),
            (Self::ReassemblyTimeExceeded, Family::V4) => (11, 1),
            (Self::ReassemblyTimeExceeded, Family::V6) => (3, 1),
            (Self::TooBig(_), Family::V4) => (3, 4),
            (Self::TooBig(_), Family::V6) => (2, 0),
            (Self::Parameter(_), Family::V4) => (12, 0),
            (Self::Parameter(_), Family::V6) => (4, 0),
            (Self::Relayed { kind, code, .. }, _) => (kind, code),
        }
    }

    /// The four bytes between the checksum and the quote.
    fn rest(self, about: &[u8], headers: &Headers) -> [u8; 4] {
        match (self, headers.family) {
            (Self::TooBig(mtu), Family::V4) => mtu.min(0xffff).to_be_bytes(),
            (Self::TooBig(mtu), Family::V6) => mtu.to_be_bytes(),
            (Self::Relayed { rest, .. }, _) => rest,
            (Self::Parameter(at), Family::V4) => [at, 0, 0, 0],
            (Self::Parameter(at), Family::V6) => [0, 0, 0, at],
            (Self::ProtocolUnreachable, Family::V6) => {
                next_header_field(about, usize::from(headers.transport)).to_be_bytes()
            }
            _ => [0; 4],
        }
    }
}

/// Whom an error comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// The address that the packet was sent to, since it is ours.
    Destination,
    /// Our own address on the way back to the packet's sender: on the port that it came in by, where
    /// the ways there and back are the same.
    Ingress,
}

/// Whether an error may be said about the packet that `headers` were read from (RFC 1122 section
/// 3.2.2, RFC 4443 section 2.4 (e)): not about errors, later IPv4 fragments, group destinations,
/// nor to senders that are not a single host.
pub fn may_answer(bytes: &[u8], headers: &Headers, error: Error) -> bool {
    let kind = headers.payload(bytes).first().copied();
    match (headers.src, headers.dst) {
        (IpAddr::V4(src), IpAddr::V4(dst)) => {
            let nobody = src.is_multicast() || src.is_broadcast() || src.is_unspecified();
            let group = dst.is_multicast() || dst.is_broadcast();
            // The kernel stays silent about every type beyond the last that it knows, too.
            let known = |kind| matches!(kind, 0 | 8 | 13..=18);
            !(nobody || src.is_loopback() || group || headers.fragment == Fragment::Later)
                && (headers.proto != proto::ICMP || kind.is_some_and(known))
        }
        (IpAddr::V6(src), IpAddr::V6(dst)) => {
            let nobody = src.is_multicast() || src.is_unspecified() || src.is_loopback();
            // A packet to a group may be too big, or have an option that says that its sender is told.
            let of_groups = match error {
                Error::TooBig(_) => true,
                Error::Relayed { kind: 4, code: 2, rest } => {
                    let at = usize::try_from(u32::from_be_bytes(rest)).unwrap_or(usize::MAX);
                    bytes.get(at).is_some_and(|option| option >> 6 == 2)
                }
                _ => false,
            };
            let group = dst.is_multicast() && !of_groups;
            let harmless = |kind| kind >= ECHO_REQUEST_V6 && kind != REDIRECT_V6;
            let icmp = headers.proto == proto::ICMPV6 && headers.fragment != Fragment::Later;
            !(nobody || group) && (!icmp || kind.is_some_and(harmless))
        }
        _ => false,
    }
}

/// Builds the IP packet that tells `error` about the packet `about`, from `source` to its sender.
/// `id` is the IPv4 identification, `options` are those of the answer, which its path carries in `mtu`
/// bytes. The answer's `link` is `about`'s.
///
/// # Errors
/// [`DropReason::ErrorForbidden`] if nothing may be said about such a packet.
pub fn error(
    about: &Packet,
    error: Error,
    source: IpAddr,
    id: u16,
    options: &[u8],
    mtu: u16,
) -> Result<Packet, DropReason> {
    let bytes = about.bytes();
    let headers = Headers::quoted(bytes).map_err(|_| DropReason::ErrorForbidden)?;
    if !may_answer(bytes, &headers, error) || Family::of(source) != headers.family {
        return Err(DropReason::ErrorForbidden);
    }
    let (proto, tos, room) = match headers.family {
        Family::V4 => {
            let most = ERROR_MAX_V4.min(usize::from(mtu)).saturating_sub(V4_HEADER + HEADER);
            (proto::ICMP, headers.tos & 0x1e | 0xc0, most)
        }
        Family::V6 => (proto::ICMPV6, 0, ERROR_MAX_V6 - V6_HEADER - HEADER),
    };
    let (kind, code) = error.wire(headers.family);
    let quote = &bytes[..bytes.len().min(room.saturating_sub(options.len()))];
    let mut message = Vec::with_capacity(HEADER + quote.len());
    message.extend_from_slice(&[kind, code, 0, 0]);
    message.extend_from_slice(&error.rest(bytes, &headers));
    message.extend_from_slice(quote);
    if let (Some(change), Family::V4) = (about.unsummed, headers.family) {
        checksum::mend(&mut message[HEADER..], 10, change);
    }
    fill_checksum(&mut message, source, headers.src);
    let mut packet = Packet::copy_of(about.link, &message);
    let dst = headers.src;
    let fresh = Fresh { src: source, dst, proto, ttl: TTL, tos, dont_fragment: false, id };
    fresh.push_with(&mut packet, options)?;
    Ok(packet)
}

/// Whether the checksum of the ICMP message in a whole packet is right, and it has a whole header.
pub fn is_intact(bytes: &[u8], headers: &Headers) -> bool {
    let message = headers.payload(bytes);
    message.len() >= HEADER
        && match headers.family {
            Family::V4 => checksum::of(message) == 0,
            Family::V6 => {
                checksum::transport(headers.src, headers.dst, proto::ICMPV6, message) == 0
            }
        }
}

/// Whether the ICMP message in a packet wants an answer: an echo request, or the question for the time.
pub fn is_question(bytes: &[u8], headers: &Headers) -> bool {
    match (headers.family, headers.payload(bytes)) {
        (Family::V4, &[TIMESTAMP, _, _, _, _, _, _, _, _, _, _, _, ..]) => true,
        (Family::V4, &[kind, ..]) => kind == ECHO_REQUEST,
        (Family::V6, &[kind, ..]) => kind == ECHO_REQUEST_V6,
        _ => false,
    }
}

/// Turns an intact echo request into its answer, in place. Its data stays, its TOS is copied as the
/// kernel does; extension headers do not come back, of options what `options` says. The question for the
/// time of day (RFC 792), which has an originate timestamp, is answered by `day_ms`.
///
/// # Errors
/// As [`Fresh::push`].
pub fn reply(
    packet: &mut Packet,
    headers: &Headers,
    id: u16,
    options: &[u8],
    day_ms: u32,
) -> Result<(), DropReason> {
    packet.pull(usize::from(headers.transport));
    let message = packet.bytes_mut();
    let (proto, reply) = match headers.family {
        Family::V4 => (proto::ICMP, ECHO_REPLY),
        Family::V6 => (proto::ICMPV6, ECHO_REPLY_V6),
    };
    if headers.family == Family::V4 && message[0] == TIMESTAMP {
        let times = [day_ms.to_be_bytes(), day_ms.to_be_bytes()].concat();
        packet.splice(HEADER + 4..packet.len(), &times).ok_or(DropReason::IcmpMalformed)?;
        let message = packet.bytes_mut();
        (message[0], message[1]) = (TIMESTAMP_REPLY, 0);
        fill_checksum(message, headers.dst, headers.src);
    } else {
        message[0] = reply;
        fill_checksum(message, headers.dst, headers.src);
    }
    Fresh {
        src: headers.dst,
        dst: headers.src,
        proto,
        ttl: TTL,
        tos: headers.tos,
        dont_fragment: false,
        id,
    }
    .push_with(packet, options)
}

/// The two messages of neighbour discovery that resolve addresses (RFC 4861 sections 4.3 and 4.4).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Neighbour {
    /// Who has the target?
    Solicitation {
        /// The address that is asked for.
        target: Ipv6Addr,
        /// The sender's link address; `None` from the unspecified address.
        mac: Option<Mac>,
    },
    /// The target is here.
    Advertisement {
        /// The address that is spoken of.
        target: Ipv6Addr,
        /// Its link address.
        mac: Option<Mac>,
        /// The sender is a router.
        router: bool,
        /// It answers a question of ours.
        solicited: bool,
        /// It overrides what is known.
        overrides: bool,
    },
}

impl Neighbour {
    /// Bytes before the options.
    const FIXED: usize = 24;
    const SOURCE_LINK_ADDRESS: u8 = 1;
    const TARGET_LINK_ADDRESS: u8 = 2;

    /// Whether the packet is one of the two messages; nothing else has been checked then.
    pub fn is_one(bytes: &[u8], headers: &Headers) -> bool {
        headers.proto == proto::ICMPV6
            && headers.fragment == Fragment::Whole
            && matches!(
                headers.payload(bytes).first(),
                Some(&(NEIGHBOUR_SOLICITATION | NEIGHBOUR_ADVERTISEMENT))
            )
    }

    /// Reads the message in a whole packet, and checks all that RFC 4861 sections 7.1.1 and 7.1.2
    /// ask for.
    ///
    /// # Errors
    /// [`DropReason::DiscoveryMalformed`].
    pub fn parse(bytes: &[u8], headers: &Headers) -> Result<Self, DropReason> {
        Self::read(bytes, headers).ok_or(DropReason::DiscoveryMalformed)
    }

    fn read(bytes: &[u8], headers: &Headers) -> Option<Self> {
        let (IpAddr::V6(src), IpAddr::V6(dst)) = (headers.src, headers.dst) else { return None };
        let message = headers.payload(bytes);
        let sound = headers.ttl == 255
            && headers.proto == proto::ICMPV6
            && headers.fragment == Fragment::Whole
            && message.len() >= Self::FIXED
            && message[1] == 0
            && is_intact(bytes, headers);
        if !sound {
            return None;
        }
        let target = Ipv6Addr::from(<[u8; 16]>::try_from(&message[8..24]).ok()?);
        if target.is_multicast() || target.is_unspecified() {
            return None;
        }
        let options = &message[Self::FIXED..];
        match message[0] {
            NEIGHBOUR_SOLICITATION => {
                let mac = link_address(options, Self::SOURCE_LINK_ADDRESS)?;
                let probe = mac.is_none() && dst == solicited_node(target);
                (!src.is_unspecified() || probe).then_some(Self::Solicitation { target, mac })
            }
            NEIGHBOUR_ADVERTISEMENT => {
                let mac = link_address(options, Self::TARGET_LINK_ADDRESS)?;
                let flags = message[4];
                let solicited = flags & 0x40 != 0;
                (!(src.is_unspecified() || solicited && dst.is_multicast())).then_some(
                    Self::Advertisement {
                        target,
                        mac,
                        router: flags & 0x80 != 0,
                        solicited,
                        overrides: flags & 0x20 != 0,
                    },
                )
            }
            _ => None,
        }
    }

    /// Builds the IP packet of this message.
    ///
    /// # Errors
    /// As [`Fresh::push`]; cannot happen with fresh headroom.
    pub fn packet(&self, link: LinkId, src: Ipv6Addr, dst: Ipv6Addr) -> Result<Packet, DropReason> {
        let (kind, flags, target, option, mac) = match *self {
            Self::Solicitation { target, mac } => {
                (NEIGHBOUR_SOLICITATION, 0, target, Self::SOURCE_LINK_ADDRESS, mac)
            }
            Self::Advertisement { target, mac, router, solicited, overrides } => {
                let flags =
                    u8::from(router) << 7 | u8::from(solicited) << 6 | u8::from(overrides) << 5;
                (NEIGHBOUR_ADVERTISEMENT, flags, target, Self::TARGET_LINK_ADDRESS, mac)
            }
        };
        let mut message = Vec::with_capacity(Self::FIXED + 8);
        message.extend_from_slice(&[kind, 0, 0, 0, flags, 0, 0, 0]);
        message.extend_from_slice(&target.octets());
        if let Some(mac) = mac {
            message.extend_from_slice(&[option, 1]);
            message.extend_from_slice(&mac.0);
        }
        let (src, dst) = (IpAddr::V6(src), IpAddr::V6(dst));
        fill_checksum(&mut message, src, dst);
        let mut packet = Packet::copy_of(link, &message);
        Fresh { src, dst, proto: proto::ICMPV6, ttl: 255, tos: 0, dont_fragment: true, id: 0 }
            .push(&mut packet)?;
        Ok(packet)
    }
}

/// The group that the owner of `target` listens to (RFC 4291 section 2.7.1).
pub const fn solicited_node(target: Ipv6Addr) -> Ipv6Addr {
    const PREFIX: u128 = 0xff02_0000_0000_0000_0000_0001_ff00_0000;
    Ipv6Addr::from_bits(PREFIX | target.to_bits() & 0x00ff_ffff)
}

/// The station group of an IPv6 group (RFC 2464 section 7).
pub const fn group_mac(group: Ipv6Addr) -> Mac {
    let [.., a, b, c, d] = group.octets();
    Mac([0x33, 0x33, a, b, c, d])
}

/// The link address option of one kind; the outer `None` if the options are malformed.
#[expect(clippy::option_option, reason = "malformed and absent are two things")]
fn link_address(mut options: &[u8], kind: u8) -> Option<Option<Mac>> {
    let mut found = None;
    while let Some((&this, rest)) = options.split_first() {
        let len = usize::from(*rest.first()?) * 8;
        let option = options.get(..len).filter(|o| !o.is_empty())?;
        if this == kind {
            let mac = Mac(option.get(2..8)?.try_into().ok()?);
            if mac.is_group() {
                return None;
            }
            found = Some(mac);
        }
        options = &options[len..];
    }
    Some(found)
}

/// Where the field lies that names the header at `transport`, in a packet whose chain of extension
/// headers was walked before.
fn next_header_field(bytes: &[u8], transport: usize) -> u32 {
    const FRAGMENT: u8 = 44;
    let (mut field, mut at) = (6, V6_HEADER);
    while at < transport {
        let (Some(&this), Some(&len)) = (bytes.get(field), bytes.get(at + 1)) else { break };
        field = at;
        at += match this {
            FRAGMENT => 8,
            proto::AH => 8 + usize::from(len) * 4,
            _ => 8 + usize::from(len) * 8,
        };
    }
    u32::try_from(field).unwrap_or(0)
}

/// Fills in the checksum of an ICMP message, by the family of its addresses.
fn fill_checksum(message: &mut [u8], src: IpAddr, dst: IpAddr) {
    message[2..4].fill(0);
    let sum = match Family::of(src) {
        Family::V4 => checksum::of(message),
        Family::V6 => checksum::transport(src, dst, proto::ICMPV6, message),
    };
    message[2..4].copy_from_slice(&sum.to_be_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv4Addr;

    const OURS: Mac = Mac([2, 0, 0, 0, 0, 1]);

    fn v4(last: u8) -> IpAddr {
        Ipv4Addr::new(10, 0, 0, last).into()
    }

    fn v6(last: u16) -> IpAddr {
        Ipv6Addr::new(0xfd80, 0, 0, 0, 0, 0, 0, last).into()
    }

    fn packet(src: IpAddr, dst: IpAddr, proto: u8, tos: u8, payload: &[u8]) -> Packet {
        let mut packet = Packet::copy_of(LinkId(3), payload);
        Fresh { src, dst, proto, ttl: 9, tos, dont_fragment: true, id: 7 }
            .push(&mut packet)
            .unwrap();
        packet
    }

    #[test]
    fn an_error_quotes_what_fits_and_has_the_kernels_tos() {
        for (src, dst, max, tos) in [(v4(2), v4(1), 576, 0xd0), (v6(2), v6(1), 1280, 0)] {
            let about = packet(src, dst, proto::UDP, 0x11, &[7; 1400]);
            let told = error(&about, Error::TooBig(1300), dst, 99, &[], u16::MAX).unwrap();
            let headers = Headers::of(told.bytes()).unwrap();
            assert_eq!((told.len(), headers.tos, headers.ttl), (max, tos, 64));
            assert_eq!((headers.src, headers.dst, told.link), (dst, src, LinkId(3)));
            assert!(is_intact(told.bytes(), &headers));
            let message = headers.payload(told.bytes());
            assert_eq!(message[4..8], 1300u32.to_be_bytes());
            assert_eq!(message[8..], about.bytes()[..message.len() - 8]);
        }
    }

    #[test]
    fn the_golden_port_unreachable_comes_out_byte_for_byte() {
        let about = hex("4500001d12344000401112e80a5a01010a50000a0fa0270f00093b7878");
        let right = hex("45c00039a26300004001c1ec0a50000a0a5a0101030312cc00000000\
             4500001d12344000401112e80a5a01010a50000a0fa0270f00093b7878");
        let about = Packet::copy_of(LinkId(0), &about);
        let source = [10, 80, 0, 10].into();
        let told = error(&about, Error::PortUnreachable, source, 0xa263, &[], u16::MAX).unwrap();
        assert_eq!(told.bytes(), right);
    }

    #[test]
    fn the_golden_echo_reply_comes_out_byte_for_byte() {
        let request = hex("4500002400094000400125250a5a01010a5000010800666800010001\
                           6162636465666768");
        let right = hex("45000024af1b00004001b6120a5000010a5a010100006e6800010001\
                         6162636465666768");
        let mut packet = Packet::copy_of(LinkId(0), &request);
        let headers = Headers::parse(&mut packet).unwrap();
        assert!(is_intact(packet.bytes(), &headers) && is_question(packet.bytes(), &headers));
        reply(&mut packet, &headers, 0xaf1b, &[], 0).unwrap();
        assert_eq!(packet.bytes(), right);
    }

    fn hex(text: &str) -> Vec<u8> {
        let digits: Vec<u8> = text.bytes().filter(|b| !b.is_ascii_whitespace()).collect();
        let nibble = |d: u8| u8::try_from(char::from(d).to_digit(16).unwrap()).unwrap();
        digits.chunks(2).map(|d| nibble(d[0]) << 4 | nibble(d[1])).collect()
    }

    #[test]
    fn an_echo_over_ipv6_comes_back_with_a_right_checksum() {
        let mut message = vec![ECHO_REQUEST_V6, 0, 0, 0, 1, 2, 3, 4, 5];
        fill_checksum(&mut message, v6(2), v6(1));
        let mut packet = packet(v6(2), v6(1), proto::ICMPV6, 0x20, &message);
        let headers = Headers::parse(&mut packet).unwrap();
        reply(&mut packet, &headers, 0, &[], 0).unwrap();
        let headers = Headers::of(packet.bytes()).unwrap();
        assert_eq!((headers.src, headers.dst, headers.tos), (v6(1), v6(2), 0x20));
        assert!(is_intact(packet.bytes(), &headers));
        assert_eq!(headers.payload(packet.bytes())[0], ECHO_REPLY_V6);
    }

    #[test]
    fn nothing_is_said_about_errors_groups_and_nobody() {
        let told = |src, dst, proto, payload: &[u8]| {
            let source = if Family::of(src) == Family::V4 { v4(1) } else { v6(1) };
            error(
                &packet(src, dst, proto, 0, payload),
                Error::TimeExceeded,
                source,
                0,
                &[],
                u16::MAX,
            )
            .is_ok()
        };
        assert!(told(v4(2), v4(9), proto::UDP, &[0; 8]));
        assert!(told(v4(2), v4(9), proto::ICMP, &[8; 8]));
        for kind in [3, 4, 5, 11, 12, 30, 255] {
            assert!(!told(v4(2), v4(9), proto::ICMP, &[kind; 8]), "type {kind}");
        }
        assert!(!told(v4(2), v4(9), proto::ICMP, &[]));
        for nobody in [[0, 0, 0, 0], [127, 0, 0, 1], [224, 0, 0, 5], [255, 255, 255, 255]] {
            assert!(!told(nobody.into(), v4(9), proto::UDP, &[0; 8]));
        }
        assert!(!told(v4(2), [224, 0, 0, 5].into(), proto::UDP, &[0; 8]));
        assert!(told(v6(2), v6(9), proto::ICMPV6, &[128; 8]));
        for kind in [1, 2, 3, 4, 127, 137] {
            assert!(!told(v6(2), v6(9), proto::ICMPV6, &[kind; 8]), "type {kind}");
        }
        assert!(!told(Ipv6Addr::UNSPECIFIED.into(), v6(9), proto::UDP, &[0; 8]));
        let mut later = packet(v4(2), v4(9), proto::UDP, 0, &[0; 8]);
        later.bytes_mut()[7] = 1;
        assert!(error(&later, Error::TimeExceeded, v4(1), 0, &[], u16::MAX).is_err());
    }

    #[test]
    fn an_unknown_header_is_pointed_at() {
        let options = [99, 0, 1, 4, 0, 0, 0, 0, 1, 2, 3];
        let about = packet(v6(2), v6(1), 60, 0, &options);
        let told = error(&about, Error::ProtocolUnreachable, v6(1), 0, &[], u16::MAX).unwrap();
        assert_eq!(told.bytes()[40..42], [4, 1]);
        assert_eq!(told.bytes()[44..48], [0, 0, 0, 40]);
        let about = packet(v6(2), v6(1), 99, 0, &[1]);
        let told = error(&about, Error::ProtocolUnreachable, v6(1), 0, &[], u16::MAX).unwrap();
        assert_eq!(told.bytes()[44..48], [0, 0, 0, 6]);
    }

    fn target() -> Ipv6Addr {
        Ipv6Addr::new(0xfd80, 0, 0, 0, 0, 0, 0x12, 0x3456)
    }

    #[test]
    fn neighbour_messages_read_as_they_were_written_and_no_prefix_does() {
        let src = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1);
        let solicitation = Neighbour::Solicitation { target: target(), mac: Some(OURS) };
        let advertisement = Neighbour::Advertisement {
            target: target(),
            mac: Some(OURS),
            router: true,
            solicited: false,
            overrides: true,
        };
        for message in [solicitation, advertisement] {
            let packet = message.packet(LinkId(0), src, solicited_node(target())).unwrap();
            let headers = Headers::of(packet.bytes()).unwrap();
            assert_eq!(Neighbour::parse(packet.bytes(), &headers), Ok(message));
            for len in 0..packet.len() {
                assert!(Neighbour::parse(&packet.bytes()[..len], &headers).is_err());
            }
        }
    }

    #[test]
    fn what_section_7_1_forbids_is_malformed() {
        let src = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1);
        let group = solicited_node(target());
        let ask = |mac| Neighbour::Solicitation { target: target(), mac };
        let parse = |packet: &Packet| {
            Neighbour::parse(packet.bytes(), &Headers::of(packet.bytes()).unwrap()).is_ok()
        };
        let mut far = ask(Some(OURS)).packet(LinkId(0), src, group).unwrap();
        far.bytes_mut()[7] = 254;
        let nobody = Ipv6Addr::UNSPECIFIED;
        let probe = ask(None).packet(LinkId(0), nobody, group).unwrap();
        let probe_with_mac = ask(Some(OURS)).packet(LinkId(0), nobody, group).unwrap();
        let probe_to_us = ask(None).packet(LinkId(0), nobody, target()).unwrap();
        let mut empty_option = ask(Some(OURS)).packet(LinkId(0), src, group).unwrap();
        empty_option.bytes_mut()[65] = 0;
        fill_checksum(&mut empty_option.bytes_mut()[40..], src.into(), group.into());
        let mut wrong_sum = ask(None).packet(LinkId(0), src, group).unwrap();
        wrong_sum.bytes_mut()[42] ^= 1;
        assert!(parse(&probe));
        for bad in [far, probe_with_mac, probe_to_us, empty_option, wrong_sum] {
            assert!(!parse(&bad));
        }
    }

    #[test]
    fn groups_have_the_addresses_of_their_rfcs() {
        let group = solicited_node(target());
        assert_eq!(group.to_string(), "ff02::1:ff12:3456");
        assert_eq!(group_mac(group).to_string(), "33:33:ff:12:34:56");
    }
}
