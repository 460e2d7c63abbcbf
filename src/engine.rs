//! Fast and slow side together: frames in, frames out, no device, no thread and no clock.
//!
//! The engine keeps the account of frames: every received frame is forwarded, answered, dropped
//! under a name, or waiting for a neighbour or its other fragments.

mod status;

use std::collections::VecDeque;
use std::net::IpAddr;

use crate::config::{Command, Config, PortConfig, Prefix, Refusal, RouteTarget, ServiceKey};
use crate::control::show;
use crate::director::mark::Marks;
use crate::director::Director;
use crate::fast::Fast;
use crate::net::{Link, Router};
use crate::packet::{
    eth, vnet, DropCounters, DropReason, Family, Flow, Headers, LinkId, Packet, Verdict, Why,
};
use crate::slow::{fragment::Came, Conflict, Outcome, Slow};
use crate::world::{Instant, Rng};

/// Connections and templates that are kept at most: a gigabyte of them.
const CONNECTIONS_MAX: usize = 8 << 20;

/// Bytes of an IP packet on a port whose MTU nobody gave.
pub const MTU_DEFAULT: u16 = 1500;

/// Addresses that are announced in one go; their frames wait in a bounded queue.
const ANNOUNCE_BATCH: usize = 128;

/// Times the usual portion of a change that a single service may take.
const WHOLE_SERVICE: usize = 2;

/// Connections whose timers are looked at in one go: a mass expiry holds packets up for a fraction of a
/// millisecond, and more can be forgotten in a turn than are made in one.
const EXPIRE_BUDGET: usize = 256;

/// The whole director. It knows of no thread: whoever has it has all of it.
#[derive(Debug)]
pub struct Engine {
    fast: Fast,
    slow: Slow,
    config: Config,
    rng: Rng,
    /// Whole packets put together from fragments, ready to be sent.
    ready: VecDeque<Packet>,
    received: u64,
    forwarded: u64,
    answered: u64,
    drops: DropCounters,
    /// When all addresses were announced last.
    announced: Option<Instant>,
    /// Addresses that are still to be told, a few at a time.
    to_announce: Vec<IpAddr>,
    /// More connections may be due than were forgotten in one go.
    expiring: bool,
    /// How often the ground state has changed.
    edition: u64,
}

/// What makes one ground state another, found out without the engine that it is for.
#[derive(Debug)]
pub struct Change {
    /// The new state; when it is in force, what is left of the old one.
    config: Config,
    wiring: bool,
    commands: std::vec::IntoIter<Command>,
}

impl Change {
    /// The change from `old` to `new`.
    ///
    /// # Errors
    /// What the new configuration asks for that cannot be.
    pub fn between(old: &Config, new: Config) -> Result<Self, Refusal> {
        let wiring = !old.same_wiring(&new);
        if wiring {
            // A router for trying: it fails where the real one would, and then nothing has changed.
            let links = new.ports.iter().map(|port| Some(link(port))).collect();
            wire(&mut Router::new(Vec::new(), Rng::new(0)), Instant::ZERO, &new, links)?;
        }
        let commands = old.commands_to(&new).into_iter();
        Ok(Self { config: new, wiring, commands })
    }

    /// Whether ports, addresses, routes, neighbours or marks are others.
    pub const fn rewires(&self) -> bool {
        self.wiring
    }

    /// The state that it leads to, as long as it has not begun.
    pub fn into_config(self) -> Config {
        self.config
    }

    /// Forgets some of what is left when it is over, since all of it may take a while; true if there is more.
    pub fn forget(&mut self, services: usize) -> bool {
        (0..services).all(|_| self.config.services.pop_first().is_some())
    }
}

impl Engine {
    /// Makes a director from a configuration in which every TAP port has a MAC. Link `i` is
    /// `config.ports[i]`. `seed` is all the chance there is: the same seed and frames give the same
    /// answers.
    ///
    /// # Errors
    /// What the configuration asks for that cannot be.
    pub fn new(config: &Config, seed: u64) -> Result<Self, Refusal> {
        let rng = Rng::new(seed);
        let mut engine = Self {
            fast: Fast::new(
                Router::new(Vec::new(), rng.fork(1)),
                Director::new(CONNECTIONS_MAX, rng.fork(2)),
                rng.fork(3),
            ),
            slow: Slow::new(rng.fork(4)),
            config: Config::default(),
            rng: rng.fork(5),
            ready: VecDeque::new(),
            received: 0,
            forwarded: 0,
            answered: 0,
            drops: DropCounters::default(),
            announced: None,
            to_announce: Vec::new(),
            expiring: false,
            edition: 0,
        };
        engine.reload(Instant::ZERO, config.clone())?;
        Ok(engine)
    }

    /// What the operator has said up to now.
    pub const fn config(&self) -> &Config {
        &self.config
    }

    /// A number that differs whenever [`config`](Self::config) may.
    pub const fn edition(&self) -> u64 {
        self.edition
    }

    /// The link of a port.
    pub fn link_named(&self, name: &str) -> Option<LinkId> {
        self.fast.router.link_named(name)
    }

    /// Does one command about services, sysctls or timeouts to what runs, or nothing. Ports,
    /// addresses and routes change by [`reload`](Self::reload).
    ///
    /// # Errors
    /// Why it cannot be done.
    pub fn apply(&mut self, now: Instant, command: &Command) -> Result<(), Refusal> {
        if is_wiring(command) {
            let why =
                "ports, addresses, routes, neighbours and marks change by a reload".to_owned();
            return Err(Refusal::Host(why));
        }
        if *command == Command::Clear {
            if let Some(last) = self.last_service() {
                while self.clear(now, &last, usize::MAX) {}
            }
            return Ok(());
        }
        self.config.apply(command)?;
        self.edition += 1;
        self.carry_out(now, command);
        self.fast.director.sweep(now);
        Ok(())
    }

    /// The service that comes last, if there is any.
    pub fn last_service(&self) -> Option<ServiceKey> {
        self.config.services.last_key_value().map(|(key, _)| *key)
    }

    /// `-C` a few services at a time, for whoever cannot let packets wait: removes so many of those up to
    /// `last`; true if there are more.
    pub fn clear(&mut self, now: Instant, last: &ServiceKey, count: usize) -> bool {
        self.edition += 1;
        for _ in 0..count {
            let first = self.config.services.first_entry().filter(|first| first.key() <= last);
            let Some(first) = first else {
                self.fast.director.sweep(now);
                return false;
            };
            let (key, _) = first.remove_entry();
            self.carry_out(now, &Command::DeleteService(key));
        }
        true
    }

    /// Does to the director what the ground state has already agreed to.
    fn carry_out(&mut self, now: Instant, command: &Command) {
        let director = &mut self.fast.director;
        let done = match command {
            Command::AddService(spec) => director.add_service(spec.clone()),
            Command::EditService(spec) => director.edit_service(spec.clone()),
            Command::DeleteService(key) => director.remove_service(now, key),
            Command::AddDest(key, dest) => director.add_dest(key, dest.clone()),
            Command::EditDest(key, dest) => director.edit_dest(key, dest.clone()),
            Command::DeleteDest(key, dest) => director.remove_dest(now, key, *dest),
            Command::SetTimeouts { tcp_s, tcp_fin_s, udp_s } => {
                director.set_timeouts(*tcp_s, *tcp_fin_s, *udp_s);
                Ok(())
            }
            Command::SetFtpPorts(ports) => {
                director.set_ftp_ports(ports);
                Ok(())
            }
            Command::SetKnob { .. } => {
                director.knobs = self.config.knobs.clone();
                self.slow.set_knobs(&self.config.knobs);
                Ok(())
            }
            Command::AddPort { .. }
            | Command::SetLink { .. }
            | Command::AddAddress { .. }
            | Command::SetAddress { .. }
            | Command::RemoveAddress { .. }
            | Command::RemoveRoute { .. }
            | Command::AddRoute { .. }
            | Command::AddNeighbour { .. }
            | Command::AddMarkRule { .. }
            | Command::ClearMarkRules(_)
            | Command::Clear
            | Command::StartDaemon(_)
            | Command::StopDaemon(_) => Ok(()),
        };
        done.expect("the ground state has agreed, and it and the director agree");
        match command {
            Command::AddService(spec) => self.take_virtual(now, &spec.key),
            Command::DeleteService(key) => self.leave_virtual(key),
            _ => {}
        }
    }

    /// `-Z`: the counters of one service and its servers, or all of them, begin anew.
    ///
    /// # Errors
    /// [`Refusal::NoSuchService`].
    pub fn zero(&mut self, key: Option<&ServiceKey>) -> Result<(), Refusal> {
        self.fast.director.zero(key)
    }

    /// A service's address is ours from now on, and its networks are told.
    fn take_virtual(&mut self, now: Instant, key: &ServiceKey) {
        let ServiceKey::Address { virt, .. } = key else { return };
        let was_ours = self.fast.router.is_local(virt.addr);
        self.fast.router.add_virtual(virt.addr);
        if !was_ours && self.announced.is_some() {
            self.slow.announce_address(now, &mut self.fast.router, virt.addr);
        }
    }

    fn leave_virtual(&mut self, key: &ServiceKey) {
        if let ServiceKey::Address { virt, .. } = key {
            self.fast.router.remove_virtual(virt.addr);
        }
    }

    /// Makes what runs what `new` says, or changes nothing. What stays keeps its connections,
    /// counters, place in the round, and neighbours. A port that stays keeps its link; a new one
    /// takes the first free link, see [`link_named`](Self::link_named).
    ///
    /// # Errors
    /// What the configuration asks for that cannot be.
    pub fn reload(&mut self, now: Instant, new: Config) -> Result<(), Refusal> {
        let mut change = Change::between(&self.config, new)?;
        self.begin(now, &mut change)?;
        while self.proceed(now, &mut change, usize::MAX) {}
        Ok(())
    }

    /// Begins a change from the present state: ports, routes, neighbours and marks are the new ones from now
    /// on, and services as far as one [proceeds](Self::proceed). The change must be one from the state of this
    /// [edition](Self::edition), and until it is over no other command or change may come. For whoever cannot
    /// let packets wait as long as [`reload`](Self::reload) takes.
    ///
    /// # Errors
    /// What the configuration asks for that cannot be; nothing has changed.
    pub fn begin(&mut self, now: Instant, change: &mut Change) -> Result<(), Refusal> {
        if change.wiring {
            let new = &change.config;
            let links = self.links_of(new);
            wire(&mut self.fast.router, now, new, links)?;
            let ports: Vec<_> = self.fast.router.links().collect();
            let ports: Vec<_> = ports.iter().map(|(id, link)| (*id, link.name.as_str())).collect();
            self.fast.marks = Marks::new(&new.marks, &ports, self.rng.fork(0));
        }
        std::mem::swap(&mut self.config, &mut change.config);
        self.edition += 1;
        Ok(())
    }

    /// Goes on with a change that has begun, for about `budget` commands; a service is changed whole unless
    /// it has many times as many servers. True if there is more to do.
    pub fn proceed(&mut self, now: Instant, change: &mut Change, budget: usize) -> bool {
        let mut done = 0;
        while let Some(next) = change.commands.as_slice().first() {
            let whole = !is_about_a_server(next);
            if done >= budget && (whole || done >= budget.saturating_mul(WHOLE_SERVICE)) {
                return true;
            }
            done += 1;
            let Some(command) = change.commands.next() else { break };
            self.carry_out(now, &command);
        }
        self.fast.director.sweep(now);
        false
    }

    /// The ports of `new` by link: those that stay keep theirs.
    fn links_of(&self, new: &Config) -> Vec<Option<Link>> {
        let mut links: Vec<Option<Link>> = Vec::new();
        let kept = |port: &PortConfig| {
            let tap = port.kind.has_ethernet();
            let known = self.link_named(&port.name)?;
            self.fast.router.link(known).is_some_and(|link| link.tap == tap).then_some(known)
        };
        let (stay, come): (Vec<_>, Vec<_>) =
            new.ports.iter().partition(|port| kept(port).is_some());
        for port in stay {
            let at = kept(port).map_or(0, |link| usize::from(link.0));
            links.resize_with(links.len().max(at + 1), || None);
            links[at] = Some(link(port));
        }
        for port in come {
            let free = links.iter().position(Option::is_none).unwrap_or(links.len());
            links.resize_with(links.len().max(free + 1), || None);
            links[free] = Some(link(port));
        }
        links
    }

    /// Handles one frame received on `packet.link`; `Some(link)`: send the packet's bytes there.
    pub fn handle(&mut self, now: Instant, packet: &mut Packet) -> Option<LinkId> {
        self.received = self.received.wrapping_add(1);
        match self.fast.handle(now, packet) {
            Verdict::Transmit(link) => {
                self.forwarded = self.forwarded.wrapping_add(1);
                return Some(link);
            }
            Verdict::Drop(reason) => self.drops.add(reason),
            Verdict::Punt(why) => {
                let mut copy = packet.kept();
                // What waits may still leave whole; whoever looks inside wants the sums right.
                if !matches!(why, Why::Resolve { .. } | Why::TooLong { .. }) {
                    vnet::complete(&mut copy);
                }
                let outcome = self.slow.handle(now, &mut self.fast.router, copy, why);
                self.conclude(now, outcome);
                self.send_errors(now);
            }
        }
        None
    }

    /// Prepares for frames that will be handled next, as far as that pays: their connections are
    /// fetched together. It may be left out.
    pub fn prefetch<'a>(&self, link: LinkId, frames: impl Iterator<Item = &'a [u8]>) {
        let tap = self.fast.router.link(link).is_some_and(|link| link.tap);
        let front = if tap { eth::HEADER } else { 0 };
        // What is for us comes from a client, and what travels through us may go to one.
        let client = |flow: Flow| {
            let ours = self.fast.router.is_local(flow.dst.addr);
            (flow.proto, if ours { flow.src } else { flow.dst })
        };
        let flows = frames.filter_map(|frame| Flow::glance(frame.get(front..)?));
        self.fast.director.prefetch(flows.map(client));
    }

    /// Books what the slow side says of a packet.
    fn conclude(&mut self, now: Instant, outcome: Outcome) {
        match outcome {
            Outcome::Answered => self.answered = self.answered.wrapping_add(1),
            Outcome::Forwarded => self.forwarded = self.forwarded.wrapping_add(1),
            Outcome::Waits => {}
            Outcome::Dropped(reason) => self.drops.add(reason),
            Outcome::Reassembled(whole, came) => self.resume(now, whole, &came),
        }
    }

    /// Goes on with a packet that was put together from fragments.
    fn resume(&mut self, now: Instant, mut whole: Packet, came: &Came) {
        match self.fast.handle_whole(now, &mut whole, came.largest) {
            Verdict::Transmit(link) => {
                self.forwarded = self.forwarded.wrapping_add(1);
                whole.link = link;
                self.ready.push_back(whole);
            }
            Verdict::Drop(reason) => self.drops.add(reason),
            Verdict::Punt(why) => {
                match self.slow.handle_whole(now, &mut self.fast.router, whole, why, came) {
                    // It is whole, so it cannot be put together once more.
                    Outcome::Reassembled(..) => self.drops.add(DropReason::FragmentMalformed),
                    outcome => self.conclude(now, outcome),
                }
            }
        }
    }

    /// Sends the ICMP errors and resets that were made; the director sees them as any packet that leaves.
    fn send_errors(&mut self, now: Instant) {
        while let Some(mut error) = self.slow.take_error() {
            let Ok(headers) = Headers::of(error.bytes()) else { continue };
            // Without a way it is lost before the director could count it.
            let has_way = self.fast.router.route_from(error.link, headers.dst).is_some();
            if !has_way || self.fast.director.reply(now, &mut error, &headers).is_ok() {
                self.slow.send(now, &mut self.fast.router, error);
            }
        }
    }

    /// The next frame that we send on our own account, on its `link`; call until `None` after
    /// every batch of [`handle`](Self::handle), after [`poll`](Self::poll) and
    /// [`announce`](Self::announce).
    pub fn take(&mut self) -> Option<Packet> {
        let next = self.ready.pop_front().or_else(|| self.slow.take());
        if next.is_some() || self.to_announce.is_empty() {
            return next;
        }
        let now = self.announced.unwrap_or_default();
        for _ in 0..ANNOUNCE_BATCH {
            let Some(addr) = self.to_announce.pop() else { break };
            self.slow.announce_address(now, &mut self.fast.router, addr);
        }
        self.slow.take()
    }

    /// Tells every network of our addresses (gratuitous ARP, unsolicited neighbour advertisement).
    /// From then on the address of a new service is told as it comes.
    pub fn announce(&mut self, now: Instant) {
        self.announced = Some(now);
        self.to_announce = self.fast.router.addresses();
    }

    /// Does what is due: neighbour timers, samples of counters, expiry of connections.
    pub fn poll(&mut self, now: Instant) {
        self.slow.poll(now, &mut self.fast.router);
        self.send_errors(now);
        self.fast.director.sample(now);
        self.expiring = self.fast.director.expire(now, EXPIRE_BUDGET);
    }

    /// When [`poll`](Self::poll) is due next; it may lie in the past.
    pub fn deadline(&self) -> Option<Instant> {
        if self.expiring {
            return Some(Instant::ZERO);
        }
        let deadlines = [self.slow.deadline(&self.fast.router), self.fast.director.deadline()];
        deadlines.into_iter().flatten().min()
    }

    /// A port did not take a frame that was to be sent, or not all of it; `own` is the
    /// [packet's](Packet::own). To be told once a frame, however many pieces it was to leave in.
    pub fn refused(&mut self, own: bool) {
        let later = &mut self.slow.counters;
        if own {
            later.own_sent = later.own_sent.wrapping_sub(1);
            later.own_lost = later.own_lost.wrapping_add(1);
            return;
        }
        self.drops.add(DropReason::PortRefused);
        // It was counted as forwarded, at once or after it had waited; the account adds the two.
        self.forwarded = self.forwarded.wrapping_sub(1);
    }

    /// Who claimed our addresses since the last call.
    pub fn take_conflicts(&mut self) -> Vec<Conflict> {
        self.slow.take_conflicts()
    }

    /// Whether a defence depends on [`set_memory`](Self::set_memory), about once a second.
    pub const fn minds_memory(&self) -> bool {
        self.fast.director.minds_memory()
    }

    /// How many pages of memory are free or in buffers; until it is told, there are enough.
    pub const fn set_memory(&mut self, pages: u64) {
        self.fast.director.set_memory(pages);
    }

    /// What time of day (UTC) it was at [`Instant::ZERO`], for who asks for it; midnight if not said.
    pub const fn set_time_of_day(&mut self, day: std::time::Duration) {
        self.fast.router.set_time_of_day(day);
    }

    /// The load balancer, for looking at.
    pub const fn director(&self) -> &Director {
        &self.fast.director
    }

    /// What `ipvsadm -Ln` prints.
    pub fn listing(&self) -> String {
        show::list(&self.fast.director)
    }
}

/// Whether a command changes a service that the one before it was about.
const fn is_about_a_server(command: &Command) -> bool {
    matches!(command, Command::AddDest(..) | Command::EditDest(..) | Command::DeleteDest(..))
}

/// Whether a command is about ports, addresses, routes, neighbours or marks.
const fn is_wiring(command: &Command) -> bool {
    matches!(
        command,
        Command::AddPort { .. }
            | Command::SetLink { .. }
            | Command::AddAddress { .. }
            | Command::SetAddress { .. }
            | Command::RemoveAddress { .. }
            | Command::RemoveRoute { .. }
            | Command::AddRoute { .. }
            | Command::AddNeighbour { .. }
            | Command::AddMarkRule { .. }
            | Command::ClearMarkRules(_)
    )
}

/// Gives a router its ports, routes, local networks and told neighbours.
fn wire(
    router: &mut Router,
    now: Instant,
    config: &Config,
    links: Vec<Option<Link>>,
) -> Result<(), Refusal> {
    router.rewire(links);
    // Gateways may be neighbours by a route to a port.
    let on_wire = |(_, to): &&(Prefix, RouteTarget)| matches!(to, RouteTarget::Dev(_));
    let gateways = config.routes.iter().filter(|route| !on_wire(route));
    for (prefix, target) in config.routes.iter().filter(on_wire).chain(gateways) {
        add_route(router, *prefix, target)?;
    }
    for (addr, mac, dev) in &config.neighbours {
        let link = link_named(router, dev)?;
        router.add_neighbour(now, link, *addr, *mac);
    }
    Ok(())
}

fn link(port: &PortConfig) -> Link {
    Link {
        name: port.name.clone(),
        tap: port.kind.has_ethernet(),
        mac: port.settings.mac.unwrap_or_default(),
        mtu: port.settings.mtu.unwrap_or(MTU_DEFAULT),
        addresses: port.addresses.iter().map(|own| (own.addr, own.len)).collect(),
    }
}

fn add_route(router: &mut Router, prefix: Prefix, target: &RouteTarget) -> Result<(), Refusal> {
    let Prefix { addr, len } = prefix.network();
    let added = match target {
        RouteTarget::Local => {
            router.add_local_network(addr, len);
            Ok(())
        }
        RouteTarget::LocalIn(table) => {
            router.add_marked_network(addr, len, *table);
            Ok(())
        }
        RouteTarget::Rule { mark, mask, table } => {
            router.add_mark_rule(Family::of(addr), *mark, *mask, *table);
            Ok(())
        }
        RouteTarget::Dev(dev) => {
            let link = link_named(router, dev)?;
            router.add_route(addr, len, Some(link), None)
        }
        RouteTarget::Via { gateway, dev } => {
            let link = dev.as_deref().map(|dev| link_named(router, dev)).transpose()?;
            router.add_route(addr, len, link, Some(*gateway))
        }
    };
    added.map_err(|why| Refusal::Host(format!("route to {prefix}: {why}")))
}

fn link_named(router: &Router, name: &str) -> Result<LinkId, Refusal> {
    router.link_named(name).ok_or_else(|| Refusal::Host(format!("there is no port {name}")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::rules::load;
    use crate::packet::{ip::Fresh, proto};

    const WIRE: &str = "ip tuntap add dev t mode tun\nip addr add 10.0.0.1/24 dev t\n\
        sysctl -w net.ipv4.vs.expire_nodest_conn=1\n";

    /// Rules of services for DNS at these addresses, with two servers each.
    fn config(services: &[u8]) -> Config {
        let service = |&last: &u8| {
            let virt = format!("10.0.0.{last}:53");
            format!(
                "-A -u {virt} -s rr\n-a -u {virt} -r 10.0.0.8:53 -g\n-a -u {virt} -r 10.0.0.9:53 -g\n"
            )
        };
        let text: String = services.iter().map(service).collect();
        load("r", &format!("{WIRE}{text}")).expect("good rules")
    }

    /// An engine in which four clients of each of the services have a connection.
    fn busy(services: &[u8]) -> Engine {
        let mut engine = Engine::new(&config(services), 1).expect("possible rules");
        for (&last, client) in services.iter().flat_map(|last| (100..104).map(move |c| (last, c))) {
            let mut packet = Packet::copy_of(LinkId(0), &[16, 0, 0, 53, 0, 8, 0, 0]);
            let (src, dst) = ([10, 0, 0, client].into(), [10, 0, 0, last].into());
            let (ttl, tos, dont_fragment, id) = (64, 0, true, 0);
            Fresh { src, dst, proto: proto::UDP, ttl, tos, dont_fragment, id }
                .push(&mut packet)
                .expect("there is room");
            assert!(engine.handle(Instant::ZERO, &mut packet).is_some());
        }
        engine
    }

    #[test]
    fn the_connections_of_all_that_is_removed_at_once_end_with_it() {
        let left = |engine: &Engine| engine.director().table().len();
        let now = Instant::ZERO;
        let one = *config(&[20]).services.keys().next().expect("there is one");
        let mut engine = busy(&[20, 21, 22]);
        assert_eq!(left(&engine), 12);
        assert_eq!(engine.apply(now, &Command::DeleteService(one)), Ok(()));
        assert_eq!(left(&engine), 8);
        assert_eq!(engine.apply(now, &Command::Clear), Ok(()));
        assert_eq!(left(&engine), 0);
        let mut engine = busy(&[20, 21, 22]);
        assert_eq!(engine.reload(now, config(&[21])), Ok(()));
        assert_eq!(left(&engine), 4);
    }

    #[test]
    fn a_change_in_portions_is_the_same_change_and_no_service_is_halfway() {
        let (old, new): (Vec<u8>, Vec<u8>) = ((20..60).collect(), (50..90).collect());
        let now = Instant::ZERO;
        let (mut at_once, mut engine) = (busy(&old), busy(&old));
        assert_eq!(at_once.reload(now, config(&new)), Ok(()));
        let edition = engine.edition();
        let mut change = Change::between(engine.config(), config(&new)).expect("possible");
        assert!(!change.rewires());
        assert_eq!(engine.begin(now, &mut change), Ok(()));
        assert!(engine.edition() > edition && *engine.config() == config(&new));
        let mut portions = 0;
        while engine.proceed(now, &mut change, 4) {
            portions += 1;
            assert!(engine.director().services().iter().all(|service| service.dests.len() == 2));
        }
        assert!(portions > 10, "{portions}");
        assert_eq!(engine.listing(), at_once.listing());
        assert_eq!(engine.director().table().len(), at_once.director().table().len());
        assert!(change.forget(30) && !change.forget(30));
    }

    #[test]
    fn a_reload_that_cannot_be_changes_nothing() {
        let mut engine = busy(&[20]);
        let (config, before) = (engine.config().clone(), engine.listing());
        let mut wrong = self::config(&[21]);
        let beyond = Prefix { addr: [10, 9, 0, 0].into(), len: 16 };
        wrong.routes.push((beyond, RouteTarget::Dev("nobody".to_owned())));
        assert!(matches!(engine.reload(Instant::ZERO, wrong), Err(Refusal::Host(_))));
        assert!(*engine.config() == config && engine.listing() == before);
        assert_eq!(engine.director().table().len(), 4);
    }
}
