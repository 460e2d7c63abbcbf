//! What the real servers need, as a shell script: the virtual address on `lo` and silence about it
//! (direct routing), the way back through the director (NAT), the tunnel's end (tunnel).
//!
//! The script may be run again without harm. For one server it is that server's commands; for all it
//! has a block each, which acts only where the server's address lives, so the same file can go to
//! every server.
//!
//! Kept from the kernel: the names of its sysctls and devices. Left out on purpose: making it last
//! beyond a reboot, which every distribution does in its own way.

use std::fmt::{self, Write};
use std::net::IpAddr;

use crate::config::{Config, DestSpec, Method, Prefix, RouteTarget, ServiceKey, TunnelType};
use crate::packet::{Endpoint, Family};

/// The script for the real server `only`, or for all of them; `None` if there is no such server.
pub(super) fn script(config: &Config, file: &str, only: Option<IpAddr>) -> Option<String> {
    let mut servers = servers(config);
    servers.retain(|server| only.is_none_or(|addr| addr == server.addr));
    if servers.is_empty() && only.is_some() {
        return None;
    }
    let mut out = format!(
        "#!/bin/sh\n# Made by `tapvs realserver -r {file}`; may be run again without harm.\n"
    );
    for server in &servers {
        let lines = server.lines(config);
        write_block(&mut out, server.addr, &lines, only.is_none())
            .expect("writing to a string does not fail");
    }
    if servers.is_empty() {
        out.push_str("# There is no real server.\n");
    }
    Some(out)
}

/// Writes one server's commands; guarded, they act only on the host that has the address.
fn write_block(out: &mut String, addr: IpAddr, lines: &[String], guarded: bool) -> fmt::Result {
    writeln!(out, "\n# ---- real server {addr} ----")?;
    if !guarded {
        return lines.iter().try_for_each(|line| writeln!(out, "{line}"));
    }
    writeln!(out, "if [ -n \"$(ip -o addr show to {addr})\" ]; then")?;
    for line in lines {
        writeln!(out, "    {line}")?;
    }
    writeln!(out, "fi")
}

/// A real server's address and what comes to it.
struct Server {
    addr: IpAddr,
    /// The ways that packets for a virtual address come, each once.
    ways: Vec<Way>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Way {
    virt: Virtual,
    method: Method,
    tunnel: TunnelType,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Virtual {
    Address(IpAddr),
    /// A service by firewall mark says which family, but no address.
    Mark(Family),
}

impl Virtual {
    const fn family(self) -> Family {
        match self {
            Self::Address(addr) => Family::of(addr),
            Self::Mark(family) => family,
        }
    }
}

/// The real servers in the order of the rules.
fn servers(config: &Config) -> Vec<Server> {
    let mut servers: Vec<Server> = Vec::new();
    for (service, dests) in config.services.values() {
        let virt = match service.key {
            ServiceKey::Address { virt: Endpoint { addr, .. }, .. } => Virtual::Address(addr),
            ServiceKey::Mark { family, .. } => Virtual::Mark(family),
        };
        for dest in dests {
            let way = way(virt, dest);
            match servers.iter_mut().find(|server| server.addr == dest.dest.addr) {
                Some(server) if server.ways.contains(&way) => {}
                Some(server) => server.ways.push(way),
                None => servers.push(Server { addr: dest.dest.addr, ways: vec![way] }),
            }
        }
    }
    servers
}

fn way(virt: Virtual, dest: &DestSpec) -> Way {
    let tunnel = match dest.method {
        Method::Tunnel => dest.tunnel,
        Method::Masq | Method::Route => TunnelType::Ipip,
    };
    Way { virt, method: dest.method, tunnel }
}

impl Server {
    fn lines(&self, config: &Config) -> Vec<String> {
        let mut lines = Vec::new();
        if is_own(config, self.addr) {
            lines.push(
                "# This is an address of the director itself; it serves what is local.".into(),
            );
            return lines;
        }
        if self.uses(Method::Masq) {
            self.gateway(config, &mut lines);
        }
        if self.uses(Method::Route) || self.uses(Method::Tunnel) {
            self.virtual_addresses(config, &mut lines);
        }
        if self.uses(Method::Tunnel) {
            self.tunnels(&mut lines);
        }
        lines
    }

    fn uses(&self, method: Method) -> bool {
        self.ways.iter().any(|way| way.method == method)
    }

    /// NAT: answers must come back through the director, which is the default gateway therefore.
    fn gateway(&self, config: &Config, lines: &mut Vec<String>) {
        lines.push("# NAT: answers go back through the director.".into());
        let family = Family::of(self.addr);
        let flag = flag(family);
        if let Some(ours) = our_address(config, self.addr) {
            lines.push(format!("ip{flag} route replace default via {ours}"));
            return;
        }
        let ours: Vec<_> = config
            .ports
            .iter()
            .flat_map(|port| &port.addresses)
            .filter(|prefix| Family::of(prefix.addr) == family)
            .map(|prefix| prefix.addr.to_string())
            .collect();
        let ours = if ours.is_empty() { "none".to_owned() } else { ours.join(", ") };
        lines.push(format!(
            "# {} is on no network of the director: routers between them must lead its answers",
            self.addr
        ));
        lines.push(format!("# to the director, whose addresses are: {ours}."));
    }

    /// Direct routing and tunnels: packets come for the virtual address itself, so this host must
    /// have it, and must not tell the network so.
    fn virtual_addresses(&self, config: &Config, lines: &mut Vec<String>) {
        lines.push(
            "# The virtual address is this host's too, and it answers clients itself.".into(),
        );
        let mut told: Vec<Virtual> = Vec::new();
        for way in self.ways.iter().filter(|way| way.method != Method::Masq) {
            if told.contains(&way.virt) {
                continue;
            }
            told.push(way.virt);
            match way.virt {
                Virtual::Address(addr) => lines.push(match Family::of(addr) {
                    Family::V4 => format!("ip addr replace {addr}/32 dev lo"),
                    Family::V6 => format!("ip -6 addr replace {addr}/128 dev lo nodad"),
                }),
                Virtual::Mark(family) => mark_networks(config, family, lines),
            }
        }
        if told.iter().any(|virt| virt.family() == Family::V4) {
            lines.push("# Only the director answers ARP for it.".into());
            lines.push("sysctl -w net.ipv4.conf.all.arp_ignore=1".into());
            lines.push("sysctl -w net.ipv4.conf.all.arp_announce=2".into());
            lines.push(format!(
                "DEV=${{DEV:-$(ip -o addr show to {} | awk '{{ print $2; exit }}')}}",
                self.addr
            ));
            for knob in ["arp_ignore=1", "arp_announce=2"] {
                lines.push(format!("[ -z \"$DEV\" ] || sysctl -w \"net/ipv4/conf/$DEV/{knob}\""));
            }
        }
    }

    /// The end of each kind of tunnel that leads here.
    fn tunnels(&self, lines: &mut Vec<String>) {
        let mut told: Vec<(TunnelType, Family)> = Vec::new();
        for way in self.ways.iter().filter(|way| way.method == Method::Tunnel) {
            let kind = (way.tunnel, way.virt.family());
            if !told.contains(&kind) {
                told.push(kind);
                tunnel_end(self.addr, way.tunnel, way.virt.family(), lines);
            }
        }
    }
}

/// A service by firewall mark may be for any address of the director's own networks, and is for those
/// that the rules for marks name.
fn mark_networks(config: &Config, family: Family, lines: &mut Vec<String>) {
    let flag = flag(family);
    lines.push("# A firewall mark names no address: these are the director's own networks.".into());
    let local = config.routes.iter().filter(|(prefix, target)| {
        *target == RouteTarget::Local && Family::of(prefix.addr) == family
    });
    let mut told: Vec<Prefix> = local.map(|(prefix, _)| prefix.network()).collect();
    for rule in config.marks.iter().filter(|rule| rule.family == family) {
        let Some(dst) = rule.matches.dst.as_ref().filter(|dst| !dst.not) else { continue };
        if !told.iter().any(|net| net.len <= dst.want.len && net.contains(dst.want.addr)) {
            told.push(dst.want.network());
        }
    }
    lines.extend(told.iter().map(|net| format!("ip{flag} route replace local {net} dev lo")));
}

/// Takes the outer header off: by the kernel where it can, else by us.
fn tunnel_end(addr: IpAddr, tunnel: TunnelType, inner: Family, lines: &mut Vec<String>) {
    let outer = Family::of(addr);
    let (name, kind) = device(tunnel, inner, outer);
    lines.push("# The tunnel's end; clients are not reached through it, and need not be.".into());
    if let TunnelType::Gue { port, .. } = tunnel {
        let flag = flag(outer);
        lines.push(format!(
            "ip{flag} fou show | grep -qw {port} || ip{flag} fou add port {port} gue || true"
        ));
    }
    let make = format!("ip link add name {name} type {kind} local {addr}");
    let make = match tunnel {
        TunnelType::Gue { port, .. } => {
            format!("{make} encap gue encap-sport auto encap-dport {port}")
        }
        TunnelType::Ipip | TunnelType::Gre { .. } => make,
    };
    if inner == Family::V4 {
        lines.push("sysctl -w net.ipv4.conf.all.rp_filter=0".into());
    }
    lines.push(format!("if ip link show {name} >/dev/null 2>&1 || {make}; then"));
    lines.push(format!("    ip link set {name} up"));
    if inner == Family::V4 {
        lines.push(format!("    sysctl -w net.ipv4.conf.{name}.rp_filter=0"));
    }
    let gue_port = match tunnel {
        TunnelType::Gue { port, .. } => format!(" --gue-port {port}"),
        TunnelType::Ipip | TunnelType::Gre { .. } => String::new(),
    };
    lines.push("elif ! ip link show tapvs0 >/dev/null 2>&1; then".into());
    lines.push(format!(
        "    echo 'this kernel has no such tunnel; leave running: tapvs realserver --decap\
         {gue_port}' >&2"
    ));
    lines.push("fi".into());
}

/// The name that the tunnel's device gets, and the kernel's name for its kind.
const fn device(tunnel: TunnelType, inner: Family, outer: Family) -> (&'static str, &'static str) {
    match (tunnel, outer, inner) {
        (TunnelType::Ipip, Family::V4, Family::V4) => ("ipvs-4in4", "ipip"),
        (TunnelType::Ipip, Family::V4, Family::V6) => ("ipvs-6in4", "sit"),
        (TunnelType::Ipip, Family::V6, Family::V4) => ("ipvs-4in6", "ip6tnl mode ipip6"),
        (TunnelType::Ipip, Family::V6, Family::V6) => ("ipvs-6in6", "ip6tnl mode ip6ip6"),
        (TunnelType::Gre { .. }, Family::V4, _) => ("ipvs-gre", "gre"),
        (TunnelType::Gre { .. }, Family::V6, _) => ("ipvs-gre6", "ip6gre"),
        (TunnelType::Gue { .. }, Family::V4, Family::V4) => ("ipvs-gue", "ipip"),
        (TunnelType::Gue { .. }, Family::V4, Family::V6) => ("ipvs-gue-sit", "sit"),
        (TunnelType::Gue { .. }, Family::V6, _) => ("ipvs-gue6", "ip6tnl mode any"),
    }
}

const fn flag(family: Family) -> &'static str {
    match family {
        Family::V4 => "",
        Family::V6 => " -6",
    }
}

fn is_own(config: &Config, addr: IpAddr) -> bool {
    config.ports.iter().flat_map(|port| &port.addresses).any(|prefix| prefix.addr == addr)
}

/// Our address on the smallest network of ours that holds `addr`.
fn our_address(config: &Config, addr: IpAddr) -> Option<IpAddr> {
    let networks = config.ports.iter().flat_map(|port| &port.addresses);
    let mut best = None;
    for prefix in networks.filter(|prefix| prefix.contains(addr)) {
        if best.is_none_or(|(len, _)| prefix.len > len) {
            best = Some((prefix.len, prefix.addr));
        }
    }
    best.map(|(_, addr)| addr)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{LinkSettings, PortConfig, PortKind, ServiceSpec};
    use crate::packet::proto;
    use crate::sched::Scheduler;

    fn addr(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    fn config(services: &[(&str, &[(&str, Method)])]) -> Config {
        let prefix = |text, len| Prefix { addr: addr(text), len };
        let port = PortConfig {
            name: "tap-lan".to_owned(),
            kind: PortKind::Tap,
            settings: LinkSettings::default(),
            addresses: vec![
                prefix("10.0.0.254", 8),
                prefix("10.77.2.1", 24),
                prefix("fd77:2::1", 64),
            ],
        };
        let service = |&(virt, dests): &(&str, &[(&str, Method)])| {
            let key =
                ServiceKey::Address { proto: proto::TCP, virt: Endpoint::new(addr(virt), 80) };
            let spec = ServiceSpec {
                key,
                scheduler: Some(Scheduler::Rr),
                sched_flags: 0,
                persistent_s: None,
                netmask: u32::MAX,
                one_packet: false,
                sip: false,
            };
            let dest = |&(dest, method): &(&str, Method)| DestSpec {
                dest: Endpoint::new(addr(dest), 80),
                method,
                weight: 1,
                upper: 0,
                lower: 0,
                tunnel: TunnelType::Ipip,
            };
            (key, (spec, dests.iter().map(dest).collect()))
        };
        Config {
            ports: vec![port],
            services: services.iter().map(service).collect(),
            ..Config::default()
        }
    }

    fn of(config: &Config, server: &str) -> String {
        script(config, "f", Some(addr(server))).expect("there is such a server")
    }

    #[test]
    fn nat_sends_answers_through_our_address_on_the_servers_network() {
        let config = config(&[
            ("10.77.1.100", &[("10.77.2.11", Method::Masq), ("192.0.2.1", Method::Masq)]),
            ("fd77:1::100", &[("fd77:2::11", Method::Masq)]),
        ]);
        assert!(of(&config, "10.77.2.11").contains("\nip route replace default via 10.77.2.1\n"));
        assert!(of(&config, "fd77:2::11").contains("\nip -6 route replace default via fd77:2::1\n"));
        let far = of(&config, "192.0.2.1");
        assert!(far.contains("on no network of the director") && !far.contains("route replace"));
    }

    #[test]
    fn direct_routing_puts_each_virtual_address_on_lo_once_and_keeps_it_quiet() {
        let config = config(&[
            ("10.77.2.100", &[("10.77.2.11", Method::Route)]),
            ("10.77.2.100", &[("10.77.2.11", Method::Route)]),
            ("fd77:2::100", &[("10.77.2.11", Method::Route)]),
        ]);
        let expected = "\
#!/bin/sh
# Made by `tapvs realserver -r f`; may be run again without harm.

# ---- real server 10.77.2.11 ----
# The virtual address is this host's too, and it answers clients itself.
ip addr replace 10.77.2.100/32 dev lo
ip -6 addr replace fd77:2::100/128 dev lo nodad
# Only the director answers ARP for it.
sysctl -w net.ipv4.conf.all.arp_ignore=1
sysctl -w net.ipv4.conf.all.arp_announce=2
DEV=${DEV:-$(ip -o addr show to 10.77.2.11 | awk '{ print $2; exit }')}
[ -z \"$DEV\" ] || sysctl -w \"net/ipv4/conf/$DEV/arp_ignore=1\"
[ -z \"$DEV\" ] || sysctl -w \"net/ipv4/conf/$DEV/arp_announce=2\"
";
        assert_eq!(of(&config, "10.77.2.11"), expected);
    }

    #[test]
    fn a_tunnel_ends_in_the_kernel_or_in_us() {
        let config = config(&[
            ("10.77.1.100", &[("10.77.3.11", Method::Tunnel), ("fd77:3::11", Method::Tunnel)]),
            ("fd77:1::100", &[("10.77.3.11", Method::Tunnel), ("fd77:3::11", Method::Tunnel)]),
        ]);
        let over_v4 = of(&config, "10.77.3.11");
        assert!(over_v4.contains("ip addr replace 10.77.1.100/32 dev lo"));
        assert!(over_v4.contains("ip link add name ipvs-4in4 type ipip local 10.77.3.11;"));
        assert!(over_v4.contains("ip link add name ipvs-6in4 type sit local 10.77.3.11;"));
        assert!(over_v4.contains("net.ipv4.conf.ipvs-4in4.rp_filter=0"));
        assert!(over_v4.contains("tapvs realserver --decap"));
        let over_v6 = of(&config, "fd77:3::11");
        assert!(over_v6.contains("type ip6tnl mode ipip6 local fd77:3::11;"));
        assert!(over_v6.contains("type ip6tnl mode ip6ip6 local fd77:3::11;"));
    }

    #[test]
    fn one_script_for_all_acts_only_where_a_servers_address_lives() {
        let config = config(&[(
            "10.77.1.100",
            &[("10.77.2.11", Method::Masq), ("10.77.2.12", Method::Masq)],
        )]);
        let all = script(&config, "f", None).expect("it is for all");
        assert_eq!(all.matches("if [ -n \"$(ip -o addr show to 10.77.2.1").count(), 2);
        assert_eq!(script(&config, "f", Some(addr("10.9.9.9"))), None);
    }

    #[test]
    fn a_server_that_is_the_director_itself_needs_nothing() {
        let config = config(&[("10.77.1.100", &[("10.77.2.1", Method::Masq)])]);
        assert!(of(&config, "10.77.2.1").ends_with("it serves what is local.\n"));
    }
}
