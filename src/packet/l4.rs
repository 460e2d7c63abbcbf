//! TCP and UDP headers: ports, flags, where the checksum lies.
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

/// Bytes of the smallest header of a transport protocol; what is shorter cannot be scheduled.
pub const fn header_min(protocol: u8) -> usize {
    match protocol {
        proto::TCP => 20,
        proto::UDP => 8,
        proto::SCTP => 16,
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
/// is given one; one that comes out as 0 is sent as 0xffff (RFC 768). `headers` must already name
/// the addresses as they are now.
///
/// # Errors
/// [`DropReason::TransportShort`] if the header is cut short.
pub fn translate(
    packet: &mut [u8],
    headers: &Headers,
    at: usize,
    port: u16,
    delta: checksum::Delta,
) -> Result<(), DropReason> {
    let segment = packet.get_mut(usize::from(headers.transport)..).unwrap_or_default();
    if segment.len() < header_min(headers.proto) {
        return Err(DropReason::TransportShort);
    }
    let old = u16::from_be_bytes([segment[at], segment[at + 1]]);
    segment[at..at + 2].copy_from_slice(&port.to_be_bytes());
    let Some(sum_at) = checksum_at(headers.proto) else { return Ok(()) };
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
