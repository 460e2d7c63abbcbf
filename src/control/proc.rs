//! A picture as the files under `/proc/net` of the kernel, for tools that read those.
//!
//! Kept: `ip_vs`, `ip_vs_conn`, `ip_vs_conn_sync`, `ip_vs_stats`, `ip_vs_stats_percpu` and
//! `ip_vs_app`, with their numbers in hexadecimal, their blanks, and persistence in jiffies of a
//! 250 Hz kernel. There is one processor, the one that balances.

use std::fmt::Write;
use std::net::IpAddr;

use super::show::{conn_protocol, protocol_name, scheduler_name};
use super::snapshot::{ConnView, DestView, ServiceView, Snapshot, Total, TABLE_SIZE};
use crate::config::{Method, ServiceKey};
use crate::director::stats::Counts;
use crate::packet::{Endpoint, Family};

/// Jiffies of a second.
const HZ: u64 = 250;

/// One of the files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum File {
    /// `ip_vs`
    Services,
    /// `ip_vs_conn`
    Connections,
    /// `ip_vs_conn_sync`
    Origins,
    /// `ip_vs_stats`
    Stats,
    /// `ip_vs_stats_percpu`
    Percpu,
    /// `ip_vs_app`
    Apps,
}

impl File {
    /// Every file.
    pub const ALL: &'static [Self] =
        &[Self::Services, Self::Connections, Self::Origins, Self::Stats, Self::Percpu, Self::Apps];

    /// Its name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Services => "ip_vs",
            Self::Connections => "ip_vs_conn",
            Self::Origins => "ip_vs_conn_sync",
            Self::Stats => "ip_vs_stats",
            Self::Percpu => "ip_vs_stats_percpu",
            Self::Apps => "ip_vs_app",
        }
    }

    /// The file of that name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|file| file.name() == name)
    }

    /// What reading it gives.
    pub fn text(self, picture: &Snapshot) -> String {
        match self {
            Self::Services => services(&picture.services),
            Self::Connections => connections(&picture.conns),
            Self::Origins => origins(&picture.conns),
            Self::Stats => stats(&picture.total),
            Self::Percpu => percpu(&picture.total),
            Self::Apps => apps(&picture.ftp),
        }
    }
}

/// The ports that came last stand first.
fn apps(ftp: &[(u16, u32)]) -> String {
    let mut out = "prot port    usecnt name\n".to_owned();
    for (port, used) in ftp.iter().rev() {
        let _ = writeln!(out, "TCP  {port:<7} {used:<6} {:<17}", "ftp");
    }
    out
}

fn services(services: &[ServiceView]) -> String {
    let mut out = format!(
        "IP Virtual Server version 1.2.1 (size={TABLE_SIZE})\n\
         Prot LocalAddress:Port Scheduler Flags\n  \
         -> RemoteAddress:Port Forward Weight ActiveConn InActConn\n"
    );
    for service in services {
        service_line(&mut out, service);
        service.dests.iter().for_each(|dest| dest_line(&mut out, dest));
    }
    out
}

fn service_line(out: &mut String, service: &ServiceView) {
    let spec = &service.spec;
    let scheduler = scheduler_name(spec);
    let ops = if spec.one_packet { "ops " } else { "" };
    let _ = match spec.key {
        ServiceKey::Address { proto, virt } => {
            // The kernel does not tell one-packet services of IPv6.
            let (ops, blank) = if virt.addr.is_ipv6() { ("", "") } else { (ops, " ") };
            let (proto, virt) = (protocol_name(proto), endpoint(virt));
            write!(out, "{proto}  {virt} {scheduler} {ops}{blank}")
        }
        ServiceKey::Mark { mark, .. } => write!(out, "FWM  {mark:08X} {scheduler} {ops}"),
    };
    if let Some(seconds) = spec.persistent_s {
        let mask = match spec.key.family() {
            Family::V4 => spec.netmask,
            Family::V6 => spec.netmask.swap_bytes(),
        };
        let _ = write!(out, "persistent {} {mask:08X}", u64::from(seconds) * HZ);
    }
    out.push('\n');
}

fn dest_line(out: &mut String, dest: &DestView) {
    let forward = match dest.spec.method {
        Method::Masq => "Masq",
        Method::Tunnel => "Tunnel",
        Method::Route => "Route",
    };
    let at = endpoint(dest.spec.dest);
    let blanks = if dest.spec.dest.addr.is_ipv4() { "      " } else { " " };
    let (weight, active, inactive) = (dest.spec.weight, dest.active, dest.inactive);
    let _ = writeln!(out, "  -> {at}{blanks}{forward:<7} {weight:<6} {active:<10} {inactive:<10}");
}

fn connections(conns: &[ConnView]) -> String {
    let mut out =
        "Pro FromIP   FPrt ToIP     TPrt DestIP   DPrt State       Expires PEName PEData\n"
            .to_owned();
    for conn in conns {
        conn_start(&mut out, conn);
        let _ = write!(out, " {:>7}", conn.expires_s);
        if let Some(call) = &conn.call {
            let _ = write!(out, " sip {call}");
        }
        out.push('\n');
    }
    out
}

fn origins(conns: &[ConnView]) -> String {
    let mut out =
        "Pro FromIP   FPrt ToIP     TPrt DestIP   DPrt State       Origin Expires\n".to_owned();
    for conn in conns {
        conn_start(&mut out, conn);
        let _ = writeln!(out, " {:<6} {:>7}", "LOCAL", conn.expires_s);
    }
    out
}

/// The part that both tables of connections share.
fn conn_start(out: &mut String, conn: &ConnView) {
    let _ = write!(out, "{:<3}", conn_protocol(conn.proto));
    for end in [conn.client, conn.virt, conn.dest] {
        let _ = write!(out, " {} {:04X}", address(end.addr), end.port);
    }
    let _ = write!(out, " {:<11}", conn.state);
}

fn stats(total: &Total) -> String {
    let mut out = "   Total Incoming Outgoing         Incoming         Outgoing\n   \
        Conns  Packets  Packets            Bytes            Bytes\n"
        .to_owned();
    row(&mut out, total.counts);
    out.push_str("\n Conns/s   Pkts/s   Pkts/s          Bytes/s          Bytes/s\n");
    row(&mut out, total.rates);
    out
}

fn percpu(total: &Total) -> String {
    let mut out = "       Total Incoming Outgoing         Incoming         Outgoing\n\
        CPU    Conns  Packets  Packets            Bytes            Bytes\n  0 "
        .to_owned();
    row(&mut out, total.live);
    out.push_str("  ~ ");
    row(&mut out, total.counts);
    out.push_str("\n     Conns/s   Pkts/s   Pkts/s          Bytes/s          Bytes/s\n    ");
    row(&mut out, total.rates);
    out
}

fn row(out: &mut String, counts: Counts) {
    let Counts { conns, in_packets, out_packets, in_bytes, out_bytes } = counts;
    let _ = writeln!(
        out,
        "{conns:>8X} {in_packets:>8X} {out_packets:>8X} {in_bytes:>16X} {out_bytes:>16X}"
    );
}

/// `0A000001:0050`, `[2001:0db8:…:0080]:0050`.
fn endpoint(at: Endpoint) -> String {
    match at.addr {
        IpAddr::V4(_) => format!("{}:{:04X}", address(at.addr), at.port),
        IpAddr::V6(_) => format!("[{}]:{:04X}", address(at.addr), at.port),
    }
}

/// IPv4 in upper-case digits, IPv6 written out in lower-case ones.
fn address(addr: IpAddr) -> String {
    match addr {
        IpAddr::V4(v4) => format!("{:08X}", u32::from(v4)),
        IpAddr::V6(v6) => {
            let words: Vec<_> = v6.segments().iter().map(|word| format!("{word:04x}")).collect();
            words.join(":")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::command::commands;
    use crate::config::grammar::{line, lines};
    use crate::config::Command;

    /// What `-A` and `-a` lines make.
    fn picture(rules: &str) -> Snapshot {
        let mut picture = Snapshot::default();
        for words in lines(rules) {
            let words = words.expect("is well written");
            let found = line(&words).and_then(|line| commands(&line)).expect("a rule");
            let none = Counts::default();
            match found[0].command.clone() {
                Command::AddService(spec) => picture.services.push(ServiceView {
                    spec,
                    counts: none,
                    rates: none,
                    dests: Vec::new(),
                }),
                Command::AddDest(_, spec) => {
                    let (active, inactive, persistent) = (0, 0, 0);
                    let dest =
                        DestView { spec, active, inactive, persistent, counts: none, rates: none };
                    picture.services.last_mut().expect("a service").dests.insert(0, dest);
                }
                other => panic!("{other:?}"),
            }
        }
        picture
    }

    #[test]
    fn services_are_in_hexadecimal_with_the_kernels_blanks() {
        let picture = picture(
            "-A -t 10.0.0.1:80\n-a -t 10.0.0.1:80 -r 10.9.0.12:8080 -m\n\
             -A -t 10.0.0.1:85 -s rr -p 100 -M 255.255.255.0\n\
             -A -t [2001:db8::80]:80 -s rr -p 300 -M 64\n\
             -a -t [2001:db8::80]:80 -r [2001:db8::1]:80 -m\n\
             -A -u 10.0.0.1:53 -o\n-A -f 5 -o\n",
        );
        assert_eq!(
            File::Services.text(&picture).lines().skip(1).collect::<Vec<_>>(),
            [
                "Prot LocalAddress:Port Scheduler Flags",
                "  -> RemoteAddress:Port Forward Weight ActiveConn InActConn",
                "TCP  0A000001:0050 wlc  ",
                "  -> 0A09000C:1F90      Masq    1      0          0         ",
                "TCP  0A000001:0055 rr  persistent 25000 FFFFFF00",
                "TCP  [2001:0db8:0000:0000:0000:0000:0000:0080]:0050 rr persistent 75000 40000000",
                "  -> [2001:0db8:0000:0000:0000:0000:0000:0001]:0050 Masq    1      0          0         ",
                "UDP  0A000001:0035 wlc ops  ",
                "FWM  00000005 wlc ops ",
            ]
        );
    }

    #[test]
    fn connections_and_their_origins_share_their_front() {
        let at = |addr: &str, port| Endpoint::new(addr.parse().expect("address"), port);
        let mut conn = ConnView {
            proto: 6,
            client: at("10.0.0.2", 1000),
            virt: at("10.1.1.1", 80),
            dest: at("172.16.0.2", 8080),
            state: "ESTABLISHED".to_owned(),
            expires_s: 896,
            template: false,
            call: None,
        };
        let picture = Snapshot { conns: vec![conn.clone()], ..Snapshot::default() };
        assert_eq!(
            File::Connections.text(&picture).lines().nth(1),
            Some("TCP 0A000002 03E8 0A010101 0050 AC100002 1F90 ESTABLISHED     896")
        );
        assert_eq!(
            File::Origins.text(&picture).lines().nth(1),
            Some("TCP 0A000002 03E8 0A010101 0050 AC100002 1F90 ESTABLISHED LOCAL      896")
        );
        conn.call = Some("bbb@h".to_owned());
        assert!(connections(&[conn]).ends_with("ESTABLISHED     896 sip bbb@h\n"));
    }

    #[test]
    fn the_counters_of_the_whole_are_those_of_the_kernels_file() {
        let counts =
            Counts { conns: 4, in_packets: 6, out_packets: 2, in_bytes: 0xf0, out_bytes: 0x88 };
        let total = Total { live: counts, counts, rates: Counts::default() };
        let picture = Snapshot { total, ..Snapshot::default() };
        assert_eq!(
            File::Stats.text(&picture),
            "   Total Incoming Outgoing         Incoming         Outgoing\n   \
             Conns  Packets  Packets            Bytes            Bytes\n       \
             4        6        2               F0               88\n\n \
             Conns/s   Pkts/s   Pkts/s          Bytes/s          Bytes/s\n       \
             0        0        0                0                0\n"
        );
        let percpu = File::Percpu.text(&picture);
        let lines: Vec<_> = percpu.lines().collect();
        assert_eq!(lines[2], "  0        4        6        2               F0               88");
        assert_eq!(lines[3], "  ~        4        6        2               F0               88");
        assert_eq!(lines[6], "           0        0        0                0                0");
    }
}
