//! Waits: for frames, for signals, for the next deadline; and knows the time.
//!
//! The loop of the first worker; those of the others, in [`crew`](super::crew), are its heart alone.
//! The clock is read once for all batches of a turn. SIGTERM and SIGINT end the program, SIGUSR1 logs
//! the table and the account of frames, SIGHUP (or, if wanted, a change of the file) reads the rules again.
//!
//! Addresses are announced, and `ready` is printed, as soon as every port can carry frames: a bridge
//! begins to forward a moment after a port has joined it, and what is sent before is lost.

use std::io::{self, Write};
use std::sync::Arc;
use std::time::Duration;

use log::{debug, info, warn};

use super::crew::Crew;
use super::desk::Host;
use super::floor::{Changing, Floor};
use super::queue::Driven;
use super::reading::{Outcome, Reading};
use super::socket::{Socket, Wanted};
use super::sys::Control;
use super::tap::{self, Port, Wish};
use super::watch::{bell, poller, Watch, BELL, LINKS};
use super::worker::{Shared, Worker};
use super::Fault;
use crate::config::complaint::TOLD_MAX;
use crate::config::{Config, PortConfig};
use crate::control::status::Trouble;
use crate::engine::Engine;
use crate::world::Instant;

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

/// How frames are to be moved, and by how many workers.
#[derive(Debug, Clone, Copy)]
pub struct Plan {
    /// By which engine.
    pub wish: Wish,
    /// Threads, one at least.
    pub workers: usize,
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
    rules: &(dyn Rules + Sync),
    plan: Plan,
    socket: &Wanted,
) -> Result<(), Fault> {
    // Signals first: from here on one that comes while ports are being opened ends us in order.
    let poll = poller()?;
    let first = Arc::new(bell(&poll)?);
    let mut watch = Watch::new(poll, plan.wish.ring()).with_signals()?;
    let mut socket = Socket::make(socket, watch.registry())?;
    let control = Control::open().map_err(|e| Fault::new("opening a control socket", e))?;
    let clock = Clock::start();
    let mut engine = engine;
    engine.set_time_of_day(Clock::time_of_day());
    let shared = Arc::new(Shared::new(engine));
    let rings = watch.ring().is_some();
    let others = plan.workers.saturating_sub(1);
    let crew = Crew::start(others, &shared, clock, rings, Arc::clone(&first))?;
    let mut floor = Floor {
        worker: Worker::new(Arc::clone(&shared), true),
        crew,
        ports: Vec::new(),
        control: Arc::new(control),
        workers: plan.workers.max(1),
        links: None,
        told: Vec::new(),
    };
    floor.watch_links(&watch);
    let opened = floor.open(config, &watch);
    let ran = opened.is_ok();
    let outcome = opened.and_then(|()| {
        warn_of_bridge_filter(config);
        std::thread::scope(|scope| {
            let mut reading = Reading::new(scope, rules, shared, first);
            serve(&mut watch, &mut floor, &mut reading, rules, clock, &mut socket)
        })
    });
    floor.close(&watch, ran, outcome)
}

/// What clients of the control socket may ask.
struct Running<'a, 'scope, 'env> {
    floor: &'a mut Floor,
    reading: &'a mut Reading<'scope, 'env>,
}

impl Host for Running<'_, '_, '_> {
    fn with<T>(&mut self, what: impl FnOnce(&mut Engine) -> T) -> T {
        self.floor.worker.with(|core| what(core))
    }

    fn reload(&mut self) -> u64 {
        self.reading.want()
    }

    fn reloaded(&self, ticket: u64) -> Option<&Outcome> {
        self.reading.outcome(ticket)
    }

    fn troubles(&self, ports: &[PortConfig]) -> Vec<Trouble> {
        let wish = |name: &str| ports.iter().find(|port| port.name == name);
        self.floor.ports.iter().filter_map(|port| port.trouble(wish(port.name())?)).collect()
    }
}

/// Changes over to rules that were read, a portion a turn, or says why not and changes nothing; true as long
/// as there is more to do.
fn change_over(
    changing: &mut Option<Changing>,
    reading: &mut Reading<'_, '_>,
    floor: &mut Floor,
    watch: &Watch,
    now: Instant,
) -> bool {
    let mut done = changing.as_mut().and_then(|changing| floor.proceed(now, changing));
    if let Some(read) = changing.is_none().then(|| reading.take()).flatten() {
        match read.and_then(|fresh| floor.reload(watch, now, fresh)) {
            Ok(begun) => *changing = Some(begun),
            Err(why) => done = Some(Err(why)),
        }
    }
    if let Some(outcome) = done {
        *changing = None;
        tell(&outcome);
        reading.conclude(outcome);
    }
    changing.is_some()
}

/// Logs what came of a reload.
fn tell(outcome: &Outcome) {
    match outcome {
        Ok(lines) if lines.is_empty() => info!("reload: the rules are the same"),
        Ok(lines) => {
            let count = lines.lines().count();
            logged(lines, count).for_each(|line| info!("reload: {line}"));
            let s = if count == 1 { " differs" } else { "s differ" };
            info!("reload: done, {count} line{s}");
        }
        Err(why) => {
            // What was written for a client names the program, which the log has no need of.
            let told = why.lines().map(|line| line.strip_prefix("tapvs: ").unwrap_or(line));
            told.for_each(|line| warn!("reload: {line}"));
            warn!("reload: nothing was changed");
        }
    }
}

/// The lines of a difference that are logged: packets wait for the log, and nobody reads it all.
fn logged(lines: &str, count: usize) -> impl Iterator<Item = String> + '_ {
    let more = count.saturating_sub(TOLD_MAX);
    let more = (more > 0).then(|| format!("… and {more} more"));
    lines.lines().take(TOLD_MAX).map(str::to_owned).chain(more)
}

/// How long a worker may wait from `now` on, if there is something to do at once, or at `due`.
pub(super) fn timeout(now: Instant, at_once: bool, due: Option<Instant>) -> Option<Duration> {
    if at_once {
        return Some(Duration::ZERO);
    }
    due.map(|due| due.since(now))
}

/// Turns until a signal says that it is enough.
fn serve(
    watch: &mut Watch,
    floor: &mut Floor,
    reading: &mut Reading<'_, '_>,
    rules: &dyn Rules,
    clock: Clock,
    socket: &mut Option<Socket>,
) -> Result<(), Fault> {
    let mut now = clock.now();
    let (mut announced, mut asked, mut changing) = (false, false, None);
    let mut file = Watched { stamp: rules.stamp(), is_new: false };
    let mut look = now.after(WATCH_STEP);
    let mut memory_look = now;
    loop {
        let watched = file.stamp.map(|_| look);
        let settle = (!announced).then(|| now.after(SETTLE_STEP));
        let stalled = socket.as_ref().and_then(Socket::deadline);
        let deadlines = [floor.worker.deadline(), watched, stalled, settle];
        let due = deadlines.into_iter().flatten().min();
        let sleep = timeout(now, floor.worker.is_ready() || asked, due);
        let mut links = false;
        let wish = watch.wait(sleep, |token| {
            links |= token == LINKS;
            if token != BELL && !socket.as_mut().is_some_and(|socket| socket.wake(token)) {
                floor.worker.wake(token);
            }
        })?;
        now = clock.now();
        if memory_look <= now {
            memory_look = now.after(MEMORY_STEP);
            look_at_memory(&floor.worker);
        }
        floor.worker.turn(now);
        // Nobody sees, or changes, what is halfway between two rules files.
        asked = change_over(&mut changing, reading, floor, watch, now)
            || answer(socket, watch, floor, reading, now);
        if links {
            floor.look();
        }
        if wish.listing {
            floor.log_listing();
        }
        let mut changed = false;
        if watched.is_some_and(|look| look <= now) {
            look = now.after(WATCH_STEP);
            changed = file.is_written(rules.stamp());
        }
        if wish.reload || changed {
            // What comes of it will be logged.
            let _ = reading.want();
        }
        // Why a worker failed is known when it is joined.
        if wish.end || floor.crew.has_failed() {
            return Ok(());
        }
        if floor.worker.is_lost() {
            return Err(Fault::new("serving", io::Error::other("no port is left")));
        }
        if !announced && has_settled(&floor.ports, now) {
            announced = true;
            floor.worker.with(|core| core.announce(now));
            say_ready();
        }
    }
}

/// The rules file as it was when it was looked at last.
struct Watched {
    stamp: Option<u64>,
    /// It had changed then.
    is_new: bool,
}

impl Watched {
    /// Whether the file has changed and then stayed as it is for a step: before that somebody may still
    /// be writing, and half a file may read as rules.
    fn is_written(&mut self, present: Option<u64>) -> bool {
        let is_new = std::mem::replace(&mut self.stamp, present) != present;
        std::mem::replace(&mut self.is_new, is_new) && !is_new
    }
}

/// Answers clients of the control socket for a while; true if there is more to do at once.
fn answer(
    socket: &mut Option<Socket>,
    watch: &Watch,
    floor: &mut Floor,
    reading: &mut Reading<'_, '_>,
    now: Instant,
) -> bool {
    let Some(socket) = socket else { return false };
    let mut host = Running { floor, reading };
    socket.turn(now, &mut host, watch.registry())
}

/// Tells the engine how much memory is left, if a defence depends on it.
fn look_at_memory(worker: &Worker<Driven>) {
    let minds = worker.shared().lock().minds_memory();
    if let Some(pages) = minds.then(available_pages).flatten() {
        worker.shared().lock().set_memory(pages);
    }
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

fn has_settled(ports: &[Port], now: Instant) -> bool {
    let late = now.since(Instant::ZERO) >= SETTLE_MAX;
    let waiting: Vec<_> = ports.iter().filter(|port| !port.is_settled()).map(Port::name).collect();
    // What carries nothing without a bridge was told of when it was opened.
    let slow: Vec<_> =
        waiting.iter().copied().filter(|port| tap::master_of(port).is_some()).collect();
    if late && !slow.is_empty() {
        warn!(
            "{} does not forward yet (spanning tree?); neighbours may learn of us late",
            slow.join(", ")
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

/// Makes the core's instants out of the system's.
#[derive(Debug, Clone, Copy)]
pub(super) struct Clock(std::time::Instant);

impl Clock {
    #[expect(clippy::disallowed_methods, reason = "the one place that reads the clock")]
    pub(super) fn start() -> Self {
        Self(std::time::Instant::now())
    }

    /// What time of day (UTC) it is; a day is as long as any other.
    #[expect(clippy::disallowed_methods, reason = "the one place that reads the clock")]
    fn time_of_day() -> Duration {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        let now = now.unwrap_or_default();
        Duration::new(now.as_secs() % 86_400, now.subsec_nanos())
    }

    pub(super) fn now(&self) -> Instant {
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
    fn of_a_large_difference_the_first_lines_are_logged_and_how_many_more_there_are() {
        let lines: Vec<_> = (0..=TOLD_MAX).map(|i| format!("+ -A -f {i}")).collect();
        let told =
            |lines: &[String]| -> Vec<_> { logged(&lines.join("\n"), lines.len()).collect() };
        assert_eq!(told(&lines[1..]), lines[1..]);
        let all = told(&lines);
        assert_eq!(all[..TOLD_MAX], lines[..TOLD_MAX]);
        assert_eq!(all[TOLD_MAX..], ["… and 1 more"]);
    }

    #[test]
    fn a_file_is_read_again_once_it_has_stayed_the_same_for_a_step() {
        let mut file = Watched { stamp: Some(1), is_new: false };
        let written = [1, 2, 3, 3, 3, 4, 4].map(|stamp| file.is_written(Some(stamp)));
        assert_eq!(written, [false, false, false, true, false, false, true]);
    }

    #[test]
    fn the_clock_begins_at_zero_and_does_not_run_backwards() {
        let clock = Clock::start();
        let (a, b) = (clock.now(), clock.now());
        assert!(a <= b && a.since(Instant::ZERO) < Duration::from_secs(60));
    }
}
