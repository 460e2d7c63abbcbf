//! What is wrong with a line, where, and what would have been right.
//!
//! A [`Fault`] points into a text by bytes and is made wherever a word is understood; a
//! [`Complaint`] is the same with file, line, column and the line itself, for a person who edits
//! rules. Both carry a typed [`Mistake`], which knows its own sentence.
//!
//! Left out on purpose: colours, and the width of characters that fill two cells.

mod mistake;

use std::fmt;
use std::ops::Range;

pub use mistake::Mistake;

/// Something about a rules file as programs are told it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Remark {
    /// From 1; `None` where it is about the whole file.
    pub line: Option<usize>,
    /// The word in question, if it is about one: its column from 1 and its width, both in characters.
    pub at: Option<(usize, usize)>,
    /// How grave it is.
    pub severity: Severity,
    /// A name that stays.
    pub code: &'static str,
    /// What is wrong.
    pub message: String,
    /// What would be right.
    pub cure: Option<String>,
}

/// How grave something is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Severity {
    /// The rules cannot be run.
    Error,
    /// They can, and something in them will not work.
    Warning,
    /// A line that changes nothing here.
    Note,
}

impl Severity {
    /// Its name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warning => "warning",
            Self::Note => "note",
        }
    }
}

/// Complaints that are told of one text, and differences that are logged of two; of the others, only how
/// many they are.
pub const TOLD_MAX: usize = 50;

/// Columns of a line of the text that are shown around the word in question.
const SHOWN_MAX: usize = 160;

/// Letters of a quoted word that are shown.
const QUOTED_MAX: usize = 60;

/// Bytes of a sentence, whatever it quotes.
const SENTENCE_MAX: usize = 500;

/// Which bytes of a text.
pub type Span = Range<usize>;

/// A mistake at a place of a text that the holder knows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// The word in question.
    pub at: Span,
    /// What is wrong with it.
    pub mistake: Mistake,
    /// What would have been right, as a sentence without its full stop.
    pub expected: Option<String>,
}

impl Fault {
    /// A fault without advice.
    pub const fn new(at: Span, mistake: Mistake) -> Self {
        Self { at, mistake, expected: None }
    }

    /// The same fault with advice.
    #[must_use]
    pub fn expecting(mut self, expected: impl Into<String>) -> Self {
        self.expected = Some(expected.into());
        self
    }
}

/// A fault with its place in a file, ready to be printed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Complaint {
    /// The file as it was named.
    pub file: String,
    /// From 1.
    pub line: usize,
    /// From 1, in characters.
    pub column: usize,
    /// Characters of the word, 1 or more.
    pub width: usize,
    /// The line of the file.
    pub source: String,
    /// What is wrong.
    pub mistake: Mistake,
    /// What would have been right.
    pub expected: Option<String>,
}

impl fmt::Display for Complaint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let file = plain(&self.file);
        writeln!(f, "{file}:{}:{}: {}", self.line, self.column, self.mistake)?;
        let before = self.column.saturating_sub(1);
        let Window { text, indent, width } = window(&self.source, before, self.width);
        write!(f, "{text}\n{indent}^{}", "~".repeat(width.saturating_sub(1)))?;
        match &self.expected {
            Some(expected) => write!(f, "\n{}", plain(expected)),
            None => Ok(()),
        }
    }
}

impl Complaint {
    /// The same for programs.
    pub fn remark(&self) -> Remark {
        Remark {
            line: Some(self.line),
            at: Some((self.column, self.width)),
            severity: Severity::Error,
            code: self.mistake.code(),
            message: self.mistake.to_string(),
            cure: self.expected.as_deref().map(plain),
        }
    }
}

/// The complaints as they are told: the first [`TOLD_MAX`], and how many more there are.
pub fn told(all: &[Complaint]) -> Vec<String> {
    let mut told: Vec<_> = all.iter().take(TOLD_MAX).map(ToString::to_string).collect();
    match all.len().saturating_sub(TOLD_MAX) {
        0 => {}
        1 => told.push("… and one more complaint".to_owned()),
        more => told.push(format!("… and {more} more complaints")),
    }
    told
}

/// A sentence that is safe to show: nothing in it that a terminal obeys, and neither it nor a word
/// between backticks longer than anybody reads.
pub fn plain(sentence: &str) -> String {
    let mut shown = String::new();
    let (mut quoted, mut length) = (false, 0);
    for c in sentence.chars() {
        if shown.len() >= SENTENCE_MAX {
            shown.push('…');
            break;
        }
        (quoted, length) = if c == '`' { (!quoted, 0) } else { (quoted, length + 1) };
        match (quoted, length) {
            (true, QUOTED_MAX) => shown.push('…'),
            (true, QUOTED_MAX..) => {}
            _ if is_obeyed(c) => shown.extend(c.escape_unicode()),
            _ => shown.push(c),
        }
    }
    shown
}

/// Whether a terminal would do something for this letter instead of showing it: controls, and the
/// marks that turn the direction of writing or take no room.
fn is_obeyed(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}')
        || c == '\u{feff}'
}

/// What is shown of a line, and what stands before and under the word in question.
struct Window {
    text: String,
    indent: String,
    width: usize,
}

/// The line around its letter `before`; tabs stay tabs above and below, so that the caret stands
/// under its word in any terminal.
fn window(line: &str, before: usize, width: usize) -> Window {
    const FRONT: usize = SHOWN_MAX / 2;
    let length = line.chars().count();
    let start = match length {
        0..=SHOWN_MAX => 0,
        _ => before.saturating_sub(FRONT).min(length - SHOWN_MAX),
    };
    let shown = |c: char| if is_obeyed(c) && c != '\t' { '\u{fffd}' } else { c };
    let mut text: Vec<char> = line.chars().skip(start).take(SHOWN_MAX).map(shown).collect();
    if start > 0 {
        text[0] = '…';
    }
    if start + text.len() < length {
        text.push('…');
    }
    let before = before - start.min(before);
    let blank = |at: usize| if text.get(at) == Some(&'\t') { '\t' } else { ' ' };
    let indent = (0..before).map(blank).collect();
    let width = width.min(text.len().saturating_sub(before)).max(1);
    Window { text: text.into_iter().collect(), indent, width }
}

/// A text by name, in which bytes become lines and columns.
#[derive(Debug)]
pub struct Source<'a> {
    file: &'a str,
    text: &'a str,
    /// Where each line begins.
    starts: Vec<usize>,
}

impl<'a> Source<'a> {
    /// Looks for the lines of `text`.
    pub fn new(file: &'a str, text: &'a str) -> Self {
        let newlines = text.bytes().enumerate().filter(|&(_, b)| b == b'\n');
        let starts = std::iter::once(0).chain(newlines.map(|(i, _)| i + 1)).collect();
        Self { file, text, starts }
    }

    /// The line, from 1, of a byte.
    pub fn line_of(&self, byte: usize) -> usize {
        self.starts.partition_point(|&start| start <= byte).max(1)
    }

    /// Where `text` begins, if a word at `at` is that text in quotes and nothing more.
    pub(super) fn quoted(&self, at: &Span, text: &str) -> Option<usize> {
        let from = at.start + 1;
        (self.text.get(from..at.end.checked_sub(1)?) == Some(text)).then_some(from)
    }

    /// The fault with file, line and column.
    pub fn complain(&self, fault: Fault) -> Complaint {
        let line = self.line_of(fault.at.start);
        let start = self.starts[line - 1];
        let source = self.text[start..].lines().next().unwrap_or("");
        let chars = |bytes: usize| self.text.get(start..bytes).map_or(0, |s| s.chars().count());
        let before = chars(fault.at.start);
        let end = fault.at.end.min(start + source.len());
        Complaint {
            file: self.file.to_owned(),
            line,
            column: before + 1,
            width: chars(end).saturating_sub(before).max(1),
            source: source.to_owned(),
            mistake: fault.mistake,
            expected: fault.expected,
        }
    }
}

/// `expected WHAT`, and the nearest word among `allowed`.
pub fn advice(what: &str, word: &str, allowed: &[&str]) -> String {
    match nearest(word, allowed) {
        Some(near) => format!("expected {what}; did you mean `{near}`?"),
        None => format!("expected {what}"),
    }
}

/// The word that `word` was probably meant to be: at most two letters away, and not all of them. Small
/// and large letters are the same.
pub fn nearest<'a>(word: &str, allowed: &[&'a str]) -> Option<&'a str> {
    let near = |&candidate: &&'a str| {
        let limit = word.chars().count().max(candidate.chars().count()).min(3);
        Some(distance(word, candidate)).filter(|&d| d < limit).map(|d| (d, candidate))
    };
    allowed.iter().filter_map(near).min_by_key(|&(d, _)| d).map(|(_, candidate)| candidate)
}

/// Letters to be put, taken, changed, or swapped with their neighbour. Long words, which no
/// keyword of ours is, are far from everything.
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    if a.len().abs_diff(b.len()) > 2 {
        return usize::MAX;
    }
    let mut rows = vec![vec![0; b.len() + 1]; a.len() + 1];
    for i in 0..=a.len() {
        for j in 0..=b.len() {
            rows[i][j] = if i == 0 || j == 0 {
                i + j
            } else {
                let same = a[i - 1].eq_ignore_ascii_case(&b[j - 1]);
                let changed = rows[i - 1][j - 1] + usize::from(!same);
                let best = changed.min(rows[i - 1][j] + 1).min(rows[i][j - 1] + 1);
                let swapped = i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1];
                if swapped {
                    best.min(rows[i - 2][j - 2] + 1)
                } else {
                    best
                }
            };
        }
    }
    rows[a.len()][b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_word_is_a_slip_away_and_not_just_any_short_word() {
        assert_eq!(nearest("wcl", &["rr", "wrr", "lc", "wlc"]), Some("wlc"));
        assert_eq!(nearest("zz", &["rr", "lc"]), None);
        assert_eq!(nearest("RR", &["wrr", "rr"]), Some("rr"));
        assert_eq!(nearest("tuntab", &["tuntap", "link"]), Some("tuntap"));
    }

    #[test]
    fn a_long_line_is_cut_around_its_caret_and_a_long_word_at_its_end() {
        let word = "w".repeat(1 << 20);
        for text in [format!("{word} bad"), format!("bad {word}"), format!("{word} bad {word}")] {
            let at = text.find("bad").expect("is there");
            let fault = Fault::new(at..at + 3, Mistake::UnknownCommand(word.clone()));
            let printed = Source::new("f", &text).complain(fault).to_string();
            let lines: Vec<&str> = printed.lines().collect();
            assert!(lines[0].ends_with("wwww…` is no command of a rules file"), "{}", lines[0]);
            assert!(lines.iter().all(|line| line.chars().count() < 170), "{printed}");
            let caret = lines[2].find('^').expect("is there");
            let shown: String = lines[1].chars().skip(caret).take(3).collect();
            assert_eq!(shown, "bad");
            assert!(lines[2].ends_with("^~~"));
        }
    }

    #[test]
    fn what_a_terminal_would_obey_is_spelled_out() {
        let fault = Fault::new(0..4, Mistake::UnknownCommand("\u{1b}[2J\u{202e}\u{9b}".to_owned()));
        let printed = Source::new("f\u{7}", "\u{1b}[2J").complain(fault).to_string();
        assert!(printed.contains("`\\u{1b}[2J\\u{202e}\\u{9b}` is no command"), "{printed}");
        assert!(!printed.contains(|c: char| c.is_control() && c != '\n'), "{printed:?}");
    }

    #[test]
    fn the_caret_stands_under_the_word_even_behind_tabs_and_wide_letters() {
        let text = "ok\n\té bad word";
        let at = text.find("bad").expect("is there");
        let fault = Fault::new(at..at + 3, Mistake::NoCommand).expecting("expected good");
        let complaint = Source::new("f", text).complain(fault);
        assert_eq!((complaint.line, complaint.column, complaint.width), (2, 4, 3));
        let printed = complaint.to_string();
        assert!(printed.ends_with("\n\té bad word\n\t  ^~~\nexpected good"), "{printed}");
    }
}
