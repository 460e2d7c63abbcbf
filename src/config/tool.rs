//! What a call of `ipvsadm` asks for: everything it can do, in its own order of looking at things.
//!
//! Kept from ipvsadm 1.31: the first option is the command; options are taken from left to right and
//! the first mistake ends the call; then words that belong to nothing, then the table, then meaning.
//! Ours: `--json`.

use super::address::Names;
use super::complaint::{Fault, Mistake};
use super::grammar::{scan, Given, Scan, Word};
use super::ipvs::Said;
use super::options::{written, Opt};
use super::{Command, ServiceKey};

pub use super::table::goes_with;

/// What is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wish {
    /// Change what runs.
    Do(Command),
    /// `-A` or `-E` with a scheduler or an engine that nobody knows: the kernel looks for the
    /// service first.
    Unknown {
        /// Whether it is `-E`.
        edit: bool,
        /// The service.
        key: ServiceKey,
    },
    /// `-L`.
    List(Listing),
    /// `-S`.
    Save {
        /// `-n`.
        numeric: bool,
        /// `--json`.
        json: bool,
    },
    /// `-R`.
    Restore,
    /// `-Z`.
    Zero(Option<ServiceKey>),
    /// `-h`.
    Help,
    /// `-v`.
    Version,
}

/// What `-L` shows.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Listing {
    /// Of what.
    pub what: What,
    /// In which columns.
    pub columns: Columns,
    /// `-n`.
    pub numeric: bool,
    /// `--exact`.
    pub exact: bool,
    /// `--nosort`.
    pub nosort: bool,
    /// `--json`.
    pub json: bool,
}

/// What is listed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum What {
    /// Every service.
    #[default]
    All,
    /// One service.
    Service(ServiceKey),
    /// `-c`.
    Connections {
        /// `--persistent-conn`.
        engine: bool,
    },
    /// `--timeout`.
    Timeouts,
    /// `--daemon`.
    Daemons,
}

/// Which columns a listing of services has.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Columns {
    /// Forward, weight, connections.
    #[default]
    Default,
    /// `--stats`.
    Stats,
    /// `--rate`.
    Rate,
    /// `--thresholds`.
    Thresholds,
    /// `--persistent-conn`.
    Persistent,
    /// `--tun-info`.
    Tunnel,
}

/// Understands the arguments of a call.
///
/// # Errors
/// The first mistake that ipvsadm would find.
pub fn wish(words: &[Word<'_>], names: &dyn Names) -> Result<Wish, Fault> {
    let Scan { given, rest, fault } = scan(words);
    let mut given = given.iter();
    let Some(command) = given.next() else {
        return match words.is_empty() {
            true => Ok(Wish::List(Listing::default())),
            false => Err(Fault::new(0..0, Mistake::NoCommand)),
        };
    };
    match command.opt {
        Opt::Help => return Ok(Wish::Help),
        Opt::Version => return Ok(Wish::Version),
        opt if !opt.spelling().command => return Err(Fault::new(0..0, Mistake::NoCommand)),
        _ => {}
    }
    let mut said = Said::new(names);
    said.take_command(command)?;
    for given in given {
        if given.opt.spelling().command {
            let at = given.value.as_ref().unwrap_or(&given.word).at.clone();
            return Err(Fault::new(at, Mistake::SecondCommand(written(given.opt))));
        }
        said.take(given)?;
    }
    match fault {
        Some(fault) => Err(fault),
        None => meaning(command, &said, &rest),
    }
}

fn meaning(command: &Given<'_>, said: &Said<'_>, rest: &[Word<'_>]) -> Result<Wish, Fault> {
    let (meant, unknown) = said.meaning(command, rest)?;
    let service = said.service.as_ref().map(|(key, _)| *key);
    let json = said.has("json");
    Ok(match (meant, command.opt) {
        (Some(Command::AddService(spec)), _) if unknown.is_some() => {
            Wish::Unknown { edit: false, key: spec.key }
        }
        (Some(Command::EditService(spec)), _) if unknown.is_some() => {
            Wish::Unknown { edit: true, key: spec.key }
        }
        (Some(command), _) => Wish::Do(command),
        (None, Opt::Zero) => Wish::Zero(service),
        (None, Opt::Restore) => Wish::Restore,
        (None, Opt::Save) => Wish::Save { numeric: said.has("numeric"), json },
        (None, _) => Wish::List(listing(command, said, service)?),
    })
}

fn listing(
    command: &Given<'_>,
    said: &Said<'_>,
    service: Option<ServiceKey>,
) -> Result<Listing, Fault> {
    let any = |options: &[&str]| options.iter().any(|option| said.has(option));
    let of_services = any(&["stats", "rate", "thresholds"]);
    let conflict = (any(&["connection", "timeout", "daemon"]) && of_services)
        || (any(&["timeout", "daemon"]) && said.has("persistent-conn"));
    if conflict {
        return Err(Fault::new(command.word.at.clone(), Mistake::ListConflict));
    }
    let what = match service {
        Some(key) => What::Service(key),
        None if said.has("connection") => What::Connections { engine: said.has("persistent-conn") },
        None if said.has("timeout") => What::Timeouts,
        None if said.has("daemon") => What::Daemons,
        None => What::All,
    };
    let columns = [
        ("stats", Columns::Stats),
        ("rate", Columns::Rate),
        ("thresholds", Columns::Thresholds),
        ("persistent-conn", Columns::Persistent),
        ("tun-info", Columns::Tunnel),
    ];
    let chosen = columns.into_iter().find(|(option, _)| said.has(option));
    Ok(Listing {
        what,
        columns: chosen.map_or(Columns::Default, |(_, columns)| columns),
        numeric: said.has("numeric"),
        exact: said.has("exact"),
        nosort: said.has("nosort"),
        json: said.has("json"),
    })
}
