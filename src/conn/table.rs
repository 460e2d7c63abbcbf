//! Finding, keeping and forgetting connections.
//!
//! Entries lie in chunks that never move, so that growing costs one chunk and no copy; the index is
//! a linear hash that splits two buckets an insertion and lies in segments that never move either, so
//! that growing never stops the world. Within a bucket the newest entry comes first, as in the kernel:
//! of two connections with the same reply endpoint the newest gets the replies.
//!
//! An entry takes 128 bytes and 8 of index. Memory that was taken once is kept for the next entries.

use std::net::IpAddr;

use super::call::Calls;
use super::wheel::Wheel;
use super::{Conn, ConnId, Flags, NONE};
use crate::packet::{Endpoint, Flow};
use crate::world::{Instant, Rng};

/// Entries of a chunk.
pub(super) const CHUNK: usize = 1024;

/// Entries that are looked at together.
const PART: usize = CHUNK / 4;

/// Buckets of an empty table; a power of two.
const BUCKETS_MIN: usize = 256;

/// Buckets for each entry, so that the first entry of a bucket mostly is the one that is looked for.
const SPARSE: usize = 2;

/// Buckets of a segment of the index; a power of two.
const SEGMENT: usize = 1 << 14;

/// Entries below which the processor's caches hold the table, and there is nothing to be fetched ahead.
const CACHED: usize = 1 << 14;

/// Look-ups whose memory is fetched at once.
const AHEAD: usize = 32;

/// Connections of one client's port at most. They lie in one bucket, since their answers are looked for
/// by that port alone, and a look-up walks past all of them: without a limit somebody who sends from one
/// port to all ports of a service would make each packet cost a fraction of a millisecond.
const CROWD_MAX: usize = 2048;

/// Seconds that an entry is given again when its time is up while it still controls others.
const PROLONGED_S: u32 = 60;

/// The table is full, or the client's port has as many connections as it may.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Full;

/// Chunks of entries with a list of the free ones.
#[derive(Debug)]
pub(super) struct Arena {
    chunks: Vec<Vec<Conn>>,
    /// Head of the free list, linked through `chain`.
    free: u32,
}

impl Arena {
    pub(super) fn at(&self, id: u32) -> &Conn {
        let id = id as usize;
        &self.chunks[id / CHUNK][id % CHUNK]
    }

    pub(super) fn at_mut(&mut self, id: u32) -> &mut Conn {
        let id = id as usize;
        &mut self.chunks[id / CHUNK][id % CHUNK]
    }

    fn put(&mut self, conn: Conn) -> u32 {
        if self.free != NONE {
            let id = self.free;
            self.free = self.at(id).chain;
            *self.at_mut(id) = conn;
            return id;
        }
        if self.chunks.last().is_none_or(|chunk| chunk.len() == CHUNK) {
            self.chunks.push(Vec::with_capacity(CHUNK));
        }
        let chunk = self.chunks.last_mut().expect("one was just put there");
        chunk.push(conn);
        let id = (self.chunks.len() - 1) * CHUNK + chunk_len(&self.chunks) - 1;
        u32::try_from(id).expect("the limit is below 2^32")
    }

    fn take(&mut self, id: u32) -> Conn {
        let free = std::mem::replace(&mut self.free, id);
        let slot = self.at_mut(id);
        let conn = slot.clone();
        slot.chain = free;
        slot.flags = Flags(FREE);
        conn
    }
}

/// The heads of the buckets' chains.
#[derive(Debug)]
struct Buckets {
    /// All of [`SEGMENT`] buckets but the first, which grows, and the last, which is being filled.
    segments: Vec<Vec<u32>>,
    len: usize,
}

impl Buckets {
    fn new() -> Self {
        Self { segments: vec![vec![NONE; BUCKETS_MIN]], len: BUCKETS_MIN }
    }

    fn at(&self, bucket: usize) -> u32 {
        self.segments[bucket / SEGMENT][bucket % SEGMENT]
    }

    fn at_mut(&mut self, bucket: usize) -> &mut u32 {
        &mut self.segments[bucket / SEGMENT][bucket % SEGMENT]
    }

    /// Adds an empty bucket.
    fn push(&mut self) {
        if self.len % SEGMENT == 0 {
            self.segments.push(Vec::with_capacity(SEGMENT));
        }
        self.segments[self.len / SEGMENT].push(NONE);
        self.len += 1;
    }
}

/// The flag of an entry on the free list; no connection has it.
const FREE: u16 = 0x8000;

fn chunk_len(chunks: &[Vec<Conn>]) -> usize {
    chunks.last().map_or(0, Vec::len)
}

/// All connections and templates.
#[derive(Debug)]
pub struct Table {
    arena: Arena,
    /// The Call-IDs of templates that have one.
    calls: Calls,
    buckets: Buckets,
    wheel: Wheel,
    len: usize,
    limit: usize,
    /// Entries whose client's port is still to be seen.
    expected: usize,
    key: u64,
}

impl Table {
    /// An empty table for `limit` entries at most; `rng` keys its hash.
    pub fn new(limit: usize, rng: &mut Rng) -> Self {
        Self {
            arena: Arena { chunks: Vec::new(), free: NONE },
            calls: Calls::default(),
            buckets: Buckets::new(),
            wheel: Wheel::new(),
            len: 0,
            limit: limit.min(NONE as usize - 1),
            expected: 0,
            key: rng.next_u64(),
        }
    }

    /// How many entries there are, templates included.
    pub const fn len(&self) -> usize {
        self.len
    }

    /// Whether there is none.
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The entry.
    pub fn get(&self, id: ConnId) -> &Conn {
        self.arena.at(id.0)
    }

    /// The entry, to be changed; its key and its deadline are not to be changed this way.
    pub fn get_mut(&mut self, id: ConnId) -> &mut Conn {
        self.arena.at_mut(id.0)
    }

    /// The connection that a packet from a client belongs to.
    /// Port 0 is the mark of templates: as in the kernel, who sends from it is never recognised.
    pub fn find_request(&self, flow: &Flow) -> Option<ConnId> {
        if flow.src.port == 0 {
            return None;
        }
        self.find(flow.proto, flow.src, |conn| {
            conn.virt == flow.dst && !conn.flags.has(Flags::TEMPLATE)
        })
    }

    /// The connection that a packet from a server belongs to.
    pub fn find_reply(&self, flow: &Flow) -> Option<ConnId> {
        self.find(flow.proto, flow.dst, |conn| {
            conn.reply_source() == flow.src && !conn.flags.has(Flags::TEMPLATE)
        })
    }

    /// The expected connection that a packet from a client may belong to, from whatever port.
    pub fn find_expected(&self, flow: &Flow) -> Option<ConnId> {
        if self.expected == 0 {
            return None;
        }
        self.find(flow.proto, Endpoint::new(flow.src.addr, 0), |conn| {
            conn.virt == flow.dst && conn.flags.has(Flags::NO_CLIENT_PORT)
        })
    }

    /// Tells an expected connection its client's port.
    pub fn settle(&mut self, id: ConnId, port: u16) {
        self.unchain(id);
        let conn = self.arena.at_mut(id.0);
        conn.client.port = port;
        conn.flags.clear(Flags::NO_CLIENT_PORT);
        self.expected -= 1;
        let bucket = self.home(id.0);
        self.arena.at_mut(id.0).chain = std::mem::replace(self.buckets.at_mut(bucket), id.0);
    }

    /// The template of a client network and a virtual endpoint.
    pub fn find_template(&self, proto: u8, client: IpAddr, virt: Endpoint) -> Option<ConnId> {
        self.find(proto, Endpoint::new(client, 0), |conn| {
            conn.virt == virt && conn.flags.has(Flags::TEMPLATE) && !conn.flags.has(Flags::CALL)
        })
    }

    /// Has the processor fetch what looking up these clients, each with its protocol, will need, all at
    /// once: one after the other they would each wait for the memory of a large table.
    pub fn prefetch(&self, mut clients: impl Iterator<Item = (u8, Endpoint)>) {
        if self.len < CACHED {
            return;
        }
        // A load that nobody waits for is as good as a prefetch, and needs no unsafe code. Nothing may
        // branch on what was loaded: a wrong guess would wait for the memory after all.
        let mut sum = 0;
        let mut count = AHEAD;
        while count == AHEAD {
            let mut sought = [(0, 0); AHEAD];
            count = 0;
            for (proto, client) in clients.by_ref().take(AHEAD) {
                sought[count] = (self.bucket(self.hash(proto, client)), client.port);
                count += 1;
            }
            let firsts = sought.map(|(bucket, port)| (some(self.buckets.at(bucket)), port));
            let seconds = firsts.map(|(id, port)| {
                let conn = self.arena.at(id);
                sum ^= conn.in_packets;
                let other = u32::from(conn.client.port != port).wrapping_neg();
                some(id ^ ((id ^ conn.chain) & other))
            });
            sum ^= seconds.into_iter().fold(0, |sum, id| sum ^ self.arena.at(id).chain);
        }
        std::hint::black_box(sum);
    }

    /// The template of a client network, a virtual endpoint and a Call-ID.
    pub fn find_call(
        &self,
        proto: u8,
        client: IpAddr,
        virt: Endpoint,
        call: &[u8],
    ) -> Option<ConnId> {
        let is_it = |id: &ConnId| {
            let conn = self.arena.at(id.0);
            conn.flags.has(Flags::CALL)
                && (conn.proto, conn.client.addr, conn.virt) == (proto, client, virt)
                && self.calls.at(id.0) == call
        };
        self.chain(self.bucket(self.hash_call(client, call))).find(is_it)
    }

    /// The Call-ID that a template is known by.
    pub fn call(&self, id: ConnId) -> Option<&[u8]> {
        self.get(id).flags.has(Flags::CALL).then(|| self.calls.at(id.0))
    }

    fn find(&self, proto: u8, client: Endpoint, matches: impl Fn(&Conn) -> bool) -> Option<ConnId> {
        let mut id = self.buckets.at(self.bucket(self.hash(proto, client)));
        while id != NONE {
            let conn = self.arena.at(id);
            if conn.client == client && conn.proto == proto && matches(conn) {
                return Some(ConnId(id));
            }
            id = conn.chain;
        }
        None
    }

    /// Puts an entry in and starts its timer.
    ///
    /// # Errors
    /// [`Full`] when a limit is reached.
    pub fn insert(&mut self, now: Instant, conn: Conn) -> Result<ConnId, Full> {
        self.put(now, conn, &[])
    }

    /// Puts a template in that is known by a Call-ID as well; what is longer than 255 bytes is cut.
    ///
    /// # Errors
    /// [`Full`] when a limit is reached.
    pub fn insert_call(
        &mut self,
        now: Instant,
        mut template: Conn,
        call: &[u8],
    ) -> Result<ConnId, Full> {
        template.flags.set(Flags::CALL);
        self.put(now, template, call)
    }

    /// Whether there are no more to be of this client's port. Templates are as many as the operator has
    /// services.
    fn is_crowded(&self, conn: &Conn) -> bool {
        if conn.flags.has(Flags::TEMPLATE) {
            return false;
        }
        let bucket = self.bucket(self.hash(conn.proto, conn.client));
        let same = |id: &ConnId| {
            let other = self.arena.at(id.0);
            (other.client, other.proto) == (conn.client, conn.proto)
                && !other.flags.has(Flags::TEMPLATE)
        };
        self.chain(bucket).filter(same).nth(CROWD_MAX - 1).is_some()
    }

    fn put(&mut self, now: Instant, mut conn: Conn, call: &[u8]) -> Result<ConnId, Full> {
        let is_call = conn.flags.has(Flags::CALL);
        if self.len >= self.limit || self.is_crowded(&conn) || is_call && self.calls.is_full() {
            return Err(Full);
        }
        for _ in 0..SPARSE {
            self.split_a_bucket();
        }
        conn.deadline = now.after(seconds(conn.timeout_s));
        let deadline = conn.deadline;
        self.expected += usize::from(conn.flags.has(Flags::NO_CLIENT_PORT));
        let id = self.arena.put(conn);
        if is_call {
            self.calls.put(id, call).expect("there was room a moment ago");
        }
        let bucket = self.home(id);
        self.arena.at_mut(id).chain = std::mem::replace(self.buckets.at_mut(bucket), id);
        self.wheel.link(&mut self.arena, id, deadline);
        self.len += 1;
        Ok(ConnId(id))
    }

    /// Takes an entry out; its controller controls one fewer.
    pub fn remove(&mut self, id: ConnId) -> Conn {
        self.wheel.unlink(&mut self.arena, id.0);
        self.unchain(id);
        self.len -= 1;
        let conn = self.arena.take(id.0);
        if conn.flags.has(Flags::CALL) {
            self.calls.remove(id.0);
        }
        self.expected -= usize::from(conn.flags.has(Flags::NO_CLIENT_PORT));
        if conn.controller != NONE {
            let controller = self.arena.at_mut(conn.controller);
            controller.controlled = controller.controlled.saturating_sub(1);
        }
        conn
    }

    /// Restarts the timer: the entry ends `timeout_s` from now.
    pub fn restart(&mut self, now: Instant, id: ConnId) {
        let conn = self.arena.at_mut(id.0);
        conn.deadline = now.after(seconds(conn.timeout_s));
        let deadline = conn.deadline;
        if self.wheel.is_late_for(self.arena.at(id.0), deadline) {
            self.wheel.unlink(&mut self.arena, id.0);
            self.wheel.link(&mut self.arena, id.0, deadline);
        }
    }

    /// Makes `template` (or a control connection) the controller of `conn`, which must have none yet.
    pub fn control(&mut self, template: ConnId, conn: ConnId) {
        self.arena.at_mut(conn.0).controller = template.0;
        let template = self.arena.at_mut(template.0);
        template.controlled = template.controlled.saturating_add(1);
    }

    /// The template or control connection that controls `conn`.
    pub fn controller(&self, conn: ConnId) -> Option<ConnId> {
        let id = self.get(conn).controller;
        (id != NONE).then_some(ConnId(id))
    }

    /// Gives a template another virtual endpoint, so that it is no longer found, but lives on for
    /// the connections it controls.
    pub fn rename(&mut self, id: ConnId, virt: Endpoint) {
        self.get_mut(id).virt = virt;
    }

    /// Takes one entry out whose time is up. An entry that still controls others is given another
    /// 60 s instead, and has that as its timeout from then on, as in the kernel. Each entry that is
    /// looked at takes one from `budget`; when nothing is left of it, there may be more.
    pub fn expire(&mut self, now: Instant, budget: &mut usize) -> Option<Conn> {
        while let Some(id) = self.wheel.due(&mut self.arena, now, budget) {
            let conn = self.arena.at_mut(id);
            if conn.controlled == 0 {
                return Some(self.remove(ConnId(id)));
            }
            conn.timeout_s = PROLONGED_S;
            self.restart(now, ConnId(id));
        }
        None
    }

    /// When [`expire`](Self::expire) may have something to do.
    pub fn deadline(&self) -> Option<Instant> {
        self.wheel.deadline()
    }

    /// Every entry, in no order that means anything.
    pub fn iter(&self) -> impl Iterator<Item = &Conn> {
        self.arena.chunks.iter().flatten().filter(|conn| conn.flags.0 & FREE == 0)
    }

    /// The entries at `place`, for looking at all of them, [`PART`] at a time: places count from 0, and
    /// beyond the last there is `None`. What comes or goes in between is seen or not. With each, the
    /// Call-ID that it is known by.
    pub fn entries(&self, place: usize) -> Option<impl Iterator<Item = (&Conn, Option<&[u8]>)>> {
        let chunk = self.arena.chunks.get(place / (CHUNK / PART))?;
        let first = u32::try_from(place * PART).ok()?;
        let part = chunk.chunks(PART).nth(place % (CHUNK / PART)).unwrap_or_default();
        let all = (first..).map(ConnId).zip(part).filter(|(_, conn)| conn.flags.0 & FREE == 0);
        Some(all.map(|(id, conn)| (conn, self.call(id))))
    }

    /// The places of the entries for which `wanted` says so.
    pub fn ids_of<'a>(
        &'a self,
        wanted: impl Fn(&Conn) -> bool + 'a,
    ) -> impl Iterator<Item = ConnId> + 'a {
        let all = (0..).zip(self.arena.chunks.iter().flatten());
        all.filter(move |(_, conn)| conn.flags.0 & FREE == 0 && wanted(conn))
            .map(|(id, _)| ConnId(id))
    }

    /// How many buckets the index has.
    pub fn bucket_count(&self) -> usize {
        self.buckets.len
    }

    /// Whether an entry that was found a moment ago is still there, and nothing was put in since.
    pub fn is_there(&self, id: ConnId) -> bool {
        self.get(id).flags.0 & FREE == 0
    }

    /// The entries of a bucket, which any number stands for.
    pub fn ids_of_bucket(&self, number: u64) -> impl Iterator<Item = ConnId> + '_ {
        let count = self.buckets.len as u64;
        let bucket = usize::try_from(number % count).expect("below the number of buckets");
        self.chain(bucket)
    }

    fn chain(&self, bucket: usize) -> impl Iterator<Item = ConnId> + '_ {
        let not_none = |id: u32| (id != NONE).then_some(id);
        let chain = move |&id: &u32| not_none(self.arena.at(id).chain);
        std::iter::successors(not_none(self.buckets.at(bucket)), chain).map(ConnId)
    }

    /// The bucket that an entry belongs into.
    fn home(&self, id: u32) -> usize {
        let conn = self.arena.at(id);
        self.bucket(match conn.flags.has(Flags::CALL) {
            true => self.hash_call(conn.client.addr, self.calls.at(id)),
            false => self.hash(conn.proto, conn.client),
        })
    }

    /// Linear hashing: the buckets below `len - 2^k` have been split.
    fn bucket(&self, hash: usize) -> usize {
        let level = self.buckets.len.ilog2();
        let fine = hash & ((2 << level) - 1);
        if fine < self.buckets.len {
            fine
        } else {
            hash & ((1 << level) - 1)
        }
    }

    #[expect(clippy::cast_possible_truncation, reason = "the best bits of a hash are kept")]
    fn hash(&self, proto: u8, client: Endpoint) -> usize {
        let addr = match client.addr {
            IpAddr::V4(addr) => u128::from(u32::from(addr)),
            IpAddr::V6(addr) => u128::from(addr),
        };
        let (high, low) = ((addr >> 64) as u64, addr as u64);
        let tail = u64::from(client.port) << 8 | u64::from(proto);
        let mixed = mix(mix(high ^ self.key, low ^ self.key.rotate_left(32)), tail ^ self.key);
        mixed as usize
    }

    /// Templates of calls hash by their Call-ID too: all calls of a telephone exchange come from one
    /// client. They do not hash by it alone, since anybody may use one that others have.
    #[expect(clippy::cast_possible_truncation, reason = "the best bits of a hash are kept")]
    fn hash_call(&self, client: IpAddr, call: &[u8]) -> usize {
        let word = |part: &[u8]| part.iter().fold(1, |word, &byte| word << 8 | u64::from(byte));
        let first = self.hash(0, Endpoint::new(client, 0)) as u64;
        call.chunks(7).fold(first, |hash, part| mix(hash, word(part) ^ self.key)) as usize
    }

    /// Adds a bucket while there are too few for the entries, and moves what belongs there.
    fn split_a_bucket(&mut self) {
        if self.len * SPARSE < self.buckets.len {
            return;
        }
        let level = self.buckets.len.ilog2();
        let from = self.buckets.len - (1 << level);
        let mut id = std::mem::replace(self.buckets.at_mut(from), NONE);
        self.buckets.push();
        // Appending at the tails keeps the newest first in both halves.
        let mut tails = [(from, NONE), (self.buckets.len - 1, NONE)];
        while id != NONE {
            let next = self.arena.at(id).chain;
            let half = usize::from(self.home(id) != from);
            let (bucket, tail) = tails[half];
            match tail {
                NONE => *self.buckets.at_mut(bucket) = id,
                tail => self.arena.at_mut(tail).chain = id,
            }
            tails[half].1 = id;
            self.arena.at_mut(id).chain = NONE;
            id = next;
        }
    }

    fn unchain(&mut self, id: ConnId) {
        let (bucket, next) = (self.home(id.0), self.arena.at(id.0).chain);
        let mut at = self.buckets.at(bucket);
        if at == id.0 {
            *self.buckets.at_mut(bucket) = next;
            return;
        }
        loop {
            let chain = &mut self.arena.at_mut(at).chain;
            if *chain == id.0 {
                *chain = next;
                return;
            }
            at = *chain;
        }
    }
}

/// The entry, or the first of all where there is none, without a branch.
fn some(id: u32) -> u32 {
    id & u32::from(id == NONE).wrapping_sub(1)
}

const fn seconds(count: u32) -> std::time::Duration {
    std::time::Duration::from_secs(count as u64)
}

/// Folds the 128-bit product of two keyed words.
#[expect(clippy::cast_possible_truncation, reason = "both halves are used")]
const fn mix(a: u64, b: u64) -> u64 {
    let product = (a as u128 | 1 << 64).wrapping_mul((b ^ 0x9e37_79b9_7f4a_7c15) as u128);
    (product as u64) ^ ((product >> 64) as u64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::packet::proto::{TCP, UDP};
    use std::collections::BTreeMap;
    use std::time::Duration;

    fn endpoint(n: u32) -> Endpoint {
        Endpoint::new(
            IpAddr::V4((0x0a00_0000 + n / 7).into()),
            u16::try_from(n % 7 + 1).expect("small"),
        )
    }

    fn conn(n: u32, timeout_s: u32) -> Conn {
        let virt = Endpoint::new([10, 9, 9, 9].into(), 80);
        let mut conn = Conn::new(TCP, endpoint(n), virt, endpoint(n + 1_000_000));
        conn.timeout_s = timeout_s;
        conn
    }

    fn flow(conn: &Conn) -> Flow {
        Flow { proto: conn.proto, src: conn.client, dst: conn.virt }
    }

    fn table() -> Table {
        Table::new(100_000, &mut Rng::new(3))
    }

    fn expired(table: &mut Table, now: Instant) -> Option<Conn> {
        table.expire(now, &mut usize::MAX.clone())
    }

    #[test]
    fn a_mass_expiry_is_done_in_portions_and_forgets_nobody() {
        let mut table = table();
        let count = 50_000;
        // All end within one slot of the third level, which is handed down twice.
        for n in 0..count {
            table.insert(Instant::ZERO, conn(n, 300)).expect("below the limit");
        }
        let (mut gone, mut calls) = (0, 0);
        for millis in (0..310_000).step_by(10) {
            let now = Instant::from_millis(millis);
            let mut budget = 256;
            while let Some(conn) = table.expire(now, &mut budget) {
                assert!(conn.deadline <= now);
                gone += 1;
            }
            calls += u32::from(budget < 256);
        }
        assert_eq!((gone, table.len()), (count, 0));
        assert!(calls >= count * 3 / 256, "{calls} calls did something");
    }

    #[test]
    fn what_is_linked_while_a_slot_is_handed_down_ends_in_its_time() {
        let mut table = table();
        for n in 0..2000 {
            table.insert(Instant::ZERO, conn(n, 100)).expect("below the limit");
        }
        let mut now = Instant::ZERO;
        for n in 2000..6000 {
            now = now.after(Duration::from_millis(50));
            while let Some(conn) = table.expire(now, &mut 3) {
                assert!(conn.deadline <= now);
            }
            table.insert(now, conn(n, n % 120)).expect("below the limit");
            let deadline = table.deadline().expect("something is linked");
            assert!(deadline <= now.after(Duration::from_millis(1200)));
        }
        let late = now.after(Duration::from_secs(121));
        let ended = std::iter::from_fn(|| expired(&mut table, late)).count();
        assert!(ended > 1000 && table.is_empty(), "{ended} and {}", table.len());
    }

    #[test]
    fn prefetching_changes_nothing() {
        let mut table = table();
        for n in 0..40_000 {
            table.insert(Instant::ZERO, conn(n, 100)).expect("below the limit");
        }
        let flows: Vec<_> = (0..77).map(|n| flow(&conn(n * 1000, 1))).collect();
        table.prefetch(flows.iter().map(|flow| (flow.proto, flow.src)));
        table.prefetch(std::iter::empty());
        assert_eq!(flows.iter().filter(|flow| table.find_request(flow).is_some()).count(), 40);
    }

    #[test]
    fn agrees_with_an_obvious_model_over_random_work() {
        let mut rng = Rng::new(99);
        let (mut table, mut model) = (table(), BTreeMap::new());
        let mut now = Instant::ZERO;
        for step in 0..60_000 {
            let n = rng.next_u32() % 3000;
            now = now.after(Duration::from_millis(u64::from(rng.next_u32() % 40)));
            while let Some(gone) = expired(&mut table, now) {
                let deadline: Instant =
                    model.remove(&gone.client).expect("only what was put in comes out");
                assert!(deadline <= now);
            }
            if step % 256 == 0 {
                assert!(model.values().all(|&d| d.after(Duration::from_millis(40)) > now));
            }
            let fresh = conn(n, rng.next_u32() % 90);
            match (table.find_request(&flow(&fresh)), rng.next_u32() % 4) {
                (None, _) => {
                    table.insert(now, fresh.clone()).expect("below the limit");
                    model.insert(fresh.client, now.after(seconds(fresh.timeout_s)));
                }
                (Some(id), 0) => {
                    table.remove(id);
                    model.remove(&fresh.client);
                }
                (Some(id), _) => {
                    table.get_mut(id).timeout_s = fresh.timeout_s;
                    table.restart(now, id);
                    model.insert(fresh.client, now.after(seconds(fresh.timeout_s)));
                }
            }
            assert_eq!(table.len(), model.len());
        }
        assert_eq!(table.iter().count(), model.len());
    }

    #[test]
    fn of_two_connections_with_one_reply_endpoint_the_newest_gets_the_replies() {
        let mut table = table();
        let dest = Endpoint::new([10, 1, 1, 1].into(), 80);
        for last in [1, 2] {
            let mut conn =
                Conn::new(UDP, endpoint(0), Endpoint::new([10, 9, 9, last].into(), 80), dest);
            conn.forward = super::super::Forward::Masq;
            table.insert(Instant::ZERO, conn).expect("room");
        }
        let reply = Flow { proto: UDP, src: dest, dst: endpoint(0) };
        let id = table.find_reply(&reply).expect("found");
        assert_eq!(table.get(id).virt.addr, IpAddr::from([10, 9, 9, 2]));
    }

    #[test]
    fn an_expected_connection_is_found_from_any_port_once_and_from_its_own_ever_after() {
        let mut table = table();
        let mut waiting = conn(1, 9);
        let (client, virt) = (waiting.client, waiting.virt);
        waiting.client.port = 0;
        waiting.flags.set(Flags::NO_CLIENT_PORT);
        let from = |port| Flow { proto: TCP, src: Endpoint::new(client.addr, port), dst: virt };
        assert_eq!(table.find_expected(&from(7)), None);
        let id = table.insert(Instant::ZERO, waiting.clone()).expect("room");
        assert_eq!((table.find_request(&from(7)), table.find_expected(&from(7))), (None, Some(id)));
        table.settle(id, 7);
        assert_eq!((table.find_request(&from(7)), table.find_expected(&from(8))), (Some(id), None));
        table.insert(Instant::ZERO, waiting).expect("room");
        assert!(expired(&mut table, Instant::from_millis(20_000)).is_some());
        assert!(expired(&mut table, Instant::from_millis(20_000)).is_some());
        assert_eq!((table.len(), table.find_expected(&from(8))), (0, None));
    }

    #[test]
    fn one_port_of_a_client_has_so_many_connections_and_no_more_and_others_are_not_held_up() {
        let mut table = table();
        let to = |n: u32| {
            let mut conn = conn(1, 9);
            conn.virt = Endpoint::new(IpAddr::V4(n.into()), 80);
            conn
        };
        for n in 0..2048 {
            table.insert(Instant::ZERO, to(n)).expect("room");
        }
        assert_eq!(table.insert(Instant::ZERO, to(5000)), Err(Full));
        let mut template = to(5000);
        template.flags.set(Flags::TEMPLATE);
        assert!(table.insert(Instant::ZERO, template).is_ok());
        assert!(table.insert(Instant::ZERO, conn(2, 9)).is_ok());
        table.remove(table.find_request(&flow(&to(7))).expect("there"));
        assert!(table.insert(Instant::ZERO, to(5000)).is_ok());
    }

    #[test]
    fn one_call_id_of_many_clients_does_not_make_one_long_chain() {
        let mut table = table();
        for n in 0..5000 {
            let mut template = conn(n * 7, 9);
            template.flags.set(Flags::TEMPLATE);
            table.insert_call(Instant::ZERO, template, b"a@h").expect("room");
        }
        let longest =
            (0..table.bucket_count() as u64).map(|b| table.ids_of_bucket(b).count()).max();
        assert!(longest.is_some_and(|longest| longest < 12), "{longest:?}");
        let Conn { proto, client, virt, .. } = conn(7, 9);
        let id = table.find_call(proto, client.addr, virt, b"a@h").expect("there");
        assert_eq!(table.get(id).client, client);
    }

    #[test]
    fn a_full_table_takes_no_more_and_says_so() {
        let mut table = Table::new(2, &mut Rng::new(3));
        assert!(table.insert(Instant::ZERO, conn(1, 9)).is_ok());
        assert!(table.insert(Instant::ZERO, conn(2, 9)).is_ok());
        assert_eq!(table.insert(Instant::ZERO, conn(3, 9)), Err(Full));
    }

    #[test]
    fn a_template_that_controls_is_prolonged_by_a_minute_and_then_goes() {
        let mut table = table();
        let template = table.insert(Instant::ZERO, conn(1, 5)).expect("room");
        let child = table.insert(Instant::ZERO, conn(2, 30)).expect("room");
        table.control(template, child);
        let at = |s: u64| Instant::from_millis(s * 1000);
        assert!(expired(&mut table, at(6)).is_none());
        assert_eq!(expired(&mut table, at(31)).map(|c| c.client), Some(endpoint(2)));
        assert!(expired(&mut table, at(64)).is_none());
        assert_eq!(expired(&mut table, at(67)).map(|c| c.client), Some(endpoint(1)));
    }

    #[test]
    fn a_month_on_the_wheel_is_neither_early_nor_late() {
        let mut table = table();
        let month = 2_678_400;
        table.insert(Instant::ZERO, conn(1, month)).expect("room");
        assert!(expired(&mut table, Instant::from_millis(u64::from(month) * 1000 - 1)).is_none());
        assert!(expired(&mut table, Instant::from_millis(u64::from(month) * 1000 + 40)).is_some());
    }
}
