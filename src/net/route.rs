//! The longest-prefix table, for both families.
//!
//! One hash map for each prefix length that occurs, walked from the longest to the shortest: the
//! cost of a look is the number of lengths, not of routes. Kept from the kernel: the longest prefix
//! wins. Left out on purpose: metrics, several next hops, rules and tables; a route that is added
//! for a prefix that has one takes its place.

use std::net::IpAddr;

use crate::packet::{Family, LinkId};
use crate::world::{Keyed, Map, Rng};

/// Where a route leads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Target {
    /// The port to leave by.
    pub link: LinkId,
    /// The router to hand it to; `None` for a network that is on the link.
    pub gateway: Option<IpAddr>,
}

/// What addresses lead to, by their longest known prefix.
#[derive(Debug, Clone)]
pub struct Table<T> {
    v4: Vec<Level<u32, T>>,
    v6: Vec<Level<u128, T>>,
    keyed: Keyed,
}

/// All prefixes of one length; the levels of a table are sorted, longest first.
#[derive(Debug, Clone)]
struct Level<K, T> {
    len: u8,
    routes: Map<K, T>,
}

impl<T: Copy> Table<T> {
    /// An empty table, keyed by `rng`.
    pub const fn new(rng: &mut Rng) -> Self {
        Self { v4: Vec::new(), v6: Vec::new(), keyed: Keyed::new(rng) }
    }

    /// Lets the prefix of `len` bits that `addr` begins with lead to `target`; gives what it led to.
    /// A length beyond the address counts as the whole address.
    pub fn insert(&mut self, addr: IpAddr, len: u8, target: T) -> Option<T> {
        let len = len.min(Family::of(addr).bits());
        match addr {
            IpAddr::V4(addr) => {
                level(&mut self.v4, len, &self.keyed).insert(mask_v4(addr.to_bits(), len), target)
            }
            IpAddr::V6(addr) => {
                level(&mut self.v6, len, &self.keyed).insert(mask_v6(addr.to_bits(), len), target)
            }
        }
    }

    /// Forgets everything.
    pub fn clear(&mut self) {
        self.v4.clear();
        self.v6.clear();
    }

    /// Forgets a prefix; gives what it led to.
    pub fn remove(&mut self, addr: IpAddr, len: u8) -> Option<T> {
        let len = len.min(Family::of(addr).bits());
        match addr {
            IpAddr::V4(addr) => forget(&mut self.v4, len, mask_v4(addr.to_bits(), len)),
            IpAddr::V6(addr) => forget(&mut self.v6, len, mask_v6(addr.to_bits(), len)),
        }
    }

    /// What the longest known prefix of `addr` leads to.
    pub fn lookup(&self, addr: IpAddr) -> Option<T> {
        match addr {
            IpAddr::V4(addr) => {
                let bits = addr.to_bits();
                self.v4.iter().find_map(|l| l.routes.get(&mask_v4(bits, l.len)).copied())
            }
            IpAddr::V6(addr) => {
                let bits = addr.to_bits();
                self.v6.iter().find_map(|l| l.routes.get(&mask_v6(bits, l.len)).copied())
            }
        }
    }

    /// How many bits the longest known prefix of `addr` has.
    pub fn prefix_len(&self, addr: IpAddr) -> Option<u8> {
        let bits = Family::of(addr).bits();
        (0..=bits).rev().find(|&len| self.exact(addr, len).is_some())
    }

    /// What exactly this prefix leads to.
    pub fn exact(&self, addr: IpAddr, len: u8) -> Option<T> {
        match addr {
            IpAddr::V4(addr) => {
                let level = self.v4.iter().find(|l| l.len == len)?;
                level.routes.get(&mask_v4(addr.to_bits(), len)).copied()
            }
            IpAddr::V6(addr) => {
                let level = self.v6.iter().find(|l| l.len == len)?;
                level.routes.get(&mask_v6(addr.to_bits(), len)).copied()
            }
        }
    }

    /// Whether nothing leads anywhere.
    pub fn is_empty(&self) -> bool {
        self.v4.is_empty() && self.v6.is_empty()
    }
}

/// Whether `addr` lies in the network of `len` bits that `network` is an address of.
pub fn contains(network: IpAddr, len: u8, addr: IpAddr) -> bool {
    match (network, addr) {
        (IpAddr::V4(a), IpAddr::V4(b)) => mask_v4(a.to_bits() ^ b.to_bits(), len) == 0,
        (IpAddr::V6(a), IpAddr::V6(b)) => mask_v6(a.to_bits() ^ b.to_bits(), len) == 0,
        _ => false,
    }
}

/// The level for prefixes of `len` bits, made where it does not exist yet.
fn level<'a, K, T>(levels: &'a mut Vec<Level<K, T>>, len: u8, keyed: &Keyed) -> &'a mut Map<K, T> {
    let at = match levels.binary_search_by(|level| len.cmp(&level.len)) {
        Ok(at) => at,
        Err(at) => {
            levels.insert(at, Level { len, routes: Map::with_hasher(keyed.clone()) });
            at
        }
    };
    &mut levels[at].routes
}

fn forget<K: Eq + std::hash::Hash, T>(levels: &mut Vec<Level<K, T>>, len: u8, key: K) -> Option<T> {
    let at = levels.binary_search_by(|level| len.cmp(&level.len)).ok()?;
    let was = levels[at].routes.remove(&key);
    if levels[at].routes.is_empty() {
        levels.remove(at);
    }
    was
}

fn mask_v4(bits: u32, len: u8) -> u32 {
    bits & !u32::MAX.checked_shr(u32::from(len)).unwrap_or(0)
}

fn mask_v6(bits: u128, len: u8) -> u128 {
    bits & !u128::MAX.checked_shr(u32::from(len)).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{Ipv4Addr, Ipv6Addr};

    /// A slow and obvious table: a list, of which the longest and latest match wins.
    #[derive(Default)]
    struct Model(Vec<(IpAddr, u8, u32)>);

    impl Model {
        fn same(a: IpAddr, b: IpAddr, len: u8) -> bool {
            let bits = |addr: IpAddr| match addr {
                IpAddr::V4(a) => a.octets().to_vec(),
                IpAddr::V6(a) => a.octets().to_vec(),
            };
            let (a, b) = (bits(a), bits(b));
            let bit = |v: &[u8], i: usize| v[i / 8] >> (7 - i % 8) & 1;
            a.len() == b.len() && (0..usize::from(len)).all(|i| bit(&a, i) == bit(&b, i))
        }

        fn remove(&mut self, addr: IpAddr, len: u8) {
            self.0.retain(|&(a, l, _)| !(l == len && Self::same(a, addr, len)));
        }

        fn lookup(&self, addr: IpAddr) -> Option<u32> {
            let hits = self.0.iter().filter(|&&(a, l, _)| Self::same(a, addr, l));
            hits.max_by_key(|&&(_, l, _)| l).map(|&(_, _, t)| t)
        }
    }

    /// An address from a small corner, so that prefixes nest and collide.
    fn draw(rng: &mut Rng) -> IpAddr {
        let bits = rng.next_u32() & 0x8103_0307;
        if rng.next_u32() & 1 == 0 {
            Ipv4Addr::from(bits).into()
        } else {
            Ipv6Addr::from(u128::from(bits) << 96 | u128::from(rng.next_u32() & 0x11)).into()
        }
    }

    #[test]
    fn random_tables_agree_with_a_list() {
        let mut rng = Rng::new(42);
        for _ in 0..60 {
            let mut table = Table::new(&mut rng);
            let mut model = Model::default();
            for step in 0..80 {
                let addr = draw(&mut rng);
                let bits = u32::from(Family::of(addr).bits());
                let len = u8::try_from(rng.next_u32() % (bits + 1)).unwrap();
                model.remove(addr, len);
                if rng.next_u32() % 4 == 0 {
                    table.remove(addr, len);
                    assert_eq!(table.exact(addr, len), None);
                } else {
                    model.0.push((addr, len, step));
                    table.insert(addr, len, step);
                    assert_eq!(table.exact(addr, len), Some(step));
                }
                for _ in 0..8 {
                    let asked = draw(&mut rng);
                    assert_eq!(table.lookup(asked), model.lookup(asked), "{asked}");
                }
            }
        }
    }

    #[test]
    fn a_default_route_catches_the_rest_of_its_own_family() {
        let mut table = Table::new(&mut Rng::new(1));
        table.insert(Ipv4Addr::UNSPECIFIED.into(), 0, 1);
        table.insert(Ipv4Addr::new(10, 0, 0, 0).into(), 8, 2);
        assert_eq!(table.lookup(Ipv4Addr::new(11, 0, 0, 1).into()), Some(1));
        assert_eq!(table.lookup(Ipv4Addr::new(10, 0, 0, 1).into()), Some(2));
        assert_eq!(table.lookup(Ipv6Addr::LOCALHOST.into()), None);
    }

    #[test]
    fn the_latest_of_equal_prefixes_wins_and_an_empty_level_goes() {
        let mut table = Table::new(&mut Rng::new(1));
        let net = IpAddr::from([10, 1, 2, 3]);
        assert_eq!(table.insert(net, 24, 1), None);
        assert_eq!(table.insert([10, 1, 2, 77].into(), 24, 2), Some(1));
        assert_eq!(table.remove(net, 24), Some(2));
        assert!(table.is_empty());
    }
}
