//! What a script says beside its commands: values by name, several commands on a line, and the shell's
//! own sentences.
//!
//! Kept from the shell: `NAME=VALUE` (also behind `export`, `readonly` and their kin), `$NAME` and
//! `${NAME}`, which outside of quotes may become several words or none; `;` and `&&`; that the lines of a
//! here-document for `ipvsadm -R` or for a file of sysctls are lines like others.
//!
//! Of `case $1 in`, as scripts begin that start and stop a director, what stands under `start)` is read.
//!
//! Left out on purpose: whatever would have to be executed to be understood (loops, other branches,
//! functions, arguments, what programs print). Each such sentence is told once, at its beginning, with what to write
//! instead; what stands inside is not looked at.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

use super::aside;
use super::complaint::{nearest, Fault, Mistake, Span};
use super::grammar::{without_prompt, Word};
use super::words::{ASKS, ASKS_QUOTED};

/// A command of a script, values filled in.
pub(super) type Part<'a> = Result<Vec<Word<'a>>, Fault>;

/// What a script has said so far.
#[derive(Debug, Default)]
pub(super) struct Shell {
    values: BTreeMap<String, Value>,
    /// Names whose meaning stood in something that cannot be read.
    lost: BTreeSet<String>,
    /// The words that end what is being passed over, the innermost last.
    open: Vec<&'static str>,
    /// The line that ends a here-document, and whether its lines are looked at.
    here: Option<(String, bool)>,
    /// Bytes of values that were filled in.
    filled: usize,
    /// Where `case $1 in` stands, until its `start)` comes.
    choice: Option<Span>,
    /// What is read now is a branch of such a choice.
    within: bool,
    /// Where such choices were found.
    choices: Vec<Span>,
}

/// Bytes of values in all; a value may hold itself twice, and so on.
const FILLED_MAX: usize = 16 << 20;

/// Names among which the nearest is looked for.
const NAMES_MAX: usize = 1000;

#[derive(Debug)]
struct Value {
    text: String,
    at: Span,
    used: bool,
}

/// Why words have no meaning.
enum Trouble {
    Fault(Fault),
    /// It has been told already.
    Told,
}

impl Shell {
    /// Whether the text is within something that was told and is passed over.
    pub(super) fn skips(&self) -> bool {
        !self.open.is_empty() || matches!(self.here, Some((_, false)))
    }

    /// The commands of a line.
    pub(super) fn parts<'a>(&mut self, words: &[Word<'a>]) -> Vec<Part<'a>> {
        if let Some((end, read)) = &self.here {
            if matches!(words, [word] if word.text == *end) {
                self.here = None;
                return Vec::new();
            }
            if !read {
                return Vec::new();
            }
        }
        let mut words = words;
        if !self.open.is_empty() {
            let branch = start_of_branch(words).filter(|_| self.open == ["esac"]);
            match (&self.choice, branch) {
                (Some(_), Some(branch)) => {
                    (self.choice, self.within) = (None, true);
                    self.open.clear();
                    words = branch;
                }
                _ => {
                    self.pass_over(words);
                    let ended = self.choice.take_if(|_| self.open.is_empty());
                    return ended.map(no_branch).map(Err).into_iter().collect();
                }
            }
        }
        if self.within {
            let ends = |word: &Word<'_>| word.is_operator() && word.text == ";;";
            let end = words.iter().position(ends);
            if end.is_some() || words.first().is_some_and(|word| word.text == "esac") {
                self.within = false;
                let (head, tail) = words.split_at(end.unwrap_or(0));
                let parts = self.commands(head);
                self.open.push("esac");
                self.pass_over(tail);
                return parts;
            }
        }
        self.commands(words)
    }

    /// What is left open that nothing has been said about.
    pub(super) fn unfinished(&mut self) -> Option<Fault> {
        self.choice.take().map(no_branch)
    }

    /// Where a choice is of which one branch was read.
    pub(super) fn choices(&self) -> &[Span] {
        &self.choices
    }

    fn commands<'a>(&mut self, words: &[Word<'a>]) -> Vec<Part<'a>> {
        let words = without_prompt(words);
        // As in sysctl.conf(5); a line of a shell cannot begin so.
        if words.first().is_some_and(|word| word.is_operator() && word.text == ";") {
            return Vec::new();
        }
        if let Some(exit) = guard(words) {
            return vec![Ok(exit.to_vec())];
        }
        if let Some(at) = choice_by_argument(words) {
            self.choices.push(at.clone());
            self.choice = Some(at);
            self.open.push("esac");
            return Vec::new();
        }
        if let Some((at, why, write)) = sentence(words) {
            self.pass_over(words);
            let why = Mistake::Host(format!("{why} is not read: lines are read, never executed"));
            return vec![Err(Fault::new(at, why).expecting(write))];
        }
        let mut parts = Vec::new();
        for part in words.split(|word| word.is_operator() && ends_command(&word.text)) {
            match self.part(part) {
                Ok(part) if part.is_empty() => {}
                Ok(part) => parts.push(Ok(part)),
                Err(Trouble::Told) => break,
                Err(Trouble::Fault(fault)) => {
                    parts.push(Err(fault));
                    break;
                }
            }
        }
        parts
    }

    /// Where a value was given that nobody asked for.
    pub(super) fn unused(&self) -> impl Iterator<Item = (&str, &Span)> {
        let unused = self.values.iter().filter(|(_, value)| !value.used);
        unused.map(|(name, value)| (name.as_str(), &value.at))
    }

    /// A command with its values, without what goes nowhere; nothing, if it only gives values.
    fn part<'a>(&mut self, words: &[Word<'a>]) -> Result<Vec<Word<'a>>, Trouble> {
        let gives = words.first().is_some_and(|word| GIVERS.contains(&&*word.text));
        let mut words = &words[usize::from(gives)..];
        while let Some((word, rest)) = words.split_first() {
            let taken = match assignment(word) {
                Some(name) => self.assign(name, word, rest)?,
                None if gives => 0,
                None => break,
            };
            words = &rest[taken..];
        }
        if words.first().is_some_and(|word| self.lost.contains(&*word.text)) {
            return Err(Trouble::Told);
        }
        let mut out = Vec::new();
        for word in words {
            if let Err(trouble) = self.fill_in(word, &mut out) {
                // What says nothing here says it with any value.
                let passed_over = aside::why(without_prompt(words)).is_some();
                return if passed_over { Ok(words.to_vec()) } else { Err(trouble) };
            }
        }
        self.here_document(without_null(out))
    }

    /// Gives how many of the words behind it belong to the value.
    fn assign(&mut self, name: &str, word: &Word<'_>, rest: &[Word<'_>]) -> Result<usize, Trouble> {
        let from = name.len() + 1;
        if name == "PATH" {
            // Where programs are found says nothing here, and what it was is not known.
            return Ok(0);
        }
        if word.text[from..].starts_with('(') {
            self.lost.insert(name.to_owned());
            let closed = rest.iter().chain([word]).any(|word| word.text.ends_with(')'));
            if !closed {
                self.open.push(")");
            }
            let fault = Fault::new(
                word.at.clone(),
                Mistake::Host("a list of values is not read".to_owned()),
            );
            return Err(Trouble::Fault(
                fault.expecting("expected a name for each value, as in `RIP1=10.0.0.2`"),
            ));
        }
        let (text, at) = (&word.text[from..], word.at.clone());
        let place = place_of_program(text, rest);
        let taken = place.as_ref().map_or(0, |(_, taken)| *taken);
        let value = match place {
            Some((program, _)) => Ok(program),
            None => self.value(text, &at),
        };
        match value {
            Ok(text) => {
                self.lost.remove(name);
                let used = self.values.get(name).is_some_and(|old| old.used);
                self.values.insert(name.to_owned(), Value { text, at, used });
                Ok(taken)
            }
            Err(trouble) => {
                self.values.remove(name);
                self.lost.insert(name.to_owned());
                Err(trouble)
            }
        }
    }

    /// The text with its values, as one word.
    fn value(&mut self, text: &str, at: &Span) -> Result<String, Trouble> {
        let mut out = String::new();
        let mut rest = text;
        while let Some(asks) = rest.find([ASKS, ASKS_QUOTED]) {
            out.push_str(&rest[..asks]);
            let (value, after) = self.asked(&rest[asks + ASKS.len_utf8()..], at)?;
            out.push_str(&value);
            rest = after;
        }
        out.push_str(rest);
        Ok(out)
    }

    /// The words that a word becomes by its values.
    fn fill_in<'a>(&mut self, word: &Word<'a>, out: &mut Vec<Word<'a>>) -> Result<(), Trouble> {
        if !word.text.contains([ASKS, ASKS_QUOTED]) {
            out.push(word.clone());
            return Ok(());
        }
        let made = |text: String| Word { text: Cow::Owned(text), at: word.at.clone() };
        let (mut now, mut exists) = (String::new(), false);
        let mut rest = &*word.text;
        while let Some(asks) = rest.find([ASKS, ASKS_QUOTED]) {
            now.push_str(&rest[..asks]);
            exists |= asks > 0;
            let quoted = rest[asks..].starts_with(ASKS_QUOTED);
            let (value, after) = self.asked(&rest[asks + ASKS.len_utf8()..], &word.at)?;
            rest = after;
            if quoted {
                now.push_str(&value);
                exists = true;
                continue;
            }
            let blank = |c: char| matches!(c, ' ' | '\t');
            for (i, piece) in value.split(blank).enumerate() {
                if i > 0 && exists {
                    out.push(made(std::mem::take(&mut now)));
                    exists = false;
                }
                now.push_str(piece);
                exists |= !piece.is_empty();
            }
        }
        now.push_str(rest);
        if exists || !rest.is_empty() {
            out.push(made(now));
        }
        Ok(())
    }

    /// The value that is asked for behind a `$`, and what follows.
    fn asked<'t>(&mut self, text: &'t str, at: &Span) -> Result<(String, &'t str), Trouble> {
        let no = |why: &str, write: &str| {
            Err(Trouble::Fault(
                Fault::new(at.clone(), Mistake::Host(why.to_owned())).expecting(write),
            ))
        };
        let in_braces = text.strip_prefix('{');
        let inner = in_braces.unwrap_or(text);
        let name = &inner[..name_length(inner)];
        let rest = &inner[name.len()..];
        let rest = match (in_braces, rest.strip_prefix('}')) {
            (None, _) if text.starts_with(['(', '`']) => {
                return no(
                    "what another program prints is not read",
                    "expected the value itself: lines are read, never executed",
                )
            }
            (None, _) if name.is_empty() => {
                return no(
                    "the arguments of a script are not known",
                    "expected the value itself, or the name of one given above",
                )
            }
            (None, _) => rest,
            (Some(_), Some(rest)) if !name.is_empty() => rest,
            (Some(_), _) => {
                return no(
                    "a value is not worked on between `${` and `}`",
                    "expected `${NAME}`, or the value itself",
                )
            }
        };
        if let Some(value) = self.values.get_mut(name) {
            value.used = true;
            self.filled += value.text.len();
            if self.filled > FILLED_MAX {
                return no("too much is filled in", "expected 16 MiB of values at most");
            }
            return Ok((value.text.clone(), rest));
        }
        if self.lost.contains(name) {
            return Err(Trouble::Told);
        }
        let names: Vec<&str> = self.values.keys().take(NAMES_MAX).map(String::as_str).collect();
        let near = nearest(name, &names).map(|near| format!("; did you mean `${near}`?"));
        let why = format!("`${name}` has no value");
        let write = format!("expected `{name}=VALUE` above{}", near.unwrap_or_default());
        no(&why, &write)
    }

    /// Looks for the end of what is passed over; what it would have made is lost.
    fn pass_over(&mut self, words: &[Word<'_>]) {
        let mut begins = true;
        let mut before = "";
        for (i, word) in words.iter().enumerate() {
            let text = &*word.text;
            let last = i + 1 == words.len();
            let ends_list = self.open.last() == Some(&")") && text.ends_with(')');
            if ends_list || self.open.last() == Some(&text) && (begins || text == "COMMIT") {
                self.open.pop();
            } else if let Some((end, _, _)) = opens(text, begins, last && i > 0) {
                // The brace of a function is where its header has said that it would be.
                if !(text == "{" && before.ends_with("()")) {
                    self.open.push(end);
                }
            } else if let Some(name) = assignment(word) {
                self.lost.insert(name.to_owned());
            }
            if let Some(name) = text.strip_suffix("()").or((before == "function").then_some(text)) {
                self.lost.insert(name.to_owned());
            }
            begins = word.is_operator() || BEGINS.contains(&text) || text.ends_with(')');
            before = text;
        }
    }

    /// `<<END`: its lines are read where they go to something that reads rules.
    fn here_document<'a>(&mut self, words: Vec<Word<'a>>) -> Result<Vec<Word<'a>>, Trouble> {
        let here = |word: &Word<'_>| word.text.starts_with("<<") && !word.text.starts_with("<<<");
        let Some(at) = words.iter().position(here) else { return Ok(words) };
        let glued = words[at].text.trim_start_matches('<').trim_start_matches('-');
        let end = match (glued, words.get(at + 1)) {
            ("", Some(next)) => next.text.to_string(),
            (glued, _) => glued.to_owned(),
        };
        let has = |wanted: &str| words.iter().any(|word| word.text.ends_with(wanted));
        let sysctls = words.iter().any(|word| word.text.contains("/sysctl."));
        let restores = has("ipvsadm-restore");
        let read = restores || sysctls || has("ipvsadm") && (has("-R") || has("--restore"));
        self.here = Some((end, read));
        if read {
            // `ipvsadm-restore` begins with an empty table.
            let clear = Word { text: Cow::Borrowed("-C"), at: words[0].at.clone() };
            return Ok(if restores { vec![clear] } else { Vec::new() });
        }
        let why = "what goes to another program by `<<` is not read".to_owned();
        Err(Trouble::Fault(
            Fault::new(words[at].at.clone(), Mistake::Host(why))
                .expecting("expected its lines themselves, if they are rules"),
        ))
    }
}

/// Words behind which a name gets its value.
const GIVERS: &[&str] = &["export", "readonly", "declare", "typeset", "local"];

/// Words of the shell behind which a command begins.
const BEGINS: &[&str] = &["do", "then", "else", "elif", "{", "(", "!"];

const CHOICE: &str = "a choice";
const ONE_BRANCH: &str = "expected the lines of one branch alone, such as those of `start)`";

/// `case "$1" in`, as scripts begin that start and stop something.
fn choice_by_argument(words: &[Word<'_>]) -> Option<Span> {
    let [case, argument, within] = words else { return None };
    let asks = argument.text.strip_prefix([ASKS, ASKS_QUOTED])?;
    let fits = case.text == "case" && matches!(asks, "1" | "{1}") && within.text == "in";
    fits.then(|| case.at.clone())
}

/// What follows `start)` or `start|restart)`, if the words begin so.
fn start_of_branch<'s, 'a>(words: &'s [Word<'a>]) -> Option<&'s [Word<'a>]> {
    let end = words.iter().position(|word| word.text.ends_with(')'))?;
    let (pattern, rest) = words.split_at(end + 1);
    pattern.iter().any(|word| word.text.trim_matches(['(', ')']) == "start").then_some(rest)
}

/// A choice that says nothing about a start.
fn no_branch(at: Span) -> Fault {
    let why = format!("{CHOICE} without `start)` is not read: lines are read, never executed");
    Fault::new(at, Mistake::Host(why)).expecting(ONE_BRANCH)
}

/// `[ … ] || exit`: what follows is read as where it goes on. Gives the `exit`.
fn guard<'s, 'a>(words: &'s [Word<'a>]) -> Option<&'s [Word<'a>]> {
    let test = words.first()?;
    let or = words.iter().position(Word::is_operator)?;
    let exit = &words[or + 1..];
    let fits = matches!(&*test.text, "[" | "[[" | "test")
        && words[or].text == "||"
        && exit.len() <= 2
        && exit.first().is_some_and(|word| word.text == "exit");
    fits.then_some(exit)
}

/// What the shell would execute and not read: its end, what it is, and what to write instead.
type Opening = (&'static str, &'static str, &'static str);

fn opens(text: &str, begins: bool, ends_line: bool) -> Option<Opening> {
    const LOOP: &str =
        "expected a line for each turn; with `echo` before its commands the loop prints them";
    const BRANCH: &str = "expected the lines that are meant, alone";
    Some(match text {
        "{" if begins => ("}", "a group of commands", BRANCH),
        "{" if ends_line => (
            "}",
            "what stands in braces",
            "expected lines of `ipvsadm`; `ipvsadm-save -n` prints what a director has",
        ),
        _ if !begins => return None,
        "for" | "while" | "until" | "select" => ("done", "a loop", LOOP),
        "if" => ("fi", "a condition", BRANCH),
        "case" => ("esac", CHOICE, ONE_BRANCH),
        "function" => ("}", "a function", "expected its lines where it is called"),
        _ if text.len() > 2 && text.ends_with("()") => {
            ("}", "a function", "expected its lines where it is called")
        }
        _ if text.starts_with('*')
            && text.len() > 1
            && text[1..].bytes().all(|b| b.is_ascii_lowercase()) =>
        {
            (
                "COMMIT",
                "what `iptables-save` prints",
                "expected `iptables -t mangle` before each `-A PREROUTING`, and those lines alone",
            )
        }
        _ => return None,
    })
}

/// The first sentence of the shell on a line: its place, what it is, and what to write.
fn sentence(words: &[Word<'_>]) -> Option<(Span, &'static str, &'static str)> {
    let mut begins = true;
    for (i, word) in words.iter().enumerate() {
        if let Some((_, what, write)) = opens(&word.text, begins, i > 0 && i + 1 == words.len()) {
            return Some((word.at.clone(), what, write));
        }
        if begins
            && (matches!(&*word.text, "[" | "[[" | "test" | "!") || word.text.starts_with('('))
        {
            let write = "expected the lines that are meant, alone";
            return Some((word.at.clone(), "what depends on something", write));
        }
        begins = word.is_operator();
    }
    None
}

/// `$(which PROGRAM)`, `$(command -v PROGRAM)`, also between backticks: the program, wherever it is, and
/// how many words behind the first belong to it.
fn place_of_program(text: &str, rest: &[Word<'_>]) -> Option<(String, usize)> {
    const WORDS_MAX: usize = 2;
    let inner = text.strip_prefix([ASKS, ASKS_QUOTED])?.strip_prefix(['(', '`'])?;
    let closes = |text: &str| text.ends_with([')', '`']);
    let taken = match closes(inner) {
        true => 0,
        false => rest.iter().take(WORDS_MAX).position(|word| closes(&word.text))? + 1,
    };
    let all = std::iter::once(inner).chain(rest[..taken].iter().map(|word| &*word.text));
    let marks = [')', '`', ASKS, ASKS_QUOTED];
    let words: Vec<&str> =
        all.flat_map(str::split_whitespace).map(|word| word.trim_end_matches(marks)).collect();
    match words[..] {
        ["which", program] | ["command", "-v", program] | ["type", "-p" | "-P", program] => {
            Some((program.to_owned(), taken))
        }
        _ => None,
    }
}

/// Whether the operator ends a command whose outcome decides nothing that could be read.
fn ends_command(operator: &str) -> bool {
    matches!(operator, ";" | "&&" | ";;" | "&")
}

fn name_length(text: &str) -> usize {
    let name = |c: char| c.is_ascii_alphanumeric() || c == '_';
    if text.starts_with(|c: char| c.is_ascii_digit()) {
        return 0;
    }
    text.find(|c| !name(c)).unwrap_or(text.len())
}

/// The name that a word gives a value to.
fn assignment<'w>(word: &'w Word<'_>) -> Option<&'w str> {
    let length = name_length(&word.text);
    (length > 0 && word.text[length..].starts_with('=')).then(|| &word.text[..length])
}

/// The words without what sends output nowhere.
fn without_null(words: Vec<Word<'_>>) -> Vec<Word<'_>> {
    let mut out: Vec<Word<'_>> = Vec::with_capacity(words.len());
    let mut words = words.into_iter().peekable();
    while let Some(word) = words.next() {
        let target = word.text.trim_start_matches(|c: char| c.is_ascii_digit() || c == '&');
        let target = target.strip_prefix('>').map(|target| target.trim_start_matches('>'));
        match target {
            Some("/dev/null" | "&1" | "&2") => {}
            Some("") if words.next_if(|next| next.text == "/dev/null").is_some() => {}
            _ => out.push(word),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::super::rules::{load, read};

    const PORT: &str = "ip tuntap add dev eth0 mode tap\nip addr add 10.0.0.1/24 dev eth0\n";

    fn told(text: &str) -> Vec<String> {
        let all = load("r", &format!("{PORT}{text}")).expect_err(text);
        all.iter().map(|c| format!("{}:{}: {}", c.line - 2, c.column, c.mistake)).collect()
    }

    fn same(text: &str, wanted: &str) {
        let config = |text: &str| {
            load("r", &format!("{PORT}{text}")).unwrap_or_else(|all| panic!("{text}: {}", all[0]))
        };
        assert_eq!(config(text), config(wanted), "{text}");
    }

    #[test]
    fn values_are_filled_in_as_a_shell_does() {
        same(
            "ipv=/sbin/ipvsadm; VIP='10.0.0.9'\nexport RIP=10.0.0.2 OPTS=\"-g -w 3\" NONE=\n\
             SERVICE=\"-t ${VIP}:80\" # the service\n$ipv -A $SERVICE -s rr $NONE\n\
             $ipv -a $SERVICE -r \"$RIP\":80 $OPTS\nVIP=10.0.0.8\n$ipv -A -t \"$VIP:443\" && $ipv -Ln",
            "-A -t 10.0.0.9:80 -s rr\n-a -t 10.0.0.9:80 -r 10.0.0.2 -g -w 3\n-A -t 10.0.0.8:443",
        );
    }

    #[test]
    fn a_value_that_is_not_there_is_told_where_it_is_asked_for() {
        assert_eq!(told("VIP=10.0.0.9\n-A -t $VIPP:80\n-A -t '$VIP:80'").len(), 2);
        assert_eq!(told("-A -t $VIP:80"), ["1:7: `$VIP` has no value"]);
        assert_eq!(told("-A -t $1:80"), ["1:7: the arguments of a script are not known"]);
        assert_eq!(told("-A -t ${V:-10.0.0.9}:80").len(), 1);
        let from_program =
            "VIP=$(hostname -I | cut -d' ' -f1)\n-A -t $VIP:80\n-a -t $VIP:80 -r 10.0.0.2";
        assert_eq!(told(from_program), ["1:1: what another program prints is not read"]);
        assert_eq!(told("VIP=`hostname`\n-A -t $VIP:80").len(), 1);
        assert_eq!(told("RS=(\n10.0.0.2\n10.0.0.3\n)\n-A -t ${RS}:80").len(), 1);
    }

    #[test]
    fn a_value_that_doubles_itself_is_stopped() {
        let text = format!("A=0123456789\n{}-A -f $A\n", "A=$A$A\n".repeat(64));
        let all = told(&text);
        assert_eq!(all, ["21:1: too much is filled in"]);
    }

    #[test]
    fn what_would_have_to_be_executed_is_told_once() {
        for (text, place) in [
            ("for i in 1 2; do\n for j in 1; do\n -x\n done\nV=1\ndone\n-A -f $V", "1:1: a loop"),
            ("-A -f 1; while read x; do bad; done < f", "1:10: a loop"),
            ("case \"$1\" in\nstop)\n bad 'x\n;;\n*)\nexit 1\nesac", "1:1: a choice without"),
            ("case $2 in\nstart)\n bad 'x\n;;\n*)\nexit 1\nesac", "1:1: a choice"),
            ("[ -x f ] || exit 1; bad", "1:1: what depends"),
            ("if [ -x f ]; then\n bad\nelse\n bad\nfi", "1:1: a condition"),
            ("[ -x f ] && bad", "1:1: what depends"),
            ("start() {\n bad\n}\nstart", "1:1: a function"),
            ("function stop\n{\n bad\n}", "1:1: a function"),
            (
                "virtual_server 10.0.0.1 80 {\n lb_algo rr\n real_server 10.0.0.2 80 {\n }\n}",
                "1:28",
            ),
            (
                "*mangle\n:PREROUTING ACCEPT [0:0]\n-A PREROUTING -j ACCEPT\nCOMMIT",
                "1:1: what `ipt",
            ),
            ("cat > /etc/keepalived.conf <<END\nbad 'x\nEND", "1:28: what goes"),
            ("lsmod | grep ip_vs || {\nbad\n}", "1:23: a group"),
        ] {
            let all = told(&format!("{text}\n-A -f 9\n"));
            assert_eq!(all.len(), 1, "{text}: {all:?}");
            assert!(all[0].starts_with(place), "{text}: {all:?}");
        }
    }

    #[test]
    fn a_here_document_for_something_that_reads_rules_is_read() {
        same("ipvsadm -R <<EOF\n-A -f 1\nEOF\n-A -f 2", "-A -f 1\n-A -f 2");
        same("-A -f 1\nipvsadm-restore << 'EOF'\n-A -f 2\nEOF", "-A -f 2");
        same(
            "cat >> /etc/sysctl.conf <<-END\nnet.ipv4.vs.conn_reuse_mode = 0\nEND\nsysctl -p",
            "net.ipv4.vs.conn_reuse_mode = 0",
        );
    }

    #[test]
    fn of_a_choice_by_the_scripts_argument_its_start_is_read() {
        same(
            "VIP=10.0.0.9\ncase \"$1\" in\n  stop)\n case $2 in a) bad;; esac\n-C\n ;;\n  start|restart)\n\
             /sbin/ipvsadm -A -t $VIP:80\nipvsadm -A -f 1 ;;\n*)\nbad 'x\nexit 1\nesac\n-A -f 2",
            "-A -t 10.0.0.9:80\n-A -f 1\n-A -f 2",
        );
        same("case ${1} in\n'start') -A -f 1\nesac\n-A -f 2", "-A -f 1\n-A -f 2");
        assert_eq!(told("case $1 in\nstop)\n-C").len(), 1);
        let found = read("r", "-A -f 1\ncase $1 in\nstart)\n-A -f 2\nesac\n").expect("is right");
        assert_eq!(found.asides[0].line, 2);
    }

    #[test]
    fn what_a_script_says_of_itself_is_passed_over() {
        same(
            "[ -x /sbin/ipvsadm ] || exit 0\ntest -f x || exit\nexport PATH=/sbin:$PATH\n\
             . /etc/init.d/functions\nIPVS=`which ipvsadm`\nLVS=\"$(command -v ipvsadm)\"\nCTL=$(which sysctl) X=-q\n\
             $IPVS -A -f 1\n\"$LVS\" -A -f 2; $CTL $X net.ipv4.vs.sloppy_tcp=1\nsudo sh -c 'ipvsadm -A -f 3; ipvsadm -A -f 4'\n\
             sudo -u root -n ipvsadm -C; ipvsadm -A -f 1; ipvsadm -A -f 2; sudo -i ipvsadm -A -f 3; -A -f 4\n\
             bash -c \"echo 0 > /proc/sys/net/ipv4/ip_forward\"",
            "-A -f 1\n-A -f 2\n-A -f 3\n-A -f 4\nnet.ipv4.ip_forward=0\nnet.ipv4.vs.sloppy_tcp=1",
        );
        assert_eq!(told("sh -c '-A -f 1; -A -f x'"), ["1:23: illegal firewall mark `x`"]);
    }

    #[test]
    fn a_value_that_nobody_asks_for_is_mentioned() {
        let found = read("r", "DEVICE=eth0:0\nIPADDR=10.0.0.9\n-A -f 1\n").expect("is right");
        let lines: Vec<_> = found.asides.iter().map(|aside| aside.line).collect();
        assert_eq!(lines, [1, 2]);
        assert!(found.asides[0].text.contains("`DEVICE`"), "{}", found.asides[0].text);
    }
}
