//! The account of frames, and what stands in the way of packets as far as the engine sees it: that is looked for
//! in portions, since packets wait.
//!
//! Kept from the kernel: the neighbour states. Left out on purpose: asking anybody; what is told was seen on the
//! way of packets.

use std::fmt::Write;
use std::net::IpAddr;
use std::ops::Bound;

use super::Engine;
use crate::config::{Method, RouteTarget, ServiceKey};
use crate::control::status::{Disputed, Frames, Hop, Lost, Status, Vain};
use crate::director::service::Dest;
use crate::net::neigh;
use crate::packet::{DropReason, LinkId};
use crate::slow::Conflict;
use crate::world::Instant;

/// Seconds after which a connection that is not established is worth a word.
const VAIN_S: u64 = 3;

impl Engine {
    /// One line that accounts for every frame: received = forwarded + answered + dropped, and those
    /// that still wait.
    pub fn frames(&self) -> String {
        let mut line = format!("{}; drops:", self.account());
        let counts: Vec<_> = self.drop_counts().collect();
        if counts.is_empty() {
            line.push_str(" none");
        }
        for (reason, count) in counts {
            let _ = write!(line, " {}={count}", reason.name());
        }
        line
    }

    fn account(&self) -> Frames {
        let later = &self.slow.counters;
        Frames {
            received: self.received,
            forwarded: self.forwarded.wrapping_add(later.forwarded),
            answered: self.answered.wrapping_add(later.joined),
            dropped: self.drops.total().wrapping_add(later.dropped.total()),
            waiting: self.slow.waiting(&self.fast.router) as u64,
            own_sent: later.own_sent,
            own_lost: later.own_lost,
        }
    }

    /// The reasons for which packets were dropped so far, each with its count.
    pub fn drop_counts(&self) -> impl Iterator<Item = (DropReason, u64)> + '_ {
        let count = |&reason: &DropReason| {
            let later = self.slow.counters.dropped.of(reason);
            (reason, self.drops.of(reason).wrapping_add(later))
        };
        DropReason::ALL.iter().map(count).filter(|&(_, count)| count > 0)
    }

    /// The account of frames, each reason for drops, whom our addresses are disputed by, and what is wrong
    /// with servers, as far as it was [found](Self::look_for_trouble), and with routers. Of devices the
    /// engine knows nothing.
    pub fn status(&self, now: Instant, found: &mut Status) -> Status {
        let (later, net) = (&self.slow.counters, &self.fast.router);
        let failed = self.drop_counts().any(|(why, _)| why == DropReason::NeighbourFailed);
        for (_, target) in &self.config.routes {
            let RouteTarget::Via { gateway, .. } = target else { continue };
            let way = net.route(*gateway);
            if let Some(hop) = way.and_then(|way| self.silent(now, way.link, way.next, failed)) {
                found.lose(Lost { hop: Some(hop), server: None });
            }
        }
        let (lost, mut vain) = (std::mem::take(&mut found.lost), std::mem::take(&mut found.vain));
        vain.retain(|vain| !lost.iter().any(|lost| lost.server == Some(vain.server.addr)));
        let disputed = |(conflict, at): &(Conflict, Instant)| Disputed {
            address: conflict.addr,
            by: conflict.mac,
            port: net.link(conflict.link).map_or_else(String::new, |link| link.name.clone()),
            ago_s: now.since(*at).as_secs(),
        };
        Status {
            frames: self.account(),
            drops: self.drop_counts().collect(),
            errors_limited: later.errors_limited,
            conflicts: later.conflicts,
            disputed: self.slow.disputed().iter().map(disputed).collect(),
            ports: Vec::new(),
            lost,
            vain,
        }
    }

    /// Puts into `found` each way to a real server that ends (no route, or a neighbour that nobody knows),
    /// and each server to which connections go in vain. Looks at so many services behind `after`, and
    /// gives the last of them, or `None` if there is no need to look further.
    pub fn look_for_trouble(
        &self,
        now: Instant,
        after: Option<ServiceKey>,
        services: usize,
        found: &mut Status,
    ) -> Option<ServiceKey> {
        let all = self.fast.director.services();
        let from = after.as_ref().map_or(Bound::Unbounded, Bound::Excluded);
        let mut last = None;
        for (key, _) in self.config.services.range((from, Bound::Unbounded)).take(services) {
            let dests = all.find(key).map(|id| all.service(id).dests.as_slice());
            for dest in dests.unwrap_or_default().iter().rev().map(|&id| all.dest(id)) {
                if let Some(lost) = self.way_lost(now, dest.spec.dest.addr) {
                    found.lose(lost);
                } else if let Some(vain) = vain(now, key, dest) {
                    found.vain.push(vain);
                }
                // What would not be printed is not looked for.
                if found.has_more() {
                    return None;
                }
            }
            last = Some(*key);
        }
        last
    }

    /// Why a server cannot be sent to, if so.
    fn way_lost(&self, now: Instant, addr: IpAddr) -> Option<Lost> {
        let (net, server) = (&self.fast.router, Some(addr));
        if net.is_local(addr) {
            return None;
        }
        let Some(way) = net.route(addr) else { return Some(Lost { hop: None, server }) };
        self.silent(now, way.link, way.next, true).map(|hop| Lost { hop: Some(hop), server })
    }

    /// The neighbour if it does not answer; one that nobody asked for lately only where it is `wanted`.
    fn silent(&self, now: Instant, link: LinkId, next: IpAddr, wanted: bool) -> Option<Hop> {
        let net = &self.fast.router;
        let port = net.link(link).filter(|link| link.tap)?;
        let asked = match net.neighbours().state(now, link, next) {
            None if wanted => false,
            Some(neigh::State::Incomplete) => true,
            None | Some(_) => return None,
        };
        Some(Hop { asked, next, port: port.name.clone() })
    }
}

/// What is told of a server to which connections go in vain, and not only for the moment that they take.
fn vain(now: Instant, service: &ServiceKey, dest: &Dest) -> Option<Vain> {
    let for_s = now.since(dest.tries.since).as_secs();
    let method = dest.spec.method;
    (dest.tries.count > 0 && for_s >= VAIN_S).then(|| Vain {
        service: *service,
        server: dest.spec.dest,
        method,
        tried: dest.tries.count,
        for_s,
        silent: method == Method::Masq && dest.stats.live().out_packets == dest.tries.after,
    })
}
