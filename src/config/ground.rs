//! The ground state's funnel: [`Config::apply`].
//!
//! Kept from the kernel: the order of its checks and what `-E` and `-e` do with options that are not
//! given (the [`Command`] has them all); a server must be unicast, and of the other family only by
//! tunnel. The ports' networks stand for its routing table where it asks whether an address is a
//! broadcast address.

use std::net::IpAddr;

use crate::packet::{Endpoint, Family, Mac};
use crate::sched::{Scheduler, MH_SERVERS_MAX};

use super::index::{find, Index, Places};
use super::knob::Knob;
use super::marks::MarkRule;
use super::{
    Command, Config, DestSpec, LinkSettings, Method, PortConfig, PortKind, Prefix, Refusal,
    RouteTarget, ServiceKey, ServiceSpec,
};

/// The most ports of one tapvs.
pub(super) const PORTS_MAX: usize = 64;

/// The most `ip rule` lines and routes in tables; a marked packet is held against them.
const ROUTE_RULES_MAX: usize = 64;

/// The longest name of a network device, in bytes (`IFNAMSIZ` less its NUL).
pub(super) const NAME_MAX: usize = 15;

impl Config {
    /// Does what the command says, or nothing.
    ///
    /// # Errors
    /// Why it cannot be done; the state is then as it was.
    pub fn apply(&mut self, command: &Command) -> Result<(), Refusal> {
        self.apply_by(&mut Index::default(), command)
    }

    /// As [`apply`](Self::apply), for many commands one after another: `index` has seen all since the
    /// empty state.
    pub(super) fn apply_by(&mut self, index: &mut Index, command: &Command) -> Result<(), Refusal> {
        match command {
            Command::AddPort { name, kind } => self.add_port(name, kind),
            Command::SetLink { name, settings } => self.set_link(name, settings),
            Command::AddAddress { prefix, dev, replace } => {
                self.add_address(index, *prefix, dev, *replace)
            }
            Command::SetAddress { prefix, dev } => self.set_address(index, *prefix, dev),
            Command::RemoveAddress { addr, len, dev } => {
                self.remove_address(index, *addr, *len, dev)
            }
            Command::RemoveRoute { prefix, local, gateway, dev } => {
                index.routes().into_iter().for_each(Places::lose);
                self.remove_route(*prefix, *local, *gateway, dev.as_deref())
            }
            Command::AddRoute { prefix, target, replace } => {
                self.add_route(index, *prefix, target, *replace)
            }
            Command::AddNeighbour { addr, mac, dev, replace } => {
                self.add_neighbour(index, *addr, *mac, dev, *replace)
            }
            Command::AddMarkRule { rule, place } => self.add_mark_rule(rule, *place),
            Command::ClearMarkRules(family) => {
                self.marks.retain(|rule| rule.family != *family);
                Ok(())
            }
            Command::SetKnob { knob, value } => self.set_knob(*knob, *value),
            Command::AddService(spec) => self.add_service(spec),
            Command::EditService(spec) => {
                let known = self.services.get_mut(&spec.key).ok_or(Refusal::NoSuchService)?;
                check_service(spec)?;
                // Servers that are added later are beyond mh's table as well, and get nobody.
                let becomes = |kind| known.0.scheduler != kind && spec.scheduler == kind;
                if becomes(Some(Scheduler::Mh)) && known.1.len() > MH_SERVERS_MAX {
                    return Err(Refusal::TooManyServers);
                }
                known.0 = spec.clone();
                Ok(())
            }
            Command::DeleteService(key) => {
                index.lose_dests(key);
                self.services.remove(key).map(|_| ()).ok_or(Refusal::NoSuchService)
            }
            Command::Clear => {
                index.lose_services();
                self.services.clear();
                Ok(())
            }
            Command::AddDest(key, dest) => self.put_dest(index, key, dest, false),
            Command::EditDest(key, dest) => self.put_dest(index, key, dest, true),
            Command::DeleteDest(key, dest) => self.delete_dest(index, key, *dest),
            Command::SetFtpPorts(ports) => self.set_ftp_ports(ports),
            Command::StartDaemon(daemon) => self.start_daemon(daemon),
            Command::StopDaemon(role) => self.stop_daemon(*role),
            Command::SetTimeouts { tcp_s, tcp_fin_s, udp_s } => {
                let timeouts = &mut self.timeouts_s;
                for (place, value) in [
                    (&mut timeouts.tcp, *tcp_s),
                    (&mut timeouts.tcp_fin, *tcp_fin_s),
                    (&mut timeouts.udp, *udp_s),
                ] {
                    *place = if value == 0 { *place } else { value };
                }
                Ok(())
            }
        }
    }

    /// Whoever loads a module that is loaded changes nothing, and would not be told.
    fn set_ftp_ports(&mut self, ports: &[u16]) -> Result<(), Refusal> {
        let loads = !self.ftp_ports.is_empty() && !ports.is_empty();
        if loads && self.ftp_ports != ports {
            let why =
                "ip_vs_ftp is loaded already, with other ports; `modprobe -r ip_vs_ftp` first";
            return Err(Refusal::Host(why.to_owned()));
        }
        ports.clone_into(&mut self.ftp_ports);
        Ok(())
    }

    /// Whether a port of that name exists.
    pub fn has_port(&self, name: &str) -> bool {
        self.ports.iter().any(|port| port.name == name)
    }

    /// Why a route cannot be used, if it cannot: its gateway is ourselves, or lies on no port's network.
    /// Asked when everything has been said, since addresses may follow their routes.
    pub fn unreachable_gateway(&self, target: &RouteTarget) -> Option<String> {
        let RouteTarget::Via { gateway, dev } = target else { return None };
        let named = |port: &&PortConfig| dev.as_ref().is_none_or(|dev| *dev == port.name);
        let mut ports = self.ports.iter().filter(named);
        let link_local = matches!(gateway, IpAddr::V6(a) if a.is_unicast_link_local());
        // A link-local address of ours may be a neighbour's on another wire.
        let mut asked = self.ports.iter().filter(|port| !link_local || named(port));
        if asked.any(|port| port.addresses.iter().any(|own| own.addr == *gateway)) {
            return Some(format!("{gateway} is an address of ours; a gateway is a neighbour"));
        }
        if link_local && dev.is_some() {
            return None;
        }
        let near = |port: &PortConfig| port.addresses.iter().any(|own| own.contains(*gateway));
        if ports.any(near) {
            return None;
        }
        // A router beyond every network, as where each host has an address of /32, is on the wire by a
        // route that says so.
        let on_wire = self.routes.iter().filter_map(|(prefix, to)| match to {
            RouteTarget::Dev(port) if prefix.contains(*gateway) => Some((prefix.len, port)),
            _ => None,
        });
        let nearest = on_wire.max_by_key(|(len, _)| *len);
        let by_route = |(_, port)| dev.as_ref().is_none_or(|dev| dev == port);
        if nearest.is_some_and(by_route) {
            return None;
        }
        Some(match dev {
            Some(dev) => format!("the gateway {gateway} lies on no network of `{dev}`"),
            None => format!("the gateway {gateway} lies on no port's network"),
        })
    }

    fn port_mut(&mut self, name: &str) -> Result<&mut PortConfig, Refusal> {
        let found = self.ports.iter_mut().find(|port| port.name == name);
        found.ok_or_else(|| no_port(name))
    }

    fn add_port(&mut self, name: &str, kind: &PortKind) -> Result<(), Refusal> {
        if let Some(why) = bad_name(name) {
            return Err(Refusal::Host(why));
        }
        if self.has_port(name) {
            return Err(Refusal::Host(format!("the port `{name}` exists already")));
        }
        if self.ports.len() >= PORTS_MAX {
            return Err(Refusal::Host(format!("there are {PORTS_MAX} ports already")));
        }
        let masters = |port: &&PortConfig| port.settings.master.as_deref() == Some(name);
        if let Some(port) = self.ports.iter().find(masters) {
            return Err(not_its_bridge(&port.name, name));
        }
        let sits = |port: &&PortConfig| matches!(&port.kind, PortKind::Macvtap { lower, .. } if lower == name);
        if let Some(port) = self.ports.iter().find(sits) {
            let why =
                format!("`{}` sits on `{name}`, which is therefore no port of ours", port.name);
            return Err(Refusal::Host(why));
        }
        if let PortKind::Macvtap { lower, .. } = kind {
            self.check_lower(name, lower)?;
        }
        let (name, settings) = (name.to_owned(), LinkSettings::default());
        self.ports.push(PortConfig { name, kind: kind.clone(), settings, addresses: Vec::new() });
        Ok(())
    }

    /// A macvtap port sits on a real port that exists without us.
    fn check_lower(&self, name: &str, lower: &str) -> Result<(), Refusal> {
        if let Some(why) = bad_name(lower) {
            return Err(Refusal::Host(why));
        }
        if lower == name || self.has_port(lower) {
            let why = format!("`{name}` cannot sit on `{lower}`, which is a port of ours");
            return Err(Refusal::Host(why));
        }
        Ok(())
    }

    fn set_link(&mut self, name: &str, new: &LinkSettings) -> Result<(), Refusal> {
        let port = self.port_mut(name)?;
        if port.kind == PortKind::Tun && (new.mac.is_some() || new.master.is_some()) {
            let what = if new.mac.is_some() { "has no MAC address" } else { "joins no bridge" };
            return Err(Refusal::Host(format!("`{name}` is a TUN port, which {what}")));
        }
        if let (PortKind::Macvtap { lower, .. }, Some(_)) = (&port.kind, &new.master) {
            let why = format!("`{name}` sits on `{lower}` itself and joins no bridge");
            return Err(Refusal::Host(why));
        }
        if let Some(why) = new.master.as_deref().and_then(bad_name) {
            return Err(Refusal::Host(why));
        }
        if let Some(master) = new.master.as_deref().filter(|master| self.has_port(master)) {
            return Err(not_its_bridge(name, master));
        }
        let old = &mut self.port_mut(name)?.settings;
        old.mac = new.mac.or(old.mac);
        old.mtu = new.mtu.or(old.mtu);
        old.master = new.master.clone().or_else(|| old.master.take());
        Ok(())
    }

    fn add_address(
        &mut self,
        index: &mut Index,
        prefix: Prefix,
        dev: &str,
        replace: bool,
    ) -> Result<(), Refusal> {
        self.port_mut(dev)?;
        if !is_host(prefix.addr) || broadcast_of(prefix) == Some(prefix.addr) {
            return Err(Refusal::Host(format!("{} is no address of a host", prefix.addr)));
        }
        // In whatever order they are said: the rules as they are printed begin with addresses.
        let mut servers = self.services.values().flat_map(|(_, dests)| dests);
        let taken = broadcast_of(prefix).filter(|&addr| index.may_serve(addr));
        if taken.is_some_and(|addr| servers.any(|server| server.dest.addr == addr)) {
            return Err(Refusal::Host(format!(
                "the server {} has this network's broadcast address",
                taken.unwrap_or(prefix.addr)
            )));
        }
        for (number, port) in self.ports.iter_mut().enumerate() {
            let mut known = index.of_port(number);
            let own = known.as_deref_mut().map(|(own, _)| own);
            let Some(at) = find(own, &port.addresses, &prefix.addr, |own| own.addr) else {
                continue;
            };
            if replace && port.name == dev {
                port.addresses[at] = prefix;
                known.into_iter().for_each(|(_, broadcasts)| broadcasts.lose());
                return Ok(());
            }
            let why = format!("`{}` has the address {} already", port.name, prefix.addr);
            return Err(Refusal::Host(why));
        }
        self.port_mut(dev)?.addresses.push(prefix);
        Ok(())
    }

    /// `ifconfig` takes the old address away, and with it what was built upon it.
    fn set_address(&mut self, index: &mut Index, prefix: Prefix, dev: &str) -> Result<(), Refusal> {
        let port = self.port_mut(dev)?;
        match port.addresses.iter().find(|own| own.addr.is_ipv4()) {
            Some(own) if *own == prefix => Ok(()),
            Some(own) => Err(Refusal::Host(format!(
                "`{dev}` has the address {} already, which `ifconfig` would take away; \
                 `ifconfig {dev}:1` adds one, `ip addr del {own} dev {dev}` takes it away",
                own.addr
            ))),
            None => self.add_address(index, prefix, dev, false),
        }
    }

    fn remove_address(
        &mut self,
        index: &mut Index,
        addr: IpAddr,
        len: Option<u8>,
        dev: &str,
    ) -> Result<(), Refusal> {
        let own = &mut self.port_mut(dev)?.addresses;
        let place = own.iter().position(|p| p.addr == addr && len.is_none_or(|len| p.len == len));
        let Some(place) = place else {
            return Err(Refusal::Host(format!("`{dev}` has no such address")));
        };
        own.remove(place);
        index.lose_addresses();
        Ok(())
    }

    fn remove_route(
        &mut self,
        prefix: Prefix,
        local: bool,
        gateway: Option<IpAddr>,
        dev: Option<&str>,
    ) -> Result<(), Refusal> {
        let fits = |target: &RouteTarget| match target {
            RouteTarget::Local => local,
            RouteTarget::LocalIn(_) | RouteTarget::Rule { .. } => false,
            RouteTarget::Dev(port) => {
                !local && gateway.is_none() && dev.is_none_or(|dev| dev == port)
            }
            RouteTarget::Via { gateway: known, dev: port } => {
                let by = port.as_deref();
                !local
                    && gateway.is_none_or(|gateway| gateway == *known)
                    && (dev.is_none() || by.is_none() || dev == by)
            }
        };
        let place = self.routes.iter().position(|(known, to)| *known == prefix && fits(to));
        let Some(place) = place else {
            return Err(Refusal::Host(format!("there is no such route to {prefix}")));
        };
        self.routes.remove(place);
        Ok(())
    }

    /// How many `ip rule` lines and routes in tables there are.
    fn rules(&self) -> usize {
        self.routes.iter().filter(|(_, to)| to.is_by_mark()).count()
    }

    fn add_route(
        &mut self,
        index: &mut Index,
        prefix: Prefix,
        target: &RouteTarget,
        replace: bool,
    ) -> Result<(), Refusal> {
        match target {
            RouteTarget::Dev(dev) | RouteTarget::Via { dev: Some(dev), .. }
                if !self.has_port(dev) =>
            {
                return Err(no_port(dev));
            }
            RouteTarget::Via { gateway, .. } if !is_host(*gateway) => {
                return Err(Refusal::Host(format!("{gateway} is no address of a gateway")));
            }
            by_mark if by_mark.is_by_mark() && self.rules() >= ROUTE_RULES_MAX => {
                return Err(Refusal::Host(format!(
                    "there are {ROUTE_RULES_MAX} such rules already"
                )));
            }
            RouteTarget::Via { .. }
            | RouteTarget::Dev(_)
            | RouteTarget::Local
            | RouteTarget::LocalIn(_)
            | RouteTarget::Rule { .. } => {}
        }
        let key = (prefix, table_of(target));
        let found =
            find(index.routes(), &self.routes, &key, |(prefix, to)| (*prefix, table_of(to)));
        match found {
            None => self.routes.push((prefix, target.clone())),
            Some(place) if replace => self.routes[place].1 = target.clone(),
            Some(_) => {
                let why =
                    format!("a route to {prefix} exists already; `ip route replace` changes it");
                return Err(Refusal::Host(why));
            }
        }
        Ok(())
    }

    fn add_neighbour(
        &mut self,
        index: &mut Index,
        addr: IpAddr,
        mac: Mac,
        dev: &str,
        replace: bool,
    ) -> Result<(), Refusal> {
        self.neighbour_port(dev)?;
        if !is_host(addr) {
            return Err(Refusal::Host(format!("{addr} is no address of a neighbour")));
        }
        let ports = &self.ports;
        let number = |dev: &str| ports.iter().position(|port| port.name == dev);
        let key = (addr, number(dev));
        let known = index.neighbours();
        match find(known, &self.neighbours, &key, |(addr, _, dev)| (*addr, number(dev))) {
            None => self.neighbours.push((addr, mac, dev.to_owned())),
            Some(place) if replace => self.neighbours[place].1 = mac,
            Some(_) => {
                let why = format!(
                    "the neighbour {addr} exists already on `{dev}`; `ip neigh replace` changes it"
                );
                return Err(Refusal::Host(why));
            }
        }
        Ok(())
    }

    fn neighbour_port(&self, dev: &str) -> Result<(), Refusal> {
        match self.ports.iter().find(|port| port.name == dev).map(|port| &port.kind) {
            Some(PortKind::Tap | PortKind::Macvtap { .. }) => Ok(()),
            Some(PortKind::Tun) => {
                Err(Refusal::Host(format!("`{dev}` is a TUN port, which has no neighbours")))
            }
            None => Err(no_port(dev)),
        }
    }

    /// A rule about a port that is not there would never apply, so it is a mistake.
    fn add_mark_rule(&mut self, rule: &MarkRule, place: Option<usize>) -> Result<(), Refusal> {
        let port = rule.matches.in_port.as_ref().map(|port| &*port.want);
        if let Some(port) = port.filter(|port| !port.ends_with('+') && !self.has_port(port)) {
            return Err(no_port(port));
        }
        if let Some(why) = port.and_then(bad_name) {
            return Err(Refusal::Host(why));
        }
        let end = self.marks.len();
        let family = self.marks.iter().enumerate().filter(|(_, old)| old.family == rule.family);
        let places = family.map(|(at, _)| at).chain([end]);
        let at = match place {
            None => end,
            Some(number) => places.clone().nth(number - 1).ok_or_else(|| {
                Refusal::Host(format!("there are only {} such rules", places.clone().count() - 1))
            })?,
        };
        self.marks.insert(at, rule.clone());
        Ok(())
    }

    fn set_knob(&mut self, knob: Knob, value: i64) -> Result<(), Refusal> {
        let info = knob.info();
        if !(info.min..=info.max).contains(&value) {
            return Err(Refusal::Host(format!("illegal value `{value}`")));
        }
        match info.place {
            Some(place) => (place.set)(&mut self.knobs, value),
            None if info.default == Some(value) => {}
            None => {
                let why = format!("{} is known, not honoured in this version", info.name);
                return Err(Refusal::Host(why));
            }
        }
        Ok(())
    }

    fn dests_mut(&mut self, key: &ServiceKey) -> Result<&mut Vec<DestSpec>, Refusal> {
        let known = self.services.get_mut(key).ok_or(Refusal::ServiceNotDefined)?;
        Ok(&mut known.1)
    }

    fn add_service(&mut self, spec: &ServiceSpec) -> Result<(), Refusal> {
        if self.services.contains_key(&spec.key) {
            return Err(Refusal::ServiceExists);
        }
        check_service(spec)?;
        self.services.insert(spec.key, (spec.clone(), Vec::new()));
        Ok(())
    }

    /// `-a`, and `-e` if the server must exist; the checks in the kernel's order.
    fn put_dest(
        &mut self,
        index: &mut Index,
        key: &ServiceKey,
        dest: &DestSpec,
        edit: bool,
    ) -> Result<(), Refusal> {
        self.dests_mut(key)?;
        let mixed = Family::of(dest.dest.addr) != key.family();
        if mixed && (dest.method != Method::Tunnel || !self.sync.is_empty()) {
            return Err(Refusal::NotUnicast);
        }
        if dest.lower > dest.upper {
            return Err(Refusal::OutOfRange);
        }
        let dests = self.dests_mut(key)?;
        let known = index.dests(key, dests.len());
        let place = find(known, dests, &dest.dest, |known| known.dest);
        match place {
            Some(_) if !edit => return Err(Refusal::DestExists),
            None if edit => return Err(Refusal::NoSuchDest),
            Some(_) | None => {}
        }
        if !self.is_unicast(index, dest.dest.addr) {
            return Err(Refusal::NotUnicast);
        }
        index.serves(dest.dest.addr);
        let dests = self.dests_mut(key)?;
        match place {
            Some(place) => dests[place] = dest.clone(),
            None => dests.push(dest.clone()),
        }
        Ok(())
    }

    fn delete_dest(
        &mut self,
        index: &mut Index,
        key: &ServiceKey,
        dest: Endpoint,
    ) -> Result<(), Refusal> {
        let dests = self.dests_mut(key)?;
        let known = index.dests(key, dests.len());
        let place = find(known, dests, &dest, |known| known.dest).ok_or(Refusal::NoSuchDest)?;
        dests.remove(place);
        index.lose_dests(key);
        Ok(())
    }

    /// Whether a server may have this address: unicast, and not IPv6's link-local kind.
    fn is_unicast(&self, index: &mut Index, addr: IpAddr) -> bool {
        let mut ports = self.ports.iter().enumerate();
        let mut is_broadcast = || {
            ports.any(|(number, port)| {
                let known = index.of_port(number).map(|(_, broadcasts)| broadcasts);
                find(known, &port.addresses, &Some(addr), |own| broadcast_of(*own)).is_some()
            })
        };
        let link_local = matches!(addr, IpAddr::V6(a) if a.is_unicast_link_local());
        is_host(addr) && !link_local && !is_broadcast()
    }
}

/// In which table a route is, where there is place for one of each network: `None` is the main one. The
/// kernel keeps local networks in a table of their own.
fn table_of(target: &RouteTarget) -> Option<&RouteTarget> {
    let plain = matches!(target, RouteTarget::Via { .. } | RouteTarget::Dev(_));
    (!plain).then_some(target)
}

/// The kernel answers a prefix length of the mask that cannot be with EINVAL, as it does for the
/// address of a server; ipvsadm has one text for both.
fn check_service(spec: &ServiceSpec) -> Result<(), Refusal> {
    let v6 = spec.key.family() == Family::V6;
    if v6 && !(1..=128).contains(&spec.netmask) {
        return Err(Refusal::NotUnicast);
    }
    Ok(())
}

fn no_port(name: &str) -> Refusal {
    Refusal::Host(format!("there is no port `{name}`"))
}

/// Neither a port itself nor another one is a bridge that it could join.
fn not_its_bridge(port: &str, master: &str) -> Refusal {
    Refusal::Host(format!("`{master}` is a port, and no bridge that `{port}` could join"))
}

/// Neither unspecified nor multicast nor the broadcast address of all networks.
fn is_host(addr: IpAddr) -> bool {
    let broadcast = matches!(addr, IpAddr::V4(a) if a.is_broadcast());
    !addr.is_unspecified() && !addr.is_multicast() && !broadcast
}

/// The network's broadcast address; networks of one or two addresses have none.
fn broadcast_of(network: Prefix) -> Option<IpAddr> {
    let IpAddr::V4(own) = network.addr else { return None };
    let host_bits = u32::MAX.checked_shr(network.len.into()).unwrap_or(0);
    (network.len <= 30).then(|| IpAddr::V4((u32::from(own) | host_bits).into()))
}

/// Why a device cannot have this name, if it cannot. `%` would make the kernel count.
fn bad_name(name: &str) -> Option<String> {
    let strange = |c: char| c.is_whitespace() || c.is_control() || matches!(c, '/' | ':' | '%');
    if name.is_empty() || name == "." || name == ".." || name.contains(strange) {
        return Some(format!("`{name}` is no name for a device"));
    }
    if name == "lo" {
        return Some("`lo` is the loopback device, and no port or bridge".to_owned());
    }
    (name.len() > NAME_MAX)
        .then(|| format!("`{name}` has {} bytes; a device's name has at most 15", name.len()))
}
