//! A packet as text: `udp 10.0.0.1:4000 > 10.0.0.2:53 "q" ttl=64`, both ways.
//!
//! A [`Spec`] is what one line says. Sent, it becomes bytes, and what is unsaid gets a default.
//! Expected, it is held against a packet that was read back into a [`Spec`] of its own, and what is
//! unsaid is not compared; checksums always are (`sum=`). The grammar is in `tests/scenarios/README.md`.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;

use tapvs::packet::{checksum, proto, Mac};

use super::words::{self, Kind};

/// What a line says of a packet.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Spec {
    /// `udp`, `tcp`, `icmp`, `ipip`, `arp`, `nd`, or `ip` for the rest.
    pub(crate) kind: Kind,
    /// Everything that is said, by name, in one spelling.
    pub(crate) fields: BTreeMap<&'static str, String>,
    /// What follows the innermost header.
    pub(crate) data: Option<Vec<u8>>,
    /// The packet quoted or carried inside.
    pub(crate) inner: Option<Box<Self>>,
}

/// Names of fields, in the order of printing.
pub(crate) const FIELDS: &[&str] = &[
    "src", "sport", "dst", "dport", "flags", "type", "code", "op", "target", "mac", "proto", "seq",
    "ack", "win", "topts", "mtu", "ident", "rest", "off", "mf", "fragid", "ttl", "tos", "id", "df",
    "flow", "opts", "cut", "nosum", "sum", "len", "data-len",
];

impl Spec {
    /// The value of a field.
    pub(crate) fn of(&self, name: &str) -> Option<&str> {
        self.fields.get(name).map(String::as_str)
    }

    /// Says that a field has a value.
    pub(crate) fn set(&mut self, name: &'static str, value: impl ToString) {
        self.fields.insert(name, value.to_string());
    }

    /// A field as a number.
    pub(crate) fn number(&self, name: &str) -> Result<Option<u32>, String> {
        self.of(name).map(|text| words::number(name, text)).transpose()
    }

    fn number_or(&self, name: &str, default: u32) -> Result<u32, String> {
        Ok(self.number(name)?.unwrap_or(default))
    }

    /// A field as an address.
    pub(crate) fn addr(&self, name: &str) -> Result<IpAddr, String> {
        let text = self.of(name).ok_or_else(|| format!("{name} is missing"))?;
        text.parse().map_err(|_| format!("{text} is not an address"))
    }

    /// The frame's payload, from a station with this MAC.
    pub(crate) fn build(&self, mac: Mac) -> Result<Vec<u8>, String> {
        if self.kind == Kind::Arp {
            return self.arp(mac);
        }
        let (src, dst) = (self.addr("src")?, self.addr("dst")?);
        let mut segment = self.segment(mac, src, dst)?;
        if self.of("sum") == Some("bad") {
            let at = checksum_at(self.protocol(src)?).ok_or("no checksum to spoil")?;
            segment[at] ^= 0x55;
        }
        match self.of("cut") {
            Some(cut) => self.piece(src, dst, &segment, cut),
            None => self.ip(src, dst, &segment, self.protocol(src)?),
        }
    }

    fn arp(&self, mac: Mac) -> Result<Vec<u8>, String> {
        let op = self.of("op").unwrap_or("1");
        let mut bytes = vec![0, 1, 8, 0, 6, 4, 0, words::number("op", op)? as u8];
        bytes.extend(self.of("mac").map_or(Ok(mac.0), words::mac)?);
        bytes.extend(octets(self.addr("src")?));
        bytes.extend([0; 6]);
        bytes.extend(octets(self.addr("dst")?));
        Ok(bytes)
    }

    fn protocol(&self, src: IpAddr) -> Result<u8, String> {
        Ok(match self.kind {
            Kind::Udp => proto::UDP,
            Kind::Tcp => proto::TCP,
            Kind::Icmp | Kind::Nd if src.is_ipv6() => proto::ICMPV6,
            Kind::Icmp | Kind::Nd => proto::ICMP,
            Kind::Ipip => match self.inner.as_ref().ok_or("ipip without [packet]")?.addr("src")? {
                IpAddr::V4(_) => proto::IPIP,
                IpAddr::V6(_) => proto::IPV6,
            },
            Kind::Ip | Kind::Arp => self.number_or("proto", 253)? as u8,
        })
    }

    /// Transport header and data.
    fn segment(&self, mac: Mac, src: IpAddr, dst: IpAddr) -> Result<Vec<u8>, String> {
        let data = self.data.clone().unwrap_or_default();
        let (sport, dport) =
            (self.number_or("sport", 0)? as u16, self.number_or("dport", 0)? as u16);
        let ports = [sport.to_be_bytes(), dport.to_be_bytes()].concat();
        let protocol = self.protocol(src)?;
        let mut bytes = match self.kind {
            Kind::Udp => {
                let len = (data.len() + 8) as u16;
                [&ports[..], &len.to_be_bytes(), &[0, 0], &data].concat()
            }
            Kind::Tcp => self.tcp(&ports, &data)?,
            Kind::Icmp => self.icmp(mac, &data)?,
            Kind::Nd => self.nd(mac)?,
            Kind::Ipip => self.inner.as_ref().ok_or("ipip without [packet]")?.build(mac)?,
            Kind::Ip | Kind::Arp => data,
        };
        if let (Some(at), false) = (checksum_at(protocol), self.of("nosum") == Some("1")) {
            let sum = sum_of(src, dst, protocol, &bytes);
            let sum = if protocol == proto::UDP && sum == 0 { 0xffff } else { sum };
            bytes[at..at + 2].copy_from_slice(&sum.to_be_bytes());
        }
        Ok(bytes)
    }

    fn tcp(&self, ports: &[u8], data: &[u8]) -> Result<Vec<u8>, String> {
        let options = self.of("topts").map_or(Ok(Vec::new()), words::hex)?;
        let words = (20 + options.len()) / 4;
        let flags = words::tcp_flags(self.of("flags").unwrap_or("S"))?;
        let mut bytes = ports.to_vec();
        bytes.extend(self.number_or("seq", 1000)?.to_be_bytes());
        bytes.extend(self.number_or("ack", 0)?.to_be_bytes());
        bytes.extend([(words << 4) as u8, flags]);
        bytes.extend((self.number_or("win", 8192)? as u16).to_be_bytes());
        bytes.extend([0; 4]);
        bytes.extend(options);
        bytes.extend(data);
        Ok(bytes)
    }

    fn icmp(&self, mac: Mac, data: &[u8]) -> Result<Vec<u8>, String> {
        let kind = self.number("type")?.ok_or("which ICMP message?")? as u8;
        let rest = match (self.of("mtu"), self.of("ident"), self.of("seq")) {
            (Some(_), ..) => self.number_or("mtu", 0)?,
            (_, Some(_), _) | (.., Some(_)) => {
                self.number_or("ident", 0)? << 16 | self.number_or("seq", 0)?
            }
            (None, None, None) => self.number_or("rest", 0)?,
        };
        let mut bytes = vec![kind, self.number_or("code", 0)? as u8, 0, 0];
        bytes.extend(rest.to_be_bytes());
        match &self.inner {
            Some(inner) => bytes.extend(inner.build(mac)?),
            None => bytes.extend(data),
        }
        Ok(bytes)
    }

    /// Neighbour solicitation or advertisement with its link-layer address option.
    fn nd(&self, mac: Mac) -> Result<Vec<u8>, String> {
        let kind = self.number_or("type", 135)?;
        let mut bytes = vec![kind as u8, 0, 0, 0];
        bytes.extend(self.number_or("rest", 0)?.to_be_bytes());
        bytes.extend(octets(self.addr("target")?));
        bytes.extend([if kind == 135 { 1 } else { 2 }, 1]);
        bytes.extend(self.of("mac").map_or(Ok(mac.0), words::mac)?);
        Ok(bytes)
    }

    /// `cut=OFFSET+LENGTH`: that piece of the segment as a fragment; `+*` is the last one.
    fn piece(
        &self,
        src: IpAddr,
        dst: IpAddr,
        segment: &[u8],
        cut: &str,
    ) -> Result<Vec<u8>, String> {
        let (from, count) = cut.split_once('+').ok_or("cut is OFFSET+LENGTH")?;
        let from = words::number("cut", from)? as usize;
        let rest = segment.get(from..).ok_or("cut begins behind the end")?;
        let count = if count == "*" { rest.len() } else { words::number("cut", count)? as usize };
        let piece = rest.get(..count).ok_or("cut ends behind the end")?;
        let mut spec = self.clone();
        spec.set("off", from);
        spec.set("mf", u8::from(count < rest.len()));
        spec.fields.entry("df").or_insert_with(|| "0".into());
        spec.ip(src, dst, piece, self.protocol(src)?)
    }

    fn ip(&self, src: IpAddr, dst: IpAddr, payload: &[u8], next: u8) -> Result<Vec<u8>, String> {
        let (ttl, tos) = (self.number_or("ttl", 64)? as u8, self.number_or("tos", 0)?);
        let (off, more) = (self.number_or("off", 0)?, self.number_or("mf", 0)?);
        let mut bytes = Vec::new();
        if src.is_ipv6() {
            let flow = self.number_or("flow", 0)?;
            let ext: Vec<u8> = match self.of("off").or(self.of("mf")) {
                Some(_) => {
                    let id = self.number_or("fragid", 7)?;
                    let place = (off | more) as u16;
                    [&[next, 0], &place.to_be_bytes()[..], &id.to_be_bytes()].concat()
                }
                None => Vec::new(),
            };
            bytes.extend((6 << 28 | tos << 20 | flow).to_be_bytes());
            bytes.extend(((payload.len() + ext.len()) as u16).to_be_bytes());
            bytes.extend([if ext.is_empty() { next } else { 44 }, ttl]);
            bytes.extend([octets(src), octets(dst), ext].concat());
        } else {
            let options = self.of("opts").map_or(Ok(Vec::new()), words::hex)?;
            let place = self.number_or("df", 1)? << 14 | more << 13 | (off / 8);
            let header = 20 + options.len();
            bytes.extend([0x40 | (header / 4) as u8, tos as u8]);
            bytes.extend(((payload.len() + header) as u16).to_be_bytes());
            bytes.extend((self.number_or("id", 0x1234)? as u16).to_be_bytes());
            bytes.extend((place as u16).to_be_bytes());
            bytes.extend([ttl, next, 0, 0]);
            bytes.extend([octets(src), octets(dst), options].concat());
            let sum = checksum::of(&bytes);
            bytes[10..12].copy_from_slice(&sum.to_be_bytes());
        }
        bytes.extend(payload);
        Ok(bytes)
    }

    /// Why `seen` is not what this line expects.
    pub(crate) fn differs(&self, seen: &Self) -> Option<String> {
        if self.of("cut").is_some() {
            return self.fragment_differs(seen).unwrap_or_else(Some);
        }
        if self.kind != seen.kind {
            return Some(format!("{:?} expected", self.kind));
        }
        for (name, wanted) in &self.fields {
            let got = seen.of(name).unwrap_or("none");
            if got != wanted {
                return Some(format!("{name}: expected {wanted}, got {got}"));
            }
        }
        if self.of("sum").is_none() {
            if let Some(bad) = seen.of("sum").filter(|&sum| sum != "ok") {
                return Some(format!("checksum: {bad}"));
            }
        }
        if self.data.is_some() && self.data != seen.data {
            return Some("the data differs".into());
        }
        match (&self.inner, &seen.inner) {
            (Some(wanted), Some(got)) => wanted.differs(got).map(|why| format!("inside, {why}")),
            (Some(_), None) => Some("nothing inside".into()),
            (None, _) => None,
        }
    }

    /// A fragment is expected as the piece of a whole packet; what was unsaid of its IP header is
    /// not compared.
    fn fragment_differs(&self, seen: &Self) -> Result<Option<String>, String> {
        let mut wanted = super::decode::packet(&self.build(Mac::default())?);
        let defaulted = ["ttl", "tos", "id", "df", "flow", "fragid", "sum"];
        wanted.fields.retain(|name, _| !defaulted.contains(name) || self.fields.contains_key(name));
        Ok(wanted.differs(seen))
    }
}

/// Where a protocol's checksum lies in its header.
pub(crate) const fn checksum_at(protocol: u8) -> Option<usize> {
    match protocol {
        proto::TCP => Some(16),
        proto::UDP => Some(6),
        proto::ICMP | proto::ICMPV6 => Some(2),
        _ => None,
    }
}

/// The checksum of a transport segment; 0 if it has a right one in it.
pub(crate) fn sum_of(src: IpAddr, dst: IpAddr, protocol: u8, segment: &[u8]) -> u16 {
    match protocol {
        proto::ICMP => checksum::of(segment),
        _ => checksum::transport(src, dst, protocol, segment),
    }
}

/// An address as it stands in a header.
pub(crate) fn octets(addr: IpAddr) -> Vec<u8> {
    match addr {
        IpAddr::V4(addr) => addr.octets().to_vec(),
        IpAddr::V6(addr) => addr.octets().to_vec(),
    }
}

impl fmt::Display for Spec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let end = |addr: &str, port: &str| match (self.of(addr), self.of(port)) {
            (Some(addr), Some(port)) if addr.contains(':') => format!("[{addr}]:{port}"),
            (Some(addr), Some(port)) => format!("{addr}:{port}"),
            (addr, _) => addr.unwrap_or("?").to_owned(),
        };
        write!(f, "{} {} > {}", self.kind, end("src", "sport"), end("dst", "dport"))?;
        for name in FIELDS.iter().filter(|n| !["src", "dst", "sport", "dport"].contains(n)) {
            if let Some(value) = self.of(name) {
                write!(f, " {name}={value}")?;
            }
        }
        if let Some(data) = self.data.as_ref().filter(|data| !data.is_empty()) {
            let plain = data.len() <= 40 && data.iter().all(|b| (32..127).contains(b));
            match plain {
                true => write!(f, " \"{}\"", String::from_utf8_lossy(data))?,
                false => write!(f, " ({} bytes of data)", data.len())?,
            }
        }
        self.inner.as_ref().map_or(Ok(()), |inner| write!(f, " [{inner}]"))
    }
}
