//! The built binary as `ipvsadm`, against a running `tapvs run` without any port: no rights needed.
//!
//! The files of `tests/golden` are recordings of the real tool on a real kernel.

mod running;

use std::fmt::Write as _;
use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output};
use std::time::Duration;

use running::{short, Stranger};
use tapvs::config::rules;
use tapvs::world::Rng;

/// A running tapvs that ends with the test.
struct Tapvs {
    child: Child,
    socket: PathBuf,
    leaves_its_socket: bool,
}

impl Tapvs {
    fn start(name: &str) -> Self {
        Self::start_with(name, "")
    }

    fn start_with(name: &str, rules: &str) -> Self {
        let socket = short(&format!("{name}.sock"));
        let file = short(&format!("{name}.rules"));
        std::fs::write(&file, rules).expect("a scratch file");
        let child = running::start(&file, &socket);
        Self { child, socket, leaves_its_socket: false }
    }

    fn ipvsadm(&self, args: &[&str], input: &str) -> Outcome {
        call("ipvsadm", &self.socket, args, input)
    }

    /// What a call prints that must succeed.
    fn prints(&self, args: &str) -> String {
        let args: Vec<_> = args.split_ascii_whitespace().collect();
        let outcome = self.ipvsadm(&args, "");
        assert_eq!((outcome.code, outcome.err.as_str()), (0, ""), "{args:?}");
        outcome.out
    }
}

impl Drop for Tapvs {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = std::fs::remove_file(self.socket.with_extension("rules"));
        if !self.leaves_its_socket {
            let _ = std::fs::remove_file(&self.socket);
        }
    }
}

#[derive(Debug, PartialEq, Eq)]
struct Outcome {
    code: i32,
    out: String,
    err: String,
}

impl From<Output> for Outcome {
    fn from(output: Output) -> Self {
        let text = |bytes| String::from_utf8(bytes).expect("we write UTF-8");
        let code = output.status.code().expect("no signal");
        Self { code, out: text(output.stdout), err: text(output.stderr) }
    }
}

/// Runs the binary under another name.
fn call(program: &str, socket: &Path, args: &[&str], input: &str) -> Outcome {
    running::answer(program, args, input, Some(socket)).into()
}

/// A recorded call: its words, input and outcome.
fn recordings(text: &str) -> Vec<(String, String, Outcome)> {
    let mut all: Vec<(String, String, Outcome)> = Vec::new();
    for line in text.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
        let (kind, rest) = line.split_at(1);
        if kind == "$" {
            let outcome = Outcome { code: 0, out: String::new(), err: String::new() };
            all.push((rest.trim_start().to_owned(), String::new(), outcome));
            continue;
        }
        let (_, input, outcome) = all.last_mut().expect("a command comes first");
        match kind {
            "<" => writeln!(input, "{}", rest.strip_prefix(' ').unwrap_or(rest)),
            "|" => writeln!(outcome.out, "{rest}"),
            "!" => writeln!(outcome.err, "{rest}"),
            "?" => {
                outcome.code = rest.trim().parse().expect("a number");
                Ok(())
            }
            _ => panic!("what is {line}?"),
        }
        .expect("writing to a string");
    }
    all
}

fn replay(name: &str, text: &str) {
    let tapvs = Tapvs::start(name);
    let mut wrong = Vec::new();
    let all = recordings(text);
    for (words, input, wanted) in &all {
        let mut words = words.split(' ').filter(|word| !word.is_empty());
        let program = words.next().expect("a program");
        let args: Vec<_> = words.collect();
        let got = call(program, &tapvs.socket, &args, input);
        if got != *wanted {
            wrong.push(format!("{program} {}\n  {wanted:?}\n  {got:?}", args.join(" ")));
        }
    }
    let count = wrong.len();
    assert!(wrong.is_empty(), "{count} of {} differ:\n{}", all.len(), wrong.join("\n"));
}

#[test]
fn every_listing_is_printed_as_the_tool_prints_it() {
    replay("listing", include_str!("golden/listing.txt"));
}

#[test]
fn every_option_is_taken_or_refused_with_every_command_as_by_the_tool() {
    replay("illegal", include_str!("golden/illegal.txt"));
}

#[test]
fn arguments_are_read_as_the_tool_reads_them() {
    replay("words", include_str!("golden/words.txt"));
    replay("more", include_str!("golden/more.txt"));
    replay("odd", include_str!("golden/odd.txt"));
}

#[test]
fn wrong_commands_are_refused_in_the_tools_words() {
    replay("errors", include_str!("golden/errors.txt"));
}

#[test]
fn rules_on_standard_input_are_done_as_the_tool_does_them() {
    replay("restore", include_str!("golden/restore.txt"));
}

#[test]
fn a_line_that_is_restored_has_many_ends_and_one_that_has_none_may_be_lost() {
    let tapvs = Tapvs::start("line-ends");
    let restore = |text: &str| tapvs.ipvsadm(&["-R"], text);
    let fine = |out: &str| Outcome { code: 0, out: out.to_owned(), err: String::new() };
    assert_eq!(restore("-A -f 1\r-A -f 2 \x0b-A -f 3\x0c-A -f 4\r\n-A -f 5 "), fine(""));
    for lost in ["-A -f 6  ", "-A -f 6 \t", "word  ", "-A -f 7\r-A -f 6  "] {
        assert_eq!(restore(lost), fine(""), "{lost:?}");
    }
    assert_eq!(restore("-A -f 8  \n"), fine(""));
    let saved: Vec<_> = [1, 2, 3, 4, 5, 7, 8].map(|mark| format!("-A -f {mark} -s wlc\n")).into();
    assert_eq!(tapvs.ipvsadm(&["-Sn"], ""), fine(&saved.concat()));
}

const TABLE: &str = "\
-A -t 10.0.0.1:80 -s rr
-a -t 10.0.0.1:80 -r 10.9.0.1:80 -m -w 1
-a -t 10.0.0.1:80 -r 10.9.0.2:8080 -m -w 3
-A -u 10.0.0.1:53 -s wlc -o
-A -f 7 -6 -s wrr -p 60 -M 64
-a -f 7 -6 -r [fd00::2]:0 -g -w 2
";

#[test]
fn what_is_saved_is_restored_also_by_the_scripts_names() {
    let tapvs = Tapvs::start("scripts");
    let restore = |input: &str| call("/sbin/ipvsadm-restore", &tapvs.socket, &[], input);
    let save = |args: &[&str]| call("/sbin/ipvsadm-save", &tapvs.socket, args, "");
    let fine = |out: &str| Outcome { code: 0, out: out.to_owned(), err: String::new() };
    assert_eq!(restore(TABLE), fine(""));
    let sorted = save(&["-n"]);
    let mut lines: Vec<_> = sorted.out.lines().collect();
    let mut wanted: Vec<_> = TABLE.lines().collect();
    lines.sort_unstable();
    wanted.sort_unstable();
    assert_eq!(lines, wanted);
    assert_eq!(restore(&format!("# a comment\n{}", sorted.out)), fine(""));
    assert_eq!(save(&["-n", "word"]), sorted);
    let usage = save(&["-x"]);
    assert_eq!((usage.code, usage.out.as_str()), (1, ""));
    assert!(usage.err.starts_with("/sbin/ipvsadm-save: "), "{}", usage.err);
    let empty = restore("");
    assert_eq!((empty, tapvs.prints("-Sn")), (fine(""), String::new()));
}

/// Some rules that ipvsadm can say, always the same for the same die.
fn some_rules(rng: &mut Rng) -> String {
    let mut out = String::new();
    let schedulers = ["rr", "wrr", "lc", "wlc", "sh", "none"];
    for i in 0..rng.next_u32() % 8 {
        let v6 = rng.next_u32() % 3 == 0;
        let key = match rng.next_u32() % 4 {
            0 => format!("-f {}{}", i + 1, if v6 { " -6" } else { "" }),
            1 if !v6 => format!("-u 10.0.{i}.1:53"),
            _ if v6 => format!("-t [fd00::{i}:1]:{}", rng.next_u16() | 1),
            _ => format!("-t 10.0.{i}.1:{}", rng.next_u16() | 1),
        };
        let scheduler = schedulers[rng.next_u32() as usize % schedulers.len()];
        write!(out, "-A {key} -s {scheduler}").expect("a string");
        if rng.next_u32() % 2 == 0 {
            write!(out, " -p {}", rng.next_u16() | 1).expect("a string");
            let mask = if v6 { "64" } else { "255.255.0.0" };
            write!(out, "{}", [format!(" -M {mask}"), String::new()][i as usize % 2])
                .expect("a string");
        }
        if !key.starts_with("-t") && rng.next_u32() % 2 == 0 {
            out.push_str(" -o");
        }
        if rng.next_u32() % 3 == 0 {
            out.push_str(" -b flag-1,flag-2");
        }
        out.push('\n');
        for j in 1..rng.next_u32() % 4 {
            let at = if v6 { format!("[fd81::{j}]") } else { format!("10.9.0.{j}") };
            let method = ["-m", "-g", "-i"][rng.next_u32() as usize % 3];
            let tunnel = match (method, rng.next_u32() % 4) {
                ("-i", 0) => " --tun-type gue --tun-port 6080 --tun-remcsum",
                ("-i", 1) => " --tun-type gre --tun-csum",
                _ => "",
            };
            let weight = rng.next_u32() >> 1;
            writeln!(out, "-a {key} -r {at}:80 {method} -w {weight}{tunnel}").expect("a string");
        }
    }
    out
}

#[test]
fn printing_a_state_and_reading_it_again_gives_the_state() {
    let mut rng = Rng::new(5);
    let tapvs = Tapvs::start("property");
    for round in 0..300 {
        let text = some_rules(&mut rng);
        let state = rules::load("generated", &text).unwrap_or_else(|all| panic!("{}", all[0]));
        let again = rules::load("printed", &state.to_string());
        assert_eq!(again.as_ref(), Ok(&state), "{text}");
        if round % 10 != 0 {
            continue;
        }
        let restored = tapvs.ipvsadm(&["-R"], &format!("-C\n{text}"));
        assert_eq!((restored.code, restored.err.as_str()), (0, ""), "{text}");
        let saved = tapvs.prints("-Sn");
        let restored = tapvs.ipvsadm(&["-R"], &format!("-C\n{saved}"));
        assert_eq!((restored.code, restored.err.as_str()), (0, ""), "{saved}");
        assert_eq!(tapvs.prints("-Sn"), saved);
    }
}

#[test]
fn thousands_of_services_are_loaded_and_listed() {
    let tapvs = Tapvs::start("many");
    let mut rules = String::new();
    for i in 0..3000 {
        let virt = format!("10.{}.{}.1:80", i / 250, i % 250);
        writeln!(rules, "-A -t {virt}").expect("a string");
        for j in 1..=5 {
            writeln!(rules, "-a -t {virt} -r 10.200.0.{j}:80 -m").expect("a string");
        }
    }
    let restored = tapvs.ipvsadm(&["-R"], &rules);
    assert_eq!((restored.code, restored.err.as_str()), (0, ""));
    let listing = tapvs.prints("-Ln");
    assert_eq!(listing.lines().count(), 3 + 3000 * 6);
    assert_eq!(tapvs.prints("-Ln --json").matches("\"method\":\"masq\"").count(), 15_000);
    assert_eq!(tapvs.prints("-Sn").lines().count(), 18_000);
}

#[test]
fn the_proc_files_and_json_are_there() {
    let tapvs = Tapvs::start_with("proc", TABLE);
    let proc = |args: &[&str]| {
        let mut all = vec!["proc"];
        all.extend(args);
        call("tapvs", &tapvs.socket, &all, "")
    };
    let file = proc(&["ip_vs"]).out;
    assert!(file.contains("UDP  0A000001:0035 wlc ops  \n"), "{file}");
    assert!(file.contains("FWM  00000007 wrr persistent 15000 40000000\n"), "{file}");
    for name in ["ip_vs_conn", "ip_vs_conn_sync", "ip_vs_stats", "ip_vs_stats_percpu", "ip_vs_app"]
    {
        let outcome = proc(&[name]);
        assert_eq!((outcome.code, outcome.err.as_str()), (0, ""), "{name}");
        assert!(!outcome.out.is_empty(), "{name}");
    }
    let socket = tapvs.socket.to_str().expect("a plain path");
    let json = call(
        "tapvs",
        Path::new("/nonexistent/x"),
        &["proc", "--json", "ip_vs_stats", "--socket", socket],
        "",
    );
    assert!(json.out.starts_with("{\"schema\":1,\"total\":{\"live\":{"), "{json:?}");
    assert_eq!(proc(&["ip_vs_nosuch"]).code, 2);
    assert_eq!(proc(&["ip_vs_app", "--json"]).code, 2);
    let both = proc(&["ip_vs", "ip_vs_app"]).out;
    assert_eq!(both, proc(&["ip_vs"]).out + &proc(&["ip_vs_app"]).out);
    for args in [
        &[][..],
        &["--every", "3", "ip_vs"],
        &["--into", "x", "--json"],
        &["--into", "x", "--every", "0"],
    ] {
        let outcome = proc(args);
        assert_eq!((outcome.code, outcome.err.lines().count()), (2, 1), "{args:?} {outcome:?}");
    }
    let outcome = proc(&["--into", "/dev/null/x"]);
    assert_eq!((outcome.code, outcome.out.as_str()), (1, ""));
    assert!(outcome.err.starts_with("tapvs: keeping files in /dev/null/x/net: "), "{outcome:?}");
    let outcome = tapvs.prints("-Ln -f 7 -6 --json");
    assert!(outcome.contains("\"fwmark\":7,\"family\":\"ipv6\""), "{outcome}");
    assert_eq!(tapvs.prints("-L --daemon --json"), "{\"schema\":1,\"daemons\":[]}\n");
    assert!(tapvs.prints("-Lc --json").contains("\"connections\":[]"));
    assert!(tapvs.prints("-S --json").starts_with("{\"schema\":1,\"services\":[{"));
}

#[test]
fn the_first_word_makes_it_ipvsadm_too_and_no_word_lists() {
    let tapvs = Tapvs::start_with("word", TABLE);
    let named = tapvs.ipvsadm(&["-Ln"], "");
    assert_eq!(call("tapvs", &tapvs.socket, &["ipvsadm", "-Ln"], ""), named);
    let saved = call("tapvs", &tapvs.socket, &["ipvsadm-save", "-n"], "");
    assert_eq!(saved.out, tapvs.prints("-Sn"));
    let all = tapvs.ipvsadm(&[], "");
    assert_eq!((all.code, all.out.lines().count()), (0, named.out.lines().count()));
    let help = tapvs.ipvsadm(&["-h"], "");
    assert_eq!((help.code, help.err.as_str()), (0, ""));
    assert!(help.out.starts_with("ipvsadm v1.31 2019/12/24"), "{}", help.out);
}

#[test]
fn the_socket_is_its_owners_alone_and_goes_with_its_tapvs() {
    let mut tapvs = Tapvs::start("mode");
    tapvs.leaves_its_socket = true;
    let about = std::fs::metadata(&tapvs.socket).expect("it is there");
    assert_eq!(about.permissions().mode() & 0o777, 0o600);
    let socket = tapvs.socket.clone();
    // A second one is refused, and the first goes on.
    let second = call("tapvs", &socket, &["run", "-q", "-r", "-"], "");
    assert_eq!((second.code, second.out.as_str()), (1, ""));
    let wanted =
        format!("tapvs: control socket {}: another tapvs answers there (a second one needs a `--socket PATH` of its own)\n", socket.display());
    assert_eq!(second.err.lines().last().map(|l| format!("{l}\n")), Some(wanted));
    assert_eq!(tapvs.prints("-Sn"), "");
    // What a dead one leaves is replaced.
    drop(tapvs);
    assert!(socket.exists(), "it was killed and could not clean up");
    let outcome = call("ipvsadm", &socket, &["-Ln"], "");
    assert_eq!(outcome.code, 2);
    let again = Tapvs::start("mode");
    assert_eq!(again.prints("-Sn"), "");
}

/// The two lines of a tool that cannot begin.
fn cannot(outcome: &Outcome) -> &str {
    assert_eq!((outcome.code, outcome.out.as_str(), outcome.err.lines().count()), (2, "", 2));
    let line = outcome.err.lines().next().expect("two");
    line.strip_prefix("Can't initialize ipvs: ").expect("the tool's words")
}

#[test]
fn a_socket_that_is_not_there_or_not_one_is_told_in_two_lines() {
    let nowhere = short("nowhere.sock");
    let wanted = format!("no tapvs is running at {}", nowhere.display());
    for args in [&["-Ln"][..], &[], &["-A", "-t", "10.0.0.1:80"], &["-q"], &["-R"]] {
        assert_eq!(cannot(&call("ipvsadm", &nowhere, args, "")), wanted, "{args:?}");
    }
    assert_eq!(call("ipvsadm", &nowhere, &["-v"], "").code, 0);
    let file = short("file.sock");
    std::fs::write(&file, "no socket").expect("a scratch file");
    assert_eq!(
        cannot(&call("ipvsadm", &file, &["-Ln"], "")),
        format!("no tapvs is running at {}", file.display())
    );
    let run = call("tapvs", &file, &["run", "-q", "-r", "-"], "");
    assert_eq!(run.code, 1);
    assert!(run.err.contains("something that is no socket is there"), "{}", run.err);
    let _ = std::fs::remove_file(&file);
    let proc = call("tapvs", &nowhere, &["proc", "ip_vs"], "");
    assert_eq!((proc.code, proc.out.as_str()), (1, ""));
    assert!(proc.err.contains("no tapvs is running at"), "{}", proc.err);
}

/// Serves one client at a fresh socket by `answer`.
fn impostor(name: &str, answer: &'static [u8]) -> (PathBuf, std::thread::JoinHandle<()>) {
    let path = short(name);
    let listener = UnixListener::bind(&path).expect("a fresh path");
    let server = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("a client");
        let mut request = [0; 4];
        stream.read_exact(&mut request).expect("a request");
        // The client may have had enough before it has got all of it.
        let _ = stream.write_all(answer);
    });
    (path, server)
}

#[test]
fn one_that_dies_in_the_middle_or_is_no_tapvs_is_told_in_one_line() {
    for (name, answer, wanted) in [
        ("mute.sock", &b""[..], "ended in the middle of its answer"),
        ("half.sock", b"\0\0\0\x20more\nS a 6 10.0.0.1:80", "ended in the middle of its answer"),
        ("first.sock", b"\0\0\0\x05more\n", "ended in the middle of its answer"),
        ("web.sock", b"HTTP/1.1 400 Bad Request\r\n\r\n", "is no tapvs"),
        ("odd.sock", b"\0\0\0\x04more\0\0\0\x06more\nX", "is no tapvs"),
        ("newer.sock", b"\0\0\0\x09version\n9", "speaks version 9 of the control language"),
    ] {
        let (path, server) = impostor(name, answer);
        let outcome = call("ipvsadm", &path, &["-Ln"], "");
        assert_eq!((outcome.code, outcome.out.as_str()), (2, ""), "{name}: {outcome:?}");
        assert_eq!(outcome.err.lines().count(), 1, "{name}: {outcome:?}");
        assert!(outcome.err.contains(wanted), "{name}: {outcome:?}");
        server.join().expect("the impostor ends");
        let _ = std::fs::remove_file(&path);
    }
}

#[test]
fn a_client_of_another_version_or_language_is_told_and_left() {
    let tapvs = Tapvs::start("strangers");
    for words in [&b"\0\0\0\x069 zero"[..], b"GET / HTTP/1.1\r\n\r\n"] {
        let mut stream = UnixStream::connect(&tapvs.socket).expect("it serves");
        stream.set_read_timeout(Some(Duration::from_secs(100))).expect("a timeout");
        stream.write_all(words).expect("room");
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).expect("it ends the conversation");
        assert_eq!(answer, b"\0\0\0\x09version\n1");
    }
    assert_eq!(tapvs.prints("-Sn"), "");
}

#[test]
#[expect(clippy::disallowed_methods, reason = "a client that is patient looks now and then")]
fn clients_that_never_read_or_never_speak_hold_nobody_up() {
    let rules: String =
        (0..2000).map(|i| format!("-A -t 10.0.{}.{}:80\n", i / 250, i % 250 + 1)).collect();
    let tapvs = Tapvs::start_with("deaf", &rules);
    let silent: Vec<_> = (0..40)
        .map(|_| UnixStream::connect(&tapvs.socket).expect("it lets everybody in"))
        .collect();
    let question = b"\0\0\0\x0a1 services";
    let begin = || {
        let mut deaf = UnixStream::connect(&tapvs.socket).expect("it serves");
        for _ in 0..200 {
            deaf.write_all(question).expect("room");
        }
        deaf.set_nonblocking(true).expect("possible");
        deaf
    };
    // Whether it has not been dropped yet: its questions have room, or would have later.
    let is_there = |mut deaf: &UnixStream| match deaf.write(question) {
        Err(e) => e.kind() == ErrorKind::WouldBlock,
        Ok(_) => true,
    };
    // Who is answered while the deaf one is still there was not held up by it. A slow machine may drop
    // one meanwhile, but not one after the other.
    let answered_beside = (0..10).map(|_| begin()).find(|deaf| {
        assert_eq!(tapvs.prints("-Sn").lines().count(), 2000);
        is_there(deaf)
    });
    let mut deaf = answered_beside.expect("nobody is answered before the deaf one is dropped");
    // It is dropped in the end, however much it was to get.
    while is_there(&deaf) {
        std::thread::sleep(Duration::from_millis(100));
    }
    let mut got = Vec::new();
    let _ = deaf.read_to_end(&mut got);
    assert!(got.len() < 200 * 2000 * 40, "{} bytes", got.len());
    drop(silent);
    assert_eq!(tapvs.prints("-Sn").lines().count(), 2000);
}

#[test]
fn two_clients_at_once_both_get_their_answers() {
    let tapvs = Tapvs::start("two");
    std::thread::scope(|scope| {
        for who in 0..4 {
            let tapvs = &tapvs;
            scope.spawn(move || {
                let rules: String =
                    (1..=200).map(|i| format!("-A -t 10.{who}.0.{i}:80\n")).collect();
                let outcome = tapvs.ipvsadm(&["-R"], &rules);
                assert_eq!((outcome.code, outcome.err.as_str()), (0, ""));
            });
        }
    });
    assert_eq!(tapvs.prints("-Sn").lines().count(), 800);
}

#[test]
fn of_many_that_make_the_same_service_at_once_one_succeeds() {
    let tapvs = Tapvs::start("race");
    let made = std::thread::scope(|scope| {
        let calls: Vec<_> = (0..6)
            .map(|_| scope.spawn(|| tapvs.ipvsadm(&["-A", "-t", "10.0.0.1:80", "-s", "rr"], "")))
            .collect();
        calls.into_iter().map(|call| call.join().expect("it ends")).collect::<Vec<_>>()
    });
    let (good, bad): (Vec<_>, Vec<_>) = made.into_iter().partition(|outcome| outcome.code == 0);
    assert_eq!((good.len(), bad.len()), (1, 5), "{bad:?}");
    for outcome in bad {
        assert_eq!((outcome.code, outcome.err.as_str()), (255, "Service already exists\n"));
    }
    assert_eq!(tapvs.prints("-Sn"), "-A -t 10.0.0.1:80 -s rr\n");
}

#[test]
fn a_socket_that_is_not_ours_to_open_is_told_in_the_tools_words() {
    use std::os::unix::process::CommandExt;
    let tapvs = Tapvs::start_with("closed", TABLE);
    let before = tapvs.prints("-Sn");
    let stranger = Stranger::at(&tapvs.socket);
    for args in [&["-Ln"][..], &["-C"], &["-A", "-t", "10.0.0.9:80"], &["-R"]] {
        let mut call = stranger.call();
        call.arg0("ipvsadm").args(args).env("TAPVS_SOCKET", &tapvs.socket);
        let outcome = Outcome::from(call.output().expect("it runs"));
        assert_eq!(cannot(&outcome), "Permission denied (you must be root)", "{args:?}");
    }
    drop(stranger);
    assert_eq!(tapvs.prints("-Sn"), before, "and nothing was changed");
}

#[test]
#[expect(
    clippy::disallowed_methods,
    reason = "the client shall have knocked before its tapvs dies"
)]
fn a_tapvs_that_dies_while_it_is_asked_is_told_in_one_line() {
    let tapvs = Tapvs::start_with("dies", TABLE);
    let signal = |name: &str| {
        let id = tapvs.child.id().to_string();
        let status = Command::new("kill").args([name, &id]).status().expect("kill is there");
        assert!(status.success());
    };
    signal("-STOP");
    std::thread::scope(|scope| {
        let asks = scope.spawn(|| tapvs.ipvsadm(&["-Ln"], ""));
        // A connection that nobody has taken yet stands beside the socket itself.
        let place = tapvs.socket.to_str().expect("a plain path");
        let has_knocked = || {
            let all = std::fs::read_to_string("/proc/net/unix").expect("Linux has it");
            // The name under which the socket was made has an ending more.
            all.lines().filter(|line| line.contains(place)).count() > 1
        };
        while !has_knocked() {
            std::thread::sleep(Duration::from_millis(10));
        }
        signal("-KILL");
        let outcome = asks.join().expect("it ends");
        assert_eq!((outcome.code, outcome.out.as_str()), (2, ""));
        let wanted = format!(
            "tapvs: tapvs at {} ended in the middle of its answer\n",
            tapvs.socket.display()
        );
        assert_eq!(outcome.err, wanted);
    });
}
