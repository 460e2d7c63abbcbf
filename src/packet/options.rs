//! IPv4 options, as far as a router looks at them (RFC 791 section 3.1, RFC 1812 section 4.2.2.1).
//!
//! Kept from the kernel: which byte of a malformed option the "parameter problem" points at
//! (`__ip_options_compile`), and that what stands in front of it has been edited by then; that source
//! routing is refused in silence, and only if nothing is malformed; that no label of a security option
//! (CIPSO) is known; that a recorded route, a timestamp and a label come back in answers and errors.
//!
//! Left out on purpose: source routes never come back; who came by one is told nothing.

use std::net::Ipv4Addr;

use super::checksum::{self, Delta};
use super::ip::V4_HEADER;
use super::{Headers, Packet};

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

/// Bytes of options at most.
const OPTIONS_MAX: usize = 40;

/// Flags of a timestamp: the time alone; with the address of who writes; of whom the sender names.
const TIME: u8 = 0;
const ADDRESS_AND_TIME: u8 = 1;
const PRESPECIFIED: u8 = 3;

/// Who looks at options.
#[derive(Debug, Clone, Copy)]
pub struct Host<F> {
    /// The address that it writes into them.
    pub addr: Ipv4Addr,
    /// Milliseconds since midnight, UTC (RFC 791).
    pub day_ms: u32,
    /// Whether an address is some other host's: neither ours nor a group's.
    pub elsewhere: F,
}

/// Looks at the options of the IPv4 packet that `headers` were parsed from and writes into them what
/// they ask for. The header's checksum follows; errors quote the packet as if it had not
/// ([`Packet::unsummed`]).
///
/// # Errors
/// The first mistake in them; source routing only if there is none.
pub fn note<F: Fn(Ipv4Addr) -> bool>(
    packet: &mut Packet,
    headers: &Headers,
    host: &Host<F>,
) -> Result<(), BadOption> {
    let end = usize::from(headers.transport);
    let mut before = [0; OPTIONS_MAX];
    let bytes = packet.bytes_mut();
    let options = &mut bytes[V4_HEADER..end];
    before[..options.len()].copy_from_slice(options);
    let mut seen = Seen::default();
    let found = note_all(options, host, &mut seen);
    if before[..end - V4_HEADER] != *options {
        let change = Delta::default().bytes(&before[..end - V4_HEADER], options);
        checksum::mend(bytes, 10, change);
        packet.unsummed = Some(change.reversed());
    }
    packet.recorded = seen.recorded;
    found.map_err(|bad| match bad {
        BadOption::Malformed(at) => BadOption::Malformed(at + 20),
        BadOption::SourceRoute => BadOption::SourceRoute,
    })
}

/// Records the route of a packet that travels on: over the address that it was received at goes the one
/// that it leaves from.
pub fn record(packet: &mut Packet, addr: Ipv4Addr) {
    let at = usize::from(std::mem::take(&mut packet.recorded));
    let bytes = packet.bytes_mut();
    if at < V4_HEADER || at + 4 > bytes.len() {
        return;
    }
    for (byte, new) in bytes[at..at + 4].iter_mut().zip(addr.octets()) {
        *byte = new;
    }
    sum_up(bytes);
}

/// Sums an IPv4 header up anew.
pub fn sum_up(bytes: &mut [u8]) {
    let end = usize::from(bytes[0] & 15) * 4;
    bytes[10..12].fill(0);
    let sum = checksum::of(&bytes[..end]);
    bytes[10..12].copy_from_slice(&sum.to_be_bytes());
}

/// The options that an answer or an error carries.
#[derive(Debug, Clone, Copy)]
pub struct Echo {
    bytes: [u8; OPTIONS_MAX],
    len: usize,
}

impl Echo {
    /// None at all.
    pub const NONE: Self = Self { bytes: [0; OPTIONS_MAX], len: 0 };

    /// The options, a multiple of four bytes.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes[..self.len]
    }

    fn add(&mut self, option: &[u8]) {
        self.bytes[self.len..self.len + option.len()].copy_from_slice(option);
        self.len += option.len();
    }
}

/// What comes back of the options of a packet whose header is `header`; `wrong` is the place of the byte
/// that an error points at. `None` if they leave no room for what is to be written.
pub fn echo<F: Fn(Ipv4Addr) -> bool>(
    header: &[u8],
    wrong: Option<u8>,
    host: &Host<F>,
) -> Option<Echo> {
    let mut out = Echo::NONE;
    let options = header.get(V4_HEADER..).unwrap_or_default();
    let wrong = wrong.map_or(usize::MAX, |at| usize::from(at).saturating_sub(V4_HEADER));
    let found = |kind: u8| {
        let last = all(options)
            .take_while(|&(at, option)| option[0] == CIPSO || wrong >= at + option.len());
        last.filter(|(_, option)| option[0] == kind).map(|(_, option)| option).next()
    };
    // Who came by a source route would be answered by it.
    let came_by = |option: &[u8]| option.get(2).is_some_and(|&pointer| pointer >= 8);
    if [LOOSE_SOURCE_ROUTE, STRICT_SOURCE_ROUTE].into_iter().filter_map(found).any(came_by) {
        return None;
    }
    if let Some(option) = found(RECORD_ROUTE) {
        let start = out.len;
        out.add(option);
        let (len, pointer) = (option.len(), usize::from(option[2]));
        if pointer <= len {
            let place = out.bytes.get_mut(start + pointer - 1..start + pointer + 3)?;
            if pointer + 3 > len {
                return None;
            }
            place.copy_from_slice(&host.addr.octets());
            out.bytes[start + 2] = option[2].wrapping_add(4);
        }
    }
    if let Some(option) = found(TIMESTAMP) {
        let start = out.len;
        out.add(option);
        stamp_again(&mut out.bytes[start..start + option.len()], host)?;
    }
    if let Some(option) = found(CIPSO) {
        out.add(option);
    }
    out.len = out.len.next_multiple_of(4);
    Some(out)
}

/// Writes the time of an answer into a timestamp option that is well-formed.
fn stamp_again<F: Fn(Ipv4Addr) -> bool>(option: &mut [u8], host: &Host<F>) -> Option<()> {
    let (mut pointer, flag) = (usize::from(option[2]), option[3] & 15);
    if pointer > option.len() || !matches!(flag, TIME | ADDRESS_AND_TIME | PRESPECIFIED) {
        return Some(());
    }
    let place = |pointer: usize| pointer - 1..pointer + 3;
    if flag == ADDRESS_AND_TIME {
        option.get_mut(place(pointer))?.copy_from_slice(&host.addr.octets());
        pointer += 4;
    }
    let field: [u8; 4] = option.get(place(pointer))?.try_into().ok()?;
    if flag == PRESPECIFIED {
        let room = pointer + 7 <= option.len();
        if !room || (host.elsewhere)(Ipv4Addr::from(field)) {
            return Some(());
        }
        pointer += 4;
    }
    option.get_mut(place(pointer))?.copy_from_slice(&host.day_ms.to_be_bytes());
    option[2] = u8::try_from(pointer + 4).ok()?;
    Some(())
}

/// The options that can be told apart, each with its place.
fn all(options: &[u8]) -> impl Iterator<Item = (usize, &[u8])> {
    let mut at = 0;
    std::iter::from_fn(move || loop {
        match *options.get(at)? {
            END => return None,
            NOP => at += 1,
            _ => {
                let len = usize::from(*options.get(at + 1)?);
                let option = options.get(at..at + len).filter(|option| option.len() >= 2)?;
                at += len;
                return Some((at - len, option));
            }
        }
    })
}

/// Places count from the first option here; there are 40 bytes of options at most.
fn note_all<F: Fn(Ipv4Addr) -> bool>(
    options: &mut [u8],
    host: &Host<F>,
    seen: &mut Seen,
) -> Result<(), BadOption> {
    let mut at = 0;
    while at < options.len() {
        if options[at] == END {
            options[at..].fill(END);
            break;
        }
        if options[at] == NOP {
            at += 1;
            continue;
        }
        let len = usize::from(options.get(at + 1).copied().unwrap_or(0));
        let option = options.get_mut(at..at + len).filter(|option| option.len() >= 2);
        let wrong = match option {
            None => Some(0),
            Some(option) => match mistake(option, seen) {
                None => {
                    write(option, host, seen, at);
                    None
                }
                wrong => wrong,
            },
        };
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

/// Writes address and time into an option at `at` that is well-formed and asks for them.
fn write<F: Fn(Ipv4Addr) -> bool>(option: &mut [u8], host: &Host<F>, seen: &mut Seen, at: usize) {
    let pointer = usize::from(option.get(2).copied().unwrap_or(0));
    let (addr, time) = (host.addr.octets(), host.day_ms.to_be_bytes());
    match option[0] {
        RECORD_ROUTE if pointer <= option.len() => {
            option[pointer - 1..pointer + 3].copy_from_slice(&addr);
            option[2] += 4;
            seen.recorded = u8::try_from(V4_HEADER + at + pointer - 1).unwrap_or(0);
        }
        TIMESTAMP if pointer <= option.len() => match option[3] & 15 {
            TIME => {
                option[pointer - 1..pointer + 3].copy_from_slice(&time);
                option[2] += 4;
            }
            ADDRESS_AND_TIME => {
                option[pointer - 1..pointer + 3].copy_from_slice(&addr);
                option[pointer + 3..pointer + 7].copy_from_slice(&time);
                option[2] += 8;
            }
            PRESPECIFIED => {
                let [a, b, c, d] = [0, 1, 2, 3].map(|i| option[pointer - 1 + i]);
                if !(host.elsewhere)(Ipv4Addr::new(a, b, c, d)) {
                    option[pointer + 3..pointer + 7].copy_from_slice(&time);
                    option[2] += 8;
                }
            }
            _ => {}
        },
        // Who finds no room is counted.
        TIMESTAMP if option[3] & 15 != PRESPECIFIED => option[3] += 0x10,
        _ => {}
    }
}

/// Which options there were.
#[derive(Default)]
struct Seen {
    record_route: bool,
    timestamp: bool,
    source_route: bool,
    /// Where an address was recorded.
    recorded: u8,
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
    let (overflow, flag) = (option[3] >> 4, option[3] & 15);
    if usize::from(pointer) > option.len() {
        return (flag != PRESPECIFIED && overflow == 15).then_some(3);
    }
    no_room(option, pointer, if matches!(flag, 1 | PRESPECIFIED) { 8 } else { 4 })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is wrong with options, and what they are then.
    fn noted(options: &[u8]) -> (Result<(), BadOption>, Vec<u8>) {
        let ours = Ipv4Addr::new(10, 0, 0, 1);
        let host = Host { addr: ours, day_ms: 0x0102_0304, elsewhere: |addr| addr != ours };
        let mut options = options.to_vec();
        (note_all(&mut options, &host, &mut Seen::default()), options)
    }

    fn check_all(options: &[u8]) -> Result<(), BadOption> {
        noted(options).0
    }

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
