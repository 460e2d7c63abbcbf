//! A director in memory, and frames for it: what every benchmark of the core begins with.
//!
//! Clients are numbers: each has an address and a port of its own, so that eight million of them are
//! eight million connections. Checksums of IP headers are right; that of UDP is after
//! [`readdress`] that of another client, since the director mends it and believes nobody.

#![allow(dead_code, reason = "each benchmark uses its part of it")]

use std::fmt::Write;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use tapvs::config::rules;
use tapvs::engine::Engine;
use tapvs::packet::ip::Fresh;
use tapvs::packet::{checksum, proto, Family, LinkId, Packet};
use tapvs::world::Instant;

/// Bytes of a link header.
pub(crate) const LINK: usize = 14;
const DIRECTOR_WAN: [u8; 6] = [2, 0, 0, 0, 1, 1];
const DIRECTOR_LAN: [u8; 6] = [2, 0, 0, 0, 2, 1];

/// How the director forwards.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Method {
    /// Addresses are translated.
    Nat,
    /// The link address is changed.
    Dr,
    /// IP in IP.
    Tunnel,
}

impl Method {
    pub(crate) const ALL: [Self; 3] = [Self::Nat, Self::Dr, Self::Tunnel];

    /// The name on the command line and in tables.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Nat => "nat",
            Self::Dr => "dr",
            Self::Tunnel => "ipip",
        }
    }

    const fn option(self) -> &'static str {
        match self {
            Self::Nat => "-m",
            Self::Dr => "-g",
            Self::Tunnel => "-i",
        }
    }
}

/// What a director is to be like.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Shape {
    pub(crate) method: Method,
    pub(crate) family: Family,
    /// UDP and TCP services, one pair for each number.
    pub(crate) services: u32,
    /// Real servers of the first service; the others have one.
    pub(crate) servers: u32,
    pub(crate) scheduler: &'static str,
}

impl Shape {
    /// One service with two servers.
    pub(crate) const fn plain(method: Method, family: Family) -> Self {
        Self { method, family, services: 1, servers: 2, scheduler: "rr" }
    }

    /// The director.
    ///
    /// # Panics
    /// If the rules are refused: they are ours.
    pub(crate) fn engine(&self) -> Engine {
        let config = rules::load("rules", &self.rules()).expect("the rules are right");
        Engine::new(&config, 1).expect("they can be carried out")
    }

    fn rules(&self) -> String {
        let (prefix, ours_wan, ours_lan) = match self.family {
            Family::V4 => (16, "10.77.255.1", "10.78.255.1"),
            Family::V6 => (64, "fd77::ff01", "fd78::ff01"),
        };
        let mut text = format!(
            "ip tuntap add dev wan mode tap\nip link set dev wan address 02:00:00:00:01:01\n\
             ip addr add {ours_wan}/{prefix} dev wan\n\
             ip tuntap add dev lan mode tap\nip link set dev lan address 02:00:00:00:02:01\n\
             ip addr add {ours_lan}/{prefix} dev lan\nipvsadm --set 0 0 100000\n"
        );
        let gateway = address(self.family, 77, 2);
        let _ = writeln!(text, "ip route add default via {gateway}");
        let _ = writeln!(text, "ip neigh add {gateway} lladdr 02:00:00:00:01:02 dev wan");
        for n in 0..self.servers {
            let (server, [_, _, a, b]) = (self.server(n), n.to_be_bytes());
            let _ =
                writeln!(text, "ip neigh add {server} lladdr 02:00:00:01:{a:02x}:{b:02x} dev lan");
        }
        for n in 0..self.services {
            let (virt, port) = self.virt(n);
            for kind in ["-u", "-t"] {
                let _ = writeln!(text, "-A {kind} {}:{port} -s {}", bare(virt), self.scheduler);
                for m in 0..if n == 0 { self.servers } else { 1 } {
                    let (server, method) = (bare(self.server(m)), self.method.option());
                    let _ = writeln!(
                        text,
                        "-a {kind} {}:{port} -r {server}:{port} {method}",
                        bare(virt)
                    );
                }
            }
        }
        text
    }

    /// The address of a real server.
    pub(crate) fn server(&self, n: u32) -> IpAddr {
        address(self.family, 78, 0x100 + n)
    }

    /// The address and port of a virtual service: 250 ports on each address.
    pub(crate) fn virt(&self, n: u32) -> (IpAddr, u16) {
        let port = u16::try_from(8000 + n % 250).expect("below 8250");
        (address(self.family, 79, 0x100 + n / 250), port)
    }

    /// A UDP datagram with `size` bytes of data from a client to a service, as it comes in.
    pub(crate) fn datagram(&self, client: u32, service: u32, size: usize) -> Vec<u8> {
        datagram(DIRECTOR_WAN, client_of(self.family, client), self.virt(service), size)
    }

    /// A server's answer to [`datagram`](Self::datagram), through NAT.
    pub(crate) fn answer(&self, client: u32, server: IpAddr, size: usize) -> Vec<u8> {
        let (_, port) = self.virt(0);
        datagram(DIRECTOR_LAN, (server, port), client_of(self.family, client), size)
    }

    /// A TCP segment with these flags and `size` bytes of data.
    pub(crate) fn segment(&self, client: u32, service: u32, flags: u8, size: usize) -> Vec<u8> {
        let (virt, to) = self.virt(service);
        let (addr, from) = client_of(self.family, client);
        let mut segment = vec![0; 20 + size];
        segment[..2].copy_from_slice(&from.to_be_bytes());
        segment[2..4].copy_from_slice(&to.to_be_bytes());
        segment[12..14].copy_from_slice(&[0x50, flags]);
        let sum = checksum::transport(addr, virt, proto::TCP, &segment);
        segment[16..18].copy_from_slice(&sum.to_be_bytes());
        frame(DIRECTOR_WAN, addr, virt, proto::TCP, &segment)
    }
}

/// Makes an IPv4 or IPv6 frame from [`Shape::datagram`] that of another client, in place.
pub(crate) fn readdress(frame: &mut [u8], client: u32) {
    let six = frame[LINK] >> 4 == 6;
    let (addr, port) = client_of(if six { Family::V6 } else { Family::V4 }, client);
    let ports = match addr {
        IpAddr::V4(addr) => {
            frame[LINK + 12..LINK + 16].copy_from_slice(&addr.octets());
            frame[LINK + 10..LINK + 12].fill(0);
            let sum = checksum::of(&frame[LINK..LINK + 20]);
            frame[LINK + 10..LINK + 12].copy_from_slice(&sum.to_be_bytes());
            LINK + 20
        }
        IpAddr::V6(addr) => {
            frame[LINK + 8..LINK + 24].copy_from_slice(&addr.octets());
            LINK + 40
        }
    };
    frame[ports..ports + 2].copy_from_slice(&port.to_be_bytes());
}

/// Gives a frame to the director as if a port had received it; whether something is to be sent.
pub(crate) fn give(engine: &mut Engine, now: Instant, packet: &mut Packet, frame: &[u8]) -> bool {
    packet.room(0)[..frame.len()].copy_from_slice(frame);
    packet.received(LinkId(u16::from(frame[4] == DIRECTOR_LAN[4])), frame.len());
    engine.handle(now, packet).is_some()
}

/// The address and port of a client. Neighbouring numbers are far apart, as clients are.
pub(crate) fn client_of(family: Family, number: u32) -> (IpAddr, u16) {
    // An odd factor permutes the 24 bits that numbers have.
    let mixed = number.wrapping_mul(0x9e_3779) & 0xff_ffff;
    let port = u16::try_from(1024 + (mixed & 0xfff)).expect("below 5120");
    (address(family, 100, mixed >> 12), port)
}

fn address(family: Family, net: u8, host: u32) -> IpAddr {
    let [_, a, b, c] = host.to_be_bytes();
    match family {
        Family::V4 => IpAddr::V4(Ipv4Addr::new(10, net + a, b, c)),
        Family::V6 => {
            let net =
                u16::from_be_bytes([0xfd, u8::from_str_radix(&net.to_string(), 16).unwrap_or(0)]);
            let low = u16::from_be_bytes([b, c]);
            IpAddr::V6(Ipv6Addr::new(net, 0, 0, 0, 0, 0, a.into(), low))
        }
    }
}

/// An address as it stands before a port.
fn bare(addr: IpAddr) -> String {
    match addr {
        IpAddr::V4(addr) => addr.to_string(),
        IpAddr::V6(addr) => format!("[{addr}]"),
    }
}

fn datagram(mac: [u8; 6], from: (IpAddr, u16), to: (IpAddr, u16), size: usize) -> Vec<u8> {
    let len = u16::try_from(8 + size).expect("a small datagram");
    let mut segment = vec![0; 8 + size];
    segment[..2].copy_from_slice(&from.1.to_be_bytes());
    segment[2..4].copy_from_slice(&to.1.to_be_bytes());
    segment[4..6].copy_from_slice(&len.to_be_bytes());
    let sum = checksum::transport(from.0, to.0, proto::UDP, &segment);
    segment[6..8].copy_from_slice(&sum.to_be_bytes());
    frame(mac, from.0, to.0, proto::UDP, &segment)
}

fn frame(to: [u8; 6], src: IpAddr, dst: IpAddr, proto: u8, segment: &[u8]) -> Vec<u8> {
    let mut packet = Packet::copy_of(LinkId(0), segment);
    let ip = Fresh { src, dst, proto, ttl: 64, tos: 0, dont_fragment: true, id: 7 };
    ip.push(&mut packet).expect("there is room");
    let kind: u16 = if src.is_ipv4() { 0x0800 } else { 0x86dd };
    let link = packet.push(LINK).expect("there is room");
    link[..6].copy_from_slice(&to);
    link[6..12].copy_from_slice(&[2, 0, 0, 0, 9, 9]);
    link[12..].copy_from_slice(&kind.to_be_bytes());
    packet.bytes().to_vec()
}
