//! A `.scn` file read: title, topology, rules, steps.

use tapvs::world::Instant;

use super::packet::Spec;
use super::{words, Station};

/// A case.
#[derive(Debug, Default)]
pub(crate) struct Scenario {
    /// Changes to the topology, as lines of a rules file.
    pub(crate) topology: String,
    /// The rules.
    pub(crate) rules: String,
    /// What happens, each with its line number.
    pub(crate) steps: Vec<(usize, Instant, Step)>,
}

/// What happens, or is looked at, at a time.
#[derive(Debug)]
pub(crate) enum Step {
    /// A station sends a packet to the director.
    Send(Station, Pattern),
    /// A station sends a packet so many times; what comes of each is not looked at.
    Many(usize, Station, Pattern),
    /// The next frame to a station.
    Expect(Station, Pattern),
    /// A command that is done.
    Do(String),
    /// A command that is refused, and in which words.
    Refused(String, Vec<String>),
    /// `ipvsadm` with these arguments: only where directors run as programs (`make conformance`).
    Tool(String),
    /// Time passes.
    Wait,
    /// `ipvsadm -Ln` without its title.
    List(Vec<String>),
    /// Connections: protocol, state, client, virtual, server, seconds left.
    Conns(Vec<String>),
    /// How many connections and templates there are, at least and at most, where chance decides.
    Count(usize, usize),
    /// Templates that are known by a Call-ID: as connections, with that at the end.
    Calls(Vec<String>),
    /// What `ipvsadm` prints with these arguments.
    Show(String, Vec<String>),
    /// `-Z` of one service, by the words that name it, or of all.
    Zero(String),
    /// Connections, packets and bytes in and out, of each service and server.
    Stats(Vec<String>),
    /// Drop counters that have moved since the last look.
    Drops(Vec<String>),
}

/// A packet, sent or expected.
#[derive(Debug)]
pub(crate) enum Pattern {
    /// By what it says.
    Spec(Spec),
    /// By its bytes; `None` is not compared.
    Bytes(Vec<Option<u8>>),
}

/// Reads a file; an error names its line.
pub(crate) fn parse(text: &str) -> Result<Scenario, (usize, String)> {
    let mut scenario = Scenario::default();
    let mut section = "";
    if !text.starts_with("# ") {
        return Err((1, "a scenario begins with a comment that says what it shows".into()));
    }
    for (number, line) in (1..).zip(text.lines()) {
        let content = line.trim();
        if content.is_empty() || content.starts_with('#') {
            continue;
        }
        if !line.starts_with(' ') {
            section = match content {
                "topology" | "rules" | "packets" => content,
                _ => return Err((number, format!("there is no section {content}"))),
            };
            continue;
        }
        match section {
            "topology" => scenario.topology += &format!("{content}\n"),
            "rules" => scenario.rules += &format!("{content}\n"),
            "packets" => step(&mut scenario, number, line).map_err(|why| (number, why))?,
            _ => return Err((number, "this line is in no section".into())),
        }
    }
    Ok(scenario)
}

/// Lines of a block are indented deeper than the steps.
const BLOCK_INDENT: usize = 4;

fn step(scenario: &mut Scenario, number: usize, line: &str) -> Result<(), String> {
    if line.len() - line.trim_start().len() >= BLOCK_INDENT {
        return match scenario.steps.last_mut() {
            Some((
                ..,
                Step::List(block)
                | Step::Conns(block)
                | Step::Calls(block)
                | Step::Stats(block)
                | Step::Show(_, block)
                | Step::Refused(_, block),
            )) => {
                block.push(squeezed(line));
                Ok(())
            }
            _ => Err("a line of a block without list, conns, calls, show, stats or refused".into()),
        };
    }
    let (at, rest) = line.trim().split_once(char::is_whitespace).ok_or("a step is missing")?;
    let at = time(at)?;
    if scenario.steps.last().is_some_and(|&(_, before, _)| before > at) {
        return Err("time runs backwards".into());
    }
    let (word, rest) = match rest.trim().split_once(char::is_whitespace) {
        Some((word, rest)) => (word, rest.trim()),
        None => (rest.trim(), ""),
    };
    let step = match word {
        "wait" => Step::Wait,
        "many" => many(rest)?,
        "do" => Step::Do(rest.to_owned()),
        "refused" => Step::Refused(rest.to_owned(), Vec::new()),
        "tool" => Step::Tool(rest.to_owned()),
        "list" => Step::List(Vec::new()),
        "conns" => Step::Conns(Vec::new()),
        "show" => Step::Show(rest.to_owned(), Vec::new()),
        "zero" => Step::Zero(rest.to_owned()),
        "count" => {
            let (least, most) = rest.split_once("..").ok_or("count LEAST..MOST")?;
            let number = |text: &str| text.parse().map_err(|_| format!("{text} is no number"));
            Step::Count(number(least)?, number(most)?)
        }
        "calls" => Step::Calls(Vec::new()),
        "stats" => Step::Stats(Vec::new()),
        "drops" => Step::Drops(rest.split_whitespace().map(str::to_owned).collect()),
        station => packet_step(station, rest)?,
    };
    scenario.steps.push((number, at, step));
    Ok(())
}

/// `COUNT STATION > PACKET`
fn many(rest: &str) -> Result<Step, String> {
    let (count, rest) = rest.split_once(' ').ok_or("many COUNT STATION > PACKET")?;
    let (name, rest) = rest.split_once(' ').ok_or("a packet is missing")?;
    match packet_step(name, rest)? {
        Step::Send(station, pattern) => {
            Ok(Step::Many(words::number("many", count)? as usize, station, pattern))
        }
        _ => Err("only what is sent is sent many times".into()),
    }
}

fn packet_step(name: &str, rest: &str) -> Result<Step, String> {
    let station = Station::named(name).ok_or_else(|| format!("there is no station {name}"))?;
    let (arrow, packet) = rest.split_once(' ').ok_or("a packet is missing")?;
    let pattern = match packet.trim().strip_prefix("hex ") {
        Some(digits) => Pattern::Bytes(bytes(digits)?),
        None => Pattern::Spec(words::parse(packet)?),
    };
    match arrow {
        ">" => Ok(Step::Send(station, pattern)),
        "<" => Ok(Step::Expect(station, pattern)),
        _ => Err(format!("{name} > or {name} <, not {arrow}")),
    }
}

/// `4500 ??00 ff*1460`: digits, `??` for what is not compared, `BYTE*COUNT` for many equal ones.
fn bytes(text: &str) -> Result<Vec<Option<u8>>, String> {
    let mut out = Vec::new();
    for group in text.split_whitespace() {
        if let Some((byte, count)) = group.split_once('*') {
            let count = words::number("count", count)? as usize;
            let [byte] = words::hex(byte)?[..] else { return Err(format!("{group}: one byte")) };
            out.extend(vec![Some(byte); count]);
            continue;
        }
        for pair in group.as_bytes().chunks(2) {
            out.push(match pair {
                b"??" => None,
                _ => Some(words::hex(&String::from_utf8_lossy(pair))?[0]),
            });
        }
    }
    Ok(out)
}

fn time(text: &str) -> Result<Instant, String> {
    let digits = text.trim_end_matches(|letter: char| letter.is_ascii_alphabetic());
    let number: u64 = digits.parse().map_err(|_| format!("{text} is no time"))?;
    match &text[digits.len()..] {
        "ms" => Ok(Instant::from_millis(number)),
        "s" => Ok(Instant::from_millis(number * 1000)),
        _ => Err(format!("{text} is no time: ms or s")),
    }
}

/// A line with its blanks squeezed.
pub(crate) fn squeezed(line: &str) -> String {
    line.split_whitespace().collect::<Vec<_>>().join(" ")
}
