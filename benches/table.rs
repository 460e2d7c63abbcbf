//! Millions of connections through the real core: memory, the cost of looking one up, pauses.
//!
//!     cargo run --release --example table [-- CONNECTIONS]
//!
//! Prints figures beside the bars they are held against, and ends with 1 if one is missed. Memory is
//! what the system says this process has; times are those of the processor, so that whoever else runs on
//! the machine is not counted, and pauses are measured around each packet and each turn of the timers.

#![expect(clippy::print_stdout, reason = "it is what the program is for")]
#![expect(unsafe_code, reason = "std has no clock of the processor's time")]

mod rig;

use std::fs;
use std::hint::black_box;
use std::process::ExitCode;

use rig::{Method, Shape};
use tapvs::config::Command;
use tapvs::conn::{Conn, Table};
use tapvs::engine::Engine;
use tapvs::packet::{proto, Endpoint, Family, Flow, LinkId, Packet};
use tapvs::world::{Instant, Rng};

const MEMORY_MAX_MIB: f64 = 1.1 * 1024.0;
const SLOWER_MAX: f64 = 1.6;
const PAUSE_MAX_US: f64 = 1000.0;
const FEW: u32 = 10_000;
/// Connections of the test for pauses.
const LIVES: u32 = 1_000_000;
const LOOKUPS: u32 = 2_000_000;
/// Frames that are made at once, so that making them is not measured.
const BATCH: usize = 64;

fn main() -> ExitCode {
    let asked = std::env::args().skip(1).find_map(|arg| arg.parse().ok());
    let many: u32 = asked.unwrap_or(8_000_000);
    let mut missed = false;
    let mut bar = |what: &str, figure: f64, most: f64, unit: &str| {
        let verdict = if figure <= most { "held" } else { "MISSED" };
        missed |= figure > most;
        println!("{what}: {figure:.2} {unit} (at most {most:.2}: {verdict})");
    };
    println!("## One table");
    let few = lookups(FEW);
    let all = lookups(many);
    println!("a connection is {} bytes", size_of::<Conn>());
    println!("look-up one by one: {:.0} ns among {FEW}, {:.0} among {many}", few.0, all.0);
    println!("look-up of {BATCH} at once: {:.0} ns among {FEW}, {:.0} among {many}", few.1, all.1);
    bar("look-up at once, many to few", all.1 / few.1, SLOWER_MAX, "times");

    println!("## The whole core");
    let shape = Shape::plain(Method::Nat, Family::V4);
    let few = journeys(&shape, FEW).1;
    let (engine, cost) = journeys(&shape, many);
    println!("a packet's journey: {few:.0} ns among {FEW}, {cost:.0} among {many}");
    bar("journey, many to few", cost / few, SLOWER_MAX, "times");
    println!("{}", engine.frames());
    bar(&format!("memory with {many} connections"), resident_mib(), MEMORY_MAX_MIB, "MiB");
    drop(engine);

    println!("## {LIVES} connections created, used and expired");
    for family in [Family::V4, Family::V6] {
        let worst = pauses(&Shape::plain(Method::Nat, family));
        bar(&format!("longest pause, {family:?}"), worst, PAUSE_MAX_US, "µs");
    }
    ExitCode::from(u8::from(missed))
}

/// Nanoseconds for a look-up in a table of `count` connections, at random: one by one, and many at once.
fn lookups(count: u32) -> (f64, f64) {
    let mut table = Table::new(count as usize, &mut Rng::new(1));
    let virt = Endpoint::new([10, 79, 0, 1].into(), 80);
    let dest = Endpoint::new([10, 78, 0, 1].into(), 80);
    let flow = |n: u32| {
        let (addr, port) = rig::client_of(Family::V4, n);
        Flow { proto: proto::UDP, src: Endpoint::new(addr, port), dst: virt }
    };
    for n in 0..count {
        let conn = Conn::new(proto::UDP, flow(n).src, virt, dest);
        table.insert(Instant::ZERO, conn).expect("below the limit");
    }
    let mut rng = Rng::new(2);
    let (mut alone, mut together) = (0, 0);
    for _ in 0..LOOKUPS as usize / BATCH {
        let flows: [Flow; BATCH] = std::array::from_fn(|_| flow(rng.next_u32() % count));
        let start = cpu_ns();
        for flow in &flows {
            let id = black_box(table.find_request(flow)).expect("it was put in");
            // A packet looks at its connection, and the next one comes later.
            black_box(table.get(id).timeout_s);
        }
        alone += cpu_ns() - start;
        let flows: [Flow; BATCH] = std::array::from_fn(|_| flow(rng.next_u32() % count));
        let start = cpu_ns();
        table.prefetch(flows.iter().map(|flow| (flow.proto, flow.src)));
        for flow in &flows {
            let id = black_box(table.find_request(flow)).expect("it was put in");
            black_box(table.get(id).timeout_s);
        }
        together += cpu_ns() - start;
    }
    let each = |nanos: u64| nanos as f64 / f64::from(LOOKUPS);
    (each(alone), each(together))
}

/// A director with `count` connections, and nanoseconds for the journey of a packet of one of them, at
/// random.
fn journeys(shape: &Shape, count: u32) -> (Engine, f64) {
    let mut engine = shape.engine();
    let mut packet = Packet::with_capacity(2048);
    let mut frame = shape.datagram(0, 0, 18);
    let now = Instant::from_millis(1000);
    for n in 0..count {
        rig::readdress(&mut frame, n);
        assert!(rig::give(&mut engine, now, &mut packet, &frame), "it is sent on");
    }
    let mut rng = Rng::new(3);
    let mut frames = vec![frame; BATCH];
    let mut nanos = 0;
    for _ in 0..LOOKUPS as usize / BATCH {
        for frame in &mut frames {
            rig::readdress(frame, rng.next_u32() % count);
        }
        let start = cpu_ns();
        engine.prefetch(LinkId(0), frames.iter().map(Vec::as_slice));
        for frame in &frames {
            black_box(rig::give(&mut engine, now, &mut packet, frame));
        }
        nanos += cpu_ns() - start;
    }
    (engine, nanos as f64 / f64::from(LOOKUPS))
}

/// Microseconds of the longest time that a packet or a turn of the timers took, of a million connections
/// that come, are used, and go, while packets of others flow. The same is done three times, and the least
/// time of each packet counts: what the core does is the same each time, an interrupt is not.
fn pauses(shape: &Shape) -> f64 {
    let mut phases = lives(shape);
    for _ in 0..2 {
        for (times, again) in phases.iter_mut().zip(lives(shape)) {
            times.iter_mut().zip(again).for_each(|(time, again)| *time = (*time).min(again));
        }
    }
    let mut worst: f64 = 0.0;
    for (name, mut times) in ["created", "used", "expired"].into_iter().zip(phases) {
        times.sort_unstable();
        let last = times.len() - 1;
        let at = |parts: usize| f64::from(times[last * parts / 10_000]) / 1000.0;
        println!(
            "{:?} {name}: µs a packet p50 {:.2}, p99 {:.2}, p99.9 {:.2}, p99.99 {:.2}, longest {:.2}",
            shape.family,
            at(5000),
            at(9900),
            at(9990),
            at(9999),
            at(10_000)
        );
        worst = worst.max(at(10_000));
    }
    worst
}

/// Nanoseconds of each packet while a million connections are created, used, and expire.
fn lives(shape: &Shape) -> [Vec<u32>; 3] {
    let mut engine = shape.engine();
    engine.apply(Instant::ZERO, &timeout()).expect("a timeout can be set");
    let mut packet = Packet::with_capacity(2048);
    let mut frame = shape.datagram(0, 0, 18);
    // A connection every 10 µs; the last ones are still used when the first have gone.
    let mut now = Instant::from_millis(1000);
    let phases = std::array::from_fn(|phase| {
        let mut times = Vec::with_capacity(LIVES as usize);
        for n in 0..LIVES {
            now = Instant::from_nanos(now.nanos() + 10_000);
            // While all expire, one connection has packets.
            rig::readdress(&mut frame, if phase == 2 { LIVES } else { n });
            let start = cpu_ns();
            black_box(rig::give(&mut engine, now, &mut packet, &frame));
            if engine.deadline().is_some_and(|due| due <= now) {
                engine.poll(now);
            }
            times.push(u32::try_from(cpu_ns() - start).unwrap_or(u32::MAX));
            while engine.take().is_some() {}
        }
        if phase == 1 {
            now = Instant::from_nanos(now.nanos() + 30_000_000_000);
        }
        times
    });
    let left = engine.director().table().len();
    assert_eq!(left, 1, "all but one have gone: {}", engine.frames());
    phases
}

/// `--set 0 0 20`: UDP connections end after twenty seconds.
const fn timeout() -> Command {
    Command::SetTimeouts { tcp_s: 0, tcp_fin_s: 0, udp_s: 20 }
}

/// Nanoseconds for which this thread has had the processor, system calls and page faults included.
fn cpu_ns() -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the time lives longer than the call.
    unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &raw mut time) };
    u64::try_from(time.tv_sec * 1_000_000_000 + time.tv_nsec).unwrap_or(0)
}

/// Memory of this process that is not on disk or elsewhere.
fn resident_mib() -> f64 {
    let text = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib =
        line.and_then(|line| line.split_whitespace().next()?.parse().ok()).unwrap_or(f64::NAN);
    kib / 1024.0
}
