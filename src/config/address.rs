//! Addresses, ports and numbers as ipvsadm and iproute2 read them.
//!
//! Kept: `inet_aton` with its short, octal and hexadecimal forms; an IPv6 address with a port stands in
//! brackets and one without does not; decimal numbers with leading blanks, `+` and zeros.
//! Left out on purpose: the resolver, and any file of services; rules mean the same everywhere.

use std::borrow::Cow;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::packet::{proto, Family, Mac};

use super::Prefix;

/// Names of ports: TCP's first, then UDP's.
const PORT_NAMES: &[(&str, u8, u16)] = &[
    ("ftp-data", proto::TCP, 20),
    ("ftp", proto::TCP, 21),
    ("ssh", proto::TCP, 22),
    ("telnet", proto::TCP, 23),
    ("smtp", proto::TCP, 25),
    ("domain", proto::TCP, 53),
    ("http", proto::TCP, 80),
    ("www", proto::TCP, 80),
    ("pop3", proto::TCP, 110),
    ("imap2", proto::TCP, 143),
    ("imap", proto::TCP, 143),
    ("ldap", proto::TCP, 389),
    ("https", proto::TCP, 443),
    ("submissions", proto::TCP, 465),
    ("submission", proto::TCP, 587),
    ("ldaps", proto::TCP, 636),
    ("rsync", proto::TCP, 873),
    ("imaps", proto::TCP, 993),
    ("pop3s", proto::TCP, 995),
    ("nfs", proto::TCP, 2049),
    ("mysql", proto::TCP, 3306),
    ("ms-wbt-server", proto::TCP, 3389),
    ("sip", proto::TCP, 5060),
    ("postgresql", proto::TCP, 5432),
    ("http-alt", proto::TCP, 8080),
    ("webcache", proto::TCP, 8080),
    ("domain", proto::UDP, 53),
    ("tftp", proto::UDP, 69),
    ("ntp", proto::UDP, 123),
    ("snmp", proto::UDP, 161),
    ("https", proto::UDP, 443),
    ("syslog", proto::UDP, 514),
    ("openvpn", proto::UDP, 1194),
    ("radius", proto::UDP, 1812),
    ("radius-acct", proto::UDP, 1813),
    ("sip", proto::UDP, 5060),
];

/// Who knows the names of hosts and ports.
pub trait Names {
    /// The IPv4 address of a host.
    fn host(&self, name: &str) -> Option<Ipv4Addr>;

    /// The port of a service of that protocol.
    fn port(&self, name: &str, protocol: u8) -> Option<u16>;

    /// Whether an IPv4 address may stand in brackets, where ipvsadm does not see its port. Nobody means
    /// that, so rules files refuse it.
    fn lets_brackets_hide_ports(&self) -> bool {
        false
    }
}

/// What rules files know: a few names of ports, and no names of hosts.
pub(super) struct Literal;

impl Names for Literal {
    fn host(&self, _: &str) -> Option<Ipv4Addr> {
        None
    }

    fn port(&self, name: &str, protocol: u8) -> Option<u16> {
        let found = PORT_NAMES.iter().find(|&&(known, p, _)| known == name && p == protocol);
        found.map(|&(_, _, port)| port)
    }
}

/// Reads `host[:port]`; the port's name is looked for under `protocol`.
///
/// # Errors
/// Why it is none, as half a sentence.
pub(super) fn host_port(
    text: &str,
    protocol: Option<u8>,
    names: &dyn Names,
) -> Result<(IpAddr, Option<u16>), String> {
    if text.starts_with('-') {
        return Err(format!("the option `{text}` stands where the address belongs"));
    }
    if !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit()) {
        return Err(format!("`{text}` is a number"));
    }
    if let Some(inner) = text.strip_prefix('[') {
        let Some((host, after)) = inner.split_once(']') else {
            return Err("`[` without `]`".to_owned());
        };
        let addr = host.parse::<Ipv6Addr>().map_err(|_| format!("`{host}` is no IPv6 address"));
        let Some(port) = after.strip_prefix(':') else {
            return Err("brackets are for an address with a port".to_owned());
        };
        return match addr {
            Ok(addr) => Ok((addr.into(), Some(port_number(port, protocol, names)?))),
            Err(_) if names.lets_brackets_hide_ports() => Ok((ipv4_or_name(host, names)?, None)),
            Err(why) => Err(why),
        };
    }
    if let Ok(addr) = text.parse::<Ipv6Addr>() {
        return Ok((addr.into(), None));
    }
    let (host, port) = match text.rsplit_once(':') {
        Some((host, port)) => (host, Some(port)),
        None => (text, None),
    };
    let addr = ipv4_or_name(host, names)?;
    let port = port.map(|port| port_number(port, protocol, names)).transpose()?;
    Ok((addr, port))
}

fn ipv4_or_name(host: &str, names: &dyn Names) -> Result<IpAddr, String> {
    let found = inet_aton(host).or_else(|| resolve(host, names));
    found.map(IpAddr::V4).ok_or_else(|| no_address(host))
}

/// An IPv4 address as the C library reads it: up to four parts, the last of which fills the rest;
/// decimal, octal or hexadecimal; what stands behind a blank is not looked at.
pub(super) fn inet_aton(text: &str) -> Option<Ipv4Addr> {
    let text = text.split([' ', '\t', '\n', '\u{b}', '\u{c}', '\r']).next()?;
    let parts: Vec<u32> = text.split('.').map(c_number).collect::<Option<_>>()?;
    let (&last, front) = parts.split_last()?;
    if front.len() > 3 || front.iter().any(|&part| part > 255) {
        return None;
    }
    let room = 32 - 8 * u32::try_from(front.len()).ok()?;
    if room < 32 && last >> room != 0 {
        return None;
    }
    let high = front.iter().fold(0u32, |sum, part| (sum << 8) | part);
    let high = high.checked_shl(room).unwrap_or(0);
    Some(Ipv4Addr::from(high | last))
}

/// A decimal number within `range`, as `strtol` reads it.
pub(super) fn number(text: &str, range: std::ops::RangeInclusive<i64>) -> Option<i64> {
    let digits = text.trim_start_matches([' ', '\t']);
    let digits = digits.strip_prefix('+').unwrap_or(digits);
    let unsigned = digits.strip_prefix('-').unwrap_or(digits);
    if unsigned.is_empty() || !unsigned.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    digits.parse().ok().filter(|n| range.contains(n))
}

/// `ADDR/LEN`, a bare address with all its bits, or `default` of the family that is known.
///
/// # Errors
/// Why it is none, as one sentence.
pub(super) fn prefix(text: &str, family: Option<Family>) -> Result<Prefix, String> {
    let (host, len) = match text.split_once('/') {
        Some((host, len)) => (host, Some(len)),
        None => (text, None),
    };
    let host = match len {
        Some(_) => filled_up(host),
        None => host.into(),
    };
    let addr = address(&host, family)?;
    let bits = Family::of(addr).bits();
    let len = match len {
        None => bits,
        Some(len) => number(len, 0..=i64::from(bits))
            .and_then(|len| u8::try_from(len).ok())
            .ok_or_else(|| format!("illegal prefix length `{len}`"))?,
    };
    Ok(Prefix { addr, len })
}

/// The IPv4 network whose zeros at the end were left out, as in `10/8`.
fn filled_up(host: &str) -> Cow<'_, str> {
    let parts = host.split('.').count();
    if parts > 3 || host.is_empty() || !host.bytes().all(|b| b.is_ascii_digit() || b == b'.') {
        return host.into();
    }
    format!("{host}{}", ".0".repeat(4 - parts)).into()
}

/// An address, of the `family` if one is asked for.
///
/// # Errors
/// Why it is none, as one sentence.
pub(super) fn address(text: &str, family: Option<Family>) -> Result<IpAddr, String> {
    let addr: IpAddr = text.parse().map_err(|_| no_address(text))?;
    match family {
        Some(Family::V4) if addr.is_ipv6() => Err(format!("`{text}` is no IPv4 address")),
        Some(Family::V6) if addr.is_ipv4() => Err(format!("`{text}` is no IPv6 address")),
        Some(_) | None => Ok(addr),
    }
}

/// Six pairs of hexadecimal digits between colons.
pub(super) fn mac(text: &str) -> Option<Mac> {
    let mut octets = [0; 6];
    let mut parts = text.split(':');
    for octet in &mut octets {
        let part = parts.next().filter(|p| (1..=2).contains(&p.len()))?;
        if !part.bytes().all(|b| b.is_ascii_hexdigit()) {
            return None;
        }
        *octet = u8::from_str_radix(part, 16).ok()?;
    }
    parts.next().is_none().then_some(Mac(octets))
}

/// Only what can be the name of a host is asked for.
fn resolve(host: &str, names: &dyn Names) -> Option<Ipv4Addr> {
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
    let letters = host.bytes().any(|b| b.is_ascii_alphabetic());
    (letters && host.bytes().all(plain)).then(|| names.host(host))?
}

/// A port by number, or by name under `protocol`.
///
/// # Errors
/// Why it is none, as half a sentence.
pub(super) fn port_number(
    text: &str,
    protocol: Option<u8>,
    names: &dyn Names,
) -> Result<u16, String> {
    if let Some(port) = number(text, 0..=65535).and_then(|port| u16::try_from(port).ok()) {
        return Ok(port);
    }
    if text.starts_with(|c: char| c.is_ascii_digit() || c == '+' || c == '-') || text.is_empty() {
        return Err(format!("`{text}` is no port"));
    }
    let Some(protocol) = protocol else {
        return Err(format!("the port's name `{text}` must follow the service"));
    };
    let found = names.port(text, protocol);
    found.ok_or_else(|| format!("the port's name `{text}` is not known"))
}

fn no_address(host: &str) -> String {
    if host.parse::<Ipv6Addr>().is_ok() {
        return format!("an IPv6 address with a port stands in brackets; write `[{host}]:PORT`");
    }
    let numeric = host.bytes().all(|b| b.is_ascii_digit() || b == b'.');
    if host.is_empty() {
        "there is no address".to_owned()
    } else if host.contains('/') {
        format!("`{host}` has a prefix length, and one address belongs here")
    } else if numeric || host.contains(':') {
        format!("`{host}` is no address")
    } else {
        format!("`{host}` is no address, and names are not looked up in rules files")
    }
}

fn c_number(text: &str) -> Option<u32> {
    let (digits, radix) = match text.as_bytes() {
        [b'0', b'x' | b'X', ..] => (&text[2..], 16),
        [b'0', _, ..] => (&text[1..], 8),
        _ => (text, 10),
    };
    // The library's own reading would allow a sign.
    let plain = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_hexdigit());
    plain.then(|| u32::from_str_radix(digits, radix).ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ipv4_addresses_are_read_as_the_c_library_reads_them() {
        for (text, wanted) in [
            ("10.1", [10, 0, 0, 1]),
            ("0x0a010101", [10, 1, 1, 1]),
            ("10.010.1.1", [10, 8, 1, 1]),
            ("24", [0, 0, 0, 24]),
            ("4294967295", [255, 255, 255, 255]),
        ] {
            assert_eq!(inet_aton(text), Some(wanted.into()), "{text}");
        }
        for text in ["", "10.", "256.1.1.1", "1.2.3.4.5", "1.2.3.256", "09", "+1.2.3.4", "0x"] {
            assert_eq!(inet_aton(text), None, "{text}");
        }
    }

    #[test]
    fn an_address_with_its_port_is_taken_as_ipvsadm_takes_it() {
        let tcp = Some(proto::TCP);
        let v6: Ipv6Addr = "fd00::1".parse().unwrap();
        assert_eq!(host_port("[fd00::1]:80", tcp, &Literal), Ok((v6.into(), Some(80))));
        assert_eq!(host_port("fd00::1", tcp, &Literal), Ok((v6.into(), None)));
        let odd: Ipv6Addr = "::1:71".parse().unwrap();
        assert_eq!(host_port("::1:71", tcp, &Literal), Ok((odd.into(), None)));
        assert_eq!(host_port("10.1.1.1:http", tcp, &Literal).unwrap().1, Some(80));
        for bad in ["99", "[fd00::1]", "10.1.1.1:", ":80", "10.1.1.1:65536", "x:80", "10.1.1.1/24"]
        {
            assert!(host_port(bad, tcp, &Literal).is_err(), "{bad}");
        }
        assert!(host_port("10.1.1.1:http", None, &Literal).is_err());
        assert!(host_port("10.1.1.1:http", Some(proto::UDP), &Literal).is_err());
    }

    #[test]
    fn numbers_are_decimal_and_without_garbage() {
        assert_eq!(number(" +007", 0..=9), Some(7));
        assert_eq!(number("7x", 0..=9), None);
        assert_eq!(number("", 0..=9), None);
        assert_eq!(number("99999999999999999999", 0..=9), None);
    }
}
