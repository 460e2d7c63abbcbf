//! ICMP and ICMPv6.

/// The errors that a host or router of ours sends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Error {
    /// Destination unreachable: no route or no answer (3/1, ICMPv6 1/0 or 1/3).
    HostUnreachable,
    /// Destination unreachable: nobody listens (3/3, ICMPv6 1/4).
    PortUnreachable,
    /// Destination unreachable: unknown protocol (3/2); ICMPv6 parameter problem 4/1.
    ProtocolUnreachable,
    /// Time exceeded in transit (11/0, ICMPv6 3/0).
    TimeExceeded,
    /// Time exceeded in reassembly (11/1, ICMPv6 3/1).
    ReassemblyTimeExceeded,
    /// Fragmentation needed (3/4) or packet too big (2/0), with the MTU in bytes.
    TooBig(u32),
}

/// Whom an error comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// The address that the packet was sent to, since it is ours.
    Destination,
    /// Our own address on the port that the packet came in by.
    Ingress,
}
