//! The ground state as a rules file that loads to the same state.
//!
//! Services and servers are in the form of `ipvsadm-save -n`, services sorted, servers in the order in
//! which they were added, with the thresholds that ipvsadm forgets. What has its default is left out.

use std::fmt;
use std::net::Ipv4Addr;

use crate::packet::{proto, Family};
use crate::world::Knobs;

use super::knob::KNOBS;
use super::{
    Command, Config, DestSpec, LinkSettings, Method, PortConfig, PortKind, Prefix, RouteTarget,
    ServiceKey, ServiceSpec, Timeouts, TunnelChecksum, TunnelType,
};

impl fmt::Display for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.ports.iter().try_for_each(|port| write_port(f, port))?;
        for (prefix, target) in &self.routes {
            write_route(f, "add", *prefix, target)?;
            writeln!(f)?;
        }
        for (addr, mac, dev) in &self.neighbours {
            writeln!(f, "ip neigh add {addr} lladdr {mac} dev {}", Quoted(dev))?;
        }
        self.marks.iter().try_for_each(|rule| writeln!(f, "{rule}"))?;
        let defaults = Knobs::default();
        for info in KNOBS {
            let Some(place) = info.place else { continue };
            let value = (place.get)(&self.knobs);
            if value != (place.get)(&defaults) {
                writeln!(f, "{} = {value}", info.name)?;
            }
        }
        let Timeouts { tcp, tcp_fin, udp } = self.timeouts_s;
        if self.timeouts_s != Timeouts::default() {
            writeln!(f, "--set {tcp} {tcp_fin} {udp}")?;
        }
        if !self.ftp_ports.is_empty() {
            write_module(f, &self.ftp_ports)?;
            writeln!(f)?;
        }
        for (spec, dests) in self.services.values() {
            writeln!(f, "{spec}")?;
            for dest in dests {
                writeln!(f, "-a {} {dest}", spec.key)?;
            }
        }
        self.sync.values().try_for_each(|daemon| writeln!(f, "{daemon}"))
    }
}

impl fmt::Display for Command {
    /// The line that says it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AddPort { name, kind } => write_new_port(f, name, kind),
            Self::SetLink { name, settings } => write_link(f, name, settings),
            Self::AddAddress { prefix, dev, replace } => {
                let (ip, verb) = (family_option(*prefix), verb(*replace));
                write!(f, "ip{ip} addr {verb} {prefix} dev {}", Quoted(dev))
            }
            Self::SetAddress { prefix, dev } => {
                write!(f, "ifconfig {} {prefix}", Quoted(dev))
            }
            Self::RemoveAddress { addr, len, dev } => {
                let ip = if addr.is_ipv6() { " -6" } else { "" };
                match len {
                    Some(len) => write!(f, "ip{ip} addr del {addr}/{len} dev {}", Quoted(dev)),
                    None => write!(f, "ip{ip} addr del {addr} dev {}", Quoted(dev)),
                }
            }
            Self::RemoveRoute { prefix, local, gateway, dev } => {
                let kind = if *local { "local " } else { "" };
                write!(f, "ip{} route del {kind}{prefix}", family_option(*prefix))?;
                if let Some(gateway) = gateway {
                    write!(f, " via {gateway}")?;
                }
                match dev {
                    Some(dev) => write!(f, " dev {}", Quoted(dev)),
                    None => Ok(()),
                }
            }
            Self::AddRoute { prefix, target, replace } => {
                write_route(f, verb(*replace), *prefix, target)
            }
            Self::AddNeighbour { addr, mac, dev, replace } => {
                let verb = verb(*replace);
                write!(f, "ip neigh {verb} {addr} lladdr {mac} dev {}", Quoted(dev))
            }
            Self::ClearMarkRules(Family::V4) => f.write_str("iptables -t mangle -F"),
            Self::ClearMarkRules(Family::V6) => f.write_str("ip6tables -t mangle -F"),
            Self::AddMarkRule { rule, place: None } => write!(f, "{rule}"),
            Self::AddMarkRule { rule, place: Some(place) } => {
                let insert = format!("-I PREROUTING {place}");
                f.write_str(&rule.to_string().replacen("-A PREROUTING", &insert, 1))
            }
            Self::SetKnob { knob, value } => write!(f, "{} = {value}", knob.info().name),
            Self::AddService(spec) => write!(f, "{spec}"),
            Self::EditService(spec) => {
                f.write_str("-E ")?;
                spec.write(f)
            }
            Self::DeleteService(key) => write!(f, "-D {key}"),
            Self::Clear => f.write_str("-C"),
            Self::AddDest(key, dest) => write!(f, "-a {key} {dest}"),
            Self::EditDest(key, dest) => write!(f, "-e {key} {dest}"),
            Self::DeleteDest(key, dest) => write!(f, "-d {key} -r {dest}"),
            Self::SetTimeouts { tcp_s, tcp_fin_s, udp_s } => {
                write!(f, "--set {tcp_s} {tcp_fin_s} {udp_s}")
            }
            Self::SetFtpPorts(ports) => write_module(f, ports),
            Self::StartDaemon(daemon) => write!(f, "{daemon}"),
            Self::StopDaemon(role) => write!(f, "--stop-daemon {}", role.name()),
        }
    }
}

fn write_module(f: &mut fmt::Formatter<'_>, ports: &[u16]) -> fmt::Result {
    match ports {
        [] => f.write_str("modprobe -r ip_vs_ftp"),
        [21] => f.write_str("modprobe ip_vs_ftp"),
        [first, rest @ ..] => {
            write!(f, "modprobe ip_vs_ftp ports={first}")?;
            rest.iter().try_for_each(|port| write!(f, ",{port}"))
        }
    }
}

impl fmt::Display for ServiceKey {
    /// `-t 10.0.0.1:80`, `-f 1 -6`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address { proto: proto::TCP, virt } => write!(f, "-t {virt}"),
            Self::Address { proto: proto::UDP, virt } => write!(f, "-u {virt}"),
            Self::Address { virt, .. } => write!(f, "--sctp-service {virt}"),
            Self::Mark { family: Family::V4, mark } => write!(f, "-f {mark}"),
            Self::Mark { family: Family::V6, mark } => write!(f, "-f {mark} -6"),
        }
    }
}

impl fmt::Display for ServiceSpec {
    /// The `-A` line of `ipvsadm-save -n`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("-A ")?;
        self.write(f)
    }
}

impl ServiceSpec {
    /// The line without its command.
    fn write(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheduler = self.scheduler.map_or("none", |scheduler| scheduler.name());
        write!(f, "{} -s {scheduler}", self.key)?;
        if let Some(seconds) = self.persistent_s {
            write!(f, " -p {seconds}")?;
        }
        // A mask means nothing without persistence, but it was said and is kept.
        let family = self.key.family();
        if self.netmask != Self::full_mask(family) {
            match family {
                Family::V4 => write!(f, " -M {}", Ipv4Addr::from(self.netmask))?,
                Family::V6 => write!(f, " -M {}", self.netmask)?,
            }
        }
        f.write_str(if self.sip { " --pe sip" } else { "" })?;
        f.write_str(if self.one_packet { " -o" } else { "" })?;
        let flags = ["flag-1", "flag-2", "flag-3"].into_iter().enumerate();
        let flags: Vec<_> =
            flags.filter(|(i, _)| self.sched_flags & (1 << i) != 0).map(|(_, flag)| flag).collect();
        if flags.is_empty() {
            return Ok(());
        }
        write!(f, " -b {}", flags.join(","))
    }
}

impl fmt::Display for DestSpec {
    /// The server's part of the `-a` line.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let method = match self.method {
            Method::Masq => "-m",
            Method::Tunnel => "-i",
            Method::Route => "-g",
        };
        write!(f, "-r {} {method} -w {}", self.dest, self.weight)?;
        if self.upper != 0 {
            write!(f, " -x {}", self.upper)?;
        }
        if self.lower != 0 {
            write!(f, " -y {}", self.lower)?;
        }
        if self.method != Method::Tunnel {
            return Ok(());
        }
        match self.tunnel {
            TunnelType::Ipip => f.write_str(" --tun-type ipip"),
            TunnelType::Gue { port, checksum } => {
                write!(f, " --tun-type gue --tun-port {port} {}", checksum_option(checksum))
            }
            TunnelType::Gre { checksum } => {
                write!(f, " --tun-type gre {}", checksum_option(checksum))
            }
        }
    }
}

const fn checksum_option(checksum: TunnelChecksum) -> &'static str {
    match checksum {
        TunnelChecksum::None => "--tun-nocsum",
        TunnelChecksum::Full => "--tun-csum",
        TunnelChecksum::Remote => "--tun-remcsum",
    }
}

const fn verb(replace: bool) -> &'static str {
    match replace {
        true => "replace",
        false => "add",
    }
}

fn write_new_port(f: &mut fmt::Formatter<'_>, name: &str, kind: &PortKind) -> fmt::Result {
    let name = Quoted(name);
    match kind {
        PortKind::Tap => write!(f, "ip tuntap add dev {name} mode tap"),
        PortKind::Tun => write!(f, "ip tuntap add dev {name} mode tun"),
        PortKind::Macvtap { lower, mode } => {
            let (lower, mode) = (Quoted(lower), mode.name());
            write!(f, "ip link add link {lower} name {name} type macvtap mode {mode}")
        }
    }
}

fn write_link(f: &mut fmt::Formatter<'_>, name: &str, settings: &LinkSettings) -> fmt::Result {
    write!(f, "ip link set dev {}", Quoted(name))?;
    if let Some(mac) = settings.mac {
        write!(f, " address {mac}")?;
    }
    if let Some(mtu) = settings.mtu {
        write!(f, " mtu {mtu}")?;
    }
    match &settings.master {
        Some(master) => write!(f, " master {}", Quoted(master)),
        None => Ok(()),
    }
}

fn write_port(f: &mut fmt::Formatter<'_>, port: &PortConfig) -> fmt::Result {
    write_new_port(f, &port.name, &port.kind)?;
    writeln!(f)?;
    let name = Quoted(&port.name);
    let settings = &port.settings;
    if let Some(mac) = settings.mac {
        writeln!(f, "ip link set dev {name} address {mac}")?;
    }
    if let Some(mtu) = settings.mtu {
        writeln!(f, "ip link set dev {name} mtu {mtu}")?;
    }
    if let Some(master) = &settings.master {
        writeln!(f, "ip link set dev {name} master {}", Quoted(master))?;
    }
    for prefix in &port.addresses {
        writeln!(f, "ip{} addr add {prefix} dev {name}", family_option(*prefix))?;
    }
    Ok(())
}

fn write_route(
    f: &mut fmt::Formatter<'_>,
    verb: &str,
    prefix: Prefix,
    target: &RouteTarget,
) -> fmt::Result {
    let ip = family_option(prefix);
    match target {
        RouteTarget::Via { gateway, dev } => {
            write!(f, "ip{ip} route {verb} {prefix} via {gateway}")?;
            match dev {
                Some(dev) => write!(f, " dev {}", Quoted(dev)),
                None => Ok(()),
            }
        }
        RouteTarget::Dev(dev) => write!(f, "ip{ip} route {verb} {prefix} dev {}", Quoted(dev)),
        RouteTarget::Local => write!(f, "ip{ip} route {verb} local {prefix} dev lo"),
        RouteTarget::LocalIn(table) => {
            write!(f, "ip{ip} route {verb} local {prefix} dev lo table {table}")
        }
        RouteTarget::Rule { mark, mask, table } => {
            write!(f, "ip{ip} rule {verb} fwmark {mark:#x}/{mask:#x} table {table}")
        }
    }
}

const fn family_option(prefix: Prefix) -> &'static str {
    match Family::of(prefix.addr) {
        Family::V4 => "",
        Family::V6 => " -6",
    }
}

/// A name, in quotes where it would not be read as it stands.
pub(super) struct Quoted<'a>(pub(super) &'a str);

impl fmt::Display for Quoted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | '@' | '+');
        if self.0.chars().all(plain) {
            return f.write_str(self.0);
        }
        write!(
            f,
            "\"{}\"",
            self.0
                .replace('\\', "\\\\")
                .replace('"', "\\\"")
                .replace('$', "\\$")
                .replace('`', "\\`")
        )
    }
}
