//! A [`Line`] becomes [`Command`]s: meaning, but not state.
//!
//! The languages have a file each: `ipvs` for ipvsadm's, `host` for those of `ip` and `sysctl`,
//! `nettools` for those of `ifconfig` and `route`, `marks` for those of `iptables`, `modules` for `modprobe`.

use std::net::Ipv6Addr;

use crate::sched::Scheduler;

use super::complaint::{Fault, Mistake, Span};
use super::grammar::{Given, Invocation, Line, Word};
use super::{host, ipvs, marks, modules, nettools, Command};

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
    /// The network that a route is for.
    pub network: Option<Span>,
    /// The port that a host command names.
    pub dev: Option<Span>,
}

impl Spots {
    /// Only the command's own place.
    pub(super) const fn at(command: Span) -> Self {
        Self {
            command,
            service: None,
            server: None,
            lower: None,
            object: None,
            network: None,
            dev: None,
        }
    }
}

/// What a line means.
///
/// # Errors
/// The first mistake of the line, in the order in which ipvsadm would find it.
pub fn commands(line: &Line<'_>) -> Result<Vec<Placed>, Fault> {
    match line {
        Line::Ipvs(invocation) => {
            no_empty_value(invocation)?;
            let placed = ipvs::ipvs(invocation).map_err(|fault| in_brackets(invocation, fault))?;
            Ok(vec![placed])
        }
        Line::Ip(ip) => host::ip(ip).map(|placed| vec![placed]),
        Line::Tables(tables) => marks::tables(tables).map(|placed| vec![placed]),
        Line::NetTools { program, words } if loads_modules(program) => {
            modules::modprobe(program, words).map(|placed| vec![placed])
        }
        Line::NetTools { program, words } => nettools::nettools(program, words),
        Line::Sysctl(pairs) => host::sysctl(pairs),
    }
}

fn loads_modules(program: &Word<'_>) -> bool {
    ["modprobe", "insmod", "rmmod"].iter().any(|name| program.text.ends_with(name))
}

/// `--scheduler=`, `-s ''`: an option that takes a value has none.
fn no_empty_value(invocation: &Invocation<'_>) -> Result<(), Fault> {
    let is_empty = |given: &&Given<'_>| given.value.as_ref().is_some_and(|v| v.text.is_empty());
    let Some(given) = invocation.options.iter().find(is_empty) else { return Ok(()) };
    let mistake = Mistake::MissingArgument(given.word.text.to_string());
    let expected = format!("expected a value for `{}`", given.opt.name());
    Err(Fault::new(given.word.at.clone(), mistake).expecting(expected))
}

/// `-t fd00::1:80` is an address without a port; what was meant is said.
fn in_brackets(invocation: &Invocation<'_>, fault: Fault) -> Fault {
    let values = invocation.options.iter().filter_map(|given| given.value.as_ref());
    let said = values.into_iter().find(|value| value.at == fault.at);
    match said.and_then(|said| glued_port(&said.text)) {
        Some((addr, port)) if fault.mistake == Mistake::ZeroPort => {
            fault.expecting(format!("write `[{addr}]:{port}`, or `-p` to mean every port"))
        }
        Some(_) | None => fault,
    }
}

/// The address and port that somebody meant who left the brackets out.
pub(super) fn glued_port(text: &str) -> Option<(Ipv6Addr, u16)> {
    text.parse::<Ipv6Addr>().ok()?;
    let (addr, port) = text.rsplit_once(':')?;
    Some((addr.parse().ok()?, port.parse().ok()?))
}

/// The names that `-s` takes in this version.
pub(super) fn scheduler_names() -> Vec<&'static str> {
    Scheduler::ALL.iter().map(|scheduler| scheduler.name()).collect()
}
