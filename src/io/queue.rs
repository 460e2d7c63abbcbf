//! Queues: what a worker reads frames from and writes them to, and the ways to do so.
//!
//! A [`Queue`] is shaped so that engines which move many frames per system call fit behind it: `recv`
//! and `send` may exchange the packet's buffer for one of their own, and what `send` took need not
//! leave before the worker waits again. [`Offloaded`] moves one frame a call, super-frames among them;
//! [`Plain`] does so for devices without offload; [`Uring`] moves many a call. A device gives away a
//! [`Handle`] for each of its queues, and the worker that gets it [drives](Handle::drive) it in its own
//! way: a ring belongs to one thread.
//!
//! Kept from the kernel: a queue holds frames until they are read, and drops what is too much. Left
//! out on purpose: opening and closing devices, which is [`tap`](super::tap)'s.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsRawFd, RawFd};

use super::uring::{Ring, Uring};
use crate::packet::{vnet, LinkId, Packet};

/// Where frames come from and go to. Nothing here blocks.
pub trait Queue {
    /// Makes the next waiting frame the content of `packet`, as received on `link`; `false` if none
    /// waits. An engine may exchange the packet's buffer, provided it has as much room.
    ///
    /// # Errors
    /// The system's, about the device and not about a frame; `EBADFD` says that the device is gone.
    fn recv(&mut self, link: LinkId, packet: &mut Packet) -> io::Result<bool>;

    /// Takes the frame in `packet` to be sent, at once or when the worker waits next. What is in
    /// `packet` afterwards is of no meaning.
    ///
    /// # Errors
    /// The frame was not taken; [`WouldBlock`](io::ErrorKind::WouldBlock) if there is no room.
    fn send(&mut self, packet: &mut Packet) -> io::Result<()>;

    /// How many frames that were taken since the last call were not sent after all, or not whole.
    fn failed(&mut self) -> Failed {
        Failed::default()
    }

    /// Whether frames have come in meanwhile that no wake-up will tell of.
    fn is_waiting(&self) -> bool {
        false
    }
}

/// Frames that were not sent, each counted once however many pieces it was to leave in.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Failed {
    /// Received ones.
    pub forwarded: u32,
    /// Those that we sent on our own account.
    pub own: u32,
}

impl Failed {
    /// One more.
    pub const fn count(&mut self, own: bool) {
        let count = if own { &mut self.own } else { &mut self.forwarded };
        *count = count.wrapping_add(1);
    }

    /// Whether there is none.
    pub const fn is_none(self) -> bool {
        self.forwarded == 0 && self.own == 0
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
        let Some(len) = read_frame(&mut self.file, packet.frame_room(0))? else { return Ok(false) };
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
        let room = packet.frame_room(vnet::HEADER);
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

/// One queue of a device, before anybody drives it; it may go to another thread.
#[derive(Debug)]
pub struct Handle {
    /// The descriptor; it does not block, and gives one frame a read.
    pub file: File,
    /// Bytes of the link header.
    pub link: usize,
    /// What the device may be given, if there is a virtio-net header in front of each frame.
    pub takes: Option<vnet::Takes>,
    /// Frames are read here; otherwise somebody else reads this queue and we only write.
    pub reads: bool,
}

impl Handle {
    /// A second handle to the same queue, for a worker that only writes to it.
    ///
    /// # Errors
    /// No descriptor is left.
    pub fn writer(&self) -> io::Result<Self> {
        let file = self.file.try_clone()?;
        Ok(Self { file, link: self.link, takes: self.takes, reads: false })
    }

    /// Takes the queue into use in this thread: by `ring` if there is one and it can, else one frame a
    /// call. Also says why the ring could not.
    pub fn drive(self, ring: Option<&Ring>) -> (Driven, Option<io::Error>) {
        let Self { file, link, takes, reads } = self;
        let Some(takes) = takes else { return (Driven::Plain(Plain::new(file, link)), None) };
        let Some(ring) = ring else {
            return (Driven::Offloaded(Offloaded::new(file, link, takes)), None);
        };
        match ring.attach(file, link, takes, reads) {
            Ok(queue) => (Driven::Uring(queue), None),
            Err((file, e)) => (Driven::Offloaded(Offloaded::new(file, link, takes)), Some(e)),
        }
    }
}

/// A queue in use, by the way that was chosen when it was taken into use.
#[derive(Debug)]
pub enum Driven {
    /// One frame a call, as on a wire.
    Plain(Plain),
    /// One frame a call, super-frames among them.
    Offloaded(Offloaded),
    /// Many frames a call.
    Uring(Uring),
}

impl Driven {
    /// The descriptor that tells a poller of frames; a ring tells by itself.
    pub fn polled(&self) -> Option<RawFd> {
        match self {
            Self::Plain(queue) => Some(queue.file.as_raw_fd()),
            Self::Offloaded(queue) => Some(queue.file.as_raw_fd()),
            Self::Uring(_) => None,
        }
    }
}

impl Queue for Driven {
    fn recv(&mut self, link: LinkId, packet: &mut Packet) -> io::Result<bool> {
        match self {
            Self::Plain(queue) => queue.recv(link, packet),
            Self::Offloaded(queue) => queue.recv(link, packet),
            Self::Uring(queue) => queue.recv(link, packet),
        }
    }

    fn send(&mut self, packet: &mut Packet) -> io::Result<()> {
        match self {
            Self::Plain(queue) => queue.send(packet),
            Self::Offloaded(queue) => queue.send(packet),
            Self::Uring(queue) => queue.send(packet),
        }
    }

    fn failed(&mut self) -> Failed {
        match self {
            Self::Plain(_) | Self::Offloaded(_) => Failed::default(),
            Self::Uring(queue) => queue.failed(),
        }
    }

    fn is_waiting(&self) -> bool {
        match self {
            Self::Plain(_) | Self::Offloaded(_) => false,
            Self::Uring(queue) => queue.is_waiting(),
        }
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
            packet.frame_room(0)[..frame.len()].copy_from_slice(&frame);
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
pub(super) mod tests {
    use std::os::unix::net::UnixDatagram;

    use super::*;
    use crate::io::sys;

    /// A ring to be tested, where the kernel has them.
    pub(in crate::io) fn ring() -> Option<Ring> {
        let told = |e: &io::Error| eprintln!("no ring was tested, since this kernel has none: {e}");
        Ring::new().inspect_err(told).ok()
    }

    /// A queue's handle whose device is a socket, and the other end.
    fn device(takes: Option<vnet::Takes>) -> (Handle, UnixDatagram) {
        let (ours, theirs) = UnixDatagram::pair().expect("a pair");
        ours.set_nonblocking(true).expect("possible");
        theirs.set_nonblocking(true).expect("possible");
        (Handle { file: sys::own(ours), link: 14, takes, reads: true }, theirs)
    }

    /// A frame as the device gives it.
    fn with_header(takes: Option<vnet::Takes>, frame: &[u8]) -> Vec<u8> {
        let mut bytes = takes.map_or(Vec::new(), |_| vec![0; vnet::HEADER]);
        bytes.extend(frame);
        bytes
    }

    /// Waits where there is a ring to wait for.
    fn settle(ring: Option<&Ring>) {
        if let Some(ring) = ring {
            ring.wait(Some(std::time::Duration::ZERO)).expect("no error");
        }
    }

    /// What comes of it at once, or a little later where the kernel does the ring's work aside.
    fn soon<T>(ring: Option<&Ring>, mut attempt: impl FnMut() -> Option<T>) -> Option<T> {
        (0..100_000).find_map(|_| {
            settle(ring);
            attempt().or_else(|| {
                std::thread::yield_now();
                None
            })
        })
    }

    /// What every way to drive a queue must do.
    fn works(takes: Option<vnet::Takes>, ring: Option<&Ring>) {
        let (handle, theirs) = device(takes);
        let (mut queue, why) = handle.drive(ring);
        assert!(why.is_none(), "{why:?}");
        let mut packet = Packet::with_capacity(0);
        assert!(!queue.recv(LinkId(3), &mut packet).expect("no error"));
        for round in 0..100 {
            let frame = vec![round; 60 + usize::from(round)];
            theirs.send(&with_header(takes, &frame)).expect("room");
            let came =
                soon(ring, || queue.recv(LinkId(3), &mut packet).expect("no error").then_some(()));
            assert!(came.is_some(), "round {round}");
            assert_eq!((packet.link, packet.bytes()), (LinkId(3), &frame[..]));
            assert!(!queue.is_waiting());
            queue.send(&mut packet).expect("room");
            let mut back = [0; 256];
            let len = soon(ring, || theirs.recv(&mut back).ok()).expect("it was sent");
            assert_eq!(&back[..len], with_header(takes, &frame));
        }
        let mut own = Packet::copy_of(LinkId(3), &[9; 60]);
        queue.send(&mut own).expect("room");
        assert_eq!(
            soon(ring, || theirs.recv(&mut [0; 256]).ok()).expect("it was sent"),
            with_header(takes, &[9; 60]).len()
        );
        drop(theirs);
        let refused = queue.send(&mut Packet::copy_of(LinkId(3), &[9; 60])).is_err();
        ring.map_or(Ok(()), Ring::finish).expect("no error");
        assert!(refused || queue.failed() == Failed { forwarded: 1, own: 0 }, "nobody takes it");
        let Some(takes) = takes else { return };
        for own in [false, true] {
            let mut whole = super_frame(5, own);
            assert!(!vnet::can_leave(&whole, 14, takes));
            let at_once = queue.send(&mut whole).is_err();
            ring.map_or(Ok(()), Ring::finish).expect("no error");
            let later = queue.failed();
            let one = Failed { forwarded: u32::from(!own), own: u32::from(own) };
            assert!(at_once && later.is_none() || !at_once && later == one, "{later:?}");
        }
    }

    /// A frame that stands for so many datagrams.
    fn super_frame(pieces: u16, own: bool) -> Packet {
        let payload = vec![7; usize::from(pieces) * 100];
        let mut packet =
            Packet::copy_of(LinkId(3), &[&[0, 1, 0, 2, 0, 0, 0, 0], &*payload].concat());
        let (src, dst) = ([10, 0, 0, 1].into(), [10, 0, 0, 2].into());
        let (proto, ttl, tos, dont_fragment, id) = (crate::packet::proto::UDP, 64, 0, true, 0);
        crate::packet::ip::Fresh { src, dst, proto, ttl, tos, dont_fragment, id }
            .push(&mut packet)
            .expect("there is room");
        packet.push(14).expect("there is room").fill(0);
        let kind = vnet::Kind::Udp;
        packet.leave_undone(
            vnet::Offload { kind, transport: 20, size: 100, partial: true, ..Default::default() },
            14,
        );
        packet.own = own;
        packet
    }

    /// More frames than buffers are lent at first, and than are taken at once.
    fn takes_a_burst(ring: &Ring, takes: vnet::Takes) {
        let (handle, theirs) = device(Some(takes));
        let (mut queue, why) = handle.drive(Some(ring));
        assert!(why.is_none(), "{why:?}");
        let mut packet = Packet::with_capacity(0);
        let (mut sent, mut got) = (0_u32, 0_u32);
        while got < 1000 {
            while sent < 1000 && theirs.send(&with_header(Some(takes), &sent.to_be_bytes())).is_ok()
            {
                sent += 1;
            }
            ring.wait(Some(std::time::Duration::ZERO)).expect("no error");
            while queue.recv(LinkId(0), &mut packet).expect("no error") {
                assert_eq!(packet.bytes(), got.to_be_bytes());
                got += 1;
            }
        }
    }

    #[test]
    fn every_way_to_drive_a_queue_gives_and_takes_the_same_frames() {
        let takes = vnet::Takes { tcp: true, udp: false };
        works(None, None);
        works(Some(takes), None);
        if let Some(ring) = ring() {
            works(Some(takes), Some(&ring));
            takes_a_burst(&ring, takes);
        }
    }

    #[test]
    fn a_queue_without_offload_is_driven_without_a_ring() {
        let Some(ring) = ring() else { return };
        assert!(matches!(device(None).0.drive(Some(&ring)), (Driven::Plain(_), None)));
    }
}
