//! Moves frames: reads a batch from each queue that has some, lets the engine handle it, sends what
//! the engine says.
//!
//! One worker, in a thread of its own, owns one queue of every port. All workers share one engine,
//! [`Shared`], behind one lock: a worker reads a batch without it, holds it while the engine handles the
//! batch, and sends without it. The engine is so quick, and a device so slow, that the lock is free nearly
//! always, and everything that the engine knows stays exact: the order of the schedulers, limits,
//! counters. Each worker does what is due if it is the first to see it: whoever brings a deadline about
//! sleeps no longer than that.
//!
//! Queues are read by turns, [`BUDGET`] frames at most from each, so that a busy port cannot starve a
//! quiet one. No error about a frame ends a worker: what a port does not take is counted by the engine,
//! and a port whose device is gone is left alone.
//!
//! Left out on purpose: waiting and the clock, which are [`reactor`](super::reactor)'s.

use std::io;
use std::ops::{Deref, DerefMut};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use log::{error, info, warn};

use super::queue::Queue;
use crate::engine::Engine;
use crate::packet::{LinkId, Packet};
use crate::slow::Conflict;
use crate::world::Instant;

/// Frames taken from one port before it is the next one's turn. With fewer the costs of a turn
/// show, with many more nothing is gained.
pub const BUDGET: usize = 64;

/// Bytes after which a batch is long enough, so that it is still in the cache when it is sent.
const BATCH_BYTES: usize = 512 << 10;

/// Frames on our own account that leave in one go.
const OWN_MAX: usize = 256;

/// The engine that all workers drive.
#[derive(Debug)]
pub struct Shared(Mutex<Core>);

/// The engine, and what is only true as long as it does not change.
#[derive(Debug)]
pub struct Core {
    engine: Engine,
    /// The latest time that it was told: the clocks of two workers may be read in one order and told
    /// in the other.
    latest: Instant,
    /// For each link how often it was given to another port.
    terms: Vec<u32>,
}

impl Shared {
    /// An engine that nobody drives yet.
    pub const fn new(engine: Engine) -> Self {
        Self(Mutex::new(Core { engine, latest: Instant::ZERO, terms: Vec::new() }))
    }

    /// The engine, for a while in which no other worker has it.
    pub fn lock(&self) -> MutexGuard<'_, Core> {
        // A worker that panics ends the program; until then the others go on.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Core {
    /// `now`, or the time that was told last if that is later.
    pub fn at(&mut self, now: Instant) -> Instant {
        self.latest = self.latest.max(now);
        self.latest
    }

    /// A link's term of office: what was read under another one came from another port.
    pub fn term(&self, link: LinkId) -> u32 {
        self.terms.get(usize::from(link.0)).copied().unwrap_or(0)
    }

    /// A link goes from one port to another, or to none.
    pub fn end_term(&mut self, link: LinkId) {
        let at = usize::from(link.0);
        self.terms.resize(self.terms.len().max(at + 1), 0);
        self.terms[at] = self.terms[at].wrapping_add(1);
    }
}

impl Deref for Core {
    type Target = Engine;

    fn deref(&self) -> &Engine {
        &self.engine
    }
}

impl DerefMut for Core {
    fn deref_mut(&mut self) -> &mut Engine {
        &mut self.engine
    }
}

/// A worker with its queues by link. A port that was taken away leaves a gap.
#[derive(Debug)]
pub struct Worker<Q> {
    shared: Arc<Shared>,
    lanes: Vec<Option<Lane<Q>>>,
    /// Frames that are being handled, and where each goes.
    batch: Vec<Packet>,
    exits: Vec<Option<LinkId>>,
    /// Frames on our own account.
    own: Vec<Packet>,
    conflicts: Vec<Conflict>,
    /// When the engine has something to do by itself, as it said last.
    due: Option<Instant>,
    /// It speaks for all of them.
    first: bool,
}

#[derive(Debug)]
struct Lane<Q> {
    link: LinkId,
    term: u32,
    name: String,
    queue: Q,
    health: Health,
    /// Frames may wait: it was not read until empty since it was last woken.
    ready: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Health {
    Fine,
    /// Reading failed, and nobody needs to be told again until it works.
    Ailing,
    /// The device is gone.
    Lost,
}

impl<Q: Queue> Worker<Q> {
    /// A worker without queues. The `first` one tells what befalls ports, and the others say nothing.
    pub fn new(shared: Arc<Shared>, first: bool) -> Self {
        let batch = (0..BUDGET).map(|_| Packet::with_capacity(0)).collect();
        let due = Some(Instant::ZERO);
        Self {
            shared,
            lanes: Vec::new(),
            batch,
            exits: Vec::with_capacity(BUDGET),
            own: Vec::new(),
            conflicts: Vec::new(),
            due,
            first,
        }
    }

    /// What all workers share.
    pub fn shared(&self) -> &Shared {
        &self.shared
    }

    /// Takes its queue of the port `name` into use, which has `link` for this `term`. Frames are taken
    /// to wait there.
    pub fn adopt(&mut self, link: LinkId, term: u32, name: &str, queue: Q) {
        let at = usize::from(link.0);
        self.lanes.resize_with(self.lanes.len().max(at + 1), || None);
        let name = name.to_owned();
        self.lanes[at] = Some(Lane { link, term, name, queue, health: Health::Fine, ready: true });
    }

    /// Gives up the queue of a port that is no longer wanted.
    pub fn release(&mut self, name: &str) {
        for lane in &mut self.lanes {
            lane.take_if(|lane| lane.name == name);
        }
    }

    /// Frames have come for queue `link`.
    pub fn wake(&mut self, link: usize) {
        if let Some(Some(lane)) = self.lanes.get_mut(link) {
            lane.ready = lane.health != Health::Lost;
        }
    }

    /// Whether a queue may still have frames, so that there is no need to wait.
    pub fn is_ready(&self) -> bool {
        self.lanes.iter().flatten().any(Lane::is_ready)
    }

    /// Whether there were ports, and the devices of all are gone.
    pub fn is_lost(&self) -> bool {
        let mut lanes = self.lanes.iter().flatten().peekable();
        lanes.peek().is_some() && lanes.all(|lane| lane.health == Health::Lost)
    }

    /// Handles one batch from each ready queue and does what is due.
    pub fn turn(&mut self, now: Instant) {
        for index in 0..self.lanes.len() {
            if self.lanes[index].as_ref().is_some_and(Lane::is_ready) {
                self.batch(index, now);
            }
        }
        if self.due.is_some_and(|due| due <= now) {
            self.with(|core| {
                let now = core.at(now);
                // Another one may have been quicker.
                if core.deadline().is_some_and(|due| due <= now) {
                    core.poll(now);
                }
            });
        }
        self.settle();
    }

    /// Does something with the engine, and sends what it has to say then.
    pub fn with<T>(&mut self, what: impl FnOnce(&mut Core) -> T) -> T {
        let shared = Arc::clone(&self.shared);
        let mut core = shared.lock();
        let done = what(&mut core);
        let more = self.listen(&mut core);
        drop(core);
        self.speak(more);
        done
    }

    /// When [`turn`](Self::turn) has something to do even if no frame comes.
    pub const fn deadline(&self) -> Option<Instant> {
        self.due
    }

    /// Books what queues could not send after all.
    pub fn settle(&mut self) {
        for lane in self.lanes.iter_mut().flatten() {
            let failed = lane.queue.failed();
            if !failed.is_none() {
                let mut core = self.shared.lock();
                (0..failed.forwarded).for_each(|_| core.refused(false));
                (0..failed.own).for_each(|_| core.refused(true));
            }
        }
    }

    /// Reads one batch, has it handled, and sends it.
    fn batch(&mut self, index: usize, now: Instant) {
        let Some(lane) = &mut self.lanes[index] else { return };
        let count = lane.read(&mut self.batch, self.first);
        if count == 0 {
            return;
        }
        let (link, term) = (lane.link, lane.term);
        let shared = Arc::clone(&self.shared);
        let mut core = shared.lock();
        if core.term(link) != term {
            // The port was taken away meanwhile, and these frames with it.
            return;
        }
        let now = core.at(now);
        if count > 1 {
            core.prefetch(link, self.batch[..count].iter().map(Packet::bytes));
        }
        self.exits.clear();
        for packet in &mut self.batch[..count] {
            self.exits.push(core.handle(now, packet));
        }
        let more = self.listen(&mut core);
        drop(core);
        for at in 0..count {
            if let Some(link) = self.exits[at] {
                send(&mut self.lanes, &self.shared, link, &mut self.batch[at]);
            }
        }
        self.speak(more);
    }

    /// Takes what the engine has to say by itself, as much as leaves in one go; true if there is more.
    fn listen(&mut self, core: &mut Core) -> bool {
        while self.own.len() < OWN_MAX {
            let Some(packet) = core.take() else { break };
            self.own.push(packet);
        }
        self.conflicts.extend(core.take_conflicts());
        // Links may have gone to other ports since this worker was told: what is for those is refused.
        let gone = |lane: &Lane<Q>| core.term(lane.link) != lane.term;
        for lane in self.lanes.iter_mut().flatten().filter(|lane| gone(lane)) {
            lane.health = Health::Lost;
        }
        self.due = core.deadline();
        self.own.len() == OWN_MAX
    }

    /// Sends what was [heard](Self::listen), and all that there may be beyond; tells people the rest.
    fn speak(&mut self, mut more: bool) {
        for Conflict { addr, mac, link } in self.conflicts.drain(..) {
            let lane = self.lanes.get(usize::from(link.0)).and_then(Option::as_ref);
            let port = lane.map_or("?", |lane| lane.name.as_str());
            warn!("port {port}: {mac} also claims our address {addr}; one that is a real server must not: see `tapvs realserver`");
        }
        loop {
            for packet in &mut self.own {
                send(&mut self.lanes, &self.shared, packet.link, packet);
            }
            self.own.clear();
            if !more {
                return;
            }
            let shared = Arc::clone(&self.shared);
            more = self.listen(&mut shared.lock());
        }
    }
}

/// Sends or counts; never waits.
fn send<Q: Queue>(
    lanes: &mut [Option<Lane<Q>>],
    shared: &Shared,
    link: LinkId,
    packet: &mut Packet,
) {
    // A queue may exchange the packet for another.
    let own = packet.own;
    let sent = match lanes.get_mut(usize::from(link.0)) {
        Some(Some(lane)) if lane.health != Health::Lost => lane.queue.send(packet).is_ok(),
        _ => false,
    };
    if !sent {
        shared.lock().refused(own);
    }
}

impl<Q: Queue> Lane<Q> {
    fn is_ready(&self) -> bool {
        self.ready || (self.health != Health::Lost && self.queue.is_waiting())
    }

    /// Fills the front of `batch`; how many frames there are.
    fn read(&mut self, batch: &mut [Packet], tell: bool) -> usize {
        let mut bytes = 0;
        for (count, packet) in batch.iter_mut().enumerate() {
            match self.queue.recv(self.link, packet) {
                Ok(true) => self.recovered(tell),
                Ok(false) => {
                    self.ready = false;
                    return count;
                }
                Err(error) => {
                    self.failed(&error, tell);
                    return count;
                }
            }
            bytes += packet.len();
            if bytes >= BATCH_BYTES {
                return count + 1;
            }
        }
        batch.len()
    }

    fn recovered(&mut self, tell: bool) {
        if self.health == Health::Ailing {
            self.health = Health::Fine;
            if tell {
                info!("port {}: frames come again", self.name);
            }
        }
    }

    /// Reading failed: it is not tried again before the next wake-up, and said once.
    fn failed(&mut self, error: &io::Error, tell: bool) {
        self.ready = false;
        if error.raw_os_error() == Some(libc::EBADFD) {
            self.health = Health::Lost;
            if tell {
                error!("port {}: the device is gone; a reload opens it again", self.name);
            }
        } else if self.health == Health::Fine {
            self.health = Health::Ailing;
            if tell {
                warn!("port {}: reading: {error}", self.name);
            }
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::config::{Config, LinkSettings, PortConfig, PortKind};
    use crate::io::queue::memory::Memory;
    use crate::packet::Mac;

    fn shared(ports: usize) -> Arc<Shared> {
        let names: Vec<_> = (0..ports).map(|i| format!("tap{i}")).collect();
        let port = |name: &String| PortConfig {
            name: name.clone(),
            kind: PortKind::Tap,
            settings: LinkSettings {
                mac: Some(Mac([2, 0, 0, 0, 0, 1])),
                mtu: Some(1500),
                master: None,
            },
            addresses: Vec::new(),
        };
        let config = Config { ports: names.iter().map(port).collect(), ..Config::default() };
        let engine = Engine::new(&config, 1).expect("ports without addresses are possible");
        Arc::new(Shared::new(engine))
    }

    fn of(shared: &Arc<Shared>, queues: Vec<Memory>) -> Worker<Memory> {
        let mut worker = Worker::new(Arc::clone(shared), true);
        for (link, queue) in (0..).zip(queues) {
            worker.adopt(LinkId(link), 0, &format!("tap{link}"), queue);
        }
        worker
    }

    fn worker(queues: Vec<Memory>) -> Worker<Memory> {
        of(&shared(queues.len()), queues)
    }

    fn frames(count: usize) -> Memory {
        let waiting = (0..count).map(|_| Ok(vec![0; 60])).collect();
        Memory { waiting, sent: Vec::new() }
    }

    fn lane(worker: &mut Worker<Memory>) -> &mut Lane<Memory> {
        worker.lanes[0].as_mut().expect("there")
    }

    fn left(worker: &Worker<Memory>) -> Vec<usize> {
        worker.lanes.iter().flatten().map(|lane| lane.queue.waiting.len()).collect()
    }

    #[test]
    fn a_busy_port_gives_way_after_its_budget_and_is_not_forgotten() {
        let mut worker = worker(vec![frames(BUDGET + 10), frames(5)]);
        worker.turn(Instant::ZERO);
        assert_eq!(left(&worker), [10, 0]);
        assert!(worker.is_ready());
        worker.turn(Instant::ZERO);
        assert_eq!(left(&worker), [0, 0]);
        assert!(!worker.is_ready());
    }

    #[test]
    fn a_port_is_left_alone_until_it_is_woken() {
        let mut worker = worker(vec![frames(0)]);
        worker.turn(Instant::ZERO);
        lane(&mut worker).queue.waiting.push_back(Ok(vec![0; 60]));
        worker.turn(Instant::ZERO);
        assert_eq!(left(&worker), [1]);
        worker.wake(0);
        worker.turn(Instant::ZERO);
        assert_eq!(left(&worker), [0]);
        worker.wake(7);
    }

    #[test]
    fn an_error_of_reading_ends_the_turn_and_not_the_port() {
        let mut worker = worker(vec![frames(1)]);
        lane(&mut worker).queue.waiting.push_front(Err(libc::EIO));
        worker.turn(Instant::ZERO);
        assert!(!worker.is_ready() && !worker.is_lost());
        worker.wake(0);
        worker.turn(Instant::ZERO);
        assert_eq!(left(&worker), [0]);
        assert_eq!(lane(&mut worker).health, Health::Fine);
    }

    #[test]
    fn a_port_whose_device_is_gone_is_never_read_again() {
        let mut worker = worker(vec![frames(1), frames(1)]);
        lane(&mut worker).queue.waiting.push_front(Err(libc::EBADFD));
        worker.turn(Instant::ZERO);
        worker.wake(0);
        assert!(!worker.is_ready() && !worker.is_lost());
        assert_eq!(left(&worker), [1, 0]);
    }

    #[test]
    fn a_frame_for_a_port_that_is_not_there_is_refused_and_harms_nothing() {
        let mut worker = worker(vec![frames(0)]);
        let mut packet = Packet::copy_of(LinkId(0), b"x");
        send(&mut worker.lanes, &worker.shared, LinkId(9), &mut packet);
        send(&mut worker.lanes, &worker.shared, LinkId(0), &mut packet);
        assert_eq!(lane(&mut worker).queue.sent, [b"x"]);
    }

    const RULES: &str = "ip tuntap add dev tap0 mode tap
ip link set dev tap0 address 02:00:00:00:00:01
ip addr add 10.1.0.1/16 dev tap0
ip tuntap add dev tap1 mode tap
ip link set dev tap1 address 02:00:00:00:00:02
ip addr add 10.2.0.1/16 dev tap1
ip neigh add 10.2.0.11 lladdr 02:00:00:00:02:0b dev tap1
ip neigh add 10.2.0.12 lladdr 02:00:00:00:02:0c dev tap1
-A -t 10.1.0.100:80 -s rr
-a -t 10.1.0.100:80 -r 10.2.0.11 -m
-a -t 10.1.0.100:80 -r 10.2.0.12 -m
";

    /// An engine with two ports, 10.1.0.1 at link 0 and 10.2.0.1 at link 1, and a service.
    pub(in crate::io) fn balanced() -> Arc<Shared> {
        let mut config = crate::config::rules::load("r", RULES).expect("good rules");
        crate::io::complete(&mut config);
        Arc::new(Shared::new(Engine::new(&config, 1).expect("possible rules")))
    }

    /// A client's first segment.
    fn syn(client: u16) -> Result<Vec<u8>, i32> {
        let mut frame = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 1, 2, 8, 0];
        let mut ip = vec![0x45, 0, 0, 40, 0, 0, 0x40, 0, 64, 6, 0, 0, 10, 1];
        ip.extend([1, 2, 10, 1, 0, 100]);
        let sum = crate::packet::checksum::of(&ip);
        ip[10..12].copy_from_slice(&sum.to_be_bytes());
        let mut tcp = client.to_be_bytes().to_vec();
        tcp.extend([0, 80, 0, 0, 0, 1, 0, 0, 0, 0, 0x50, 2, 0xff, 0xff, 0, 0, 0, 0]);
        frame.extend(ip);
        frame.extend(tcp);
        Ok(frame)
    }

    /// Who has 10.1.0.1?
    pub(in crate::io) fn who_has() -> Vec<u8> {
        let mut frame = vec![0xff; 6];
        frame.extend([
            2, 0, 0, 0, 1, 2, 8, 6, 0, 1, 8, 0, 6, 4, 0, 1, 2, 0, 0, 0, 1, 2, 10, 1, 1, 2,
        ]);
        frame.extend([0, 0, 0, 0, 0, 0, 10, 1, 0, 1]);
        frame
    }

    #[test]
    fn an_answer_leaves_by_a_queue_of_the_worker_that_got_the_question() {
        let shared = balanced();
        let ports = || vec![Memory::default(), Memory::default()];
        let (mut one, mut two) = (of(&shared, ports()), of(&shared, ports()));
        lane(&mut two).queue.waiting.push_back(Ok(who_has()));
        two.turn(Instant::ZERO);
        one.turn(Instant::ZERO);
        assert_eq!(lane(&mut one).queue.sent.len(), 0);
        let sent = &lane(&mut two).queue.sent;
        assert_eq!((sent.len(), sent[0][..6].to_vec()), (1, vec![2, 0, 0, 0, 1, 2]));
    }

    #[test]
    fn workers_in_threads_keep_one_round_and_one_account() {
        let shared = balanced();
        let count: u16 = if cfg!(miri) { 10 } else { 5000 };
        let work = |first: u16| {
            let mut worker = of(&shared, vec![Memory::default(), Memory::default()]);
            lane(&mut worker).queue.waiting.extend((0..count).map(|i| syn(first + i)));
            move || {
                while worker.is_ready() {
                    worker.turn(Instant::ZERO);
                }
                worker.lanes[1].take().expect("there").queue.sent
            }
        };
        let (one, two) = (work(1000), work(30_000));
        let sent = std::thread::scope(|scope| {
            let threads = [scope.spawn(one), scope.spawn(two)];
            threads.map(|thread| thread.join().expect("no panic"))
        });
        // Each sent what it had read, and together they went round.
        assert_eq!(sent.each_ref().map(Vec::len), [usize::from(count); 2]);
        let to = |last: u8| sent.iter().flatten().filter(|frame| frame[33] == last).count();
        assert_eq!((to(11), to(12)), (usize::from(count), usize::from(count)));
        let account = shared.lock().frames();
        let all = u32::from(count) * 2;
        let want = format!("received {all} = forwarded {all} + answered 0 + dropped 0");
        assert!(account.contains(&want), "{account}");
        assert_eq!(shared.lock().director().table().len(), usize::from(count) * 2);
    }

    #[test]
    fn time_never_runs_backwards_for_the_engine() {
        let shared = balanced();
        let mut core = shared.lock();
        let (early, late) = (Instant::ZERO, Instant::ZERO.after(std::time::Duration::from_secs(1)));
        assert_eq!((core.at(late), core.at(early)), (late, late));
    }

    #[test]
    fn what_is_read_from_or_meant_for_a_port_that_went_is_not_taken_for_another_ones() {
        let shared = balanced();
        let mut worker = of(&shared, vec![Memory::default(), Memory::default()]);
        shared.lock().end_term(LinkId(0));
        lane(&mut worker).queue.waiting.push_back(Ok(who_has()));
        worker.turn(Instant::ZERO);
        assert!(shared.lock().frames().contains("received 0"));
        worker.adopt(LinkId(0), 1, "new0", Memory::default());
        shared.lock().end_term(LinkId(1));
        lane(&mut worker).queue.waiting.push_back(syn(1000));
        worker.turn(Instant::ZERO);
        assert_eq!(worker.lanes[1].as_ref().expect("there").queue.sent.len(), 0);
        let account = shared.lock().frames();
        assert!(account.contains("received 1 = forwarded 0"), "{account}");
        assert!(account.contains("port-refused=1"), "{account}");
    }
}
