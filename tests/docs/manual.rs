//! Prose of `docs/man/` and the definitions become manual pages.
//!
//! The prose is Markdown, as far as it is needed: `#` and `##` headings, paragraphs, `code`, *variables*,
//! terms with their text (`: …`), and fenced text. What is fenced as `rules` must load, line by line or
//! whole, and every line fenced as `refused` must not. A line `@name` is filled from the definitions.

use std::fmt::Write as _;
use std::fs;

use super::flags::{flags_of, Flag};
use tapvs::cli;
use tapvs::config::knob::{KnobInfo, KNOBS};
use tapvs::config::options::{Opt, Spelling, Takes, SENTENCES, SPELLINGS};
use tapvs::config::rules;
use tapvs::config::tool::goes_with;
use tapvs::control::proc::File;
use tapvs::packet::DropReason;
use tapvs::sched::Scheduler;

/// A page, made of the prose of its name.
pub(super) fn page(name: &str) -> String {
    let path = super::root().join("docs/man").join(format!("{name}.md"));
    let prose = fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    let (title, section) = name.rsplit_once('.').expect("a name and its section");
    let out = format!(
        ".\\\" Made by `make docs` of docs/man/{name}.md and the definitions; change those.\n\
         .TH {} {section} \"2026-11-21\" \"tapvs {}\" \"tapvs\"\n.nh\n.ad l\n",
        title.to_uppercase().replace('-', "\\-"),
        env!("CARGO_PKG_VERSION")
    );
    let mut page = Page { out, begun: false };
    page.convert(&prose, name);
    page.out
}

struct Page {
    out: String,
    /// Text has been written since the last heading, so that a paragraph must be begun.
    begun: bool,
}

impl Page {
    fn convert(&mut self, prose: &str, name: &str) {
        let mut lines = prose.lines().peekable();
        while let Some(line) = lines.next() {
            if let Some(heading) = line.strip_prefix("## ") {
                self.heading("SS", heading);
            } else if let Some(heading) = line.strip_prefix("# ") {
                self.heading("SH", heading);
            } else if let Some(kind) = line.strip_prefix("```") {
                let text: Vec<_> = lines.by_ref().take_while(|line| *line != "```").collect();
                judge(kind, &text, name);
                self.verbatim(&text);
            } else if let Some(directive) = line.strip_prefix('@') {
                self.fill(directive);
            } else if line.is_empty() {
                continue;
            } else {
                let mut text = line.to_owned();
                while let Some(more) = lines.next_if(|l| !l.is_empty() && !l.starts_with(": ")) {
                    text = format!("{text}\n{more}");
                }
                match lines.peek().and_then(|line| line.strip_prefix(": ")) {
                    Some(_) => {
                        let rest: Vec<_> =
                            lines.by_ref().take_while(|line| !line.is_empty()).collect();
                        let rest: Vec<_> = rest
                            .iter()
                            .map(|line| line.strip_prefix(": ").unwrap_or(line).trim_start())
                            .collect();
                        self.term(&inline(&text), &inline(&rest.join("\n")));
                    }
                    None => self.paragraph(&inline(&text)),
                }
            }
        }
    }

    fn heading(&mut self, kind: &str, text: &str) {
        let _ = writeln!(self.out, ".{kind} {}", inline(text));
        self.begun = false;
    }

    fn paragraph(&mut self, text: &str) {
        if std::mem::replace(&mut self.begun, true) {
            self.out.push_str(".PP\n");
        }
        let _ = writeln!(self.out, "{text}");
    }

    fn term(&mut self, term: &str, text: &str) {
        // One line of the term for each tag.
        let _ = writeln!(self.out, ".TP\n{}\n{text}", term.replace('\n', "\n.TQ\n"));
        self.begun = true;
    }

    fn verbatim(&mut self, lines: &[&str]) {
        self.out.push_str(if self.begun { ".PP\n" } else { "" });
        self.out.push_str(".RS 4\n.nf\n");
        for line in lines {
            let _ = writeln!(self.out, "{}", escaped(line));
        }
        self.out.push_str(".fi\n.RE\n");
        self.begun = true;
    }

    /// What the definitions say.
    fn fill(&mut self, directive: &str) {
        match directive.split_once(' ').unwrap_or((directive, "")) {
            ("synopsis", _) => self.synopsis(),
            ("words", _) => self.words(),
            ("options", _) => self.flags(&flags_of(&cli::definition())),
            ("codes", _) => {
                for code in cli::definition().error_codes {
                    self.term(&code.code.to_string(), &inline(&capital(code.description)));
                }
            }
            ("commands", _) => self.ipvsadm(true),
            ("ipvsadm-options", _) => self.ipvsadm(false),
            ("schedulers", _) => {
                for scheduler in Scheduler::ALL {
                    self.term(&bold(scheduler.name()), &escaped(scheduler.sentence()));
                }
            }
            ("drops", _) => {
                for reason in DropReason::ALL {
                    self.term(&bold(reason.name()), &escaped(reason.sentence()));
                }
            }
            ("knobs", _) => KNOBS.iter().for_each(|info| self.knob(info)),
            _ => panic!("what is @{directive}?"),
        }
    }

    /// One line for each word.
    fn synopsis(&mut self) {
        for sub in &cli::definition().commands {
            let mut line = format!("\\fBtapvs {}\\fP", escaped(sub.name));
            for flag in flags_of(&sub.command).iter().filter(|flag| !flag.is_help()) {
                let (open, close) = if flag.optional { ("[", "]") } else { ("", "") };
                let _ = write!(line, " {open}{}{}{close}", bold(&flag.names[0]), value(flag.value));
            }
            for positional in sub.command.positionals {
                let word = italic(positional.name);
                let _ = match positional.optionality {
                    argh::Optionality::Required => write!(line, " {word}"),
                    argh::Optionality::Optional => write!(line, " [{word}]"),
                    _ => write!(line, " {word}..."),
                };
            }
            let _ = writeln!(self.out, "{line}\n.br");
        }
        self.out.truncate(self.out.len() - ".br\n".len());
        self.begun = true;
    }

    /// Each word with its text, options and exit codes.
    fn words(&mut self) {
        for sub in &cli::definition().commands {
            let info = &sub.command;
            self.heading("SS", &format!("tapvs {}", sub.name));
            self.paragraph(&inline(info.description));
            for word in info.positionals {
                self.term(&italic(word.name), &inline(word.description));
            }
            self.flags(&flags_of(info));
            let names = File::ALL.iter().map(|file| file.name());
            for name in names.filter(|_| sub.name == "proc") {
                assert!(info.description.contains(name), "`tapvs proc` does not tell of {name}");
            }
            if !info.error_codes.is_empty() {
                self.paragraph("Exit codes:");
                info.error_codes.iter().for_each(|code| {
                    self.term(&code.code.to_string(), &inline(code.description));
                });
            }
        }
    }

    fn flags(&mut self, flags: &[Flag]) {
        for flag in flags {
            let names: Vec<_> = flag.names.iter().map(|name| bold(name)).collect();
            let term = format!("{}{}", names.join(", "), value(flag.value));
            self.term(&term, &inline(flag.sentence));
        }
    }

    /// ipvsadm's commands, each with what goes with it; or its options.
    fn ipvsadm(&mut self, commands: bool) {
        for (spelling, (value, sentence)) in SPELLINGS.iter().zip(SENTENCES) {
            if spelling.command != commands || spelling.opt == Opt::ListToo {
                continue;
            }
            let mut term = spelled(spelling);
            let value = if spelling.opt == Opt::Set { "tcp tcpfin udp" } else { value };
            match spelling.takes {
                Takes::Perhaps => {
                    let _ = write!(term, " [{}]", italic(value));
                }
                Takes::Nothing | Takes::Value if value.is_empty() => {}
                Takes::Nothing | Takes::Value => {
                    let _ = write!(term, " {}", italic(value));
                }
            }
            let mut text = escaped(sentence);
            if commands {
                text.push_str(&companions(spelling.opt));
            }
            self.term(&term, &text);
        }
    }

    fn knob(&mut self, info: &KnobInfo) {
        let default = match (info.default, info.place, info.moot) {
            (Some(default), Some(_), _) => format!("{default} unless set"),
            (Some(default), None, _) => format!("{default}, and nothing else can be set yet"),
            (None, ..) => "cannot be set yet".to_owned(),
        };
        let mut text = format!("{}. {} to {}; {default}", info.sentence, info.min, info.max);
        if let Some(why) = info.moot {
            let _ = write!(text, ". It may be set and changes nothing: {why}");
        }
        self.term(&bold(info.name), &escaped(&capital(&text)));
        self.out.truncate(self.out.len() - 1);
        self.out.push_str(".\n");
    }
}

/// What a command of ipvsadm needs, and what it takes.
fn companions(command: Opt) -> String {
    let list = |needed: bool| -> Vec<String> {
        let fits =
            |option: &&Spelling| !option.command && goes_with(command, option.opt) == Some(needed);
        let name = |option: &Spelling| {
            option.short.map_or(format!("--{}", option.long), |letter| format!("-{letter}"))
        };
        SPELLINGS.iter().filter(fits).map(|option| bold(&name(option))).collect()
    };
    let mut text = String::new();
    let (needed, taken) = (list(true), list(false));
    let services = ["-t", "-u", "--sctp-service", "-f"].map(bold);
    let others: Vec<_> = needed.iter().filter(|name| !services.contains(name)).cloned().collect();
    if !needed.is_empty() {
        let one = if others.len() < needed.len() { "a service" } else { "" };
        let both = if others.is_empty() || one.is_empty() { "" } else { " and " };
        let _ = write!(text, ".\nNeeds {one}{both}{}", others.join(", "));
    }
    if !taken.is_empty() {
        let _ = write!(text, ".\nTakes {}", taken.join(", "));
    }
    text
}

/// Examples are what they are said to be.
fn judge(kind: &str, lines: &[&str], page: &str) {
    match kind {
        "rules" => {
            if let Err(all) = rules::load(page, &lines.join("\n")) {
                panic!("{}", all[0]);
            }
        }
        "refused" => {
            const BEFORE: &str = "ip tuntap add dev tap0 mode tap\n-A -t 10.0.0.1:80\n";
            for line in lines {
                assert!(rules::load(page, &format!("{BEFORE}{line}")).is_err(), "{page}: {line}");
            }
        }
        "sh" => {}
        _ => panic!("{page}: what is fenced as {kind}?"),
    }
}

fn spelled(spelling: &Spelling) -> String {
    let long = bold(&format!("--{}", spelling.long));
    match (spelling.opt, spelling.short) {
        (Opt::List, _) => format!("{}, {}, {long}", bold("-L"), bold("-l")),
        (_, Some(letter)) => format!("{}, {long}", bold(&format!("-{letter}"))),
        (_, None) => long,
    }
}

fn value(name: Option<&str>) -> String {
    name.map_or(String::new(), |name| format!(" {}", italic(name)))
}

fn capital(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map_or(String::new(), |first| first.to_uppercase().chain(letters).collect())
}

fn bold(text: &str) -> String {
    format!("\\fB{}\\fP", letters(text))
}

fn italic(text: &str) -> String {
    format!("\\fI{}\\fP", letters(text))
}

/// Text with `code` and *variables*.
fn inline(text: &str) -> String {
    let mut out = String::new();
    for (i, part) in text.split('`').enumerate() {
        if i % 2 == 1 {
            out.push_str(&bold(part));
            continue;
        }
        for (j, part) in part.split('*').enumerate() {
            out.push_str(&if j % 2 == 1 { italic(part) } else { letters(part) });
        }
    }
    out.lines().map(|line| guarded(line.trim())).collect::<Vec<_>>().join("\n")
}

/// Text in which nothing means anything to the formatter, also at the beginning of a line.
fn escaped(text: &str) -> String {
    guarded(&letters(text))
}

fn letters(text: &str) -> String {
    let text = text.replace('\\', "\\e").replace('-', "\\-").replace('~', "\\(ti");
    let text = text.replace('^', "\\(ha").replace('`', "\\(ga").replace('\'', "\\(aq");
    let plain = |letter: char| match letter.is_ascii() {
        true => letter.to_string(),
        false => format!("\\[u{:04X}]", u32::from(letter)),
    };
    text.replace('…', "...").chars().map(plain).collect()
}

/// A line that begins like a request is none.
fn guarded(line: &str) -> String {
    if line.starts_with(['.', '\'']) {
        return format!("\\&{line}");
    }
    line.to_owned()
}
