//! Text becomes lines, lines become words, words become a [`Line`]: spelling, not meaning.
//!
//! Kept from the shell: quotes, `#` at the start of a word, `\` at the end of a line. Kept from popt:
//! short options cluster and carry their value glued, long ones take it after `=` or a blank, `-p`
//! has a value only if the next word does not begin with a minus. Kept from iproute2: the
//! abbreviations of objects and verbs.
//!
//! Left out on purpose: variables, globs, `;`, pipes: lines are read and never executed.

use std::borrow::Cow;

use nom::branch::alt;
use nom::bytes::complete::{is_not, tag, take_till, take_while, take_while1};
use nom::character::complete::{char, none_of};
use nom::combinator::{consumed, eof, not, opt, recognize, value};
use nom::multi::{fold_many0, fold_many1, many0, many0_count};
use nom::sequence::{delimited, preceded, terminated};
use nom::{IResult, Parser};

use super::complaint::{advice, Fault, Mistake, Span};
use super::options::{written, Opt, Spelling, Takes, SPELLINGS};
use crate::packet::Family;

/// A word and where it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Word<'a> {
    /// Its letters, quotes taken off.
    pub text: Cow<'a, str>,
    /// Its bytes in the text.
    pub at: Span,
}

impl<'a> Word<'a> {
    /// The bytes of the word from `from`; if the word was quoted, its place is the whole word.
    fn tail(&self, from: usize) -> Self {
        self.part(from, self.text.len())
    }

    /// The bytes `from..to` of the word, which must be at letters' ends.
    fn part(&self, from: usize, to: usize) -> Self {
        match &self.text {
            Cow::Borrowed(text) => Self {
                text: Cow::Borrowed(&text[from..to]),
                at: self.at.start + from..self.at.start + to,
            },
            Cow::Owned(text) => {
                Self { text: Cow::Owned(text[from..to].to_owned()), at: self.at.clone() }
            }
        }
    }

    /// The letters at `at`, if the word holds them.
    pub(super) fn at_span(&self, at: &Span) -> Option<&str> {
        if self.at == *at {
            return Some(&self.text);
        }
        let inside = self.at.start <= at.start && at.end <= self.at.end;
        self.text.get(at.start.wrapping_sub(self.at.start)..).filter(|_| inside)
    }

    /// Words from somewhere else than a file, such as the arguments of a program; each stands where
    /// it would stand if they were joined by blanks.
    pub fn from_args(args: &'a [String]) -> Vec<Self> {
        let mut start = 0;
        let place = |arg: &'a String| {
            let at = start..start + arg.len();
            start = at.end + 1;
            Self { text: Cow::Borrowed(arg.as_str()), at }
        };
        args.iter().map(place).collect()
    }
}

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

/// The logical lines of a text: their words, or why there are none. Empty lines are left out.
pub fn lines(text: &str) -> Vec<Result<Vec<Word<'_>>, Fault>> {
    let mut lines = Vec::new();
    let mut rest = text;
    while !rest.is_empty() {
        let Ok((after, words)) = logical_line(rest) else { break };
        let words: Vec<_> = words.into_iter().map(|(raw, word)| place(text, raw, word)).collect();
        let broken = !after.is_empty() && !after.starts_with('\n');
        if broken {
            lines.push(Err(lexical_fault(text.len() - after.len(), after)));
        } else if !words.is_empty() {
            lines.push(Ok(words));
        }
        rest = after.find('\n').map_or("", |newline| &after[newline + 1..]);
    }
    lines
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
        _ if first.text.starts_with('-') => invocation(first, words).map(Line::Ipvs),
        "ipvsadm" => invocation(first, rest).map(Line::Ipvs),
        "ip" => ip_line(first, rest).map(Line::Ip),
        "sysctl" => sysctl(first, rest).map(Line::Sysctl),
        "ifconfig" | "route" | "modprobe" => {
            Ok(Line::NetTools { program: first.clone(), words: rest.to_vec() })
        }
        "echo" => echo(first, rest).map(|pair| Line::Sysctl(vec![pair])),
        "iptables" => Ok(tables(Family::V4, first, rest)),
        "ip6tables" => Ok(tables(Family::V6, first, rest)),
        "nft" | "iptables-restore" | "ip6tables-restore" => {
            Err(Fault::new(first.at.clone(), Mistake::MarkRule(first.text.to_string())))
        }
        _ if first.text.starts_with("net.") || first.text.starts_with("net/") => {
            assignments(words, true).map(Line::Sysctl)
        }
        _ => {
            let what = "`ipvsadm`, `-A`, `-a`, `ip`, `sysctl`, `iptables` or `net.… = VALUE`";
            let near = advice(what, &first.text, PROGRAMS);
            let mistake = Mistake::UnknownCommand(first.text.to_string());
            Err(Fault::new(first.at.clone(), mistake).expecting(near))
        }
    }
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

/// The words behind the prompt of a shell and `sudo`: `$ `, `># `. (A line that begins with `#` is a
/// comment.)
pub fn without_prompt<'s, 'a>(words: &'s [Word<'a>]) -> &'s [Word<'a>] {
    let prompt = |word: &Word<'_>, all: &[&str]| all.contains(&&*word.text);
    let words = match words.split_first() {
        Some((first, rest)) if prompt(first, &["$", ">#"]) => rest,
        _ => words,
    };
    match words.split_first() {
        Some((first, rest)) if prompt(first, &["sudo"]) => rest,
        _ => words,
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

type Parsed<'a, T> = IResult<&'a str, T>;
type Words<'s, 'a> = std::iter::Peekable<std::slice::Iter<'s, Word<'a>>>;

fn logical_line(input: &str) -> Parsed<'_, Vec<(&str, String)>> {
    let words = many0(terminated(raw_word, gap));
    let comment = opt((char('#'), take_till(|c| c == '\n')));
    delimited(gap, words, comment).parse(input)
}

/// Blanks, and line ends that are joined.
fn gap(input: &str) -> Parsed<'_, ()> {
    value((), many0_count(alt((value((), take_while1(is_blank)), join)))).parse(input)
}

fn join(input: &str) -> Parsed<'_, ()> {
    value((), (char('\\'), take_while(|c| c == '\r'), alt((tag("\n"), eof)))).parse(input)
}

fn raw_word(input: &str) -> Parsed<'_, (&str, String)> {
    let glue = |mut word: String, piece: Cow<'_, str>| {
        word.push_str(&piece);
        word
    };
    preceded(not(char('#')), consumed(fold_many1(piece, String::new, glue))).parse(input)
}

fn piece(input: &str) -> Parsed<'_, Cow<'_, str>> {
    let plain = take_while1(|c: char| !is_blank(c) && !matches!(c, '\n' | '\'' | '"' | '\\'));
    let single = delimited(char('\''), take_till(|c| c == '\'' || c == '\n'), char('\''));
    let escaped = preceded(char('\\'), recognize(none_of(" \t\r\n\u{b}\u{c}\u{feff}")));
    alt((
        plain.map(Cow::Borrowed),
        single.map(Cow::Borrowed),
        double_quoted.map(Cow::Owned),
        join.map(|()| Cow::Borrowed("")),
        escaped.map(Cow::Borrowed),
    ))
    .parse(input)
}

fn double_quoted(input: &str) -> Parsed<'_, String> {
    let escaped = preceded(char('\\'), alt((tag("\""), tag("\\"))));
    let letters = alt((is_not("\"\\\n"), escaped, tag("\\")));
    let glue = |mut word: String, piece: &str| {
        word.push_str(piece);
        word
    };
    delimited(char('"'), fold_many0(letters, String::new, glue), char('"')).parse(input)
}

const fn is_blank(c: char) -> bool {
    matches!(c, ' ' | '\t' | '\r' | '\u{b}' | '\u{c}' | '\u{feff}')
}

/// A word that was written as it reads borrows from the text, so that parts of it have a place.
fn place<'a>(text: &'a str, raw: &'a str, word: String) -> Word<'a> {
    let start = raw.as_ptr() as usize - text.as_ptr() as usize;
    if raw.starts_with(&word) {
        let at = start..start + word.len();
        return Word { text: Cow::Borrowed(&raw[..word.len()]), at };
    }
    Word { text: Cow::Owned(word), at: start..start + raw.len() }
}

fn lexical_fault(start: usize, rest: &str) -> Fault {
    match rest.chars().next() {
        Some(quote @ ('\'' | '"')) => Fault::new(start..start + 1, Mistake::OpenQuote(quote)),
        _ => Fault::new(start..start + 1, Mistake::BlankAfterBackslash)
            .expecting("expected the end of the line right after `\\`"),
    }
}

/// Letters that look like others and were probably pasted from a page.
fn check_letters(word: &Word<'_>) -> Result<(), Fault> {
    const DASHES: &[char] = &[
        '\u{2010}', '\u{2011}', '\u{2012}', '\u{2013}', '\u{2014}', '\u{2015}', '\u{2212}',
        '\u{fe63}', '\u{ff0d}',
    ];
    const BLANKS: &[char] = &['\u{a0}', '\u{2007}', '\u{202f}', '\u{200b}', '\u{3000}'];
    const QUOTES: &[char] = &[
        '\u{2018}', '\u{2019}', '\u{201a}', '\u{201b}', '\u{201c}', '\u{201d}', '\u{201e}',
        '\u{ab}', '\u{bb}',
    ];
    if matches!(word.text, Cow::Owned(_)) {
        return Ok(());
    }
    if let Some((offset, blank)) = word.text.char_indices().find(|(_, c)| BLANKS.contains(c)) {
        let at = word.part(offset, offset + blank.len_utf8()).at;
        return Err(Fault::new(at, Mistake::OddBlank(blank)));
    }
    if let Some((offset, quote)) = word.text.char_indices().find(|(_, c)| QUOTES.contains(c)) {
        let at = word.part(offset, offset + quote.len_utf8()).at;
        return Err(Fault::new(at, Mistake::Host(odd_quote(quote))));
    }
    let name = word.text.trim_start_matches(|c| c == '-' || DASHES.contains(&c));
    let front = &word.text[..word.text.len() - name.len()];
    let Some(dash) = front.chars().find(|c| DASHES.contains(c)) else { return Ok(()) };
    let long = name.split('=').next().unwrap_or("");
    let minus = if SPELLINGS.iter().any(|s| s.long == long) { "--" } else { "-" };
    let write = format!("{minus}{name}");
    Err(Fault::new(word.at.clone(), Mistake::Dash { dash, write }))
}

fn odd_quote(quote: char) -> String {
    let (name, write) = match quote {
        '\u{2018}' => ("a left single quotation mark", "'"),
        '\u{2019}' => ("a right single quotation mark", "'"),
        '\u{201a}' | '\u{201b}' => ("a low or turned single quotation mark", "'"),
        '\u{201c}' => ("a left double quotation mark", "\""),
        '\u{201d}' => ("a right double quotation mark", "\""),
        _ => ("a quotation mark of print", "\""),
    };
    format!("this is {name} (U+{:04X}); write {write}, or nothing", quote as u32)
}

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
        if !matches!(&*option.text, "-w" | "--write" | "-q" | "--quiet" | "-qw" | "-wq") {
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
    if !path.text.starts_with("/proc/sys/") {
        let why = format!("nothing is written to `{}`: lines are read, not executed", path.text);
        return Err(wrong(&path, why));
    }
    Ok((path.tail("/proc/sys/".len()), value.clone()))
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
            value.text = Cow::Owned(format!("{} {}", value.text, more.text));
            value.at.end = more.at.end;
        }
        pairs.push((key, value));
    }
    Ok(pairs)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(text: &str) -> Vec<Vec<String>> {
        let words = |line: Result<Vec<Word<'_>>, Fault>| {
            line.expect("is well written").into_iter().map(|w| w.text.into_owned()).collect()
        };
        lines(text).into_iter().map(words).collect()
    }

    fn given(text: &str) -> Vec<(Opt, Option<String>)> {
        let words = lines(text).remove(0).expect("is well written");
        let Line::Ipvs(inv) = line(&words).expect("is known") else { panic!("{text}") };
        let all = std::iter::once(inv.command).chain(inv.options);
        all.map(|g| (g.opt, g.value.map(|v| v.text.into_owned()))).collect()
    }

    #[test]
    fn comments_quotes_and_joined_lines_are_those_of_a_shell() {
        assert_eq!(
            texts("a b#c # d \\\n\n  # e\n'f g'\"h \\\" #\"i \\\n  j\r\n"),
            [vec!["a", "b#c"], vec!["f gh \" #i", "j"]]
        );
    }

    #[test]
    fn a_word_of_a_joined_line_stands_on_its_own_line() {
        let text = "-A \\\n  -t x";
        let words = lines(text).remove(0).expect("is well written");
        assert_eq!(&text[words[2].at.clone()], "x");
        assert_eq!(words.len(), 3);
    }

    #[test]
    fn an_open_quote_spoils_its_own_line_only() {
        let found = lines("a 'b\nc\n");
        assert_eq!(found[0].as_ref().map_err(|f| f.at.clone()), Err(2..3));
        assert!(found[1].is_ok());
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
