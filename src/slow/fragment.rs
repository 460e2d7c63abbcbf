//! Cutting packets into fragments (RFC 791 section 3.2, RFC 8200 section 4.5) and putting fragments
//! together.
//!
//! Kept from the kernel: a datagram has 30 s (IPv6: 60 s) from its first piece; a piece that is
//! already there is ignored and any other overlap drops the whole datagram (RFC 5722, for IPv4
//! too); options that are not to be copied become no-operations in later fragments, so that all
//! headers are of one length; 4 MiB at most wait.
//!
//! Left out on purpose: ICMPv6 parameter problems about malformed pieces. Unlike the kernel, which refuses new
//! pieces when the room is used up, the oldest datagram goes: whoever floods us with pieces must not keep
//! everybody else out for half a minute.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Duration;

use crate::packet::ip::{V4_HEADER, V6_HEADER};
use crate::packet::{checksum, proto, DropReason, Family, Fragment, Headers, LinkId, Packet};
use crate::world::{Instant, Keyed, Map, Rng};

/// Bytes that wait for the rest of their datagrams, headers and bookkeeping included.
pub const BYTES_MAX: usize = 4 << 20;

/// Datagrams that wait for their rest.
pub const DATAGRAMS_MAX: usize = 1024;

/// What a piece costs beside its bytes.
const OVERHEAD: usize = 64;

const TIMEOUT_V4: Duration = Duration::from_secs(30);
const TIMEOUT_V6: Duration = Duration::from_secs(60);

const MORE_FRAGMENTS: u16 = 0x2000;
const DONT_FRAGMENT: u16 = 0x4000;
const OFFSET: u16 = 0x1fff;

const HOP_BY_HOP: u8 = 0;
const ROUTING: u8 = 43;
const FRAGMENT: u8 = 44;
const DESTINATION: u8 = 60;
const FRAGMENT_HEADER: usize = 8;

/// How a packet came that was put together.
#[derive(Debug, Clone, Default)]
pub struct Came {
    /// Bytes of the largest fragment with its headers; 0 for a packet that came whole.
    pub largest: u16,
    /// Whether its fragments must not be cut, as their IPv4 header shall say where they are cut.
    dont_fragment: bool,
    /// The bytes of data in each fragment, and whether there was room in front of it; none if all was
    /// copied together.
    pieces: Vec<(usize, bool)>,
}

impl Came {
    /// What is put together for a host is copied together, in IPv4.
    pub fn forget_pieces(&mut self) {
        self.pieces = Vec::new();
    }

    /// The lengths in which the data of a packet leaves that may be cut into `room` bytes at most: as
    /// it came, if that is possible, else as few as possible. Also whether none of these may be cut
    /// again, which is said only of the few.
    fn lens(&self, outer: &Headers, len: usize, room: usize) -> (Vec<usize>, bool) {
        if let Some(lens) = self.as_it_came(outer, len, room) {
            return (lens, false);
        }
        let (mut few, mut left) = (Vec::with_capacity(len / room + 1), len);
        while left > room {
            few.push(room & !7);
            left -= room & !7;
        }
        few.push(left);
        (few, self.dont_fragment)
    }

    /// The lengths in which a packet came, if the first piece still is a multiple of eight with what
    /// stands in front of it now, all fit and all have room for their headers.
    fn as_it_came(&self, outer: &Headers, len: usize, room: usize) -> Option<Vec<usize>> {
        let (&(first, first_has_room), rest) = self.pieces.split_first()?;
        let all: usize = self.pieces.iter().map(|(len, _)| len).sum();
        let in_front = len.checked_sub(all)?;
        let rest_has_room = rest.iter().all(|&(_, has_room)| has_room);
        // A first piece with little room is given more than an outer header needs, one with much is not.
        let has_room = match (outer.family, in_front) {
            (Family::V4, _) => true,
            (Family::V6, 0) => first_has_room && rest_has_room,
            (Family::V6, _) => rest_has_room && !(first_has_room && outer.proto == proto::GRE),
        };
        let first = in_front + first;
        let fit = first <= room && first % 8 == 0 && rest.iter().all(|&(len, _)| len <= room);
        let lens = std::iter::once(first).chain(rest.iter().map(|&(len, _)| len));
        (fit && has_room).then(|| lens.collect())
    }
}

/// Cuts a whole IP packet, or an IPv4 fragment, into fragments of at most `mtu` bytes, if possible such
/// as it [`Came`] in. `id` is the identification of IPv6 fragments; those of IPv4 keep the packet's.
///
/// # Errors
/// [`DropReason::TooBig`] if not even eight bytes of data fit, or for an IPv6 fragment.
pub fn split(packet: &Packet, mtu: u16, id: u32, came: &Came) -> Result<Vec<Packet>, DropReason> {
    let headers = Headers::of(packet.bytes())?;
    let bytes = &packet.bytes()[..usize::from(headers.len)];
    match headers.family {
        Family::V4 => split_v4(packet, bytes, &headers, mtu, came),
        Family::V6 if headers.fragment == Fragment::Whole => {
            split_v6(packet, bytes, &headers, mtu, id, came)
        }
        Family::V6 => Err(DropReason::TooBig),
    }
}

fn split_v4(
    packet: &Packet,
    bytes: &[u8],
    headers: &Headers,
    mtu: u16,
    came: &Came,
) -> Result<Vec<Packet>, DropReason> {
    let (header, data) = bytes.split_at(usize::from(headers.transport));
    let (lens, dont_fragment) = came.lens(headers, data.len(), room(mtu, header.len())?);
    let mut field = u16::from_be_bytes([header[6], header[7]]);
    if dont_fragment {
        field |= DONT_FRAGMENT;
    }
    let mut later = header.to_vec();
    blank_uncopied(&mut later[V4_HEADER..]);
    let mut cuts = Vec::with_capacity(lens.len());
    let mut at = 0;
    for (i, len) in lens.into_iter().enumerate() {
        let chunk = &data[at..at + len];
        let last = at + chunk.len() == data.len();
        let more = if last { field & MORE_FRAGMENTS } else { MORE_FRAGMENTS };
        let offset = (field & OFFSET).saturating_add(u16::try_from(at / 8).unwrap_or(OFFSET));
        if offset > OFFSET {
            return Err(DropReason::FragmentMalformed);
        }
        let mut cut = if i == 0 { header.to_vec() } else { later.clone() };
        let len = u16::try_from(header.len() + len).map_err(|_| DropReason::TooBig)?;
        cut[2..4].copy_from_slice(&len.to_be_bytes());
        let field = field & !(MORE_FRAGMENTS | OFFSET) | more | offset;
        cut[6..8].copy_from_slice(&field.to_be_bytes());
        fill_header_checksum(&mut cut);
        cut.extend_from_slice(chunk);
        cuts.push(like(packet, &cut));
        at += chunk.len();
    }
    Ok(cuts)
}

fn split_v6(
    packet: &Packet,
    bytes: &[u8],
    headers: &Headers,
    mtu: u16,
    id: u32,
    came: &Came,
) -> Result<Vec<Packet>, DropReason> {
    let (field, at) = unfragmentable(bytes);
    let (head, data) = bytes.split_at(at);
    let (lens, _) = came.lens(headers, data.len(), room(mtu, at + FRAGMENT_HEADER)?);
    let mut cuts = Vec::with_capacity(lens.len());
    let mut begin = 0;
    for len in lens {
        let chunk = &data[begin..begin + len];
        let more = u16::from(begin + chunk.len() < data.len());
        let offset = u16::try_from(begin).map_err(|_| DropReason::TooBig)?;
        let mut cut = head.to_vec();
        cut[field] = FRAGMENT;
        let payload = head.len() + FRAGMENT_HEADER + chunk.len() - V6_HEADER;
        let payload = u16::try_from(payload).map_err(|_| DropReason::TooBig)?;
        cut[4..6].copy_from_slice(&payload.to_be_bytes());
        cut.extend_from_slice(&[bytes[field], 0]);
        cut.extend_from_slice(&(offset | more).to_be_bytes());
        cut.extend_from_slice(&id.to_be_bytes());
        cut.extend_from_slice(chunk);
        cuts.push(like(packet, &cut));
        begin += len;
    }
    Ok(cuts)
}

/// Bytes of data in each fragment: at least eight.
fn room(mtu: u16, headers: usize) -> Result<usize, DropReason> {
    let room = usize::from(mtu).saturating_sub(headers);
    if room < 8 {
        return Err(DropReason::TooBig);
    }
    Ok(room)
}

/// Whether a network card leaves room in front of a packet for what IPv6 fragments need: if not, the
/// kernel copies all together. The virtio card, with which it was observed, copies short packets to where
/// there is room, leaves those where they are that have room behind them, and moves long ones.
const fn has_room(packet_len: usize) -> bool {
    const SHORT: usize = 128 - 14;
    const LONG: usize = 1204 - 14;
    packet_len <= SHORT || packet_len > LONG
}

/// A packet of these bytes that came the way of `packet`.
fn like(packet: &Packet, bytes: &[u8]) -> Packet {
    let mut copy = Packet::copy_of(packet.link, bytes);
    copy.mark = packet.mark;
    copy
}

/// Makes options that belong into the first fragment only into no-operations (RFC 791: the copied
/// flag). The options have been found well-formed.
fn blank_uncopied(options: &mut [u8]) {
    const END: u8 = 0;
    const NOP: u8 = 1;
    const COPIED: u8 = 0x80;
    let mut at = 0;
    while at < options.len() {
        let len = match options[at] {
            END => return,
            NOP => 1,
            _ => options.get(at + 1).map_or(1, |&len| usize::from(len).max(1)),
        };
        let end = (at + len).min(options.len());
        if options[at] & COPIED == 0 {
            options[at..end].fill(NOP);
        }
        at = end;
    }
}

fn fill_header_checksum(header: &mut [u8]) {
    header[10..12].fill(0);
    let sum = checksum::of(header);
    header[10..12].copy_from_slice(&sum.to_be_bytes());
}

/// Where an IPv6 packet may be cut: the field that names what follows, and where that begins. All
/// that routers on the way look at stays in front.
fn unfragmentable(bytes: &[u8]) -> (usize, usize) {
    let mut cut = (6, V6_HEADER);
    let (mut field, mut at) = cut;
    while let (Some(&next), Some(&len)) = (bytes.get(field), bytes.get(at + 1)) {
        if !matches!(next, HOP_BY_HOP | ROUTING | DESTINATION) {
            break;
        }
        field = at;
        at += 8 + usize::from(len) * 8;
        if next != DESTINATION && at <= bytes.len() {
            cut = (field, at);
        }
    }
    cut
}

/// The fragment header of an IPv6 fragment: the field that names it, and where it begins.
fn fragment_header(bytes: &[u8]) -> Option<(usize, usize)> {
    let (mut field, mut at) = (6, V6_HEADER);
    while *bytes.get(field)? != FRAGMENT {
        let unit = if bytes[field] == proto::AH { 4 } else { 8 };
        field = at;
        at += 8 + usize::from(*bytes.get(at + 1)?) * unit;
    }
    (bytes.len() >= at + FRAGMENT_HEADER).then_some((field, at))
}

/// What a datagram's fragments have in common.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct Key {
    src: IpAddr,
    dst: IpAddr,
    /// IPv4 only.
    proto: u8,
    id: u32,
}

/// One fragment, understood.
struct Parsed {
    key: Key,
    start: usize,
    more: bool,
    dont_fragment: bool,
    tos: u8,
    /// Where the data lies in the packet.
    data: std::ops::Range<usize>,
}

#[derive(Debug)]
struct Piece {
    start: usize,
    data: Vec<u8>,
    has_room: bool,
}

impl Piece {
    fn end(&self) -> usize {
        self.start + self.data.len()
    }
}

/// A datagram that is not whole yet. Its pieces are sorted and do not overlap.
#[derive(Debug)]
struct Datagram {
    deadline: Instant,
    pieces: Vec<Piece>,
    /// The bytes in front of the data of the first fragment.
    head: Option<Vec<u8>>,
    total: Option<usize>,
    filled: usize,
    cost: usize,
    largest: u16,
    /// The largest of those that may not be cut.
    largest_uncut: u16,
    /// Which congestion marks there were, a bit each.
    marks: u8,
    /// Where the first fragment records its route.
    recorded: u8,
    link: LinkId,
    mark: u32,
}

/// What became of a fragment.
#[derive(Debug)]
pub enum Added {
    /// It waits for the others.
    Held,
    /// It was the last missing one of `pieces`: the whole packet, and how it came.
    Whole {
        /// The packet.
        packet: Packet,
        /// How it came.
        came: Came,
        /// How many fragments there were.
        pieces: usize,
    },
    /// It was refused, and so many others that had waited are gone with it.
    Refused {
        /// Why.
        reason: DropReason,
        /// Fragments that had waited.
        others: usize,
    },
}

/// A datagram whose time is over.
#[derive(Debug)]
pub struct Expired {
    /// How many fragments of it had come.
    pub pieces: usize,
    /// The first fragment as it came, if it came.
    pub first: Option<Packet>,
}

/// All datagrams that are not whole yet.
#[derive(Debug)]
pub struct Reassembly {
    datagrams: Map<Key, Datagram>,
    order: BTreeSet<(Instant, Key)>,
    cost: usize,
    pieces: usize,
    evicted: usize,
}

impl Reassembly {
    /// Nothing waits.
    pub fn new(rng: &mut Rng) -> Self {
        let datagrams = Map::with_hasher(Keyed::new(rng));
        Self { datagrams, order: BTreeSet::new(), cost: 0, pieces: 0, evicted: 0 }
    }

    /// Takes in a fragment.
    pub fn add(&mut self, now: Instant, packet: &Packet) -> Added {
        let parsed = match parse(packet) {
            Ok(parsed) => parsed,
            Err(reason) => return Added::Refused { reason, others: 0 },
        };
        let key = parsed.key;
        let datagram = self.datagrams.entry(key).or_insert_with(|| {
            let deadline = now.after(timeout(key));
            self.order.insert((deadline, key));
            Datagram::new(deadline, packet)
        });
        let cost = datagram.cost;
        match datagram.insert(packet, &parsed) {
            Ok(true) => {}
            Ok(false) => {
                return Added::Refused { reason: DropReason::FragmentMalformed, others: 0 }
            }
            Err(()) => {
                let others = self.forget(key).map_or(0, |gone| gone.pieces.len());
                return Added::Refused { reason: DropReason::FragmentMalformed, others };
            }
        }
        self.cost += datagram.cost - cost;
        self.pieces += 1;
        if datagram.is_whole() {
            let whole = self.forget(key).expect("it was just found");
            return whole.join(key);
        }
        self.make_room();
        Added::Held
    }

    /// The next datagram whose time is over.
    pub fn poll(&mut self, now: Instant) -> Option<Expired> {
        let &(deadline, key) = self.order.first()?;
        if deadline > now {
            return None;
        }
        let datagram = self.forget(key)?;
        Some(Expired { pieces: datagram.pieces.len(), first: datagram.first() })
    }

    /// When [`poll`](Self::poll) is due.
    pub fn deadline(&self) -> Option<Instant> {
        self.order.first().map(|&(deadline, _)| deadline)
    }

    /// Fragments that wait.
    pub const fn waiting(&self) -> usize {
        self.pieces
    }

    /// How many fragments went since the last call because there was no more room.
    pub fn evicted(&mut self) -> usize {
        std::mem::take(&mut self.evicted)
    }

    fn make_room(&mut self) {
        while self.cost > BYTES_MAX || self.datagrams.len() > DATAGRAMS_MAX {
            let Some(&(_, key)) = self.order.first() else { return };
            let Some(gone) = self.forget(key) else { return };
            self.evicted += gone.pieces.len();
        }
    }

    fn forget(&mut self, key: Key) -> Option<Datagram> {
        let datagram = self.datagrams.remove(&key)?;
        self.order.remove(&(datagram.deadline, key));
        self.cost -= datagram.cost;
        self.pieces -= datagram.pieces.len();
        Some(datagram)
    }
}

impl Datagram {
    const fn new(deadline: Instant, packet: &Packet) -> Self {
        Self {
            deadline,
            pieces: Vec::new(),
            head: None,
            total: None,
            filled: 0,
            cost: 0,
            largest: 0,
            largest_uncut: 0,
            marks: 0,
            recorded: 0,
            link: packet.link,
            mark: packet.mark,
        }
    }

    /// Takes a piece in: `Ok(false)` if its bytes are all there already, an error if it contradicts
    /// the others.
    fn insert(&mut self, packet: &Packet, parsed: &Parsed) -> Result<bool, ()> {
        let data = &packet.bytes()[parsed.data.clone()];
        let (start, end) = (parsed.start, parsed.start + data.len());
        let reach = self.pieces.last().map_or(0, Piece::end);
        if !parsed.more && (self.total.is_some_and(|total| total != end) || reach > end) {
            return Err(());
        }
        if self.total.is_some_and(|total| end > total) {
            return Err(());
        }
        let at = self.pieces.partition_point(|piece| piece.start <= start);
        let (before, after) = self.pieces.split_at(at);
        if let Some(overlapped) = before.last().filter(|piece| piece.end() > start) {
            let run = after.iter().fold(overlapped.end(), |run, piece| {
                if piece.start == run {
                    piece.end()
                } else {
                    run
                }
            });
            return if run >= end { Ok(false) } else { Err(()) };
        }
        if after.first().is_some_and(|piece| piece.start < end) {
            return Err(());
        }
        let has_room = has_room(packet.len());
        self.pieces.insert(at, Piece { start, data: data.to_vec(), has_room });
        if !parsed.more {
            self.total = Some(end);
        }
        if start == 0 {
            self.head = Some(packet.bytes()[..parsed.data.start].to_vec());
            self.link = packet.link;
            self.mark = packet.mark;
            self.recorded = packet.recorded;
        }
        let len = u16::try_from(packet.len()).unwrap_or(u16::MAX);
        self.largest = self.largest.max(len);
        if parsed.dont_fragment {
            self.largest_uncut = self.largest_uncut.max(len);
        }
        self.marks |= 1 << (parsed.tos & 3);
        self.filled += data.len();
        self.cost += packet.len() + OVERHEAD;
        Ok(true)
    }

    fn is_whole(&self) -> bool {
        self.total == Some(self.filled) && self.head.is_some()
    }

    /// The whole packet.
    fn join(self, key: Key) -> Added {
        let pieces = self.pieces.len();
        let refused = |reason| Added::Refused { reason, others: pieces - 1 };
        let Some(mut bytes) = self.head else { return refused(DropReason::FragmentMalformed) };
        if Family::of(key.src) == Family::V6 {
            let Some((field, at)) = fragment_header(&bytes) else {
                return refused(DropReason::FragmentMalformed);
            };
            bytes[field] = bytes[at];
            bytes.truncate(at);
        }
        // RFC 3168 section 5.3: a mark of congestion stays; who is capable of marks and who is not are not
        // one sender.
        const NOT_CAPABLE: u8 = 1 << 0;
        const CONGESTED: u8 = 1 << 3;
        if self.marks & NOT_CAPABLE != 0 && self.marks != NOT_CAPABLE {
            return refused(DropReason::FragmentMalformed);
        }
        if self.marks & CONGESTED != 0 && self.marks != CONGESTED {
            let (at, bits) = if key.src.is_ipv4() { (1, 3) } else { (1, 0x30) };
            bytes[at] |= bits;
        }
        let head = bytes.len();
        for piece in &self.pieces {
            bytes.extend_from_slice(&piece.data);
        }
        let counted = if key.src.is_ipv4() { bytes.len() } else { bytes.len() - V6_HEADER };
        let Ok(len) = u16::try_from(counted) else {
            return refused(DropReason::FragmentMalformed);
        };
        // In IPv6 the kernel takes a bit of this length for a flag when the packet leaves over IPv4.
        const MISTAKEN: u16 = 0x40;
        let dont_fragment = match key.src.is_ipv4() {
            true => self.largest_uncut == self.largest,
            false => self.largest & MISTAKEN != 0,
        };
        if key.src.is_ipv4() {
            let field = if dont_fragment { DONT_FRAGMENT } else { 0 };
            bytes[2..4].copy_from_slice(&len.to_be_bytes());
            bytes[6..8].copy_from_slice(&field.to_be_bytes());
            fill_header_checksum(&mut bytes[..head]);
        } else {
            bytes[4..6].copy_from_slice(&len.to_be_bytes());
        }
        let mut packet = Packet::copy_of(self.link, &bytes);
        packet.mark = self.mark;
        packet.recorded = self.recorded;
        let lens = self.pieces.iter().map(|piece| (piece.data.len(), piece.has_room)).collect();
        let came = Came { largest: self.largest, dont_fragment, pieces: lens };
        Added::Whole { packet, came, pieces }
    }

    /// The first fragment as it came.
    fn first(&self) -> Option<Packet> {
        let mut bytes = self.head.clone()?;
        bytes.extend_from_slice(&self.pieces.first()?.data);
        let mut packet = Packet::copy_of(self.link, &bytes);
        packet.mark = self.mark;
        Some(packet)
    }
}

const fn timeout(key: Key) -> Duration {
    if key.src.is_ipv4() {
        TIMEOUT_V4
    } else {
        TIMEOUT_V6
    }
}

fn parse(packet: &Packet) -> Result<Parsed, DropReason> {
    let bytes = packet.bytes();
    let headers = Headers::of(bytes)?;
    let len = usize::from(headers.len);
    let (key, offset, more, data) = match headers.family {
        Family::V4 => {
            let id = u32::from(u16::from_be_bytes([bytes[4], bytes[5]]));
            let field = u16::from_be_bytes([bytes[6], bytes[7]]);
            let key = Key { src: headers.src, dst: headers.dst, proto: headers.proto, id };
            let more = field & MORE_FRAGMENTS != 0;
            (key, (field & OFFSET) * 8, more, usize::from(headers.transport)..len)
        }
        Family::V6 => {
            let (_, at) = fragment_header(bytes).ok_or(DropReason::FragmentMalformed)?;
            let field = u16::from_be_bytes([bytes[at + 2], bytes[at + 3]]);
            let id = [bytes[at + 4], bytes[at + 5], bytes[at + 6], bytes[at + 7]];
            let id = u32::from_be_bytes(id);
            let key = Key { src: headers.src, dst: headers.dst, proto: 0, id };
            (key, field & !7, field & 1 != 0, at + FRAGMENT_HEADER..len)
        }
    };
    let (start, mut data) = (usize::from(offset), data);
    if more && data.len() % 8 != 0 {
        if headers.family == Family::V6 {
            return Err(DropReason::FragmentMalformed);
        }
        data.end -= data.len() % 8;
    }
    if data.is_empty() || start + data.len() > usize::from(u16::MAX) {
        return Err(DropReason::FragmentMalformed);
    }
    let Headers { dont_fragment, tos, .. } = headers;
    Ok(Parsed { key, start, more, dont_fragment, tos, data })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::packet::ip::Fresh;

    fn addresses(v6: bool) -> (IpAddr, IpAddr) {
        if v6 {
            ("fd90::1".parse().unwrap(), "fd80::10".parse().unwrap())
        } else {
            ([10, 90, 1, 1].into(), [10, 80, 0, 10].into())
        }
    }

    fn datagram(v6: bool, len: usize, rng: &mut Rng) -> Packet {
        let data: Vec<u8> = (0..len).map(|_| rng.next_u64().to_le_bytes()[0]).collect();
        let mut packet = Packet::copy_of(LinkId(2), &data);
        packet.mark = 7;
        let (src, dst) = addresses(v6);
        let id = rng.next_u16();
        Fresh { src, dst, proto: proto::UDP, ttl: 64, tos: 0, dont_fragment: false, id }
            .push(&mut packet)
            .unwrap();
        packet
    }

    fn shuffle<T>(items: &mut [T], rng: &mut Rng) {
        for i in (1..items.len()).rev() {
            items.swap(i, rng.next_u32() as usize % (i + 1));
        }
    }

    fn new() -> Reassembly {
        Reassembly::new(&mut Rng::new(1))
    }

    /// Feeds all pieces; gives the whole packet if it came about, and how many were refused.
    fn feed(reassembly: &mut Reassembly, pieces: &[Packet]) -> (Option<(Packet, u16)>, usize) {
        let (mut whole, mut refused) = (None, 0);
        for piece in pieces {
            match reassembly.add(Instant::ZERO, piece) {
                Added::Held => {}
                Added::Whole { packet, came, .. } => whole = Some((packet, came.largest)),
                Added::Refused { .. } => refused += 1,
            }
        }
        (whole, refused)
    }

    #[test]
    fn random_cuts_in_any_order_with_copies_come_together_again() {
        let mut rng = Rng::new(3);
        for round in 0..200 {
            let v6 = round % 2 == 0;
            let packet = datagram(v6, 1 + rng.next_u32() as usize % 9000, &mut rng);
            let mtu = 68 + rng.next_u16() % 1500;
            let mut pieces = split(&packet, mtu, rng.next_u32(), &Came::default()).unwrap();
            assert!(pieces.iter().all(|piece| piece.len() <= usize::from(mtu)));
            let count = pieces.len();
            if count < 2 {
                continue;
            }
            let largest = pieces.iter().map(Packet::len).max().unwrap();
            // A copy of a piece that is not the last to come.
            shuffle(&mut pieces, &mut rng);
            pieces.insert(1, pieces[0].clone());
            let mut reassembly = new();
            let (whole, refused) = feed(&mut reassembly, &pieces);
            let (whole, told) = whole.unwrap();
            assert_eq!(whole.bytes(), packet.bytes());
            assert_eq!((usize::from(told), refused, whole.mark), (largest, 1, 7));
            assert_eq!((reassembly.cost, reassembly.pieces, reassembly.deadline()), (0, 0, None));
        }
    }

    #[test]
    fn fragments_are_cut_again_and_still_come_together() {
        let mut rng = Rng::new(4);
        let packet = datagram(false, 4000, &mut rng);
        let coarse = split(&packet, 1500, 0, &Came::default()).unwrap();
        let fine = coarse.iter().flat_map(|piece| split(piece, 300, 0, &Came::default()).unwrap());
        let fine: Vec<_> = fine.collect();
        assert_eq!(feed(&mut new(), &fine).0.unwrap().0.bytes(), packet.bytes());
    }

    #[test]
    fn an_overlap_drops_the_whole_datagram() {
        let mut rng = Rng::new(5);
        for v6 in [false, true] {
            let packet = datagram(v6, 4000, &mut rng);
            let coarse = split(&packet, 1500, 9, &Came::default()).unwrap();
            let fine = split(&packet, 1396, 9, &Came::default()).unwrap();
            let mut reassembly = new();
            assert!(matches!(reassembly.add(Instant::ZERO, &coarse[0]), Added::Held));
            let Added::Refused { reason, others } = reassembly.add(Instant::ZERO, &fine[1]) else {
                panic!("it overlaps");
            };
            assert_eq!((reason, others), (DropReason::FragmentMalformed, 1));
            assert_eq!(reassembly.waiting(), 0);
        }
    }

    #[test]
    fn a_piece_within_what_is_there_is_ignored() {
        let mut rng = Rng::new(6);
        let packet = datagram(false, 4000, &mut rng);
        let coarse = split(&packet, 1500, 0, &Came::default()).unwrap();
        let fine = split(&packet, 500, 0, &Came::default()).unwrap();
        let mut reassembly = new();
        reassembly.add(Instant::ZERO, &coarse[0]);
        reassembly.add(Instant::ZERO, &coarse[1]);
        for piece in &fine[..4] {
            let refused = Added::Refused { reason: DropReason::FragmentMalformed, others: 0 };
            assert_eq!(
                format!("{:?}", reassembly.add(Instant::ZERO, piece)),
                format!("{refused:?}")
            );
        }
        let (whole, _) = feed(&mut reassembly, &coarse[2..]);
        assert_eq!(whole.unwrap().0.bytes(), packet.bytes());
    }

    #[test]
    fn pieces_that_contradict_the_end_drop_the_datagram() {
        let mut rng = Rng::new(7);
        let pieces = split(&datagram(false, 4000, &mut rng), 1500, 0, &Came::default()).unwrap();
        let mut early_end = pieces[1].clone();
        early_end.bytes_mut()[6] &= 0xdf;
        fill_header_checksum(&mut early_end.bytes_mut()[..20]);
        for order in [[&pieces[2], &early_end], [&early_end, &pieces[2]]] {
            let mut reassembly = new();
            assert!(matches!(reassembly.add(Instant::ZERO, order[0]), Added::Held));
            let second = reassembly.add(Instant::ZERO, order[1]);
            assert!(matches!(second, Added::Refused { others: 1, .. }));
        }
    }

    #[test]
    fn the_time_is_thirty_seconds_and_for_ipv6_sixty() {
        let mut rng = Rng::new(8);
        for (v6, seconds) in [(false, 30_000), (true, 60_000)] {
            let pieces = split(&datagram(v6, 4000, &mut rng), 1500, 0, &Came::default()).unwrap();
            let mut reassembly = new();
            reassembly.add(Instant::ZERO, &pieces[1]);
            reassembly.add(Instant::from_millis(9000), &pieces[0]);
            assert_eq!(reassembly.deadline(), Some(Instant::from_millis(seconds)));
            assert!(reassembly.poll(Instant::from_millis(seconds - 1)).is_none());
            let expired = reassembly.poll(Instant::from_millis(seconds)).unwrap();
            assert_eq!(expired.pieces, 2);
            assert_eq!(expired.first.unwrap().bytes(), pieces[0].bytes());
            assert_eq!((reassembly.deadline(), reassembly.cost), (None, 0));
        }
    }

    #[test]
    fn a_flood_of_pieces_stays_within_the_limits() {
        let mut rng = Rng::new(9);
        let mut reassembly = new();
        for i in 0..6000u32 {
            let packet = datagram(true, 1400, &mut rng);
            let pieces = split(&packet, 1300, i, &Came::default()).unwrap();
            reassembly.add(Instant::from_millis(u64::from(i)), &pieces[0]);
            assert!(reassembly.cost <= BYTES_MAX && reassembly.datagrams.len() <= DATAGRAMS_MAX);
        }
        assert_eq!(reassembly.evicted() + reassembly.waiting(), 6000);
        assert_eq!(reassembly.order.len(), reassembly.datagrams.len());
    }

    #[test]
    fn a_datagram_beyond_65535_bytes_is_malformed() {
        let mut rng = Rng::new(10);
        let mut piece =
            split(&datagram(false, 1000, &mut rng), 800, 0, &Came::default()).unwrap().remove(1);
        piece.bytes_mut()[6..8].copy_from_slice(&[0x1f, 0xff]);
        fill_header_checksum(&mut piece.bytes_mut()[..20]);
        assert!(matches!(new().add(Instant::ZERO, &piece), Added::Refused { others: 0, .. }));
    }

    #[test]
    fn only_options_marked_for_it_are_repeated() {
        let mut packet = Packet::copy_of(LinkId(0), &[5; 100]);
        packet.push(12).unwrap().copy_from_slice(&[0x44, 4, 5, 0, 0x82, 4, 1, 2, 7, 3, 4, 0]);
        packet.push(20).unwrap();
        let bytes = packet.bytes_mut();
        bytes[..20].fill(0);
        bytes[0] = 0x48;
        bytes[3] = 132;
        bytes[8] = 9;
        bytes[9] = 17;
        fill_header_checksum(&mut bytes[..32]);
        let pieces = split(&packet, 80, 0, &Came::default()).unwrap();
        assert_eq!(pieces.len(), 3);
        assert_eq!(pieces[0].bytes()[20..32], packet.bytes()[20..32]);
        let blanked = [1, 1, 1, 1, 0x82, 4, 1, 2, 1, 1, 1, 0];
        for piece in &pieces[1..] {
            assert_eq!(piece.bytes()[20..32], blanked);
            assert!(Headers::of(piece.bytes()).is_ok());
        }
        assert!(matches!(split(&packet, 39, 0, &Came::default()), Err(DropReason::TooBig)));
    }

    #[test]
    fn what_routers_look_at_stays_in_front_of_the_cut() {
        let mut rng = Rng::new(11);
        let mut packet = datagram(true, 3000, &mut rng);
        let mut bytes = packet.bytes().to_vec();
        bytes.splice(40..40, [43, 0, 1, 4, 0, 0, 0, 0, 60, 0, 0, 4, 0, 0, 0, 0]);
        bytes.splice(56..56, [17, 0, 1, 4, 0, 0, 0, 0]);
        bytes[6] = 0;
        let len = u16::try_from(bytes.len() - 40).unwrap();
        bytes[4..6].copy_from_slice(&len.to_be_bytes());
        packet = Packet::copy_of(packet.link, &bytes);
        let pieces = split(&packet, 1280, 77, &Came::default()).unwrap();
        for piece in &pieces {
            assert_eq!((piece.bytes()[6], piece.bytes()[40], piece.bytes()[48]), (0, 43, FRAGMENT));
            assert_eq!(piece.bytes()[56], 60);
            assert!(Headers::of(piece.bytes()).is_ok());
        }
        assert_eq!(feed(&mut new(), &pieces).0.unwrap().0.bytes(), packet.bytes());
    }

    #[test]
    fn no_prefix_of_a_fragment_panics() {
        let mut rng = Rng::new(12);
        for v6 in [false, true] {
            for piece in split(&datagram(v6, 300, &mut rng), 200, 1, &Came::default()).unwrap() {
                let mut reassembly = new();
                for len in 0..piece.len() {
                    let mut bytes = piece.bytes()[..len].to_vec();
                    reassembly.add(Instant::ZERO, &Packet::copy_of(LinkId(0), &bytes));
                    if !v6 && len >= 20 {
                        let short = u16::try_from(len).unwrap();
                        bytes[2..4].copy_from_slice(&short.to_be_bytes());
                        fill_header_checksum(&mut bytes[..20]);
                        reassembly.add(Instant::ZERO, &Packet::copy_of(LinkId(0), &bytes));
                    }
                }
            }
        }
    }
}
