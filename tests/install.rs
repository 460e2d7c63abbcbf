//! `make install` and its kin, into a folder of the test's, and the service script for System V.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn make(into: &Path, target: &str) -> Output {
    Command::new("make")
        .args([target, "PREFIX=/usr"])
        .arg(format!("DESTDIR={}", into.display()))
        .arg(format!("PROGRAM={}", env!("CARGO_BIN_EXE_tapvs")))
        .current_dir(root())
        .env_remove("MAKEFLAGS")
        .env_remove("MAKELEVEL")
        .output()
        .expect("make is here")
}

fn made(into: &Path, target: &str) {
    let output = make(into, target);
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "make {target}: {told}");
}

/// Every file and link below, sorted.
fn files(below: &Path) -> Vec<String> {
    let mut found = Vec::new();
    let mut folders = vec![below.to_path_buf()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).expect("a folder") {
            let path = entry.expect("readable").path();
            match path.symlink_metadata().expect("it is there").is_dir() {
                true => folders.push(path),
                false => {
                    let path = path.strip_prefix(below).expect("below");
                    found.push(path.to_string_lossy().into_owned());
                }
            }
        }
    }
    found.sort();
    found
}

const INSTALLED: [&str; 7] = [
    "usr/sbin/tapvs",
    "usr/share/bash-completion/completions/tapvs",
    "usr/share/fish/vendor_completions.d/tapvs.fish",
    "usr/share/man/man5/tapvs.rules.5",
    "usr/share/man/man8/tapvs-ipvsadm.8",
    "usr/share/man/man8/tapvs.8",
    "usr/share/zsh/site-functions/_tapvs",
];

#[test]
fn what_is_installed_is_there_and_is_taken_away_again() {
    let into = fresh("install");
    made(&into, "install");
    assert_eq!(files(&into), INSTALLED);
    made(&into, "install-ipvsadm");
    // Once more: what is there already is no mistake.
    made(&into, "install-ipvsadm");
    assert_eq!(files(&into).len(), INSTALLED.len() + 9);
    for (name, args, said) in [("ipvsadm", "-v", "ipvsadm v1.31"), ("tapvs", "--version", "tapvs ")]
    {
        let output = Command::new(into.join("usr/sbin").join(name)).arg(args).output();
        let text = String::from_utf8(output.expect("it is there").stdout).expect("text");
        assert!(text.starts_with(said), "{name}: {text}");
    }
    let completion = into.join("usr/share/bash-completion/completions/ipvsadm-save");
    assert!(fs::read_to_string(completion).expect("the link leads on").contains("complete -F"));
    made(&into, "uninstall");
    assert_eq!(files(&into), Vec::<String>::new());
    fs::remove_dir_all(&into).expect("it is ours");
}

#[test]
fn an_ipvsadm_that_is_there_is_not_replaced() {
    let into = fresh("other");
    let other = into.join("usr/sbin/ipvsadm");
    fs::create_dir_all(other.parent().expect("a folder")).expect("a scratch folder");
    fs::write(&other, "another").expect("a scratch file");
    let output = make(&into, "install-ipvsadm");
    assert!(!output.status.success());
    assert!(String::from_utf8_lossy(&output.stderr).contains("File exists"));
    made(&into, "uninstall");
    assert_eq!(files(&into), ["usr/sbin/ipvsadm"]);
    fs::remove_dir_all(&into).expect("it is ours");
}

#[test]
fn the_service_script_starts_reloads_and_stops() {
    let folder = fresh("service");
    fs::create_dir_all(&folder).expect("a scratch folder");
    let (rules, socket) = (folder.join("rules"), folder.join("sock"));
    let init = |word: &str| {
        Command::new("sh")
            .arg(root().join("dist/tapvs.init"))
            .arg(word)
            .env("PROGRAM", env!("CARGO_BIN_EXE_tapvs"))
            .env("RULES", &rules)
            .env("LOG", folder.join("log"))
            .env("PIDFILE", folder.join("pid"))
            .env("TAPVS_SOCKET", &socket)
            .output()
            .expect("a shell")
    };
    let code = |word: &str| init(word).status.code();
    fs::write(&rules, "hello\n").expect("a scratch file");
    let refused = init("start");
    assert_eq!(refused.status.code(), Some(3));
    assert!(String::from_utf8_lossy(&refused.stderr).contains("rules:1:1"));
    assert_ne!(code("status"), Some(0));
    // Right, and yet nothing that can be run here, whoever runs it.
    let bridge =
        "ip tuntap add dev tvsin0 mode tap\nip link set dev tvsin0 master no-such-bridge\n";
    fs::write(&rules, bridge).expect("a scratch file");
    let failed = init("start");
    assert_eq!(failed.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&failed.stderr).contains("tapvs did not start"));
    assert_ne!(code("status"), Some(0));
    fs::write(&rules, "-A -t 10.0.0.1:80\n").expect("a scratch file");
    assert_eq!(code("start"), Some(0));
    assert_eq!(code("status"), Some(0));
    // What has started can be asked.
    let asked = socket.exists() && init("reload").stdout == b"unchanged\n";
    assert_eq!(code("start"), Some(0));
    assert_eq!(code("stop"), Some(0));
    assert!(asked, "{}", fs::read_to_string(folder.join("log")).unwrap_or_default());
    assert_ne!(code("status"), Some(0));
    assert_eq!(code("stop"), Some(0));
    assert_eq!(code("nonsense"), Some(2));
    fs::remove_dir_all(&folder).expect("it is ours");
}

#[test]
fn service_scripts_are_scripts_and_can_be_run() {
    for name in ["tapvs.init", "tapvs.openwrt"] {
        let file = root().join("dist").join(name);
        let mode = fs::metadata(&file).expect("it is there").permissions().mode();
        assert_eq!(mode & 0o111, 0o111, "{name}");
        let status = Command::new("sh").arg("-n").arg(&file).status().expect("a shell");
        assert!(status.success(), "{name}");
    }
}

/// A folder of a short name that is not there, since a socket's path is short.
fn fresh(name: &str) -> PathBuf {
    let wanted = std::env::temp_dir();
    let folder = if wanted.as_os_str().len() <= 60 { wanted } else { PathBuf::from("/tmp") };
    let path = folder.join(format!("tapvs-in-{}-{name}", std::process::id()));
    let _ = fs::remove_dir_all(&path);
    path
}
