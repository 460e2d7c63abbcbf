//! `iptables` and `ip6tables` lines become rules that give packets their firewall mark.
//!
//! Kept from iptables: table `mangle`, chain `PREROUTING`, `-A` and `-I`; the matches that pick packets
//! by port of ours, address, protocol and transport port, each with `!`; how `--set-mark`, `--set-xmark`
//! and their kin combine with the mark a packet has; that `MARK` goes on to the next rule and `ACCEPT`
//! does not.
//!
//! Left out on purpose: every other table, chain, target and match. They are refused, since a packet
//! filter that is only half there would be worse than none.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};
use std::ops::RangeInclusive;

use crate::packet::{proto, Family};

use super::address::{address, inet_aton, number, port_number, prefix, Literal};
use super::command::{Placed, Spots};
use super::complaint::{advice, Fault, Mistake};
use super::grammar::{TablesLine, Word};
use super::print::Quoted;
use super::{Command, Prefix};

/// Ports in one `multiport` list at most; a range counts as two.
const PORTS_MAX: usize = 15;

/// The options that pick packets, in all their spellings.
const MATCHES: &[&str] = &[
    "-i",
    "--in-interface",
    "-s",
    "--source",
    "--src",
    "-d",
    "--destination",
    "--dst",
    "-p",
    "--protocol",
    "--proto",
    "--sport",
    "--source-port",
    "--dport",
    "--destination-port",
    "--sports",
    "--source-ports",
    "--dports",
    "--destination-ports",
    "--ports",
];

/// A condition that must hold, or with `!` must not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Match<T> {
    /// Written with `!`.
    pub not: bool,
    /// What is asked for.
    pub want: T,
}

/// Which packets a rule is about; what is `None` is not asked.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Matches {
    /// `-i`: the port of ours that the packet came in by; `+` at its end is any ending.
    pub in_port: Option<Match<String>>,
    /// `-s`.
    pub src: Option<Match<Prefix>>,
    /// `-d`.
    pub dst: Option<Match<Prefix>>,
    /// `-p`.
    pub proto: Option<Match<u8>>,
    /// `--sport`, `--sports`.
    pub sports: Option<Match<Vec<RangeInclusive<u16>>>>,
    /// `--dport`, `--dports`.
    pub dports: Option<Match<Vec<RangeInclusive<u16>>>>,
    /// `--ports`: either port.
    pub ports: Option<Match<Vec<RangeInclusive<u16>>>>,
}

/// What a rule does with a packet that it is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MarkTarget {
    /// The mark becomes `(mark & !mask) ^ value`.
    Mark {
        /// The bits that are flipped after `mask` was cleared.
        value: u32,
        /// The bits that are cleared.
        mask: u32,
    },
    /// No later rule is looked at (`ACCEPT`, and `RETURN` from the chain itself).
    End,
}

/// One rule of the chain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MarkRule {
    /// `iptables` or `ip6tables`.
    pub family: Family,
    /// Which packets.
    pub matches: Matches,
    /// What becomes of them.
    pub target: MarkTarget,
}

impl fmt::Display for MarkRule {
    /// The rule as a line of a rules file.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let program = match self.family {
            Family::V4 => "iptables",
            Family::V6 => "ip6tables",
        };
        write!(f, "{program} -t mangle -A PREROUTING")?;
        let Matches { in_port, src, dst, proto, sports, dports, ports } = &self.matches;
        write_match(f, "-i", in_port.as_ref(), |name| Quoted(name).to_string())?;
        write_match(f, "-s", src.as_ref(), Prefix::to_string)?;
        write_match(f, "-d", dst.as_ref(), Prefix::to_string)?;
        write_match(f, "-p", proto.as_ref(), |number| protocol_name(*number))?;
        if sports.is_some() || dports.is_some() || ports.is_some() {
            f.write_str(" -m multiport")?;
        }
        write_match(f, "--sports", sports.as_ref(), |list| list_text(list))?;
        write_match(f, "--dports", dports.as_ref(), |list| list_text(list))?;
        write_match(f, "--ports", ports.as_ref(), |list| list_text(list))?;
        match self.target {
            MarkTarget::Mark { value, mask } => {
                write!(f, " -j MARK --set-xmark {value:#x}/{mask:#x}")
            }
            MarkTarget::End => f.write_str(" -j ACCEPT"),
        }
    }
}

/// The command of an `iptables` line.
///
/// # Errors
/// Whatever is not a rule that gives marks before routing, with what would be.
pub(super) fn tables(line: &TablesLine<'_>) -> Result<Placed, Fault> {
    let split: Vec<Word<'_>> = line.words.iter().flat_map(unglued).collect();
    if let Some(at) = flush(&split) {
        let spots = Spots::at(at.at.clone());
        return Ok(Placed { command: Command::ClearMarkRules(line.family), spots });
    }
    let mut said = Said::new(line.family);
    let mut words = split.iter();
    while let Some(word) = words.next() {
        said.take(word, &mut words)?;
    }
    said.finish(&line.program)
}

/// An option and what is glued to it (`-tmangle`, `--dport=80`), as two words.
fn unglued<'a>(word: &Word<'a>) -> Vec<Word<'a>> {
    let glued = match word.text.as_bytes() {
        [b'-', b'-', ..] => word.text.find('=').map(|at| (at, at + 1)),
        [b'-', letter, _, ..] if b"tAIFjsdipm".contains(letter) => Some((2, 2)),
        _ => None,
    };
    glued.map_or_else(|| vec![word.clone()], |(end, from)| vec![word.part(0, end), word.tail(from)])
}

/// The `-F` of a line that empties the chain or its whole table.
fn flush<'w, 'a>(words: &'w [Word<'a>]) -> Option<&'w Word<'a>> {
    let texts: Vec<&str> = words.iter().map(|word| &*word.text).collect();
    let rest = match texts[..] {
        ["-t" | "--table", "mangle", ref rest @ ..] => rest,
        [ref rest @ .., "-t" | "--table", "mangle"] => rest,
        _ => return None,
    };
    let flushes = matches!(rest, ["-F" | "--flush"] | ["-F" | "--flush", "PREROUTING"]);
    words.iter().find(|word| flushes && matches!(&*word.text, "-F" | "--flush"))
}

type Words<'s, 'a> = std::slice::Iter<'s, Word<'a>>;

/// What the words of a line have said so far.
struct Said {
    family: Family,
    /// `!` stands before what comes next.
    not: bool,
    mangle: bool,
    /// `Some(None)` appends, `Some(Some(n))` inserts as number `n` of its family.
    place: Option<Option<usize>>,
    matches: Matches,
    multiport: bool,
    mark: bool,
    target: Option<MarkTarget>,
    spots: Spots,
}

impl Said {
    const fn new(family: Family) -> Self {
        Self {
            family,
            not: false,
            mangle: false,
            place: None,
            matches: Matches {
                in_port: None,
                src: None,
                dst: None,
                proto: None,
                sports: None,
                dports: None,
                ports: None,
            },
            multiport: false,
            mark: false,
            target: None,
            spots: Spots::at(0..0),
        }
    }

    fn take<'a>(&mut self, word: &Word<'a>, words: &mut Words<'_, 'a>) -> Result<(), Fault> {
        let negated = self.not;
        match &*word.text {
            "!" if negated => return Err(host(word, "`!` comes twice".to_owned())),
            "!" => {
                self.not = true;
                return Ok(());
            }
            "-w" | "--wait" | "-W" | "--wait-interval" => {
                let seconds = words.as_slice().first().filter(|next| is_number(&next.text));
                let _ = seconds.and_then(|_| words.next());
            }
            "-v" | "--verbose" => {}
            "-t" | "--table" => self.take_table(value(word, words)?)?,
            "-A" | "--append" | "-I" | "--insert" => self.take_chain(word, words)?,
            "-j" | "--jump" => self.take_target(value(word, words)?)?,
            "--set-mark" | "--set-xmark" | "--or-mark" | "--and-mark" | "--xor-mark" => {
                self.take_mark(word, value(word, words)?)?;
            }
            "-m" | "--match" => self.take_module(value(word, words)?, words)?,
            _ => return self.take_match(word, words),
        }
        if negated {
            return Err(host(word, format!("`!` has no meaning before `{}`", word.text)));
        }
        Ok(())
    }

    fn take_table(&mut self, name: &Word<'_>) -> Result<(), Fault> {
        self.mangle = name.text == "mangle";
        if self.mangle {
            return Ok(());
        }
        let expected = match &*name.text {
            "nat" => {
                "expected no such line: what servers of `-m` answer is translated without one, and \
                      what they ask for themselves is for the host to translate"
                    .to_owned()
            }
            other => advice("`mangle`, the table of marks", other, &["mangle"]),
        };
        Err(host(name, format!("the table `{}` means nothing here", name.text)).expecting(expected))
    }

    fn take_chain<'a>(&mut self, word: &Word<'a>, words: &mut Words<'_, 'a>) -> Result<(), Fault> {
        if self.place.is_some() {
            return Err(host(word, format!("`{}` is a second command on this line", word.text)));
        }
        let chain = value(word, words)?;
        if chain.text != "PREROUTING" {
            return Err(host(chain, format!("the chain `{}` means nothing here", chain.text))
                .expecting(advice(
                    "`PREROUTING`, where packets get their marks",
                    &chain.text,
                    &["PREROUTING"],
                )));
        }
        self.spots = Spots::at(word.at.clone());
        let insert = matches!(&*word.text, "-I" | "--insert");
        let at = words.as_slice().first().filter(|next| insert && is_number(&next.text));
        self.place = Some(match at {
            Some(at) => {
                let _ = words.next();
                self.spots.object = Some(at.at.clone());
                let place = at.text.parse().ok().filter(|&place| place > 0);
                Some(place.ok_or_else(|| {
                    host(at, format!("illegal rule number `{}`", at.text))
                        .expecting("expected 1 for the first place, or no number")
                })?)
            }
            None if insert => Some(1),
            None => None,
        });
        Ok(())
    }

    fn take_target(&mut self, name: &Word<'_>) -> Result<(), Fault> {
        if self.target.is_some() || self.mark {
            return Err(host(name, "a second target on this line".to_owned()));
        }
        match &*name.text {
            "MARK" => self.mark = true,
            "ACCEPT" | "RETURN" => self.target = Some(MarkTarget::End),
            other => {
                return Err(host(name, format!("the target `{other}` means nothing here"))
                    .expecting(advice(
                        "`MARK`, `ACCEPT` or `RETURN`",
                        other,
                        &["MARK", "ACCEPT", "RETURN"],
                    )))
            }
        }
        Ok(())
    }

    fn take_mark(&mut self, option: &Word<'_>, text: &Word<'_>) -> Result<(), Fault> {
        if !self.mark {
            let why = format!("`{}` without `-j MARK` before it", option.text);
            return Err(host(option, why));
        }
        if self.target.is_some() {
            return Err(host(option, "a second mark on this line".to_owned()));
        }
        let with_mask = matches!(&*option.text, "--set-mark" | "--set-xmark");
        let (value, mask) = match text.text.split_once('/').filter(|_| with_mask) {
            Some((value, mask)) => (integer(value), integer(mask)),
            None => (integer(&text.text), Some(u32::MAX)),
        };
        let (Some(value), Some(mask)) = (value, mask) else {
            return Err(host(text, format!("illegal mark `{}`", text.text)).expecting(
                "expected 0 to 4294967295, decimal or as in 0x10; `/MASK` with --set-mark and --set-xmark",
            ));
        };
        let (value, mask) = match &*option.text {
            "--set-mark" => (value, value | mask),
            "--or-mark" => (value, value),
            "--and-mark" => (0, !value),
            "--xor-mark" => (value, 0),
            _ => (value, mask),
        };
        self.target = Some(MarkTarget::Mark { value, mask });
        Ok(())
    }

    fn take_module<'a>(&mut self, name: &Word<'a>, words: &mut Words<'_, 'a>) -> Result<(), Fault> {
        match &*name.text {
            "multiport" => self.multiport = true,
            "tcp" | "udp" | "sctp" => {}
            "comment" => {
                let option = words.next().filter(|option| option.text == "--comment");
                let option = option
                    .ok_or_else(|| host(name, "`-m comment` without `--comment`".to_owned()))?;
                value(option, words)?;
            }
            other => {
                const MODULES: &[&str] = &["tcp", "udp", "sctp", "multiport", "comment"];
                return Err(host(name, format!("the match `{other}` means nothing here"))
                    .expecting(advice(
                        "one of tcp, udp, sctp, multiport, comment",
                        other,
                        MODULES,
                    )));
            }
        }
        Ok(())
    }

    /// Takes what picks packets; `!` may stand before the option or, in old scripts, behind it.
    fn take_match<'a>(&mut self, word: &Word<'a>, words: &mut Words<'_, 'a>) -> Result<(), Fault> {
        if !MATCHES.contains(&&*word.text) {
            return Err(host(word, format!("`{}` means nothing here", word.text)).expecting(
                match word.text.starts_with("--") {
                    true => advice("a rule that sets marks before routing", &word.text, MATCHES),
                    false => "expected `-A PREROUTING`, `-I PREROUTING` or `-F`, and matches on \
                              addresses, protocols, ports"
                        .to_owned(),
                },
            ));
        }
        let mut not = std::mem::take(&mut self.not);
        let mut text = value(word, words)?;
        if text.text == "!" && !not {
            not = true;
            text = value(word, words)?;
        }
        match &*word.text {
            "-i" | "--in-interface" => {
                self.spots.dev = Some(text.at.clone());
                once(&mut self.matches.in_port, not, text.text.to_string(), word)
            }
            "-s" | "--source" | "--src" => {
                let network = self.network(text)?;
                once(&mut self.matches.src, not, network, word)
            }
            "-d" | "--destination" | "--dst" => {
                let network = self.network(text)?;
                once(&mut self.matches.dst, not, network, word)
            }
            "-p" | "--protocol" | "--proto" => match protocol(text)? {
                Some(number) => once(&mut self.matches.proto, not, number, word),
                None if not => Err(host(text, "no packet is of no protocol".to_owned())),
                None => Ok(()),
            },
            _ => self.take_ports(word, text, not),
        }
    }

    fn take_ports(&mut self, option: &Word<'_>, text: &Word<'_>, not: bool) -> Result<(), Fault> {
        let many = option.text.ends_with('s');
        if many && !self.multiport {
            return Err(host(option, format!("`{}` without `-m multiport`", option.text)));
        }
        let protocol = self.matches.proto.as_ref().filter(|wanted| !wanted.not);
        let Some(protocol) = protocol.map(|wanted| wanted.want).filter(|&p| has_ports(p)) else {
            return Err(host(
                option,
                format!("`{}` without a protocol that has ports", option.text),
            )
            .expecting("expected `-p tcp`, `-p udp` or `-p sctp` before it"));
        };
        let separator = if many { ',' } else { '\0' };
        let mut ranges = Vec::new();
        for part in text.text.split(separator) {
            ranges.push(port_range(part, protocol).map_err(|why| {
                host(text, why).expecting(match (many, text.text.contains(',')) {
                    (false, true) => "expected one port; several want `-m multiport --dports`",
                    _ => "expected PORT or FROM:TO, 0 to 65535",
                })
            })?);
        }
        let count: usize = ranges.iter().map(|r| if r.start() == r.end() { 1 } else { 2 }).sum();
        if count > PORTS_MAX {
            let why = format!("{count} ports in one list");
            return Err(host(text, why).expecting("expected at most 15; a range counts as two"));
        }
        let place = match &*option.text {
            "--sport" | "--source-port" | "--sports" | "--source-ports" => &mut self.matches.sports,
            "--ports" => &mut self.matches.ports,
            _ => &mut self.matches.dports,
        };
        once(place, not, ranges, option)
    }

    fn network(&self, word: &Word<'_>) -> Result<Prefix, Fault> {
        let found = match word.text.split_once('/') {
            Some((host, mask)) if mask.contains(['.', ':']) => masked(host, mask, self.family),
            Some(_) | None => prefix(&word.text, Some(self.family)),
        };
        let found = found.map_err(|why| {
            host(word, why).expecting(match self.family {
                Family::V4 => "expected ADDRESS or ADDRESS/LENGTH, as in 10.0.0.0/24",
                Family::V6 => "expected ADDRESS or ADDRESS/LENGTH, as in fd00::/64",
            })
        })?;
        Ok(found.network())
    }

    fn finish(self, program: &Word<'_>) -> Result<Placed, Fault> {
        let lacks = |what: &str| {
            host(program, format!("this line lacks {what}")).expecting(format!("expected {what}"))
        };
        if self.not {
            return Err(host(program, "`!` at the end of the line".to_owned()));
        }
        if !self.mangle {
            return Err(lacks("`-t mangle`"));
        }
        let place = self.place.ok_or_else(|| lacks("`-A PREROUTING`"))?;
        let target = match self.target {
            Some(target) => target,
            None if self.mark => return Err(lacks("`--set-mark MARK`")),
            None => return Err(lacks("`-j MARK --set-mark MARK`")),
        };
        let rule = MarkRule { family: self.family, matches: self.matches, target };
        Ok(Placed { command: Command::AddMarkRule { rule, place }, spots: self.spots })
    }
}

fn host(word: &Word<'_>, why: String) -> Fault {
    Fault::new(word.at.clone(), Mistake::Host(why))
}

fn value<'s, 'a>(option: &Word<'_>, words: &mut Words<'s, 'a>) -> Result<&'s Word<'a>, Fault> {
    words.next().ok_or_else(|| {
        let mistake = Mistake::MissingArgument(option.text.to_string());
        Fault::new(option.at.clone(), mistake).expecting("expected its value")
    })
}

/// Puts a match where there must not be one yet.
fn once<T>(slot: &mut Option<Match<T>>, not: bool, want: T, word: &Word<'_>) -> Result<(), Fault> {
    match slot.replace(Match { not, want }) {
        None => Ok(()),
        Some(_) => Err(host(word, format!("`{}` comes twice on this line", word.text))),
    }
}

fn is_number(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit())
}

/// Decimal, or hexadecimal with `0x`.
pub(super) fn integer(text: &str) -> Option<u32> {
    match text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
        Some(digits) if digits.bytes().all(|b| b.is_ascii_hexdigit()) => {
            u32::from_str_radix(digits, 16).ok()
        }
        Some(_) => None,
        None => number(text, 0..=i64::from(u32::MAX)).and_then(|n| u32::try_from(n).ok()),
    }
}

const fn has_ports(protocol: u8) -> bool {
    matches!(protocol, proto::TCP | proto::UDP | proto::SCTP)
}

const PROTOCOLS: &[(&str, u8)] = &[
    ("tcp", proto::TCP),
    ("udp", proto::UDP),
    ("sctp", proto::SCTP),
    ("icmp", proto::ICMP),
    ("icmpv6", proto::ICMPV6),
    ("ipv6-icmp", proto::ICMPV6),
    ("esp", proto::ESP),
    ("ah", proto::AH),
    ("gre", proto::GRE),
];

/// A protocol's number; `None` for `all`.
fn protocol(word: &Word<'_>) -> Result<Option<u8>, Fault> {
    let text = word.text.to_ascii_lowercase();
    if text == "all" || text == "0" {
        return Ok(None);
    }
    let named = PROTOCOLS.iter().find(|(name, _)| *name == text).map(|&(_, number)| number);
    let found = named.or_else(|| u8::try_from(number(&text, 1..=255)?).ok());
    found.map(Some).ok_or_else(|| {
        let names: Vec<_> = PROTOCOLS.iter().map(|&(name, _)| name).collect();
        host(word, format!("unknown protocol `{}`", word.text)).expecting(advice(
            "tcp, udp, sctp, icmp, all or a number",
            &text,
            &names,
        ))
    })
}

fn protocol_name(number: u8) -> String {
    let named = PROTOCOLS.iter().find(|&&(_, known)| known == number);
    named.map_or_else(|| number.to_string(), |(name, _)| (*name).to_owned())
}

/// `P`, `P:Q`, `P:` or `:Q`.
fn port_range(text: &str, protocol: u8) -> Result<RangeInclusive<u16>, String> {
    let port = |text: &str, default| match text {
        "" => Ok(default),
        text => port_number(text, Some(protocol), &Literal),
    };
    let Some((from, to)) = text.split_once(':') else {
        let port = port_number(text, Some(protocol), &Literal)?;
        return Ok(port..=port);
    };
    let (from, to) = (port(from, 0)?, port(to, u16::MAX)?);
    if from > to {
        return Err(format!("`{text}` ends before it begins"));
    }
    Ok(from..=to)
}

/// A network whose mask is written as an address.
fn masked(host: &str, mask: &str, family: Family) -> Result<Prefix, String> {
    let bits = match family {
        Family::V4 => {
            inet_aton(mask).map(|m| (u32::from(m).leading_ones(), u32::from(m).count_ones()))
        }
        Family::V6 => mask
            .parse::<Ipv6Addr>()
            .ok()
            .map(|m| (u128::from(m).leading_ones(), u128::from(m).count_ones())),
    };
    let addr: IpAddr = address(host, Some(family))?;
    match bits {
        Some((leading, all)) if leading == all => {
            Ok(Prefix { addr, len: u8::try_from(leading).unwrap_or(0) })
        }
        Some(_) => Err(format!("the mask `{mask}` has gaps")),
        None => Err(format!("`{mask}` is no mask")),
    }
}

fn list_text(list: &[RangeInclusive<u16>]) -> String {
    let part = |range: &RangeInclusive<u16>| match (range.start(), range.end()) {
        (from, to) if from == to => from.to_string(),
        (from, to) => format!("{from}:{to}"),
    };
    list.iter().map(part).collect::<Vec<_>>().join(",")
}

fn write_match<T>(
    f: &mut fmt::Formatter<'_>,
    option: &str,
    wanted: Option<&Match<T>>,
    text: impl Fn(&T) -> String,
) -> fmt::Result {
    let Some(wanted) = wanted else { return Ok(()) };
    let not = if wanted.not { "! " } else { "" };
    write!(f, " {not}{option} {}", text(&wanted.want))
}

#[cfg(test)]
mod tests {
    use super::super::command::commands;
    use super::super::grammar::{line, lines};
    use super::*;

    fn rule(text: &str) -> Result<MarkRule, String> {
        let words = lines(text).remove(0).expect("is well written");
        let found = line(&words).and_then(|line| commands(&line));
        match found.map(|mut all| all.remove(0).command) {
            Ok(Command::AddMarkRule { rule, .. }) => Ok(rule),
            Ok(other) => panic!("{other:?}"),
            Err(fault) => Err(fault.mistake.to_string()),
        }
    }

    fn target(text: &str) -> MarkTarget {
        rule(&format!("iptables -t mangle -A PREROUTING -j {text}")).expect("is right").target
    }

    #[test]
    fn every_way_of_marking_becomes_what_is_cleared_and_what_is_flipped() {
        for (text, value, mask) in [
            ("MARK --set-mark 1", 1, u32::MAX),
            ("MARK --set-mark 0x10/0xff", 0x10, 0xff),
            ("MARK --set-mark 0x110/0xff", 0x110, 0x1ff),
            ("MARK --set-xmark 0x110/0xff", 0x110, 0xff),
            ("MARK --or-mark 6", 6, 6),
            ("MARK --and-mark 0xf0", 0, 0xffff_ff0f),
            ("MARK --xor-mark 3", 3, 0),
        ] {
            assert_eq!(target(text), MarkTarget::Mark { value, mask }, "{text}");
        }
        assert_eq!(target("RETURN"), MarkTarget::End);
    }

    #[test]
    fn what_is_printed_is_read_as_the_same() {
        for text in [
            "iptables -w -t mangle -A PREROUTING -d 10.0.0.1 -p tcp --dport 80 -j MARK --set-mark 1",
            "iptables -w 5 -t mangle -I PREROUTING -p tcp -m tcp --dport https -j MARK --set-mark 1",
            "ip6tables -t mangle -A PREROUTING ! -s fd00::1/64 ! -p udp -j MARK --or-mark 0x4",
            "iptables --table mangle --append PREROUTING -i tap+ -p sctp -m multiport \
             --dports 80,443,8000:8080 --sports 1024: -j MARK --set-xmark 1/1",
            "iptables -t mangle -A PREROUTING -s 10.0.0.0/255.255.255.0 -p udp -m multiport \
             ! --ports 53 -m comment --comment 'not DNS' -j ACCEPT",
            "/sbin/iptables -t mangle -A PREROUTING -p icmp -d ! 10.0.0.0/8 -j RETURN",
        ] {
            let first = rule(text).unwrap_or_else(|why| panic!("{text}: {why}"));
            assert_eq!(rule(&first.to_string()), Ok(first.clone()), "{first}");
        }
    }

    #[test]
    fn what_is_no_rule_about_marks_is_refused_by_name() {
        for (text, why) in [
            ("-A PREROUTING -j MARK --set-mark 1", "lacks `-t mangle`"),
            ("-t nat -A PREROUTING -j MARK --set-mark 1", "table `nat`"),
            ("-t mangle -A INPUT -j MARK --set-mark 1", "chain `INPUT`"),
            ("-t mangle -A PREROUTING -j DNAT", "target `DNAT`"),
            ("-t mangle -A PREROUTING -j MARK", "lacks `--set-mark"),
            ("-t mangle -A PREROUTING -p tcp --dport 80", "lacks `-j MARK"),
            ("-t mangle -A PREROUTING -m state --state NEW", "match `state`"),
            ("-t mangle -A PREROUTING --dport 80", "without a protocol"),
            ("-t mangle -A PREROUTING -p tcp --dports 80,81", "without `-m multiport`"),
            ("-t mangle -A PREROUTING -p tcp --dport 9:8", "ends before it begins"),
            ("-t mangle -A PREROUTING -s fd00::1 -j ACCEPT", "no IPv4 address"),
            ("-t mangle -A PREROUTING -s 10.0.0.0/255.0.255.0", "has gaps"),
            ("-t mangle -A PREROUTING -j MARK --set-mark 0x100000000", "illegal mark"),
            ("-t mangle -A PREROUTING -o tap0", "`-o` means nothing"),
            ("-t mangle -D PREROUTING 1", "`-D` means nothing"),
            ("-t mangle -A PREROUTING ! -j ACCEPT", "`!` has no meaning"),
            ("-t mangle -A PREROUTING -p tcp -p udp", "comes twice"),
        ] {
            let found = rule(&format!("iptables {text}")).expect_err(text);
            assert!(found.contains(why), "{text}: {found}");
        }
    }
}
