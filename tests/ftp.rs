//! FTP's control connection through NAT: messages that are cut, bitten or repeated, and streams that
//! must arrive whole although the director changes their length.
#![allow(clippy::cast_possible_truncation, reason = "bytes are drawn from wider numbers")]

mod scenario;

use scenario::{decode, ethertype_of, words, Station, World};
use tapvs::world::Rng;

const RULES: &str = "\
modprobe ip_vs_ftp
-A -t 10.91.0.7:21 -s rr
-a -t 10.91.0.7:21 -r 10.81.0.11:21 -m
-A -t [fd80::10]:21 -s rr
-a -t [fd80::10]:21 -r [fd81::11]:21 -m
";

/// Client, virtual address and server of each family.
const ENDS: [[&str; 3]; 2] = [
    ["10.80.0.100:4000", "10.91.0.7:21", "10.81.0.11:21"],
    ["[fd80::100]:4000", "[fd80::10]:21", "[fd81::11]:21"],
];

const REQUESTS: &[&str] = &[
    "PASV\r\n",
    "EPSV\r\n",
    "EPSV 1\r\n",
    "EPSV 2\r\n",
    "PORT 10,80,0,100,40,1\r\n",
    "EPRT |1|10.80.0.100|10301|\r\n",
    "EPRT |2|fd80::100|10301|\r\n",
];

const ANSWERS: &[&str] = &[
    "227 Entering Passive Mode (10,81,0,11,200,13).\r\n",
    "227 10,81,0,11,200,13\r\n",
    "229 Entering Extended Passive Mode (|||51213|)\r\n",
    "229 Entering (|1|10.81.0.11|051213|)\r\n",
];

/// A control connection between a client and its server, as both see it.
struct Control {
    world: World,
    ends: [&'static str; 3],
}

impl Control {
    fn established(ends: [&'static str; 3]) -> Self {
        let mut control = Self { world: World::new("", RULES).expect("the rules are right"), ends };
        control.client("S", 1000, 0, "", b"");
        control.server("SA", 5000, 1001, b"");
        control.client("A", 1001, 5001, "", b"");
        control
    }

    /// What the server gets of a client's segment.
    fn client(&mut self, flags: &str, seq: u32, ack: u32, more: &str, data: &[u8]) -> Option<Seen> {
        let (from, to) = (self.ends[0], self.ends[1]);
        self.pass("client", &format!("tcp {from} > {to} {flags} seq={seq} ack={ack} {more}"), data)
    }

    /// What the client gets of a server's segment.
    fn server(&mut self, flags: &str, seq: u32, ack: u32, data: &[u8]) -> Option<Seen> {
        let (from, to) = (self.ends[2], self.ends[0]);
        self.pass("rs1", &format!("tcp {from} > {to} {flags} seq={seq} ack={ack}"), data)
    }

    fn pass(&mut self, from: &str, line: &str, data: &[u8]) -> Option<Seen> {
        let station = Station::named(from).expect("a station");
        let mut spec = words::parse(line).expect("a line of the grammar");
        spec.data = Some(data.to_vec());
        let bytes = spec.build(station.mac).expect("a packet");
        self.world.receive(station.link, &station.frame(ethertype_of(&bytes), &bytes));
        let (_, frame) = self.world.sent.pop_front()?;
        assert!(self.world.sent.is_empty(), "one frame gives one at most");
        let packet = decode::packet(&frame[14..]);
        assert_eq!(packet.of("sum"), Some("ok"), "{line}: {packet}");
        let number = |name| packet.number(name).expect("a number").expect("there is one");
        Some(Seen {
            seq: number("seq"),
            ack: number("ack"),
            data: packet.data.clone().unwrap_or_default(),
        })
    }

    fn connections(&self) -> usize {
        self.world.engine.director().table().len()
    }
}

/// What matters of a segment that came out.
#[derive(Debug, PartialEq, Eq)]
struct Seen {
    seq: u32,
    ack: u32,
    data: Vec<u8>,
}

#[test]
fn every_prefix_of_every_message_passes_and_no_prefix_of_a_request_is_changed() {
    for ends in ENDS {
        for request in REQUESTS {
            for len in 0..=request.len() {
                let mut control = Control::established(ends);
                let part = &request.as_bytes()[..len];
                let seen = control.client("PA", 1001, 5001, "", part).expect("passes");
                assert_eq!(seen.data, part);
            }
            let mut control = Control::established(ends);
            control.client("PA", 1001, 5001, "", request.as_bytes()).expect("passes");
            for answer in ANSWERS {
                for len in 0..=answer.len() {
                    let part = &answer.as_bytes()[..len];
                    control.server("PA", 9001 + len as u32, 1001, part).expect("passes");
                }
            }
            assert_eq!(control.world.account_is_wrong(), None);
        }
    }
}

#[test]
fn bitten_messages_pass_and_make_one_connection_each_at_most() {
    let mut rng = Rng::new(7);
    for round in 0..1000 {
        let mut control = Control::established(ENDS[round % 2]);
        let mut message = |list: &[&str]| {
            let mut bytes = list[rng.next_u32() as usize % list.len()].as_bytes().to_vec();
            for _ in 0..rng.next_u32() % 4 {
                let at = rng.next_u32() as usize % bytes.len();
                match rng.next_u32() % 3 {
                    0 => bytes[at] = rng.next_u32() as u8,
                    1 => bytes.insert(at, b"0123456789,|() \r\n"[rng.next_u32() as usize % 17]),
                    _ => drop(bytes.remove(at)),
                }
            }
            bytes
        };
        let (request, answer) = (message(REQUESTS), message(ANSWERS));
        let before = control.connections();
        control.client("PA", 1001, 5001, "", &request).expect("passes");
        control.server("PA", 5001, 1001, &answer).expect("passes");
        assert!(control.connections() <= before + 2, "{request:?} {answer:?}");
    }
}

#[test]
fn a_segment_whose_header_is_longer_or_shorter_than_can_be_passes_unchanged() {
    let mut control = Control::established(ENDS[0]);
    control.client("PA", 1001, 5001, "", b"PASV\r\n");
    let station = Station::named("rs1").expect("a station");
    for offset in 0..16_u8 {
        let line = "tcp 10.81.0.11:21 > 10.80.0.100:4000 PA seq=5001 ack=1007";
        let mut spec = words::parse(line).expect("a line of the grammar");
        spec.data = Some(b"229 no answer to PASV (|||51213|)\r\n".to_vec());
        let mut bytes = spec.build(station.mac).expect("a packet");
        bytes[32] = offset << 4;
        bytes[36..38].fill(0);
        let ends = (spec.addr("src").expect("there"), spec.addr("dst").expect("there"));
        let sum = scenario::packet::sum_of(ends.0, ends.1, 6, &bytes[20..]);
        bytes[36..38].copy_from_slice(&sum.to_be_bytes());
        control.world.receive(station.link, &station.frame(0x0800, &bytes));
        let (_, frame) = control.world.sent.pop_front().expect("passes");
        assert_eq!(frame[14 + 38..], bytes[38..]);
    }
}

/// What a client makes of the segments that reach it: a stream, whose repeated parts must agree.
#[derive(Default)]
struct Stream {
    bytes: Vec<u8>,
}

impl Stream {
    fn take(&mut self, from: u32, seen: &Seen) {
        let at = seen.seq.wrapping_sub(from) as usize;
        assert!(at <= self.bytes.len(), "a gap before {seen:?}");
        let known = &self.bytes[at..self.bytes.len().min(at + seen.data.len())];
        assert_eq!(known, &seen.data[..known.len()], "a repeated part differs");
        let fresh = seen.data[known.len()..].to_vec();
        self.bytes.extend(fresh);
    }
}

#[test]
fn streams_arrive_whole_when_answers_shrink_and_grow_and_segments_are_repeated() {
    for seed in 0..60 {
        let mut rng = Rng::new(seed);
        let mut control = Control::established(ENDS[0]);
        // Numbers wrap on the way.
        let first = u32::MAX - 700;
        let (mut sent, mut asked) = (0_u32, 1001_u32);
        let (mut stream, mut whole) = (Stream::default(), Vec::new());
        let acked = |control: &mut Control, stream: &Stream, sent: u32, asked: u32| {
            let ack = first.wrapping_add(stream.bytes.len() as u32);
            let seen = control.client("A", asked, ack, "", b"").expect("passes");
            assert_eq!(seen.ack, first.wrapping_add(sent), "everything is acknowledged");
        };
        for step in 0..40_u32 {
            let port = 20_000 + rng.next_u32() % 40_000;
            let (high, low) = (port / 256, port % 256);
            let (said, meant) = match rng.next_u32() % 4 {
                0 => ("150 Here it comes.\r\n".to_owned(), "150 Here it comes.\r\n".to_owned()),
                // Addresses of every length; the virtual one takes their place.
                n => {
                    let addr = ["8,8,8,8", "10,81,0,11", "172,16,254,200"][n as usize - 1];
                    control.client("PA", asked, 0, "", b"PASV\r\n").expect("passes");
                    asked += 6;
                    let text = |addr| format!("227 Mode ({addr},{high},{low}).\r\n{step}\r\n");
                    (text(addr), text("10,91,0,7"))
                }
            };
            whole.extend(meant.as_bytes());
            for _ in 0..=rng.next_u32() % 3 {
                let seq = first.wrapping_add(sent);
                let seen = control.server("PA", seq, asked, said.as_bytes()).expect("passes");
                stream.take(first, &seen);
            }
            sent += said.len() as u32;
            acked(&mut control, &stream, sent, asked);
        }
        assert_eq!(String::from_utf8(stream.bytes), String::from_utf8(whole));
    }
}

#[test]
fn an_answer_that_fills_the_packet_does_not_grow_and_the_server_sends_its_end_again() {
    let mut control = Control::established(ENDS[0]);
    control.client("PA", 1001, 5001, "", b"PASV\r\n");
    let mut said = b"227 (8,8,8,8,200,13)\r\n".to_vec();
    said.extend((0..1438).map(|n| b'a' + (n % 26_u32) as u8));
    let meant = [b"227 (10,91,0,7,200,13)\r\n", &said[22..]].concat();
    let mut stream = Stream::default();
    let seen = control.server("FPA", 5001, 1007, &said).expect("passes");
    assert_eq!(seen.data.len(), 1460, "as long as it was");
    stream.take(5001, &seen);
    let ack = 5001 + stream.bytes.len() as u32;
    let seen = control.client("A", 1007, ack, "", b"").expect("passes");
    assert_eq!(seen.ack, 5001 + 1458, "two bytes are still missing");
    stream.take(5001, &control.server("PA", 6459, 1007, &said[1458..]).expect("passes"));
    assert_eq!(stream.bytes, meant);
}

#[test]
fn selective_acknowledgements_and_options_that_lie_are_told_in_the_servers_numbers_or_left() {
    let mut control = Control::established(ENDS[0]);
    control.client("PA", 1001, 5001, "", b"PASV\r\n");
    control.server("PA", 5001, 1007, ANSWERS[0].as_bytes());
    for options in
        ["0101050a000017700000177a", "01010512", "05ff0000", "0500", "05", "fe00", "080a"]
    {
        let padded = format!("{options:0<24}");
        control.client("A", 1007, 5048, &format!("topts={padded}"), b"").expect("passes");
    }
    assert_eq!(control.world.account_is_wrong(), None);
}
