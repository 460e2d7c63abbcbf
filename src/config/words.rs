//! Text becomes lines, and lines become [`Word`]s with their places.
//!
//! Kept from the shell: quotes, `#` at the start of a word, `\` at the end of a line, and which `$` asks
//! for a value and which `;` divides commands; what becomes of those is `shell`'s.
//!
//! Left out on purpose: globs: lines are read and never executed.

use std::borrow::Cow;

use nom::branch::alt;
use nom::bytes::complete::{is_not, tag, take_till, take_while, take_while1};
use nom::character::complete::{char, none_of};
use nom::combinator::{consumed, eof, fail, not, opt, recognize, value};
use nom::multi::{fold_many0, fold_many1, many0, many0_count};
use nom::sequence::{delimited, preceded, terminated};
use nom::{IResult, Parser};

use super::complaint::{Fault, Mistake, Span};
use super::options::SPELLINGS;

/// Stands in a word for a `$` or a backtick outside of quotes that asks for a value.
pub(super) const ASKS: char = '\u{e000}';

/// The same within double quotes, where a value stays one word.
pub(super) const ASKS_QUOTED: char = '\u{e001}';

/// What divides commands.
const OPERATORS: [&str; 6] = ["&&", "||", ";;", ";", "|", "&"];

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
    pub(super) fn tail(&self, from: usize) -> Self {
        self.part(from, self.text.len())
    }

    /// The bytes `from..to` of the word, which must be at letters' ends.
    pub(super) fn part(&self, from: usize, to: usize) -> Self {
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

    /// Whether it divides commands; in quotes it would not.
    pub(super) fn is_operator(&self) -> bool {
        matches!(self.text, Cow::Borrowed(text) if OPERATORS.contains(&text))
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

/// Letters that look like others and were probably pasted from a page.
pub(super) fn check_letters(word: &Word<'_>) -> Result<(), Fault> {
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

type Parsed<'a, T> = IResult<&'a str, T>;

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
    let word = consumed(fold_many1(piece, String::new, glue));
    let divides = consumed(operator.map(str::to_owned));
    preceded(not(char('#')), alt((divides, word))).parse(input)
}

fn operator(input: &str) -> Parsed<'_, &str> {
    let found = OPERATORS.into_iter().find(|operator| input.starts_with(operator));
    match found.filter(|_| !input.starts_with("&>")) {
        Some(operator) => tag(operator).parse(input),
        None => fail().parse(input),
    }
}

/// Letters that mean themselves; the `&` of `2>&1` and `&>` divides nothing.
fn plain(input: &str) -> Parsed<'_, &str> {
    let mut before = ' ';
    let ends = |(at, c): (usize, char)| {
        let redirects = c == '&' && (before == '>' || input[at + 1..].starts_with('>'));
        before = c;
        let ends =
            is_blank(c) || matches!(c, '\n' | '\'' | '"' | '\\' | '$' | '`' | ';' | '|' | '&');
        (ends && !redirects).then_some(at)
    };
    let end = input.char_indices().find_map(ends).unwrap_or(input.len());
    match end {
        0 => fail().parse(input),
        end => Ok((&input[end..], &input[..end])),
    }
}

/// A `$` or a backtick: `mark` stands for a `$` that asks for a value.
fn dollar<'a>(input: &'a str, mark: &'static str) -> Parsed<'a, &'a str> {
    if let Some(rest) = input.strip_prefix('`') {
        return Ok((rest, "\u{e000}`"));
    }
    let (rest, sign) = tag("$").parse(input)?;
    let asks = |c: char| c.is_ascii_alphanumeric() || "_{(@*#?!$-".contains(c);
    Ok((rest, if rest.starts_with(asks) { mark } else { sign }))
}

fn piece(input: &str) -> Parsed<'_, Cow<'_, str>> {
    let single = delimited(char('\''), take_till(|c| c == '\'' || c == '\n'), char('\''));
    let escaped = preceded(char('\\'), recognize(none_of(" \t\r\n\u{b}\u{c}\u{feff}")));
    alt((
        plain.map(Cow::Borrowed),
        single.map(Cow::Borrowed),
        double_quoted.map(Cow::Owned),
        join.map(|()| Cow::Borrowed("")),
        escaped.map(Cow::Borrowed),
        (|input| dollar(input, "\u{e000}")).map(Cow::Borrowed),
    ))
    .parse(input)
}

fn double_quoted(input: &str) -> Parsed<'_, String> {
    let escaped = preceded(char('\\'), alt((tag("\""), tag("\\"), tag("$"), tag("`"))));
    let asks = |input| dollar(input, "\u{e001}");
    let letters = alt((is_not("\"\\\n$`"), escaped, tag("\\"), asks));
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
        Some(quote @ ('\'' | '"')) => Fault::new(start..start + 1, Mistake::OpenQuote(quote))
            .expecting("expected its end on this line; a text of several lines is not read"),
        _ => Fault::new(start..start + 1, Mistake::BlankAfterBackslash)
            .expecting("expected the end of the line right after `\\`"),
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(text: &str) -> Vec<Vec<String>> {
        let words = |line: Result<Vec<Word<'_>>, Fault>| {
            line.expect("is well written").into_iter().map(|w| w.text.into_owned()).collect()
        };
        lines(text).into_iter().map(words).collect()
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
}
