//! The rules are read by a thread of their own, so that no packet waits for a long file.
//!
//! Whoever wants them read gets a ticket. A reading that has begun may have missed what was written
//! since, so a wish that comes meanwhile is another reading's, and all wishes that come meanwhile are the
//! same one's. What is read is changed over to by the first worker, between two batches; the ticket then
//! gives the outcome.
//!
//! Left out on purpose: breaking a reading off. Who ends the program waits for it.

use std::sync::mpsc::{self, Receiver, TryRecvError};
use std::sync::Arc;
use std::thread::{Builder, Scope};
use std::time::Duration;

use log::{debug, warn};
use mio::Waker;

use super::reactor::Rules;
use super::worker::Shared;
use crate::config::{Config, PortConfig};
use crate::engine::Change;

/// Services of what runs that are copied at a time; packets wait for it.
const COPIED: usize = 64;

/// Portions after which workers that wait get their turn, and how long they are given.
const BREATH: u32 = 16;
const PAUSE: Duration = Duration::from_micros(50);

/// Times that a copy is begun anew because of a command meanwhile, before packets wait for all of it.
const COPIES: usize = 4;

/// Rules that were read, beside those that ran then.
pub(super) struct Fresh {
    /// What leads from the latter to the former.
    pub(super) change: Change,
    /// From which edition.
    pub(super) edition: u64,
    /// They are the same.
    pub(super) same: bool,
    pub(super) old_ports: Vec<PortConfig>,
    pub(super) new_ports: Vec<PortConfig>,
    /// What differs, in lines of the rules file.
    pub(super) difference: String,
}

impl Fresh {
    /// What must be done to `old`, which runs in this edition.
    ///
    /// # Errors
    /// What the new rules ask for that cannot be.
    pub(super) fn of(old: &Config, edition: u64, new: Config) -> Result<Self, String> {
        let same = *old == new;
        let difference = if same { Vec::new() } else { old.difference(&new) };
        let difference = difference.iter().flat_map(|line| [line, "\n"]).collect();
        let (old_ports, new_ports) = (old.ports.clone(), new.ports.clone());
        let change = Change::between(old, new).map_err(|why| why.to_string())?;
        Ok(Self { change, edition, same, old_ports, new_ports, difference })
    }
}

/// The lines that differ, in one piece since they may be many, or why nothing was changed.
pub(super) type Outcome = Result<Arc<str>, String>;

/// Readings of the rules, one at a time.
pub(super) struct Reading<'scope, 'env> {
    scope: &'scope Scope<'scope, 'env>,
    rules: &'env (dyn Rules + Sync),
    shared: Arc<Shared>,
    /// Rings when a reading has ended.
    bell: Arc<Waker>,
    running: Option<Receiver<Result<Fresh, String>>>,
    /// Another one is wanted.
    again: bool,
    /// How many have begun.
    begun: u64,
    /// The one that ended last, and what came of it.
    last: (u64, Outcome),
}

impl<'scope, 'env> Reading<'scope, 'env> {
    /// None yet.
    pub(super) fn new(
        scope: &'scope Scope<'scope, 'env>,
        rules: &'env (dyn Rules + Sync),
        shared: Arc<Shared>,
        bell: Arc<Waker>,
    ) -> Self {
        let last = (0, Ok(Arc::from("")));
        Self { scope, rules, shared, bell, running: None, again: false, begun: 0, last }
    }

    /// Wants the rules read from now on; the ticket of that reading.
    pub(super) fn want(&mut self) -> u64 {
        if self.running.is_some() {
            self.again = true;
            return self.begun + 1;
        }
        self.begin();
        self.begun
    }

    /// What came of the reading with this ticket, if it is over.
    pub(super) fn outcome(&self, ticket: u64) -> Option<&Outcome> {
        (self.last.0 >= ticket).then_some(&self.last.1)
    }

    /// What was read, once; whoever takes it [concludes](Self::conclude) the reading.
    pub(super) fn take(&mut self) -> Option<Result<Fresh, String>> {
        let read = match self.running.as_ref()?.try_recv() {
            Ok(read) => read,
            Err(TryRecvError::Empty) => return None,
            Err(TryRecvError::Disconnected) => Err("reading the rules failed".to_owned()),
        };
        self.running = None;
        Some(read)
    }

    /// Notes what came of it, and begins the next reading if one is wanted.
    pub(super) fn conclude(&mut self, outcome: Outcome) {
        self.last = (self.begun, outcome);
        if std::mem::take(&mut self.again) {
            self.begin();
        }
    }

    fn begin(&mut self) {
        let (rules, shared) = (self.rules, Arc::clone(&self.shared));
        let (bell, (sender, receiver)) = (Ring(Arc::clone(&self.bell)), mpsc::channel());
        self.begun += 1;
        let read = move || {
            // The bell rings last, also when this panics: what it rings for must be there by then.
            let _bell = bell;
            let sender = sender;
            // Nobody hears it where the program is ending.
            let _ = sender.send(read(rules, &shared));
        };
        match Builder::new().name("rules".to_owned()).spawn_scoped(self.scope, read) {
            Ok(_) => self.running = Some(receiver),
            Err(e) => {
                let why = format!("starting a thread to read the rules: {e}");
                warn!("reload: {why}");
                self.last = (self.begun, Err(why));
            }
        }
    }
}

/// Rings when it goes.
struct Ring(Arc<Waker>);

impl Drop for Ring {
    fn drop(&mut self) {
        if let Err(e) = self.0.wake() {
            debug!("the rules are read, and the bell does not ring: {e}");
        }
    }
}

fn read(rules: &dyn Rules, shared: &Shared) -> Result<Fresh, String> {
    let mut new = rules.read()?;
    super::complete(&mut new);
    for _ in 0..COPIES {
        let Some((old, edition)) = copy(shared) else { continue };
        let fresh = Fresh::of(&old, edition, new)?;
        if shared.lock().edition() == edition {
            return Ok(fresh);
        }
        // A command has come meanwhile.
        new = fresh.change.into_config();
    }
    let core = shared.lock();
    let (old, edition) = (core.config().clone(), core.edition());
    drop(core);
    Fresh::of(&old, edition, new)
}

/// What runs, and in which edition; copied with packets in between, unless it changes meanwhile.
fn copy(shared: &Shared) -> Option<(Config, u64)> {
    let core = shared.lock();
    let edition = core.edition();
    let mut copy = core.config().without_services();
    drop(core);
    let (mut last, mut portion) = (None, 0_u32);
    loop {
        let core = shared.lock();
        if core.edition() != edition {
            return None;
        }
        last = core.config().copy_services(last, &mut copy, COPIED);
        drop(core);
        if last.is_none() {
            return Some((copy, edition));
        }
        portion += 1;
        if portion % BREATH == 0 {
            // A free lock is whose who is quickest, and a worker that waits for it has to wake up first.
            std::thread::park_timeout(PAUSE);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::super::watch::{bell, poller, Watch, BELL};
    use super::*;
    use crate::engine::Engine;

    /// Rules that are read when somebody sends one.
    struct Slow(Mutex<Receiver<&'static str>>);

    impl Rules for Slow {
        fn read(&self) -> Result<Config, String> {
            let text = self.0.lock().expect("nobody panics").recv().expect("one comes");
            crate::config::rules::load("r", text).map_err(|all| all[0].to_string())
        }

        fn stamp(&self) -> Option<u64> {
            None
        }
    }

    fn next(watch: &mut Watch, reading: &mut Reading<'_, '_>) -> Result<Fresh, String> {
        loop {
            if let Some(read) = reading.take() {
                return read;
            }
            let mut rung = false;
            // A process that is stopped and goes on waits no longer, for nothing.
            while !rung {
                watch.wait(None, |token| rung |= token == BELL).expect("no error");
            }
        }
    }

    #[test]
    fn a_wish_that_comes_while_rules_are_read_is_the_next_readings() {
        let (send, rules) = mpsc::channel();
        let rules = Slow(Mutex::new(rules));
        let engine = Engine::new(&Config::default(), 1).expect("nothing is possible");
        let shared = Arc::new(Shared::new(engine));
        let poll = poller().expect("a poller");
        let bell = Arc::new(bell(&poll).expect("a bell"));
        let mut watch = Watch::new(poll, None);
        std::thread::scope(|scope| {
            let mut reading = Reading::new(scope, &rules, shared, bell);
            assert!(reading.take().is_none());
            let first = reading.want();
            let (second, third) = (reading.want(), reading.want());
            assert!(first < second && second == third);
            assert!(reading.take().is_none() && reading.outcome(first).is_none());
            send.send("-A -t 10.0.0.1:80\n").expect("it reads");
            let fresh = next(&mut watch, &mut reading).unwrap_or_else(|why| panic!("{why}"));
            assert_eq!(fresh.difference, "+ -A -t 10.0.0.1:80 -s wlc\n");
            reading.conclude(Ok(fresh.difference.into()));
            assert!(reading.outcome(first).is_some() && reading.outcome(second).is_none());
            send.send("nonsense\n").expect("it reads again by itself");
            let why = next(&mut watch, &mut reading).err().expect("it is nonsense");
            reading.conclude(Err(why));
            assert!(reading.outcome(second).is_some_and(Result::is_err));
            assert!(reading.take().is_none());
        });
    }

    struct Panics;

    impl Rules for Panics {
        fn read(&self) -> Result<Config, String> {
            panic!("on purpose")
        }

        fn stamp(&self) -> Option<u64> {
            None
        }
    }

    #[test]
    fn a_reading_that_panics_is_an_outcome() {
        let engine = Engine::new(&Config::default(), 1).expect("nothing is possible");
        let shared = Arc::new(Shared::new(engine));
        let poll = poller().expect("a poller");
        let bell = Arc::new(bell(&poll).expect("a bell"));
        let mut watch = Watch::new(poll, None);
        let scope = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            std::thread::scope(|scope| {
                let mut reading = Reading::new(scope, &Panics, shared, bell);
                reading.want();
                assert!(next(&mut watch, &mut reading).is_err());
            });
        }));
        // A scope passes on that a thread of it panicked.
        assert!(scope.is_err());
    }
}
