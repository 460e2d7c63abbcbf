//! Many frames a system call: reads and writes of all devices of a worker through one io_uring.
//!
//! For each device one read is armed once and goes on delivering frames into buffers lent to the
//! kernel; writes are collected, and handed over by the very call that waits for the next frames. So a
//! worker makes one system call a turn, however many frames and devices there are. What else there is to
//! wait for is in the worker's poller, whose descriptor the ring watches. Buffers are those of
//! [`Packet`]s and change hands instead of being copied: a frame is received by exchanging the packet for
//! the one whose buffer it came in. Few are lent at first, more when they run out, and fewer again while
//! frames are large, since copying costs most where the cache misses.
//!
//! Needs a kernel with multishot reads (6.7); [`Ring::new`] says whether it has them. Left out on
//! purpose: registered files and buffers, and a polling kernel thread, which would take a core.

#![expect(unsafe_code, reason = "the ring shares memory with the kernel")]

use std::alloc::{alloc_zeroed, dealloc, Layout};
use std::cell::RefCell;
use std::collections::VecDeque;
use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::ptr::NonNull;
use std::rc::Rc;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

use io_uring::types::{BufRingEntry, CancelBuilder, Fd, SubmitArgs, Timespec};
use io_uring::{cqueue, opcode, squeue, IoUring};

use super::queue::{Failed, Queue};
use crate::packet::{vnet, LinkId, Packet, FRAME_MAX};

/// Buffers lent to a device at most; a power of two.
const SLOTS: u16 = 128;

/// Buffers lent to a device at first.
const SLOTS_FIRST: usize = 16;

/// Bytes of frames for which buffers are lent at a time: what is read and written again should not have
/// left the cache meanwhile, so super-frames get few buffers, which come round soon.
const LENT_BYTES: usize = 512 << 10;

/// Buffers lent at least, however large the frames.
const SLOTS_LEAST: usize = 8;

/// Writes that may be under way.
const WRITES: u16 = 256;

/// Completions that fit: those of the writes, and of all lent buffers of seven devices.
const COMPLETIONS: u32 = 2048;

/// `POLLIN`, as wide as the ring wants it.
const READABLE: u32 = 1;

/// What a completion is about: the place of a write, or with this bit the read of a lane, or the poller.
const READ: u64 = 1 << 32;
const POLLER: u64 = 1 << 33;

/// The ring of a worker, for use in its thread only. The queues on it keep it alive.
#[derive(Debug, Clone)]
pub struct Ring(Rc<RefCell<Inner>>);

/// A device's queue on a ring.
#[derive(Debug)]
pub struct Uring {
    ring: Ring,
    lane: usize,
}

struct Inner {
    ring: IoUring,
    lanes: Vec<Option<Lane>>,
    /// Packets whose writes are under way, and the places that are free.
    outgoing: Vec<Outgoing>,
    free: Vec<u16>,
    /// Frames that leave in pieces, those of them that are free, and the one that is being written.
    frames: Vec<InPieces>,
    free_frames: Vec<u16>,
    frame: Option<u16>,
    /// A descriptor that is watched beside the devices, and whether it is being watched.
    poller: Option<RawFd>,
    watching: bool,
    /// It has something.
    polled: bool,
}

/// A packet whose write is under way, its lane, and the frame that it is a piece of.
struct Outgoing {
    packet: Packet,
    to: usize,
    frame: Option<u16>,
}

/// A frame whose pieces are written each by itself; that it failed is told once.
#[derive(Default)]
struct InPieces {
    under_way: u16,
    failed: bool,
}

/// A device on the ring. `HEADER` bytes of virtio-net header are in front of each frame.
struct Lane {
    device: File,
    /// Bytes of the link header.
    link: usize,
    takes: vnet::Takes,
    /// It is to be read, and not only written to.
    reads: bool,
    lent: Lent,
    /// Buffers by the number under which they are lent, and those that are not lent at present.
    slots: Vec<Packet>,
    spare: Vec<u16>,
    /// Buffers in the kernel's hands.
    out: usize,
    /// Bytes of a frame, of late.
    usual: usize,
    /// Frames that have come: the buffer's number, and how many bytes.
    arrived: VecDeque<(u16, usize)>,
    /// Whether the read goes on.
    armed: bool,
    /// Frames had to wait for buffers.
    short: bool,
    /// Reading failed: it is not tried again before a wait has been in vain.
    resting: bool,
    /// An error of reading that is still to be told.
    trouble: Option<io::Error>,
    /// Frames whose writes failed, which is still to be told.
    failed: Failed,
    piece: Packet,
}

impl std::fmt::Debug for Inner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Inner").field("poller", &self.poller).finish_non_exhaustive()
    }
}

impl Ring {
    /// A ring without devices.
    ///
    /// # Errors
    /// Why the kernel gives none: it knows of no rings, forbids them, or cannot read on.
    pub fn new() -> io::Result<Self> {
        let ring = IoUring::builder()
            .setup_single_issuer()
            .setup_defer_taskrun()
            .setup_coop_taskrun()
            .setup_taskrun_flag()
            .setup_cqsize(COMPLETIONS)
            .build(u32::from(WRITES))?;
        let mut probe = io_uring::Probe::new();
        ring.submitter().register_probe(&mut probe)?;
        if !probe.is_supported(opcode::ReadMulti::CODE) || !ring.params().is_feature_ext_arg() {
            return Err(io::ErrorKind::Unsupported.into());
        }
        Ok(Self(Rc::new(RefCell::new(Inner {
            ring,
            lanes: Vec::new(),
            outgoing: (0..WRITES)
                .map(|_| Outgoing { packet: Packet::with_capacity(0), to: 0, frame: None })
                .collect(),
            free: (0..WRITES).rev().collect(),
            // Each has a write under way, or is being written.
            frames: (0..=WRITES).map(|_| InPieces::default()).collect(),
            free_frames: (0..=WRITES).collect(),
            frame: None,
            poller: None,
            watching: false,
            polled: false,
        }))))
    }

    /// Drives `device`, which puts a virtio-net header in front of each frame and takes what `takes`
    /// says. Frames have a link header of `link` bytes. Unless it `reads`, it is only written to.
    ///
    /// # Errors
    /// The device back, and why it cannot be driven so.
    pub fn attach(
        &self,
        device: File,
        link: usize,
        takes: vnet::Takes,
        reads: bool,
    ) -> Result<Uring, (File, io::Error)> {
        let mut inner = self.0.borrow_mut();
        let at = inner.lanes.iter().position(Option::is_none).unwrap_or(inner.lanes.len());
        if at == inner.lanes.len() {
            inner.lanes.push(None);
        }
        inner.lanes[at] = Some(Lane::new(device, link, takes, reads));
        match inner.start(at) {
            Ok(()) => Ok(Uring { ring: self.clone(), lane: at }),
            Err(e) => Err((inner.detach(at).expect("it was just put there").device, e)),
        }
    }

    /// Watches a poller's descriptor as well; it must stay open as long as the ring.
    pub fn watch(&self, poller: RawFd) {
        self.0.borrow_mut().poller = Some(poller);
    }

    /// Hands over what was collected and waits for `timeout` at most, or for ever, until a frame comes or
    /// the poller has something; true if the latter.
    ///
    /// # Errors
    /// The ring cannot be used any more.
    pub fn wait(&self, timeout: Option<Duration>) -> io::Result<bool> {
        let mut inner = self.0.borrow_mut();
        inner.rearm()?;
        let want = match timeout {
            Some(Duration::ZERO) => 0,
            // Writes complete as they are handed over: waiting for one completion more than there are
            // writes spares a call that would only take those in.
            _ => usize::from(WRITES) - inner.free.len() + 1,
        };
        inner.enter(want, timeout)?;
        Ok(std::mem::take(&mut inner.polled))
    }

    /// Waits until all writes are done, of which some may have failed.
    ///
    /// # Errors
    /// The ring cannot be used any more.
    pub fn finish(&self) -> io::Result<()> {
        self.0.borrow_mut().finish()
    }
}

impl Inner {
    fn finish(&mut self) -> io::Result<()> {
        while self.free.len() < usize::from(WRITES) {
            self.enter(1, None)?;
        }
        Ok(())
    }

    fn lane(&mut self, at: usize) -> io::Result<&mut Lane> {
        self.lanes[at].as_mut().ok_or_else(|| io::ErrorKind::NotConnected.into())
    }

    /// Lends buffers to a new lane and arms its read, and sees whether that can be done.
    fn start(&mut self, at: usize) -> io::Result<()> {
        let lane = self.lane(at)?;
        if !lane.reads {
            return Ok(());
        }
        let (addr, group) = (lane.lent.addr(), group_of(at));
        lane.grow(SLOTS_FIRST);
        // SAFETY: the memory is a whole page-aligned ring of that many entries, and is given up by
        // `detach` only, or when the ring of requests is gone: it is the first field.
        unsafe { self.ring.submitter().register_buf_ring_with_flags(addr, SLOTS, group, 0) }?;
        self.arm(at)?;
        self.enter(0, Some(Duration::ZERO))?;
        self.lane(at)?.trouble.take().map_or(Ok(()), Err)
    }

    /// Takes a lane off the ring; nothing of it is in the kernel's hands afterwards.
    fn detach(&mut self, at: usize) -> Option<Lane> {
        // The device and the buffers are given back only when the completion of the read, and those of
        // all writes, have been taken in. Only what was handed over can be cancelled.
        let mut alive = self.enter(0, Some(Duration::ZERO)).is_ok();
        while alive && (self.lane(at).ok()?.armed || self.free.len() < usize::from(WRITES)) {
            let read = CancelBuilder::user_data(READ | at as u64);
            let _ = self.ring.submitter().register_sync_cancel(None, read);
            alive = self.enter(1, None).is_ok();
        }
        let _ = self.ring.submitter().unregister_buf_ring(group_of(at));
        self.lanes[at].take()
    }

    /// Asks for the read that goes on.
    fn arm(&mut self, at: usize) -> io::Result<()> {
        let lane = self.lane(at)?;
        let read = opcode::ReadMulti::new(Fd(lane.device.as_raw_fd()), 0, group_of(at));
        lane.armed = true;
        // SAFETY: the read writes to lent buffers only, which stay where they are until it is over.
        unsafe { self.push(&read.build().user_data(READ | at as u64)) }
    }

    /// Asks again for what has ended: reads that ran out of buffers, and the watch of the poller.
    fn rearm(&mut self) -> io::Result<()> {
        for at in 0..self.lanes.len() {
            let Some(lane) = &mut self.lanes[at] else { continue };
            if lane.short {
                lane.short = false;
                lane.grow(lane.slots.len());
            }
            if lane.reads && !lane.armed && !lane.resting && lane.out > 0 {
                self.arm(at)?;
            }
        }
        let Some(poller) = self.poller.filter(|_| !self.watching) else { return Ok(()) };
        self.watching = true;
        let poll = opcode::PollAdd::new(Fd(poller), READABLE).multi(true);
        // SAFETY: the entry points to nothing.
        unsafe { self.push(&poll.build().user_data(POLLER)) }
    }

    /// Puts an entry into the submission queue, which is handed over first if it is full.
    ///
    /// # Safety
    /// What the entry points to must stay valid until its completion has been seen.
    unsafe fn push(&mut self, entry: &squeue::Entry) -> io::Result<()> {
        // SAFETY: the caller's promise.
        if unsafe { self.ring.submission().push(entry) }.is_ok() {
            return Ok(());
        }
        self.enter(0, Some(Duration::ZERO))?;
        // SAFETY: the caller's promise.
        unsafe { self.ring.submission().push(entry) }.map_err(|_| io::ErrorKind::WouldBlock.into())
    }

    /// Hands over what was collected, waits for `want` completions and takes in what is done.
    fn enter(&mut self, want: usize, timeout: Option<Duration>) -> io::Result<()> {
        let entered = match timeout.filter(|_| want > 0) {
            None => self.ring.submitter().submit_and_wait(want),
            Some(timeout) => {
                let timeout = Timespec::from(timeout);
                let args = SubmitArgs::new().timespec(&timeout);
                self.ring.submitter().submit_with_args(want, &args)
            }
        };
        match entered {
            Ok(_) => {}
            Err(e) if is_passing(&e) => {}
            Err(e) => return Err(e),
        }
        self.take_in();
        Ok(())
    }

    fn take_in(&mut self) {
        let mut idle = true;
        for done in self.ring.completion() {
            idle = false;
            let (about, result, flags) = (done.user_data(), done.result(), done.flags());
            if about == POLLER {
                self.polled = true;
                self.watching = cqueue::more(flags);
            } else if about & READ != 0 {
                let lane = usize::try_from(about ^ READ).unwrap_or(usize::MAX);
                if let Some(Some(lane)) = self.lanes.get_mut(lane) {
                    lane.read(result, flags);
                }
            } else {
                let place = u16::try_from(about).expect("places are below 2^16");
                self.free.push(place);
                let Outgoing { packet, to, frame } = &self.outgoing[usize::from(place)];
                let mut tells = result < 0;
                if let Some(at) = *frame {
                    let frame = &mut self.frames[usize::from(at)];
                    tells &= !frame.failed;
                    frame.failed |= result < 0;
                    frame.under_way -= 1;
                    if frame.under_way == 0 {
                        self.free_frames.push(at);
                    }
                }
                if let Some(Some(lane)) = self.lanes.get_mut(*to).filter(|_| tells) {
                    lane.failed.count(packet.own);
                }
            }
        }
        if idle {
            self.lanes.iter_mut().flatten().for_each(|lane| lane.resting = false);
        }
    }

    fn recv(&mut self, at: usize, link: LinkId, packet: &mut Packet) -> io::Result<bool> {
        let lane = self.lane(at)?;
        let Some((slot, len)) = lane.arrived.pop_front() else {
            return lane.trouble.take().map_or(Ok(false), Err);
        };
        std::mem::swap(packet, &mut lane.slots[usize::from(slot)]);
        lane.spare.push(slot);
        lane.lend();
        vnet::received(packet, link, len, lane.link);
        Ok(true)
    }

    fn send(&mut self, at: usize, packet: &mut Packet) -> io::Result<()> {
        let lane = self.lane(at)?;
        if vnet::can_leave(packet, lane.link, lane.takes) {
            return self.write(at, packet);
        }
        let link = lane.link;
        let mut piece = std::mem::replace(&mut lane.piece, Packet::with_capacity(0));
        let frame = self.free_frames.pop().ok_or(io::ErrorKind::WouldBlock)?;
        // It counts as one of its pieces, so that it lasts until all are there.
        self.frames[usize::from(frame)] = InPieces { under_way: 1, failed: false };
        self.frame = Some(frame);
        let sent =
            super::queue::send_pieces(packet, link, &mut piece, |piece| self.write(at, piece));
        self.frame = None;
        let pieces = &mut self.frames[usize::from(frame)];
        pieces.under_way -= 1;
        let noted = pieces.failed;
        pieces.failed |= sent.is_err();
        if pieces.under_way == 0 {
            self.free_frames.push(frame);
        }
        self.lane(at)?.piece = piece;
        // What a completion has noted will be told already.
        if noted {
            return Ok(());
        }
        sent
    }

    /// Collects the write of a finished frame. The packet is exchanged for one that is free, or copied.
    fn write(&mut self, at: usize, packet: &mut Packet) -> io::Result<()> {
        if !vnet::push_header(packet) {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        if self.free.is_empty() {
            self.enter(0, Some(Duration::ZERO))?;
        }
        let device = Fd(self.lane(at)?.device.as_raw_fd());
        let place = self.free.pop().ok_or(io::ErrorKind::WouldBlock)?;
        let Outgoing { packet: waiting, to, frame } = &mut self.outgoing[usize::from(place)];
        *to = at;
        *frame = self.frame;
        if packet.room(0).len() < FRAME_MAX {
            // A frame of our own has a buffer of its own size, which is no use to the next reader.
            waiting.frame_room(0);
            waiting.received(packet.link, packet.len());
            waiting.own = packet.own;
            waiting.bytes_mut().copy_from_slice(packet.bytes());
        } else {
            std::mem::swap(packet, waiting);
        }
        let bytes = waiting.bytes();
        let len = u32::try_from(bytes.len()).expect("a frame is below 128 KiB");
        let write = opcode::Write::new(device, bytes.as_ptr(), len);
        // SAFETY: the bytes are those of a packet in `outgoing`, which is not touched until its place
        // is free again, that is, until the completion has been seen.
        let pushed = unsafe { self.push(&write.build().user_data(u64::from(place))) };
        match (&pushed, self.frame) {
            (Err(_), _) => self.free.push(place),
            (Ok(()), Some(frame)) => self.frames[usize::from(frame)].under_way += 1,
            (Ok(()), None) => {}
        }
        pushed
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        // Queues keep the ring alive and took themselves off it. What was written may still be in the
        // kernel's hands; if even this fails, the ring's end comes before that of the packets, since it
        // is the first field.
        let _ = self.finish();
        let _ = self.ring.submitter().register_sync_cancel(None, CancelBuilder::any());
    }
}

impl Lane {
    fn new(device: File, link: usize, takes: vnet::Takes, reads: bool) -> Self {
        Self {
            device,
            link,
            takes,
            reads,
            lent: Lent::new(),
            slots: Vec::new(),
            spare: Vec::new(),
            out: 0,
            usual: 0,
            arrived: VecDeque::new(),
            armed: false,
            short: false,
            resting: false,
            trouble: None,
            failed: Failed::default(),
            piece: Packet::with_capacity(0),
        }
    }

    /// Has `more` buffers to lend, as far as there may be so many, and lends what is of use.
    fn grow(&mut self, more: usize) {
        let len = self.slots.len();
        for slot in len..(len + more).min(usize::from(SLOTS)) {
            self.slots.push(Packet::with_capacity(0));
            self.spare.push(u16::try_from(slot).expect("slots are below 2^16"));
        }
        self.lend();
    }

    /// Lends buffers to the kernel, which may write to each until it says that it has.
    fn lend(&mut self) {
        let useful = (LENT_BYTES / self.usual.max(1)).max(SLOTS_LEAST);
        while self.out < useful {
            let Some(slot) = self.spare.pop() else { return };
            let room = self.slots[usize::from(slot)].frame_room(vnet::HEADER);
            self.lent.add(slot, room);
            self.out += 1;
        }
    }

    /// Notes a completion of the read.
    fn read(&mut self, result: i32, flags: u32) {
        self.armed &= cqueue::more(flags);
        match (usize::try_from(result), cqueue::buffer_select(flags)) {
            (Ok(len), Some(slot)) => {
                self.out -= 1;
                self.usual = (7 * self.usual + len) / 8;
                self.arrived.push_back((slot, len));
                self.resting = false;
            }
            (Ok(_), None) => {}
            (Err(_), _) if result == -libc::ENOBUFS => self.short = true,
            (Err(_), _) => {
                self.trouble = Some(io::Error::from_raw_os_error(-result));
                self.resting = true;
                // The device is gone for good.
                self.reads &= result != -libc::EBADFD;
            }
        }
    }
}

/// The group of lent buffers of a lane.
fn group_of(lane: usize) -> u16 {
    u16::try_from(lane).expect("ports are numbered by 16 bits")
}

/// Whether an error of entering means no more than that it is to be tried again, or that time is up.
fn is_passing(error: &io::Error) -> bool {
    let passing = [libc::EBUSY, libc::EAGAIN, libc::EINTR, libc::ETIME];
    error.raw_os_error().is_some_and(|code| passing.contains(&code))
}

impl Queue for Uring {
    fn recv(&mut self, link: LinkId, packet: &mut Packet) -> io::Result<bool> {
        self.ring.0.borrow_mut().recv(self.lane, link, packet)
    }

    fn send(&mut self, packet: &mut Packet) -> io::Result<()> {
        self.ring.0.borrow_mut().send(self.lane, packet)
    }

    fn failed(&mut self) -> Failed {
        let mut inner = self.ring.0.borrow_mut();
        inner.lane(self.lane).map(|lane| std::mem::take(&mut lane.failed)).unwrap_or_default()
    }

    fn is_waiting(&self) -> bool {
        let inner = self.ring.0.borrow();
        let lane = inner.lanes.get(self.lane).and_then(Option::as_ref);
        lane.is_some_and(|lane| !lane.arrived.is_empty() || lane.trouble.is_some())
    }
}

impl Drop for Uring {
    fn drop(&mut self) {
        self.ring.0.borrow_mut().detach(self.lane);
    }
}

/// The ring of lent buffers: memory that the kernel reads while we append.
struct Lent {
    entries: NonNull<BufRingEntry>,
    tail: u16,
}

impl Lent {
    const LAYOUT: Layout =
        match Layout::from_size_align(SLOTS as usize * size_of::<BufRingEntry>(), 4096) {
            Ok(layout) => layout,
            Err(_) => panic!("the size is a multiple of the alignment"),
        };

    fn new() -> Self {
        // SAFETY: the layout has a size, and zeros are valid entries.
        let memory = unsafe { alloc_zeroed(Self::LAYOUT) };
        let entries = NonNull::new(memory.cast()).unwrap_or_else(|| {
            std::alloc::handle_alloc_error(Self::LAYOUT);
        });
        Self { entries, tail: 0 }
    }

    fn addr(&self) -> u64 {
        self.entries.as_ptr() as u64
    }

    /// Appends a buffer. Its memory must stay where it is, and untouched, until a completion names it.
    fn add(&mut self, slot: u16, room: &mut [u8]) {
        let index = usize::from(self.tail & (SLOTS - 1));
        // SAFETY: the index is below the number of entries; the kernel reads an entry only after the
        // tail has passed it, which it does below.
        let entry = unsafe { self.entries.add(index).as_mut() };
        entry.set_addr(room.as_mut_ptr() as u64);
        entry.set_len(u32::try_from(room.len()).expect("a frame is below 128 KiB"));
        entry.set_bid(slot);
        self.tail = self.tail.wrapping_add(1);
        // SAFETY: the tail lies in the first entry, which is ours as long as `self` is; the kernel
        // and we agree that it is written atomically.
        let tail = unsafe { &*BufRingEntry::tail(self.entries.as_ptr()).cast::<AtomicU16>() };
        tail.store(self.tail, Ordering::Release);
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        // SAFETY: allocated in `new` with the same layout, and nobody uses it any more.
        unsafe { dealloc(self.entries.as_ptr().cast(), Self::LAYOUT) }
    }
}
