//! Manual pages and completions are made of the one definition of each word and option, and of the
//! prose in `docs/man/`; these tests hold what is committed against that. `make docs` (`UPDATE=1`)
//! writes it.

mod flags;
mod manual;
mod shells;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Writes a text anew.
type Make = fn() -> String;

/// What is made, and how.
const MADE: &[(&str, Make)] = &[
    ("man/tapvs.8", || manual::page("tapvs.8")),
    ("man/tapvs.rules.5", || manual::page("tapvs.rules.5")),
    ("man/tapvs-ipvsadm.8", || manual::page("tapvs-ipvsadm.8")),
    ("completions/tapvs.bash", shells::bash),
    ("completions/_tapvs", shells::zsh),
    ("completions/tapvs.fish", shells::fish),
];

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

#[test]
fn pages_and_completions_are_current() {
    let mut stale = Vec::new();
    for (path, make) in MADE {
        let (file, text) = (root().join(path), make());
        if fs::read_to_string(&file).is_ok_and(|old| old == text) {
            continue;
        }
        match std::env::var_os("UPDATE") {
            Some(_) => fs::write(&file, text).expect("it can be written"),
            None => stale.push(*path),
        }
    }
    assert!(stale.is_empty(), "`make docs` brings up to date: {}", stale.join(" "));
}

/// Whether a program is here. That a formatter or a shell is missing is told, and is no mistake of
/// what would have been looked at.
fn has(program: &str) -> bool {
    let found = Command::new(program)
        .arg("--version")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    if found.is_err() {
        eprintln!("no {program} here: what it would look at was not looked at");
    }
    found.is_ok()
}

/// What a program says about a text; nothing is good.
fn judged(program: &str, args: &[&str], file: &Path) -> String {
    let output = Command::new(program).args(args).arg(file).output().expect("it is here");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    match (output.status.success(), text(&output.stderr)) {
        (true, err) if err.is_empty() => String::new(),
        (_, err) => format!("{program} {}: {}{err}", file.display(), text(&output.stdout)),
    }
}

#[test]
fn the_formatters_have_nothing_to_say_about_a_page() {
    for (path, make) in MADE.iter().filter(|(path, _)| path.starts_with("man/")) {
        let file = scratch(path);
        fs::write(&file, make()).expect("a scratch file");
        if has("groff") {
            let told = judged("groff", &["-man", "-ww", "-z", "-Tutf8"], &file);
            assert_eq!(told, "");
        }
        if has("mandoc") {
            let told = judged("mandoc", &["-Tlint", "-Wwarning"], &file);
            assert_eq!(told, "");
        }
    }
}

#[test]
fn the_shells_can_read_their_completions() {
    for (shell, path, make) in [
        ("bash", "completions/tapvs.bash", shells::bash as Make),
        ("zsh", "completions/_tapvs", shells::zsh),
        ("fish", "completions/tapvs.fish", shells::fish),
    ] {
        let file = scratch(path);
        fs::write(&file, make()).expect("a scratch file");
        if has(shell) {
            assert_eq!(judged(shell, &["-n"], &file), "");
        }
    }
}

/// What bash offers at the end of a line.
fn offered(line: &str) -> Vec<String> {
    static ONCE: std::sync::Once = std::sync::Once::new();
    let file = scratch("offered.bash");
    // Not the one that an earlier run has left.
    ONCE.call_once(|| fs::write(&file, shells::bash()).expect("a scratch file"));
    // The words as readline divides them, at `:` as well.
    let program = line.split(' ').next().expect("a program");
    let script = format!(
        ". '{}'; COMP_LINE='{line}'; COMP_POINT=${{#COMP_LINE}}; COMP_WORDBREAKS=$' \\t\\n:='\n\
         COMP_WORDS=({}); COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1))\n\
         how=$(complete -p {program}); [[ $how =~ -F\\ ([_a-z]+) ]]; ${{BASH_REMATCH[1]}} {program}\n\
         printf '%s\\n' \"${{COMPREPLY[@]}}\"",
        file.display(),
        line.split(' ').map(|word| format!("'{word}'")).collect::<Vec<_>>().join(" ")
    );
    let output = Command::new("bash")
        .args(["-uc", &script])
        .current_dir(root())
        .env("PATH", stub())
        .output()
        .expect("bash is here");
    assert!(output.stderr.is_empty(), "{line}: {}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).expect("text");
    text.lines().filter(|word| !word.is_empty()).map(str::to_owned).collect()
}

/// A path where `ipvsadm -Sn` and `tapvs ipvsadm -Sn` print two services.
fn stub() -> std::ffi::OsString {
    use std::os::unix::fs::PermissionsExt;
    static ONCE: std::sync::Once = std::sync::Once::new();
    let folder = scratch("stub");
    ONCE.call_once(|| {
        fs::create_dir_all(&folder).expect("a scratch folder");
        for program in ["ipvsadm", "tapvs"] {
            let lines = "-A -t 10.0.0.1:80 -s rr\n-a -t 10.0.0.1:80 -r 10.9.0.1:8080 -m -w 1\n\
                -A -t [fd00::1]:443 -s rr\n-A -f 7 -s rr\n-a -f 7 -r 10.9.0.2:0 -g -w 1\n";
            let text = format!("#!/bin/sh\ncat <<'X'\n{lines}X\n");
            let file = folder.join(program);
            fs::write(&file, text).expect("a scratch file");
            fs::set_permissions(&file, PermissionsExt::from_mode(0o755)).expect("it is ours");
        }
    });
    let mut path = folder.into_os_string();
    path.push(":/usr/bin:/bin");
    path
}

#[test]
fn bash_completes_words_options_and_values() {
    let offers = |line: &str, wanted: &[&str]| assert_eq!(offered(line), wanted, "{line}");
    offers("tapvs re", &["realserver", "reload"]);
    offers("tapvs run --s", &["--socket", "--seed"]);
    offers("tapvs -v run --engine ", &["auto", "drain"]);
    offers("tapvs run -r Cargo.t", &["Cargo.toml"]);
    offers("tapvs check --lint Cargo.t", &["Cargo.toml"]);
    offers("tapvs save -o Cargo.t", &["Cargo.toml"]);
    offers("tapvs proc ip_vs_s", &["ip_vs_stats", "ip_vs_stats_percpu"]);
    offers("tapvs run --seed ", &[]);
    offers("ipvsadm --st", &["--start-daemon", "--stop-daemon"]);
    offers("ipvsadm -A -t 10.0.0.1:80 -s lb", &["lblc", "lblcr"]);
    offers("tapvs ipvsadm -a -t 10.0.0.1:80 --tun-type ", &["ipip", "gue", "gre"]);
    offers("ipvsadm --start-daemon ", &["master", "backup"]);
    offers("ipvsadm -D -t 10", &["10.0.0.1:80"]);
    offers("ipvsadm -D -t 10.0.0.1:", &["80"]);
    offers("ipvsadm -D -t [fd00::1]:4", &["443"]);
    offers("tapvs ipvsadm -D -f ", &["7"]);
    offers("ipvsadm -d -t 10.0.0.1:80 -r ", &["10.9.0.1:8080"]);
    offers("tapvs ipvsadm -df 7 -r ", &["10.9.0.2:0"]);
    offers("ipvsadm -d -u 10.0.0.1:80 -r ", &[]);
    offers("ipvsadm -a -f 7 -r ", &["10.9.0.1:8080", "10.9.0.2:0"]);
    offers("ipvsadm --li", &["--list"]);
    offers("tapvs proc --into sr", &["src"]);
    offers("tapvs proc --into Cargo.t", &[]);
    offers("ipvsadm-save -", &["-n"]);
    let after = offered("ipvsadm -At 10.0.0.1:80 --");
    assert!(after.contains(&"--scheduler".to_owned()), "{after:?}");
    assert!(!after.contains(&"--weight".to_owned()), "{after:?}");
}

#[test]
fn zsh_and_fish_know_every_word_and_option() {
    let (zsh, fish) = (shells::zsh(), shells::fish());
    for option in tapvs::config::options::SPELLINGS {
        assert!(zsh.contains(&format!("--{}[", option.long)), "{}", option.long);
        assert!(fish.contains(&format!(" -l {} ", option.long)), "{}", option.long);
    }
    if !has("fish") {
        return;
    }
    let file = scratch("offered.fish");
    fs::write(&file, fish).expect("a scratch file");
    for (line, wanted) in [
        ("tapvs rel", "reload"),
        ("tapvs run --eng", "--engine"),
        ("ipvsadm -A -s lblcr", "lblcr"),
        ("tapvs ipvsadm -A -s lblcr", "lblcr"),
        ("tapvs proc ip_vs_a", "ip_vs_app"),
    ] {
        let script = format!("source {}; complete -C '{line}'", file.display());
        let output = Command::new("fish").args(["-N", "-c", &script]).output().expect("it is here");
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let words: Vec<_> = text.lines().filter_map(|l| l.split('\t').next()).collect();
        assert_eq!(words, [wanted], "{line}: {}", String::from_utf8_lossy(&output.stderr));
    }
}

fn scratch(name: &str) -> PathBuf {
    let name = name.replace('/', "-");
    PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("docs-{name}"))
}
