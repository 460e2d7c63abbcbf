//! A host and a router on the wire that has never heard of load balancing.
//!
//! [`Router::receive`] turns a frame into an IP packet that is worth looking at, [`Router::route`]
//! says where a packet goes, and [`Router::egress`] puts the link header on. What must be learnt or
//! answered is punted to `slow`, which asks here for addresses and neighbours.
//!
//! Kept from the kernel: packets from impossible senders are martians and vanish, as do packets to
//! groups; an address is ours on every port, but answered for only on the ports whose network holds
//! it (`arp_ignore=1` at heart); the source of what we say is the address nearest to the next hop.
//!
//! Left out on purpose: multicast routing, duplicate address detection for our own addresses,
//! redirects, several next hops, reverse path filters, joining snooped groups (MLD).

pub mod limit;
pub mod neigh;
mod odd;
mod pmtu;
pub mod route;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use crate::packet::eth::{ethertype, Ethernet, HEADER};
use crate::packet::icmp::Neighbour;
use crate::packet::{
    extensions, icmp, proto, vnet, DropReason, Family, Fragment, Headers, LinkId, Mac, Packet,
    Verdict, Why,
};
use crate::world::{sort_by, Instant, Keyed, Map, Rng};

use neigh::Neighbours;
use odd::{anycast_of, bad_extension};
use pmtu::PathMtus;
use route::{Table, Target};

/// A port of ours.
#[derive(Debug, Clone)]
pub struct Link {
    /// The device's name.
    pub name: String,
    /// Ethernet frames (TAP), or bare IP packets (TUN).
    pub tap: bool,
    /// Our own station address; means nothing on a TUN port.
    pub mac: Mac,
    /// Bytes of an IP packet that fit.
    pub mtu: u16,
    /// Our own addresses with the prefix lengths of their networks.
    pub addresses: Vec<(IpAddr, u8)>,
}

impl Link {
    /// Whether `addr` lies in a network of this port.
    pub fn holds(&self, addr: IpAddr) -> bool {
        self.addresses.iter().any(|&(own, len)| route::contains(own, len, addr))
    }

    /// Adds the link-local address that a TAP port with an IPv6 address has, if nobody gave one.
    fn complete(&mut self) {
        let v6 = self.addresses.iter().any(|(addr, _)| addr.is_ipv6());
        let has_one = self.addresses.iter().any(|&(addr, _)| is_link_local(addr));
        if self.tap && v6 && !has_one {
            self.addresses.push((self.link_local().into(), 64));
        }
    }

    /// The link-local address that follows from the station address (RFC 4291 appendix A).
    fn link_local(&self) -> Ipv6Addr {
        let [a, b, c, d, e, f] = self.mac.0;
        Ipv6Addr::from([0xfe, 0x80, 0, 0, 0, 0, 0, 0, a ^ 2, b, c, 0xff, 0xfe, d, e, f])
    }
}

/// Where a packet goes next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hop {
    /// The port it leaves by.
    pub link: LinkId,
    /// The neighbour it is handed to.
    pub next: IpAddr,
    /// Bytes of an IP packet that fit.
    pub mtu: u16,
}

/// Why a route cannot be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RouteError {
    /// There is no such port.
    NoSuchLink,
    /// Neither a port nor a gateway is named.
    NoNextHop,
    /// The gateway is not a neighbour, is ourselves, or is of the other family.
    Gateway,
}

impl std::fmt::Display for RouteError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::NoSuchLink => "there is no such port",
            Self::NoNextHop => "neither a port nor a gateway is named",
            Self::Gateway => "the gateway is no neighbour",
        })
    }
}

/// What an address means to us.
#[derive(Debug, Clone, Copy, Default)]
struct Role {
    /// On how many ports it is configured.
    own: u32,
    /// How many services hold it.
    virt: u32,
    /// It is the broadcast address of one of our networks.
    broadcast: bool,
    /// It is the address of all routers of one of our networks (RFC 4291 section 2.6.1).
    anycast: bool,
}

/// A host and router with its ports, addresses, routes and neighbours.
#[derive(Debug)]
pub struct Router {
    links: Vec<Option<Link>>,
    roles: Map<IpAddr, Role>,
    local: Table<()>,
    /// Network, bits, table; and family, mark, mask, table. There are few.
    marked_networks: Vec<(IpAddr, u8, u32)>,
    mark_rules: Vec<(Family, u32, u32, u32)>,
    routes: Table<Target>,
    neighbours: Neighbours,
    path_mtus: PathMtus,
    /// The time of day at [`Instant::ZERO`].
    day: Duration,
}

impl Router {
    /// A router with these ports; link `i` is `links[i]`. Its own addresses and the routes to its
    /// networks follow from them. A TAP port with an IPv6 address gets its link-local one as well.
    pub fn new(links: Vec<Link>, mut rng: Rng) -> Self {
        let mut router = Self {
            roles: Map::with_hasher(Keyed::new(&mut rng)),
            local: Table::new(&mut rng),
            marked_networks: Vec::new(),
            mark_rules: Vec::new(),
            routes: Table::new(&mut rng),
            path_mtus: PathMtus::new(&mut rng.fork(1)),
            neighbours: Neighbours::new(rng),
            links: Vec::new(),
            day: Duration::ZERO,
        };
        router.rewire(links.into_iter().map(Some).collect());
        router
    }

    /// Changes ports, or takes some away (`None`): link `i` is `links[i]`. Routes, local networks and
    /// told neighbours are forgotten, to be told anew; what was learnt of neighbours stays where the
    /// port stays.
    pub fn rewire(&mut self, links: Vec<Option<Link>>) {
        let same_wire = |old: &Option<Link>, new: Option<&Option<Link>>| match (old, new) {
            (Some(old), Some(Some(new))) => old.name == new.name && old.tap == new.tap,
            _ => false,
        };
        let stays: Vec<bool> =
            self.links.iter().enumerate().map(|(i, old)| same_wire(old, links.get(i))).collect();
        self.neighbours.keep(|link| stays.get(usize::from(link.0)).copied().unwrap_or(false));
        self.links = links;
        self.links.iter_mut().flatten().for_each(Link::complete);
        self.local.clear();
        self.marked_networks.clear();
        self.mark_rules.clear();
        self.routes.clear();
        self.roles.retain(|_, role| {
            *role = Role { virt: role.virt, ..Role::default() };
            role.virt > 0
        });
        for (id, link) in (0..=u16::MAX).map(LinkId).zip(&self.links) {
            for &(addr, len) in link.iter().flat_map(|link| &link.addresses) {
                self.roles.entry(addr).or_default().own += 1;
                if let Some(broadcast) = broadcast_of(addr, len) {
                    self.roles.entry(broadcast).or_default().broadcast = true;
                }
                if let Some(anycast) = anycast_of(addr, len) {
                    self.roles.entry(anycast).or_default().anycast = true;
                }
                let known = self.routes.exact(addr, len).is_some();
                if !known && !is_link_local(addr) {
                    self.routes.insert(addr, len, Target { link: id, gateway: None });
                }
            }
        }
    }

    /// Adds a route; it takes the place of one for the same prefix. Without a port, the gateway's
    /// network says which; a gateway that is link-local needs a port.
    ///
    /// # Errors
    /// Why the route cannot be.
    pub fn add_route(
        &mut self,
        prefix: IpAddr,
        len: u8,
        link: Option<LinkId>,
        gateway: Option<IpAddr>,
    ) -> Result<(), RouteError> {
        if link.is_some_and(|link| self.link(link).is_none()) {
            return Err(RouteError::NoSuchLink);
        }
        let link = match (link, gateway) {
            (Some(link), None) => link,
            (None, None) => return Err(RouteError::NoNextHop),
            (link, Some(gateway)) => {
                if Family::of(gateway) != Family::of(prefix) || self.is_local(gateway) {
                    return Err(RouteError::Gateway);
                }
                self.link_of_gateway(link, gateway).ok_or(RouteError::Gateway)?
            }
        };
        self.routes.insert(prefix, len, Target { link, gateway });
        Ok(())
    }

    /// Forgets the route for a prefix; gives whether there was one.
    pub fn remove_route(&mut self, prefix: IpAddr, len: u8) -> bool {
        self.routes.remove(prefix, len).is_some()
    }

    /// Makes a network ours for packets that ask this table (`ip route add local … table N`).
    pub fn add_marked_network(&mut self, prefix: IpAddr, len: u8, table: u32) {
        self.marked_networks.push((prefix, len, table));
    }

    /// Lets packets whose mark is `mark` under `mask` ask a table (`ip rule add fwmark …`).
    pub fn add_mark_rule(&mut self, family: Family, mark: u32, mask: u32, table: u32) {
        self.mark_rules.push((family, mark, mask, table));
    }

    /// Whether a packet to `addr`, which is not ours by itself, is ours by its mark.
    pub fn is_local_by_mark(&self, mark: u32, addr: IpAddr) -> bool {
        let ours = |table: u32| {
            let mut all = self.marked_networks.iter();
            all.any(|&(net, len, in_table)| in_table == table && route::contains(net, len, addr))
        };
        let asks = |&&(family, wanted, mask, _): &&(Family, u32, u32, u32)| {
            family == Family::of(addr) && mark & mask == wanted
        };
        self.mark_rules.iter().filter(asks).any(|&(.., table)| ours(table))
    }

    /// Makes a whole network ours (`ip route add local …`).
    pub fn add_local_network(&mut self, prefix: IpAddr, len: u8) {
        self.local.insert(prefix, len, ());
    }

    /// The operator's word that `mac` has `addr` on `link`.
    pub fn add_neighbour(&mut self, now: Instant, link: LinkId, addr: IpAddr, mac: Mac) {
        self.neighbours.add_permanent(now, link, addr, mac);
    }

    /// A service holds `addr`: it is ours as long as one does.
    pub fn add_virtual(&mut self, addr: IpAddr) {
        self.roles.entry(addr).or_default().virt += 1;
    }

    /// A service let go of `addr`.
    pub fn remove_virtual(&mut self, addr: IpAddr) {
        let Some(role) = self.roles.get_mut(&addr) else { return };
        role.virt = role.virt.saturating_sub(1);
        if role.virt == 0 && role.own == 0 && !role.broadcast && !role.anycast {
            self.roles.remove(&addr);
        }
    }

    /// Takes the link header off a frame fresh from `packet.link` and says what the IP packet is.
    ///
    /// # Errors
    /// How the packet's journey ends here: ARP and neighbour discovery go to the slow side, what is
    /// malformed, impossible or not ours is dropped.
    pub fn receive(&self, packet: &mut Packet) -> Result<Headers, Verdict> {
        let link = self.link(packet.link).ok_or(Verdict::Drop(DropReason::OtherStation))?;
        let group_frame = link.tap && take_ethernet(link, packet)?;
        let headers = Headers::parse(packet).map_err(Verdict::Drop)?;
        if !vnet::agrees(packet, &headers) {
            packet.offload.kind = vnet::Kind::Whole;
        }
        let discovery = link.tap
            && Neighbour::is_one(packet.bytes(), &headers)
            && (headers.dst.is_multicast() || self.is_local(headers.dst));
        if self.is_martian(&headers) {
            return Err(Verdict::Drop(DropReason::Martian));
        }
        if headers.family == Family::V6 {
            extensions::for_router(packet.bytes()).map_err(bad_extension)?;
        }
        if self.is_group(headers.dst) {
            return Err(match headers.dst {
                _ if discovery => Verdict::Punt(Why::Discovery),
                IpAddr::V6(group)
                    if headers.proto == proto::ICMPV6
                        && headers.fragment == Fragment::Whole
                        && self.listens(packet.link, group) =>
                {
                    Verdict::Punt(Why::Local)
                }
                _ => Verdict::Drop(DropReason::GroupDestination),
            });
        }
        if group_frame {
            // Whoever calls everybody is answered by the one who is meant.
            let question = icmp::is_question(packet.bytes(), &headers)
                && matches!(headers.proto, proto::ICMP | proto::ICMPV6)
                && headers.fragment == Fragment::Whole
                && self.is_local(headers.dst);
            return Err(match question {
                true => Verdict::Punt(Why::Local),
                false => Verdict::Drop(DropReason::OtherStation),
            });
        }
        if discovery {
            return Err(Verdict::Punt(Why::Discovery));
        }
        Ok(headers)
    }

    /// Whether a packet to `addr` is for us: an address of a port, of a service, of a local
    /// network, or loopback.
    pub fn is_local(&self, addr: IpAddr) -> bool {
        self.roles.get(&addr).is_some_and(|role| role.own > 0 || role.virt > 0 || role.anycast)
            || addr.is_loopback()
            || self.is_in_local_network(addr)
    }

    /// The way to `dst`, which is not ours ([`is_local`](Self::is_local) is asked first). A
    /// link-local address means nothing without a port: see [`route_from`](Self::route_from).
    pub fn route(&self, dst: IpAddr) -> Option<Hop> {
        let target = self.routes.lookup(dst)?;
        let mtu = self.link(target.link)?.mtu;
        Some(Hop { link: target.link, next: target.gateway.unwrap_or(dst), mtu })
    }

    /// Bytes of an IP packet that the path to `host` carries, over a link of `mtu` bytes.
    pub fn path_mtu(&self, now: Instant, host: IpAddr, mtu: u16) -> u16 {
        self.path_mtus.of(now, host, mtu)
    }

    /// A router says that it carries no more than `told` bytes towards `host`; gives whether anything was
    /// known of that path before.
    pub fn learn_path(&mut self, now: Instant, host: IpAddr, told: u32) -> bool {
        let known = self.path_mtus.knows(now, host);
        self.path_mtus.learn(now, host, told);
        known
    }

    /// For how many bits of `dst` there is a route; 0 where there is none.
    pub fn prefix_len(&self, dst: IpAddr) -> u8 {
        self.routes.prefix_len(dst).unwrap_or(0)
    }

    /// The way from the port `link` back to `dst`: a link-local address is on that port.
    pub fn route_from(&self, link: LinkId, dst: IpAddr) -> Option<Hop> {
        if is_link_local(dst) {
            return Some(Hop { link, next: dst, mtu: self.link(link)?.mtu });
        }
        self.route(dst)
    }

    /// The address that we speak from to `towards` over `hop`. For IPv4 one on the network of the
    /// neighbour, or else the port's first. For IPv6 the port's that has most leading bits in common
    /// with `towards`, the newest of equals (RFC 6724, section 5, rules 5 and 8). Where the port has
    /// none, any; a link-local one is the last choice.
    pub fn source_for(&self, hop: &Hop, towards: IpAddr) -> Option<IpAddr> {
        let family = Family::of(towards);
        let link = self.link(hop.link)?;
        let global = |&&(own, _): &&(IpAddr, u8)| Family::of(own) == family && !is_link_local(own);
        let mut here = link.addresses.iter().filter(global);
        let own = match towards {
            IpAddr::V4(_) => {
                let on_net = |&&(own, len): &&(IpAddr, u8)| route::contains(own, len, hop.next);
                here.clone().find(on_net).or_else(|| here.next())
            }
            IpAddr::V6(_) => here.max_by_key(|&&(own, len)| common_bits(own, towards).min(len)),
        };
        let own =
            own.or_else(|| self.links.iter().flatten().flat_map(|l| &l.addresses).find(global));
        let own = own.or_else(|| link.addresses.iter().find(|a| Family::of(a.0) == family));
        own.map(|&(own, _)| own)
    }

    /// Our address on the port `link` for speaking to `towards`: link-local to link-local.
    pub fn ingress_source(&self, link: LinkId, family: Family, towards: IpAddr) -> Option<IpAddr> {
        let port = self.link(link)?;
        if is_link_local(towards) {
            let own = port.addresses.iter().map(|&(own, _)| own);
            return own.filter(|own| Family::of(*own) == family).find(|&own| is_link_local(own));
        }
        self.source_for(&Hop { link, next: towards, mtu: port.mtu }, towards)
    }

    /// Sends a finished IP packet over `hop`: puts the link header on, or says what is missing.
    /// Whoever has to tell the sender of too long a packet looks at `hop.mtu` before.
    pub fn egress(&mut self, now: Instant, packet: &mut Packet, hop: Hop) -> Verdict {
        if vnet::longest_piece(packet) > usize::from(hop.mtu) {
            return match packet.bytes() {
                [first, ..] if first >> 4 != 4 => Verdict::Drop(DropReason::TooBig),
                [_, _, _, _, _, _, flags, ..] if flags & 0x40 != 0 => {
                    Verdict::Drop(DropReason::TooBig)
                }
                _ => Verdict::Punt(Why::TooLong { link: hop.link, next: hop.next, mtu: hop.mtu }),
            };
        }
        let Some(Some(link)) = self.links.get(usize::from(hop.link.0)) else {
            return Verdict::Drop(DropReason::NoRoute);
        };
        if !link.tap {
            return Verdict::Transmit(hop.link);
        }
        let Some(mac) = self.neighbours.hop(now, hop.link, hop.next) else {
            return Verdict::Punt(Why::Resolve { link: hop.link, next: hop.next });
        };
        match frame(packet, link.mac, mac) {
            Ok(()) => Verdict::Transmit(hop.link),
            Err(reason) => Verdict::Drop(reason),
        }
    }

    /// A port.
    pub fn link(&self, link: LinkId) -> Option<&Link> {
        self.links.get(usize::from(link.0))?.as_ref()
    }

    /// All ports, in their order.
    pub fn links(&self) -> impl Iterator<Item = (LinkId, &Link)> {
        let numbered = (0..=u16::MAX).map(LinkId).zip(&self.links);
        numbered.filter_map(|(id, link)| Some((id, link.as_ref()?)))
    }

    /// The port of that name.
    pub fn link_named(&self, name: &str) -> Option<LinkId> {
        self.links().find(|(_, link)| link.name == name).map(|(id, _)| id)
    }

    /// Whether we answer on `link` to the question who has `addr`: it is ours, and a network of the
    /// port holds it. A link-local address is of one port only.
    pub fn answers(&self, link: LinkId, addr: IpAddr) -> bool {
        if is_link_local(addr) {
            let has = |port: &Link| port.addresses.iter().any(|&(own, _)| own == addr);
            return self.link(link).is_some_and(|port| port.tap && has(port));
        }
        !addr.is_loopback()
            && !self.is_anycast(addr)
            && self.is_local(addr)
            && self.link(link).is_some_and(|link| link.tap && link.holds(addr))
    }

    /// Whether `addr` is a neighbour on `link`: in a network of the port, link-local, or routed
    /// there without a gateway.
    pub fn is_neighbour(&self, link: LinkId, addr: IpAddr) -> bool {
        let target = Target { link, gateway: None };
        self.link(link).is_some_and(|link| link.holds(addr))
            || is_link_local(addr)
            || self.routes.lookup(addr) == Some(target)
    }

    /// The addresses of ports and services, sorted.
    pub fn addresses(&self) -> Vec<IpAddr> {
        let ours = self.roles.iter().filter(|(_, role)| role.own > 0 || role.virt > 0);
        let mut ours: Vec<IpAddr> = ours.map(|(&addr, _)| addr).collect();
        sort_by(&mut ours, Ord::cmp);
        ours
    }

    /// Who our neighbours are.
    pub const fn neighbours(&self) -> &Neighbours {
        &self.neighbours
    }

    /// Who our neighbours are, to be told what was learnt.
    pub const fn neighbours_mut(&mut self) -> &mut Neighbours {
        &mut self.neighbours
    }

    /// The port on which `gateway` is a neighbour; it must be `link` where one is named.
    fn link_of_gateway(&self, link: Option<LinkId>, gateway: IpAddr) -> Option<LinkId> {
        match link {
            Some(link) => {
                let tun = self.link(link).is_some_and(|link| !link.tap);
                (tun || self.is_neighbour(link, gateway)).then_some(link)
            }
            None => {
                let target = self.routes.lookup(gateway).filter(|t| t.gateway.is_none())?;
                Some(target.link)
            }
        }
    }

    fn is_in_local_network(&self, addr: IpAddr) -> bool {
        !self.local.is_empty() && self.local.lookup(addr).is_some()
    }

    fn is_group(&self, addr: IpAddr) -> bool {
        let broadcast = |role: &Role| role.broadcast && role.own == 0;
        addr.is_multicast()
            || addr == IpAddr::V4(Ipv4Addr::BROADCAST)
            || (addr.is_ipv4() && self.roles.get(&addr).is_some_and(broadcast))
    }
}

/// Puts the link header in front of an IP packet.
///
/// # Errors
/// [`DropReason::NoHeadroom`] if it does not fit.
pub fn frame(packet: &mut Packet, src: Mac, dst: Mac) -> Result<(), DropReason> {
    let v6 = packet.bytes().first().is_some_and(|first| first >> 4 == 6);
    let ethertype = if v6 { ethertype::IPV6 } else { ethertype::IPV4 };
    Ethernet { dst, src, ethertype }.push(packet)
}

/// How many leading bits two addresses of one family have in common.
fn common_bits(a: IpAddr, b: IpAddr) -> u8 {
    let differ = match (a, b) {
        (IpAddr::V4(a), IpAddr::V4(b)) => (a.to_bits() ^ b.to_bits()).leading_zeros(),
        (IpAddr::V6(a), IpAddr::V6(b)) => (a.to_bits() ^ b.to_bits()).leading_zeros(),
        _ => 0,
    };
    u8::try_from(differ).expect("128 at most")
}

/// Whether an address is an IPv6 link-local one, which means something on one port only.
pub const fn is_link_local(addr: IpAddr) -> bool {
    matches!(addr, IpAddr::V6(addr) if addr.is_unicast_link_local())
}

/// Takes the Ethernet header off; gives whether the frame was for a group.
fn take_ethernet(link: &Link, packet: &mut Packet) -> Result<bool, Verdict> {
    let header = Ethernet::parse(packet.bytes()).map_err(Verdict::Drop)?;
    let group = header.dst.is_group();
    if !group && header.dst != link.mac {
        return Err(Verdict::Drop(DropReason::OtherStation));
    }
    packet.pull(HEADER);
    let version = match header.ethertype {
        ethertype::IPV4 => 4,
        ethertype::IPV6 => 6,
        other => match untagged(other, packet) {
            Some(ethertype::IPV4) => 4,
            Some(ethertype::IPV6) => 6,
            Some(ethertype::ARP) => return Err(Verdict::Punt(Why::Arp)),
            _ => return Err(Verdict::Drop(DropReason::EtherType)),
        },
    };
    match packet.bytes().first() {
        Some(first) if first >> 4 != version => Err(Verdict::Drop(DropReason::IpVersion)),
        Some(_) => Ok(group),
        None => Err(Verdict::Drop(DropReason::IpShort)),
    }
}

/// The type of a frame behind VLAN tags that name no VLAN but a priority (IEEE 802.1Q section 9.6), which
/// are taken off; `None` for a VLAN.
#[cold]
fn untagged(mut kind: u16, packet: &mut Packet) -> Option<u16> {
    const VLAN_BITS: u8 = 0x0f;
    while matches!(kind, ethertype::VLAN | ethertype::SERVICE_VLAN) {
        let &[priority, vlan, a, b, ..] = packet.bytes() else { return None };
        if priority & VLAN_BITS != 0 || vlan != 0 {
            return None;
        }
        kind = u16::from_be_bytes([a, b]);
        packet.untag();
    }
    Some(kind)
}

/// The broadcast address of a network, where it has one (RFC 919, RFC 3021).
fn broadcast_of(addr: IpAddr, len: u8) -> Option<IpAddr> {
    let IpAddr::V4(addr) = addr else { return None };
    let host = u32::MAX.checked_shr(u32::from(len)).unwrap_or(0);
    (len < 31).then(|| Ipv4Addr::from_bits(addr.to_bits() | host).into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::packet::eth;
    use crate::packet::ip::Fresh;

    const OURS: Mac = Mac([2, 0, 0, 0, 1, 1]);
    const PEER: Mac = Mac([2, 0, 0, 0, 1, 9]);

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn link(name: &str, tap: bool, last: u8, addresses: &[(&str, u8)]) -> Link {
        Link {
            name: name.into(),
            tap,
            mac: Mac([2, 0, 0, 0, 1, last]),
            mtu: 1500,
            addresses: addresses.iter().map(|&(a, l)| (ip(a), l)).collect(),
        }
    }

    fn router() -> Router {
        let wan = link("wan", true, 1, &[("10.77.1.1", 24), ("fd77:1::1", 64)]);
        let lan = link("lan", true, 2, &[("10.77.2.1", 24)]);
        let tun = link("tun", false, 3, &[("10.77.3.1", 31)]);
        let mut router = Router::new(vec![wan, lan, tun], Rng::new(1));
        router.add_virtual(ip("10.77.1.100"));
        router.add_local_network(ip("10.91.0.0"), 24);
        router
    }

    fn datagram(src: &str, dst: &str) -> Packet {
        let mut packet = Packet::copy_of(LinkId(0), &[0, 1, 0, 2, 0, 8, 0, 0]);
        let (src, dst) = (ip(src), ip(dst));
        Fresh { src, dst, proto: proto::UDP, ttl: 9, tos: 0, dont_fragment: false, id: 1 }
            .push(&mut packet)
            .unwrap();
        packet
    }

    fn framed(src: &str, dst: &str, to: Mac) -> Packet {
        let mut packet = datagram(src, dst);
        frame(&mut packet, PEER, to).unwrap();
        packet
    }

    fn dropped(router: &Router, src: &str, dst: &str) -> Option<DropReason> {
        match router.receive(&mut framed(src, dst, OURS)) {
            Ok(_) => None,
            Err(Verdict::Drop(reason)) => Some(reason),
            Err(other) => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_packet_for_our_station_is_received_without_its_frame() {
        let router = router();
        let mut packet = framed("10.5.0.1", "10.77.1.100", OURS);
        let headers = router.receive(&mut packet).unwrap();
        assert_eq!((headers.src, headers.dst), (ip("10.5.0.1"), ip("10.77.1.100")));
        assert_eq!(packet.bytes()[0], 0x45);
        let mut bare = datagram("10.5.0.1", "10.9.9.9");
        bare.link = LinkId(2);
        assert!(router.receive(&mut bare).is_ok(), "a TUN port has no frames");
    }

    #[test]
    fn impossible_senders_are_martians() {
        let router = router();
        for src in ["10.77.1.1", "10.77.1.100", "10.91.0.7", "127.0.0.1", "224.0.0.1", "0.0.0.0"] {
            assert_eq!(dropped(&router, src, "10.9.9.9"), Some(DropReason::Martian), "{src}");
        }
        for src in ["10.77.2.255", "255.255.255.255"] {
            assert_eq!(dropped(&router, src, "10.9.9.9"), Some(DropReason::Martian), "{src}");
        }
        for src in ["::1", "ff02::1"] {
            assert_eq!(dropped(&router, src, "fd99::1"), Some(DropReason::Martian), "{src}");
        }
        for src in ["fd77:1::1", "::", "::ffff:10.0.0.1", "fe80::9"] {
            assert_eq!(dropped(&router, src, "fd99::1"), None, "{src}: where it goes decides");
        }
        assert_eq!(dropped(&router, "0.1.2.3", "10.9.9.9"), None, "any network is as good");
        assert_eq!(dropped(&router, "10.5.0.1", "127.0.0.1"), Some(DropReason::Martian));
        assert_eq!(dropped(&router, "fe80::9", "fd77:1::1"), None);
        assert_eq!(dropped(&router, "10.77.3.0", "10.9.9.9"), None, "a /31 has no broadcast");
    }

    #[test]
    fn groups_and_other_stations_are_not_for_us() {
        let router = router();
        for dst in ["224.0.0.18", "255.255.255.255", "10.77.1.255", "10.77.2.255"] {
            let reason = dropped(&router, "10.5.0.1", dst);
            assert_eq!(reason, Some(DropReason::GroupDestination), "{dst}");
        }
        assert_eq!(dropped(&router, "fd99::1", "ff02::1"), Some(DropReason::GroupDestination));
        for to in [Mac::BROADCAST, PEER, Mac([0x33, 0x33, 0, 0, 0, 1])] {
            let verdict = router.receive(&mut framed("10.5.0.1", "10.77.1.1", to));
            assert_eq!(verdict, Err(Verdict::Drop(DropReason::OtherStation)));
        }
    }

    #[test]
    fn arp_and_discovery_go_to_the_slow_side() {
        let router = router();
        let arp = eth::Arp::request(PEER, [10, 77, 1, 9].into(), [10, 77, 1, 100].into());
        let mut packet = Packet::copy_of(LinkId(0), &arp.to_bytes());
        let header = Ethernet { dst: Mac::BROADCAST, src: PEER, ethertype: ethertype::ARP };
        header.push(&mut packet).unwrap();
        assert_eq!(router.receive(&mut packet), Err(Verdict::Punt(Why::Arp)));
        assert_eq!(eth::Arp::parse(packet.bytes()), Ok(arp));
        let target = "fd77:1::1".parse().unwrap();
        let ask = Neighbour::Solicitation { target, mac: None };
        let group = icmp::solicited_node(target);
        let mut ask = ask.packet(LinkId(0), Ipv6Addr::UNSPECIFIED, group).unwrap();
        frame(&mut ask, PEER, icmp::group_mac(group)).unwrap();
        assert_eq!(router.receive(&mut ask), Err(Verdict::Punt(Why::Discovery)));
    }

    #[test]
    fn a_tag_that_names_no_vlan_is_taken_off() {
        let tagged = |kinds: &[(u16, [u8; 2])]| {
            let mut packet = datagram("10.5.0.1", "10.77.1.1");
            let mut ethertype = ethertype::IPV4;
            for &(kind, tag) in kinds {
                let header = packet.push(4).unwrap();
                header[..2].copy_from_slice(&tag);
                header[2..].copy_from_slice(&ethertype.to_be_bytes());
                ethertype = kind;
            }
            Ethernet { dst: OURS, src: PEER, ethertype }.push(&mut packet).unwrap();
            router().receive(&mut packet).map(|headers| (headers.dst, packet.len()))
        };
        let plain = tagged(&[]);
        assert!(plain.is_ok());
        assert_eq!(tagged(&[(ethertype::VLAN, [0xe0, 0])]), plain);
        assert_eq!(tagged(&[(ethertype::VLAN, [0, 0]), (ethertype::SERVICE_VLAN, [0, 0])]), plain);
        let refused = Err(Verdict::Drop(DropReason::EtherType));
        assert_eq!(tagged(&[(ethertype::VLAN, [0, 1])]), refused);
        assert_eq!(tagged(&[(ethertype::VLAN, [1, 0]), (ethertype::VLAN, [0, 0])]), refused);
    }

    #[test]
    fn every_prefix_of_every_frame_shape_ends_somewhere() {
        let mut router = router();
        let mut shapes = vec![
            framed("10.5.0.1", "10.77.1.1", OURS),
            framed("fd99::1", "fd77:1::1", OURS),
            framed("10.5.0.1", "10.77.1.1", Mac::BROADCAST),
        ];
        for ethertype in [ethertype::ARP, ethertype::VLAN, ethertype::IPV6, 0x88cc, 46] {
            let mut packet = datagram("10.5.0.1", "10.77.1.1");
            Ethernet { dst: OURS, src: PEER, ethertype }.push(&mut packet).unwrap();
            shapes.push(packet);
        }
        let mut extended = datagram("fd99::1", "fd77:1::1");
        extended.bytes_mut()[6] = 60;
        frame(&mut extended, PEER, OURS).unwrap();
        shapes.push(extended);
        for shape in &shapes {
            for len in 0..=shape.len() {
                for id in 0..4 {
                    let mut packet = Packet::copy_of(LinkId(id), &shape.bytes()[..len]);
                    let _ = router.receive(&mut packet);
                    let hop = Hop { link: LinkId(id), next: ip("10.77.1.9"), mtu: 20 };
                    let _ = router.egress(Instant::ZERO, &mut packet, hop);
                }
            }
        }
    }

    #[test]
    fn a_frame_that_lies_about_its_version_is_dropped() {
        let router = router();
        let mut packet = datagram("10.5.0.1", "10.77.1.1");
        let header = Ethernet { dst: OURS, src: PEER, ethertype: ethertype::IPV6 };
        header.push(&mut packet).unwrap();
        let verdict = router.receive(&mut packet);
        assert_eq!(verdict, Err(Verdict::Drop(DropReason::IpVersion)));
    }

    #[test]
    fn routes_lead_over_gateways_and_networks() {
        let mut router = router();
        let any = ip("0.0.0.0");
        assert_eq!(router.route(ip("8.8.8.8")), None);
        router.add_route(any, 0, None, Some(ip("10.77.1.254"))).unwrap();
        let hop = router.route(ip("8.8.8.8")).unwrap();
        assert_eq!((hop.link, hop.next), (LinkId(0), ip("10.77.1.254")));
        let hop = router.route(ip("10.77.2.11")).unwrap();
        assert_eq!((hop.link, hop.next, hop.mtu), (LinkId(1), ip("10.77.2.11"), 1500));
        router.add_route(ip("10.99.0.0"), 16, Some(LinkId(2)), None).unwrap();
        assert_eq!(router.route(ip("10.99.1.1")).unwrap().link, LinkId(2));
        let refused = |router: &mut Router, link, gateway| router.add_route(any, 0, link, gateway);
        assert_eq!(refused(&mut router, None, None), Err(RouteError::NoNextHop));
        assert_eq!(refused(&mut router, Some(LinkId(7)), None), Err(RouteError::NoSuchLink));
        for gateway in ["8.8.8.8", "10.77.1.1", "fd77:1::9"] {
            let refused = refused(&mut router, None, Some(ip(gateway)));
            assert_eq!(refused, Err(RouteError::Gateway), "{gateway}");
        }
    }

    #[test]
    fn we_speak_from_the_address_nearest_to_the_next_hop() {
        let router = router();
        let from = |dst: &str| router.source_for(&router.route(ip(dst)).unwrap(), ip(dst));
        assert_eq!(from("10.77.2.11"), Some(ip("10.77.2.1")));
        assert_eq!(from("10.77.3.0"), Some(ip("10.77.3.1")));
        let hop = Hop { link: LinkId(0), next: ip("fe80::9"), mtu: 1500 };
        assert_eq!(router.source_for(&hop, ip("fe80::9")), Some(ip("fd77:1::1")));
        let own = router.ingress_source(LinkId(0), Family::V6, ip("fe80::9"));
        assert_eq!(own, Some(ip("fe80::ff:fe00:101")));
        assert_eq!(router.ingress_source(LinkId(1), Family::V6, ip("fe80::9")), None);
    }

    #[test]
    fn a_virtual_address_is_ours_as_long_as_a_service_holds_it() {
        let mut router = router();
        let virt = ip("10.77.1.100");
        router.add_virtual(virt);
        router.remove_virtual(virt);
        assert!(router.is_local(virt) && router.answers(LinkId(0), virt));
        assert!(!router.answers(LinkId(1), virt), "another port's network does not hold it");
        router.remove_virtual(virt);
        router.remove_virtual(virt);
        assert!(!router.is_local(virt));
        router.remove_virtual(ip("10.77.1.1"));
        assert!(router.is_local(ip("10.77.1.1")));
        assert!(router.is_local(ip("10.91.0.200")) && !router.answers(LinkId(0), ip("10.91.0.2")));
    }

    #[test]
    fn egress_frames_asks_or_refuses() {
        let mut router = router();
        let hop = router.route(ip("10.77.2.11")).unwrap();
        let now = Instant::ZERO;
        let mut packet = datagram("10.5.0.1", "10.77.2.11");
        let resolve = Why::Resolve { link: LinkId(1), next: ip("10.77.2.11") };
        assert_eq!(router.egress(now, &mut packet, hop), Verdict::Punt(resolve));
        router.add_neighbour(now, LinkId(1), ip("10.77.2.11"), PEER);
        assert_eq!(router.egress(now, &mut packet, hop), Verdict::Transmit(LinkId(1)));
        let header = Ethernet::parse(packet.bytes()).unwrap();
        assert_eq!((header.dst, header.src), (PEER, Mac([2, 0, 0, 0, 1, 2])));
        let short = Hop { mtu: 27, ..hop };
        let mut packet = datagram("10.5.0.1", "10.77.2.11");
        let verdict = router.egress(now, &mut packet, short);
        assert!(matches!(verdict, Verdict::Punt(Why::TooLong { mtu: 27, .. })));
        packet.bytes_mut()[6] = 0x40;
        assert_eq!(router.egress(now, &mut packet, short), Verdict::Drop(DropReason::TooBig));
        let tun = Hop { link: LinkId(2), ..hop };
        assert_eq!(router.egress(now, &mut packet, tun), Verdict::Transmit(LinkId(2)));
        assert_eq!(packet.bytes()[0], 0x45);
    }
}
