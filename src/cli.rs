//! What is asked of us: `run`, `check`, `realserver`, `reload`, `save`, `status`, `proc`, and help.
//!
//! Arguments become one of a few typed wishes; the wish is done; its outcome becomes words and an
//! exit code ([`exit`]). What was asked for goes to standard output, everything else to standard
//! error. That a reader of ours went away is not an error.
//!
//! Kept from the kernel's tools: nothing is changed by asking for help, a version or a check. Left
//! out on purpose: a configuration outside the rules file.

mod ask;
mod check;
mod client;
mod ipvsadm;
mod lint;
mod names;
mod procfs;
mod realserver;
mod usage;
mod wishes;

use std::ffi::OsString;
use std::fs;
use std::io::{self, Read, Write};
use std::sync::Arc;

use ipvsadm::Role;
use log::{debug, warn, LevelFilter};
pub use wishes::definition;
use wishes::{Args, Check, Proc, Realserver, Run, Save, Wish};

use crate::config::complaint::{self, Complaint, Remark, Severity};
use crate::config::{rules, Config};
use crate::control::json;
use crate::engine::Engine;
use crate::io::reactor::Plan;
use crate::io::socket::Wanted;
use crate::io::{self as system, Fault};

/// The exit codes, as the help and the manual tell them.
pub mod exit {
    /// Everything was done.
    pub const FINE: u8 = 0;
    /// Something failed while running: a device, a socket, a file to be written.
    pub const FAILED: u8 = 1;
    /// The command line was not understood.
    pub const USAGE: u8 = 2;
    /// The rules file cannot be read or is not right; nothing was created.
    pub const RULES: u8 = 3;
    /// `check --lint`: the rules can be run, and something in them will not work.
    pub const WARNED: u8 = 4;
}

/// Why a wish was not done.
enum Failure {
    Usage(String),
    Rules(Vec<String>),
    Fault(Fault),
}

impl Failure {
    /// In words.
    fn text(self) -> String {
        match self {
            Self::Usage(text) => text,
            Self::Rules(complaints) => complaints.join("\n"),
            Self::Fault(fault) => fault.to_string(),
        }
    }
}

impl From<Fault> for Failure {
    fn from(fault: Fault) -> Self {
        Self::Fault(fault)
    }
}

/// Runs what `args` (the program's name first) ask for and returns the exit code.
pub fn run(args: Vec<OsString>) -> u8 {
    if let Some(code) = as_ipvsadm(&args) {
        return code;
    }
    match usage::parse(args).and_then(|parsed| parsed.map_or(Ok(exit::FINE), obey)) {
        Ok(code) => code,
        Err(Failure::Usage(text)) => {
            complain(&text);
            exit::USAGE
        }
        Err(Failure::Rules(complaints)) => {
            complaints.iter().for_each(|text| complain(text));
            exit::RULES
        }
        Err(Failure::Fault(fault)) => {
            complain(&format!("tapvs: {fault}"));
            exit::FAILED
        }
    }
}

/// Whether we were called to be ipvsadm, by name or by first word; its exit code.
fn as_ipvsadm(args: &[OsString]) -> Option<u8> {
    let text = |arg: &OsString| arg.to_string_lossy().into_owned();
    let called = args.first().map(text)?;
    let word = args.get(1).map(text);
    let (program, role, skip) = match (Role::named(&called), word) {
        (Some(role), _) => (called, role, 1),
        (None, Some(word)) => (word.clone(), Role::named(&word)?, 2),
        (None, None) => return None,
    };
    let args: Vec<String> = args.iter().skip(skip).map(text).collect();
    Some(ipvsadm::run(role, &program, &args, &Wanted::new(None).path))
}

fn obey(args: Args) -> Result<u8, Failure> {
    if args.version {
        say(concat!("tapvs ", env!("CARGO_PKG_VERSION")));
        return Ok(exit::FINE);
    }
    let log = |verbose: u8, quiet: bool| {
        log_to_stderr(args.verbose.saturating_add(verbose), args.quiet || quiet);
    };
    match args.wish {
        None => {
            Err(Failure::Usage(format!("tapvs: {}? `tapvs --help` tells.", usage::words_listed())))
        }
        Some(Wish::Run(wish)) => {
            log(wish.verbose, wish.quiet);
            run_director(&wish, rules_of(&wish)?).map(|()| exit::FINE)
        }
        Some(Wish::Check(wish)) => {
            log(wish.verbose, wish.quiet);
            check_rules(&wish)
        }
        Some(Wish::Realserver(wish)) => {
            log(wish.verbose, wish.quiet);
            serve_realserver(&wish).map(|()| exit::FINE)
        }
        // Help lists it; its words went to it before any were looked at here.
        Some(Wish::Ipvsadm(wish)) => {
            let words = wish.args.join(" ");
            Err(Failure::Usage(format!("tapvs: `tapvs ipvsadm {words}` takes no option in front")))
        }
        Some(Wish::Reload(wish)) => ask::reload(wish.socket.as_deref()).map(|()| exit::FINE),
        Some(Wish::Save(wish)) => ask::save(&wish).map(|()| exit::FINE),
        Some(Wish::Status(wish)) => {
            ask::status(wish.socket.as_deref(), wish.json).map(|()| exit::FINE)
        }
        Some(Wish::Proc(wish)) => {
            log(0, false);
            procfs::run(&wish).map(|()| exit::FINE)
        }
    }
}

fn check_rules(wish: &Check) -> Result<u8, Failure> {
    let read = sound(&wish.file);
    if wish.json {
        return Ok(tell_remarks(wish, read));
    }
    let read = read?;
    if !wish.lint {
        warn_of_asides(&wish.file, &read);
        say(check::explanation(&wish.file, &read.config).trim_end());
        warn_of_lints(&wish.file, &read);
        return Ok(exit::FINE);
    }
    let (label, found) = (label(&wish.file), lint::warnings(&read));
    if found.is_empty() {
        say(&format!("{label}: fine"));
        return Ok(exit::FINE);
    }
    let shown: Vec<_> = found.iter().map(|warning| warning.shown(label)).collect();
    say(&shown.join("\n"));
    Ok(exit::WARNED)
}

/// Tells programs all there is to say about the rules; the exit code is that of people's telling.
fn tell_remarks(wish: &Check, read: Result<rules::Read, Unsound>) -> u8 {
    let (code, remarks) = match read {
        Err(unsound) => (exit::RULES, unsound.remarks()),
        Ok(read) => {
            let remarks: Vec<_> =
                lint::warnings(&read).into_iter().map(lint::Warning::remark).collect();
            let warned = wish.lint && !remarks.is_empty();
            (if warned { exit::WARNED } else { exit::FINE }, remarks)
        }
    };
    say(json::remarks(label(&wish.file), &remarks).trim_end());
    code
}

/// The one rules file that `word` was given, with `-r` or without.
fn one_file<'a>(
    word: &str,
    file: Option<&'a str>,
    rules: Option<&'a str>,
) -> Result<Option<&'a str>, Failure> {
    match (file, rules) {
        (Some(file), Some(other)) => {
            Err(Failure::Usage(format!("tapvs {word}: either `{file}` or `-r {other}`, not both")))
        }
        (file, rules) => Ok(file.or(rules)),
    }
}

fn rules_of(wish: &Run) -> Result<&str, Failure> {
    one_file("run", wish.file.as_deref(), wish.rules.as_deref())?
        .ok_or_else(|| Failure::Usage("tapvs run: which rules file? `tapvs run FILE`".to_owned()))
}

fn run_director(wish: &Run, file: &str) -> Result<(), Failure> {
    if wish.watch && file == "-" {
        let why = "tapvs run: --watch needs a file, and standard input is none";
        return Err(Failure::Usage(why.to_owned()));
    }
    system::sys::keep_large_pieces_apart();
    // Whoever wants the rules read again while they are read gets what he wants.
    signal_hook::flag::register(signal_hook::consts::SIGHUP, Arc::default())
        .map_err(|e| Fault::new("watching for signals", e))?;
    let mut read = read(file)?;
    warn_of_asides(file, &read);
    if read.config.ports.is_empty() {
        warn!("{}: no port; `ip tuntap add dev NAME mode tap` makes one", label(file));
    } else {
        warn_of_lints(file, &read);
    }
    system::complete(&mut read.config);
    let config = read.config;
    let seed = match wish.seed {
        Some(seed) => seed,
        None => system::random_seed(),
    };
    let engine = Engine::new(&config, seed).map_err(|why| Unsound::refused(file, &why))?;
    let socket = Wanted::new(wish.socket.as_deref());
    let processors = || std::thread::available_parallelism().map_or(1, |n| n.get().min(4));
    let workers = wish.workers.unwrap_or_else(processors);
    debug!("seed {seed}, workers {workers}, control socket {}", socket.path.display());
    let plan = Plan { wish: wish.engine, workers };
    Ok(system::reactor::run(
        &config,
        engine,
        &RulesFile { file, watch: wish.watch },
        plan,
        &socket,
    )?)
}

/// The rules file of a run, to be read again.
struct RulesFile<'a> {
    file: &'a str,
    watch: bool,
}

impl system::reactor::Rules for RulesFile<'_> {
    fn read(&self) -> Result<Config, String> {
        if self.file == "-" {
            return Err("the rules came from standard input and cannot be read again".to_owned());
        }
        // A pipe would be waited for, and what it gave once is gone.
        if fs::metadata(self.file).is_ok_and(|about| !about.is_file()) {
            return Err(format!("{} is no file that can be read again", self.file));
        }
        load(self.file).map_err(Failure::text)
    }

    fn stamp(&self) -> Option<u64> {
        use std::hash::{DefaultHasher, Hash, Hasher};
        use std::os::unix::fs::MetadataExt;
        if !self.watch {
            return None;
        }
        let mut hasher = DefaultHasher::new();
        if let Ok(about) = fs::metadata(self.file) {
            (about.len(), about.modified().ok(), about.ino()).hash(&mut hasher);
            (about.ctime(), about.ctime_nsec()).hash(&mut hasher);
        }
        Some(hasher.finish())
    }
}

fn serve_realserver(wish: &Realserver) -> Result<(), Failure> {
    let usage = |why: &str| Failure::Usage(format!("tapvs realserver: {why}"));
    match (one_file("realserver", wish.file.as_deref(), wish.rules.as_deref())?, wish.decap) {
        (Some(_), true) => Err(usage("either FILE or --decap, not both")),
        (None, false) => Err(usage("FILE prints commands, --decap takes tunnels off; which?")),
        (None, true) if wish.server.is_some() => Err(usage("--server goes with FILE")),
        (None, true) => {
            Ok(system::decap::run(wish.tun.as_deref().unwrap_or("tapvs0"), wish.gue_port)?)
        }
        (Some(_), false) if wish.gue_port.is_some() => Err(usage("--gue-port goes with --decap")),
        (Some(_), false) if wish.tun.is_some() => Err(usage("--tun goes with --decap")),
        (Some(file), false) => {
            let config = load(file)?;
            let script = realserver::script(&config, file, wish.server)
                .ok_or_else(|| usage(&format!("{file} has no such real server")))?;
            say(script.trim_end());
            Ok(())
        }
    }
}

/// Reads and understands a rules file.
fn load(file: &str) -> Result<Config, Failure> {
    let read = read(file)?;
    warn_of_asides(file, &read);
    Ok(read.config)
}

/// Says which lines were passed over, and why.
fn warn_of_asides(file: &str, read: &rules::Read) {
    for aside in read.asides.iter().take(complaint::TOLD_MAX) {
        warn!("{}:{}: {}", label(file), aside.line, aside.text);
    }
    if read.asides.len() > complaint::TOLD_MAX {
        warn!("{}: {} lines were passed over", label(file), read.asides.len());
    }
}

/// Says that some lines will not work, and who tells which. The lines that were passed over were told.
fn warn_of_lints(file: &str, read: &rules::Read) {
    let found = lint::warnings(read).len().saturating_sub(read.asides.len());
    if found > 0 {
        let s = if found == 1 { "thing in it" } else { "things in it" };
        warn!("{}: {found} {s} will not work; `tapvs check --lint {file}` tells", label(file));
    }
}

/// How a rules file is called in what we say about it.
fn label(file: &str) -> &str {
    if file == "-" {
        return "standard input";
    }
    file
}

/// Why rules cannot be run.
enum Unsound {
    /// Lines are wrong.
    Lines(Vec<Complaint>),
    /// Something is wrong that no word shows: on which line, its name for programs, and in words.
    Whole(Option<usize>, &'static str, String),
}

impl Unsound {
    /// Each line is right, and together they cannot be.
    fn refused(file: &str, why: &impl std::fmt::Display) -> Self {
        Self::Whole(None, "refused", format!("{}: {why}", label(file)))
    }

    fn remarks(self) -> Vec<Remark> {
        match self {
            Self::Lines(all) => all.iter().map(Complaint::remark).collect(),
            Self::Whole(line, code, message) => {
                let severity = Severity::Error;
                vec![Remark { line, at: None, severity, code, message, cure: None }]
            }
        }
    }
}

impl From<Unsound> for Failure {
    fn from(unsound: Unsound) -> Self {
        Self::Rules(match unsound {
            Unsound::Lines(all) => complaint::told(&all),
            Unsound::Whole(.., text) => vec![text],
        })
    }
}

/// A rules file that can be run, as far as can be told without its devices.
fn sound(file: &str) -> Result<rules::Read, Unsound> {
    let mut read = read(file)?;
    system::complete(&mut read.config);
    Engine::new(&read.config, 0).map_err(|why| Unsound::refused(file, &why))?;
    Ok(read)
}

/// The same, with the places where it says what it says.
fn read(file: &str) -> Result<rules::Read, Unsound> {
    let label = label(file);
    let text = match file {
        "-" => within_limit(io::stdin().lock()),
        _ => fs::File::open(file).and_then(within_limit),
    };
    let text = text.map_err(|e| {
        let fault = Fault::new(format!("tapvs: reading {label}"), e);
        Unsound::Whole(None, "unreadable", fault.to_string())
    })?;
    let text = String::from_utf8(text).map_err(|e| {
        let good = e.utf8_error().valid_up_to();
        let line = e.as_bytes()[..good].iter().filter(|&&b| b == b'\n').count() + 1;
        Unsound::Whole(Some(line), "spelling", format!("{label}:{line}: this is not UTF-8 text"))
    })?;
    rules::read(label, &text).map_err(Unsound::Lines)
}

/// Bytes of a rules file at most: a million lines have room, a device without an end has not.
const RULES_MAX: u64 = 128 << 20;

fn within_limit(from: impl Read) -> io::Result<Vec<u8>> {
    let mut text = Vec::new();
    let read = from.take(RULES_MAX + 1).read_to_end(&mut text)?;
    if read as u64 > RULES_MAX {
        return Err(io::Error::other("more than 128 MiB, which are no rules"));
    }
    Ok(text)
}

/// Logs to standard error as `[level] message`; whoever keeps the log knows the time. Of what is not
/// ours only warnings, unless `RUST_LOG` is set.
fn log_to_stderr(verbose: u8, quiet: bool) {
    let level = match (verbose, quiet) {
        (0, true) => LevelFilter::Warn,
        (0, false) => LevelFilter::Info,
        (1.., _) => LevelFilter::Debug,
    };
    let mut builder = env_logger::Builder::new();
    if std::env::var_os("RUST_LOG").is_some() {
        builder.filter_level(level).parse_default_env();
    } else {
        builder.filter_level(LevelFilter::Warn).filter_module("tapvs", level);
    }
    builder.format(|out, record| {
        let level = record.level().as_str().to_ascii_lowercase();
        writeln!(out, "[{level}] {}", record.args())
    });
    // Only a second start within one process fails here, and the first logger serves as well.
    let _ = builder.try_init();
}

fn say(text: &str) {
    let mut out = io::stdout().lock();
    // A reader that has seen enough is no failure of ours.
    let _ = writeln!(out, "{text}").and_then(|()| out.flush());
}

fn complain(text: &str) {
    let _ = writeln!(io::stderr().lock(), "{}", text.trim_end());
}
