//! What an FTP control connection says of data connections (RFC 959, RFC 2428).
//!
//! Text in, endpoints and places out; nothing here knows a connection. Kept from `ip_vs_ftp`: what it
//! reads it reads in one segment, the server's answer and the client's `PORT` and `EPRT` at the very
//! beginning, `PASV` and `EPSV` anywhere; the spellings that it lets through (`PORT10,…`, an empty
//! number for 0, words between code and parenthesis); that whatever is not understood is left alone.
//!
//! Left out on purpose: putting a message together from several segments.

use std::io::Write;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::ops::Range;

use crate::packet::{Endpoint, Family};

/// How the client asked for a port of the server's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Passive {
    /// `PASV`, answered by `227`.
    Plain,
    /// `EPSV`, answered by `229`.
    Extended,
}

/// What a client's segment says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Request {
    /// The server is to name a port.
    Passive(Passive),
    /// The server is to connect to this endpoint.
    Active(Endpoint),
}

/// What a server's segment says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Answer {
    /// The address that it names; `None` is the server's own.
    pub(super) addr: Option<IpAddr>,
    /// The port that it waits at.
    pub(super) port: u16,
    /// Where in the text both stand.
    pub(super) place: Range<usize>,
}

/// The longest way to write an endpoint: `255,255,255,255,255,255`.
pub(super) const WRITTEN_MAX: usize = 23;

/// What a client's segment says, if it is about data connections; `family` is that of the control
/// connection.
pub(super) fn request(text: &[u8], family: Family) -> Option<Request> {
    for at in 0..text.len().saturating_sub(5) {
        let rest = &text[at..];
        if family == Family::V4 && begins(rest, b"PASV\r\n") {
            return Some(Request::Passive(Passive::Plain));
        }
        if !begins(rest, b"EPSV") {
            continue;
        }
        match (rest[4], rest[5], rest.len()) {
            (b'\r', ..) => return Some(Request::Passive(Passive::Extended)),
            // Another family than the connection's is the server's to refuse.
            (b' ', number, len) => {
                let own = number == number_of(family) && len > 6;
                return own.then_some(Request::Passive(Passive::Extended));
            }
            _ => {}
        }
    }
    let plain = || {
        let start = after(text, b"PORT", b' ', true).filter(|_| family == Family::V4)?;
        let (addr, port, _) = numbers(text, start)?;
        Some(Endpoint::new(addr, port))
    };
    let extended = || {
        let start = after(text, b"EPRT", b' ', false)?;
        let (addr, port, _) = fields(text, start, family, false)?;
        Some(Endpoint::new(addr?, port))
    };
    plain().or_else(extended).map(Request::Active)
}

/// What the server answers to a client that asked for `passive`.
pub(super) fn answer(text: &[u8], passive: Passive, family: Family) -> Option<Answer> {
    match passive {
        Passive::Plain => {
            let start = after(text, b"227 ", b'(', true)?;
            let (addr, port, end) = numbers(text, start)?;
            Some(Answer { addr: Some(addr), port, place: start..end })
        }
        Passive::Extended => {
            let start = after(text, b"229 ", b'(', false)?;
            let (addr, port, end) = fields(text, start, family, true)?;
            Some(Answer { addr, port, place: start..end })
        }
    }
}

/// Writes what stands in an answer's place for the client: the virtual end.
pub(super) fn write(virt: Endpoint, passive: Passive, text: &mut [u8; WRITTEN_MAX]) -> &[u8] {
    let mut rest = &mut text[..];
    let [high, low] = virt.port.to_be_bytes();
    let written = match (passive, virt.addr) {
        (Passive::Plain, IpAddr::V4(addr)) => {
            let [a, b, c, d] = addr.octets();
            write!(rest, "{a},{b},{c},{d},{high},{low}")
        }
        (Passive::Extended, _) | (Passive::Plain, IpAddr::V6(_)) => {
            write!(rest, "|||{}|", virt.port)
        }
    };
    written.expect("the longest fits");
    let left = rest.len();
    &text[..WRITTEN_MAX - left]
}

fn begins(text: &[u8], word: &[u8]) -> bool {
    text.get(..word.len()).is_some_and(|head| head.eq_ignore_ascii_case(word))
}

/// Where the endpoint begins behind `word`: after the first run of `mark`, or, if that may be left
/// out, at the first digit.
fn after(text: &[u8], word: &[u8], mark: u8, may_lack: bool) -> Option<usize> {
    if !begins(text, word) {
        return None;
    }
    let mut marked = false;
    for (at, &byte) in text.iter().enumerate().skip(word.len()) {
        let starts = if marked { byte != mark } else { may_lack && byte.is_ascii_digit() };
        if starts {
            return Some(at);
        }
        marked |= byte == mark;
    }
    None
}

/// `h1,h2,h3,h4,p1,p2` from `at` on, and where it ends; something must follow it.
fn numbers(text: &[u8], at: usize) -> Option<(IpAddr, u16, usize)> {
    let (mut all, mut place) = ([0_u8; 6], 0);
    for (end, &byte) in text.iter().enumerate().skip(at) {
        match byte {
            b'0'..=b'9' => all[place] = all[place].checked_mul(10)?.checked_add(byte - b'0')?,
            b',' if place < 5 => place += 1,
            _ if place < 5 => return None,
            _ => {
                let [a, b, c, d, high, low] = all;
                let addr = Ipv4Addr::new(a, b, c, d);
                return Some((addr.into(), u16::from_be_bytes([high, low]), end));
            }
        }
    }
    None
}

/// `|family|address|port|` from `at` on, and where it ends; family and address may both be left out
/// of an answer. Any printable delimiter will do.
fn fields(
    text: &[u8],
    at: usize,
    family: Family,
    may_lack: bool,
) -> Option<(Option<IpAddr>, u16, usize)> {
    let delimiter = *text.get(at).filter(|&&byte| byte.is_ascii_graphic())?;
    let is_end = |&at: &usize| text.get(at) == Some(&delimiter);
    let (addr, port_at) = if is_end(&(at + 1)) {
        (None, Some(at + 2).filter(|at| may_lack && is_end(at))? + 1)
    } else {
        let right = text.get(at + 1) == Some(&number_of(family)) && is_end(&(at + 2));
        let rest = text.get(at + 3..).filter(|_| right)?;
        let len = rest.iter().take(ADDRESS_MAX).position(|&byte| byte == delimiter)?;
        (Some(address(&rest[..len], family)?), at + 3 + len + 1)
    };
    let digits = text.get(port_at..)?.iter().take_while(|byte| byte.is_ascii_digit());
    let (mut port, mut end) = (0_u16, port_at);
    for digit in digits {
        port = port.checked_mul(10)?.checked_add(u16::from(digit - b'0'))?;
        end += 1;
    }
    (port != 0 && is_end(&end)).then_some((addr, port, end + 1))
}

/// More bytes than this are no address.
const ADDRESS_MAX: usize = 46;

/// The number of a family in `EPSV` and `EPRT` (RFC 2428, section 2).
const fn number_of(family: Family) -> u8 {
    match family {
        Family::V4 => b'1',
        Family::V6 => b'2',
    }
}

fn address(text: &[u8], family: Family) -> Option<IpAddr> {
    if family == Family::V6 {
        return Some(std::str::from_utf8(text).ok()?.parse::<Ipv6Addr>().ok()?.into());
    }
    let mut octets = [0_u8; 4];
    let mut parts = text.split(|&byte| byte == b'.');
    for octet in &mut octets {
        let digits = parts.next().filter(|part| !part.is_empty())?;
        for digit in digits {
            let digit = digit.checked_sub(b'0').filter(|&digit| digit < 10)?;
            *octet = octet.checked_mul(10)?.checked_add(digit)?;
        }
    }
    parts.next().is_none().then(|| Ipv4Addr::from(octets).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn active(text: &str, family: Family) -> Option<String> {
        match request(text.as_bytes(), family)? {
            Request::Active(to) => Some(to.to_string()),
            Request::Passive(_) => None,
        }
    }

    fn named(text: &str, passive: Passive, family: Family) -> Option<(Option<IpAddr>, u16, &str)> {
        let Answer { addr, port, place } = answer(text.as_bytes(), passive, family)?;
        Some((addr, port, &text[place]))
    }

    #[test]
    fn pasv_and_epsv_are_found_anywhere_in_any_case() {
        let of = |text: &str, family| request(text.as_bytes(), family);
        let (plain, extended) =
            (Some(Request::Passive(Passive::Plain)), Some(Request::Passive(Passive::Extended)));
        assert_eq!(of("NOOP\r\npAsV\r\n", Family::V4), plain);
        assert_eq!(of("PASV\r\n", Family::V6), None);
        assert_eq!(of("PASV\n", Family::V4), None);
        assert_eq!(of("epsv\r\n", Family::V6), extended);
        assert_eq!(of("EPSV 1\r\n", Family::V4), extended);
        assert_eq!(of("EPSV 2\r\n", Family::V6), extended);
        for text in ["EPSV 2\r\n", "EPSV ALL\r\n", "EPSV\n", "EPSV 1", "EPSVx\r\n"] {
            assert_eq!(of(text, Family::V4), None, "{text}");
        }
    }

    #[test]
    fn port_and_eprt_name_an_endpoint_of_the_connections_family() {
        let v4 = Some("10.1.2.3:258".to_owned());
        for text in ["PORT 10,1,2,3,1,2\r\n", "port10,1,2,3,1,2\n", "EPRT |1|10.1.2.3|258|"] {
            assert_eq!(active(text, Family::V4), v4, "{text}");
            assert_eq!(active(text, Family::V6), None, "{text}");
        }
        let v6 = Some("[fd00::1]:258".to_owned());
        assert_eq!(active("EPRT !2!fd00::1!258!\r\n", Family::V6), v6);
        for text in [
            "PORT 10,1,2,3,1\r\n",
            "PORT 10,1,2,256,1,2\r\n",
            "PORT 10,1,2,3,1,2",
            " PORT 10,1,2,3,1,2\r\n",
            "EPRT ||10.1.2.3|258|",
            "EPRT |||258|",
            "EPRT |1|10.1.2.3|0|",
            "EPRT |1|10.1.2.3|65536|",
            "EPRT |1|10.1.2|258|",
            "EPRT |1|10.1.2.3.4|258|",
            "EPRT 11110.1.2.312581",
        ] {
            assert_eq!(active(text, Family::V4), None, "{text}");
        }
    }

    #[test]
    fn answers_are_read_with_and_without_parentheses_and_address() {
        let server = Some(IpAddr::from([10, 1, 2, 3]));
        for text in ["227 (10,1,2,3,1,2)", "227 Mode 10,1,2,3,1,2\r\n", "227 =(10,1,2,3,1,2.\r\n"] {
            let wanted = Some((server, 258, "10,1,2,3,1,2"));
            assert_eq!(named(text, Passive::Plain, Family::V4), wanted, "{text}");
        }
        let of = |text| named(text, Passive::Extended, Family::V6);
        assert_eq!(of("229 Mode (|||258|)\r\n"), Some((None, 258, "|||258|")));
        let addr = Some("fd00::1".parse().expect("an address"));
        assert_eq!(of("229 (|2|fd00::1|258|)"), Some((addr, 258, "|2|fd00::1|258|")));
        for text in ["229 |||258|\r\n", "229 (||258|)", "229 (|||258)", "227 (|||258|)", "229 ("] {
            assert_eq!(of(text), None, "{text}");
        }
    }

    #[test]
    fn the_longest_endpoint_fits_where_it_is_written() {
        let widest = Endpoint::new([255, 255, 255, 255].into(), 65535);
        let mut text = [0; WRITTEN_MAX];
        assert_eq!(write(widest, Passive::Plain, &mut text), b"255,255,255,255,255,255");
        assert_eq!(write(widest, Passive::Extended, &mut text), b"|||65535|");
    }
}
