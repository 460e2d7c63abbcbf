//! The states of a connection, and for how long each is kept.
//!
//! Kept from the kernel: the transition tables of `ip_vs_proto_tcp` (the second set of which is used
//! under `secure_tcp`) and `ip_vs_proto_sctp` for the three ways of seeing a conversation, their
//! timeouts, and which states count as active. UDP has one state.

use std::fmt;

use crate::packet::l4::{Chunk, Event, TcpFlags};

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

/// SCTP states in the order of the kernel's numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum SctpState {
    /// Nothing seen yet.
    None,
    /// INIT from the client.
    Init1,
    /// INIT again.
    Init,
    /// The server's cookie is on its way.
    CookieSent,
    /// The client has sent the cookie back.
    CookieReplied,
    /// The server has sent INIT, or both have.
    CookieWait,
    /// Cookies from both sides.
    Cookie,
    /// The server has sent a cookie back.
    CookieEchoed,
    /// ESTABLISHED.
    Established,
    /// SHUTDOWN from the server.
    ShutdownSent,
    /// SHUTDOWN from the client.
    ShutdownReceived,
    /// SHUTDOWN ACK.
    ShutdownAckSent,
    /// The first packet was refused.
    Rejected,
    /// CLOSED.
    Closed,
}

impl SctpState {
    const COUNT: usize = 14;
    const NAMES: [&'static str; Self::COUNT] = [
        "NONE",
        "INIT1",
        "INIT",
        "C-SENT",
        "C-REPLIED",
        "C-WAIT",
        "COOKIE",
        "C-ECHOED",
        "ESTABLISHED",
        "S-SENT",
        "S-RECEIVED",
        "S-ACK-SENT",
        "REJECTED",
        "CLOSED",
    ];
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
    /// SCTP.
    Sctp(SctpState),
    /// UDP has one state.
    Udp,
}

impl State {
    /// Whether a connection in this state counts as active; everything else counts as inactive.
    pub const fn is_active(self) -> bool {
        match self {
            Self::Tcp(tcp) => tcp.is_active(),
            Self::Sctp(sctp) => matches!(sctp, SctpState::Established),
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
            Self::Sctp(sctp) => SctpState::NAMES[*sctp as usize],
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
    sctp: [u32; SctpState::COUNT],
    udp: u32,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            tcp: [2, 900, 120, 60, 120, 120, 10, 60, 30, 120, 120],
            sctp: [2, 4, 61, 61, 61, 61, 61, 61, 900, 61, 61, 61, 4, 61],
            udp: 300,
        }
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
            State::Sctp(sctp) => self.sctp[sctp as usize],
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

/// The state that follows `old` when `event` is seen from `direction`; `secure` takes the second set of
/// TCP tables (`secure_tcp`).
pub const fn next(old: State, direction: Direction, event: Event, secure: bool) -> State {
    match event {
        Event::Tcp(flags) => {
            let from = match old {
                State::Tcp(tcp) => tcp,
                State::None | State::Assured | State::Sctp(_) | State::Udp => TcpState::None,
            };
            State::Tcp(next_tcp(from, direction, flags, secure))
        }
        Event::Sctp(chunk) => {
            let from = match old {
                State::Sctp(sctp) => sctp,
                State::None | State::Assured | State::Tcp(_) | State::Udp => SctpState::None,
            };
            let row = match chunk {
                Chunk::LateAbort => Chunk::Abort,
                other => other,
            } as usize;
            State::Sctp(SCTP[direction as usize][row][from as usize])
        }
        Event::Datagram => State::Udp,
    }
}

/// The first of RST, SYN, FIN and ACK that is set decides; a segment with none of them closes.
const fn next_tcp(old: TcpState, direction: Direction, flags: TcpFlags, secure: bool) -> TcpState {
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
    let tables = if secure { &SECURE_TCP } else { &TCP };
    tables[direction as usize][event][old as usize]
}

use TcpState::{
    Close as CL, CloseWait as CW, Established as ES, FinWait as FW, LastAck as LA, Listen as LI,
    SynAck as SA, SynRecv as SR, SynSent as SS, TimeWait as TW,
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

/// The same under `secure_tcp`.
#[rustfmt::skip]
const SECURE_TCP: [[[TcpState; TcpState::COUNT]; 4]; 3] = [
    // Input  NO  ES  SS  SR  FW  TW  CL  CW  LA  LI  SA
    [
        /*s*/ [SR, ES, ES, SR, SR, SR, SR, SR, SR, SR, SA],
        /*f*/ [CL, CW, SS, TW, TW, TW, CL, CW, LA, LI, SA],
        /*a*/ [ES, ES, SS, SR, FW, TW, CL, CW, CL, LI, SA],
        /*r*/ [CL, CL, CL, SR, CL, CL, CL, CL, LA, LI, CL],
    ],
    // Output
    [
        /*s*/ [SS, ES, SS, SA, SS, SS, SS, SS, SS, LI, SA],
        /*f*/ [TW, FW, SS, TW, FW, TW, CL, TW, LA, LI, TW],
        /*a*/ [ES, ES, SS, ES, FW, TW, CL, CW, LA, ES, ES],
        /*r*/ [CL, CL, SS, CL, CL, TW, CL, CL, CL, CL, CL],
    ],
    // InputOnly
    [
        /*s*/ [SA, ES, ES, SR, SA, SA, SA, SA, SA, SA, SA],
        /*f*/ [CL, FW, SS, TW, FW, TW, CL, CW, LA, LI, TW],
        /*a*/ [ES, ES, SS, ES, FW, TW, CL, CW, CL, LI, ES],
        /*r*/ [CL, CL, CL, SR, CL, CL, CL, CL, LA, LI, CL],
    ],
];

/// `[direction][event][old state]`.
#[rustfmt::skip]
const SCTP: [[[SctpState; SctpState::COUNT]; 10]; 3] = {
    use SctpState::{
        Closed as CL, Cookie as CO, CookieEchoed as CE, CookieReplied as CR, CookieSent as CS,
        CookieWait as CW, Established as ES, Init as IN, Init1 as I1, Rejected as RJ,
        ShutdownAckSent as SA, ShutdownReceived as SR, ShutdownSent as SS,
    };
    [
        // Input: NO I1 IN CS CR CW CO CE ES SS SR SA RJ CL
        [
            /* data              */ [ES, I1, IN, CS, CR, CW, CO, CE, ES, SS, SR, SA, RJ, CL],
            /* init              */ [I1, IN, IN, CS, CR, CW, CO, CE, ES, SS, SR, SA, IN, IN],
            /* init-ack          */ [CW, CW, CW, CS, CR, CO, CO, CE, ES, SS, SR, SA, RJ, CL],
            /* cookie-echo       */ [CR, IN, IN, CR, CR, CW, CO, CE, ES, SS, SR, SA, RJ, CL],
            /* cookie-ack        */ [ES, I1, IN, CS, CR, CW, CO, ES, ES, SS, SR, SA, RJ, CL],
            /* shutdown          */ [SR, I1, IN, CS, CR, CW, CO, CE, SR, SS, SR, SA, RJ, CL],
            /* shutdown-ack      */ [CL, IN, IN, CS, CR, CW, CO, CE, ES, CL, SR, CL, RJ, CL],
            /* shutdown-complete */ [CL, CL, CL, CS, CR, CW, CO, CE, ES, SS, SR, CL, RJ, CL],
            /* error             */ [CL, I1, IN, CS, CR, CW, CO, CL, ES, SS, SR, SA, RJ, CL],
            /* abort             */ [CL, CL, CL, CL, CL, RJ, CL, CL, CL, CL, CL, CL, CL, CL],
        ],
        // Output: NO I1 IN CS CR CW CO CE ES SS SR SA RJ CL
        [
            /* data              */ [ES, I1, IN, CS, CR, CW, CO, CE, ES, SS, SR, SA, RJ, CL],
            /* init              */ [CW, CW, CW, CW, CW, CW, CW, CW, ES, CW, CW, CW, CW, CW],
            /* init-ack          */ [CS, CS, CS, CS, CR, CW, CO, CE, ES, SS, SR, SA, RJ, CL],
            /* cookie-echo       */ [CE, CE, CE, CE, CE, CE, CE, CE, ES, SS, SR, SA, RJ, CL],
            /* cookie-ack        */ [ES, ES, ES, ES, ES, ES, ES, ES, ES, SS, SR, SA, RJ, CL],
            /* shutdown          */ [SS, SS, SS, SS, SS, SS, SS, SS, SS, SS, SR, SA, RJ, CL],
            /* shutdown-ack      */ [SA, SA, SA, SA, SA, CW, CO, CE, ES, SA, SA, SA, RJ, CL],
            /* shutdown-complete */ [CL, I1, IN, CS, CR, CW, CO, CE, ES, SS, SR, SA, RJ, CL],
            /* error             */ [CL, CL, CL, CL, CL, CW, CO, CE, ES, SS, SR, SA, RJ, CL],
            /* abort             */ [CL, RJ, CL, CL, CL, CL, CL, CL, CL, CL, CL, CL, CL, CL],
        ],
        // InputOnly: NO I1 IN CS CR CW CO CE ES SS SR SA RJ CL
        [
            /* data              */ [ES, I1, IN, CS, CR, ES, CO, CE, ES, SS, SR, SA, RJ, CL],
            /* init              */ [I1, IN, IN, IN, IN, IN, CO, CE, ES, SS, SR, SA, IN, IN],
            /* init-ack          */ [CE, CE, CE, CE, CE, CE, CO, CE, ES, SS, SR, SA, RJ, CL],
            /* cookie-echo       */ [ES, ES, ES, ES, ES, ES, CO, CE, ES, SS, SR, SA, RJ, CL],
            /* cookie-ack        */ [ES, I1, IN, ES, ES, CW, ES, ES, ES, SS, SR, SA, RJ, CL],
            /* shutdown          */ [SR, I1, IN, CS, CR, CW, CO, CE, SR, SS, SR, SA, RJ, CL],
            /* shutdown-ack      */ [CL, IN, IN, CS, CR, CW, CO, CE, CL, CL, SR, CL, RJ, CL],
            /* shutdown-complete */ [CL, CL, CL, CL, CL, CW, CO, CE, ES, SS, CL, CL, RJ, CL],
            /* error             */ [CL, I1, IN, CS, CR, CW, CO, CE, ES, SS, SR, SA, RJ, CL],
            /* abort             */ [CL, CL, CL, CL, CL, RJ, CL, CL, CL, CL, CL, CL, CL, CL],
        ],
    ]
};

#[cfg(test)]
mod tests {
    use super::*;
    fn walk(steps: &[(Direction, &str)]) -> String {
        walk_by(steps, false)
    }

    fn walk_by(steps: &[(Direction, &str)], secure: bool) -> String {
        let events = steps.iter().map(|&(from, flags)| (from, Event::Tcp(TcpFlags::named(flags))));
        walk_events(events, secure)
    }

    fn walk_events(events: impl Iterator<Item = (Direction, Event)>, secure: bool) -> String {
        let mut state = State::None;
        let mut names = Vec::new();
        for (direction, event) in events {
            state = next(state, direction, event, secure);
            names.push(state.to_string());
        }
        names.join(" ")
    }

    #[test]
    fn under_secure_tcp_connections_walk_as_observed_in_the_kernel() {
        use Direction::{Input, InputOnly, Output};
        let nat = [(Input, "S"), (Output, "SA"), (Input, "A"), (Output, "A")];
        assert_eq!(walk_by(&nat, true), "SYN_RECV SYNACK SYNACK ESTABLISHED");
        assert_eq!(walk_by(&[(InputOnly, "S"), (InputOnly, "A")], true), "SYNACK ESTABLISHED");
    }

    #[test]
    fn an_sctp_association_walks_as_observed_in_the_kernel() {
        use Chunk::{
            CookieAck, CookieEcho, Data, Init, InitAck, Shutdown, ShutdownAck, ShutdownComplete,
        };
        use Direction::{Input, Output};
        let steps = [
            (Input, Init),
            (Output, InitAck),
            (Input, CookieEcho),
            (Output, CookieAck),
            (Input, Data),
            (Input, Shutdown),
            (Output, ShutdownAck),
            (Input, ShutdownComplete),
        ];
        let events = steps.map(|(from, chunk)| (from, Event::Sctp(chunk)));
        let seen = "INIT1 C-SENT C-REPLIED ESTABLISHED ESTABLISHED S-RECEIVED S-ACK-SENT CLOSED";
        assert_eq!(walk_events(events.into_iter(), false), seen);
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
