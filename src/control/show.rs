//! A picture as text: byte for byte what `ipvsadm` prints.
//!
//! Kept from ipvsadm 1.31: every shape of `-L` and `-S`, with their odd widths and trailing blanks;
//! how names are cut, large numbers are scaled, and things are sorted (also where that is odd).

use std::cmp::Ordering;
use std::fmt::Write;
use std::net::{IpAddr, Ipv6Addr};

use super::snapshot::{self, ConnView, DestView, ServiceView, Snapshot, TABLE_SIZE};
use crate::config::tool::{Columns, Listing, What};
use crate::config::{Method, ServiceKey, ServiceSpec, SyncDaemon, TunnelChecksum, TunnelType};
use crate::director::stats::Counts;
use crate::director::Director;
use crate::packet::{proto, Endpoint, Family};
use crate::world::sort_by;

/// Who knows what addresses and ports are called.
pub trait Reverse {
    /// The name of a host.
    fn host(&self, addr: IpAddr) -> Option<String>;

    /// The name of a port.
    fn port(&self, port: u16, protocol: u8) -> Option<String>;
}

/// Knows no names, as with `-n`.
pub struct Numeric;

impl Reverse for Numeric {
    fn host(&self, _: IpAddr) -> Option<String> {
        None
    }

    fn port(&self, _: u16, _: u8) -> Option<String> {
        None
    }
}

/// `ipvsadm -Ln`: every service with its servers, sorted.
pub fn list(director: &Director) -> String {
    let mut lines = String::new();
    for service in director.services().iter() {
        snapshot::put_service(&mut lines, director, &service.spec.key);
    }
    let mut picture = Snapshot::default();
    for line in lines.lines() {
        picture.take(line).expect("our own line");
    }
    listing(picture, &Listing::default(), &Numeric)
}

/// What `-L` prints.
pub fn listing(mut picture: Snapshot, wanted: &Listing, names: &dyn Reverse) -> String {
    match wanted.what {
        What::All | What::Service(_) => {
            if !wanted.nosort {
                sort(&mut picture);
            }
            services(&picture, wanted, names)
        }
        What::Connections { engine } => connections(&picture.conns, engine, names),
        What::Timeouts => {
            let timeouts = picture.timeouts;
            let (tcp, tcp_fin, udp) = (timeouts.tcp, timeouts.tcp_fin, timeouts.udp);
            format!("Timeout (tcp tcpfin udp): {tcp} {tcp_fin} {udp}\n")
        }
        What::Daemons => picture.daemons.iter().map(daemon_line).collect(),
    }
}

/// What `-S` prints.
pub fn save(mut picture: Snapshot, names: &dyn Reverse) -> String {
    sort(&mut picture);
    let mut out = String::new();
    for service in &picture.services {
        let key = key_option(&service.spec.key, names);
        save_service(&mut out, &service.spec, &key);
        for dest in &service.dests {
            save_dest(&mut out, &service.spec.key, dest, &key, names);
        }
    }
    out
}

/// Sorts services and servers as the tool does.
pub fn sort(picture: &mut Snapshot) {
    sort_by(&mut picture.services, |a, b| order_of_services(&a.spec.key, &b.spec.key));
    for service in &mut picture.services {
        sort_by(&mut service.dests, |a, b| order_of_endpoints(a.spec.dest, b.spec.dest));
    }
}

fn services(picture: &Snapshot, wanted: &Listing, names: &dyn Reverse) -> String {
    let mut out = String::new();
    if wanted.what == What::All {
        let _ = writeln!(out, "IP Virtual Server version 1.2.1 (size={TABLE_SIZE})");
    }
    title(&mut out, wanted.columns);
    for service in &picture.services {
        service_line(&mut out, service, wanted, names);
        let protocol = match service.spec.key {
            ServiceKey::Address { proto, .. } => Some(proto),
            ServiceKey::Mark { .. } => None,
        };
        for dest in &service.dests {
            let at = cut(endpoint(dest.spec.dest, protocol, names), dest.spec.dest, 28);
            dest_line(&mut out, dest, &at, wanted);
        }
    }
    out
}

fn title(out: &mut String, columns: Columns) {
    let name = "Prot LocalAddress:Port";
    let five = |heads: [&str; 5]| {
        let [a, b, c, d, e] = heads;
        format!("{name:<33} {a:>8} {b:>8} {c:>8} {d:>8} {e:>8}\n  -> RemoteAddress:Port\n")
    };
    out.push_str(&match columns {
        Columns::Default => format!(
            "{name} Scheduler Flags\n  \
             -> RemoteAddress:Port           Forward Weight ActiveConn InActConn\n"
        ),
        Columns::Tunnel => format!(
            "{name} Scheduler Flags\n  \
             -> RemoteAddress:Port           Forward TunnelInfo    Weight ActiveConn InActConn\n"
        ),
        Columns::Stats => five(["Conns", "InPkts", "OutPkts", "InBytes", "OutBytes"]),
        Columns::Rate => five(["CPS", "InPPS", "OutPPS", "InBPS", "OutBPS"]),
        Columns::Thresholds => format!(
            "{name:<33} {:<10} {:<10} {:<10} {:<10}\n  -> RemoteAddress:Port\n",
            "Uthreshold", "Lthreshold", "ActiveConn", "InActConn"
        ),
        Columns::Persistent => format!(
            "{name:<33} {:<9} {:<11} {:<10} {:<10}\n  -> RemoteAddress:Port\n",
            "Weight", "PersistConn", "ActiveConn", "InActConn"
        ),
    });
}

fn service_line(out: &mut String, service: &ServiceView, wanted: &Listing, names: &dyn Reverse) {
    let spec = &service.spec;
    let name = service_name(&spec.key, names);
    match wanted.columns {
        Columns::Stats | Columns::Rate => {
            let counts = match wanted.columns {
                Columns::Stats => service.counts,
                _ => service.rates,
            };
            let _ = write!(out, "{name:<33}");
            all_scaled(out, counts, wanted.exact);
        }
        Columns::Default | Columns::Thresholds | Columns::Persistent | Columns::Tunnel => {
            let _ = write!(out, "{name} {}", scheduler_name(spec));
            flags(out, spec);
        }
    }
    out.push('\n');
}

/// What follows the scheduler's name.
fn flags(out: &mut String, spec: &ServiceSpec) {
    let names = flag_names(spec);
    if !names.is_empty() {
        let _ = write!(out, " ({names})");
    }
    if let Some(seconds) = spec.persistent_s {
        let _ = write!(out, " persistent {seconds}");
        if let Some(mask) = mask(spec) {
            let _ = write!(out, " mask {mask}");
        }
        if spec.sip {
            out.push_str(" pe sip");
        }
    }
    if spec.one_packet {
        out.push_str(" ops");
    }
}

fn dest_line(out: &mut String, dest: &DestView, at: &str, wanted: &Listing) {
    let DestView { spec, active, inactive, persistent, .. } = dest;
    let forward = match spec.method {
        Method::Masq => "Masq",
        Method::Tunnel => "Tunnel",
        Method::Route => "Route",
    };
    let weight = spec.weight;
    let _ = write!(out, "  -> {at:<28} ");
    let _ = match wanted.columns {
        Columns::Default => {
            write!(out, "{forward:<7} {weight:<6} {active:<10} {inactive:<10}")
        }
        Columns::Tunnel => {
            let info = tunnel_info(dest);
            write!(out, "{forward:<7} {info:<13} {weight:<6} {active:<10} {inactive:<10}")
        }
        Columns::Thresholds => {
            let (upper, lower) = (spec.upper, spec.lower);
            write!(out, "{upper:<10} {lower:<10} {active:<10} {inactive:<10}")
        }
        Columns::Persistent => {
            write!(out, "{weight:<9} {persistent:<11} {active:<10} {inactive:<10}")
        }
        Columns::Stats => {
            // The scaled numbers bring the blank in front of them along.
            out.pop();
            all_scaled(out, narrow(dest.counts), wanted.exact);
            Ok(())
        }
        Columns::Rate => {
            let rates = narrow(dest.rates);
            let (cps, pps, out_pps) = (rates.conns, rates.in_packets, rates.out_packets);
            let _ = write!(out, "{cps:>8} {pps:>8} {out_pps:>8}");
            scaled(out, rates.in_bytes, wanted.exact);
            scaled(out, rates.out_bytes, wanted.exact);
            Ok(())
        }
    };
    out.push('\n');
}

/// ipvsadm reads a server's connections, packets and rates as 32 bits; its bytes have 64.
const fn narrow(counts: Counts) -> Counts {
    const LOW: u64 = 0xffff_ffff;
    Counts {
        conns: counts.conns & LOW,
        in_packets: counts.in_packets & LOW,
        out_packets: counts.out_packets & LOW,
        ..counts
    }
}

fn all_scaled(out: &mut String, counts: Counts, exact: bool) {
    let Counts { conns, in_packets, out_packets, in_bytes, out_bytes } = counts;
    for value in [conns, in_packets, out_packets, in_bytes, out_bytes] {
        scaled(out, value, exact);
    }
}

/// A number in nine places, large ones in thousands and so on unless `exact`.
fn scaled(out: &mut String, value: u64, exact: bool) {
    let (value, unit) = match value {
        _ if exact => (value, ""),
        0..=99_999_999 => (value, ""),
        100_000_000..=999_999_999 => (value / 1_000, "K"),
        1_000_000_000..=99_999_999_999 => (value / 1_000_000, "M"),
        100_000_000_000..=99_999_999_999_999 => (value / 1_000_000_000, "G"),
        _ => (value / 1_000_000_000_000, "T"),
    };
    let digits = value.to_string();
    let width = if digits.len() > 8 { digits.len() + 1 } else { 9 } - unit.len();
    let _ = write!(out, "{digits:>width$}{unit}");
}

fn tunnel_info(dest: &DestView) -> String {
    let checksum = |checksum| match checksum {
        TunnelChecksum::None => "-c",
        TunnelChecksum::Full => "+c",
        TunnelChecksum::Remote => "r+c",
    };
    match (dest.spec.method, dest.spec.tunnel) {
        (Method::Masq | Method::Route, _) => "n/a".to_owned(),
        (Method::Tunnel, TunnelType::Ipip) => "ipip".to_owned(),
        (Method::Tunnel, TunnelType::Gue { port, checksum: c }) => {
            format!("gue:{port}:{}", checksum(c))
        }
        (Method::Tunnel, TunnelType::Gre { checksum: c }) => format!("gre:{}", checksum(c)),
    }
}

/// `-c`; in no order.
fn connections(conns: &[ConnView], engine: bool, names: &dyn Reverse) -> String {
    let mut out = "IPVS connection entries\n".to_owned();
    let (state, source, virt, dest) = ("state", "source", "virtual", "destination");
    let _ = match engine {
        false => writeln!(out, "pro expire {state:<11} {source:<18} {virt:<18} {dest}"),
        true => writeln!(
            out,
            "pro expire {state:<11} {source:<18} {virt:<18} {dest:<18} {:<16} pe_data",
            "pe name"
        ),
    };
    for conn in conns {
        let at = |end| endpoint(end, Some(conn.proto), names);
        let expires = format!("{:02}:{:02}", conn.expires_s / 60, conn.expires_s % 60);
        let (protocol, state) = (conn_protocol(conn.proto), &conn.state);
        let (client, virt, dest) = (at(conn.client), at(conn.virt), at(conn.dest));
        let _ = write!(out, "{protocol:<3} {expires:<6} {state:<11} {client:<18} {virt:<18} ");
        // The tool's widths here are not those of its title.
        let _ = match conn.call.as_ref().filter(|_| engine) {
            Some(call) => writeln!(out, "{dest:<16} {:<18} {call}", "sip"),
            None => writeln!(out, "{dest}"),
        };
    }
    out
}

/// The protocol of a connection as the kernel names it.
pub(super) fn conn_protocol(proto: u8) -> String {
    match proto {
        0 => "IP".to_owned(),
        proto::TCP => "TCP".to_owned(),
        proto::UDP => "UDP".to_owned(),
        proto::SCTP => "SCTP".to_owned(),
        other => format!("IP_{other}"),
    }
}

fn daemon_line(daemon: &SyncDaemon) -> String {
    let SyncDaemon { role, interface, syncid, maxlen, group, port, ttl } = daemon;
    format!(
        "{} sync daemon (mcast={interface}, syncid={syncid}, maxlen={maxlen}, group={group}, \
         port={port}, ttl={ttl})\n",
        role.name()
    )
}

fn save_service(out: &mut String, spec: &ServiceSpec, key: &str) {
    let _ = write!(out, "-A {key} -s {}", scheduler_name(spec));
    if let Some(seconds) = spec.persistent_s {
        let _ = write!(out, " -p {seconds}");
        if let Some(mask) = mask(spec) {
            let _ = write!(out, " -M {mask}");
        }
    }
    out.push_str(if spec.sip { " --pe sip" } else { "" });
    out.push_str(if spec.one_packet { " -o" } else { "" });
    let names = flag_names(spec);
    if !names.is_empty() {
        let _ = write!(out, " -b {names}");
    }
    out.push('\n');
}

fn save_dest(
    out: &mut String,
    service: &ServiceKey,
    dest: &DestView,
    key: &str,
    names: &dyn Reverse,
) {
    let protocol = match service {
        ServiceKey::Address { proto, .. } => Some(*proto),
        ServiceKey::Mark { .. } => None,
    };
    let at = endpoint(dest.spec.dest, protocol, names);
    let method = match dest.spec.method {
        Method::Masq => "-m",
        Method::Tunnel => "-i",
        Method::Route => "-g",
    };
    let _ = write!(out, "-a {key} -r {at} {method} -w {}", dest.spec.weight);
    if dest.spec.method == Method::Tunnel {
        let checksum = |checksum| match checksum {
            TunnelChecksum::None => "--tun-nocsum",
            TunnelChecksum::Full => "--tun-csum",
            TunnelChecksum::Remote => "--tun-remcsum",
        };
        let _ = match dest.spec.tunnel {
            TunnelType::Ipip => write!(out, " --tun-type ipip"),
            TunnelType::Gue { port, checksum: c } => {
                write!(out, " --tun-type gue --tun-port {port} {}", checksum(c))
            }
            TunnelType::Gre { checksum: c } => write!(out, " --tun-type gre {}", checksum(c)),
        };
    }
    out.push('\n');
}

/// `-t 10.0.0.1:80`, `-f 5 -6`. A mark is printed signed, as the tool does.
fn key_option(key: &ServiceKey, names: &dyn Reverse) -> String {
    match *key {
        ServiceKey::Address { proto, virt } => {
            let option = match proto {
                proto::UDP => "-u",
                proto::SCTP => "--sctp-service",
                _ => "-t",
            };
            format!("{option} {}", endpoint(virt, Some(proto), names))
        }
        ServiceKey::Mark { family: Family::V4, mark } => format!("-f {}", signed(mark)),
        ServiceKey::Mark { family: Family::V6, mark } => format!("-f {} -6", signed(mark)),
    }
}

/// `TCP  10.0.0.1:80`, `FWM  5`, `FWM  5 IPv6`; names are cut at 33 letters.
fn service_name(key: &ServiceKey, names: &dyn Reverse) -> String {
    match *key {
        ServiceKey::Address { proto, virt } => {
            let at = endpoint(virt, Some(proto), names);
            cut(format!("{:<4} {at}", protocol_name(proto)), virt, 33)
        }
        ServiceKey::Mark { family: Family::V4, mark } => format!("FWM  {}", signed(mark)),
        ServiceKey::Mark { family: Family::V6, mark } => format!("FWM  {} IPv6", signed(mark)),
    }
}

/// The protocol of a service.
pub(super) const fn protocol_name(proto: u8) -> &'static str {
    match proto {
        proto::UDP => "UDP",
        proto::SCTP => "SCTP",
        _ => "TCP",
    }
}

/// The name of a service's scheduler.
pub(super) fn scheduler_name(spec: &ServiceSpec) -> &'static str {
    spec.scheduler.map_or("none", |kind| kind.name())
}

/// The names of the flags that the scheduler has.
pub(super) fn flag_names(spec: &ServiceSpec) -> String {
    let names: &[&str] = match scheduler_name(spec) {
        "sh" => &["sh-fallback", "sh-port"],
        "mh" => &["mh-fallback", "mh-port"],
        _ => &["flag-1", "flag-2", "flag-3"],
    };
    let set = names.iter().enumerate().filter(|(bit, _)| spec.sched_flags & (1 << bit) != 0);
    set.map(|(_, name)| *name).collect::<Vec<_>>().join(",")
}

/// The persistence mask, if it is not the full one.
pub(super) fn mask(spec: &ServiceSpec) -> Option<String> {
    let family = spec.key.family();
    let said = spec.netmask != ServiceSpec::full_mask(family);
    said.then(|| match family {
        Family::V4 => std::net::Ipv4Addr::from(spec.netmask).to_string(),
        Family::V6 => spec.netmask.to_string(),
    })
}

/// `10.0.0.1:80`, `[fd00::1]:80`, `web.example.org:http`; ports have names under a `protocol` only.
fn endpoint(at: Endpoint, protocol: Option<u8>, names: &dyn Reverse) -> String {
    let host = names.host(at.addr).unwrap_or_else(|| address(at.addr));
    let port = protocol
        .and_then(|protocol| names.port(at.port, protocol))
        .unwrap_or_else(|| at.port.to_string());
    match at.addr {
        IpAddr::V4(_) => format!("{host}:{port}"),
        IpAddr::V6(_) => format!("[{host}]:{port}"),
    }
}

/// As the C library writes it: it shows the last 32 bits of `::a.b.c.d` as IPv4.
fn address(addr: IpAddr) -> String {
    match addr {
        IpAddr::V6(v6) if is_compatible(v6) => {
            let [.., a, b, c, d] = v6.octets();
            format!("::{a}.{b}.{c}.{d}")
        }
        IpAddr::V4(_) | IpAddr::V6(_) => addr.to_string(),
    }
}

const fn is_compatible(addr: Ipv6Addr) -> bool {
    matches!(addr.segments(), [0, 0, 0, 0, 0, 0, high, _] if high != 0)
}

/// IPv4 texts are cut, IPv6 ones are not.
fn cut(mut text: String, at: Endpoint, most: usize) -> String {
    if at.addr.is_ipv4() {
        if let Some((end, _)) = text.char_indices().nth(most) {
            text.truncate(end);
        }
    }
    text
}

/// By mark, family, protocol, address, port.
fn order_of_services(a: &ServiceKey, b: &ServiceKey) -> Ordering {
    let mark = |key: &ServiceKey| match key {
        ServiceKey::Address { .. } => 0,
        ServiceKey::Mark { mark, .. } => *mark,
    };
    let order = order_of_words(mark(a), mark(b)).then(a.family().cmp(&b.family()));
    match (a, b) {
        (ServiceKey::Address { proto: p, virt: v }, ServiceKey::Address { proto: q, virt: w }) => {
            order.then(p.cmp(q)).then_with(|| order_of_endpoints(*v, *w))
        }
        _ => order,
    }
}

fn order_of_endpoints(a: Endpoint, b: Endpoint) -> Ordering {
    order_of_addresses(a.addr, b.addr).then(a.port.cmp(&b.port))
}

/// The tool subtracts 32-bit words and looks at the sign, so addresses more than 2^31 apart come the
/// wrong way round; of an IPv4 and an IPv6 address only the first words are compared.
fn order_of_addresses(a: IpAddr, b: IpAddr) -> Ordering {
    let word = |addr: IpAddr, at: usize| match addr {
        IpAddr::V4(v4) => (at == 0).then(|| u32::from(v4)),
        IpAddr::V6(v6) => {
            let halves = v6.segments();
            let (high, low) = (halves.get(2 * at)?, halves.get(2 * at + 1)?);
            Some(u32::from(*high) << 16 | u32::from(*low))
        }
    };
    let both = |at| Some(order_of_words(word(a, at)?, word(b, at)?));
    (0..).map_while(both).find(|order| order.is_ne()).unwrap_or(Ordering::Equal)
}

fn order_of_words(a: u32, b: u32) -> Ordering {
    signed(a.wrapping_sub(b)).cmp(&0)
}

/// The same bits as a signed number.
const fn signed(bits: u32) -> i32 {
    i32::from_ne_bytes(bits.to_ne_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_sort_as_the_tool_sorts_them_also_backwards() {
        let sorted = |mut list: Vec<&str>| {
            list.sort_by(|a, b| {
                order_of_addresses(a.parse().expect("address"), b.parse().expect("address"))
            });
            list.join(" ")
        };
        assert_eq!(sorted(vec!["10.9.0.1", "203.0.113.9"]), "203.0.113.9 10.9.0.1");
        assert_eq!(sorted(vec!["10.0.0.2", "10.0.0.1"]), "10.0.0.1 10.0.0.2");
        assert_eq!(sorted(vec!["2001:db8::", "172.16.0.5"]), "172.16.0.5 2001:db8::");
        assert_eq!(sorted(vec!["fd00::2", "fd00::1"]), "fd00::1 fd00::2");
    }

    #[test]
    fn numbers_are_scaled_by_the_tools_steps() {
        for (value, exact, text) in [
            (0, false, "        0"),
            (99_999_999, false, " 99999999"),
            (100_000_000, false, "  100000K"),
            (999_999_999, false, "  999999K"),
            (1_000_000_000, false, "    1000M"),
            (99_999_999_999, false, "   99999M"),
            (100_000_000_000, false, "     100G"),
            (99_999_999_999_999, false, "   99999G"),
            (100_000_000_000_000, false, "     100T"),
            (100_000_000, true, " 100000000"),
            (12_336_000, true, " 12336000"),
        ] {
            let mut out = String::new();
            scaled(&mut out, value, exact);
            assert_eq!(out, text);
        }
    }

    #[test]
    fn connections_are_listed_without_trailing_blanks() {
        let at = |text: &str| -> Endpoint {
            let at: std::net::SocketAddr = text.parse().expect("an endpoint");
            Endpoint::new(at.ip(), at.port())
        };
        let conn = |proto, client, virt, dest, state: &str, expires_s| ConnView {
            proto,
            client: at(client),
            virt: at(virt),
            dest: at(dest),
            state: state.to_owned(),
            expires_s,
            template: false,
            call: None,
        };
        let conns = [
            conn(6, "10.0.0.2:1000", "10.1.1.1:80", "172.16.0.4:8080", "ESTABLISHED", 899),
            conn(0, "10.0.0.2:0", "0.0.0.5:0", "172.16.0.3:0", "NONE", 59),
            conn(132, "[fd00::9]:1", "[fd00::1]:9", "[fd00::2]:9", "INIT1", 6060),
        ];
        assert_eq!(
            connections(&conns, false, &Numeric),
            "IPVS connection entries\n\
             pro expire state       source             virtual            destination\n\
             TCP 14:59  ESTABLISHED 10.0.0.2:1000      10.1.1.1:80        172.16.0.4:8080\n\
             IP  00:59  NONE        10.0.0.2:0         0.0.0.5:0          172.16.0.3:0\n\
             SCTP 101:00 INIT1       [fd00::9]:1        [fd00::1]:9        [fd00::2]:9\n"
        );
    }

    #[test]
    fn names_are_cut_where_the_tool_cuts_them() {
        struct Long;
        impl Reverse for Long {
            fn host(&self, _: IpAddr) -> Option<String> {
                Some("a-very-long-host-name-of-a-real-server.example.org".to_owned())
            }
            fn port(&self, _: u16, _: u8) -> Option<String> {
                Some("http".to_owned())
            }
        }
        let at = Endpoint::new("10.0.0.1".parse().expect("address"), 80);
        let key = ServiceKey::Address { proto: proto::TCP, virt: at };
        assert_eq!(service_name(&key, &Long), "TCP  a-very-long-host-name-of-a-r");
        assert_eq!(cut(endpoint(at, None, &Long), at, 28), "a-very-long-host-name-of-a-r");
        assert!(endpoint(at, Some(6), &Long).ends_with(".example.org:http"));
        assert!(endpoint(at, None, &Long).ends_with(".example.org:80"));
    }

    #[test]
    fn a_daemon_is_told_with_all_its_options() {
        let mut daemon = SyncDaemon::new(crate::config::SyncRole::Master);
        daemon.maxlen = 1472;
        assert_eq!(
            daemon_line(&daemon),
            "master sync daemon (mcast=eth0, syncid=0, maxlen=1472, group=224.0.0.81, port=8848, \
             ttl=1)\n"
        );
    }
}
