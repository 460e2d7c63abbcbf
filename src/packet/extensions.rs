//! IPv6 extension headers (RFC 8200 section 4), as a router and a host look at them.
//!
//! A router looks at hop-by-hop options alone, a host at all that stands before what it is to take in.
//!
//! Kept from the kernel: what is malformed vanishes, an unknown option says itself whether anybody is
//! told; no more than seven bytes of padding in a row, all zero; eight options; what is said about routing
//! headers, of which none is followed. An authentication header is unknown to a host without IPsec.
//!
//! Left out on purpose: labels (CALIPSO, RFC 5570), which nobody has given a meaning here, and mobility.

use super::icmp::Error;
use super::ip::V6_HEADER;
use super::{proto, Family, Fragment, Headers};

const HOP_BY_HOP: u8 = 0;
const ROUTING: u8 = 43;
const DESTINATION: u8 = 60;

/// Options of one header that are looked at; padding does not count.
const OPTIONS_MAX: usize = 8;

/// Bytes of padding between two options.
const PADDING_MAX: usize = 7;

/// Why a packet ends here: in silence, or with an error to its sender.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Refused(pub Option<Error>);

const IN_SILENCE: Refused = Refused(None);

/// A parameter problem (RFC 4443 section 3.4): 0 a wrong field, 1 an unknown header, 2 an unknown option.
fn parameter(code: u8, at: usize) -> Refused {
    let rest = u32::try_from(at).unwrap_or(0).to_be_bytes();
    Refused(Some(Error::Relayed { kind: 4, code, rest }))
}

/// Looks at the hop-by-hop options of an IPv6 packet, where it has any.
///
/// # Errors
/// What is wrong with them.
pub fn for_router(packet: &[u8]) -> Result<(), Refused> {
    match packet.get(6) {
        Some(&HOP_BY_HOP) => options(packet, V6_HEADER, hop_by_hop).map(drop),
        _ => Ok(()),
    }
}

/// Looks at everything between the header and the transport of an IPv6 packet that was sent to us, but
/// hop-by-hop options, which [`for_router`] has seen.
///
/// # Errors
/// What is wrong with it, or that a header is unknown.
pub fn for_host(packet: &[u8]) -> Result<(), Refused> {
    let (mut field, mut at) = (6, V6_HEADER);
    loop {
        let here = at;
        match (packet.get(field), field) {
            (Some(&HOP_BY_HOP), 6) => at = options(packet, at, hop_by_hop)?,
            (Some(&DESTINATION), _) => at = options(packet, at, destination)?,
            (Some(&ROUTING), _) => at = routing(packet, at)?,
            (Some(&(HOP_BY_HOP | proto::AH)), _) => return Err(parameter(1, field)),
            _ => return Ok(()),
        }
        field = here;
    }
}

/// Why an IPv6 fragment is not put together with others but travels on as it is; a host says so to its
/// sender. A first one has the whole transport header (RFC 8200 section 4.5), all but the last are a
/// multiple of eight bytes long.
pub fn unfit(packet: &[u8], headers: &Headers) -> Option<Error> {
    const FRAGMENT: u8 = 44;
    if headers.family == Family::V4 || headers.fragment == Fragment::Whole {
        return None;
    }
    let (mut field, mut at) = (6, V6_HEADER);
    while *packet.get(field)? != FRAGMENT {
        let unit = if packet[field] == proto::AH { 4 } else { 8 };
        field = at;
        at += 8 + usize::from(*packet.get(at + 1)?) * unit;
    }
    let needed = match headers.proto {
        proto::TCP => 20,
        proto::UDP | proto::ICMPV6 => 8,
        _ => 1,
    };
    let is_short = usize::from(headers.transport) + needed > usize::from(headers.len);
    if headers.fragment == Fragment::First && is_short {
        return parameter(3, 0).0;
    }
    let more = packet.get(at + 3)? & 1 != 0;
    let len = usize::from(headers.len).checked_sub(at + 8)?;
    (more && len % 8 != 0).then_some(parameter(0, 4).0).flatten()
}

/// A routing header; none is followed. Gives where it ends.
fn routing(packet: &[u8], at: usize) -> Result<usize, Refused> {
    const MOBILE: u8 = 2;
    const LOW_POWER: u8 = 3;
    const SEGMENTS: u8 = 4;
    let header = packet.get(at..at + 8).ok_or(IN_SILENCE)?;
    let end = at + 8 + usize::from(header[1]) * 8;
    if end > packet.len() {
        return Err(IN_SILENCE);
    }
    match (header[2], header[3]) {
        (MOBILE | LOW_POWER | SEGMENTS, _) => Err(IN_SILENCE),
        (_, 0) => Ok(end),
        _ => Err(parameter(0, at + 2)),
    }
}

/// Looks at the options of a header at `at`; `known` says of one at some place whether it is known.
/// Gives where the header ends.
fn options(
    packet: &[u8],
    at: usize,
    known: impl Fn(&[u8], usize) -> Result<bool, Refused>,
) -> Result<usize, Refused> {
    const PAD1: u8 = 0;
    const PADN: u8 = 1;
    let end = at + 8 + usize::from(*packet.get(at + 1).ok_or(IN_SILENCE)?) * 8;
    if end > packet.len() {
        return Err(IN_SILENCE);
    }
    let (mut at, mut padding, mut count) = (at + 2, 0, 0);
    while at < end {
        let kind = packet[at];
        if kind == PAD1 {
            (at, padding) = (at + 1, padding + 1);
        } else {
            let after = at + 2 + usize::from(*packet[..end].get(at + 1).ok_or(IN_SILENCE)?);
            let option = packet[..end].get(at..after).ok_or(IN_SILENCE)?;
            if kind == PADN {
                padding += option.len();
                if option[2..].iter().any(|&byte| byte != 0) {
                    return Err(IN_SILENCE);
                }
            } else {
                (padding, count) = (0, count + 1);
                if count > OPTIONS_MAX {
                    return Err(IN_SILENCE);
                }
                if !known(packet, at)? {
                    unknown(packet, at)?;
                }
            }
            at = after;
        }
        if padding > PADDING_MAX {
            return Err(IN_SILENCE);
        }
    }
    Ok(end)
}

/// The hop-by-hop options that are known: router alert (RFC 2711), jumbograms (RFC 2675), of which none
/// is as long as it must be, and labels.
fn hop_by_hop(packet: &[u8], at: usize) -> Result<bool, Refused> {
    const ROUTER_ALERT: u8 = 5;
    const CALIPSO: u8 = 7;
    const IOAM: u8 = 0x31;
    const JUMBO: u8 = 0xc2;
    let len = packet[at + 1];
    match packet[at] {
        ROUTER_ALERT if len == 2 => Ok(true),
        IOAM if at & 3 == 0 => Ok(true),
        ROUTER_ALERT | IOAM | CALIPSO => Err(IN_SILENCE),
        JUMBO if len != 4 || at & 3 != 2 => Err(IN_SILENCE),
        JUMBO => {
            let is_short = packet[at + 2] == 0 && packet[at + 3] == 0;
            let has_length = packet[4] != 0 || packet[5] != 0;
            Err(match (is_short, has_length) {
                (true, _) => parameter(0, at + 2),
                (false, true) => parameter(0, at),
                (false, false) => IN_SILENCE,
            })
        }
        _ => Ok(false),
    }
}

/// The one destination option that is known says where a mobile sender is at home (RFC 6275 section 6.3),
/// and nobody here knows it there.
fn destination(packet: &[u8], at: usize) -> Result<bool, Refused> {
    const HOME_ADDRESS: u8 = 0xc9;
    match packet[at] {
        HOME_ADDRESS => Err(IN_SILENCE),
        _ => Ok(false),
    }
}

/// An unknown option says by its first two bits what becomes of its packet (RFC 8200 section 4.2).
fn unknown(packet: &[u8], at: usize) -> Result<(), Refused> {
    let to_group = packet[24] == 0xff;
    match packet[at] >> 6 {
        0 => Ok(()),
        2 => Err(parameter(2, at)),
        3 if !to_group => Err(parameter(2, at)),
        _ => Err(IN_SILENCE),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A packet with one header of options.
    fn with(kind: u8, options: &[u8]) -> Vec<u8> {
        let mut packet = vec![0x60, 0, 0, 0, 0, 16, kind, 64];
        packet.extend_from_slice(&[0xfd; 32]);
        packet.extend_from_slice(&[59, u8::try_from((options.len() + 2) / 8 - 1).unwrap()]);
        packet.extend_from_slice(options);
        packet
    }

    #[test]
    fn an_unknown_option_says_what_becomes_of_its_packet() {
        let said = |kind: u8| for_router(&with(HOP_BY_HOP, &[kind, 4, 0, 0, 0, 0]));
        assert_eq!(said(0x1e), Ok(()));
        assert_eq!(said(0x5e), Err(IN_SILENCE));
        assert_eq!(said(0x9e), Err(parameter(2, 42)));
        assert_eq!(said(0xde), Err(parameter(2, 42)));
        assert_eq!(for_host(&with(DESTINATION, &[0x9e, 4, 0, 0, 0, 0])), Err(parameter(2, 42)));
        assert_eq!(for_router(&with(DESTINATION, &[0x9e, 4, 0, 0, 0, 0])), Ok(()));
    }

    #[test]
    fn padding_is_short_and_empty() {
        for (options, right) in [
            (&[1, 4, 0, 0, 0, 0][..], true),
            (&[1, 4, 0, 0, 7, 0], false),
            (&[1, 12, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0], false),
            (&[0; 14], false),
            (&[1, 5, 0, 0, 0, 0], false),
            (&[5, 2, 0, 0, 0, 0], true),
            (&[5, 3, 0, 0, 0, 0], false),
            (&[0xc2, 4, 0, 0, 9, 9], false),
        ] {
            assert_eq!(for_router(&with(HOP_BY_HOP, options)).is_ok(), right, "{options:?}");
        }
    }

    #[test]
    fn no_bytes_make_the_walk_run_away() {
        let mut state = 1_u32;
        for _ in 0..20_000 {
            let mut packet = with(HOP_BY_HOP, &[0; 30]);
            for byte in &mut packet[40..] {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                *byte = [0, 1, 2, 3, 5, 7, 43, 44, 51, 60, 0x31, 0x9e, 0xc2, 0xde, 40, 255]
                    [(state >> 28) as usize];
            }
            packet.truncate(40 + (state >> 16) as usize % 33);
            let _ = (for_router(&packet), for_host(&packet));
        }
    }
}
