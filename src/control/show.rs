//! What runs, as text: byte for byte what `ipvsadm` prints.

use std::cmp::Ordering;
use std::fmt::Write;
use std::net::IpAddr;

use crate::config::{Method, ServiceKey, ServiceSpec};
use crate::director::{Dest, Director, Service};
use crate::packet::{proto, Endpoint, Family};

/// The size that the kernel's table has unless it was told otherwise; tools expect the line.
const TITLE: &str = "IP Virtual Server version 1.2.1 (size=4096)\n\
    Prot LocalAddress:Port Scheduler Flags\n  \
    -> RemoteAddress:Port           Forward Weight ActiveConn InActConn\n";

/// `ipvsadm -Ln`: every service with its servers, sorted.
pub fn list(director: &Director) -> String {
    let services = director.services();
    let mut sorted: Vec<&Service> = services.iter().collect();
    sorted.sort_by(|a, b| order_of_services(&a.spec.key, &b.spec.key));
    let mut text = TITLE.to_owned();
    for service in sorted {
        text.push_str(&service_line(&service.spec));
        let mut dests: Vec<&Dest> = service.dests.iter().map(|&id| services.dest(id)).collect();
        dests.sort_by(|a, b| order_of_endpoints(a.spec.dest, b.spec.dest));
        for dest in dests {
            text.push_str(&dest_line(dest));
        }
    }
    text
}

/// Protocol and address, scheduler, flags.
fn service_line(spec: &ServiceSpec) -> String {
    let mut line = service_name(&spec.key);
    let scheduler = spec.scheduler.map_or("none", |kind| kind.name());
    let _ = write!(line, " {scheduler}");
    let names = spec.scheduler.map_or(["flag-1", "flag-2", "flag-3"], |kind| kind.flag_names());
    let set = (0..).zip(names).filter(|(bit, _)| spec.sched_flags & (1 << bit) != 0);
    let flags: Vec<_> = set.map(|(_, name)| name).collect();
    if !flags.is_empty() {
        let _ = write!(line, " ({})", flags.join(","));
    }
    if let Some(seconds) = spec.persistent_s {
        let _ = write!(line, " persistent {seconds}");
        let family = spec.key.family();
        if spec.netmask != ServiceSpec::full_mask(family) {
            let _ = match family {
                Family::V4 => write!(line, " mask {}", std::net::Ipv4Addr::from(spec.netmask)),
                Family::V6 => write!(line, " mask {}", spec.netmask),
            };
        }
        if spec.sip {
            line.push_str(" pe sip");
        }
    }
    if spec.one_packet {
        line.push_str(" ops");
    }
    line.push('\n');
    line
}

/// `TCP  10.0.0.1:80`, `FWM  5`, `FWM  5 IPv6`. A mark is printed signed, as the tool does.
fn service_name(key: &ServiceKey) -> String {
    match key {
        ServiceKey::Address { proto, virt } => format!("{:<4} {virt}", proto_name(*proto)),
        ServiceKey::Mark { family: Family::V4, mark } => format!("FWM  {}", signed(*mark)),
        ServiceKey::Mark { family: Family::V6, mark } => {
            format!("FWM  {} IPv6", signed(*mark))
        }
    }
}

const fn proto_name(proto: u8) -> &'static str {
    match proto {
        proto::UDP => "UDP",
        proto::SCTP => "SCTP",
        _ => "TCP",
    }
}

fn dest_line(dest: &Dest) -> String {
    let forward = match dest.spec.method {
        Method::Masq => "Masq",
        Method::Tunnel => "Tunnel",
        Method::Route => "Route",
    };
    let (endpoint, weight) = (dest.spec.dest.to_string(), dest.spec.weight);
    let (active, inactive) = (dest.active, dest.inactive);
    format!("  -> {endpoint:<28} {forward:<7} {weight:<6} {active:<10} {inactive:<10}\n")
}

/// Marks come last; then family, protocol, address and port.
fn order_of_services(a: &ServiceKey, b: &ServiceKey) -> Ordering {
    use ServiceKey::{Address, Mark};
    match (a, b) {
        (Mark { mark: x, family: v }, Mark { mark: y, family: w }) => x.cmp(y).then(v.cmp(w)),
        (Mark { .. }, Address { .. }) => Ordering::Greater,
        (Address { .. }, Mark { .. }) => Ordering::Less,
        (Address { proto: p, virt: v }, Address { proto: q, virt: w }) => {
            let family = Family::of(v.addr).cmp(&Family::of(w.addr));
            family.then(p.cmp(q)).then_with(|| order_of_endpoints(*v, *w))
        }
    }
}

fn order_of_endpoints(a: Endpoint, b: Endpoint) -> Ordering {
    order_of_addresses(a.addr, b.addr).then(a.port.cmp(&b.port))
}

/// The tool subtracts 32-bit words and looks at the sign, so addresses more than 2^31 apart come the
/// wrong way round; of an IPv4 and an IPv6 address only the first words are compared.
fn order_of_addresses(a: IpAddr, b: IpAddr) -> Ordering {
    let words = |addr| match addr {
        IpAddr::V4(addr) => vec![u32::from(addr)],
        IpAddr::V6(addr) => {
            let word = |i: u32| u32::try_from(u128::from(addr) >> (96 - 32 * i) & 0xffff_ffff);
            (0..4).map(|i| word(i).expect("32 bits")).collect()
        }
    };
    let pairs = words(a).into_iter().zip(words(b));
    let differences = pairs.map(|(a, b)| signed(a.wrapping_sub(b)));
    differences.map(|d| d.cmp(&0)).find(|order| order.is_ne()).unwrap_or(Ordering::Equal)
}

/// The same bits as a signed number.
const fn signed(bits: u32) -> i32 {
    i32::from_ne_bytes(bits.to_ne_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sched::Scheduler::{Mh, Rr, Sh};

    #[test]
    fn flags_have_the_names_of_the_scheduler_and_stand_before_persistence() {
        let key = ServiceKey::Mark { family: Family::V4, mark: 5 };
        let line = |scheduler, sched_flags| {
            service_line(&ServiceSpec {
                key,
                scheduler,
                sched_flags,
                persistent_s: Some(60),
                netmask: 0xffff_0000,
                one_packet: true,
                sip: false,
            })
        };
        let rest = "persistent 60 mask 255.255.0.0 ops\n";
        assert_eq!(line(None, 1), format!("FWM  5 none (flag-1) {rest}"));
        assert_eq!(line(Some(Sh), 3), format!("FWM  5 sh (sh-fallback,sh-port) {rest}"));
        assert_eq!(line(Some(Mh), 6), format!("FWM  5 mh (mh-port,flag-3) {rest}"));
        assert_eq!(line(Some(Rr), 0), format!("FWM  5 rr {rest}"));
    }

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
    }
}
