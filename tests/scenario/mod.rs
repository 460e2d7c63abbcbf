//! A director between a client and three real servers, on virtual time, without any device.
//!
//! [`World`] is the topology with an [`Engine`] in it; [`file`] reads a `.scn` file, [`run`] plays
//! it. `tests/scenarios/README.md` says how such a file is written.
#![allow(dead_code, reason = "each test program uses its own part of this room")]
#![allow(clippy::cast_possible_truncation, reason = "the numbers of a scenario are small")]

pub(crate) mod decode;
pub(crate) mod file;
pub(crate) mod packet;
pub(crate) mod run;
pub(crate) mod words;

use std::collections::VecDeque;

use tapvs::config::command::commands;
use tapvs::config::complaint::Mistake;
use tapvs::config::{grammar, rules};
use tapvs::engine::Engine;
use tapvs::packet::{LinkId, Mac, Packet};
use tapvs::world::Instant;

use file::Pattern;
use words::Kind;

/// Two ports: the client's side and the servers' side. Clients of 10.90.0.0/16 and fd90::/32 are
/// behind the client; 10.91.0.0/24 is the director's own.
pub(crate) const TOPOLOGY: &str = "\
ip tuntap add dev client mode tap
ip link set dev client address 02:00:00:80:00:01
ip addr add 10.80.0.1/24 dev client
ip addr add 10.80.0.10/32 dev client
ip addr add 10.80.0.11/32 dev client
ip addr add fd80::1/64 dev client
ip addr add fd80::10/128 dev client
ip tuntap add dev server mode tap
ip link set dev server address 02:00:00:81:00:01
ip addr add 10.81.0.1/24 dev server
ip addr add fd81::1/64 dev server
ip neigh add 10.80.0.100 lladdr 02:00:00:80:00:64 dev client
ip neigh add fd80::100 lladdr 02:00:00:80:00:64 dev client
ip neigh add 10.81.0.11 lladdr 02:00:00:81:00:11 dev server
ip neigh add 10.81.0.12 lladdr 02:00:00:81:00:12 dev server
ip neigh add 10.81.0.13 lladdr 02:00:00:81:00:13 dev server
ip neigh add fd81::11 lladdr 02:00:00:81:00:11 dev server
ip neigh add fd81::12 lladdr 02:00:00:81:00:12 dev server
ip neigh add fd81::13 lladdr 02:00:00:81:00:13 dev server
ip route add 10.90.0.0/16 via 10.80.0.100
ip route add fd90::/32 via fd80::100
ip route add local 10.91.0.0/24 dev lo
";

/// Who is on the wires beside the director.
#[derive(Debug)]
pub(crate) struct Station {
    /// The port that it is behind.
    pub(crate) link: LinkId,
    /// Its MAC address.
    pub(crate) mac: Mac,
    /// The director's MAC address on that wire.
    pub(crate) gateway: Mac,
}

impl Station {
    /// The station of that name; `server` is the first real server.
    pub(crate) fn named(name: &str) -> Option<Self> {
        let (link, mac) = match name {
            "client" => (0, [2, 0, 0, 0x80, 0, 0x64]),
            "rs1" | "server" => (1, [2, 0, 0, 0x81, 0, 0x11]),
            "rs2" => (1, [2, 0, 0, 0x81, 0, 0x12]),
            "rs3" => (1, [2, 0, 0, 0x81, 0, 0x13]),
            _ => return None,
        };
        let gateway = Mac([2, 0, 0, if link == 0 { 0x80 } else { 0x81 }, 0, 1]);
        Some(Self { link: LinkId(link), mac: Mac(mac), gateway })
    }

    /// Whether a frame on `link` is for this station.
    pub(crate) fn hears(&self, link: LinkId, frame: &[u8]) -> bool {
        let to = frame.get(..6).unwrap_or_default();
        link == self.link && (to == self.mac.0 || to.first().is_some_and(|first| first & 1 == 1))
    }

    /// The frame in which this station sends `payload` to the director, or to a group.
    pub(crate) fn frame(&self, ethertype: u16, payload: &[u8]) -> Vec<u8> {
        let to = match (ethertype, payload.get(24..40)) {
            (0x86dd, Some(&[0xff, .., a, b, c, d])) => Mac([0x33, 0x33, a, b, c, d]),
            (0x0806, _) if payload.get(7) == Some(&1) => Mac::BROADCAST,
            _ => self.gateway,
        };
        [&to.0[..], &self.mac.0, &ethertype.to_be_bytes(), payload].concat()
    }
}

/// The EtherType of an IP packet.
pub(crate) fn ethertype_of(packet: &[u8]) -> u16 {
    match packet.first().map(|first| first >> 4) {
        Some(6) => 0x86dd,
        _ => 0x0800,
    }
}

/// The frame in which `station` sends `pattern`.
pub(crate) fn frame_of(station: &Station, pattern: &Pattern) -> Result<Vec<u8>, String> {
    let (ethertype, payload) = match pattern {
        Pattern::Bytes(bytes) => {
            let all: Option<Vec<u8>> = bytes.iter().copied().collect();
            let bytes = all.ok_or("?? cannot be sent")?;
            (ethertype_of(&bytes), bytes)
        }
        Pattern::Spec(spec) => {
            let bytes = spec.build(station.mac)?;
            let arp = spec.kind == Kind::Arp;
            (if arp { 0x0806 } else { ethertype_of(&bytes) }, bytes)
        }
    };
    Ok(station.frame(ethertype, &payload))
}

/// What ipvsadm says of a mistake.
fn words_of(mistake: &Mistake) -> String {
    mistake.ipvsadm().map_or_else(|| format!("{mistake:?}"), |(words, _)| words)
}

/// A director at work, and the frames that it has sent and nobody looked at yet.
#[derive(Debug)]
pub(crate) struct World {
    /// The director.
    pub(crate) engine: Engine,
    /// What time it is.
    pub(crate) now: Instant,
    /// Sent frames in order, each with its port.
    pub(crate) sent: VecDeque<(LinkId, Vec<u8>)>,
}

/// More wake-ups than this without time going on is a loop that does not end.
const POLLS_MAX: usize = 100_000;

impl World {
    /// The topology, changed by the lines of `topology`, with `rules`.
    pub(crate) fn new(topology: &str, rules_text: &str) -> Result<Self, String> {
        let text = format!("{TOPOLOGY}{topology}\n{rules_text}\n");
        let config = rules::load("scenario", &text).map_err(|complaints| {
            complaints.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
        })?;
        let engine = Engine::new(&config, 1).map_err(|refusal| refusal.to_string())?;
        let mut world = Self { engine, now: Instant::ZERO, sent: VecDeque::new() };
        // What is announced at the start is no scenario's concern.
        world.engine.announce(Instant::ZERO);
        world.collect();
        world.sent.clear();
        Ok(world)
    }

    /// Gives the director a command line.
    pub(crate) fn command(&mut self, text: &str) -> Result<(), String> {
        for words in grammar::lines(text) {
            let read = words.and_then(|words| commands(&grammar::line(&words)?));
            for placed in read.map_err(|fault| words_of(&fault.mistake))? {
                let applied = self.engine.apply(self.now, &placed.command);
                applied.map_err(|refusal| refusal.to_string())?;
            }
        }
        self.collect();
        Ok(())
    }

    /// Gives the director a frame on a port.
    pub(crate) fn receive(&mut self, link: LinkId, frame: &[u8]) {
        let mut packet = Packet::copy_of(link, frame);
        if let Some(out) = self.engine.handle(self.now, &mut packet) {
            self.sent.push_back((out, packet.bytes().to_vec()));
        }
        self.collect();
    }

    /// Takes what the director sends on its own account.
    fn collect(&mut self) {
        while let Some(packet) = self.engine.take() {
            self.sent.push_back((packet.link, packet.bytes().to_vec()));
        }
    }

    /// Lets time pass: whatever is due on the way is done when it is due.
    pub(crate) fn advance(&mut self, to: Instant) {
        for polls in 0.. {
            assert!(polls < POLLS_MAX, "the director wakes up again and again at {:?}", self.now);
            let due = self.engine.deadline().filter(|&due| due <= to);
            let Some(due) = due else { break };
            self.now = self.now.max(due);
            self.engine.poll(self.now);
            self.collect();
        }
        self.now = self.now.max(to);
    }

    /// Why the account of frames does not add up, if so.
    pub(crate) fn account_is_wrong(&self) -> Option<String> {
        let line = self.engine.frames();
        let counted = |word: &str| -> u64 {
            let after = line.split(word).nth(1).unwrap_or_default().trim_start();
            let digits: String = after.chars().take_while(char::is_ascii_digit).collect();
            digits.parse().unwrap_or(0)
        };
        let head = line.split(';').next().unwrap_or_default();
        let waiting = if head.contains("waiting") { counted("waiting") } else { 0 };
        let ends = counted("forwarded") + counted("answered") + counted("dropped") + waiting;
        let reasons: u64 = self.engine.drop_counts().map(|(_, count)| count).sum();
        (counted("received") != ends || counted("dropped") != reasons).then_some(line)
    }
}
