//! IPv4 and IPv6: what a header says, believed once.
//!
//! [`Headers::parse`] checks what the kernel checks on input (version, lengths, IPv4 header
//! checksum, RFC 1122 section 3.2.1 and RFC 8200) and cuts link padding off. IPv6 extension headers
//! are walked to the transport header, [`EXTENSIONS_MAX`] of them at most.
//!
//! Left out on purpose: IPv4 options, which are `options`'s.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use etherparse::{Ipv4HeaderSlice, Ipv6HeaderSlice};

use super::{checksum, options, proto, vnet, DropReason, Endpoint, Family, Flow, Packet};

/// More extension headers than this, and the packet is dropped.
pub const EXTENSIONS_MAX: usize = 8;

/// Bytes of an IPv4 header without options.
pub const V4_HEADER: usize = 20;

/// Bytes of an IPv6 header.
pub const V6_HEADER: usize = 40;

/// Bytes of the longest packet that every IPv6 path carries (RFC 8200 section 5).
pub const V6_MTU_MIN: u16 = 1280;

/// What the fragment fields say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fragment {
    /// A whole packet.
    Whole,
    /// The first piece: it has the transport header.
    First,
    /// A later piece.
    Later,
}

/// What a packet's headers say. Offsets count from the first byte of the IP header and lie within
/// the packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Headers {
    /// IPv4 or IPv6.
    pub family: Family,
    /// Transport protocol, after extension headers.
    pub proto: u8,
    /// TTL or hop limit.
    pub ttl: u8,
    /// TOS byte or traffic class.
    pub tos: u8,
    /// "Don't fragment"; always set in IPv6.
    pub dont_fragment: bool,
    /// Whole, first or later piece.
    pub fragment: Fragment,
    /// Where the transport header begins.
    pub transport: u16,
    /// Length of the whole packet.
    pub len: u16,
    /// Sender.
    pub src: IpAddr,
    /// Receiver.
    pub dst: IpAddr,
}

impl Headers {
    /// Reads the headers of the IP packet in `packet` and cuts off what lies behind it.
    ///
    /// # Errors
    /// The reason to drop the packet; it is untouched then.
    pub fn parse(packet: &mut Packet) -> Result<Self, DropReason> {
        let headers = Self::of(packet.bytes())?;
        packet.truncate(usize::from(headers.len));
        Ok(headers)
    }

    /// Reads the headers of a whole IP packet; `bytes` may be longer than it.
    ///
    /// # Errors
    /// The reason to drop the packet.
    pub fn of(bytes: &[u8]) -> Result<Self, DropReason> {
        match bytes.first().ok_or(DropReason::IpShort)? >> 4 {
            4 => Self::v4(bytes, false),
            6 => Self::v6(bytes, false),
            _ => Err(DropReason::IpVersion),
        }
    }

    /// Reads the headers of a packet that an ICMP error quotes: it may be cut short anywhere behind
    /// its IP header, and its checksum is not looked at. `len` is what the header claims.
    ///
    /// # Errors
    /// The reason why it cannot be understood.
    pub fn quoted(bytes: &[u8]) -> Result<Self, DropReason> {
        match bytes.first().ok_or(DropReason::IpShort)? >> 4 {
            4 => Self::v4(bytes, true),
            6 => Self::v6(bytes, true),
            _ => Err(DropReason::IpVersion),
        }
    }

    fn v4(bytes: &[u8], quoted: bool) -> Result<Self, DropReason> {
        if bytes.len() < V4_HEADER {
            return Err(DropReason::IpShort);
        }
        let header = Ipv4HeaderSlice::from_slice(bytes).map_err(|_| DropReason::IpHeaderLength)?;
        let header_len = header.slice().len();
        let len = header.total_len();
        let fits = (header_len..=bytes.len()).contains(&usize::from(len));
        if !quoted && !fits {
            return Err(DropReason::IpLength);
        }
        if !quoted && checksum::of(header.slice()) != 0 {
            return Err(DropReason::IpChecksum);
        }
        let later = header.fragments_offset().value() != 0;
        Ok(Self {
            family: Family::V4,
            proto: header.protocol().0,
            ttl: header.ttl(),
            tos: bytes[1],
            dont_fragment: header.dont_fragment(),
            fragment: fragment(later, header.more_fragments()),
            transport: u16::from(header.ihl()) * 4,
            len,
            src: IpAddr::V4(header.source_addr()),
            dst: IpAddr::V4(header.destination_addr()),
        })
    }

    fn v6(bytes: &[u8], quoted: bool) -> Result<Self, DropReason> {
        let header = Ipv6HeaderSlice::from_slice(bytes).map_err(|_| DropReason::IpShort)?;
        let len = header.payload_length().checked_add(40).ok_or(DropReason::IpLength)?;
        // A jumbogram has its length elsewhere (RFC 2675), and none is as long as it must be: its frame
        // is what there is.
        let len = match (len, header.next_header().0) {
            (40, 0) if !quoted => u16::try_from(bytes.len()).unwrap_or(u16::MAX),
            _ => len,
        };
        if !quoted && usize::from(len) > bytes.len() {
            return Err(DropReason::IpLength);
        }
        let within = &bytes[..bytes.len().min(usize::from(len))];
        let chain = walk_extensions(header.next_header().0, within)?;
        Ok(Self {
            family: Family::V6,
            proto: chain.proto,
            ttl: header.hop_limit(),
            tos: header.traffic_class(),
            dont_fragment: true,
            fragment: chain.fragment,
            transport: chain.transport,
            len,
            src: IpAddr::V6(header.source_addr()),
            dst: IpAddr::V6(header.destination_addr()),
        })
    }

    /// Whether there are IPv4 options.
    pub const fn has_options(&self) -> bool {
        matches!(self.family, Family::V4) && self.transport as usize > V4_HEADER
    }

    /// The transport header and what follows it, in a packet these headers were parsed from.
    pub fn payload<'a>(&self, bytes: &'a [u8]) -> &'a [u8] {
        bytes.get(usize::from(self.transport)..).unwrap_or_default()
    }

    /// The flow of a packet whose protocol has ports, if its first four transport bytes are there.
    pub fn flow(&self, bytes: &[u8]) -> Option<Flow> {
        if self.fragment == Fragment::Later
            || !matches!(self.proto, proto::TCP | proto::UDP | proto::SCTP)
        {
            return None;
        }
        let &[a, b, c, d, ..] = self.payload(bytes) else { return None };
        Some(Flow {
            proto: self.proto,
            src: Endpoint::new(self.src, u16::from_be_bytes([a, b])),
            dst: Endpoint::new(self.dst, u16::from_be_bytes([c, d])),
        })
    }
}

const fn fragment(later: bool, more: bool) -> Fragment {
    match (later, more) {
        (true, _) => Fragment::Later,
        (false, true) => Fragment::First,
        (false, false) => Fragment::Whole,
    }
}

struct Chain {
    proto: u8,
    transport: u16,
    fragment: Fragment,
}

/// Walks IPv6 extension headers (RFC 8200 section 4) from `next` on, as far as they can be read: what
/// lies behind is not the concern of a router, and a host says what is wrong ([`super::extensions`]). As
/// for the kernel, an authentication header (RFC 4302) is one of them: what it vouches for can be read.
fn walk_extensions(mut next: u8, packet: &[u8]) -> Result<Chain, DropReason> {
    const HOP_BY_HOP: u8 = 0;
    const ROUTING: u8 = 43;
    const FRAGMENT: u8 = 44;
    const DESTINATION: u8 = 60;
    let known = |next| matches!(next, HOP_BY_HOP | ROUTING | FRAGMENT | DESTINATION | proto::AH);
    let mut at = V6_HEADER;
    let mut kind = Fragment::Whole;
    for _ in 0..=EXTENSIONS_MAX {
        let header = packet.get(at..at + 8).filter(|_| known(next) && kind != Fragment::Later);
        let end = header.map(|header| match next {
            FRAGMENT => at + 8,
            proto::AH => at + 8 + usize::from(header[1]) * 4,
            _ => at + 8 + usize::from(header[1]) * 8,
        });
        let (Some(header), Some(end)) = (header, end.filter(|&end| end <= packet.len())) else {
            let transport = u16::try_from(at).map_err(|_| DropReason::ExtensionHeaders)?;
            return Ok(Chain { proto: next, transport, fragment: kind });
        };
        if next == FRAGMENT {
            let offset = u16::from_be_bytes([header[2], header[3]]);
            // A fragment that is all of its packet (RFC 6946) is put together like others: without its
            // fragment header.
            kind = fragment(offset & !7 != 0, true);
        }
        (next, at) = (header[0], end);
    }
    Err(DropReason::ExtensionHeaders)
}

/// Counts TTL or hop limit down by one; the IPv4 header checksum follows.
/// The caller has seen that it is above 0.
pub fn decrement_ttl(bytes: &mut [u8], family: Family) {
    match family {
        Family::V4 => {
            let old = u16::from_be_bytes([bytes[8], bytes[9]]);
            bytes[8] = bytes[8].wrapping_sub(1);
            let new = u16::from_be_bytes([bytes[8], bytes[9]]);
            checksum::replace(bytes, 10, old, new);
        }
        Family::V6 => bytes[7] = bytes[7].wrapping_sub(1),
    }
}

/// Writes a new source or destination address into an IP header; the IPv4 header checksum follows.
/// An address of the other family changes nothing.
pub fn set_address(bytes: &mut [u8], which: Which, addr: IpAddr) {
    match (bytes[0] >> 4, addr) {
        (4, IpAddr::V4(new)) => {
            let at = which.offset(Family::V4);
            let new = new.octets();
            for half in 0..2 {
                let i = at + half * 2;
                let was = u16::from_be_bytes([bytes[i], bytes[i + 1]]);
                let is = u16::from_be_bytes([new[half * 2], new[half * 2 + 1]]);
                checksum::replace(bytes, 10, was, is);
            }
            bytes[at..at + 4].copy_from_slice(&new);
        }
        (6, IpAddr::V6(new)) => {
            let at = which.offset(Family::V6);
            bytes[at..at + 16].copy_from_slice(&new.octets());
        }
        _ => {}
    }
}

/// Writes the length of a whole IP packet into its header; the IPv4 header checksum follows.
pub fn set_len(bytes: &mut [u8], len: u16) {
    if bytes[0] >> 4 == 4 {
        let was = u16::from_be_bytes([bytes[2], bytes[3]]);
        checksum::replace(bytes, 10, was, len);
        bytes[2..4].copy_from_slice(&len.to_be_bytes());
    } else {
        bytes[4..6].copy_from_slice(&len.saturating_sub(40).to_be_bytes());
    }
}

/// Which of the two addresses, and of the two ports behind them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Which {
    /// The sender's.
    Source,
    /// The receiver's.
    Destination,
}

impl Which {
    /// Where the address lies in the IP header.
    pub const fn offset(self, family: Family) -> usize {
        match (family, self) {
            (Family::V4, Self::Source) => 12,
            (Family::V4, Self::Destination) => 16,
            (Family::V6, Self::Source) => 8,
            (Family::V6, Self::Destination) => 24,
        }
    }
}

/// Fields of a header that we make ourselves.
#[derive(Debug, Clone, Copy)]
pub struct Fresh {
    /// Sender; its family is the header's.
    pub src: IpAddr,
    /// Receiver, of the same family.
    pub dst: IpAddr,
    /// What follows the header.
    pub proto: u8,
    /// TTL or hop limit.
    pub ttl: u8,
    /// TOS byte or traffic class.
    pub tos: u8,
    /// IPv4 only.
    pub dont_fragment: bool,
    /// IPv4 identification.
    pub id: u16,
}

impl Fresh {
    /// Puts the header in front of what `packet` holds.
    ///
    /// # Errors
    /// [`DropReason::NoHeadroom`] if it does not fit, [`DropReason::TooBig`] if the packet would
    /// exceed 65535 bytes, [`DropReason::IpVersion`] if the addresses' families differ.
    pub fn push(&self, packet: &mut Packet) -> Result<(), DropReason> {
        // The length in front of a super-frame gets right when it is split.
        let payload = match packet.offload.kind {
            vnet::Kind::Whole => u16::try_from(packet.len()).map_err(|_| DropReason::TooBig)?,
            vnet::Kind::Tcp { .. } | vnet::Kind::Udp => 0,
        };
        match (self.src, self.dst) {
            (IpAddr::V4(src), IpAddr::V4(dst)) => self.push_v4(packet, payload, src, dst),
            (IpAddr::V6(src), IpAddr::V6(dst)) => self.push_v6(packet, payload, src, dst),
            _ => Err(DropReason::IpVersion),
        }
    }

    /// As [`push`](Self::push), with IPv4 options, a multiple of four bytes.
    ///
    /// # Errors
    /// The same.
    pub fn push_with(&self, packet: &mut Packet, options: &[u8]) -> Result<(), DropReason> {
        let len = u8::try_from(options.len() / 4).map_err(|_| DropReason::TooBig)?;
        packet.push(options.len()).ok_or(DropReason::NoHeadroom)?.copy_from_slice(options);
        self.push(packet)?;
        if len > 0 {
            let header = packet.bytes_mut();
            header[0] += len;
            options::sum_up(header);
        }
        Ok(())
    }

    fn push_v4(
        &self,
        packet: &mut Packet,
        payload: u16,
        src: Ipv4Addr,
        dst: Ipv4Addr,
    ) -> Result<(), DropReason> {
        let total = payload.checked_add(20).ok_or(DropReason::TooBig)?;
        let header = packet.push(V4_HEADER).ok_or(DropReason::NoHeadroom)?;
        header[0] = 0x45;
        header[1] = self.tos;
        header[2..4].copy_from_slice(&total.to_be_bytes());
        header[4..6].copy_from_slice(&self.id.to_be_bytes());
        header[6..8].copy_from_slice(&if self.dont_fragment { [0x40, 0] } else { [0, 0] });
        header[8] = self.ttl;
        header[9] = self.proto;
        header[10..12].fill(0);
        header[12..16].copy_from_slice(&src.octets());
        header[16..20].copy_from_slice(&dst.octets());
        let sum = checksum::of(header);
        header[10..12].copy_from_slice(&sum.to_be_bytes());
        Ok(())
    }

    fn push_v6(
        &self,
        packet: &mut Packet,
        payload: u16,
        src: Ipv6Addr,
        dst: Ipv6Addr,
    ) -> Result<(), DropReason> {
        let header = packet.push(V6_HEADER).ok_or(DropReason::NoHeadroom)?;
        header[0..4].copy_from_slice(&(6 << 28 | u32::from(self.tos) << 20).to_be_bytes());
        header[4..6].copy_from_slice(&payload.to_be_bytes());
        header[6] = self.proto;
        header[7] = self.ttl;
        header[8..24].copy_from_slice(&src.octets());
        header[24..40].copy_from_slice(&dst.octets());
        Ok(())
    }
}
