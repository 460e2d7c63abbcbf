//! Frames that are cut short at every length, that lie, or that were bitten at random: each is
//! handled or dropped under its name, nothing panics, and the account of frames adds up.
#![allow(clippy::cast_possible_truncation, reason = "bytes are drawn from wider numbers")]

mod scenario;

use std::net::IpAddr;

use scenario::packet::{checksum_at, sum_of, Spec};
use scenario::{decode, ethertype_of, words, Station, World};
use tapvs::packet::{checksum, LinkId};
use tapvs::world::{Instant, Rng};

/// Every method in both families, so that every rewriting meets every frame.
const RULES: &str = "\
-A -t 10.80.0.10:80 -s rr
-a -t 10.80.0.10:80 -r 10.81.0.11:8080 -m
-A -t 10.80.0.10:81 -s wrr
-a -t 10.80.0.10:81 -r 10.81.0.12:81 -g
-A -t 10.80.0.10:82 -s wlc
-a -t 10.80.0.10:82 -r 10.81.0.13:82 -i
-A -u 10.80.0.10:53 -s lc
-a -u 10.80.0.10:53 -r 10.81.0.11:5353 -m
-A -u 10.80.0.10:54 -s rr -p 60
-a -u 10.80.0.10:54 -r 10.81.0.12:54 -i
-A -t [fd80::10]:80 -s rr
-a -t [fd80::10]:80 -r [fd81::11]:8080 -m
-A -u [fd80::10]:53 -s rr
-a -u [fd80::10]:53 -r [fd81::11]:5353 -m
-A -u [fd80::10]:54 -s rr -p 60
-a -u [fd80::10]:54 -r [fd81::12]:54 -i
-A -t [fd80::10]:82 -s rr
-a -t [fd80::10]:82 -r 10.81.0.13:82 -i
";

/// One of every shape: who sends it, and what.
const SHAPES: &[(&str, &str)] = &[
    ("client", "tcp 10.80.0.100:4000 > 10.80.0.10:80 S topts=020405b40402080a0000000100000000 \"data\""),
    ("client", "tcp 10.80.0.100:4000 > 10.80.0.10:81 S"),
    ("client", "tcp 10.80.0.100:4000 > 10.80.0.10:82 S opts=94040000"),
    ("client", "udp 10.80.0.100:4000 > 10.80.0.10:53 \"question\""),
    ("client", "udp 10.80.0.100:4000 > 10.80.0.10:54 nosum=1 \"question\""),
    ("client", "udp 10.80.0.100:4001 > 10.80.0.10:53 data=200 cut=0+104 id=1"),
    ("client", "udp 10.80.0.100:4001 > 10.80.0.10:53 data=200 cut=104+* id=1"),
    ("client", "tcp 10.80.0.100:4000 > 10.80.0.10:9 A"),
    ("client", "udp 10.80.0.100:4000 > 10.80.0.10:9 \"?\""),
    ("client", "icmp 10.80.0.100 > 10.80.0.10 echo ident=1 seq=2 \"ping\""),
    ("client", "ip 10.80.0.100 > 10.80.0.10 proto=132 \"twelve bytes and more\""),
    ("client", "ipip 10.80.0.100 > 10.80.0.10 [udp 10.80.0.100:1 > 10.80.0.10:2 \"in\"]"),
    ("client", "udp 10.90.0.1:4000 > 10.81.0.12:7 \"plain\""),
    ("client", "udp 10.90.0.1:4000 > 10.81.0.12:7 ttl=1 \"plain\""),
    ("client", "icmp 10.80.0.100 > 10.80.0.10 too-big mtu=1200 [tcp 10.80.0.10:80 > 10.80.0.100:4000 A]"),
    ("client", "icmp 10.80.0.100 > 10.80.0.10 unreachable-port [udp 10.80.0.10:54 > 10.80.0.100:4000 \"a\"]"),
    ("rs1", "tcp 10.81.0.11:8080 > 10.80.0.100:4000 SA ack=1001"),
    ("rs1", "udp 10.81.0.11:5353 > 10.80.0.100:4000 \"answer\""),
    ("rs1", "udp 10.81.0.11:5353 > 10.80.0.100:4000 data=200 cut=104+* id=2"),
    ("rs1", "udp 10.81.0.11:5353 > 10.80.0.100:4000 data=200 cut=0+104 id=2"),
    ("rs1", "icmp 10.81.0.11 > 10.80.0.100 unreachable-port [udp 10.80.0.100:4000 > 10.81.0.11:5353 \"q\"]"),
    ("rs1", "icmp 10.81.0.11 > 10.81.0.1 too-big mtu=1200 [ipip 10.81.0.1 > 10.81.0.13 [tcp 10.80.0.100:4000 > 10.80.0.10:82 S]]"),
    ("client", "arp who-has 10.80.0.10 tell 10.80.0.100"),
    ("client", "arp 10.80.0.100 is-at 02:00:00:80:00:64 tell 10.80.0.1"),
    ("client", "tcp [fd80::100]:4000 > [fd80::10]:80 S \"data\""),
    ("client", "tcp [fd80::100]:4000 > [fd80::10]:82 S"),
    ("client", "udp [fd80::100]:4000 > [fd80::10]:53 \"question\""),
    ("client", "udp [fd80::100]:4000 > [fd80::10]:54 \"question\""),
    ("client", "udp [fd80::100]:4001 > [fd80::10]:53 data=200 cut=0+104"),
    ("client", "udp [fd80::100]:4001 > [fd80::10]:53 data=200 cut=104+*"),
    ("client", "icmp fd80::100 > fd80::10 echo ident=1 seq=2 \"ping\""),
    ("client", "icmp fd80::100 > fd80::10 too-big mtu=1300 [tcp [fd80::10]:80 > [fd80::100]:4000 A]"),
    ("client", "udp [fd90::1]:4000 > [fd81::12]:7 \"plain\""),
    ("rs1", "tcp [fd81::11]:8080 > [fd80::100]:4000 SA ack=1001"),
    ("rs1", "udp [fd81::11]:5353 > [fd80::100]:4000 \"answer\""),
    ("rs1", "icmp fd81::11 > fd80::100 unreachable-port [udp [fd80::100]:4000 > [fd81::11]:5353 \"q\"]"),
    ("client", "nd solicit fd80::100 > ff02::1:ff00:10 target=fd80::10 ttl=255"),
    ("client", "nd advert fd80::100 > fd80::1 target=fd80::100 ttl=255 rest=0x60000000"),
];

fn world() -> World {
    World::new("", RULES).expect("the rules are right")
}

fn station(name: &str) -> Station {
    Station::named(name).expect("a station of the topology")
}

/// The frame of a line.
fn frame(sender: &Station, line: &str) -> Vec<u8> {
    let spec: Spec = words::parse(line).expect("a line of the grammar");
    let bytes = spec.build(sender.mac).expect("a packet");
    let arp = line.starts_with("arp");
    sender.frame(if arp { 0x0806 } else { ethertype_of(&bytes) }, &bytes)
}

/// Every shape as a frame, with its port, and IPv6 with a chain of extension headers.
fn shapes() -> Vec<(LinkId, Vec<u8>)> {
    let mut all: Vec<_> = SHAPES
        .iter()
        .map(|(name, line)| (station(name).link, frame(&station(name), line)))
        .collect();
    let chain = extended(&[0, 60, 43, 60], "udp [fd80::100]:4002 > [fd80::10]:53 \"deep\"");
    all.push((LinkId(0), chain));
    all
}

/// An IPv6 packet with these extension headers, each 8 bytes of padding options, before its own.
fn extended(kinds: &[u8], line: &str) -> Vec<u8> {
    let mut bytes = frame(&station("client"), line);
    let next = bytes[20];
    let mut headers = Vec::new();
    for (at, _) in kinds.iter().enumerate() {
        let following = kinds.get(at + 1).copied().unwrap_or(next);
        headers.extend([following, 0, 1, 4, 0, 0, 0, 0]);
    }
    bytes[20] = kinds.first().copied().unwrap_or(next);
    let len = u16::from_be_bytes([bytes[18], bytes[19]]) as usize + headers.len();
    bytes[18..20].copy_from_slice(&(len as u16).to_be_bytes());
    bytes.splice(54..54, headers);
    bytes
}

/// What is sent is a whole frame from the director with a right IP header, whatever came in.
fn assert_sound(world: &mut World, what: &str) {
    while let Some((link, frame)) = world.sent.pop_front() {
        let ours = [2, 0, 0, if link.0 == 0 { 0x80 } else { 0x81 }, 0, 1];
        assert_eq!(&frame[6..12], &ours, "{what}: not from us");
        match frame[12..14] {
            [8, 0] | [0x86, 0xdd] => {
                let packet = decode::packet(&frame[14..]);
                assert_ne!(packet.of("sum"), Some("IP header"), "{what}: {packet}");
                assert!(packet.of("src").is_some(), "{what}: unreadable");
            }
            [8, 6] => {}
            _ => panic!("{what}: another EtherType"),
        }
    }
}

#[test]
fn every_prefix_of_every_shape_is_handled_or_dropped_under_a_name() {
    let mut world = world();
    for (link, frame) in shapes() {
        for len in 0..=frame.len() {
            world.receive(link, &frame[..len]);
            assert_sound(&mut world, &format!("{len} bytes of {frame:02x?}"));
        }
        let now = world.now;
        world.advance(Instant::from_millis(now.millis() + 100));
    }
    world.advance(Instant::from_millis(2_000_000));
    assert_eq!(world.account_is_wrong(), None);
    assert!(world.engine.director().table().is_empty(), "every connection ends");
}

#[test]
fn every_prefix_that_claims_to_be_whole_is_handled_or_dropped_under_a_name() {
    let mut world = world();
    for (link, frame) in shapes() {
        for len in 15..=frame.len() {
            let cut = shortened(&frame, len);
            world.receive(link, &cut);
            assert_sound(&mut world, &format!("{cut:02x?}"));
        }
    }
    world.advance(Instant::from_millis(2_000_000));
    assert_eq!(world.account_is_wrong(), None);
}

/// A frame cut to `len` bytes whose length field and header checksum say that this is all.
fn shortened(frame: &[u8], len: usize) -> Vec<u8> {
    let mut cut = frame[..len].to_vec();
    let ip = len - 14;
    match cut[12..14] {
        [8, 0] if ip >= 20 => {
            cut[16..18].copy_from_slice(&(ip as u16).to_be_bytes());
            mend_header(&mut cut);
        }
        [0x86, 0xdd] if ip >= 40 => {
            cut[18..20].copy_from_slice(&(ip as u16 - 40).to_be_bytes());
        }
        _ => {}
    }
    cut
}

/// Makes the IPv4 header's checksum right, as far as there is a header.
fn mend_header(frame: &mut [u8]) {
    let header = 14 + usize::from(frame[14] & 15) * 4;
    if frame.len() >= 34 && header <= frame.len() {
        frame[24..26].fill(0);
        let sum = checksum::of(&frame[14..header]);
        frame[24..26].copy_from_slice(&sum.to_be_bytes());
    }
}

/// Makes the checksum behind the IP header right, as far as there is one, so that a bite behind it is
/// not stopped there.
fn mend_transport(frame: &mut [u8]) {
    let (protocol, header, pair) = match frame[14] >> 4 {
        4 => (frame[23], 14 + usize::from(frame[14] & 15) * 4, frame.get(26..34)),
        _ => (frame[20], 54, frame.get(22..54)),
    };
    let addr = |bytes: &[u8]| -> IpAddr {
        match <[u8; 4]>::try_from(bytes) {
            Ok(v4) => v4.into(),
            Err(_) => <[u8; 16]>::try_from(bytes).expect("half of 8 or of 32").into(),
        }
    };
    let Some((src, dst)) = pair.map(|p| p.split_at(p.len() / 2)) else { return };
    let (src, dst) = (addr(src), addr(dst));
    let Some(at) = checksum_at(protocol).filter(|at| header + at + 2 <= frame.len()) else {
        return;
    };
    frame[header + at..header + at + 2].fill(0);
    let sum = sum_of(src, dst, protocol, &frame[header..]);
    frame[header + at..header + at + 2].copy_from_slice(&sum.to_be_bytes());
}

#[test]
fn random_bites_never_panic_and_every_frame_is_accounted_for() {
    let shapes = shapes();
    for seed in 0..12 {
        let mut rng = Rng::new(seed);
        let mut world = world();
        for round in 0..8000_u64 {
            let pick = rng.next_u32() as usize % shapes.len();
            let (link, mut frame) = shapes[pick].clone();
            for _ in 0..=rng.next_u32() % 4 {
                // Mostly headers are bitten, and often with the values at which things change.
                let reach = if rng.next_u32() % 4 == 0 { frame.len() } else { frame.len().min(70) };
                let at = 12 + rng.next_u32() as usize % (reach - 12);
                let edges = [0, 1, 0x7f, 0x80, 0xff, frame[at] ^ 1, frame[at].wrapping_add(1)];
                frame[at] = match rng.next_u32() as usize % (edges.len() * 2) {
                    edge if edge < edges.len() => edges[edge],
                    _ => rng.next_u32() as u8,
                };
            }
            if rng.next_u32() % 4 != 0 && frame[12..14] == [8, 0] {
                mend_header(&mut frame);
            }
            if rng.next_u32() % 2 == 0 {
                mend_transport(&mut frame);
            }
            world.receive(link, &frame);
            assert_sound(&mut world, &format!("seed {seed}, round {round}: {frame:02x?}"));
            if round % 50 == 0 {
                let later = world.now.millis() + u64::from(rng.next_u32() % 2000);
                world.advance(Instant::from_millis(later));
                assert_sound(&mut world, &format!("seed {seed}, after round {round}"));
                assert_eq!(world.account_is_wrong(), None, "seed {seed}, round {round}");
            }
        }
        world.advance(Instant::from_millis(world.now.millis() + 2_000_000));
        assert_eq!(world.account_is_wrong(), None, "seed {seed}");
    }
}

/// The reasons for which one frame was dropped.
fn dropped(link: LinkId, frame: &[u8]) -> Vec<&'static str> {
    let mut world = world();
    world.receive(link, frame);
    world.engine.drop_counts().map(|(reason, _)| reason.name()).collect()
}

/// Asserts that a client's frame, edited, is dropped for one reason.
fn assert_dropped(line: &str, edit: impl Fn(&mut Vec<u8>), reason: &str) {
    let sender = station("client");
    let mut bytes = frame(&sender, line);
    edit(&mut bytes);
    assert_eq!(dropped(sender.link, &bytes), [reason], "{line}");
}

const V4: &str = "tcp 10.80.0.100:4000 > 10.80.0.10:80 S";
const V6: &str = "tcp [fd80::100]:4000 > [fd80::10]:80 S";

#[test]
fn frames_that_are_no_frames_have_their_names() {
    assert_dropped(V4, |f| f.truncate(13), "frame-short");
    assert_dropped(V4, |f| f[5] = 99, "other-station");
    assert_dropped(V4, |f| f[12..14].copy_from_slice(&[0x81, 0]), "ether-type");
    assert_dropped("arp who-has 10.80.0.10 tell 10.80.0.100", |f| f.truncate(41), "arp-malformed");
    assert_dropped("arp who-has 10.80.0.10 tell 10.80.0.100", |f| f[15] = 6, "arp-malformed");
}

#[test]
fn headers_that_lie_have_their_names() {
    assert_dropped(V4, |f| f.truncate(33), "ip-short");
    assert_dropped(V6, |f| f.truncate(53), "ip-short");
    assert_dropped(V4, |f| f[14] = 0x65, "ip-version");
    assert_dropped(V6, |f| f[14] = 0x40, "ip-version");
    assert_dropped(V4, |f| f[14] = 0x55, "ip-version");
    assert_dropped(V4, |f| f[14] = 0x44, "ip-header-length");
    assert_dropped(V4, |f| f.truncate(50), "ip-length");
    assert_dropped(V6, |f| f.truncate(70), "ip-length");
    let below_header = |f: &mut Vec<u8>| {
        f[16..18].copy_from_slice(&19_u16.to_be_bytes());
        mend_header(f);
    };
    assert_dropped(V4, below_header, "ip-length");
    assert_dropped(V4, |f| f[24] ^= 1, "ip-checksum");
}

#[test]
fn options_that_ask_for_source_routing_or_are_malformed_have_their_name() {
    for options in ["83070400000000", "8907040000000000", "07ff0000", "0701"] {
        let padded = format!("{options:0<8}");
        let padded = &padded[..padded.len() / 8 * 8];
        assert_dropped(&format!("{V4} opts={padded}"), |_| (), "ip-options");
    }
    let sender = station("client");
    let harmless = frame(&sender, &format!("{V4} opts=94040000"));
    assert!(dropped(sender.link, &harmless).is_empty(), "a router alert travels");
}

#[test]
fn chains_of_extension_headers_that_cannot_be_have_their_name() {
    let client = station("client").link;
    let udp = "udp [fd80::100]:4000 > [fd80::10]:53 \"q\"";
    assert!(dropped(client, &extended(&[0, 60, 60], udp)).is_empty(), "a short chain travels");
    assert_eq!(dropped(client, &extended(&[60; 9], udp)), ["extension-headers"]);
    // The director reads over what a host would complain of.
    assert!(dropped(client, &extended(&[60, 0], udp)).is_empty());
    let mut beyond = extended(&[60], udp);
    beyond[55] = 200;
    assert_eq!(dropped(client, &beyond), ["extension-headers"]);
}

#[test]
fn transport_headers_that_are_cut_short_have_their_name() {
    for line in [V4, V6] {
        for len in [0, 3, 7, 19] {
            let cut = |f: &mut Vec<u8>| {
                let header = if line == V4 { 34 } else { 54 };
                *f = shortened(f, header + len);
            };
            assert_dropped(line, cut, "transport-short");
        }
    }
    let udp = "udp 10.80.0.100:4000 > 10.80.0.10:53 \"q\"";
    assert_dropped(udp, |f| *f = shortened(f, 34 + 7), "transport-short");
}

#[test]
fn broken_control_messages_have_their_names() {
    let echo = "icmp 10.80.0.100 > 10.80.0.10 echo ident=1 seq=1 \"ping\"";
    assert_dropped(&format!("{echo} sum=bad"), |_| (), "icmp-malformed");
    assert_dropped(echo, |f| *f = shortened(f, 34 + 7), "icmp-malformed");
    let solicit = "nd solicit fd80::100 > ff02::1:ff00:10 target=fd80::10";
    assert_dropped(&format!("{solicit} ttl=254"), |_| (), "discovery-malformed");
    assert_dropped(&format!("{solicit} ttl=255 sum=bad"), |_| (), "discovery-malformed");
    assert_dropped(&format!("{solicit} ttl=255"), |f| *f = shortened(f, 70), "discovery-malformed");
    let zero_option = |f: &mut Vec<u8>| {
        f[79] = 0;
        let sum = checksum::transport(
            "fd80::100".parse().unwrap(),
            "ff02::1:ff00:10".parse().unwrap(),
            58,
            &[&f[54..56], &[0, 0], &f[58..]].concat(),
        );
        f[56..58].copy_from_slice(&sum.to_be_bytes());
    };
    assert_dropped(&format!("{solicit} ttl=255"), zero_option, "discovery-malformed");
}

#[test]
fn what_a_port_does_not_take_is_a_forwarded_frame_less_or_a_loss_of_our_own() {
    let mut world = world();
    let sender = station("client");
    world.receive(sender.link, &frame(&sender, "arp who-has 10.80.0.10 tell 10.80.0.100"));
    world.engine.refused(true);
    assert_eq!(world.account_is_wrong(), None);
    let frames = world.engine.frames();
    assert!(frames.ends_with("(lost 1); drops: none"), "{frames}");
    world.receive(sender.link, &frame(&sender, V4));
    world.engine.refused(false);
    assert_eq!(world.account_is_wrong(), None);
    assert!(world.engine.frames().ends_with("drops: port-refused=1"));
}

#[test]
fn link_padding_is_cut_off() {
    let sender = station("client");
    let mut padded = frame(&sender, V4);
    let len = padded.len();
    padded.extend([0xee; 6]);
    let mut world = world();
    world.receive(sender.link, &padded);
    assert_eq!(world.sent[0].1.len(), len);
}
