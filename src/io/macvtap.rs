//! Ports that sit on a real one: macvtap devices, made, opened and taken away again.
//!
//! A macvtap device has no second end: what reaches the real port (the lower device) comes out of
//! its character device, and its MAC address is ours. All multicast is let through, since neighbour
//! discovery speaks by multicast to groups that we would otherwise have to join one by one.
//!
//! Kept from the kernel: a device in mode `passthru` takes over the lower device's MAC unless it is given one.
//! A device of ours does not go with a process that is killed, so it bears our mark, and the next process takes
//! it away and makes its own. Left out on purpose: mode `source`, which passes only what comes from listed
//! stations; switching the lower device up, which is the operator's.

use std::ffi::c_int;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt;

use log::{debug, info, warn};

use super::sys::{self, Control};
use super::tap::sysfs;
use super::Fault;
use crate::config::MacvtapMode;
use crate::packet::vnet::{self, Takes};
use crate::packet::Mac;

/// What a device that we made says of itself (`ip link show` has it as its alias).
const MARK: &str = "made by tapvs";

/// A device that we made; dropping it takes the device away.
#[derive(Debug)]
pub(super) struct Made {
    name: String,
    index: c_int,
}

impl Drop for Made {
    fn drop(&mut self) {
        if let Err(e) = sys::netlink(&delete_request(self.index)) {
            debug!("port {}: taking the device away: {e}", self.name);
        }
    }
}

/// Makes the device `name` on `lower`, or takes one of that name as it is, unless it is one of ours that
/// was left behind. The caller has claimed the port, so that nobody uses such a one.
///
/// # Errors
/// There is no `lower`, it is in use, or the right to it is missing.
pub(super) fn make(
    control: &Control,
    name: &str,
    lower: &str,
    mode: MacvtapMode,
) -> Result<Option<Made>, Fault> {
    let fault = |e: io::Error| {
        let cure = cure(&e);
        Fault::new(format!("making {name} on {lower}"), e).cure(cure)
    };
    if is_one(control, name) && is_ours(name) {
        info!("port {name}: a killed tapvs left it behind; made anew");
        let index = control.index(name).map_err(fault)?;
        sys::netlink(&delete_request(index)).map_err(fault)?;
    }
    let made = if control.index(name).is_ok() {
        info!("port {name}: it was there before us, and will stay");
        None
    } else {
        let under = control.index(lower).map_err(fault)?;
        sys::netlink(&add_request(name, under, mode)).map_err(fault)?;
        let made = Made { name: name.to_owned(), index: control.index(name).map_err(fault)? };
        if let Err(e) = sys::netlink(&mark_request(made.index)) {
            debug!("port {name}: marking it as ours: {e}");
        }
        Some(made)
    };
    if control.is_up(lower).is_ok_and(|up| !up) {
        warn!("{lower} is down, so {name} carries nothing; `ip link set {lower} up`");
    }
    Ok(made)
}

/// Opens one queue of the macvtap device `name`, without blocking, and says what it may be given.
/// `flags` are those of a TAP device, with `IFF_MULTI_QUEUE` for more queues than one.
///
/// # Errors
/// `EINVAL` if `name` is no macvtap device, `EBUSY` if no queue is left.
pub(super) fn open(control: &Control, name: &str, flags: c_int) -> Result<(File, Takes), Fault> {
    let open = || {
        let index = control.index(name)?;
        let (major, minor) = number(name, index)?;
        let file = node(index, major, minor)?;
        sys::attach(&file, name, flags | libc::IFF_VNET_HDR)?;
        let takes = sys::offer(&file, vnet::HEADER)?;
        Ok((file, takes))
    };
    open().map_err(|e: io::Error| {
        let cure = match e.raw_os_error() {
            Some(libc::EINVAL) => Some("there is an interface of that name which is no macvtap"),
            Some(libc::EBUSY) => Some("another process holds it"),
            _ => cure(&e),
        };
        Fault::new(format!("opening {name}"), e).cure(cure)
    })
}

/// Whether the interface `name` is a macvtap device.
pub(super) fn is_one(control: &Control, name: &str) -> bool {
    control.index(name).is_ok_and(|index| number(name, index).is_ok())
}

/// Whether a tapvs made the device `name`.
fn is_ours(name: &str) -> bool {
    fs::read_to_string(sysfs(name, "ifalias")).is_ok_and(|alias| alias.trim_end() == MARK)
}

/// The MAC address that a port on `lower` has if the rules give none: that of the device if it is
/// there already, and the lower device's if it is taken over whole.
pub(super) fn own_mac(name: &str, lower: &str, mode: MacvtapMode) -> Option<Mac> {
    mac_of(name).or_else(|| mac_of(lower).filter(|_| mode == MacvtapMode::Passthru))
}

/// The MAC address of an interface.
pub(super) fn mac_of(device: &str) -> Option<Mac> {
    mac(&fs::read_to_string(sysfs(device, "address")).ok()?)
}

/// What `/sys` writes as an address of Ethernet.
fn mac(text: &str) -> Option<Mac> {
    let mut mac = [0; 6];
    let mut parts = text.trim().split(':');
    for byte in &mut mac {
        *byte = u8::from_str_radix(parts.next()?, 16).ok()?;
    }
    (parts.next().is_none() && mac != [0; 6]).then_some(Mac(mac))
}

/// The numbers of the character device.
fn number(name: &str, index: c_int) -> io::Result<(u32, u32)> {
    let no_macvtap = || io::Error::from_raw_os_error(libc::EINVAL);
    let text =
        fs::read_to_string(sysfs(name, &format!("tap{index}/dev"))).map_err(|_| no_macvtap())?;
    let (major, minor) = text.trim().split_once(':').ok_or_else(no_macvtap)?;
    Ok((major.parse().map_err(|_| no_macvtap())?, minor.parse().map_err(|_| no_macvtap())?))
}

/// Opens the character device. The one that the kernel puts into `/dev` is named by a number that
/// counts in each network namespace for itself, so that it may be another's, and where nothing
/// fills `/dev` there is none: then a node is made for the moment of opening.
fn node(index: c_int, major: u32, minor: u32) -> io::Result<File> {
    let device = libc::makedev(major, minor);
    let path = format!("/dev/tap{index}");
    if fs::metadata(&path).is_ok_and(|node| node.rdev() == device) {
        return sys::open_node(&path);
    }
    let own = format!("/dev/.tapvs-{}-{index}", std::process::id());
    sys::make_node(&own, device)?;
    let file = sys::open_node(&own);
    // It has served; one that stays is no harm but a name.
    let _ = fs::remove_file(&own);
    file
}

fn cure(error: &io::Error) -> Option<&'static str> {
    match error.raw_os_error()? {
        libc::EPERM | libc::EACCES => Some("this needs root, or the capability CAP_NET_ADMIN"),
        libc::ENODEV => Some("there is no such real port; `ip link` lists them"),
        libc::EOPNOTSUPP => {
            Some("this kernel has no macvtap; `modprobe macvtap`, or use a TAP in a bridge")
        }
        libc::EBUSY => Some("the real port is in a bridge or another device's already"),
        libc::EINVAL => Some("another device sits on that port, which passthru wants for itself"),
        _ => None,
    }
}

// linux/rtnetlink.h, linux/if_link.h
const RTM_NEWLINK: u16 = 16;
const RTM_DELLINK: u16 = 17;
const RTM_SETLINK: u16 = 19;
const REQUEST_WITH_ANSWER: u16 = 0x1 | 0x4;
const NEW_ONLY: u16 = 0x200 | 0x400;
const IFLA_IFNAME: u16 = 3;
const IFLA_LINK: u16 = 5;
const IFLA_LINKINFO: u16 = 18;
const IFLA_IFALIAS: u16 = 20;
const IFLA_INFO_KIND: u16 = 1;
const IFLA_INFO_DATA: u16 = 2;
const IFLA_MACVLAN_MODE: u16 = 1;

fn add_request(name: &str, lower: c_int, mode: MacvtapMode) -> Vec<u8> {
    let mode: u32 = match mode {
        MacvtapMode::Private => 1,
        MacvtapMode::Vepa => 2,
        MacvtapMode::Bridge => 4,
        MacvtapMode::Passthru => 8,
    };
    let data = attribute(IFLA_MACVLAN_MODE, &mode.to_ne_bytes());
    let info = [attribute(IFLA_INFO_KIND, b"macvtap\0"), attribute(IFLA_INFO_DATA, &data)].concat();
    let name = [name.as_bytes(), b"\0"].concat();
    let body = [
        attribute(IFLA_IFNAME, &name),
        attribute(IFLA_LINK, &lower.to_ne_bytes()),
        attribute(IFLA_LINKINFO, &info),
    ];
    request(RTM_NEWLINK, REQUEST_WITH_ANSWER | NEW_ONLY, 0, &body.concat())
}

/// A device takes an alias only when it is there.
fn mark_request(index: c_int) -> Vec<u8> {
    request(RTM_SETLINK, REQUEST_WITH_ANSWER, index, &attribute(IFLA_IFALIAS, MARK.as_bytes()))
}

fn delete_request(index: c_int) -> Vec<u8> {
    request(RTM_DELLINK, REQUEST_WITH_ANSWER, index, &[])
}

/// A message about a link (RFC 3549, section 2.3.3.1), in the host's byte order.
fn request(kind: u16, flags: u16, index: c_int, attributes: &[u8]) -> Vec<u8> {
    /// Bytes of the message's and the link's header.
    const HEADERS: usize = 32;
    let len = u32::try_from(HEADERS + attributes.len()).unwrap_or(u32::MAX);
    let mut message = Vec::with_capacity(HEADERS + attributes.len());
    message.extend(len.to_ne_bytes());
    message.extend(kind.to_ne_bytes());
    message.extend(flags.to_ne_bytes());
    // Sequence and sender are nobody's business, family and type of the link unspecified.
    message.extend([0; 12]);
    message.extend(index.to_ne_bytes());
    message.extend([0; 8]);
    message.extend(attributes);
    message
}

/// A value with its length and kind, filled up to four bytes.
fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
    let len = u16::try_from(4 + value.len()).unwrap_or(u16::MAX);
    let mut out = [len.to_ne_bytes(), kind.to_ne_bytes()].concat();
    out.extend(value);
    out.resize(out.len().next_multiple_of(4), 0);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_attribute_tells_its_length_without_the_filling() {
        let length = |bytes: &[u8]| u16::from_ne_bytes([bytes[0], bytes[1]]);
        let short = attribute(IFLA_IFNAME, b"t0\0");
        assert_eq!((short.len(), length(&short)), (8, 7));
        let whole = attribute(IFLA_LINK, &[0; 4]);
        assert_eq!((whole.len(), length(&whole)), (8, 8));
    }

    #[test]
    fn a_request_tells_its_own_length_and_names_the_device() {
        let message = add_request("tap-wan", 7, MacvtapMode::Passthru);
        let told = u32::from_ne_bytes([message[0], message[1], message[2], message[3]]);
        assert_eq!(usize::try_from(told), Ok(message.len()));
        for part in [&b"tap-wan\0"[..], b"macvtap\0"] {
            assert!(message.windows(part.len()).any(|bytes| bytes == part));
        }
    }

    #[test]
    fn an_address_is_read_as_the_kernel_writes_it() {
        assert_eq!(mac("02:00:00:00:01:0a\n"), Some(Mac([2, 0, 0, 0, 1, 10])));
        for none in ["", "00:00:00:00:00:00", "02:00:00:00:01", "02:00:00:00:01:0a:00", "x"] {
            assert_eq!(mac(none), None, "{none}");
        }
    }

    #[test]
    fn what_is_no_macvtap_device_is_refused() {
        let control = Control::open().expect("a socket");
        let fault = open(&control, "lo", libc::IFF_TAP).expect_err("the loopback device");
        assert!(fault.to_string().contains("no macvtap"), "{fault}");
        assert!(!is_one(&control, "lo") && !is_ours("lo"));
    }
}
