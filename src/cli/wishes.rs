//! What can be asked of us, as argh reads it and as the help and the manuals tell it.
//!
//! Each word of the program is a struct: its comments are the help's sentences, its fields the options.
//!
//! Left out on purpose: doing any of it, and what two options mean to each other, which `cli` sees to.

use argh::{ArgsInfo, CommandInfoWithArgs, FromArgs};

use crate::io::tap::Wish as Engines;

/// Every word and option of the program with its sentences, for manuals and completions.
pub fn definition() -> CommandInfoWithArgs {
    Args::get_args_info()
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
pub(super) struct Args {
    /// print the version
    #[argh(switch, short = 'V')]
    pub(super) version: bool,
    /// log more: the level debug, as the manual tells
    #[argh(switch, short = 'v')]
    pub(super) verbose: u8,
    /// log warnings and errors only
    #[argh(switch, short = 'q')]
    pub(super) quiet: bool,
    #[argh(subcommand)]
    pub(super) wish: Option<Wish>,
}

#[derive(FromArgs, ArgsInfo)]
#[argh(subcommand)]
pub(super) enum Wish {
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
    example = "{command_name} /etc/tapvs.rules",
    error_code(0, "ended by a signal"),
    error_code(1, "a port could not be opened, or all are gone"),
    error_code(2, "the command line was not understood"),
    error_code(3, "the rules cannot be read or are not right; nothing was created")
)]
pub(super) struct Run {
    /// the rules file; - reads standard input
    #[argh(positional)]
    pub(super) file: Option<String>,
    /// the same
    #[argh(option, short = 'r', arg_name = "file")]
    pub(super) rules: Option<String>,
    /// read the rules again whenever the file changes; SIGHUP does so at any time
    #[argh(switch)]
    pub(super) watch: bool,
    /// the control socket, where ipvsadm asks; else $TAPVS_SOCKET, $RUNTIME_DIRECTORY/tapvs.sock,
    /// or /run/tapvs.sock
    #[argh(option, arg_name = "path")]
    pub(super) socket: Option<String>,
    /// how frames are moved: auto (io_uring where the kernel has it), or drain (one a call)
    #[argh(option, arg_name = "auto|drain", default = "Engines::Best", from_str_fn(engine_named))]
    pub(super) engine: Engines,
    /// how many threads move frames, each with a queue of every port; without it as many as there are
    /// processors, but no more than four
    #[argh(option, arg_name = "n", from_str_fn(workers_of))]
    pub(super) workers: Option<usize>,
    /// make chance repeatable: the same seed, the same choices
    #[argh(option, arg_name = "n")]
    pub(super) seed: Option<u64>,
    /// log more: the level debug, as the manual tells
    #[argh(switch, short = 'v')]
    pub(super) verbose: u8,
    /// log warnings and errors only
    #[argh(switch, short = 'q')]
    pub(super) quiet: bool,
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
pub(super) struct Check {
    /// the rules file; - reads standard input
    #[argh(positional)]
    pub(super) file: String,
    /// tell instead, line by line, what is legal and will not work
    #[argh(switch)]
    pub(super) lint: bool,
    /// tell instead all that is wrong and all that will not work, as JSON
    #[argh(switch)]
    pub(super) json: bool,
    /// log more: the level debug, as the manual tells
    #[argh(switch, short = 'v')]
    pub(super) verbose: u8,
    /// log warnings and errors only
    #[argh(switch, short = 'q')]
    pub(super) quiet: bool,
}

/// The real servers' side. With a rules file: print a shell script that sets real servers up. With --decap:
/// take tunnels (IP in IP, GRE, GUE) off on this host, whose kernel need not know how.
#[derive(FromArgs, ArgsInfo)]
#[argh(
    subcommand,
    name = "realserver",
    help_triggers("-h", "--help", "help"),
    example = "{command_name} /etc/tapvs.rules --server 10.77.2.11",
    example = "{command_name} --decap",
    error_code(0, "printed, or ended by a signal"),
    error_code(1, "the device or a socket could not be opened"),
    error_code(2, "the command line was not understood, or there is no such server"),
    error_code(3, "the rules cannot be read or are not right")
)]
pub(super) struct Realserver {
    /// the director's rules file; - reads standard input
    #[argh(positional)]
    pub(super) file: Option<String>,
    /// the same
    #[argh(option, short = 'r', arg_name = "file")]
    pub(super) rules: Option<String>,
    /// only the commands for this real server; without it, one script that does on each server
    /// what is meant for it
    #[argh(option, arg_name = "addr")]
    pub(super) server: Option<std::net::IpAddr>,
    /// take tunnels off in the foreground; prints "ready" when it does
    #[argh(switch)]
    pub(super) decap: bool,
    /// the UDP port on which --decap takes GUE tunnels off as well
    #[argh(option, arg_name = "port")]
    pub(super) gue_port: Option<u16>,
    /// the TUN device that --decap makes (tapvs0)
    #[argh(option, arg_name = "name")]
    pub(super) tun: Option<String>,
    /// log more: the level debug, as the manual tells
    #[argh(switch, short = 'v')]
    pub(super) verbose: u8,
    /// log warnings and errors only
    #[argh(switch, short = 'q')]
    pub(super) quiet: bool,
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
pub(super) struct Reload {
    /// the control socket of the tapvs to ask
    #[argh(option, arg_name = "path")]
    pub(super) socket: Option<String>,
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
pub(super) struct Save {
    /// replace this file, whole or not at all; - prints
    #[argh(option, short = 'o', arg_name = "file")]
    pub(super) output: Option<String>,
    /// the control socket of the tapvs to ask
    #[argh(option, arg_name = "path")]
    pub(super) socket: Option<String>,
}

/// Tell what became of every frame that a running tapvs has received: forwarded, answered, or dropped
/// and why; whether its addresses are disputed; and which of its real servers it cannot send to.
#[derive(FromArgs, ArgsInfo)]
#[argh(
    subcommand,
    name = "status",
    help_triggers("-h", "--help", "help"),
    error_code(0, "printed"),
    error_code(1, "no tapvs answers, or it ended in the middle of its answer"),
    error_code(2, "the command line was not understood")
)]
pub(super) struct Status {
    /// as JSON
    #[argh(switch)]
    pub(super) json: bool,
    /// the control socket of the tapvs to ask
    #[argh(option, arg_name = "path")]
    pub(super) socket: Option<String>,
}

/// Be ipvsadm: `tapvs ipvsadm -Ln` is `ipvsadm -Ln`, asked of a running tapvs. A link of that name
/// to this program does the same, and so do links named ipvsadm-save and ipvsadm-restore.
#[derive(FromArgs, ArgsInfo)]
#[argh(subcommand, name = "ipvsadm", help_triggers())]
pub(super) struct Ipvsadm {
    /// the arguments of ipvsadm
    #[argh(positional, greedy)]
    pub(super) args: Vec<String>,
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
pub(super) struct Proc {
    /// the names of the files
    #[argh(positional)]
    pub(super) names: Vec<String>,
    /// as JSON: ip_vs, ip_vs_conn and ip_vs_stats
    #[argh(switch)]
    pub(super) json: bool,
    /// the control socket of the tapvs to ask
    #[argh(option, arg_name = "path")]
    pub(super) socket: Option<String>,
    /// keep them under net in this directory, in the foreground; prints "ready" when they are there
    #[argh(option, arg_name = "dir")]
    pub(super) into: Option<String>,
    /// how many seconds pass until they are written anew (2)
    #[argh(option, arg_name = "s")]
    pub(super) every: Option<u32>,
}
