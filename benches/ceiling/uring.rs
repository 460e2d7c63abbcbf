//! Many frames a call: one ring for both devices, reads that go on into lent buffers, writes handed over
//! together. A frame is written from the buffer that it was read into.

use std::alloc::{alloc_zeroed, Layout};
use std::fs::File;
use std::os::fd::AsRawFd;
use std::sync::atomic::{AtomicU16, Ordering};

use io_uring::types::{BufRingEntry, Fd};
use io_uring::{cqueue, opcode, squeue, IoUring};

use super::{finish, Mapping, Outcome, LINK, TAKES};
use tapvs::packet::{vnet, Packet, FRAME_MAX};

/// Buffers for frames; a power of two.
const BUFFERS: u16 = 256;
/// Buffers for pieces of super-frames.
const PIECES: u16 = 2048;

/// What a completion is about, above the number of a buffer or device.
const READ: u64 = 0;
const WRITE: u64 = 1 << 32;
const PIECE: u64 = 2 << 32;

struct Worker {
    ring: IoUring,
    devices: [File; 2],
    lent: *mut BufRingEntry,
    tail: u16,
    buffers: Vec<Packet>,
    pieces: Vec<Packet>,
    free: Vec<u16>,
}

/// Forwards for ever.
pub(super) fn run(devices: [File; 2], mapping: Mapping) -> Outcome {
    let ring = IoUring::builder()
        .setup_single_issuer()
        .setup_defer_taskrun()
        .setup_coop_taskrun()
        .setup_cqsize(8192)
        .build(2048)?;
    let layout = Layout::from_size_align(usize::from(BUFFERS) * size_of::<BufRingEntry>(), 4096)?;
    // SAFETY: the layout has a size; the memory is never given back.
    let lent: *mut BufRingEntry = unsafe { alloc_zeroed(layout) }.cast();
    // SAFETY: the memory is a whole ring of that many entries and outlives everything.
    unsafe { ring.submitter().register_buf_ring_with_flags(lent as u64, BUFFERS, 0, 0) }?;
    let mut worker = Worker {
        ring,
        devices,
        lent,
        tail: 0,
        buffers: (0..=BUFFERS).map(|_| Packet::with_capacity(FRAME_MAX)).collect(),
        pieces: (0..PIECES).map(|_| Packet::with_capacity(2048)).collect(),
        free: (0..PIECES).collect(),
    };
    (0..BUFFERS).for_each(|buffer| worker.lend(buffer));
    worker.arm(0);
    worker.arm(1);
    let mut done = Vec::new();
    loop {
        worker.ring.submit_and_wait(1)?;
        done.extend(worker.ring.completion());
        for entry in done.drain(..) {
            worker.take(&entry, &mapping);
        }
    }
}

impl Worker {
    fn take(&mut self, entry: &cqueue::Entry, mapping: &Mapping) {
        let about = entry.user_data();
        #[expect(clippy::cast_possible_truncation, reason = "the lower half is a small number")]
        let number = about as u16;
        match about & !0xffff_ffff {
            WRITE => return self.lend(number),
            PIECE => return self.free.push(number),
            _ => {}
        }
        let from = usize::from(number);
        if let (Ok(len @ 1..), Some(buffer)) =
            (usize::try_from(entry.result()), cqueue::buffer_select(entry.flags()))
        {
            self.forward(buffer, from, len, mapping);
        }
        if !cqueue::more(entry.flags()) {
            self.arm(from);
        }
    }

    fn forward(&mut self, buffer: u16, from: usize, len: usize, mapping: &Mapping) {
        // The last one is scratch for cutting.
        let mut buffers = std::mem::take(&mut self.buffers);
        let (frames, scratch) = buffers.split_at_mut(usize::from(BUFFERS));
        let packet = &mut frames[usize::from(buffer)];
        let mut under_way = false;
        if let Some(to) = mapping.forward(packet, from, len) {
            under_way = vnet::can_leave(packet, LINK, TAKES);
            let about = under_way.then_some(WRITE | u64::from(buffer));
            finish(packet, &mut scratch[0], |ready| match about {
                Some(about) => self.write(to, ready, about),
                None => self.write_piece(to, ready),
            });
        }
        self.buffers = buffers;
        if !under_way {
            self.lend(buffer);
        }
    }

    /// Writes a piece from a buffer of its own; without a free one it is lost, as on any wire.
    fn write_piece(&mut self, to: usize, ready: &mut Packet) {
        let Some(number) = self.free.pop() else { return };
        let mut pieces = std::mem::take(&mut self.pieces);
        let piece = &mut pieces[usize::from(number)];
        std::mem::swap(piece, ready);
        self.write(to, piece, PIECE | u64::from(number));
        self.pieces = pieces;
    }

    fn write(&mut self, to: usize, ready: &Packet, about: u64) {
        let (fd, bytes) = (Fd(self.devices[to].as_raw_fd()), ready.bytes());
        let len = u32::try_from(bytes.len()).expect("a frame is below 128 KiB");
        self.push(&opcode::Write::new(fd, bytes.as_ptr(), len).build().user_data(about));
    }

    fn arm(&mut self, from: usize) {
        let read = opcode::ReadMulti::new(Fd(self.devices[from].as_raw_fd()), 0, 0);
        self.push(&read.build().user_data(READ | from as u64));
    }

    fn push(&mut self, entry: &squeue::Entry) {
        // SAFETY: buffers live as long as the worker, which never ends, and are not touched before the
        // completion says that the kernel is done with them.
        while unsafe { self.ring.submission().push(entry) }.is_err() {
            if self.ring.submit().is_err() {
                return;
            }
        }
    }

    /// Gives a buffer to the kernel to be read into.
    fn lend(&mut self, buffer: u16) {
        let room = self.buffers[usize::from(buffer)].room(vnet::HEADER);
        let index = usize::from(self.tail & (BUFFERS - 1));
        // SAFETY: the index is below the number of entries, and the kernel reads an entry only after
        // the tail has passed it.
        let entry = unsafe { &mut *self.lent.add(index) };
        entry.set_addr(room.as_mut_ptr() as u64);
        entry.set_len(u32::try_from(room.len()).expect("a frame is below 128 KiB"));
        entry.set_bid(buffer);
        self.tail = self.tail.wrapping_add(1);
        // SAFETY: the tail lies in the first entry; the kernel and we agree that it is atomic.
        let tail = unsafe { &*BufRingEntry::tail(self.lent).cast::<AtomicU16>() };
        tail.store(self.tail, Ordering::Release);
    }
}
