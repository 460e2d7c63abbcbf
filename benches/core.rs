//! What each part of a packet's journey costs, and the whole of it; `cargo bench`.
//!
//! Where a figure should not depend on how much there is (services, marks, connections), the same work
//! is measured with little and with much of it.

#![expect(missing_docs, reason = "criterion makes a function that nobody sees")]

mod rig;

use std::hint::black_box;
use std::time::{Duration, Instant as Clock};

use criterion::{criterion_group, criterion_main, BenchmarkId, Criterion, Throughput};
use rig::{Method, Shape};
use tapvs::config::{rules, Config};
use tapvs::conn::{Conn, Table};
use tapvs::director::mark::Marks;
use tapvs::packet::vnet::{self, Kind, Offload};
use tapvs::packet::{checksum, proto, Endpoint, Family, Flow, Headers, LinkId, Packet};
use tapvs::sched::{Candidate, Expiration, Flags, Pool, Request, Scheduler, State};
use tapvs::world::{Instant, Rng};

const FAMILIES: [Family; 2] = [Family::V4, Family::V6];
const NOW: Instant = Instant::from_millis(1000);

criterion_group! {
    name = parts;
    config = Criterion::default()
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_secs(1))
        .sample_size(20);
    targets = parse, sum, look_up, services, marks, schedulers, journey, split
}
criterion_main!(parts);

fn parse(c: &mut Criterion) {
    let mut group = c.benchmark_group("parse");
    for family in FAMILIES {
        let frame = Shape::plain(Method::Nat, family).segment(1, 0, 0x10, 6);
        let ip = &frame[rig::LINK..];
        group.bench_function(format!("{family:?}"), |b| b.iter(|| Headers::of(black_box(ip))));
    }
}

fn sum(c: &mut Criterion) {
    let mut group = c.benchmark_group("checksum");
    for len in [20, 1460, 65_000] {
        let bytes = vec![0xa5_u8; len];
        group.throughput(Throughput::Bytes(len as u64));
        group.bench_function(BenchmarkId::new("whole", len), |b| {
            b.iter(|| checksum::of(black_box(&bytes)));
        });
    }
    let mut bytes = vec![0_u8; 20];
    let [old, new] = [[10, 0, 0, 1], [10, 9, 9, 9]].map(std::net::IpAddr::from);
    group.bench_function("mended", |b| {
        b.iter(|| {
            let delta = checksum::Delta::default().address(black_box(old), new);
            checksum::mend(&mut bytes, 16, delta);
        });
    });
}

fn look_up(c: &mut Criterion) {
    let mut group = c.benchmark_group("look-up");
    for count in [1_000_u32, 1_000_000, 8_000_000] {
        let mut table = Table::new(count as usize, &mut Rng::new(1));
        let virt = Endpoint::new([10, 79, 0, 1].into(), 80);
        let flow = |n: u32| {
            let (addr, port) = rig::client_of(Family::V4, n);
            Flow { proto: proto::UDP, src: Endpoint::new(addr, port), dst: virt }
        };
        for n in 0..count {
            let conn = Conn::new(proto::UDP, flow(n).src, virt, virt);
            table.insert(Instant::ZERO, conn).expect("below the limit");
        }
        let mut rng = Rng::new(2);
        group.bench_function(BenchmarkId::new("alone", count), |b| {
            b.iter(|| black_box(table.find_request(&flow(rng.next_u32() % count))));
        });
        group.throughput(Throughput::Elements(64));
        group.bench_function(BenchmarkId::new("64 at once", count), |b| {
            b.iter(|| {
                let flows: [Flow; 64] = std::array::from_fn(|_| flow(rng.next_u32() % count));
                table.prefetch(flows.iter().map(|flow| (flow.proto, flow.src)));
                flows.iter().filter(|flow| table.find_request(flow).is_some()).count()
            });
        });
    }
}

/// A first packet finds its service, is scheduled, and makes a connection.
fn services(c: &mut Criterion) {
    let mut group = c.benchmark_group("services");
    for services in [1_u32, 10_000, 50_000] {
        let shape = Shape { services, servers: 1, ..Shape::plain(Method::Nat, Family::V4) };
        let mut engine = shape.engine();
        let mut packet = Packet::with_capacity(2048);
        let mut rng = Rng::new(1);
        let frames: Vec<_> =
            (0..512).map(|n| shape.datagram(n, rng.next_u32() % services, 18)).collect();
        let mut next = 0;
        group.bench_function(BenchmarkId::new("known connection", services), |b| {
            b.iter(|| {
                next = (next + 1) % frames.len();
                rig::give(&mut engine, NOW, &mut packet, &frames[next])
            });
        });
        let mut client = 512;
        group.bench_function(BenchmarkId::new("new connection", services), |b| {
            b.iter_custom(|count| {
                let (mut taken, mut left) = (Duration::ZERO, count);
                while left > 0 {
                    let mut batch = frames.clone();
                    batch.truncate(usize::try_from(left).unwrap_or(usize::MAX).min(512));
                    for frame in &mut batch {
                        client = (client + 1) % 6_000_000;
                        rig::readdress(frame, client);
                    }
                    let start = now();
                    for frame in &batch {
                        black_box(rig::give(&mut engine, NOW, &mut packet, frame));
                    }
                    taken += start.elapsed();
                    left -= batch.len() as u64;
                }
                taken
            });
        });
    }
}

#[expect(clippy::disallowed_methods, reason = "a stopwatch is needed here")]
fn now() -> Clock {
    Clock::now()
}

fn marks(c: &mut Criterion) {
    let mut group = c.benchmark_group("marks");
    for count in [1_u32, 1000] {
        let line = |n: u32| {
            let [_, _, a, b] = n.to_be_bytes();
            format!(
                "iptables -t mangle -A PREROUTING -d 10.79.{a}.{b} -p udp --dport 8000 \
                 -j MARK --set-mark {}\n",
                n + 1
            )
        };
        let text: String = (0..count).map(|n| line(0x100 + n)).collect();
        let config: Config = rules::load("rules", &text).expect("the rules are right");
        let mut marks = Marks::new(&config.marks, &[], Rng::new(1));
        let frame = Shape::plain(Method::Nat, Family::V4).datagram(1, 0, 18);
        let ip = &frame[rig::LINK..];
        let headers = Headers::of(ip).expect("it is whole");
        assert_ne!(marks.mark(LinkId(0), &headers, ip), 0, "the first rule is about it");
        group.bench_function(BenchmarkId::new("rules", count), |b| {
            b.iter(|| marks.mark(LinkId(0), black_box(&headers), ip));
        });
    }
}

/// Servers that have more or fewer connections.
struct Servers(Vec<Candidate>);

impl Pool for Servers {
    fn len(&self) -> usize {
        self.0.len()
    }

    fn candidate(&self, index: usize) -> Candidate {
        self.0[index]
    }
}

fn schedulers(c: &mut Criterion) {
    let mut group = c.benchmark_group("scheduler");
    for count in [2_u16, 100, 1000] {
        let server = |n: u16| {
            let [a, b] = n.to_be_bytes();
            let at = Endpoint::new([10, 78, a, b].into(), 80);
            let weight = u32::from(n % 5) + 1;
            let (active, inactive) = (u32::from(n * 7 % 50), u32::from(n * 3 % 50));
            Candidate { at, weight, last_weight: weight, active, inactive, overloaded: false }
        };
        let pool = Servers((0..count).map(server).collect());
        for &kind in Scheduler::ALL {
            let mut state = State::attach(kind, &pool, &mut Rng::new(1));
            let mut rng = Rng::new(2);
            let lasting = Duration::from_secs(86400);
            group.bench_function(BenchmarkId::new(kind.name(), count), |b| {
                b.iter(|| {
                    let client = Endpoint::new(rng.next_u32().to_be_bytes().into(), 4000);
                    let request = Request {
                        client,
                        virt: [10, 79, 0, 1].into(),
                        flags: Flags::default(),
                        now: NOW,
                        expiration: Expiration { lblc: lasting, lblcr: lasting },
                    };
                    state.pick(&pool, &request)
                });
            });
        }
    }
}

fn journey(c: &mut Criterion) {
    let mut group = c.benchmark_group("journey");
    for family in FAMILIES {
        for method in Method::ALL {
            let shape = Shape { servers: 1, ..Shape::plain(method, family) };
            let mut engine = shape.engine();
            let mut packet = Packet::with_capacity(2048);
            let name = format!("{} {family:?}", method.name());
            let mut measure = |name: &str, frame: &[u8]| {
                assert!(rig::give(&mut engine, NOW, &mut packet, frame), "{name} is sent on");
                group.bench_function(name, |b| {
                    b.iter(|| rig::give(&mut engine, NOW, &mut packet, black_box(frame)));
                });
            };
            measure(&format!("{name} UDP"), &shape.datagram(1, 0, 18));
            if method == Method::Nat {
                measure(&format!("{name} UDP answer"), &shape.answer(1, shape.server(0), 18));
            }
            measure(&format!("{name} SYN"), &shape.segment(1, 0, 0x02, 0));
            measure(&format!("{name} TCP 1400"), &shape.segment(1, 0, 0x10, 1400));
        }
    }
}

/// A super-frame of 64 KiB into what a wire takes.
fn split(c: &mut Criterion) {
    let mut group = c.benchmark_group("split");
    for family in FAMILIES {
        let frame = Shape::plain(Method::Nat, family).segment(1, 0, 0x10, 64_000);
        let transport = if family == Family::V4 { 20 } else { 40 };
        let kind = Kind::Tcp { ecn: false };
        let offload = Offload { partial: true, kind, size: 1440, transport, checksum: 16 };
        let mut packet = Packet::copy_of(LinkId(0), &frame);
        packet.leave_undone(offload, rig::LINK);
        let mut piece = Packet::with_capacity(2048);
        group.throughput(Throughput::Bytes(64_000));
        group.bench_function(format!("TCP {family:?}"), |b| {
            b.iter(|| {
                let mut pieces = 0;
                vnet::split(&packet, rig::LINK, &mut piece, |piece| pieces += piece.len());
                pieces
            });
        });
    }
}
