//! What a router makes of the odd parts of a packet: options, extension headers, groups, impossible
//! senders.
//!
//! Kept from the kernel: a recorded route names the address that a packet was sent to, if it is ours, or
//! else the one nearest to its sender; we are in the groups of all nodes, of all routers and of our
//! addresses; what is said of options is said in the name of the address that the packet was sent to.
//!
//! Left out on purpose: groups that somebody would ask to join, and routing of any group.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use super::{is_link_local, Role, Router};
use crate::packet::options::{self, BadOption, Host};
use crate::packet::{extensions, icmp, DropReason, Headers, LinkId, Packet, Verdict, Why};
use crate::world::Instant;

const DAY_MS: u128 = 86_400_000;

impl Router {
    /// Looks at the options of an IPv4 packet and does what they ask for.
    ///
    /// # Errors
    /// How its journey ends here.
    pub fn note_options(
        &self,
        now: Instant,
        packet: &mut Packet,
        headers: &Headers,
    ) -> Result<(), Verdict> {
        let addr = match self.is_local(headers.dst) {
            true => Some(headers.dst),
            false => {
                let back = self.route(headers.src);
                let nearest = back.and_then(|hop| self.source_for(&hop, headers.src));
                nearest.or_else(|| self.ingress_source(packet.link, headers.family, headers.src))
            }
        };
        options::note(packet, headers, &self.as_host(now, addr)).map_err(bad_option)
    }

    /// Who we are to the writers of IPv4 options, by the address `addr` of ours.
    pub fn as_host(
        &self,
        now: Instant,
        addr: Option<IpAddr>,
    ) -> Host<impl Fn(Ipv4Addr) -> bool + '_> {
        let addr = match addr {
            Some(IpAddr::V4(addr)) => addr,
            Some(IpAddr::V6(_)) | None => Ipv4Addr::UNSPECIFIED,
        };
        let elsewhere = |addr: Ipv4Addr| {
            let (is_any, addr) = (addr.is_unspecified(), IpAddr::V4(addr));
            !(is_any || self.is_local(addr) || self.is_group(addr))
        };
        let day = self.day.saturating_add(now.since(Instant::ZERO)).as_millis() % DAY_MS;
        Host { addr, day_ms: u32::try_from(day).unwrap_or(0), elsewhere }
    }

    /// What time of day (UTC) it was at the beginning of time.
    pub const fn set_time_of_day(&mut self, day: Duration) {
        self.day = day;
    }

    /// Whether `addr` is ours as it is every router's on a network of ours, and of nobody alone.
    pub fn is_anycast(&self, addr: IpAddr) -> bool {
        let alone = |role: &Role| role.own == 0 && role.virt == 0 && role.anycast;
        self.roles.get(&addr).is_some_and(alone)
    }

    /// Whether we are in an IPv6 group on a port: that of all nodes, of all routers, or of an address.
    pub(super) fn listens(&self, link: LinkId, group: Ipv6Addr) -> bool {
        let all = [0xff02 << 112 | 1, 0xff02 << 112 | 2];
        let mut own = self.link(link).into_iter().flat_map(|link| &link.addresses);
        all.contains(&group.to_bits())
            || own.any(|&(own, len)| {
                let asks =
                    |addr| matches!(addr, IpAddr::V6(own) if icmp::solicited_node(own) == group);
                asks(own) || anycast_of(own, len).is_some_and(asks)
            })
    }

    /// Whether nobody can have sent this (RFC 1812 section 5.3.7, RFC 4291 section 2.5): from a group or
    /// loopback, or to loopback; in IPv4 also from one of our addresses or from nobody.
    pub(super) fn is_martian(&self, headers: &Headers) -> bool {
        let impossible = match (headers.src, headers.dst) {
            (IpAddr::V4(src), dst) => {
                src.is_unspecified()
                    || src == Ipv4Addr::BROADCAST
                    || dst.is_unspecified()
                    || self.roles.contains_key(&headers.src)
                    || self.is_in_local_network(headers.src)
            }
            (IpAddr::V6(_), _) => false,
        };
        impossible
            || headers.src.is_multicast()
            || headers.dst.is_loopback()
            || headers.src.is_loopback()
    }
}

/// What is said about the options of a packet, in the name of the address that it was sent to if that
/// is ours.
const fn bad_option(bad: BadOption) -> Verdict {
    let reason = DropReason::IpOptions;
    match bad {
        BadOption::SourceRoute => Verdict::Drop(reason),
        BadOption::Malformed(at) => {
            let source = icmp::Source::Destination;
            Verdict::Punt(Why::Error { error: icmp::Error::Parameter(at), source, reason })
        }
    }
}

/// What is said about the extension headers of a packet.
pub(super) fn bad_extension(extensions::Refused(error): extensions::Refused) -> Verdict {
    let (reason, source) = (DropReason::ExtensionHeaders, icmp::Source::Destination);
    error.map_or(Verdict::Drop(reason), |error| Verdict::Punt(Why::Error { error, source, reason }))
}

/// The address of all routers of an IPv6 network, where it has one.
pub(super) fn anycast_of(addr: IpAddr, len: u8) -> Option<IpAddr> {
    let IpAddr::V6(own) = addr else { return None };
    let host = u128::MAX.checked_shr(u32::from(len)).unwrap_or(0);
    (len < 127 && !is_link_local(addr)).then(|| Ipv6Addr::from_bits(own.to_bits() & !host).into())
}
