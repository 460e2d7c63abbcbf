//! What is legal in a rules file and will not work: one sentence each, that says what will happen and
//! the cure.
//!
//! Each lint is one function and one row of a table: about a server, about a service, or about the
//! whole file. Kept from the kernel: which way a packet would take, by the longest prefix. Left out on
//! purpose: anything that would need the devices or the wire; only what the file itself tells, and
//! therefore nothing about who the clients are, beyond the network of the virtual address.

mod marks;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use super::check::service_name;
use crate::config::complaint::{Remark, Severity};
use crate::config::rules::{Places, Read};
use crate::config::{
    Config, DestSpec, Method, PortConfig, RouteTarget, ServiceKey, ServiceSpec, TunnelChecksum,
    TunnelType,
};
use crate::packet::{proto, Endpoint, Family};
use crate::world::{gathered, sort_by};

/// The lints of lines that are passed over.
const REAL_SERVER: &str = "real-server";
const NO_RULE: &str = "no-rule";

/// One thing that will not work.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Warning {
    /// From 1; `None` where it is about the whole file.
    line: Option<usize>,
    /// The sentence.
    text: String,
    /// The lint's name.
    lint: &'static str,
}

impl Warning {
    /// `FILE:LINE: SENTENCE [LINT]`.
    pub(super) fn shown(&self, file: &str) -> String {
        let line = self.line.map(|line| format!(":{line}")).unwrap_or_default();
        format!("{file}{line}: {} [{}]", self.text, self.lint)
    }

    /// The same for programs. Before the semicolon stands what will happen, behind it the cure; of a line
    /// that is passed over, only that it is.
    pub(super) fn remark(self) -> Remark {
        let Self { line, text, lint } = self;
        let (severity, parts) = match lint {
            REAL_SERVER | NO_RULE => (Severity::Note, None),
            _ => (Severity::Warning, text.split_once("; ")),
        };
        let (message, cure) = match parts {
            Some((message, cure)) => (message.to_owned(), Some(cure.to_owned())),
            None => (text, None),
        };
        Remark { line, at: None, severity, code: lint, message, cure }
    }
}

/// Everything that will not work, in the order of the file.
pub(super) fn warnings(read: &Read) -> Vec<Warning> {
    let view = View::new(&read.config);
    let mut found = Vec::new();
    for &(lint, look) in WHOLE {
        found.extend(look(&view).into_iter().map(|text| Warning { line: None, text, lint }));
    }
    for (key, (spec, dests)) in &read.config.services {
        let line = read.places.services.get(key).copied();
        for &(lint, look) in SERVICE {
            found.extend(look(&view, spec, dests).map(|text| Warning { line, text, lint }));
        }
        for dest in dests {
            found.extend(about_server(&view, spec, dest, &read.places));
        }
    }
    found.extend(read.asides.iter().map(|aside| Warning {
        line: Some(aside.line),
        text: aside.text.clone(),
        lint: if aside.real_server { REAL_SERVER } else { NO_RULE },
    }));
    sort_by(&mut found, Ord::cmp);
    found
}

/// The first lint that applies: one reason why a server will not work is enough.
fn about_server(
    view: &View<'_>,
    spec: &ServiceSpec,
    dest: &DestSpec,
    places: &Places,
) -> Option<Warning> {
    let place = places.dests.get(&(spec.key, dest.dest));
    let server = Server {
        virt: match spec.key {
            ServiceKey::Address { virt, .. } => Some(virt),
            ServiceKey::Mark { .. } => None,
        },
        family: spec.key.family(),
        dest,
        said_port: place.and_then(|place| place.port),
        glued_port: place.and_then(|place| place.glued_port),
    };
    let line = place.map(|place| place.line);
    let found = |&(lint, look): &(&'static str, ServerLint)| {
        look(view, &server).map(|text| Warning { line, text, lint })
    };
    SERVER.iter().find_map(found)
}

type ServerLint = fn(&View<'_>, &Server<'_>) -> Option<String>;
type ServiceLint = fn(&View<'_>, &ServiceSpec, &[DestSpec]) -> Option<String>;
type WholeLint = fn(&View<'_>) -> Vec<String>;

/// About one server, the plainest reason first.
const SERVER: &[(&str, ServerLint)] = &[
    ("brackets", brackets),
    ("loopback", loopback),
    ("own-address", own_address),
    ("virtual-server", virtual_server),
    ("port-ignored", port_ignored),
    ("port-zero", port_zero),
    ("far-direct", far_direct),
    ("no-route", no_route),
    ("nat-past-us", nat_past_us),
    ("nat-far", nat_far),
    ("tunnel-room", tunnel_room),
];

/// About one service with its servers.
const SERVICE: &[(&str, ServiceLint)] = &[
    ("no-server", no_server),
    ("all-drained", all_drained),
    ("weights-unheard", weights_unheard),
    ("call-id", call_id),
    ("no-forwarding", no_forwarding),
    ("lost-virtual", lost_virtual),
    ("no-host", no_host),
    ("no-mark", marks::no_mark),
    ("marked-stranger", marks::marked_stranger),
    ("marked-away", marks::marked_away),
    ("every-port", every_port),
    ("ftp-helper", ftp_helper),
];

/// About the file.
const WHOLE: &[(&str, WholeLint)] = &[("no-port", no_port), ("same-network", same_network)];

/// The state, and what is often asked of it.
struct View<'a> {
    config: &'a Config,
    own: BTreeMap<IpAddr, &'a str>,
    virt: BTreeSet<IpAddr>,
}

/// Where packets for an address would go.
enum Way<'a> {
    /// To a neighbour on this port.
    Near(&'a PortConfig),
    /// To a router, by the port whose network holds it.
    Gateway(IpAddr, Option<&'a PortConfig>),
    /// They are ours.
    Local,
    Nowhere,
}

/// A server of a service, and how it was written.
struct Server<'a> {
    virt: Option<Endpoint>,
    family: Family,
    dest: &'a DestSpec,
    said_port: Option<u16>,
    glued_port: Option<u16>,
}

impl<'a> View<'a> {
    fn new(config: &'a Config) -> Self {
        let own = config
            .ports
            .iter()
            .flat_map(|port| port.addresses.iter().map(|prefix| (prefix.addr, port.name.as_str())));
        let virt = config.services.keys().filter_map(|key| match key {
            ServiceKey::Address { virt, .. } => Some(virt.addr),
            ServiceKey::Mark { .. } => None,
        });
        Self { config, own: gathered(own), virt: gathered(virt) }
    }

    fn port(&self, name: &str) -> Option<&'a PortConfig> {
        self.config.ports.iter().find(|port| port.name == name)
    }

    /// The port that is nearest to `addr`, and how many bits of its network say so.
    fn near(&self, addr: IpAddr) -> Option<(u8, &'a PortConfig)> {
        let networks = self.config.ports.iter().flat_map(|port| {
            port.addresses.iter().filter(|own| own.contains(addr)).map(move |own| (own.len, port))
        });
        networks.max_by_key(|(len, _)| *len)
    }

    /// Of a network and a route of the same length the route counts.
    fn way(&self, addr: IpAddr) -> Way<'a> {
        let near = self.near(addr);
        let routes = self.config.routes.iter();
        let routes = routes.filter(|(prefix, to)| prefix.contains(addr) && !to.is_by_mark());
        let Some((prefix, target)) = routes.max_by_key(|(prefix, _)| prefix.len) else {
            return near.map_or(Way::Nowhere, |(_, port)| Way::Near(port));
        };
        match (near, target) {
            (Some((len, port)), _) if len > prefix.len => Way::Near(port),
            (_, RouteTarget::Local | RouteTarget::LocalIn(_) | RouteTarget::Rule { .. }) => {
                Way::Local
            }
            (_, RouteTarget::Dev(dev)) => self.port(dev).map_or(Way::Nowhere, Way::Near),
            (_, RouteTarget::Via { gateway, dev: Some(dev) }) => {
                Way::Gateway(*gateway, self.port(dev))
            }
            (_, RouteTarget::Via { gateway, dev: None }) => {
                Way::Gateway(*gateway, self.near(*gateway).map(|(_, port)| port))
            }
        }
    }
}

fn brackets(_: &View<'_>, server: &Server<'_>) -> Option<String> {
    let virt = server.virt?;
    let addr = server.dest.dest.addr;
    let whole = addr.to_string();
    let (host, _) = whole.rsplit_once(':')?;
    (server.glued_port? == virt.port).then(|| {
        format!(
            "{addr} is read as an address without a port, so packets go to a host that was \
             probably not meant; write `[{host}]:{}`",
            virt.port
        )
    })
}

fn loopback(_: &View<'_>, server: &Server<'_>) -> Option<String> {
    let addr = server.dest.dest.addr;
    addr.is_loopback().then(|| {
        format!(
            "{addr} is tapvs's own loopback, where nobody listens, so connections are refused: \
             tapvs is a host of its own; write the address by which the server is reached over a \
             port"
        )
    })
}

fn own_address(view: &View<'_>, server: &Server<'_>) -> Option<String> {
    let addr = server.dest.dest.addr;
    let port = view.own.get(&addr)?;
    Some(format!(
        "{addr} is tapvs's own address on {port}, where nobody listens, so connections are \
         refused; write the server's address, or give {port} another one"
    ))
}

fn virtual_server(view: &View<'_>, server: &Server<'_>) -> Option<String> {
    let addr = server.dest.dest.addr;
    if !view.virt.contains(&addr) && !matches!(view.way(addr), Way::Local) {
        return None;
    }
    Some(format!(
        "{addr} is a virtual address, for which tapvs answers itself, so connections end here; \
         write the address that the server alone has"
    ))
}

fn port_ignored(_: &View<'_>, server: &Server<'_>) -> Option<String> {
    let (said, virt) = (server.said_port?, server.virt?);
    let how = match server.dest.method {
        Method::Masq => return None,
        Method::Route => "direct routing",
        Method::Tunnel => "a tunnel",
    };
    (said != virt.port).then(|| {
        format!(
            "port {said} is ignored and packets keep port {}, since {how} cannot change it; let the \
             server listen on {}, or use NAT (`-m`)",
            virt.port, virt.port
        )
    })
}

fn port_zero(_: &View<'_>, server: &Server<'_>) -> Option<String> {
    let virt = server.virt?;
    let Endpoint { addr, port } = server.dest.dest;
    let nat = server.dest.method == Method::Masq;
    (nat && port == 0 && virt.port != 0).then(|| {
        format!(
            "packets go to port 0 of {addr}, where nobody can listen, since `-r` without a port \
             stands before the service; write `-r {}`",
            Endpoint::new(addr, virt.port)
        )
    })
}

fn far_direct(view: &View<'_>, server: &Server<'_>) -> Option<String> {
    let addr = server.dest.dest.addr;
    if server.dest.method != Method::Route {
        return None;
    }
    let where_to = match view.way(addr) {
        Way::Near(_) | Way::Local => return None,
        Way::Gateway(gateway, _) => format!("goes to the router {gateway}, which sends it back"),
        Way::Nowhere => "is lost".to_owned(),
    };
    let bits = Family::of(addr).bits();
    Some(format!(
        "{addr} is on no port's network, and what direct routing sends there {where_to}; use a \
         tunnel (`-i`), or say that it is on the wire: `ip route add {addr}/{bits} dev PORT`"
    ))
}

fn no_route(view: &View<'_>, server: &Server<'_>) -> Option<String> {
    let addr = server.dest.dest.addr;
    matches!(view.way(addr), Way::Nowhere).then(|| {
        // A TUN port has no gateway on it: the host at its other end takes what is sent there.
        let tun = view.config.ports.iter().find(|port| !port.kind.has_ethernet());
        let way = tun.map_or("via GATEWAY".to_owned(), |port| format!("dev {}", port.name));
        format!(
            "no route leads to {addr}, so its connections end as unreachable; \
             `ip route add {addr}/{} {way}` tells one",
            Family::of(addr).bits()
        )
    })
}

fn nat_past_us(view: &View<'_>, server: &Server<'_>) -> Option<String> {
    let (addr, virt) = (server.dest.dest.addr, server.virt?.addr);
    if server.dest.method != Method::Masq {
        return None;
    }
    let mut networks = view.config.ports.iter().flat_map(|port| &port.addresses);
    let shared = networks.find(|own| own.contains(addr) && own.contains(virt))?.network();
    Some(format!(
        "{addr} answers clients of {shared} directly and past tapvs, so they refuse its answers; put \
         the servers into a network of their own, or use direct routing (`-g`)"
    ))
}

fn nat_far(view: &View<'_>, server: &Server<'_>) -> Option<String> {
    let addr = server.dest.dest.addr;
    let Way::Gateway(gateway, _) = view.way(addr) else { return None };
    (server.dest.method == Method::Masq).then(|| {
        format!(
            "{addr} is behind the router {gateway}, and its answers are refused by clients unless \
             that router sends them to tapvs; let its default route lead here, or use a tunnel (`-i`)"
        )
    })
}

fn tunnel_room(view: &View<'_>, server: &Server<'_>) -> Option<String> {
    let dest = server.dest;
    if dest.method != Method::Tunnel {
        return None;
    }
    let (Way::Near(port) | Way::Gateway(_, Some(port))) = view.way(dest.dest.addr) else {
        return None;
    };
    let mtu = port.settings.mtu.unwrap_or(crate::engine::MTU_DEFAULT);
    let header = overhead(Family::of(dest.dest.addr), dest.tunnel);
    // RFC 791, section 3.1 and RFC 8200, section 5: what every link must carry.
    let (least, family) = match server.family {
        Family::V4 => (576, "IPv4"),
        Family::V6 => (1280, "IPv6"),
    };
    let room = mtu.saturating_sub(header);
    (room < least).then(|| {
        format!(
            "the tunnel to {} leaves {room} of the {mtu} bytes of {}, and {family} needs {least}, so \
             larger packets are lost; `ip link set dev {} mtu {}` makes room",
            dest.dest.addr,
            port.name,
            port.name,
            least.saturating_add(header)
        )
    })
}

/// Bytes that a tunnel puts in front of a packet.
const fn overhead(outer: Family, tunnel: TunnelType) -> u16 {
    let ip = match outer {
        Family::V4 => 20,
        Family::V6 => 40,
    };
    ip + match tunnel {
        TunnelType::Ipip => 0,
        TunnelType::Gre { checksum: TunnelChecksum::None } => 4,
        TunnelType::Gre { .. } => 8,
        TunnelType::Gue { checksum: TunnelChecksum::Remote, .. } => 8 + 4 + 8,
        TunnelType::Gue { .. } => 8 + 4,
    }
}

fn no_server(_: &View<'_>, spec: &ServiceSpec, dests: &[DestSpec]) -> Option<String> {
    let name = service_name(&spec.key);
    dests.is_empty().then(|| {
        format!(
            "{name} has no server, so whoever asks is turned away; `-a {} -r SERVER` adds one",
            spec.key
        )
    })
}

fn all_drained(_: &View<'_>, spec: &ServiceSpec, dests: &[DestSpec]) -> Option<String> {
    let drained = !dests.is_empty() && dests.iter().all(|dest| dest.weight == 0);
    drained.then(|| {
        format!(
            "every server of {} has weight 0, so new connections are refused; give one of them \
             `-w 1`",
            service_name(&spec.key)
        )
    })
}

/// The engine looks into datagrams alone, and without `-p` not at all.
fn call_id(_: &View<'_>, spec: &ServiceSpec, _: &[DestSpec]) -> Option<String> {
    let name = service_name(&spec.key);
    match (spec.key, spec.persistent_s) {
        _ if !spec.sip => None,
        (ServiceKey::Address { proto, .. }, Some(_)) if proto != proto::UDP => Some(format!(
            "{name} goes by the Call-ID of SIP over UDP, so nothing reaches a server; leave `--pe sip` out"
        )),
        (_, None) => Some(format!(
            "{name} has `--pe sip` without `-p`, so calls have no server of their own; add `-p`"
        )),
        (ServiceKey::Address { .. } | ServiceKey::Mark { .. }, Some(_)) => None,
    }
}

fn no_forwarding(view: &View<'_>, spec: &ServiceSpec, dests: &[DestSpec]) -> Option<String> {
    let knobs = &view.config.knobs;
    let (on, knob) = match spec.key.family() {
        Family::V4 => (knobs.ip_forward, "net.ipv4.ip_forward"),
        Family::V6 => (knobs.ip6_forward, "net.ipv6.conf.all.forwarding"),
    };
    let nat = dests.iter().any(|dest| dest.method == Method::Masq);
    (nat && !on).then(|| {
        format!(
            "forwarding is off, so the answers of {}'s NAT servers are dropped; write `{knob} = 1`",
            service_name(&spec.key)
        )
    })
}

fn lost_virtual(view: &View<'_>, spec: &ServiceSpec, _: &[DestSpec]) -> Option<String> {
    let ServiceKey::Address { virt: Endpoint { addr, .. }, .. } = spec.key else { return None };
    // What the kernel routes to a TUN port needs no neighbour that asks for the address.
    let asked = view.config.ports.iter().all(|port| port.kind.has_ethernet());
    let known = view.near(addr).is_some() || matches!(view.way(addr), Way::Local);
    (asked && !known && !view.config.ports.is_empty()).then(|| {
        format!(
            "{addr} is on no port's network, so no neighbour finds it; give a port an address of its \
             network, or, if a router sends it here, write `ip route add local {addr}/{} dev lo`",
            Family::of(addr).bits()
        )
    })
}

/// RFC 1122, section 3.2.1.3. Networks of one or two addresses have neither.
fn no_host(view: &View<'_>, spec: &ServiceSpec, _: &[DestSpec]) -> Option<String> {
    let ServiceKey::Address { virt: Endpoint { addr: IpAddr::V4(addr), .. }, .. } = spec.key else {
        return None;
    };
    let mut networks = view.config.ports.iter().flat_map(|port| &port.addresses);
    let (network, why) = networks.find_map(|own| {
        let bits = u32::MAX.checked_shr(own.len.into()).filter(|_| own.len <= 30)?;
        let why = match u32::from(addr) & bits {
            _ if !own.contains(addr.into()) => return None,
            0 => "the address of the network itself, to which many hosts send nothing",
            all if all == bits => "the broadcast address, and packets to it are dropped",
            _ => return None,
        };
        Some((own.network(), why))
    })?;
    Some(format!("{addr} is, of {network}, {why}; take the address of a host"))
}

/// A scheduler that only asks whether a weight is 0 is often taken for one that heeds it.
fn weights_unheard(_: &View<'_>, spec: &ServiceSpec, dests: &[DestSpec]) -> Option<String> {
    let scheduler = spec.scheduler?.name();
    let better = match scheduler {
        "rr" => "wrr",
        "lc" => "wlc",
        _ => return None,
    };
    let mut weights = dests.iter().map(|dest| dest.weight).filter(|weight| *weight > 0);
    let first = weights.next()?;
    weights.any(|weight| weight != first).then(|| {
        format!(
            "the servers of {} have different weights, and `{}` asks only whether one is 0, so each gets \
             the same; `-s {better}` heeds them",
            service_name(&spec.key),
            scheduler
        )
    })
}

fn every_port(view: &View<'_>, spec: &ServiceSpec, _: &[DestSpec]) -> Option<String> {
    let ServiceKey::Address { proto, virt } = spec.key else { return None };
    let every = ServiceKey::Address { proto, virt: Endpoint::new(virt.addr, 0) };
    (virt.port != 0 && view.config.services.contains_key(&every)).then(|| {
        format!(
            "port {} of {} is taken from the service for every port, so a client of both may get \
             two different servers; use one service, or one mark for all the ports",
            virt.port, virt.addr
        )
    })
}

fn ftp_helper(view: &View<'_>, spec: &ServiceSpec, dests: &[DestSpec]) -> Option<String> {
    let ServiceKey::Address { proto: proto::TCP, virt } = spec.key else { return None };
    let masq = dests.iter().any(|dest| dest.method == Method::Masq);
    (virt.port == 21 && masq && !view.config.ftp_ports.contains(&21)).then(|| {
        "FTP's data connections will not pass through NAT: nobody translates the addresses that client \
         and server tell each other; `modprobe ip_vs_ftp` does"
            .to_owned()
    })
}

fn no_port(view: &View<'_>) -> Vec<String> {
    let none = view.config.ports.is_empty().then(|| {
        "there is no port, so nothing is balanced; `ip tuntap add dev NAME mode tap` makes one"
            .to_owned()
    });
    none.into_iter().collect()
}

fn same_network(view: &View<'_>) -> Vec<String> {
    let mut first: BTreeMap<_, &str> = BTreeMap::new();
    let mut found = BTreeSet::new();
    for port in &view.config.ports {
        for network in port.addresses.iter().map(|own| own.network()) {
            let holder = *first.entry(network).or_insert(&port.name);
            if holder != port.name {
                found.insert(format!(
                    "{network} is on {holder} and on {}, so packets for it leave by one of them \
                     only; put both into one bridge, or divide the network",
                    port.name
                ));
            }
        }
    }
    found.into_iter().collect()
}
