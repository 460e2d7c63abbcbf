//! A new rules file for what runs: whole, or not at all.
//!
//! Devices first, since they alone can fail: new ones are opened and changed ones adjusted. Then the
//! engine changes over, between two batches. Last, devices that nobody wants any more are closed.

use std::sync::Arc;

use super::reactor::Watch;
use super::sys::Control;
use super::tap::{Port, Wish};
use super::worker::Worker;
use super::Fault;
use crate::config::{Config, PortConfig};
use crate::world::Instant;

/// Makes `worker` run `new`, which [`complete`](super::complete) has been through, and gives the
/// difference in lines of the rules file; none if there is no difference.
///
/// # Errors
/// Why not; everything is as it was.
pub(super) fn reload(
    worker: &mut Worker<Port>,
    control: &Arc<Control>,
    wish: Wish,
    watch: &Watch,
    now: Instant,
    new: Config,
) -> Result<Vec<String>, String> {
    let old = worker.engine().config().clone();
    if old == new {
        return Ok(Vec::new());
    }
    let difference = old.difference(&new);
    let other_kind =
        |port: &&PortConfig| named(&old, &port.name).is_some_and(|was| was.kind != port.kind);
    if let Some(port) = new.ports.iter().find(other_kind) {
        return Err(format!(
            "port {} cannot become a port of another kind while it is in use",
            port.name
        ));
    }
    let come: Vec<_> = new.ports.iter().filter(|port| named(&old, &port.name).is_none()).collect();
    let opened: Result<Vec<Port>, Fault> =
        come.iter().map(|port| Port::open(control, port, wish)).collect();
    let opened = opened.map_err(|fault| fault.to_string())?;
    adjust(worker, &old, &new).map_err(|fault| fault.to_string())?;
    if let Err(why) = worker.engine().reload(now, new.clone()) {
        // The old settings were possible a moment ago.
        let _ = adjust(worker, &new, &old);
        return Err(why.to_string());
    }
    for gone in old.ports.iter().filter(|port| named(&new, &port.name).is_none()) {
        worker.release(&gone.name);
    }
    for port in opened {
        let name = port.name().to_owned();
        let descriptor = std::os::fd::AsRawFd::as_raw_fd(&port);
        if let Some(link) = worker.adopt(&name, port) {
            watch
                .add(usize::from(link.0), &name, &descriptor)
                .map_err(|fault| fault.to_string())?;
        }
    }
    if !old.same_wiring(&new) {
        worker.announce(now);
    }
    Ok(difference)
}

/// Adjusts the devices whose settings differ; puts all back if one fails.
fn adjust(worker: &mut Worker<Port>, old: &Config, new: &Config) -> Result<(), Fault> {
    let differs = |port: &&PortConfig| {
        named(old, &port.name).is_some_and(|was| was.settings != port.settings)
    };
    for port in new.ports.iter().filter(differs) {
        let Some(device) = worker.queue_mut(&port.name) else { continue };
        if let Err(fault) = device.adjust(port) {
            for was in &old.ports {
                if let Some(device) = worker.queue_mut(&was.name) {
                    // It had these settings a moment ago.
                    let _ = device.adjust(was);
                }
            }
            return Err(fault);
        }
    }
    Ok(())
}

fn named<'a>(config: &'a Config, name: &str) -> Option<&'a PortConfig> {
    config.ports.iter().find(|port| port.name == name)
}
