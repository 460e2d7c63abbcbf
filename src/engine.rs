//! Fast and slow side of one worker together: frames in, frames out, no device and no clock.
//!
//! (signatures; the room is being filled)

use crate::config::{Config, Refusal};
use crate::packet::{LinkId, Packet};
use crate::world::Instant;

/// The whole director of one worker.
#[derive(Debug)]
pub struct Engine {}

impl Engine {
    /// Makes a director from a configuration in which every TAP port has a MAC and every port an
    /// MTU (`LinkSettings`). Link `i` is `config.ports[i]`.
    ///
    /// # Errors
    /// What the configuration asks for that cannot be.
    pub fn new(_config: &Config, _seed: u64) -> Result<Self, Refusal> {
        Ok(Self {})
    }

    /// Handles one frame received on `packet.link`; `Some(link)`: send the packet's bytes there.
    pub fn handle(&mut self, _now: Instant, _packet: &mut Packet) -> Option<LinkId> {
        None
    }

    /// The next frame that we send on our own account, on its `link`; call until `None` after
    /// every batch of [`handle`](Self::handle), after [`poll`](Self::poll) and
    /// [`announce`](Self::announce).
    pub fn take(&mut self) -> Option<Packet> {
        None
    }

    /// Tells every network of our addresses (gratuitous ARP, unsolicited neighbour advertisement).
    pub fn announce(&mut self, _now: Instant) {}

    /// Does what is due: neighbour timers, expiry of connections.
    pub fn poll(&mut self, _now: Instant) {}

    /// When [`poll`](Self::poll) is due next.
    pub fn deadline(&self) -> Option<Instant> {
        None
    }

    /// The port did not take a frame that was to be sent.
    pub fn refused(&mut self, _link: LinkId) {}

    /// What `ipvsadm -Ln` prints.
    pub fn listing(&self) -> String {
        String::new()
    }

    /// One line that accounts for every frame: received = forwarded + answered + dropped.
    pub fn frames(&self) -> String {
        String::new()
    }
}
