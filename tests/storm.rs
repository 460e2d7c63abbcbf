//! Everything at once: handshakes, FTP and SIP, tunnels, fragments, quotes of what was sent, super-frames
//! that lie, bitten frames, and between them commands, reloads and leaps of time. Nothing panics, what is
//! sent is sound, the account of frames adds up, and in the end no server has a connection left.
//!
//! `STORM=n cargo test --release --test storm` blows n times as long, from other seeds.
#![allow(clippy::cast_possible_truncation, reason = "bytes are drawn from wider numbers")]

mod scenario;

use std::net::IpAddr;

use scenario::packet::checksum_at;
use scenario::{ethertype_of, Station, World, TOPOLOGY};
use tapvs::config::rules;
use tapvs::packet::ip::Fresh;
use tapvs::packet::{checksum, proto, vnet, Headers, LinkId, Packet};
use tapvs::slow::fragment::{self, Came};
use tapvs::world::{Instant, Rng};

/// Rounds of one storm.
const ROUNDS: u32 = 6000;

/// Services of every kind; the first of each pair of lines may be edited, the second removed.
const SERVICES: &[(&str, &[&str])] = &[
    (
        "-t 10.80.0.10:80 -s rr",
        &["-r 10.81.0.11:8080 -m", "-r 10.81.0.12:80 -g", "-r 10.81.0.1:80 -m"],
    ),
    ("-t 10.80.0.10:21 -s wrr", &["-r 10.81.0.11:21 -m", "-r 10.81.0.12:21 -m"]),
    ("-t 10.80.0.10:0 -s sh -p 60", &["-r 10.81.0.12:0 -i", "-r 10.81.0.13:0 -g"]),
    (
        "-u 10.80.0.10:5060 -s wlc -p 90 --pe sip",
        &["-r 10.81.0.11:5060 -m", "-r 10.81.0.12:5060 -m"],
    ),
    ("-u 10.80.0.11:53 -s lc -o", &["-r 10.81.0.11:5353 -m", "-r 10.81.0.13:53 -m"]),
    (
        "-u 10.80.0.11:54 -s mh",
        &[
            "-r 10.81.0.13:54 -i --tun-type gue --tun-port 6080 --tun-csum",
            "-r 10.81.0.12:54 -i --tun-type gre --tun-csum",
            "-r fd81::12 -i",
        ],
    ),
    (
        "--sctp-service 10.80.0.11:36412 -s nq",
        &["-r 10.81.0.11:36412 -m -x 3 -y 1", "-r 10.81.0.12:36412 -m"],
    ),
    ("-f 7 -s lblcr", &["-r 10.81.0.11 -m", "-r 10.81.0.12 -g"]),
    ("-t [fd80::10]:80 -s sed", &["-r [fd81::11]:8080 -m", "-r [fd81::12]:80 -g"]),
    ("-t [fd80::10]:21 -s dh", &["-r [fd81::11]:21 -m"]),
    ("-t [fd80::10]:82 -s fo", &["-r 10.81.0.13:82 -i", "-r [fd81::13]:82 -i"]),
    (
        "-u [fd80::10]:5060 -s ovf -p 90 --pe sip",
        &["-r [fd81::11]:5060 -m", "-r [fd81::12]:5060 -m"],
    ),
    ("--sctp-service [fd80::10]:36412 -s twos", &["-r [fd81::11]:36412 -m", "-r [fd81::12]:9 -m"]),
];

/// What a reload may bring beside the topology and the services.
const WIRINGS: &[&str] = &[
    "",
    "modprobe ip_vs_ftp ports=21,80\niptables -t mangle -A PREROUTING -p udp -d 10.91.0.0/24 -j MARK --set-mark 7\n",
    "ip tuntap add dev third mode tun\nip addr add 10.82.0.1/24 dev third\nip route add 10.90.0.4/30 dev third\n",
    "ip link set dev server mtu 1280\nip link set dev client mtu 9000\nmodprobe ip_vs_ftp\n",
    "ip rule add fwmark 7 table 100\nip route add local 0.0.0.0/0 dev lo table 100\n\
     iptables -t mangle -A PREROUTING -p tcp --dport 81 -j MARK --set-mark 7\n",
];

const KNOBS: &[&str] = &[
    "expire_nodest_conn",
    "conn_reuse_mode",
    "sloppy_tcp",
    "sloppy_sctp",
    "schedule_icmp",
    "secure_tcp",
    "drop_entry",
    "drop_packet",
    "nat_icmp_send",
    "cache_bypass",
    "expire_quiescent_template",
    "pmtu_disc",
];

const TEXTS: &[&str] = &[
    "PASV\r\n",
    "EPSV\r\n",
    "EPSV 1\r\n",
    "PORT 10,80,0,100,40,1\r\n",
    "PORT 255,255,255,255,0,0\r\n",
    "EPRT |2|fd80::100|10301|\r\n",
    "EPRT |1|10.80.0.100|10301|\r\n",
    "227 Entering Passive Mode (10,81,0,11,200,13).\r\n",
    "227 0,0,0,0,0,0\r\n",
    "229 Entering Extended Passive Mode (|||51213|)\r\n",
    "INVITE sip:a@b SIP/2.0\r\nVia: x\r\nCall-ID: one@a\r\n\r\n",
    "SIP/2.0 200 OK\r\ni: two\r\n\r\n",
    "BYE sip:a@b SIP/2.0\r\nCall-ID:                               \r\n\r\n",
    "",
];

const CLIENTS: &[&str] =
    &["10.80.0.100", "10.90.0.1", "10.90.0.5", "10.80.0.7", "fd80::100", "fd90::1"];
const VIRTS: &[&str] =
    &["10.80.0.10", "10.80.0.11", "10.91.0.7", "10.81.0.12", "fd80::10", "fd81::12"];
const SERVERS: &[&str] = &["10.81.0.11", "10.81.0.12", "10.81.0.13", "fd81::11", "fd81::12"];
const PORTS: &[u16] =
    &[80, 21, 20, 53, 54, 82, 81, 5060, 36412, 8080, 5353, 6080, 51213, 10301, 0, 9];
const PROTOS: &[u8] = &[6, 6, 6, 17, 17, 132, 50, 51, 4, 41, 47, 253];

struct Storm {
    world: World,
    rng: Rng,
    /// Packets that were sent lately, without their link headers.
    sent: Vec<Vec<u8>>,
    seen: u64,
}

impl Storm {
    fn new(seed: u64) -> Self {
        let world = World::new("", &services(0)).expect("the rules are right");
        Self { world, rng: Rng::new(seed), sent: Vec::new(), seen: 0 }
    }

    /// A number below `limit`.
    fn draw(&mut self, limit: usize) -> usize {
        self.rng.next_u32() as usize % limit
    }

    fn one_of<T: Copy>(&mut self, all: &[T]) -> T {
        all[self.draw(all.len())]
    }

    /// A port does not take one of the frames that were sent.
    fn refuse(&mut self) {
        let (own, frames) = (self.draw(2) == 0, self.world.engine.frames());
        let none = if own { "own account 0" } else { "forwarded 0 " };
        if !frames.contains(none) {
            self.world.engine.refused(own);
        }
    }

    /// One of the addresses that are of the family of `like`.
    fn addr(&mut self, all: &[&str], v6: bool) -> IpAddr {
        loop {
            let addr: IpAddr = self.one_of(all).parse().expect("an address");
            if addr.is_ipv6() == v6 {
                return addr;
            }
        }
    }

    /// A packet from somebody to somebody, or about one that was sent.
    fn packet(&mut self) -> Vec<u8> {
        let v6 = self.draw(3) == 0;
        match self.draw(8) {
            0..=3 => {
                let (src, dst) = (self.addr(CLIENTS, v6), self.addr(VIRTS, v6));
                let ports = [1024 + self.draw(6) as u16, self.one_of(PORTS)];
                self.fresh(src, dst, ports)
            }
            4 => {
                let (src, dst) = (self.addr(SERVERS, v6), self.addr(CLIENTS, v6));
                let ports = [self.one_of(PORTS), 1024 + self.draw(6) as u16];
                self.fresh(src, dst, ports)
            }
            5 | 6 => self.answer().unwrap_or_default(),
            _ => self.quote().unwrap_or_default(),
        }
    }

    fn fresh(&mut self, src: IpAddr, dst: IpAddr, ports: [u16; 2]) -> Vec<u8> {
        let proto = self.one_of(PROTOS);
        let segment = self.segment(proto, ports);
        self.wrap(src, dst, proto, segment)
    }

    /// Ports, what the protocol wants behind them, and some text.
    fn segment(&mut self, proto: u8, ports: [u16; 2]) -> Vec<u8> {
        let mut segment: Vec<u8> = ports.iter().flat_map(|port| port.to_be_bytes()).collect();
        match proto {
            proto::TCP => {
                let seq = [0, 1000, 1001, 1007, u32::MAX][self.draw(5)];
                segment.extend(seq.to_be_bytes());
                segment.extend(5000_u32.wrapping_add(self.draw(60) as u32).to_be_bytes());
                let flags = [2, 18, 16, 24, 17, 4, 20, 1, 0, 255];
                segment.extend([0x50, self.one_of(&flags), 0xff, 0xff, 0, 0, 0, 0]);
            }
            proto::UDP => segment.extend([0; 4]),
            proto::SCTP => {
                segment.extend([0; 8]);
                for _ in 0..=self.draw(3) {
                    let len = [0, 3, 4, 16, 255][self.draw(5)];
                    segment.extend([self.draw(16) as u8, 0, 0, len]);
                    segment.resize(segment.len() + 12, 0);
                }
            }
            _ => segment.extend([0; 12]),
        }
        segment.extend(self.one_of(TEXTS).as_bytes());
        let more = [0, 0, 0, 40, 1400, 3000, 60_000][self.draw(7)];
        segment.resize(segment.len() + more, 0x5a);
        if proto == proto::UDP {
            let len = segment.len() as u16;
            segment[4..6].copy_from_slice(&len.to_be_bytes());
        }
        segment
    }

    /// An IP packet of this payload whose sums are right.
    fn wrap(&mut self, src: IpAddr, dst: IpAddr, proto: u8, mut payload: Vec<u8>) -> Vec<u8> {
        if let Some(at) = checksum_at(proto).filter(|at| at + 2 <= payload.len()) {
            payload[at..at + 2].fill(0);
            let sum = match proto {
                proto::ICMP => checksum::of(&payload),
                proto => checksum::transport(src, dst, proto, &payload),
            };
            payload[at..at + 2].copy_from_slice(&sum.to_be_bytes());
        }
        let ttl = [64, 64, 64, 2, 1, 255][self.draw(6)];
        let (dont_fragment, id) = (self.draw(2) == 0, self.draw(4) as u16);
        let mut packet = Packet::copy_of(LinkId(0), &payload);
        let tos = self.draw(256) as u8;
        let header = Fresh { src, dst, proto, ttl, tos, dont_fragment, id };
        header.push(&mut packet).expect("it is short enough");
        packet.bytes().to_vec()
    }

    /// What the receiver of a packet that was sent says to it.
    fn answer(&mut self) -> Option<Vec<u8>> {
        let (bytes, headers) = self.recent()?;
        let &[a, b, c, d, ..] = headers.payload(&bytes) else { return None };
        let ports = [u16::from_be_bytes([c, d]), u16::from_be_bytes([a, b])];
        let segment = self.segment(headers.proto, ports);
        Some(self.wrap(headers.dst, headers.src, headers.proto, segment))
    }

    /// A packet that was sent, with its headers.
    fn recent(&mut self) -> Option<(Vec<u8>, Headers)> {
        if self.sent.is_empty() {
            return None;
        }
        let which = self.draw(self.sent.len());
        let bytes = self.sent[which].clone();
        let headers = Headers::of(&bytes).ok()?;
        Some((bytes, headers))
    }

    /// An error about a packet that was sent, by its receiver or by a router, cut anywhere.
    fn quote(&mut self) -> Option<Vec<u8>> {
        let (bytes, about) = self.recent()?;
        let v6 = about.src.is_ipv6();
        let kind = if v6 {
            self.one_of(&[1, 2, 3, 4, 137])
        } else {
            self.one_of(&[3, 3, 3, 4, 5, 11, 12])
        };
        let mtu = [0, 68, 576, 1280, 1400, 65_535][self.draw(6)];
        let mut message = vec![kind, self.draw(6) as u8, 0, 0, 0, 0];
        message.extend(u16::to_be_bytes(mtu));
        let len = [28, 48, 68, 548, 1200][self.draw(5)].min(bytes.len());
        message.extend(&bytes[..len]);
        let (client, server) = (self.addr(CLIENTS, v6), self.addr(SERVERS, v6));
        let from = self.one_of(&[about.dst, client, server]);
        let proto = if v6 { proto::ICMPV6 } else { proto::ICMP };
        Some(self.wrap(from, about.src, proto, message))
    }

    /// Gives the director a packet: whole, in pieces, bitten, or as part of what a kernel left undone.
    fn blow(&mut self) {
        let bytes = self.packet();
        if bytes.is_empty() {
            return;
        }
        let sender = ["client", "rs1"][self.draw(2)];
        match self.draw(6) {
            0 => {
                let whole = Packet::copy_of(LinkId(0), &bytes);
                let mtu = [68, 576, 1280, 1400][self.draw(4)];
                let id = self.draw(3) as u32;
                let Ok(mut pieces) = fragment::split(&whole, mtu, id, &Came::default()) else {
                    return;
                };
                while !pieces.is_empty() && self.draw(20) > 0 {
                    let piece = pieces.swap_remove(self.draw(pieces.len().min(3)));
                    self.give(sender, piece.bytes(), false);
                }
            }
            1 => self.give(sender, &bytes, true),
            _ => self.give(sender, &bytes, false),
        }
    }

    fn give(&mut self, sender: &str, bytes: &[u8], undone: bool) {
        let station = Station::named(sender).expect("a station");
        let mut frame = station.frame(ethertype_of(bytes), bytes);
        if self.draw(3) == 0 {
            let reach = frame.len().min(90);
            for _ in 0..=self.draw(2) {
                frame[12 + self.rng.next_u32() as usize % (reach - 12)] = self.rng.next_u32() as u8;
            }
        }
        let mut packet = Packet::copy_of(station.link, &frame);
        if undone {
            packet.leave_undone(self.offload(bytes), 14);
            packet.sums_wait = true;
        }
        if let Some(link) = self.world.engine.handle(self.world.now, &mut packet) {
            self.take(link, &packet);
        }
        self.take_own();
    }

    /// What a kernel says that it left undone: the truth, or nearly.
    fn offload(&mut self, bytes: &[u8]) -> vnet::Offload {
        let at = if bytes[0] >> 4 == 6 { 40 } else { 20 };
        let udp = bytes.get(if at == 40 { 6 } else { 9 }) == Some(&17);
        let kind = if udp { vnet::Kind::Udp } else { vnet::Kind::Tcp { ecn: self.draw(2) == 0 } };
        let mut offload = vnet::Offload {
            partial: self.draw(8) > 0,
            kind: self.one_of(&[kind, kind, kind, vnet::Kind::Whole]),
            size: [1, 500, 1400, 65_535][self.draw(4)],
            transport: at,
            checksum: if udp { 6 } else { 16 },
        };
        match self.draw(8) {
            0 => offload.transport = self.rng.next_u16() % 100,
            1 => offload.checksum = self.rng.next_u16(),
            2 => offload.kind = vnet::Kind::Udp,
            _ => {}
        }
        offload
    }

    fn take_own(&mut self) {
        while let Some(packet) = self.world.engine.take() {
            self.take(packet.link, &packet);
        }
    }

    /// Looks at what is sent as a port without offload would send it, and at the header for one with.
    fn take(&mut self, link: LinkId, packet: &Packet) {
        let front = if link.0 < 2 { 14 } else { 0 };
        let mut whole = packet.kept();
        assert!(vnet::push_header(&mut whole), "there is always room for the header");
        let (sent, seen) = (&mut self.sent, &mut self.seen);
        vnet::split(packet, front, &mut Packet::with_capacity(0), |piece| {
            *seen += 1;
            let frame = piece.bytes();
            if front > 0 && frame[12..14] == [8, 6] {
                return;
            }
            let ip = &frame[front..];
            let headers = Headers::of(ip).unwrap_or_else(|why| panic!("{why:?}: {frame:02x?}"));
            assert_eq!(usize::from(headers.len), ip.len(), "{frame:02x?}");
            if sent.len() < 64 {
                sent.push(ip.to_vec());
            } else {
                sent[*seen as usize % 64] = ip.to_vec();
            }
        });
    }

    /// Says something to the director; it may be refused.
    fn command(&mut self) {
        let (service, servers) = self.one_of(SERVICES);
        let key: String = service.split(" -s").next().expect("a key").to_owned();
        let server = self.one_of(servers);
        let at: String = server.split_whitespace().take(2).collect::<Vec<_>>().join(" ");
        let weight = [0, 1, 1, 3, 65_535][self.draw(5)];
        let scheduler =
            tapvs::sched::Scheduler::ALL[self.draw(tapvs::sched::Scheduler::ALL.len())].name();
        let line = match self.draw(13) {
            12 => {
                let pages = [0, 1000, u64::MAX][self.draw(3)];
                self.world.engine.set_memory(pages);
                let _ = self.world.engine.zero(None);
                return;
            }
            0 => format!("-E {key} -s {scheduler}"),
            1 => format!("-E {service}"),
            2 => format!("-D {key}"),
            3..=4 => format!("-A {service}"),
            5..=6 => format!("-a {key} {server} -w {weight}"),
            7 => format!("-e {key} {server} -w {weight}"),
            8 => format!("-d {key} {at}"),
            9 | 10 => {
                let knob = self.one_of(KNOBS);
                format!("sysctl -w net.ipv4.vs.{knob}={}", self.draw(3))
            }
            _ if self.draw(20) == 0 => "-C".to_owned(),
            _ => return,
        };
        let _ = self.world.command(&line);
    }

    fn reload(&mut self) {
        let text = format!("{TOPOLOGY}{}", services(self.draw(WIRINGS.len())));
        let config = rules::load("storm", &text).expect("good rules");
        self.world.engine.reload(self.world.now, config).expect("possible rules");
        self.take_own();
    }

    fn later(&mut self) {
        let ms = [0, 1, 100, 2000, 61_000, 1_000_000][self.draw(6)];
        let to = Instant::from_millis(self.world.now.millis() + ms);
        if self.draw(4) == 0 {
            // As after a sleep of the whole machine: nothing was done when it was due.
            self.world.now = to;
            self.world.engine.poll(to);
        } else {
            self.world.advance(to);
        }
        self.take_own();
        while let Some((link, frame)) = self.world.sent.pop_front() {
            self.take(link, &Packet::copy_of(link, &frame));
        }
    }

    /// Lets everything end.
    fn calm(&mut self) {
        self.reload();
        for _ in 0..4 {
            self.world.advance(Instant::from_millis(self.world.now.millis() + 3_000_000));
        }
        assert_eq!(self.world.account_is_wrong(), None);
        let listing = self.world.engine.listing();
        assert!(self.world.engine.director().table().is_empty(), "every connection ends");
        for line in listing.lines().filter(|line| line.starts_with("  -> ")).skip(1) {
            let counts: Vec<_> = line.split_whitespace().rev().take(2).collect();
            assert_eq!(counts, ["0", "0"], "{line}");
        }
    }
}

/// The services with one of the wirings.
fn services(wiring: usize) -> String {
    let mut text = WIRINGS[wiring].to_owned();
    for (service, servers) in SERVICES {
        let key = service.split(" -s").next().expect("a key");
        text += &format!("-A {service}\n");
        servers.iter().for_each(|server| text += &format!("-a {key} {server}\n"));
    }
    text
}

#[test]
fn whatever_comes_is_accounted_for_and_nothing_is_left_behind() {
    let times = std::env::var("STORM").ok().and_then(|n| n.parse::<u64>().ok());
    for seed in 0..2 * times.unwrap_or(1) {
        let mut storm = Storm::new(seed + times.unwrap_or(0));
        for round in 0..ROUNDS {
            match storm.draw(201) {
                200 => storm.refuse(),
                0 => storm.reload(),
                1..=4 => storm.command(),
                5..=9 => storm.later(),
                _ => storm.blow(),
            }
            if round % 100 == 0 {
                assert_eq!(storm.world.account_is_wrong(), None, "seed {seed}, round {round}");
                let table = storm.world.engine.director().table();
                assert_eq!(table.len(), table.iter().count(), "seed {seed}, round {round}");
            }
        }
        assert!(storm.seen > u64::from(ROUNDS) / 10, "it was a storm: {}", storm.seen);
        storm.calm();
        if times.is_some() && seed < 3 {
            eprintln!("seed {seed}: {}", storm.world.engine.frames());
        }
    }
}
