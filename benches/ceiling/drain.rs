//! One frame a call: each device is read until it has none, 64 frames at most, and written to at once.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::AsRawFd;

use super::{check, finish, Mapping, Outcome};
use tapvs::packet::{vnet, Packet, FRAME_MAX};

const BUDGET: usize = 64;

/// Forwards for ever.
pub(super) fn run(devices: [File; 2], mapping: Mapping) -> Outcome {
    let (mut packet, mut piece) = (Packet::with_capacity(FRAME_MAX), Packet::with_capacity(2048));
    let mut polled = [0, 1].map(|at: usize| libc::pollfd {
        fd: devices[at].as_raw_fd(),
        events: libc::POLLIN,
        revents: 0,
    });
    loop {
        // SAFETY: two descriptions are there, as is said.
        check(unsafe { libc::poll(polled.as_mut_ptr(), 2, -1) })?;
        for from in 0..2 {
            if polled[from].revents == 0 {
                continue;
            }
            for _ in 0..BUDGET {
                let Ok(len) = (&devices[from]).read(packet.room(vnet::HEADER)) else { break };
                let Some(to) = mapping.forward(&mut packet, from, len) else { continue };
                finish(&mut packet, &mut piece, |ready| {
                    // What the device does not take is lost, as on any wire.
                    let _ = (&devices[to]).write(ready.bytes());
                });
            }
        }
    }
}
