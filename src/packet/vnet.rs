//! What a kernel leaves undone: the virtio-net header, checksums that are half a sum, super-frames.
//!
//! Between a kernel and a TAP port with offload, a TCP segment or a run of UDP datagrams may travel as
//! one frame of up to 64 KiB with one header, and its transport checksum may hold only the sum of the
//! pseudo-header. Such a packet goes through the director whole, headers edited once. Where it cannot
//! go on whole (a tunnel, a port without offload) it is [`split`] as it leaves.
//!
//! Kept from the kernel: how it would have cut the frame itself (`tcp_gso_segment`,
//! `__udp_gso_segment`): identification and sequence count on, FIN and PSH are on the last segment,
//! CWR on the first.

use super::{checksum, l4, proto, Family, Headers, LinkId, Packet};

/// Bytes of the virtio-net header in front of a frame (the legacy layout without buffer count).
pub const HEADER: usize = 10;

/// Into what a super-frame is to be cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Kind {
    /// It is no super-frame.
    #[default]
    Whole,
    /// TCP segments.
    Tcp {
        /// The flow uses ECN: only the first segment keeps CWR.
        ecn: bool,
    },
    /// UDP datagrams (USO).
    Udp,
}

/// What is left to be done on a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Offload {
    /// The transport checksum holds the sum of the pseudo-header only.
    pub partial: bool,
    /// Whether it is a super-frame.
    pub kind: Kind,
    /// Bytes of transport payload of each piece but the last.
    pub size: u16,
    /// Where the transport header begins, counted from the IP header.
    pub transport: u16,
    /// Where the checksum lies in the transport header.
    pub checksum: u16,
}

/// What a port can be given.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Takes {
    /// Partial checksums and super-frames of TCP.
    pub tcp: bool,
    /// Super-frames of UDP.
    pub udp: bool,
}

const NEEDS_CHECKSUM: u8 = 1;
const GSO_TCPV4: u8 = 1;
const GSO_TCPV6: u8 = 4;
const GSO_UDP: u8 = 5;
const GSO_ECN: u8 = 0x80;

impl Offload {
    /// Reads the header in front of a frame whose link header has `link` bytes. What cannot be
    /// understood counts as nothing to be done: the packet's own headers are checked later anyway.
    pub fn parse(header: [u8; HEADER], link: u16) -> Self {
        let word = |at: usize| u16::from_ne_bytes([header[at], header[at + 1]]);
        let partial = header[0] & NEEDS_CHECKSUM != 0;
        let (size, start) = (word(4), word(6));
        let kind = match header[1] & !GSO_ECN {
            GSO_TCPV4 | GSO_TCPV6 if size > 0 => Kind::Tcp { ecn: header[1] & GSO_ECN != 0 },
            GSO_UDP if size > 0 => Kind::Udp,
            _ => Kind::Whole,
        };
        let (transport, checksum) = (start.saturating_sub(link), word(8));
        Self { partial, kind, size, transport, checksum }
    }

    /// The header for a frame whose IP header begins after `front` bytes and is of `family`.
    /// `header_len` are the bytes of all headers together.
    fn emit(self, front: u16, header_len: u16, family: Family) -> [u8; HEADER] {
        let mut header = [0; HEADER];
        let (kind, size) = match (self.kind, family) {
            (Kind::Whole, _) => (0, 0),
            (Kind::Tcp { ecn }, Family::V4) => (GSO_TCPV4 | ecn_bit(ecn), self.size),
            (Kind::Tcp { ecn }, Family::V6) => (GSO_TCPV6 | ecn_bit(ecn), self.size),
            (Kind::Udp, _) => (GSO_UDP, self.size),
        };
        header[1] = kind;
        header[4..6].copy_from_slice(&size.to_ne_bytes());
        if self.partial {
            header[0] = NEEDS_CHECKSUM;
            header[2..4].copy_from_slice(&header_len.to_ne_bytes());
            header[6..8].copy_from_slice(&front.saturating_add(self.transport).to_ne_bytes());
            header[8..10].copy_from_slice(&self.checksum.to_ne_bytes());
        }
        header
    }

    /// Whether a packet with this needs nothing.
    pub fn is_none(self) -> bool {
        !self.partial && self.kind == Kind::Whole
    }
}

const fn ecn_bit(ecn: bool) -> u8 {
    if ecn {
        GSO_ECN
    } else {
        0
    }
}

/// Makes what lies in `packet` behind its virtio-net header, `len` bytes together, a frame fresh from
/// `link`, whose link header has `front` bytes.
pub fn received(packet: &mut Packet, link: LinkId, len: usize, front: usize) {
    let header = packet.room(HEADER).first_chunk().copied().unwrap_or_default();
    packet.received(link, len.saturating_sub(HEADER));
    let bytes = u16::try_from(front).unwrap_or(0);
    packet.leave_undone(Offload::parse(header, bytes), front);
    packet.sums_wait = true;
}

/// Leaves the checksum of a GRE header to whoever sends the packet on, as the kernel leaves it to the
/// device. The outer IP header, of `header` bytes, is the packet's first.
pub const fn leave_gre_sum(packet: &mut Packet, header: u16) {
    let offload =
        Offload { partial: true, kind: Kind::Whole, size: 0, transport: header, checksum: GRE_SUM };
    packet.leave_undone(offload, 0);
}

/// Where the checksum lies in a GRE header (RFC 2784, section 2), and its length with one.
const GRE_SUM: u16 = 4;
const GRE_HEADER: usize = 8;

/// Whether `packet`, a frame with a link header of `link` bytes, can be given to a port that takes
/// `takes` as it is: tunnelled super-frames and half sums never can.
pub fn can_leave(packet: &Packet, link: usize, takes: Takes) -> bool {
    let offload = packet.offload;
    let taken = match offload.kind {
        Kind::Whole => !offload.partial || takes.tcp,
        Kind::Tcp { .. } => takes.tcp,
        Kind::Udp => takes.udp,
    };
    offload.is_none() || (taken && packet.before_ip() == link)
}

/// Puts the virtio-net header in front of a frame; `false` if there is no room.
pub fn push_header(packet: &mut Packet) -> bool {
    let offload = packet.offload;
    let front = packet.before_ip();
    let six = packet.bytes().get(front).is_some_and(|first| first >> 4 == 6);
    let family = if six { Family::V6 } else { Family::V4 };
    let fit = |len: usize| u16::try_from(len).unwrap_or(u16::MAX);
    let headers = fit(front + usize::from(offload.transport) + transport_header(packet));
    let header = offload.emit(fit(front), headers, family);
    packet.push(HEADER).is_some_and(|place| {
        place.copy_from_slice(&header);
        true
    })
}

/// Bytes of the transport header of a packet with work left to be done; 0 if it is cut short.
fn transport_header(packet: &Packet) -> usize {
    let at = packet.before_ip() + usize::from(packet.offload.transport);
    match packet.offload.checksum {
        6 => 8,
        GRE_SUM => GRE_HEADER,
        _ => packet.bytes().get(at + 12).map_or(0, |&b| usize::from(b >> 4) * 4),
    }
}

/// The length of the longest IP packet that `packet` will be on a wire: of a super-frame, its headers
/// and one piece. Bytes in front of the IP header count.
pub fn longest_piece(packet: &Packet) -> usize {
    let offload = packet.offload;
    if offload.kind == Kind::Whole {
        return packet.len();
    }
    let headers = packet.before_ip() + usize::from(offload.transport) + transport_header(packet);
    packet.len().min(headers + usize::from(offload.size))
}

/// Sums up what was left half done, so that the packet is like any from a wire. A super-frame keeps
/// its size and gets a sum over all of it.
pub fn complete(packet: &mut Packet) {
    let offload = packet.offload;
    packet.offload = Offload::default();
    if !offload.partial {
        return;
    }
    let (start, at) = (packet.before_ip(), usize::from(offload.transport));
    let Some(ip) = packet.bytes_mut().get_mut(start..) else { return };
    let Ok(headers) = Headers::quoted(ip) else { return };
    let field = at + usize::from(offload.checksum);
    if usize::from(headers.transport) != at || field + 2 > ip.len() {
        return;
    }
    ip[field..field + 2].fill(0);
    let sum = match headers.proto {
        proto::GRE => checksum::of(&ip[at..]),
        proto => checksum::transport(headers.src, headers.dst, proto, &ip[at..]),
    };
    let sum = if sum == 0 && headers.proto == proto::UDP { 0xffff } else { sum };
    ip[field..field + 2].copy_from_slice(&sum.to_be_bytes());
}

/// Cuts a frame with a link header of `link` bytes into frames that need nothing and gives each to
/// `each`, in `piece`, whose buffer is used for all of them. A frame that is no super-frame is given
/// as one.
pub fn split(packet: &Packet, link: usize, piece: &mut Packet, mut each: impl FnMut(&mut Packet)) {
    let offload = packet.offload;
    let ip_at = packet.before_ip();
    let transport = ip_at + usize::from(offload.transport);
    let payload = transport + transport_header(packet);
    let bytes = packet.bytes();
    let size = usize::from(offload.size);
    if offload.kind == Kind::Whole || payload > bytes.len() || transport == payload || size == 0 {
        piece.refill(packet, &[bytes]);
        complete(piece);
        mend_outer(piece.bytes_mut(), link, ip_at, 0);
        return each(piece);
    }
    let (headers, data) = bytes.split_at(payload);
    let count = data.len().div_ceil(size);
    for (index, chunk) in data.chunks(size).enumerate() {
        piece.refill(packet, &[headers, chunk]);
        piece.offload = Offload { kind: Kind::Whole, size: 0, partial: true, ..offload };
        let place = Place { index, last: index + 1 == count, offset: index * size };
        mend(piece.bytes_mut(), ip_at, transport, offload.kind, place);
        complete(piece);
        mend_outer(piece.bytes_mut(), link, ip_at, index);
        each(piece);
    }
}

/// Which piece of a super-frame.
#[derive(Clone, Copy)]
struct Place {
    index: usize,
    last: bool,
    /// Bytes of payload before it.
    offset: usize,
}

/// Makes the headers of a piece, copied from the super-frame, its own; all but the transport checksum.
fn mend(bytes: &mut [u8], ip_at: usize, transport: usize, kind: Kind, place: Place) {
    mend_ip(&mut bytes[ip_at..], place.index);
    let segment = &mut bytes[transport..];
    match kind {
        Kind::Tcp { ecn } => {
            const FIN_PSH: u8 = 0x09;
            const CWR: u8 = 0x80;
            let seq = u32::from_be_bytes([segment[4], segment[5], segment[6], segment[7]]);
            let offset = u32::try_from(place.offset).expect("below 64 KiB");
            segment[4..8].copy_from_slice(&seq.wrapping_add(offset).to_be_bytes());
            if !place.last {
                segment[13] &= !FIN_PSH;
            }
            if place.index > 0 && ecn {
                segment[13] &= !CWR;
            }
        }
        Kind::Udp => {
            let len = u16::try_from(segment.len()).unwrap_or(u16::MAX);
            segment[4..6].copy_from_slice(&len.to_be_bytes());
        }
        Kind::Whole => {}
    }
}

/// Gives an IP header the length of what follows, counts an IPv4 identification on by `index`, and
/// sums the header up anew.
fn mend_ip(ip: &mut [u8], index: usize) {
    let len = u16::try_from(ip.len()).unwrap_or(u16::MAX);
    if ip[0] >> 4 == 6 {
        ip[4..6].copy_from_slice(&len.saturating_sub(40).to_be_bytes());
        return;
    }
    ip[2..4].copy_from_slice(&len.to_be_bytes());
    let id = u16::from_be_bytes([ip[4], ip[5]]);
    #[expect(clippy::cast_possible_truncation, reason = "identifications wrap")]
    let id = id.wrapping_add(index as u16);
    ip[4..6].copy_from_slice(&id.to_be_bytes());
    let header = (usize::from(ip[0] & 15) * 4).min(ip.len());
    ip[10..12].fill(0);
    let sum = checksum::of(&ip[..header]);
    ip[10..12].copy_from_slice(&sum.to_be_bytes());
}

/// Makes a tunnel's outer headers, between `link` and `inner`, fit the piece that is now inside.
fn mend_outer(frame: &mut [u8], link: usize, inner: usize, index: usize) {
    if inner <= link {
        return;
    }
    let outer = &mut frame[link..];
    // With DF the identification says nothing and stays 0.
    let counted = outer[0] >> 4 == 4 && outer[6] & 0x40 == 0;
    mend_ip(outer, if counted { index } else { 0 });
    let Ok(headers) = Headers::quoted(outer) else { return };
    let payload = &mut outer[usize::from(headers.transport)..];
    match headers.proto {
        proto::GRE if payload[0] & 0x80 != 0 => {
            payload[4..6].fill(0);
            let sum = checksum::of(payload);
            payload[4..6].copy_from_slice(&sum.to_be_bytes());
        }
        proto::UDP => {
            let len = u16::try_from(payload.len()).unwrap_or(u16::MAX);
            payload[4..6].copy_from_slice(&len.to_be_bytes());
            if payload[6..8] != [0, 0] {
                payload[6..8].fill(0);
                let sum = match checksum::transport(headers.src, headers.dst, proto::UDP, payload) {
                    0 => 0xffff,
                    sum => sum,
                };
                payload[6..8].copy_from_slice(&sum.to_be_bytes());
            }
        }
        _ => {}
    }
}

/// Whether what is said of a super-frame, which begins with its IP header, is what its headers say; a
/// frame that claims otherwise is treated as an ordinary one.
pub fn agrees(packet: &Packet, headers: &Headers) -> bool {
    let offload = packet.offload;
    let expected = match offload.kind {
        Kind::Whole => return true,
        Kind::Tcp { .. } => (proto::TCP, 16),
        Kind::Udp => (proto::UDP, 6),
    };
    let header = transport_header(packet);
    offload.partial
        && (headers.proto, offload.checksum) == expected
        && headers.transport == offload.transport
        && header >= l4::header_min(expected.0)
        && usize::from(headers.len) >= usize::from(headers.transport) + header
}

#[cfg(test)]
mod tests {
    use super::super::ip::Fresh;
    use super::super::tunnel::{self, Outer};
    use super::*;
    use crate::world::Rng;
    use std::net::IpAddr;

    /// A super-frame of `data` bytes in pieces of `size`, as a kernel hands it over, with `link` bytes
    /// of link header.
    fn super_frame(v6: bool, udp: bool, data: usize, size: u16, link: usize) -> Packet {
        let mut rng = Rng::new(5);
        let header = if udp { 8 } else { 20 };
        let mut segment: Vec<u8> =
            (0..header + data).map(|_| rng.next_u64().to_le_bytes()[0]).collect();
        segment[0..4].copy_from_slice(&[0x0f, 0xa0, 0, 80]);
        let field = if udp { 6 } else { 16 };
        if !udp {
            segment[12] = 0x50;
            segment[13] = 0x99;
        }
        let mut packet = Packet::copy_of(LinkId(0), &segment);
        let (src, dst): (IpAddr, IpAddr) = match v6 {
            false => ([10, 0, 0, 1].into(), [10, 0, 0, 2].into()),
            true => ("fd00::1".parse().unwrap(), "fd00::2".parse().unwrap()),
        };
        let proto = if udp { proto::UDP } else { proto::TCP };
        let (ttl, tos, dont_fragment, id) = (64, 0, true, 0xfffe);
        Fresh { src, dst, proto, ttl, tos, dont_fragment, id }.push(&mut packet).unwrap();
        packet.push(link).unwrap().fill(0xee);
        let transport = if v6 { 40 } else { 20 };
        let kind = if udp { Kind::Udp } else { Kind::Tcp { ecn: true } };
        let offload = Offload { partial: true, kind, size, transport, checksum: field };
        packet.leave_undone(offload, link);
        packet
    }

    /// The pieces behind their link headers, each with sound checksums.
    fn pieces(packet: &Packet, link: usize) -> Vec<Vec<u8>> {
        let (mut room, mut all) = (Packet::with_capacity(0), Vec::new());
        split(packet, link, &mut room, |piece| {
            assert!(piece.offload.is_none());
            assert!(piece.bytes()[..link].iter().all(|&b| b == 0xee));
            all.push(piece.bytes()[link..].to_vec());
        });
        all
    }

    fn assert_sound(ip: &[u8]) -> Headers {
        let headers = Headers::of(ip).expect("a sound IP header");
        assert_eq!(usize::from(headers.len), ip.len());
        let segment = headers.payload(ip);
        let sum = checksum::transport(headers.src, headers.dst, headers.proto, segment);
        assert_eq!(sum, 0, "the transport checksum is right");
        headers
    }

    #[test]
    fn the_pieces_of_a_tcp_super_frame_carry_its_bytes_and_flags_where_they_belong() {
        for v6 in [false, true] {
            let packet = super_frame(v6, false, 3500, 1000, 14);
            let all = pieces(&packet, 14);
            let headers: Vec<Headers> = all.iter().map(|ip| assert_sound(ip)).collect();
            let body = |i: usize| &all[i][usize::from(headers[i].transport)..];
            let whole: Vec<u8> = (0..4).flat_map(|i| body(i)[20..].to_vec()).collect();
            assert_eq!(whole, packet.bytes()[packet.len() - 3500..]);
            let first = u32::from_be_bytes(body(0)[4..8].try_into().unwrap());
            for i in 0..4 {
                let seq = u32::from_be_bytes(body(i)[4..8].try_into().unwrap());
                assert_eq!(seq, first.wrapping_add(1000 * u32::try_from(i).unwrap()));
            }
            // ACK stays; PSH and FIN are on the last, CWR on the first.
            assert_eq!([0, 1, 2, 3].map(|i| body(i)[13]), [0x90, 0x10, 0x10, 0x19]);
            if !v6 {
                let ids = [0, 1, 2, 3].map(|i| u16::from_be_bytes([all[i][4], all[i][5]]));
                assert_eq!(ids, [0xfffe, 0xffff, 0, 1]);
            }
        }
    }

    #[test]
    fn the_pieces_of_a_udp_super_frame_are_datagrams() {
        for v6 in [false, true] {
            let packet = super_frame(v6, true, 2500, 1200, 0);
            let all = pieces(&packet, 0);
            let lens: Vec<usize> = all.iter().map(Vec::len).collect();
            let headers = if v6 { 48 } else { 28 };
            assert_eq!(lens, [headers + 1200, headers + 1200, headers + 100]);
            for ip in &all {
                let udp = assert_sound(ip).payload(ip).to_vec();
                assert_eq!(usize::from(u16::from_be_bytes([udp[4], udp[5]])), udp.len());
            }
        }
    }

    #[test]
    fn a_super_frame_in_any_tunnel_is_split_into_sound_tunnelled_packets() {
        let v4: (IpAddr, IpAddr) = ([10, 9, 0, 1].into(), [10, 9, 0, 2].into());
        let v6 = ("fd09::1".parse().unwrap(), "fd09::2".parse().unwrap());
        let kinds = [
            tunnel::Kind::Ipip,
            tunnel::Kind::Gre { checksum: true },
            tunnel::Kind::Gre { checksum: false },
            tunnel::Kind::Gue { port: 6080, checksum: true },
            tunnel::Kind::Gue { port: 6080, checksum: false },
        ];
        for (kind, (src, dst)) in kinds.into_iter().flat_map(|kind| [(kind, v4), (kind, v6)]) {
            let mut packet = super_frame(false, false, 65_000, 1400, 0);
            let inner = Headers::quoted(packet.bytes()).unwrap();
            let outer = Outer {
                src,
                dst,
                kind,
                copy_dont_fragment: true,
                id: 7,
                flow_hash: 1,
                will_be_cut: false,
            };
            tunnel::encapsulate(&mut packet, &inner, &outer).unwrap();
            let before = tunnel::overhead(Family::of(src), kind);
            assert_eq!(longest_piece(&packet), usize::from(before) + 40 + 1400);
            packet.push(14).unwrap().fill(0xee);
            let all = pieces(&packet, 14);
            assert_eq!(all.len(), 65_000_usize.div_ceil(1400));
            for ip in &all {
                let headers = Headers::of(ip).expect("a sound outer header");
                assert_eq!(usize::from(headers.len), ip.len());
                if headers.proto == proto::UDP
                    && kind == (tunnel::Kind::Gue { port: 6080, checksum: true })
                {
                    assert_sound(ip);
                }
                if headers.proto == proto::GRE {
                    assert!(tunnel::in_gre(headers.payload(ip), true).is_some());
                }
                assert_sound(&ip[usize::from(before)..]);
            }
        }
    }

    #[test]
    fn a_half_sum_is_completed_and_then_needs_nothing() {
        let mut packet = super_frame(false, true, 100, 1200, 0);
        packet.offload.kind = Kind::Whole;
        complete(&mut packet);
        assert!(packet.offload.is_none());
        assert_sound(packet.bytes());
    }

    #[test]
    fn the_header_that_is_read_is_the_header_that_is_written() {
        for (v6, udp) in [(false, false), (true, false), (false, true), (true, true)] {
            let mut packet = super_frame(v6, udp, 5000, 1000, 14);
            let offload = packet.offload;
            assert!(can_leave(&packet, 14, Takes { tcp: true, udp: true }));
            assert!(!can_leave(&packet, 0, Takes { tcp: true, udp: true }));
            assert_eq!(can_leave(&packet, 14, Takes { tcp: true, udp: false }), !udp);
            assert!(push_header(&mut packet));
            let header = *packet.bytes().first_chunk().unwrap();
            assert_eq!(Offload::parse(header, 14), offload);
        }
    }

    #[test]
    fn a_header_from_a_port_without_link_header_that_points_beyond_everything_is_told_on_as_such() {
        let mut header = [0; HEADER];
        (header[0], header[6], header[7]) = (NEEDS_CHECKSUM, 0xff, 0xff);
        let mut packet = super_frame(false, false, 300, 100, 14);
        packet.offload = Offload::parse(header, 0);
        assert!(push_header(&mut packet));
        assert_eq!(packet.bytes()[6..8], [0xff; 2]);
    }

    #[test]
    fn a_super_frame_is_none_whose_tcp_header_is_shorter_than_any_or_longer_than_it() {
        for words in 0..16 {
            let mut packet = super_frame(false, false, 30, 1, 0);
            packet.bytes_mut()[20 + 12] = words << 4;
            let headers = Headers::of(packet.bytes()).expect("an IP header");
            assert_eq!(agrees(&packet, &headers), (5..=12).contains(&words), "{words} words");
        }
    }

    #[test]
    fn headers_that_cannot_be_never_panic() {
        let mut rng = Rng::new(8);
        for _ in 0..20_000 {
            let mut packet = super_frame(rng.next_u32() & 1 == 0, false, 300, 100, 14);
            packet.offload.transport = rng.next_u16() % 400;
            packet.offload.checksum = rng.next_u16() % 40;
            packet.offload.size = rng.next_u16() % 200;
            packet.bytes_mut()[14 + 20 + 12] = rng.next_u64().to_le_bytes()[0];
            packet.truncate(usize::from(rng.next_u16() % 400));
            let whole = packet.kept();
            packet.pull(14);
            if Headers::of(packet.bytes()).is_ok_and(|headers| agrees(&packet, &headers)) {
                let mut room = Packet::with_capacity(0);
                split(&whole, 14, &mut room, |_| ());
            }
            let mut whole = whole;
            complete(&mut whole);
        }
    }
}
