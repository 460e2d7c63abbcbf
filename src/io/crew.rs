//! The workers beside the first: a thread each, with queues of its own and the same engine.
//!
//! They read, handle and send, and do what is due, like the first one; only that one minds signals, the
//! control socket and the rules. It tells the others which ports come and go by [`Order`]s, and rings:
//! nothing of this is near the way of a packet. A worker that fails or panics ends the program in order.
//!
//! Left out on purpose: binding threads to cores, which costs more than it gives where the hosts of a
//! network share them.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{Builder, JoinHandle};
use std::{io, mem};

use log::info;
use mio::{Poll, Waker};

use super::queue::{Driven, Handle};
use super::reactor::{timeout, Clock};
use super::uring::Ring;
use super::watch::{bell, poller, Watch, BELL};
use super::worker::{Shared, Worker};
use super::Fault;
use crate::packet::LinkId;

/// What a worker is told.
#[derive(Debug)]
pub(super) enum Order {
    /// Use this queue of a new port.
    Adopt { link: LinkId, term: u32, name: String, handle: Handle },
    /// The port is no longer wanted.
    Release { name: String },
    /// Come to an end.
    End,
}

/// The workers beside the first.
pub(super) struct Crew {
    hands: Vec<Hand>,
    failed: Arc<AtomicBool>,
    /// What rings the first worker; it rings as long as it is there.
    first: Arc<Waker>,
}

/// A worker's thread.
struct Hand {
    thread: JoinHandle<Result<(), Fault>>,
    desk: Arc<Desk>,
    bell: Waker,
}

/// Where orders lie until they are done.
#[derive(Default)]
struct Desk {
    orders: Mutex<Orders>,
    done: Condvar,
}

#[derive(Default)]
struct Orders {
    new: Vec<Order>,
    /// Some were taken and are being done.
    busy: bool,
    /// Nobody will do any more.
    over: bool,
}

/// Tells the first worker when a thread ends by itself, whether it returns or panics.
struct Alarm {
    desk: Arc<Desk>,
    failed: Arc<AtomicBool>,
    first: Arc<Waker>,
}

impl Crew {
    /// Starts `count` workers for the engine `shared`, by rings if so `wanted`. One that fails rings
    /// `first`.
    pub(super) fn start(
        count: usize,
        shared: &Arc<Shared>,
        clock: Clock,
        wanted: bool,
        first: Arc<Waker>,
    ) -> Result<Self, Fault> {
        let mut crew = Self { hands: Vec::new(), failed: Arc::default(), first };
        for number in 1..=count {
            let (poll, desk) = (poller()?, Arc::<Desk>::default());
            let bell = bell(&poll)?;
            let alarm = Alarm {
                desk: Arc::clone(&desk),
                failed: Arc::clone(&crew.failed),
                first: Arc::clone(&crew.first),
            };
            let worker = Arc::clone(shared);
            let work = move || work(poll, &alarm.desk, worker, clock, wanted);
            let thread = Builder::new()
                .name(format!("worker-{number}"))
                .spawn(work)
                .map_err(|e| Fault::new(format!("starting worker {number}"), e))?;
            crew.hands.push(Hand { thread, desk, bell });
        }
        Ok(crew)
    }

    /// Gives an order to worker `number`, counted from 0 without the first one.
    pub(super) fn order(&self, number: usize, order: Order) {
        let Some(hand) = self.hands.get(number) else { return };
        hand.desk.lock().new.push(order);
        // A bell that cannot be rung has been rung too often already.
        let _ = hand.bell.wake();
    }

    /// Gives the same order to all.
    pub(super) fn order_all(&self, order: impl Fn() -> Order) {
        (0..self.hands.len()).for_each(|number| self.order(number, order()));
    }

    /// Waits until all orders are done.
    pub(super) fn settle(&self) {
        for hand in &self.hands {
            let mut orders = hand.desk.lock();
            while !orders.over && (orders.busy || !orders.new.is_empty()) {
                orders = hand.desk.done.wait(orders).unwrap_or_else(PoisonError::into_inner);
            }
        }
    }

    /// Whether a worker came to an end that was not told to.
    pub(super) fn has_failed(&self) -> bool {
        self.failed.load(Ordering::Acquire)
    }

    /// Ends all workers and waits for them.
    ///
    /// # Errors
    /// Why one ended before it was told to.
    pub(super) fn end(mut self) -> Result<(), Fault> {
        self.order_all(|| Order::End);
        let mut outcome = Ok(());
        for hand in mem::take(&mut self.hands) {
            let panicked = |_| Err(Fault::new("serving", io::Error::other("a worker panicked")));
            outcome = outcome.and(hand.thread.join().unwrap_or_else(panicked));
        }
        outcome
    }
}

impl Drop for Crew {
    fn drop(&mut self) {
        // Reached with hands only where starting failed half-way: they end with the program.
        self.order_all(|| Order::End);
    }
}

impl Desk {
    fn lock(&self) -> MutexGuard<'_, Orders> {
        self.orders.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The orders that came since the last ones were done.
    fn take(&self) -> Vec<Order> {
        let mut orders = self.lock();
        orders.busy = true;
        mem::take(&mut orders.new)
    }

    fn done(&self) {
        self.lock().busy = false;
        self.done.notify_all();
    }
}

impl Drop for Alarm {
    fn drop(&mut self) {
        let mut orders = self.desk.lock();
        if !mem::replace(&mut orders.over, true) {
            self.failed.store(true, Ordering::Release);
            let _ = self.first.wake();
        }
        drop(orders);
        self.desk.done.notify_all();
    }
}

/// A worker's whole life.
fn work(
    poll: Poll,
    desk: &Desk,
    shared: Arc<Shared>,
    clock: Clock,
    wanted: bool,
) -> Result<(), Fault> {
    // The first one has said whether there are rings here, and why not.
    let ring = wanted.then(Ring::new).and_then(Result::ok);
    let mut watch = Watch::new(poll, ring);
    let mut worker = Worker::new(shared, false);
    let (mut now, mut rung) = (clock.now(), true);
    loop {
        let sleep = timeout(now, worker.is_ready() || rung, worker.deadline());
        watch.wait(sleep, |token| match token {
            BELL => rung = true,
            token => worker.wake(token),
        })?;
        now = clock.now();
        if mem::take(&mut rung) {
            let ends = desk.take().into_iter().any(|order| obey(order, &mut worker, &watch));
            desk.done();
            if ends {
                watch.finish();
                worker.settle();
                desk.lock().over = true;
                return Ok(());
            }
        }
        worker.turn(now);
    }
}

/// Does as told; true if the end has come.
fn obey(order: Order, worker: &mut Worker<Driven>, watch: &Watch) -> bool {
    match order {
        Order::Adopt { link, term, name, handle } => {
            let reads = handle.reads;
            let (queue, _) = handle.drive(watch.ring());
            let polled = queue.polled().filter(|_| reads);
            let watched = polled.map(|fd| watch.add(usize::from(link.0), &name, fd));
            if let Some(Err(fault)) = watched {
                info!("port {name}: {fault}; this worker only sends there");
            }
            worker.adopt(link, term, &name, queue);
            false
        }
        Order::Release { name } => {
            worker.release(&name);
            false
        }
        Order::End => true,
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixDatagram;

    use super::*;
    use crate::io::sys;
    use crate::io::worker::tests::{balanced, who_has};
    use crate::packet::vnet;

    /// A frame as an offloaded device gives it.
    fn question() -> Vec<u8> {
        [vec![0; vnet::HEADER], who_has()].concat()
    }

    fn answers(rings: bool) {
        let poll = poller().expect("a poller");
        let first = bell(&poll).expect("a bell");
        let shared = balanced();
        let crew =
            Crew::start(1, &shared, Clock::start(), rings, Arc::new(first)).expect("a thread");
        let (ours, theirs) = UnixDatagram::pair().expect("a pair");
        ours.set_nonblocking(true).expect("possible");
        theirs.set_read_timeout(Some(std::time::Duration::from_secs(100))).expect("possible");
        let takes = Some(vnet::Takes { tcp: true, udp: true });
        let handle = Handle { file: sys::own(ours), link: 14, takes, reads: true };
        let name = "tap0".to_owned();
        crew.order(0, Order::Adopt { link: LinkId(0), term: 0, name: name.clone(), handle });
        for _ in 0..3 {
            theirs.send(&question()).expect("room");
            let mut answer = [0; 128];
            // A ring that was given up a moment ago may interrupt the thread that had it.
            let interrupted = |e: &io::Error| e.kind() == io::ErrorKind::Interrupted;
            let len = loop {
                match theirs.recv(&mut answer) {
                    Err(e) if interrupted(&e) => {}
                    told => break told.expect("an answer"),
                }
            };
            assert!(len > vnet::HEADER + 14 && answer[vnet::HEADER + 21] == 2, "a reply");
        }
        crew.order_all(|| Order::Release { name: name.clone() });
        crew.settle();
        let error = theirs.send(&question()).expect_err("nobody is there any more");
        assert_eq!(error.raw_os_error(), Some(libc::ECONNREFUSED));
        assert!(!crew.has_failed());
        crew.end().expect("no fault");
        assert!(shared.lock().frames().contains("received 3 = forwarded 0 + answered 3"));
    }

    #[test]
    fn a_worker_uses_its_queue_from_when_it_gets_it_until_it_is_told_to_give_it_up() {
        answers(false);
        if crate::io::queue::tests::ring().is_some() {
            answers(true);
        }
    }

    #[test]
    fn a_worker_that_ends_untold_rings_and_nobody_waits_for_it() {
        let poll = poller().expect("a poller");
        let first = bell(&poll).expect("a bell");
        let mut crew = Crew { hands: Vec::new(), failed: Arc::default(), first: Arc::new(first) };
        let (other, desk) = (poller().expect("a poller"), Arc::<Desk>::default());
        let bell = bell(&other).expect("a bell");
        let alarm = Alarm {
            desk: Arc::clone(&desk),
            failed: Arc::clone(&crew.failed),
            first: Arc::clone(&crew.first),
        };
        let thread = std::thread::spawn(move || {
            let _alarm = alarm;
            panic!("as wanted by the test");
        });
        crew.hands.push(Hand { thread, desk, bell });
        let mut watch = Watch::new(poll, None);
        let mut rung = Vec::new();
        // A process that is stopped and goes on waits no longer, for nothing.
        while rung.is_empty() {
            watch.wait(None, |token| rung.push(token)).expect("no error");
        }
        assert_eq!(rung, [BELL]);
        assert!(crew.has_failed());
        crew.order_all(|| Order::Release { name: "tap0".to_owned() });
        crew.settle();
        assert!(crew.end().expect_err("it panicked").to_string().contains("panicked"));
    }
}
