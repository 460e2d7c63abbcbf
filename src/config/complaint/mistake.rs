//! What can be wrong with a line: every mistake once, in our words and in ipvsadm's.
//!
//! Kept from ipvsadm: the distinctions that it makes, its texts to the letter and its exit codes, because
//! scripts look for them. Left out on purpose: places. Where a mistake stands, a
//! [`Fault`](super::Fault) knows.

use std::fmt;

use super::plain;
use crate::config::Refusal;

/// What can be wrong with a line. Names of options and commands are those of ipvsadm's error texts
/// (`service-address`, `add-service`), without blanks or quotes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Mistake {
    /// A quote that is not closed before the end of its line.
    OpenQuote(char),
    /// A `\` that is followed by a blank and so joins nothing.
    BlankAfterBackslash,
    /// A typographic dash where a minus belongs.
    Dash {
        /// The dash.
        dash: char,
        /// The word with its minus.
        write: String,
    },
    /// A blank that is no ordinary blank.
    OddBlank(char),
    /// The line begins with no command that is read in rules files.
    UnknownCommand(String),
    /// An `nft` or `iptables-restore` line: marks are read from `iptables` lines.
    MarkRule(String),
    /// An ipvsadm command that shows or moves things and changes no rule.
    NotARule(String),
    /// An ipvsadm line that does not begin with its command.
    NoCommand,
    /// No such option.
    UnknownOption(String),
    /// The option wants a value and the line is over.
    MissingArgument(String),
    /// The option takes no value (`--clear=1`).
    UnwantedArgument(String),
    /// A second command on the line.
    SecondCommand(String),
    /// A word that belongs to no option.
    UnexpectedArgument(String),
    /// The same option twice, or two of which only one is allowed.
    Repeated(&'static str),
    /// A required option is missing.
    Needed {
        /// Which.
        option: &'static str,
        /// For which command.
        command: &'static str,
    },
    /// An option that the command does not take.
    Illegal {
        /// Which.
        option: &'static str,
        /// For which command.
        command: &'static str,
    },
    /// `-t`, `-u`, `--sctp-service`: why.
    VirtualAddress(String),
    /// `-r`: why.
    RealAddress(String),
    /// `-f`: the value.
    Fwmark(String),
    /// `-6` that does not follow `-f`.
    Ipv6BeforeMark,
    /// `-p`, `--set`: the value.
    Timeout(String),
    /// `-M` of an IPv4 service: the value.
    Mask(String),
    /// `-M` of an IPv6 service: the value.
    Ipv6Mask(String),
    /// `-w`: the value.
    Weight(String),
    /// `-x`: the value.
    UpperThreshold(String),
    /// `-y`: the value.
    LowerThreshold(String),
    /// `--tun-type`: the value.
    TunnelType(String),
    /// `--tun-port`: the value.
    TunnelPort(String),
    /// `-b`: no such flag.
    SchedFlag(String),
    /// `-b`: a flag of another scheduler.
    SchedFlagIncompatible(String),
    /// `--set` without its three values.
    SetValues,
    /// Options of `-L` that go with no other listing.
    ListConflict,
    /// Two options of which a command takes one only.
    Exclusive {
        /// The later column of the table.
        option: &'static str,
        /// The earlier one.
        with: &'static str,
        /// The command.
        command: &'static str,
    },
    /// `--start-daemon`: neither master nor backup.
    StartDaemon(String),
    /// `--stop-daemon`: neither master nor backup.
    StopDaemon(String),
    /// `--syncid`: the value.
    Syncid(String),
    /// `--mcast-group`: the value.
    McastGroup(String),
    /// `--mcast-port`: the value.
    McastPort(String),
    /// `--mcast-ttl`: the value.
    McastTtl(String),
    /// `--sync-maxlen`: the value.
    SyncMaxlen(String),
    /// `-s`: no such scheduler.
    Scheduler(String),
    /// `--pe`: no such persistence engine.
    Engine(String),
    /// `-A`, `-E` with port 0 and without `-p`.
    ZeroPort,
    /// `-o` for a service that is not UDP's.
    OnePacketNotUdp,
    /// A server of the other family by a method other than the tunnel.
    MixedFamily,
    /// Tunnel options without `-i`.
    TunnelWithoutIpip,
    /// The tunnel type needs this option.
    TunnelNeeds {
        /// Which option.
        option: &'static str,
        /// Which type.
        kind: &'static str,
    },
    /// The tunnel type does not take this option.
    TunnelIllegal {
        /// Which option.
        option: &'static str,
        /// Which type.
        kind: &'static str,
    },
    /// Two tunnel options exclude each other.
    TunnelConflict {
        /// The later one.
        option: &'static str,
        /// The earlier one.
        with: &'static str,
        /// Which type.
        kind: &'static str,
    },
    /// A mistake in `ip` or `sysctl`, as one sentence.
    Host(String),
    /// The line is well written, and what it asks for cannot be.
    Refused(Refusal),
}

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        struct Words<'a>(&'a Mistake);
        impl fmt::Display for Words<'_> {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.write(f)
            }
        }
        f.write_str(&plain(&Words(self).to_string()))
    }
}

impl Mistake {
    /// Its name for programs; mistakes that are mended alike share one.
    pub const fn code(&self) -> &'static str {
        match self {
            Self::OpenQuote(_)
            | Self::BlankAfterBackslash
            | Self::Dash { .. }
            | Self::OddBlank(_) => "spelling",
            Self::UnknownCommand(_) => "unknown-command",
            Self::MarkRule(_) | Self::NotARule(_) => "no-rule",
            Self::NoCommand | Self::SecondCommand(_) => "one-command",
            Self::UnknownOption(_) => "unknown-option",
            Self::MissingArgument(_) | Self::SetValues => "missing-value",
            Self::UnwantedArgument(_) | Self::UnexpectedArgument(_) => "unexpected-value",
            Self::Needed { .. } | Self::TunnelNeeds { .. } => "missing-option",
            Self::Repeated(_)
            | Self::Illegal { .. }
            | Self::ListConflict
            | Self::Exclusive { .. }
            | Self::TunnelWithoutIpip
            | Self::TunnelIllegal { .. }
            | Self::TunnelConflict { .. }
            | Self::OnePacketNotUdp => "unfit-option",
            Self::VirtualAddress(_) | Self::RealAddress(_) | Self::MixedFamily => "unfit-address",
            Self::Fwmark(_)
            | Self::Ipv6BeforeMark
            | Self::Timeout(_)
            | Self::Mask(_)
            | Self::Ipv6Mask(_)
            | Self::Weight(_)
            | Self::UpperThreshold(_)
            | Self::LowerThreshold(_)
            | Self::TunnelType(_)
            | Self::TunnelPort(_)
            | Self::SchedFlag(_)
            | Self::SchedFlagIncompatible(_)
            | Self::StartDaemon(_)
            | Self::StopDaemon(_)
            | Self::Syncid(_)
            | Self::McastGroup(_)
            | Self::McastPort(_)
            | Self::McastTtl(_)
            | Self::SyncMaxlen(_)
            | Self::Scheduler(_)
            | Self::Engine(_)
            | Self::ZeroPort => "unfit-value",
            Self::Host(_) => "host",
            Self::Refused(_) => "refused",
        }
    }

    /// The sentence with the operator's words as they are.
    #[expect(clippy::too_many_lines, reason = "a row a mistake, and none is left out")]
    fn write(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::OpenQuote(quote) => write!(f, "this {quote} is not closed on its line"),
            Self::BlankAfterBackslash => {
                f.write_str("a blank follows this `\\`, so it does not join the next line")
            }
            Self::Dash { dash, write } => write_dash(f, *dash, write),
            Self::OddBlank(c) => {
                write!(f, "this is a {} (U+{:04X}); write a blank", odd_name(*c), *c as u32)
            }
            Self::UnknownCommand(word) => write!(f, "`{word}` is no command of a rules file"),
            Self::MarkRule(word) => {
                write!(f, "`{word}`: firewall marks are read from `iptables -t mangle` lines")
            }
            Self::NotARule(word) => {
                write!(f, "`{word}` is no rule: it changes nothing that is kept in a rules file")
            }
            Self::NoCommand => f.write_str("the first option of ipvsadm must be its command"),
            Self::UnknownOption(word) => write!(f, "unknown option `{word}`"),
            Self::MissingArgument(word) => write!(f, "`{word}`: missing argument"),
            Self::UnwantedArgument(word) => write!(f, "`{word}` takes no argument"),
            Self::SecondCommand(word) => write!(f, "`{word}` is a second command on this line"),
            Self::UnexpectedArgument(word) => write!(f, "unexpected argument `{word}`"),
            Self::Repeated(option) => write!(f, "multiple `{option}` options on this line"),
            Self::Needed { option, command } => write!(f, "`{command}` needs `{option}`"),
            Self::Illegal { option, command } => write!(f, "`{command}` takes no `{option}`"),
            Self::Refused(refusal) => write!(f, "{refusal}"),
            Self::Host(why) => f.write_str(why),
            Self::VirtualAddress(why) => write!(f, "illegal virtual server address: {why}"),
            Self::RealAddress(why) => write!(f, "illegal real server address: {why}"),
            Self::Fwmark(v) if v.contains(':') => {
                write!(f, "illegal firewall mark `{v}`: a mark has no port")
            }
            Self::Fwmark(v) => write!(f, "illegal firewall mark `{v}`"),
            Self::Ipv6BeforeMark => f.write_str("`-6` is used before `-f`"),
            Self::Timeout(v) => write!(f, "illegal timeout `{v}`"),
            Self::Mask(v) => write!(f, "illegal persistence mask `{v}`"),
            Self::Ipv6Mask(v) => write!(f, "illegal persistence prefix length `{v}`"),
            Self::Weight(v) => write!(f, "illegal weight `{v}`"),
            Self::UpperThreshold(v) => write!(f, "illegal upper threshold `{v}`"),
            Self::LowerThreshold(v) => write!(f, "illegal lower threshold `{v}`"),
            Self::TunnelType(v) => write!(f, "unknown tunnel type `{v}`"),
            Self::TunnelPort(v) => write!(f, "illegal tunnel port `{v}`"),
            Self::SchedFlag(v) => write!(f, "unknown scheduler flag `{v}`"),
            Self::SchedFlagIncompatible(v) => {
                write!(f, "the flag `{v}` belongs to another scheduler")
            }
            Self::SetValues => f.write_str("`--set` wants three timeouts"),
            Self::Scheduler(v) => write!(f, "unknown scheduler `{v}`"),
            Self::Engine(v) => write!(f, "unknown persistence engine `{v}`"),
            Self::ZeroPort => f.write_str("port 0 for a service that is not persistent"),
            Self::OnePacketNotUdp => f.write_str("one-packet scheduling is for UDP services only"),
            Self::MixedFamily => {
                f.write_str("a server of the other address family can be reached by tunnel only")
            }
            Self::TunnelWithoutIpip => f.write_str("a tunnel option without `-i`"),
            Self::TunnelNeeds { option, kind } => {
                write!(f, "the tunnel type `{kind}` needs `--{option}`")
            }
            Self::TunnelIllegal { option, kind } => {
                write!(f, "the tunnel type `{kind}` takes no `--{option}`")
            }
            Self::TunnelConflict { option, with, kind } => {
                write!(f, "`--{option}` and `--{with}` exclude each other in tunnel type `{kind}`")
            }
            Self::ListConflict => f.write_str("these options of a listing exclude each other"),
            Self::Exclusive { option, with, command } => {
                write!(f, "`{command}` takes either `{option}` or `{with}`")
            }
            Self::StartDaemon(v) | Self::StopDaemon(v) => {
                write!(f, "unknown daemon `{v}`: it is `master` or `backup`")
            }
            Self::Syncid(v) => write!(f, "illegal syncid `{v}`"),
            Self::McastGroup(v) => write!(f, "`{v}` is no multicast group"),
            Self::McastPort(v) => write!(f, "illegal multicast port `{v}`"),
            Self::McastTtl(v) => write!(f, "illegal multicast TTL `{v}`"),
            Self::SyncMaxlen(v) => write!(f, "illegal length of a message `{v}`"),
        }
    }

    /// What ipvsadm 1.31 prints, and its exit status; `None` where it has no such mistake. The
    /// empty text stands for its invitation to try `--help`.
    #[expect(clippy::too_many_lines, reason = "a row a mistake, and none is left out")]
    pub fn ipvsadm(&self) -> Option<(String, i32)> {
        let text = match self {
            Self::OpenQuote(_)
            | Self::BlankAfterBackslash
            | Self::Dash { .. }
            | Self::OddBlank(_)
            | Self::UnknownCommand(_)
            | Self::MarkRule(_)
            | Self::NotARule(_)
            | Self::Host(_) => return None,
            Self::NoCommand => return Some((String::new(), 255)),
            Self::UnknownOption(word) => return Some((format!("{word}: unknown option"), 255)),
            Self::MissingArgument(word) => return Some((format!("{word}: missing argument"), 255)),
            Self::UnwantedArgument(word) => {
                return Some((format!("{word}: option does not take an argument"), 255))
            }
            Self::Scheduler(_) | Self::Engine(_) => {
                return Some(("Scheduler or persistence engine not found".to_owned(), 255))
            }
            Self::Refused(refusal) => return Some((refusal.to_string(), 255)),
            Self::SecondCommand(word) => format!("invalid option `{word}'"),
            Self::UnexpectedArgument(word) => format!("unexpected argument {word}"),
            Self::Repeated(option) => format!("multiple '{option}' options specified"),
            Self::Needed { option, command } => {
                format!("You need to supply the '{option}' option for the '{command}' command")
            }
            Self::Illegal { option, command } => {
                format!("Illegal '{option}' option with the '{command}' command")
            }
            Self::VirtualAddress(_) => "illegal virtual server address[:port] specified".to_owned(),
            Self::RealAddress(_) => "illegal real server address[:port] specified".to_owned(),
            Self::Fwmark(v) => format!("invalid fwmark value `{v}' specified"),
            Self::Ipv6BeforeMark => "-6 used before -f\n".to_owned(),
            Self::Timeout(v) => format!("invalid timeout value `{v}' specified"),
            Self::Mask(_) => "illegal virtual server persistent mask specified".to_owned(),
            Self::Ipv6Mask(_) => "illegal ipv6 netmask specified".to_owned(),
            Self::Weight(_) => "illegal weight specified".to_owned(),
            Self::UpperThreshold(_) => "illegal u_threshold specified".to_owned(),
            Self::LowerThreshold(_) => "illegal l_threshold specified".to_owned(),
            Self::TunnelType(_) => "illegal tunnel type specified".to_owned(),
            Self::TunnelPort(_) => "illegal tunnel port specified".to_owned(),
            Self::SchedFlag(v) => format!("invalid scheduler flag `{v}'"),
            Self::SchedFlagIncompatible(v) => format!("incompatible scheduler flag `{v}'"),
            Self::SetValues => "--set option requires 3 timeout values".to_owned(),
            Self::ZeroPort => "Zero port specified for non-persistent service".to_owned(),
            Self::OnePacketNotUdp => {
                "One-Packet Scheduling is only for UDP virtual services".to_owned()
            }
            Self::MixedFamily => {
                "Different address family is allowed only for tunneling servers".to_owned()
            }
            Self::TunnelWithoutIpip => "Tunnel options conflict with forward method".to_owned(),
            Self::TunnelNeeds { option, kind } => {
                format!("You need to supply the '{option}' option for the '{kind}' tunnel type")
            }
            Self::TunnelIllegal { option, kind } => {
                format!("Illegal '{option}' option with the '{kind}' tunnel type")
            }
            Self::TunnelConflict { option, with, kind } => format!(
                "The option '{option}' conflicts with the '{with}' option in the '{kind}' tunnel type"
            ),
            Self::ListConflict => "options conflicts in the list command".to_owned(),
            Self::Exclusive { option, with, command } => format!(
                "The option '{option}' conflicts with the '{with}' option in the '{command}' command"
            ),
            Self::StartDaemon(_) => "illegal start-daemon parameter specified".to_owned(),
            // Its own spelling.
            Self::StopDaemon(_) => "illegal start_daemon specified".to_owned(),
            Self::Syncid(_) => "illegal syncid specified".to_owned(),
            Self::McastGroup(v) if v.contains(':') => format!("invalid IPv6 mcast-group `{v}'"),
            Self::McastGroup(v) => format!("invalid IPv4 mcast-group `{v}'"),
            Self::McastPort(_) => "illegal mcast-port specified".to_owned(),
            Self::McastTtl(_) => "illegal mcast-ttl specified".to_owned(),
            Self::SyncMaxlen(_) => "illegal sync-maxlen specified".to_owned(),
        };
        Some((text, 2))
    }
}

fn write_dash(f: &mut fmt::Formatter<'_>, dash: char, write: &str) -> fmt::Result {
    let name = match dash {
        '\u{2010}' => "a hyphen",
        '\u{2011}' => "a no-break hyphen",
        '\u{2012}' => "a figure dash",
        '\u{2013}' => "an en dash",
        '\u{2014}' => "an em dash",
        '\u{2015}' => "a horizontal bar",
        '\u{2212}' => "a minus sign",
        _ => "a wide minus",
    };
    write!(f, "this is {name} (U+{:04X}); write `{write}`", dash as u32)
}

const fn odd_name(c: char) -> &'static str {
    match c {
        '\u{200b}' | '\u{feff}' => "blank of no width",
        '\u{3000}' => "wide blank",
        _ => "no-break space",
    }
}
