//! NAT, DR, TUN: bytes in, bytes out.
//!
//! Kept from the kernel: NAT edits addresses, ports and checksums and nothing else; direct routing
//! edits nothing; a tunnel puts a header in front.

use super::related;
use crate::config::{TunnelChecksum, TunnelType};
use crate::conn::{Conn, ConnId, Forward};
use crate::packet::checksum::Delta;
use crate::packet::ip::{self, Which};
use crate::packet::tunnel::{Kind, Outer};
use crate::packet::{l4, tunnel, DropReason, Endpoint, Headers, Packet};

/// What forwarding needs to know of a connection: the small copy that leaves the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Binding {
    /// How its packets travel.
    pub forward: Forward,
    /// The virtual end.
    pub virt: Endpoint,
    /// The server's end; its address is the next one to route to.
    pub dest: Endpoint,
    /// What kind of tunnel, for [`Forward::Tunnel`]: that of the server as it is configured now.
    pub tunnel: Kind,
    /// Where the packet quotes another, if it is an ICMP error about the connection.
    pub quotes_at: Option<u16>,
    /// The connection, if a helper listens to it.
    pub helped: Option<ConnId>,
}

impl Binding {
    pub(super) const fn of(conn: &Conn, tunnel: TunnelType) -> Self {
        let (forward, virt) = (conn.forward, conn.virt);
        let dest = if matches!(forward, Forward::Bypass) { virt } else { conn.dest };
        Self { forward, virt, dest, tunnel: kind_of(tunnel), quotes_at: None, helped: None }
    }
}

/// How packets look in a tunnel of that type.
pub(super) const fn kind_of(tunnel: TunnelType) -> Kind {
    const fn is_summed(checksum: TunnelChecksum) -> bool {
        matches!(checksum, TunnelChecksum::Full | TunnelChecksum::Remote)
    }
    match tunnel {
        TunnelType::Ipip => Kind::Ipip,
        TunnelType::Gre { checksum } => Kind::Gre { checksum: is_summed(checksum) },
        TunnelType::Gue { port, checksum } => Kind::Gue { port, checksum: is_summed(checksum) },
    }
}

/// Makes a request what the real server is to get; `headers` are those of the packet, TTL counted
/// down. `outer` is looked at for tunnels only.
///
/// # Errors
/// The reason to drop the packet.
pub fn rewrite(
    packet: &mut Packet,
    headers: &Headers,
    binding: &Binding,
    outer: impl FnOnce() -> Option<Outer>,
) -> Result<(), DropReason> {
    match (binding.forward, binding.quotes_at) {
        (Forward::Route | Forward::Bypass, _) => Ok(()),
        (Forward::Masq, None) => translate_request(packet, headers, binding),
        (Forward::Masq, Some(at)) => related::translate_request(packet, headers, at, binding),
        (Forward::Tunnel, _) => {
            let outer = outer().ok_or(DropReason::NoRoute)?;
            tunnel::encapsulate(packet, headers, &outer)
        }
    }
}

/// Makes a request what a server on this very host is to get: translated, and never in a tunnel.
///
/// # Errors
/// The reason to drop the packet.
pub fn deliver(
    packet: &mut Packet,
    headers: &Headers,
    binding: &Binding,
) -> Result<(), DropReason> {
    match binding.forward {
        Forward::Masq => rewrite(packet, headers, binding, || None),
        Forward::Tunnel | Forward::Route | Forward::Bypass => Ok(()),
    }
}

fn translate_request(
    packet: &mut Packet,
    headers: &Headers,
    binding: &Binding,
) -> Result<(), DropReason> {
    let delta = Delta::default().address(headers.dst, binding.dest.addr);
    let after = Headers { dst: binding.dest.addr, ..*headers };
    let partial = packet.offload.partial;
    let bytes = packet.bytes_mut();
    if l4::has_ports(headers.proto) {
        l4::translate(bytes, &after, 2, binding.dest.port, delta, partial)?;
    }
    ip::set_address(bytes, Which::Destination, binding.dest.addr);
    Ok(())
}

/// Gives a server's answer the virtual end as its source.
pub(super) fn translate_reply(
    packet: &mut Packet,
    headers: &Headers,
    virt: Endpoint,
) -> Result<(), DropReason> {
    let delta = Delta::default().address(headers.src, virt.addr);
    let after = Headers { src: virt.addr, ..*headers };
    let partial = packet.offload.partial;
    let bytes = packet.bytes_mut();
    if l4::has_ports(headers.proto) {
        l4::translate(bytes, &after, 0, virt.port, delta, partial)?;
    }
    ip::set_address(bytes, Which::Source, virt.addr);
    Ok(())
}
