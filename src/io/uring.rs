//! Many frames a system call: reads and writes of a device through an io_uring.
//!
//! One read is armed once and goes on delivering frames into buffers lent to the kernel; writes are
//! collected and handed over together. What mio polls is an event descriptor that the ring rings: with
//! deferred completions the ring's own does not wake a poller. Buffers are those of
//! [`Packet`]s and change hands instead of being copied: a frame is received by exchanging the packet
//! for the one whose buffer it came in.
//!
//! Needs a kernel with multishot reads (6.7); [`Uring::new`] says whether it has them. Left out on
//! purpose: registered files and buffers, and a polling kernel thread, which would take a core.

#![expect(unsafe_code, reason = "the ring shares memory with the kernel")]

use std::alloc::{alloc_zeroed, dealloc, Layout};
use std::collections::VecDeque;
use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU16, Ordering};

use io_uring::types::{BufRingEntry, CancelBuilder, Fd};
use io_uring::{cqueue, opcode, squeue, IoUring};

use super::tap::Queue;
use crate::packet::{vnet, LinkId, Packet, FRAME_MAX};

/// Buffers lent for reading; a power of two.
const SLOTS: u16 = 128;

/// Writes that may be under way.
const WRITES: u16 = 256;

/// The only group of lent buffers of a ring.
const GROUP: u16 = 0;

/// What a completion is about: the read, or this bit and the place of a write.
const READ: u64 = 1 << 32;

/// A device's queue behind a ring. `header` bytes of virtio-net header are in front of each frame.
pub struct Uring {
    ring: IoUring,
    /// Becomes readable whenever there is something to take in; this is what is polled.
    bell: File,
    device: File,
    link: usize,
    takes: vnet::Takes,
    lent: Lent,
    /// Buffers by the number under which they are lent.
    slots: Vec<Packet>,
    /// Frames that have come: the buffer's number, and how many bytes.
    arrived: VecDeque<(u16, usize)>,
    /// Whether the read goes on.
    armed: bool,
    /// An error of reading that is still to be told.
    trouble: Option<io::Error>,
    /// Packets whose writes are under way, and the places that are free.
    outgoing: Vec<Packet>,
    free: Vec<u16>,
    failed: u64,
    piece: Packet,
}

impl std::fmt::Debug for Uring {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Uring").field("device", &self.device).finish_non_exhaustive()
    }
}

impl Uring {
    /// Drives `device`, which puts a virtio-net header in front of each frame and takes what `takes`
    /// says. Frames have a link header of `link` bytes.
    ///
    /// # Errors
    /// The device back, and why the kernel cannot: it has no rings, forbids them, or cannot read on.
    pub fn new(device: File, link: usize, takes: vnet::Takes) -> Result<Self, (File, io::Error)> {
        let (ring, bell, lent) = match prepare() {
            Ok(ready) => ready,
            Err(e) => return Err((device, e)),
        };
        let mut queue = Self {
            ring,
            bell,
            device,
            link,
            takes,
            lent,
            slots: (0..SLOTS).map(|_| Packet::with_capacity(FRAME_MAX)).collect(),
            arrived: VecDeque::with_capacity(usize::from(SLOTS)),
            armed: false,
            trouble: None,
            outgoing: (0..WRITES).map(|_| Packet::with_capacity(0)).collect(),
            free: (0..WRITES).collect(),
            failed: 0,
            piece: Packet::with_capacity(0),
        };
        for slot in 0..SLOTS {
            queue.lend(slot);
        }
        let armed = queue.arm().and_then(|()| queue.enter());
        match armed.and_then(|()| queue.trouble.take().map_or(Ok(()), Err)) {
            Ok(()) => Ok(queue),
            Err(e) => {
                let device = queue.device.try_clone();
                match device {
                    Ok(device) => Err((device, e)),
                    // Without a second descriptor there is nothing to fall back to either.
                    Err(_) => Ok(queue),
                }
            }
        }
    }

    /// Lends the buffer of a slot to the kernel, which may write to it until it says that it has.
    fn lend(&mut self, slot: u16) {
        let room = self.slots[usize::from(slot)].room(vnet::HEADER);
        self.lent.add(slot, room);
    }

    /// Asks for the read that goes on.
    fn arm(&mut self) -> io::Result<()> {
        let read = opcode::ReadMulti::new(Fd(self.device.as_raw_fd()), 0, GROUP);
        // SAFETY: the read writes to lent buffers only, which stay where they are until it is over.
        unsafe { self.push(&read.build().user_data(READ)) }?;
        self.armed = true;
        Ok(())
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
        self.enter()?;
        // SAFETY: the caller's promise.
        unsafe { self.ring.submission().push(entry) }.map_err(|_| io::ErrorKind::WouldBlock.into())
    }

    /// Hands over what was collected and takes in what is done.
    fn enter(&mut self) -> io::Result<()> {
        match self.ring.submit() {
            Ok(_) => {}
            Err(e)
                if matches!(e.raw_os_error(), Some(libc::EBUSY | libc::EAGAIN | libc::EINTR)) => {}
            Err(e) => return Err(e),
        }
        self.take_in();
        Ok(())
    }

    fn take_in(&mut self) {
        let mut over = false;
        for done in self.ring.completion() {
            let (about, result, flags) = (done.user_data(), done.result(), done.flags());
            if about != READ {
                let place = u16::try_from(about).expect("places are below 2^16");
                self.free.push(place);
                self.failed += u64::from(result < 0);
                continue;
            }
            over |= !cqueue::more(flags);
            match (usize::try_from(result), cqueue::buffer_select(flags)) {
                (Ok(len), Some(slot)) => self.arrived.push_back((slot, len)),
                (Ok(_), None) => {}
                (Err(_), _) if result == -libc::ENOBUFS => {}
                (Err(_), _) => self.trouble = Some(io::Error::from_raw_os_error(-result)),
            }
        }
        self.armed &= !over;
    }

    /// Collects the write of a finished frame. The packet is exchanged for one that is free, or copied.
    fn write(&mut self, packet: &mut Packet) -> io::Result<()> {
        if !vnet::push_header(packet) {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        if self.free.is_empty() {
            self.enter()?;
        }
        let place = self.free.pop().ok_or(io::ErrorKind::WouldBlock)?;
        let waiting = &mut self.outgoing[usize::from(place)];
        if waiting.room(0).len() < FRAME_MAX {
            // Its place was never used before.
            *waiting = Packet::with_capacity(FRAME_MAX);
        }
        if packet.room(0).len() < FRAME_MAX {
            // A frame of our own has a buffer of its own size, which is no use to the next reader.
            waiting.received(packet.link, packet.len());
            waiting.bytes_mut().copy_from_slice(packet.bytes());
        } else {
            std::mem::swap(packet, waiting);
        }
        let bytes = waiting.bytes();
        let len = u32::try_from(bytes.len()).expect("a frame is below 128 KiB");
        let write = opcode::Write::new(Fd(self.device.as_raw_fd()), bytes.as_ptr(), len);
        // SAFETY: the bytes are those of a packet in `outgoing`, which is not touched until its place
        // is free again, that is, until the completion has been seen.
        let pushed = unsafe { self.push(&write.build().user_data(u64::from(place))) };
        if pushed.is_err() {
            self.free.push(place);
        }
        pushed
    }
}

impl AsRawFd for Uring {
    fn as_raw_fd(&self) -> RawFd {
        self.bell.as_raw_fd()
    }
}

impl Queue for Uring {
    fn recv(&mut self, link: LinkId, packet: &mut Packet) -> io::Result<bool> {
        if self.arrived.is_empty() {
            if !self.armed {
                self.arm()?;
            }
            self.enter()?;
        }
        let Some((slot, len)) = self.arrived.pop_front() else {
            return self.trouble.take().map_or(Ok(false), Err);
        };
        let filled = &mut self.slots[usize::from(slot)];
        std::mem::swap(packet, filled);
        if filled.room(0).len() < FRAME_MAX {
            *filled = Packet::with_capacity(FRAME_MAX);
        }
        self.lend(slot);
        vnet::received(packet, link, len, self.link);
        Ok(true)
    }

    fn send(&mut self, packet: &mut Packet) -> io::Result<()> {
        if vnet::can_leave(packet, self.link, self.takes) {
            return self.write(packet);
        }
        let mut piece = std::mem::replace(&mut self.piece, Packet::with_capacity(0));
        let link = self.link;
        let outcome = super::tap::send_pieces(packet, link, &mut piece, |piece| self.write(piece));
        self.piece = piece;
        outcome
    }

    fn ahead(&self, place: usize) -> Option<&[u8]> {
        let &(slot, len) = self.arrived.get(place)?;
        Some(self.slots[usize::from(slot)].arrived(len.saturating_sub(vnet::HEADER)))
    }

    fn flush(&mut self) -> u64 {
        let idle = self.ring.submission().is_empty();
        if !idle && self.enter().is_err() {
            self.failed += 1;
        }
        std::mem::take(&mut self.failed)
    }

    fn is_waiting(&self) -> bool {
        !self.arrived.is_empty()
    }
}

impl Drop for Uring {
    fn drop(&mut self) {
        // Nothing may write to the buffers once they are gone. If even this fails, the ring's end
        // cancels the read before anything else of ours is dropped, since it is the first field.
        let _ = self.ring.submitter().register_sync_cancel(None, CancelBuilder::any());
        // The device is given back only when the completion of its read has been taken in.
        while self.armed && self.ring.submit_and_wait(1).is_ok() {
            self.take_in();
        }
    }
}

/// A ring with its ring of lent buffers, or why there is none.
fn prepare() -> io::Result<(IoUring, File, Lent)> {
    let ring = IoUring::builder()
        .setup_single_issuer()
        .setup_defer_taskrun()
        .setup_coop_taskrun()
        .setup_taskrun_flag()
        .setup_cqsize(u32::from(WRITES + SLOTS) * 2)
        .build(u32::from(WRITES))?;
    let mut probe = io_uring::Probe::new();
    ring.submitter().register_probe(&mut probe)?;
    if !probe.is_supported(opcode::ReadMulti::CODE) {
        return Err(io::ErrorKind::Unsupported.into());
    }
    let lent = Lent::new();
    // SAFETY: the memory is a whole page-aligned ring of that many entries, and outlives the ring of
    // requests: fields are dropped in order, and the read is cancelled before.
    unsafe { ring.submitter().register_buf_ring_with_flags(lent.addr(), SLOTS, GROUP, 0) }?;
    let bell = super::sys::event()?;
    ring.submitter().register_eventfd(bell.as_raw_fd())?;
    Ok((ring, bell, lent))
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
