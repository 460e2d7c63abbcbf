//! `tapvs proc`: the texts of `/proc/net` printed, or kept in a directory.
//!
//! Left out on purpose: the tables of connections are kept only where they are asked for by name. They may be
//! large, and no exporter reads them.

use std::io;
use std::path::Path;
use std::time::Duration;

use super::{ask, Failure, Proc};
use crate::config::tool::What;
use crate::control::json;
use crate::control::proc::File;
use crate::control::snapshot::Snapshot;
use crate::control::wire::Request;
use crate::io::texts;

/// Seconds between two rounds, if nobody says: as often as counters are sampled.
const STEP_S: u32 = 2;

/// Does what is asked for.
pub(super) fn run(wish: &Proc) -> Result<(), Failure> {
    let files = files(&wish.names)?;
    match &wish.into {
        Some(_) if wish.json => Err(usage("--json is for printing")),
        Some(dir) => keep(wish, &files, Path::new(dir)),
        None if wish.every.is_some() => Err(usage("--every goes with --into")),
        None if files.is_empty() => Err(usage(&format!("which file? {}", all_names()))),
        None => print(wish, &files),
    }
}

fn usage(why: &str) -> Failure {
    Failure::Usage(format!("tapvs proc: {why}"))
}

fn all_names() -> String {
    let names: Vec<_> = File::ALL.iter().map(|file| file.name()).collect();
    format!("There are {}", names.join(" "))
}

fn files(names: &[String]) -> Result<Vec<File>, Failure> {
    let file = |name: &String| {
        let unknown = || usage(&format!("no file `{name}`. {}", all_names()));
        File::named(name).ok_or_else(unknown)
    };
    names.iter().map(file).collect()
}

fn keep(wish: &Proc, files: &[File], dir: &Path) -> Result<(), Failure> {
    let small = [File::Services, File::Stats, File::Percpu, File::Apps];
    let files = if files.is_empty() { &small[..] } else { files };
    let step = wish.every.unwrap_or(STEP_S);
    if step == 0 {
        return Err(usage("--every is in seconds, 1 at least"));
    }
    let names: Vec<_> = files.iter().map(|file| file.name()).collect();
    let mut text = |name: &str| {
        let file = File::named(name).ok_or_else(|| name.to_owned())?;
        Ok(file.text(&picture(file, wish).map_err(Failure::text)?))
    };
    Ok(texts::keep(dir, &names, Duration::from_secs(step.into()), &mut text)?)
}

fn print(wish: &Proc, files: &[File]) -> Result<(), Failure> {
    for &file in files {
        let picture = picture(file, wish)?;
        let text = match (wish.json, file) {
            (false, _) => file.text(&picture),
            (true, File::Services) => json::listing(&picture, What::All),
            (true, File::Connections) => {
                json::listing(&picture, What::Connections { engine: false })
            }
            (true, File::Stats) => json::total(&picture.total),
            (true, File::Origins | File::Percpu | File::Apps) => {
                return Err(usage(&format!("`{}` has no form in JSON", file.name())));
            }
        };
        ask::print("proc", &text)?;
    }
    Ok(())
}

/// What a file is made of, asked of a running tapvs.
fn picture(file: File, wish: &Proc) -> Result<Snapshot, Failure> {
    let request = match file {
        File::Services => Request::Services(None),
        File::Connections | File::Origins => Request::Connections,
        File::Stats | File::Percpu => Request::Total,
        File::Apps => Request::Settings,
    };
    let picture = ask::open("proc", wish.socket.as_deref())?.picture(&request);
    let picture = picture.map_err(|trouble| ask::unheard("proc", &trouble))?;
    picture.map_err(|why| ask::failed("proc", io::Error::other(why)))
}
