//! The words of a packet's line, and its values.

use std::fmt;

use super::packet::{Spec, FIELDS};

/// What a packet is, by its first word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Kind {
    /// `udp`
    Udp,
    /// `tcp`
    Tcp,
    /// `icmp`, of either family
    Icmp,
    /// `ipip`: a packet inside a packet
    Ipip,
    /// `arp`
    Arp,
    /// `nd`: neighbour solicitation and advertisement
    Nd,
    /// `ip`: any other protocol, and later fragments
    #[default]
    Ip,
}

const KINDS: &[(&str, Kind)] = &[
    ("udp", Kind::Udp),
    ("tcp", Kind::Tcp),
    ("icmp", Kind::Icmp),
    ("ipip", Kind::Ipip),
    ("arp", Kind::Arp),
    ("nd", Kind::Nd),
    ("ip", Kind::Ip),
];

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (name, _) = KINDS.iter().find(|(_, kind)| kind == self).expect("every kind has a name");
        f.write_str(name)
    }
}

/// ICMP messages by name: type and code for IPv4, for IPv6.
type Numbers = Option<(u8, u8)>;
const MESSAGES: &[(&str, Numbers, Numbers)] = &[
    ("echo", Some((8, 0)), Some((128, 0))),
    ("echo-reply", Some((0, 0)), Some((129, 0))),
    ("unreachable-net", Some((3, 0)), Some((1, 0))),
    ("unreachable-host", Some((3, 1)), Some((1, 3))),
    ("unreachable-protocol", Some((3, 2)), None),
    ("unreachable-port", Some((3, 3)), Some((1, 4))),
    ("too-big", Some((3, 4)), Some((2, 0))),
    ("quench", Some((4, 0)), None),
    ("redirect", Some((5, 1)), None),
    ("time-exceeded", Some((11, 0)), Some((3, 0))),
    ("reassembly-time-exceeded", Some((11, 1)), Some((3, 1))),
    ("parameter", Some((12, 0)), Some((4, 0))),
];

/// Reads a packet's line.
pub(crate) fn parse(text: &str) -> Result<Spec, String> {
    let tokens = tokens(text)?;
    let (first, rest) = tokens.split_first().ok_or("a packet is missing")?;
    let kind = KINDS.iter().find(|(name, _)| name == first);
    let (_, kind) = kind.ok_or_else(|| format!("{first} is no kind of packet"))?;
    let mut spec = Spec { kind: *kind, ..Spec::default() };
    let rest = match kind {
        Kind::Arp => arp_ends(&mut spec, rest)?,
        Kind::Nd => {
            let (message, rest) = rest.split_first().ok_or("nd solicit or nd advert")?;
            word(&mut spec, message)?;
            ends(&mut spec, rest)?
        }
        _ => ends(&mut spec, rest)?,
    };
    for token in rest {
        word(&mut spec, token)?;
    }
    Ok(spec)
}

/// `who-has TARGET tell SENDER`, or `SENDER is-at MAC tell TARGET`.
fn arp_ends<'a>(spec: &mut Spec, tokens: &'a [String]) -> Result<&'a [String], String> {
    let words: Vec<&str> = tokens.iter().map(String::as_str).collect();
    match words[..] {
        ["who-has", target, "tell", sender, ..] => {
            spec.set("op", 1);
            spec.set("src", sender);
            spec.set("dst", target);
            Ok(&tokens[4..])
        }
        [sender, "is-at", mac, "tell", target, ..] => {
            spec.set("op", 2);
            spec.set("src", sender);
            spec.set("mac", mac);
            spec.set("dst", target);
            Ok(&tokens[5..])
        }
        _ => Err("arp who-has TARGET tell SENDER, or arp SENDER is-at MAC tell TARGET".into()),
    }
}

/// `SRC > DST`, with ports where there are any.
fn ends<'a>(spec: &mut Spec, tokens: &'a [String]) -> Result<&'a [String], String> {
    let [src, arrow, dst, rest @ ..] = tokens else { return Err("SRC > DST is missing".into()) };
    if arrow != ">" {
        return Err(format!("> expected, not {arrow}"));
    }
    end(spec, src, "src", "sport")?;
    end(spec, dst, "dst", "dport")?;
    Ok(rest)
}

fn end(spec: &mut Spec, text: &str, addr: &'static str, port: &'static str) -> Result<(), String> {
    if let Ok(both) = text.parse::<std::net::SocketAddr>() {
        spec.set(addr, both.ip());
        spec.set(port, both.port());
        return Ok(());
    }
    let parsed: std::net::IpAddr = text.parse().map_err(|_| format!("{text} is no endpoint"))?;
    spec.set(addr, parsed);
    Ok(())
}

/// `"data"`, `[packet]`, `name=value`, TCP flags or an ICMP message.
fn word(spec: &mut Spec, token: &str) -> Result<(), String> {
    if let Some(inner) = token.strip_prefix('[') {
        let inner = inner.strip_suffix(']').ok_or("] is missing")?;
        spec.inner = Some(Box::new(parse(inner)?));
        return Ok(());
    }
    if let Some(text) = token.strip_prefix('"') {
        let text = text.trim_end_matches('"').replace("\\r", "\r").replace("\\n", "\n");
        spec.data = Some(text.into_bytes());
        return Ok(());
    }
    if let Some((name, value)) = token.split_once('=') {
        return field(spec, name, value);
    }
    match spec.kind {
        Kind::Tcp => {
            spec.set("flags", flag_letters(tcp_flags(token)?));
            Ok(())
        }
        Kind::Nd => {
            let kind = match token {
                "solicit" => 135,
                "advert" => 136,
                _ => return Err(format!("nd solicit or advert, not {token}")),
            };
            spec.set("type", kind);
            Ok(())
        }
        Kind::Icmp => message(spec, token),
        Kind::Udp | Kind::Ipip | Kind::Arp | Kind::Ip => Err(format!("{token} means nothing here")),
    }
}

fn field(spec: &mut Spec, name: &str, value: &str) -> Result<(), String> {
    if name == "data" {
        spec.data = Some(pattern(number(name, value)? as usize));
        return Ok(());
    }
    let known = FIELDS.iter().find(|&&field| field == name);
    let name = known.ok_or_else(|| format!("there is no field {name}"))?;
    let textual =
        ["topts", "opts", "sum", "mac", "cut", "target", "src", "dst", "flags"].contains(name);
    match textual {
        true if *name == "flags" => spec.set(name, flag_letters(tcp_flags(value)?)),
        true => spec.set(name, value),
        false => spec.set(name, number(name, value)?),
    }
    Ok(())
}

fn message(spec: &mut Spec, token: &str) -> Result<(), String> {
    let row = MESSAGES.iter().find(|(name, ..)| *name == token);
    let (_, v4, v6) = row.ok_or_else(|| format!("{token} is no ICMP message"))?;
    let six = spec.of("src").is_some_and(|src| src.contains(':'));
    let (kind, code) = (if six { *v6 } else { *v4 }).ok_or("not in this family")?;
    spec.set("type", kind);
    spec.set("code", code);
    Ok(())
}

/// Splits at blanks, but not within quotes or brackets.
fn tokens(text: &str) -> Result<Vec<String>, String> {
    let (mut out, mut token, mut depth, mut quoted) = (Vec::new(), String::new(), 0, false);
    for letter in text.chars() {
        match letter {
            '"' => quoted = !quoted,
            '[' if !quoted => depth += 1,
            ']' if !quoted => depth -= 1,
            _ => {}
        }
        if letter.is_whitespace() && depth == 0 && !quoted {
            if !token.is_empty() {
                out.push(std::mem::take(&mut token));
            }
        } else {
            token.push(letter);
        }
    }
    if depth != 0 || quoted {
        return Err("a bracket or quote is not closed".into());
    }
    if !token.is_empty() {
        out.push(token);
    }
    Ok(out)
}

/// A number, decimal or `0x…`.
pub(crate) fn number(name: &str, text: &str) -> Result<u32, String> {
    let parsed = match text.strip_prefix("0x") {
        Some(digits) => u32::from_str_radix(digits, 16),
        None => text.parse(),
    };
    parsed.map_err(|_| format!("{name}: {text} is no number"))
}

/// Bytes that differ from their neighbours: `data=N`.
pub(crate) fn pattern(len: usize) -> Vec<u8> {
    (0..len).map(|i| (i % 251) as u8).collect()
}

/// Bytes from hexadecimal digits.
pub(crate) fn hex(text: &str) -> Result<Vec<u8>, String> {
    let digits = text.as_bytes();
    if digits.len() % 2 != 0 {
        return Err("an odd number of digits".into());
    }
    let pair = |pair: &[u8]| {
        let text = std::str::from_utf8(pair).map_err(|_| "not digits")?;
        u8::from_str_radix(text, 16).map_err(|_| format!("{text} is not hexadecimal"))
    };
    digits.chunks(2).map(pair).collect()
}

/// A MAC address.
pub(crate) fn mac(text: &str) -> Result<[u8; 6], String> {
    let bytes = hex(&text.replace(':', ""))?;
    bytes.try_into().map_err(|_| format!("{text} is no MAC address"))
}

const FLAGS: &str = "FSRPAUEC";

/// TCP flags from their letters; `-` for none.
pub(crate) fn tcp_flags(text: &str) -> Result<u8, String> {
    let bit = |letter| FLAGS.find(letter).ok_or_else(|| format!("{text} are no TCP flags"));
    let letters = text.chars().filter(|&letter| letter != '-');
    letters.map(bit).try_fold(0, |flags, bit| Ok(flags | 1 << bit?))
}

/// Letters of TCP flags, in the order in which people write them (`SA`, `FA`, `PA`).
pub(crate) fn flag_letters(flags: u8) -> String {
    let set = |letter: &char| flags & tcp_flags(&letter.to_string()).unwrap_or(0) != 0;
    let letters: String = FLAGS.chars().filter(set).collect();
    if letters.is_empty() {
        "-".into()
    } else {
        letters
    }
}
