//! How many bytes the paths to servers and clients carry, as routers on the way have told.
//!
//! Kept from the kernel: what was learnt is forgotten after ten minutes (`net.ipv4.route.mtu_expires`),
//! never grows by being told, and is never below 552 (`min_pmtu`) over IPv4; of IPv6, less than 1280 is
//! not believed.
//!
//! Left out on purpose: anything that would be learnt from errors about packets that are not ours.

use std::net::IpAddr;
use std::time::Duration;

use crate::packet::ip::V6_MTU_MIN;
use crate::world::{Instant, Keyed, Map, Rng};

/// How long a path's MTU is believed.
const EXPIRES: Duration = Duration::from_secs(600);

/// No path over IPv4 is believed to carry less (`net.ipv4.route.min_pmtu`).
const MIN_V4: u16 = 552;

/// Hosts that are remembered at most.
const HOSTS_MAX: usize = 4096;

/// What was learnt.
#[derive(Debug)]
pub(super) struct PathMtus {
    by_host: Map<IpAddr, (u16, Instant)>,
}

impl PathMtus {
    pub(super) fn new(rng: &mut Rng) -> Self {
        Self { by_host: Map::with_hasher(Keyed::new(rng)) }
    }

    /// Bytes that the path to `host` carries, if it was told to be fewer than `link` bytes.
    pub(super) fn of(&self, now: Instant, host: IpAddr, link: u16) -> u16 {
        if self.by_host.is_empty() {
            return link;
        }
        let learnt = self.by_host.get(&host).filter(|(_, until)| now < *until);
        learnt.map_or(link, |&(mtu, _)| mtu.min(link))
    }

    /// Whether anything is known of the path.
    pub(super) fn knows(&self, now: Instant, host: IpAddr) -> bool {
        self.by_host.get(&host).is_some_and(|(_, until)| now < *until)
    }

    /// A router says that it carries no more than `told` bytes towards `host`.
    pub(super) fn learn(&mut self, now: Instant, host: IpAddr, told: u32) {
        if host.is_ipv6() && told < u32::from(V6_MTU_MIN) {
            return;
        }
        let told = u16::try_from(told).unwrap_or(u16::MAX).max(MIN_V4);
        if self.of(now, host, u16::MAX) < told {
            return;
        }
        if self.by_host.len() >= HOSTS_MAX && !self.by_host.contains_key(&host) {
            self.by_host.retain(|_, (_, until)| now < *until);
            if self.by_host.len() >= HOSTS_MAX {
                return;
            }
        }
        self.by_host.insert(host, (told, now.after(EXPIRES)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_only_shrinks_until_ten_minutes_have_passed() {
        let mut paths = PathMtus::new(&mut Rng::new(1));
        let server = IpAddr::from([10, 81, 0, 11]);
        let at = |seconds: u64| Instant::from_millis(seconds * 1000);
        paths.learn(at(0), server, 1400);
        paths.learn(at(1), server, 1450);
        assert_eq!(paths.of(at(2), server, 1500), 1400);
        assert_eq!(paths.of(at(2), server, 1300), 1300);
        paths.learn(at(2), server, 0);
        assert_eq!(paths.of(at(3), server, 1500), 552);
        assert_eq!(paths.of(at(602), server, 1500), 1500);
        assert!(!paths.knows(at(602), server));
    }

    #[test]
    fn no_more_hosts_are_remembered_than_there_is_room_for() {
        let mut paths = PathMtus::new(&mut Rng::new(1));
        for i in 0..5000_u32 {
            paths.learn(Instant::ZERO, IpAddr::from(i.to_be_bytes()), 1400);
        }
        assert_eq!(paths.by_host.len(), HOSTS_MAX);
    }
}
