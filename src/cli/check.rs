//! A rules file in plain words: ports, routes, services, and what will be answered for.
//!
//! Kept from the kernel: names as `ipvsadm` and `ip` print them. Left out on purpose: anything that
//! would need the devices; this room sees the rules alone.

use std::collections::BTreeSet;
use std::fmt::{self, Write};
use std::net::IpAddr;

use crate::config::knob::KNOBS;
use crate::config::{
    Config, DestSpec, Method, PortConfig, PortKind, Prefix, RouteTarget, ServiceKey, ServiceSpec,
};
use crate::packet::{proto, Endpoint, Family};
use crate::world::gathered;

/// Explains `config`, which was read from `file`.
pub(super) fn explanation(file: &str, config: &Config) -> String {
    let mut out = String::new();
    write_all(&mut out, file, config).expect("writing to a string does not fail");
    out
}

fn write_all(out: &mut String, file: &str, config: &Config) -> fmt::Result {
    let file = if file == "-" { "standard input" } else { file };
    writeln!(out, "{file}: fine")?;
    if config.ports.is_empty() {
        let cure = "`ip tuntap add dev NAME mode tap` makes one";
        writeln!(out, "\nWarning: there is no port, so nothing is balanced; {cure}.")?;
    }
    heading(out, "Ports", config.ports.is_empty())?;
    for port in &config.ports {
        write_port(out, port)?;
    }
    heading(out, "Routes", config.routes.is_empty())?;
    for (prefix, target) in &config.routes {
        write_route(out, prefix, target)?;
    }
    heading(out, "Neighbours told", config.neighbours.is_empty())?;
    for (addr, mac, dev) in &config.neighbours {
        writeln!(out, "  {addr} is {mac} on {dev}")?;
    }
    heading(out, "Marks, in this order", config.marks.is_empty())?;
    for rule in &config.marks {
        writeln!(out, "  {rule}")?;
    }
    let moot: Vec<_> = moot_settings(config).collect();
    heading(out, "Settings that change nothing here", moot.is_empty())?;
    moot.iter().try_for_each(|line| writeln!(out, "  {line}"))?;
    heading(out, "Looked into", config.ftp_ports.is_empty())?;
    for port in &config.ftp_ports {
        writeln!(out, "  FTP on port {port}, for data connections through NAT")?;
    }
    heading(out, "Services", config.services.is_empty())?;
    for (service, dests) in config.services.values() {
        write_service(out, service, dests)?;
    }
    let answers = answers(config);
    heading(out, "Answers for", answers.is_empty())?;
    answers.iter().try_for_each(|line| writeln!(out, "  {line}"))
}

/// One line for each sysctl that was set and has nothing to do.
fn moot_settings(config: &Config) -> impl Iterator<Item = String> + '_ {
    let defaults = Config::default();
    KNOBS.iter().filter_map(move |info| {
        let (place, why) = (info.place?, info.moot?);
        let value = (place.get)(&config.knobs);
        let set = value != (place.get)(&defaults.knobs);
        set.then(|| format!("{} = {value}: {why}", info.name))
    })
}

fn heading(out: &mut String, text: &str, is_empty: bool) -> fmt::Result {
    if is_empty {
        return Ok(());
    }
    writeln!(out, "\n{text}")
}

fn write_port(out: &mut String, port: &PortConfig) -> fmt::Result {
    let kind = match &port.kind {
        PortKind::Tap => "TAP",
        PortKind::Tun => "TUN",
        PortKind::Macvtap { .. } => "macvtap",
    };
    write!(out, "  {}: {kind}", port.name)?;
    if let PortKind::Macvtap { lower, mode } = &port.kind {
        write!(out, " on {lower}, mode {}", mode.name())?;
    }
    if let Some(mac) = port.settings.mac {
        write!(out, ", our MAC {mac}")?;
    }
    if let Some(mtu) = port.settings.mtu {
        write!(out, ", MTU {mtu}")?;
    }
    if let Some(master) = &port.settings.master {
        write!(out, ", in bridge {master}")?;
    }
    writeln!(out)?;
    port.addresses.iter().try_for_each(|prefix| writeln!(out, "    {prefix}"))
}

fn write_route(out: &mut String, prefix: &Prefix, target: &RouteTarget) -> fmt::Result {
    let network = if prefix.len == 0 { "everything else".to_owned() } else { prefix.to_string() };
    match target {
        RouteTarget::Via { gateway, dev: None } => writeln!(out, "  {network}: by {gateway}"),
        RouteTarget::Via { gateway, dev: Some(dev) } => {
            writeln!(out, "  {network}: by {gateway} on {dev}")
        }
        RouteTarget::Dev(dev) => writeln!(out, "  {network}: directly on {dev}"),
        RouteTarget::Local => writeln!(out, "  {network}: all of it is ours"),
        RouteTarget::LocalIn(table) => {
            writeln!(out, "  {network}: ours for packets that ask table {table}")
        }
        RouteTarget::Rule { mark, mask, table } => {
            writeln!(out, "  packets marked {mark:#x}/{mask:#x} ask table {table}")
        }
    }
}

fn write_service(out: &mut String, service: &ServiceSpec, dests: &[DestSpec]) -> fmt::Result {
    write!(out, "  {}", service_name(&service.key))?;
    match service.scheduler {
        Some(scheduler) => write!(out, ", scheduler {}", scheduler.name())?,
        None => write!(out, ", scheduler none: nothing new is accepted")?,
    }
    if let Some(seconds) = service.persistent_s {
        write!(out, ", a client stays with its server for {seconds} s")?;
    }
    if service.one_packet {
        write!(out, ", each packet on its own")?;
    }
    writeln!(out)?;
    if dests.is_empty() {
        return writeln!(out, "    no server: whoever asks is turned away");
    }
    for dest in dests {
        let method = match dest.method {
            Method::Masq => "NAT (Masq)",
            Method::Tunnel => "in a tunnel (Tunnel)",
            Method::Route => "direct routing (Route)",
        };
        write!(out, "    -> {}, {method}, weight {}", dest.dest, dest.weight)?;
        if dest.weight == 0 {
            write!(out, ": nothing new")?;
        }
        if dest.upper > 0 {
            write!(out, ", at most {} connections", dest.upper)?;
        }
        writeln!(out)?;
    }
    Ok(())
}

/// A service in words.
pub(super) fn service_name(key: &ServiceKey) -> String {
    match *key {
        ServiceKey::Address { proto, virt } => {
            let proto = match proto {
                proto::TCP => "TCP",
                proto::UDP => "UDP",
                proto::SCTP => "SCTP",
                _ => "IP",
            };
            match virt {
                Endpoint { addr, port: 0 } => format!("{proto} {addr}, every port"),
                virt => format!("{proto} {virt}"),
            }
        }
        ServiceKey::Mark { family: Family::V4, mark } => format!("firewall mark {mark}"),
        ServiceKey::Mark { family: Family::V6, mark } => format!("firewall mark {mark} (IPv6)"),
    }
}

/// One line for each address of ours: where neighbours will find it.
fn answers(config: &Config) -> Vec<String> {
    let own = config.ports.iter().flat_map(|port| {
        port.addresses.iter().map(move |prefix| {
            let how = match (port.kind.has_ethernet(), Family::of(prefix.addr)) {
                (false, _) => "",
                (true, Family::V4) => ", by ARP",
                (true, Family::V6) => ", by neighbour discovery",
            };
            format!("{} on {}{how}", prefix.addr, port.name)
        })
    });
    let virt = virtual_addresses(config).into_iter().map(|addr| {
        let ports = ports_with(config, addr);
        if ports.is_empty() {
            return format!("{addr} (virtual) on no port's network: routes must lead it to us");
        }
        format!("{addr} (virtual) on {}", ports.join(" and "))
    });
    let networks = config
        .routes
        .iter()
        .filter(|(_, target)| *target == RouteTarget::Local)
        .map(|(prefix, _)| format!("every address of {prefix}"));
    own.chain(virt).chain(networks).collect()
}

/// The addresses of services that are on no port by themselves, each once.
fn virtual_addresses(config: &Config) -> Vec<IpAddr> {
    let own = config.ports.iter().flat_map(|port| &port.addresses);
    let mut seen: BTreeSet<IpAddr> = gathered(own.map(|own| own.addr));
    let mut all = Vec::new();
    for (service, _) in config.services.values() {
        let ServiceKey::Address { virt: Endpoint { addr, .. }, .. } = service.key else { continue };
        if seen.insert(addr) {
            all.push(addr);
        }
    }
    all
}

fn ports_with(config: &Config, addr: IpAddr) -> Vec<&str> {
    let holds = |port: &&PortConfig| port.addresses.iter().any(|prefix| prefix.contains(addr));
    config.ports.iter().filter(holds).map(|port| port.name.as_str()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{LinkSettings, Prefix, TunnelType};
    use crate::packet::Mac;
    use crate::sched::Scheduler;

    #[test]
    fn a_file_is_explained_in_plain_words() {
        let prefix = |addr: &str, len| Prefix { addr: addr.parse().expect("an address"), len };
        let virt = Endpoint::new("10.77.1.100".parse().expect("an address"), 80);
        let key = ServiceKey::Address { proto: proto::TCP, virt };
        let config = Config {
            ports: vec![PortConfig {
                name: "tap-wan".to_owned(),
                kind: PortKind::Tap,
                settings: LinkSettings {
                    mac: Some(Mac([2, 0, 0, 0, 1, 1])),
                    mtu: Some(1500),
                    master: Some("br-wan".to_owned()),
                },
                addresses: vec![prefix("10.77.1.1", 24), prefix("fd77:1::1", 64)],
            }],
            routes: vec![
                (
                    Prefix::any(Family::V4),
                    RouteTarget::Via {
                        gateway: "10.77.1.254".parse().expect("an address"),
                        dev: None,
                    },
                ),
                (prefix("10.91.0.0", 24), RouteTarget::Local),
            ],
            services: [(
                key,
                (
                    ServiceSpec {
                        key,
                        scheduler: Some(Scheduler::Wrr),
                        sched_flags: 0,
                        persistent_s: Some(300),
                        netmask: u32::MAX,
                        one_packet: false,
                        sip: false,
                    },
                    vec![DestSpec {
                        dest: Endpoint::new("10.77.2.11".parse().expect("an address"), 8080),
                        method: Method::Masq,
                        weight: 0,
                        upper: 0,
                        lower: 0,
                        tunnel: TunnelType::Ipip,
                    }],
                ),
            )]
            .into(),
            ..Config::default()
        };
        let expected = "\
demo.rules: fine

Ports
  tap-wan: TAP, our MAC 02:00:00:00:01:01, MTU 1500, in bridge br-wan
    10.77.1.1/24
    fd77:1::1/64

Routes
  everything else: by 10.77.1.254
  10.91.0.0/24: all of it is ours

Services
  TCP 10.77.1.100:80, scheduler wrr, a client stays with its server for 300 s
    -> 10.77.2.11:8080, NAT (Masq), weight 0: nothing new

Answers for
  10.77.1.1 on tap-wan, by ARP
  fd77:1::1 on tap-wan, by neighbour discovery
  10.77.1.100 (virtual) on tap-wan
  every address of 10.91.0.0/24
";
        assert_eq!(explanation("demo.rules", &config), expected);
    }
}
