//! IPv4 options, as far as a router looks at them (RFC 791 section 3.1, RFC 1812 section 4.2.2.1).
//!
//! Kept from the kernel: which byte of a malformed option the "parameter problem" points at
//! (`__ip_options_compile`); that source routing is refused in silence, and only if nothing is
//! malformed; that no label of a security option (CIPSO) is known.
//!
//! Left out on purpose: record route and timestamp travel unedited, since whoever edits needs the time
//! of day; answers of ours carry no options.

use super::ip::V4_HEADER;
use super::{Family, Headers};

/// What is wrong with the options of a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BadOption {
    /// The byte at this place of the packet is wrong (RFC 792: parameter problem).
    Malformed(u8),
    /// It asks for source routing.
    SourceRoute,
}

const END: u8 = 0;
const NOP: u8 = 1;
const RECORD_ROUTE: u8 = 7;
const TIMESTAMP: u8 = 68;
const LOOSE_SOURCE_ROUTE: u8 = 131;
const CIPSO: u8 = 134;
const STRICT_SOURCE_ROUTE: u8 = 137;
const ROUTER_ALERT: u8 = 148;

/// Looks at the options of a packet that `headers` were parsed from.
///
/// # Errors
/// The first mistake in them; source routing only if there is none.
pub fn check(bytes: &[u8], headers: &Headers) -> Result<(), BadOption> {
    if headers.family == Family::V6 {
        return Ok(());
    }
    let options = bytes.get(V4_HEADER..usize::from(headers.transport)).unwrap_or_default();
    check_all(options).map_err(|bad| match bad {
        BadOption::Malformed(at) => BadOption::Malformed(at + 20),
        BadOption::SourceRoute => BadOption::SourceRoute,
    })
}

/// Places count from the first option here; there are 40 bytes of options at most.
fn check_all(options: &[u8]) -> Result<(), BadOption> {
    let (mut at, mut seen) = (0, Seen::default());
    while let Some((&kind, rest)) = options.get(at..).and_then(<[u8]>::split_first) {
        if kind == END {
            break;
        }
        if kind == NOP {
            at += 1;
            continue;
        }
        let len = usize::from(rest.first().copied().unwrap_or(0));
        let option = options.get(at..at + len).filter(|option| option.len() >= 2);
        let wrong = option.map_or(Some(0), |option| mistake(option, &mut seen));
        if let Some(offset) = wrong {
            return Err(BadOption::Malformed(u8::try_from(at + offset).unwrap_or(u8::MAX)));
        }
        at += len;
    }
    if seen.source_route {
        return Err(BadOption::SourceRoute);
    }
    Ok(())
}

/// Which options there were.
#[derive(Default)]
struct Seen {
    record_route: bool,
    timestamp: bool,
    source_route: bool,
}

/// Which byte of an option is wrong.
fn mistake(option: &[u8], seen: &mut Seen) -> Option<usize> {
    let pointer = option.get(2).copied().unwrap_or(0);
    match option[0] {
        RECORD_ROUTE => {
            if std::mem::replace(&mut seen.record_route, true) {
                return Some(0);
            }
            short(option, 3, pointer, 4).or_else(|| no_room(option, pointer, 4))
        }
        LOOSE_SOURCE_ROUTE | STRICT_SOURCE_ROUTE => short(option, 3, pointer, 4)
            .or_else(|| std::mem::replace(&mut seen.source_route, true).then_some(0)),
        TIMESTAMP => {
            if std::mem::replace(&mut seen.timestamp, true) {
                return Some(0);
            }
            short(option, 4, pointer, 5).or_else(|| timestamp(option, pointer))
        }
        CIPSO => Some(if option.len() < 8 { 1 } else { 2 }),
        ROUTER_ALERT => (option.len() < 4).then_some(1),
        _ => None,
    }
}

/// The length or the pointer is too small.
fn short(option: &[u8], len_min: usize, pointer: u8, pointer_min: u8) -> Option<usize> {
    if option.len() < len_min {
        return Some(1);
    }
    (pointer < pointer_min).then_some(2)
}

/// The pointer leaves less than `bytes` of room, but is not at the end.
fn no_room(option: &[u8], pointer: u8, bytes: usize) -> Option<usize> {
    let pointer = usize::from(pointer);
    (pointer <= option.len() && pointer + bytes - 1 > option.len()).then_some(2)
}

/// A timestamp with a pointer beyond its fixed part (RFC 791: flags 0, 1 and 3; overflow count).
fn timestamp(option: &[u8], pointer: u8) -> Option<usize> {
    const PRESPECIFIED: u8 = 3;
    let (overflow, flag) = (option[3] >> 4, option[3] & 15);
    if usize::from(pointer) > option.len() {
        return (flag != PRESPECIFIED && overflow == 15).then_some(3);
    }
    no_room(option, pointer, if matches!(flag, 1 | PRESPECIFIED) { 8 } else { 4 })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pointer_is_at_the_byte_that_the_kernel_points_at() {
        for (options, at) in [
            (&[7, 2, 0, 0][..], 1),
            (&[7, 0, 0, 0], 0),
            (&[1, 1, 7, 0], 2),
            (&[7, 7, 3, 0, 0, 0, 0, 0], 2),
            (&[7, 7, 5, 0, 0, 0, 0, 0], 2),
            (&[68, 3, 5, 0], 1),
            (&[68, 4, 4, 0], 2),
            (&[68, 8, 9, 0xf0, 0, 0, 0, 0], 3),
            (&[68, 8, 5, 1, 0, 0, 0, 0], 2),
            (&[131, 2, 0, 0], 1),
            (&[131, 7, 3, 0, 0, 0, 0, 0], 2),
            (&[131, 3, 4, 137, 3, 4, 0, 0], 3),
            (&[148, 3, 0, 0], 1),
            (&[7, 3, 4, 7, 3, 4, 0, 0], 3),
            (&[134, 8, 0, 0, 0, 1, 1, 2], 2),
            (&[130, 40, 0, 0], 0),
            (&[1, 1, 1, 7], 3),
        ] {
            assert_eq!(check_all(options), Err(BadOption::Malformed(at)), "{options:?}");
        }
    }

    #[test]
    fn what_is_well_formed_passes_and_source_routing_does_not() {
        for options in [
            &[7, 3, 4, 0][..],
            &[7, 7, 8, 0, 0, 0, 0, 0],
            &[68, 4, 5, 0],
            &[68, 12, 5, 1, 0, 0, 0, 0, 0, 0, 0, 0],
            &[148, 4, 0, 1],
            &[222, 5, 9, 9, 9, 0, 0, 0],
            &[0, 255, 255, 255],
            &[],
        ] {
            assert_eq!(check_all(options), Ok(()), "{options:?}");
        }
        assert_eq!(check_all(&[131, 7, 4, 1, 2, 3, 4, 0]), Err(BadOption::SourceRoute));
    }

    #[test]
    fn no_options_make_the_walk_run_away() {
        let mut state = 1_u32;
        for _ in 0..20_000 {
            let options: Vec<u8> = (0..40)
                .map(|_| {
                    state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                    [0, 1, 7, 68, 131, 134, 137, 148, 2, 3, 4, 5, 8, 9, 40, 255]
                        [(state >> 28) as usize]
                })
                .collect();
            if let Err(BadOption::Malformed(at)) = check_all(&options) {
                assert!(at < 40);
            }
        }
    }
}
