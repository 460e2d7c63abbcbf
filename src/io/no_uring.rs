//! In the place of `uring` on processors for which the ring's crate has no bindings: there never is a
//! ring, and queues are driven one frame a call.
//!
//! Kept: the face of `uring`, so that nobody else needs to know. Left out on purpose: everything behind it.

use std::convert::Infallible;
use std::fs::File;
use std::io;
use std::os::fd::RawFd;
use std::time::Duration;

use super::queue::{Failed, Queue};
use crate::packet::{vnet, LinkId, Packet};

/// The ring that cannot be had.
#[derive(Debug, Clone)]
pub struct Ring(Infallible);

/// A queue on the ring that cannot be had.
#[derive(Debug)]
pub struct Uring(Infallible);

impl Ring {
    /// Fails.
    ///
    /// # Errors
    /// Always: [`Unsupported`](io::ErrorKind::Unsupported).
    pub fn new() -> io::Result<Self> {
        Err(io::ErrorKind::Unsupported.into())
    }

    /// Drives a device.
    ///
    /// # Errors
    /// None, since it cannot be called.
    pub fn attach(
        &self,
        _device: File,
        _link: usize,
        _takes: vnet::Takes,
        _reads: bool,
    ) -> Result<Uring, (File, io::Error)> {
        match self.0 {}
    }

    /// Watches a poller.
    pub fn watch(&self, _poller: RawFd) {
        match self.0 {}
    }

    /// Waits.
    ///
    /// # Errors
    /// None, since it cannot be called.
    pub fn wait(&self, _timeout: Option<Duration>) -> io::Result<bool> {
        match self.0 {}
    }

    /// Waits for all writes.
    ///
    /// # Errors
    /// None, since it cannot be called.
    pub fn finish(&self) -> io::Result<()> {
        match self.0 {}
    }
}

impl Queue for Uring {
    fn recv(&mut self, _link: LinkId, _packet: &mut Packet) -> io::Result<bool> {
        match self.0 {}
    }

    fn send(&mut self, _packet: &mut Packet) -> io::Result<()> {
        match self.0 {}
    }

    fn failed(&mut self) -> Failed {
        match self.0 {}
    }
}
