//! TCP, UDP and SCTP headers: ports, flags, chunks, where the checksum lies.
//!
//! Positions count from the first byte of the transport header.

use super::{checksum, proto, DropReason, Headers};

/// The flag byte of a TCP header (RFC 9293 section 3.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct TcpFlags(pub u8);

impl TcpFlags {
    const LETTERS: &'static str = "FSRPAUEC";

    /// The flags of a TCP header, `None` if it is cut short.
    pub fn of(segment: &[u8]) -> Option<Self> {
        (segment.len() >= header_min(proto::TCP)).then(|| Self(segment[13]))
    }

    /// The flags of these letters, as tcpdump and tests write them: `SA`, `FA`, `R`.
    pub fn named(letters: &str) -> Self {
        let bit = |c| Self::LETTERS.find(c).map_or(0, |i| 1_u8 << i);
        Self(letters.chars().fold(0, |flags, c| flags | bit(c)))
    }

    /// FIN.
    pub const fn fin(self) -> bool {
        self.0 & 1 != 0
    }

    /// SYN.
    pub const fn syn(self) -> bool {
        self.0 & 2 != 0
    }

    /// RST.
    pub const fn rst(self) -> bool {
        self.0 & 4 != 0
    }

    /// ACK.
    pub const fn ack(self) -> bool {
        self.0 & 16 != 0
    }
}

/// What the first chunk of an SCTP packet says (RFC 9260 section 3.2), as far as states go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Chunk {
    /// DATA, and everything that is not named here.
    Data,
    /// INIT.
    Init,
    /// INIT ACK.
    InitAck,
    /// COOKIE ECHO.
    CookieEcho,
    /// COOKIE ACK.
    CookieAck,
    /// SHUTDOWN.
    Shutdown,
    /// SHUTDOWN ACK.
    ShutdownAck,
    /// SHUTDOWN COMPLETE.
    ShutdownComplete,
    /// ERROR.
    Error,
    /// ABORT.
    Abort,
    /// ABORT behind a cookie: it ends an association, but what it comes in may open one.
    LateAbort,
}

impl Chunk {
    /// The event of an SCTP packet, `None` if it is too short for a chunk. An ABORT behind a cookie
    /// counts before the cookie, as in the kernel.
    pub fn of(packet: &[u8]) -> Option<Self> {
        let chunk = |at: usize| match packet.get(at..)? {
            &[kind, _, a, b, ..] => Some((kind, usize::from(u16::from_be_bytes([a, b])))),
            _ => None,
        };
        let (kind, len) = chunk(SCTP_HEADER)?;
        let first = Self::named(kind);
        if matches!(first, Self::CookieEcho | Self::CookieAck) && len >= CHUNK_HEADER {
            let second = chunk(SCTP_HEADER + len.next_multiple_of(4));
            if second.is_some_and(|(kind, _)| Self::named(kind) == Self::Abort) {
                return Some(Self::LateAbort);
            }
        }
        Some(first)
    }

    const fn named(kind: u8) -> Self {
        match kind {
            1 => Self::Init,
            2 => Self::InitAck,
            6 => Self::Abort,
            7 => Self::Shutdown,
            8 => Self::ShutdownAck,
            9 => Self::Error,
            10 => Self::CookieEcho,
            11 => Self::CookieAck,
            14 => Self::ShutdownComplete,
            _ => Self::Data,
        }
    }
}

/// What a packet means for its connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// A TCP segment with these flags.
    Tcp(TcpFlags),
    /// An SCTP packet whose first chunk is this.
    Sctp(Chunk),
    /// A packet of a protocol without states.
    Datagram,
}

impl Event {
    /// What the packet that `headers` were read from means; `None` if its transport header is cut
    /// short.
    pub fn of(headers: &Headers, bytes: &[u8]) -> Option<Self> {
        match headers.proto {
            proto::TCP => TcpFlags::of(headers.payload(bytes)).map(Self::Tcp),
            proto::SCTP => Chunk::of(headers.payload(bytes)).map(Self::Sctp),
            _ => Some(Self::Datagram),
        }
    }

    /// Whether it opens a connection (SYN, INIT).
    pub const fn opens(self) -> bool {
        match self {
            Self::Tcp(flags) => flags.syn(),
            Self::Sctp(chunk) => matches!(chunk, Chunk::Init),
            Self::Datagram => false,
        }
    }

    /// Whether it ends one at once (RST, ABORT).
    pub const fn resets(self) -> bool {
        match self {
            Self::Tcp(flags) => flags.rst(),
            Self::Sctp(chunk) => matches!(chunk, Chunk::Abort),
            Self::Datagram => false,
        }
    }
}

/// Bytes of the SCTP common header.
const SCTP_HEADER: usize = 12;
/// Bytes of the header of a chunk.
const CHUNK_HEADER: usize = 4;

/// Whether a protocol's header begins with two ports.
pub const fn has_ports(protocol: u8) -> bool {
    matches!(protocol, proto::TCP | proto::UDP | proto::SCTP)
}

/// Bytes of the smallest header of a transport protocol; what is shorter cannot be scheduled.
pub const fn header_min(protocol: u8) -> usize {
    match protocol {
        proto::TCP => 20,
        proto::UDP => 8,
        proto::SCTP => SCTP_HEADER + CHUNK_HEADER,
        _ => 0,
    }
}

/// Where the checksum lies.
const fn checksum_at(protocol: u8) -> Option<usize> {
    match protocol {
        proto::TCP => Some(16),
        proto::UDP => Some(6),
        _ => None,
    }
}

/// Writes `port` as source (`at` 0) or destination (`at` 2) of the transport header in `packet`, and
/// mends the checksum for it and for the addresses already taken into `delta`.
///
/// Kept from the kernel: a wrong checksum stays wrong by as much; a UDP datagram without a checksum
/// is given one; one that comes out as 0 is sent as 0xffff (RFC 768). SCTP's covers no address and is
/// computed anew only if the port changes. `headers` must already name the addresses as they are now.
/// Of a `partial` sum only the addresses are part, and it is not complemented.
///
/// # Errors
/// [`DropReason::TransportShort`] if the header is cut short.
pub fn translate(
    packet: &mut [u8],
    headers: &Headers,
    at: usize,
    port: u16,
    delta: checksum::Delta,
    partial: bool,
) -> Result<(), DropReason> {
    let segment = packet.get_mut(usize::from(headers.transport)..).unwrap_or_default();
    if headers.proto == proto::SCTP {
        return translate_sctp(segment, at, port);
    }
    if segment.len() < header_min(headers.proto) {
        return Err(DropReason::TransportShort);
    }
    let old = u16::from_be_bytes([segment[at], segment[at + 1]]);
    segment[at..at + 2].copy_from_slice(&port.to_be_bytes());
    let Some(sum_at) = checksum_at(headers.proto) else { return Ok(()) };
    if partial {
        checksum::mend_partial(segment, sum_at, delta);
        return Ok(());
    }
    let udp = headers.proto == proto::UDP;
    if udp && segment[6..8] == [0, 0] {
        let sum = checksum::transport(headers.src, headers.dst, proto::UDP, segment);
        segment[6..8].copy_from_slice(&sum.to_be_bytes());
    } else {
        checksum::mend(segment, sum_at, delta.word(old, port));
    }
    if udp && segment[6..8] == [0, 0] {
        segment[6..8].fill(0xff);
    }
    Ok(())
}

fn translate_sctp(packet: &mut [u8], at: usize, port: u16) -> Result<(), DropReason> {
    if packet.len() < SCTP_HEADER {
        return Err(DropReason::TransportShort);
    }
    if packet[at..at + 2] == port.to_be_bytes() {
        return Ok(());
    }
    packet[at..at + 2].copy_from_slice(&port.to_be_bytes());
    let crc = checksum::crc32c(&[&packet[..8], &[0; 4], &packet[SCTP_HEADER..]]);
    packet[8..12].copy_from_slice(&crc.to_le_bytes());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chunks(kinds: &[(u8, u16)]) -> Vec<u8> {
        let mut packet = vec![0; SCTP_HEADER];
        for &(kind, len) in kinds {
            packet.extend_from_slice(&[kind, 0]);
            packet.extend_from_slice(&len.to_be_bytes());
            packet.resize(packet.len() + usize::from(len.max(4) - 4).next_multiple_of(4), 7);
        }
        packet
    }

    #[test]
    fn an_abort_is_seen_behind_a_cookie_and_not_behind_data() {
        assert_eq!(Chunk::of(&chunks(&[(10, 9), (6, 4)])), Some(Chunk::LateAbort));
        assert_eq!(Chunk::of(&chunks(&[(6, 4)])), Some(Chunk::Abort));
        assert_eq!(Chunk::of(&chunks(&[(10, 9), (0, 4)])), Some(Chunk::CookieEcho));
        assert_eq!(Chunk::of(&chunks(&[(10, 3), (6, 4)])), Some(Chunk::CookieEcho));
        assert_eq!(Chunk::of(&chunks(&[(0, 16), (6, 4)])), Some(Chunk::Data));
        assert_eq!(Chunk::of(&chunks(&[(99, 4)])), Some(Chunk::Data));
        assert_eq!(Chunk::of(&[0; 15]), None);
        assert_eq!(Chunk::of(&chunks(&[(11, u16::MAX)])[..40]), Some(Chunk::CookieAck));
    }

    #[test]
    fn an_sctp_checksum_is_touched_only_with_the_port() {
        let mut packet = chunks(&[(1, 20)]);
        packet[8..12].copy_from_slice(b"free");
        translate_sctp(&mut packet, 2, 0).unwrap();
        assert_eq!(&packet[8..12], b"free");
        translate_sctp(&mut packet, 2, 9).unwrap();
        let sum = checksum::crc32c(&[&packet[..8], &[0; 4], &packet[12..]]);
        assert_eq!(packet[8..12], sum.to_le_bytes());
        assert!(translate_sctp(&mut packet[..11], 2, 9).is_err());
    }
}
