//! Bytes read back into a [`Spec`], by a reader of its own: it shares no parser with the program.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use tapvs::packet::{checksum, proto, Mac};

use super::packet::{checksum_at, sum_of, Spec};
use super::words::{flag_letters, Kind};

/// Everything that a packet says.
pub(crate) fn packet(bytes: &[u8]) -> Spec {
    read(bytes, false).unwrap_or_else(|| unreadable(bytes))
}

/// Everything that an ARP packet says.
pub(crate) fn arp(bytes: &[u8]) -> Spec {
    let mut spec = Spec { kind: Kind::Arp, ..Spec::default() };
    if bytes.len() < 28 {
        return unreadable(bytes);
    }
    let v4 = |at: usize| addr(&bytes[at..at + 4]);
    spec.set("op", word(bytes, 6).unwrap_or(0));
    spec.set("mac", mac(&bytes[8..14]));
    spec.set("src", v4(14));
    spec.set("dst", v4(24));
    spec
}

fn unreadable(bytes: &[u8]) -> Spec {
    Spec { data: Some(bytes.to_vec()), ..Spec::default() }
}

fn read(bytes: &[u8], quoted: bool) -> Option<Spec> {
    match bytes.first()? >> 4 {
        4 => v4(bytes, quoted),
        6 => v6(bytes, quoted),
        _ => None,
    }
}

fn v4(bytes: &[u8], quoted: bool) -> Option<Spec> {
    let mut spec = Spec::default();
    let header = usize::from(bytes[0] & 15) * 4;
    let (len, place) = (word(bytes, 2)?, word(bytes, 6)?);
    let (src, dst) = (addr(bytes.get(12..16)?), addr(bytes.get(16..20)?));
    spec.set("src", src);
    spec.set("dst", dst);
    spec.set("len", len);
    spec.set("id", word(bytes, 4)?);
    spec.set("tos", bytes[1]);
    spec.set("ttl", bytes[8]);
    spec.set("df", place >> 14 & 1);
    if header > 20 {
        spec.set("opts", digits(bytes.get(20..header)?));
    }
    let fragment = place & 0x3fff != 0;
    if fragment {
        spec.set("off", u32::from(place & 0x1fff) * 8);
        spec.set("mf", place >> 13 & 1);
    }
    spec.set("sum", "ok");
    if checksum::of(bytes.get(..header)?) != 0 {
        spec.set("sum", "IP header");
    }
    let end = bytes.len().min(usize::from(len));
    let segment = bytes.get(header..end)?;
    let whole = !quoted && !fragment && bytes.len() >= usize::from(len);
    transport(&mut spec, bytes[9], segment, place & 0x1fff != 0 || fragment, whole);
    Some(spec)
}

fn v6(bytes: &[u8], quoted: bool) -> Option<Spec> {
    let mut spec = Spec::default();
    let first = u32::from_be_bytes(bytes.get(..4)?.try_into().ok()?);
    let payload = usize::from(word(bytes, 4)?);
    spec.set("src", addr(bytes.get(8..24)?));
    spec.set("dst", addr(bytes.get(24..40)?));
    spec.set("len", payload + 40);
    spec.set("tos", first >> 20 & 255);
    spec.set("flow", first & 0xf_ffff);
    spec.set("ttl", bytes[7]);
    spec.set("sum", "ok");
    let whole = bytes.len() >= payload + 40;
    let mut rest = bytes.get(40..bytes.len().min(payload + 40))?;
    let (mut next, mut fragment) = (bytes[6], false);
    while matches!(next, 0 | 43 | 44 | 60) && rest.len() >= 8 {
        let mut len = 8 + usize::from(rest[1]) * 8;
        if next == 44 {
            let place = word(rest, 2)?;
            spec.set("off", place & !7);
            spec.set("mf", place & 1);
            spec.set("fragid", u32::from_be_bytes(rest[4..8].try_into().ok()?));
            fragment = true;
            len = 8;
        }
        next = rest[0];
        rest = rest.get(len..)?;
    }
    transport(&mut spec, next, rest, fragment, whole && !quoted && !fragment);
    Some(spec)
}

/// What follows the IP header. `whole`: nothing is cut off, so the checksum can be looked at.
fn transport(spec: &mut Spec, protocol: u8, segment: &[u8], fragment: bool, whole: bool) {
    spec.set("proto", protocol);
    let known = if fragment { None } else { header(spec, protocol, segment) };
    if known.is_none() {
        spec.kind = Kind::Ip;
        spec.data = Some(segment.to_vec());
    }
    let (Some(at), true) = (checksum_at(protocol), whole) else { return };
    let no_sum = protocol == proto::UDP && word(segment, at) == Some(0);
    let ends = (spec.addr("src"), spec.addr("dst"));
    if let (Ok(src), Ok(dst), false) = (ends.0, ends.1, no_sum) {
        if sum_of(src, dst, protocol, segment) != 0 && spec.of("sum") == Some("ok") {
            spec.set("sum", "bad");
        }
    }
}

fn header(spec: &mut Spec, protocol: u8, segment: &[u8]) -> Option<()> {
    match protocol {
        proto::UDP => {
            ports(spec, segment)?;
            if word(segment, 6) == Some(0) {
                spec.set("nosum", 1);
            }
            spec.kind = Kind::Udp;
            spec.data = segment.get(8..).map(<[u8]>::to_vec);
        }
        proto::TCP => tcp(spec, segment)?,
        proto::ICMP | proto::ICMPV6 => icmp(spec, protocol, segment)?,
        proto::IPIP | proto::IPV6 => {
            spec.kind = Kind::Ipip;
            spec.inner = Some(Box::new(read(segment, false)?));
        }
        _ => return None,
    }
    spec.fields.remove("proto");
    Some(())
}

fn ports(spec: &mut Spec, segment: &[u8]) -> Option<()> {
    spec.set("sport", word(segment, 0)?);
    spec.set("dport", word(segment, 2)?);
    Some(())
}

fn tcp(spec: &mut Spec, segment: &[u8]) -> Option<()> {
    ports(spec, segment)?;
    spec.kind = Kind::Tcp;
    spec.set("seq", long(segment, 4)?);
    if segment.len() < 20 {
        return Some(());
    }
    let header = usize::from(segment[12] >> 4) * 4;
    spec.set("ack", long(segment, 8)?);
    spec.set("flags", flag_letters(segment[13]));
    spec.set("win", word(segment, 14)?);
    if header > 20 {
        spec.set("topts", digits(segment.get(20..header)?));
    }
    spec.data = Some(segment.get(header..)?.to_vec());
    Some(())
}

fn icmp(spec: &mut Spec, protocol: u8, segment: &[u8]) -> Option<()> {
    let rest = long(segment, 4)?;
    let kind = segment[0];
    spec.kind = Kind::Icmp;
    spec.set("type", kind);
    spec.set("code", segment[1]);
    spec.set("rest", rest);
    let six = protocol == proto::ICMPV6;
    let body = &segment[8..];
    if six && matches!(kind, 135 | 136) && body.len() >= 16 {
        spec.kind = Kind::Nd;
        spec.set("target", addr(&body[..16]));
        if let Some(option) = body.get(18..24) {
            spec.set("mac", mac(option));
        }
        return Some(());
    }
    let is_error = if six { kind < 128 } else { matches!(kind, 3 | 4 | 5 | 11 | 12) };
    if is_error {
        spec.set("mtu", rest);
        spec.inner = read(body, true).map(Box::new);
    } else {
        spec.set("ident", rest >> 16);
        spec.set("seq", rest & 0xffff);
        spec.data = Some(body.to_vec());
    }
    Some(())
}

fn addr(bytes: &[u8]) -> IpAddr {
    match <[u8; 4]>::try_from(bytes) {
        Ok(v4) => IpAddr::V4(Ipv4Addr::from(v4)),
        Err(_) => <[u8; 16]>::try_from(bytes)
            .map_or(IpAddr::V6(Ipv6Addr::UNSPECIFIED), |v6| IpAddr::V6(Ipv6Addr::from(v6))),
    }
}

fn mac(bytes: &[u8]) -> Mac {
    Mac(bytes.try_into().expect("six bytes were taken"))
}

fn digits(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn word(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

fn long(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_be_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}
