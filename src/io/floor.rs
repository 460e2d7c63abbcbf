//! All that moves frames, together: the ports, the first worker and the others; opened, changed over to
//! new rules, and closed.
//!
//! A new rules file holds whole, or not at all. Devices first, since they alone can fail: new ones are opened
//! and changed ones adjusted. Then the engine changes over, between two batches, and every worker gets its
//! queues of new ports and gives up those of ports that nobody wants any more; what was read from those, or is
//! still to be sent there, goes with them. Services follow a portion at a time, since there may be a hundred
//! thousand of them; nobody is told of anything before they are all there. A port whose device is gone is
//! opened again, also where the rules are the same, and a device that somebody has set down or taken out of its
//! bridge is put right.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::time::Duration;

use log::{debug, info, warn};

use super::crew::{Crew, Order};
use super::queue::{Driven, Handle};
use super::reading::{Fresh, Outcome};
use super::sys::{self, Control};
use super::tap::Port;
use super::watch::{Watch, LINKS};
use super::worker::Worker;
use super::{Fault, PATIENCE};
use crate::config::{Config, PortConfig};
use crate::engine::Change;
use crate::packet::LinkId;
use crate::world::Instant;

/// Commands of a change that are carried out at a time: well under a millisecond. What most files ask for is
/// less, and comes between two batches as a whole.
const PORTION: usize = 512;

/// A reload that has begun.
pub(super) struct Changing {
    change: Change,
    step: Step,
    /// Our addresses are to be told.
    announces: bool,
    outcome: Outcome,
}

/// What is to be done next.
#[derive(Clone, Copy)]
enum Step {
    /// To change the services.
    Services,
    /// To forget the old ones.
    Rest,
}

/// Ports and workers.
pub(super) struct Floor {
    pub(super) worker: Worker<Driven>,
    pub(super) crew: Crew,
    pub(super) ports: Vec<Port>,
    pub(super) control: Arc<Control>,
    /// How many workers there are, the first one included.
    pub(super) workers: usize,
    /// Tells when devices change.
    pub(super) links: Option<File>,
    /// What was said of ports that somebody has changed, with their names.
    pub(super) told: Vec<(String, String)>,
}

impl Floor {
    /// Opens the ports of `config`, which the engine knows already.
    ///
    /// # Errors
    /// A device could not be opened.
    pub(super) fn open(&mut self, config: &Config, watch: &Watch) -> Result<(), Fault> {
        for port in &config.ports {
            let (port, handles) = Port::open(&self.control, port, self.workers, PATIENCE)?;
            self.take_on(port, handles, watch)?;
        }
        self.crew.settle();
        // What is there to be said of a bridge has just been said.
        self.told = self.found();
        Ok(())
    }

    /// Begins to make what runs what the rules that were read say. The outcome comes with the end: the
    /// difference in lines of the rules file, and a line for each port that was lost and is opened again; none
    /// if there is no difference.
    ///
    /// # Errors
    /// Why not; everything is as it was.
    pub(super) fn reload(
        &mut self,
        watch: &Watch,
        now: Instant,
        mut fresh: Fresh,
    ) -> Result<Changing, String> {
        let core = self.worker.shared().lock();
        if core.edition() != fresh.edition {
            // It was changed by a command since the rules were compared.
            fresh = Fresh::of(core.config(), core.edition(), fresh.change.into_config())?;
        }
        drop(core);
        let Fresh { mut change, same, old_ports: old, new_ports: new, mut difference, .. } = fresh;
        let lost = self.lost(&old);
        let astray = self.astray(&new);
        if same && lost.is_empty() && astray.is_empty() {
            let (step, outcome) = (Step::Rest, Ok("".into()));
            return Ok(Changing { change, step, announces: false, outcome });
        }
        let other_kind =
            |port: &&PortConfig| named(&old, &port.name).is_some_and(|was| was.kind != port.kind);
        if let Some(port) = new.iter().find(other_kind) {
            return Err(format!(
                "port {} cannot become a port of another kind while it is in use",
                port.name
            ));
        }
        let goes = |name: &str| named(&new, name).is_none() || lost.iter().any(|is| is == name);
        let come = new.iter().filter(|port| named(&old, &port.name).is_none() || goes(&port.name));
        // What is lost has nothing to be put back, and must let go of its claim.
        self.ports.retain(|port| !lost.iter().any(|is| is == port.name()));
        // Nobody is waited for here, since frames would have to wait as well.
        let open = |port| Port::open(&self.control, port, self.workers, Duration::ZERO);
        let opened: Result<Vec<_>, Fault> = come.map(open).collect();
        let opened = opened.map_err(|fault| fault.to_string())?;
        self.adjust(&old, &new).map_err(|fault| fault.to_string())?;
        for port in &astray {
            let device = self.device(&port.name).map_or(Ok(()), |device| device.put_right(port));
            device.map_err(|fault| fault.to_string())?;
            difference.extend(["~ port ", &port.name, ": put right\n"]);
        }
        let gone: Vec<_> = old.iter().filter(|port| goes(&port.name)).collect();
        let again = lost.iter().filter(|name| named(&new, name).is_some());
        difference.extend(again.map(|name| format!("~ port {name}: opened again\n")));
        let changed = self.worker.with(|core| {
            let links: Vec<_> =
                gone.iter().filter_map(|port| core.link_named(&port.name)).collect();
            let now = core.at(now);
            core.begin(now, &mut change)?;
            links.into_iter().for_each(|link| core.end_term(link));
            Ok(())
        });
        if let Err(why) = changed.map_err(|why: crate::config::Refusal| why.to_string()) {
            // The old settings were possible a moment ago.
            let _ = self.adjust(&new, &old);
            return Err(why);
        }
        for port in gone {
            self.crew.order_all(|| Order::Release { name: port.name.clone() });
            self.worker.release(&port.name);
        }
        let taken: Result<(), Fault> =
            opened.into_iter().try_for_each(|(port, handles)| self.take_on(port, handles, watch));
        self.crew.settle();
        // Whose queues nobody holds any more, its device can go.
        self.ports.retain(|port| named(&new, port.name()).is_some());
        let announces = change.rewires() || !lost.is_empty();
        let (taken, step) = (taken.map_err(|fault| fault.to_string()), Step::Services);
        Ok(Changing { change, step, announces, outcome: taken.map(|()| difference.into()) })
    }

    /// Goes on with what [`reload`](Self::reload) has begun; the outcome when it is over.
    pub(super) fn proceed(&mut self, now: Instant, changing: &mut Changing) -> Option<Outcome> {
        let change = &mut changing.change;
        match changing.step {
            Step::Services => {
                let more = self.worker.with(|core| {
                    let now = core.at(now);
                    core.proceed(now, change, PORTION)
                });
                if !more {
                    if changing.announces {
                        self.worker.with(|core| core.announce(now));
                    }
                    changing.step = Step::Rest;
                }
                None
            }
            Step::Rest if change.forget(PORTION) => None,
            Step::Rest => Some(changing.outcome.clone()),
        }
    }

    /// Has changes of devices told from now on.
    pub(super) fn watch_links(&mut self, watch: &Watch) {
        self.links = sys::link_events()
            .map_err(|e| Fault::new("asking for changes of devices", e))
            .and_then(|links| watch.add(LINKS, "devices", links.as_raw_fd()).map(|()| links))
            .inspect_err(|fault| debug!("{fault}"))
            .ok();
    }

    /// Says what somebody has done to the devices of ports, once, and that it was undone.
    pub(super) fn look(&mut self) {
        // Which device it was is not asked: what it is like now says all. A message that got lost for want
        // of room is an error, behind which there are others.
        let is_empty = |e: io::Error| e.kind() == io::ErrorKind::WouldBlock;
        let mut message = [0; 64];
        while self
            .links
            .as_mut()
            .is_some_and(|links| !links.read(&mut message).is_err_and(is_empty))
        {}
        let found = self.found();
        let news = found.iter().filter(|told| !self.told.contains(told));
        news.for_each(|(port, why)| warn!("port {port}: {why}"));
        let is_astray = |name: &String| found.iter().any(|(port, _)| port == name);
        let mut before = "";
        for (port, _) in self.told.iter().filter(|(port, _)| !is_astray(port)) {
            if port != before {
                info!("port {port}: as the rules say again");
            }
            before = port;
        }
        self.told = found;
    }

    /// Logs what `ipvsadm -Ln` would print, and the account of frames.
    pub(super) fn log_listing(&self) {
        let core = self.worker.shared().lock();
        let (listing, frames) = (core.listing(), core.frames());
        drop(core);
        listing.lines().for_each(|line| info!("{line}"));
        info!("{frames}");
    }

    /// Ends the workers, logs the account of frames if they `ran`, and undoes what was done to devices.
    ///
    /// # Errors
    /// That of `outcome`, or else why a worker failed.
    pub(super) fn close(
        mut self,
        watch: &Watch,
        ran: bool,
        outcome: Result<(), Fault>,
    ) -> Result<(), Fault> {
        let ended = self.crew.end();
        watch.finish();
        self.worker.settle();
        if ran {
            info!("{}", self.worker.shared().lock().frames());
        }
        outcome.and(ended)
    }

    /// Gives each worker its queue of an open port.
    fn take_on(&mut self, port: Port, handles: Vec<Handle>, watch: &Watch) -> Result<(), Fault> {
        let name = port.name().to_owned();
        self.ports.push(port);
        let core = self.worker.shared().lock();
        let Some(link) = core.link_named(&name) else { return Ok(()) };
        let term = core.term(link);
        drop(core);
        let mut handles = handles.into_iter();
        if let Some(handle) = handles.next() {
            let queue = drive(handle, &name, watch, link)?;
            self.worker.adopt(link, term, &name, queue);
        }
        for (number, handle) in handles.enumerate() {
            self.crew.order(number, Order::Adopt { link, term, name: name.clone(), handle });
        }
        Ok(())
    }

    /// Adjusts the devices whose settings differ; puts all back if one fails.
    fn adjust(&mut self, old: &[PortConfig], new: &[PortConfig]) -> Result<(), Fault> {
        let differs = |port: &&PortConfig| {
            named(old, &port.name).is_some_and(|was| was.settings != port.settings)
        };
        for port in new.iter().filter(differs) {
            let Some(device) = self.device(&port.name) else { continue };
            if let Err(fault) = device.adjust(port) {
                for was in old {
                    if let Some(device) = self.device(&was.name) {
                        // It had these settings a moment ago.
                        let _ = device.adjust(was);
                    }
                }
                return Err(fault);
            }
        }
        Ok(())
    }

    /// Those of `ports` whose devices are gone, or could not be had back yet.
    fn lost(&self, ports: &[PortConfig]) -> Vec<String> {
        let here =
            |name: &str| self.ports.iter().any(|port| port.name() == name && !port.is_lost());
        let names = ports.iter().map(|port| &port.name);
        names.filter(|name| !here(name)).cloned().collect()
    }

    /// Those of `ports` whose devices somebody has changed, as far as that can be undone.
    fn astray(&self, ports: &[PortConfig]) -> Vec<PortConfig> {
        let device = |name: &str| self.ports.iter().find(|port| port.name() == name);
        let astray = |port: &&PortConfig| {
            let device = device(&port.name).filter(|device| !device.is_lost() && device.is_here());
            device.is_some_and(|device| !device.astray(port).is_empty())
        };
        ports.iter().filter(astray).cloned().collect()
    }

    /// What is to be said of ports that somebody has changed, with their names.
    fn found(&self) -> Vec<(String, String)> {
        let core = self.worker.shared().lock();
        let ports = core.config().ports.clone();
        drop(core);
        let mut found = Vec::new();
        for config in &ports {
            let mut devices = self.ports.iter().filter(|port| port.name() == config.name);
            // Of one that is gone its worker tells.
            let Some(device) = devices.find(|port| !port.is_lost()) else { continue };
            let all = device.astray(config).into_iter().chain(device.stuck());
            found.extend(all.map(|why| (config.name.clone(), why)));
        }
        found
    }

    fn device(&mut self, name: &str) -> Option<&mut Port> {
        self.ports.iter_mut().find(|port| port.name() == name)
    }
}

/// Takes the first worker's queue into use, and says how its frames are moved and why.
fn drive(handle: Handle, name: &str, watch: &Watch, link: LinkId) -> Result<Driven, Fault> {
    let (queue, why) = handle.drive(watch.ring());
    match (&queue, why) {
        (Driven::Uring(_), _) => info!("port {name}: many frames a call by io_uring"),
        (_, Some(e)) => info!("port {name}: one frame a call, since io_uring cannot read it: {e}"),
        (_, None) => info!("port {name}: one frame a call"),
    }
    if let Some(descriptor) = queue.polled() {
        watch.add(usize::from(link.0), name, descriptor)?;
    }
    Ok(queue)
}

fn named<'a>(ports: &'a [PortConfig], name: &str) -> Option<&'a PortConfig> {
    ports.iter().find(|port| port.name == name)
}
