//! ARP and IPv6 neighbour discovery: answering, asking, announcing, learning.
//!
//! Kept from the kernel: what it learns from whom (everybody who asks for us is worth an entry, everybody else
//! only changes what is known), announcements as ARP requests and unsolicited advertisements. Beyond the
//! kernel, each announcement over ARP asks who else has the address. Probes for an address of ours (RFC 5227,
//! RFC 4862) are answered, so that nobody else takes it.
//!
//! Left out on purpose: defending an address by announcements (a claim is reported instead, since
//! with direct routing it is the operator's mistake), proxies, router discovery, anycast delays.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::{Conflict, Outcome, Slow, CLAIMANTS_MAX, CONFLICTS_MAX, REPORT_EVERY};
use crate::net::neigh::Evidence;
use crate::net::{frame, Hop, Router};
use crate::packet::eth::{ethertype, Arp, Ethernet, Operation};
use crate::packet::icmp::{group_mac, solicited_node, Neighbour};
use crate::packet::{DropReason, Family, Headers, LinkId, Mac, Packet};
use crate::world::Instant;

/// Towards any link-local address we speak from our own.
const ANY_LINK_LOCAL: IpAddr = IpAddr::V6(Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0));

const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);

impl Slow {
    /// Takes an ARP packet, which begins at the ARP header.
    pub(super) fn arp(&mut self, now: Instant, net: &mut Router, packet: &Packet) -> Outcome {
        let arp = match Arp::parse(packet.bytes()) {
            Ok(arp) => arp,
            Err(reason) => return Outcome::Dropped(reason),
        };
        let link = packet.link;
        let (sender, target) = (IpAddr::V4(arp.sender), IpAddr::V4(arp.target));
        let Some(own_mac) = net.link(link).map(|port| port.mac) else {
            return Outcome::Dropped(DropReason::OtherStation);
        };
        if let Some(outcome) = self.claim(now, net, link, sender, arp.sender_mac) {
            return outcome;
        }
        let for_us = net.answers(link, target);
        let ask = arp.operation == Operation::Request;
        let evidence = Evidence {
            create: ask && for_us && net.is_neighbour(link, sender),
            solicited: !ask && for_us && arp.target_mac == own_mac,
            overrides: true,
        };
        let mac = Some(arp.sender_mac);
        let nobody = arp.sender.is_unspecified();
        let learnt = !nobody && net.neighbours_mut().learn(now, (link, sender), mac, evidence);
        if ask && for_us {
            self.put_arp(link, arp.reply(own_mac), arp.sender_mac);
        } else if !learnt {
            return Outcome::Dropped(if ask {
                DropReason::GroupDestination
            } else {
                DropReason::LocalUnwanted
            });
        }
        Outcome::Answered
    }

    /// Takes a neighbour solicitation or advertisement.
    pub(super) fn discovery(&mut self, now: Instant, net: &mut Router, packet: &Packet) -> Outcome {
        let bytes = packet.bytes();
        let headers = match Headers::of(bytes) {
            Ok(headers) => headers,
            Err(reason) => return Outcome::Dropped(reason),
        };
        let link = packet.link;
        match (Neighbour::parse(bytes, &headers), headers.src) {
            (Ok(Neighbour::Solicitation { target, mac }), IpAddr::V6(src)) => {
                // Who calls a group and does not say where he is is answered only if that is known.
                let unheard = headers.dst.is_multicast() && mac.is_none() && !src.is_unspecified();
                if unheard && net.neighbours().state(now, link, src.into()).is_none() {
                    return Outcome::Dropped(DropReason::GroupDestination);
                }
                self.solicitation(now, net, link, (src, mac), target)
            }
            (Ok(Neighbour::Advertisement { target, mac, solicited, overrides, .. }), _) => {
                let target = IpAddr::V6(target);
                if let Some(outcome) = mac.and_then(|mac| self.claim(now, net, link, target, mac)) {
                    return outcome;
                }
                let evidence = Evidence { create: false, solicited, overrides };
                if net.neighbours_mut().learn(now, (link, target), mac, evidence) {
                    Outcome::Answered
                } else {
                    Outcome::Dropped(DropReason::LocalUnwanted)
                }
            }
            (Err(reason), _) => Outcome::Dropped(reason),
            (Ok(_), IpAddr::V4(_)) => Outcome::Dropped(DropReason::DiscoveryMalformed),
        }
    }

    fn solicitation(
        &mut self,
        now: Instant,
        net: &mut Router,
        link: LinkId,
        (src, mac): (Ipv6Addr, Option<Mac>),
        target: Ipv6Addr,
    ) -> Outcome {
        if !net.answers(link, target.into()) {
            return Outcome::Dropped(DropReason::GroupDestination);
        }
        let probe = src.is_unspecified();
        if !probe {
            let evidence = Evidence { create: true, solicited: false, overrides: true };
            net.neighbours_mut().learn(now, (link, src.into()), mac, evidence);
        }
        self.advertise(now, net, link, target, (!probe).then_some(src));
        Outcome::Answered
    }

    /// Tells each network that holds `addr` that we have it, and asks in IPv4 who else has: a real server
    /// that lacks `arp_ignore` answers (RFC 5227, section 2.1.1), and would answer clients as well. Of IPv6
    /// hosts none answers for what is on its loopback.
    pub fn announce_address(&mut self, now: Instant, net: &mut Router, addr: IpAddr) {
        let ports = net.links().filter(|&(link, _)| net.answers(link, addr));
        let ports: Vec<(LinkId, Mac)> = ports.map(|(link, port)| (link, port.mac)).collect();
        for (link, mac) in ports {
            match addr {
                IpAddr::V4(addr) => {
                    self.put_arp(link, Arp::announcement(mac, addr), Mac::BROADCAST);
                    let probe = Arp::request(mac, Ipv4Addr::UNSPECIFIED, addr);
                    self.put_arp(link, probe, Mac::BROADCAST);
                }
                IpAddr::V6(addr) => self.advertise(now, net, link, addr, None),
            }
        }
    }

    /// Asks for `target`: the station `to`, or all. Who asks is the address of ours that a packet waits to
    /// be sent from; without one it is, for IPv6, the port's link-local address.
    pub(super) fn solicit(
        &mut self,
        net: &Router,
        link: LinkId,
        target: IpAddr,
        to: Option<Mac>,
        for_whom: Option<IpAddr>,
    ) {
        let Some(own_mac) = net.link(link).map(|port| port.mac) else { return };
        let speaks = |&own: &IpAddr| match own {
            IpAddr::V4(_) => net.is_local(own),
            IpAddr::V6(_) => net.answers(link, own),
        };
        let source = for_whom.filter(speaks).or_else(|| {
            let towards = if target.is_ipv6() { ANY_LINK_LOCAL } else { target };
            let family = Family::of(target);
            let own = net.ingress_source(link, family, towards);
            own.or_else(|| net.ingress_source(link, family, target))
        });
        match (target, source) {
            (IpAddr::V4(target), source) => {
                let sender = match source {
                    Some(IpAddr::V4(own)) => own,
                    _ => Ipv4Addr::UNSPECIFIED,
                };
                let ask = Arp::request(own_mac, sender, target);
                self.put_arp(link, ask, to.unwrap_or(Mac::BROADCAST));
            }
            (IpAddr::V6(target), Some(IpAddr::V6(own))) => {
                let ask = Neighbour::Solicitation { target, mac: Some(own_mac) };
                let group = solicited_node(target);
                let dst = if to.is_some() { target } else { group };
                let to = to.unwrap_or_else(|| group_mac(group));
                let asked = ask.packet(link, own, dst).and_then(|mut packet| {
                    frame(&mut packet, own_mac, to)?;
                    Ok(packet)
                });
                self.put_own(link, asked);
            }
            (IpAddr::V6(_), _) => self.counters.own_lost += 1,
        }
    }

    /// Advertises `target` to the one who asked, or to all if nobody did.
    fn advertise(
        &mut self,
        now: Instant,
        net: &mut Router,
        link: LinkId,
        target: Ipv6Addr,
        asker: Option<Ipv6Addr>,
    ) {
        let Some((mac, mtu)) = net.link(link).map(|port| (port.mac, port.mtu)) else { return };
        let message = Neighbour::Advertisement {
            target,
            mac: Some(mac),
            router: self.router,
            solicited: asker.is_some(),
            overrides: true,
        };
        let packet = message.packet(link, target, asker.unwrap_or(ALL_NODES));
        match (packet, asker) {
            (Ok(packet), Some(asker)) => {
                self.send_over(now, net, packet, Hop { link, next: asker.into(), mtu });
            }
            (Ok(mut packet), None) => {
                let framed = frame(&mut packet, mac, group_mac(ALL_NODES)).map(|()| packet);
                self.put_own(link, framed);
            }
            (Err(reason), _) => self.put_own(link, Err(reason)),
        }
    }

    /// Looks whether `mac` claims an address that is ours on this port; `Some` if the message is
    /// not to be learnt from.
    fn claim(
        &mut self,
        now: Instant,
        net: &Router,
        link: LinkId,
        addr: IpAddr,
        mac: Mac,
    ) -> Option<Outcome> {
        if !net.is_local(addr) {
            return None;
        }
        // Two ports may be on one wire: what we hear there from ourselves claims nothing.
        if net.links().any(|(_, port)| port.tap && port.mac == mac) {
            return Some(Outcome::Dropped(DropReason::Martian));
        }
        if !net.answers(link, addr) {
            return Some(Outcome::Dropped(DropReason::Martian));
        }
        self.counters.conflicts += 1;
        self.report(now, Conflict { addr, mac, link });
        Some(Outcome::Answered)
    }

    /// Reports a conflict once a while for each address and each of the first stations that claim it; all
    /// are counted.
    fn report(&mut self, now: Instant, conflict: Conflict) {
        self.reported.retain(|(_, at)| now.since(*at) < REPORT_EVERY);
        let known = |(other, _): &&(Conflict, Instant)| *other == conflict;
        let same = |(other, _): &&(Conflict, Instant)| other.addr == conflict.addr;
        if self.reported.len() < CONFLICTS_MAX
            && !self.reported.iter().any(|other| known(&other))
            && self.reported.iter().filter(same).count() < CLAIMANTS_MAX
        {
            self.reported.push((conflict, now));
            self.conflicts.push(conflict);
        }
    }

    fn put_arp(&mut self, link: LinkId, arp: Arp, to: Mac) {
        let mut packet = Packet::copy_of(link, &arp.to_bytes());
        let header = Ethernet { dst: to, src: arp.sender_mac, ethertype: ethertype::ARP };
        let framed = header.push(&mut packet).map(|()| packet);
        self.put_own(link, framed);
    }

    fn put_own(&mut self, link: LinkId, framed: Result<Packet, DropReason>) {
        let put = framed.map(|frame| self.put_out(link, frame, true));
        if !matches!(put, Ok(Outcome::Forwarded)) {
            self.counters.own_lost += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{at, drain, host, ip, packet, sent, LAN, OURS, PEER, WAN};
    use super::*;
    use crate::net::neigh::State;
    use crate::packet::{proto, Why};

    const PEER_V4: Ipv4Addr = Ipv4Addr::new(10, 80, 0, 77);
    const VIRT: Ipv4Addr = Ipv4Addr::new(10, 80, 0, 10);

    fn v6(text: &str) -> Ipv6Addr {
        text.parse().unwrap()
    }

    fn hear(slow: &mut Slow, net: &mut Router, arp: Arp) -> Outcome {
        slow.handle(at(0), net, Packet::copy_of(WAN, &arp.to_bytes()), Why::Arp)
    }

    fn arps(slow: &mut Slow, net: &mut Router) -> Vec<Arp> {
        sent(slow, net, at(0)).iter().map(|p| Arp::parse(p.bytes()).unwrap()).collect()
    }

    #[test]
    fn a_question_for_an_address_of_ours_is_answered_and_the_asker_learnt() {
        for target in [VIRT, Ipv4Addr::new(10, 80, 0, 1)] {
            let (mut slow, mut net) = host();
            let ask = Arp::request(PEER, PEER_V4, target);
            assert!(matches!(hear(&mut slow, &mut net, ask), Outcome::Answered));
            assert_eq!(arps(&mut slow, &mut net), [ask.reply(OURS)]);
            let state = net.neighbours().state(at(0), WAN, PEER_V4.into());
            assert_eq!(state, Some(State::Stale));
        }
    }

    #[test]
    fn a_question_for_others_and_on_the_wrong_wire_is_not_answered() {
        for target in [[10, 80, 0, 99], [10, 81, 0, 1], [127, 0, 0, 1]] {
            let (mut slow, mut net) = host();
            let ask = Arp::request(PEER, PEER_V4, target.into());
            let outcome = hear(&mut slow, &mut net, ask);
            assert!(matches!(outcome, Outcome::Dropped(DropReason::GroupDestination)));
            assert!(slow.take().is_none());
            assert_eq!(net.neighbours().state(at(0), WAN, PEER_V4.into()), None);
        }
    }

    #[test]
    fn a_probe_is_answered_without_learning_nobody() {
        let (mut slow, mut net) = host();
        let probe = Arp::request(PEER, Ipv4Addr::UNSPECIFIED, VIRT);
        assert!(matches!(hear(&mut slow, &mut net, probe), Outcome::Answered));
        assert_eq!(arps(&mut slow, &mut net), [probe.reply(OURS)]);
        assert_eq!(net.neighbours().state(at(0), WAN, ip("0.0.0.0")), None);
    }

    #[test]
    fn a_packet_waits_until_the_answer_comes() {
        let (mut slow, mut net) = host();
        let why = Why::Resolve { link: WAN, next: PEER_V4.into() };
        let waits = packet("10.81.0.11", "10.80.0.77", proto::UDP, &[1; 8]);
        assert!(matches!(slow.handle(at(0), &mut net, waits.clone(), why), Outcome::Waits));
        let ask = arps(&mut slow, &mut net);
        assert_eq!(ask, [Arp::request(OURS, Ipv4Addr::new(10, 80, 0, 1), PEER_V4)]);
        assert!(matches!(hear(&mut slow, &mut net, ask[0].reply(PEER)), Outcome::Answered));
        let out = sent(&mut slow, &mut net, at(0));
        assert_eq!((out.len(), out[0].bytes()), (1, waits.bytes()));
        let state = net.neighbours().state(at(0), WAN, PEER_V4.into());
        assert_eq!((state, slow.counters.forwarded), (Some(State::Reachable), 1));
    }

    #[test]
    fn an_answer_that_nobody_asked_for_teaches_nothing() {
        let (mut slow, mut net) = host();
        let answer = Arp::request(OURS, VIRT, PEER_V4).reply(PEER);
        let outcome = hear(&mut slow, &mut net, answer);
        assert!(matches!(outcome, Outcome::Dropped(DropReason::LocalUnwanted)));
        let outcome = hear(&mut slow, &mut net, Arp::announcement(PEER, PEER_V4));
        assert!(matches!(outcome, Outcome::Dropped(DropReason::GroupDestination)));
    }

    #[test]
    fn an_announcement_moves_a_known_neighbour() {
        let (mut slow, mut net) = host();
        let _ = hear(&mut slow, &mut net, Arp::request(PEER, PEER_V4, VIRT));
        let new = Mac([2, 0, 0, 0, 9, 9]);
        let outcome = hear(&mut slow, &mut net, Arp::announcement(new, PEER_V4));
        assert!(matches!(outcome, Outcome::Answered));
        assert_eq!(net.neighbours_mut().hop(at(0), WAN, PEER_V4.into()), Some(new));
    }

    #[test]
    fn whoever_claims_our_address_is_reported_and_not_believed() {
        let (mut slow, mut net) = host();
        let _ = hear(&mut slow, &mut net, Arp::announcement(PEER, VIRT));
        let _ = hear(&mut slow, &mut net, Arp::announcement(PEER, VIRT));
        let conflict = Conflict { addr: VIRT.into(), mac: PEER, link: WAN };
        assert_eq!((slow.take_conflicts(), slow.counters.conflicts), (vec![conflict], 2));
        assert!(slow.take_conflicts().is_empty());
        let own = hear(&mut slow, &mut net, Arp::announcement(Mac([2, 0, 0, 0, 1, 2]), VIRT));
        assert!(matches!(own, Outcome::Dropped(DropReason::Martian)));
        assert_eq!(slow.counters.conflicts, 2, "our other port is no stranger");
    }

    #[test]
    fn each_of_a_few_stations_that_claim_an_address_is_named_once_a_minute() {
        let (mut slow, mut net) = host();
        let station = |last| Mac([2, 0, 0, 0, 8, last]);
        for last in [1, 2, 1, 3, 4, 5, 6] {
            let _ = hear(&mut slow, &mut net, Arp::announcement(station(last), VIRT));
        }
        let named: Vec<Mac> = slow.take_conflicts().iter().map(|conflict| conflict.mac).collect();
        assert_eq!((named, slow.counters.conflicts), ([1, 2, 3, 4].map(station).to_vec(), 7));
        let told: Vec<Mac> = slow.disputed().iter().map(|(conflict, _)| conflict.mac).collect();
        assert_eq!(told, [1, 2, 3, 4].map(station));
    }

    #[test]
    fn who_answers_when_we_ask_for_our_own_address_is_reported() {
        let (mut slow, mut net) = host();
        slow.announce_address(at(0), &mut net, VIRT.into());
        let asked = arps(&mut slow, &mut net);
        let probe = Arp::request(OURS, Ipv4Addr::UNSPECIFIED, VIRT);
        assert_eq!(asked, [Arp::announcement(OURS, VIRT), probe]);
        // As a server answers whose `arp_ignore` is 0.
        assert!(matches!(hear(&mut slow, &mut net, probe.reply(PEER)), Outcome::Answered));
        let conflict = Conflict { addr: VIRT.into(), mac: PEER, link: WAN };
        assert_eq!(slow.take_conflicts(), [conflict]);
    }

    fn ask(src: &str, target: &str, mac: Option<Mac>) -> Packet {
        let target = v6(target);
        let message = Neighbour::Solicitation { target, mac };
        message.packet(WAN, v6(src), solicited_node(target)).unwrap()
    }

    #[test]
    fn a_solicitation_is_answered_to_the_one_who_asked() {
        for target in ["fd80::1", "fd80::10", "fe80::ff:fe00:101"] {
            for src in ["fd80::77", "fe80::77"] {
                let (mut slow, mut net) = host();
                let outcome =
                    slow.handle(at(0), &mut net, ask(src, target, Some(PEER)), Why::Discovery);
                assert!(matches!(outcome, Outcome::Answered));
                let frames = drain(&mut slow, &mut net, at(0));
                assert_eq!(Ethernet::parse(frames[0].bytes()).unwrap().dst, PEER);
                let answer = &frames[0].bytes()[crate::packet::eth::HEADER..];
                let headers = Headers::of(answer).unwrap();
                assert_eq!((headers.src, headers.dst), (ip(target), ip(src)));
                let told = Neighbour::Advertisement {
                    target: v6(target),
                    mac: Some(OURS),
                    router: true,
                    solicited: true,
                    overrides: true,
                };
                assert_eq!(Neighbour::parse(answer, &headers), Ok(told));
            }
        }
    }

    #[test]
    fn a_duplicate_address_probe_is_answered_to_all() {
        let (mut slow, mut net) = host();
        let _ = slow.handle(at(0), &mut net, ask("::", "fd80::10", None), Why::Discovery);
        let frames = drain(&mut slow, &mut net, at(0));
        assert_eq!(Ethernet::parse(frames[0].bytes()).unwrap().dst, group_mac(ALL_NODES));
        let answer = &frames[0].bytes()[crate::packet::eth::HEADER..];
        let headers = Headers::of(answer).unwrap();
        assert_eq!(headers.dst, IpAddr::V6(ALL_NODES));
        let told = Neighbour::parse(answer, &headers).unwrap();
        assert!(matches!(told, Neighbour::Advertisement { solicited: false, .. }));
        let outcome = slow.handle(at(0), &mut net, ask("::", "fd80::99", None), Why::Discovery);
        assert!(matches!(outcome, Outcome::Dropped(DropReason::GroupDestination)));
    }

    #[test]
    fn who_asks_is_the_address_of_ours_that_a_packet_waits_to_be_sent_from() {
        for (src, dst, asks) in [
            ("10.80.0.10", "10.80.0.77", "10.80.0.10"),
            ("10.81.0.11", "10.80.0.77", "10.80.0.1"),
            ("fd80::10", "fd80::77", "fd80::10"),
            ("fd81::1", "fd80::77", "fe80::ff:fe00:101"),
        ] {
            let (mut slow, mut net) = host();
            let why = Why::Resolve { link: WAN, next: ip(dst) };
            let waits = packet(src, dst, proto::UDP, &[1; 8]);
            assert!(matches!(slow.handle(at(0), &mut net, waits, why), Outcome::Waits));
            for ms in [0, 1000] {
                slow.poll(at(ms), &mut net);
                let asked = sent(&mut slow, &mut net, at(ms)).remove(0);
                let asker = match Arp::parse(asked.bytes()) {
                    Ok(arp) => arp.sender.into(),
                    Err(_) => Headers::of(asked.bytes()).unwrap().src,
                };
                assert_eq!(asker, ip(asks), "at {ms} ms");
            }
        }
    }

    #[test]
    fn who_calls_a_group_and_hides_its_station_is_answered_only_if_it_is_known() {
        let (mut slow, mut net) = host();
        let hidden = ask("fd80::77", "fd80::10", None);
        let outcome = slow.handle(at(0), &mut net, hidden.clone(), Why::Discovery);
        assert!(matches!(outcome, Outcome::Dropped(DropReason::GroupDestination)));
        let open = ask("fd80::77", "fd80::10", Some(PEER));
        for asked in [open, hidden] {
            let outcome = slow.handle(at(0), &mut net, asked, Why::Discovery);
            assert!(matches!(outcome, Outcome::Answered));
            assert_eq!(sent(&mut slow, &mut net, at(0)).len(), 1);
        }
    }

    #[test]
    fn an_ipv6_neighbour_is_asked_by_group_and_probed_directly() {
        let (mut slow, mut net) = host();
        let next = ip("fd81::11");
        let why = Why::Resolve { link: LAN, next };
        let waits = packet("fd90::1:1", "fd81::11", proto::UDP, &[1; 8]);
        let _ = slow.handle(at(0), &mut net, waits.clone(), why);
        let asked = drain(&mut slow, &mut net, at(0));
        assert_eq!(Ethernet::parse(asked[0].bytes()).unwrap().dst.to_string(), "33:33:ff:00:00:11");
        let headers = Headers::of(&asked[0].bytes()[14..]).unwrap();
        assert_eq!((headers.src, headers.dst), (ip("fe80::ff:fe00:102"), ip("ff02::1:ff00:11")));
        let answer = Neighbour::Advertisement {
            target: v6("fd81::11"),
            mac: Some(PEER),
            router: false,
            solicited: true,
            overrides: true,
        };
        let answer = answer.packet(LAN, v6("fd81::11"), v6("fd81::1")).unwrap();
        assert!(matches!(slow.handle(at(9), &mut net, answer, Why::Discovery), Outcome::Answered));
        assert_eq!(sent(&mut slow, &mut net, at(9))[0].bytes(), waits.bytes());
        net.neighbours_mut().hop(at(60_000), LAN, next);
        slow.poll(at(65_000), &mut net);
        let probe = drain(&mut slow, &mut net, at(65_000));
        assert_eq!(Ethernet::parse(probe[0].bytes()).unwrap().dst, PEER);
        assert_eq!(Headers::of(&probe[0].bytes()[14..]).unwrap().dst, next);
    }

    #[test]
    fn every_address_is_announced_on_the_wire_that_holds_it() {
        let (mut slow, mut net) = host();
        slow.announce(at(0), &mut net);
        let (mut told, mut probed) = (Vec::new(), Vec::new());
        for frame in drain(&mut slow, &mut net, at(0)) {
            let header = Ethernet::parse(frame.bytes()).unwrap();
            let bytes = &frame.bytes()[14..];
            let addr = if header.ethertype == ethertype::ARP {
                let arp = Arp::parse(bytes).unwrap();
                assert_eq!(header.dst, Mac::BROADCAST);
                if arp.sender.is_unspecified() {
                    probed.push(arp.target);
                    continue;
                }
                assert_eq!(arp.sender, arp.target);
                IpAddr::V4(arp.sender)
            } else {
                assert_eq!(header.dst, group_mac(ALL_NODES));
                Headers::of(bytes).unwrap().src
            };
            told.push((frame.link.0, addr.to_string()));
        }
        let told: Vec<_> = told.iter().map(|(link, addr)| (*link, addr.as_str())).collect();
        assert_eq!(
            told,
            [
                (0, "10.80.0.1"),
                (0, "10.80.0.10"),
                (1, "10.81.0.1"),
                (0, "fd80::1"),
                (0, "fd80::10"),
                (1, "fd81::1"),
                (0, "fe80::ff:fe00:101"),
                (1, "fe80::ff:fe00:102"),
            ]
        );
        let probed: Vec<_> = probed.iter().map(ToString::to_string).collect();
        assert_eq!(probed, ["10.80.0.1", "10.80.0.10", "10.81.0.1"]);
    }
}
