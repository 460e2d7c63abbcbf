//! Plays every `tests/scenarios/**.scn`: rules and packets in, packets and drop counters out.
//!
//! `SCENARIOS=FILE-OR-FOLDER cargo test --test scenarios` plays others.

mod scenario;

use std::fs;
use std::path::{Path, PathBuf};

#[test]
fn every_scenario_goes_as_written() {
    let home = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/scenarios");
    let place = std::env::var_os("SCENARIOS").map_or(home, PathBuf::from);
    let mut files = Vec::new();
    walk(&place, &mut files);
    files.sort();
    assert!(!files.is_empty(), "no scenario in {}", place.display());
    let failures: Vec<String> = files.iter().filter_map(|file| failure(file)).collect();
    let (bad, all) = (failures.len(), files.len());
    assert!(bad == 0, "{bad} of {all} scenarios fail:\n\n{}\n", failures.join("\n\n"));
    eprintln!("{all} scenarios");
}

fn walk(place: &Path, found: &mut Vec<PathBuf>) {
    if place.is_dir() {
        for entry in fs::read_dir(place).expect("a folder that can be read") {
            walk(&entry.expect("an entry").path(), found);
        }
    } else if place.extension().is_some_and(|ext| ext == "scn") {
        found.push(place.to_path_buf());
    }
}

/// What is wrong with a scenario: file, line, the line, why.
fn failure(file: &Path) -> Option<String> {
    let text = fs::read_to_string(file).expect("a file that can be read");
    let played = scenario::file::parse(&text).and_then(|case| scenario::run::play(&case));
    let (number, why) = played.err()?;
    let line = match number {
        0 => "(at the end)",
        number => text.lines().nth(number - 1).unwrap_or_default().trim(),
    };
    let line: String = line.chars().take(200).collect();
    Some(format!("{}:{number}: {line}\n    {why}", file.display()))
}
