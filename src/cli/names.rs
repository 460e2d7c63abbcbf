//! Names of hosts and ports, for those who do not say `-n`.
//!
//! Kept from ipvsadm: a host's name is asked of the system's resolver (IPv4 only), a port's of
//! `/etc/services`. The resolver is asked through `getent`, since one that is linked into a static
//! executable would need the very libraries that it was built against. Left out on purpose: asking
//! the DNS for the name of an address; `/etc/hosts` alone is asked, so that a listing never waits for
//! a server that may be what is down.

use std::collections::BTreeMap;
use std::fs;
use std::net::{IpAddr, Ipv4Addr};
use std::process::Command;

use crate::config::Names;
use crate::control::show::Reverse;
use crate::packet::proto;

/// The files' contents: one table, in which every key says what it is of, since nobody waits for it and
/// four would be four times the code.
#[derive(Debug, Default)]
pub(super) struct Known(BTreeMap<String, String>);

/// The key of a port's number, of its name, and of a host's.
fn port_key(port: u16, protocol: u8) -> String {
    format!("{port}/{protocol}")
}

fn service_key(name: &str, protocol: u8) -> String {
    format!("{protocol} {name}")
}

fn host_key(name: &str) -> String {
    format!("@{name}")
}

impl Known {
    /// Reads the files; what cannot be read names nothing.
    pub(super) fn read() -> Self {
        let text = |path| fs::read_to_string(path).unwrap_or_default();
        Self::of(&text("/etc/services"), &text("/etc/hosts"))
    }

    /// Understands the files' texts.
    fn of(services: &str, hosts: &str) -> Self {
        let mut known = Self::default();
        for mut words in entries(services) {
            let (Some(name), Some(place)) = (words.next(), words.next()) else { continue };
            let Some((port, protocol)) = place.split_once('/') else { continue };
            let (Ok(port), Some(protocol)) = (port.parse(), protocol_number(protocol)) else {
                continue;
            };
            known.learn(port_key(port, protocol), name);
            for name in std::iter::once(name).chain(words) {
                known.learn(service_key(name, protocol), &port.to_string());
            }
        }
        for mut words in entries(hosts) {
            let (Some(addr), Some(name)) = (words.next(), words.next()) else { continue };
            let Ok(parsed) = addr.parse::<IpAddr>() else { continue };
            known.learn(parsed.to_string(), name);
            if parsed.is_ipv6() {
                continue;
            }
            for name in std::iter::once(name).chain(words) {
                known.learn(host_key(name), addr);
            }
        }
        known
    }

    /// What a file says first counts.
    fn learn(&mut self, key: String, value: &str) {
        self.0.entry(key).or_insert_with(|| value.to_owned());
    }

    /// What `/etc/hosts` says, for machines that have no `getent`.
    fn address_of(&self, name: &str) -> Option<Ipv4Addr> {
        self.0.get(&host_key(name))?.parse().ok()
    }
}

impl Names for Known {
    fn host(&self, name: &str) -> Option<Ipv4Addr> {
        let asked = Command::new("getent").args(["ahostsv4", "--", name]).output();
        let told = asked.map(|answer| String::from_utf8_lossy(&answer.stdout).into_owned());
        first_address(told.as_deref().unwrap_or_default()).or_else(|| self.address_of(name))
    }

    fn port(&self, name: &str, protocol: u8) -> Option<u16> {
        self.0.get(&service_key(name, protocol))?.parse().ok()
    }

    fn lets_brackets_hide_ports(&self) -> bool {
        true
    }
}

impl Reverse for Known {
    fn host(&self, addr: IpAddr) -> Option<String> {
        self.0.get(&addr.to_string()).cloned()
    }

    fn port(&self, port: u16, protocol: u8) -> Option<String> {
        self.0.get(&port_key(port, protocol)).cloned()
    }
}

/// The first address in the answer of `getent`: one a line, each followed by its kind and a name.
fn first_address(answer: &str) -> Option<Ipv4Addr> {
    answer.split_whitespace().next()?.parse().ok()
}

/// The words of each line that is not empty, comments left out.
fn entries(text: &str) -> impl Iterator<Item = std::str::SplitWhitespace<'_>> {
    text.lines().map(|line| line.split('#').next().unwrap_or("").split_whitespace())
}

fn protocol_number(name: &str) -> Option<u8> {
    match name {
        "tcp" => Some(proto::TCP),
        "udp" => Some(proto::UDP),
        "sctp" => Some(proto::SCTP),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_and_hosts_are_named_as_the_files_say() {
        let known = Known::of(
            "http\t80/tcp  www # WorldWideWeb\nhttp 8080/tcp\ndomain 53/udp\nodd\nbad x/tcp\n",
            "127.0.0.1 localhost\n10.0.0.1 web.example.org web # ours\nfd00::1 six\nx y\n",
        );
        assert_eq!(Names::port(&known, "www", proto::TCP), Some(80));
        assert_eq!(Names::port(&known, "http", proto::TCP), Some(80));
        assert_eq!(Names::port(&known, "http", proto::UDP), None);
        assert_eq!(Reverse::port(&known, 53, proto::UDP).as_deref(), Some("domain"));
        assert_eq!(Reverse::port(&known, 8080, proto::TCP).as_deref(), Some("http"));
        let host = |addr: &str| Reverse::host(&known, addr.parse().expect("address"));
        assert_eq!(host("10.0.0.1").as_deref(), Some("web.example.org"));
        assert_eq!(host("fd00::1").as_deref(), Some("six"));
        assert_eq!(host("10.0.0.9"), None);
        assert_eq!(known.address_of("web"), Some(Ipv4Addr::new(10, 0, 0, 1)));
        assert_eq!(known.address_of("six"), None);
    }

    #[test]
    fn the_resolver_knows_this_host_and_no_name_is_an_option() {
        let known = Known::of("", "127.0.0.1 localhost\n");
        assert_eq!(Names::host(&known, "localhost"), Some(Ipv4Addr::LOCALHOST));
        assert_eq!(Names::host(&known, "--help"), None);
        assert_eq!(
            first_address("10.0.0.7  STREAM web\n10.0.0.8 DGRAM\n"),
            Some(Ipv4Addr::new(10, 0, 0, 7))
        );
        assert_eq!(first_address(""), None);
    }
}
