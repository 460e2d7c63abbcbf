//! Ethernet and ARP.

/// Bytes of an Ethernet header.
pub const HEADER: usize = 14;
