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

/// What the runner says of a scenario with these steps.
fn verdict(steps: &str) -> Result<(), (usize, String)> {
    let head = "# x\nrules\n -A -u 10.80.0.10:53 -s rr\n -a -u 10.80.0.10:53 -r 10.81.0.11:53 -m\npackets\n";
    let text = format!("{head} 0ms client > udp 10.80.0.100:4000 > 10.80.0.10:53 \"q\"\n{steps}\n");
    scenario::file::parse(&text).and_then(|case| scenario::run::play(&case))
}

#[test]
fn what_was_not_written_is_noticed_with_its_line() {
    let right = " 0ms rs1 < udp 10.80.0.100:4000 > 10.81.0.11:53 \"q\" ttl=63";
    assert_eq!(verdict(right), Ok(()));
    for (steps, line, why) in [
        ("", 0, "nobody expected"),
        (" 1s wait", 7, "nobody expected"),
        (" 0ms rs2 < udp 10.80.0.100:4000 > 10.81.0.11:53", 7, "nothing came"),
        (" 0ms rs1 < udp 10.80.0.100:4000 > 10.81.0.11:54", 7, "dport: expected 54, got 53"),
        (" 0ms rs1 < tcp 10.80.0.100:4000 > 10.81.0.11:53 S", 7, "Tcp expected"),
        (" 0ms rs1 < udp 10.80.0.100:4000 > 10.81.0.11:53 \"r\"", 7, "the data differs"),
        (" 0ms rs1 < udp 10.80.0.100:4000 > 10.81.0.11:53 ttl=64", 7, "ttl: expected 64, got 63"),
        (" 0ms rs1 < hex 4500????1234", 7, "expected 6 bytes"),
        (&format!("{right}\n 0ms drops no-route=1"), 8, "dropped:"),
        (&format!("{right}\n 0ms list\n    UDP 10.80.0.10:53 wrr"), 8, "10.80.0.10:53 rr"),
        (&format!("{right}\n 0ms conns"), 8, "unexpected UDP"),
        (&format!("{right}\n 0ms count 2..9"), 8, "there are 1"),
        (&format!("{right}\n 0ms show -Sn\n    -A -u 10.80.0.10:53 -s wrr"), 8, "-s rr"),
        (&format!("{right}\n 0ms zero -u 10.80.0.10:54"), 8, "No such service"),
        (&format!("{right}\n 0ms rs9 < udp 1.1.1.1:1 > 2.2.2.2:2"), 8, "no station"),
    ] {
        let (at, said) = verdict(steps).expect_err(steps);
        assert!(at == line && said.contains(why), "{steps}: {at}: {said}");
    }
}

/// The kernel's recording `cli_rate`: twelve thousand packets, and rates that die away as in its
/// estimator (a burst of a known size, then silence).
#[test]
fn large_numbers_and_rates_are_shown_as_the_kernel_counts_them() {
    let flood = |count: usize| {
        let packet = "udp 10.90.1.1:4000 > 10.80.0.10:53 data=1000";
        let there =
            format!(" 0ms client > {packet}\n 0ms rs1 < udp 10.90.1.1:4000 > 10.81.0.11:53\n");
        there.repeat(count)
    };
    let shown = |at: &str, args: &str, numbers: [&str; 2]| {
        let [service, server] = numbers;
        let title = "IP Virtual Server version 1.2.1 (size=4096)";
        let columns = match args {
            "-Ln --rate" => "Prot LocalAddress:Port CPS InPPS OutPPS InBPS OutBPS",
            _ => "Prot LocalAddress:Port Conns InPkts OutPkts InBytes OutBytes",
        };
        format!(
            " {at} show {args}\n    {title}\n    {columns}\n    -> RemoteAddress:Port\n    \
             UDP 10.80.0.10:53 {service}\n    -> 10.81.0.11:53 {server}\n"
        )
    };
    let mut text = "# x\nrules\n -A -u 10.80.0.10:53 -s rr\n".to_owned();
    text += " -a -u 10.80.0.10:53 -r 10.81.0.11:53 -m\npackets\n";
    text += &flood(12_000);
    for args in ["-Ln --stats", "-Ln --stats --exact"] {
        text += &shown("3s", args, ["1 12000 0 12336000 0"; 2]);
    }
    // A quarter of the rate at once, and of what is left every two seconds.
    for (at, rates) in [("3s", "0 1500 0 1542000 0"), ("5s", "0 1125 0 1156500 0")] {
        text += &shown(at, "-Ln --rate", [rates; 2]);
    }
    let played = scenario::file::parse(&text).and_then(|case| scenario::run::play(&case));
    assert_eq!(played, Ok(()));
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
