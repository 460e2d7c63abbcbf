//! Long rules files: what reading, loading, comparing and changing over to them costs, a kind of line each.
//!
//!     cargo run --release --example rules [-- LINES… [KIND…]]
//!
//! Each kind is measured with so many lines of it (1,000, 10,000 and 100,000 unless told), and a bar is held:
//! ten times the lines may cost [`STEEPER_MAX`] times as much, so that nothing is squared. Ends with 1 if it is
//! missed. Times are those of the processor; a kind that has taken [`ENOUGH_S`] is not made longer.

#![expect(clippy::print_stdout, reason = "it is what the program is for")]
#![expect(unsafe_code, reason = "std has no clock of the processor's time")]

use std::fmt::Write;
use std::hint::black_box;
use std::process::ExitCode;

use tapvs::config::complaint::told;
use tapvs::config::{rules, Config};
use tapvs::engine::Engine;
use tapvs::world::Instant;

/// Times as much for ten times the lines; memory that no cache holds any more is part of it.
const STEEPER_MAX: f64 = 30.0;
/// What is quicker than this tells nothing about a slope.
const TOO_QUICK_MS: f64 = 2.0;
/// A step that took so long is not asked to do ten times as much.
const ENOUGH_S: f64 = 10.0;

/// Ports that every file has.
const PORTS: &str =
    "ip tuntap add dev tap0 mode tap\nip link set dev tap0 address 02:00:00:00:00:01\n\
    ip addr add 10.0.0.1/8 dev tap0\nip addr add fd00::1/64 dev tap0\n";
const SERVICE: &str = "-A -t 10.0.0.9:80 -s ";
const BARE: &str =
    "ip tuntap add dev tap0 mode tap\nip link set dev tap0 address 02:00:00:00:00:01\n";

struct Kind {
    name: &'static str,
    head: String,
    line: fn(&mut String, u32),
}

fn addr(i: u32) -> std::net::Ipv4Addr {
    (0x0a40_0000 + i).into()
}

fn put(out: &mut String, line: std::fmt::Arguments<'_>) {
    out.write_fmt(line).and_then(|()| out.write_char('\n')).expect("a string takes everything");
}

macro_rules! kind {
    ($name:literal, $head:expr, $i:ident => $($line:tt)*) => {
        Kind { name: $name, head: $head.to_owned(), line: |out, $i| put(out, format_args!($($line)*)) }
    };
}

fn kinds() -> Vec<Kind> {
    let of = |scheduler: &str| format!("{PORTS}{SERVICE}{scheduler}");
    vec![
        kind!("services", PORTS, i => "-A -t {}:80 -s rr", addr(i)),
        kind!("services-servers", PORTS, i => "-A -t {0}:80 -s rr\n-a -t {0}:80 -r 10.1.0.1:80 -m", addr(i)),
        kind!("marked-services", PORTS, i => "-A -f {} -s rr", i + 1),
        kind!("edits", PORTS, i => "-A -t {0}:80\n-E -t {0}:80 -s rr", addr(i)),
        kind!("servers-wlc", of("wlc\n"), i => "-a -t 10.0.0.9:80 -r {}:80 -m", addr(i)),
        kind!("servers-wrr", of("wrr\n"), i => "-a -t 10.0.0.9:80 -r {}:80 -m -w {}", addr(i), i % 7 + 1),
        kind!("servers-rr", of("rr\n"), i => "-a -t 10.0.0.9:80 -r {}:80 -g", addr(i)),
        kind!("servers-sh", of("sh\n"), i => "-a -t 10.0.0.9:80 -r {}:80 -m", addr(i)),
        kind!("servers-mh", of("mh\n"), i => "-a -t 10.0.0.9:80 -r {}:80 -m", addr(i)),
        kind!("server-edits", of("rr\n"), i => "-a -t 10.0.0.9:80 -r {0}:80 -m\n-e -t 10.0.0.9:80 -r {0}:80 -m -w 3", addr(i)),
        kind!("server-deletes", of("rr\n"), i => "-a -t 10.0.0.9:80 -r {0}:80 -m\n-d -t 10.0.0.9:80 -r {1}:80", addr(i), addr(i.saturating_sub(i % 2))),
        kind!("one-server", PORTS, i => "-A -t {0}:80 -s rr\n-a -t {0}:80 -r 10.0.0.7:80 -m", addr(i)),
        kind!("addresses", BARE, i => "ip addr add {}/12 dev tap0", addr(i + 1)),
        kind!("addresses6", BARE, i => "ip addr add fd00::{:x}:{:x}/64 dev tap0", (i >> 16) + 1, i & 0xffff),
        kind!("routes", PORTS, i => "ip route add {}/32 via 10.0.0.2", addr(i)),
        kind!("routes-dev", PORTS, i => "ip route add {}/32 dev tap0", addr(i)),
        kind!("routes-many-gateways", PORTS, i => "ip route add {}/32 via 10.1.{}.{}", addr(i), i / 250 % 250, i % 250 + 1),
        kind!("routes-replaced", PORTS, i => "ip route replace {}/32 via 10.0.0.2", addr(i / 2)),
        kind!("routes-removed", PORTS, i => "ip route add {0}/32 via 10.0.0.2\nip route del {0}/32", addr(i)),
        kind!("neighbours", PORTS, i => "ip neigh add {} lladdr 02:00:00:00:00:02 dev tap0", addr(i)),
        kind!("neighbours-replaced", PORTS, i => "ip neigh replace {} lladdr 02:00:00:00:00:02 dev tap0", addr(i / 2)),
        kind!("marks", PORTS, i => "iptables -t mangle -A PREROUTING -d {} -p tcp -j MARK --set-mark {}", addr(i), i + 1),
        kind!("marks-inserted", PORTS, i => "iptables -t mangle -I PREROUTING -d {} -p tcp -j MARK --set-mark {}", addr(i), i + 1),
        kind!("sysctls", PORTS, i => "sysctl -w net.ipv4.vs.expire_nodest_conn={}", i % 2),
        kind!("variables", PORTS, i => "V{0}={1}\n-A -t $V{0}:80", i, addr(i)),
        kind!("comments", PORTS, i => "# {i}"),
        kind!("asides", PORTS, i => "ip link set dev lo{i} up"),
        kind!("bad-unknown", PORTS, i => "frobnicate {i}"),
        kind!("bad-service", PORTS, i => "-A -t {}:80 -s wcl", addr(i)),
        kind!("bad-server-of-none", PORTS, i => "-a -t {}:80 -r 10.1.0.1 -m", addr(i)),
        kind!("bad-lost", PORTS, i => "-A -t {0}:80 -s wcl\n-a -t {0}:80 -r 10.1.0.1 -m", addr(i)),
        kind!("bad-doubled-services", PORTS, i => "-A -t {}:80", addr(i / 4)),
        kind!("bad-doubled-servers", of("rr\n"), i => "-a -t 10.0.0.9:80 -r {}:80", addr(i / 4)),
        kind!("bad-addresses", PORTS, i => "ip addr add {}/12 dev tap0", addr(i / 4)),
        kind!("bad-routes", PORTS, i => "ip route add {}/32 via 10.0.0.2", addr(i / 4)),
        kind!("bad-gateways", PORTS, i => "ip route add {}/32 via 192.0.2.{}", addr(i), i % 250 + 1),
        kind!("bad-neighbours", PORTS, i => "ip neigh add {} lladdr 02:00:00:00:00:02 dev tap0", addr(i / 4)),
        kind!("bad-ports", PORTS, i => "ip addr add {}/12 dev tap{}", addr(i), i + 1),
        kind!("bad-marks", PORTS, i => "iptables -t mangle -I PREROUTING {} -p tcp -j MARK --set-mark 1", i + 2),
        kind!("bad-variables", PORTS, i => "-A -t $V{i}:80"),
        kind!("bad-sysctls", PORTS, i => "net.ipv4.vs.frob{i} = 1"),
        kind!("bad-quotes", PORTS, i => "-A -t '10.0.0.{i}"),
    ]
}

fn main() -> ExitCode {
    let (sizes, names): (Vec<_>, Vec<_>) =
        std::env::args().skip(1).partition(|arg| arg.parse::<u32>().is_ok());
    let mut sizes: Vec<u32> = sizes.iter().filter_map(|size| size.parse().ok()).collect();
    if sizes.is_empty() {
        sizes = vec![1000, 10_000, 100_000];
    }
    let mut missed = false;
    println!("{:<22} {:>7} milliseconds of: {}", "kind", "lines", Figures::HEAD);
    for kind in kinds() {
        if !names.is_empty() && !names.iter().any(|name| kind.name.contains(name.as_str())) {
            continue;
        }
        let mut last: Option<(u32, Figures)> = None;
        for &lines in &sizes {
            let figures = measure(&kind, lines);
            println!("{:<22} {lines:>7} {}", kind.name, figures.shown());
            if let Some((before, was)) = &last {
                let factor = f64::from(lines) / f64::from(*before) * STEEPER_MAX / 10.0;
                missed |= figures.steeper(was, factor);
            }
            let long = figures.0.iter().any(|&ms| ms > ENOUGH_S * 1000.0);
            last = Some((lines, figures));
            if long {
                break;
            }
        }
    }
    if missed {
        println!(
            "MISSED: something costs more than {STEEPER_MAX} times as much for ten times the lines"
        );
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}

/// Milliseconds of each step.
struct Figures([f64; 6]);

impl Figures {
    const HEAD: &'static str = "read, start, print, compare, change over, back";

    fn shown(&self) -> String {
        self.0.iter().map(|ms| format!("{ms:>9.1}")).collect()
    }

    fn steeper(&self, was: &Self, factor: f64) -> bool {
        let steep = |(&ms, &was): (&f64, &f64)| ms > factor * was.max(TOO_QUICK_MS);
        let steep = self.0.iter().zip(&was.0).any(steep);
        if steep {
            println!("{:>30} more than {factor:.0} times as much", "MISSED:");
        }
        steep
    }
}

fn measure(kind: &Kind, lines: u32) -> Figures {
    let mut text = kind.head.clone();
    (0..lines).for_each(|i| (kind.line)(&mut text, i));
    let mut figures = [0.0; 6];
    let read = timed(&mut figures[0], || match rules::load("rules", &text) {
        Ok(config) => Some(config),
        Err(all) => {
            assert!(told(&all).iter().map(String::len).sum::<usize>() < 64 << 10);
            None
        }
    });
    let Some(config) = read else { return Figures(figures) };
    let empty = rules::load("rules", &kind.head).expect("the head is right");
    let mut engine = timed(&mut figures[1], || Engine::new(&config, 1).expect("possible"));
    black_box(timed(&mut figures[2], || config.to_string()));
    let half = every_other(&config);
    black_box(timed(&mut figures[3], || config.difference(&half)));
    timed(&mut figures[4], || engine.reload(Instant::ZERO, half).expect("possible"));
    timed(&mut figures[5], || engine.reload(Instant::ZERO, config).expect("possible"));
    engine.reload(Instant::ZERO, empty).expect("possible");
    Figures(figures)
}

/// Half of everything, and the other half in another order where there is one.
fn every_other(config: &Config) -> Config {
    let mut half = config.clone();
    let mut at = 0;
    let mut stays = || {
        at += 1;
        at % 2 == 0
    };
    if config.services.len() > 1 {
        half.services.retain(|_, _| stays());
    }
    for (_, dests) in half.services.values_mut().filter(|(_, dests)| dests.len() > 2) {
        dests.retain(|_| stays());
        dests.reverse();
    }
    for port in half.ports.iter_mut().filter(|port| port.addresses.len() > 4) {
        port.addresses.retain(|_| stays());
    }
    half.routes.retain(|_| stays());
    half.neighbours.retain(|_| stays());
    half.marks.retain(|_| stays());
    half
}

/// What `what` gives; the processor's milliseconds are noted.
fn timed<T>(figure: &mut f64, what: impl FnOnce() -> T) -> T {
    let begun = processor_ms();
    let done = what();
    *figure = processor_ms() - begun;
    done
}

/// Milliseconds that the processor has worked for us.
fn processor_ms() -> f64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the call writes the time it is given a place for.
    unsafe { libc::clock_gettime(libc::CLOCK_PROCESS_CPUTIME_ID, &raw mut time) };
    time.tv_sec as f64 * 1e3 + time.tv_nsec as f64 / 1e6
}
