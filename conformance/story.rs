//! Stories for a live player: reads `.scn` files and prints what `play.py` is to do, a line each.
//!
//! The language of the stories has one reader, that of the scenario tests. Here each packet that a
//! station sends becomes the bytes of a frame, and each look becomes a word. What the story expects is
//! only counted: whether the answers are right is told by the other director that plays the same.
//!
//! Fields are parted by tabs: `story NAME`, `arp` (neighbours are part of the story), `topology LINE`,
//! `rules LINE`, then steps: `send MS STATION FRAME ANSWERS TEXT`, `many MS STATION FRAME COUNT`, `do MS LINE`, `tool MS ARGUMENTS`,
//! `list MS`, `conns MS`, `calls MS`,
//! `stats MS`, `wait MS`.

#![expect(clippy::print_stdout, reason = "its output is what it is for")]

#[path = "../tests/scenario/mod.rs"]
mod scenario;

use std::fmt::Write;
use std::path::Path;
use std::process::ExitCode;

use scenario::file::{parse, Step};
use scenario::{frame_of, TOPOLOGY};

fn main() -> ExitCode {
    for file in std::env::args().skip(1) {
        match std::fs::read_to_string(&file)
            .map_err(|e| e.to_string())
            .and_then(|t| told(&file, &t))
        {
            Ok(lines) => print!("{lines}"),
            Err(why) => {
                eprintln!("{file}: {why}");
                return ExitCode::FAILURE;
            }
        }
    }
    ExitCode::SUCCESS
}

/// The lines of one story.
fn told(file: &str, text: &str) -> Result<String, String> {
    let story = parse(text).map_err(|(line, why)| format!("line {line}: {why}"))?;
    let source: Vec<&str> = text.lines().collect();
    let name = Path::new(file).with_extension("");
    let mut out = format!("story\t{}\n", name.display());
    for line in TOPOLOGY.lines().chain(story.topology.lines()) {
        let _ = writeln!(out, "topology\t{line}");
    }
    for line in story.rules.lines() {
        let _ = writeln!(out, "rules\t{line}");
    }
    let mut neighbours = false;
    for (index, (number, at, step)) in story.steps.iter().enumerate() {
        let ms = at.since(tapvs::world::Instant::ZERO).as_millis();
        let line = source.get(number - 1).map_or("", |line| line.trim());
        neighbours |= [" arp ", " nd "].iter().any(|word| line.contains(word));
        let done = match step {
            Step::Send(station, pattern) => {
                let digits = digits_of(&frame_of(station, pattern)?);
                let after = story.steps[index + 1..].iter();
                let answers = after
                    .take_while(|(_, then, s)| then == at && matches!(s, Step::Expect(..)))
                    .count();
                let from = line.split_whitespace().nth(1).unwrap_or_default();
                let text: String = line.chars().take(120).collect();
                format!("send\t{ms}\t{from}\t{digits}\t{answers}\t{text}")
            }
            Step::Many(count, station, pattern) => {
                let from = line.split_whitespace().nth(3).unwrap_or_default();
                format!("many\t{ms}\t{from}\t{}\t{count}", digits_of(&frame_of(station, pattern)?))
            }
            Step::Do(command) | Step::Refused(command, _) => format!("do\t{ms}\t{command}"),
            Step::Tool(arguments) | Step::Show(arguments, _) => format!("tool\t{ms}\t{arguments}"),
            Step::Zero(service) => format!("tool\t{ms}\t-Z {service}"),
            Step::Calls(_) => format!("calls\t{ms}"),
            Step::List(_) => format!("list\t{ms}"),
            Step::Conns(_) => format!("conns\t{ms}"),
            Step::Stats(_) => format!("stats\t{ms}"),
            // Whatever comes is looked at, when it is time.
            Step::Wait | Step::Drops(_) | Step::Count(..) | Step::Expect(..) => {
                format!("wait\t{ms}")
            }
        };
        let _ = writeln!(out, "{done}");
    }
    if neighbours {
        out += "arp\n";
    }
    Ok(out)
}

fn digits_of(frame: &[u8]) -> String {
    frame.iter().map(|byte| format!("{byte:02x}")).collect()
}
