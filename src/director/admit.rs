//! A new connection: service → persistence → scheduler → table.
//!
//! Kept from the kernel: the order of `ip_vs_schedule` and `ip_vs_sched_persist`; that a live
//! template leads also to a drained or overloaded server; that a persistent service that groups ports
//! ignores its servers' ports; that `--pe sip` knows templates by Call-ID too, and lets servers open
//! calls (`ip_vs_new_conn_out`).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::service::{Dest, DestId, ServiceId, FTP, FTP_DATA};
use super::{Binding, Decision, Director};
use crate::config::{Method, ServiceKey, ServiceSpec};
use crate::conn::{Conn, ConnId, Direction, Flags, Forward};
use crate::packet::l4::{self, Event};
use crate::packet::{icmp, proto, sip, DropReason, Endpoint, Family, Flow, Headers, Packet};
use crate::world::Instant;

/// The port of a template that must not be found any more but lives on for its connections.
const RETIRED: u16 = 65535;

impl Director {
    /// Makes a connection for a first packet.
    ///
    /// # Errors
    /// What to do with the packet if there is to be none.
    pub(super) fn admit(
        &mut self,
        now: Instant,
        packet: &Packet,
        headers: &Headers,
        flow: &Flow,
        event: Option<Event>,
    ) -> Result<ConnId, Decision> {
        if headers.proto != flow.proto {
            return Err(Decision::Pass);
        }
        let whole = headers.payload(packet.bytes()).len() >= l4::header_min(flow.proto);
        let event = event.filter(|_| whole).ok_or(Decision::Drop(DropReason::TransportShort))?;
        let may_open = match event {
            Event::Tcp(_) => self.knobs.sloppy_tcp,
            Event::Sctp(_) => self.knobs.sloppy_sctp,
            Event::Datagram => true,
        };
        if event.resets() || !(event.opens() || may_open) {
            return Err(Decision::Pass);
        }
        self.schedule(now, &First { mark: packet.mark, flow, data: data_of(packet, headers) })
    }

    /// `cache_bypass`: makes a connection that belongs to no server, for a packet that goes on to where
    /// it was sent.
    ///
    /// # Errors
    /// What to do with the packet if there is to be none.
    pub fn bypass(
        &mut self,
        now: Instant,
        packet: &Packet,
        headers: &Headers,
    ) -> Result<Binding, Decision> {
        let (bytes, gone) = (packet.bytes(), Decision::Drop(DropReason::NoDestination));
        let flow = headers.flow(bytes).ok_or(gone)?;
        let nowhere = match headers.family {
            Family::V4 => Ipv4Addr::UNSPECIFIED.into(),
            Family::V6 => Ipv6Addr::UNSPECIFIED.into(),
        };
        let mut conn = Conn::new(flow.proto, flow.src, flow.dst, Endpoint::new(nowhere, 0));
        conn.forward = Forward::Bypass;
        conn.dest_id = self.services.nobody();
        conn.flags.set(Flags::INACTIVE.and(Flags::NO_OUTPUT));
        let id = self.enter(now, conn, None)?;
        self.count_in(id, headers.len);
        self.touch(now, id, Direction::Input, Event::of(headers, bytes));
        Ok(self.binding(id))
    }

    /// `schedule_icmp`: makes a connection for the conversation that an ICMP error speaks of. Nobody is
    /// told that there is no server for it.
    pub(super) fn admit_related(
        &mut self,
        now: Instant,
        mark: u32,
        flow: &Flow,
    ) -> Result<ConnId, Decision> {
        if !self.knobs.schedule_icmp {
            return Err(Decision::Pass);
        }
        let first = First { mark, flow, data: &[] };
        self.schedule(now, &first).map_err(|decision| match decision {
            Decision::Refuse(_, reason) => Decision::Drop(reason),
            Decision::Bypass => Decision::Drop(DropReason::NoDestination),
            other => other,
        })
    }

    fn schedule(&mut self, now: Instant, first: &First<'_>) -> Result<ConnId, Decision> {
        let flow = first.flow;
        let service = self.services.lookup(first.mark, flow.proto, flow.dst);
        let service = service.ok_or(Decision::Pass)?;
        if self.defence.drops_packet(&self.knobs) {
            return Err(Decision::Drop(DropReason::Defence));
        }
        if flow.src.port == FTP_DATA {
            return Err(Decision::Pass);
        }
        let spec = &self.services.service(service).spec;
        if spec.persistent_s.is_some() {
            return self.admit_persistent(now, service, first);
        }
        let is_marked = matches!(spec.key, ServiceKey::Mark { .. });
        let other_port = !is_marked && port_of(spec) != flow.dst.port;
        let picked = if other_port { None } else { self.pick(now, service, flow) };
        let Some(dest_id) = picked else { return Err(self.nobody(service, flow)) };
        let port = match self.services.dest(dest_id).spec.dest.port {
            0 => flow.dst.port,
            port => port,
        };
        self.make(now, service, flow, dest_id, port)
    }

    /// Puts a connection to port `port` of a destination into the table.
    fn make(
        &mut self,
        now: Instant,
        service: ServiceId,
        flow: &Flow,
        dest_id: DestId,
        port: u16,
    ) -> Result<ConnId, Decision> {
        let to = Endpoint::new(self.services.dest(dest_id).spec.dest.addr, port);
        let mut conn = Conn::new(flow.proto, flow.src, flow.dst, to);
        self.attach(&mut conn, dest_id);
        if self.services.service(service).spec.one_packet && flow.proto == proto::UDP {
            conn.flags.set(Flags::ONE_PACKET);
        }
        let id = self.enter(now, conn, None)?;
        // It counts for the service that was asked, also where a template of another led to the server.
        let stats = &mut self.services.service_mut(service).stats;
        stats.conns = stats.conns.wrapping_add(1);
        let dest = self.services.dest_mut(dest_id);
        dest.stats.conns = dest.stats.conns.wrapping_add(1);
        if matches!(flow.proto, proto::TCP | proto::SCTP) {
            dest.tries.begin(now, dest.stats.live().out_packets);
        }
        self.total.conns = self.total.conns.wrapping_add(1);
        Ok(id)
    }

    /// Gives a connection that is about to be made what it has from its destination.
    pub(super) fn attach(&self, conn: &mut Conn, dest_id: DestId) {
        conn.forward = forward_of(self.services.dest(dest_id));
        conn.dest_id = dest_id;
        conn.flags.set(Flags::INACTIVE);
        if conn.forward != Forward::Masq {
            conn.flags.set(Flags::NO_OUTPUT);
        } else if self.helper.serves(conn.proto, conn.virt.port) {
            conn.flags.set(Flags::HELPED);
        }
    }

    /// Inserts an entry and binds it to its destination; a template perhaps with its Call-ID.
    pub(super) fn enter(
        &mut self,
        now: Instant,
        conn: Conn,
        call: Option<&[u8]>,
    ) -> Result<ConnId, Decision> {
        let full = Decision::Drop(DropReason::TableFull);
        let bound = conn.clone();
        let entered = match call {
            Some(call) => self.table.insert_call(now, conn, call),
            None => self.table.insert(now, conn),
        };
        let id = entered.map_err(|_| full)?;
        self.bind(&bound);
        Ok(id)
    }

    /// Makes a connection that its client network's template controls.
    fn admit_persistent(
        &mut self,
        now: Instant,
        service: ServiceId,
        first: &First<'_>,
    ) -> Result<ConnId, Decision> {
        let flow = first.flow;
        let spec = &self.services.service(service).spec;
        let key = TemplateKey::of(spec, flow.src.addr, flow.dst, first.call(spec)?, flow.proto);
        let template = match self.live_template(&key, None) {
            Some(template) => template,
            None => {
                let picked = self.pick(now, service, flow);
                let dest = picked.ok_or_else(|| self.nobody(service, flow))?;
                self.make_template(now, service, dest, &key)?
            }
        };
        let dest_id = self.table.get(template).dest_id;
        let server_port = self.services.dest(dest_id).spec.dest.port;
        let same_port = port_of(&self.services.service(service).spec) == flow.dst.port;
        let port = if same_port && server_port != 0 { server_port } else { flow.dst.port };
        let id = self.make(now, service, flow, dest_id, port)?;
        self.table.control(template, id);
        self.table.restart(now, template);
        Ok(id)
    }

    /// The template of a client network, if its destination may still be used, and is `wanted` if
    /// one is. One that may not is retired: no longer found, it lives on for the connections it
    /// controls.
    fn live_template(&mut self, key: &TemplateKey<'_>, wanted: Option<DestId>) -> Option<ConnId> {
        let TemplateKey { proto, client, virt, .. } = *key;
        let id = match key.call {
            Some(call) => self.table.find_call(proto, client, virt, call)?,
            None => self.table.find_template(proto, client, virt)?,
        };
        let dest_id = self.table.get(id).dest_id;
        let dest = self.services.dest(dest_id);
        let quiet = self.knobs.expire_quiescent_template && dest.spec.weight == 0;
        if dest.available && !quiet && wanted.is_none_or(|wanted| wanted == dest_id) {
            return Some(id);
        }
        self.table.rename(id, Endpoint::new(key.virt.addr, RETIRED));
        self.table.get_mut(id).dest.port = RETIRED;
        None
    }

    fn make_template(
        &mut self,
        now: Instant,
        service: ServiceId,
        dest_id: DestId,
        key: &TemplateKey<'_>,
    ) -> Result<ConnId, Decision> {
        let dest = self.services.dest(dest_id);
        let port = if key.groups_ports { 0 } else { dest.spec.dest.port };
        let to = Endpoint::new(dest.spec.dest.addr, port);
        let mut conn = Conn::new(key.proto, Endpoint::new(key.client, 0), key.virt, to);
        conn.forward = forward_of(dest);
        conn.dest_id = dest_id;
        conn.flags.set(Flags::TEMPLATE);
        conn.timeout_s = self.services.service(service).spec.persistent_s.unwrap_or_default();
        self.enter(now, conn, key.call)
    }

    /// A call that a NAT server opens: a datagram from it that belongs to no connection makes one, as
    /// if the client had spoken first, where its service has an engine that can (`--pe sip`). Services
    /// known by mark or of every port have no end that the client could answer to.
    pub(super) fn admit_reply(
        &mut self,
        now: Instant,
        packet: &Packet,
        headers: &Headers,
        flow: &Flow,
    ) -> Option<ConnId> {
        if flow.proto != proto::UDP || headers.proto != flow.proto || !self.services.has_engine() {
            return None;
        }
        let dest = self.services.masq_server(flow)?;
        let service = self.services.dest(dest).service()?;
        let spec = &self.services.service(service).spec;
        let ServiceKey::Address { virt, .. } = spec.key else { return None };
        if !spec.sip || virt.port == 0 {
            return None;
        }
        let as_asked = Flow { src: flow.dst, dst: virt, proto: flow.proto };
        let mut template = None;
        if spec.persistent_s.is_some() {
            let first = First { mark: 0, flow: &as_asked, data: data_of(packet, headers) };
            let call = first.call(spec).ok()?;
            let key = TemplateKey::of(spec, as_asked.src.addr, virt, call, flow.proto);
            template = match self.live_template(&key, Some(dest)) {
                Some(template) => Some(template),
                None => Some(self.make_template(now, service, dest, &key).ok()?),
            };
        }
        let id = self.make(now, service, &as_asked, dest, flow.src.port).ok()?;
        if let Some(template) = template {
            self.table.control(template, id);
            self.table.restart(now, template);
        }
        Some(id)
    }

    fn pick(&mut self, now: Instant, service: ServiceId, flow: &Flow) -> Option<DestId> {
        let expiration = self.expiration();
        self.services.pick(now, service, flow, expiration)
    }

    /// What becomes of a first packet for which no destination can be had.
    fn nobody(&self, service: ServiceId, flow: &Flow) -> Decision {
        let spec = &self.services.service(service).spec;
        if self.knobs.cache_bypass && matches!(spec.key, ServiceKey::Mark { .. }) {
            return Decision::Bypass;
        }
        if port_of(spec) == FTP && flow.dst.port != FTP {
            return Decision::Pass;
        }
        Decision::Refuse(icmp::Error::PortUnreachable, DropReason::NoDestination)
    }
}

/// A packet that may open a connection.
struct First<'a> {
    mark: u32,
    flow: &'a Flow,
    /// What follows the transport header of a datagram; nothing for other protocols.
    data: &'a [u8],
}

impl<'a> First<'a> {
    /// What a service with an engine knows its templates by as well.
    fn call(&self, spec: &ServiceSpec) -> Result<Option<&'a [u8]>, Decision> {
        if !spec.sip {
            return Ok(None);
        }
        let call = sip::call_id(self.data);
        call.map(Some).ok_or(Decision::Drop(DropReason::NoCallId))
    }
}

/// The data of a UDP datagram.
fn data_of<'a>(packet: &'a Packet, headers: &Headers) -> &'a [u8] {
    match headers.proto {
        proto::UDP => headers.payload(packet.bytes()).get(8..).unwrap_or_default(),
        _ => &[],
    }
}

/// What a template is found by.
struct TemplateKey<'a> {
    proto: u8,
    client: IpAddr,
    virt: Endpoint,
    /// One template serves several ports, so that servers' ports do not count.
    groups_ports: bool,
    call: Option<&'a [u8]>,
}

impl<'a> TemplateKey<'a> {
    fn of(
        spec: &ServiceSpec,
        client: IpAddr,
        asked: Endpoint,
        call: Option<&'a [u8]>,
        proto: u8,
    ) -> Self {
        let client = masked(client, spec.netmask);
        let other_port = port_of(spec) != asked.port;
        let groups_ports = other_port || asked.port == FTP;
        let port = if groups_ports { 0 } else { asked.port };
        match spec.key {
            ServiceKey::Mark { family, mark } if other_port => {
                let virt = Endpoint::new(mark_address(family, mark), 0);
                Self { proto: 0, client, virt, groups_ports, call }
            }
            ServiceKey::Mark { .. } | ServiceKey::Address { .. } => {
                let virt = Endpoint::new(asked.addr, port);
                Self { proto, client, virt, groups_ports, call }
            }
        }
    }
}

/// The port of a service; 0 for one known by mark, as in the kernel: what is sent to port 0 is then
/// sent to the service's port.
const fn port_of(spec: &ServiceSpec) -> u16 {
    match spec.key {
        ServiceKey::Address { virt, .. } => virt.port,
        ServiceKey::Mark { .. } => 0,
    }
}

const fn forward_of(dest: &Dest) -> Forward {
    match dest.spec.method {
        Method::Masq => Forward::Masq,
        Method::Tunnel => Forward::Tunnel,
        Method::Route => Forward::Route,
    }
}

/// A client's network: IPv4 under any mask, IPv6 cut to a prefix length.
fn masked(addr: IpAddr, mask: u32) -> IpAddr {
    match addr {
        IpAddr::V4(addr) => IpAddr::V4((u32::from(addr) & mask).into()),
        IpAddr::V6(addr) => {
            let host_bits = 128_u32.saturating_sub(mask);
            let mask = u128::MAX.checked_shl(host_bits).unwrap_or(0);
            IpAddr::V6((u128::from(addr) & mask).into())
        }
    }
}

/// The address under which the templates of a firewall mark are kept and listed.
fn mark_address(family: Family, mark: u32) -> IpAddr {
    match family {
        Family::V4 => IpAddr::V4(mark.into()),
        Family::V6 => IpAddr::V6(Ipv6Addr::from(u128::from(mark) << 96)),
    }
}
