//! How many bytes the paths to servers carry, as routers on the way have told.
//!
//! Kept from the kernel: what was learnt is forgotten after ten minutes (`net.ipv4.route.mtu_expires`),
//! never grows by being told, and is never below 552 (`min_pmtu`) over IPv4, 1280 over IPv6.
//!
//! Left out on purpose: anything that would be learnt from errors about packets that are not ours.

use std::net::IpAddr;
use std::time::Duration;

use crate::world::{Instant, Keyed, Map, Rng};

/// How long a path's MTU is believed.
const EXPIRES: Duration = Duration::from_secs(600);

/// Servers that are remembered at most.
const SERVERS_MAX: usize = 4096;

/// What was learnt.
#[derive(Debug)]
pub(super) struct PathMtus {
    by_server: Map<IpAddr, (u16, Instant)>,
}

impl PathMtus {
    pub(super) fn new(rng: &mut Rng) -> Self {
        Self { by_server: Map::with_hasher(Keyed::new(rng)) }
    }

    /// Bytes that the path to `server` carries, if it was told to be fewer than `link` bytes.
    pub(super) fn of(&self, now: Instant, server: IpAddr, link: u16) -> u16 {
        if self.by_server.is_empty() {
            return link;
        }
        let learnt = self.by_server.get(&server).filter(|(_, until)| now < *until);
        learnt.map_or(link, |&(mtu, _)| mtu.min(link))
    }

    /// Whether anything is known of the path.
    pub(super) fn knows(&self, now: Instant, server: IpAddr) -> bool {
        self.by_server.get(&server).is_some_and(|(_, until)| now < *until)
    }

    /// A router says that it carries no more than `told` bytes towards `server`.
    pub(super) fn learn(&mut self, now: Instant, server: IpAddr, told: u32) {
        let least = if server.is_ipv4() { 552 } else { 1280 };
        let told = u16::try_from(told).unwrap_or(u16::MAX).max(least);
        if self.of(now, server, u16::MAX) < told {
            return;
        }
        if self.by_server.len() >= SERVERS_MAX && !self.by_server.contains_key(&server) {
            self.by_server.retain(|_, (_, until)| now < *until);
            if self.by_server.len() >= SERVERS_MAX {
                return;
            }
        }
        self.by_server.insert(server, (told, now.after(EXPIRES)));
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
    fn no_more_servers_are_remembered_than_there_is_room_for() {
        let mut paths = PathMtus::new(&mut Rng::new(1));
        for i in 0..5000_u32 {
            paths.learn(Instant::ZERO, IpAddr::from(i.to_be_bytes()), 1400);
        }
        assert_eq!(paths.by_server.len(), SERVERS_MAX);
    }
}
