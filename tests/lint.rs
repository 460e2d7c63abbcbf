//! `tapvs check --lint` from outside: an example of everything that is legal and will not work, with
//! its line, and the examples of this repository, in which all will.

use std::collections::BTreeSet;
use std::io::Write;
use std::process::{Command, Stdio};

const BEFORE: &str = "\
ip tuntap add dev tap0 mode tap
ip addr add 10.0.0.1/24 dev tap0
ip -6 addr add fd00::1/64 dev tap0
ip tuntap add dev tap1 mode tap
ip addr add 10.1.0.1/24 dev tap1
ip route add 10.2.0.0/16 via 10.1.0.254
ip route add local 10.91.0.0/24 dev lo
";

/// Lines after [`BEFORE`], the number of the one that is warned about (0: the file), the lint, and
/// words of its sentence.
const EXAMPLES: &[(&str, usize, &str, &[&str])] = &[
    ("ip addr add 10.0.0.9/32 dev lo", 8, "real-server", &["belongs on the real server"]),
    ("sysctl -w net.ipv4.conf.all.arp_ignore=1", 8, "real-server", &["`sysctl` line"]),
    ("ipvsadm -Ln", 8, "no-rule", &["only shows something"]),
    ("-A -t 10.0.0.9:80", 8, "no-server", &["no server", "`-a -t 10.0.0.9:80 -r SERVER`"]),
    ("-A -f 7\n-a -f 7 -r 10.1.0.5", 8, "no-mark", &["iptables -t mangle", "--set-mark 7"]),
    (
        "iptables -t mangle -A PREROUTING -d 10.0.0.7 -p tcp -j MARK --set-mark 7\n-A -f 7\n-a -f 7 -r 10.1.0.5",
        9,
        "marked-stranger",
        &["10.0.0.7/32", "`ip route add local 10.0.0.7/32 dev lo`"],
    ),
    ("-A -t 10.0.0.9:80\n-a -t 10.0.0.9:80 -r 10.1.0.5 -w 0", 8, "all-drained", &["weight 0"]),
    (
        "-A -t 10.0.0.9:80 -s rr\n-a -t 10.0.0.9:80 -r 10.1.0.5 -m\n-a -t 10.0.0.9:80 -r 10.1.0.6 -m -w 2",
        8,
        "weights-unheard",
        &["`rr`", "`-s wrr`"],
    ),
    ("-A -t 10.0.0.9:80 -p --pe sip\n-a -t 10.0.0.9:80 -r 10.1.0.5", 8, "call-id", &["over UDP"]),
    ("-A -u 10.0.0.9:80 --pe sip\n-a -u 10.0.0.9:80 -r 10.1.0.5", 8, "call-id", &["add `-p`"]),
    (
        "-A -t 10.0.0.255:80\n-a -t 10.0.0.255:80 -r 10.1.0.5",
        8,
        "no-host",
        &["broadcast", "10.0.0.0/24"],
    ),
    ("-A -u 10.0.0.0:53\n-a -u 10.0.0.0:53 -r 10.1.0.5", 8, "no-host", &["network itself"]),
    ("-A -t 10.7.0.9:80\n-a -t 10.7.0.9:80 -r 10.1.0.5", 8, "lost-virtual", &["no neighbour"]),
    (
        "net.ipv4.ip_forward = 0\n-A -t 10.0.0.9:80\n-a -t 10.0.0.9:80 -r 10.1.0.5 -m",
        9,
        "no-forwarding",
        &["answers", "`net.ipv4.ip_forward = 1`"],
    ),
    (
        "-A -t 10.0.0.9:80\n-a -t 10.0.0.9:80 -r 10.1.0.5\n-A -f 7\n-a -f 7 -r 10.1.0.5\n\
         iptables -t mangle -A PREROUTING -d 10.0.0.9 -p tcp -j MARK --set-mark 7",
        8,
        "marked-away",
        &["the mark 7", "this one gets nothing"],
    ),
    (
        "-A -t 10.0.0.9:80\n-a -t 10.0.0.9:80 -r 10.1.0.5\n-A -t 10.0.0.9:0 -p\n\
         -a -t 10.0.0.9:0 -r 10.1.0.5",
        8,
        "every-port",
        &["two different servers"],
    ),
    (
        "-A -t 10.0.0.9:21\n-a -t 10.0.0.9:21 -r 10.1.0.5 -m",
        8,
        "ftp-helper",
        &["NAT", "`modprobe ip_vs_ftp`"],
    ),
    ("-A -t 10.0.0.9:80\n-a -t 10.0.0.9:80 -r 10.2.0.5", 9, "far-direct", &["10.1.0.254", "`-i`"]),
    ("-A -t 10.0.0.9:80\n-a -t 10.0.0.9:80 -r 10.9.0.5", 9, "far-direct", &["is lost", "dev PORT"]),
    ("-A -t 10.0.0.9:80\n-a -t 10.0.0.9:80 -r 10.9.0.5 -m", 9, "no-route", &["unreachable"]),
    ("-A -t 10.0.0.9:80\n-a -t 10.0.0.9:80 -r 10.0.0.5 -m", 9, "nat-past-us", &["past tapvs"]),
    ("-A -t 10.0.0.9:80\n-a -t 10.0.0.9:80 -r 10.2.0.5 -m", 9, "nat-far", &["router 10.1.0.254"]),
    ("-A -t 10.0.0.9:80\n-a -t 10.0.0.9:80 -r 127.0.0.1:8080 -m", 9, "loopback", &["refused"]),
    ("-A -t 10.0.0.9:80\n-a -t 10.0.0.9:80 -r 10.1.0.1 -m", 9, "own-address", &["on tap1"]),
    ("-A -t 10.0.0.9:80\n-a -t 10.0.0.9:80 -r 10.0.0.9", 9, "virtual-server", &["end here"]),
    ("-A -t 10.0.0.9:80\n-a -t 10.0.0.9:80 -r 10.91.0.9", 9, "virtual-server", &["end here"]),
    (
        "-A -t 10.0.0.9:80\n\n-a -t 10.0.0.9:80 -r 10.1.0.5:8080 -g",
        10,
        "port-ignored",
        &["port 8080 is ignored", "`-m`"],
    ),
    ("-A -t 10.0.0.9:80\n-a -r 10.1.0.5 -t 10.0.0.9:80 -m", 9, "port-zero", &["-r 10.1.0.5:80"]),
    (
        "-A -t [fd00::9]:80\n-a -t [fd00::9]:80 -r fd00::2:80",
        9,
        "brackets",
        &["write `[fd00::2]:80`"],
    ),
    (
        "ip link set tap1 mtu 580\n-A -t 10.0.0.9:80\n-a -t 10.0.0.9:80 -r 10.1.0.5 -i",
        10,
        "tunnel-room",
        &["leaves 560", "mtu 596"],
    ),
    (
        "ip addr add 10.0.0.2/24 dev tap1",
        0,
        "same-network",
        &["10.0.0.0/24 is on tap0 and on tap1"],
    ),
];

/// Exit code and standard output.
fn lint(file: &str, input: &str) -> (i32, String) {
    checked(&["check", "--lint", file], input)
}

fn checked(args: &[&str], input: &str) -> (i32, String) {
    let mut child = Command::new(env!("CARGO_BIN_EXE_tapvs"))
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("the binary is there");
    let mut stdin = child.stdin.take().expect("it is piped");
    stdin.write_all(input.as_bytes()).expect("it reads");
    drop(stdin);
    let output = child.wait_with_output().expect("it ends");
    (output.status.code().expect("no signal"), String::from_utf8(output.stdout).expect("is text"))
}

#[test]
fn what_will_not_work_is_told_with_its_line_and_cure() {
    let mut wrong = Vec::new();
    for &(text, line, name, words) in EXAMPLES {
        let (code, out) = lint("-", &format!("{BEFORE}{text}\n"));
        let place = match line {
            0 => "standard input: ".to_owned(),
            line => format!("standard input:{line}: "),
        };
        let fits = code == 4
            && out.lines().count() == 1
            && out.starts_with(&place)
            && out.trim_end().ends_with(&format!(" [{name}]"))
            && words.iter().all(|word| out.contains(word));
        if !fits {
            wrong.push(format!("{text}\nwants {place}{words:?} [{name}], got {code}\n{out}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    let (code, out) = lint("-", "net.ipv4.ip_forward = 1\n");
    assert_eq!(code, 4);
    assert!(out.starts_with("standard input: there is no port"), "{out}");
}

#[test]
fn programs_are_told_the_same_with_the_cure_apart() {
    let documented = include_str!("../docs/json.md");
    for &(text, line, name, words) in EXAMPLES {
        let (code, out) = checked(&["check", "--json", "-"], &format!("{BEFORE}{text}\n"));
        let place = if line == 0 { "null".to_owned() } else { line.to_string() };
        let begin = format!(
            "{{\"schema\":1,\"file\":\"standard input\",\"remarks\":[{{\"line\":{place},\"column\":null,\"width\":null,"
        );
        assert!(code == 0 && out.starts_with(&begin), "{text}: {out}");
        assert!(words.iter().all(|word| out.contains(word)), "{out}");
        let aside = ["real-server", "no-rule"].contains(&name);
        let severity = if aside { "note" } else { "warning" };
        assert!(
            out.contains(&format!("\"severity\":\"{severity}\",\"code\":\"{name}\",\"message\":")),
            "{out}"
        );
        assert_eq!(out.contains("\"cure\":null"), aside, "{out}");
        assert!(documented.contains(&format!("`{name}`")), "{name} is not in docs/json.md");
    }
    assert_eq!(checked(&["check", "--json", "--lint", "-"], "modprobe ip_vs\n").0, 4);
}

#[test]
fn every_lint_has_its_example() {
    let source = include_str!("../src/cli/lint.rs");
    let rows = source.split("(\"").skip(1).filter_map(|row| row.split_once("\", "));
    let names: BTreeSet<&str> = rows.map(|(name, _)| name).filter(|n| !n.contains(' ')).collect();
    let shown = EXAMPLES.iter().map(|(_, _, name, _)| *name);
    let asides = ["real-server", "no-rule"];
    let shown: BTreeSet<_> = shown.chain(["no-port"]).filter(|n| !asides.contains(n)).collect();
    assert_eq!(names, shown);
}

#[test]
fn what_works_is_fine() {
    let (code, out) = lint("-", BEFORE);
    assert_eq!((code, out.as_str()), (0, "standard input: fine\n"));
    let elsewhere = "-A -t 10.91.0.9:80\n-a -t 10.91.0.9:80 -r 10.2.0.5 -i\n";
    assert_eq!(lint("-", &format!("{BEFORE}{elsewhere}")).0, 0);
    for entry in
        std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/examples")).expect("is there")
    {
        let path = entry.expect("can be listed").path();
        if path.extension().is_some_and(|extension| extension == "rules") {
            assert_eq!(lint(path.to_str().expect("plain"), "").0, 0, "{}", path.display());
        }
    }
}

#[test]
fn the_rules_of_the_readme_are_right_and_work() {
    for (heading, lines) in [("## A first director\n", 6), ("## Rules by example\n", 20)] {
        let (_, section) = include_str!("../README.md").split_once(heading).expect("a section");
        let rules = section.split("```").nth(1).and_then(|fenced| fenced.strip_prefix("text\n"));
        let rules = rules.expect("an example");
        assert!(rules.lines().count() >= lines, "{rules}");
        let told = checked(&["check", "-"], rules);
        assert!(told.0 == 0 && told.1.starts_with("standard input: fine\n"), "{}", told.1);
        assert_eq!(lint("-", rules), (0, "standard input: fine\n".to_owned()));
    }
}

#[test]
fn what_cannot_be_run_is_not_linted() {
    assert_eq!(lint("-", "hello\n").0, 3);
}
