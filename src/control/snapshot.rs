//! A picture of what runs: services with their servers and counters, connections, timeouts, daemons.
//!
//! It is taken from the [`Director`] on one side of the control socket and put together again on the
//! other; in between each thing is one line of words. The words are private to one version of the
//! program, so each has its place and no name.
//!
//! Left out on purpose: what only a rules file says (ports, routes, neighbours).

use std::fmt::{self, Display, Write};
use std::net::{IpAddr, SocketAddr};
use std::str::{FromStr, SplitAsciiWhitespace};

use crate::config::{
    Config, DestSpec, Method, ServiceKey, ServiceSpec, SyncDaemon, SyncRole, Timeouts,
    TunnelChecksum, TunnelType,
};
use crate::conn::{Conn, Flags};
use crate::director::stats::{Counts, Stats};
use crate::director::{Dest, Director};
use crate::packet::{Endpoint, Family};
use crate::sched::Scheduler;
use crate::world::Instant;

/// Buckets of the kernel's connection table unless it was told otherwise; tools expect the number.
pub const TABLE_SIZE: u32 = 4096;

/// What runs, or a part of it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Snapshot {
    /// Services in no order that means anything.
    pub services: Vec<ServiceView>,
    /// Connections and templates in no order that means anything.
    pub conns: Vec<ConnView>,
    /// What has gone through in all.
    pub total: Total,
    /// `--set`.
    pub timeouts: Timeouts,
    /// Synchronisation daemons.
    pub daemons: Vec<SyncDaemon>,
    /// The virtual ports that the FTP helper serves, and how many connections it listens to there.
    pub ftp: Vec<(u16, u32)>,
}

/// A service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServiceView {
    /// What the operator said.
    pub spec: ServiceSpec,
    /// The last sample of its counters.
    pub counts: Counts,
    /// A second.
    pub rates: Counts,
    /// Its servers, newest first.
    pub dests: Vec<DestView>,
}

/// A server of a service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DestView {
    /// What the operator said.
    pub spec: DestSpec,
    /// Active connections.
    pub active: u32,
    /// Inactive connections.
    pub inactive: u32,
    /// Persistence templates.
    pub persistent: u32,
    /// The last sample of its counters.
    pub counts: Counts,
    /// A second.
    pub rates: Counts,
}

/// A connection or a template.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConnView {
    /// IP protocol; 0 for the template of a firewall mark.
    pub proto: u8,
    /// The client's end.
    pub client: Endpoint,
    /// The virtual end.
    pub virt: Endpoint,
    /// The server's end.
    pub dest: Endpoint,
    /// The name of its state.
    pub state: String,
    /// Whole seconds until it ends.
    pub expires_s: u64,
    /// Whether it is a template.
    pub template: bool,
    /// The Call-ID that a template is known by (`--pe sip`).
    pub call: Option<String>,
}

/// The counters of the whole.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Total {
    /// Up to now.
    pub live: Counts,
    /// The last sample.
    pub counts: Counts,
    /// A second.
    pub rates: Counts,
}

impl Snapshot {
    /// Takes in one line.
    ///
    /// # Errors
    /// The line is none of those that are made below.
    pub fn take(&mut self, line: &str) -> Result<(), NotALine> {
        let mut words = Words(line.split_ascii_whitespace());
        match words.next()? {
            "S" => self.services.push(words.service()?),
            "D" => self.services.last_mut().ok_or(NotALine)?.dests.push(words.dest()?),
            "C" => self.conns.push(words.conn()?),
            "T" => self.total = words.total()?,
            "O" => {
                let (tcp, tcp_fin, udp) = (words.parse()?, words.parse()?, words.parse()?);
                self.timeouts = Timeouts { tcp, tcp_fin, udp };
            }
            "Y" => self.daemons.push(words.daemon()?),
            "F" => self.ftp.push((words.parse()?, words.parse()?)),
            _ => return Err(NotALine),
        }
        match words.0.next() {
            None => Ok(()),
            Some(_) => Err(NotALine),
        }
    }

    /// All its lines.
    pub fn lines(&self) -> String {
        let mut out = String::new();
        for service in &self.services {
            write_service(&mut out, &service.spec, service.counts, service.rates);
            service.dests.iter().for_each(|dest| write_dest(&mut out, dest));
        }
        self.conns.iter().for_each(|conn| write_conn(&mut out, conn));
        write_total(&mut out, &self.total);
        write_timeouts(&mut out, self.timeouts);
        self.daemons.iter().for_each(|daemon| write_daemon(&mut out, daemon));
        self.ftp.iter().for_each(|&(port, used)| write_ftp(&mut out, port, used));
        out
    }
}

/// The other end speaks another language.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NotALine;

/// Writes the lines of a service and its servers; false if there is no such service.
pub fn put_service(out: &mut String, director: &Director, key: &ServiceKey) -> bool {
    let services = director.services();
    let Some(id) = services.find(key) else { return false };
    let service = services.service(id);
    write_service(out, &service.spec, service.stats.shown(), service.stats.rates());
    for &dest in &service.dests {
        write_dest(out, &view_of(services.dest(dest)));
    }
    true
}

/// Writes the line of a connection; `call` is the Call-ID that it is known by, in Latin-1.
pub fn put_conn(out: &mut String, now: Instant, conn: &Conn, call: Option<&[u8]>) {
    let Conn { proto, client, virt, dest, .. } = *conn;
    let state = conn.state.to_string();
    let expires_s = conn.deadline.since(now).as_secs();
    let template = conn.flags.has(Flags::TEMPLATE);
    let call = call.map(|call| call.iter().copied().map(char::from).collect());
    write_conn(out, &ConnView { proto, client, virt, dest, state, expires_s, template, call });
}

/// Writes the counters of the whole.
pub fn put_total(out: &mut String, total: &Stats) {
    let (live, counts, rates) = (total.live(), total.shown(), total.rates());
    write_total(out, &Total { live, counts, rates });
}

/// Writes timeouts, daemons, and whom the FTP helper serves.
pub fn put_settings(out: &mut String, config: &Config, director: &Director) {
    write_timeouts(out, config.timeouts_s);
    config.sync.values().for_each(|daemon| write_daemon(out, daemon));
    director.ftp_ports().for_each(|(port, used)| write_ftp(out, port, used));
}

/// A server as it is seen now.
fn view_of(dest: &Dest) -> DestView {
    DestView {
        spec: dest.spec.clone(),
        active: dest.active,
        inactive: dest.inactive,
        persistent: dest.persistent,
        counts: dest.stats.shown(),
        rates: dest.stats.rates(),
    }
}

fn put(out: &mut String, words: fmt::Arguments<'_>) {
    out.write_fmt(words).expect("writing to a string does not fail");
}

fn write_service(out: &mut String, spec: &ServiceSpec, counts: Counts, rates: Counts) {
    match spec.key {
        ServiceKey::Address { proto, virt } => put(out, format_args!("S a {proto} {virt}")),
        ServiceKey::Mark { family: Family::V4, mark } => put(out, format_args!("S m 4 {mark}")),
        ServiceKey::Mark { family: Family::V6, mark } => put(out, format_args!("S m 6 {mark}")),
    }
    let scheduler = spec.scheduler.map_or("none", Scheduler::name);
    let persistent = spec.persistent_s.unwrap_or(0);
    let (ops, sip) = (u8::from(spec.one_packet), u8::from(spec.sip));
    let (flags, mask) = (spec.sched_flags, spec.netmask);
    put(out, format_args!(" {scheduler} {flags} {persistent} {mask} {ops} {sip}"));
    write_counts(out, counts);
    write_counts(out, rates);
    out.push('\n');
}

fn write_dest(out: &mut String, dest: &DestView) {
    let DestSpec { dest: at, method, weight, upper, lower, tunnel } = &dest.spec;
    let method = match method {
        Method::Masq => 'm',
        Method::Tunnel => 'i',
        Method::Route => 'g',
    };
    put(out, format_args!("D {at} {method} {weight} {upper} {lower}"));
    match *tunnel {
        TunnelType::Ipip => out.push_str(" ipip 0 0"),
        TunnelType::Gue { port, checksum } => {
            put(out, format_args!(" gue {port} {}", checksum as u8));
        }
        TunnelType::Gre { checksum } => put(out, format_args!(" gre 0 {}", checksum as u8)),
    }
    put(out, format_args!(" {} {} {}", dest.active, dest.inactive, dest.persistent));
    write_counts(out, dest.counts);
    write_counts(out, dest.rates);
    out.push('\n');
}

fn write_conn(out: &mut String, conn: &ConnView) {
    let ConnView { proto, client, virt, dest, state, expires_s, template, call } = conn;
    let template = u8::from(*template);
    put(out, format_args!("C {proto} {client} {virt} {dest} {state} {expires_s} {template}"));
    if let Some(call) = call {
        put(out, format_args!(" {call}"));
    }
    out.push('\n');
}

fn write_total(out: &mut String, total: &Total) {
    out.push('T');
    [total.live, total.counts, total.rates].into_iter().for_each(|c| write_counts(out, c));
    out.push('\n');
}

fn write_timeouts(out: &mut String, timeouts: Timeouts) {
    let Timeouts { tcp, tcp_fin, udp } = timeouts;
    put(out, format_args!("O {tcp} {tcp_fin} {udp}\n"));
}

fn write_daemon(out: &mut String, daemon: &SyncDaemon) {
    let SyncDaemon { role, interface, syncid, maxlen, group, port, ttl } = daemon;
    let role = role.name();
    put(out, format_args!("Y {role} {interface} {syncid} {maxlen} {group} {port} {ttl}\n"));
}

fn write_ftp(out: &mut String, port: u16, used: u32) {
    put(out, format_args!("F {port} {used}\n"));
}

fn write_counts(out: &mut String, counts: Counts) {
    let Counts { conns, in_packets, out_packets, in_bytes, out_bytes } = counts;
    if counts == Counts::default() {
        // The usual case of a large table at rest.
        out.push_str(" 0 0 0 0 0");
        return;
    }
    put(out, format_args!(" {conns} {in_packets} {out_packets} {in_bytes} {out_bytes}"));
}

/// What is left of a line.
struct Words<'a>(SplitAsciiWhitespace<'a>);

impl<'a> Words<'a> {
    fn next(&mut self) -> Result<&'a str, NotALine> {
        self.0.next().ok_or(NotALine)
    }

    fn parse<T: FromStr>(&mut self) -> Result<T, NotALine> {
        self.next()?.parse().map_err(|_| NotALine)
    }

    fn flag(&mut self) -> Result<bool, NotALine> {
        match self.next()? {
            "0" => Ok(false),
            "1" => Ok(true),
            _ => Err(NotALine),
        }
    }

    fn endpoint(&mut self) -> Result<Endpoint, NotALine> {
        let at: SocketAddr = self.parse()?;
        Ok(Endpoint::new(at.ip(), at.port()))
    }

    fn counts(&mut self) -> Result<Counts, NotALine> {
        Ok(Counts {
            conns: self.parse()?,
            in_packets: self.parse()?,
            out_packets: self.parse()?,
            in_bytes: self.parse()?,
            out_bytes: self.parse()?,
        })
    }

    fn total(&mut self) -> Result<Total, NotALine> {
        Ok(Total { live: self.counts()?, counts: self.counts()?, rates: self.counts()? })
    }

    fn service(&mut self) -> Result<ServiceView, NotALine> {
        let key = match self.next()? {
            "a" => ServiceKey::Address { proto: self.parse()?, virt: self.endpoint()? },
            _ => {
                let family = match self.next()? {
                    "4" => Family::V4,
                    _ => Family::V6,
                };
                ServiceKey::Mark { family, mark: self.parse()? }
            }
        };
        let scheduler = match self.next()? {
            "none" => None,
            name => Some(Scheduler::named(name).ok_or(NotALine)?),
        };
        let sched_flags = self.parse()?;
        let persistent_s = Some(self.parse()?).filter(|&seconds: &u32| seconds != 0);
        let netmask = self.parse()?;
        let (one_packet, sip) = (self.flag()?, self.flag()?);
        let spec =
            ServiceSpec { key, scheduler, sched_flags, persistent_s, netmask, one_packet, sip };
        Ok(ServiceView { spec, counts: self.counts()?, rates: self.counts()?, dests: Vec::new() })
    }

    fn dest(&mut self) -> Result<DestView, NotALine> {
        let dest = self.endpoint()?;
        let method = match self.next()? {
            "m" => Method::Masq,
            "i" => Method::Tunnel,
            "g" => Method::Route,
            _ => return Err(NotALine),
        };
        let (weight, upper, lower) = (self.parse()?, self.parse()?, self.parse()?);
        let (kind, port) = (self.next()?, self.parse()?);
        let checksum = match self.next()? {
            "0" => TunnelChecksum::None,
            "1" => TunnelChecksum::Full,
            _ => TunnelChecksum::Remote,
        };
        let tunnel = match kind {
            "gue" => TunnelType::Gue { port, checksum },
            "gre" => TunnelType::Gre { checksum },
            _ => TunnelType::Ipip,
        };
        Ok(DestView {
            spec: DestSpec { dest, method, weight, upper, lower, tunnel },
            active: self.parse()?,
            inactive: self.parse()?,
            persistent: self.parse()?,
            counts: self.counts()?,
            rates: self.counts()?,
        })
    }

    fn conn(&mut self) -> Result<ConnView, NotALine> {
        Ok(ConnView {
            proto: self.parse()?,
            client: self.endpoint()?,
            virt: self.endpoint()?,
            dest: self.endpoint()?,
            state: self.next()?.to_owned(),
            expires_s: self.parse()?,
            template: self.flag()?,
            call: self.0.next().map(str::to_owned),
        })
    }

    fn daemon(&mut self) -> Result<SyncDaemon, NotALine> {
        Ok(SyncDaemon {
            role: SyncRole::named(self.next()?).ok_or(NotALine)?,
            interface: self.next()?.to_owned(),
            syncid: self.parse()?,
            maxlen: self.parse()?,
            group: self.parse::<IpAddr>()?,
            port: self.parse()?,
            ttl: self.parse()?,
        })
    }
}

impl Display for NotALine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a line that tapvs does not write")
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::packet::proto;
    use crate::world::Rng;

    fn counts(rng: &mut Rng) -> Counts {
        Counts {
            conns: rng.next_u64() >> (rng.next_u32() % 64),
            in_packets: rng.next_u64() >> (rng.next_u32() % 64),
            out_packets: 0,
            in_bytes: rng.next_u64(),
            out_bytes: u64::from(rng.next_u16()),
        }
    }

    fn endpoint(rng: &mut Rng, v6: bool) -> Endpoint {
        let addr = match v6 {
            true => {
                IpAddr::V6((u128::from(rng.next_u64()) << 64 | u128::from(rng.next_u64())).into())
            }
            false => IpAddr::V4(rng.next_u32().into()),
        };
        Endpoint::new(addr, rng.next_u16())
    }

    /// Some picture, always the same for the same die.
    pub(crate) fn some_snapshot(rng: &mut Rng) -> Snapshot {
        let service = |rng: &mut Rng| {
            let v6 = rng.next_u32() % 2 == 0;
            let key = match rng.next_u32() % 3 {
                0 => ServiceKey::Mark {
                    family: if v6 { Family::V6 } else { Family::V4 },
                    mark: rng.next_u32() | 1,
                },
                _ => ServiceKey::Address { proto: proto::UDP, virt: endpoint(rng, v6) },
            };
            let all = Scheduler::ALL;
            let spec = ServiceSpec {
                key,
                scheduler: all.get(rng.next_u32() as usize % (all.len() + 1)).copied(),
                sched_flags: (rng.next_u16() % 8) as u8,
                persistent_s: Some(rng.next_u32() % 3).filter(|&s| s != 0),
                netmask: ServiceSpec::full_mask(key.family()),
                one_packet: rng.next_u32() % 2 == 0,
                sip: rng.next_u32() % 2 == 0,
            };
            let dest = |rng: &mut Rng| {
                let checksum = match rng.next_u32() % 3 {
                    0 => TunnelChecksum::None,
                    1 => TunnelChecksum::Full,
                    _ => TunnelChecksum::Remote,
                };
                let spec = DestSpec {
                    dest: endpoint(rng, v6),
                    method: [Method::Masq, Method::Route, Method::Tunnel]
                        [rng.next_u32() as usize % 3],
                    weight: rng.next_u32() >> 1,
                    upper: 9,
                    lower: 3,
                    tunnel: match rng.next_u32() % 3 {
                        0 => TunnelType::Ipip,
                        1 => TunnelType::Gue { port: rng.next_u16() | 1, checksum },
                        _ => TunnelType::Gre { checksum },
                    },
                };
                let (counts, rates) = (counts(rng), counts(rng));
                DestView { spec, active: 1, inactive: 2, persistent: 3, counts, rates }
            };
            let dests = (0..rng.next_u32() % 4).map(|_| dest(rng)).collect();
            ServiceView { spec, counts: counts(rng), rates: counts(rng), dests }
        };
        let conn = |rng: &mut Rng| ConnView {
            proto: proto::TCP,
            client: endpoint(rng, false),
            virt: endpoint(rng, false),
            dest: endpoint(rng, true),
            state: "ESTABLISHED".to_owned(),
            expires_s: u64::from(rng.next_u16()),
            template: rng.next_u32() % 2 == 0,
            call: (rng.next_u32() % 2 == 0).then(|| "a\u{e9}@h".to_owned()),
        };
        let services = (0..rng.next_u32() % 6).map(|_| service(rng)).collect();
        let conns = (0..rng.next_u32() % 6).map(|_| conn(rng)).collect();
        let total = Total { live: counts(rng), counts: counts(rng), rates: counts(rng) };
        let daemons = vec![SyncDaemon::new(SyncRole::Master), SyncDaemon::new(SyncRole::Backup)];
        Snapshot {
            services,
            conns,
            total,
            timeouts: Timeouts::default(),
            daemons,
            ftp: vec![(21, 2)],
        }
    }

    #[test]
    fn a_picture_survives_its_lines() {
        let mut rng = Rng::new(11);
        for _ in 0..200 {
            let picture = some_snapshot(&mut rng);
            let mut again = Snapshot::default();
            for line in picture.lines().lines() {
                again.take(line).unwrap_or_else(|_| panic!("{line}"));
            }
            assert_eq!(again, picture);
        }
    }

    #[test]
    fn lines_that_are_none_are_refused() {
        for line in
            ["", "S", "X 1", "D 1.1.1.1:1 m 1 0 0 ipip 0 0", "O 1 2", "O 1 2 3 4", "O 1 2 x"]
        {
            assert_eq!(Snapshot::default().take(line), Err(NotALine), "{line}");
        }
    }
}
