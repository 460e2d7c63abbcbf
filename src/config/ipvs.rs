//! `ipvsadm` lines become commands.
//!
//! Kept from ipvsadm 1.31: which option goes with which command, the order in which mistakes are
//! found, the three places where the order of options matters, the filling-in of a server's port
//! (replaced by the service's for `-g` and `-i`, copied for `-m` without one).
//!
//! Left out on purpose: the commands that show (`-L`, `-S`) or move (`-R`) things, which are no
//! rules; [`tool`](super::tool) has them.

use std::net::IpAddr;

use crate::packet::{proto, Endpoint, Family};
use crate::sched::Scheduler;

use super::address::{host_port, inet_aton, number, Literal, Names};
use super::command::{scheduler_names, Placed, Spots};
use super::complaint::{advice, Fault, Mistake, Span};
use super::grammar::{Given, Invocation, Word};
use super::options::{written, Opt};
use super::table::{clash, table, tunnel_table, Clash, COLUMNS, TUNNEL_COLUMNS};
use super::{
    Command, DestSpec, Method, ServiceKey, ServiceSpec, SyncDaemon, SyncRole, TunnelChecksum,
    TunnelType,
};

/// The longest time that `-p` and `--set` take: 31 days in seconds.
pub const TIMEOUT_MAX_S: i64 = 2_678_400;

/// `-p` without a value, in seconds. (ipvsadm's manual says 300; its code does this.)
pub const PERSISTENT_DEFAULT_S: u32 = 360;

/// What an `ipvsadm` line means that changes rules.
///
/// # Errors
/// The first mistake of the line; [`Mistake::NotARule`] for commands that change no rule.
pub fn ipvs(invocation: &Invocation<'_>) -> Result<Placed, Fault> {
    let Invocation { command, options, rest } = invocation;
    let not_a_rule = || {
        let mistake = Mistake::NotARule(written(command.opt));
        if command.opt == Opt::Restore {
            let fault = Fault::new(command.word.at.clone(), mistake);
            return fault.expecting("expected the lines that it would read, here");
        }
        let rules = "expected one of -A -E -D -C -a -e -d --set --start-daemon --stop-daemon";
        Fault::new(command.word.at.clone(), mistake).expecting(rules)
    };
    if !is_rule(command.opt) {
        return Err(not_a_rule());
    }
    let mut said = Said::new(&Literal);
    said.take_command(command)?;
    options.iter().try_for_each(|given| said.take(given))?;
    let (meant, unknown) = said.meaning(command, rest)?;
    if let Some(fault) = unknown {
        return Err(fault);
    }
    let spots = said.spots(command.word.at.clone());
    meant.map(|command| Placed { command, spots }).ok_or_else(not_a_rule)
}

/// Whether a command changes what a rules file keeps.
pub(super) const fn is_rule(command: Opt) -> bool {
    matches!(
        command,
        Opt::AddService
            | Opt::EditService
            | Opt::DeleteService
            | Opt::Clear
            | Opt::AddServer
            | Opt::EditServer
            | Opt::DeleteServer
            | Opt::Set
            | Opt::StartDaemon
            | Opt::StopDaemon
    )
}

/// What the options of a line have said so far.
pub(super) struct Said<'n> {
    names: &'n dyn Names,
    /// The columns that were used, with the place of the option.
    used: Vec<(&'static str, Span)>,
    pub(super) service: Option<(ServiceKey, Span)>,
    scheduler: Option<(Option<Scheduler>, String)>,
    /// A scheduler or engine that nobody knows; the kernel finds out last.
    unknown: Option<Fault>,
    persistent_s: Option<u32>,
    netmask: Option<u32>,
    sip: bool,
    flags: Option<(String, Span)>,
    one_packet: Option<Span>,
    server: Option<(IpAddr, u16, Span)>,
    method: Method,
    weight: Option<u32>,
    upper: u32,
    lower: u32,
    lower_at: Option<Span>,
    tunnel: Option<&'static str>,
    tunnel_port: u16,
    daemon: Option<SyncDaemon>,
    interface_at: Option<Span>,
}

impl<'n> Said<'n> {
    pub(super) fn new(names: &'n dyn Names) -> Self {
        Self {
            names,
            used: Vec::new(),
            service: None,
            scheduler: None,
            unknown: None,
            persistent_s: None,
            netmask: None,
            sip: false,
            flags: None,
            one_packet: None,
            server: None,
            method: Method::default(),
            weight: None,
            upper: 0,
            lower: 0,
            lower_at: None,
            tunnel: None,
            tunnel_port: 0,
            daemon: None,
            interface_at: None,
        }
    }

    /// Takes the command, which may have a value.
    pub(super) fn take_command(&mut self, command: &Given<'_>) -> Result<(), Fault> {
        let Some(value) = &command.value else { return Ok(()) };
        let Some(role) = SyncRole::named(&value.text) else {
            let text = value.text.to_string();
            let mistake = match command.opt {
                Opt::StartDaemon => Mistake::StartDaemon(text),
                _ => Mistake::StopDaemon(text),
            };
            return Err(
                Fault::new(value.at.clone(), mistake).expecting("expected master or backup")
            );
        };
        self.daemon = Some(SyncDaemon::new(role));
        Ok(())
    }

    /// What was said in all: the command, if it changes rules, and what it names that nobody knows.
    pub(super) fn meaning(
        &self,
        command: &Given<'_>,
        rest: &[Word<'_>],
    ) -> Result<(Option<Command>, Option<Fault>), Fault> {
        let at = &command.word.at;
        let timeouts = match command.opt {
            Opt::Set => set_values(at, rest)?,
            _ => [0; 3],
        };
        if let (Some(word), false) = (rest.first(), command.opt == Opt::Set) {
            let mistake = Mistake::UnexpectedArgument(word.text.to_string());
            let needed = table(command.opt).and_then(|table| {
                table.required.iter().find(|option| !self.has(option)).map(|o| how_to_say(o))
            });
            let expected = format!("expected {}", needed.unwrap_or("an option"));
            return Err(Fault::new(word.at.clone(), mistake).expecting(expected));
        }
        let flags = self.sched_flags()?;
        self.check_table(command.opt, at)?;
        let [tcp_s, tcp_fin_s, udp_s] = timeouts;
        let daemon = || self.daemon.clone().unwrap_or(SyncDaemon::new(SyncRole::Master));
        let meant = match command.opt {
            Opt::Set => Command::SetTimeouts { tcp_s, tcp_fin_s, udp_s },
            Opt::Clear => Command::Clear,
            Opt::AddService => Command::AddService(self.service_spec(at, flags)?),
            Opt::EditService => Command::EditService(self.service_spec(at, flags)?),
            Opt::DeleteService => Command::DeleteService(self.key(at)?.0),
            Opt::AddServer => self.dest_spec(at).map(|(k, d)| Command::AddDest(k, d))?,
            Opt::EditServer => self.dest_spec(at).map(|(k, d)| Command::EditDest(k, d))?,
            Opt::DeleteServer => Command::DeleteDest(self.key(at)?.0, self.dest(at)?.0),
            Opt::StartDaemon => Command::StartDaemon(daemon()),
            Opt::StopDaemon => Command::StopDaemon(daemon().role),
            _ => return Ok((None, None)),
        };
        Ok((Some(meant), self.unknown.clone()))
    }

    /// Takes one option, in the order of the line.
    pub(super) fn take(&mut self, given: &Given<'_>) -> Result<(), Fault> {
        let name = given.opt.name();
        if !matches!(given.opt, Opt::Ipv6 | Opt::Sort) {
            if self.place_of(name).is_some() {
                return Err(Fault::new(given.word.at.clone(), Mistake::Repeated(name)));
            }
            self.used.push((name, given.word.at.clone()));
        }
        let value = given.value.as_ref().map_or("", |value| &*value.text);
        let at = given.value.as_ref().map_or(&given.word.at, |value| &value.at).clone();
        match given.opt {
            Opt::Tcp => self.take_service(proto::TCP, value, at),
            Opt::Udp => self.take_service(proto::UDP, value, at),
            Opt::Sctp => self.take_service(proto::SCTP, value, at),
            Opt::Fwmark => self.take_mark(value, at),
            Opt::Ipv6 => self.take_ipv6(at),
            Opt::Scheduler => self.take_scheduler(value, at),
            Opt::Persistent => self.take_persistent(given, at),
            Opt::Netmask => self.take_mask(value, at),
            Opt::Pe => {
                self.take_engine(value, at);
                Ok(())
            }
            Opt::SchedFlags => {
                self.flags = Some((value.to_owned(), at));
                Ok(())
            }
            Opt::Ops => {
                self.one_packet = Some(at);
                Ok(())
            }
            Opt::RealServer => self.take_server(value, at),
            _ => self.take_forwarding(given.opt, value, at),
        }
    }

    /// The options of a server beside its address. Those that no rule takes are left to the table.
    fn take_forwarding(&mut self, opt: Opt, value: &str, at: Span) -> Result<(), Fault> {
        match opt {
            Opt::Gatewaying => self.method = Method::Route,
            Opt::Ipip => self.method = Method::Tunnel,
            Opt::Masquerading => self.method = Method::Masq,
            Opt::Weight => self.weight = Some(limited(value, &at, Mistake::Weight)?),
            Opt::UThreshold => self.upper = limited(value, &at, Mistake::UpperThreshold)?,
            Opt::LThreshold => {
                self.lower = limited(value, &at, Mistake::LowerThreshold)?;
                self.lower_at = Some(at);
            }
            Opt::TunType => self.tunnel = Some(tunnel_kind(value, &at)?),
            Opt::TunPort => {
                let port = number(value, 1..=65535).and_then(|n| u16::try_from(n).ok());
                let mistake = || Mistake::TunnelPort(value.to_owned());
                self.tunnel_port =
                    port.ok_or_else(|| Fault::new(at, mistake()).expecting("expected 1 to 65535"))?;
            }
            Opt::McastInterface
            | Opt::Syncid
            | Opt::McastGroup
            | Opt::McastPort
            | Opt::McastTtl
            | Opt::SyncMaxlen => return self.take_daemon(opt, value, at),
            _ => {}
        }
        Ok(())
    }

    /// The options of a daemon; their values are looked at whatever the command.
    fn take_daemon(&mut self, opt: Opt, value: &str, at: Span) -> Result<(), Fault> {
        let mut unused = SyncDaemon::new(SyncRole::Master);
        let daemon = self.daemon.as_mut().unwrap_or(&mut unused);
        let bad = |mistake: fn(String) -> Mistake, expected: &str| {
            Fault::new(at.clone(), mistake(value.to_owned())).expecting(expected)
        };
        let byte = |least| number(value, least..=255).and_then(|n| u8::try_from(n).ok());
        let short = |most| number(value, 1..=most).and_then(|n| u16::try_from(n).ok());
        match opt {
            Opt::McastInterface => {
                value.clone_into(&mut daemon.interface);
                self.interface_at = Some(at);
            }
            Opt::Syncid => {
                daemon.syncid = byte(0).ok_or_else(|| bad(Mistake::Syncid, "expected 0 to 255"))?;
            }
            Opt::McastTtl => {
                daemon.ttl = byte(1).ok_or_else(|| bad(Mistake::McastTtl, "expected 1 to 255"))?;
            }
            Opt::McastPort => {
                let expected = "expected 1 to 65535";
                daemon.port = short(65_535).ok_or_else(|| bad(Mistake::McastPort, expected))?;
            }
            Opt::SyncMaxlen => {
                let expected = "expected 1 to 65507";
                daemon.maxlen = short(65_507).ok_or_else(|| bad(Mistake::SyncMaxlen, expected))?;
            }
            _ => {
                let group = value.parse().ok().filter(IpAddr::is_multicast);
                let expected = "expected a multicast address, as in 224.0.0.81";
                daemon.group = group.ok_or_else(|| bad(Mistake::McastGroup, expected))?;
            }
        }
        Ok(())
    }

    pub(super) fn has(&self, column: &str) -> bool {
        self.place_of(column).is_some()
    }

    fn place_of(&self, column: &str) -> Option<&Span> {
        self.used.iter().find(|(name, _)| *name == column).map(|(_, at)| at)
    }

    fn take_service(&mut self, proto: u8, value: &str, at: Span) -> Result<(), Fault> {
        let (addr, port) = host_port(value, Some(proto), self.names).map_err(|why| {
            Fault::new(at.clone(), Mistake::VirtualAddress(why)).expecting(ADDRESS_FORM)
        })?;
        if addr.is_ipv6() {
            self.netmask = None;
        }
        let virt = Endpoint::new(addr, port.unwrap_or(0));
        self.service = Some((ServiceKey::Address { proto, virt }, at));
        Ok(())
    }

    fn take_mark(&mut self, value: &str, at: Span) -> Result<(), Fault> {
        let mark = number(value, 1..=i64::from(u32::MAX)).and_then(|n| u32::try_from(n).ok());
        let mistake = || Mistake::Fwmark(value.to_owned());
        let mark = mark.ok_or_else(|| {
            Fault::new(at.clone(), mistake()).expecting("expected 1 to 4294967295, and no port")
        })?;
        self.service = Some((ServiceKey::Mark { family: Family::V4, mark }, at));
        Ok(())
    }

    fn take_ipv6(&mut self, at: Span) -> Result<(), Fault> {
        let Some((ServiceKey::Mark { family, .. }, _)) = &mut self.service else {
            return Err(Fault::new(at, Mistake::Ipv6BeforeMark).expecting("expected `-f MARK -6`"));
        };
        *family = Family::V6;
        self.netmask = None;
        Ok(())
    }

    fn take_scheduler(&mut self, value: &str, at: Span) -> Result<(), Fault> {
        if value.is_empty() {
            return Ok(());
        }
        let found = Scheduler::named(value);
        if found.is_none() && value != "none" {
            let what = format!("one of {}", scheduler_names().join(" "));
            let advice = advice(&what, value, &scheduler_names());
            let fault = Fault::new(at, Mistake::Scheduler(value.to_owned())).expecting(advice);
            self.unknown.get_or_insert(fault);
        }
        self.scheduler = Some((found, value.to_owned()));
        Ok(())
    }

    fn take_persistent(&mut self, given: &Given<'_>, at: Span) -> Result<(), Fault> {
        let Some(value) = &given.value else {
            self.persistent_s = Some(PERSISTENT_DEFAULT_S);
            return Ok(());
        };
        let seconds = number(&value.text, 1..=TIMEOUT_MAX_S).and_then(|n| u32::try_from(n).ok());
        let mistake = Mistake::Timeout(value.text.to_string());
        let fault = || Fault::new(at, mistake).expecting("expected 1 to 2678400 seconds");
        self.persistent_s = Some(seconds.ok_or_else(fault)?);
        Ok(())
    }

    fn take_mask(&mut self, value: &str, at: Span) -> Result<(), Fault> {
        let v6 = self.service.as_ref().is_some_and(|(key, _)| key.family() == Family::V6);
        let found = if v6 {
            number(value, 1..=128).and_then(|n| u32::try_from(n).ok())
        } else {
            inet_aton(value).map(u32::from)
        };
        let Some(mask) = found else {
            return Err(if v6 {
                Fault::new(at, Mistake::Ipv6Mask(value.to_owned())).expecting("expected 1 to 128")
            } else {
                Fault::new(at, Mistake::Mask(value.to_owned()))
                    .expecting("expected a mask as in 255.255.255.0 (for IPv6, the service first)")
            });
        };
        self.netmask = Some(mask);
        Ok(())
    }

    fn take_engine(&mut self, value: &str, at: Span) {
        self.sip = value == "sip";
        if !self.sip && !value.is_empty() {
            let advice = advice("`sip`", value, &["sip"]);
            let fault = Fault::new(at, Mistake::Engine(value.to_owned())).expecting(advice);
            self.unknown.get_or_insert(fault);
        }
    }

    /// The port that is not given is that of the service, if the service came first.
    fn take_server(&mut self, value: &str, at: Span) -> Result<(), Fault> {
        let (protocol, default) = match self.service {
            Some((ServiceKey::Address { proto, virt }, _)) => (Some(proto), virt.port),
            Some((ServiceKey::Mark { .. }, _)) => (Some(proto::TCP), 0),
            None => (None, 0),
        };
        let (addr, port) = host_port(value, protocol, self.names).map_err(|why| {
            Fault::new(at.clone(), Mistake::RealAddress(why)).expecting(ADDRESS_FORM)
        })?;
        self.server = Some((addr, port.unwrap_or(default), at));
        Ok(())
    }

    /// `-b`: bits 0, 1, 2; two schedulers have names of their own for the first two.
    fn sched_flags(&self) -> Result<u8, Fault> {
        let Some((text, at)) = &self.flags else { return Ok(0) };
        let scheduler = self.scheduler.as_ref().map_or("wlc", |(_, name)| name);
        text.split(',').filter(|flag| !flag.is_empty()).try_fold(0, |flags, flag| {
            let (bit, owner) = match flag {
                "flag-1" => (1, None),
                "flag-2" => (2, None),
                "flag-3" => (4, None),
                "sh-fallback" => (1, Some("sh")),
                "sh-port" => (2, Some("sh")),
                "mh-fallback" => (1, Some("mh")),
                "mh-port" => (2, Some("mh")),
                _ => {
                    let names = ["flag-1", "flag-2", "flag-3"];
                    return Err(Fault::new(at.clone(), Mistake::SchedFlag(flag.to_owned()))
                        .expecting(advice("flag-1, flag-2 or flag-3", flag, &names)));
                }
            };
            match owner {
                Some(owner) if owner != scheduler => {
                    let mistake = Mistake::SchedFlagIncompatible(flag.to_owned());
                    Err(Fault::new(at.clone(), mistake).expecting(format!("expected `-s {owner}`")))
                }
                Some(_) | None => Ok(flags | bit),
            }
        })
    }

    /// The table of which option goes with which command; the first bad column is reported.
    fn check_table(&self, opt: Opt, at: &Span) -> Result<(), Fault> {
        let Some(table) = table(opt) else { return Ok(()) };
        let command = opt.name();
        let place = |option: &str| self.place_of(option).unwrap_or(at).clone();
        Err(match clash(COLUMNS, |option| self.has(option), &table) {
            None => return Ok(()),
            Some(Clash::Needed(option)) => {
                Fault::new(at.clone(), Mistake::Needed { option, command })
                    .expecting(format!("expected {}", how_to_say(option)))
            }
            Some(Clash::Illegal(option)) => {
                let all: Vec<_> = table.required.iter().chain(table.optional).copied().collect();
                let mut expected = match &*all.join(", ") {
                    "" => "expected no option".to_owned(),
                    all => format!("expected {all}"),
                };
                if let Some(name) = taken_by(option) {
                    expected = format!("{expected}; `{name}` takes `{option}`");
                }
                Fault::new(place(option), Mistake::Illegal { option, command }).expecting(expected)
            }
            Some(Clash::Exclusive { option, with }) => {
                Fault::new(place(option), Mistake::Exclusive { option, with, command })
            }
        })
    }

    fn spots(&self, command: Span) -> Spots {
        Spots {
            service: self.service.as_ref().map(|(_, at)| at.clone()),
            server: self.server.as_ref().map(|(_, _, at)| at.clone()),
            lower: self.lower_at.clone(),
            object: self.interface_at.clone(),
            ..Spots::at(command)
        }
    }

    pub(super) fn key(&self, at: &Span) -> Result<(ServiceKey, Span), Fault> {
        let needed = Mistake::Needed { option: "service-address", command: "ipvsadm" };
        self.service.clone().ok_or_else(|| Fault::new(at.clone(), needed))
    }

    fn dest(&self, at: &Span) -> Result<(Endpoint, Span), Fault> {
        let needed = Mistake::Needed { option: "real-server", command: "ipvsadm" };
        let found = self.server.clone().ok_or_else(|| Fault::new(at.clone(), needed))?;
        Ok((Endpoint::new(found.0, found.1), found.2))
    }

    fn service_spec(&self, at: &Span, sched_flags: u8) -> Result<ServiceSpec, Fault> {
        let (key, service_at) = self.key(at)?;
        if let ServiceKey::Address { proto, virt } = key {
            if virt.port == 0 && self.persistent_s.is_none() {
                return Err(Fault::new(service_at, Mistake::ZeroPort)
                    .expecting("expected ADDRESS:PORT, or `-p` to mean every port"));
            }
            if let (Some(ops), true) = (&self.one_packet, proto != proto::UDP) {
                return Err(Fault::new(ops.clone(), Mistake::OnePacketNotUdp)
                    .expecting("expected `-u` or `-f`"));
            }
        }
        let scheduler = self.scheduler.as_ref().map_or(Some(Scheduler::default()), |(s, _)| *s);
        Ok(ServiceSpec {
            key,
            scheduler,
            sched_flags,
            persistent_s: self.persistent_s,
            netmask: self.netmask.unwrap_or(ServiceSpec::full_mask(key.family())),
            one_packet: self.one_packet.is_some(),
            sip: self.sip,
        })
    }

    fn dest_spec(&self, at: &Span) -> Result<(ServiceKey, DestSpec), Fault> {
        let (key, _) = self.key(at)?;
        let (mut dest, dest_at) = self.dest(at)?;
        if Family::of(dest.addr) != key.family() && self.method != Method::Tunnel {
            return Err(Fault::new(dest_at, Mistake::MixedFamily)
                .expecting("expected an address of the service's family, or `-i`"));
        }
        if let (ServiceKey::Address { virt, .. }, Method::Route | Method::Tunnel) =
            (key, self.method)
        {
            // Neither method can change the port.
            dest.port = virt.port;
        }
        let tunnel = self.tunnel_type(&dest_at)?;
        let weight = self.weight.unwrap_or(1);
        let (method, upper, lower) = (self.method, self.upper, self.lower);
        Ok((key, DestSpec { dest, method, weight, upper, lower, tunnel }))
    }

    /// Which options the tunnel type needs, takes and lets stand beside each other.
    fn tunnel_type(&self, server_at: &Span) -> Result<TunnelType, Fault> {
        let first = TUNNEL_COLUMNS.iter().find_map(|option| self.place_of(option));
        if let (Some(at), false) = (first, self.method == Method::Tunnel) {
            let fault = Fault::new(at.clone(), Mistake::TunnelWithoutIpip);
            return Err(fault.expecting("expected `-i` too"));
        }
        let kind = self.tunnel.unwrap_or("ipip");
        let place = |option: &str| self.place_of(option).unwrap_or(server_at).clone();
        match clash(TUNNEL_COLUMNS, |option| self.has(option), &tunnel_table(kind)) {
            None => {}
            Some(Clash::Needed(option)) => {
                return Err(Fault::new(place("tun-type"), Mistake::TunnelNeeds { option, kind }));
            }
            Some(Clash::Illegal(option)) => {
                return Err(Fault::new(place(option), Mistake::TunnelIllegal { option, kind }));
            }
            Some(Clash::Exclusive { option, with }) => {
                let mistake = Mistake::TunnelConflict { option, with, kind };
                return Err(Fault::new(place(option), mistake));
            }
        }
        let checksum = match (self.has("tun-csum"), self.has("tun-remcsum")) {
            (true, _) => TunnelChecksum::Full,
            (false, true) => TunnelChecksum::Remote,
            (false, false) => TunnelChecksum::None,
        };
        Ok(match kind {
            "gue" => TunnelType::Gue { port: self.tunnel_port, checksum },
            "gre" => TunnelType::Gre { checksum },
            _ => TunnelType::Ipip,
        })
    }
}

const ADDRESS_FORM: &str = "expected ADDRESS:PORT, as in 10.0.0.1:80 or [fd00::1]:80";

/// A number of 31 bits, as weights and thresholds are.
fn limited(value: &str, at: &Span, mistake: fn(String) -> Mistake) -> Result<u32, Fault> {
    let found = number(value, 0..=2_147_483_647).and_then(|n| u32::try_from(n).ok());
    found.ok_or_else(|| {
        Fault::new(at.clone(), mistake(value.to_owned())).expecting("expected 0 to 2147483647")
    })
}

fn tunnel_kind(value: &str, at: &Span) -> Result<&'static str, Fault> {
    const KINDS: &[&str] = &["ipip", "gue", "gre"];
    KINDS.iter().find(|&&kind| kind == value).copied().ok_or_else(|| {
        Fault::new(at.clone(), Mistake::TunnelType(value.to_owned()))
            .expecting(advice("`ipip`", value, KINDS))
    })
}

fn set_values(command: &Span, rest: &[Word<'_>]) -> Result<[u32; 3], Fault> {
    const EXPECTED: &str = "expected `--set TCP TCPFIN UDP`: 0 to 2678400 seconds each";
    let mut values = [0; 3];
    if rest.len() < values.len() {
        return Err(Fault::new(command.clone(), Mistake::SetValues).expecting(EXPECTED));
    }
    for (value, word) in values.iter_mut().zip(rest) {
        let seconds = number(&word.text, 0..=TIMEOUT_MAX_S).and_then(|n| u32::try_from(n).ok());
        let mistake = || Mistake::Timeout(word.text.to_string());
        *value =
            seconds.ok_or_else(|| Fault::new(word.at.clone(), mistake()).expecting(EXPECTED))?;
    }
    if let Some(word) = rest.get(3) {
        let mistake = Mistake::UnexpectedArgument(word.text.to_string());
        return Err(Fault::new(word.at.clone(), mistake).expecting(EXPECTED));
    }
    Ok(values)
}

/// The command that an option of another one goes with.
fn taken_by(option: &str) -> Option<&'static str> {
    let takes = |other: Opt| {
        table(other).is_some_and(|t| t.required.contains(&option) || t.optional.contains(&option))
    };
    let all = [(Opt::AddService, "-A"), (Opt::AddServer, "-a")];
    all.into_iter().find(|(other, _)| takes(*other)).map(|(_, name)| name)
}

const fn how_to_say(column: &str) -> &'static str {
    match column.as_bytes() {
        b"real-server" => "`-r ADDRESS:PORT`",
        _ => "`-t ADDRESS:PORT`, `-u ADDRESS:PORT` or `-f MARK`",
    }
}

#[cfg(test)]
mod tests {
    use super::super::command::commands;
    use super::super::grammar::{line, lines};
    use super::*;

    fn command(text: &str) -> Result<Command, Mistake> {
        let words = lines(text).remove(0).expect("is well written");
        let found = line(&words).and_then(|line| commands(&line));
        found.map(|mut all| all.remove(0).command).map_err(|fault| fault.mistake)
    }

    fn dest(text: &str) -> DestSpec {
        match command(text) {
            Ok(Command::AddDest(_, dest)) => dest,
            other => panic!("{text}: {other:?}"),
        }
    }

    #[test]
    fn a_servers_port_is_filled_in_as_ipvsadm_does() {
        assert_eq!(dest("-a -t 10.0.0.1:80 -r 10.0.0.2 -m").dest.port, 80);
        assert_eq!(dest("-a -t 10.0.0.1:80 -r 10.0.0.2:8080 -m").dest.port, 8080);
        assert_eq!(dest("-a -t 10.0.0.1:80 -r 10.0.0.2:8080 -g").dest.port, 80);
        assert_eq!(dest("-a -t 10.0.0.1:80 -r 10.0.0.2:8080 -i").dest.port, 80);
        assert_eq!(dest("-a -r 10.0.0.2 -t 10.0.0.1:80 -m").dest.port, 0);
        assert_eq!(dest("-a -f 1 -r 10.0.0.2:8080").dest.port, 8080);
        assert_eq!(dest("-a -f 1 -r 10.0.0.2").dest.port, 0);
        let kept = command("-d -t 10.0.0.1:80 -r 10.0.0.2:8080");
        assert!(matches!(kept, Ok(Command::DeleteDest(_, dest)) if dest.port == 8080));
    }

    #[test]
    fn a_mask_is_ipv4s_until_an_ipv6_service_is_seen_which_resets_it() {
        let mask = |text: &str| match command(text) {
            Ok(Command::AddService(spec)) => spec.netmask,
            other => panic!("{text}: {other:?}"),
        };
        assert_eq!(mask("-A -t [fd00::1]:80 -p -M 64"), 64);
        assert_eq!(mask("-A -M 255.255.255.0 -t [fd00::1]:80 -p"), 128);
        assert_eq!(mask("-A -t 10.0.0.1:80 -p -M 24"), 24);
        assert_eq!(mask("-A -f 1 -M 255.0.0.0 -6"), 128);
    }

    #[test]
    fn mistakes_have_ipvsadms_own_words() {
        for (text, words) in [
            ("-A -t 10.0.0.1", "Zero port specified for non-persistent service"),
            ("-A -t 10.0.0.1:80 -o", "One-Packet Scheduling is only for UDP virtual services"),
            ("-A -t 1.1.1.1:1 -w 3", "Illegal 'weight' option with the 'add-service' command"),
            (
                "-a -t 1.1.1.1:1",
                "You need to supply the 'real-server' option for the 'add-server' command",
            ),
            ("-a -f 1 -r 1.1.1.1 -g -m", "multiple 'forwarding-method' options specified"),
            ("-A -6 -f 1", "-6 used before -f\n"),
            ("-A -t 1.1.1.1:1 x", "unexpected argument x"),
            ("-C -A", "invalid option `-A'"),
            ("-A -f 1 -b sh-port", "incompatible scheduler flag `sh-port'"),
            ("-a -f 1 -r 1.1.1.1 --tun-csum", "Tunnel options conflict with forward method"),
            (
                "-a -f 1 -r 1.1.1.1 -i --tun-csum",
                "Illegal 'tun-csum' option with the 'ipip' tunnel type",
            ),
        ] {
            let found = command(text).expect_err(text);
            assert_eq!(found.ipvsadm().map(|(words, _)| words).as_deref(), Some(words), "{text}");
        }
    }
}
