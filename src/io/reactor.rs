//! Waits: for frames, for signals, for the next deadline; and knows the time.
//!
//! A mio loop. Descriptors are watched edge-triggered and read until empty by the
//! [`worker`](super::worker). The clock is read once for all batches of a turn, here and nowhere
//! else. SIGTERM and SIGINT end the program, SIGUSR1 logs the table and the account of frames,
//! SIGHUP (or, if wanted, a change of the file) reads the rules again.
//!
//! Addresses are announced, and `ready` is printed, as soon as every port can carry frames: a bridge
//! begins to forward a moment after a port has joined it, and what is sent before is lost.

use std::io::{self, Write};
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::time::Duration;

use log::{debug, info, warn};
use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Registry, Token};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGUSR1};
use signal_hook_mio::v1_0::Signals;

use super::desk::Host;
use super::reload::reload;
use super::socket::{Socket, Wanted};
use super::sys::Control;
use super::tap::{self, Port};
use super::worker::Worker;
use super::Fault;
use crate::config::Config;
use crate::engine::Engine;
use crate::world::Instant;

const SIGNALS: Token = Token(usize::MAX);

/// How long ports may take to settle before we announce our addresses regardless.
const SETTLE_MAX: Duration = Duration::from_secs(3);

/// How often the memory is looked at, while a defence depends on it.
const MEMORY_STEP: Duration = Duration::from_secs(1);

/// How often the rules file is looked at, if it is watched.
const WATCH_STEP: Duration = Duration::from_secs(1);

/// How often we look whether they have.
const SETTLE_STEP: Duration = Duration::from_millis(10);

/// Where the rules come from, to be read again.
pub trait Rules {
    /// The rules as they are now.
    ///
    /// # Errors
    /// All that is wrong with them, as text for people.
    fn read(&self) -> Result<Config, String>;

    /// Something that changes when the rules may have changed; `None` if they are not watched.
    fn stamp(&self) -> Option<u64>;
}

/// Opens every port of `config`, which [`complete`](super::complete) has been through, and serves
/// them and the control `socket` with `engine` until a signal ends it. Whatever the outcome,
/// everything is undone.
///
/// # Errors
/// A port or the socket could not be opened, or all ports are gone.
pub fn run(
    config: &Config,
    engine: Engine,
    rules: &dyn Rules,
    engine_wish: tap::Wish,
    socket: &Wanted,
) -> Result<(), Fault> {
    // Signals first: from here on one that comes while ports are being opened ends us in order.
    let mut watch = Watch::new()?;
    let mut socket = Socket::make(socket, watch.registry())?;
    let control = Control::open().map_err(|e| Fault::new("opening a control socket", e))?;
    let control = Arc::new(control);
    let mut ports = Vec::new();
    for port in &config.ports {
        ports.push((port.name.clone(), Port::open(&control, port, engine_wish)?));
    }
    warn_of_bridge_filter(config);
    for (index, (name, port)) in ports.iter().enumerate() {
        watch.add(index, name, port)?;
    }
    let mut worker = Worker::new(engine, ports);
    let reload = Reload { control, rules, engine_wish };
    let outcome = serve(&mut watch, &mut worker, &reload, &mut socket);
    worker.log_frames();
    outcome
}

/// What a reload needs.
struct Reload<'a> {
    control: Arc<Control>,
    rules: &'a dyn Rules,
    engine_wish: tap::Wish,
}

impl Reload<'_> {
    /// Reads the rules again and changes over to them, or says why not and changes nothing.
    fn run(
        &self,
        worker: &mut Worker<Port>,
        watch: &Watch,
        now: Instant,
    ) -> Result<Vec<String>, String> {
        let read = self.rules.read().map(|mut new| {
            super::complete(&mut new);
            new
        });
        let done =
            read.and_then(|new| reload(worker, &self.control, self.engine_wish, watch, now, new));
        match &done {
            Ok(lines) if lines.is_empty() => info!("reload: the rules are the same"),
            Ok(lines) => {
                lines.iter().for_each(|line| info!("reload: {line}"));
                info!("reload: done, {} lines differ", lines.len());
            }
            Err(why) => {
                why.lines().for_each(|line| warn!("reload: {line}"));
                warn!("reload: nothing was changed");
            }
        }
        done
    }
}

/// What clients of the control socket may ask.
struct Running<'a> {
    worker: &'a mut Worker<Port>,
    watch: &'a Watch,
    reload: &'a Reload<'a>,
    now: Instant,
}

impl Host for Running<'_> {
    fn engine(&mut self) -> &mut Engine {
        self.worker.engine()
    }

    fn reload(&mut self) -> Result<Vec<String>, String> {
        self.reload.run(self.worker, self.watch, self.now)
    }
}

/// Turns until a signal says that it is enough.
fn serve(
    watch: &mut Watch,
    worker: &mut Worker<Port>,
    reload: &Reload<'_>,
    socket: &mut Option<Socket>,
) -> Result<(), Fault> {
    let clock = Clock::start();
    let mut now = clock.now();
    let (mut announced, mut asked) = (false, false);
    let mut stamp = reload.rules.stamp();
    let mut look = now.after(WATCH_STEP);
    let mut memory_look = now;
    loop {
        let watched = stamp.map(|_| look);
        let settle = (!announced).then(|| now.after(SETTLE_STEP));
        let stalled = socket.as_ref().and_then(Socket::deadline);
        let deadlines = [worker.deadline(), watched, stalled, settle];
        let timeout = match deadlines.into_iter().flatten().min() {
            _ if worker.is_ready() || asked => Some(Duration::ZERO),
            Some(due) => Some(due.since(now)),
            None => None,
        };
        let wish = watch.wait(timeout, |token| {
            if !socket.as_mut().is_some_and(|socket| socket.wake(token)) {
                worker.wake(token);
            }
        })?;
        now = clock.now();
        if memory_look <= now && worker.engine().minds_memory() {
            memory_look = now.after(MEMORY_STEP);
            available_pages().into_iter().for_each(|pages| worker.engine().set_memory(pages));
        }
        worker.turn(now);
        asked = answer(socket, watch, worker, reload, now);
        if wish.listing {
            worker.log_listing();
        }
        let mut changed = false;
        if watched.is_some_and(|look| look <= now) {
            look = now.after(WATCH_STEP);
            let present = reload.rules.stamp();
            changed = std::mem::replace(&mut stamp, present) != present;
        }
        if wish.reload || changed {
            // What came of it has been logged.
            let _ = reload.run(worker, watch, now);
        }
        if wish.end {
            return Ok(());
        }
        if worker.is_lost() {
            return Err(Fault::new("serving", io::Error::other("no port is left")));
        }
        if !announced && has_settled(worker, now) {
            announced = true;
            worker.announce(now);
            say_ready();
        }
    }
}

/// Answers clients of the control socket for a while; true if there is more to do at once.
fn answer(
    socket: &mut Option<Socket>,
    watch: &Watch,
    worker: &mut Worker<Port>,
    reload: &Reload<'_>,
    now: Instant,
) -> bool {
    let Some(socket) = socket else { return false };
    let mut host = Running { worker, watch, reload, now };
    let more = socket.turn(now, &mut host, watch.registry());
    if socket.has_clients() {
        // What was changed may have something to announce.
        worker.drain();
    }
    more
}

/// Free and buffer memory in pages of 4 KiB, as far as the system tells.
fn available_pages() -> Option<u64> {
    pages_of(&std::fs::read_to_string("/proc/meminfo").ok()?)
}

fn pages_of(meminfo: &str) -> Option<u64> {
    let kib = |name: &str| -> Option<u64> {
        let rest = meminfo.lines().find_map(|line| line.strip_prefix(name))?;
        rest.split_whitespace().next()?.parse().ok()
    };
    Some((kib("MemFree:")? + kib("Buffers:")?) / 4)
}

fn has_settled(worker: &Worker<Port>, now: Instant) -> bool {
    let late = now.since(Instant::ZERO) >= SETTLE_MAX;
    let waiting: Vec<_> =
        worker.queues().filter(|port| !port.is_settled()).map(Port::name).collect();
    if late && !waiting.is_empty() {
        warn!(
            "{} does not forward yet (spanning tree?); neighbours may learn of us late",
            waiting.join(", ")
        );
    }
    late || waiting.is_empty()
}

/// Tells scripts that wait for it. That nobody listens is no reason to stop.
pub(super) fn say_ready() {
    let mut out = io::stdout().lock();
    if let Err(e) = writeln!(out, "ready").and_then(|()| out.flush()) {
        debug!("saying ready: {e}");
    }
}

/// A bridge that hands its packets to the kernel's firewall slows every frame down, and its rules
/// and connection tracking then see what we balance.
fn warn_of_bridge_filter(config: &Config) {
    let bridged = |name: &str| tap::master_of(name).is_some();
    if !config.ports.iter().any(|p| p.settings.master.is_some() || bridged(&p.name)) {
        return;
    }
    let on = |which: &str| {
        let path = format!("/proc/sys/net/bridge/bridge-nf-call-{which}");
        std::fs::read_to_string(path).is_ok_and(|value| value.trim() == "1")
    };
    for which in ["iptables", "ip6tables"].into_iter().filter(|which| on(which)) {
        warn!(
            "bridged packets pass the kernel's firewall, which costs time and may drop them; \
             sysctl -w net.bridge.bridge-nf-call-{which}=0"
        );
    }
}

/// What signals asked for.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) struct Wish {
    pub(super) end: bool,
    pub(super) listing: bool,
    pub(super) reload: bool,
}

/// Descriptors and signals that are waited for together.
pub(super) struct Watch {
    poll: Poll,
    events: Events,
    signals: Signals,
}

impl Watch {
    pub(super) fn new() -> Result<Self, Fault> {
        let fault = |e| Fault::new("watching for signals", e);
        let poll = Poll::new().map_err(fault)?;
        let mut signals = Signals::new([SIGTERM, SIGINT, SIGUSR1, SIGHUP]).map_err(fault)?;
        poll.registry().register(&mut signals, SIGNALS, Interest::READABLE).map_err(fault)?;
        Ok(Self { poll, events: Events::with_capacity(64), signals })
    }

    /// Where other things to wait for are told.
    pub(super) fn registry(&self) -> &Registry {
        self.poll.registry()
    }

    /// Watches one descriptor for something to read.
    pub(super) fn add(&self, index: usize, name: &str, on: &impl AsRawFd) -> Result<(), Fault> {
        self.poll
            .registry()
            .register(&mut SourceFd(&on.as_raw_fd()), Token(index), Interest::READABLE)
            .map_err(|e| Fault::new(format!("watching {name}"), e))
    }

    /// Waits for `timeout` at most, calls `wake` with the index of each descriptor that can be
    /// read, and says what signals asked for.
    pub(super) fn wait(
        &mut self,
        timeout: Option<Duration>,
        mut wake: impl FnMut(usize),
    ) -> Result<Wish, Fault> {
        match self.poll.poll(&mut self.events, timeout) {
            Ok(()) => {}
            Err(e) if e.kind() == io::ErrorKind::Interrupted => return Ok(Wish::default()),
            Err(e) => return Err(Fault::new("waiting", e)),
        }
        let mut wish = Wish::default();
        for event in &self.events {
            if event.token() != SIGNALS {
                wake(event.token().0);
                continue;
            }
            for signal in self.signals.pending() {
                match signal {
                    SIGUSR1 => wish.listing = true,
                    SIGHUP => wish.reload = true,
                    _ => wish.end = true,
                }
            }
        }
        Ok(wish)
    }
}

/// Makes the core's instants out of the system's.
#[derive(Debug)]
struct Clock(std::time::Instant);

impl Clock {
    #[expect(clippy::disallowed_methods, reason = "the one place that reads the clock")]
    fn start() -> Self {
        Self(std::time::Instant::now())
    }

    fn now(&self) -> Instant {
        Instant::ZERO.after(self.0.elapsed())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn free_and_buffer_memory_is_what_is_available() {
        let text = "MemTotal:  9000 kB\nMemFree:    4000 kB\nMemAvailable: 1 kB\nBuffers:  96 kB\n";
        assert_eq!(pages_of(text), Some(1024));
        assert_eq!(pages_of("MemFree: x kB\n"), None);
    }

    #[test]
    fn the_clock_begins_at_zero_and_does_not_run_backwards() {
        let clock = Clock::start();
        let (a, b) = (clock.now(), clock.now());
        assert!(a <= b && a.since(Instant::ZERO) < Duration::from_secs(60));
    }

    #[test]
    fn a_descriptor_that_can_be_read_wakes_and_signals_are_wishes() {
        let (ours, theirs) = std::os::unix::net::UnixDatagram::pair().expect("a pair");
        let mut watch = Watch::new().expect("signals can be watched");
        watch.add(5, "pair", &ours).expect("it can be watched");
        theirs.send(b"x").expect("room");
        let mut woken = Vec::new();
        let wish = watch.wait(None, |index| woken.push(index)).expect("no error");
        assert_eq!((wish, woken), (Wish::default(), vec![5]));
        signal_hook::low_level::raise(SIGUSR1).expect("it is our own process");
        let wish = loop {
            let wish = watch.wait(None, |_| ()).expect("no error");
            if wish != Wish::default() {
                break wish;
            }
        };
        assert_eq!(wish, Wish { listing: true, ..Wish::default() });
    }
}
