//! What became of every frame, and which real servers cannot be sent to: for people and tests.

use std::collections::BTreeSet;
use std::fmt::Write;
use std::net::IpAddr;
use std::ops::Bound;

use super::Engine;
use crate::config::ServiceKey;
use crate::net::neigh;
use crate::packet::DropReason;
use crate::world::Instant;

/// Real servers that cannot be sent to and are told by name.
const LOST_SERVERS_MAX: usize = 32;

impl Engine {
    /// One line that accounts for every frame: received = forwarded + answered + dropped, and those
    /// that still wait.
    pub fn frames(&self) -> String {
        let later = &self.slow.counters;
        let forwarded = self.forwarded.wrapping_add(later.forwarded);
        let answered = self.answered.wrapping_add(later.joined);
        let dropped = self.drops.total().wrapping_add(later.dropped.total());
        let mut line = format!(
            "frames: received {} = forwarded {forwarded} + answered {answered} + dropped {dropped}",
            self.received,
        );
        let waiting = self.slow.waiting(&self.fast.router);
        if waiting > 0 {
            let _ = write!(line, " + waiting {waiting}");
        }
        let _ = write!(line, "; sent on own account {}", later.own_sent);
        if later.own_lost > 0 {
            let _ = write!(line, " (lost {})", later.own_lost);
        }
        line.push_str("; drops:");
        let counts: Vec<_> = self.drop_counts().collect();
        if counts.is_empty() {
            line.push_str(" none");
        }
        for (reason, count) in counts {
            let _ = write!(line, " {}={count}", reason.name());
        }
        line
    }

    /// The account of frames for people: each reason for drops with its sentence, whom our addresses are
    /// disputed by, and the next hops of real servers that cannot be sent to, as far as they were
    /// [found](Self::lost_servers).
    pub fn status(&self, lost: &BTreeSet<String>) -> String {
        let account = self.frames();
        let (account, _) = account.split_once("; drops:").unwrap_or((&account, ""));
        let mut text = format!("{account}\n");
        for (reason, count) in self.drop_counts() {
            let _ = writeln!(text, "dropped {count} ({}): {}", reason.name(), reason.sentence());
        }
        let later = &self.slow.counters;
        for (count, what) in [
            (later.errors_limited, "ICMP errors were not sent, since their rate is limited"),
            (later.conflicts, "times another station claimed an address of ours; the log names it"),
        ] {
            if count > 0 {
                let _ = writeln!(text, "{count} {what}");
            }
        }
        for line in lost.iter().take(LOST_SERVERS_MAX) {
            let _ = writeln!(text, "{line}");
        }
        if lost.len() > LOST_SERVERS_MAX {
            text.push_str("… and others\n");
        }
        text
    }

    /// Puts into `lost` a line for each way to a real server that ends: no route, or a neighbour that nobody
    /// knows. Looks at so many services behind `after`, and gives the last of them, or `None` if there is
    /// no need to look further.
    pub fn lost_servers(
        &self,
        now: Instant,
        after: Option<ServiceKey>,
        services: usize,
        lost: &mut BTreeSet<String>,
    ) -> Option<ServiceKey> {
        let from = after.as_ref().map_or(Bound::Unbounded, Bound::Excluded);
        let mut last = None;
        for (key, (_, dests)) in self.config.services.range((from, Bound::Unbounded)).take(services)
        {
            for server in dests {
                lost.extend(self.way_lost(now, server.dest.addr));
                // What would not be printed is not looked for.
                if lost.len() > LOST_SERVERS_MAX {
                    return None;
                }
            }
            last = Some(*key);
        }
        last
    }

    /// Why a server cannot be sent to, if so.
    fn way_lost(&self, now: Instant, addr: IpAddr) -> Option<String> {
        let net = &self.fast.router;
        if net.is_local(addr) {
            return None;
        }
        let Some(hop) = net.route(addr) else {
            return Some(format!("no route leads to the server {addr}"));
        };
        let link = net.link(hop.link).filter(|link| link.tap)?;
        let known = match net.neighbours().state(now, hop.link, hop.next) {
            None => "has not been asked for, or did not answer",
            Some(neigh::State::Incomplete) => "does not answer",
            Some(_) => return None,
        };
        let via =
            if hop.next == addr { String::new() } else { format!(" by the router {}", hop.next) };
        Some(format!("the server {addr}{via} on {} {known}", link.name))
    }

    /// The reasons for which packets were dropped so far, each with its count.
    pub fn drop_counts(&self) -> impl Iterator<Item = (DropReason, u64)> + '_ {
        let count = |&reason: &DropReason| {
            let later = self.slow.counters.dropped.of(reason);
            (reason, self.drops.of(reason).wrapping_add(later))
        };
        DropReason::ALL.iter().map(count).filter(|&(_, count)| count > 0)
    }
}
