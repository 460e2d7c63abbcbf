//! tapvs: Linux IPVS in userspace, on TAP and TUN devices.
//!
//! The library knows everything, the binary only opens the door. The rooms below are listed in
//! layer order: a room may name those above it as ARCHITECTURE.md's table allows, never those below.
//! The core (all but [`io`] and [`cli`]) has no clock, no dice, no socket and no log:
//! time is an argument, chance is a seeded [`world::Rng`], frames go in and frames come out.
//! `examples/embed.rs` runs the director that way, without any device.

pub mod world;

pub mod packet;

pub mod conn;
pub mod net;
pub mod sched;

pub mod config;
pub mod director;

pub mod fast;
pub mod slow;

pub mod control;
pub mod engine;

pub mod io;

pub mod cli;
