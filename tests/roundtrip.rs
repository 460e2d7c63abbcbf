//! What is printed of a state loads to the same state, whatever was said to make it.
//!
//! States are made as a running tapvs comes to have them: by lines of every kind in any order, each
//! of which is done or refused. A failure is told with the fewest lines that still show it.

use std::collections::BTreeSet;

use tapvs::config::knob::{KnobInfo, KNOBS};
use tapvs::config::{command, grammar, rules, Config};
use tapvs::sched::Scheduler;
use tapvs::world::Rng;

const ROUNDS: usize = 1000;

/// Does a line, or nothing.
fn say(config: &mut Config, text: &str) {
    for words in grammar::lines(text) {
        let found =
            words.and_then(|words| grammar::line(&words).and_then(|l| command::commands(&l)));
        let all = found.unwrap_or_else(|fault| panic!("{text}: {}", fault.mistake));
        // What is refused leaves the state as it was.
        all.iter().for_each(|placed| drop(config.apply(&placed.command)));
    }
}

/// The state that lines make. A gateway that no network holds is no state, but the rules for it may
/// still follow; here none do.
fn state(lines: &[String]) -> Config {
    let mut config = Config::default();
    lines.iter().for_each(|line| say(&mut config, line));
    let routes = std::mem::take(&mut config.routes);
    let reached = |(_, target): &(_, _)| config.unreachable_gateway(target).is_none();
    let routes = routes.into_iter().filter(reached).collect();
    Config { routes, ..config }
}

/// Why a state does not survive being printed, if it does not.
fn loss(state: &Config) -> Option<String> {
    let printed = state.to_string();
    match rules::load("printed", &printed) {
        Err(all) => Some(format!("{}\nin\n{printed}", all[0])),
        Ok(again) if again != *state => Some(format!("{again:#?}\nis not\n{state:#?}\n{printed}")),
        Ok(again) if again.to_string() != printed => Some(format!("another text of\n{printed}")),
        Ok(again) if !state.difference(&again).is_empty() => Some("a difference".to_owned()),
        Ok(_) => None,
    }
}

/// Fewer lines that show the same.
fn fewest(mut lines: Vec<String>) -> Vec<String> {
    let mut at = 0;
    while at < lines.len() {
        let line = lines.remove(at);
        if loss(&state(&lines)).is_none() {
            lines.insert(at, line);
            at += 1;
        }
    }
    lines
}

#[test]
fn whatever_was_said_is_printed_so_that_it_loads_to_the_same() {
    let mut seen = BTreeSet::new();
    for round in 0..ROUNDS {
        let mut die = Die(Rng::new(round as u64));
        let lines: Vec<_> = (0..10 + die.below(70)).map(|_| die.line()).collect();
        let made = state(&lines);
        if loss(&made).is_some() {
            let lines = fewest(lines);
            let why = loss(&state(&lines)).expect("it is still lost");
            panic!("round {round}:\n{}\n{why}", lines.join("\n"));
        }
        seen.extend(made.to_string().split_whitespace().map(str::to_owned));
    }
    // The test is worth what its states hold.
    let schedulers = Scheduler::ALL.iter().map(|scheduler| scheduler.name());
    let knobs = KNOBS.iter().filter(|knob| knob.place.is_some()).map(|knob| knob.name);
    let words = "none -t -u --sctp-service -f -6 -p -M -o -b flag-1 flag-3 flag-1,flag-2,flag-3 -m -g -i \
        -x -y ipip gue gre --tun-port --tun-nocsum --tun-csum --tun-remcsum --set tap tun macvtap passthru vepa address mtu \
        master addr route neigh via local iptables ip6tables ! multiport --sports --dports \
        --ports ACCEPT MARK modprobe ip_vs_ftp ports=7,21 master backup --mcast-interface --sync-maxlen";
    let words = words.split_whitespace();
    let missing: Vec<_> =
        schedulers.chain(knobs).chain(words).filter(|word| !seen.contains(*word)).collect();
    assert!(missing.is_empty(), "no state has {missing:?}");
}

/// Draws lines.
struct Die(Rng);

impl Die {
    fn below(&mut self, limit: u32) -> u32 {
        self.0.next_u32() % limit
    }

    fn one_in(&mut self, count: u32) -> bool {
        self.below(count) == 0
    }

    fn of<'a>(&mut self, all: &[&'a str]) -> &'a str {
        all[self.below(u32::try_from(all.len()).expect("few")) as usize]
    }

    /// `text` one time of `count`.
    fn perhaps(&mut self, count: u32, text: impl FnOnce(&mut Self) -> String) -> String {
        match self.one_in(count) {
            true => text(self),
            false => String::new(),
        }
    }

    fn line(&mut self) -> String {
        match self.below(28) {
            0..=2 => self.port_line(),
            3 => self.link_line(),
            4..=5 => self.address_line(),
            6..=7 => self.route_line(),
            8 => self.neighbour_line(),
            9..=10 => self.mark_line(),
            11 => self.knob_line(),
            12 => format!("--set {} {} {}", self.below(3) * 77, self.below(2) * 5, self.below(9)),
            13..=18 => self.service_line(),
            19..=26 => self.server_line(),
            _ => self.rare_line(),
        }
    }

    fn name(&mut self) -> &'static str {
        self.of(&["tap0", "tun0", "tap-wan", "'x#y'", "'q\"t'", "'b\\s'", "dev", "p@1.2", "'–é'"])
    }

    fn port_line(&mut self) -> String {
        if self.one_in(4) {
            let (lower, mode) =
                (self.of(&["eth1", "'e\"h'", "dev"]), self.of(&["passthru", "bridge", "vepa"]));
            return format!(
                "ip link add link {lower} name {} type macvtap mode {mode}",
                self.name()
            );
        }
        format!("ip tuntap add dev {} mode {}", self.name(), self.of(&["tap", "tap", "tun"]))
    }

    fn link_line(&mut self) -> String {
        let mac = self.perhaps(2, |d| format!(" address 02:00:00:00:00:{:02x}", d.below(256)));
        let mtu = self.perhaps(2, |d| format!(" mtu {}", 68 + d.below(65454)));
        let bridge = self.of(&["br0", "'br#1'", "tap0"]);
        format!("ip link set dev {}{mac}{mtu} master {bridge}", self.name())
    }

    fn address(&mut self, v6: bool) -> String {
        let end = self.of(&["1", "2", "9", "fe", "255", "128"]);
        match v6 {
            true => format!("fd00:{}::{end}", self.below(3)),
            false => format!("10.0.{}.{}", self.below(3), end.replace("fe", "254")),
        }
    }

    fn address_line(&mut self) -> String {
        let v6 = self.one_in(3);
        let (verb, addr) = (self.of(&["add", "add", "replace", "del"]), self.address(v6));
        let len = if v6 { self.of(&["64", "128", "0"]) } else { self.of(&["24", "32", "31", "8"]) };
        format!("ip addr {verb} {addr}/{len} dev {}", self.name())
    }

    fn route_line(&mut self) -> String {
        let v6 = self.one_in(3);
        let verb = self.of(&["add", "add", "replace", "del"]);
        let net = match v6 {
            true => self.of(&["default", "fd01::/16", "fd00:1::/32", "::1/128"]),
            false => self.of(&["default", "10.9.0.0/16", "10.0.0.0/8", "192.0.2.7"]),
        };
        let family = if v6 { " -6" } else { "" };
        let to = match self.below(4) {
            0 => format!("dev {}", self.name()),
            1 => return format!("ip{family} route {verb} local {net} dev lo"),
            2 => format!("via {} dev {}", self.address(v6), self.name()),
            _ => format!("via {}", self.address(v6)),
        };
        format!("ip{family} route {verb} {net} {to}")
    }

    fn neighbour_line(&mut self) -> String {
        let v6 = self.one_in(2);
        let (verb, addr) = (self.of(&["add", "replace"]), self.address(v6));
        format!("ip neigh {verb} {addr} lladdr 02:0:0:0:0:{} dev {}", self.below(9), self.name())
    }

    fn mark_line(&mut self) -> String {
        let v6 = self.one_in(3);
        let not = |d: &mut Self| if d.one_in(4) { " !" } else { "" };
        let place =
            self.of(&["-A PREROUTING", "-A PREROUTING", "-I PREROUTING", "-I PREROUTING 2"]);
        let by =
            self.perhaps(4, |d| format!("{} -i {}", not(d), d.of(&["tap0", "t+", "+", "'x#y'"])));
        let src = self.perhaps(3, |d| format!("{} -s {}", not(d), d.address(v6)));
        let dst = self
            .perhaps(3, |d| format!("{} -d {}/16", not(d), if v6 { "fd00::" } else { "10.0.0.0" }));
        let ports = match self.below(7) {
            0 => format!(" -p tcp{} --dport {}", not(self), self.of(&["80", "1:1024", "60000:"])),
            1 => format!(" -p udp --sport {}", self.of(&["53", ":1023"])),
            2 => format!(" -p sctp -m multiport{} --dports 1,5:9,{}", not(self), self.below(60000)),
            3 => format!(" -p tcp -m multiport --sports {},7 --dports 80,443", self.below(60000)),
            4 => " -p tcp -m multiport --ports 80,443".to_owned(),
            5 => format!("{} -p {}", not(self), self.of(&["icmp", "esp", "89", "all"])),
            _ => String::new(),
        };
        let value = self.0.next_u32();
        let target = match self.below(8) {
            0 => "ACCEPT".to_owned(),
            1 => "RETURN".to_owned(),
            2 => format!("MARK --or-mark {value}"),
            3 => format!("MARK --and-mark {value:#x}"),
            4 => format!("MARK --xor-mark {value:#x}"),
            5 => format!("MARK --set-xmark {value:#x}/{:#x}", self.0.next_u32()),
            6 => format!("MARK --set-mark {value:#x}/0xff"),
            _ => format!("MARK --set-mark {}", self.below(9)),
        };
        let program = if v6 { "ip6tables" } else { "iptables" };
        format!("{program} -t mangle {place}{by}{src}{dst}{ports} -j {target}")
            .replace("! -p all", "-p all")
    }

    fn knob_line(&mut self) -> String {
        let placed: Vec<&KnobInfo> = KNOBS.iter().filter(|knob| knob.place.is_some()).collect();
        let knob = placed[self.below(u32::try_from(placed.len()).expect("few")) as usize];
        let any = knob.min + i64::from(self.0.next_u32()) % (knob.max - knob.min + 1);
        let value = [knob.min, knob.max, any][self.below(3) as usize];
        format!("sysctl -w {}={value}", knob.name)
    }

    fn key(&mut self) -> (String, bool) {
        let v6 = self.one_in(3);
        let addr = if v6 {
            format!("[fd00::{}]", self.below(3))
        } else {
            format!("10.8.0.{}", self.below(3))
        };
        let port = self.of(&["80", "443", "0"]);
        let key = match self.below(4) {
            0 => format!("-u {addr}:{port}"),
            1 => format!("--sctp-service {addr}:{port}"),
            2 => format!("-f {}{}", 1 + self.below(3), if v6 { " -6" } else { "" }),
            _ => format!("-t {addr}:{port}"),
        };
        (key, v6)
    }

    fn service_line(&mut self) -> String {
        let (key, v6) = self.key();
        if self.one_in(8) {
            return format!("-D {key}");
        }
        let names: Vec<_> = Scheduler::ALL.iter().map(|s| s.name()).chain(["none"]).collect();
        let scheduler = self.perhaps(1, |d| format!(" -s {}", d.of(&names)));
        let everywhere = key.ends_with(":0");
        let persistent = self
            .perhaps(if everywhere { 1 } else { 2 }, |d| format!(" -p {}", 1 + d.below(2_678_400)));
        let masks =
            if v6 { ["64", "1", "128"] } else { ["255.255.255.0", "0.0.0.0", "255.0.255.1"] };
        // A mask goes with persistence only.
        let mask = self.perhaps(2, |d| format!(" -M {}", d.of(&masks)));
        let flags = self.of(&["flag-1", "flag-3", "flag-1,flag-2,flag-3", "flag-2,flag-3"]);
        let flags = self.perhaps(2, |_| format!(" -b {flags}"));
        let ops = if key.starts_with("-u") || key.starts_with("-f") { " -o" } else { "" };
        let ops = self.perhaps(3, |_| ops.to_owned());
        let verb = self.of(&["-A", "-A", "-E"]);
        format!("{verb} {key}{scheduler}{persistent}{mask}{flags}{ops}")
    }

    fn server_line(&mut self) -> String {
        let (key, v6) = self.key();
        let method = self.of(&["-m", "-g", "-i"]);
        let v6 = v6 != (method == "-i" && self.one_in(4));
        let addr = self.address(v6);
        let port = self.of(&[":80", ":8080", ""]);
        let at = match (v6, port) {
            (true, "") => addr,
            (true, _) => format!("[{addr}]{port}"),
            (false, _) => format!("{addr}{port}"),
        };
        if self.one_in(8) {
            return format!("-d {key} -r {at}");
        }
        let weight = self.perhaps(2, |d| format!(" -w {}", d.0.next_u32() >> (1 + d.below(30))));
        let upper = self.0.next_u32() >> (1 + self.below(30));
        let limits = self.perhaps(3, |d| match d.one_in(2) {
            true => format!(" -x {upper} -y {}", upper / 2),
            false => format!(" -x {upper}"),
        });
        let tunnel = match (method, self.below(6)) {
            ("-i", 0) => " --tun-type ipip".to_owned(),
            ("-i", 1) => format!(" --tun-type gre {}", self.of(&["--tun-csum", "--tun-nocsum"])),
            ("-i", 2..=3) => {
                let sum = self.of(&["--tun-csum", "--tun-nocsum", "--tun-remcsum"]);
                format!(" --tun-type gue --tun-port {} {sum}", 1 + self.below(65535))
            }
            _ => String::new(),
        };
        format!("{} {key} -r {at} {method}{weight}{limits}{tunnel}", self.of(&["-a", "-a", "-e"]))
    }

    fn rare_line(&mut self) -> String {
        if self.one_in(6) {
            return "-C".to_owned();
        }
        if self.one_in(3) {
            return format!(
                "modprobe {}",
                self.of(&["ip_vs_ftp", "-r ip_vs_ftp", "ip_vs_ftp ports=7,21"])
            );
        }
        let role = self.of(&["master", "backup"]);
        if self.one_in(4) {
            return format!("--stop-daemon {role}");
        }
        let more = self.perhaps(2, |d| {
            let group = d.of(&["224.0.0.81", "ff02::81"]);
            format!(" --mcast-group {group} --mcast-port {} --mcast-ttl 3", 1 + d.below(65535))
        });
        let length = self.perhaps(2, |d| format!(" --sync-maxlen {}", 1 + d.below(60000)));
        let id = self.below(256);
        format!(
            "--start-daemon {role} --mcast-interface {} --syncid {id}{more}{length}",
            self.name()
        )
    }
}
