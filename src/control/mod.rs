//! Changing and showing what runs: the language between a tapvs and the tools that ask it.
//!
//! [`wire`] has requests and replies and how they are framed, [`snapshot`] the typed picture of what
//! runs that replies carry, [`show`], [`proc`] and [`json`] the three ways of printing it, [`status`] what
//! stands in the way of packets. None of
//! them opens a socket: `io` has the serving end, `cli` the asking one.

pub mod json;
pub mod proc;
pub mod show;
pub mod snapshot;
pub mod status;
pub mod wire;
