//! The system calls that the standard library does not have, and all `unsafe` of the program.
//!
//! Thin calls only: each returns [`io::Result`] and owns its descriptors; decisions are made by the
//! callers. Request numbers have the type [`libc::Ioctl`], which differs between C libraries.
//!
//! Kept from the kernel: its request names. What we change on an interface (flags, MTU, MAC, bridge)
//! goes through the older and smaller interface; netlink only makes what that one cannot.

#![expect(unsafe_code, reason = "the one room that may call the system by hand")]

use std::ffi::{c_char, c_int, c_short, CString};
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, Ipv6Addr, UdpSocket};
use std::os::fd::{AsRawFd, FromRawFd, IntoRawFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::net::UnixDatagram;
use std::{mem, ptr};

use crate::packet::vnet::Takes;
use crate::packet::{Family, Mac};

// Below 0x8000_0000 and alike on every architecture (linux/sockios.h).
const SIOCGIFFLAGS: libc::Ioctl = 0x8913;
const SIOCSIFFLAGS: libc::Ioctl = 0x8914;
const SIOCGIFMTU: libc::Ioctl = 0x8921;
const SIOCSIFMTU: libc::Ioctl = 0x8922;
const SIOCSIFHWADDR: libc::Ioctl = 0x8924;
const SIOCGIFINDEX: libc::Ioctl = 0x8933;
const SIOCBRADDIF: libc::Ioctl = 0x89a2;
const SIOCBRDELIF: libc::Ioctl = 0x89a3;

/// Bytes that a raw socket may hold for us between two visits.
const RAW_BUFFER: c_int = 4 << 20;

/// Asks and tells the kernel about interfaces by name. Every call fails with `ENODEV` if there is
/// no such interface, and every change with `EPERM` without `CAP_NET_ADMIN`.
#[derive(Debug)]
pub struct Control(UnixDatagram);

impl Control {
    /// Opens the socket that the requests go through; any family will do.
    ///
    /// # Errors
    /// No descriptor is left.
    pub fn open() -> io::Result<Self> {
        UnixDatagram::unbound().map(Self)
    }

    /// The interface's number in this network namespace.
    ///
    /// # Errors
    /// As for [`Control`].
    pub fn index(&self, name: &str) -> io::Result<c_int> {
        let mut request = request(name)?;
        self.call(SIOCGIFINDEX, &mut request)?;
        // SAFETY: SIOCGIFINDEX has filled in this member; any bits are a valid integer.
        Ok(unsafe { request.ifr_ifru.ifru_ifindex })
    }

    /// Whether the operator's switch is on (`IFF_UP`).
    ///
    /// # Errors
    /// As for [`Control`].
    pub fn is_up(&self, name: &str) -> io::Result<bool> {
        Ok(c_int::from(self.flags(name)?) & libc::IFF_UP != 0)
    }

    /// Whether frames can pass (`IFF_RUNNING`): up, and the other end is there.
    ///
    /// # Errors
    /// As for [`Control`].
    pub fn is_running(&self, name: &str) -> io::Result<bool> {
        Ok(c_int::from(self.flags(name)?) & libc::IFF_RUNNING != 0)
    }

    /// Turns the operator's switch.
    ///
    /// # Errors
    /// As for [`Control`].
    pub fn set_up(&self, name: &str, up: bool) -> io::Result<()> {
        self.set_flag(name, libc::IFF_UP, up)
    }

    /// Lets frames to every multicast group through, or only to those that somebody has joined.
    ///
    /// # Errors
    /// As for [`Control`].
    pub fn set_all_multicast(&self, name: &str, all: bool) -> io::Result<()> {
        self.set_flag(name, libc::IFF_ALLMULTI, all)
    }

    /// Gives the interface another MAC address.
    ///
    /// # Errors
    /// As for [`Control`]; `EADDRNOTAVAIL` if a station cannot have it.
    pub fn set_mac(&self, name: &str, mac: Mac) -> io::Result<()> {
        let mut request = request(name)?;
        // SAFETY: the structure is made of integers; zeroes are valid.
        let mut address: libc::sockaddr = unsafe { mem::zeroed() };
        address.sa_family = libc::ARPHRD_ETHER;
        for (to, &from) in address.sa_data.iter_mut().zip(&mac.0) {
            *to = c_char::from_ne_bytes([from]);
        }
        request.ifr_ifru.ifru_hwaddr = address;
        self.call(SIOCSIFHWADDR, &mut request)
    }

    /// Bytes of the largest IP packet.
    ///
    /// # Errors
    /// As for [`Control`].
    pub fn mtu(&self, name: &str) -> io::Result<c_int> {
        let mut request = request(name)?;
        self.call(SIOCGIFMTU, &mut request)?;
        // SAFETY: SIOCGIFMTU has filled in this member; any bits are a valid integer.
        Ok(unsafe { request.ifr_ifru.ifru_mtu })
    }

    /// Sets the largest IP packet.
    ///
    /// # Errors
    /// As for [`Control`]; `EINVAL` if the device cannot carry so much or so little.
    pub fn set_mtu(&self, name: &str, mtu: c_int) -> io::Result<()> {
        let mut request = request(name)?;
        request.ifr_ifru.ifru_mtu = mtu;
        self.call(SIOCSIFMTU, &mut request)
    }

    /// Puts interface number `port` into `bridge`.
    ///
    /// # Errors
    /// As for [`Control`]; `EBUSY` if it is in another bridge, `EINVAL` if it carries no Ethernet.
    pub fn join_bridge(&self, bridge: &str, port: c_int) -> io::Result<()> {
        let mut request = request(bridge)?;
        request.ifr_ifru.ifru_ifindex = port;
        self.call(SIOCBRADDIF, &mut request)
    }

    /// Takes interface number `port` out of `bridge`.
    ///
    /// # Errors
    /// As for [`Control`]; `EINVAL` if it is not in there.
    pub fn leave_bridge(&self, bridge: &str, port: c_int) -> io::Result<()> {
        let mut request = request(bridge)?;
        request.ifr_ifru.ifru_ifindex = port;
        self.call(SIOCBRDELIF, &mut request)
    }

    fn set_flag(&self, name: &str, flag: c_int, on: bool) -> io::Result<()> {
        let flag = c_short::try_from(flag).map_err(|_| io::ErrorKind::InvalidInput)?;
        let flags = self.flags(name)?;
        let mut request = request(name)?;
        request.ifr_ifru.ifru_flags = if on { flags | flag } else { flags & !flag };
        self.call(SIOCSIFFLAGS, &mut request)
    }

    fn flags(&self, name: &str) -> io::Result<c_short> {
        let mut request = request(name)?;
        self.call(SIOCGIFFLAGS, &mut request)?;
        // SAFETY: SIOCGIFFLAGS has filled in this member; any bits are a valid integer.
        Ok(unsafe { request.ifr_ifru.ifru_flags })
    }

    fn call(&self, what: libc::Ioctl, request: &mut libc::ifreq) -> io::Result<()> {
        interface_ioctl(&self.0, what, request)
    }
}

/// Opens one queue of the many-queue TUN or TAP device `name`, without blocking and without packet
/// information; creates the device if there is none. `kind` is `IFF_TUN` or `IFF_TAP`.
///
/// # Errors
/// `ENOENT` without `/dev/net/tun`, `EPERM` without `CAP_NET_ADMIN`, `EBUSY` if no queue is left,
/// `EINVAL` if the device is there and of another kind.
pub fn open_queue(name: &str, kind: c_int) -> io::Result<File> {
    open_device(name, kind | libc::IFF_MULTI_QUEUE)
}

/// Opens the TUN or TAP device `name` with a virtio-net header of `header` bytes in front of each
/// frame, and says what it may be given. `kind` is `IFF_TUN` or `IFF_TAP`, with `IFF_MULTI_QUEUE` for
/// a queue of a many-queue device.
///
/// # Errors
/// As [`open_queue`]; `Unsupported` if the kernel knows of no such header.
pub fn open_offloaded(name: &str, kind: c_int, header: usize) -> io::Result<(File, Takes)> {
    let file = open_device(name, kind | libc::IFF_VNET_HDR).map_err(unsupported)?;
    let takes = offer(&file, header)?;
    Ok((file, takes))
}

/// Makes the device of `file`, which was attached with `IFF_VNET_HDR`, put a virtio-net header of
/// `header` bytes in front of each frame, and says what it may be given.
///
/// # Errors
/// `Unsupported` if the kernel knows of no such header.
pub fn offer(file: &File, header: usize) -> io::Result<Takes> {
    // linux/if_tun.h
    const CHECKSUM_AND_TCP: libc::c_ulong = 0x01 | 0x02 | 0x04 | 0x08;
    const UDP: libc::c_ulong = 0x20 | 0x40;
    let size = c_int::try_from(header).map_err(|_| io::ErrorKind::InvalidInput)?;
    // SAFETY: the descriptor is open, and the request reads one integer, which outlives the call.
    check(unsafe { libc::ioctl(file.as_raw_fd(), libc::TUNSETVNETHDRSZ, &raw const size) })
        .map_err(unsupported)?;
    let offer = |what: libc::c_ulong| {
        // SAFETY: the descriptor is open, and the request takes its argument by value.
        check(unsafe { libc::ioctl(file.as_raw_fd(), libc::TUNSETOFFLOAD, what) }).is_ok()
    };
    Ok(if offer(CHECKSUM_AND_TCP | UDP) {
        Takes { tcp: true, udp: true }
    } else {
        Takes { tcp: offer(CHECKSUM_AND_TCP), udp: false }
    })
}

/// An older kernel calls what it does not know illegal.
fn unsupported(error: io::Error) -> io::Error {
    match error.raw_os_error() {
        Some(libc::EINVAL) => io::Error::from(io::ErrorKind::Unsupported),
        _ => error,
    }
}

fn open_device(name: &str, flags: c_int) -> io::Result<File> {
    let file = open_node("/dev/net/tun")?;
    attach(&file, name, flags)?;
    Ok(file)
}

/// Opens a character device of frames, without blocking.
///
/// # Errors
/// `ENOENT` if it is not there, `EACCES` without the right to it.
pub fn open_node(path: &str) -> io::Result<File> {
    let flags = libc::O_NONBLOCK | libc::O_CLOEXEC;
    OpenOptions::new().read(true).write(true).custom_flags(flags).open(path)
}

/// Makes a character device that only its owner may open.
///
/// # Errors
/// `EPERM` without `CAP_MKNOD`, `EEXIST` if there is a file of that name.
pub fn make_node(path: &str, device: libc::dev_t) -> io::Result<()> {
    let path = CString::new(path)?;
    // SAFETY: the pointer is to a string with its NUL, which outlives the call.
    check(unsafe { libc::mknod(path.as_ptr(), libc::S_IFCHR | 0o600, device) })
}

/// Attaches the open character device `file` to the interface `name`; `flags` are those of
/// `TUNSETIFF`, without packet information.
///
/// # Errors
/// As [`open_queue`].
pub fn attach(file: &File, name: &str, flags: c_int) -> io::Result<()> {
    let mut request = request(name)?;
    request.ifr_ifru.ifru_flags =
        c_short::try_from(flags | libc::IFF_NO_PI).map_err(|_| io::ErrorKind::InvalidInput)?;
    interface_ioctl(file, libc::TUNSETIFF, &mut request)
}

/// Whether the interface that `file` was attached to is still there, by whatever name and in whatever
/// network namespace.
pub fn is_attached(file: &File) -> bool {
    let asked =
        request("?").and_then(|mut about| interface_ioctl(file, libc::TUNGETIFF, &mut about));
    // A TAP says the first, a macvtap the second.
    let gone = [Some(libc::EBADFD), Some(libc::ENOLINK)];
    !asked.is_err_and(|e| gone.contains(&e.raw_os_error()))
}

/// Has large pieces of memory taken from the system one by one, always. The GNU allocator ceases to do so
/// once the first large piece was given back, as that of a rules file is, and then clears a whole buffer
/// for frames where a page of it will be used. The others never change their ways.
pub fn keep_large_pieces_apart() {
    #[cfg(target_env = "gnu")]
    // SAFETY: it takes two numbers and changes nothing but the allocator's own limits.
    unsafe {
        // Refused, the allocator goes on as it would have.
        libc::mallopt(libc::M_MMAP_THRESHOLD, 128 << 10);
    }
}

/// Loads a socket filter in the machine language of BPF, eight bytes an instruction.
///
/// # Errors
/// `EPERM` without `CAP_BPF` where the kernel wants it, `ENOSYS` if it has none, `EINVAL` if it does not
/// accept the program.
pub fn load_filter(program: &[[u8; 8]]) -> io::Result<OwnedFd> {
    /// `BPF_PROG_LOAD`.
    const LOAD: c_int = 5;
    /// The front of the kernel's `bpf_attr`; what follows is zero if it is not given.
    #[repr(C, align(8))]
    struct Request {
        kind: u32,
        count: u32,
        program: u64,
        licence: u64,
        log: [u32; 6],
    }
    let request = Request {
        // BPF_PROG_TYPE_SOCKET_FILTER
        kind: 1,
        count: u32::try_from(program.len()).map_err(|_| io::ErrorKind::InvalidInput)?,
        program: program.as_ptr() as usize as u64,
        licence: c"Dual MIT/GPL".as_ptr() as usize as u64,
        log: [0; 6],
    };
    // SAFETY: the request and what it points to outlive the call, which reads as much as it is told.
    let fd =
        unsafe { libc::syscall(libc::SYS_bpf, LOAD, &raw const request, size_of::<Request>()) };
    let fd = c_int::try_from(fd).ok().filter(|&fd| fd >= 0).ok_or_else(io::Error::last_os_error)?;
    // SAFETY: the descriptor was just opened and belongs to nobody else.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Has the kernel choose among the queues of a TUN or TAP device by `filter`, or in its own way.
///
/// # Errors
/// `EINVAL` if it does not know how.
pub fn steer_by(file: &File, filter: Option<&OwnedFd>) -> io::Result<()> {
    let fd = filter.map_or(-1, AsRawFd::as_raw_fd);
    // SAFETY: the descriptor is open, and the request reads one integer, which outlives the call.
    check(unsafe { libc::ioctl(file.as_raw_fd(), libc::TUNSETSTEERINGEBPF, &raw const fd) })
}

/// Sends one rtnetlink request, which asks for an answer, and reads whether it was done.
///
/// # Errors
/// The kernel's answer.
pub fn netlink(request: &[u8]) -> io::Result<()> {
    /// The answer: two message headers and an error number between them.
    const ANSWER: usize = 16 + 4 + 16;
    // SAFETY: `socket` takes no pointers.
    let fd = unsafe {
        libc::socket(libc::AF_NETLINK, libc::SOCK_RAW | libc::SOCK_CLOEXEC, libc::NETLINK_ROUTE)
    };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: `fd` was just opened and belongs to nobody else.
    let mut socket = File::from(unsafe { OwnedFd::from_raw_fd(fd) });
    socket.write_all(request)?;
    let mut answer = [0; 1024];
    let len = socket.read(&mut answer)?;
    let error = answer[..len].get(16..20).filter(|_| len >= ANSWER);
    let Some(&[a, b, c, d]) = error else { return Err(io::ErrorKind::InvalidData.into()) };
    match i32::from_ne_bytes([a, b, c, d]) {
        0 => Ok(()),
        negative => Err(io::Error::from_raw_os_error(negative.wrapping_neg())),
    }
}

/// A descriptor that becomes readable whenever a device is changed, made or taken away; reads do not wait.
///
/// # Errors
/// No descriptor is left, or the kernel does not tell.
pub fn link_events() -> io::Result<File> {
    let kind = libc::SOCK_RAW | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
    // SAFETY: `socket` takes no pointers.
    let fd = unsafe { libc::socket(libc::AF_NETLINK, kind, libc::NETLINK_ROUTE) };
    check(fd)?;
    // SAFETY: `fd` was just opened and belongs to nobody else.
    let socket = File::from(unsafe { OwnedFd::from_raw_fd(fd) });
    // SAFETY: all zeroes are a valid `sockaddr_nl`.
    let mut address: libc::sockaddr_nl = unsafe { mem::zeroed() };
    address.nl_family = libc::AF_NETLINK.try_into().map_err(io::Error::other)?;
    address.nl_groups = libc::RTMGRP_LINK.try_into().map_err(io::Error::other)?;
    let length = size_of::<libc::sockaddr_nl>().try_into().map_err(io::Error::other)?;
    // SAFETY: `address` is a `sockaddr_nl` of that length, and is only read during the call.
    check(unsafe { libc::bind(fd, (&raw const address).cast(), length) })?;
    Ok(socket)
}

/// A descriptor that becomes readable whenever an event is signalled to it.
///
/// # Errors
/// No descriptor is left.
pub fn event() -> io::Result<File> {
    // SAFETY: the call takes numbers only.
    let descriptor = unsafe { libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK) };
    check(descriptor)?;
    // SAFETY: the descriptor is fresh, open and nobody else's.
    Ok(File::from(unsafe { OwnedFd::from_raw_fd(descriptor) }))
}

/// Takes over the descriptor of something that gives it away.
pub fn own(from: impl IntoRawFd) -> File {
    // SAFETY: `into_raw_fd` hands over an open descriptor with its ownership, and consumes its owner.
    File::from(unsafe { OwnedFd::from_raw_fd(from.into_raw_fd()) })
}

/// Opens a socket that receives every packet of `protocol` that this host is sent, without
/// blocking. A read gives one packet: with its IPv4 header, or without its IPv6 headers.
///
/// # Errors
/// `EPERM` without `CAP_NET_RAW`, `EAFNOSUPPORT` if the kernel lacks the family.
pub fn raw_socket(family: Family, protocol: u8) -> io::Result<File> {
    let domain = match family {
        Family::V4 => libc::AF_INET,
        Family::V6 => libc::AF_INET6,
    };
    let kind = libc::SOCK_RAW | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
    // SAFETY: `socket` takes no pointers.
    let fd = unsafe { libc::socket(domain, kind, c_int::from(protocol)) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: `fd` was just opened and belongs to nobody else.
    let file = File::from(unsafe { OwnedFd::from_raw_fd(fd) });
    enlarge_buffer(&file);
    Ok(file)
}

/// Opens a socket that receives the datagrams to a UDP port of this host, over IPv6 and IPv4 (only
/// IPv4 if the kernel lacks IPv6), without blocking. Datagrams over IPv6 need no checksum (RFC 6935).
///
/// # Errors
/// `EADDRINUSE`, `EACCES` for a low port without the right to it.
pub fn udp_socket(port: u16) -> io::Result<File> {
    let socket = match UdpSocket::bind((Ipv6Addr::UNSPECIFIED, port)) {
        Err(e) if matches!(e.raw_os_error(), Some(libc::EAFNOSUPPORT | libc::EADDRNOTAVAIL)) => {
            UdpSocket::bind((Ipv4Addr::UNSPECIFIED, port))?
        }
        bound => bound?,
    };
    socket.set_nonblocking(true)?;
    let file = File::from(OwnedFd::from(socket));
    set_int(&file, libc::IPPROTO_UDP, libc::UDP_NO_CHECK6_RX, 1);
    enlarge_buffer(&file);
    Ok(file)
}

/// Sets an option of a socket; a kernel that does not know it keeps its way.
fn set_int(socket: &File, level: c_int, option: c_int, value: c_int) {
    let len = libc::socklen_t::try_from(size_of_val(&value)).unwrap_or_default();
    // SAFETY: the pointer is to `value`, which is `len` bytes long and lives until the call returns.
    unsafe {
        libc::setsockopt(socket.as_raw_fd(), level, option, ptr::from_ref(&value).cast(), len);
    }
}

/// Asks for a larger receive buffer; without the right to it, the default remains.
fn enlarge_buffer(socket: &File) {
    let size = RAW_BUFFER;
    let len = libc::socklen_t::try_from(size_of_val(&size)).unwrap_or_default();
    // SAFETY: the pointer is to `size`, which is `len` bytes long and lives until the call returns.
    unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_RCVBUFFORCE,
            ptr::from_ref(&size).cast(),
            len,
        );
    }
}

/// An empty request about the interface `name`.
fn request(name: &str) -> io::Result<libc::ifreq> {
    let bytes = name.as_bytes();
    if bytes.is_empty() || bytes.len() >= libc::IFNAMSIZ || bytes.contains(&0) {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    // SAFETY: the structure is made of integers, pointers and unions of them; zeroes are valid.
    let mut request: libc::ifreq = unsafe { mem::zeroed() };
    for (to, &from) in request.ifr_name.iter_mut().zip(bytes) {
        *to = c_char::from_ne_bytes([from]);
    }
    Ok(request)
}

/// Private, because `what` must be a request that takes an `ifreq`; all in this file do.
/// A call's result, or the error that it left behind.
fn check(result: c_int) -> io::Result<()> {
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(())
    }
}

fn interface_ioctl(
    on: &impl AsRawFd,
    what: libc::Ioctl,
    request: &mut libc::ifreq,
) -> io::Result<()> {
    // SAFETY: the descriptor is open as long as `on` is borrowed, the pointer is to a whole `ifreq`
    // that we may write to, and the kernel keeps neither after the call.
    let done = unsafe { libc::ioctl(on.as_raw_fd(), what, ptr::from_mut(request)) };
    if done < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_loopback_device_is_known_by_its_name() {
        let control = Control::open().expect("a socket");
        assert_eq!(control.index("lo").expect("every namespace has it"), 1);
        assert!(control.mtu("lo").expect("readable by all") > 0);
    }

    #[test]
    fn a_device_that_is_not_there_is_an_error_and_so_is_a_name_that_cannot_be() {
        let control = Control::open().expect("a socket");
        let error = control.is_up("tapvs-none").expect_err("nobody has it");
        assert_eq!(error.raw_os_error(), Some(libc::ENODEV));
        for name in ["", "sixteen-bytes-ab", "nul\0"] {
            let error = control.is_up(name).expect_err("no such name");
            assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
        }
    }
}
