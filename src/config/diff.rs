//! What must be done to one ground state to make it another.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;

use super::knob::{Knob, KNOBS};
use super::{Command, Config, DestSpec, ServiceKey, SyncDaemon, Timeouts};
use crate::world::gathered;

impl Config {
    /// The commands about services, sysctls and timeouts that make this state `new`. Servers that
    /// stay keep their place; a new one comes last. Ports, addresses, routes, neighbours and marks are not
    /// told by commands: see [`same_wiring`](Self::same_wiring).
    pub fn commands_to(&self, new: &Self) -> Vec<Command> {
        let mut commands = Vec::new();
        for (knob, info) in KNOBS.iter().enumerate() {
            let Some(place) = info.place else { continue };
            let value = (place.get)(&new.knobs);
            if value != (place.get)(&self.knobs) {
                commands.push(Command::SetKnob { knob: Knob(knob), value });
            }
        }
        if self.timeouts_s != new.timeouts_s {
            let Timeouts { tcp, tcp_fin, udp } = new.timeouts_s;
            commands.push(Command::SetTimeouts { tcp_s: tcp, tcp_fin_s: tcp_fin, udp_s: udp });
        }
        if self.ftp_ports != new.ftp_ports {
            let unload = (!self.ftp_ports.is_empty()).then(|| Command::SetFtpPorts(Vec::new()));
            let load =
                (!new.ftp_ports.is_empty()).then(|| Command::SetFtpPorts(new.ftp_ports.clone()));
            commands.extend(unload.into_iter().chain(load));
        }
        let gone = self.services.keys().filter(|key| !new.services.contains_key(key));
        commands.extend(gone.map(|key| Command::DeleteService(*key)));
        for (key, (spec, dests)) in &new.services {
            match self.services.get(key) {
                Some((old, old_dests)) => {
                    if old != spec {
                        commands.push(Command::EditService(spec.clone()));
                    }
                    dest_commands(key, old_dests, dests, &mut commands);
                }
                None => {
                    commands.push(Command::AddService(spec.clone()));
                    dest_commands(key, &[], dests, &mut commands);
                }
            }
        }
        let same = |daemon: &&SyncDaemon| new.sync.get(&daemon.role) == Some(daemon);
        let stopped = self.sync.values().filter(|daemon| !same(daemon));
        let stopped = stopped.map(|daemon| Command::StopDaemon(daemon.role));
        // What stops may stand in the way of a server, and a server that goes in that of a start.
        commands.splice(0..0, stopped);
        let kept = |daemon: &&SyncDaemon| self.sync.get(&daemon.role) == Some(daemon);
        let started = new.sync.values().filter(|daemon| !kept(daemon));
        commands.extend(started.cloned().map(Command::StartDaemon));
        commands
    }

    /// A copy of all but the services, which may be many.
    #[must_use]
    pub fn without_services(&self) -> Self {
        Self {
            ports: self.ports.clone(),
            routes: self.routes.clone(),
            neighbours: self.neighbours.clone(),
            marks: self.marks.clone(),
            knobs: self.knobs.clone(),
            timeouts_s: self.timeouts_s,
            ftp_ports: self.ftp_ports.clone(),
            services: BTreeMap::new(),
            sync: self.sync.clone(),
        }
    }

    /// Copies services into `copy`, `count` of those behind `after`; the last of them, if there was any.
    pub fn copy_services(
        &self,
        after: Option<ServiceKey>,
        copy: &mut Self,
        count: usize,
    ) -> Option<ServiceKey> {
        let from = after.as_ref().map_or(Bound::Unbounded, Bound::Excluded);
        let mut last = None;
        for (key, held) in self.services.range((from, Bound::Unbounded)).take(count) {
            copy.services.insert(*key, held.clone());
            last = Some(*key);
        }
        last
    }

    /// Whether ports, addresses, routes, told neighbours and the rules that give marks are the same.
    pub fn same_wiring(&self, other: &Self) -> bool {
        (&self.ports, &self.routes, &self.neighbours, &self.marks)
            == (&other.ports, &other.routes, &other.neighbours, &other.marks)
    }

    /// The difference for people: lines of the rules file that go (`- `), that come (`+ `), and
    /// among those about ports and marks, where order has a meaning, that have another place (`~ `).
    pub fn difference(&self, new: &Self) -> Vec<String> {
        let (old_text, new_text) = (self.to_string(), new.to_string());
        let (olds, news): (BTreeSet<_>, BTreeSet<_>) =
            (gathered(old_text.lines()), gathered(new_text.lines()));
        let only = |a: &str, known: &BTreeSet<&str>, sign: &str| -> Vec<String> {
            let fresh = a.lines().filter(|line| !known.contains(line));
            fresh.map(|line| format!("{sign} {line}")).collect()
        };
        let mut lines = only(&old_text, &news, "-");
        lines.extend(only(&new_text, &olds, "+"));
        if self.same_wiring(new) {
            return lines;
        }
        let (old_text, new_text) = (self.wiring(), new.wiring());
        let stays = |line: &&str| olds.contains(line) && news.contains(line);
        let old_lines: Vec<_> = old_text.lines().filter(stays).collect();
        let new_lines: Vec<_> = new_text.lines().filter(stays).collect();
        lines.extend(moved(&old_lines, &new_lines).iter().map(|line| format!("~ {line}")));
        lines
    }

    /// Ports, addresses, routes, told neighbours and rules that give marks, in their order.
    fn wiring(&self) -> String {
        let (ports, routes) = (self.ports.clone(), self.routes.clone());
        let (neighbours, marks) = (self.neighbours.clone(), self.marks.clone());
        Self { ports, routes, neighbours, marks, ..Self::default() }.to_string()
    }
}

/// What lies between the first and the last difference of two lists of the same lines; a line that
/// is there once more is among them.
fn moved<'a>(old: &'a [&'a str], new: &'a [&'a str]) -> &'a [&'a str] {
    let head = old.iter().zip(new).take_while(|(a, b)| a == b).count();
    let (old, new) = (&old[head..], &new[head..]);
    let tail = old.iter().rev().zip(new.iter().rev()).take_while(|(a, b)| a == b).count();
    let (old, new) = (&old[..old.len() - tail], &new[..new.len() - tail]);
    if old.len() > new.len() {
        return old;
    }
    new
}

fn dest_commands(
    key: &ServiceKey,
    old: &[DestSpec],
    new: &[DestSpec],
    commands: &mut Vec<Command>,
) {
    let known: BTreeMap<_, _> = gathered(old.iter().map(|dest| (dest.dest, dest)));
    let wanted: BTreeSet<_> = gathered(new.iter().map(|dest| dest.dest));
    for dest in old.iter().filter(|dest| !wanted.contains(&dest.dest)) {
        commands.push(Command::DeleteDest(*key, dest.dest));
    }
    for dest in new {
        match known.get(&dest.dest) {
            None => commands.push(Command::AddDest(*key, dest.clone())),
            Some(&was) if was != dest => commands.push(Command::EditDest(*key, dest.clone())),
            Some(_) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::rules::load;
    use super::*;

    fn config(text: &str) -> Config {
        load("r", text).unwrap_or_else(|all| panic!("{}", all[0]))
    }

    const OLD: &str = "net.ipv4.vs.expire_nodest_conn = 1\n\
        modprobe ip_vs_ftp\n\
        -A -t 10.0.0.1:80 -s rr\n\
        -a -t 10.0.0.1:80 -r 10.1.0.1:80 -m\n\
        -a -t 10.0.0.1:80 -r 10.1.0.2:80 -m\n\
        -A -u 10.0.0.1:53\n";

    const NEW: &str = "--set 100 0 0\n\
        modprobe ip_vs_ftp ports=2121\n\
        -A -t 10.0.0.1:80 -s wrr\n\
        -a -t 10.0.0.1:80 -r 10.1.0.2:80 -m -w 5\n\
        -a -t 10.0.0.1:80 -r 10.1.0.3:80 -m\n\
        -A -t [fd00::1]:80\n";

    /// With the servers of each service sorted: those that stay keep their place.
    fn in_order(mut config: Config) -> Config {
        for (_, dests) in config.services.values_mut() {
            dests.sort_by_key(|dest| dest.dest);
        }
        config
    }

    #[test]
    fn the_commands_lead_from_one_state_to_the_other_and_back() {
        for (from, to) in [(OLD, NEW), (NEW, OLD), (OLD, ""), ("", NEW)] {
            let (mut state, goal) = (config(from), config(to));
            for command in state.commands_to(&goal) {
                state.apply(&command).expect("the commands of a difference can be done");
            }
            assert_eq!(in_order(state), in_order(goal));
        }
    }

    #[test]
    fn equal_states_differ_by_nothing() {
        assert_eq!(config(OLD).commands_to(&config(OLD)), []);
        assert_eq!(config(OLD).difference(&config(OLD)), Vec::<String>::new());
    }

    #[test]
    fn a_difference_is_told_in_lines_of_the_rules_file() {
        let told = config("-A -t 10.0.0.1:80 -s rr\n").difference(&config("-A -t 10.0.0.1:80\n"));
        assert_eq!(told, ["- -A -t 10.0.0.1:80 -s rr", "+ -A -t 10.0.0.1:80 -s wlc"]);
    }

    #[test]
    fn another_order_is_told_where_it_means_something() {
        let rule = |mark: u32| {
            format!("iptables -t mangle -A PREROUTING -p tcp -j MARK --set-mark {mark}\n")
        };
        let text =
            |marks: &[u32]| config(&marks.iter().map(|&mark| rule(mark)).collect::<String>());
        let lines = text(&[1, 2, 3, 4]).difference(&text(&[1, 3, 2, 4]));
        assert_eq!(lines.len(), 2);
        assert!(lines[0].starts_with("~ iptables") && lines[0].contains("0x3"), "{lines:?}");
        assert_eq!(text(&[1, 1]).difference(&text(&[1])).len(), 1);
        assert_eq!(text(&[1]).difference(&text(&[1, 1])).len(), 1);
        let lines = text(&[1, 2]).difference(&text(&[2, 3]));
        let signs: String = lines.iter().map(|line| &line[..1]).collect();
        assert_eq!(signs, "-+");
    }
}
