//! The load balancer itself: touch → admit → rewrite.
//!
//! [`Director::request`] looks at what was sent to us and says where it goes; [`Director::reply`]
//! looks at what travels through us and translates the answers of real servers. The director names a
//! next address; it does not route.
//!
//! Kept from the kernel: the order of decisions of `ip_vs_in` and `ip_vs_out`; that counters and
//! states move before a packet is sent on, also when it is dropped later; that without a service of
//! its family a packet is not looked at, even if its connection is still known.

mod admit;
mod defence;
pub mod forward;
mod ftp;
mod helper;
pub mod mark;
mod related;
pub mod service;
mod slots;
pub mod stats;

use std::net::IpAddr;
use std::time::Duration;

pub use forward::Binding;
pub use service::{Dest, Service, Services};

use crate::config::{DestSpec, Refusal, ServiceKey, ServiceSpec};
use crate::conn::state::{self, SctpState, TcpState, Timeouts};
use crate::conn::{Conn, ConnId, Direction, Flags, Forward, State, Table};
use crate::packet::l4::Event;
use crate::packet::{icmp, proto, tunnel, DropReason, Endpoint, Family, Flow, Headers, Packet};
use crate::sched::Expiration;
use crate::world::{Instant, Knobs, Rng};
use defence::Defence;
use helper::Helper;
use stats::Stats;

/// How often removed destinations are looked through.
const TRASH_EVERY: Duration = Duration::from_secs(60);
/// How often schedulers forget what nobody has asked for.
const COLLECT_EVERY: Duration = Duration::from_secs(60);

/// What is to be done with a packet that was sent to us.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    /// It is no service's; go on as if there were no director.
    Pass,
    /// It goes to a real server.
    Carry(Binding),
    /// It quotes a tunnel's packet of ours, and is done with: the sender of the packet inside, which
    /// begins at byte `at`, is to be told.
    Relay {
        /// Where the quoted inner packet begins.
        at: u16,
        /// What its sender is told.
        told: Told,
    },
    /// It is gone, and the path to `server` carries no more than `told` bytes.
    Learnt {
        /// The server.
        server: IpAddr,
        /// What its path carries.
        told: u32,
    },
    /// Nobody serves it, and it may go on to where it was sent, unless that is here: see
    /// [`Director::bypass`].
    Bypass,
    /// Its sender is told that it cannot be, and it is gone.
    Refuse(icmp::Error, DropReason),
    /// It is gone.
    Drop(DropReason),
}

/// What is known of a packet from a client.
enum Known {
    /// No connection is.
    Nothing,
    /// This is its connection.
    Is(ConnId),
    /// It would belong to this connection, in whose place it opens another.
    Replaced(ConnId),
    /// The server of its connection was removed.
    Gone,
}

/// What a client is told that a router has said about the tunnel to its server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Told {
    /// This.
    Error(icmp::Error),
    /// That packets are too long for the path to `server`.
    TooBig {
        /// The server.
        server: IpAddr,
        /// What a router says that its path carries.
        told: u32,
        /// In what kind of tunnel.
        kind: tunnel::Kind,
    },
}

/// Services, connections and what was counted.
#[derive(Debug)]
pub struct Director {
    services: Services,
    table: Table,
    timeouts: Timeouts,
    /// The operator's knobs; the packet path reads them.
    pub knobs: Knobs,
    total: Stats,
    defence: Defence,
    helper: Helper,
    trash_due: Instant,
    /// Destinations were removed, and their connections not yet [looked for](Self::sweep).
    removed: bool,
    /// An old connection in whose place the last packet has opened another, or could not.
    parting: Option<ConnId>,
    sampling: stats::Sampling,
    collect_due: Instant,
}

impl Director {
    /// A director without services, for at most `limit` connections and templates.
    pub fn new(limit: usize, mut rng: Rng) -> Self {
        Self {
            services: Services::new(&mut rng),
            table: Table::new(limit, &mut rng),
            timeouts: Timeouts::default(),
            knobs: Knobs::default(),
            total: Stats::default(),
            defence: Defence::new(rng.fork(1)),
            helper: Helper::new(&mut rng.fork(2)),
            trash_due: Instant::ZERO,
            removed: false,
            parting: None,
            sampling: stats::Sampling::new(),
            collect_due: Instant::ZERO.after(COLLECT_EVERY),
        }
    }

    /// Decides about a packet that was sent to an address of ours.
    pub fn request(&mut self, now: Instant, packet: &Packet, headers: &Headers) -> Decision {
        self.part(now);
        if !self.services.has_family(headers.family) {
            return Decision::Pass;
        }
        if let Some(decision) = self.about_tunnel(packet.bytes(), headers) {
            return decision;
        }
        if let Some(quote) = related::quote(packet.bytes(), headers) {
            if let Some(decision) = self.misdirected(packet, headers, &quote) {
                return decision;
            }
            return self.related_request(now, packet, headers, &quote);
        }
        if self.knobs.schedule_icmp && related::quotes_too_little(packet.bytes(), headers) {
            return Decision::Drop(DropReason::TransportShort);
        }
        if !is_known(headers.proto) {
            return Decision::Pass;
        }
        let Some(flow) = flow_of(headers, packet.bytes()) else {
            return Decision::Drop(DropReason::TransportShort);
        };
        let event = Event::of(headers, packet.bytes());
        let id = match self.known(&flow, event) {
            Known::Is(id) => Ok(id),
            Known::Gone => Err(Decision::Drop(DropReason::DestinationGone)),
            Known::Nothing => self.admit(now, packet, headers, &flow, event),
            Known::Replaced(old) => {
                self.expire_old(now, old);
                self.admit(now, packet, headers, &flow, event)
            }
        };
        let id = match id {
            Ok(id) => id,
            Err(decision) => return decision,
        };
        self.count_in(id, headers.len);
        self.touch(now, id, Direction::Input, event);
        let binding = self.binding(id);
        if self.table.get(id).flags.has(Flags::ONE_PACKET) {
            self.end(now, id);
        }
        Decision::Carry(binding)
    }

    /// Packets from or to these clients will come next; see [`Table::prefetch`].
    pub fn prefetch(&self, clients: impl Iterator<Item = (u8, Endpoint)>) {
        self.table.prefetch(clients);
    }

    fn binding(&self, id: ConnId) -> Binding {
        let conn = self.table.get(id);
        let helped = conn.flags.has(Flags::HELPED).then_some(id);
        Binding { helped, ..Binding::of(conn, self.services.dest(conn.dest_id).spec.tunnel) }
    }

    /// Whether a fragment that travels through us is to be put together first, because it may be a
    /// server's answer.
    pub fn wants_whole(&self, headers: &Headers) -> bool {
        let known = matches!(headers.proto, proto::TCP | proto::UDP | proto::SCTP | proto::ICMP);
        (known || headers.family == Family::V6) && self.services.has_family(headers.family)
    }

    /// Looks at a packet that travels through us, and translates it if it is a server's answer (or
    /// an ICMP error about one). TTL and MTU have been seen to.
    ///
    /// # Errors
    /// [`Decision::Refuse`] or [`Decision::Drop`] if it ends here.
    pub fn reply(
        &mut self,
        now: Instant,
        packet: &mut Packet,
        headers: &Headers,
    ) -> Result<(), Decision> {
        if !self.services.has_family(headers.family) {
            return Ok(());
        }
        if let Some(quote) = related::quote(packet.bytes(), headers) {
            return self.related_reply(packet, headers, &quote).map_err(Decision::Drop);
        }
        let Some(flow) = flow_of(headers, packet.bytes()) else { return Ok(()) };
        let event = Event::of(headers, packet.bytes());
        let known = self.table.find_reply(&flow);
        let Some(id) = known.or_else(|| self.admit_reply(now, packet, headers, &flow)) else {
            return self.stray_reply(headers, &flow, event);
        };
        let len = match self.table.get(id).flags.has(Flags::HELPED) {
            true => self.help_reply(now, id, packet, headers).map_err(Decision::Drop)?,
            false => headers.len,
        };
        let conn = self.table.get(id);
        if conn.forward == Forward::Masq {
            forward::translate_reply(packet, headers, conn.virt).map_err(Decision::Drop)?;
        }
        self.count_out(id, len);
        self.touch(now, id, Direction::Output, event);
        if self.table.get(id).flags.has(Flags::ONE_PACKET) {
            self.end(now, id);
        }
        Ok(())
    }

    /// `nat_icmp_send`: a real server that speaks without a connection is told so.
    fn stray_reply(
        &self,
        headers: &Headers,
        flow: &Flow,
        event: Option<Event>,
    ) -> Result<(), Decision> {
        let resets = event.is_some_and(Event::resets);
        let speaks = self.knobs.nat_icmp_send && headers.proto == flow.proto && !resets;
        if !speaks || self.services.masq_server(flow).is_none() {
            return Ok(());
        }
        Err(Decision::Refuse(icmp::Error::PortUnreachable, DropReason::NoConnection))
    }

    /// What is known of a client's packet.
    fn known(&mut self, flow: &Flow, event: Option<Event>) -> Known {
        let found = self.table.find_request(flow).or_else(|| self.expected(flow));
        let Some(id) = found else { return Known::Nothing };
        let conn = self.table.get(id);
        let dest = self.services.dest(conn.dest_id);
        let opens = event.is_some_and(Event::opens);
        if opens && self.is_reusable(conn, dest) {
            return Known::Replaced(id);
        }
        match (dest.available, self.knobs.expire_nodest_conn) {
            (true, _) => Known::Is(id),
            (false, true) => Known::Replaced(id),
            (false, false) => Known::Gone,
        }
    }

    /// Whether a SYN on an old connection opens a new one (`conn_reuse_mode`).
    fn is_reusable(&self, conn: &Conn, dest: &Dest) -> bool {
        if self.knobs.expire_nodest_conn && dest.spec.weight == 0 {
            return true;
        }
        if self.knobs.conn_reuse_mode == 0 || conn.is_controlled() {
            return false;
        }
        match conn.state {
            State::Tcp(TcpState::TimeWait | TcpState::Close) | State::Sctp(SctpState::Closed) => {
                true
            }
            State::Tcp(TcpState::FinWait) => {
                self.knobs.conn_reuse_mode & 2 != 0 && conn.flags.has(Flags::NO_OUTPUT)
            }
            State::Tcp(_) | State::Sctp(_) | State::Udp | State::None | State::Assured => false,
        }
    }

    /// Has an old connection end once this packet is done with, unless it controls others. As long as
    /// that its server still bears it, and what we say ourselves to the client counts for it.
    fn expire_old(&mut self, now: Instant, id: ConnId) {
        if self.table.get(id).controls() == 0 {
            self.table.get_mut(id).deadline = now;
            self.parting = Some(id);
        }
    }

    /// Ends what [`expire_old`](Self::expire_old) was told of, unless something came for it since.
    fn part(&mut self, now: Instant) {
        let Some(id) = self.parting.take() else { return };
        let conn = self.table.get(id);
        if conn.deadline <= now && conn.controls() == 0 {
            self.end(now, id);
        }
    }

    /// Steps the state machine, moves the connection between active and inactive, restarts its
    /// timer. A header that is cut short (`None`) is no event.
    fn touch(&mut self, now: Instant, id: ConnId, from: Direction, event: Option<Event>) {
        let secure = self.defence.secures_tcp(&self.knobs);
        let Some(event) = event else { return self.table.restart(now, id) };
        let conn = self.table.get_mut(id);
        let mut direction = from;
        if conn.flags.has(Flags::NO_OUTPUT) {
            match from {
                Direction::Output => conn.flags.clear(Flags::NO_OUTPUT),
                Direction::Input | Direction::InputOnly => direction = Direction::InputOnly,
            }
        }
        let next = state::next(conn.state, direction, event, secure);
        let assures = match next {
            State::Tcp(TcpState::Established) | State::Sctp(SctpState::Established) => {
                conn.state != next
            }
            State::Udp => from == Direction::Output,
            State::Tcp(_) | State::Sctp(_) | State::None | State::Assured => false,
        };
        let dest = self.services.dest_mut(conn.dest_id);
        if assures {
            dest.tries.count = 0;
        }
        match (next.is_active(), conn.flags.has(Flags::INACTIVE)) {
            (true, true) => {
                conn.flags.clear(Flags::INACTIVE);
                dest.inactive = dest.inactive.saturating_sub(1);
                dest.active = dest.active.saturating_add(1);
            }
            (false, false) => {
                conn.flags.set(Flags::INACTIVE);
                dest.active = dest.active.saturating_sub(1);
                dest.inactive = dest.inactive.saturating_add(1);
            }
            (true, false) | (false, true) => {}
        }
        conn.state = next;
        conn.timeout_s = self.timeouts.of(next);
        self.table.restart(now, id);
        if assures {
            let controller = self.table.controller(id).map(|id| self.table.get_mut(id));
            if let Some(template) = controller.filter(|conn| conn.flags.has(Flags::TEMPLATE)) {
                template.state = State::Assured;
            }
        }
    }

    fn count_in(&mut self, id: ConnId, bytes: u16) {
        let conn = self.table.get_mut(id);
        conn.in_packets = conn.in_packets.wrapping_add(1);
        let dest = conn.dest_id;
        self.count(dest, |stats| stats.count_in(bytes));
    }

    fn count_out(&mut self, id: ConnId, bytes: u16) {
        let dest = self.table.get(id).dest_id;
        self.count(dest, |stats| stats.count_out(bytes));
    }

    /// Counts for a destination, its service and the whole; nothing for one that was removed.
    fn count(&mut self, dest: service::DestId, count: impl Fn(&mut Stats)) {
        let dest = self.services.dest_mut(dest);
        let Some(service) = dest.service() else { return };
        count(&mut dest.stats);
        count(&mut self.services.service_mut(service).stats);
        count(&mut self.total);
    }

    /// Binds a connection that is about to be made to its destination.
    fn bind(&mut self, conn: &Conn) {
        if conn.flags.has(Flags::HELPED) {
            self.helper.begin(conn);
        }
        let dest = self.services.dest_mut(conn.dest_id);
        if conn.flags.has(Flags::TEMPLATE) {
            dest.persistent = dest.persistent.saturating_add(1);
        } else {
            dest.inactive = dest.inactive.saturating_add(1);
            dest.check_upper();
        }
    }

    fn unbind(&mut self, now: Instant, conn: &Conn) {
        if conn.flags.has(Flags::HELPED) {
            self.unhelp(conn);
        }
        let dest = self.services.dest_mut(conn.dest_id);
        let count = match (conn.flags.has(Flags::TEMPLATE), conn.flags.has(Flags::INACTIVE)) {
            (true, _) => &mut dest.persistent,
            (false, true) => &mut dest.inactive,
            (false, false) => &mut dest.active,
        };
        *count = count.saturating_sub(1);
        dest.check_lower();
        self.services.idle(now, conn.dest_id);
    }

    /// `expire_nodest_conn`: connections of destinations that were removed end at once, and so do
    /// their templates, also where a connection was established once.
    /// The whole table is looked through, so this is asked for once after all that was removed together.
    pub fn sweep(&mut self, now: Instant) {
        self.part(now);
        if !std::mem::take(&mut self.removed) || !self.knobs.expire_nodest_conn {
            return;
        }
        // Data connections first, then what controls them.
        for templates in [false, false, true] {
            let services = &self.services;
            let gone = |conn: &Conn| {
                !services.dest(conn.dest_id).available
                    && conn.controls() == 0
                    && conn.flags.has(Flags::TEMPLATE) == templates
            };
            let ids: Vec<ConnId> = self.table.ids_of(gone).collect();
            ids.into_iter().for_each(|id| self.end(now, id));
        }
    }

    /// Takes a connection out of the table.
    fn end(&mut self, now: Instant, id: ConnId) {
        let conn = self.table.remove(id);
        self.unbind(now, &conn);
    }

    /// Looks at `budget` connections at most and forgets those whose time is up; true if more may be due.
    pub fn expire(&mut self, now: Instant, budget: usize) -> bool {
        self.part(now);
        self.defend(now);
        if now >= self.trash_due && self.services.has_trash() {
            self.services.empty_trash(now);
            self.trash_due = now.after(TRASH_EVERY);
        }
        if now >= self.collect_due && self.services.collects() {
            self.services.collect(now, self.expiration());
            self.collect_due = now.after(COLLECT_EVERY);
        }
        let mut left = budget;
        while let Some(conn) = self.table.expire(now, &mut left) {
            self.unbind(now, &conn);
        }
        left == 0
    }

    /// For how long lblc and lblcr remember.
    fn expiration(&self) -> Expiration {
        let seconds = |count: u32| Duration::from_secs(count.into());
        Expiration {
            lblc: seconds(self.knobs.lblc_expiration_s),
            lblcr: seconds(self.knobs.lblcr_expiration_s),
        }
    }

    /// When [`expire`](Self::expire) or [`sample`](Self::sample) may have something to do.
    pub fn deadline(&self) -> Option<Instant> {
        if self.parting.is_some() {
            return Some(Instant::ZERO);
        }
        let trash = self.services.has_trash().then_some(self.trash_due);
        let collect = self.services.collects().then_some(self.collect_due);
        let due =
            [self.table.deadline(), trash, collect, self.defence_due(), self.sample_deadline()];
        due.into_iter().flatten().min()
    }

    /// `-A`.
    ///
    /// # Errors
    /// [`Refusal::ServiceExists`].
    pub fn add_service(&mut self, spec: ServiceSpec) -> Result<(), Refusal> {
        self.services.add(spec)
    }

    /// `-E`.
    ///
    /// # Errors
    /// [`Refusal::NoSuchService`].
    pub fn edit_service(&mut self, spec: ServiceSpec) -> Result<(), Refusal> {
        self.services.edit(spec)
    }

    /// `-D`; [`sweep`](Self::sweep) follows.
    ///
    /// # Errors
    /// [`Refusal::NoSuchService`].
    pub fn remove_service(&mut self, now: Instant, key: &ServiceKey) -> Result<(), Refusal> {
        self.services.remove(now, key)?;
        self.removed = true;
        Ok(())
    }

    /// `-a`.
    ///
    /// # Errors
    /// [`Refusal::ServiceNotDefined`], [`Refusal::DestExists`], [`Refusal::OutOfRange`].
    pub fn add_dest(&mut self, key: &ServiceKey, spec: DestSpec) -> Result<(), Refusal> {
        self.services.add_dest(key, spec)
    }

    /// `-e`.
    ///
    /// # Errors
    /// [`Refusal::ServiceNotDefined`], [`Refusal::NoSuchDest`], [`Refusal::OutOfRange`].
    pub fn edit_dest(&mut self, key: &ServiceKey, spec: DestSpec) -> Result<(), Refusal> {
        self.services.edit_dest(key, spec)
    }

    /// `-d`; [`sweep`](Self::sweep) follows.
    ///
    /// # Errors
    /// [`Refusal::ServiceNotDefined`], [`Refusal::NoSuchDest`].
    pub fn remove_dest(
        &mut self,
        now: Instant,
        key: &ServiceKey,
        dest: Endpoint,
    ) -> Result<(), Refusal> {
        self.services.remove_dest(now, key, dest)?;
        self.removed = true;
        Ok(())
    }

    /// `--set`: seconds, 0 keeps the present value.
    pub fn set_timeouts(&mut self, tcp_s: u32, tcp_fin_s: u32, udp_s: u32) {
        self.timeouts.set(tcp_s, tcp_fin_s, udp_s);
    }

    /// Services and destinations, for listing.
    pub const fn services(&self) -> &Services {
        &self.services
    }

    /// Connections and templates, for listing.
    pub const fn table(&self) -> &Table {
        &self.table
    }

    /// What has gone through in all.
    pub const fn total(&self) -> Stats {
        self.total
    }
}

/// The protocols that connections are looked for.
const fn is_known(protocol: u8) -> bool {
    matches!(protocol, proto::TCP | proto::UDP | proto::SCTP | proto::ESP | proto::AH)
}

/// The flow of a packet. What IPsec carries belongs to the conversation of its key exchange: UDP
/// between ports 500 (RFC 7296).
fn flow_of(headers: &Headers, bytes: &[u8]) -> Option<Flow> {
    if !matches!(headers.proto, proto::ESP | proto::AH) {
        return headers.flow(bytes);
    }
    let end = |addr| Endpoint::new(addr, ISAKMP);
    Some(Flow { proto: proto::UDP, src: end(headers.src), dst: end(headers.dst) })
}

/// The port of IPsec's key exchange.
const ISAKMP: u16 = 500;
