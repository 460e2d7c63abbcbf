//! What a worker waits for: its ring, other descriptors, signals.
//!
//! A mio poller. Descriptors are watched edge-triggered and read until empty by whoever is woken. Where
//! there is a ring, the ring watches the poller's own descriptor, and the worker waits for the ring: one
//! system call hands over what is to be sent and waits for frames and for everything else.
//!
//! Left out on purpose: what the tokens mean, which is known to those who wait.

use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::time::Duration;

use log::debug;
use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Registry, Token, Waker};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGUSR1};
use signal_hook_mio::v1_0::Signals;

use super::uring::Ring;
use super::Fault;

/// What other threads ring by [`bell`].
pub(super) const BELL: usize = usize::MAX - 2;

/// What tells of changes of devices.
pub(super) const LINKS: usize = usize::MAX - 3;

const SIGNALS: Token = Token(usize::MAX);

/// Events that are asked for at a time.
const EVENTS: usize = 64;

/// What signals asked for.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) struct Wish {
    pub(super) end: bool,
    pub(super) listing: bool,
    pub(super) reload: bool,
}

/// Descriptors, signals and a ring that are waited for together.
pub(super) struct Watch {
    poll: Poll,
    events: Events,
    signals: Option<Signals>,
    ring: Option<Ring>,
}

/// A poller; unlike a [`Watch`] it may go to the thread that will wait.
pub(super) fn poller() -> Result<Poll, Fault> {
    Poll::new().map_err(|e| Fault::new("making a poller", e))
}

/// What wakes a poller from another thread, with the token [`BELL`].
pub(super) fn bell(poll: &Poll) -> Result<Waker, Fault> {
    Waker::new(poll.registry(), Token(BELL)).map_err(|e| Fault::new("making a bell", e))
}

impl Watch {
    /// Waits by `poll`, and by `ring` where there is one.
    pub(super) fn new(poll: Poll, ring: Option<Ring>) -> Self {
        if let Some(ring) = &ring {
            ring.watch(poll.as_raw_fd());
        }
        Self { poll, events: Events::with_capacity(EVENTS), signals: None, ring }
    }

    /// Waits for signals as well.
    pub(super) fn with_signals(mut self) -> Result<Self, Fault> {
        let fault = |e| Fault::new("watching for signals", e);
        let mut signals = Signals::new([SIGTERM, SIGINT, SIGUSR1, SIGHUP]).map_err(fault)?;
        self.registry().register(&mut signals, SIGNALS, Interest::READABLE).map_err(fault)?;
        self.signals = Some(signals);
        Ok(self)
    }

    /// The ring, for queues to be driven by.
    pub(super) const fn ring(&self) -> Option<&Ring> {
        self.ring.as_ref()
    }

    /// Where other things to wait for are told.
    pub(super) fn registry(&self) -> &Registry {
        self.poll.registry()
    }

    /// Watches one descriptor for something to read.
    pub(super) fn add(&self, index: usize, name: &str, on: RawFd) -> Result<(), Fault> {
        self.registry()
            .register(&mut SourceFd(&on), Token(index), Interest::READABLE)
            .map_err(|e| Fault::new(format!("watching {name}"), e))
    }

    /// Waits until all that was sent is handed over.
    pub(super) fn finish(&self) {
        if let Some(Err(e)) = self.ring.as_ref().map(Ring::finish) {
            debug!("sending the last frames: {e}");
        }
    }

    /// Waits for `timeout` at most, calls `wake` with the index of each descriptor that can be
    /// read, and says what signals asked for. Frames on the ring are told by their queues.
    pub(super) fn wait(
        &mut self,
        mut timeout: Option<Duration>,
        mut wake: impl FnMut(usize),
    ) -> Result<Wish, Fault> {
        let fault = |e| Fault::new("waiting", e);
        if let Some(ring) = &self.ring {
            if !ring.wait(timeout).map_err(fault)? {
                return Ok(Wish::default());
            }
            timeout = Some(Duration::ZERO);
        }
        let mut wish = Wish::default();
        loop {
            match self.poll.poll(&mut self.events, timeout) {
                Ok(()) => {}
                Err(e) if e.kind() == io::ErrorKind::Interrupted => return Ok(wish),
                Err(e) => return Err(fault(e)),
            }
            for event in &self.events {
                if event.token() != SIGNALS {
                    wake(event.token().0);
                    continue;
                }
                for signal in self.signals.iter_mut().flat_map(Signals::pending) {
                    match signal {
                        SIGUSR1 => wish.listing = true,
                        SIGHUP => wish.reload = true,
                        _ => wish.end = true,
                    }
                }
            }
            // The ring tells of the poller once; what is left there now would not be told again.
            if self.events.iter().count() < EVENTS {
                return Ok(wish);
            }
            timeout = Some(Duration::ZERO);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn watches(ring: Option<Ring>) {
        let (ours, theirs) = std::os::unix::net::UnixDatagram::pair().expect("a pair");
        let poll = poller().expect("a poller");
        let bell = bell(&poll).expect("a bell");
        let watch = Watch::new(poll, ring);
        let mut watch = watch.with_signals().expect("signals can be watched");
        watch.add(5, "pair", ours.as_raw_fd()).expect("it can be watched");
        let mut woken = |timeout: Option<Duration>| loop {
            let mut woken = Vec::new();
            let wish = watch.wait(timeout, |index| woken.push(index)).expect("no error");
            // A process that is stopped and goes on waits no longer, for nothing.
            if timeout.is_some() || (wish, woken.len()) != (Wish::default(), 0) {
                break (wish, woken);
            }
        };
        assert_eq!(woken(Some(Duration::from_millis(1))), (Wish::default(), vec![]));
        for _ in 0..3 {
            theirs.send(b"x").expect("room");
            assert_eq!(woken(None), (Wish::default(), vec![5]));
            bell.wake().expect("possible");
            assert_eq!(woken(None), (Wish::default(), vec![BELL]));
        }
        signal_hook::low_level::raise(SIGUSR1).expect("it is our own process");
        let wish = loop {
            let (wish, _) = woken(None);
            if wish != Wish::default() {
                break wish;
            }
        };
        assert_eq!(wish, Wish { listing: true, ..Wish::default() });
    }

    #[test]
    fn a_descriptor_that_can_be_read_wakes_and_signals_are_wishes() {
        watches(None);
        if let Some(ring) = crate::io::queue::tests::ring() {
            watches(Some(ring));
        }
    }
}
