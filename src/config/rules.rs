//! A rules file becomes a ground state, or a list of everything that is wrong with it.
//!
//! Lines are applied one after another to an empty state, as a shell script would have done it.
//! A line that fails only because an earlier bad line did nothing is not complained about.

use std::collections::{BTreeMap, BTreeSet};

use super::aside::{self, Aside, Why};
use super::command::{commands, glued_port, Placed};
use super::complaint::{Complaint, Fault, Mistake, Source, Span};
use super::grammar::{line, lines, without_prompt, Line, Word};
use super::index::{find, Index};
use super::shell::Shell;
use super::{Command, Config, Refusal, RouteTarget, ServiceKey};
use crate::packet::Endpoint;
use crate::world::sort_by;

/// Reads the text of a rules file; `file` is its name in complaints.
///
/// # Errors
/// A complaint for every bad line, in the order of the file.
pub fn load(file: &str, text: &str) -> Result<Config, Vec<Complaint>> {
    read(file, text).map(|read| read.config)
}

/// A rules file that is right: what it says, and where.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Read {
    /// What it says.
    pub config: Config,
    /// Where it says so.
    pub places: Places,
    /// Lines that were understood and passed over.
    pub asides: Vec<Aside>,
}

/// On which lines, from 1, things were said; the last line about a thing counts.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Places {
    /// The `-A` or `-E` line of a service.
    pub services: BTreeMap<ServiceKey, usize>,
    /// The `-a` or `-e` line of a server.
    pub dests: BTreeMap<(ServiceKey, Endpoint), DestPlace>,
}

/// Where and how a server was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DestPlace {
    /// From 1.
    pub line: usize,
    /// The port behind the address, which some methods ignore.
    pub port: Option<u16>,
    /// The end of an IPv6 address without brackets, where it reads like a port.
    pub glued_port: Option<u16>,
}

/// Like [`load`], and tells where things were said.
///
/// # Errors
/// A complaint for every bad line, in the order of the file.
pub fn read(file: &str, text: &str) -> Result<Read, Vec<Complaint>> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let source = Source::new(file, text);
    let mut reading = Reading { index: Index::for_many(), ..Reading::default() };
    if let Some(fault) = lone_return(text) {
        if !text.contains('\n') {
            return Err(vec![source.complain(fault)]);
        }
        reading.faults.push(fault);
    }
    for words in lines(text) {
        match words {
            Ok(words) => reading.words(&words, &source),
            Err(_) if reading.shell.skips() => {}
            Err(fault) => reading.faults.push(fault),
        }
    }
    reading.faults.extend(reading.shell.unfinished());
    reading.check_gateways();
    reading.mention_unused(&source);
    if reading.faults.is_empty() {
        let Reading { config, places, asides, .. } = reading;
        return Ok(Read { config, places, asides });
    }
    sort_by(&mut reading.faults, |a, b| a.at.start.cmp(&b.at.start));
    Err(reading.faults.into_iter().map(|fault| source.complain(fault)).collect())
}

/// A carriage return inside a line, as where old Macs wrote the text: what follows it would be read
/// as the same line, or be hidden by a comment.
fn lone_return(text: &str) -> Option<Fault> {
    let within = |rest: &str| {
        let rest = rest.trim_start_matches('\r');
        !rest.is_empty() && !rest.starts_with('\n')
    };
    let at = text.match_indices('\r').map(|(at, _)| at).find(|&at| within(&text[at..]))?;
    let why = "a line ends here with a carriage return alone (CR)";
    Some(
        Fault::new(at..at + 1, Mistake::Host(why.to_owned()))
            .expecting("expected lines that end with LF or CR LF; `tr '\\r' '\\n'` makes them"),
    )
}

#[derive(Default)]
struct Reading {
    shell: Shell,
    config: Config,
    index: Index,
    asides: Vec<Aside>,
    places: Places,
    faults: Vec<Fault>,
    /// What bad lines would have made, and the words in which they said it.
    lost: BTreeSet<(Made, String)>,
    /// Whether a host command was bad: it may have been the one that tells a gateway's network.
    host_lost: bool,
    /// The routes by gateway, and where the gateway was said.
    gateways: Vec<(RouteTarget, Span)>,
}

/// What a line makes that others build upon.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Made {
    Service,
    Server,
    /// A port or its address.
    Port,
}

impl Reading {
    /// A line of a script may be several commands, or none.
    fn words(&mut self, words: &[Word<'_>], source: &Source<'_>) {
        for part in self.shell.parts(words) {
            match part.and_then(|words| self.alone(&words, source)) {
                Ok(()) => {}
                Err(fault) => self.faults.push(fault),
            }
        }
    }

    /// The lines of `sh -c 'LINES'`, which stand where they were written.
    fn of_shell(&mut self, text: &str, from: usize, source: &Source<'_>) {
        let shift = |at: &mut Span| *at = at.start + from..at.end + from;
        for words in lines(text) {
            match words {
                Ok(mut words) => {
                    words.iter_mut().for_each(|word| shift(&mut word.at));
                    self.words(&words, source);
                }
                Err(mut fault) => {
                    shift(&mut fault.at);
                    self.faults.push(fault);
                }
            }
        }
    }

    /// A command, which may say what to do if it fails or where its output goes.
    fn alone(&mut self, words: &[Word<'_>], source: &Source<'_>) -> Result<(), Fault> {
        if let Some(text) = for_shell(words) {
            if let Some(from) = source.quoted(&text.at, &text.text) {
                self.of_shell(&text.text, from, source);
                return Ok(());
            }
        }
        let joint =
            words.iter().position(|word| matches!(&*word.text, "|" | "||") && word.is_operator());
        let Some(at) = joint.filter(|_| aside::why(without_prompt(words)).is_none()) else {
            self.line(words, source);
            return Ok(());
        };
        let (head, tail) = words.split_at(at);
        if tail[0].text == "||" && aside::why(without_prompt(head)).is_none() {
            // A line that fails stops everything, so that nothing is left to be done instead.
            self.line(head, source);
            return Ok(());
        }
        if let (true, [_, rest @ ..]) = (tail[0].text == "|", tail) {
            if let Some(path) = super::grammar::tee(rest) {
                let sign = Word { text: ">".into(), at: tail[0].at.clone() };
                self.line(&[head, &[sign, path.clone()]].concat(), source);
                return Ok(());
            }
        }
        let why = "what depends on another program is not read".to_owned();
        Err(Fault::new(tail[0].at.clone(), Mistake::Host(why))
            .expecting("expected the command itself, with its values: lines are never executed"))
    }

    fn mention_unused(&mut self, source: &Source<'_>) {
        let mention = |(name, at): (&str, &Span)| {
            let why =
                "is asked for by no line; a value is given to a name here, and a rule is none";
            let text = format!("`{}` {why}", super::complaint::plain(name));
            Aside { line: source.line_of(at.start), real_server: false, text }
        };
        self.asides.extend(self.shell.unused().map(mention));
        self.asides.extend(self.shell.choices().iter().map(|at| Aside {
            line: source.line_of(at.start),
            real_server: false,
            text: "of this choice what stands under `start)` is read".to_owned(),
        }));
        sort_by(&mut self.asides, |a, b| a.line.cmp(&b.line));
    }

    fn line(&mut self, words: &[Word<'_>], source: &Source<'_>) {
        let words = without_prompt(words);
        let Some(first) = words.first() else { return };
        let found = line(words);
        let why = aside::why(words).or_else(|| match &found {
            Ok(Line::Ipvs(invocation)) => aside::why_ipvsadm(invocation),
            _ => None,
        });
        if let Some(why) = why {
            self.pass_over(why, first, source);
            return;
        }
        let found = found.and_then(|mut line| {
            if let Line::Sysctl(pairs) = &mut line {
                if let Some(why) = aside::take_sysctls(pairs) {
                    self.pass_over(why, first, source);
                }
            }
            commands(&line)
        });
        let outcome = found.and_then(|all| {
            all.iter().try_for_each(|placed| {
                self.config
                    .apply_by(&mut self.index, &placed.command)
                    .map_err(|refusal| refused(&self.config, placed, refusal))?;
                if let Command::AddRoute { target: target @ RouteTarget::Via { .. }, .. } =
                    &placed.command
                {
                    let spot = placed.spots.object.as_ref().unwrap_or(&placed.spots.command);
                    self.gateways.push((target.clone(), spot.clone()));
                }
                self.places.remember(placed, words, source);
                Ok(())
            })
        });
        let Err(fault) = outcome else { return };
        let missed = missed(&fault.mistake);
        if missed.is_some_and(|made| self.is_lost(made, &fault, words)) {
            return;
        }
        let made = made_by(words);
        self.host_lost |= made == Made::Port;
        if missed.is_none() {
            let names = words.iter().flat_map(|word| endings(&word.text));
            self.lost.extend(names.map(|name| (made, name.to_owned())));
        }
        self.faults.push(fault);
    }

    fn pass_over(&mut self, why: Why, first: &Word<'_>, source: &Source<'_>) {
        self.asides.push(why.of_line(source.line_of(first.at.start), &first.text));
    }

    /// Whether an earlier bad line says the word that the fault is about, perhaps glued to its
    /// option.
    fn is_lost(&self, made: Made, fault: &Fault, words: &[Word<'_>]) -> bool {
        let holds =
            |word: &&Word<'_>| word.at.start <= fault.at.start && fault.at.end <= word.at.end;
        let Some(word) = words.iter().find(holds) else { return false };
        let from = fault.at.start - word.at.start;
        let name = word.text.get(from..).unwrap_or(&word.text);
        self.lost.contains(&(made, name.to_owned()))
    }

    fn check_gateways(&mut self) {
        if self.host_lost {
            return;
        }
        // Many routes share a gateway; what was removed again is nobody's concern.
        let (mut told, mut known) = (Vec::new(), super::index::Places::default());
        for (_, target) in &self.config.routes {
            if find(Some(&mut known), &told, &target, |(target, _)| *target).is_none() {
                told.push((target, self.config.unreachable_gateway(target)));
            }
        }
        for (target, at) in std::mem::take(&mut self.gateways) {
            let at_target = find(Some(&mut known), &told, &&target, |(target, _)| *target);
            if let Some((_, Some(why))) = at_target.map(|at| &told[at]) {
                let fault = Fault::new(at, Mistake::Refused(Refusal::Host(why.clone()))).expecting(
                    "expected a neighbour: `ip addr add` tells the ports' networks, `ip route add \
                     GATEWAY dev PORT` one more",
                );
                self.faults.push(fault);
            }
        }
    }
}

/// What `sh -c` is to do.
fn for_shell<'s, 'a>(words: &'s [Word<'a>]) -> Option<&'s Word<'a>> {
    match without_prompt(words) {
        [sh, option, text] if option.text == "-c" => {
            matches!(sh.text.rsplit('/').next(), Some("sh" | "bash")).then_some(text)
        }
        _ => None,
    }
}

impl Places {
    fn remember(&mut self, placed: &Placed, words: &[Word<'_>], source: &Source<'_>) {
        let line = source.line_of(placed.spots.command.start);
        match &placed.command {
            Command::AddService(spec) | Command::EditService(spec) => {
                self.services.insert(spec.key, line);
            }
            Command::AddDest(key, dest) | Command::EditDest(key, dest) => {
                let at = placed.spots.server.as_ref();
                let said = at.and_then(|at| words.iter().find_map(|word| word.at_span(at)));
                let said = said.unwrap_or("");
                let port = said
                    .rsplit_once(':')
                    .filter(|(host, _)| host.ends_with(']') || !host.contains(':'));
                let place = DestPlace {
                    line,
                    port: port.and_then(|(_, port)| port.parse().ok()),
                    glued_port: glued_port(said).map(|(_, port)| port),
                };
                self.dests.insert((*key, dest.dest), place);
            }
            // Nothing is asked about where other things were said.
            _ => {}
        }
    }
}

/// The names that a word may hold: itself, and what may be glued to the letters of its options.
fn endings(word: &str) -> impl Iterator<Item = &str> {
    let letters = word.strip_prefix('-').unwrap_or("");
    let letters = letters.bytes().take_while(u8::is_ascii_alphabetic).count();
    let glued = (0..letters.min(GLUED_MAX)).map(|at| &word[at + 2..]);
    let value = word.strip_prefix('-').and_then(|word| word.split_once('='));
    std::iter::once(word).chain(glued).chain(value.map(|(_, value)| value))
}

/// Letters of options in one word that are looked behind.
const GLUED_MAX: usize = 8;

/// What a mistake misses, if it misses something that another line would have made.
fn missed(mistake: &Mistake) -> Option<Made> {
    let Mistake::Refused(refusal) = mistake else { return None };
    match refusal {
        Refusal::NoSuchService | Refusal::ServiceNotDefined => Some(Made::Service),
        Refusal::NoSuchDest => Some(Made::Server),
        Refusal::Host(why) => why.starts_with("there is no port").then_some(Made::Port),
        Refusal::ServiceExists
        | Refusal::DestExists
        | Refusal::OutOfRange
        | Refusal::NotUnicast
        | Refusal::TooManyServers
        | Refusal::UnknownScheduler
        | Refusal::DaemonRuns
        | Refusal::NoDaemon
        | Refusal::NoDevice => None,
    }
}

/// What a bad line would have made, as far as its looks tell.
fn made_by(words: &[Word<'_>]) -> Made {
    let program = words.first().is_some_and(|word| word.text.ends_with("ipvsadm"));
    let command = words.get(usize::from(program)).map_or("", |word| &*word.text);
    match command.trim_start_matches(|c: char| !c.is_ascii_alphabetic()) {
        "add-service" => Made::Service,
        "add-server" => Made::Server,
        name if name.len() == command.len() && !program => Made::Port,
        name if name.starts_with('A') => Made::Service,
        _ => Made::Server,
    }
}

/// The refusal at the word that it is about.
fn refused(config: &Config, placed: &Placed, refusal: Refusal) -> Fault {
    let spots = &placed.spots;
    let service = || (spots.service.clone(), Some("expected a service that `-A` has made above"));
    let (spot, expected) = match &refusal {
        Refusal::ServiceExists => {
            (spots.service.clone(), Some("expected `-E` to change it, or another service"))
        }
        Refusal::NoSuchService | Refusal::ServiceNotDefined => service(),
        Refusal::DestExists => {
            (spots.server.clone(), Some("expected `-e` to change it, or another server"))
        }
        Refusal::NoSuchDest => {
            (spots.server.clone(), Some("expected a server that `-a` has put there above"))
        }
        Refusal::OutOfRange => {
            (spots.lower.clone(), Some("expected a lower threshold of at most the upper one"))
        }
        Refusal::NotUnicast => (
            spots.server.clone().or_else(|| spots.service.clone()),
            Some("expected the address of a single host, not multicast, broadcast or link-local"),
        ),
        Refusal::TooManyServers => {
            (spots.service.clone(), Some("expected a service of at most 4093 servers for `mh`"))
        }
        Refusal::NoDevice => (spots.object.clone(), Some(NO_PORT)),
        Refusal::UnknownScheduler | Refusal::DaemonRuns | Refusal::NoDaemon => (None, None),
        Refusal::Host(why) if why.starts_with("a route to") => (spots.network.clone(), None),
        Refusal::Host(_) => host_spot(config, placed),
    };
    let at = spot.unwrap_or_else(|| spots.command.clone());
    let fault = Fault::new(at, Mistake::Refused(refusal));
    match expected {
        Some(expected) => with_nearest_port(config, placed, fault.expecting(expected)),
        None => fault,
    }
}

/// A host command is refused for the port that it names, or for what it wants there.
fn host_spot(config: &Config, placed: &Placed) -> (Option<Span>, Option<&'static str>) {
    let spots = &placed.spots;
    match (&placed.command, named_port(&placed.command)) {
        (_, Some(port)) if !config.has_port(port) => (spots.dev.clone(), Some(NO_PORT)),
        (Command::SetKnob { .. }, _) => {
            (spots.object.clone(), Some("expected its default, or no such line"))
        }
        _ => (spots.object.clone().or_else(|| spots.dev.clone()), None),
    }
}

const NO_PORT: &str = "expected a port that `ip tuntap add` has made above";

fn named_port(command: &Command) -> Option<&str> {
    match command {
        Command::SetLink { name, .. } => Some(name),
        Command::AddAddress { dev, .. } | Command::AddNeighbour { dev, .. } => Some(dev),
        Command::SetAddress { dev, .. } | Command::RemoveAddress { dev, .. } => Some(dev),
        Command::RemoveRoute { dev, .. } => dev.as_deref(),
        Command::AddRoute { target, .. } => match target {
            RouteTarget::Dev(dev) | RouteTarget::Via { dev: Some(dev), .. } => Some(dev),
            RouteTarget::Via { dev: None, .. }
            | RouteTarget::Local
            | RouteTarget::LocalIn(_)
            | RouteTarget::Rule { .. } => None,
        },
        Command::AddMarkRule { rule, .. } => rule.matches.in_port.as_ref().map(|port| &*port.want),
        Command::AddPort { .. }
        | Command::ClearMarkRules(_)
        | Command::SetKnob { .. }
        | Command::AddService(_)
        | Command::EditService(_)
        | Command::DeleteService(_)
        | Command::Clear
        | Command::AddDest(..)
        | Command::EditDest(..)
        | Command::DeleteDest(..)
        | Command::SetTimeouts { .. }
        | Command::SetFtpPorts(_)
        | Command::StopDaemon(_) => None,
        Command::StartDaemon(daemon) => Some(&daemon.interface),
    }
}

fn with_nearest_port(config: &Config, placed: &Placed, fault: Fault) -> Fault {
    if fault.expected.as_deref() != Some(NO_PORT) {
        return fault;
    }
    let names: Vec<_> = config.ports.iter().map(|port| port.name.as_str()).collect();
    let Some(name) = named_port(&placed.command) else { return fault };
    fault.expecting(match super::complaint::nearest(name, &names) {
        Some(near) => format!("{NO_PORT}; did you mean `{near}`?"),
        None => format!("{NO_PORT}: `ip tuntap add dev {name} mode tap` makes this one"),
    })
}
