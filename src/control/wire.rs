//! What is asked and answered over the control socket, and how it is framed.
//!
//! A frame is its length (four bytes, big-endian) and that many bytes of text. A request is one
//! frame that begins with [`VERSION`]; its answer is one frame, or for a picture any number of
//! [`Answer::More`] and an [`Answer::Done`]. Answers come in the order of the requests, which may be
//! sent without waiting for them. Both ends are the same program, so there is one version, and
//! anything else is refused by name.

use crate::config::{Refusal, ServiceKey};

/// Of this language. Whoever changes a word of it counts this up.
pub const VERSION: u32 = 1;

/// The longest request in bytes.
pub const REQUEST_MAX: usize = 16 << 10;

/// The longest answer in bytes.
pub const ANSWER_MAX: usize = 1 << 20;

/// What can be asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Request {
    /// A line of the rules language that changes something.
    Do(String),
    /// What `-A` (or `-E`) of this service with a scheduler that nobody knows would answer.
    Unknown {
        /// `-E`.
        edit: bool,
        /// The service as a line says it.
        key: String,
    },
    /// `-Z`; of one service as a line says it, or of all.
    Zero(Option<String>),
    /// A picture of the services; of one as a line says it, or of all.
    Services(Option<String>),
    /// A picture of the connections.
    Connections,
    /// Timeouts and daemons.
    Settings,
    /// The counters of the whole.
    Total,
    /// The running state as a rules file.
    Rules,
    /// Read the rules file again.
    Reload,
    /// What became of the frames, and what stands in their way.
    Status {
        /// As JSON.
        json: bool,
    },
}

/// What can be answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// A part of what was asked for, and more follows.
    More(String),
    /// It is done, or this was all.
    Done,
    /// It cannot be done: ipvsadm's words.
    Refused(String),
    /// The question was not understood: why.
    Not(String),
    /// The question is in another version of this language; ours is this.
    Version(u32),
}

/// The words of a service's key.
pub fn key_words(key: &ServiceKey) -> String {
    key.to_string()
}

impl Request {
    /// Its frame.
    pub fn frame(&self) -> Vec<u8> {
        let text = match self {
            Self::Do(line) => format!("{VERSION} do {line}"),
            Self::Unknown { edit: false, key } => format!("{VERSION} unknown-add {key}"),
            Self::Unknown { edit: true, key } => format!("{VERSION} unknown-edit {key}"),
            Self::Zero(None) => format!("{VERSION} zero"),
            Self::Zero(Some(key)) => format!("{VERSION} zero {key}"),
            Self::Services(None) => format!("{VERSION} services"),
            Self::Services(Some(key)) => format!("{VERSION} services {key}"),
            Self::Connections => format!("{VERSION} connections"),
            Self::Settings => format!("{VERSION} settings"),
            Self::Total => format!("{VERSION} total"),
            Self::Rules => format!("{VERSION} rules"),
            Self::Reload => format!("{VERSION} reload"),
            Self::Status { json: false } => format!("{VERSION} status"),
            Self::Status { json: true } => format!("{VERSION} status-json"),
        };
        frame(&text)
    }

    /// Reads the text of a frame.
    ///
    /// # Errors
    /// The answer that such a text gets.
    pub fn parse(text: &str) -> Result<Self, Answer> {
        let (version, text) = text.split_once(' ').unwrap_or((text, ""));
        if version != VERSION.to_string() {
            return Err(Answer::Version(VERSION));
        }
        let (verb, rest) = text.split_once(' ').unwrap_or((text, ""));
        let some = || Some(rest.to_owned()).filter(|rest| !rest.is_empty());
        Ok(match verb {
            "do" => Self::Do(rest.to_owned()),
            "unknown-add" => Self::Unknown { edit: false, key: rest.to_owned() },
            "unknown-edit" => Self::Unknown { edit: true, key: rest.to_owned() },
            "zero" => Self::Zero(some()),
            "services" => Self::Services(some()),
            "connections" => Self::Connections,
            "settings" => Self::Settings,
            "total" => Self::Total,
            "rules" => Self::Rules,
            "reload" => Self::Reload,
            "status" => Self::Status { json: false },
            "status-json" => Self::Status { json: true },
            _ => return Err(Answer::Not(format!("`{verb}` is no request"))),
        })
    }
}

impl Answer {
    /// Its frame.
    pub fn frame(&self) -> Vec<u8> {
        let text = match self {
            Self::More(lines) => format!("more\n{lines}"),
            Self::Done => "done".to_owned(),
            Self::Refused(words) => format!("refused\n{words}"),
            Self::Not(why) => format!("not\n{why}"),
            Self::Version(version) => format!("version\n{version}"),
        };
        frame(&text)
    }

    /// Reads the text of a frame; `None` if it is no answer of any tapvs.
    pub fn parse(text: &str) -> Option<Self> {
        let (tag, rest) = text.split_once('\n').unwrap_or((text, ""));
        Some(match tag {
            "more" => Self::More(rest.to_owned()),
            "done" => Self::Done,
            "refused" => Self::Refused(rest.to_owned()),
            "not" => Self::Not(rest.to_owned()),
            "version" => Self::Version(rest.trim().parse().ok()?),
            _ => return None,
        })
    }

    /// Done, or refused in the kernel's meaning.
    pub fn of(outcome: Result<(), Refusal>) -> Self {
        match outcome {
            Ok(()) => Self::Done,
            Err(refusal) => Self::Refused(refusal.to_string()),
        }
    }
}

/// A text with its length in front.
fn frame(text: &str) -> Vec<u8> {
    let length = u32::try_from(text.len()).expect("texts are made in portions");
    let mut frame = length.to_be_bytes().to_vec();
    frame.extend_from_slice(text.as_bytes());
    frame
}

/// The length that a frame's first bytes tell; `None` if there are not four yet.
pub fn frame_len(bytes: &[u8]) -> Option<usize> {
    let length = bytes.first_chunk::<4>()?;
    usize::try_from(u32::from_be_bytes(*length)).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(frame: &[u8]) -> &str {
        assert_eq!(frame_len(frame), Some(frame.len() - 4));
        std::str::from_utf8(&frame[4..]).expect("text")
    }

    #[test]
    fn requests_and_answers_survive_their_frames() {
        let key = || "-f 5 -6".to_owned();
        for request in [
            Request::Do("-A -t 10.0.0.1:80 -s rr".to_owned()),
            Request::Unknown { edit: true, key: key() },
            Request::Unknown { edit: false, key: key() },
            Request::Zero(None),
            Request::Zero(Some(key())),
            Request::Services(None),
            Request::Services(Some(key())),
            Request::Connections,
            Request::Settings,
            Request::Total,
            Request::Rules,
            Request::Reload,
            Request::Status { json: false },
            Request::Status { json: true },
        ] {
            assert_eq!(Request::parse(text(&request.frame())), Ok(request));
        }
        for answer in [
            Answer::More("a\nb\n".to_owned()),
            Answer::Done,
            Answer::Refused("No such service".to_owned()),
            Answer::Not("why".to_owned()),
            Answer::Version(7),
        ] {
            assert_eq!(Answer::parse(text(&answer.frame())), Some(answer));
        }
    }

    #[test]
    fn another_version_is_refused_by_its_name_and_nonsense_by_its_word() {
        assert_eq!(Request::parse("2 zero"), Err(Answer::Version(VERSION)));
        assert_eq!(Request::parse("GET / HTTP/1.1"), Err(Answer::Version(VERSION)));
        assert_eq!(Request::parse("1 dance"), Err(Answer::Not("`dance` is no request".to_owned())));
        assert_eq!(Answer::parse("HTTP/1.1 400 Bad Request"), None);
    }
}
