//! Words become a [`Line`]: spelling, not meaning. How a text becomes words is `words`'s.
//!
//! Kept from popt: short options cluster and carry their value glued, long ones take it after `=` or a
//! blank, `-p` has a value only if the next word does not begin with a minus. Kept from iproute2: the
//! abbreviations of objects and verbs.
//!
//! Left out on purpose: what an option's value means, and whether it goes with its command.

use super::complaint::{advice, Fault, Mistake, Span};
use super::options::{written, Opt, Spelling, Takes, SPELLINGS};
use super::words::check_letters;
use crate::packet::Family;

pub use super::words::{lines, Word};

/// A line of rules, understood as far as spelling goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Line<'a> {
    /// `ipvsadm …` or a bare `-A …`.
    Ipvs(Invocation<'a>),
    /// `ip …`.
    Ip(IpLine<'a>),
    /// `iptables …`, `ip6tables …`.
    Tables(TablesLine<'a>),
    /// `ifconfig …`, `route …`, `modprobe …`; their words are read where they are understood.
    NetTools {
        /// The program's name as it was written.
        program: Word<'a>,
        /// What follows it.
        words: Vec<Word<'a>>,
    },
    /// `sysctl …`, `echo … > /proc/sys/…` or a bare `k = v`: keys and values.
    Sysctl(Vec<(Word<'a>, Word<'a>)>),
}

/// An `ipvsadm` command line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Invocation<'a> {
    /// Its first option.
    pub command: Given<'a>,
    /// The others in their order.
    pub options: Vec<Given<'a>>,
    /// Words that belong to no option.
    pub rest: Vec<Word<'a>>,
}

/// An option on a line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Given<'a> {
    /// Which.
    pub opt: Opt,
    /// As it was written, without its value.
    pub word: Word<'a>,
    /// Its value.
    pub value: Option<Word<'a>>,
}

/// An `iptables` command line; its words are read where they are understood, since each option says
/// how many follow.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TablesLine<'a> {
    /// `iptables` or `ip6tables`.
    pub family: Family,
    /// The program's name as it was written.
    pub program: Word<'a>,
    /// What follows it.
    pub words: Vec<Word<'a>>,
}

/// An `ip` command line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IpLine<'a> {
    /// `-4` or `-6`.
    pub family: Option<Family>,
    /// What it is about.
    pub object: Object,
    /// The verb as it was written.
    pub verb: Word<'a>,
    /// What follows the verb.
    pub args: Vec<Word<'a>>,
}

/// The objects of `ip` that mean something here, each with the one verb that does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Object {
    /// `ip tuntap add`.
    Tuntap,
    /// `ip link set`.
    Link,
    /// `ip address add`, `replace`, `delete`.
    Address,
    /// `ip route add`, `replace`, `delete`.
    Route,
    /// `ip neighbour add`, `replace`.
    Neighbour,
    /// `ip rule add`.
    Rule,
}

/// Recognises what kind of command the words are.
///
/// # Errors
/// Words that are no command of a rules file, unknown options, missing values.
pub fn line<'a>(words: &[Word<'a>]) -> Result<Line<'a>, Fault> {
    words.iter().try_for_each(check_letters)?;
    let Some((first, rest)) = words.split_first() else {
        return Err(Fault::new(0..0, Mistake::NoCommand));
    };
    let program = first.text.rsplit('/').next().unwrap_or("");
    match program {
        // As in sysctl.d(5): it may fail.
        _ if first.text.starts_with("-net.") || first.text.starts_with("-net/") => {
            let mut words = words.to_vec();
            words[0] = first.tail(1);
            assignments(&words, true).map(Line::Sysctl)
        }
        _ if first.text.starts_with('-') => invocation(first, words).map(Line::Ipvs),
        "ipvsadm" => invocation(first, rest).map(Line::Ipvs),
        "ip" => ip_line(first, rest).map(Line::Ip),
        "sysctl" => sysctl(first, rest).map(Line::Sysctl),
        "ifconfig" | "route" | "arp" | "modprobe" | "insmod" | "rmmod" | "brctl" | "tunctl" => {
            Ok(Line::NetTools { program: first.clone(), words: rest.to_vec() })
        }
        "echo" => echo(first, rest).map(|pair| Line::Sysctl(vec![pair])),
        "ipvsadm-restore" | "." | "source" | "iptables-restore" | "ip6tables-restore" => Err(host(
            first,
            "a rules file reads no other file".to_owned(),
            "expected the lines of that file here, those that are rules",
        )),
        "sh" | "bash" | "env" | "time" | "nohup" | "exec" | "eval" | "nsenter" | "su" | "alias" => {
            let why = format!("`{program}` would have to be executed");
            Err(host(first, why, "expected the command itself: lines are read, never executed"))
        }
        "iptables" | "iptables-legacy" | "iptables-nft" => Ok(tables(Family::V4, first, rest)),
        "ip6tables" => Ok(tables(Family::V6, first, rest)),
        "nft" => Err(Fault::new(first.at.clone(), Mistake::MarkRule(first.text.to_string()))),
        _ if ["net.", "net/", "kernel.", "vm.", "fs."]
            .iter()
            .any(|p| first.text.starts_with(p)) =>
        {
            assignments(words, true).map(Line::Sysctl)
        }
        _ => {
            let what = "`ipvsadm`, `-A`, `-a`, `ip`, `sysctl`, `iptables` or `net.… = VALUE`";
            let near = match rest.first().is_some_and(|word| word.text.starts_with('=')) {
                true => format!("expected no blank before `=`, as in `{}=VALUE`", first.text),
                false => advice(what, &first.text, PROGRAMS),
            };
            let mistake = Mistake::UnknownCommand(first.text.to_string());
            Err(Fault::new(first.at.clone(), mistake).expecting(near))
        }
    }
}

fn host(word: &Word<'_>, why: String, expected: &str) -> Fault {
    Fault::new(word.at.clone(), Mistake::Host(why)).expecting(expected)
}

/// What popt makes of words, up to the first that it cannot read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scan<'a> {
    /// Options in their order.
    pub given: Vec<Given<'a>>,
    /// Words that belong to no option.
    pub rest: Vec<Word<'a>>,
    /// Why it ended before its time: an unknown option, a missing or an unwanted value.
    pub fault: Option<Fault>,
}

/// Reads options as popt does.
pub fn scan<'a>(words: &[Word<'a>]) -> Scan<'a> {
    let mut scan = Scan { given: Vec::new(), rest: Vec::new(), fault: None };
    let mut words = words.iter().peekable();
    while let Some(word) = words.next() {
        let read = if word.text == "--" {
            scan.rest.extend(words.by_ref().cloned());
            Ok(())
        } else if word.text.starts_with("--") {
            long_option(word, &mut words).map(|given| scan.given.push(given))
        } else if word.text.len() > 1 && word.text.starts_with('-') {
            short_options(word, &mut words, &mut scan.given)
        } else {
            scan.rest.push(word.clone());
            Ok(())
        };
        if let Err(fault) = read {
            scan.fault = Some(fault);
            break;
        }
    }
    scan
}

const PROGRAMS: &[&str] =
    &["ipvsadm", "ip", "sysctl", "iptables", "ip6tables", "ifconfig", "route", "echo"];

/// The words behind the prompt of a shell and `sudo`: `$ `, `># `, `root@lvs:~# `, `[root@lvs ~]# `. (A
/// line that begins with `#` is a comment.)
pub fn without_prompt<'s, 'a>(words: &'s [Word<'a>]) -> &'s [Word<'a>] {
    let ends = |word: &Word<'_>| word.text.len() > 1 && word.text.ends_with(['#', '$', '%', '>']);
    let words = match words {
        [first, rest @ ..] if matches!(&*first.text, "$" | "%") => rest,
        [first, rest @ ..] if ends(first) && !first.text.starts_with(['-', '<']) => rest,
        [first, second, rest @ ..]
            if first.text.starts_with('[') && second.text.ends_with(['#', '$']) =>
        {
            rest
        }
        _ => words,
    };
    match words {
        [sudo, rest @ ..] if sudo.text == "sudo" => {
            let mut options = 0;
            while let Some(option) = rest.get(options).filter(|word| word.text.starts_with('-')) {
                // These two say as whom.
                options += if matches!(&*option.text, "-u" | "-g") { 2 } else { 1 };
            }
            // Without a command it opens a shell.
            if options < rest.len() {
                &rest[options..]
            } else {
                words
            }
        }
        _ => words,
    }
}

/// The file of `tee [-a] FILE`, if the words are that.
pub(super) fn tee<'s, 'a>(words: &'s [Word<'a>]) -> Option<&'s Word<'a>> {
    match without_prompt(words) {
        [tee, path] if tee.text == "tee" => Some(path),
        [tee, option, path] if tee.text == "tee" && option.text == "-a" => Some(path),
        _ => None,
    }
}

fn tables<'a>(family: Family, program: &Word<'a>, words: &[Word<'a>]) -> Line<'a> {
    Line::Tables(TablesLine { family, program: program.clone(), words: words.to_vec() })
}

/// Reads the options of ipvsadm as popt does; `program` is blamed where there is none.
///
/// # Errors
/// Unknown options, missing and unwanted values, no command in front, a second command.
pub fn invocation<'a>(program: &Word<'a>, words: &[Word<'a>]) -> Result<Invocation<'a>, Fault> {
    let Scan { given, rest, fault } = scan(words);
    if let Some(fault) = fault {
        return Err(fault);
    }
    let mut given = given.into_iter();
    let no_command = |at: &Span| {
        Fault::new(at.clone(), Mistake::NoCommand)
            .expecting("expected one of -A -E -D -C -a -e -d --set in front")
    };
    let Some(command) = given.next() else {
        return Err(no_command(&rest.first().unwrap_or(program).at));
    };
    if !command.opt.spelling().command {
        return Err(no_command(&command.word.at));
    }
    let options: Vec<_> = given.collect();
    if let Some(second) = options.iter().find(|g| g.opt.spelling().command) {
        let mistake = Mistake::SecondCommand(written(second.opt));
        return Err(
            Fault::new(second.word.at.clone(), mistake).expecting("expected one command a line")
        );
    }
    Ok(Invocation { command, options, rest })
}

type Words<'s, 'a> = std::iter::Peekable<std::slice::Iter<'s, Word<'a>>>;

fn long_option<'a>(word: &Word<'a>, words: &mut Words<'_, 'a>) -> Result<Given<'a>, Fault> {
    let end = word.text.find('=').unwrap_or(word.text.len());
    let spelled = word.part(0, end);
    let Some(spelling) = SPELLINGS.iter().find(|s| s.long == &spelled.text[2..]) else {
        let longs: Vec<_> = SPELLINGS.iter().map(|s| format!("--{}", s.long)).collect();
        let longs: Vec<_> = longs.iter().map(String::as_str).collect();
        let mistake = Mistake::UnknownOption(spelled.text.to_string());
        let near = advice("an option of ipvsadm", &spelled.text, &longs);
        return Err(Fault::new(spelled.at, mistake).expecting(near));
    };
    let attached = (end < word.text.len()).then(|| value_behind(word, end));
    option_with_value(spelling, spelled, attached, words)
}

/// What follows the `=` at `sign`; if nothing does, its place is the whole word.
fn value_behind<'a>(word: &Word<'a>, sign: usize) -> Word<'a> {
    let value = word.tail(sign + 1);
    if !value.text.is_empty() {
        return value;
    }
    Word { text: value.text, at: word.at.clone() }
}

/// The letters of one word, the last of which may carry its value glued (`-p300`, `-At ADDR`).
fn short_options<'a>(
    word: &Word<'a>,
    words: &mut Words<'_, 'a>,
    given: &mut Vec<Given<'a>>,
) -> Result<(), Fault> {
    for (offset, letter) in word.text.char_indices().skip(1) {
        let next = offset + letter.len_utf8();
        // The first letter is shown with its minus, the others of a cluster alone.
        let spelled = word.part(if offset == 1 { 0 } else { offset }, next);
        let Some(spelling) = SPELLINGS.iter().find(|s| s.short == Some(letter)) else {
            let near = if offset == 1 { unknown_letter(word) } else { unknown_letter(&spelled) };
            let mistake = Mistake::UnknownOption(format!("-{letter}"));
            return Err(Fault::new(spelled.at, mistake).expecting(near));
        };
        if spelling.takes == Takes::Nothing {
            given.push(option_with_value(spelling, spelled, None, words)?);
            continue;
        }
        let glued = if word.text[next..].starts_with('=') { next + 1 } else { next };
        let attached = (next < word.text.len()).then(|| {
            if glued > next {
                value_behind(word, next)
            } else {
                word.tail(glued)
            }
        });
        given.push(option_with_value(spelling, spelled, attached, words)?);
        break;
    }
    Ok(())
}

/// A long option with one minus is the usual reason for an unknown letter.
fn unknown_letter(word: &Word<'_>) -> String {
    let name = word.text.trim_start_matches('-');
    let name = name.split('=').next().unwrap_or("");
    let long = SPELLINGS.iter().find(|s| name.len() > 1 && s.long == name);
    match long {
        Some(spelling) => format!("expected an option; did you mean `--{}`?", spelling.long),
        None => "expected one of -t -u -f -6 -s -p -M -b -o -r -g -i -m -w -x -y, or a long option"
            .to_owned(),
    }
}

fn option_with_value<'a>(
    spelling: &'static Spelling,
    word: Word<'a>,
    attached: Option<Word<'a>>,
    words: &mut Words<'_, 'a>,
) -> Result<Given<'a>, Fault> {
    let is_value = |next: &&Word<'a>| !next.text.starts_with('-');
    let value = match (spelling.takes, attached) {
        (Takes::Nothing, Some(_)) => {
            let mistake = Mistake::UnwantedArgument(word.text.to_string());
            return Err(Fault::new(word.at, mistake));
        }
        (Takes::Nothing, None) => None,
        (Takes::Value | Takes::Perhaps, Some(value)) => Some(value),
        (Takes::Perhaps, None) => words.next_if(is_value).cloned(),
        (Takes::Value, None) => match words.next() {
            Some(value) => Some(value.clone()),
            None => {
                let mistake = Mistake::MissingArgument(typed(spelling.opt, &word));
                let expected = format!("expected a value for `{}`", spelling.name);
                return Err(Fault::new(word.at, mistake).expecting(expected));
            }
        },
    };
    Ok(Given { opt: spelling.opt, word, value })
}

/// A long option as it was typed; a letter with its minus, also out of the middle of a cluster.
fn typed(opt: Opt, word: &Word<'_>) -> String {
    if word.text.starts_with("--") {
        return word.text.to_string();
    }
    written(opt)
}

fn ip_line<'a>(program: &Word<'a>, words: &[Word<'a>]) -> Result<IpLine<'a>, Fault> {
    const OBJECTS: &str = "one of `tuntap`, `link`, `addr`, `route`, `neigh`, `rule`";
    let missing = |after: &Word<'_>, what: &str| {
        let mistake = Mistake::MissingArgument(after.text.to_string());
        Fault::new(after.at.clone(), mistake).expecting(format!("expected {what}"))
    };
    let mut family = None;
    let mut before = program;
    let mut words = words.iter();
    let object = loop {
        let Some(word) = words.next() else { return Err(missing(before, OBJECTS)) };
        match &*word.text {
            "-4" => family = Some(Family::V4),
            "-6" => family = Some(Family::V6),
            option if option.starts_with('-') => {
                let mistake = Mistake::UnknownOption(option.to_owned());
                return Err(Fault::new(word.at.clone(), mistake).expecting("expected -4 or -6"));
            }
            _ => break word,
        }
        before = word;
    };
    let Some((kind, verbs)) = ip_object(&object.text) else {
        let names = ["tuntap", "link", "addr", "address", "route", "neigh", "neighbour", "rule"];
        let mistake = Mistake::Host(format!("`ip {}` means nothing here", object.text));
        let near = advice(OBJECTS, &object.text, &names);
        return Err(Fault::new(object.at.clone(), mistake).expecting(near));
    };
    let wanted = format!("`{}`", verbs.join("` or `"));
    let Some(verb) = words.next() else { return Err(missing(object, &wanted)) };
    if !verbs.iter().any(|v| v.starts_with(&*verb.text)) || verb.text.is_empty() {
        let mistake =
            Mistake::Host(format!("`ip {} {}` means nothing here", object.text, verb.text));
        let near = advice(&wanted, &verb.text, verbs);
        return Err(Fault::new(verb.at.clone(), mistake).expecting(near));
    }
    Ok(IpLine { family, object: kind, verb: verb.clone(), args: words.cloned().collect() })
}

/// iproute2 takes the first name of its list that begins so; `t`, `tu` and `tun` are its `tunnel`.
fn ip_object(word: &str) -> Option<(Object, &'static [&'static str])> {
    let short = |name: &str| !word.is_empty() && name.starts_with(word);
    Some(match word {
        "tap" | "tunt" | "tunta" | "tuntap" => (Object::Tuntap, &["add"]),
        _ if short("address") => (Object::Address, &["add", "replace", "delete"]),
        _ if short("route") => (Object::Route, &["add", "replace", "delete"]),
        _ if short("neighbor") || short("neighbour") => (Object::Neighbour, &["add", "replace"]),
        _ if short("link") => (Object::Link, &["set", "add"]),
        _ if short("rule") => (Object::Rule, &["add"]),
        _ => return None,
    })
}

fn sysctl<'a>(program: &Word<'a>, words: &[Word<'a>]) -> Result<Vec<(Word<'a>, Word<'a>)>, Fault> {
    let is_option = |word: &&Word<'_>| word.text.starts_with('-');
    let options = words.iter().take_while(is_option).count();
    for option in &words[..options] {
        if !matches!(
            &*option.text,
            "-w" | "--write" | "-q" | "--quiet" | "-qw" | "-wq" | "-e" | "-n"
        ) {
            let mistake = Mistake::UnknownOption(option.text.to_string());
            return Err(Fault::new(option.at.clone(), mistake).expecting("expected -w or -q"));
        }
    }
    let words = &words[options..];
    if words.is_empty() {
        let mistake = Mistake::MissingArgument(program.text.to_string());
        return Err(Fault::new(program.at.clone(), mistake).expecting("expected NAME=VALUE"));
    }
    assignments(words, false)
}

/// `echo 1 > /proc/sys/net/ipv4/ip_forward` is a sysctl by its path.
fn echo<'a>(program: &Word<'a>, words: &[Word<'a>]) -> Result<(Word<'a>, Word<'a>), Fault> {
    let words = match words.split_first() {
        Some((first, rest)) if first.text == "-n" => rest,
        _ => words,
    };
    let expected = "expected VALUE > /proc/sys/net/…, or the setting itself: `net.… = VALUE`";
    let wrong = |word: &Word<'_>, why: String| {
        Fault::new(word.at.clone(), Mistake::Host(why)).expecting(expected)
    };
    let [value, rest @ ..] = words else {
        return Err(wrong(program, "this line lacks a value".to_owned()));
    };
    let path = match rest {
        [sign, path] if matches!(&*sign.text, ">" | ">>") => path.clone(),
        [glued] if glued.text.starts_with('>') => {
            glued.tail(glued.text.len() - glued.text.trim_start_matches('>').len())
        }
        _ => return Err(wrong(rest.first().unwrap_or(value), "this is no such line".to_owned())),
    };
    if path.text.contains("/sysctl.") {
        // What a file of sysctls is to hold is said as well as what a line of this file says.
        let mut pairs = assignments(std::slice::from_ref(value), true)?;
        if let Some((key, value)) = pairs.pop() {
            return Ok((trimmed(key), trimmed(value)));
        }
    }
    if !path.text.starts_with("/proc/sys/") {
        let why = format!("nothing is written to `{}`: lines are read, not executed", path.text);
        return Err(wrong(&path, why));
    }
    Ok((path.tail("/proc/sys/".len()), value.clone()))
}

fn trimmed(mut word: Word<'_>) -> Word<'_> {
    word.text = word.text.trim().to_owned().into();
    word
}

/// `k=v`, `k = v`, `k =v`, `k= v`; a bare line has one, whose value may have several words.
fn assignments<'a>(words: &[Word<'a>], bare: bool) -> Result<Vec<(Word<'a>, Word<'a>)>, Fault> {
    let mut pairs = Vec::new();
    let mut words = words.iter().peekable();
    while let Some(word) = words.next() {
        let missing = || {
            let mistake = Mistake::MissingArgument(word.text.to_string());
            Fault::new(word.at.clone(), mistake).expecting("expected NAME = VALUE")
        };
        let (key, mut value) = match word.text.find('=') {
            Some(sign) => (word.part(0, sign), word.tail(sign + 1)),
            None => {
                let sign = words.next_if(|w| w.text.starts_with('=')).ok_or_else(missing)?;
                (word.clone(), sign.tail(1))
            }
        };
        if value.text.is_empty() {
            value = words.next().ok_or_else(missing)?.clone();
        }
        while let Some(more) = words.next_if(|_| bare) {
            value.text = format!("{} {}", value.text, more.text).into();
            value.at.end = more.at.end;
        }
        pairs.push((key, value));
    }
    Ok(pairs)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn given(text: &str) -> Vec<(Opt, Option<String>)> {
        let words = lines(text).remove(0).expect("is well written");
        let Line::Ipvs(inv) = line(&words).expect("is known") else { panic!("{text}") };
        let all = std::iter::once(inv.command).chain(inv.options);
        all.map(|g| (g.opt, g.value.map(|v| v.text.into_owned()))).collect()
    }

    #[test]
    fn short_options_cluster_and_glue_as_popt_does() {
        let wanted = vec![
            (Opt::AddService, None),
            (Opt::Tcp, Some("10.0.0.1:80".to_owned())),
            (Opt::Scheduler, Some("rr".to_owned())),
            (Opt::Persistent, Some("300".to_owned())),
        ];
        assert_eq!(given("-At 10.0.0.1:80 -srr -p300"), wanted);
        assert_eq!(given("ipvsadm -A -t10.0.0.1:80 --scheduler=rr --persistent 300"), wanted);
        assert_eq!(given("/sbin/ipvsadm -Ap -o")[1], (Opt::Persistent, None));
    }
}
