//! The command line as words: spelt out for argh, and explained where argh does not know them.
//!
//! Which options there are is read from the help that argh makes, so that no list of them is kept.
//!
//! Left out on purpose: guessing. What was probably meant is told and not done.

use std::ffi::OsString;

use argh::{EarlyExit, FromArgs};

use super::{say, Args, Failure};
use crate::config::complaint::{advice, nearest};

/// The words of the program, in the order of the help.
const WORDS: &[&str] =
    &["run", "check", "realserver", "reload", "save", "status", "ipvsadm", "proc"];

/// Reads the arguments; `None` if help was asked for, and given.
///
/// # Errors
/// What was not understood, and what it was probably meant to be.
pub(super) fn parse(args: Vec<OsString>) -> Result<Option<Args>, Failure> {
    let mut words: Vec<String> = Vec::new();
    for arg in args.into_iter().skip(1) {
        let word = arg.into_string().map_err(|arg| {
            Failure::Usage(format!("tapvs: not UTF-8: {}", arg.to_string_lossy()))
        })?;
        spell_out(word, &mut words);
    }
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    match Args::from_args(&["tapvs"], &words) {
        Ok(args) => Ok(Some(args)),
        Err(EarlyExit { output, status: Ok(()) }) => {
            say(output.trim_end());
            Ok(None)
        }
        Err(EarlyExit { output, status: Err(()) }) => {
            Err(Failure::Usage(format!("tapvs: {}", explained(output.trim(), &words))))
        }
    }
}

/// The words of the program as part of a sentence.
pub(super) fn words_listed() -> String {
    let last = WORDS.len() - 1;
    format!("{} or {}", WORDS[..last].join(", "), WORDS[last])
}

/// What argh says of a word that it does not know, with what was probably meant.
fn explained(said: &str, words: &[&str]) -> String {
    let first = words.iter().copied().find(|word| !word.starts_with('-'));
    let wish = first.filter(|word| WORDS.contains(word));
    if let (Some(wish), true) = (wish, said.starts_with("Required positional")) {
        return format!("{wish}: which rules file? `tapvs {wish} FILE`");
    }
    let Some(unknown) = said.strip_prefix("Unrecognized argument: ") else {
        return said.to_owned();
    };
    if (wish, unknown) == (Some("check"), "-r") {
        return "check: unknown option `-r`; write `tapvs check FILE`".to_owned();
    }
    if unknown.starts_with('-') {
        let of = wish.map_or(String::new(), |wish| format!("{wish}: "));
        return format!("{of}unknown option `{unknown}`{}", option_meant(unknown, wish));
    }
    let Some(wish) = wish else {
        return format!("unknown word `{unknown}`: {}", advice(&words_listed(), unknown, WORDS));
    };
    match wish {
        "save" => format!("{wish}: `{unknown}` stands behind no option; write `-o {unknown}`"),
        _ => format!("{wish}: `{unknown}` is one word too many"),
    }
}

/// The option of that word, or of the program, that was probably meant, as the end of a sentence.
fn option_meant(unknown: &str, wish: Option<&str>) -> String {
    let asked: Vec<_> = wish.into_iter().chain(["--help"]).collect();
    let Err(EarlyExit { output: help, .. }) = Args::from_args(&["tapvs"], &asked) else {
        return String::new();
    };
    let names = help.lines().filter(|line| line.starts_with("  -")).flat_map(|line| {
        line.split([' ', ','])
            .filter(|word| !word.is_empty())
            .take_while(|word| word.starts_with('-'))
    });
    let names: Vec<_> = names.filter(|name| name.starts_with("--")).collect();
    match unknown.split_once('=') {
        Some((name, value)) if names.contains(&name) => format!("; write `{name} {value}`"),
        _ => nearest(unknown, &names)
            .map_or(String::new(), |near| format!("; did you mean `{near}`?")),
    }
}

/// Spells out what argh does not know: `-vv` is `-v -v`, and a lone `-` that no option takes is the
/// name of a file.
fn spell_out(word: String, words: &mut Vec<String>) {
    let cluster = word.strip_prefix('-').filter(|v| v.len() > 1 && v.bytes().all(|b| b == b'v'));
    if let Some(cluster) = cluster {
        words.extend(cluster.bytes().map(|_| "-v".to_owned()));
        return;
    }
    let switches = ["-v", "--verbose", "-q", "--quiet", "--lint", "--json", "--watch"];
    let takes_it = |last: &String| last.starts_with('-') && !switches.contains(&last.as_str());
    let follows_option = words.last().is_some_and(takes_it);
    if word == "-" && !follows_option {
        words.push("--".to_owned());
    }
    // Behind `--` no option is looked for, so that file stays the last.
    match words.as_slice() {
        [.., end, file] if end == "--" && file == "-" => words.insert(words.len() - 2, word),
        _ => words.push(word),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clusters_are_spelled_out_and_a_lone_dash_is_a_file() {
        let spelled = |words: &[&str]| {
            let mut out = Vec::new();
            words.iter().for_each(|word| spell_out((*word).to_owned(), &mut out));
            out.join(" ")
        };
        assert_eq!(spelled(&["run", "-vv", "-r", "-"]), "run -v -v -r -");
        assert_eq!(spelled(&["check", "-"]), "check -- -");
        assert_eq!(spelled(&["check", "-v", "-"]), "check -v -- -");
        assert_eq!(spelled(&["check", "--json", "-"]), "check --json -- -");
        assert_eq!(spelled(&["run", "-", "--seed", "7"]), "run --seed 7 -- -");
        assert_eq!(spelled(&["--version", "-v"]), "--version -v");
    }

    #[test]
    fn the_words_are_those_of_the_help() {
        let defined = crate::cli::definition();
        let names: Vec<_> = defined.commands.iter().map(|sub| sub.name).collect();
        assert_eq!(WORDS, names);
    }
}
