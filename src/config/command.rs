//! A [`Line`] becomes [`Command`]s: meaning, but not state.
//!
//! The languages have a file each: `ipvs` for ipvsadm's, `host` for those of `ip` and `sysctl`,
//! `marks` for those of `iptables`.
//! [`NOT_BUILT`] is what exists in the kernel and not yet here.

use crate::sched::Scheduler;

use super::complaint::{Fault, Mistake, Span};
use super::grammar::Line;
use super::{host, ipvs, marks, Command};

/// What ipvsadm knows and this version cannot do: the kind of thing, and its name. Whoever builds
/// one takes its row away.
pub const NOT_BUILT: &[(&str, &str)] = &[("persistence engine", "sip")];

/// A command, and where the words are that a refusal may be about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Placed {
    /// What is wanted.
    pub command: Command,
    /// Where it was said.
    pub spots: Spots,
}

/// Where the words of a command stand.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Spots {
    /// The command itself.
    pub command: Span,
    /// The value of `-t`, `-u`, `-f`.
    pub service: Option<Span>,
    /// The value of `-r`.
    pub server: Option<Span>,
    /// The value of `-y`.
    pub lower: Option<Span>,
    /// What a host command is about: a name, an address, a gateway, a value.
    pub object: Option<Span>,
    /// The port that a host command names.
    pub dev: Option<Span>,
}

impl Spots {
    /// Only the command's own place.
    pub(super) const fn at(command: Span) -> Self {
        Self { command, service: None, server: None, lower: None, object: None, dev: None }
    }
}

/// What a line means.
///
/// # Errors
/// The first mistake of the line, in the order in which ipvsadm would find it.
pub fn commands(line: &Line<'_>) -> Result<Vec<Placed>, Fault> {
    match line {
        Line::Ipvs(invocation) => ipvs::ipvs(invocation).map(|placed| vec![placed]),
        Line::Ip(ip) => host::ip(ip).map(|placed| vec![placed]),
        Line::Tables(tables) => marks::tables(tables).map(|placed| vec![placed]),
        Line::Sysctl(pairs) => host::sysctl(pairs),
    }
}

/// Refuses what stands in [`NOT_BUILT`].
pub(super) fn built(what: &'static str, name: &str, at: &Span) -> Result<(), Fault> {
    if !NOT_BUILT.contains(&(what, name)) {
        return Ok(());
    }
    let fault = Fault::new(at.clone(), Mistake::NotBuilt { what, name: name.to_owned() });
    Err(match what {
        "scheduler" => fault.expecting(format!("built in: {}", scheduler_names().join(" "))),
        _ => fault,
    })
}

/// The names that `-s` takes in this version.
pub(super) fn scheduler_names() -> Vec<&'static str> {
    Scheduler::ALL.iter().map(|scheduler| scheduler.name()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_is_built_is_in_the_table_of_what_is_not() {
        for scheduler in Scheduler::ALL {
            assert!(!NOT_BUILT.contains(&("scheduler", scheduler.name())));
        }
    }
}
