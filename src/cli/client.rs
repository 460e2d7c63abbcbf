//! The asking end of the control socket.
//!
//! Requests may be sent without waiting for their answers, which come in the same order. Whatever
//! goes wrong with the other end is a [`Trouble`], which says in one line what and where.

use std::collections::VecDeque;
use std::fmt;
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::control::snapshot::Snapshot;
use crate::control::wire::{frame_len, Answer, Request, ANSWER_MAX, VERSION};

/// How long an answer may be silent.
const PATIENCE: Duration = Duration::from_secs(30);

/// Bytes of requests that are sent in one go; their answers fit into what a socket holds.
const BATCH: usize = 32 << 10;

/// Why the other end could not be asked.
#[derive(Debug)]
pub(super) enum Trouble {
    /// Nobody answers there.
    Nobody(PathBuf),
    /// It is not ours to open.
    Forbidden,
    /// The system's.
    System(PathBuf, io::Error),
    /// It ended in the middle of an answer.
    Ended(PathBuf),
    /// It is silent.
    Silent(PathBuf),
    /// It is no tapvs.
    Foreign(PathBuf),
    /// It is a tapvs that speaks another version of the language.
    Version(PathBuf, u32),
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Nobody(path) => write!(f, "no tapvs is running at {}", path.display()),
            Self::Forbidden => f.write_str("Permission denied (you must be root)"),
            Self::System(path, error) => {
                let error = error.to_string();
                let error = error.split(" (os error").next().unwrap_or_default();
                write!(f, "{}: {error}", path.display())
            }
            Self::Ended(path) => {
                write!(f, "tapvs at {} ended in the middle of its answer", path.display())
            }
            Self::Silent(path) => write!(f, "tapvs at {} does not answer", path.display()),
            Self::Foreign(path) => write!(f, "what answers at {} is no tapvs", path.display()),
            Self::Version(path, theirs) => write!(
                f,
                "tapvs at {} speaks version {theirs} of the control language, this one {VERSION}; \
                 run both from one release",
                path.display()
            ),
        }
    }
}

/// A conversation with a running tapvs.
#[derive(Debug)]
pub(super) struct Link {
    stream: UnixStream,
    path: PathBuf,
    /// Requests that have not been sent yet.
    outbox: Vec<u8>,
    /// Bytes that have come and not been read.
    inbox: VecDeque<u8>,
    /// Answers that are due.
    due: usize,
}

impl Link {
    /// Opens the socket at `path`.
    ///
    /// # Errors
    /// Nobody is there, or it is not ours.
    pub(super) fn open(path: &Path) -> Result<Self, Trouble> {
        let stream = UnixStream::connect(path).and_then(|stream| {
            stream.set_read_timeout(Some(PATIENCE))?;
            stream.set_write_timeout(Some(PATIENCE))?;
            Ok(stream)
        });
        let path = path.to_owned();
        match stream {
            Ok(stream) => {
                let (outbox, inbox) = (Vec::new(), VecDeque::new());
                Ok(Self { stream, path, outbox, inbox, due: 0 })
            }
            Err(e) => Err(match e.kind() {
                ErrorKind::NotFound | ErrorKind::ConnectionRefused => Trouble::Nobody(path),
                ErrorKind::PermissionDenied => Trouble::Forbidden,
                _ => Trouble::System(path, e),
            }),
        }
    }

    /// Asks for a change; what is refused is told by [`settle`](Self::settle).
    ///
    /// # Errors
    /// The other end.
    pub(super) fn tell(
        &mut self,
        request: &Request,
        refused: &mut dyn FnMut(&str),
    ) -> Result<Option<bool>, Trouble> {
        self.outbox.extend(request.frame());
        self.due += 1;
        match self.outbox.len() >= BATCH {
            true => self.settle(refused),
            false => Ok(None),
        }
    }

    /// Sends what was asked for and hears all answers: whether the last was good, if any was due.
    ///
    /// # Errors
    /// The other end.
    pub(super) fn settle(
        &mut self,
        refused: &mut dyn FnMut(&str),
    ) -> Result<Option<bool>, Trouble> {
        self.send()?;
        let mut last = None;
        while self.due > 0 {
            match self.hear()? {
                Answer::More(_) => continue,
                Answer::Done => last = Some(true),
                Answer::Refused(words) | Answer::Not(words) => {
                    refused(&words);
                    last = Some(false);
                }
                Answer::Version(theirs) => {
                    return Err(Trouble::Version(self.path.clone(), theirs));
                }
            }
            self.due -= 1;
        }
        Ok(last)
    }

    /// Asks for text: `Err` within if it is refused.
    ///
    /// # Errors
    /// The other end.
    pub(super) fn text(
        &mut self,
        request: &Request,
        each: &mut dyn FnMut(&str) -> bool,
    ) -> Result<Result<(), String>, Trouble> {
        self.outbox.extend(request.frame());
        self.send()?;
        loop {
            match self.hear()? {
                Answer::More(lines) => {
                    if !lines.lines().all(&mut *each) {
                        return Err(Trouble::Foreign(self.path.clone()));
                    }
                }
                Answer::Done => return Ok(Ok(())),
                Answer::Refused(words) | Answer::Not(words) => return Ok(Err(words)),
                Answer::Version(theirs) => {
                    return Err(Trouble::Version(self.path.clone(), theirs));
                }
            }
        }
    }

    /// Asks for a picture: `Err` within if it is refused.
    ///
    /// # Errors
    /// The other end.
    pub(super) fn picture(
        &mut self,
        request: &Request,
    ) -> Result<Result<Snapshot, String>, Trouble> {
        let mut picture = Snapshot::default();
        let heard = self.text(request, &mut |line| picture.take(line).is_ok())?;
        Ok(heard.map(|()| picture))
    }

    fn send(&mut self) -> Result<(), Trouble> {
        let outbox = std::mem::take(&mut self.outbox);
        self.stream.write_all(&outbox).map_err(|e| self.trouble(e))
    }

    /// The next answer.
    fn hear(&mut self) -> Result<Answer, Trouble> {
        self.fill(4)?;
        let head: Vec<u8> = self.inbox.drain(..4).collect();
        let len = frame_len(&head).filter(|&len| len <= ANSWER_MAX);
        let len = len.ok_or_else(|| Trouble::Foreign(self.path.clone()))?;
        self.fill(len)?;
        let text: Vec<u8> = self.inbox.drain(..len).collect();
        let answer = std::str::from_utf8(&text).ok().and_then(Answer::parse);
        answer.ok_or_else(|| Trouble::Foreign(self.path.clone()))
    }

    /// Waits until `count` bytes have come.
    fn fill(&mut self, count: usize) -> Result<(), Trouble> {
        let mut piece = [0; 64 << 10];
        while self.inbox.len() < count {
            match self.stream.read(&mut piece) {
                Ok(0) => return Err(Trouble::Ended(self.path.clone())),
                Ok(read) => self.inbox.extend(&piece[..read]),
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(e) => return Err(self.trouble(e)),
            }
        }
        Ok(())
    }

    fn trouble(&self, error: io::Error) -> Trouble {
        let path = self.path.clone();
        match error.kind() {
            ErrorKind::WouldBlock | ErrorKind::TimedOut => Trouble::Silent(path),
            ErrorKind::BrokenPipe | ErrorKind::ConnectionReset => Trouble::Ended(path),
            _ => Trouble::System(path, error),
        }
    }
}
