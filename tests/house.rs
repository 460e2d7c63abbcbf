//! The walls of the house: who imports whom, where `unsafe` may be, how long a file may be.

use std::fs;
use std::path::{Path, PathBuf};

/// Which rooms each room may name; the table of ARCHITECTURE.md.
const MAY_NAME: &[(&str, &[&str])] = &[
    ("world", &[]),
    ("packet", &[]),
    ("net", &["world", "packet"]),
    ("conn", &["world", "packet"]),
    ("sched", &["world", "packet"]),
    ("config", &["world", "packet", "sched"]),
    ("director", &["world", "packet", "conn", "sched", "config"]),
    ("fast", &["world", "packet", "net", "conn", "director"]),
    ("slow", &["world", "packet", "net"]),
    ("control", &["world", "packet", "sched", "config", "conn", "director"]),
    ("engine", &["world", "packet", "net", "config", "director", "fast", "slow", "control"]),
    ("io", &["world", "packet", "net", "config", "slow", "control", "engine"]),
    ("cli", &["world", "packet", "net", "config", "control", "engine", "io"]),
];

/// Lines of a file without its tests.
const LINES_MAX: usize = 620;

fn sources() -> Vec<(PathBuf, String)> {
    fn walk(dir: &Path, found: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(dir).expect("a directory of ours") {
            let path = entry.expect("readable").path();
            if path.is_dir() {
                walk(&path, found);
            } else if path.extension().is_some_and(|ext| ext == "rs") {
                found.push(path);
            }
        }
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut found = Vec::new();
    walk(&root, &mut found);
    assert!(found.len() > 20, "the walk found the sources");
    let read = |path: PathBuf| {
        let text = fs::read_to_string(&path).expect("readable");
        (path.strip_prefix(&root).expect("below").to_path_buf(), text)
    };
    found.into_iter().map(read).collect()
}

fn room_of(path: &Path) -> String {
    let first = path.iter().next().expect("a file").to_string_lossy();
    first.trim_end_matches(".rs").to_owned()
}

/// The part of a file before its tests.
fn without_tests(text: &str) -> &str {
    text.split("\n#[cfg(test)]").next().unwrap_or(text)
}

#[test]
fn every_room_names_only_the_rooms_it_may() {
    let mut wrong = Vec::new();
    for (path, text) in sources() {
        let room = room_of(&path);
        if matches!(room.as_str(), "lib" | "main") {
            continue;
        }
        let may = MAY_NAME.iter().find(|(name, _)| *name == room);
        let (_, may) = may.unwrap_or_else(|| panic!("{room} is in no row of the table"));
        for named in without_tests(&text).split("crate::").skip(1) {
            let named: String =
                named.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
            if named != room && !may.contains(&named.as_str()) {
                wrong.push(format!("{} names {named}", path.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn unsafe_code_lives_in_two_files() {
    for (path, text) in sources() {
        let allowed = [Path::new("io/sys.rs"), Path::new("io/uring.rs")].contains(&path.as_path());
        let has = text.lines().any(|l| l.contains("unsafe {") || l.contains("unsafe fn"));
        assert!(allowed || !has, "{} has unsafe code", path.display());
    }
}

#[test]
fn the_page_on_architecture_names_every_file() {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("ARCHITECTURE.md");
    let page = fs::read_to_string(page).expect("the page is there");
    for (path, _) in sources() {
        let file = path.file_name().expect("a file").to_string_lossy();
        assert!(page.contains(&*file), "{} is not on the page", path.display());
    }
}

#[test]
fn only_packet_names_etherparse() {
    for (path, text) in sources() {
        let allowed = room_of(&path) == "packet";
        assert!(allowed || !text.contains("etherparse::"), "{} names it", path.display());
    }
}

#[test]
fn every_file_says_what_it_is_for_and_fits_its_room() {
    for (path, text) in sources() {
        assert!(text.starts_with("//!"), "{} has no head", path.display());
        let lines = without_tests(&text).lines().count();
        assert!(lines <= LINES_MAX, "{} has {lines} lines without its tests", path.display());
    }
}
