//! The states of a connection, and for how long each is kept.
//!
//! Kept from the kernel: the transition tables of `ip_vs_proto_tcp` for the three ways of seeing a
//! conversation, its timeouts, and which states count as active. UDP has one state.
//!
//! Left out on purpose: the tables of `secure_tcp`, and SCTP.

use std::fmt;

use crate::packet::l4::TcpFlags;
use crate::packet::proto;

/// TCP states in the order of the kernel's numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum TcpState {
    /// Nothing seen yet.
    None,
    /// ESTABLISHED.
    Established,
    /// SYN from the server's side.
    SynSent,
    /// SYN from the client.
    SynRecv,
    /// FIN seen, the other side still speaks.
    FinWait,
    /// Both sides are done.
    TimeWait,
    /// Reset, or out of step.
    Close,
    /// FIN from the client of a NAT connection.
    CloseWait,
    /// Last acknowledgement.
    LastAck,
    /// Expected by a helper.
    Listen,
    /// SYN answered, under `secure_tcp`.
    SynAck,
}

impl TcpState {
    const COUNT: usize = 11;
    const NAMES: [&'static str; Self::COUNT] = [
        "NONE",
        "ESTABLISHED",
        "SYN_SENT",
        "SYN_RECV",
        "FIN_WAIT",
        "TIME_WAIT",
        "CLOSE",
        "CLOSE_WAIT",
        "LAST_ACK",
        "LISTEN",
        "SYNACK",
    ];

    /// Whether the connection counts as active.
    pub const fn is_active(self) -> bool {
        matches!(self, Self::Established | Self::SynSent | Self::SynRecv | Self::SynAck)
    }
}

/// What state a connection is in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// Nothing seen yet; also a persistence template.
    None,
    /// A persistence template one of whose connections has been established.
    Assured,
    /// TCP.
    Tcp(TcpState),
    /// UDP has one state.
    Udp,
}

impl State {
    /// Whether a connection in this state counts as active; everything else counts as inactive.
    pub const fn is_active(self) -> bool {
        match self {
            Self::Tcp(tcp) => tcp.is_active(),
            Self::None | Self::Assured | Self::Udp => false,
        }
    }
}

impl fmt::Display for State {
    /// The name that `ipvsadm -Lc` prints.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::None => "NONE",
            Self::Assured => "ASSURED",
            Self::Tcp(tcp) => TcpState::NAMES[*tcp as usize],
            Self::Udp => "UDP",
        })
    }
}

/// From which side a packet is seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// From the client.
    Input,
    /// From the server, through us.
    Output,
    /// From the client, and nothing was ever seen from the server.
    InputOnly,
}

/// Seconds that a connection is kept in each state after its last packet.
#[derive(Debug, Clone)]
pub struct Timeouts {
    tcp: [u32; TcpState::COUNT],
    udp: u32,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self { tcp: [2, 900, 120, 60, 120, 120, 10, 60, 30, 120, 120], udp: 300 }
    }
}

impl Timeouts {
    /// Sets ESTABLISHED, FIN_WAIT and UDP as `ipvsadm --set` does, in seconds; 0 keeps the present
    /// value. A connection takes its new timeout at its next packet.
    pub fn set(&mut self, tcp_s: u32, tcp_fin_s: u32, udp_s: u32) {
        keep_or_set(&mut self.tcp[TcpState::Established as usize], tcp_s);
        keep_or_set(&mut self.tcp[TcpState::FinWait as usize], tcp_fin_s);
        keep_or_set(&mut self.udp, udp_s);
    }

    /// Seconds for `state`; 3 before any state is known.
    pub const fn of(&self, state: State) -> u32 {
        match state {
            State::Tcp(tcp) => self.tcp[tcp as usize],
            State::Udp => self.udp,
            State::None | State::Assured => 3,
        }
    }
}

const fn keep_or_set(place: &mut u32, new: u32) {
    if new != 0 {
        *place = new;
    }
}

/// The state that follows `old` when a packet of `protocol` is seen from `direction`.
pub const fn next(protocol: u8, old: State, direction: Direction, flags: TcpFlags) -> State {
    match protocol {
        proto::TCP => {
            let from = match old {
                State::Tcp(tcp) => tcp,
                State::None | State::Assured | State::Udp => TcpState::None,
            };
            State::Tcp(next_tcp(from, direction, flags))
        }
        proto::UDP => State::Udp,
        _ => old,
    }
}

/// The first of RST, SYN, FIN and ACK that is set decides; a segment with none of them closes.
const fn next_tcp(old: TcpState, direction: Direction, flags: TcpFlags) -> TcpState {
    let event = if flags.rst() {
        3
    } else if flags.syn() {
        0
    } else if flags.fin() {
        1
    } else if flags.ack() {
        2
    } else {
        return TcpState::Close;
    };
    TCP[direction as usize][event][old as usize]
}

use TcpState::{
    Close as CL, CloseWait as CW, Established as ES, FinWait as FW, LastAck as LA, Listen as LI,
    SynRecv as SR, SynSent as SS, TimeWait as TW,
};

/// `[direction][SYN, FIN, ACK, RST][old state]`.
#[rustfmt::skip]
const TCP: [[[TcpState; TcpState::COUNT]; 4]; 3] = [
    // Input  NO  ES  SS  SR  FW  TW  CL  CW  LA  LI  SA
    [
        /*s*/ [SR, ES, ES, SR, SR, SR, SR, SR, SR, SR, SR],
        /*f*/ [CL, CW, SS, TW, TW, TW, CL, CW, LA, LI, TW],
        /*a*/ [ES, ES, SS, ES, FW, TW, CL, CW, CL, LI, ES],
        /*r*/ [CL, CL, CL, SR, CL, CL, CL, CL, LA, LI, SR],
    ],
    // Output
    [
        /*s*/ [SS, ES, SS, SR, SS, SS, SS, SS, SS, LI, SR],
        /*f*/ [TW, FW, SS, TW, FW, TW, CL, TW, LA, LI, TW],
        /*a*/ [ES, ES, SS, ES, FW, TW, CL, CW, LA, ES, ES],
        /*r*/ [CL, CL, SS, CL, CL, TW, CL, CL, CL, CL, CL],
    ],
    // InputOnly
    [
        /*s*/ [SR, ES, ES, SR, SR, SR, SR, SR, SR, SR, SR],
        /*f*/ [CL, FW, SS, TW, FW, TW, CL, CW, LA, LI, TW],
        /*a*/ [ES, ES, SS, ES, FW, TW, CL, CW, CL, LI, ES],
        /*r*/ [CL, CL, CL, SR, CL, CL, CL, CL, LA, LI, CL],
    ],
];

#[cfg(test)]
mod tests {
    use super::*;

    fn walk(steps: &[(Direction, &str)]) -> String {
        let mut state = State::None;
        let mut names = Vec::new();
        for &(direction, flags) in steps {
            state = next(proto::TCP, state, direction, TcpFlags::named(flags));
            names.push(state.to_string());
        }
        names.join(" ")
    }

    #[test]
    fn a_nat_connection_walks_as_observed_in_the_kernel() {
        use Direction::{Input, Output};
        let steps = [
            (Input, "S"),
            (Output, "SA"),
            (Input, "A"),
            (Input, "FA"),
            (Output, "FA"),
            (Input, "A"),
        ];
        assert_eq!(walk(&steps), "SYN_RECV SYN_RECV ESTABLISHED CLOSE_WAIT TIME_WAIT TIME_WAIT");
    }

    #[test]
    fn a_one_sided_connection_walks_as_observed_in_the_kernel() {
        let steps = ["S", "A", "FA", "A", "S", "R", "A", "R"].map(|f| (Direction::InputOnly, f));
        let seen = "SYN_RECV ESTABLISHED FIN_WAIT FIN_WAIT SYN_RECV SYN_RECV ESTABLISHED CLOSE";
        assert_eq!(walk(&steps), seen);
    }

    #[test]
    fn a_segment_without_any_flag_closes() {
        assert_eq!(walk(&[(Direction::Input, "S"), (Direction::Input, "")]), "SYN_RECV CLOSE");
    }

    #[test]
    fn set_keeps_what_is_zero_and_changes_three_states_only() {
        let mut timeouts = Timeouts::default();
        timeouts.set(100, 0, 7);
        let of = |state| timeouts.of(State::Tcp(state));
        assert_eq!((of(ES), of(FW), of(TW), timeouts.of(State::Udp)), (100, 120, 120, 7));
    }
}
