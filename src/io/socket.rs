//! The serving end of the control socket: a Unix socket of mode 0600, many clients, none of which can
//! hold up another or a packet.
//!
//! Nothing here waits. A client that does not read its answers is not asked for more, and is dropped
//! when it has taken nothing for [`STALL`]; when there are [`CLIENTS_MAX`], the one that has been
//! silent longest gives way. A socket file that nobody answers at is replaced; one that somebody
//! answers at is left alone, and ends us if that one does not end soon: whoever asks at the place would
//! ask the other one.

use std::fs;
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use log::{debug, warn};
use mio::net::{UnixListener, UnixStream};
use mio::{Interest, Registry, Token};

use super::desk::{ask, go_on, Dump, Host, Portion};
use super::{patiently, Fault, PATIENCE};
use crate::control::wire::{frame_len, Answer, Request, REQUEST_MAX};
use crate::world::Instant;

/// Clients at a time.
pub(super) const CLIENTS_MAX: usize = 32;

/// How long a client may leave an answer untaken.
pub(super) const STALL: Duration = Duration::from_secs(10);

/// Bytes of answers that wait for a client; beyond, it gets no more answers until it reads.
const WAITING_MAX: usize = 256 << 10;

/// Requests for one client before it is the next one's turn; a portion of a picture is a turn by itself.
const TURN: usize = 64;

/// The token of the socket itself, and the first of its clients.
const LISTENER: usize = usize::MAX - 1;
const FIRST: usize = 1 << 20;

/// Where the socket is, unless told otherwise: under `$RUNTIME_DIRECTORY`, else `/run`.
pub fn default_path() -> PathBuf {
    let runtime = std::env::var_os("RUNTIME_DIRECTORY").filter(|dir| !dir.is_empty());
    PathBuf::from(runtime.unwrap_or_else(|| "/run".into())).join("tapvs.sock")
}

/// Where the socket is: `wanted`, else `$TAPVS_SOCKET`; `None` if neither says.
pub fn wanted_path(wanted: Option<&str>) -> Option<PathBuf> {
    let told = std::env::var_os("TAPVS_SOCKET").filter(|path| !path.is_empty());
    wanted.map(PathBuf::from).or(told.map(PathBuf::from))
}

/// Where a socket is wanted.
#[derive(Debug, Clone)]
pub struct Wanted {
    /// The path.
    pub path: PathBuf,
    /// The operator named it; otherwise we go on without it.
    pub required: bool,
}

impl Wanted {
    /// At `path` if the operator says so, else where the environment or habit says.
    pub fn new(path: Option<&str>) -> Self {
        match wanted_path(path) {
            Some(path) => Self { path, required: true },
            None => Self { path: default_path(), required: false },
        }
    }
}

/// The socket and its clients.
pub(super) struct Socket {
    listener: UnixListener,
    path: PathBuf,
    /// Device and inode of the file, to know it again.
    file: (u64, u64),
    clients: Vec<Option<Client>>,
    /// Somebody may want to be let in.
    knocking: bool,
}

struct Client {
    stream: UnixStream,
    inbox: Vec<u8>,
    outbox: Vec<u8>,
    /// Bytes of the outbox that are gone.
    sent: usize,
    dump: Option<Dump>,
    readable: bool,
    writable: bool,
    /// It will not say anything more.
    over: bool,
    /// It said something that cannot be answered further.
    ending: bool,
    /// When something moved last.
    moved: Instant,
}

impl Socket {
    /// Makes the socket that is wanted; `None` if it cannot be and need not be.
    ///
    /// # Errors
    /// It cannot be made and is required, or somebody serves there.
    pub(super) fn make(wanted: &Wanted, registry: &Registry) -> Result<Option<Self>, Fault> {
        match Self::open(&wanted.path, registry) {
            Ok(socket) => Ok(Some(socket)),
            Err(fault) if wanted.required => Err(fault),
            Err(fault) => {
                warn!("{fault}; going on without (--socket PATH says where)");
                Ok(None)
            }
        }
    }

    /// Makes the socket at `path`.
    ///
    /// # Errors
    /// Somebody serves there already, something else is there, or the system's.
    fn open(path: &Path, registry: &Registry) -> Result<Self, Fault> {
        let fault = |e: io::Error| {
            let cure = match e.kind() {
                ErrorKind::AddrInUse => Some("a second one needs a `--socket PATH` of its own"),
                ErrorKind::NotFound => Some("its folder is not there"),
                ErrorKind::InvalidInput => Some("a socket's path has at most 107 bytes"),
                _ => None,
            };
            Fault::new(format!("control socket {}", path.display()), e).cure(cure)
        };
        let what = path.to_string_lossy();
        patiently(&what, PATIENCE, is_served, || check_place(path)).map_err(fault)?;
        // Made under another name and moved there, so that it never has wider rights, and so that a
        // dead socket is replaced in one step.
        let mut aside = path.as_os_str().to_owned();
        aside.push(".new");
        let aside = PathBuf::from(aside);
        let _ = fs::remove_file(&aside);
        let made = UnixListener::bind(&aside).and_then(|listener| {
            fs::set_permissions(&aside, fs::Permissions::from_mode(0o600))?;
            fs::rename(&aside, path)?;
            Ok(listener)
        });
        let mut listener = made.map_err(|e| {
            let _ = fs::remove_file(&aside);
            fault(e)
        })?;
        let about = fs::symlink_metadata(path).map_err(fault)?;
        registry
            .register(&mut listener, Token(LISTENER), Interest::READABLE)
            .map_err(|e| Fault::new("watching the control socket", e))?;
        let (path, file) = (path.to_owned(), (about.dev(), about.ino()));
        Ok(Self { listener, path, file, clients: Vec::new(), knocking: true })
    }

    /// Whether a token is one of the socket's; notes that something can be done.
    pub(super) fn wake(&mut self, token: usize) -> bool {
        if token == LISTENER {
            self.knocking = true;
            return true;
        }
        let Some(index) = token.checked_sub(FIRST) else { return false };
        if let Some(Some(client)) = self.clients.get_mut(index) {
            // Which of the two it was shows when it is tried.
            client.readable = !client.over;
            client.writable = true;
        }
        index < CLIENTS_MAX
    }

    /// Lets clients in, answers them for a while; true if there is more to do at once.
    pub(super) fn turn(&mut self, now: Instant, host: &mut impl Host, registry: &Registry) -> bool {
        if std::mem::take(&mut self.knocking) {
            self.let_in(now, registry);
        }
        let mut more = false;
        for slot in &mut self.clients {
            let Some(client) = slot else { continue };
            match client.turn(now, host) {
                Ok(busy) => more |= busy,
                Err(why) => {
                    debug!("control socket: a client goes: {why}");
                    let _ = registry.deregister(&mut client.stream);
                    *slot = None;
                }
            }
        }
        more
    }

    /// When a client is to be dropped that takes nothing.
    pub(super) fn deadline(&self) -> Option<Instant> {
        let stalled = self.clients.iter().flatten().filter(|client| client.waits());
        stalled.map(|client| client.moved.after(STALL)).min()
    }

    fn let_in(&mut self, now: Instant, registry: &Registry) {
        loop {
            let mut stream = match self.listener.accept() {
                Ok((stream, _)) => stream,
                Err(e) if e.kind() == ErrorKind::WouldBlock => return,
                Err(e) if e.kind() == ErrorKind::Interrupted => continue,
                Err(e) => {
                    warn!("control socket: a client cannot be let in: {e}");
                    return;
                }
            };
            let place = self.place(registry);
            let both = Interest::READABLE | Interest::WRITABLE;
            if let Err(e) = registry.register(&mut stream, Token(FIRST + place), both) {
                warn!("control socket: a client cannot be watched: {e}");
                continue;
            }
            self.clients[place] = Some(Client::new(stream, now));
        }
    }

    /// A free place for a client, made free if need be.
    fn place(&mut self, registry: &Registry) -> usize {
        if let Some(free) = self.clients.iter().position(Option::is_none) {
            return free;
        }
        if self.clients.len() < CLIENTS_MAX {
            self.clients.push(None);
            return self.clients.len() - 1;
        }
        let moved = |(_, client): &(usize, &Option<Client>)| client.as_ref().map(|c| c.moved);
        let oldest = self.clients.iter().enumerate().min_by_key(moved).map_or(0, |(at, _)| at);
        if let Some(mut client) = self.clients[oldest].take() {
            debug!("control socket: the most silent client gives way");
            let _ = registry.deregister(&mut client.stream);
        }
        oldest
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        let ours = |about: fs::Metadata| (about.dev(), about.ino()) == self.file;
        if fs::symlink_metadata(&self.path).is_ok_and(ours) {
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// Whether a socket may be made at `path`.
fn check_place(path: &Path) -> io::Result<()> {
    let about = match fs::symlink_metadata(path) {
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(()),
        about => about?,
    };
    if !about.file_type().is_socket() {
        return Err(io::Error::other("something that is no socket is there"));
    }
    match std::os::unix::net::UnixStream::connect(path) {
        Ok(_) => Err(io::Error::new(ErrorKind::AddrInUse, "another tapvs answers there")),
        Err(e) if e.kind() == ErrorKind::ConnectionRefused => Ok(()),
        Err(e) => Err(e),
    }
}

/// Whether it is another one's place.
fn is_served(error: &io::Error) -> bool {
    error.kind() == ErrorKind::AddrInUse
}

impl Client {
    const fn new(stream: UnixStream, now: Instant) -> Self {
        Self {
            stream,
            inbox: Vec::new(),
            outbox: Vec::new(),
            sent: 0,
            dump: None,
            readable: true,
            writable: true,
            over: false,
            ending: false,
            moved: now,
        }
    }

    /// Whether answers wait to be taken.
    fn waits(&self) -> bool {
        self.sent < self.outbox.len()
    }

    /// Reads, answers, writes, each as far as it goes; true if there is more to do at once.
    fn turn(&mut self, now: Instant, host: &mut impl Host) -> io::Result<bool> {
        self.read(now)?;
        let mut budget = TURN;
        while budget > 0 && self.outbox.len() - self.sent < WAITING_MAX && self.answer(now, host) {
            budget = if self.dump.is_some() { 0 } else { budget - 1 };
        }
        self.write(now)?;
        let idle = !self.waits() && self.dump.is_none() && !self.has_request();
        if self.ending && !self.waits() {
            return Err(io::Error::other("it was told why"));
        }
        if self.over && idle {
            return Err(io::Error::other("it has got all it asked for"));
        }
        if self.waits() && now.since(self.moved) >= STALL {
            return Err(io::Error::other("it does not read"));
        }
        let room = self.outbox.len() - self.sent < WAITING_MAX;
        let work = match self.dump {
            // The bell will ring.
            Some(Dump::Reload(_)) => false,
            Some(_) => true,
            None => self.readable || self.has_request(),
        };
        Ok(room && work && !self.ending)
    }

    /// Reads what there is, unless more requests wait than a client needs to have waiting.
    fn read(&mut self, now: Instant) -> io::Result<()> {
        let mut piece = [0; 16 << 10];
        while self.readable && !self.ending && self.inbox.len() < 2 * REQUEST_MAX {
            match self.stream.read(&mut piece) {
                // It may still listen.
                Ok(0) => (self.over, self.readable) = (true, false),
                Ok(count) => {
                    self.inbox.extend_from_slice(&piece[..count]);
                    // Who asks on and takes no answer is deaf all the same.
                    if !self.waits() {
                        self.moved = now;
                    }
                }
                Err(e) if e.kind() == ErrorKind::WouldBlock => self.readable = false,
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
        Ok(())
    }

    /// Whether a whole request is there.
    fn has_request(&self) -> bool {
        frame_len(&self.inbox).is_some_and(|len| len > REQUEST_MAX || self.inbox.len() >= 4 + len)
    }

    /// Answers one request, or goes on with a picture; false if there is nothing to answer.
    fn answer(&mut self, now: Instant, host: &mut impl Host) -> bool {
        if let Some(dump) = &mut self.dump {
            let portion = go_on(host, now, dump, &mut self.outbox);
            if portion == Portion::Last {
                self.dump = None;
            }
            return portion != Portion::NotYet;
        }
        if self.ending || !self.has_request() {
            return false;
        }
        let len = frame_len(&self.inbox).unwrap_or(0);
        if len > REQUEST_MAX {
            return self.end_with(&Answer::Version(crate::control::wire::VERSION));
        }
        let frame: Vec<u8> = self.inbox.drain(..4 + len).skip(4).collect();
        let text = String::from_utf8_lossy(&frame);
        match Request::parse(&text) {
            Ok(request) => self.dump = ask(host, now, &request, &mut self.outbox),
            Err(answer) => return self.end_with(&answer),
        }
        true
    }

    /// Says a last word.
    fn end_with(&mut self, answer: &Answer) -> bool {
        self.outbox.extend(answer.frame());
        self.ending = true;
        true
    }

    fn write(&mut self, now: Instant) -> io::Result<()> {
        while self.writable && self.waits() {
            match self.stream.write(&self.outbox[self.sent..]) {
                Ok(count) => {
                    self.sent += count;
                    self.moved = now;
                }
                Err(e) if e.kind() == ErrorKind::WouldBlock => self.writable = false,
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
        if self.sent >= WAITING_MAX || !self.waits() {
            self.outbox.drain(..self.sent);
            self.sent = 0;
        }
        Ok(())
    }
}
