//! What the operator said.
//!
//! Text becomes a [`Line`](grammar::Line) (spelling), a `Line` becomes a [`Command`] (meaning), and
//! commands become a [`Config`] (the ground state) by [`Config::apply`]. All three refuse with a
//! reason; none of them knows what runs.

mod address;
pub mod aside;
pub mod command;
pub mod complaint;
mod diff;
pub mod grammar;
mod ground;
mod host;
mod index;
pub mod ipvs;
pub mod knob;
pub mod marks;
mod modules;
mod nettools;
pub mod options;
mod print;
pub mod rules;
mod shell;
mod sync;
mod table;
pub mod tool;
mod words;

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;

use crate::packet::{Endpoint, Family, Mac};
use crate::sched::Scheduler;
use crate::world::Knobs;

pub use address::Names;
pub use sync::{SyncDaemon, SyncRole};

/// What a virtual service is known by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ServiceKey {
    /// By protocol, address and port (`-t`, `-u`, `--sctp-service`); port 0 is every port.
    Address {
        /// TCP, UDP or SCTP.
        proto: u8,
        /// The virtual address and port.
        virt: Endpoint,
    },
    /// By firewall mark (`-f`, `-f … -6`).
    Mark {
        /// IPv4 unless `-6`.
        family: Family,
        /// 1 or more.
        mark: u32,
    },
}

impl ServiceKey {
    /// The family of the service's clients.
    pub const fn family(&self) -> Family {
        match self {
            Self::Address { virt, .. } => Family::of(virt.addr),
            Self::Mark { family, .. } => *family,
        }
    }
}

/// A virtual service as the operator wrote it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServiceSpec {
    /// Which service.
    pub key: ServiceKey,
    /// `-s`; `None` is the scheduler `none`, which never schedules.
    pub scheduler: Option<Scheduler>,
    /// `-b`: bits 0, 1, 2 for `flag-1`, `flag-2`, `flag-3`.
    pub sched_flags: u8,
    /// `-p`: seconds; `None` is not persistent.
    pub persistent_s: Option<u32>,
    /// `-M`: for IPv4 the mask (any bits), for IPv6 the prefix length; full by default.
    pub netmask: u32,
    /// `-o`.
    pub one_packet: bool,
    /// `--pe`; only `sip` exists.
    pub sip: bool,
}

impl ServiceSpec {
    /// The mask that `-M` has when it is not given.
    pub const fn full_mask(family: Family) -> u32 {
        match family {
            Family::V4 => u32::MAX,
            Family::V6 => 128,
        }
    }
}

/// How packets reach a real server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub enum Method {
    /// `-m`: network address translation.
    Masq,
    /// `-i`: in a tunnel.
    Tunnel,
    /// `-g`: direct routing, the default.
    #[default]
    Route,
}

/// What the tunnel of a `-i` server looks like (`--tun-type` and its options).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum TunnelType {
    /// IP in IP.
    #[default]
    Ipip,
    /// Generic UDP encapsulation to this port.
    Gue {
        /// `--tun-port`.
        port: u16,
        /// `--tun-csum` and its kin.
        checksum: TunnelChecksum,
    },
    /// Generic routing encapsulation.
    Gre {
        /// Remote checksum offload does not exist for GRE.
        checksum: TunnelChecksum,
    },
}

/// `--tun-nocsum`, `--tun-csum`, `--tun-remcsum`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum TunnelChecksum {
    /// No checksum in the outer header.
    #[default]
    None,
    /// A checksum over the tunnel's payload.
    Full,
    /// Remote checksum offload (GUE only).
    Remote,
}

/// A real server of a service as the operator wrote it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DestSpec {
    /// `-r`, with the port filled in as ipvsadm does.
    pub dest: Endpoint,
    /// `-g`, `-i` or `-m`.
    pub method: Method,
    /// `-w`, 0..=2147483647; 0 quiesces.
    pub weight: u32,
    /// `-x`, 0 for no limit.
    pub upper: u32,
    /// `-y`.
    pub lower: u32,
    /// `--tun-type` and its options; means something with [`Method::Tunnel`] only.
    pub tunnel: TunnelType,
}

/// What kind of device a port is.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum PortKind {
    /// Ethernet frames; we have a MAC address and answer ARP and neighbour discovery.
    Tap,
    /// Bare IP packets; the kernel routes to us.
    Tun,
    /// Ethernet frames of a device that sits on a real port itself, without a bridge.
    Macvtap {
        /// The real port's name (`link`).
        lower: String,
        /// How it shares the real port.
        mode: MacvtapMode,
    },
}

impl PortKind {
    /// Whether frames have an Ethernet header, and we a MAC address.
    pub const fn has_ethernet(&self) -> bool {
        !matches!(self, Self::Tun)
    }
}

/// How macvtap devices share a real port (`mode`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum MacvtapMode {
    /// All to ourselves, whatever the destination's MAC: the fastest.
    Passthru,
    /// Devices on the same port reach each other directly.
    Bridge,
    /// Devices on the same port do not reach each other.
    Private,
    /// Devices on the same port reach each other by way of the switch; what iproute2 takes if
    /// nothing is said.
    #[default]
    Vepa,
}

impl MacvtapMode {
    /// Every mode with its name.
    pub const ALL: [(Self, &'static str); 4] = [
        (Self::Passthru, "passthru"),
        (Self::Bridge, "bridge"),
        (Self::Private, "private"),
        (Self::Vepa, "vepa"),
    ];

    /// The name that iproute2 gives it.
    pub fn name(self) -> &'static str {
        Self::ALL.into_iter().find(|(mode, _)| *mode == self).map_or("", |(_, name)| name)
    }
}

/// Changes to a port (`ip link set dev NAME …`); `None` leaves as it is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LinkSettings {
    /// `address`: our own MAC on that wire.
    pub mac: Option<Mac>,
    /// `mtu`: bytes of an IP packet, 68..=65521; both ends get it.
    pub mtu: Option<u16>,
    /// `master`: the bridge that the kernel's end joins.
    pub master: Option<String>,
}

/// A network: an address and how many of its leading bits count.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Prefix {
    /// Any address of the network; host bits as the operator wrote them.
    pub addr: IpAddr,
    /// 0..=32 or 0..=128.
    pub len: u8,
}

impl Prefix {
    /// The default route's network of a family.
    pub const fn any(family: Family) -> Self {
        match family {
            Family::V4 => Self { addr: IpAddr::V4(std::net::Ipv4Addr::UNSPECIFIED), len: 0 },
            Family::V6 => Self { addr: IpAddr::V6(std::net::Ipv6Addr::UNSPECIFIED), len: 0 },
        }
    }

    /// The network with its host bits cleared.
    #[must_use]
    pub fn network(self) -> Self {
        let addr = match self.addr {
            IpAddr::V4(a) => {
                let mask = u32::MAX.checked_shl(32 - u32::from(self.len)).unwrap_or(0);
                IpAddr::V4((u32::from(a) & mask).into())
            }
            IpAddr::V6(a) => {
                let mask = u128::MAX.checked_shl(128 - u32::from(self.len)).unwrap_or(0);
                IpAddr::V6((u128::from(a) & mask).into())
            }
        };
        Self { addr, len: self.len }
    }

    /// Whether `addr` lies in the network.
    pub fn contains(self, addr: IpAddr) -> bool {
        Family::of(self.addr) == Family::of(addr)
            && Self { addr, len: self.len }.network() == self.network()
    }
}

impl fmt::Display for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.addr, self.len)
    }
}

/// Where packets for a network go.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum RouteTarget {
    /// `via GATEWAY [dev NAME]`.
    Via {
        /// The gateway; on the network of some port.
        gateway: IpAddr,
        /// The port, when it is not the one whose network holds the gateway.
        dev: Option<String>,
    },
    /// `dev NAME`: every address of the network is a neighbour there.
    Dev(String),
    /// `local … dev lo`: the whole network is ours.
    Local,
    /// Ours for packets that a rule sends to this table (`ip route add local … table N`).
    LocalIn(u32),
    /// Packets with a mark ask a table first (`ip rule add fwmark M/MASK table N`); the prefix is the
    /// whole family.
    Rule {
        /// The mark, as far as the mask goes.
        mark: u32,
        /// Which bits of it count.
        mask: u32,
        /// The table's number.
        table: u32,
    },
}

impl RouteTarget {
    /// Whether it is only about marked packets.
    pub const fn is_by_mark(&self) -> bool {
        matches!(self, Self::LocalIn(_) | Self::Rule { .. })
    }
}

/// One thing that the operator wants.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// `ip tuntap add dev NAME mode tap|tun`, `ip link add link LOWER name NAME type macvtap`.
    AddPort {
        /// At most 15 bytes.
        name: String,
        /// TAP, TUN or macvtap.
        kind: PortKind,
    },
    /// `ip link set dev NAME …`.
    SetLink {
        /// A port of ours.
        name: String,
        /// What changes.
        settings: LinkSettings,
    },
    /// `ip addr add ADDR/LEN dev NAME`.
    AddAddress {
        /// Our address and its network.
        prefix: Prefix,
        /// A port of ours.
        dev: String,
        /// `ip addr replace`: the port may have it already.
        replace: bool,
    },
    /// `ifconfig NAME ADDR`: the port's one IPv4 address.
    SetAddress {
        /// Our address and its network.
        prefix: Prefix,
        /// A port of ours, which has no other IPv4 address.
        dev: String,
    },
    /// `ip addr del ADDR[/LEN] dev NAME`.
    RemoveAddress {
        /// Our address.
        addr: IpAddr,
        /// Bits of its network, if they were said.
        len: Option<u8>,
        /// The port that has it.
        dev: String,
    },
    /// `ip route del …`, `route del …`.
    RemoveRoute {
        /// Which destinations.
        prefix: Prefix,
        /// Whether it is a network of our own.
        local: bool,
        /// Its gateway, if it was said.
        gateway: Option<IpAddr>,
        /// Its port, if it was said.
        dev: Option<String>,
    },
    /// `ip route add …`, `ip route replace …`.
    AddRoute {
        /// Which destinations.
        prefix: Prefix,
        /// Where they go.
        target: RouteTarget,
        /// `replace`: they may have a route already.
        replace: bool,
    },
    /// `ip neigh add ADDR lladdr MAC dev NAME`, `ip neigh replace …`.
    AddNeighbour {
        /// The neighbour.
        addr: IpAddr,
        /// Its link address.
        mac: Mac,
        /// A port of ours.
        dev: String,
        /// `replace`: the neighbour may be known already.
        replace: bool,
    },
    /// `sysctl -w k=v` or `k = v`; the index is into [`knob::KNOBS`].
    SetKnob {
        /// Which.
        knob: knob::Knob,
        /// Its new value, within its range.
        value: i64,
    },
    /// `iptables -t mangle -A PREROUTING …`.
    AddMarkRule {
        /// The rule.
        rule: marks::MarkRule,
        /// `-I`: its number among the rules of its family, from 1; `None` comes last.
        place: Option<usize>,
    },
    /// `iptables -t mangle -F`.
    ClearMarkRules(Family),
    /// `-A`.
    AddService(ServiceSpec),
    /// `-E`.
    EditService(ServiceSpec),
    /// `-D`.
    DeleteService(ServiceKey),
    /// `-C`.
    Clear,
    /// `-a`.
    AddDest(ServiceKey, DestSpec),
    /// `-e`.
    EditDest(ServiceKey, DestSpec),
    /// `-d`.
    DeleteDest(ServiceKey, Endpoint),
    /// `--set TCP TCPFIN UDP`: seconds, 0 keeps the present value.
    SetTimeouts {
        /// ESTABLISHED.
        tcp_s: u32,
        /// FIN_WAIT.
        tcp_fin_s: u32,
        /// UDP.
        udp_s: u32,
    },
    /// `modprobe ip_vs_ftp`: the virtual ports at which FTP's control connections are looked into;
    /// none is `modprobe -r`.
    SetFtpPorts(Vec<u16>),
    /// `--start-daemon`.
    StartDaemon(SyncDaemon),
    /// `--stop-daemon`.
    StopDaemon(SyncRole),
}

/// Why a command cannot be done: the kernel's meaning in the words of ipvsadm, and those of our own
/// host commands in the same manner.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refusal {
    /// `-A` of a service that exists.
    ServiceExists,
    /// `-E`, `-D` of a service that does not.
    NoSuchService,
    /// `-a`, `-e`, `-d` for a service that does not exist.
    ServiceNotDefined,
    /// `-a` of a destination that exists.
    DestExists,
    /// `-e`, `-d` of a destination that does not.
    NoSuchDest,
    /// `-y` above `-x`.
    OutOfRange,
    /// An address that cannot be a real server's.
    NotUnicast,
    /// `-E -s mh` of a service with more servers than its table has places.
    TooManyServers,
    /// `-s`, `--pe`: nobody knows the name.
    UnknownScheduler,
    /// `--start-daemon` of one that runs.
    DaemonRuns,
    /// `--stop-daemon` of one that does not.
    NoDaemon,
    /// An interface that is no port of ours.
    NoDevice,
    /// A host command that cannot be done: why, as one sentence.
    Host(String),
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::ServiceExists => "Service already exists",
            Self::NoSuchService => "No such service",
            Self::ServiceNotDefined => "Service not defined",
            Self::DestExists => "Destination already exists",
            Self::NoSuchDest => "No such destination",
            Self::OutOfRange => "Numerical result out of range",
            // The kernel's errno is the same for both.
            Self::NotUnicast | Self::TooManyServers => {
                "Invalid operation.  Possibly wrong module version, address not unicast, ..."
            }
            Self::UnknownScheduler => "Scheduler or persistence engine not found",
            Self::DaemonRuns => "Daemon has already run",
            Self::NoDaemon => "No daemon is running",
            Self::NoDevice => "No such device",
            Self::Host(why) => why,
        })
    }
}

/// A port with everything said about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PortConfig {
    /// The device's name.
    pub name: String,
    /// TAP, TUN or macvtap.
    pub kind: PortKind,
    /// MAC, MTU and bridge, as far as they were given.
    pub settings: LinkSettings,
    /// Our addresses there, in the order given.
    pub addresses: Vec<Prefix>,
}

/// The ground state: everything said, nothing learnt.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Config {
    /// Ports in the order of the rules.
    pub ports: Vec<PortConfig>,
    /// Routes in the order of the rules; one for each prefix, and one more where it is local.
    pub routes: Vec<(Prefix, RouteTarget)>,
    /// Neighbours that are told and never asked.
    pub neighbours: Vec<(IpAddr, Mac, String)>,
    /// Rules that give packets their firewall mark, in their order.
    pub marks: Vec<marks::MarkRule>,
    /// Sysctls.
    pub knobs: Knobs,
    /// Seconds of ESTABLISHED, FIN_WAIT and UDP; 900, 120, 300 until `--set`.
    pub timeouts_s: Timeouts,
    /// Virtual ports of FTP's control connections; none unless `modprobe ip_vs_ftp` was said.
    pub ftp_ports: Vec<u16>,
    /// Services by key, each with its servers in the order added.
    pub services: BTreeMap<ServiceKey, (ServiceSpec, Vec<DestSpec>)>,
    /// Synchronisation daemons.
    pub sync: BTreeMap<SyncRole, SyncDaemon>,
}

/// The three timeouts that `--set` changes, in seconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timeouts {
    /// ESTABLISHED.
    pub tcp: u32,
    /// FIN_WAIT.
    pub tcp_fin: u32,
    /// UDP.
    pub udp: u32,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self { tcp: 900, tcp_fin: 120, udp: 300 }
    }
}
