//! Counters of services, destinations and the whole.
//!
//! Kept from the kernel: a request counts before it is sent on, with its IP length as received,
//! also when it is dropped afterwards for TTL, MTU or a missing route.

/// What has gone through.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Stats {
    /// Connections made by the scheduler.
    pub conns: u64,
    /// Packets from clients.
    pub in_packets: u64,
    /// Packets from servers.
    pub out_packets: u64,
    /// Bytes of those from clients, IP header included.
    pub in_bytes: u64,
    /// Bytes of those from servers.
    pub out_bytes: u64,
}

impl Stats {
    /// Counts a packet of `bytes` from a client.
    pub(super) const fn count_in(&mut self, bytes: u16) {
        self.in_packets = self.in_packets.wrapping_add(1);
        self.in_bytes = self.in_bytes.wrapping_add(bytes as u64);
    }

    /// Counts a packet of `bytes` from a server.
    pub(super) const fn count_out(&mut self, bytes: u16) {
        self.out_packets = self.out_packets.wrapping_add(1);
        self.out_bytes = self.out_bytes.wrapping_add(bytes as u64);
    }
}
