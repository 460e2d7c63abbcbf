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

use std::ffi::OsString;
use std::fs;
use std::io::{self, Read, Write};

use argh::{ArgsInfo, CommandInfoWithArgs, FromArgs};
use ipvsadm::Role;
use log::{debug, warn, LevelFilter};

use crate::config::{complaint, rules, Config};
use crate::engine::Engine;
use crate::io::reactor::Plan;
use crate::io::socket::Wanted;
use crate::io::tap::Wish as Engines;
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

/// Workers that may be asked for.
const WORKERS_MAX: usize = 64;

/// Linux IPVS in userspace: balances what comes in by TAP and TUN devices over real servers.
#[derive(FromArgs, ArgsInfo)]
#[argh(
    help_triggers("-h", "--help", "help"),
    note = "RUST_LOG, where it is set, decides what is logged instead of -v and -q.",
    error_code(0, "everything was done"),
    error_code(
        1,
        "something failed while running: a device, a socket, a file; or no tapvs answers"
    ),
    error_code(2, "the command line was not understood"),
    error_code(3, "the rules cannot be read or are not right; nothing was created or changed"),
    error_code(4, "check --lint: the rules can be run, and something in them will not work")
)]
struct Args {
    /// print the version
    #[argh(switch, short = 'V')]
    version: bool,
    /// log more: the level debug, as the manual tells
    #[argh(switch, short = 'v')]
    verbose: u8,
    /// log warnings and errors only
    #[argh(switch, short = 'q')]
    quiet: bool,
    #[argh(subcommand)]
    wish: Option<Wish>,
}

#[derive(FromArgs, ArgsInfo)]
#[argh(subcommand)]
enum Wish {
    Run(Run),
    Check(Check),
    Realserver(Realserver),
    Reload(Reload),
    Save(Save),
    Status(Status),
    Ipvsadm(Ipvsadm),
    Proc(Proc),
}

/// Run the director in the foreground. Prints "ready" on standard output as soon as every port is
/// open and its addresses are announced. SIGTERM and SIGINT end it and undo what it did to devices;
/// SIGUSR1 logs the table as `ipvsadm -Ln` prints it; SIGHUP reads the rules again: what stays keeps
/// its connections, and rules with a mistake change nothing.
#[derive(FromArgs, ArgsInfo)]
#[argh(
    subcommand,
    name = "run",
    help_triggers("-h", "--help", "help"),
    example = "{command_name} -r /etc/tapvs.rules",
    error_code(0, "ended by a signal"),
    error_code(1, "a port could not be opened, or all are gone"),
    error_code(2, "the command line was not understood"),
    error_code(3, "the rules cannot be read or are not right; nothing was created")
)]
struct Run {
    /// the rules file; - reads standard input
    #[argh(option, short = 'r', arg_name = "file")]
    rules: String,
    /// read the rules again whenever the file changes; SIGHUP does so at any time
    #[argh(switch)]
    watch: bool,
    /// the control socket, where ipvsadm asks; else $TAPVS_SOCKET, $RUNTIME_DIRECTORY/tapvs.sock,
    /// or /run/tapvs.sock
    #[argh(option, arg_name = "path")]
    socket: Option<String>,
    /// how frames are moved: auto (io_uring where the kernel has it), or drain (one a call)
    #[argh(option, arg_name = "auto|drain", default = "Engines::Best", from_str_fn(engine_named))]
    engine: Engines,
    /// how many threads move frames, each with a queue of every port; without it as many as there are
    /// processors, but no more than four
    #[argh(option, arg_name = "n", from_str_fn(workers_of))]
    workers: Option<usize>,
    /// make chance repeatable: the same seed, the same choices
    #[argh(option, arg_name = "n")]
    seed: Option<u64>,
    /// log more: the level debug, as the manual tells
    #[argh(switch, short = 'v')]
    verbose: u8,
    /// log warnings and errors only
    #[argh(switch, short = 'q')]
    quiet: bool,
}

fn workers_of(number: &str) -> Result<usize, String> {
    match number.parse() {
        Ok(number @ 1..=WORKERS_MAX) => Ok(number),
        _ => Err(format!("expected a number from 1 to {WORKERS_MAX}")),
    }
}

fn engine_named(name: &str) -> Result<Engines, String> {
    match name {
        "auto" => Ok(Engines::Best),
        "drain" => Ok(Engines::Drain),
        _ => Err("expected auto or drain".to_owned()),
    }
}

/// Read a rules file and explain in plain words what it says; change nothing.
#[derive(FromArgs, ArgsInfo)]
#[argh(
    subcommand,
    name = "check",
    help_triggers("-h", "--help", "help"),
    example = "{command_name} /etc/tapvs.rules",
    example = "{command_name} --lint /etc/tapvs.rules",
    error_code(0, "the rules are right"),
    error_code(2, "the command line was not understood"),
    error_code(
        3,
        "the rules cannot be read or are not right; all complaints are on standard error"
    ),
    error_code(4, "--lint: the rules can be run, and something in them will not work")
)]
struct Check {
    /// the rules file; - reads standard input
    #[argh(positional)]
    file: String,
    /// tell instead, line by line, what is legal and will not work
    #[argh(switch)]
    lint: bool,
    /// log more: the level debug, as the manual tells
    #[argh(switch, short = 'v')]
    verbose: u8,
    /// log warnings and errors only
    #[argh(switch, short = 'q')]
    quiet: bool,
}

/// The real servers' side. With -r: print a shell script that sets real servers up. With --decap:
/// take tunnels (IP in IP, GRE, GUE) off on this host, whose kernel need not know how.
#[derive(FromArgs, ArgsInfo)]
#[argh(
    subcommand,
    name = "realserver",
    help_triggers("-h", "--help", "help"),
    example = "{command_name} -r /etc/tapvs.rules --server 10.77.2.11",
    example = "{command_name} --decap",
    error_code(0, "printed, or ended by a signal"),
    error_code(1, "the device or a socket could not be opened"),
    error_code(2, "the command line was not understood, or there is no such server"),
    error_code(3, "the rules cannot be read or are not right")
)]
struct Realserver {
    /// the director's rules file; - reads standard input
    #[argh(option, short = 'r', arg_name = "file")]
    rules: Option<String>,
    /// only the commands for this real server; without it, one script that does on each server
    /// what is meant for it
    #[argh(option, arg_name = "addr")]
    server: Option<std::net::IpAddr>,
    /// take tunnels off in the foreground; prints "ready" when it does
    #[argh(switch)]
    decap: bool,
    /// the UDP port on which --decap takes GUE tunnels off as well
    #[argh(option, arg_name = "port")]
    gue_port: Option<u16>,
    /// the TUN device that --decap makes (tapvs0)
    #[argh(option, arg_name = "name")]
    tun: Option<String>,
    /// log more: the level debug, as the manual tells
    #[argh(switch, short = 'v')]
    verbose: u8,
    /// log warnings and errors only
    #[argh(switch, short = 'q')]
    quiet: bool,
}

/// Have a running tapvs read its rules file again. Prints the lines that go (-), come (+) or have
/// another place (~), or "unchanged". What stays keeps its connections; a file with a mistake changes
/// nothing.
#[derive(FromArgs, ArgsInfo)]
#[argh(
    subcommand,
    name = "reload",
    help_triggers("-h", "--help", "help"),
    error_code(0, "the rules of the file run"),
    error_code(1, "no tapvs answers, or it ended in the middle of its answer"),
    error_code(2, "the command line was not understood"),
    error_code(3, "the rules cannot be read, are not right or cannot be run; nothing was changed")
)]
struct Reload {
    /// the control socket of the tapvs to ask
    #[argh(option, arg_name = "path")]
    socket: Option<String>,
}

/// Print what a running tapvs runs as a rules file that makes the same state: the rules it has
/// read, and what ipvsadm changed since. Comments are not kept.
#[derive(FromArgs, ArgsInfo)]
#[argh(
    subcommand,
    name = "save",
    help_triggers("-h", "--help", "help"),
    example = "{command_name} -o /etc/tapvs.rules",
    error_code(0, "printed, or the file replaced"),
    error_code(1, "no tapvs answers, it ended in the middle, or the file cannot be written"),
    error_code(2, "the command line was not understood")
)]
struct Save {
    /// replace this file, whole or not at all; - prints
    #[argh(option, short = 'o', arg_name = "file")]
    output: Option<String>,
    /// the control socket of the tapvs to ask
    #[argh(option, arg_name = "path")]
    socket: Option<String>,
}

/// Tell what became of every frame that a running tapvs has received: forwarded, answered, or dropped
/// and why; whom its addresses are disputed by; and which next hops of its real servers do not answer.
#[derive(FromArgs, ArgsInfo)]
#[argh(
    subcommand,
    name = "status",
    help_triggers("-h", "--help", "help"),
    error_code(0, "printed"),
    error_code(1, "no tapvs answers, or it ended in the middle of its answer"),
    error_code(2, "the command line was not understood")
)]
struct Status {
    /// the control socket of the tapvs to ask
    #[argh(option, arg_name = "path")]
    socket: Option<String>,
}

/// Be ipvsadm: `tapvs ipvsadm -Ln` is `ipvsadm -Ln`, asked of a running tapvs. A link of that name
/// to this program does the same, and so do links named ipvsadm-save and ipvsadm-restore.
#[derive(FromArgs, ArgsInfo)]
#[argh(subcommand, name = "ipvsadm", help_triggers())]
struct Ipvsadm {
    /// the arguments of ipvsadm
    #[argh(positional, greedy)]
    args: Vec<String>,
}

/// Print what the kernel's /proc/net/NAME would say of a running tapvs: ip_vs, ip_vs_conn,
/// ip_vs_conn_sync, ip_vs_stats, ip_vs_stats_percpu or ip_vs_app. With --into: keep these files in
/// a directory for programs that read such (prometheus-node-exporter --path.procfs), each replaced
/// in one step; without names, those without connections. While no tapvs answers they are gone.
#[derive(FromArgs, ArgsInfo)]
#[argh(
    subcommand,
    name = "proc",
    help_triggers("-h", "--help", "help"),
    example = "{command_name} ip_vs",
    example = "{command_name} --into /run/tapvs-proc",
    error_code(0, "printed, or ended by a signal"),
    error_code(1, "no tapvs answers, or the directory cannot be written to"),
    error_code(2, "the command line was not understood, or there is no such file")
)]
struct Proc {
    /// the names of the files
    #[argh(positional)]
    names: Vec<String>,
    /// as JSON: ip_vs, ip_vs_conn and ip_vs_stats
    #[argh(switch)]
    json: bool,
    /// the control socket of the tapvs to ask
    #[argh(option, arg_name = "path")]
    socket: Option<String>,
    /// keep them under net in this directory, in the foreground; prints "ready" when they are there
    #[argh(option, arg_name = "dir")]
    into: Option<String>,
    /// how many seconds pass until they are written anew (2)
    #[argh(option, arg_name = "s")]
    every: Option<u32>,
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

/// Every word and option of the program with its sentences, for manuals and completions.
pub fn definition() -> CommandInfoWithArgs {
    Args::get_args_info()
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
    let (verbose, quiet) = (args.verbose, args.quiet);
    match args.wish {
        None => {
            Err(Failure::Usage(format!("tapvs: {}? `tapvs --help` tells.", usage::words_listed())))
        }
        Some(Wish::Run(wish)) => {
            log_to_stderr(verbose.saturating_add(wish.verbose), quiet || wish.quiet);
            run_director(&wish).map(|()| exit::FINE)
        }
        Some(Wish::Check(wish)) => {
            log_to_stderr(verbose.saturating_add(wish.verbose), quiet || wish.quiet);
            check_rules(&wish)
        }
        Some(Wish::Realserver(wish)) => {
            log_to_stderr(verbose.saturating_add(wish.verbose), quiet || wish.quiet);
            serve_realserver(&wish).map(|()| exit::FINE)
        }
        // Help lists it; its words went to it before any were looked at here.
        Some(Wish::Ipvsadm(wish)) => {
            let words = wish.args.join(" ");
            Err(Failure::Usage(format!("tapvs: `tapvs ipvsadm {words}` takes no option in front")))
        }
        Some(Wish::Reload(wish)) => ask::reload(wish.socket.as_deref()).map(|()| exit::FINE),
        Some(Wish::Save(wish)) => ask::save(&wish).map(|()| exit::FINE),
        Some(Wish::Status(wish)) => ask::status(wish.socket.as_deref()).map(|()| exit::FINE),
        Some(Wish::Proc(wish)) => {
            log_to_stderr(verbose, quiet);
            procfs::run(&wish).map(|()| exit::FINE)
        }
    }
}

fn check_rules(wish: &Check) -> Result<u8, Failure> {
    let mut read = read(&wish.file)?;
    system::complete(&mut read.config);
    Engine::new(&read.config, 0).map_err(|why| refused(&wish.file, &why))?;
    if !wish.lint {
        check::warn_of_asides(&wish.file, &read);
        say(check::explanation(&wish.file, &read.config).trim_end());
        check::warn_of_lints(&wish.file, &read);
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

fn run_director(wish: &Run) -> Result<(), Failure> {
    if wish.watch && wish.rules == "-" {
        let why = "tapvs run: --watch needs a file, and standard input is none";
        return Err(Failure::Usage(why.to_owned()));
    }
    system::sys::keep_large_pieces_apart();
    let mut read = read(&wish.rules)?;
    check::warn_of_asides(&wish.rules, &read);
    if read.config.ports.is_empty() {
        warn!("{}: no port; `ip tuntap add dev NAME mode tap` makes one", wish.rules);
    } else {
        check::warn_of_lints(&wish.rules, &read);
    }
    system::complete(&mut read.config);
    let config = read.config;
    let seed = match wish.seed {
        Some(seed) => seed,
        None => system::random_seed()?,
    };
    let engine = Engine::new(&config, seed).map_err(|why| refused(&wish.rules, &why))?;
    let socket = Wanted::new(wish.socket.as_deref());
    let processors = || std::thread::available_parallelism().map_or(1, |n| n.get().min(4));
    let workers = wish.workers.unwrap_or_else(processors);
    debug!("seed {seed}, workers {workers}, control socket {}", socket.path.display());
    let plan = Plan { wish: wish.engine, workers };
    Ok(system::reactor::run(&config, engine, &RulesFile(wish), plan, &socket)?)
}

/// The rules file of a run, to be read again.
struct RulesFile<'a>(&'a Run);

impl system::reactor::Rules for RulesFile<'_> {
    fn read(&self) -> Result<Config, String> {
        if self.0.rules == "-" {
            return Err("the rules came from standard input and cannot be read again".to_owned());
        }
        load(&self.0.rules).map_err(Failure::text)
    }

    fn stamp(&self) -> Option<u64> {
        use std::hash::{DefaultHasher, Hash, Hasher};
        if !self.0.watch {
            return None;
        }
        let mut hasher = DefaultHasher::new();
        if let Ok(about) = fs::metadata(&self.0.rules) {
            (about.len(), about.modified().ok()).hash(&mut hasher);
        }
        Some(hasher.finish())
    }
}

fn serve_realserver(wish: &Realserver) -> Result<(), Failure> {
    let usage = |why: &str| Failure::Usage(format!("tapvs realserver: {why}"));
    match (&wish.rules, wish.decap) {
        (Some(_), true) => Err(usage("either -r or --decap, not both")),
        (None, false) => Err(usage("-r FILE prints commands, --decap takes tunnels off; which?")),
        (None, true) if wish.server.is_some() => Err(usage("--server goes with -r")),
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
    check::warn_of_asides(file, &read);
    Ok(read.config)
}

/// How a rules file is called in what we say about it.
fn label(file: &str) -> &str {
    if file == "-" {
        return "standard input";
    }
    file
}

/// The same, with the places where it says what it says.
fn read(file: &str) -> Result<rules::Read, Failure> {
    let label = label(file);
    let text = if file == "-" {
        let mut text = Vec::new();
        io::stdin().lock().read_to_end(&mut text).map(|_| text)
    } else {
        fs::read(file)
    };
    let text = text.map_err(|e| {
        Failure::Rules(vec![Fault::new(format!("tapvs: reading {label}"), e).to_string()])
    })?;
    let text = String::from_utf8(text).map_err(|e| {
        let good = e.utf8_error().valid_up_to();
        let line = e.as_bytes()[..good].iter().filter(|&&b| b == b'\n').count() + 1;
        Failure::Rules(vec![format!("{label}:{line}: this is not UTF-8 text")])
    })?;
    rules::read(label, &text).map_err(|all| Failure::Rules(complaint::told(&all)))
}

fn refused(file: &str, why: &impl std::fmt::Display) -> Failure {
    Failure::Rules(vec![format!("{file}: {why}")])
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
