//! Requests of the control socket are answered from what runs.
//!
//! Small answers are given at once. Pictures are given in portions, so that neither a packet nor
//! another client waits for a large table; each service is seen whole, and what changes in between
//! is seen or not, as in the kernel's own dumps.

use std::fmt::Write;
use std::ops::Bound;
use std::sync::Arc;

use super::reading::Outcome;
use crate::config::command::commands;
use crate::config::grammar::{line, lines};
use crate::config::{Command, Config, PortConfig, Refusal, ServiceKey};
use crate::control::status::{Status, Trouble};
use crate::control::wire::{Answer, Request};
use crate::control::{json, snapshot};
use crate::engine::Engine;
use crate::world::Instant;

/// Services of one portion: a tenth of a millisecond, which no packet feels.
const SERVICES: usize = 64;

/// Bytes of a portion, where services have many servers.
const PICTURE: usize = 24 << 10;

/// Times that a save begins anew.
const SAVES: usize = 8;

/// Bytes of a frame of a picture, give or take a line.
const FRAME: usize = 64 << 10;

/// What runs, and who can exchange its rules.
pub(super) trait Host {
    /// Does something with what runs; packets wait for it.
    fn with<T>(&mut self, what: impl FnOnce(&mut Engine) -> T) -> T;

    /// Wants the rules read again; the ticket for what comes of it.
    fn reload(&mut self) -> u64;

    /// What came of it, once it is over.
    fn reloaded(&self, ticket: u64) -> Option<&Outcome>;

    /// What is wrong with the devices of these ports.
    fn troubles(&self, ports: &[PortConfig]) -> Vec<Trouble>;
}

/// What is still to come of an answer.
#[derive(Debug)]
pub(super) enum Dump {
    /// What comes of reading the rules, under this ticket.
    Reload(u64),
    /// The services after this one, or all.
    Services(Option<ServiceKey>),
    /// The connections from this place on.
    Connections(usize),
    /// What is wrong with servers of the services after this one, beside what was found.
    Status { json: bool, after: Option<ServiceKey>, found: Status },
    /// The rules.
    Rules(Saving),
    /// A text, from this byte on.
    Text(Arc<str>, usize),
    /// `-C` up to this service.
    Clear(ServiceKey),
}

/// The rules as far as they have been copied. They are those of one moment: a command in between makes them
/// begin anew, a few times; after that each service is seen whole, as in a picture.
#[derive(Debug, Default)]
pub(super) struct Saving {
    edition: Option<u64>,
    begun: usize,
    after: Option<ServiceKey>,
    text: String,
    /// What comes behind the services.
    end: String,
}

/// Answers one request into `out`; `Some` if more follows by [`go_on`].
pub(super) fn ask(
    host: &mut impl Host,
    now: Instant,
    request: &Request,
    out: &mut Vec<u8>,
) -> Option<Dump> {
    let mut text = String::new();
    let answer = match request {
        Request::Reload => return Some(Dump::Reload(host.reload())),
        Request::Services(None) => return Some(Dump::Services(None)),
        Request::Connections => return Some(Dump::Connections(0)),
        Request::Do(line) if line == "-C" => match host.with(|engine| engine.last_service()) {
            Some(last) => return Some(Dump::Clear(last)),
            None => Answer::Done,
        },
        Request::Do(line) => host.with(|engine| run(engine, now, line)),
        Request::Unknown { edit, key } => host.with(|engine| unknown(engine, *edit, key)),
        Request::Zero(None) => host.with(|engine| Answer::of(engine.zero(None))),
        Request::Zero(Some(key)) => match parse_key(key) {
            Ok(key) => host.with(|engine| Answer::of(engine.zero(Some(&key)))),
            Err(not) => not,
        },
        Request::Services(Some(key)) => match parse_key(key) {
            Ok(key) => host.with(|engine| {
                match snapshot::put_service(&mut text, engine.director(), &key) {
                    true => Answer::Done,
                    false => Answer::of(Err(Refusal::NoSuchService)),
                }
            }),
            Err(not) => not,
        },
        Request::Settings => {
            host.with(|engine| {
                snapshot::put_settings(&mut text, engine.config(), engine.director());
            });
            Answer::Done
        }
        Request::Total => {
            host.with(|engine| snapshot::put_total(&mut text, &engine.director().total()));
            Answer::Done
        }
        Request::Rules => return Some(Dump::Rules(Saving::default())),
        Request::Status { json } => {
            return Some(Dump::Status { json: *json, after: None, found: Status::default() })
        }
    };
    put_lines(out, &text);
    out.extend(answer.frame());
    None
}

/// Writes the next portion of an answer into `out`, if it is there already.
pub(super) fn go_on(
    host: &mut impl Host,
    now: Instant,
    dump: &mut Dump,
    out: &mut Vec<u8>,
) -> Portion {
    match dump {
        Dump::Reload(ticket) => {
            let Some(outcome) = host.reloaded(*ticket) else { return Portion::NotYet };
            match outcome {
                Ok(lines) => *dump = Dump::Text(Arc::clone(lines), 0),
                Err(why) => {
                    out.extend(Answer::Refused(why.clone()).frame());
                    return Portion::Last;
                }
            }
            return Portion::More;
        }
        Dump::Rules(saving) => {
            if !saving.go_on(host) {
                *dump = Dump::Text(std::mem::take(&mut saving.text).into(), 0);
            }
            return Portion::More;
        }
        Dump::Status { json, after, found } => {
            let status = host.with(|engine| {
                *after = engine.look_for_trouble(now, *after, SERVICES, found);
                let whole = after.is_none();
                whole.then(|| (engine.status(now, found), engine.config().ports.clone()))
            });
            if let Some((mut status, ports)) = status {
                status.ports = host.troubles(&ports);
                let text = if *json { json::status(&status) } else { status.to_string() };
                *dump = Dump::Text(text.into(), 0);
            }
            return Portion::More;
        }
        Dump::Text(text, from) => {
            *from += put_frame(out, &text[*from..]);
            if *from < text.len() {
                return Portion::More;
            }
            out.extend(Answer::Done.frame());
            return Portion::Last;
        }
        Dump::Clear(last) => {
            if host.with(|engine| engine.clear(now, last, SERVICES)) {
                return Portion::More;
            }
            out.extend(Answer::Done.frame());
            return Portion::Last;
        }
        Dump::Services(_) | Dump::Connections(_) => {}
    }
    match host.with(|engine| picture(engine, now, dump, out)) {
        true => Portion::More,
        false => Portion::Last,
    }
}

/// How an answer goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Portion {
    /// Others follow.
    More,
    /// There is none after it.
    Last,
    /// It has to be waited for.
    NotYet,
}

/// Writes the next portion of a picture into `out`; false if it was the last.
fn picture(engine: &Engine, now: Instant, dump: &mut Dump, out: &mut Vec<u8>) -> bool {
    let mut text = String::new();
    let more = match dump {
        Dump::Reload(_)
        | Dump::Status { .. }
        | Dump::Rules(_)
        | Dump::Text(..)
        | Dump::Clear(_) => false,
        Dump::Services(after) => {
            let from = after.as_ref().map_or(Bound::Unbounded, Bound::Excluded);
            let services = engine.config().services.range((from, Bound::Unbounded));
            let mut last = None;
            for (key, _) in services.take(SERVICES) {
                snapshot::put_service(&mut text, engine.director(), key);
                last = Some(*key);
                if text.len() >= PICTURE {
                    break;
                }
            }
            *after = last;
            last.is_some()
        }
        Dump::Connections(place) => match engine.director().table().entries(*place) {
            Some(entries) => {
                entries.for_each(|(conn, call)| snapshot::put_conn(&mut text, now, conn, call));
                *place += 1;
                true
            }
            None => false,
        },
    };
    put_lines(out, &text);
    if !more {
        out.extend(Answer::Done.frame());
    }
    more
}

/// Does one line of the rules language.
fn run(engine: &mut Engine, now: Instant, text: &str) -> Answer {
    let mut all = match parse(text) {
        Ok(all) => all,
        Err(not) => return not,
    };
    match (all.pop(), all.pop()) {
        (Some(command), None) => Answer::of(engine.apply(now, &command)),
        _ => Answer::Not("one command at a time".to_owned()),
    }
}

/// What the kernel says to a service whose scheduler it does not know.
fn unknown(engine: &Engine, edit: bool, key: &str) -> Answer {
    let key = match parse_key(key) {
        Ok(key) => key,
        Err(not) => return not,
    };
    Answer::of(Err(match (edit, engine.config().services.contains_key(&key)) {
        (false, true) => Refusal::ServiceExists,
        (true, false) => Refusal::NoSuchService,
        (true, true) | (false, false) => Refusal::UnknownScheduler,
    }))
}

fn parse(text: &str) -> Result<Vec<Command>, Answer> {
    let mut commands_of_line = Vec::new();
    for words in lines(text) {
        let found = words.and_then(|words| line(&words)).and_then(|line| commands(&line));
        let found = found.map_err(|fault| Answer::Not(fault.mistake.to_string()))?;
        commands_of_line.extend(found.into_iter().map(|placed| placed.command));
    }
    Ok(commands_of_line)
}

fn parse_key(words: &str) -> Result<ServiceKey, Answer> {
    match parse(&format!("-D {words}"))?.pop() {
        Some(Command::DeleteService(key)) => Ok(key),
        _ => Err(Answer::Not("a service is named by -t, -u, --sctp-service or -f".to_owned())),
    }
}

impl Saving {
    /// Copies and writes some; false if that was all.
    fn go_on(&mut self, host: &mut impl Host) -> bool {
        let mut part = Config::default();
        // Packets wait for the copy alone, and not for the text.
        let (begins, last) = host.with(|engine| {
            let config = engine.config();
            if self.edition != Some(engine.edition()) && self.begun < SAVES {
                self.edition = Some(engine.edition());
                part = config.without_services();
                return (true, None);
            }
            (false, config.copy_services(self.after, &mut part, SERVICES))
        });
        self.after = last;
        if begins {
            self.begun += 1;
            let sync = std::mem::take(&mut part.sync);
            self.end = Config { sync, ..Config::default() }.to_string();
            self.text.clear();
        }
        put(&mut self.text, &part);
        if !begins && last.is_none() {
            self.text.push_str(&self.end);
            return false;
        }
        true
    }
}

fn put(text: &mut String, part: &Config) {
    write!(text, "{part}").expect("writing to a string does not fail");
}

/// Whole lines in frames of a bearable size.
fn put_lines(out: &mut Vec<u8>, mut text: &str) {
    while !text.is_empty() {
        text = &text[put_frame(out, text)..];
    }
}

/// The first frame of these lines; how many bytes of them are in it.
fn put_frame(out: &mut Vec<u8>, text: &str) -> usize {
    let at_least = text.as_bytes().get(FRAME..).unwrap_or_default();
    let end = at_least.iter().position(|&b| b == b'\n').map(|at| FRAME + at + 1);
    let frame = &text[..end.unwrap_or(text.len())];
    if !frame.is_empty() {
        out.extend(Answer::More(frame.to_owned()).frame());
    }
    frame.len()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::snapshot::Snapshot;
    use crate::control::wire::frame_len;

    struct Alone(Engine, Outcome);

    impl Host for Alone {
        fn with<T>(&mut self, what: impl FnOnce(&mut Engine) -> T) -> T {
            what(&mut self.0)
        }

        fn reload(&mut self) -> u64 {
            0
        }

        fn reloaded(&self, _: u64) -> Option<&Outcome> {
            Some(&self.1)
        }

        fn troubles(&self, ports: &[PortConfig]) -> Vec<Trouble> {
            let down = |port: &PortConfig| Trouble {
                port: port.name.clone(),
                code: "down",
                text: format!("port {} is down", port.name),
            };
            ports.iter().map(down).collect()
        }
    }

    fn host(rules: &str) -> Alone {
        let config = crate::config::rules::load("r", rules).expect("good rules");
        let engine = Engine::new(&config, 1).expect("possible rules");
        Alone(engine, Err("nothing to read".to_owned()))
    }

    /// The answers to a request, all portions of it.
    fn answers(host: &mut Alone, request: &Request) -> Vec<Answer> {
        let mut out = Vec::new();
        if let Some(mut dump) = ask(host, Instant::ZERO, request, &mut out) {
            while go_on(host, Instant::ZERO, &mut dump, &mut out) == Portion::More {}
        }
        parsed(&out)
    }

    fn parsed(out: &[u8]) -> Vec<Answer> {
        let mut answers = Vec::new();
        let mut rest = out;
        while let Some(len) = frame_len(rest) {
            let text = std::str::from_utf8(&rest[4..4 + len]).expect("text");
            answers.push(Answer::parse(text).expect("an answer"));
            rest = &rest[4 + len..];
        }
        answers
    }

    /// A thousand services of a server each.
    fn many() -> Alone {
        let rules = (0..1000).map(|i| {
            let virt = format!("10.0.{}.{}:80", i / 250, i % 250 + 1);
            format!("-A -t {virt}\n-a -t {virt} -r 10.9.0.1:80 -m\n")
        });
        let port = "ip tuntap add dev t mode tun\n".to_owned();
        host(&std::iter::once(port).chain(rules).collect::<String>())
    }

    fn apply(host: &mut Alone, line: &str) {
        let command = parse(line).expect("a line").pop().expect("a command");
        assert_eq!(host.0.apply(Instant::ZERO, &command), Ok(()));
    }

    #[test]
    fn a_save_comes_in_portions_and_is_of_one_moment() {
        let (mut host, mut out) = (many(), Vec::new());
        apply(&mut host, "--start-daemon master --mcast-interface t");
        let mut saving = ask(&mut host, Instant::ZERO, &Request::Rules, &mut out);
        let saving = saving.as_mut().expect("it takes several portions");
        let mut go_on = |host: &mut Alone| go_on(host, Instant::ZERO, saving, &mut out);
        for _ in 0..5 {
            assert_eq!(go_on(&mut host), Portion::More);
        }
        // One that has been copied already, and one that has not.
        for line in ["-D -t 10.0.0.1:80", "-A -t 10.0.0.1:81", "-D -t 10.0.3.250:80"] {
            apply(&mut host, line);
        }
        while go_on(&mut host) == Portion::More {}
        let answers = parsed(&out);
        let (end, frames) = answers.split_last().expect("an answer");
        let text = frames.iter().map(|frame| match frame {
            Answer::More(lines) => lines.as_str(),
            other => panic!("{other:?}"),
        });
        assert_eq!((end, text.collect::<String>()), (&Answer::Done, host.0.config().to_string()));
    }

    #[test]
    fn a_save_ends_though_commands_never_do() {
        let (mut host, mut out) = (many(), Vec::new());
        let mut saving = ask(&mut host, Instant::ZERO, &Request::Rules, &mut out).expect("more");
        let mut portions = 0;
        while go_on(&mut host, Instant::ZERO, &mut saving, &mut out) == Portion::More {
            apply(&mut host, &format!("--set {} 0 0", 100 + portions));
            portions += 1;
        }
        assert!(portions < 100 && parsed(&out).last() == Some(&Answer::Done), "{portions}");
    }

    #[test]
    fn all_services_go_in_portions_but_those_that_come_meanwhile_at_the_end() {
        let (mut host, mut out) = (many(), Vec::new());
        let mut clearing =
            ask(&mut host, Instant::ZERO, &Request::Do("-C".to_owned()), &mut out).expect("more");
        assert_eq!(go_on(&mut host, Instant::ZERO, &mut clearing, &mut out), Portion::More);
        assert_eq!(host.0.config().services.len(), 1000 - SERVICES);
        apply(&mut host, "-A -t 10.0.9.1:80");
        while go_on(&mut host, Instant::ZERO, &mut clearing, &mut out) == Portion::More {}
        assert_eq!(parsed(&out), [Answer::Done]);
        let left = "ip tuntap add dev t mode tun\n-A -t 10.0.9.1:80 -s wlc\n";
        assert_eq!(host.0.config().to_string(), left);
        assert_eq!(host.0.director().services().iter().count(), 1);
        apply(&mut host, "-C");
        assert!(host.0.config().services.is_empty() && host.0.director().services().is_empty());
        assert_eq!(answers(&mut host, &Request::Do("-C".to_owned())), [Answer::Done]);
    }

    #[test]
    fn a_table_of_many_services_comes_in_portions_and_is_whole() {
        let mut host = many();
        let answers = answers(&mut host, &Request::Services(None));
        assert_eq!(answers.last(), Some(&Answer::Done));
        assert!(answers.len() >= 4);
        let mut picture = Snapshot::default();
        for answer in &answers[..answers.len() - 1] {
            let Answer::More(lines) = answer else { panic!("{answer:?}") };
            lines.lines().for_each(|line| picture.take(line).expect("a line"));
        }
        assert_eq!(picture.services.len(), 1000);
        assert!(picture.services.iter().all(|service| service.dests.len() == 1));
    }

    #[test]
    fn the_status_names_each_server_that_cannot_be_sent_to_once() {
        let mut host = host(
            "ip tuntap add dev t mode tap\nip link set dev t address 02:00:00:00:00:01\n\
             ip addr add 10.0.0.1/24 dev t\nip neigh add 10.0.0.7 lladdr 02:00:00:00:00:07 dev t\n\
             ip route add 10.3.0.0/24 via 10.0.0.9\n\
             -A -t 10.0.0.100:80\n-a -t 10.0.0.100:80 -r 10.0.0.5\n-a -t 10.0.0.100:80 -r 10.0.0.7\n\
             -a -t 10.0.0.100:80 -r 10.3.0.1 -m\n-a -t 10.0.0.100:80 -r 10.2.0.1 -m\n\
             -A -t 10.0.0.100:443\n-a -t 10.0.0.100:443 -r 10.0.0.5\n",
        );
        let answers = answers(&mut host, &Request::Status { json: false });
        let [Answer::More(text), Answer::Done] = &answers[..] else { panic!("{answers:?}") };
        let mut lines: Vec<_> = text.lines().skip(1).collect();
        assert_eq!(lines.remove(0), "port t is down");
        let unasked = "on t has not been asked for, or did not answer";
        assert_eq!(
            lines,
            [
                format!("the server 10.0.0.5 {unasked}"),
                format!("the server 10.3.0.1 by the router 10.0.0.9 {unasked}"),
                "no route leads to the server 10.2.0.1".to_owned(),
            ]
        );
    }

    #[test]
    fn commands_are_done_or_refused_in_the_kernels_words() {
        let mut host = host("");
        let mut done = |line: &str| answers(&mut host, &Request::Do(line.to_owned())).remove(0);
        assert_eq!(done("-A -t 10.0.0.1:80 -s rr"), Answer::Done);
        let exists = Answer::Refused("Service already exists".to_owned());
        assert_eq!(done("-A -t 10.0.0.1:80 -s rr"), exists);
        assert!(matches!(done("ip tuntap add dev x mode tap"), Answer::Refused(_)));
        assert!(matches!(done("-C\n-C"), Answer::Not(_)));
        assert!(matches!(done("-L"), Answer::Not(_)));
        assert!(matches!(done(""), Answer::Not(_)));
        let key = || "-t 10.0.0.1:80".to_owned();
        let mut unknown = |edit, key| answers(&mut host, &Request::Unknown { edit, key }).remove(0);
        assert_eq!(unknown(false, key()), exists);
        let nobody = Answer::Refused("Scheduler or persistence engine not found".to_owned());
        assert_eq!(unknown(true, key()), nobody);
        assert_eq!(unknown(false, "-u 1.1.1.1:1".to_owned()), nobody);
        let none = Answer::Refused("No such service".to_owned());
        assert_eq!(unknown(true, "-u 1.1.1.1:1".to_owned()), none);
        assert_eq!(answers(&mut host, &Request::Zero(Some("-f 9".to_owned()))), [none]);
        assert_eq!(answers(&mut host, &Request::Zero(None)), [Answer::Done]);
        let why = Answer::Refused("nothing to read".to_owned());
        assert_eq!(answers(&mut host, &Request::Reload), [why]);
    }
}
