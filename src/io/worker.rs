//! Moves frames: reads a batch from each queue that has some, lets the engine handle each, sends
//! what the engine says.
//!
//! One worker owns one queue of every port and a whole engine, and shares nothing. Queues are read
//! by turns, [`BUDGET`] frames at most from each, so that a busy port cannot starve a quiet one. No
//! error about a frame ends a worker: what a port does not take is counted by the engine, and a
//! port whose device is gone is left alone.
//!
//! Left out on purpose: waiting and the clock, which are [`reactor`](super::reactor)'s.

use std::io;

use log::{error, info, warn};

use super::tap::Queue;
use crate::engine::Engine;
use crate::packet::{LinkId, Packet, FRAME_MAX};
use crate::slow::Conflict;
use crate::world::Instant;

/// Frames taken from one port before it is the next one's turn. With fewer the costs of a turn
/// show, with many more nothing is gained.
pub const BUDGET: usize = 64;

/// An engine with its queues; queue `i` is `LinkId(i)`. A port that was taken away leaves a gap.
#[derive(Debug)]
pub struct Worker<Q> {
    engine: Engine,
    lanes: Vec<Option<Lane<Q>>>,
    packet: Packet,
}

#[derive(Debug)]
struct Lane<Q> {
    link: LinkId,
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
    /// A worker for `engine` with the queues of its ports and their names, in the order of their
    /// links. All are taken to be ready.
    pub fn new(engine: Engine, queues: Vec<(String, Q)>) -> Self {
        let lane = |(link, (name, queue))| Some(Lane::new(LinkId(link), name, queue));
        let lanes = (0..).zip(queues).map(lane).collect();
        Self { engine, lanes, packet: Packet::with_capacity(FRAME_MAX) }
    }

    /// What runs.
    pub const fn engine(&mut self) -> &mut Engine {
        &mut self.engine
    }

    /// The queues.
    pub fn queues(&self) -> impl Iterator<Item = &Q> {
        self.lanes.iter().flatten().map(|lane| &lane.queue)
    }

    /// The queue of a port.
    pub fn queue_mut(&mut self, name: &str) -> Option<&mut Q> {
        let lane = self.lanes.iter_mut().flatten().find(|lane| lane.name == name)?;
        Some(&mut lane.queue)
    }

    /// Takes the queue of a new port into use, under the link that the engine has given it.
    pub fn adopt(&mut self, name: &str, queue: Q) -> Option<LinkId> {
        let link = self.engine.link_named(name)?;
        let at = usize::from(link.0);
        self.lanes.resize_with(self.lanes.len().max(at + 1), || None);
        self.lanes[at] = Some(Lane::new(link, name.to_owned(), queue));
        Some(link)
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
        self.lanes.iter().flatten().any(|lane| lane.ready)
    }

    /// Whether there were ports, and the devices of all are gone.
    pub fn is_lost(&self) -> bool {
        let mut lanes = self.lanes.iter().flatten().peekable();
        lanes.peek().is_some() && lanes.all(|lane| lane.health == Health::Lost)
    }

    /// Handles one batch from each ready queue and does what is due.
    pub fn turn(&mut self, now: Instant) {
        for index in 0..self.lanes.len() {
            if self.lanes[index].as_ref().is_some_and(|lane| lane.ready) {
                self.batch(index, now);
                self.drain();
            }
        }
        if self.engine.deadline().is_some_and(|due| due <= now) {
            self.engine.poll(now);
            self.drain();
        }
    }

    /// Tells every network of our addresses.
    pub fn announce(&mut self, now: Instant) {
        self.engine.announce(now);
        self.drain();
    }

    /// When [`turn`](Self::turn) has something to do even if no frame comes.
    pub fn deadline(&self) -> Option<Instant> {
        self.engine.deadline()
    }

    /// Logs what `ipvsadm -Ln` would print, and the account of frames.
    pub fn log_listing(&self) {
        for line in self.engine.listing().lines() {
            info!("{line}");
        }
        self.log_frames();
    }

    /// Logs the account of frames.
    pub fn log_frames(&self) {
        info!("{}", self.engine.frames());
    }

    fn batch(&mut self, index: usize, now: Instant) {
        for taken in 0..BUDGET {
            let Some(lane) = &mut self.lanes[index] else { return };
            match lane.queue.recv(lane.link, &mut self.packet) {
                Ok(true) => lane.recovered(),
                Ok(false) => {
                    lane.ready = false;
                    return;
                }
                Err(error) => return lane.failed(&error),
            }
            if taken == 0 {
                let ahead = (0..BUDGET - 1).map_while(|place| lane.queue.ahead(place));
                self.engine.prefetch(lane.link, ahead);
            }
            if let Some(link) = self.engine.handle(now, &mut self.packet) {
                send(&mut self.lanes, &mut self.engine, link, &mut self.packet);
            }
        }
    }

    /// Sends what the engine has to say by itself, and all that queues still hold back.
    pub(super) fn drain(&mut self) {
        while let Some(mut packet) = self.engine.take() {
            send(&mut self.lanes, &mut self.engine, packet.link, &mut packet);
        }
        for lane in self.lanes.iter_mut().flatten() {
            for _ in 0..lane.queue.flush() {
                self.engine.refused(lane.link);
            }
            lane.ready |= lane.health == Health::Fine && lane.queue.is_waiting();
        }
        for Conflict { addr, mac, link } in self.engine.take_conflicts() {
            let lane = self.lanes.get(usize::from(link.0)).and_then(Option::as_ref);
            let port = lane.map_or("?", |lane| lane.name.as_str());
            warn!("port {port}: {mac} also claims our address {addr}; should it keep silent?");
        }
    }
}

/// Sends or counts; never waits.
fn send<Q: Queue>(
    lanes: &mut [Option<Lane<Q>>],
    engine: &mut Engine,
    link: LinkId,
    packet: &mut Packet,
) {
    let sent = match lanes.get_mut(usize::from(link.0)) {
        Some(Some(lane)) if lane.health != Health::Lost => lane.queue.send(packet).is_ok(),
        _ => false,
    };
    if !sent {
        engine.refused(link);
    }
}

impl<Q> Lane<Q> {
    const fn new(link: LinkId, name: String, queue: Q) -> Self {
        Self { link, name, queue, health: Health::Fine, ready: true }
    }

    fn recovered(&mut self) {
        if self.health == Health::Ailing {
            self.health = Health::Fine;
            info!("port {}: frames come again", self.name);
        }
    }

    /// Reading failed: it is not tried again before the next wake-up, and said once.
    fn failed(&mut self, error: &io::Error) {
        self.ready = false;
        if error.raw_os_error() == Some(libc::EBADFD) {
            self.health = Health::Lost;
            error!("port {}: the device is gone", self.name);
        } else if self.health == Health::Fine {
            self.health = Health::Ailing;
            warn!("port {}: reading: {error}", self.name);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Config, LinkSettings, PortConfig, PortKind};
    use crate::io::tap::memory::Memory;
    use crate::packet::Mac;

    fn worker(queues: Vec<Memory>) -> Worker<Memory> {
        let names: Vec<_> = (0..queues.len()).map(|i| format!("tap{i}")).collect();
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
        Worker::new(engine, names.into_iter().zip(queues).collect())
    }

    fn frames(count: usize) -> Memory {
        let waiting = (0..count).map(|_| Ok(vec![0; 60])).collect();
        Memory { waiting, sent: Vec::new() }
    }

    fn lane(worker: &mut Worker<Memory>) -> &mut Lane<Memory> {
        worker.lanes[0].as_mut().expect("there")
    }

    fn left(worker: &Worker<Memory>) -> Vec<usize> {
        worker.queues().map(|queue| queue.waiting.len()).collect()
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
        send(&mut worker.lanes, &mut worker.engine, LinkId(9), &mut packet);
        send(&mut worker.lanes, &mut worker.engine, LinkId(0), &mut packet);
        assert_eq!(lane(&mut worker).queue.sent, [b"x"]);
    }
}
