//! Bytes seen as headers. This room knows no table, and it alone names `etherparse`.
//!
//! A [`Packet`] is a buffer with room in front for link and tunnel headers. Between `receive` and
//! `egress` of `net` its bytes begin at the IP header: the link header has been taken off and is
//! put on again at the end. [`Headers::parse`](ip::Headers) is the only place that believes a
//! length; whoever holds a `Headers` need not check again.

pub mod checksum;
pub mod eth;
pub mod extensions;
pub mod icmp;
pub mod ip;
pub mod l4;
pub mod options;
pub mod sip;
pub mod tunnel;
pub mod vnet;

use std::fmt;
use std::net::IpAddr;
use std::ops::Range;

pub use ip::{Fragment, Headers};

/// Room in front of a received frame: an IPv6 and a GUE header with checksum (40 + 8 + 4 + 8) and
/// a link header (14) fit, rounded up so that the IP header stays aligned to 16.
pub const HEADROOM: usize = 128;

/// The largest frame that a port may carry, link header included.
pub const FRAME_MAX: usize = 65_535 + eth::HEADER;

/// IP protocol numbers that have a meaning here (IANA "protocol-numbers").
pub mod proto {
    /// Internet Control Message Protocol, RFC 792.
    pub const ICMP: u8 = 1;
    /// Internet Group Management Protocol, RFC 3376.
    pub const IGMP: u8 = 2;
    /// IPv4 encapsulation, RFC 2003.
    pub const IPIP: u8 = 4;
    /// Transmission Control Protocol, RFC 9293.
    pub const TCP: u8 = 6;
    /// User Datagram Protocol, RFC 768.
    pub const UDP: u8 = 17;
    /// IPv6 encapsulation, RFC 2473.
    pub const IPV6: u8 = 41;
    /// Generic Routing Encapsulation, RFC 2784.
    pub const GRE: u8 = 47;
    /// Encapsulating Security Payload, RFC 4303.
    pub const ESP: u8 = 50;
    /// Authentication Header, RFC 4302.
    pub const AH: u8 = 51;
    /// ICMP for IPv6, RFC 4443.
    pub const ICMPV6: u8 = 58;
    /// Stream Control Transmission Protocol, RFC 9260.
    pub const SCTP: u8 = 132;
}

/// IPv4 or IPv6.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

impl Family {
    /// The family of an address.
    pub const fn of(addr: IpAddr) -> Self {
        match addr {
            IpAddr::V4(_) => Self::V4,
            IpAddr::V6(_) => Self::V6,
        }
    }

    /// Bits of an address: 32 or 128.
    pub const fn bits(self) -> u8 {
        match self {
            Self::V4 => 32,
            Self::V6 => 128,
        }
    }
}

/// Which port of ours: an index into the list of ports, in the order of the rules file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LinkId(pub u16);

/// An Ethernet address.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Mac(pub [u8; 6]);

impl Mac {
    /// All stations.
    pub const BROADCAST: Self = Self([0xff; 6]);

    /// Whether the group bit is set (multicast and broadcast).
    pub const fn is_group(self) -> bool {
        self.0[0] & 1 != 0
    }
}

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

impl fmt::Debug for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// One end of a flow: an address and a port (0 where the protocol has none).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Endpoint {
    /// The address.
    pub addr: IpAddr,
    /// The port in host order.
    pub port: u16,
}

impl Endpoint {
    /// Puts an address and a port together.
    pub const fn new(addr: IpAddr, port: u16) -> Self {
        Self { addr, port }
    }
}

impl fmt::Display for Endpoint {
    /// `10.0.0.1:80` or `[fd00::1]:80`, as `ipvsadm -n` prints it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.addr {
            IpAddr::V4(addr) => write!(f, "{addr}:{}", self.port),
            IpAddr::V6(addr) => write!(f, "[{addr}]:{}", self.port),
        }
    }
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// One direction of a conversation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Flow {
    /// IP protocol number.
    pub proto: u8,
    /// Who speaks.
    pub src: Endpoint,
    /// Who is spoken to.
    pub dst: Endpoint,
}

impl Flow {
    /// What the flow of an IP packet seems to be, for whoever prepares for it. Nothing is checked.
    pub fn glance(ip: &[u8]) -> Option<Self> {
        let four = |at: usize| -> Option<[u8; 4]> { ip.get(at..at + 4)?.try_into().ok() };
        let sixteen = |at: usize| -> Option<[u8; 16]> { ip.get(at..at + 16)?.try_into().ok() };
        let first = *ip.first()?;
        let (proto, src, dst, at): (u8, IpAddr, IpAddr, usize) = match first >> 4 {
            4 => (*ip.get(9)?, four(12)?.into(), four(16)?.into(), usize::from(first & 15) * 4),
            6 => (*ip.get(6)?, sixteen(8)?.into(), sixteen(24)?.into(), 40),
            _ => return None,
        };
        let [a, b, c, d] = four(at)?;
        let (from, to) = (u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d]));
        Some(Self { proto, src: Endpoint::new(src, from), dst: Endpoint::new(dst, to) })
    }

    /// The other direction.
    #[must_use]
    pub const fn reversed(self) -> Self {
        Self { proto: self.proto, src: self.dst, dst: self.src }
    }
}

/// A frame or an IP packet in a buffer, with room in front.
///
/// Reading past the end is impossible: [`bytes`](Self::bytes) ends where the packet ends.
#[derive(Debug, Clone)]
pub struct Packet {
    buf: Vec<u8>,
    start: usize,
    end: usize,
    /// The port it came from, and later the one it goes to.
    pub link: LinkId,
    /// The firewall mark, 0 for none.
    pub mark: u32,
    /// What the kernel left to be done.
    pub offload: vnet::Offload,
    /// Whether it came from a queue with offload: who sends it on understands `offload`.
    pub sums_wait: bool,
    /// Whether we send it on our own account, and no received frame waits to be accounted for by it.
    pub own: bool,
    /// What an error that quotes the packet takes its IPv4 checksum back by: the kernel sums up what it
    /// wrote into options only when the packet leaves.
    pub unsummed: Option<checksum::Delta>,
    /// Where the last address of a recorded route lies in the IPv4 header; 0 if there is none.
    pub recorded: u8,
    /// Where in the buffer the IP header begins that `offload` speaks of.
    ip_at: usize,
}

impl Packet {
    /// An empty buffer that can receive a frame of any size; made once and used again and again.
    pub fn with_capacity(capacity: usize) -> Self {
        let buf = vec![0; HEADROOM + capacity];
        Self {
            buf,
            start: HEADROOM,
            end: HEADROOM,
            link: LinkId(0),
            mark: 0,
            offload: vnet::Offload::default(),
            sums_wait: false,
            own: false,
            unsummed: None,
            recorded: 0,
            ip_at: HEADROOM,
        }
    }

    /// A packet that holds a copy of `bytes`, with [`HEADROOM`] in front.
    pub fn copy_of(link: LinkId, bytes: &[u8]) -> Self {
        let mut packet = Self::with_capacity(bytes.len());
        packet.link = link;
        packet.end += bytes.len();
        packet.bytes_mut().copy_from_slice(bytes);
        packet
    }

    /// A copy that is as long as it must be, to be kept while the buffer is used for others. What
    /// the kernel left to be done is still to be done.
    #[must_use]
    pub fn kept(&self) -> Self {
        let mut copy = Self::copy_of(self.link, self.bytes());
        copy.mark = self.mark;
        copy.offload = self.offload;
        copy.sums_wait = self.sums_wait;
        copy.own = self.own;
        copy.unsummed = self.unsummed;
        copy.recorded = self.recorded;
        copy.ip_at = HEADROOM + self.before_ip();
        copy
    }

    /// The room in which a reader may put a frame behind a header of `prefix` bytes, 64 at most;
    /// [`received`](Self::received) says how long the frame is.
    pub fn room(&mut self, prefix: usize) -> &mut [u8] {
        &mut self.buf[HEADROOM - prefix..]
    }

    /// The same room, made large enough for any frame. It is taken in one piece that is larger than it
    /// need be: memory allocators pass pieces of more than 128 KiB on as the system gives them, page by
    /// page as they are touched, so that a buffer which sees small frames alone costs a page or two.
    pub fn frame_room(&mut self, prefix: usize) -> &mut [u8] {
        const PIECE: usize = 132 << 10;
        if self.buf.len() < PIECE {
            self.buf = vec![0; PIECE];
        }
        self.room(prefix)
    }

    /// Makes the first `len` bytes of [`room`](Self::room) the packet, fresh from `link`.
    pub fn received(&mut self, link: LinkId, len: usize) {
        self.start = HEADROOM;
        self.end = (HEADROOM + len).min(self.buf.len());
        self.link = link;
        self.mark = 0;
        self.offload = vnet::Offload::default();
        self.sums_wait = false;
        self.own = false;
        self.unsummed = None;
        self.recorded = 0;
        self.ip_at = self.start;
    }

    /// Notes what is left to be done on a packet whose IP header begins after `link` bytes.
    pub const fn leave_undone(&mut self, offload: vnet::Offload, link: usize) {
        self.offload = offload;
        self.ip_at = self.start + link;
    }

    /// Bytes in front of the IP header that the offload speaks of.
    pub const fn before_ip(&self) -> usize {
        self.ip_at.saturating_sub(self.start)
    }

    /// Takes over `parts`, one behind the other, with the places and the undone work of `like`.
    fn refill(&mut self, like: &Self, parts: &[&[u8]]) {
        let len = parts.iter().map(|part| part.len()).sum();
        self.buf.resize(self.buf.len().max(HEADROOM + len), 0);
        self.received(like.link, len);
        let mut at = HEADROOM;
        for part in parts {
            self.buf[at..at + part.len()].copy_from_slice(part);
            at += part.len();
        }
        self.mark = like.mark;
        self.own = like.own;
        self.leave_undone(like.offload, like.before_ip());
    }

    /// The packet.
    pub fn bytes(&self) -> &[u8] {
        &self.buf[self.start..self.end]
    }

    /// The packet, to be edited in place.
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        &mut self.buf[self.start..self.end]
    }

    /// Its length in bytes.
    pub const fn len(&self) -> usize {
        self.end - self.start
    }

    /// Whether it has no byte at all.
    pub const fn is_empty(&self) -> bool {
        self.end == self.start
    }

    /// Takes `count` bytes off the front; all of them if there are fewer.
    pub fn pull(&mut self, count: usize) {
        self.start = (self.start + count).min(self.end);
    }

    /// Takes a VLAN tag off the front, which whoever left work undone has counted to the IP header.
    pub fn untag(&mut self) {
        const TAG: u8 = 4;
        self.pull(usize::from(TAG));
        self.ip_at += usize::from(TAG);
        self.offload.transport = self.offload.transport.saturating_sub(u16::from(TAG));
    }

    /// Puts `count` bytes in front and gives them to be written; `None` if the room is used up.
    pub fn push(&mut self, count: usize) -> Option<&mut [u8]> {
        self.start = self.start.checked_sub(count)?;
        Some(&mut self.buf[self.start..self.start + count])
    }

    /// Puts `new` in the place of some bytes of the packet, and says how long it is then; `None` if
    /// they are not there, or if it would be too long for an IP packet.
    pub fn splice(&mut self, place: Range<usize>, new: &[u8]) -> Option<u16> {
        let rest = self.len().checked_sub(place.end)?;
        if place.start > place.end {
            return None;
        }
        let total = u16::try_from(place.start + new.len() + rest).ok()?;
        let len = usize::from(total);
        self.buf.resize(self.buf.len().max(self.start + len), 0);
        let (from, to) = (self.start + place.start, self.start + place.end);
        self.buf.copy_within(to..self.end, from + new.len());
        self.buf[from..from + new.len()].copy_from_slice(new);
        self.end = self.start + len;
        Some(total)
    }

    /// Cuts the packet to `len` bytes if it is longer.
    pub fn truncate(&mut self, len: usize) {
        self.end = self.end.min(self.start + len);
    }
}

/// How a packet's journey ends. Nothing vanishes: what is not sent is handed over or counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub enum Verdict {
    /// Send the frame as it is now on this port.
    Transmit(LinkId),
    /// Hand it to the slow side, which answers, learns or waits.
    Punt(Why),
    /// Gone, and counted under this reason.
    Drop(DropReason),
}

/// Why a packet goes to the slow side.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Why {
    /// An ARP frame; its bytes begin at the ARP header.
    Arp,
    /// An ICMPv6 packet of neighbour discovery; its bytes begin at the IPv6 header.
    Discovery,
    /// An IP packet for an address of ours that no service took.
    Local,
    /// An IP fragment for an address of ours: to be put together first.
    Fragment,
    /// A finished IP packet that waits for the link address of `next`.
    Resolve {
        /// The port it will leave by.
        link: LinkId,
        /// The neighbour to be asked for.
        next: IpAddr,
    },
    /// A finished IP packet that is longer than `mtu` and may be cut into fragments.
    TooLong {
        /// The port it will leave by.
        link: LinkId,
        /// The neighbour it goes to.
        next: IpAddr,
        /// Bytes of an IP packet that fit.
        mtu: u16,
    },
    /// The packet cannot travel; its sender is to be told, and the packet is gone, counted as
    /// `reason`.
    Error {
        /// What to tell.
        error: icmp::Error,
        /// Whom the error comes from.
        source: icmp::Source,
        /// Under which reason the packet counts.
        reason: DropReason,
    },
}

macro_rules! drop_reasons {
    ($($(#[doc = $doc:literal])+ $variant:ident = $name:literal,)+) => {
        /// Why a packet was dropped. Each reason has one name and one counter.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum DropReason {
            $($(#[doc = $doc])+ $variant,)+
        }

        impl DropReason {
            /// Every reason, in the order of the counters.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)+];

            /// Its name in counters, traces and tests.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)+ }
            }

            /// One sentence for people.
            pub const fn sentence(self) -> &'static str {
                match self { $(Self::$variant => concat!($($doc),+).trim_ascii(),)+ }
            }
        }
    };
}

drop_reasons! {
    /// The frame is shorter than an Ethernet header.
    FrameShort = "frame-short",
    /// The frame is addressed to another station.
    OtherStation = "other-station",
    /// Neither IPv4, IPv6 nor ARP.
    EtherType = "ether-type",
    /// An ARP frame that is cut short or not about IPv4 over Ethernet.
    ArpMalformed = "arp-malformed",
    /// The packet is shorter than its IP header.
    IpShort = "ip-short",
    /// Not version 4 or 6, or another one than the link header said.
    IpVersion = "ip-version",
    /// The IPv4 header length field is below 5 words or beyond the packet.
    IpHeaderLength = "ip-header-length",
    /// The IP length field is beyond the frame or below the header.
    IpLength = "ip-length",
    /// The checksum of the IPv4 header is wrong.
    IpChecksum = "ip-checksum",
    /// The IPv4 options are malformed, or ask for source routing.
    IpOptions = "ip-options",
    /// The chain of IPv6 extension headers is cut short, too long or in an order that cannot be.
    ExtensionHeaders = "extension-headers",
    /// The source is no address that a packet may come from: loopback, multicast, or one of ours, as where a
    /// server of direct routing or a tunnel has us for its gateway.
    Martian = "martian",
    /// A multicast or broadcast destination that is not ours to answer.
    GroupDestination = "group-destination",
    /// The transport header is cut short.
    TransportShort = "transport-short",
    /// A TCP segment or UDP datagram for us, or for a helper, with a wrong checksum.
    TransportChecksum = "transport-checksum",
    /// An ICMP message for us that is cut short or has a wrong checksum.
    IcmpMalformed = "icmp-malformed",
    /// A neighbour discovery message that RFC 4861 section 7.1 tells to ignore.
    DiscoveryMalformed = "discovery-malformed",
    /// A fragment that overlaps, is empty, or makes a packet of more than 65535 bytes.
    FragmentMalformed = "fragment-malformed",
    /// The rest of a fragmented packet did not come in time.
    FragmentTimeout = "fragment-timeout",
    /// No room to keep more fragments.
    FragmentLimit = "fragment-limit",
    /// Not for us, and forwarding is off.
    ForwardingOff = "forwarding-off",
    /// No route to the destination.
    NoRoute = "no-route",
    /// TTL or hop limit used up.
    TtlExceeded = "ttl-exceeded",
    /// A real server in 127.0.0.0/8 or ::1 for a packet that came in from outside.
    LoopbackServer = "loopback-server",
    /// Longer than the MTU and not to be fragmented; its sender is told what fits.
    TooBig = "too-big",
    /// No room in front of the packet for the tunnel's header.
    NoHeadroom = "no-headroom",
    /// A service has no server to offer.
    NoDestination = "no-destination",
    /// The connection's server has been removed.
    DestinationGone = "destination-gone",
    /// A packet for a service that goes by Call-ID has none.
    NoCallId = "no-call-id",
    /// One in so many first packets (`drop_packet`).
    Defence = "defence",
    /// An ICMP error about a tunnel of ours: learnt from, and told to the client.
    TunnelError = "tunnel-error",
    /// A real server's packet that belongs to no connection (`nat_icmp_send`).
    NoConnection = "no-connection",
    /// The table of connections is full, or that of Call-IDs, or one client's port has as many as it may.
    TableFull = "table-full",
    /// No room to remember what an FTP client has asked for.
    HelperFull = "helper-full",
    /// The neighbour does not answer.
    NeighbourFailed = "neighbour-failed",
    /// Too many packets wait for the same neighbour.
    NeighbourQueue = "neighbour-queue",
    /// No room for another neighbour.
    NeighbourLimit = "neighbour-limit",
    /// For an address of ours, but nothing here speaks that protocol or wants that message.
    LocalUnwanted = "local-unwanted",
    /// An error that was not sent, because too many were.
    RateLimited = "rate-limited",
    /// An error about a packet that must not be answered by one (RFC 1122 section 3.2.2).
    ErrorForbidden = "error-forbidden",
    /// The port did not take the frame.
    PortRefused = "port-refused",
}

/// How many packets were dropped for each reason.
#[derive(Debug, Clone)]
pub struct DropCounters([u64; DropReason::ALL.len()]);

impl Default for DropCounters {
    fn default() -> Self {
        Self([0; DropReason::ALL.len()])
    }
}

impl DropCounters {
    /// Counts one.
    pub fn add(&mut self, reason: DropReason) {
        let counter = &mut self.0[reason as usize];
        *counter = counter.wrapping_add(1);
    }

    /// How many so far for `reason`.
    pub fn of(&self, reason: DropReason) -> u64 {
        self.0[reason as usize]
    }

    /// The sum over all reasons.
    pub fn total(&self) -> u64 {
        self.0.iter().fold(0, |sum, n| sum.wrapping_add(*n))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_packet_grows_in_front_until_the_room_is_used_up() {
        let mut packet = Packet::copy_of(LinkId(0), b"abc");
        packet.push(HEADROOM).expect("all of it").fill(7);
        assert_eq!(packet.len(), HEADROOM + 3);
        assert!(packet.push(1).is_none());
        packet.pull(HEADROOM);
        assert_eq!(packet.bytes(), b"abc");
        packet.pull(99);
        assert!(packet.is_empty());
    }

    #[test]
    fn a_buffer_that_just_held_the_longest_frame_is_made_larger_before_it_receives_one() {
        let mut packet = Packet::copy_of(LinkId(0), &[0; FRAME_MAX]);
        packet.frame_room(0);
        packet.received(LinkId(0), FRAME_MAX + vnet::HEADER);
        assert_eq!(packet.len(), FRAME_MAX + vnet::HEADER, "with what is put in front of it");
    }

    #[test]
    fn every_drop_reason_has_a_name_of_its_own() {
        let mut names: Vec<_> = DropReason::ALL.iter().map(|r| r.name()).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), DropReason::ALL.len());
    }
}
