//! FTP through NAT: data connections are expected before they come, and answers name the virtual end.
//!
//! A connection that a helper listens to has [`Flags::HELPED`], and that test is all that others pay.
//! What is remembered of one lies in a bounded table beside the connections: what the client asked
//! for, and by how much the server's bytes have moved since an answer got longer or shorter.
//!
//! Kept from `ip_vs_ftp`: it acts on NAT only, on connections whose virtual port it was given when
//! they were made, while they are established; segments with a wrong checksum are dropped; a data
//! connection is made as LISTEN and controlled by its control connection; what the text says is
//! believed, whoever's address it names. Kept from `nf_conntrack_seqadj`: sequence numbers behind the
//! latest change, and acknowledgements of them, selective ones too, are moved by the sum of all
//! changes, those before it by the sum of all but the latest.
//!
//! Better than the kernel: an answer that the server repeats is translated again, and one that fills
//! the MTU does not grow beyond it.

use super::ftp::{self, Answer, Passive, Request, WRITTEN_MAX};
use super::Director;
use crate::conn::state::TcpState;
use crate::conn::{Conn, ConnId, Flags, State};
use crate::packet::{checksum, ip, l4, proto, vnet, DropReason, Endpoint, Flow, Headers, Packet};
use crate::world::{Instant, Keyed, Map, Rng};

/// Control connections that are remembered at most.
const WATCHED_MAX: usize = 1 << 16;

/// A packet of more bytes than this does not grow, since it may fill the MTU: the end of the segment
/// is left out, as if it had been lost, and the server sends it again.
const LONG: u16 = 1000;

/// The flag of a segment behind whose data nothing follows; where data are left out, some does.
const FIN: u8 = 1;

/// The helper, and what it remembers of control connections.
#[derive(Debug)]
pub(super) struct Helper {
    /// The virtual ports of control connections, and how many there are; none without the helper.
    ports: Vec<(u16, u32)>,
    /// By client and virtual end.
    watched: Map<(Endpoint, Endpoint), Watch>,
}

/// What is remembered of a control connection.
#[derive(Debug, Clone, Copy, Default)]
struct Watch {
    /// What the client has asked for and not got.
    asked: Option<Passive>,
    /// The latest answer: its sequence number, and to what it was one.
    answered: Option<(u32, Passive)>,
    shift: Shift,
}

/// By how much the server's bytes have moved. Numbers wrap, and so do differences.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Shift {
    /// Sequence number of the segment that was changed last.
    position: u32,
    /// For what is not behind it.
    before: u32,
    /// For what is behind it.
    after: u32,
}

impl Shift {
    /// Takes in that the segment at `seq` got longer by `difference`.
    const fn changed(&mut self, seq: u32, difference: u32) {
        if self.before == self.after || is_before(self.position, seq) {
            *self = Self {
                position: seq,
                before: self.after,
                after: self.after.wrapping_add(difference),
            };
        }
    }

    /// The client's number for the server's.
    const fn outward(self, seq: u32) -> u32 {
        let by = if is_before(self.position, seq) { self.after } else { self.before };
        seq.wrapping_add(by)
    }

    /// The server's number for the client's.
    const fn inward(self, ack: u32) -> u32 {
        let behind = is_before(self.position, ack.wrapping_sub(self.before));
        ack.wrapping_sub(if behind { self.after } else { self.before })
    }
}

/// Whether a sequence number comes before another (RFC 9293 section 3.4).
const fn is_before(a: u32, b: u32) -> bool {
    b.wrapping_sub(a).wrapping_sub(1) < i32::MAX as u32
}

impl Helper {
    /// No helper.
    pub(super) fn new(rng: &mut Rng) -> Self {
        Self { ports: Vec::new(), watched: Map::with_hasher(Keyed::new(rng)) }
    }

    /// Whether a helper listens to new NAT connections to that virtual port.
    pub(super) fn serves(&self, protocol: u8, port: u16) -> bool {
        protocol == proto::TCP && self.ports.iter().any(|&(served, _)| served == port)
    }

    /// A connection of the helper's has been made, perhaps in the place of another one.
    pub(super) fn begin(&mut self, conn: &Conn) {
        self.count(conn, 1);
        self.forget(conn);
    }

    fn count(&mut self, conn: &Conn, difference: i32) {
        let used = self.ports.iter_mut().find(|(port, _)| *port == conn.virt.port);
        if let Some((_, used)) = used {
            *used = used.saturating_add_signed(difference);
        }
    }

    /// Forgets what was remembered between these ends.
    fn forget(&mut self, conn: &Conn) {
        self.watched.remove(&(conn.client, conn.virt));
    }

    /// By how much the server's bytes have moved between these ends.
    fn shift(&self, key: &(Endpoint, Endpoint)) -> Shift {
        self.watched.get(key).map_or(Shift::default(), |watch| watch.shift)
    }

    fn remember(&mut self, key: (Endpoint, Endpoint), asked: Passive) -> Result<(), DropReason> {
        if self.watched.len() >= WATCHED_MAX && !self.watched.contains_key(&key) {
            return Err(DropReason::HelperFull);
        }
        self.watched.entry(key).or_default().asked = Some(asked);
        Ok(())
    }
}

impl Director {
    /// Virtual ports of FTP control connections from now on; none is no helper. Connections that have
    /// a helper keep it.
    pub fn set_ftp_ports(&mut self, ports: &[u16]) {
        let table = &self.table;
        let listens = |conn: &&Conn| conn.flags.has(Flags::HELPED);
        let used = |port| table.iter().filter(listens).filter(|c| c.virt.port == port).count();
        let counted = |&port| (port, u32::try_from(used(port)).unwrap_or(u32::MAX));
        self.helper.ports = ports.iter().map(counted).collect();
    }

    /// The ports that were set, and how many connections a helper listens to at each.
    pub fn ftp_ports(&self) -> impl Iterator<Item = (u16, u32)> + '_ {
        self.helper.ports.iter().copied()
    }

    /// Forgets a connection that has gone, unless another one has taken its place.
    pub(super) fn unhelp(&mut self, conn: &Conn) {
        self.helper.count(conn, -1);
        let flow = Flow { proto: conn.proto, src: conn.client, dst: conn.virt };
        if self.table.find_request(&flow).is_none() {
            self.helper.forget(conn);
        }
    }

    /// Looks at a client's segment on its way to the server: what it announces is expected, what it
    /// acknowledges is told in the server's numbers. Addresses are still the client's.
    ///
    /// # Errors
    /// The reason to drop it.
    pub fn help_request(
        &mut self,
        now: Instant,
        id: ConnId,
        packet: &mut Packet,
        headers: &Headers,
    ) -> Result<(), DropReason> {
        let data = check(packet, headers)?;
        let conn = self.table.get(id);
        let key = (conn.client, conn.virt);
        if conn.state == State::Tcp(TcpState::Established) {
            let text = packet.bytes().get(data..).unwrap_or_default();
            match ftp::request(text, headers.family) {
                None => {}
                Some(Request::Passive(asked)) => self.helper.remember(key, asked)?,
                Some(Request::Active(to)) => {
                    if let Some(watch) = self.helper.watched.get_mut(&key) {
                        watch.asked = None;
                    }
                    self.expect_from_server(now, id, to)?;
                }
            }
        }
        let shift = self.helper.shift(&key);
        let segment = packet.bytes_mut().get_mut(headers.transport.into()..data);
        if segment.is_some_and(|header| shift_acks(header, shift)) {
            sum_up(packet, headers);
        }
        Ok(())
    }

    /// Looks at a server's segment on its way to the client: an answer that names a port gets the
    /// virtual address, and what follows is told in the client's numbers. Addresses are still the
    /// server's. Gives the packet's length, which may be another one now.
    ///
    /// # Errors
    /// The reason to drop it.
    pub(super) fn help_reply(
        &mut self,
        now: Instant,
        id: ConnId,
        packet: &mut Packet,
        headers: &Headers,
    ) -> Result<u16, DropReason> {
        let data = check(packet, headers)?;
        let conn = self.table.get(id);
        let key = (conn.client, conn.virt);
        let mut len = headers.len;
        let Some(&watch) = self.helper.watched.get(&key) else { return Ok(len) };
        let seq = number_at(packet.bytes(), usize::from(headers.transport) + 4);
        let repeated = watch.answered.filter(|&(at, _)| at == seq).map(|(_, to)| to);
        let mut changed = false;
        if conn.state == State::Tcp(TcpState::Established) || repeated.is_some() {
            let text = packet.bytes().get(data..).unwrap_or_default();
            let wanted = repeated.or(watch.asked);
            let found = wanted.and_then(|to| Some((to, ftp::answer(text, to, headers.family)?)));
            if let Some((to, answer)) = found {
                if repeated.is_none() {
                    self.expect_from_client(now, id, &answer)?;
                }
                len = self.rewrite_answer(key, packet, headers, data, seq, to, &answer)?;
                changed = true;
            }
        }
        let shift = self.helper.shift(&key);
        let moved = shift.outward(seq);
        if moved != seq {
            let at = usize::from(headers.transport) + 4;
            packet.bytes_mut()[at..at + 4].copy_from_slice(&moved.to_be_bytes());
        }
        if changed || moved != seq {
            sum_up(packet, headers);
        }
        Ok(len)
    }

    /// Puts the virtual end into an answer; `data` is where the text begins. Gives the packet's length.
    #[expect(clippy::too_many_arguments, reason = "one step of `help_reply`, which holds them all")]
    fn rewrite_answer(
        &mut self,
        key: (Endpoint, Endpoint),
        packet: &mut Packet,
        headers: &Headers,
        data: usize,
        seq: u32,
        to: Passive,
        answer: &Answer,
    ) -> Result<u16, DropReason> {
        let mut text = [0; WRITTEN_MAX];
        let written = ftp::write(Endpoint::new(key.1.addr, answer.port), to, &mut text);
        let place = data + answer.place.start..data + answer.place.end;
        let was = headers.len;
        let mut length = packet.splice(place, written).ok_or(DropReason::TooBig)?;
        let difference = u32::from(length).wrapping_sub(was.into());
        if length > was.max(LONG) && packet.offload.kind == vnet::Kind::Whole {
            length = was;
            packet.truncate(was.into());
            packet.bytes_mut()[usize::from(headers.transport) + 13] &= !FIN;
        }
        ip::set_len(packet.bytes_mut(), length);
        let Some(watch) = self.helper.watched.get_mut(&key) else { return Ok(length) };
        if watch.answered.is_none_or(|(at, _)| at != seq) {
            watch.asked = None;
        }
        watch.answered = Some((seq, to));
        if difference != 0 {
            watch.shift.changed(seq, difference);
        }
        Ok(length)
    }

    /// The client will come to the port that the server waits at, from a port that nobody knows yet.
    fn expect_from_client(
        &mut self,
        now: Instant,
        id: ConnId,
        answer: &Answer,
    ) -> Result<(), DropReason> {
        let control = self.table.get(id);
        let client = Endpoint::new(control.client.addr, 0);
        let virt = Endpoint::new(control.virt.addr, answer.port);
        let dest = Endpoint::new(answer.addr.unwrap_or(control.dest.addr), answer.port);
        let known = self.table.find_reply(&Flow { proto: proto::TCP, src: dest, dst: client });
        self.expect(now, id, known, (client, virt, dest), Flags::NO_CLIENT_PORT)
    }

    /// The server will come from the port below its control port, to where the client waits.
    fn expect_from_server(
        &mut self,
        now: Instant,
        id: ConnId,
        client: Endpoint,
    ) -> Result<(), DropReason> {
        let below = |end: Endpoint| Endpoint::new(end.addr, end.port.wrapping_sub(1));
        let control = self.table.get(id);
        let (virt, dest) = (below(control.virt), below(control.dest));
        let known = self.table.find_request(&Flow { proto: proto::TCP, src: client, dst: virt });
        self.expect(now, id, known, (client, virt, dest), Flags::default())
    }

    /// Makes a data connection, or takes the known one, and lets it wait.
    fn expect(
        &mut self,
        now: Instant,
        control: ConnId,
        known: Option<ConnId>,
        (client, virt, dest): (Endpoint, Endpoint, Endpoint),
        flags: Flags,
    ) -> Result<(), DropReason> {
        let state = State::Tcp(TcpState::Listen);
        let timeout_s = self.timeouts.of(state);
        if let Some(id) = known {
            let conn = self.table.get_mut(id);
            (conn.state, conn.timeout_s) = (state, timeout_s);
            self.table.restart(now, id);
            return Ok(());
        }
        let mut conn = Conn::new(proto::TCP, client, virt, dest);
        (conn.state, conn.timeout_s) = (state, timeout_s);
        conn.flags = flags;
        self.attach(&mut conn, self.table.get(control).dest_id);
        let id = self.enter(now, conn, None).map_err(|_| DropReason::TableFull)?;
        self.table.control(control, id);
        Ok(())
    }

    /// The data connection that a client's segment to nobody's port belongs to. The first one tells
    /// the client's port.
    pub(super) fn expected(&mut self, flow: &Flow) -> Option<ConnId> {
        let id = self.table.find_expected(flow)?;
        self.table.settle(id, flow.src.port);
        Some(id)
    }
}

/// Looks whether a segment is whole and right; gives where its data begin, behind its end if its header
/// says what cannot be.
fn check(packet: &Packet, headers: &Headers) -> Result<usize, DropReason> {
    let segment = headers.payload(packet.bytes());
    if segment.len() < l4::header_min(proto::TCP) {
        return Err(DropReason::TransportShort);
    }
    let sum = || checksum::transport(headers.src, headers.dst, proto::TCP, segment);
    if !packet.offload.partial && sum() != 0 {
        return Err(DropReason::TransportChecksum);
    }
    let header = usize::from(segment[12] >> 4) * 4;
    let begin = if header < l4::header_min(proto::TCP) { segment.len() } else { header };
    Ok(usize::from(headers.transport) + begin)
}

/// Writes the checksum of a segment that was changed: whole, or the half that is to be there.
fn sum_up(packet: &mut Packet, headers: &Headers) {
    let partial = packet.offload.partial;
    let segment = packet.bytes_mut().get_mut(headers.transport.into()..).unwrap_or_default();
    segment[16..18].fill(0);
    let (src, dst) = (headers.src, headers.dst);
    let sum = match partial {
        true => checksum::half(src, dst, proto::TCP, segment.len()),
        false => checksum::transport(src, dst, proto::TCP, segment),
    };
    segment[16..18].copy_from_slice(&sum.to_be_bytes());
}

/// Tells a client's acknowledgements in the server's numbers; whether that changed anything. Selective
/// ones are pairs of edges in option 5 (RFC 2018).
fn shift_acks(header: &mut [u8], shift: Shift) -> bool {
    if shift == Shift::default() || !l4::TcpFlags::of(header).is_some_and(l4::TcpFlags::ack) {
        return false;
    }
    let mut changed = move_number(header, 8, shift);
    let mut at = l4::header_min(proto::TCP);
    while let Some(&kind) = header.get(at) {
        let len = match (kind, header.get(at + 1)) {
            (0, _) | (2.., None | Some(0 | 1)) => break,
            (1, _) => 1,
            (_, len) => len.copied().unwrap_or(0).into(),
        };
        if kind == 5 && at + len <= header.len() {
            for edge in (at + 2..at + len).step_by(4).filter(|edge| edge + 4 <= at + len) {
                changed |= move_number(header, edge, shift);
            }
        }
        at += len;
    }
    changed
}

fn move_number(header: &mut [u8], at: usize, shift: Shift) -> bool {
    let old = number_at(header, at);
    let new = shift.inward(old);
    header[at..at + 4].copy_from_slice(&new.to_be_bytes());
    new != old
}

fn number_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_be_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn endpoint(n: u32) -> Endpoint {
        Endpoint::new(std::net::IpAddr::V4(n.into()), 21)
    }

    #[test]
    fn what_is_remembered_has_a_limit_and_who_is_known_is_not_refused() {
        let mut helper = Helper::new(&mut Rng::new(1));
        let key = |n| (endpoint(n), endpoint(7));
        for n in 0..1 << 16 {
            assert_eq!(helper.remember(key(n), Passive::Plain), Ok(()));
        }
        let full = Err(DropReason::HelperFull);
        assert_eq!(helper.remember(key(1 << 16), Passive::Plain), full);
        assert_eq!(helper.remember(key(5), Passive::Extended), Ok(()));
        let gone = Conn::new(proto::TCP, key(5).0, key(5).1, endpoint(9));
        helper.forget(&gone);
        assert_eq!(helper.remember(key(1 << 16), Passive::Plain), Ok(()));
    }

    #[test]
    fn numbers_behind_a_change_move_and_acknowledgements_come_back_also_where_numbers_wrap() {
        let mut shift = Shift::default();
        let start = u32::MAX - 40;
        shift.changed(start, 3);
        assert_eq!(shift.outward(start), start);
        assert_eq!(shift.outward(start.wrapping_add(50)), start.wrapping_add(53));
        shift.changed(start.wrapping_add(50), 1_u32.wrapping_neg());
        for seq in [start.wrapping_add(50), start.wrapping_add(100), start.wrapping_add(4000)] {
            assert_eq!(shift.inward(shift.outward(seq)), seq);
        }
        assert_eq!(shift.outward(start.wrapping_add(100)), start.wrapping_add(102));
        shift.changed(start.wrapping_add(50), 5);
        assert_eq!(shift.outward(start.wrapping_add(100)), start.wrapping_add(102), "repeated");
    }

    #[test]
    fn selective_acknowledgements_move_and_options_without_end_are_no_trap() {
        let mut shift = Shift::default();
        shift.changed(1000, 2);
        let mut header = [0_u8; 44];
        header[8..12].copy_from_slice(&1502_u32.to_be_bytes());
        (header[12], header[13]) = (11 << 4, 16);
        header[20..24].copy_from_slice(&[1, 1, 5, 18]);
        for (at, edge) in [(24, 1602_u32), (28, 1702), (32, 1802), (36, 1902)] {
            header[at..at + 4].copy_from_slice(&edge.to_be_bytes());
        }
        assert!(shift_acks(&mut header, shift));
        let told = [8, 24, 28, 32, 36].map(|at| number_at(&header, at));
        assert_eq!(told, [1500, 1600, 1700, 1800, 1900]);
        for len in 0..=255 {
            let mut lying = header;
            lying[23] = len;
            shift_acks(&mut lying, shift);
            assert!(!shift_acks(&mut lying[..19], shift));
        }
        header[13] = 0;
        assert!(!shift_acks(&mut header, shift), "no acknowledgement, nothing to tell");
    }

    #[test]
    fn half_a_sum_and_a_whole_one_are_written_as_they_are_to_be_there() {
        let bytes = [
            &[0x45, 0, 0, 42, 0, 0, 0x40, 0, 64, 6, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2][..],
            &[0, 21, 15, 160, 0, 0, 0, 1, 0, 0, 0, 2, 0x50, 16, 0, 9, 9, 9, 0, 0, b'h', b'i'],
        ]
        .concat();
        let mut packet = Packet::copy_of(crate::packet::LinkId(0), &bytes);
        ip::set_len(packet.bytes_mut(), 42);
        let sum = checksum::of(&packet.bytes()[..20]);
        packet.bytes_mut()[10..12].copy_from_slice(&sum.to_be_bytes());
        let headers = Headers::of(packet.bytes()).expect("a packet");
        assert_eq!(check(&packet, &headers), Err(DropReason::TransportChecksum));
        sum_up(&mut packet, &headers);
        assert_eq!(check(&packet, &headers), Ok(40));
        let whole = packet.bytes().to_vec();
        packet.offload.partial = true;
        (packet.offload.transport, packet.offload.checksum) = (20, 16);
        sum_up(&mut packet, &headers);
        assert_ne!(packet.bytes(), whole);
        vnet::complete(&mut packet);
        assert_eq!(packet.bytes(), whole, "the half is the whole's");
    }
}
