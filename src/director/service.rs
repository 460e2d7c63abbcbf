//! Services and destinations, and which service a packet belongs to.
//!
//! Kept from the kernel: new destinations stand at the head of their service's list; a removed one
//! lives on for its connections and comes back to life, counts and all, when it is added again; the
//! order of lookup is mark, exact address, FTP data, any port.

use std::net::IpAddr;
use std::ops::Range;
use std::time::Duration;

use super::stats::Stats;
use crate::config::{DestSpec, Method, Refusal, ServiceKey, ServiceSpec};
use crate::packet::{proto, Endpoint, Family, Flow};
use crate::sched::{self, Candidate, Change, Pool};
use crate::world::{Instant, Keyed, Map, Rng};

/// The port of FTP control connections.
pub(super) const FTP: u16 = 21;
/// The port of FTP data connections.
pub(super) const FTP_DATA: u16 = 20;
/// Ports from here on may be FTP data (`net.ipv4.ip_unprivileged_port_start`).
const UNPRIVILEGED: u16 = 1024;
/// A removed destination without connections is forgotten after this long.
const TRASH_AFTER: Duration = Duration::from_secs(120);

/// A service's place; valid until the service is removed.
pub type ServiceId = u32;
/// A destination's place; valid while it is configured or a connection is bound to it.
pub type DestId = u32;

/// A virtual service.
#[derive(Debug, Clone)]
pub struct Service {
    /// What the operator said.
    pub spec: ServiceSpec,
    /// Its destinations, newest first.
    pub dests: Vec<DestId>,
    /// What has gone through.
    pub stats: Stats,
    /// `None` never schedules.
    scheduler: Option<sched::State>,
}

/// A real server of one service.
#[derive(Debug, Clone)]
pub struct Dest {
    /// What the operator said.
    pub spec: DestSpec,
    /// Active connections.
    pub active: u32,
    /// Inactive connections.
    pub inactive: u32,
    /// Persistence templates.
    pub persistent: u32,
    /// What has gone through.
    pub stats: Stats,
    /// Its upper threshold has been reached.
    pub overloaded: bool,
    /// Configured, not only kept for its connections.
    pub available: bool,
    service: ServiceId,
    key: ServiceKey,
    idle_since: Instant,
}

impl Dest {
    /// Entries in the connection table that are bound to it.
    const fn bound(&self) -> u64 {
        self.active as u64 + self.inactive as u64 + self.persistent as u64
    }

    /// Active and inactive connections together.
    const fn total(&self) -> u64 {
        self.active as u64 + self.inactive as u64
    }

    /// The number of connections below which an overloaded destination is open again.
    const fn reopens_below(&self) -> u64 {
        match self.spec.lower {
            0 => self.spec.upper as u64 - self.spec.upper as u64 / 4,
            lower => lower as u64,
        }
    }

    /// A connection has been bound.
    pub(super) const fn check_upper(&mut self) {
        if self.spec.upper != 0 && self.total() >= self.spec.upper as u64 {
            self.overloaded = true;
        }
    }

    /// A connection has gone.
    pub(super) const fn check_lower(&mut self) {
        if self.total() < self.reopens_below() {
            self.overloaded = false;
        }
    }

    /// The thresholds have been edited.
    const fn check_both(&mut self) {
        if self.spec.upper == 0 || self.total() < self.reopens_below() {
            self.overloaded = false;
        }
        self.check_upper();
    }
}

/// All services and destinations.
#[derive(Debug)]
pub struct Services {
    by_key: Map<ServiceKey, ServiceId>,
    services: Vec<Option<Service>>,
    dests: Vec<Option<Dest>>,
    /// Removed destinations that connections are bound to or were until lately.
    trash: Vec<DestId>,
    per_family: [usize; 2],
    any_port: usize,
    ftp: usize,
}

impl Services {
    pub(super) fn new(rng: &mut Rng) -> Self {
        Self {
            by_key: Map::with_hasher(Keyed::new(rng)),
            services: Vec::new(),
            dests: Vec::new(),
            trash: Vec::new(),
            per_family: [0; 2],
            any_port: 0,
            ftp: 0,
        }
    }

    /// Whether any service of a family exists; without one, packets of that family are not looked at.
    pub(super) const fn has_family(&self, family: Family) -> bool {
        self.per_family[family as usize] > 0
    }

    /// The service of that key.
    pub fn find(&self, key: &ServiceKey) -> Option<ServiceId> {
        self.by_key.get(key).copied()
    }

    /// Every service.
    pub fn iter(&self) -> impl Iterator<Item = &Service> {
        self.services.iter().flatten()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.by_key.is_empty()
    }

    /// How many places there are to ask [`stats_at`](Self::stats_at) about.
    pub(super) const fn places(&self) -> usize {
        self.services.len() + self.dests.len()
    }

    /// The counters at these places: services first, then destinations that are configured.
    pub(super) fn stats_at(&mut self, places: Range<usize>) -> impl Iterator<Item = &mut Stats> {
        let (services, dests) = (self.services.len(), self.dests.len());
        let of_services = places.start.min(services)..places.end.min(services);
        let start = places.start.saturating_sub(services).min(dests);
        let of_dests = start..places.end.saturating_sub(services).clamp(start, dests);
        let services = self.services[of_services].iter_mut().flatten();
        let dests = self.dests[of_dests].iter_mut().flatten().filter(|dest| dest.available);
        services.map(|service| &mut service.stats).chain(dests.map(|dest| &mut dest.stats))
    }

    /// The service at a place.
    pub fn service(&self, id: ServiceId) -> &Service {
        self.services[id as usize].as_ref().expect("a service's place is valid until its removal")
    }

    pub(super) fn service_mut(&mut self, id: ServiceId) -> &mut Service {
        self.services[id as usize].as_mut().expect("a service's place is valid until its removal")
    }

    /// The destination at a place.
    pub fn dest(&self, id: DestId) -> &Dest {
        self.dests[id as usize].as_ref().expect("a bound destination is kept")
    }

    pub(super) fn dest_mut(&mut self, id: DestId) -> &mut Dest {
        self.dests[id as usize].as_mut().expect("a bound destination is kept")
    }

    /// The service that a first packet is for.
    pub(super) fn lookup(&self, mark: u32, protocol: u8, dst: Endpoint) -> Option<ServiceId> {
        if mark != 0 {
            let key = ServiceKey::Mark { family: Family::of(dst.addr), mark };
            if let Some(id) = self.find(&key) {
                return Some(id);
            }
        }
        let at = |port| {
            let virt = Endpoint::new(dst.addr, port);
            self.find(&ServiceKey::Address { proto: protocol, virt })
        };
        let may_be_ftp_data = protocol == proto::TCP
            && self.ftp > 0
            && (dst.port == FTP_DATA || dst.port >= UNPRIVILEGED);
        at(dst.port)
            .or_else(|| may_be_ftp_data.then(|| at(FTP))?)
            .or_else(|| (self.any_port > 0).then(|| at(0))?)
    }

    /// Whether a NAT server of that protocol (or of any mark) speaks from the flow's source.
    pub(super) fn has_masq_server(&self, flow: &Flow) -> bool {
        self.dests.iter().flatten().any(|dest| {
            let proto_fits = match dest.key {
                ServiceKey::Address { proto, .. } => proto == flow.proto,
                ServiceKey::Mark { .. } => true,
            };
            let at = dest.spec.dest;
            dest.available
                && proto_fits
                && dest.spec.method == Method::Masq
                && at.addr == flow.src.addr
                && (at.port == flow.src.port || at.port == 0)
        })
    }

    /// Asks the service's scheduler for a destination.
    pub(super) fn pick(&mut self, id: ServiceId) -> Option<DestId> {
        let service = self.services[id as usize].as_mut()?;
        let pool = List { list: &service.dests, dests: &self.dests };
        let index = service.scheduler.as_mut()?.pick(&pool)?;
        Some(service.dests[index])
    }

    /// Tells the service's scheduler of a change.
    fn changed(&mut self, id: ServiceId, change: Change) {
        let Some(service) = &mut self.services[id as usize] else { return };
        let pool = List { list: &service.dests, dests: &self.dests };
        if let Some(scheduler) = &mut service.scheduler {
            scheduler.changed(change, &pool);
        }
    }

    /// Adds a service (`-A`).
    pub(super) fn add(&mut self, spec: ServiceSpec) -> Result<(), Refusal> {
        if self.by_key.contains_key(&spec.key) {
            return Err(Refusal::ServiceExists);
        }
        let key = spec.key;
        let nobody = List { list: &[], dests: &self.dests };
        let scheduler = spec.scheduler.map(|kind| sched::State::attach(kind, &nobody));
        let service = Service { spec, dests: Vec::new(), stats: Stats::default(), scheduler };
        let id = place(&mut self.services, service);
        self.by_key.insert(key, id);
        self.count(&key, 1);
        Ok(())
    }

    /// Edits a service (`-E`): the scheduler keeps its place in the round unless it is another one.
    pub(super) fn edit(&mut self, spec: ServiceSpec) -> Result<(), Refusal> {
        let id = self.find(&spec.key).ok_or(Refusal::NoSuchService)?;
        let service = self.services[id as usize].as_mut().expect("just found");
        if service.spec.scheduler != spec.scheduler {
            let pool = List { list: &service.dests, dests: &self.dests };
            service.scheduler = spec.scheduler.map(|kind| sched::State::attach(kind, &pool));
        }
        service.spec = spec;
        Ok(())
    }

    /// Removes a service (`-D`); its destinations live on for their connections.
    pub(super) fn remove(&mut self, now: Instant, key: &ServiceKey) -> Result<(), Refusal> {
        let id = self.by_key.remove(key).ok_or(Refusal::NoSuchService)?;
        let service = self.services[id as usize].take().expect("just found");
        for dest in service.dests {
            self.discard(now, dest);
        }
        self.count(key, -1);
        Ok(())
    }

    /// Adds a destination (`-a`), or takes the old one back if connections still hold it.
    pub(super) fn add_dest(&mut self, key: &ServiceKey, spec: DestSpec) -> Result<(), Refusal> {
        let id = self.find(key).ok_or(Refusal::ServiceNotDefined)?;
        check_thresholds(&spec)?;
        if self.dest_of(id, spec.dest).is_some() {
            return Err(Refusal::DestExists);
        }
        let revived = self.trash.iter().position(|&t| {
            let dest = self.dest(t);
            dest.key == *key && dest.spec.dest == spec.dest
        });
        let dest = match revived {
            Some(at) => self.revive(at, id, spec),
            None => place(&mut self.dests, fresh_dest(id, *key, spec)),
        };
        self.service_mut(id).dests.insert(0, dest);
        self.changed(id, Change::Added);
        Ok(())
    }

    fn revive(&mut self, at: usize, service: ServiceId, spec: DestSpec) -> DestId {
        let id = self.trash.swap_remove(at);
        let dest = self.dest_mut(id);
        if dest.service != service {
            dest.stats = Stats::default();
            dest.service = service;
        }
        dest.available = true;
        dest.spec = spec;
        dest.check_both();
        id
    }

    /// Edits a destination (`-e`). Its connections keep the method they were made with.
    pub(super) fn edit_dest(&mut self, key: &ServiceKey, spec: DestSpec) -> Result<(), Refusal> {
        let id = self.find(key).ok_or(Refusal::ServiceNotDefined)?;
        check_thresholds(&spec)?;
        let at = self.dest_of(id, spec.dest).ok_or(Refusal::NoSuchDest)?;
        let place = self.service(id).dests[at];
        let dest = self.dest_mut(place);
        let other_limits = (dest.spec.upper, dest.spec.lower) != (spec.upper, spec.lower);
        dest.spec = spec;
        if other_limits {
            dest.check_both();
        }
        self.changed(id, Change::Edited);
        Ok(())
    }

    /// Removes a destination (`-d`); it lives on for its connections.
    pub(super) fn remove_dest(
        &mut self,
        now: Instant,
        key: &ServiceKey,
        dest: Endpoint,
    ) -> Result<(), Refusal> {
        let id = self.find(key).ok_or(Refusal::ServiceNotDefined)?;
        let at = self.dest_of(id, dest).ok_or(Refusal::NoSuchDest)?;
        let gone = self.service_mut(id).dests.remove(at);
        self.discard(now, gone);
        self.changed(id, Change::Removed(at));
        Ok(())
    }

    /// Notes that a removed destination has lost its last connection.
    pub(super) fn idle(&mut self, now: Instant, id: DestId) {
        let dest = self.dest_mut(id);
        if dest.bound() == 0 {
            dest.idle_since = now;
        }
    }

    /// Forgets removed destinations that have been without connections for two minutes.
    pub(super) fn empty_trash(&mut self, now: Instant) {
        let dests = &mut self.dests;
        self.trash.retain(|&id| {
            let slot = &mut dests[id as usize];
            let is_over = |d: &Dest| d.bound() == 0 && now.since(d.idle_since) >= TRASH_AFTER;
            let over = slot.as_ref().is_none_or(is_over);
            if over {
                *slot = None;
            }
            !over
        });
    }

    /// Whether there is anything in the trash.
    pub(super) fn has_trash(&self) -> bool {
        !self.trash.is_empty()
    }

    fn discard(&mut self, now: Instant, id: DestId) {
        let dest = self.dest_mut(id);
        dest.available = false;
        dest.idle_since = now;
        self.trash.push(id);
    }

    fn dest_of(&self, id: ServiceId, dest: Endpoint) -> Option<usize> {
        self.service(id).dests.iter().position(|&d| self.dest(d).spec.dest == dest)
    }

    /// Counts a service of that key in or out.
    fn count(&mut self, key: &ServiceKey, by: isize) {
        let add = |count: &mut usize| *count = count.saturating_add_signed(by);
        add(&mut self.per_family[key.family() as usize]);
        match key {
            ServiceKey::Address { virt: Endpoint { port: 0, .. }, .. } => add(&mut self.any_port),
            ServiceKey::Address { virt: Endpoint { port: FTP, .. }, .. } => add(&mut self.ftp),
            ServiceKey::Address { .. } | ServiceKey::Mark { .. } => {}
        }
    }

    /// Every virtual address that a service holds, once a service.
    pub fn virtual_addresses(&self) -> impl Iterator<Item = IpAddr> + '_ {
        self.by_key.keys().filter_map(|key| match key {
            ServiceKey::Address { virt, .. } => Some(virt.addr),
            ServiceKey::Mark { .. } => None,
        })
    }
}

/// The list of destinations of one service, as schedulers see it.
struct List<'a> {
    list: &'a [DestId],
    dests: &'a [Option<Dest>],
}

impl Pool for List<'_> {
    fn len(&self) -> usize {
        self.list.len()
    }

    fn candidate(&self, index: usize) -> Candidate {
        let dest = self.dests[self.list[index] as usize].as_ref();
        let dest = dest.expect("a listed destination exists");
        Candidate {
            weight: dest.spec.weight,
            active: dest.active,
            inactive: dest.inactive,
            overloaded: dest.overloaded,
        }
    }
}

fn check_thresholds(spec: &DestSpec) -> Result<(), Refusal> {
    if spec.lower > spec.upper {
        Err(Refusal::OutOfRange)
    } else {
        Ok(())
    }
}

fn fresh_dest(service: ServiceId, key: ServiceKey, spec: DestSpec) -> Dest {
    Dest {
        spec,
        active: 0,
        inactive: 0,
        persistent: 0,
        stats: Stats::default(),
        overloaded: false,
        available: true,
        service,
        key,
        idle_since: Instant::ZERO,
    }
}

impl Dest {
    /// The service it belongs to, as long as it is available.
    pub(super) fn service(&self) -> Option<ServiceId> {
        self.available.then_some(self.service)
    }
}

/// Puts `item` into the first empty place.
fn place<T>(slots: &mut Vec<Option<T>>, item: T) -> u32 {
    let at = slots.iter().position(Option::is_none).unwrap_or(slots.len());
    if at == slots.len() {
        slots.push(None);
    }
    slots[at] = Some(item);
    u32::try_from(at).expect("fewer than 2^32 services")
}
