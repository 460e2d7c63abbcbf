//! The classifier: which firewall mark a packet gets.
//!
//! Kept from the kernel: every rule of the chain is looked at in order, each that fits changes the mark
//! by its mask, `ACCEPT` ends; a rule that asks for ports fits no later fragment.
//!
//! Rules are not walked. Each is filed under what it asks for exactly (leading bits of the addresses
//! and ports, and the protocol), once for each range of ports cut into aligned blocks. Rules of the
//! same shape share one keyed map, so that a packet costs one look a shape, however many rules there
//! are; what was found is then held against the whole rule, in the order of the chain. What cannot be
//! filed so (`!`, `--ports`, `-i`) widens the shape and is left to that last look.

use std::hash::Hash;
use std::net::IpAddr;
use std::ops::RangeInclusive;

use crate::config::marks::{MarkRule, MarkTarget, Match, Matches};
use crate::config::Prefix;
use crate::packet::{Family, Headers, LinkId};
use crate::world::{Keyed, Map, Rng};

/// One rule is filed under at most so many keys; beyond that its source ports are not filed.
const KEYS_MAX: usize = 256;

/// All rules, ready to be asked.
#[derive(Debug, Default)]
pub struct Marks {
    rules: Vec<Rule>,
    /// The files of each family.
    files: [Vec<File>; 2],
    /// The places of rules that may fit the packet at hand; kept for its room.
    found: Vec<u32>,
}

/// A rule with its ports looked up.
#[derive(Debug)]
struct Rule {
    matches: Matches,
    /// The ports of ours that it is about; `None` is all.
    links: Option<Vec<LinkId>>,
    target: MarkTarget,
}

/// The rules of one shape.
#[derive(Debug)]
struct File {
    shape: Shape,
    by_key: Map<Key, Vec<u32>>,
}

/// How many leading bits of each field are asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Shape {
    src: u8,
    dst: u8,
    sport: u8,
    dport: u8,
    proto: bool,
}

/// The bits that a shape asks for; all others are 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Key {
    src: u128,
    dst: u128,
    sport: u16,
    dport: u16,
    proto: u8,
}

/// A block of ports: its first, and how many leading bits its ports share.
type Block = (u16, u8);

/// Every port.
const ANY: Block = (0, 0);

impl Marks {
    /// No rule: nothing gets a mark.
    pub const fn none() -> Self {
        Self { rules: Vec::new(), files: [const { Vec::new() }; 2], found: Vec::new() }
    }

    /// Files `rules`; `ports` are the names of the links.
    pub fn new(rules: &[MarkRule], ports: &[(LinkId, &str)], mut rng: Rng) -> Self {
        let mut marks = Self::none();
        let keyed = Keyed::new(&mut rng);
        for (place, rule) in (0..).zip(rules) {
            let links = rule.matches.in_port.as_ref().map(|wanted| links(wanted, ports));
            marks.file(place, rule, &keyed);
            let (matches, target) = (rule.matches.clone(), rule.target);
            marks.rules.push(Rule { matches, links, target });
        }
        marks
    }

    /// The mark of a packet that came in by `link`; 0 if no rule is about it.
    pub fn mark(&mut self, link: LinkId, headers: &Headers, bytes: &[u8]) -> u32 {
        let files = &self.files[headers.family as usize];
        if files.is_empty() {
            return 0;
        }
        let flow = headers.flow(bytes);
        let ports = flow.map(|flow| (flow.src.port, flow.dst.port));
        let packet = Key::of(headers, ports);
        self.found.clear();
        for file in files {
            if let Some(places) = file.by_key.get(&packet.cut_to(file.shape)) {
                self.found.extend_from_slice(places);
            }
        }
        self.found.sort_unstable();
        self.found.dedup();
        let mut mark = 0;
        for &place in &self.found {
            let rule = &self.rules[place as usize];
            if !rule.fits(link, headers, ports) {
                continue;
            }
            match rule.target {
                MarkTarget::Mark { value, mask } => mark = (mark & !mask) ^ value,
                MarkTarget::End => break,
            }
        }
        mark
    }

    fn file(&mut self, place: u32, rule: &MarkRule, keyed: &Keyed) {
        let Matches { src, dst, proto, sports, dports, .. } = &rule.matches;
        let (src, dst) = (filed_network(src.as_ref()), filed_network(dst.as_ref()));
        let proto = proto.as_ref().filter(|wanted| !wanted.not).map(|wanted| wanted.want);
        let (mut sports, dports) = (filed_ports(sports.as_ref()), filed_ports(dports.as_ref()));
        if sports.len() * dports.len() > KEYS_MAX {
            sports = vec![ANY];
        }
        for &(sport, sport_bits) in &sports {
            for &(dport, dport_bits) in &dports {
                let shape = Shape {
                    src: src.1,
                    dst: dst.1,
                    sport: sport_bits,
                    dport: dport_bits,
                    proto: proto.is_some(),
                };
                let proto = proto.unwrap_or(0);
                let key = Key { src: src.0, dst: dst.0, sport, dport, proto };
                let places = self.file_of(rule.family, shape, keyed).entry(key).or_default();
                if places.last() != Some(&place) {
                    places.push(place);
                }
            }
        }
    }

    fn file_of(&mut self, family: Family, shape: Shape, keyed: &Keyed) -> &mut Map<Key, Vec<u32>> {
        let files = &mut self.files[family as usize];
        let at = files.iter().position(|file| file.shape == shape).unwrap_or_else(|| {
            files.push(File { shape, by_key: Map::with_hasher(keyed.clone()) });
            files.len() - 1
        });
        &mut files[at].by_key
    }
}

impl Key {
    fn of(headers: &Headers, ports: Option<(u16, u16)>) -> Self {
        let (sport, dport) = ports.unwrap_or_default();
        let (src, dst) = (left_bits(headers.src), left_bits(headers.dst));
        Self { src, dst, sport, dport, proto: headers.proto }
    }

    /// The key with only the bits that `shape` asks for.
    fn cut_to(self, shape: Shape) -> Self {
        Self {
            src: self.src & leading(shape.src),
            dst: self.dst & leading(shape.dst),
            sport: self.sport & leading_port(shape.sport),
            dport: self.dport & leading_port(shape.dport),
            proto: if shape.proto { self.proto } else { 0 },
        }
    }
}

impl Rule {
    /// Whether the whole rule is about the packet. A packet without ports fits no rule that asks for
    /// one, with `!` or without.
    fn fits(&self, link: LinkId, headers: &Headers, ports: Option<(u16, u16)>) -> bool {
        let wanted = &self.matches;
        let link_fits = self.links.as_ref().is_none_or(|links| links.contains(&link));
        let ports_fit = |wanted: &Option<Match<Vec<RangeInclusive<u16>>>>, which: &[usize]| {
            let Some(wanted) = wanted else { return true };
            let Some((sport, dport)) = ports else { return false };
            let both = [sport, dport];
            let within =
                which.iter().any(|&i| wanted.want.iter().any(|range| range.contains(&both[i])));
            within != wanted.not
        };
        let net_fits = |wanted: &Option<Match<Prefix>>, addr: IpAddr| {
            wanted.as_ref().is_none_or(|wanted| wanted.want.contains(addr) != wanted.not)
        };
        link_fits
            && net_fits(&wanted.src, headers.src)
            && net_fits(&wanted.dst, headers.dst)
            && wanted.proto.as_ref().is_none_or(|p| (p.want == headers.proto) != p.not)
            && ports_fit(&wanted.sports, &[0])
            && ports_fit(&wanted.dports, &[1])
            && ports_fit(&wanted.ports, &[0, 1])
    }
}

/// The links whose names a rule is about; `+` at its end is any ending.
fn links(wanted: &Match<String>, ports: &[(LinkId, &str)]) -> Vec<LinkId> {
    let fits = |name: &str| match wanted.want.strip_suffix('+') {
        Some(front) => name.starts_with(front),
        None => name == wanted.want,
    };
    ports.iter().filter(|(_, name)| fits(name) != wanted.not).map(|&(link, _)| link).collect()
}

/// The bits under which a network is filed, and how many; none for a network with `!`.
fn filed_network(wanted: Option<&Match<Prefix>>) -> (u128, u8) {
    match wanted {
        Some(Match { not: false, want }) => (left_bits(want.network().addr), want.len),
        Some(_) | None => (0, 0),
    }
}

/// The blocks under which ports are filed.
fn filed_ports(wanted: Option<&Match<Vec<RangeInclusive<u16>>>>) -> Vec<Block> {
    match wanted {
        Some(Match { not: false, want }) => want.iter().flat_map(blocks).collect(),
        Some(_) | None => vec![ANY],
    }
}

/// A range of ports as aligned blocks of powers of two, 30 at most.
fn blocks(range: &RangeInclusive<u16>) -> Vec<Block> {
    let mut blocks = Vec::new();
    let (mut from, end) = (u32::from(*range.start()), u32::from(*range.end()) + 1);
    while from < end {
        let aligned = from.trailing_zeros().min(16);
        let size_bits = aligned.min((end - from).ilog2());
        blocks.push((narrow(from), 16 - u8::try_from(size_bits).unwrap_or(16)));
        from += 1 << size_bits;
    }
    blocks
}

fn narrow(port: u32) -> u16 {
    u16::try_from(port).expect("a block begins below 65536")
}

/// An address at the upper end of 128 bits.
fn left_bits(addr: IpAddr) -> u128 {
    match addr {
        IpAddr::V4(addr) => u128::from(u32::from(addr)) << 96,
        IpAddr::V6(addr) => u128::from(addr),
    }
}

const fn leading(bits: u8) -> u128 {
    match bits {
        0 => 0,
        bits => u128::MAX << (128 - bits as u32),
    }
}

const fn leading_port(bits: u8) -> u16 {
    match bits {
        0 => 0,
        bits => u16::MAX << (16 - bits as u32),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::rules::load;
    use crate::packet::ip::Fresh;
    use crate::packet::{proto, Packet};

    const PORTS: &str = "ip tuntap add wan mode tap\nip tuntap add lan mode tap\n";

    fn marks(rules: &str) -> Marks {
        let config =
            load("r", &format!("{PORTS}{rules}")).unwrap_or_else(|all| panic!("{}", all[0]));
        Marks::new(&config.marks, &[(LinkId(0), "wan"), (LinkId(1), "lan")], Rng::new(1))
    }

    fn packet(src: &str, dst: &str, protocol: u8, ports: (u16, u16)) -> Packet {
        let mut segment = [0; 20];
        segment[0..2].copy_from_slice(&ports.0.to_be_bytes());
        segment[2..4].copy_from_slice(&ports.1.to_be_bytes());
        let mut packet = Packet::copy_of(LinkId(0), &segment);
        let (src, dst) = (src.parse().unwrap(), dst.parse().unwrap());
        Fresh { src, dst, proto: protocol, ttl: 64, tos: 0, dont_fragment: true, id: 0 }
            .push(&mut packet)
            .unwrap();
        packet
    }

    fn mark(marks: &mut Marks, packet: &Packet) -> u32 {
        let headers = Headers::of(packet.bytes()).unwrap();
        marks.mark(packet.link, &headers, packet.bytes())
    }

    fn tcp(marks: &mut Marks, dst: &str, port: u16) -> u32 {
        mark(marks, &packet("10.9.0.1", dst, proto::TCP, (4000, port)))
    }

    #[test]
    fn the_articles_group_of_http_and_https_has_one_mark() {
        let mut all = marks(
            "iptables -t mangle -A PREROUTING -d 10.0.0.1 -p tcp --dport 80 -j MARK --set-mark 80
            iptables -t mangle -A PREROUTING -d 10.0.0.1 -p tcp --dport 443 -j MARK --set-mark 80
            ip6tables -t mangle -A PREROUTING -d fd00::1 -p tcp -m multiport --dports 80,443 \
            -j MARK --set-mark 6\n",
        );
        assert_eq!(tcp(&mut all, "10.0.0.1", 80), 80);
        assert_eq!(tcp(&mut all, "10.0.0.1", 443), 80);
        assert_eq!(tcp(&mut all, "10.0.0.1", 22), 0);
        assert_eq!(tcp(&mut all, "10.0.0.2", 80), 0);
        assert_eq!(mark(&mut all, &packet("10.9.0.1", "10.0.0.1", proto::UDP, (1, 80))), 0);
        assert_eq!(mark(&mut all, &packet("fd00::9", "fd00::1", proto::TCP, (1, 443))), 6);
    }

    #[test]
    fn rules_combine_in_their_order_until_one_accepts() {
        let mut all = marks(
            "iptables -t mangle -A PREROUTING -p tcp -j MARK --set-mark 0x10
            iptables -t mangle -A PREROUTING -d 10.0.0.0/8 -j MARK --or-mark 0x3
            iptables -t mangle -A PREROUTING -p tcp --dport 443 -j ACCEPT
            iptables -t mangle -A PREROUTING -p tcp --dport 80:90 -j MARK --and-mark 0xfe
            iptables -t mangle -A PREROUTING ! -d 10.0.0.0/8 -j MARK --set-mark 0x200/0xf00
            iptables -t mangle -I PREROUTING -s 10.9.0.1 -j MARK --set-mark 0x1000\n",
        );
        assert_eq!(tcp(&mut all, "10.0.0.1", 443), 0x13);
        assert_eq!(tcp(&mut all, "10.0.0.1", 85), 0x12);
        assert_eq!(tcp(&mut all, "11.0.0.1", 85), 0x210);
        assert_eq!(mark(&mut all, &packet("10.9.0.1", "11.0.0.1", proto::UDP, (1, 1))), 0x1200);
    }

    #[test]
    fn ports_of_ours_are_told_apart() {
        let mut all = marks(
            "iptables -t mangle -A PREROUTING -i lan -j MARK --set-mark 1
            iptables -t mangle -A PREROUTING ! -i l+ -j MARK --set-mark 2\n",
        );
        let mut one = packet("10.9.0.1", "10.0.0.1", proto::ICMP, (0, 0));
        assert_eq!(mark(&mut all, &one), 2);
        one.link = LinkId(1);
        assert_eq!(mark(&mut all, &one), 1);
    }

    #[test]
    fn ranges_are_cut_into_blocks_that_cover_them_and_nothing_else() {
        let mut rng = Rng::new(3);
        let mut ranges = vec![0..=u16::MAX, 0..=0, u16::MAX..=u16::MAX, 1..=65534];
        ranges.extend((0..200).map(|_| {
            let (a, b) = (rng.next_u16(), rng.next_u16());
            a.min(b)..=a.max(b)
        }));
        for range in ranges {
            let blocks = blocks(&range);
            assert!(blocks.len() <= 30, "{range:?}");
            let size = |&(_, bits): &Block| 1_u32 << (16 - bits);
            let covered: u32 = blocks.iter().map(size).sum();
            assert_eq!(covered, u32::from(range.end() - range.start()) + 1, "{range:?}");
            for (from, bits) in blocks {
                assert!(range.contains(&from) && from & !leading_port(bits) == 0);
            }
        }
    }

    #[test]
    fn filing_agrees_with_walking_the_chain() {
        let mut rng = Rng::new(9);
        let mut text = String::new();
        for i in 0..300 {
            let mut line = "iptables -t mangle -A PREROUTING".to_owned();
            let not = |n: u16| if n % 5 == 0 { "! " } else { "" };
            let draw = rng.next_u16();
            if draw & 1 != 0 {
                line += &format!(" {}-d 10.0.{}.0/{}", not(draw), draw % 4, 22 + draw % 9);
            }
            if draw & 2 != 0 {
                line += &format!(" {}-s 10.9.0.{}", not(draw >> 3), draw % 8);
            }
            if draw & 4 != 0 {
                let from = rng.next_u16() % 100;
                line += &format!(" -p tcp {}--dport {from}:{}", not(from), from + draw % 50);
            }
            line += &match draw % 11 {
                0 => " -j ACCEPT".to_owned(),
                n => format!(" -j MARK --set-xmark {i}/{:#x}", 0xff << n),
            };
            text += &(line + "\n");
        }
        let mut all = marks(&text);
        for _ in 0..500 {
            let draw = rng.next_u16();
            let protocol = if draw & 1 == 0 { proto::TCP } else { proto::UDP };
            let (src, dst) =
                (format!("10.9.0.{}", draw % 8), format!("10.0.{}.{}", draw % 5, draw >> 8));
            let one = packet(&src, &dst, protocol, (draw, rng.next_u16() % 150));
            let headers = Headers::of(one.bytes()).unwrap();
            let ports = headers.flow(one.bytes()).map(|f| (f.src.port, f.dst.port));
            let mut walked = 0;
            for rule in all.rules.iter().filter(|rule| rule.fits(LinkId(0), &headers, ports)) {
                match rule.target {
                    MarkTarget::Mark { value, mask } => walked = (walked & !mask) ^ value,
                    MarkTarget::End => break,
                }
            }
            assert_eq!(mark(&mut all, &one), walked);
        }
    }

    #[test]
    fn a_thousand_rules_of_one_shape_are_one_look() {
        let line = |i: u16| {
            format!(
                "iptables -t mangle -A PREROUTING -d 10.0.{}.{} -p tcp --dport 80 \
                 -j MARK --set-mark {}\n",
                i / 250,
                i % 250,
                i + 1
            )
        };
        let mut all = marks(&(0..1000).map(line).collect::<String>());
        assert_eq!(all.files[0].len(), 1);
        assert_eq!(tcp(&mut all, "10.0.3.249", 80), 1000);
        assert_eq!(all.found.len(), 1);
    }
}
