//! Services and destinations, and which service a packet belongs to.
//!
//! Kept from the kernel: new destinations stand at the head of their service's list; a removed one
//! lives on for its connections and comes back to life, counts and all, when it is added again; the
//! order of lookup is mark, exact address, FTP data, any port.

use std::net::{IpAddr, Ipv4Addr};
use std::ops::Range;
use std::time::Duration;

use super::slots::Slots;
use super::stats::{Stats, Tries};
use crate::config::{DestSpec, Method, Refusal, ServiceKey, ServiceSpec, TunnelType};
use crate::packet::{proto, Endpoint, Family, Flow};
use crate::sched::{self, Candidate, Change, Expiration, Flags, Pool, Request, Scheduler};
use crate::world::{Instant, Keyed, Map, Rng};

/// The port of FTP control connections.
pub(super) const FTP: u16 = 21;
/// The port of FTP data connections.
pub(super) const FTP_DATA: u16 = 20;
/// Ports from here on may be FTP data (`net.ipv4.ip_unprivileged_port_start`).
const UNPRIVILEGED: u16 = 1024;
/// The service of a destination whose service was removed.
const NO_SERVICE: ServiceId = ServiceId::MAX;
/// No destination.
const NOBODY: DestId = DestId::MAX;
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
    /// Connections that were begun since one was established last.
    pub tries: Tries,
    /// The latest weight that was not 0; 0 if there was none.
    last_weight: u32,
    service: ServiceId,
    key: ServiceKey,
    /// Its neighbours among those that speak from its endpoint, if it speaks.
    speaks: Option<Speaks>,
    /// It stands in the list of removed ones, perhaps from an earlier life.
    in_trash: bool,
    idle_since: Instant,
}

/// A place in the list of those that speak from one endpoint; [`NOBODY`] is beyond its ends.
#[derive(Debug, Clone, Copy)]
struct Speaks {
    newer: DestId,
    older: DestId,
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
    services: Slots<Service>,
    dests: Slots<Dest>,
    /// Every destination, also the removed ones.
    by_endpoint: Map<(ServiceKey, Endpoint), DestId>,
    /// The NAT server that speaks from an endpoint, whatever its service; of several the one that became
    /// one last, and the others follow it.
    speakers: Map<Endpoint, DestId>,
    /// Removed destinations that connections are bound to or were until lately, and some that have
    /// come back since the trash was last looked through.
    trash: Vec<DestId>,
    per_family: [usize; 2],
    any_port: usize,
    ftp: usize,
    /// Services with a persistence engine.
    engines: usize,
    nobody: Option<DestId>,
    /// Services whose schedulers have something to collect.
    collecting: usize,
    rng: Rng,
}

impl Services {
    pub(super) fn new(rng: &mut Rng) -> Self {
        Self {
            by_key: Map::with_hasher(Keyed::new(rng)),
            services: Slots::new(),
            dests: Slots::new(),
            by_endpoint: Map::with_hasher(Keyed::new(rng)),
            speakers: Map::with_hasher(Keyed::new(rng)),
            trash: Vec::new(),
            per_family: [0; 2],
            any_port: 0,
            ftp: 0,
            engines: 0,
            nobody: None,
            collecting: 0,
            rng: Rng::new(rng.next_u64()),
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
        self.services.iter()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.by_key.is_empty()
    }

    /// How many places there are to ask [`stats_at`](Self::stats_at) about.
    pub(super) fn places(&self) -> usize {
        self.services.len() + self.dests.len()
    }

    /// The counters at these places: services first, then destinations that are configured.
    pub(super) fn stats_at(&mut self, places: Range<usize>) -> impl Iterator<Item = &mut Stats> {
        let (services, dests) = (self.services.len(), self.dests.len());
        let of_services = places.start.min(services)..places.end.min(services);
        let start = places.start.saturating_sub(services).min(dests);
        let of_dests = start..places.end.saturating_sub(services).clamp(start, dests);
        let services = self.services.part_mut(of_services);
        let dests = self.dests.part_mut(of_dests).filter(|dest| dest.available);
        services.map(|service| &mut service.stats).chain(dests.map(|dest| &mut dest.stats))
    }

    /// The service at a place.
    pub fn service(&self, id: ServiceId) -> &Service {
        self.services.find(id).expect("a service's place is valid until its removal")
    }

    pub(super) fn service_mut(&mut self, id: ServiceId) -> &mut Service {
        self.services.find_mut(id).expect("a service's place is valid until its removal")
    }

    /// The destination of what no server serves: it is of no service, and counts for nobody.
    pub(super) fn nobody(&mut self) -> DestId {
        if let Some(nobody) = self.nobody {
            return nobody;
        }
        let nowhere = Endpoint::new(Ipv4Addr::UNSPECIFIED.into(), 0);
        let key = ServiceKey::Address { proto: 0, virt: nowhere };
        let (method, weight, tunnel) = (Method::Route, 1, TunnelType::Ipip);
        let spec = DestSpec { dest: nowhere, method, weight, upper: 0, lower: 0, tunnel };
        let id = self.dests.put(fresh_dest(NO_SERVICE, key, spec));
        self.nobody = Some(id);
        id
    }

    /// The destination at a place.
    pub fn dest(&self, id: DestId) -> &Dest {
        self.dests.find(id).expect("a bound destination is kept")
    }

    pub(super) fn dest_mut(&mut self, id: DestId) -> &mut Dest {
        self.dests.find_mut(id).expect("a bound destination is kept")
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

    /// The NAT server of that protocol (or of any mark) that speaks from the flow's source; of
    /// several, the one that became one last. As in the kernel, one without a port speaks from port 0.
    pub(super) fn masq_server(&self, flow: &Flow) -> Option<DestId> {
        let fits = |id: &DestId| match self.dest(*id).key {
            ServiceKey::Address { proto, .. } => proto == flow.proto,
            ServiceKey::Mark { .. } => true,
        };
        let first = self.speakers.get(&flow.src).copied();
        let older = |&id: &DestId| {
            self.dest(id).speaks.map(|speaks| speaks.older).filter(|&older| older != NOBODY)
        };
        std::iter::successors(first, older).find(fits)
    }

    /// Whether any service has a persistence engine.
    pub(super) const fn has_engine(&self) -> bool {
        self.engines > 0
    }

    /// Asks the service's scheduler for a destination.
    pub(super) fn pick(
        &mut self,
        now: Instant,
        id: ServiceId,
        flow: &Flow,
        expiration: Expiration,
    ) -> Option<DestId> {
        let service = self.services.find_mut(id)?;
        let flags = Flags(service.spec.sched_flags);
        let request = Request { client: flow.src, virt: flow.dst.addr, flags, now, expiration };
        let pool = List { list: &service.dests, dests: &self.dests };
        let index = service.scheduler.as_mut()?.pick(&pool, &request)?;
        Some(service.dests[index])
    }

    /// Tells the service's scheduler of a change.
    fn changed(&mut self, id: ServiceId, change: Change) {
        let Some(service) = self.services.find_mut(id) else { return };
        let pool = List { list: &service.dests, dests: &self.dests };
        if let Some(scheduler) = &mut service.scheduler {
            scheduler.changed(change, &pool);
        }
    }

    /// Whether any scheduler has something to collect.
    pub(super) const fn collects(&self) -> bool {
        self.collecting > 0
    }

    /// Lets the schedulers forget what nobody has asked for; to be called once a minute.
    pub(super) fn collect(&mut self, now: Instant, expiration: Expiration) {
        for scheduler in self.services.iter_mut().filter_map(|s| s.scheduler.as_mut()) {
            scheduler.collect(now, expiration);
        }
    }

    /// Adds a service (`-A`).
    pub(super) fn add(&mut self, spec: ServiceSpec) -> Result<(), Refusal> {
        if self.by_key.contains_key(&spec.key) {
            return Err(Refusal::ServiceExists);
        }
        let key = spec.key;
        self.engines += usize::from(spec.sip);
        let scheduler = self.attach(spec.scheduler, &[]);
        let service = Service { spec, dests: Vec::new(), stats: Stats::default(), scheduler };
        let id = self.services.put(service);
        self.by_key.insert(key, id);
        self.count(&key, 1);
        Ok(())
    }

    /// A scheduler for a list of destinations.
    fn attach(&mut self, kind: Option<Scheduler>, list: &[DestId]) -> Option<sched::State> {
        let pool = List { list, dests: &self.dests };
        let state = kind.map(|kind| sched::State::attach(kind, &pool, &mut self.rng));
        self.collecting += usize::from(collects(&state));
        state
    }

    /// Edits a service (`-E`): the scheduler keeps its place in the round unless it is another one.
    pub(super) fn edit(&mut self, spec: ServiceSpec) -> Result<(), Refusal> {
        let id = self.find(&spec.key).ok_or(Refusal::NoSuchService)?;
        if self.service(id).spec.scheduler != spec.scheduler {
            let list = std::mem::take(&mut self.service_mut(id).dests);
            let new = self.attach(spec.scheduler, &list);
            let service = self.service_mut(id);
            service.dests = list;
            let old = std::mem::replace(&mut service.scheduler, new);
            self.collecting -= usize::from(collects(&old));
        }
        self.engines += usize::from(spec.sip);
        let old = std::mem::replace(&mut self.service_mut(id).spec, spec);
        self.engines -= usize::from(old.sip);
        Ok(())
    }

    /// Removes a service (`-D`); its destinations live on for their connections.
    pub(super) fn remove(&mut self, now: Instant, key: &ServiceKey) -> Result<(), Refusal> {
        let id = self.by_key.remove(key).ok_or(Refusal::NoSuchService)?;
        let service = self.services.take(id).expect("just found");
        self.collecting -= usize::from(collects(&service.scheduler));
        self.engines -= usize::from(service.spec.sip);
        for dest in service.dests {
            self.discard(now, dest);
            // The service's place may be another's soon.
            self.dest_mut(dest).service = NO_SERVICE;
        }
        self.count(key, -1);
        Ok(())
    }

    /// Adds a destination (`-a`), or takes the old one back if connections still hold it.
    pub(super) fn add_dest(&mut self, key: &ServiceKey, spec: DestSpec) -> Result<(), Refusal> {
        let id = self.find(key).ok_or(Refusal::ServiceNotDefined)?;
        check_thresholds(&spec)?;
        let known = self.by_endpoint.get(&(*key, spec.dest)).copied();
        if known.is_some_and(|known| self.dest(known).available) {
            return Err(Refusal::DestExists);
        }
        let dest = match known {
            Some(known) => self.revive(known, id, spec),
            None => self.put_dest(id, *key, spec),
        };
        self.list_speaker(dest);
        self.service_mut(id).dests.insert(0, dest);
        self.changed(id, Change::Added);
        Ok(())
    }

    fn put_dest(&mut self, service: ServiceId, key: ServiceKey, spec: DestSpec) -> DestId {
        let endpoint = spec.dest;
        let id = self.dests.put(fresh_dest(service, key, spec));
        self.by_endpoint.insert((key, endpoint), id);
        id
    }

    fn revive(&mut self, id: DestId, service: ServiceId, spec: DestSpec) -> DestId {
        let dest = self.dest_mut(id);
        if dest.service != service {
            dest.stats.reset();
            dest.service = service;
        }
        dest.available = true;
        dest.respecify(spec);
        dest.check_both();
        id
    }

    /// Edits a destination (`-e`). Its connections keep the method they were made with.
    pub(super) fn edit_dest(&mut self, key: &ServiceKey, spec: DestSpec) -> Result<(), Refusal> {
        let id = self.find(key).ok_or(Refusal::ServiceNotDefined)?;
        check_thresholds(&spec)?;
        let at = self.dest_of(id, spec.dest).ok_or(Refusal::NoSuchDest)?;
        let place = self.service(id).dests[at];
        let stays = self.dest(place).spec.method == spec.method;
        if !stays {
            self.unlist_speaker(place);
        }
        let dest = self.dest_mut(place);
        let other_limits = (dest.spec.upper, dest.spec.lower) != (spec.upper, spec.lower);
        dest.respecify(spec);
        if other_limits {
            dest.check_both();
        }
        if !stays {
            self.list_speaker(place);
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
        let Self { dests, by_endpoint, trash, .. } = self;
        trash.retain(|&id| {
            let dest = dests.find_mut(id).expect("what is in the trash is kept");
            if dest.available {
                dest.in_trash = false;
                return false;
            }
            let over = dest.bound() == 0 && now.since(dest.idle_since) >= TRASH_AFTER;
            if over {
                by_endpoint.remove(&(dest.key, dest.spec.dest));
                dests.take(id);
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
        if !std::mem::replace(&mut dest.in_trash, true) {
            self.trash.push(id);
        }
        self.unlist_speaker(id);
    }

    /// Lists a destination among those that speak, if it does NAT.
    fn list_speaker(&mut self, id: DestId) {
        let spec = &self.dest(id).spec;
        if spec.method != Method::Masq {
            return;
        }
        let from = spec.dest;
        let older = self.speakers.insert(from, id).unwrap_or(NOBODY);
        self.dest_mut(id).speaks = Some(Speaks { newer: NOBODY, older });
        self.neighbour(older, |speaks| speaks.newer = id);
    }

    /// Takes a destination from the list of those that speak, if it was there.
    fn unlist_speaker(&mut self, id: DestId) {
        let dest = self.dest_mut(id);
        let from = dest.spec.dest;
        let Some(Speaks { newer, older }) = dest.speaks.take() else { return };
        self.neighbour(older, |speaks| speaks.newer = newer);
        self.neighbour(newer, |speaks| speaks.older = older);
        match (newer, older) {
            (NOBODY, NOBODY) => _ = self.speakers.remove(&from),
            (NOBODY, older) => _ = self.speakers.insert(from, older),
            (_, _) => {}
        }
    }

    fn neighbour(&mut self, id: DestId, change: impl FnOnce(&mut Speaks)) {
        if id == NOBODY {
            return;
        }
        if let Some(speaks) = &mut self.dest_mut(id).speaks {
            change(speaks);
        }
    }

    fn dest_of(&self, id: ServiceId, dest: Endpoint) -> Option<usize> {
        let service = self.service(id);
        let known = *self.by_endpoint.get(&(service.spec.key, dest))?;
        service.dests.iter().position(|&id| id == known)
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
    dests: &'a Slots<Dest>,
}

impl Pool for List<'_> {
    fn len(&self) -> usize {
        self.list.len()
    }

    fn candidate(&self, index: usize) -> Candidate {
        let dest = self.dests.find(self.list[index]).expect("a listed destination exists");
        Candidate {
            at: dest.spec.dest,
            last_weight: dest.last_weight,
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
        last_weight: spec.weight,
        spec,
        active: 0,
        inactive: 0,
        persistent: 0,
        stats: Stats::default(),
        overloaded: false,
        available: true,
        tries: Tries::default(),
        service,
        key,
        speaks: None,
        in_trash: false,
        idle_since: Instant::ZERO,
    }
}

impl Dest {
    /// The service it belongs to, as long as it is available.
    pub(super) fn service(&self) -> Option<ServiceId> {
        (self.available && self.service != NO_SERVICE).then_some(self.service)
    }

    /// The operator has said something else of it.
    fn respecify(&mut self, spec: DestSpec) {
        if spec.weight > 0 {
            self.last_weight = spec.weight;
        }
        self.spec = spec;
    }
}

fn collects(scheduler: &Option<sched::State>) -> bool {
    scheduler.as_ref().is_some_and(sched::State::collects)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::TunnelType;

    const KEY: ServiceKey = ServiceKey::Mark { family: Family::V4, mark: 1 };

    fn at(last: u8, port: u16) -> Endpoint {
        Endpoint::new(IpAddr::from([10, 0, 0, last]), port)
    }

    fn service(key: ServiceKey, scheduler: Scheduler) -> ServiceSpec {
        ServiceSpec {
            key,
            scheduler: Some(scheduler),
            sched_flags: 0,
            persistent_s: None,
            netmask: u32::MAX,
            one_packet: false,
            sip: false,
        }
    }

    fn server(dest: Endpoint, method: Method) -> DestSpec {
        DestSpec { dest, method, weight: 1, upper: 0, lower: 0, tunnel: TunnelType::Ipip }
    }

    fn services() -> Services {
        let mut services = Services::new(&mut Rng::new(1));
        assert_eq!(services.add(service(KEY, Scheduler::Rr)), Ok(()));
        services
    }

    fn from(src: Endpoint, proto: u8) -> Flow {
        Flow { src, dst: at(99, 1000), proto }
    }

    #[test]
    fn a_nat_server_is_known_as_long_as_any_service_has_it() {
        let mut all = services();
        let virt = at(1, 80);
        let tcp = ServiceKey::Address { proto: proto::TCP, virt };
        assert_eq!(all.add(service(tcp, Scheduler::Rr)), Ok(()));
        let speaks = |all: &Services, proto| all.masq_server(&from(at(7, 80), proto)).is_some();
        assert_eq!(all.add_dest(&tcp, server(at(7, 80), Method::Masq)), Ok(()));
        assert!(speaks(&all, proto::TCP) && !speaks(&all, proto::UDP));
        assert_eq!(all.add_dest(&KEY, server(at(7, 80), Method::Masq)), Ok(()));
        assert!(speaks(&all, proto::TCP) && speaks(&all, proto::UDP));
        assert_eq!(all.remove(Instant::ZERO, &tcp), Ok(()));
        assert!(speaks(&all, proto::TCP));
        assert_eq!(all.edit_dest(&KEY, server(at(7, 80), Method::Route)), Ok(()));
        assert!(!speaks(&all, proto::TCP));
        assert_eq!(all.edit_dest(&KEY, server(at(7, 80), Method::Masq)), Ok(()));
        assert!(speaks(&all, proto::TCP));
        assert_eq!(all.remove_dest(Instant::ZERO, &KEY, at(7, 80)), Ok(()));
        assert!(!speaks(&all, proto::TCP) && all.speakers.is_empty());
    }

    #[test]
    fn of_several_services_the_one_that_took_a_server_in_last_speaks_for_it() {
        let mut all = services();
        let key = |port| ServiceKey::Address { proto: proto::TCP, virt: at(1, port) };
        for port in [80, 81] {
            assert_eq!(all.add(service(key(port), Scheduler::Rr)), Ok(()));
            assert_eq!(all.add_dest(&key(port), server(at(7, 80), Method::Masq)), Ok(()));
        }
        let speaker = |all: &Services| {
            let id = all.masq_server(&from(at(7, 80), proto::TCP)).expect("one");
            all.dest(id).key
        };
        assert_eq!(speaker(&all), key(81));
        assert_eq!(all.edit_dest(&key(80), server(at(7, 80), Method::Route)), Ok(()));
        assert_eq!(all.edit_dest(&key(80), server(at(7, 80), Method::Masq)), Ok(()));
        assert_eq!(speaker(&all), key(80));
    }

    #[test]
    fn a_removed_server_comes_back_with_its_counts_until_the_trash_is_emptied() {
        let mut all = services();
        let spec = server(at(7, 80), Method::Masq);
        for round in 0..3 {
            assert_eq!(all.add_dest(&KEY, spec.clone()), Ok(()));
            assert_eq!(all.add_dest(&KEY, spec.clone()), Err(Refusal::DestExists));
            let id = all.iter().next().map(|service| service.dests[0]).expect("it is there");
            assert_eq!(all.dest(id).active, round);
            all.dest_mut(id).active += 1;
            assert_eq!(all.remove_dest(Instant::ZERO, &KEY, spec.dest), Ok(()));
        }
        assert_eq!(all.trash.len(), 1);
        all.dest_mut(all.trash[0]).active = 0;
        all.empty_trash(Instant::ZERO.after(TRASH_AFTER));
        assert!(!all.has_trash() && all.by_endpoint.is_empty());
        assert_eq!(all.add_dest(&KEY, spec.clone()), Ok(()));
        all.empty_trash(Instant::ZERO.after(TRASH_AFTER * 2));
        assert_eq!(all.add_dest(&KEY, spec), Err(Refusal::DestExists));
    }

    #[test]
    fn a_server_that_came_back_is_not_taken_for_removed() {
        let mut all = services();
        let spec = server(at(7, 80), Method::Masq);
        assert_eq!(all.add_dest(&KEY, spec.clone()), Ok(()));
        assert_eq!(all.remove_dest(Instant::ZERO, &KEY, spec.dest), Ok(()));
        assert_eq!(all.add_dest(&KEY, spec.clone()), Ok(()));
        all.empty_trash(Instant::ZERO.after(TRASH_AFTER));
        assert!(!all.has_trash());
        assert_eq!(all.remove_dest(Instant::ZERO, &KEY, spec.dest), Ok(()));
        assert!(all.has_trash());
    }

    #[test]
    fn what_was_counted_survives_its_removal_but_not_that_of_its_service() {
        let mut all = services();
        let spec = server(at(7, 80), Method::Masq);
        let conns = |all: &Services| {
            let service = all.iter().next().expect("it is there");
            all.dest(service.dests[0]).stats.shown().conns
        };
        assert_eq!(all.add_dest(&KEY, spec.clone()), Ok(()));
        let id = all.iter().next().map(|service| service.dests[0]).expect("it is there");
        all.dest_mut(id).stats.conns = 4;
        all.dest_mut(id).stats.sample();
        assert_eq!(all.remove_dest(Instant::ZERO, &KEY, spec.dest), Ok(()));
        assert_eq!(all.add_dest(&KEY, spec.clone()), Ok(()));
        assert_eq!(conns(&all), 4);
        assert_eq!(all.remove(Instant::ZERO, &KEY), Ok(()));
        assert_eq!(all.add(service(KEY, Scheduler::Rr)), Ok(()));
        assert_eq!(all.add_dest(&KEY, spec), Ok(()));
        assert_eq!(conns(&all), 0);
    }

    #[test]
    fn only_services_that_remember_addresses_ask_to_be_collected() {
        let mut all = services();
        assert!(!all.collects());
        assert_eq!(all.edit(service(KEY, Scheduler::Lblc)), Ok(()));
        assert_eq!(all.edit(service(KEY, Scheduler::Lblcr)), Ok(()));
        assert!(all.collects());
        all.collect(Instant::ZERO, Expiration::default());
        assert_eq!(all.remove(Instant::ZERO, &KEY), Ok(()));
        assert!(!all.collects());
    }

    #[test]
    fn the_last_weight_that_was_not_0_is_kept() {
        let mut all = services();
        let spec = |weight| DestSpec { weight, ..server(at(7, 80), Method::Masq) };
        let last = |all: &Services| {
            let service = all.iter().next().expect("it is there");
            List { list: &service.dests, dests: &all.dests }.candidate(0).last_weight
        };
        assert_eq!(all.add_dest(&KEY, spec(0)), Ok(()));
        assert_eq!(last(&all), 0);
        assert_eq!(all.edit_dest(&KEY, spec(5)), Ok(()));
        assert_eq!(all.edit_dest(&KEY, spec(0)), Ok(()));
        assert_eq!(last(&all), 5);
    }
}
