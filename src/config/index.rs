//! Where things stand in the long lists of a ground state, while many commands come one after another:
//! without it each would walk the list that it adds to.
//!
//! A list is followed from its end; an entry that goes makes its list unknown, and it is learnt again when
//! it has been walked a few times. Left out on purpose: being part of the state, which has the lists alone.

use std::collections::BTreeMap;
use std::hash::{BuildHasher, Hash};
use std::net::IpAddr;

use super::ServiceKey;
use crate::world::{Keyed, Rng};

/// A list that is shorter is walked.
const SHORT: usize = 32;

/// Times that a list is walked before it is worth learning anew.
const WALKS: usize = 8;

/// What is known of the lists of one ground state.
#[derive(Debug, Default)]
pub(super) struct Index {
    /// Whether it is worth while to learn anything.
    learns: bool,
    routes: Places,
    neighbours: Places,
    /// The addresses of each port, and the broadcast addresses of their networks.
    addresses: Vec<(Places, Places)>,
    /// The servers of the service that was added to last.
    dests: (Option<ServiceKey>, Places),
    /// The addresses that servers have, and some that they had.
    servers: BTreeMap<u64, usize>,
}

impl Index {
    /// An index for many commands, which begin with an empty state. The default is for one: it knows nothing.
    pub(super) fn for_many() -> Self {
        Self { learns: true, ..Self::default() }
    }

    /// Whether a server may have this address; if not, none has.
    pub(super) fn may_serve(&self, addr: IpAddr) -> bool {
        !self.learns || self.servers.contains_key(&hash(&addr))
    }

    /// A server has this address.
    pub(super) fn serves(&mut self, addr: IpAddr) {
        if self.learns {
            self.servers.insert(hash(&addr), 0);
        }
    }

    /// Where the servers of a service stand, of which there are so many.
    pub(super) fn dests(&mut self, key: &ServiceKey, count: usize) -> Option<&mut Places> {
        if !self.learns || count < SHORT {
            return None;
        }
        self.turn_to(Some(*key));
        Some(&mut self.dests.1)
    }

    /// A server of the service has gone, or all.
    pub(super) fn lose_dests(&mut self, key: &ServiceKey) {
        if self.dests.0 == Some(*key) {
            self.dests.1.lose();
        }
    }

    /// All services have gone.
    pub(super) fn lose_services(&mut self) {
        self.turn_to(None);
    }

    fn turn_to(&mut self, key: Option<ServiceKey>) {
        if self.dests.0 != key {
            self.dests.0 = key;
            self.dests.1.lose();
        }
    }

    /// What is known of a port's addresses, and of the broadcast addresses of their networks.
    pub(super) fn of_port(&mut self, port: usize) -> Option<&mut (Places, Places)> {
        if !self.learns {
            return None;
        }
        self.addresses.resize_with(self.addresses.len().max(port + 1), Default::default);
        Some(&mut self.addresses[port])
    }

    /// An address of a port has gone.
    pub(super) fn lose_addresses(&mut self) {
        for (own, broadcasts) in &mut self.addresses {
            own.lose();
            broadcasts.lose();
        }
    }

    /// What is known of the routes.
    pub(super) fn routes(&mut self) -> Option<&mut Places> {
        self.learns.then_some(&mut self.routes)
    }

    /// What is known of the neighbours.
    pub(super) fn neighbours(&mut self) -> Option<&mut Places> {
        self.learns.then_some(&mut self.neighbours)
    }
}

/// The places of a list by what its entries are looked for by.
#[derive(Debug, Default)]
pub(super) struct Places {
    /// The first of that hash.
    first: BTreeMap<u64, usize>,
    /// So many entries are known.
    known: usize,
    /// Entries that were walked past since the list was lost.
    walked: usize,
    /// An entry has gone since.
    lost: bool,
}

impl Places {
    /// The first of `count` places for which `is` holds; `hash_at` tells the hash of each, and `hash` is that
    /// of the wanted one. Not generic, since it is needed for many lists.
    fn find(
        &mut self,
        count: usize,
        hash: u64,
        hash_at: &dyn Fn(usize) -> u64,
        is: &dyn Fn(usize) -> bool,
    ) -> Option<usize> {
        let walk = || (0..count).find(|&at| is(at));
        if count < SHORT {
            return walk();
        }
        if self.lost && self.walked < WALKS * count {
            let found = walk();
            self.walked += found.unwrap_or(count);
            return found;
        }
        self.lost = false;
        for at in self.known..count {
            self.first.entry(hash_at(at)).or_insert(at);
        }
        self.known = count;
        let place = *self.first.get(&hash)?;
        match place < count && is(place) {
            true => Some(place),
            // Two keys have one hash.
            false => walk(),
        }
    }

    /// An entry has gone, or has another key.
    pub(super) fn lose(&mut self) {
        self.first.clear();
        (self.known, self.walked, self.lost) = (0, 0, true);
    }
}

/// The place of the first entry whose key is `key`, whether or not anything is known of its list.
pub(super) fn find<'a, T, K: Hash + Eq>(
    places: Option<&mut Places>,
    list: &'a [T],
    key: &K,
    key_of: impl Fn(&'a T) -> K,
) -> Option<usize> {
    let is = |at: usize| key_of(&list[at]) == *key;
    match places {
        Some(places) => places.find(list.len(), hash(key), &|at| hash(&key_of(&list[at])), &is),
        None => (0..list.len()).find(|&at| is(at)),
    }
}

/// What is not in the index is not in the list, so that nobody gains by keys that collide.
fn hash(key: &impl Hash) -> u64 {
    Keyed::new(&mut Rng::new(1)).hash_one(key)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_known_of_a_list_is_what_a_walk_would_find() {
        let mut rng = Rng::new(7);
        let (mut list, mut places) = (Vec::<u32>::new(), Places::default());
        for round in 0..5000 {
            let key = rng.next_u32() % 300;
            let walked = list.iter().position(|&entry| entry == key);
            assert_eq!(
                find(Some(&mut places), &list, &key, |&entry| entry),
                walked,
                "round {round}"
            );
            match (walked, rng.next_u32() % 100) {
                (Some(place), 0) => {
                    list.remove(place);
                    places.lose();
                }
                (Some(_), _) => {}
                (None, _) => list.push(key),
            }
        }
        assert!(list.len() > SHORT, "the index was in use");
    }

    #[test]
    fn a_long_list_is_not_walked_for_each_of_its_entries() {
        let (mut list, mut places) = (Vec::new(), Places::default());
        let looked = std::cell::Cell::new(0_u64);
        for key in 0..10_000_u32 {
            let counted = |&entry: &u32| {
                looked.set(looked.get() + 1);
                entry
            };
            assert_eq!(find(Some(&mut places), &list, &key, counted), None);
            list.push(key);
        }
        assert!(looked.get() < 20_000, "{}", looked.get());
    }
}
