//! Texts kept in a directory for programs that read files: each is replaced in one step, so that a reader sees
//! the old one or the new one, whole.
//!
//! Kept from the kernel: the directory looks like its `/proc`, with the files under `net`, and a file whose
//! director is not there is not there either: nobody reads what was true once. Left out on purpose: writing when
//! somebody reads, as the kernel does; a plain directory cannot know.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use log::{info, warn};

use super::reactor::say_ready;
use super::watch::{poller, Watch};
use super::Fault;

/// Writes what `text` says under each of `names` into `dir`/net, and again after each `step`, until a
/// signal ends it; prints `ready` when they are there for the first time. While `text` says why not, there
/// is none of them, and neither is there when it ends.
///
/// # Errors
/// The directory cannot be made or written to.
pub fn keep(
    dir: &Path,
    names: &[&str],
    step: Duration,
    text: &mut dyn FnMut(&str) -> Result<String, String>,
) -> Result<(), Fault> {
    let mut watch = Watch::new(poller()?, None).with_signals()?;
    let shelf = Shelf { dir: dir.join("net"), names };
    fs::create_dir_all(&shelf.dir).map_err(|e| shelf.fault(e))?;
    let (mut announced, mut told) = (false, false);
    loop {
        let all: Result<Vec<_>, _> = names.iter().map(|name| text(name)).collect();
        match all {
            Ok(all) => {
                shelf.fill(&all).map_err(|e| shelf.fault(e))?;
                if std::mem::take(&mut told) {
                    info!("{}: the files are back", shelf.dir.display());
                }
                if !std::mem::replace(&mut announced, true) {
                    say_ready();
                }
            }
            Err(why) => {
                shelf.clear();
                if !std::mem::replace(&mut told, true) {
                    warn!("{why}; no files in {} until one does", shelf.dir.display());
                }
            }
        }
        if watch.wait(Some(step), |_| ())?.end {
            return Ok(());
        }
    }
}

/// The files, which go with it.
struct Shelf<'a> {
    dir: PathBuf,
    names: &'a [&'a str],
}

impl Shelf<'_> {
    /// Puts each text in the place of the last.
    fn fill(&self, texts: &[String]) -> io::Result<()> {
        for (name, text) in self.names.iter().zip(texts) {
            let aside = self.dir.join(format!(".{name}.new"));
            // Whoever may write to the directory must not choose by a link what is written to.
            let _ = fs::remove_file(&aside);
            fs::File::create_new(&aside)?.write_all(text.as_bytes())?;
            fs::rename(&aside, self.dir.join(name))?;
        }
        Ok(())
    }

    fn clear(&self) {
        for name in self.names {
            // One that is not there is as it should be.
            let _ = fs::remove_file(self.dir.join(name));
        }
    }

    fn fault(&self, error: io::Error) -> Fault {
        Fault::new(format!("keeping files in {}", self.dir.display()), error)
    }
}

impl Drop for Shelf<'_> {
    fn drop(&mut self) {
        self.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_replaced_whole_and_go_with_their_shelf() {
        let dir = std::env::temp_dir().join(format!("tapvs-shelf-{}", std::process::id()));
        fs::create_dir_all(&dir).expect("a scratch directory");
        let names = ["a", "b"];
        let shelf = Shelf { dir: dir.clone(), names: &names };
        let texts = |a: &str, b: &str| [a.to_owned(), b.to_owned()];
        let read = |name: &str| fs::read_to_string(dir.join(name)).ok();
        shelf.fill(&texts("a long text", "b")).expect("room");
        // Whoever has the old one open goes on reading the old one.
        let mut old = fs::File::open(dir.join("a")).expect("it is there");
        shelf.fill(&texts("short", "b")).expect("room");
        let mut text = String::new();
        io::Read::read_to_string(&mut old, &mut text).expect("readable");
        assert_eq!(text, "a long text");
        assert_eq!(read("a").as_deref(), Some("short"));
        assert_eq!(fs::read_dir(&dir).expect("readable").count(), 2, "nothing else is left");
        drop(shelf);
        assert_eq!((read("a"), read("b")), (None, None));
        fs::remove_dir(&dir).expect("it is empty");
    }
    #[test]
    fn a_link_that_lies_in_the_way_is_not_followed() {
        let dir = std::env::temp_dir().join(format!("tapvs-link-{}", std::process::id()));
        fs::create_dir_all(&dir).expect("a scratch directory");
        let precious = dir.join("precious");
        fs::write(&precious, "keep me").expect("room");
        std::os::unix::fs::symlink(&precious, dir.join(".a.new")).expect("room");
        let shelf = Shelf { dir: dir.clone(), names: &["a"] };
        shelf.fill(&["text".to_owned()]).expect("room");
        assert_eq!(fs::read_to_string(&precious).ok().as_deref(), Some("keep me"));
        assert_eq!(fs::read_to_string(dir.join("a")).ok().as_deref(), Some("text"));
        drop(shelf);
        fs::remove_file(&precious).expect("it is there");
        fs::remove_dir(&dir).expect("it is empty");
    }
}
