//! Ports: TAP and TUN devices taken into use, and put back as they were.
//!
//! Opening a [`Port`] creates the device or takes over a persistent one, sets MTU, the kernel's end up,
//! and joins the bridge; it gives a [`Handle`] for each worker: a queue of its own where the device has
//! that many, else the right to write to the first worker's. Dropping the port undoes exactly that, also
//! when opening failed half-way: a device that we created is gone with its last descriptor, one that was
//! there gets back its MTU, bridge and state, unless someone else has changed them meanwhile.
//!
//! A port is one tapvs's alone: two would share a device of many queues, frame by frame, and neither
//! would notice. Each claims its ports by a socket whose name lives in the network namespace and goes
//! with the process, however that ends.
//!
//! Kept from the kernel: the kernel's own end of the wire keeps its MAC; ours is another one; which
//! frames a queue gets (those of a flow whose answers were last written to it).
//! Left out on purpose: addresses and routes of the kernel's end, which are the operator's.

use std::fs;
use std::fs::File;
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use log::{debug, info, warn};
use tun_tap::{Iface, Mode};

use super::macvtap;
use super::queue::Handle;
use super::steer;
use super::sys::{self, Control};
use super::uring::Ring;
use super::{patiently, Fault};
use crate::config::{PortConfig, PortKind};
use crate::control::status::Trouble;
use crate::packet::{eth, vnet, Mac};

/// How frames are to be moved.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Wish {
    /// By io_uring where the kernel has it, else one frame a call.
    #[default]
    Best,
    /// One frame a call.
    Drain,
}

impl Wish {
    /// The ring for this thread to drive its queues by, if one is wished for and can be had; says why not.
    pub fn ring(self) -> Option<Ring> {
        if self == Self::Drain {
            info!("one frame a call, as asked for");
            return None;
        }
        Ring::new()
            .inspect_err(|e| info!("one frame a call, since io_uring cannot be had: {e}"))
            .ok()
    }
}

/// A device in use. Dropping it undoes what opening it changed.
#[derive(Debug)]
pub struct Port {
    name: String,
    control: Arc<Control>,
    /// It was there before us, and stays when we go.
    existed: bool,
    undo: Vec<Undo>,
    /// A queue's second descriptor, which tells whether the device is still there.
    queue: File,
    /// The macvtap device that we made; it does not go with its descriptor.
    _made: Option<macvtap::Made>,
    /// Goes last, when the device is as it was.
    _claim: UnixDatagram,
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
    /// Opens the device of `config` for `workers` workers and applies its settings; see the head of
    /// this file. The handles are in the order of the workers. For a device that is held by somebody,
    /// who may be just ending, it waits as long as `patience` says.
    ///
    /// # Errors
    /// What could not be done; everything done before has been undone.
    pub fn open(
        control: &Arc<Control>,
        config: &PortConfig,
        workers: usize,
        patience: Duration,
    ) -> Result<(Self, Vec<Handle>), Fault> {
        let name = config.name.as_str();
        let claim = claim(name, patience)?;
        let made = match &config.kind {
            PortKind::Macvtap { lower, mode } => macvtap::make(control, name, lower, *mode)?,
            PortKind::Tap | PortKind::Tun => None,
        };
        let is_held = |fault: &Fault| fault.error().raw_os_error() == Some(libc::EBUSY);
        // One that was killed gives its queues back a moment after its claim.
        let (existed, handles) = patiently(name, patience, is_held, || {
            let existed = made.is_none() && control.index(name).is_ok();
            Ok((existed, open_queues(control, config, existed, workers)?))
        })?;
        let queue = handles[0].file.try_clone();
        let mut port = Self {
            name: name.to_owned(),
            control: Arc::clone(control),
            existed,
            undo: Vec::new(),
            queue: queue.map_err(|e| Fault::new(format!("sharing {name}"), e))?,
            _made: made,
            _claim: claim,
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
        let how = if existed { "taken over" } else { "created" };
        let bridge = config.settings.master.clone().or_else(|| master_of(name));
        info!("port {name}: {how}{}", whereabouts(&config.kind, bridge));
        Ok((port, handles))
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
            let is_in = |was: &String| master_of(&self.name).as_ref() == Some(was);
            // Somebody else may have taken it out already.
            if matches!(&undo, Undo::Leave { bridge, .. } if is_in(bridge)) {
                self.revert(&undo).map_err(fault)?;
            }
        }
        bridge.map_or(Ok(()), |bridge| self.join(bridge))
    }

    /// In which ways somebody has made the device other than `config` says; a sentence each.
    pub fn astray(&self, config: &PortConfig) -> Vec<String> {
        let name = &self.name;
        let Ok(index) = self.control.index(name) else {
            let why = "its device has another name now, or is in another network namespace";
            return vec![format!("{why}; frames pass as before")];
        };
        let mut all = Vec::new();
        if self.control.is_up(name).is_ok_and(|up| !up) {
            let cure = format!("`ip link set {name} up`, or a reload");
            all.push(format!("its device is down, and nothing passes; {cure}, brings it up"));
        }
        let mtu = self.control.mtu(name).ok().zip(config.settings.mtu.map(i32::from));
        if let Some((is, wanted)) = mtu.filter(|(is, wanted)| is != wanted) {
            all.push(format!(
                "its device's MTU is {is} and not {wanted}; a reload tells which holds"
            ));
        }
        // What is mounted at /sys may tell of another network namespace.
        let told = fs::read_to_string(sysfs(name, "ifindex"));
        let is_told = told.is_ok_and(|told| told.trim() == index.to_string());
        if let Some(bridge) = config.settings.master.as_ref().filter(|_| is_told) {
            if master_of(name).as_ref() != Some(bridge) {
                let why = format!("its device is not in bridge {bridge} any more");
                all.push(format!("{why}; a reload puts it back"));
            }
        }
        all
    }

    /// That the bridge which the device is in carries nothing; it is the operator's.
    pub fn stuck(&self) -> Option<String> {
        let bridge = master_of(&self.name)?;
        let down = self.control.is_up(&bridge).is_ok_and(|up| !up);
        let cure = format!("`ip link set {bridge} up`");
        down.then(|| format!("its bridge {bridge} is down and carries nothing; {cure}"))
    }

    /// Makes the device again what `config` says.
    ///
    /// # Errors
    /// What could not be done; the device may have been changed in part.
    pub fn put_right(&mut self, config: &PortConfig) -> Result<(), Fault> {
        self.set_up()?;
        self.adjust(config)
    }

    /// Whether the device can be changed under its name.
    pub fn is_here(&self) -> bool {
        self.control.index(&self.name).is_ok()
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

    /// What is wrong with the device now, if something is, of what `config` wants of it.
    pub fn trouble(&self, config: &PortConfig) -> Option<Trouble> {
        let name = &self.name;
        let told = |code, text| Some(Trouble { port: name.clone(), code, text });
        if self.is_lost() {
            return told(
                "gone",
                format!("port {name} has lost its device; `tapvs reload` opens it again"),
            );
        }
        match self.control.is_up(name) {
            Ok(true) => {}
            Ok(false) => {
                return told("down", format!("port {name} is down; `ip link set {name} up`"))
            }
            Err(_) => {
                return told("renamed", format!("port {name}: its device has another name now"))
            }
        }
        let bridge = config.settings.master.as_deref()?;
        let index = fs::read_to_string(sysfs(name, "ifindex")).ok()?.trim().parse().ok();
        if index != self.control.index(name).ok() {
            // What is mounted at /sys tells of another network namespace.
            return None;
        }
        let cure = "so nothing comes by it";
        if master_of(name).as_deref() != Some(bridge) {
            let text = format!(
                "port {name} is not in bridge {bridge}, {cure}; `ip link set {name} master {bridge}`"
            );
            return told("not-in-bridge", text);
        }
        if !self.control.is_up(bridge).unwrap_or(true) {
            let text = format!("bridge {bridge} is down, {cure}; `ip link set {bridge} up`");
            return told("bridge-down", text);
        }
        None
    }

    /// Whether the device is gone for good.
    pub fn is_lost(&self) -> bool {
        !sys::is_attached(&self.queue)
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
        // One that we created goes with its descriptor, and its settings go with it. Where ours is gone,
        // one of its name is another one.
        let stays = self.existed && !self.is_lost();
        if stays {
            steer::release(&self.queue);
        }
        while let Some(undo) = self.undo.pop().filter(|_| stays) {
            if let Err(e) = self.revert(&undo) {
                debug!("port {}: {undo:?}: {e}", self.name);
            }
        }
    }
}

/// Claims the port `name` for this process, as long as the socket lives.
fn claim(name: &str, patience: Duration) -> Result<UnixDatagram, Fault> {
    let bind = || {
        let address = SocketAddr::from_abstract_name(format!("tapvs-port-{name}"))?;
        UnixDatagram::bind_addr(&address)
    };
    let is_held = |e: &io::Error| e.kind() == io::ErrorKind::AddrInUse;
    patiently(name, patience, is_held, bind).map_err(|e| {
        let what = format!("opening {name}");
        if is_held(&e) {
            return Fault::new(what, io::Error::from_raw_os_error(libc::EBUSY))
                .cure(Some("another tapvs holds it"));
        }
        Fault::new(what, e).cure(Some("the socket that claims the port"))
    })
}

/// The bridge that a device is in.
pub fn master_of(name: &str) -> Option<String> {
    let link = fs::read_link(sysfs(name, "master")).ok()?;
    Some(link.file_name()?.to_str()?.to_owned())
}

pub(super) fn sysfs(name: &str, what: &str) -> std::path::PathBuf {
    Path::new("/sys/class/net").join(name).join(what)
}

/// A handle for each of `workers` workers: as many queues as the device has, and for the others the
/// right to write to the first. A device that is there has as many queues as it was made with.
fn open_queues(
    control: &Control,
    config: &PortConfig,
    existed: bool,
    workers: usize,
) -> Result<Vec<Handle>, Fault> {
    let name = config.name.as_str();
    let made_with = tun_flags(name).filter(|_| existed);
    let mut many = match made_with {
        Some(flags) => flags & libc::IFF_MULTI_QUEUE != 0,
        None => workers > 1,
    };
    let mut first = open_queue(control, config, existed, many);
    if first.is_err() && existed && made_with.is_none() {
        // What is mounted at /sys may tell of another network namespace: then only trying tells.
        many = !many;
        first = open_queue(control, config, existed, many).or(first);
    }
    let mut handles = vec![first?];
    match handles[0].takes {
        Some(takes) => {
            let udp = if takes.udp { ", UDP" } else { "" };
            info!("port {name}: offload of checksums, TCP{udp} segments");
        }
        None => info!("port {name}: no offload here, frames travel as on a wire"),
    }
    while many && handles.len() < workers {
        match open_queue(control, config, true, many) {
            Ok(handle) => handles.push(handle),
            Err(fault) => {
                warn!("port {name}: no further queue: {fault}");
                break;
            }
        }
    }
    match handles.len() {
        1 if workers > 1 => info!("port {name}: one queue, which one worker reads"),
        1 => {}
        queues => {
            info!("port {name}: {queues} queues");
            if !matches!(config.kind, PortKind::Macvtap { .. }) {
                let link = if config.kind.has_ethernet() { eth::HEADER } else { 0 };
                steer::steer(&handles[0].file, name, link);
            }
        }
    }
    while handles.len() < workers {
        let writer = handles[0].writer();
        handles.push(writer.map_err(|e| Fault::new(format!("sharing {name}"), e))?);
    }
    Ok(handles)
}

/// Opens one queue: with offload where the kernel has it, else as a plain device. A device that was
/// made with `many` queues wants to be asked for one of them; everything else that it was made with
/// follows the opener.
fn open_queue(
    control: &Control,
    config: &PortConfig,
    existed: bool,
    many: bool,
) -> Result<Handle, Fault> {
    let name = config.name.as_str();
    let queues = if many { libc::IFF_MULTI_QUEUE } else { 0 };
    let (mode, kind, link) = match config.kind {
        PortKind::Tap => (Mode::Tap, libc::IFF_TAP, eth::HEADER),
        PortKind::Tun => (Mode::Tun, libc::IFF_TUN, 0),
        PortKind::Macvtap { .. } => {
            let (file, takes) = macvtap::open(control, name, libc::IFF_TAP | queues)?;
            return Ok(Handle { file, link: eth::HEADER, takes: Some(takes), reads: true });
        }
    };
    match sys::open_offloaded(name, kind | queues, vnet::HEADER) {
        Ok((file, takes)) => {
            return Ok(Handle { file, link, takes: Some(takes), reads: true });
        }
        // The plain way tells, or fails as well and says why.
        Err(e) => debug!("port {name}: opening with offload: {e}"),
    }
    let opened = if many {
        sys::open_queue(name, kind)
    } else {
        Iface::without_packet_info(name, mode)
            .and_then(|iface| iface.set_non_blocking().map(|()| sys::own(iface)))
    };
    opened.map(|file| Handle { file, link, takes: None, reads: true }).map_err(|e| {
        let fault = |e| Fault::new(format!("opening {name}"), e);
        if existed && macvtap::is_one(control, name) {
            return fault(e)
                .cure(Some(format!("it is a macvtap; `ip link del {name}` removes it")));
        }
        let cure = open_cure(&e, &config.kind, existed, tun_flags(name));
        fault(e).cure(cure)
    })
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
        // The driver asks for the capability; only the file itself has a mode.
        libc::EACCES => Some("the mode of /dev/net/tun keeps this user out"),
        libc::EPERM => Some(
            "this needs root, or the capability CAP_NET_ADMIN, and in a container /dev/net/tun among \
             its devices",
        ),
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

/// Who shares a port's wire, as the end of a sentence: a TAP that was left out of its bridge shows so.
fn whereabouts(kind: &PortKind, bridge: Option<String>) -> String {
    match (kind, bridge) {
        (_, Some(bridge)) => format!(", in bridge {bridge}"),
        (PortKind::Tap, None) => ", in no bridge: only this host is on its wire".to_owned(),
        (PortKind::Tun, None) => ": the host's routes lead packets to it".to_owned(),
        (PortKind::Macvtap { .. }, None) => String::new(),
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
        assert!(cure(libc::EACCES, false, None).contains("mode of /dev/net/tun"));
        assert!(cure(libc::ENOENT, false, None).contains("modprobe tun"));
        assert!(cure(libc::EBUSY, true, Some(2)).contains("another process"));
        assert!(cure(libc::EINVAL, true, None).contains("neither TUN nor TAP"));
        assert!(cure(libc::EINVAL, true, Some(1)).contains("mode tap"));
        assert_eq!(cure(libc::EINVAL, false, None), "");
    }

    #[test]
    fn a_port_that_joined_no_bridge_says_who_is_on_its_wire() {
        assert_eq!(whereabouts(&PortKind::Tap, Some("br0".to_owned())), ", in bridge br0");
        assert!(whereabouts(&PortKind::Tap, None).contains("only this host"));
        assert!(whereabouts(&PortKind::Tun, None).contains("routes"));
    }

    #[test]
    fn a_port_is_one_claimers_alone_until_it_lets_go() {
        let name = format!("t{}", std::process::id());
        let first = claim(&name, Duration::ZERO).expect("nobody has it");
        let other = claim(&format!("{name}b"), Duration::ZERO);
        assert!(other.is_ok(), "another port is another claim");
        let second = claim(&name, Duration::ZERO).expect_err("the first has it");
        let want = format!("opening {name}: Device or resource busy (another tapvs holds it)");
        assert_eq!(second.to_string(), want);
        drop(first);
        claim(&name, Duration::ZERO).expect("it was let go");
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
}
