//! A scenario played: what was not foreseen is reported with its line.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::net::Ipv4Addr;

use tapvs::config::grammar::Word;
use tapvs::config::tool::{self, Listing, What, Wish};
use tapvs::config::{Names, ServiceKey};
use tapvs::conn::Conn;
use tapvs::control::show::{self, Numeric};
use tapvs::control::snapshot::{self, Snapshot};
use tapvs::director::stats::Stats;
use tapvs::packet::{proto, Family, LinkId, Mac};

use super::decode;
use super::file::{squeezed, Pattern, Scenario, Step};
use super::words::Kind;
use super::{ethertype_of, frame_of, Station, World};

/// Remaining lifetimes may differ by this many seconds.
const SECONDS_OFF: u64 = 3;

/// Plays a scenario.
///
/// # Errors
/// The line (0 for the end), and what was wrong there.
pub(crate) fn play(scenario: &Scenario) -> Result<(), (usize, String)> {
    let world = World::new(&scenario.topology, &scenario.rules).map_err(|why| (0, why))?;
    let mut player = Player { world, drops: BTreeMap::new() };
    for (number, at, step) in &scenario.steps {
        let looks = !matches!(step, Step::Expect(..));
        if looks {
            player.nothing_left().map_err(|why| (*number, format!("before this line, {why}")))?;
        }
        player.world.advance(*at);
        player.step(step).map_err(|why| (*number, why))?;
    }
    player.nothing_left().map_err(|why| (0, why))?;
    player.world.account_is_wrong().map_or(Ok(()), |line| Err((0, line)))
}

/// Knows no names.
struct Nobody;

impl Names for Nobody {
    fn host(&self, _: &str) -> Option<Ipv4Addr> {
        None
    }

    fn port(&self, _: &str, _: u8) -> Option<u16> {
        None
    }
}

struct Player {
    world: World,
    /// Drop counters at the last look.
    drops: BTreeMap<&'static str, u64>,
}

impl Player {
    fn step(&mut self, step: &Step) -> Result<(), String> {
        match step {
            Step::Send(station, pattern) => self.send(station, pattern),
            Step::Many(count, station, pattern) => (0..*count).try_for_each(|_| {
                self.send(station, pattern)?;
                self.world.sent.clear();
                Ok(())
            }),
            Step::Expect(station, pattern) => self.expect(station, pattern),
            Step::Do(command) => self.world.command(command),
            Step::Refused(command, wanted) => match self.world.command(command) {
                Ok(()) => Err("it was done".into()),
                Err(words) => same_lines(wanted, vec![words]),
            },
            Step::Tool(_) => Err("`tool` is for `make conformance`".into()),
            Step::Wait => Ok(()),
            Step::List(wanted) => {
                let listing = self.world.engine.listing();
                same_lines(wanted, listing.lines().skip(3).map(squeezed).collect())
            }
            Step::Conns(wanted) => self.conns(wanted),
            Step::Count(least, most) => {
                let count = self.world.engine.director().table().len();
                let fits = (*least..=*most).contains(&count);
                fits.then_some(()).ok_or_else(|| format!("there are {count}"))
            }
            Step::Calls(wanted) => same_lines(wanted, self.calls()),
            Step::Show(args, wanted) => {
                let text = self.show(args)?;
                let lines = text.lines().map(squeezed).filter(|line| !line.is_empty());
                same_lines(wanted, lines.collect())
            }
            Step::Zero(words) => self.zero(words),
            Step::Stats(wanted) => same_lines(wanted, self.stats()),
            Step::Drops(wanted) => self.moved(wanted),
        }
    }

    fn send(&mut self, station: &Station, pattern: &Pattern) -> Result<(), String> {
        self.world.receive(station.link, &frame_of(station, pattern)?);
        Ok(())
    }

    fn expect(&mut self, station: &Station, pattern: &Pattern) -> Result<(), String> {
        let sent = &mut self.world.sent;
        let found = sent.iter().position(|(link, frame)| station.hears(*link, frame));
        let Some((link, frame)) = found.and_then(|at| sent.remove(at)) else {
            let drops = self.world.engine.frames();
            let others: String = sent.iter().map(|(l, f)| told(*l, f)).collect();
            return Err(format!("nothing came; {drops}{others}"));
        };
        match difference(station, pattern, &frame) {
            Some(why) => Err(format!("{why}{}", told(link, &frame))),
            None => Ok(()),
        }
    }

    fn nothing_left(&self) -> Result<(), String> {
        if self.world.sent.is_empty() {
            return Ok(());
        }
        let list: String = self.world.sent.iter().map(|(l, f)| told(*l, f)).collect();
        Err(format!("frames came that nobody expected:{list}"))
    }

    fn conns(&self, wanted: &[String]) -> Result<(), String> {
        let now = self.world.now;
        let line = |conn: &Conn| {
            let left = conn.deadline.since(now).as_secs();
            (conn_line(conn), left)
        };
        let mut got: Vec<_> = self.world.engine.director().table().iter().map(line).collect();
        got.sort();
        let mut missing = String::new();
        for wanted in wanted {
            let (what, left) = wanted.rsplit_once(' ').ok_or("a line ends with seconds")?;
            let left: u64 = left.parse().map_err(|_| format!("{left} is no number of seconds"))?;
            let fits = |(line, l): &(String, u64)| line == what && l.abs_diff(left) <= SECONDS_OFF;
            match got.iter().position(fits) {
                Some(at) => drop(got.remove(at)),
                None => missing += &format!("\n    missing    {wanted}"),
            }
        }
        let beyond: String =
            got.iter().map(|(line, left)| format!("\n    unexpected {line} {left}")).collect();
        match missing.is_empty() && beyond.is_empty() {
            true => Ok(()),
            false => Err(format!("other connections:{missing}{beyond}")),
        }
    }

    fn calls(&self) -> Vec<String> {
        let table = self.world.engine.director().table();
        let all = (0..).map_while(|place| table.entries(place)).flatten();
        let call = |(conn, call): (&Conn, Option<&[u8]>)| {
            let call: String = call?.iter().copied().map(char::from).collect();
            Some(format!("{} {call}", conn_line(conn)))
        };
        let mut lines: Vec<_> = all.filter_map(call).collect();
        lines.sort();
        lines
    }

    /// What `ipvsadm` prints, on either of its streams.
    fn show(&self, args: &str) -> Result<String, String> {
        let args: Vec<String> = args.split_whitespace().map(str::to_owned).collect();
        let wish = match tool::wish(&Word::from_args(&args), &Nobody) {
            Ok(wish) => wish,
            Err(fault) => return Ok(super::words_of(&fault.mistake)),
        };
        let director = self.world.engine.director();
        let mut lines = String::new();
        match &wish {
            Wish::List(Listing { what: What::Service(key), .. }) => {
                if !snapshot::put_service(&mut lines, director, key) {
                    return Ok("No such service".to_owned());
                }
            }
            _ => {
                for service in director.services().iter() {
                    snapshot::put_service(&mut lines, director, &service.spec.key);
                }
            }
        }
        let table = director.table();
        for (conn, call) in (0..).map_while(|place| table.entries(place)).flatten() {
            snapshot::put_conn(&mut lines, self.world.now, conn, call);
        }
        snapshot::put_settings(&mut lines, self.world.engine.config(), director);
        let mut picture = Snapshot::default();
        for line in lines.lines() {
            picture.take(line).map_err(|_| format!("{line} is no line of a picture"))?;
        }
        match wish {
            Wish::List(listing) => Ok(show::listing(picture, &listing, &Numeric)),
            Wish::Save { .. } => Ok(show::save(picture, &Numeric)),
            _ => Err("show is for -L and -S".into()),
        }
    }

    fn zero(&mut self, words: &str) -> Result<(), String> {
        let args: Vec<String> =
            ["-Z"].into_iter().chain(words.split_whitespace()).map(str::to_owned).collect();
        match tool::wish(&Word::from_args(&args), &Nobody) {
            Ok(Wish::Zero(key)) => {
                self.world.engine.zero(key.as_ref()).map_err(|refusal| refusal.to_string())
            }
            _ => Err("zero is for -Z".into()),
        }
    }

    /// `ipvsadm -Ln --stats --exact` without its title.
    fn stats(&self) -> Vec<String> {
        let services = self.world.engine.director().services();
        let mut blocks = Vec::new();
        for service in services.iter() {
            let (order, key) = match service.spec.key {
                ServiceKey::Address { proto, virt } => (0, format!("{} {virt}", name(proto))),
                ServiceKey::Mark { family: Family::V4, mark } => (1, format!("FWM {mark}")),
                ServiceKey::Mark { family: Family::V6, mark } => (1, format!("FWM {mark} IPv6")),
            };
            let mut dests: Vec<_> = service.dests.iter().map(|&id| services.dest(id)).collect();
            dests.sort_by_key(|dest| dest.spec.dest);
            let mut lines = vec![format!("{key} {}", numbers(&service.stats))];
            for dest in dests {
                lines.push(format!("-> {} {}", dest.spec.dest, numbers(&dest.stats)));
            }
            blocks.push((order, lines));
        }
        blocks.sort();
        blocks.into_iter().flat_map(|(_, lines)| lines).collect()
    }

    fn moved(&mut self, wanted: &[String]) -> Result<(), String> {
        let mut moved = Vec::new();
        for (reason, count) in self.world.engine.drop_counts() {
            let before = self.drops.insert(reason.name(), count).unwrap_or(0);
            if count > before {
                moved.push(format!("{}={}", reason.name(), count - before));
            }
        }
        let mut wanted = wanted.to_vec();
        moved.sort();
        wanted.sort();
        match moved == wanted {
            true => Ok(()),
            false => Err(format!("dropped: {}", moved.join(" "))),
        }
    }
}

/// Why a frame is not what was expected.
fn difference(station: &Station, pattern: &Pattern, frame: &[u8]) -> Option<String> {
    if frame.get(6..12) != Some(&station.gateway.0) {
        return Some("the frame's source is not the director's address there".into());
    }
    let (ethertype, payload) = (&frame[12..14], &frame[14..]);
    match pattern {
        Pattern::Spec(spec) if spec.kind == Kind::Arp => match ethertype {
            [8, 6] => spec.differs(&decode::arp(payload)),
            _ => Some("an ARP frame was expected".into()),
        },
        _ if ethertype != ethertype_of(payload).to_be_bytes() => Some("wrong EtherType".into()),
        Pattern::Spec(spec) => spec.differs(&decode::packet(payload)),
        Pattern::Bytes(bytes) => bytes_differ(bytes, payload),
    }
}

/// Compares bytes; where some are not compared, the packet's checksums must be right.
fn bytes_differ(wanted: &[Option<u8>], got: &[u8]) -> Option<String> {
    let hex: String = got.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    });
    if wanted.len() != got.len() {
        return Some(format!("expected {} bytes, got {}", wanted.len(), got.len()));
    }
    let differs = |&(wanted, got): &(&Option<u8>, &u8)| wanted.is_some_and(|byte| byte != *got);
    let wrong: Vec<usize> =
        wanted.iter().zip(got).enumerate().filter(|(_, pair)| differs(pair)).map(|w| w.0).collect();
    if let Some(&first) = wrong.first() {
        let expected: String = wanted[first..]
            .iter()
            .take(8)
            .map(|b| match b {
                Some(byte) => format!("{byte:02x}"),
                None => "??".into(),
            })
            .collect();
        return Some(format!(
            "bytes {wrong:?} differ; from {first} expected {expected}, got {}",
            &hex[first * 2..(first * 2 + 16).min(hex.len())]
        ));
    }
    let masked = wanted.contains(&None);
    let sum = decode::packet(got);
    sum.of("sum").filter(|&sum| masked && sum != "ok").map(|sum| format!("checksum: {sum}"))
}

/// A frame, for people.
fn told(link: LinkId, frame: &[u8]) -> String {
    let to: Mac = frame.get(..6).and_then(|to| to.try_into().ok()).map_or(Mac::default(), Mac);
    let port = if link.0 == 0 { "client" } else { "server" };
    let text = match frame.get(12..14) {
        Some([8, 6]) => decode::arp(&frame[14..]),
        _ => decode::packet(frame.get(14..).unwrap_or_default()),
    };
    format!("\n    got, on port {port} to {to}: {text}")
}

fn same_lines(wanted: &[String], got: Vec<String>) -> Result<(), String> {
    if wanted == got {
        return Ok(());
    }
    let wanted = wanted.join("\n        ");
    Err(format!("expected\n        {wanted}\n    got\n        {}", got.join("\n        ")))
}

fn conn_line(conn: &Conn) -> String {
    let ends = format!("{} {} {}", conn.client, conn.virt, conn.dest);
    format!("{} {} {ends}", name(conn.proto), conn.state)
}

const fn name(protocol: u8) -> &'static str {
    match protocol {
        proto::TCP => "TCP",
        proto::UDP => "UDP",
        proto::SCTP => "SCTP",
        _ => "IP",
    }
}

fn numbers(stats: &Stats) -> String {
    let Stats { conns, in_packets, out_packets, in_bytes, out_bytes, .. } = stats;
    format!("{conns} {in_packets} {out_packets} {in_bytes} {out_bytes}")
}
