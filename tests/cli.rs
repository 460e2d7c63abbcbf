//! The built binary: usage, exit codes, and where its words go. Nothing here needs rights.

use std::io::{Read, Write};
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

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
    let mut child = Command::new(env!("CARGO_BIN_EXE_tapvs"))
        .args(args)
        .env_remove("RUST_LOG")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the binary is there");
    // A child that does not read its input may be gone already.
    let _ = child.stdin.take().expect("it is piped").write_all(input.as_bytes());
    child.wait_with_output().expect("it ends")
}

/// Exit code, standard output, standard error.
fn outcome(args: &[&str], input: &str) -> (i32, String, String) {
    let output = tapvs(args, input);
    let text = |bytes| String::from_utf8(bytes).expect("we write UTF-8");
    (output.status.code().expect("no signal"), text(output.stdout), text(output.stderr))
}

#[test]
fn help_and_version_go_to_standard_output() {
    for args in [&["--help"][..], &["-h"], &["help"], &["run", "--help"], &["realserver", "-h"]] {
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
        &["--nonsense"],
    ] {
        let (code, out, err) = outcome(args, GOOD);
        assert_eq!((code, out.as_str()), (2, ""), "{args:?}: {err}");
        assert!(err.starts_with("tapvs"), "{args:?}: {err}");
    }
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

fn scratch(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name)
}
