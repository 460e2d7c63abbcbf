//! The ceiling: what a TAP carries when a program does nothing but what it must.
//!
//!     ceiling ENGINE METHOD WORKERS WAN LAN VIRTUAL SERVER OUTER CLIENT_MAC SERVER_MAC
//!
//! ENGINE is `uring` (reads that go on, batched writes) or `drain` (one frame a call); METHOD is `nat`,
//! `dr` or `ipip`; WAN and LAN are TAPs that exist, or the device nodes of macvtaps; OUTER is the source
//! of tunnels. One client, one server, one address, known from the command line: no table is looked at,
//! no neighbour is asked for (the hosts must know ours), no time is taken, nothing is counted. Headers
//! are parsed and edited by tapvs's own `packet`, super-frames are cut by it where a tunnel must.
//!
//! `make bench` holds tapvs against this: whatever is lost in between is the director's own.

#![expect(unsafe_code, reason = "devices and rings are the system's")]
#![expect(clippy::print_stdout, reason = "it says when it is ready")]

mod drain;
mod uring;

use std::fs::{File, OpenOptions};
use std::io;
use std::net::IpAddr;
use std::os::fd::AsRawFd;
use std::os::unix::fs::OpenOptionsExt;

use tapvs::packet::checksum::Delta;
use tapvs::packet::tunnel::{self, Kind, Outer};
use tapvs::packet::{ip, l4, vnet, Family, Headers, LinkId, Packet};

/// Bytes of a link header.
const LINK: usize = 14;
const WAN_MAC: [u8; 6] = [2, 0, 0, 0, 1, 1];
const LAN_MAC: [u8; 6] = [2, 0, 0, 0, 2, 1];

/// What the devices are given as it is.
const TAKES: vnet::Takes = vnet::Takes { tcp: true, udp: true };

type Outcome = Result<(), Box<dyn std::error::Error + Send + Sync>>;

/// How requests travel.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Method {
    Nat,
    Dr,
    Tunnel,
}

/// The one mapping.
#[derive(Clone, Copy)]
struct Mapping {
    method: Method,
    virt: IpAddr,
    server: IpAddr,
    outer: IpAddr,
    client_mac: [u8; 6],
    server_mac: [u8; 6],
}

fn main() -> Outcome {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let [engine, method, workers, wan, lan, virt, server, outer, client_mac, server_mac] = args[..]
    else {
        return Err("the head of main.rs says what is asked for".into());
    };
    let method = match method {
        "nat" => Method::Nat,
        "dr" => Method::Dr,
        "ipip" => Method::Tunnel,
        _ => return Err("no such method".into()),
    };
    let mapping = Mapping {
        method,
        virt: virt.parse()?,
        server: server.parse()?,
        outer: outer.parse()?,
        client_mac: mac(client_mac)?,
        server_mac: mac(server_mac)?,
    };
    let run = match engine {
        "uring" => uring::run,
        "drain" => drain::run,
        _ => return Err("no such engine".into()),
    };
    let workers: usize = workers.parse()?;
    let open = |_| Ok([open(wan, workers > 1)?, open(lan, workers > 1)?]);
    let devices: Vec<[File; 2]> = (0..workers).map(open).collect::<io::Result<_>>()?;
    println!("ready");
    std::thread::scope(|scope| {
        let started: Vec<_> =
            devices.into_iter().map(|pair| scope.spawn(move || run(pair, mapping))).collect();
        started.into_iter().try_for_each(|worker| worker.join().expect("no worker panics"))
    })
}

fn mac(text: &str) -> Result<[u8; 6], Box<dyn std::error::Error + Send + Sync>> {
    let bytes: Result<Vec<u8>, _> = text.split(':').map(|b| u8::from_str_radix(b, 16)).collect();
    bytes?.try_into().map_err(|_| "six bytes are a link address".into())
}

/// Opens a queue of a TAP, or a macvtap's node, with all the offload it has.
fn open(name: &str, many: bool) -> io::Result<File> {
    let is_node = name.starts_with('/');
    let path = if is_node { name } else { "/dev/net/tun" };
    let device = OpenOptions::new()
        .read(true)
        .write(true)
        .custom_flags(libc::O_NONBLOCK | libc::O_CLOEXEC)
        .open(path)?;
    // SAFETY: zeros are a request with an empty name.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    if !is_node {
        for (to, &from) in request.ifr_name.iter_mut().zip(name.as_bytes()).take(15) {
            *to = libc::c_char::try_from(from).unwrap_or(0);
        }
    }
    let queues = if many { libc::IFF_MULTI_QUEUE } else { 0 };
    let flags = libc::IFF_TAP | libc::IFF_NO_PI | libc::IFF_VNET_HDR | queues;
    #[expect(clippy::cast_possible_truncation, reason = "the kernel has a short there")]
    let flags = flags as libc::c_short;
    request.ifr_ifru.ifru_flags = flags;
    let fd = device.as_raw_fd();
    // SAFETY: the request is whole and lives longer than the call.
    check(unsafe { libc::ioctl(fd, libc::TUNSETIFF, &raw mut request) })?;
    let header: libc::c_int = 10;
    // SAFETY: points to an int, as the call wants.
    check(unsafe { libc::ioctl(fd, libc::TUNSETVNETHDRSZ, &raw const header) })?;
    // Checksums, TCP over both families with ECN; and UDP where the kernel has it.
    const TCP: libc::c_ulong = 0x0f;
    const UDP: libc::c_ulong = 0x60;
    // SAFETY: takes a number.
    let all = check(unsafe { libc::ioctl(fd, libc::TUNSETOFFLOAD, TCP | UDP) });
    // SAFETY: takes a number.
    all.or_else(|_| check(unsafe { libc::ioctl(fd, libc::TUNSETOFFLOAD, TCP) }))?;
    Ok(device)
}

fn check(result: libc::c_int) -> io::Result<()> {
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

impl Mapping {
    /// Makes a frame that came in by device 0 (WAN) or 1 (LAN), `len` bytes with its virtio-net header,
    /// what is to leave, and says by which device; `None` if it is nothing to us.
    fn forward(&self, packet: &mut Packet, from: usize, len: usize) -> Option<usize> {
        vnet::received(packet, LinkId(0), len, LINK);
        packet.pull(LINK);
        let headers = Headers::parse(packet).ok()?;
        match (self.method, from) {
            (_, 0) if headers.dst != self.virt => None,
            (Method::Nat, 0) => {
                self.translate(packet, &headers, ip::Which::Destination)?;
                frame(packet, self.server_mac, LAN_MAC, headers.family)?;
                Some(1)
            }
            (Method::Nat, _) if headers.src == self.server => {
                self.translate(packet, &headers, ip::Which::Source)?;
                frame(packet, self.client_mac, WAN_MAC, headers.family)?;
                Some(0)
            }
            (Method::Dr, 0) => {
                ip::decrement_ttl(packet.bytes_mut(), headers.family);
                frame(packet, self.server_mac, WAN_MAC, headers.family)?;
                Some(0)
            }
            (Method::Tunnel, 0) => {
                ip::decrement_ttl(packet.bytes_mut(), headers.family);
                let (src, dst, kind) = (self.outer, self.server, Kind::Ipip);
                let outer = Outer {
                    src,
                    dst,
                    kind,
                    copy_dont_fragment: true,
                    id: 0,
                    flow_hash: 0,
                    will_be_cut: false,
                };
                tunnel::encapsulate(packet, &headers, &outer).ok()?;
                frame(packet, self.server_mac, LAN_MAC, Family::of(dst))?;
                Some(1)
            }
            _ => None,
        }
    }

    fn translate(&self, packet: &mut Packet, headers: &Headers, which: ip::Which) -> Option<()> {
        ip::decrement_ttl(packet.bytes_mut(), headers.family);
        let flow = headers.flow(packet.bytes())?;
        let (old, new, at, port) = match which {
            ip::Which::Destination => (headers.dst, self.server, 2, flow.dst.port),
            ip::Which::Source => (headers.src, self.virt, 0, flow.src.port),
        };
        let after = match which {
            ip::Which::Destination => Headers { dst: new, ..*headers },
            ip::Which::Source => Headers { src: new, ..*headers },
        };
        let delta = Delta::default().address(old, new);
        let partial = packet.offload.partial;
        l4::translate(packet.bytes_mut(), &after, at, port, delta, partial).ok()?;
        ip::set_address(packet.bytes_mut(), which, new);
        Some(())
    }
}

fn frame(packet: &mut Packet, to: [u8; 6], from: [u8; 6], family: Family) -> Option<()> {
    let kind = match family {
        Family::V4 => [0x08, 0x00],
        Family::V6 => [0x86, 0xdd],
    };
    let link = packet.push(LINK)?;
    link[..6].copy_from_slice(&to);
    link[6..12].copy_from_slice(&from);
    link[12..].copy_from_slice(&kind);
    Some(())
}

/// Gives what is to leave to `send`, ready to be written: the packet, or what it must be cut into.
fn finish(packet: &mut Packet, piece: &mut Packet, mut send: impl FnMut(&mut Packet)) {
    if vnet::can_leave(packet, LINK, TAKES) {
        if vnet::push_header(packet) {
            send(packet);
        }
        return;
    }
    vnet::split(packet, LINK, piece, |piece| {
        if vnet::push_header(piece) {
            send(piece);
        }
    });
}
