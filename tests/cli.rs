//! The built binary: usage, exit codes, and where its words go. Nothing here needs rights.

mod running;

use std::io::{Read, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use running::{short, Stranger};
use tapvs::config::rules;

const GOOD: &str = "\
ip tuntap add dev tapvs-t0 mode tap
ip addr add 10.77.1.1/24 dev tapvs-t0
-A -t 10.77.1.100:80
-a -t 10.77.1.100:80 -r 10.77.1.11:80 -g
";

const BAD: &str = "\
ip tuntap add dev tapvs-t0 mode tap
hello
goodbye
";

fn tapvs(args: &[&str], input: &str) -> Output {
    running::answer("tapvs", args, input, None)
}

/// Exit code, standard output, standard error.
fn outcome(args: &[&str], input: &str) -> (i32, String, String) {
    let output = tapvs(args, input);
    let text = |bytes| String::from_utf8(bytes).expect("we write UTF-8");
    (output.status.code().expect("no signal"), text(output.stdout), text(output.stderr))
}

#[test]
fn help_and_version_go_to_standard_output() {
    for args in [
        &["--help"][..],
        &["-h"],
        &["help"],
        &["run", "--help"],
        &["realserver", "-h"],
        &["reload", "-h"],
        &["save", "--help"],
    ] {
        let (code, out, err) = outcome(args, "");
        assert_eq!((code, err.as_str()), (0, ""), "{args:?}");
        assert!(out.starts_with("Usage: tapvs"), "{args:?}: {out}");
        assert!(out.contains("Error codes:"), "{args:?}: {out}");
    }
    for args in [["--version"], ["-V"]] {
        let version = concat!("tapvs ", env!("CARGO_PKG_VERSION"), "\n").to_owned();
        assert_eq!(outcome(&args, ""), (0, version, String::new()));
    }
}

#[test]
fn bad_usage_is_2_and_goes_to_standard_error() {
    for args in [
        &[][..],
        &["balance"],
        &["run"],
        &["run", "-r"],
        &["run", "-r", "-", "--seed", "x"],
        &["check"],
        &["check", "a", "b"],
        &["realserver"],
        &["realserver", "-r", "-", "--decap"],
        &["realserver", "-r", "-", "--tun", "t"],
        &["realserver", "--decap", "--server", "10.0.0.1"],
        &["realserver", "-r", "-", "--server", "web1"],
        &["reload", "now"],
        &["save", "file"],
        &["save", "-o"],
        &["reload", "--socket"],
        &["--nonsense"],
    ] {
        let (code, out, err) = outcome(args, GOOD);
        assert_eq!((code, out.as_str()), (2, ""), "{args:?}: {err}");
        assert!(err.starts_with("tapvs"), "{args:?}: {err}");
    }
}

#[test]
fn what_was_probably_meant_is_told() {
    for (line, wanted) in [
        ("run", "run: which rules file? `tapvs run FILE`"),
        ("run my.rules other", "run: `other` is one word too many"),
        ("run my.rules -r other", "run: either `my.rules` or `-r other`, not both"),
        ("check", "check: which rules file? `tapvs check FILE`"),
        ("realserver a b", "realserver: `b` is one word too many"),
        ("realserver a -r b", "realserver: either `a` or `-r b`, not both"),
        ("realserver a --decap", "realserver: either FILE or --decap, not both"),
        ("save f", "save: `f` stands behind no option; write `-o f`"),
        ("check a b", "check: `b` is one word too many"),
        ("check", "check: which rules file? `tapvs check FILE`"),
        ("check -r a", "check: unknown option `-r`; write `tapvs check FILE`"),
        (
            "start",
            "unknown word `start`: expected run, check, realserver, reload, save, status, ipvsadm or proc",
        ),
        ("-v relod", "ipvsadm or proc; did you mean `reload`?"),
        ("run -r - --worker 2", "run: unknown option `--worker`; did you mean `--workers`?"),
        ("run -r - --workers=2", "run: unknown option `--workers=2`; write `--workers 2`"),
        ("--verson", "unknown option `--verson`; did you mean `--version`?"),
        ("run -r - --nonsense", "run: unknown option `--nonsense`"),
        ("run --watch -", "run: --watch needs a file, and standard input is none"),
        ("run --watch -r -", "run: --watch needs a file, and standard input is none"),
    ] {
        let words: Vec<_> = line.split(' ').collect();
        let (code, out, err) = outcome(&words, GOOD);
        assert_eq!((code, out.as_str()), (2, ""), "{line}: {err}");
        let fits = err.starts_with("tapvs") && err.ends_with(&format!("{wanted}\n"));
        assert!(fits, "{line}: {err}");
    }
}

#[test]
fn the_log_tells_more_if_asked_to_and_never_what_is_not_ours() {
    let log = |args: &[&str], variable: Option<&str>| {
        let socket = short("log.sock");
        let mut call = Command::new(env!("CARGO_BIN_EXE_tapvs"));
        call.args(["run", "-r", "/dev/null", "--seed", "7", "--workers", "1", "--socket"]);
        call.arg(&socket).args(args).env_remove("RUST_LOG");
        call.envs(variable.map(|value| ("RUST_LOG", value)));
        let mut child = call
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the binary is there");
        child.stdout.as_mut().expect("it is piped").read_exact(&mut [0; 6]).expect("it speaks");
        let pid = child.id().to_string();
        assert!(Command::new("kill").arg(pid).status().expect("kill is there").success());
        String::from_utf8(child.wait_with_output().expect("it ends").stderr).expect("text")
    };
    let seed = "[debug] seed 7, workers 1, control socket ";
    assert!(!log(&[], None).contains("[debug]"));
    for args in [&["-v"][..], &["-vv"]] {
        let told = log(args, None);
        assert!(told.contains(seed) && !told.contains("[trace]"), "{told}");
    }
    let told = log(&["-q"], Some("trace"));
    assert!(told.contains(seed) && told.contains("[trace]"), "{told}");
}

#[test]
fn a_good_file_is_explained() {
    let (code, out, err) = outcome(&["check", "-"], GOOD);
    assert_eq!((code, err.as_str()), (0, ""));
    assert!(out.starts_with("standard input: fine\n"), "{out}");
    assert!(out.contains("  tapvs-t0: TAP, our MAC 02:"), "{out}");
    assert!(out.contains("-> 10.77.1.11:80, direct routing (Route), weight 1"), "{out}");
    assert!(out.contains("10.77.1.100 (virtual) on tapvs-t0"), "{out}");
}

#[test]
fn every_complaint_about_a_bad_file_is_told_and_the_code_is_3() {
    for args in [&["check", "-"][..], &["run", "-r", "-"], &["realserver", "-r", "-"]] {
        let (code, out, err) = outcome(args, BAD);
        assert_eq!((code, out.as_str()), (3, ""), "{args:?}: {err}");
        assert!(err.contains("standard input:2:"), "{args:?}: {err}");
        assert!(err.contains("standard input:3:"), "{args:?}: {err}");
        assert!(!err.contains("ready"), "{args:?}: {err}");
    }
}

#[test]
fn a_file_that_cannot_be_read_is_named_and_the_code_is_3() {
    let (code, out, err) = outcome(&["check", "/nonexistent/some.rules"], "");
    assert_eq!((code, out.as_str()), (3, ""));
    assert_eq!(err, "tapvs: reading /nonexistent/some.rules: No such file or directory\n");
}

#[test]
fn a_file_that_is_not_text_is_refused_with_its_line() {
    let path = scratch("not-text.rules");
    std::fs::write(&path, b"# fine\n\xff\xfe\n").expect("a scratch file");
    let file = path.to_str().expect("a plain path");
    let (code, _, err) = outcome(&["check", file], "");
    assert_eq!((code, err), (3, format!("{file}:2: this is not UTF-8 text\n")));
}

#[test]
fn what_cannot_be_run_is_no_fine_file_and_rules_without_a_port_are_warned_about() {
    let own = "ip tuntap add dev tapvs-t0 mode tap\nip link set tapvs-t0 master tapvs-t0\n";
    for args in [&["check", "-"][..], &["run", "-r", "-"]] {
        let (code, out, err) = outcome(args, own);
        assert_eq!((code, out.as_str()), (3, ""), "{args:?}: {err}");
        assert!(err.contains("standard input:2:"), "{args:?}: {err}");
    }
    let (code, out, _) = outcome(&["check", "-v", "-"], "-A -t 10.0.0.1:80\n");
    assert_eq!(code, 0);
    assert!(out.contains("\nWarning: there is no port"), "{out}");
}

#[test]
fn lines_for_a_real_server_are_passed_over_with_a_warning() {
    let (code, out, err) =
        outcome(&["check", "-"], &format!("{GOOD}ifconfig lo:0 10.77.1.100 up\n"));
    assert_eq!(code, 0);
    assert!(out.starts_with("standard input: fine\n"), "{out}");
    assert!(err.starts_with("[warn] standard input:5: this `ifconfig` line belongs on"), "{err}");
}

#[test]
fn rules_without_a_port_run_with_a_warning_until_a_signal_ends_them() {
    let socket = scratch("no-port.sock");
    let mut child = Command::new(env!("CARGO_BIN_EXE_tapvs"))
        .args(["run", "-r", "/dev/null", "--socket"])
        .arg(&socket)
        .env_remove("RUST_LOG")
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the binary is there");
    let mut ready = [0; 6];
    child.stdout.as_mut().expect("it is piped").read_exact(&mut ready).expect("it speaks");
    assert_eq!(&ready, b"ready\n");
    assert!(socket.exists());
    let pid = child.id().to_string();
    assert!(Command::new("kill").arg(pid).status().expect("kill is there").success());
    let output = child.wait_with_output().expect("it ends");
    let err = String::from_utf8(output.stderr).expect("text");
    assert_eq!(output.status.code(), Some(0), "{err}");
    assert!(err.contains("no port"), "{err}");
    assert!(!socket.exists(), "it takes its socket along");
}

#[test]
fn a_real_servers_commands_are_printed_and_an_unknown_server_is_bad_usage() {
    let (code, out, _) = outcome(&["realserver", "-r", "-", "--server", "10.77.1.11"], GOOD);
    assert_eq!(code, 0);
    assert!(out.contains("ip addr replace 10.77.1.100/32 dev lo\n"), "{out}");
    let (code, out, err) = outcome(&["realserver", "-r", "-", "--server", "10.9.9.9"], GOOD);
    assert_eq!((code, out.as_str()), (2, ""));
    assert!(err.contains("no such real server"), "{err}");
}

#[test]
fn what_is_printed_for_a_shell_is_a_shell_script() {
    let (_, script, _) = outcome(&["realserver", "-r", "-"], GOOD);
    let mut shell = Command::new("sh").arg("-n").stdin(Stdio::piped()).spawn().expect("a shell");
    let mut input = shell.stdin.take().expect("it is piped");
    input.write_all(script.as_bytes()).expect("it reads");
    drop(input);
    assert!(shell.wait().expect("it ends").success(), "{script}");
}

#[test]
fn a_reader_that_goes_away_is_no_failure() {
    let mut child = Command::new(env!("CARGO_BIN_EXE_tapvs"))
        .arg("--help")
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the binary is there");
    drop(child.stdout.take());
    let output = child.wait_with_output().expect("it ends");
    assert_eq!((output.status.code(), output.stderr.as_slice()), (Some(0), &b""[..]));
}

/// A `tapvs run` without a port, which ends with the test.
struct Running {
    child: Child,
    socket: PathBuf,
    rules: PathBuf,
}

impl Running {
    fn start(name: &str, rules: &str) -> Self {
        let (socket, file) = (short(&format!("{name}.sock")), short(&format!("{name}.rules")));
        std::fs::write(&file, rules).expect("a scratch file");
        let child = running::start(&file, &socket);
        Self { child, socket, rules: file }
    }

    /// Exit code, standard output, standard error of a word said to it.
    fn says(&self, args: &[&str]) -> (i32, String, String) {
        asked(&self.socket, args)
    }

    fn ipvsadm(&self, args: &str) {
        let mut words = vec!["ipvsadm"];
        words.extend(args.split(' '));
        assert_eq!(self.says(&words), fine(""), "{args}");
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = std::fs::remove_file(&self.socket);
        let _ = std::fs::remove_file(&self.rules);
    }
}

fn fine(out: &str) -> (i32, String, String) {
    (0, out.to_owned(), String::new())
}

/// The outcome of a call that finds its socket by the environment.
fn asked(socket: &Path, args: &[&str]) -> (i32, String, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_tapvs"))
        .args(args)
        .env("TAPVS_SOCKET", socket)
        .stdin(Stdio::null())
        .output()
        .expect("the binary is there");
    let text = |bytes| String::from_utf8(bytes).expect("we write UTF-8");
    (output.status.code().expect("no signal"), text(output.stdout), text(output.stderr))
}

const WEB: &str = "-A -t 10.0.0.1:80 -s rr\n-a -t 10.0.0.1:80 -r 10.9.0.1:80 -m -w 1\n";

#[test]
fn a_reload_tells_what_differs_and_that_nothing_does() {
    let tapvs = Running::start("reload", WEB);
    assert_eq!(tapvs.says(&["reload"]), fine("unchanged\n"));
    let more = WEB.replace("-w 1", "-w 5").replace("-s rr", "-s wlc");
    std::fs::write(&tapvs.rules, more).expect("a scratch file");
    let told = "- -A -t 10.0.0.1:80 -s rr\n- -a -t 10.0.0.1:80 -r 10.9.0.1:80 -m -w 1\n\
        + -A -t 10.0.0.1:80 -s wlc\n+ -a -t 10.0.0.1:80 -r 10.9.0.1:80 -m -w 5\n";
    assert_eq!(tapvs.says(&["reload"]), fine(told));
    // What ipvsadm changed is put back to what the file says.
    tapvs.ipvsadm("-A -u 10.0.0.1:53 -s rr");
    let socket = tapvs.socket.to_str().expect("a plain path");
    let told = asked(Path::new("/nonexistent"), &["reload", "--socket", socket]);
    assert_eq!(told, fine("- -A -u 10.0.0.1:53 -s rr\n"));
    assert_eq!(tapvs.says(&["reload"]), fine("unchanged\n"));
}

#[test]
fn a_reload_of_a_file_with_mistakes_tells_them_all_and_changes_nothing() {
    let tapvs = Running::start("mistakes", WEB);
    let bad = format!("{WEB}-A -u 10.0.0.1:53 -s wlcc\nhello\n-A -f 0\n");
    std::fs::write(&tapvs.rules, bad).expect("a scratch file");
    let (code, out, err) = tapvs.says(&["reload"]);
    assert_eq!((code, out.as_str()), (3, ""), "{err}");
    for place in [":3:22: unknown scheduler `wlcc`", ":4:1: ", ":5:7: illegal firewall mark"] {
        assert!(err.contains(&format!("{}{place}", tapvs.rules.display())), "{place}: {err}");
    }
    assert!(err.ends_with("\ntapvs: reload: nothing was changed\n"), "{err}");
    assert_eq!(tapvs.says(&["save"]), fine(WEB));
    std::fs::remove_file(&tapvs.rules).expect("it is there");
    let (code, _, err) = tapvs.says(&["reload"]);
    assert_eq!(code, 3);
    assert!(err.starts_with("tapvs: reading ") && err.contains("No such file"), "{err}");
    assert_eq!(tapvs.says(&["save"]), fine(WEB));
}

#[test]
fn the_log_of_a_reload_counts_lines_and_names_a_file_that_is_gone() {
    let (socket, rules) = (short("told.sock"), short("told.rules"));
    std::fs::write(&rules, WEB).expect("a scratch file");
    let mut call = Command::new(env!("CARGO_BIN_EXE_tapvs"));
    call.args(["run", "-r"]).arg(&rules).arg("--socket").arg(&socket).env_remove("RUST_LOG");
    let mut child =
        call.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the binary is there");
    child.stdout.as_mut().expect("it is piped").read_exact(&mut [0; 6]).expect("it speaks");
    std::fs::write(&rules, format!("{WEB}-A -f 7\n")).expect("a scratch file");
    assert_eq!(asked(&socket, &["reload"]).0, 0);
    std::fs::remove_file(&rules).expect("it is there");
    assert_eq!(asked(&socket, &["reload"]).0, 3);
    let pid = child.id().to_string();
    assert!(Command::new("kill").arg(pid).status().expect("kill is there").success());
    let output = child.wait_with_output().expect("it ends");
    let err = String::from_utf8(output.stderr).expect("text");
    assert!(err.contains("[info] reload: done, 1 line differs\n"), "{err}");
    let gone = format!("[warn] reload: reading {}: No such file", rules.display());
    assert!(err.contains(&gone), "{err}");
}

#[test]
fn the_account_of_frames_and_the_servers_that_nothing_reaches_are_told() {
    let running = Running::start("status", WEB);
    let (code, out, err) = running.says(&["status"]);
    assert_eq!((code, err.as_str()), (0, ""));
    let mut lines = out.lines();
    let account =
        "frames: received 0 = forwarded 0 + answered 0 + dropped 0; sent on own account 0";
    assert_eq!(lines.next(), Some(account));
    assert_eq!(lines.next(), Some("no route leads to the server 10.9.0.1"));
    assert_eq!(lines.next(), None);
}

#[test]
fn the_status_is_told_to_programs_as_well() {
    let running = Running::start("status-json", WEB);
    let (code, out, err) = running.says(&["status", "--json"]);
    assert_eq!((code, err.as_str(), out.lines().count()), (0, "", 1));
    assert!(out.starts_with("{\"schema\":1,\"frames\":{\"received\":0,"), "{out}");
    assert!(out.contains("\"unreached\":[{\"server\":\"10.9.0.1\",\"next\":null,"), "{out}");
}

#[test]
fn programs_are_told_each_mistake_with_its_place_and_name() {
    let documented = include_str!("../docs/json.md");
    let told = |rules: &str| {
        let (code, out, err) = outcome(&["check", "--json", "-"], rules);
        assert_eq!((code, err.as_str(), out.lines().count()), (3, "", 1), "{out}");
        out
    };
    assert_eq!(
        told("-A -t 10.0.0.1:80 -s wlcc\n"),
        "{\"schema\":1,\"file\":\"standard input\",\"remarks\":[{\"line\":1,\"column\":22,\"width\":4,\
         \"severity\":\"error\",\"code\":\"unfit-value\",\"message\":\"unknown scheduler `wlcc`\",\
         \"cure\":\"expected one of rr wrr lc wlc lblc lblcr dh sh sed nq fo ovf mh twos; did you mean `wlc`?\"}]}\n"
    );
    for (code, rules) in [
        ("spelling", "ipvsadm –C"),
        ("unknown-command", "hello"),
        ("one-command", "-C -C"),
        ("unknown-option", "-A --wrong"),
        ("missing-value", "-A -t"),
        ("unexpected-value", "-A 10.0.0.1:80"),
        ("missing-option", "-A -s rr"),
        ("unfit-option", "-A -t 10.0.0.1:80 -m"),
        ("unfit-address", "-A -t 10.0.0.256:80"),
        ("unfit-value", "-A -f x"),
        ("no-rule", "nft add rule x"),
        ("host", "ip tuntap add dev tap0"),
        ("refused", "-D -t 10.0.0.1:80"),
    ] {
        let told = told(rules);
        assert!(told.contains(&format!("\"code\":\"{code}\"")), "{rules}: {told}");
        assert!(documented.contains(&format!("`{code}`")), "{code} is not in docs/json.md");
    }
    let (code, out, err) = outcome(&["check", "--json", "/nonexistent"], "");
    assert_eq!((code, err.as_str()), (3, ""));
    assert!(out.contains("\"line\":null,\"column\":null,\"width\":null,\"severity\":\"error\",\"code\":\"unreadable\""), "{out}");
    assert!(documented.contains("`unreadable`"));
}

#[test]
fn a_real_server_of_a_mark_takes_the_addresses_that_its_rules_name() {
    let rules = "ip tuntap add dev tap0 mode tap\nip addr add 10.0.0.1/24 dev tap0\n\
        ip route add local 10.91.0.0/24 dev lo\n\
        iptables -t mangle -A PREROUTING -d 10.91.0.7 -j MARK --set-mark 7\n\
        iptables -t mangle -A PREROUTING -d 10.0.0.7 -j MARK --set-mark 7\n\
        -A -f 7\n-a -f 7 -r 10.0.0.5 -g\n";
    let (code, out, _) = outcome(&["realserver", "-r", "-", "--server", "10.0.0.5"], rules);
    let told: Vec<_> = out.lines().filter(|line| line.contains("route replace")).collect();
    let wanted =
        ["10.91.0.0/24", "10.0.0.7/32"].map(|net| format!("ip route replace local {net} dev lo"));
    assert_eq!((code, told), (0, wanted.iter().map(String::as_str).collect()));
}

#[test]
fn that_something_will_not_work_is_said_by_a_check_without_lint_too() {
    let rules = "ip tuntap add dev tap0 mode tap\nip addr add 10.0.0.254/24 dev tap0\n";
    let (code, out, err) = outcome(&["check", "-"], &format!("{rules}{WEB}"));
    assert_eq!((code, out.lines().next()), (0, Some("standard input: fine")));
    let told = "standard input: 1 thing in it will not work; `tapvs check --lint -` tells";
    assert!(err.contains(told), "{err}");
}

#[test]
fn what_is_saved_is_what_runs_and_loads_to_the_same() {
    let rules = "net.ipv4.vs.sloppy_tcp = 1\n--set 100 0 50\n\
        -A -t 10.0.0.1:80 -s mh -b flag-1 -p 60 -M 255.255.0.0\n\
        -a -t 10.0.0.1:80 -r 10.9.0.1 -m -x 9 -y 3\n\
        -a -t 10.0.0.1:80 -r fd00::1 -i --tun-type gue --tun-port 6080\n\
        iptables -t mangle -A PREROUTING -p tcp --dport 80 -j MARK --set-mark 7\n\
        -A -f 7 -6 -s none -o\n";
    let tapvs = Running::start("save", rules);
    tapvs.ipvsadm("-a -f 7 -6 -r fd00::2 -w 0");
    tapvs.ipvsadm("-e -t 10.0.0.1:80 -r 10.9.0.1:80 -m -w 7");
    let (code, saved, err) = tapvs.says(&["save"]);
    assert_eq!((code, err.as_str()), (0, ""));
    let edited =
        format!("{rules}-a -f 7 -6 -r fd00::2 -w 0\n-e -t 10.0.0.1:80 -r 10.9.0.1 -m -w 7\n");
    assert_eq!(rules::load("saved", &saved), rules::load("edited", &edited));
    // In the place of the file that it has read, there is nothing to reload.
    let file = tapvs.rules.to_str().expect("a plain path");
    assert_eq!(tapvs.says(&["save", "-o", file]), fine(""));
    assert_eq!(std::fs::read_to_string(&tapvs.rules).expect("text"), saved);
    assert_eq!(tapvs.says(&["reload"]), fine("unchanged\n"));
    assert_eq!(tapvs.says(&["save", "--output", "-"]), fine(&saved));
}

#[test]
fn a_saved_file_takes_the_place_of_the_old_one_whole_or_not_at_all() {
    let tapvs = Running::start("place", WEB);
    let folder = short("place.d");
    let _ = std::fs::remove_dir_all(&folder);
    std::fs::create_dir(&folder).expect("a scratch folder");
    let (file, link) = (folder.join("rules"), folder.join("link"));
    let save = |path: &Path| tapvs.says(&["save", "-o", path.to_str().expect("a plain path")]);
    assert_eq!(save(&file), fine(""));
    std::fs::write(&file, "old").expect("it is there");
    std::fs::set_permissions(&file, PermissionsExt::from_mode(0o640)).expect("it is ours");
    std::os::unix::fs::symlink(&file, &link).expect("a fresh name");
    let before = std::fs::metadata(&file).expect("it is there").ino();
    assert_eq!(save(&link), fine(""));
    let about = std::fs::metadata(&file).expect("it is there");
    assert_ne!(about.ino(), before, "nobody who had it open sees half of it");
    assert_eq!(about.permissions().mode() & 0o777, 0o640);
    assert!(std::fs::symlink_metadata(&link).expect("it is there").is_symlink());
    assert_eq!(std::fs::read_to_string(&file).expect("text"), WEB);
    let left: Vec<_> = std::fs::read_dir(&folder).expect("a folder").collect();
    assert_eq!(left.len(), 2, "nothing else is left there");
    for path in [&folder, &folder.join("none/rules")] {
        let (code, out, err) = save(path);
        assert_eq!((code, out.as_str(), err.lines().count()), (1, "", 1), "{err}");
        assert!(err.starts_with("tapvs: save: writing "), "{err}");
    }
    std::fs::remove_dir_all(&folder).expect("it is ours");
}

#[test]
fn a_state_that_cannot_be_printed_whole_is_a_failure() {
    let tapvs = Running::start("full", WEB);
    let full = std::fs::OpenOptions::new().write(true).open("/dev/full").expect("Linux has it");
    let output = Command::new(env!("CARGO_BIN_EXE_tapvs"))
        .args(["save", "--socket"])
        .arg(&tapvs.socket)
        .stdout(full)
        .output()
        .expect("the binary is there");
    let err = String::from_utf8(output.stderr).expect("text");
    let wanted = "tapvs: save: printing: No space left on device\n";
    assert_eq!((output.status.code(), err.as_str()), (Some(1), wanted));
}

#[test]
fn where_no_tapvs_can_be_asked_one_line_says_why_and_the_code_is_1() {
    let nowhere = short("nowhere");
    for word in ["reload", "save", "status"] {
        let wanted = format!("tapvs: {word}: no tapvs is running at {}\n", nowhere.display());
        assert_eq!(asked(&nowhere, &[word]), (1, String::new(), wanted));
    }
    for (name, answer, wanted) in [
        ("mute", &b""[..], "ended in the middle of its answer"),
        ("half", b"\0\0\0\x20more\n-A -t 10.0.0.1:80", "ended in the middle of its answer"),
        ("first", b"\0\0\0\x07more\n-C", "ended in the middle of its answer"),
        ("web", b"HTTP/1.1 400 Bad Request\r\n\r\n", "is no tapvs"),
        ("newer", b"\0\0\0\x09version\n9", "speaks version 9 of the control language"),
    ] {
        for word in ["reload", "save"] {
            let path = short(name);
            let listener = UnixListener::bind(&path).expect("a fresh path");
            let server = std::thread::spawn(move || {
                let (mut stream, _) = listener.accept().expect("a client");
                stream.read_exact(&mut [0; 4]).expect("a request");
                // The client may have had enough before it has got all of it.
                let _ = stream.write_all(answer);
            });
            let (code, out, err) = asked(&path, &[word]);
            assert_eq!((code, out.as_str(), err.lines().count()), (1, "", 1), "{name}: {err}");
            assert!(err.starts_with(&format!("tapvs: {word}: ")), "{err}");
            assert!(err.contains(wanted), "{name}: {err}");
            server.join().expect("it ends");
            let _ = std::fs::remove_file(&path);
        }
    }
}

#[test]
fn a_socket_of_somebody_else_is_refused_in_one_line() {
    let tapvs = Running::start("others", WEB);
    let stranger = Stranger::at(&tapvs.socket);
    let mut call = stranger.call();
    let output = call.args(["reload", "--socket"]).arg(&tapvs.socket).output().expect("it runs");
    let err = String::from_utf8(output.stderr).expect("text");
    let wanted = format!(
        "tapvs: reload: {}: permission denied; only who runs tapvs may ask it\n",
        tapvs.socket.display()
    );
    assert_eq!((output.status.code(), err), (Some(1), wanted));
}

fn scratch(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name)
}
