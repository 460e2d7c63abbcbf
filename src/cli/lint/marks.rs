//! The lints about firewall marks: services that no mark leads to, marks that nobody's packets get, and
//! marks that take a service's packets away.
//!
//! Kept from the kernel: a marked packet is for a director only where its destination is. Left out on
//! purpose: rules that ask for more than a packet to an endpoint shows.

use std::net::IpAddr;

use super::View;
use crate::cli::check::service_name;
use crate::config::marks::{MarkRule, MarkTarget, Match};
use crate::config::{DestSpec, RouteTarget, ServiceKey, ServiceSpec};
use crate::packet::{Endpoint, Family};

pub(super) fn no_mark(view: &View<'_>, spec: &ServiceSpec, _: &[DestSpec]) -> Option<String> {
    let ServiceKey::Mark { family, mark } = spec.key else { return None };
    let gives = |rule: &MarkRule| {
        rule.family == family
            && match rule.target {
                MarkTarget::Mark { value, mask: u32::MAX } => value == mark,
                MarkTarget::Mark { .. } => true,
                MarkTarget::End => false,
            }
    };
    (!view.config.marks.iter().any(gives)).then(|| {
        let program = match family {
            Family::V4 => "iptables",
            Family::V6 => "ip6tables",
        };
        format!(
            "no rule gives the mark {mark}, so nothing comes to this service; \
             `{program} -t mangle -A PREROUTING … -j MARK --set-mark {mark}` does"
        )
    })
}

/// A mark alone makes no address ours: where the packets of a service are told by their destination,
/// somebody must answer for it.
pub(super) fn marked_stranger(
    view: &View<'_>,
    spec: &ServiceSpec,
    _: &[DestSpec],
) -> Option<String> {
    let ServiceKey::Mark { family, mark } = spec.key else { return None };
    let config = view.config;
    if config.routes.iter().any(|(_, target)| target.is_by_mark()) {
        return None;
    }
    let rules = config.marks.iter().filter(|rule| {
        let gives = matches!(rule.target, MarkTarget::Mark { value, .. } if value == mark);
        rule.family == family && gives
    });
    let asked = rules.filter_map(|rule| rule.matches.dst.as_ref().filter(|dst| !dst.not));
    let mut strangers = asked.map(|dst| dst.want).filter(|want| {
        let ours = |addr: &IpAddr| want.contains(*addr);
        !view.own.keys().any(ours)
            && !view.virt.iter().any(ours)
            && !config.routes.iter().any(|(prefix, target)| {
                *target == RouteTarget::Local && (prefix.contains(want.addr) || ours(&prefix.addr))
            })
    });
    strangers.next().map(|net| {
        let net = net.network();
        format!(
            "packets to {net} get the mark {mark}, but that is no address of tapvs, so nobody answers for \
             it and they pass the service by; `ip route add local {net} dev lo` makes it one"
        )
    })
}

/// Follows the rules with a packet of which only protocol, address and port are known, and gives up
/// at the first rule that asks for more.
pub(super) fn marked_away(view: &View<'_>, spec: &ServiceSpec, _: &[DestSpec]) -> Option<String> {
    let ServiceKey::Address { proto, virt } = spec.key else { return None };
    let family = Family::of(virt.addr);
    let mut mark = 0;
    for rule in view.config.marks.iter().filter(|rule| rule.family == family) {
        match (applies(rule, proto, virt)?, rule.target) {
            (false, _) => {}
            (true, MarkTarget::Mark { value, mask }) => mark = (mark & !mask) ^ value,
            (true, MarkTarget::End) => break,
        }
    }
    let taken = mark != 0 && view.config.services.contains_key(&ServiceKey::Mark { family, mark });
    taken.then(|| {
        format!(
            "every packet for {} gets the mark {mark}, and the service of that mark comes first, so \
             this one gets nothing; take one of the two away",
            service_name(&spec.key)
        )
    })
}

/// Whether a rule is about every packet to an endpoint, or about none; `None` if about some.
fn applies(rule: &MarkRule, proto: u8, virt: Endpoint) -> Option<bool> {
    fn known<T>(asked: Option<&Match<T>>, holds: impl Fn(&T) -> bool) -> bool {
        asked.is_none_or(|asked| holds(&asked.want) != asked.not)
    }
    let asks = &rule.matches;
    let port = |ports: &Vec<std::ops::RangeInclusive<u16>>| {
        ports.iter().any(|range| range.contains(&virt.port))
    };
    let sure = known(asks.proto.as_ref(), |want| *want == proto)
        && known(asks.dst.as_ref(), |want| want.contains(virt.addr))
        && known(asks.dports.as_ref(), port);
    if !sure {
        return Some(false);
    }
    let open = asks.in_port.is_some()
        || asks.src.is_some()
        || asks.sports.is_some()
        || asks.ports.is_some()
        || (virt.port == 0 && asks.dports.is_some());
    (!open).then_some(true)
}
