//! Which queue of a TUN or TAP device a frame comes to: told to the kernel by a small program.
//!
//! Left to itself, a device of many queues remembers for each flow which queue wrote last, and takes every
//! frame apart for that, on the way in and on the way out, which costs more than all that we do with it. The
//! program takes the client's end of a flow, which is the same both ways whatever is rewritten: both directions
//! come to one worker, which spares the other being woken. That end is taken to be the one with the higher
//! port: services have the low ones, and systems, and address translators on the way, give high ones to who
//! does not ask for one. Where no port is higher, all addresses and ports count. That a flow's directions come
//! to two workers costs a wake-up, and nothing else. It is a filter in the machine language of BPF, as a
//! socket's would be.
//!
//! Where the kernel refuses it (`CAP_BPF` is missing, or BPF), the device goes on in its own way.

use std::fs::File;

use log::debug;

use super::sys;

// linux/bpf_common.h, linux/bpf.h: class, size, mode or operation, and operand of an instruction.
const LOAD_WORD: u8 = 0x20;
const LOAD_HALF: u8 = 0x28;
const LOAD_BYTE: u8 = 0x30;
const LOAD_WORD_FROM: u8 = 0x40;
const COPY: u8 = 0xbf;
const SET: u8 = 0xb7;
const XOR: u8 = 0xaf;
const AND: u8 = 0x57;
const SHIFT_LEFT: u8 = 0x67;
const MULTIPLY_32: u8 = 0x24;
const SHIFT_RIGHT_32: u8 = 0x74;
const JUMP: u8 = 0x05;
const IF_EQUAL: u8 = 0x15;
const IF_NOT_EQUAL: u8 = 0x55;
const IF_SAME: u8 = 0x1d;
const IF_GREATER: u8 = 0x2d;
const EXIT: u8 = 0x95;

/// Loads leave what they find in 0 and take the frame from 6, where it is put from 1.
const FOUND: u8 = 0;
const GIVEN: u8 = 1;
const FRAME: u8 = 6;
const SOURCE: u8 = 7;
const TARGET: u8 = 8;
const PORTS: u8 = 9;

/// Has the kernel choose among the queues of the device of `file` by the flows alone. Frames have a
/// link header of `link` bytes.
pub(super) fn steer(file: &File, name: &str, link: usize) {
    match sys::load_filter(&program(link)).and_then(|filter| sys::steer_by(file, Some(&filter))) {
        Ok(()) => debug!("port {name}: queues are chosen by our own program"),
        Err(e) => debug!("port {name}: queues are chosen by the kernel: {e}"),
    }
}

/// Leaves the choice to the kernel again.
pub(super) fn release(file: &File) {
    // A device that never had a program has lost nothing.
    let _ = sys::steer_by(file, None);
}

/// An instruction as the kernel reads it.
type Op = [u8; 8];

/// The program. A load beyond the end of a frame ends it with queue 0, where also everything goes that
/// is not IP.
fn program(link: usize) -> Vec<Op> {
    let link = i32::try_from(link).expect("link headers are short");
    let at = |offset: i32| link + offset;
    let byte = |offset| op(LOAD_BYTE, 0, 0, 0, at(offset));
    let add = |to| move |offset| [op(LOAD_WORD, 0, 0, 0, at(offset)), op(XOR, to, FOUND, 0, 0)];
    let version = |wanted, otherwise: usize| {
        [byte(0), op(AND, FOUND, 0, 0, 0xf0), op(IF_NOT_EQUAL, FOUND, 0, jump(otherwise), wanted)]
    };

    let mut six: Vec<Op> = (8..24).step_by(4).flat_map(add(SOURCE)).collect();
    six.extend((24..40).step_by(4).flat_map(add(TARGET)));
    // TCP, UDP and SCTP have their ports first; what other headers hold may change with the packet.
    six.push(byte(6));
    six.extend([(6, 3), (17, 2), (132, 1)].map(|(tcp, over)| op(IF_EQUAL, FOUND, 0, over, tcp)));
    six.push(op(JUMP, 0, 0, 2, 0));
    six.extend(add(PORTS)(40));
    let six = [&version(0x60, six.len())[..], &six].concat();

    let ports_of_four = [
        byte(0),
        op(AND, FOUND, 0, 0, 15),
        op(SHIFT_LEFT, FOUND, 0, 0, 2),
        op(COPY, PORTS, FOUND, 0, 0),
        op(LOAD_WORD_FROM, 0, PORTS, 0, at(0)),
        op(COPY, PORTS, FOUND, 0, 0),
    ];
    let mut four = [add(SOURCE)(12), add(TARGET)(16)].concat();
    // Fragments have no ports, but for the first, and must not overtake each other.
    four.extend([op(LOAD_HALF, 0, 0, 0, at(6)), op(AND, FOUND, 0, 0, 0x3fff)]);
    four.push(op(IF_NOT_EQUAL, FOUND, 0, jump(ports_of_four.len()), 0));
    four.extend(ports_of_four);
    four.push(op(JUMP, 0, 0, jump(six.len()), 0));

    let begin = [
        op(COPY, FRAME, GIVEN, 0, 0),
        op(SET, SOURCE, 0, 0, 0),
        op(SET, TARGET, 0, 0, 0),
        op(SET, PORTS, 0, 0, 0),
    ];
    let choice = client();
    // Every bit has its say in every bit of the outcome: ports of one client may all be even, and a
    // device with two queues looks at one bit.
    let mix = |fold| {
        [
            op(COPY, TARGET, SOURCE, 0, 0),
            op(SHIFT_RIGHT_32, TARGET, 0, 0, fold),
            op(XOR, SOURCE, TARGET, 0, 0),
            op(MULTIPLY_32, SOURCE, 0, 0, 0x61c8_8647),
        ]
    };
    let end =
        [op(SHIFT_RIGHT_32, SOURCE, 0, 0, 16), op(COPY, FOUND, SOURCE, 0, 0), op(EXIT, 0, 0, 0, 0)];
    let end = [&mix(16)[..], &mix(15), &end].concat();
    [&begin[..], &version(0x40, four.len()), &four, &six, &choice, &end].concat()
}

/// Leaves in [`SOURCE`] the client's address and port, or all of both ends where no end looks like one.
fn client() -> Vec<Op> {
    let target =
        [op(COPY, SOURCE, TARGET, 0, 0), op(XOR, SOURCE, PORTS, 0, 0), op(JUMP, 0, 0, 4, 0)];
    let source = [op(XOR, SOURCE, FOUND, 0, 0), op(JUMP, 0, 0, 2, 0)];
    let all = [op(XOR, SOURCE, TARGET, 0, 0), op(XOR, SOURCE, PORTS, 0, 0)];
    let look = [
        op(COPY, FOUND, PORTS, 0, 0),
        op(SHIFT_RIGHT_32, FOUND, 0, 0, 16),
        op(AND, PORTS, 0, 0, 0xffff),
        op(IF_SAME, FOUND, PORTS, jump(1 + target.len() + source.len()), 0),
        op(IF_GREATER, FOUND, PORTS, jump(target.len()), 0),
    ];
    [&look[..], &target, &source, &all].concat()
}

const fn op(code: u8, to: u8, from: u8, over: i16, value: i32) -> Op {
    let registers = if cfg!(target_endian = "little") { from << 4 | to } else { to << 4 | from };
    let ([a, b], [c, d, e, f]) = (over.to_ne_bytes(), value.to_ne_bytes());
    [code, registers, a, b, c, d, e, f]
}

/// Over so many instructions.
fn jump(count: usize) -> i16 {
    i16::try_from(count).expect("the program is short")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the program answers, by a machine that knows just its instructions; `None` where it does
    /// not end.
    fn run(program: &[Op], frame: &[u8]) -> Option<u64> {
        let mut registers = [0_u64; 10];
        let mut next = 0;
        for _ in 0..200 {
            let [code, operands, a, b, c, d, e, f] = *program.get(next)?;
            let (to, from) = match cfg!(target_endian = "little") {
                true => (usize::from(operands & 15), usize::from(operands >> 4)),
                false => (usize::from(operands >> 4), usize::from(operands & 15)),
            };
            let over = usize::try_from(i16::from_ne_bytes([a, b])).ok()?;
            let value = i32::from_ne_bytes([c, d, e, f]);
            let wide = u64::try_from(value).ok()?;
            let load = |len: usize, base: u64| {
                let at = usize::try_from(base + wide).ok()?;
                let bytes = frame.get(at..at + len)?;
                Some(bytes.iter().fold(0, |sum, &byte| sum << 8 | u64::from(byte)))
            };
            next += 1;
            match code {
                LOAD_WORD | LOAD_HALF | LOAD_BYTE | LOAD_WORD_FROM => {
                    let len = match code {
                        LOAD_BYTE => 1,
                        LOAD_HALF => 2,
                        _ => 4,
                    };
                    let base = if code == LOAD_WORD_FROM { registers[from] } else { 0 };
                    let Some(found) = load(len, base) else { return Some(0) };
                    registers[0] = found;
                }
                COPY => registers[to] = registers[from],
                SET => registers[to] = wide,
                XOR => registers[to] ^= registers[from],
                AND => registers[to] &= wide,
                SHIFT_LEFT => registers[to] <<= wide,
                MULTIPLY_32 => {
                    registers[to] = registers[to].wrapping_mul(wide) & u64::from(u32::MAX);
                }
                SHIFT_RIGHT_32 => registers[to] >>= wide,
                JUMP => next += over,
                IF_EQUAL if registers[to] == wide => next += over,
                IF_NOT_EQUAL if registers[to] != wide => next += over,
                IF_SAME if registers[to] == registers[from] => next += over,
                IF_GREATER if registers[to] > registers[from] => next += over,
                IF_EQUAL | IF_NOT_EQUAL | IF_SAME | IF_GREATER => {}
                EXIT => return Some(registers[0]),
                _ => return None,
            }
        }
        None
    }

    fn four(client: u8, port: u16, fragment: u16, options: bool) -> Vec<u8> {
        let mut frame = vec![0; 14];
        frame.extend([if options { 0x46 } else { 0x45 }, 0, 0, 60, 1, 2]);
        frame.extend(fragment.to_be_bytes());
        frame.extend([64, 17, 0, 0, 10, 0, 0, client, 10, 0, 1, 100]);
        frame.extend(if options { &[1; 4][..] } else { &[] });
        frame.extend(port.to_be_bytes());
        frame.extend([0, 80, 0, 20, 0, 0]);
        frame
    }

    fn six(client: u8, port: u16, next: u8) -> Vec<u8> {
        let mut frame = vec![0; 14];
        frame.extend([0x60, 0, 0, 0, 0, 20, next, 64]);
        frame.extend([0xfd; 15]);
        frame.push(client);
        frame.extend([0xfe; 16]);
        frame.extend(port.to_be_bytes());
        frame.extend([0, 80, 0, 20, 0, 0]);
        frame
    }

    #[test]
    fn a_flow_keeps_its_queue_and_flows_are_shared_out() {
        let program = program(14);
        let queue = |frame: &[u8]| run(&program, frame).expect("it ends") % 2;
        for flows in [0..64_u8, 64..128] {
            let both = |frame: &dyn Fn(u8) -> Vec<u8>| {
                flows.clone().filter(|&flow| queue(&frame(flow)) == 1).count()
            };
            for ones in [
                both(&|flow| four(flow, 4000, 0, false)),
                both(&|flow| four(1, 4000 + u16::from(flow), 0, false)),
                both(&|flow| four(1, 4000 + 2 * u16::from(flow), 0, false)),
                both(&|flow| four(1, 256 * u16::from(flow), 0, false)),
                both(&|flow| six(flow, 4000, 6)),
                both(&|flow| six(1, 4000 + u16::from(flow), 17)),
                both(&|flow| six(1, 4001 + 2 * u16::from(flow), 6)),
            ] {
                assert!((16..=48).contains(&ones), "{ones} of 64");
            }
        }
        assert_eq!(run(&program, &four(1, 9, 0, false)), run(&program, &four(1, 9, 0, true)));
    }

    #[test]
    fn answers_come_to_the_queue_of_their_requests() {
        let program = program(14);
        let queue = |frame: &[u8]| run(&program, frame).expect("it ends") % 2;
        let mut ones = [0, 0];
        for client in 0..64_u8 {
            // As systems give them, and as address translators do.
            let port = [40_000, 9000][usize::from(client % 2)] + 2 * u16::from(client);
            let from = [&port.to_be_bytes()[..], &[0, 80]].concat();
            let to = [&[0x1f, 0x90][..], &port.to_be_bytes()].concat();
            // Another server's address, and the client's in the other place.
            let mut answer = four(9, 0, 0, false);
            answer[30..34].copy_from_slice(&[10, 0, 0, client % 4]);
            answer[34..38].copy_from_slice(&to);
            let request = queue(&four(client % 4, port, 0, false));
            assert_eq!(queue(&answer), request);
            ones[0] += request;

            let mut request = six(client % 4, port, 6);
            let mut answer = six(9, 0, 6);
            let (there, back) = (request[22..38].to_vec(), 38..54);
            answer[back].copy_from_slice(&there);
            request[54..58].copy_from_slice(&from);
            answer[54..58].copy_from_slice(&to);
            assert_eq!(queue(&answer), queue(&request));
            ones[1] += queue(&request);
        }
        assert!(ones.iter().all(|ones| (16..=48).contains(ones)), "{ones:?} of 64");
    }

    #[test]
    fn what_has_no_ports_goes_by_its_addresses() {
        let program = program(14);
        let of = |frame: &[u8]| run(&program, frame);
        assert_eq!(of(&four(1, 4000, 0x2000, false)), of(&four(1, 1234, 0x00b9, false)));
        assert_ne!(of(&four(1, 4000, 0x2000, false)), of(&four(2, 4000, 0x2000, false)));
        assert_eq!(of(&six(1, 4000, 44)), of(&six(1, 1234, 44)));
        let mut arp = vec![0; 12];
        arp.extend([8, 6, 0, 1, 8, 0]);
        arp.resize(60, 7);
        assert_eq!(of(&arp), Some(0));
        for len in 0..60 {
            assert!(of(&four(1, 4000, 0, false)[..len.min(42)]).is_some());
        }
    }

    #[test]
    fn without_a_link_header_the_same_is_found() {
        let with = run(&program(14), &four(1, 4000, 0, false));
        assert_eq!(run(&program(0), &four(1, 4000, 0, false)[14..]), with);
    }

    /// Whether we have `CAP_SYS_ADMIN` or `CAP_BPF`, which are enough for any kernel.
    fn may_load() -> bool {
        let status = std::fs::read_to_string("/proc/self/status").expect("a process has one");
        let mine = status.lines().find_map(|line| line.strip_prefix("CapEff:\t"));
        let mine = u64::from_str_radix(mine.expect("a process has some"), 16).expect("a number");
        mine & (1 << 21 | 1 << 39) != 0
    }

    #[test]
    fn the_kernel_accepts_it() {
        for link in [0, 14] {
            let Err(e) = sys::load_filter(&program(link)) else { continue };
            let (no_right, no_bpf) = (Some(libc::EPERM), Some(libc::ENOSYS));
            let forbidden = e.raw_os_error() == no_right && !may_load();
            assert!(forbidden || e.raw_os_error() == no_bpf, "{link}: {e}");
            eprintln!("not looked at: {e}");
        }
    }
}
