//! Ports: TAP and TUN devices taken into use, and put back as they were.
//!
//! A [`Queue`] is what a worker reads frames from and writes them to. It is shaped so that engines
//! which move many frames per system call fit behind it: `recv` and `send` may exchange the
//! packet's buffer for one of their own, and what `send` took need not leave before `flush`.
//! [`Offloaded`] moves one frame a call, super-frames among them; [`Plain`] is the portable engine for
//! devices without offload, opened through `tun-tap`.
//!
//! A [`Port`] is a queue with its device. Opening one creates the device or takes over a persistent
//! one, sets MTU, the kernel's end up, and joins the bridge. Dropping it undoes exactly that, also
//! when opening failed half-way: a device that we created is gone with its descriptor, one that was
//! there gets back its MTU, bridge and state, unless someone else has changed them meanwhile.
//!
//! Kept from the kernel: the kernel's own end of the wire keeps its MAC; ours is another one.
//! Left out on purpose: addresses and routes of the kernel's end, which are the operator's.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::fd::{AsRawFd, RawFd};
use std::path::Path;
use std::sync::Arc;

use log::{debug, info, warn};
use tun_tap::{Iface, Mode};

use super::macvtap;
use super::sys::{self, Control};
use super::uring::Uring;
use super::Fault;
use crate::config::{PortConfig, PortKind};
use crate::packet::{eth, vnet, LinkId, Mac, Packet};

/// Where frames come from and go to. Nothing here blocks.
pub trait Queue {
    /// Makes the next waiting frame the content of `packet`, as received on `link`; `false` if none
    /// waits. An engine may exchange the packet's buffer, provided it has as much room.
    ///
    /// # Errors
    /// The system's, about the device and not about a frame; `EBADFD` says that the device is gone.
    fn recv(&mut self, link: LinkId, packet: &mut Packet) -> io::Result<bool>;

    /// Takes the frame in `packet` to be sent, at once or by the next [`flush`](Self::flush). What
    /// is in `packet` afterwards is of no meaning.
    ///
    /// # Errors
    /// The frame was not taken; [`WouldBlock`](io::ErrorKind::WouldBlock) if there is no room.
    fn send(&mut self, packet: &mut Packet) -> io::Result<()>;

    /// Sends what was taken, and says how many frames taken earlier were not sent after all.
    fn flush(&mut self) -> u64 {
        0
    }

    /// Whether frames have come in meanwhile that no wake-up will tell of.
    fn is_waiting(&self) -> bool {
        false
    }
}

/// One frame a system call, each as it is on a wire.
#[derive(Debug)]
pub struct Plain {
    file: File,
    /// Bytes of the link header.
    link: usize,
    piece: Packet,
}

impl Plain {
    /// A queue on a descriptor that does not block and gives one frame a read. Frames have a link
    /// header of `link` bytes.
    pub fn new(file: File, link: usize) -> Self {
        Self { file, link, piece: Packet::with_capacity(0) }
    }
}

impl AsRawFd for Plain {
    fn as_raw_fd(&self) -> RawFd {
        self.file.as_raw_fd()
    }
}

impl Queue for Plain {
    fn recv(&mut self, link: LinkId, packet: &mut Packet) -> io::Result<bool> {
        let Some(len) = read_frame(&mut self.file, packet.room(0))? else { return Ok(false) };
        packet.received(link, len);
        Ok(true)
    }

    fn send(&mut self, packet: &mut Packet) -> io::Result<()> {
        if packet.offload.is_none() {
            return self.file.write(packet.bytes()).map(|_| ());
        }
        send_pieces(packet, self.link, &mut self.piece, |piece| {
            self.file.write(piece.bytes()).map(|_| ())
        })
    }
}

/// One frame a system call, with a virtio-net header: super-frames and half sums travel as they are.
#[derive(Debug)]
pub struct Offloaded {
    file: File,
    /// Bytes of the link header.
    link: usize,
    takes: vnet::Takes,
    piece: Packet,
}

impl Offloaded {
    /// A queue on a descriptor that does not block, whose device puts a virtio-net header in front
    /// of each frame and takes what `takes` says.
    pub fn new(file: File, link: usize, takes: vnet::Takes) -> Self {
        Self { file, link, takes, piece: Packet::with_capacity(0) }
    }

    fn write(file: &mut File, packet: &mut Packet) -> io::Result<()> {
        if !vnet::push_header(packet) {
            return Err(io::Error::from(io::ErrorKind::InvalidInput));
        }
        file.write(packet.bytes()).map(|_| ())
    }
}

impl Queue for Offloaded {
    fn recv(&mut self, link: LinkId, packet: &mut Packet) -> io::Result<bool> {
        let room = packet.room(vnet::HEADER);
        let Some(len) = read_frame(&mut self.file, room)? else { return Ok(false) };
        vnet::received(packet, link, len, self.link);
        Ok(true)
    }

    fn send(&mut self, packet: &mut Packet) -> io::Result<()> {
        if vnet::can_leave(packet, self.link, self.takes) {
            return Self::write(&mut self.file, packet);
        }
        let file = &mut self.file;
        send_pieces(packet, self.link, &mut self.piece, |piece| Self::write(file, piece))
    }
}

/// Sends what a super-frame stands for; the first error of a piece is the error of all.
pub(super) fn send_pieces(
    packet: &Packet,
    link: usize,
    room: &mut Packet,
    mut send: impl FnMut(&mut Packet) -> io::Result<()>,
) -> io::Result<()> {
    let mut outcome = Ok(());
    vnet::split(packet, link, room, |piece| {
        let sent = send(piece);
        if outcome.is_ok() {
            outcome = sent;
        }
    });
    outcome
}

/// Reads one frame; `None` if none waits.
fn read_frame(file: &mut File, room: &mut [u8]) -> io::Result<Option<usize>> {
    loop {
        match file.read(room) {
            Ok(0) => return Ok(None),
            Ok(len) => return Ok(Some(len)),
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Ok(None),
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
}

/// How frames are to be moved.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Wish {
    /// By io_uring where the kernel has it, else one frame a call.
    #[default]
    Best,
    /// One frame a call.
    Drain,
}

/// How frames are moved; chosen when the device is opened.
#[derive(Debug)]
enum Engine {
    Plain(Plain),
    Offloaded(Offloaded),
    Uring(Box<Uring>),
}

/// A device in use. Dropping it undoes what opening it changed.
#[derive(Debug)]
pub struct Port {
    name: String,
    engine: Engine,
    descriptor: RawFd,
    control: Arc<Control>,
    /// It was there before us, and stays when we go.
    existed: bool,
    undo: Vec<Undo>,
    /// The macvtap device that we made; it does not go with its descriptor.
    _made: Option<macvtap::Made>,
}

/// One thing to be put back.
#[derive(Debug)]
enum Undo {
    Mtu { was: i32, is: i32 },
    Mac { was: Mac, is: Mac },
    Down,
    Leave { bridge: String, index: i32 },
}

impl Port {
    /// Opens the device of `config` and applies its settings; see the head of this file.
    ///
    /// # Errors
    /// What could not be done; everything done before has been undone.
    pub fn open(control: &Arc<Control>, config: &PortConfig, wish: Wish) -> Result<Self, Fault> {
        let name = config.name.as_str();
        let existed = control.index(name).is_ok();
        let made = match &config.kind {
            PortKind::Macvtap { lower, mode } => macvtap::make(control, name, lower, *mode)?,
            PortKind::Tap | PortKind::Tun => None,
        };
        let engine = open_device(control, config, existed, wish)?;
        let descriptor = match &engine {
            Engine::Plain(queue) => queue.file.as_raw_fd(),
            Engine::Offloaded(queue) => queue.file.as_raw_fd(),
            Engine::Uring(queue) => queue.as_raw_fd(),
        };
        let mut port = Self {
            name: name.to_owned(),
            engine,
            descriptor,
            control: Arc::clone(control),
            existed,
            undo: Vec::new(),
            _made: made,
        };
        if let PortKind::Macvtap { .. } = config.kind {
            port.be_the_end(config.settings.mac)?;
        }
        if let Some(mtu) = config.settings.mtu {
            port.set_mtu(i32::from(mtu))?;
        }
        port.set_up()?;
        if let Some(bridge) = &config.settings.master {
            port.join(bridge)?;
        }
        info!("port {name}: {}", if existed { "taken over" } else { "created" });
        Ok(port)
    }

    /// Applies changed settings to a device in use. What is no longer said is put back.
    ///
    /// # Errors
    /// What could not be done; the device may have been changed in part.
    pub fn adjust(&mut self, config: &PortConfig) -> Result<(), Fault> {
        if let Some(mtu) = config.settings.mtu {
            self.set_mtu(i32::from(mtu))?;
        }
        let bridge = config.settings.master.as_deref();
        let joined = self.undo.iter().position(|undo| matches!(undo, Undo::Leave { .. }));
        let left = joined.filter(|_| bridge != master_of(&self.name).as_deref());
        if let Some(undo) = left.map(|at| self.undo.remove(at)) {
            let fault = |e| Fault::new(format!("taking {} out of its bridge", self.name), e);
            self.revert(&undo).map_err(fault)?;
        }
        bridge.map_or(Ok(()), |bridge| self.join(bridge))
    }

    /// The device's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether frames that we send now will pass: the device runs, and its bridge, if it is in
    /// one, forwards. A bridge that is down is not waited for.
    pub fn is_settled(&self) -> bool {
        /// `BR_STATE_FORWARDING`.
        const FORWARDING: &str = "3";
        if !self.control.is_running(&self.name).unwrap_or(true) {
            return false;
        }
        let Ok(state) = fs::read_to_string(sysfs(&self.name, "brport/state")) else { return true };
        state.trim() == FORWARDING
            || master_of(&self.name)
                .is_some_and(|bridge| self.control.is_up(&bridge).is_ok_and(|up| !up))
    }

    fn set_mtu(&mut self, mtu: i32) -> Result<(), Fault> {
        let name = &self.name;
        let fault = |e| Fault::new(format!("setting the MTU of {name} to {mtu}"), e);
        let was = self.control.mtu(name).map_err(fault)?;
        if was != mtu {
            self.control.set_mtu(name, mtu).map_err(fault)?;
            self.undo.push(Undo::Mtu { was, is: mtu });
        }
        Ok(())
    }

    /// A macvtap device is the only end there is, so its MAC is ours, and we hear all multicast.
    fn be_the_end(&mut self, mac: Option<Mac>) -> Result<(), Fault> {
        let name = &self.name;
        let was = macvtap::mac_of(name);
        if let (Some(was), Some(is)) = (was, mac.filter(|mac| was != Some(*mac))) {
            let fault = |e| Fault::new(format!("giving {name} the MAC {is}"), e);
            self.control.set_mac(name, is).map_err(fault)?;
            self.undo.push(Undo::Mac { was, is });
        }
        let fault = |e| Fault::new(format!("letting multicast through to {name}"), e);
        self.control.set_all_multicast(name, true).map_err(fault)
    }

    fn set_up(&mut self) -> Result<(), Fault> {
        let name = &self.name;
        let fault = |e| Fault::new(format!("setting {name} up"), e);
        if !self.control.is_up(name).map_err(fault)? {
            self.control.set_up(name, true).map_err(fault)?;
            self.undo.push(Undo::Down);
        }
        Ok(())
    }

    fn join(&mut self, bridge: &str) -> Result<(), Fault> {
        let present = master_of(&self.name);
        if present.as_deref() == Some(bridge) {
            return Ok(());
        }
        let name = &self.name;
        let fault = |e| {
            let cure = join_cure(&e, name, bridge, present.as_deref());
            Fault::new(format!("putting {name} into bridge {bridge}"), e).cure(cure)
        };
        let index = self.control.index(name).map_err(fault)?;
        self.control.join_bridge(bridge, index).map_err(fault)?;
        self.undo.push(Undo::Leave { bridge: bridge.to_owned(), index });
        if !self.control.is_up(bridge).map_err(fault)? {
            warn!("bridge {bridge} is down and carries nothing; `ip link set {bridge} up`");
        }
        Ok(())
    }

    fn revert(&self, undo: &Undo) -> io::Result<()> {
        let name = &self.name;
        match undo {
            Undo::Mtu { was, is } if self.control.mtu(name)? == *is => {
                self.control.set_mtu(name, *was)
            }
            Undo::Mac { was, is } if macvtap::mac_of(name) == Some(*is) => {
                self.control.set_mac(name, *was)
            }
            Undo::Mtu { .. } | Undo::Mac { .. } => Ok(()),
            Undo::Down => self.control.set_up(name, false),
            Undo::Leave { bridge, index } => self.control.leave_bridge(bridge, *index),
        }
    }
}

impl Drop for Port {
    fn drop(&mut self) {
        // One that we created goes with its descriptor, and its settings go with it.
        while let Some(undo) = self.undo.pop().filter(|_| self.existed) {
            if let Err(e) = self.revert(&undo) {
                debug!("port {}: {undo:?}: {e}", self.name);
            }
        }
    }
}

impl AsRawFd for Port {
    fn as_raw_fd(&self) -> RawFd {
        self.descriptor
    }
}

impl Queue for Port {
    fn recv(&mut self, link: LinkId, packet: &mut Packet) -> io::Result<bool> {
        match &mut self.engine {
            Engine::Plain(queue) => queue.recv(link, packet),
            Engine::Offloaded(queue) => queue.recv(link, packet),
            Engine::Uring(queue) => queue.recv(link, packet),
        }
    }

    fn send(&mut self, packet: &mut Packet) -> io::Result<()> {
        match &mut self.engine {
            Engine::Plain(queue) => queue.send(packet),
            Engine::Offloaded(queue) => queue.send(packet),
            Engine::Uring(queue) => queue.send(packet),
        }
    }

    fn flush(&mut self) -> u64 {
        match &mut self.engine {
            Engine::Plain(_) | Engine::Offloaded(_) => 0,
            Engine::Uring(queue) => queue.flush(),
        }
    }

    fn is_waiting(&self) -> bool {
        match &self.engine {
            Engine::Plain(_) | Engine::Offloaded(_) => false,
            Engine::Uring(queue) => queue.is_waiting(),
        }
    }
}

/// The bridge that a device is in.
pub fn master_of(name: &str) -> Option<String> {
    let link = fs::read_link(sysfs(name, "master")).ok()?;
    Some(link.file_name()?.to_str()?.to_owned())
}

pub(super) fn sysfs(name: &str, what: &str) -> std::path::PathBuf {
    Path::new("/sys/class/net").join(name).join(what)
}

/// Opens the descriptor: with offload where the kernel has it, else as a plain device. A device that
/// was made with many queues wants to be asked for one of them; everything else that it was made with
/// follows the opener.
fn open_device(
    control: &Control,
    config: &PortConfig,
    existed: bool,
    wish: Wish,
) -> Result<Engine, Fault> {
    let name = config.name.as_str();
    let (mode, kind, link) = match config.kind {
        PortKind::Tap => (Mode::Tap, libc::IFF_TAP, eth::HEADER),
        PortKind::Tun => (Mode::Tun, libc::IFF_TUN, 0),
        PortKind::Macvtap { .. } => {
            let (file, takes) = macvtap::open(control, name, libc::IFF_TAP)?;
            return Ok(moved_by(name, wish, file, eth::HEADER, takes));
        }
    };
    let queues = tun_flags(name).unwrap_or(0) & libc::IFF_MULTI_QUEUE;
    match sys::open_offloaded(name, kind | queues, vnet::HEADER) {
        Ok((file, takes)) => {
            let udp = if takes.udp { ", UDP" } else { "" };
            info!("port {name}: offload of checksums, TCP{udp} segments");
            return Ok(moved_by(name, wish, file, link, takes));
        }
        Err(e) if e.kind() == io::ErrorKind::Unsupported => {
            info!("port {name}: no offload here, frames travel as on a wire");
        }
        // The plain way fails as well, and says why.
        Err(e) => debug!("port {name}: opening with offload: {e}"),
    }
    let opened = if queues != 0 {
        sys::open_queue(name, kind)
    } else {
        Iface::without_packet_info(name, mode)
            .and_then(|iface| iface.set_non_blocking().map(|()| sys::own(iface)))
    };
    opened.map(|file| Engine::Plain(Plain::new(file, link))).map_err(|e| {
        let cure = open_cure(&e, &config.kind, existed, tun_flags(name));
        Fault::new(format!("opening {name}"), e).cure(cure)
    })
}

/// Chooses how frames of a device with offload are moved, and says which way and why.
fn moved_by(name: &str, wish: Wish, file: File, link: usize, takes: vnet::Takes) -> Engine {
    if wish == Wish::Drain {
        info!("port {name}: one frame a call, as asked for");
        return Engine::Offloaded(Offloaded::new(file, link, takes));
    }
    match Uring::new(file, link, takes) {
        Ok(queue) => {
            info!("port {name}: many frames a call by io_uring");
            Engine::Uring(Box::new(queue))
        }
        Err((file, e)) => {
            info!("port {name}: one frame a call, since io_uring cannot be had: {e}");
            Engine::Offloaded(Offloaded::new(file, link, takes))
        }
    }
}

/// The flags of a TUN or TAP device; `None` if it is another one or does not exist.
fn tun_flags(name: &str) -> Option<i32> {
    let text = fs::read_to_string(sysfs(name, "tun_flags")).ok()?;
    i32::from_str_radix(text.trim().trim_start_matches("0x"), 16).ok()
}

/// What helps when opening failed.
fn open_cure(
    error: &io::Error,
    kind: &PortKind,
    existed: bool,
    flags: Option<i32>,
) -> Option<&'static str> {
    match error.raw_os_error()? {
        libc::EPERM | libc::EACCES => Some("this needs root, or the capability CAP_NET_ADMIN"),
        libc::ENOENT | libc::ENXIO | libc::ENODEV => {
            Some("there is no /dev/net/tun; `modprobe tun` brings it where the kernel has it")
        }
        libc::EBUSY => Some("another process holds it"),
        libc::EINVAL if existed && flags.is_none() => {
            Some("there is an interface of that name which is neither TUN nor TAP")
        }
        libc::EINVAL if existed => Some(match kind {
            PortKind::Tap | PortKind::Macvtap { .. } => {
                "it exists, but not with mode tap; `ip tuntap` lists it"
            }
            PortKind::Tun => "it exists, but not with mode tun; `ip tuntap` lists it",
        }),
        _ => None,
    }
}

/// What helps when a bridge could not be joined.
fn join_cure(error: &io::Error, name: &str, bridge: &str, present: Option<&str>) -> Option<String> {
    match (error.raw_os_error()?, present) {
        (libc::ENODEV, _) => Some(format!("`ip link add {bridge} type bridge` makes it")),
        (libc::EOPNOTSUPP, _) => Some(format!("{bridge} is no bridge")),
        (libc::EBUSY, Some(other)) => {
            Some(format!("it is in {other}; `ip link set {name} nomaster` takes it out"))
        }
        (libc::EINVAL, _) => Some("only a TAP can be in a bridge".to_owned()),
        _ => None,
    }
}

#[cfg(test)]
pub(crate) mod memory {
    //! A queue without a device.

    use std::collections::VecDeque;

    use super::{io, LinkId, Packet, Queue};

    /// Frames that wait, and frames that were sent.
    #[derive(Debug, Default)]
    pub(crate) struct Memory {
        /// What `recv` will give.
        pub(crate) waiting: VecDeque<Result<Vec<u8>, i32>>,
        /// What `send` took.
        pub(crate) sent: Vec<Vec<u8>>,
    }

    impl Queue for Memory {
        fn recv(&mut self, link: LinkId, packet: &mut Packet) -> io::Result<bool> {
            let Some(next) = self.waiting.pop_front() else { return Ok(false) };
            let frame = next.map_err(io::Error::from_raw_os_error)?;
            packet.room(0)[..frame.len()].copy_from_slice(&frame);
            packet.received(link, frame.len());
            Ok(true)
        }

        fn send(&mut self, packet: &mut Packet) -> io::Result<()> {
            self.sent.push(packet.bytes().to_vec());
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(code: i32) -> io::Error {
        io::Error::from_raw_os_error(code)
    }

    #[test]
    fn each_common_failure_to_open_names_its_cure() {
        let cure = |code, existed, flags| {
            open_cure(&error(code), &PortKind::Tap, existed, flags).unwrap_or_default()
        };
        assert!(cure(libc::EPERM, false, None).contains("CAP_NET_ADMIN"));
        assert!(cure(libc::ENOENT, false, None).contains("modprobe tun"));
        assert!(cure(libc::EBUSY, true, Some(2)).contains("another process"));
        assert!(cure(libc::EINVAL, true, None).contains("neither TUN nor TAP"));
        assert!(cure(libc::EINVAL, true, Some(1)).contains("mode tap"));
        assert_eq!(cure(libc::EINVAL, false, None), "");
    }

    #[test]
    fn each_common_failure_to_join_a_bridge_names_its_cure() {
        let cure =
            |code, present| join_cure(&error(code), "tap0", "br0", present).unwrap_or_default();
        assert!(cure(libc::ENODEV, None).contains("ip link add br0 type bridge"));
        assert!(cure(libc::EOPNOTSUPP, None).contains("no bridge"));
        assert!(cure(libc::EBUSY, Some("br1")).contains("in br1"));
        assert!(cure(libc::EINVAL, None).contains("only a TAP"));
    }

    #[test]
    fn a_plain_queue_reads_frames_until_none_waits() {
        let (ours, theirs) = std::os::unix::net::UnixDatagram::pair().expect("a pair");
        ours.set_nonblocking(true).expect("possible");
        let mut queue = Plain::new(sys::own(ours), 14);
        let mut packet = Packet::with_capacity(64);
        assert!(!queue.recv(LinkId(3), &mut packet).expect("no error"));
        theirs.send(b"frame").expect("room");
        assert!(queue.recv(LinkId(3), &mut packet).expect("no error"));
        assert_eq!((packet.link, packet.bytes()), (LinkId(3), &b"frame"[..]));
        queue.send(&mut packet).expect("room");
        let mut back = [0; 64];
        assert_eq!(theirs.recv(&mut back).expect("it was sent"), 5);
    }
}
