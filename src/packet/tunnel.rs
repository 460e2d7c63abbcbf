//! Putting a packet into an IP-in-IP tunnel (RFC 2003, RFC 2473).
//!
//! Kept from the kernel: the outer TTL is the inner one after it was counted down; TOS is copied but
//! "congestion experienced" becomes ECT(0) outside; the outer DF is the inner one, and off for an
//! IPv6 packet; the outer identification is 0 with DF.

use std::net::IpAddr;

use super::ip::Fresh;
use super::{proto, DropReason, Family, Headers, Packet};

/// Bytes that IP-in-IP adds in front of a packet when the outer header is of `family`.
pub const fn overhead(family: Family) -> u16 {
    match family {
        Family::V4 => 20,
        Family::V6 => 40,
    }
}

/// The longest inner packet when the path to the server carries `mtu` bytes: never below what each
/// family guarantees (RFC 791: 68, RFC 8200: 1280).
pub fn inner_mtu(mtu: u16, outer: Family) -> u16 {
    let least = match outer {
        Family::V4 => 68,
        Family::V6 => 1280,
    };
    mtu.saturating_sub(overhead(outer)).max(least)
}

/// Puts the outer header in front. `inner` says what the packet's header says now, TTL counted down;
/// `id` is the outer identification, used only without DF.
///
/// # Errors
/// As [`Fresh::push`].
pub fn encapsulate(
    packet: &mut Packet,
    inner: &Headers,
    src: IpAddr,
    dst: IpAddr,
    copy_dont_fragment: bool,
    id: u16,
) -> Result<(), DropReason> {
    const CONGESTION: u8 = 3;
    let tos = if inner.tos & CONGESTION == CONGESTION { inner.tos & !1 } else { inner.tos };
    let dont_fragment = copy_dont_fragment && inner.family == Family::V4 && inner.dont_fragment;
    let protocol = match inner.family {
        Family::V4 => proto::IPIP,
        Family::V6 => proto::IPV6,
    };
    let id = if dont_fragment { 0 } else { id };
    Fresh { src, dst, proto: protocol, ttl: inner.ttl, tos, dont_fragment, id }.push(packet)
}
