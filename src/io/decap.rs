//! The real server's end of a tunnel, for machines whose kernel has none: takes outer headers off.
//!
//! Raw sockets receive what this host is sent as IP in IP (RFC 2003, RFC 4213, RFC 2473) and GRE (RFC 2784):
//! protocols 4, 41 and 47, over IPv4 and IPv6. A UDP socket receives GUE. The packets inside are checked and
//! written to a TUN device, from which the kernel takes them as received. Answers leave by the kernel's routes,
//! not by us.
//!
//! Kept from the kernel: its reassembly of outer fragments; that a socket which takes a packet keeps
//! it from answering "protocol unreachable"; what a stack merged on the way in (GRO) with its
//! checksum half done is finished here. For IPv4 the reverse path filter of the TUN, and that of all
//! devices, is switched off as long as we run, since clients are not reached through the TUN.
//!
//! Left out on purpose: congestion marks of outer headers are not carried over (RFC 6040), since
//! IPv6 sockets do not show them; GUE's options. As with the kernel's own `tunl0`, whoever reaches
//! this host may send into the tunnel: a firewall says who.

use std::fs;
use std::io;
use std::os::fd::AsRawFd;
use std::path::PathBuf;
use std::sync::Arc;

use log::{debug, info, warn};

use super::queue::{Driven, Plain, Queue};
use super::reactor::say_ready;
use super::sys::{self, Control};
use super::tap::Port;
use super::watch::{poller, Watch};
use super::worker::BUDGET;
use super::{Fault, PATIENCE};
use crate::config::{LinkSettings, PortConfig, PortKind};
use crate::packet::{
    checksum, proto, tunnel, Family, Fragment, Headers, LinkId, Packet, FRAME_MAX,
};

/// Takes tunnels off until a signal ends it: raw sockets and, for GUE, the UDP port `gue_port` in, TUN
/// device `tun` out. Whatever the outcome, everything is undone.
///
/// # Errors
/// The device or the sockets could not be opened.
pub fn run(tun: &str, gue_port: Option<u16>) -> Result<(), Fault> {
    let mut watch = Watch::new(poller()?, None).with_signals()?;
    let control = Control::open().map_err(|e| Fault::new("opening a control socket", e))?;
    let (port, handles) = Port::open(&Arc::new(control), &tun_port(tun), 1, PATIENCE)?;
    let mut sockets = open_sockets()?;
    if let Some(port) = gue_port {
        sockets.push(open_gue(port)?);
    }
    let _filters = open_filters(tun);
    for (index, socket) in sockets.iter().enumerate() {
        watch.add(index, "a socket", socket.queue.as_raw_fd())?;
    }
    let handle = handles.into_iter().next().expect("there is one for each worker");
    let (out, _) = handle.drive(None);
    let mut decap = Decap { port, out, sockets, counters: Counters::default() };
    say_ready();
    let outcome = decap.serve(&mut watch);
    info!("{}", decap.counters);
    outcome
}

fn tun_port(name: &str) -> PortConfig {
    PortConfig {
        name: name.to_owned(),
        kind: PortKind::Tun,
        settings: LinkSettings::default(),
        addresses: Vec::new(),
    }
}

/// One socket for each outer family and inner protocol. A kernel without IPv6 gives half of them.
fn open_sockets() -> Result<Vec<Socket>, Fault> {
    let mut sockets = Vec::new();
    for (outer, protocol) in [
        (Family::V4, proto::IPIP),
        (Family::V4, proto::IPV6),
        (Family::V4, proto::GRE),
        (Family::V6, proto::IPIP),
        (Family::V6, proto::IPV6),
        (Family::V6, proto::GRE),
    ] {
        match sys::raw_socket(outer, protocol) {
            Ok(file) => sockets.push(Socket {
                queue: Plain::new(file, 0),
                shape: Shape::Raw { outer, protocol },
                ready: true,
            }),
            Err(e) if e.raw_os_error() == Some(libc::EAFNOSUPPORT) => {
                info!("no sockets of family {outer:?} in this kernel: tunnels over it stay closed");
            }
            Err(e) => {
                let cure = (e.kind() == io::ErrorKind::PermissionDenied)
                    .then_some("this needs root, or the capability CAP_NET_RAW");
                let what = format!("opening a raw socket for protocol {protocol}");
                return Err(Fault::new(what, e).cure(cure));
            }
        }
    }
    Ok(sockets)
}

/// One socket for GUE over both families.
fn open_gue(port: u16) -> Result<Socket, Fault> {
    let file = sys::udp_socket(port).map_err(|e| {
        let cure = (e.kind() == io::ErrorKind::AddrInUse)
            .then_some("something else listens there; the kernel's own tunnel end, perhaps");
        Fault::new(format!("opening UDP port {port}"), e).cure(cure)
    })?;
    Ok(Socket { queue: Plain::new(file, 0), shape: Shape::Gue, ready: true })
}

/// Switches the reverse path filter off; the larger of "all" and the device's own counts.
fn open_filters(tun: &str) -> Vec<Filter> {
    [tun, "all"].into_iter().filter_map(Filter::open).collect()
}

/// A reverse path filter that was on, and is put back when dropped.
#[derive(Debug)]
struct Filter {
    path: PathBuf,
    was: String,
}

impl Filter {
    fn open(of: &str) -> Option<Self> {
        let path = PathBuf::from(format!("/proc/sys/net/ipv4/conf/{of}/rp_filter"));
        let was = fs::read_to_string(&path).ok()?.trim().to_owned();
        if was == "0" {
            return None;
        }
        match fs::write(&path, "0") {
            Ok(()) => {
                info!("net.ipv4.conf.{of}.rp_filter is 0 as long as this runs (it was {was})");
                Some(Self { path, was })
            }
            Err(e) => {
                warn!("setting net.ipv4.conf.{of}.rp_filter to 0: {e}; IPv4 may not come through");
                None
            }
        }
    }
}

impl Drop for Filter {
    fn drop(&mut self) {
        // That of the TUN is gone by now if the device was ours, and then there is nothing to mend.
        if fs::write(&self.path, &self.was).is_err() && self.path.exists() {
            warn!("{} could not be set back to {}", self.path.display(), self.was);
        }
    }
}

#[derive(Debug)]
struct Socket {
    queue: Plain,
    shape: Shape,
    ready: bool,
}

/// What a socket gives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Shape {
    /// A packet of that protocol: with its IPv4 header, or without its IPv6 headers.
    Raw {
        /// The family of the tunnel's outer header.
        outer: Family,
        /// What follows the outer header.
        protocol: u8,
    },
    /// The data of a datagram.
    Gue,
}

#[derive(Debug)]
struct Decap {
    port: Port,
    out: Driven,
    sockets: Vec<Socket>,
    counters: Counters,
}

/// Packets since the start.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
struct Counters {
    received: u64,
    passed: u64,
    malformed: u64,
    refused: u64,
}

impl std::fmt::Display for Counters {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { received, passed, malformed, refused } = self;
        write!(
            f,
            "tunnel: {received} received = {passed} passed on + {malformed} malformed + {refused} \
             refused by the device"
        )
    }
}

impl Decap {
    fn serve(&mut self, watch: &mut Watch) -> Result<(), Fault> {
        let mut packet = Packet::with_capacity(FRAME_MAX);
        loop {
            let busy = self.sockets.iter().any(|socket| socket.ready);
            let timeout = busy.then_some(std::time::Duration::ZERO);
            let sockets = &mut self.sockets;
            let wish = watch.wait(timeout, |index| {
                if let Some(socket) = sockets.get_mut(index) {
                    socket.ready = true;
                }
            })?;
            for index in 0..self.sockets.len() {
                self.batch(index, &mut packet)?;
            }
            if wish.listing {
                info!("{}", self.counters);
            }
            if wish.end {
                return Ok(());
            }
        }
    }

    /// Passes on what one socket has, a budget's worth at most.
    fn batch(&mut self, index: usize, packet: &mut Packet) -> Result<(), Fault> {
        let socket = &mut self.sockets[index];
        for _ in 0..BUDGET {
            match socket.queue.recv(LinkId(0), packet) {
                Ok(true) => {}
                Ok(false) => {
                    socket.ready = false;
                    return Ok(());
                }
                Err(e) => {
                    // The next packet wakes us again; trying at once might never end.
                    socket.ready = false;
                    debug!("reading a socket: {e}");
                    return Ok(());
                }
            }
            self.counters.received += 1;
            if uncover(packet, socket.shape).is_none() {
                self.counters.malformed += 1;
                continue;
            }
            match self.out.send(packet) {
                Ok(()) => self.counters.passed += 1,
                Err(e) if e.raw_os_error() == Some(libc::EBADFD) => {
                    return Err(Fault::new(format!("writing to {}", self.port.name()), e)
                        .cure(Some("the device is gone")));
                }
                Err(_) => self.counters.refused += 1,
            }
        }
        Ok(())
    }
}

/// Leaves of a packet what was in the tunnel; `None` if that is not a whole IP packet.
fn uncover(packet: &mut Packet, shape: Shape) -> Option<()> {
    if matches!(shape, Shape::Raw { outer: Family::V4, .. }) {
        let headers = Headers::parse(packet).ok()?;
        packet.pull(usize::from(headers.transport));
    }
    let at = match shape {
        Shape::Raw { protocol: proto::GRE, .. } => tunnel::in_gre(packet.bytes(), true)?,
        Shape::Raw { .. } => 0,
        Shape::Gue => tunnel::in_gue(packet.bytes())?,
    };
    packet.pull(at);
    let inner = Headers::parse(packet).ok()?;
    finish_checksum(packet, &inner);
    Some(())
}

/// Finishes a transport checksum that a stack on the way left to a device: the field then holds the
/// sum of the pseudo-header and nothing else. Every other field is left as it is, right or wrong.
fn finish_checksum(packet: &mut Packet, headers: &Headers) {
    let at = match headers.proto {
        proto::TCP => 16,
        proto::UDP => 6,
        _ => return,
    };
    if headers.fragment != Fragment::Whole {
        return;
    }
    let transport = usize::from(headers.transport);
    let Some(segment) = packet.bytes_mut().get_mut(transport..) else { return };
    let Some(&[a, b]) = segment.get(at..at + 2) else { return };
    let found = u16::from_be_bytes([a, b]);
    segment[at..at + 2].fill(0);
    let right = checksum::transport(headers.src, headers.dst, headers.proto, segment);
    // The whole sum less that of the segment, in ones' complement, is that of the pseudo-header.
    let pseudo = u32::from(!right) + u32::from(checksum::of(segment));
    let is_partial = found != 0 && (pseudo % 0xffff) == u32::from(found) % 0xffff;
    let value = match (is_partial, headers.proto, right) {
        (false, ..) => found,
        (true, proto::UDP, 0) => 0xffff,
        (true, ..) => right,
    };
    segment[at..at + 2].copy_from_slice(&value.to_be_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::packet::ip::Fresh;
    use crate::packet::tunnel::{Kind, Outer};
    use std::net::IpAddr;

    const CLIENT: [&str; 2] = ["10.80.0.100", "fd80::100"];
    const VIRT: [&str; 2] = ["10.80.0.10", "fd80::10"];
    const DIRECTOR: [&str; 2] = ["10.81.0.1", "fd81::1"];
    const SERVER: [&str; 2] = ["10.81.0.11", "fd81::11"];

    fn addr(of: [&str; 2], family: Family) -> IpAddr {
        of[usize::from(family == Family::V6)].parse().expect("an address")
    }

    fn push(packet: &mut Packet, src: IpAddr, dst: IpAddr, proto: u8) {
        let fresh = Fresh { src, dst, proto, ttl: 64, tos: 0, dont_fragment: true, id: 7 };
        fresh.push(packet).expect("it fits");
    }

    const fn ipip(outer: Family) -> Shape {
        Shape::Raw { outer, protocol: proto::IPIP }
    }

    /// A UDP datagram of the client with the checksum field as `field` makes it of the right one.
    fn datagram(family: Family, field: impl Fn(u16) -> u16) -> Packet {
        let (src, dst) = (addr(CLIENT, family), addr(VIRT, family));
        let mut segment = vec![0x0f, 0xa0, 0, 53, 0, 13, 0, 0];
        segment.extend(b"query");
        let right = checksum::transport(src, dst, proto::UDP, &segment);
        segment[6..8].copy_from_slice(&field(right).to_be_bytes());
        let mut packet = Packet::copy_of(LinkId(0), &segment);
        push(&mut packet, src, dst, proto::UDP);
        packet
    }

    /// What a raw socket gives for `inner` in a tunnel over `outer`.
    fn tunnelled(inner: &Packet, inner_family: Family, outer: Family) -> Packet {
        let mut packet = inner.clone();
        let proto = match inner_family {
            Family::V4 => proto::IPIP,
            Family::V6 => proto::IPV6,
        };
        if outer == Family::V4 {
            push(&mut packet, addr(DIRECTOR, outer), addr(SERVER, outer), proto);
        }
        packet
    }

    #[test]
    fn all_four_tunnels_give_back_what_was_put_in() {
        for inner in [Family::V4, Family::V6] {
            for outer in [Family::V4, Family::V6] {
                let sent = datagram(inner, |right| right);
                let mut packet = tunnelled(&sent, inner, outer);
                assert!(uncover(&mut packet, ipip(outer)).is_some(), "{inner:?} in {outer:?}");
                assert_eq!(packet.bytes(), sent.bytes(), "{inner:?} in {outer:?}");
            }
        }
    }

    #[test]
    fn gre_and_gue_are_taken_off_with_and_without_their_checksums() {
        for checksum in [false, true] {
            for inner in [Family::V4, Family::V6] {
                for outer in [Family::V4, Family::V6] {
                    for kind in [Kind::Gre { checksum }, Kind::Gue { port: 6080, checksum }] {
                        let sent = datagram(inner, |right| right);
                        let mut packet = sent.clone();
                        let headers = Headers::of(packet.bytes()).expect("it is whole");
                        let (src, dst) = (addr(DIRECTOR, outer), addr(SERVER, outer));
                        let (id, flow_hash) = (0, 0);
                        let head = Outer {
                            src,
                            dst,
                            kind,
                            copy_dont_fragment: true,
                            id,
                            flow_hash,
                            will_be_cut: false,
                        };
                        tunnel::encapsulate(&mut packet, &headers, &head).expect("it fits");
                        let outside = Headers::of(packet.bytes()).expect("it is whole");
                        // A socket takes the outer headers off that it does not show.
                        let (skip, shape) = match (kind, outer) {
                            (Kind::Gue { .. }, _) => (outside.transport + 8, Shape::Gue),
                            (_, Family::V4) => (0, Shape::Raw { outer, protocol: proto::GRE }),
                            (_, Family::V6) => {
                                (outside.transport, Shape::Raw { outer, protocol: proto::GRE })
                            }
                        };
                        packet.pull(usize::from(skip));
                        assert!(uncover(&mut packet, shape).is_some(), "{kind:?}");
                        assert_eq!(packet.bytes(), sent.bytes(), "{kind:?} over {outer:?}");
                    }
                }
            }
        }
    }

    #[test]
    fn a_packet_that_is_cut_short_anywhere_does_not_pass() {
        for outer in [Family::V4, Family::V6] {
            let whole = tunnelled(&datagram(Family::V4, |right| right), Family::V4, outer);
            for len in 0..whole.len() {
                let mut packet = Packet::copy_of(LinkId(0), &whole.bytes()[..len]);
                assert!(uncover(&mut packet, ipip(outer)).is_none(), "{len} bytes over {outer:?}");
            }
        }
    }

    #[test]
    fn what_a_tunnel_holds_behind_the_inner_packet_is_cut_off() {
        let sent = datagram(Family::V4, |right| right);
        let mut bytes = sent.bytes().to_vec();
        bytes.extend([0; 9]);
        let mut packet = Packet::copy_of(LinkId(0), &bytes);
        assert!(uncover(&mut packet, ipip(Family::V6)).is_some());
        assert_eq!(packet.bytes(), sent.bytes());
    }

    #[test]
    fn a_checksum_left_to_a_device_is_finished_and_any_other_is_kept() {
        for family in [Family::V4, Family::V6] {
            let right = datagram(family, |right| right);
            let pseudo = |_| {
                let (src, dst) = (addr(CLIENT, family), addr(VIRT, family));
                // The pseudo-header counts 13 bytes of zeroes as it counts the datagram.
                !checksum::transport(src, dst, proto::UDP, &[0; 13])
            };
            let mut packet = datagram(family, pseudo);
            assert!(uncover(&mut packet, ipip(Family::V6)).is_some());
            assert_eq!(packet.bytes(), right.bytes(), "{family:?}");

            let wrong = datagram(family, |right| right ^ 0x0101);
            let mut packet = wrong.clone();
            assert!(uncover(&mut packet, ipip(Family::V6)).is_some());
            assert_eq!(packet.bytes(), wrong.bytes(), "{family:?}");
        }
    }

    #[test]
    fn the_account_of_packets_is_one_line() {
        let counters = Counters { received: 9, passed: 6, malformed: 2, refused: 1 };
        assert_eq!(
            counters.to_string(),
            "tunnel: 9 received = 6 passed on + 2 malformed + 1 refused by the device"
        );
    }
}
