//! The connection table.
//!
//! Kept from the kernel: a connection is known by protocol, client and virtual endpoint, and its
//! replies by the client and the server's (or, unless translated, the virtual) endpoint; both hash
//! by the client's end alone, so one index serves both directions. Persistence templates live in the
//! same table with client port 0; those of calls (`--pe sip`) hash by their Call-ID.

mod call;
pub mod state;
pub mod table;
mod wheel;

pub use state::{Direction, State};
pub use table::Table;

use crate::packet::Endpoint;
use crate::world::Instant;

/// "No entry" in links and indices.
const NONE: u32 = u32::MAX;

/// A connection's place in the table; valid until it is removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ConnId(u32);

/// How the packets of a connection travel; fixed when it is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Forward {
    /// Addresses are translated.
    Masq,
    /// Inside a tunnel.
    Tunnel,
    /// To the server's link address, unchanged.
    Route,
    /// To no server, but where the client sent them.
    Bypass,
}

/// Facts about a connection that are true or not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Flags(u16);

impl Flags {
    /// A helper listens to it.
    pub const HELPED: Self = Self(0x0008);
    /// Nothing was ever seen from the server.
    pub const NO_OUTPUT: Self = Self(0x0080);
    /// Counted as inactive.
    pub const INACTIVE: Self = Self(0x0100);
    /// The client's port is still to be seen (FTP's passive data connections).
    pub const NO_CLIENT_PORT: Self = Self(0x0800);
    /// A persistence template.
    pub const TEMPLATE: Self = Self(0x1000);
    /// Lives for one packet and is in no table.
    pub const ONE_PACKET: Self = Self(0x2000);
    /// A template that is known by a Call-ID as well, and hashed by that.
    pub const CALL: Self = Self(0x4000);

    /// Whether any flag of `other` is set.
    pub const fn has(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }

    /// Sets the flags of `other`.
    pub const fn set(&mut self, other: Self) {
        self.0 |= other.0;
    }

    /// Clears the flags of `other`.
    pub const fn clear(&mut self, other: Self) {
        self.0 &= !other.0;
    }

    /// Both together.
    #[must_use]
    pub const fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

/// A connection, or a persistence template. What a look-up compares lies in the first cache line.
#[derive(Debug, Clone)]
#[repr(C, align(128))]
pub struct Conn {
    /// The client's end; of a template: the client network, port 0.
    pub client: Endpoint,
    /// The virtual end.
    pub virt: Endpoint,
    /// IP protocol; 0 for the template of a firewall-mark service.
    pub proto: u8,
    /// How its packets travel.
    pub forward: Forward,
    /// Where its state machine stands.
    pub state: State,
    /// What is true of it.
    pub flags: Flags,
    chain: u32,
    /// The server's entry, an index that the director understands.
    pub dest_id: u32,
    /// When it ends unless a packet comes.
    pub deadline: Instant,
    /// The server's end.
    pub dest: Endpoint,
    /// Seconds without a packet after which it ends.
    pub timeout_s: u32,
    /// Packets from the client so far.
    pub in_packets: u32,
    /// The template that made it, or a data connection's control connection, if any.
    controller: u32,
    /// How many connections it controls.
    controlled: u32,
    wheel: wheel::Links,
}

const _: () = assert!(size_of::<Conn>() == 128, "two cache lines; 8 million make a gigabyte");
const _: () = assert!(std::mem::offset_of!(Conn, dest) == 64, "the first line is for look-ups");

impl Conn {
    /// A connection that nothing has happened to; `timeout_s` is 3 until its state is known.
    pub const fn new(proto: u8, client: Endpoint, virt: Endpoint, dest: Endpoint) -> Self {
        Self {
            proto,
            forward: Forward::Route,
            state: State::None,
            flags: Flags(0),
            client,
            virt,
            dest,
            dest_id: NONE,
            timeout_s: 3,
            in_packets: 0,
            deadline: Instant::ZERO,
            controller: NONE,
            controlled: 0,
            chain: NONE,
            wheel: wheel::Links::UNLINKED,
        }
    }

    /// Whether it is a template's or a control connection's.
    pub const fn is_controlled(&self) -> bool {
        self.controller != NONE
    }

    /// How many connections it controls.
    pub const fn controls(&self) -> u32 {
        self.controlled
    }

    /// The source endpoint of its replies as they come from the server.
    pub const fn reply_source(&self) -> Endpoint {
        match self.forward {
            Forward::Masq => self.dest,
            Forward::Tunnel | Forward::Route | Forward::Bypass => self.virt,
        }
    }
}
