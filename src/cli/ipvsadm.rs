//! Being `ipvsadm`, `ipvsadm-save` and `ipvsadm-restore`: what they print, where, and how they end.
//!
//! Kept from ipvsadm 1.31 and Debian's two scripts: everything that another program could notice.
//! Left out on purpose: names of addresses from the DNS (see [`names`](super::names)); that help and
//! version want a kernel that answers. `--json` is ours, and where no tapvs answers the reason
//! stands in the place of the kernel's.

use std::fmt::Write as _;
use std::io::{self, BufRead, Write};
use std::path::Path;

use super::client::{Link, Trouble};
use super::names::Known;
use crate::config::complaint::{Fault, Mistake};
use crate::config::grammar::Word;
use crate::config::options::{Takes, SENTENCES, SPELLINGS};
use crate::config::tool::{wish, Listing, What, Wish};
use crate::config::Command;
use crate::control::json;
use crate::control::show::{self, Numeric, Reverse};
use crate::control::snapshot::Snapshot;
use crate::control::wire::{key_words, Request};

const VERSION: &str = "ipvsadm v1.31 2019/12/24 (compiled with popt and IPVS v1.2.1)\n";

/// The exit codes of ipvsadm.
mod exit {
    pub(super) const FINE: u8 = 0;
    /// A listing could not be made, or the wrong option of a script.
    pub(super) const LISTING: u8 = 1;
    /// The call was wrong, or nobody answers.
    pub(super) const USAGE: u8 = 2;
    /// The kernel, or popt, refused.
    pub(super) const REFUSED: u8 = 255;
}

/// Which of the tools.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    /// `ipvsadm`
    Tool,
    /// `ipvsadm-save`
    Save,
    /// `ipvsadm-restore`
    Restore,
}

impl Role {
    /// The role of a program that is called by this name.
    pub(super) fn named(program: &str) -> Option<Self> {
        match program.rsplit('/').next()? {
            "ipvsadm" => Some(Self::Tool),
            "ipvsadm-save" => Some(Self::Save),
            "ipvsadm-restore" => Some(Self::Restore),
            _ => None,
        }
    }
}

/// Does what a call with these arguments asks for and returns the exit code. `program` is the name
/// in messages, `path` the control socket.
pub(super) fn run(role: Role, program: &str, args: &[String], path: &Path) -> u8 {
    let mut tool = Tool { program, path, link: None, names: None };
    let ended = match role {
        Role::Tool => tool.call(args, Some(&mut io::stdin().lock())),
        Role::Save => tool.save(args),
        Role::Restore => tool.restore_all(),
    };
    match ended {
        Ok(code) | Err(End::Code(code)) => code,
        Err(End::Trouble(trouble)) => {
            complain(&format!("tapvs: {trouble}"));
            exit::USAGE
        }
    }
}

/// Why a call ends before its time.
enum End {
    /// With this code; what there was to say has been said.
    Code(u8),
    /// The other end.
    Trouble(Trouble),
}

impl From<Trouble> for End {
    fn from(trouble: Trouble) -> Self {
        Self::Trouble(trouble)
    }
}

struct Tool<'a> {
    program: &'a str,
    path: &'a Path,
    link: Option<Link>,
    names: Option<Known>,
}

impl Tool<'_> {
    /// One call; `input` is where `-R` reads, and absent within `-R` itself.
    fn call(&mut self, args: &[String], input: Option<&mut dyn BufRead>) -> Result<u8, End> {
        let first = args.first().map_or("", |arg| arg.as_str());
        let harmless = matches!(first, "--help" | "--version")
            || (first.starts_with("-h") || first.starts_with("-v"));
        if !harmless {
            self.link()?;
        }
        let words = Word::from_args(args);
        let found = wish(&words, self.names());
        let wanted = match found {
            Ok(wanted) => wanted,
            Err(fault) => {
                let code = self.blame(args, &words, &fault);
                // What popt has to say ends the line only, in the midst of `-R` as well.
                return if is_popts(&fault.mistake) { Ok(code) } else { Err(End::Code(code)) };
            }
        };
        match wanted {
            Wish::Help => {
                // Within `-R` as well it ends everything.
                say(&help(self.program));
                Err(End::Code(exit::FINE))
            }
            Wish::Version => {
                say(VERSION);
                Err(End::Code(exit::FINE))
            }
            Wish::Restore => match input {
                Some(input) => self.restore(input),
                None => {
                    self.invite();
                    Err(End::Code(exit::REFUSED))
                }
            },
            Wish::List(listing) => self.list(&listing),
            Wish::Save { numeric, json } => self.dump(numeric, json),
            Wish::Do(_) | Wish::Unknown { .. } | Wish::Zero(_) => {
                let request = request(&wanted);
                self.change(&request)?;
                let code = self.settle()?.unwrap_or(exit::FINE);
                if code == exit::FINE && matches!(wanted, Wish::Do(Command::StartDaemon(_))) {
                    complain("tapvs: the daemon is noted; synchronisation itself is still to come");
                }
                Ok(code)
            }
        }
    }

    /// The conversation, begun if need be.
    fn link(&mut self) -> Result<&mut Link, End> {
        if self.link.is_none() {
            let link = Link::open(self.path).map_err(|trouble| {
                complain(&format!(
                    "Can't initialize ipvs: {trouble}\n\
                     Is `tapvs run` up, and is TAPVS_SOCKET the path of its control socket?"
                ));
                End::Code(exit::USAGE)
            })?;
            self.link = Some(link);
        }
        Ok(self.link.as_mut().expect("it was just put there"))
    }

    fn names(&mut self) -> &Known {
        self.names.get_or_insert_with(Known::read)
    }

    /// Asks for a change without waiting for the answer.
    fn change(&mut self, request: &Request) -> Result<Option<u8>, End> {
        let last = self.link()?.tell(request, &mut complain)?;
        Ok(last.map(code_of))
    }

    /// Waits for all answers: the code of the last, if there was any.
    fn settle(&mut self) -> Result<Option<u8>, End> {
        let last = self.link()?.settle(&mut complain)?;
        Ok(last.map(code_of))
    }

    /// A picture of what runs; that there is none ends everything, within `-R` as well.
    fn picture(&mut self, request: &Request) -> Result<Snapshot, End> {
        self.link()?.picture(request)?.map_err(|words| {
            complain(&words);
            End::Code(exit::LISTING)
        })
    }

    fn list(&mut self, listing: &Listing) -> Result<u8, End> {
        let request = match listing.what {
            What::All => Request::Services(None),
            What::Service(key) => Request::Services(Some(key_words(&key))),
            What::Connections { .. } => Request::Connections,
            What::Timeouts | What::Daemons => Request::Settings,
        };
        let mut picture = self.picture(&request)?;
        if listing.json {
            if !listing.nosort {
                show::sort(&mut picture);
            }
            say(&json::listing(&picture, listing.what));
            return Ok(exit::FINE);
        }
        say(&show::listing(picture, listing, self.reverse(listing.numeric)));
        Ok(exit::FINE)
    }

    /// `-S`.
    fn dump(&mut self, numeric: bool, as_json: bool) -> Result<u8, End> {
        let mut picture = self.picture(&Request::Services(None))?;
        if as_json {
            show::sort(&mut picture);
            say(&json::listing(&picture, What::All));
        } else {
            say(&show::save(picture, self.reverse(numeric)));
        }
        Ok(exit::FINE)
    }

    fn reverse(&mut self, numeric: bool) -> &dyn Reverse {
        match numeric {
            true => &Numeric,
            false => self.names(),
        }
    }

    /// `-R`: one line after another; what is wrong with a line ends it, what the kernel refuses or popt
    /// cannot read does not. The code is that of the last line.
    fn restore(&mut self, input: &mut dyn BufRead) -> Result<u8, End> {
        let mut code = exit::FINE;
        loop {
            let mut line = Vec::new();
            let read = input.read_until(b'\n', &mut line).unwrap_or(0);
            if read == 0 {
                return Ok(self.settle()?.unwrap_or(code));
            }
            let text = String::from_utf8_lossy(&line);
            let mut lines = text.split(LINE_ENDS).peekable();
            while let Some(line) = lines.next() {
                let args = arguments(line);
                let last = lines.peek().is_none();
                if !(args.is_empty() || last && ends_in_blanks(line)) {
                    code = self.line(&args)?;
                }
            }
        }
    }

    /// One line of `-R`. Changes are not waited for.
    fn line(&mut self, args: &[String]) -> Result<u8, End> {
        let words = Word::from_args(args);
        let found = wish(&words, self.names());
        let waited_for = matches!(found, Ok(Wish::Do(Command::StartDaemon(_))));
        if let Ok(wanted @ (Wish::Do(_) | Wish::Unknown { .. } | Wish::Zero(_))) = &found {
            if !waited_for {
                return Ok(self.change(&request(wanted))?.unwrap_or(exit::FINE));
            }
        }
        self.settle()?;
        self.call(args, None)
    }

    /// `ipvsadm-save`: any option but `-n` is wrong, words are not looked at.
    fn save(&mut self, args: &[String]) -> Result<u8, End> {
        let mut numeric = false;
        for arg in args.iter().filter(|arg| arg.starts_with('-')) {
            if arg != "-n" {
                complain(&format!(
                    "{}: print the table in the form that ipvsadm-restore reads\n   \
                     -n: addresses and ports as numbers",
                    self.program
                ));
                return Ok(exit::LISTING);
            }
            numeric = true;
        }
        self.dump(numeric, false)
    }

    /// `ipvsadm-restore`: reads everything, clears the table, then does what was read. Lines that
    /// begin with `#` are left out, and arguments are not looked at.
    fn restore_all(&mut self) -> Result<u8, End> {
        let mut rules = Vec::new();
        for line in io::stdin().lock().split(b'\n') {
            let Ok(line) = line else { break };
            if !line.starts_with(b"#") {
                rules.extend(line);
                rules.push(b'\n');
            }
        }
        self.change(&Request::Do(Command::Clear.to_string()))?;
        self.settle()?;
        self.restore(&mut rules.as_slice())
    }

    /// Says what is wrong with a call: the code.
    fn blame(&self, args: &[String], words: &[Word<'_>], fault: &Fault) -> u8 {
        // popt names the argument as it stands, be it a cluster or a value.
        let at = |word: &Word<'_>| word.at.start <= fault.at.start && fault.at.end <= word.at.end;
        let whole = words.iter().position(at).map_or("", |index| args[index].as_str());
        let mistake = match &fault.mistake {
            Mistake::UnknownOption(_) => Mistake::UnknownOption(whole.to_owned()),
            Mistake::MissingArgument(_) => Mistake::MissingArgument(whole.to_owned()),
            Mistake::UnwantedArgument(_) => Mistake::UnwantedArgument(whole.to_owned()),
            Mistake::SecondCommand(_) => Mistake::SecondCommand(whole.to_owned()),
            other => other.clone(),
        };
        match mistake.ipvsadm() {
            Some((words, code)) if words.is_empty() => {
                self.invite();
                u8::try_from(code).unwrap_or(exit::REFUSED)
            }
            Some((words, code)) => {
                complain(&words);
                u8::try_from(code).unwrap_or(exit::REFUSED)
            }
            None => {
                complain(&mistake.to_string());
                exit::REFUSED
            }
        }
    }

    fn invite(&self) {
        let program = self.program;
        complain(&format!("Try `{program} -h' or '{program} --help' for more information."));
    }
}

/// A word of a line of `-R`: one that is too long ends, and what is left of it is the next.
fn of_readable_length(word: &str) -> Vec<String> {
    const LENGTH_MAX: usize = 4096;
    if word.len() <= LENGTH_MAX {
        return vec![word.to_owned()];
    }
    let pieces = word.as_bytes().chunks(LENGTH_MAX);
    pieces.map(|piece| String::from_utf8_lossy(piece).into_owned()).collect()
}

/// What ends a line of `-R`.
const LINE_ENDS: [char; 4] = ['\n', '\r', '\x0b', '\x0c'];

/// The arguments in a line of `-R`: neither quotes nor comments are known there.
fn arguments(line: &str) -> Vec<String> {
    let words = line.split([' ', '\t']).filter(|word| !word.is_empty() && *word != "ipvsadm");
    words.flat_map(of_readable_length).collect()
}

/// Whether ipvsadm loses the line for what it ends in, where the input ends with it.
fn ends_in_blanks(line: &str) -> bool {
    line.bytes().rev().take_while(|byte| matches!(byte, b' ' | b'\t')).count() > 1
}

/// Whether an option cannot be read at all: unknown, or with a value too many or too few.
const fn is_popts(mistake: &Mistake) -> bool {
    matches!(
        mistake,
        Mistake::UnknownOption(_) | Mistake::MissingArgument(_) | Mistake::UnwantedArgument(_)
    )
}

/// What is asked of tapvs for a wish that changes something.
fn request(wanted: &Wish) -> Request {
    match wanted {
        Wish::Do(command) => Request::Do(command.to_string()),
        Wish::Unknown { edit, key } => Request::Unknown { edit: *edit, key: key_words(key) },
        Wish::Zero(key) => Request::Zero(key.as_ref().map(key_words)),
        Wish::List(_) | Wish::Save { .. } | Wish::Restore | Wish::Help | Wish::Version => {
            unreachable!("these change nothing")
        }
    }
}

const fn code_of(good: bool) -> u8 {
    match good {
        true => exit::FINE,
        false => exit::REFUSED,
    }
}

/// What `-h` prints, made of the one table of options.
fn help(program: &str) -> String {
    let mut out = VERSION.to_owned();
    let _ =
        write!(out, "{}", USAGE.replace("ipvsadm", program.rsplit('/').next().unwrap_or(program)));
    for (heading, commands) in [("Commands", true), ("Options", false)] {
        let _ = write!(out, "\n{heading}:\n");
        for (spelling, (value, sentence)) in SPELLINGS.iter().zip(SENTENCES) {
            if spelling.command != commands {
                continue;
            }
            let short = spelling.short.map_or("  ".to_owned(), |letter| format!("-{letter}"));
            let value = match spelling.takes {
                Takes::Nothing => String::new(),
                Takes::Value => format!(" {value}"),
                Takes::Perhaps => format!(" [{value}]"),
            };
            let option = format!("{}{value}", spelling.long);
            let _ = writeln!(out, "  {short}  --{option:<26} {sentence}");
        }
    }
    out
}

const USAGE: &str = "\
Usage:
  ipvsadm -A|-E SERVICE [-s scheduler] [-p [seconds]] [-M mask] [--pe engine] [-b flags] [-o]
  ipvsadm -D SERVICE
  ipvsadm -a|-e SERVICE -r SERVER [-g|-i|-m] [-w weight] [-x upper] [-y lower] [tunnel options]
  ipvsadm -d SERVICE -r SERVER
  ipvsadm -L|-l [SERVICE | -c | --timeout | --daemon] [-n] [--json] [columns]
  ipvsadm -Z [SERVICE]
  ipvsadm -S [-n] [--json]
  ipvsadm -R
  ipvsadm -C
  ipvsadm --set tcp tcpfin udp
  ipvsadm --start-daemon master|backup [daemon options]
  ipvsadm --stop-daemon master|backup
  ipvsadm -h

SERVICE is -t HOST[:PORT], -u HOST[:PORT], --sctp-service HOST[:PORT] or -f MARK [-6];
SERVER is HOST[:PORT]. The default scheduler is wlc, the default method -g, the default weight 1.
";

fn say(text: &str) {
    let mut out = io::stdout().lock();
    // A reader that has seen enough is no failure of ours.
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}

fn complain(text: &str) {
    let _ = writeln!(io::stderr().lock(), "{text}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_programs_name_is_its_role() {
        assert_eq!(Role::named("/sbin/ipvsadm"), Some(Role::Tool));
        assert_eq!(Role::named("ipvsadm-save"), Some(Role::Save));
        assert_eq!(Role::named("./ipvsadm-restore"), Some(Role::Restore));
        assert_eq!(Role::named("tapvs"), None);
    }

    #[test]
    fn help_lists_every_command_and_option() {
        let text = help("ipvsadm");
        for spelling in SPELLINGS {
            assert!(text.contains(&format!("--{}", spelling.long)), "{}", spelling.long);
        }
        assert!(text.starts_with(VERSION));
    }
}
