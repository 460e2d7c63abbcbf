//! The director inside another program: frames in, frames out, no device and no clock.
//!
//! Rules become a `Config`, the `Config` becomes an `Engine`. Whoever owns the wires gives it each
//! frame that arrives, and sends what it returns. `cargo run --example embed` shows one SYN on its way.

use std::fmt::Write;

use tapvs::config::rules;
use tapvs::engine::Engine;
use tapvs::packet::{LinkId, Packet};
use tapvs::world::Instant;

const RULES: &str = "\
ip tuntap add dev wan mode tap
ip link set dev wan address 02:00:00:00:01:01
ip addr add 10.77.1.1/24 dev wan
ip tuntap add dev lan mode tap
ip link set dev lan address 02:00:00:00:02:01
ip addr add 10.77.2.1/24 dev lan
ip neigh add 10.77.2.11 lladdr 02:00:00:00:02:0b dev lan
-A -t 10.77.1.100:80 -s wrr
-a -t 10.77.1.100:80 -r 10.77.2.11:8080 -m -w 3
";

/// A SYN from 10.77.1.2:40000 to the virtual address 10.77.1.100:80, in an Ethernet frame to `wan`.
const SYN: [u8; 54] = [
    0x02, 0, 0, 0, 0x01, 0x01, 0x02, 0, 0, 0, 0x01, 0x02, 0x08,
    0x00, // to us, from the client, IPv4
    0x45, 0, 0, 40, 0x12, 0x34, 0x40, 0, 64, 6, 0x11, 0x9d, // header, 40 bytes, TTL 64, TCP
    10, 77, 1, 2, 10, 77, 1, 100, // from, to
    0x9c, 0x40, 0, 80, 0, 0, 0x03, 0xe8, 0, 0, 0, 0, // ports, sequence number
    0x50, 0x02, 0x20, 0, 0xd8, 0x6a, 0, 0, // SYN, window, checksum
];

/// Runs it, and tells what happened.
pub(crate) fn run() -> Result<String, String> {
    let config = rules::load("embedded rules", RULES).map_err(|complaints| {
        complaints.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
    })?;
    let mut engine = Engine::new(&config, 1).map_err(|refusal| refusal.to_string())?;
    let mut told = String::new();
    let now = Instant::from_millis(5);

    // A frame has come in by the first port.
    let mut packet = Packet::copy_of(LinkId(0), &SYN);
    if let Some(link) = engine.handle(now, &mut packet) {
        tell(&mut told, &config.ports[usize::from(link.0)].name, packet.bytes());
    }
    // What the director says on its own account: ARP, ICMP, announcements, what had to wait.
    engine.announce(now);
    while let Some(packet) = engine.take() {
        tell(&mut told, &config.ports[usize::from(packet.link.0)].name, packet.bytes());
    }
    // Call this when `engine.deadline()` is reached.
    engine.poll(now);

    told += &engine.listing();
    told += &engine.frames();
    Ok(told)
}

fn tell(told: &mut String, port: &str, frame: &[u8]) {
    let hex: String = frame.iter().map(|byte| format!("{byte:02x}")).collect();
    let _ = writeln!(told, "{port} {hex}");
}

#[expect(clippy::print_stdout, reason = "it is what the example is for")]
fn main() -> Result<(), String> {
    println!("{}", run()?);
    Ok(())
}
