//! What is wrong with a line, where, and what would have been right.
//!
//! A [`Fault`] points into a text by bytes and is made wherever a word is understood; a
//! [`Complaint`] is the same with file, line, column and the line itself, for a person who edits
//! rules. Both carry a typed [`Mistake`], which keeps the distinctions that ipvsadm makes, so that
//! whoever needs ipvsadm's own words can have them: [`Mistake::ipvsadm`].
//!
//! Left out on purpose: colours, and the width of characters that fill two cells.

use std::fmt;
use std::ops::Range;

use super::Refusal;

/// Complaints that are told of one text; of the others, only how many they are.
pub const TOLD_MAX: usize = 50;

/// Columns of a line of the text that are shown around the word in question.
const SHOWN_MAX: usize = 160;

/// Letters of a quoted word that are shown.
const QUOTED_MAX: usize = 60;

/// Bytes of a sentence, whatever it quotes.
const SENTENCE_MAX: usize = 500;

/// Which bytes of a text.
pub type Span = Range<usize>;

/// A mistake at a place of a text that the holder knows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// The word in question.
    pub at: Span,
    /// What is wrong with it.
    pub mistake: Mistake,
    /// What would have been right, as a sentence without its full stop.
    pub expected: Option<String>,
}

impl Fault {
    /// A fault without advice.
    pub const fn new(at: Span, mistake: Mistake) -> Self {
        Self { at, mistake, expected: None }
    }

    /// The same fault with advice.
    #[must_use]
    pub fn expecting(mut self, expected: impl Into<String>) -> Self {
        self.expected = Some(expected.into());
        self
    }
}

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
    /// The sentence with the operator's words as they are.
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
            other => other.write_value(f),
        }
    }
}

impl Mistake {
    /// The second half of `Display`: values and what they contradict.
    fn write_value(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
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
            other => other.write_daemon(f),
        }
    }

    /// The third part of `Display`: listings and daemons.
    fn write_daemon(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
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
            // All others have been said above; a new mistake must be said somewhere.
            _ => Ok(()),
        }
    }

    /// What ipvsadm 1.31 prints, and its exit status; `None` where it has no such mistake. The
    /// empty text stands for its invitation to try `--help`.
    pub fn ipvsadm(&self) -> Option<(String, i32)> {
        let text = match self {
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
            other => other.ipvsadm_meaning()?,
        };
        Some((text, 2))
    }

    /// ipvsadm's texts for options that contradict each other.
    fn ipvsadm_meaning(&self) -> Option<String> {
        Some(match self {
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
            other => return other.ipvsadm_daemon(),
        })
    }

    /// ipvsadm's texts about listings and daemons.
    fn ipvsadm_daemon(&self) -> Option<String> {
        Some(match self {
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
            _ => return None,
        })
    }
}

/// A fault with its place in a file, ready to be printed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Complaint {
    /// The file as it was named.
    pub file: String,
    /// From 1.
    pub line: usize,
    /// From 1, in characters.
    pub column: usize,
    /// Characters of the word, 1 or more.
    pub width: usize,
    /// The line of the file.
    pub source: String,
    /// What is wrong.
    pub mistake: Mistake,
    /// What would have been right.
    pub expected: Option<String>,
}

impl fmt::Display for Complaint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let file = plain(&self.file);
        writeln!(f, "{file}:{}:{}: {}", self.line, self.column, self.mistake)?;
        let before = self.column.saturating_sub(1);
        let Window { text, indent, width } = window(&self.source, before, self.width);
        write!(f, "{text}\n{indent}^{}", "~".repeat(width.saturating_sub(1)))?;
        match &self.expected {
            Some(expected) => write!(f, "\n{}", plain(expected)),
            None => Ok(()),
        }
    }
}

/// The complaints as they are told: the first [`TOLD_MAX`], and how many more there are.
pub fn told(all: &[Complaint]) -> Vec<String> {
    let mut told: Vec<_> = all.iter().take(TOLD_MAX).map(ToString::to_string).collect();
    match all.len().saturating_sub(TOLD_MAX) {
        0 => {}
        1 => told.push("… and one more complaint".to_owned()),
        more => told.push(format!("… and {more} more complaints")),
    }
    told
}

/// A sentence that is safe to show: nothing in it that a terminal obeys, and neither it nor a word
/// between backticks longer than anybody reads.
pub fn plain(sentence: &str) -> String {
    let mut shown = String::new();
    let (mut quoted, mut length) = (false, 0);
    for c in sentence.chars() {
        if shown.len() >= SENTENCE_MAX {
            shown.push('…');
            break;
        }
        (quoted, length) = if c == '`' { (!quoted, 0) } else { (quoted, length + 1) };
        match (quoted, length) {
            (true, QUOTED_MAX) => shown.push('…'),
            (true, QUOTED_MAX..) => {}
            _ if is_obeyed(c) => shown.extend(c.escape_unicode()),
            _ => shown.push(c),
        }
    }
    shown
}

/// Whether a terminal would do something for this letter instead of showing it: controls, and the
/// marks that turn the direction of writing or take no room.
fn is_obeyed(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}')
        || c == '\u{feff}'
}

/// What is shown of a line, and what stands before and under the word in question.
struct Window {
    text: String,
    indent: String,
    width: usize,
}

/// The line around its letter `before`; tabs stay tabs above and below, so that the caret stands
/// under its word in any terminal.
fn window(line: &str, before: usize, width: usize) -> Window {
    const FRONT: usize = SHOWN_MAX / 2;
    let length = line.chars().count();
    let start = match length {
        0..=SHOWN_MAX => 0,
        _ => before.saturating_sub(FRONT).min(length - SHOWN_MAX),
    };
    let shown = |c: char| if is_obeyed(c) && c != '\t' { '\u{fffd}' } else { c };
    let mut text: Vec<char> = line.chars().skip(start).take(SHOWN_MAX).map(shown).collect();
    if start > 0 {
        text[0] = '…';
    }
    if start + text.len() < length {
        text.push('…');
    }
    let before = before - start.min(before);
    let blank = |at: usize| if text.get(at) == Some(&'\t') { '\t' } else { ' ' };
    let indent = (0..before).map(blank).collect();
    let width = width.min(text.len().saturating_sub(before)).max(1);
    Window { text: text.into_iter().collect(), indent, width }
}

/// A text by name, in which bytes become lines and columns.
#[derive(Debug)]
pub struct Source<'a> {
    file: &'a str,
    text: &'a str,
    /// Where each line begins.
    starts: Vec<usize>,
}

impl<'a> Source<'a> {
    /// Looks for the lines of `text`.
    pub fn new(file: &'a str, text: &'a str) -> Self {
        let newlines = text.bytes().enumerate().filter(|&(_, b)| b == b'\n');
        let starts = std::iter::once(0).chain(newlines.map(|(i, _)| i + 1)).collect();
        Self { file, text, starts }
    }

    /// The line, from 1, of a byte.
    pub fn line_of(&self, byte: usize) -> usize {
        self.starts.partition_point(|&start| start <= byte).max(1)
    }

    /// The fault with file, line and column.
    pub fn complain(&self, fault: Fault) -> Complaint {
        let line = self.line_of(fault.at.start);
        let start = self.starts[line - 1];
        let source = self.text[start..].lines().next().unwrap_or("");
        let chars = |bytes: usize| self.text.get(start..bytes).map_or(0, |s| s.chars().count());
        let before = chars(fault.at.start);
        let end = fault.at.end.min(start + source.len());
        Complaint {
            file: self.file.to_owned(),
            line,
            column: before + 1,
            width: chars(end).saturating_sub(before).max(1),
            source: source.to_owned(),
            mistake: fault.mistake,
            expected: fault.expected,
        }
    }
}

/// `expected WHAT`, and the nearest word among `allowed`.
pub fn advice(what: &str, word: &str, allowed: &[&str]) -> String {
    match nearest(word, allowed) {
        Some(near) => format!("expected {what}; did you mean `{near}`?"),
        None => format!("expected {what}"),
    }
}

/// The word that `word` was probably meant to be: at most two letters away, and not all of them.
pub fn nearest<'a>(word: &str, allowed: &[&'a str]) -> Option<&'a str> {
    let near = |&candidate: &&'a str| {
        let limit = word.chars().count().max(candidate.chars().count()).min(3);
        Some(distance(word, candidate)).filter(|&d| d < limit).map(|d| (d, candidate))
    };
    allowed.iter().filter_map(near).min_by_key(|&(d, _)| d).map(|(_, candidate)| candidate)
}

/// Letters to be put, taken, changed, or swapped with their neighbour. Long words, which no
/// keyword of ours is, are far from everything.
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    if a.len().abs_diff(b.len()) > 2 {
        return usize::MAX;
    }
    let mut rows = vec![vec![0; b.len() + 1]; a.len() + 1];
    for i in 0..=a.len() {
        for j in 0..=b.len() {
            rows[i][j] = if i == 0 || j == 0 {
                i + j
            } else {
                let changed = rows[i - 1][j - 1] + usize::from(a[i - 1] != b[j - 1]);
                let best = changed.min(rows[i - 1][j] + 1).min(rows[i][j - 1] + 1);
                let swapped = i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1];
                if swapped {
                    best.min(rows[i - 2][j - 2] + 1)
                } else {
                    best
                }
            };
        }
    }
    rows[a.len()][b.len()]
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_word_is_a_slip_away_and_not_just_any_short_word() {
        assert_eq!(nearest("wcl", &["rr", "wrr", "lc", "wlc"]), Some("wlc"));
        assert_eq!(nearest("zz", &["rr", "lc"]), None);
        assert_eq!(nearest("tuntab", &["tuntap", "link"]), Some("tuntap"));
    }

    #[test]
    fn a_long_line_is_cut_around_its_caret_and_a_long_word_at_its_end() {
        let word = "w".repeat(1 << 20);
        for text in [format!("{word} bad"), format!("bad {word}"), format!("{word} bad {word}")] {
            let at = text.find("bad").expect("is there");
            let fault = Fault::new(at..at + 3, Mistake::UnknownCommand(word.clone()));
            let printed = Source::new("f", &text).complain(fault).to_string();
            let lines: Vec<&str> = printed.lines().collect();
            assert!(lines[0].ends_with("wwww…` is no command of a rules file"), "{}", lines[0]);
            assert!(lines.iter().all(|line| line.chars().count() < 170), "{printed}");
            let caret = lines[2].find('^').expect("is there");
            let shown: String = lines[1].chars().skip(caret).take(3).collect();
            assert_eq!(shown, "bad");
            assert!(lines[2].ends_with("^~~"));
        }
    }

    #[test]
    fn what_a_terminal_would_obey_is_spelled_out() {
        let fault = Fault::new(0..4, Mistake::UnknownCommand("\u{1b}[2J\u{202e}\u{9b}".to_owned()));
        let printed = Source::new("f\u{7}", "\u{1b}[2J").complain(fault).to_string();
        assert!(printed.contains("`\\u{1b}[2J\\u{202e}\\u{9b}` is no command"), "{printed}");
        assert!(!printed.contains(|c: char| c.is_control() && c != '\n'), "{printed:?}");
    }

    #[test]
    fn the_caret_stands_under_the_word_even_behind_tabs_and_wide_letters() {
        let text = "ok\n\té bad word";
        let at = text.find("bad").expect("is there");
        let fault = Fault::new(at..at + 3, Mistake::NoCommand).expecting("expected good");
        let complaint = Source::new("f", text).complain(fault);
        assert_eq!((complaint.line, complaint.column, complaint.width), (2, 4, 3));
        let printed = complaint.to_string();
        assert!(printed.ends_with("\n\té bad word\n\t  ^~~\nexpected good"), "{printed}");
    }
}
