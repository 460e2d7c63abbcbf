//! What is asked of a running tapvs by words of our own: `reload`, `save`, `status`.
//!
//! An answer is heard to its end before any of it is printed or written, so that a tapvs that ends in
//! the middle of one leaves neither half a listing nor half a file.
//!
//! Left out on purpose: changing what runs by any language but ipvsadm's and the rules file's.

use std::fs::{self, File};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::{fchown, MetadataExt};
use std::path::Path;

use super::client::{Link, Trouble};
use super::{Failure, Save};
use crate::control::wire::Request;
use crate::io::socket::Wanted;
use crate::io::Fault;

/// Has the rules file read again and prints the lines that differ.
pub(super) fn reload(socket: Option<&str>) -> Result<(), Failure> {
    let nothing = "tapvs: reload: nothing was changed".to_owned();
    let told = text("reload", socket, &Request::Reload)?;
    let lines = told.map_err(|why| Failure::Rules(vec![why, nothing]))?;
    print("reload", if lines.is_empty() { "unchanged\n" } else { &lines })
}

/// Prints what became of the frames so far, and what stands in their way.
pub(super) fn status(socket: Option<&str>, json: bool) -> Result<(), Failure> {
    let told = text("status", socket, &Request::Status { json })?;
    print("status", &told.map_err(|why| failed("status", io::Error::other(why)))?)
}

/// Prints the running state as a rules file, or replaces a file by it.
pub(super) fn save(wish: &Save) -> Result<(), Failure> {
    let rules = text("save", wish.socket.as_deref(), &Request::Rules)?;
    let rules = rules.map_err(|why| failed("save", io::Error::other(why)))?;
    match wish.output.as_deref() {
        None | Some("-") => print("save", &rules),
        Some(file) => replace(Path::new(file), rules.as_bytes())
            .map_err(|e| failed(&format!("save: writing {file}"), e)),
    }
}

/// The lines of an answer, or the words by which the request was refused.
fn text(
    word: &str,
    socket: Option<&str>,
    request: &Request,
) -> Result<Result<String, String>, Failure> {
    let mut lines = String::new();
    let heard = open(word, socket)?.text(request, &mut |line| {
        lines.extend([line, "\n"]);
        true
    });
    Ok(heard.map_err(|trouble| unheard(word, &trouble))?.map(|()| lines))
}

pub(super) fn open(word: &str, socket: Option<&str>) -> Result<Link, Failure> {
    let path = Wanted::new(socket).path;
    Link::open(&path).map_err(|trouble| match trouble {
        // What ipvsadm says does not tell whose socket it is.
        Trouble::Forbidden => {
            let why = "permission denied; only who runs tapvs may ask it";
            failed(&format!("{word}: {}", path.display()), io::Error::other(why))
        }
        other => unheard(word, &other),
    })
}

pub(super) fn unheard(word: &str, trouble: &Trouble) -> Failure {
    failed(word, io::Error::other(trouble.to_string()))
}

pub(super) fn failed(what: &str, error: io::Error) -> Failure {
    Failure::Fault(Fault::new(what, error))
}

/// Prints an answer. Part of a saved state must not pass for all of it, so that nothing could be
/// written is a failure; that a reader has seen enough is none.
pub(super) fn print(word: &str, text: &str) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(e) if e.kind() != ErrorKind::BrokenPipe => Err(failed(&format!("{word}: printing"), e)),
        Ok(()) | Err(_) => Ok(()),
    }
}

/// Puts `text` in the place of a file, so that at every moment there is the old one or the new one.
/// The file keeps its mode and owner; a link to it stays a link; a device is written to.
fn replace(path: &Path, text: &[u8]) -> io::Result<()> {
    let path = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    let old = fs::metadata(&path).ok();
    if old.as_ref().is_some_and(|old| !old.is_file()) {
        return fs::OpenOptions::new().write(true).open(&path)?.write_all(text);
    }
    let mut fresh = path.clone().into_os_string();
    fresh.push(format!(".{}", std::process::id()));
    let mut file = File::create_new(&fresh)?;
    let mut write = || {
        if let Some(old) = &old {
            // Whoever may not give files away keeps what is written here.
            let _ = fchown(&file, Some(old.uid()), Some(old.gid()));
            file.set_permissions(old.permissions())?;
        }
        file.write_all(text)?;
        file.sync_all()?;
        fs::rename(&fresh, &path)
    };
    let written = write();
    if written.is_err() {
        let _ = fs::remove_file(&fresh);
    }
    written
}
