//! A `tapvs run` without any port, and who may not ask it: for tests of the built binary.

use std::fs::{self, Permissions};
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

/// The user and the group that own nothing.
const NOBODY: u32 = 65534;

/// Starts one with a rules file, to be asked at `socket`, and waits until it is ready.
pub(crate) fn start(rules: &Path, socket: &Path) -> Child {
    let mut child = Command::new(env!("CARGO_BIN_EXE_tapvs"))
        .args(["run", "-q", "-r"])
        .arg(rules)
        .arg("--socket")
        .arg(socket)
        .env_remove("RUST_LOG")
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("the binary is there");
    let mut ready = String::new();
    let mut out = BufReader::new(child.stdout.take().expect("it is piped"));
    out.read_line(&mut ready).expect("it speaks");
    assert_eq!(ready, "ready\n");
    child
}

/// What the binary answers when it is called as `program` and hears `input`; `at` is the socket that it
/// finds in its environment.
pub(crate) fn answer(program: &str, args: &[&str], input: &str, at: Option<&Path>) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tapvs"));
    command.arg0(program).args(args).env_remove("RUST_LOG");
    if let Some(socket) = at {
        command.env("TAPVS_SOCKET", socket);
    }
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("the binary is there");
    // A child that does not read its input may be gone already.
    let _ = child.stdin.take().expect("it is piped").write_all(input.as_bytes());
    child.wait_with_output().expect("it ends")
}

/// A fresh path that is short enough for a socket, in a place into which anybody may walk.
pub(crate) fn short(name: &str) -> PathBuf {
    let wanted = std::env::temp_dir();
    let is_open =
        |dir: &Path| fs::metadata(dir).is_ok_and(|about| about.permissions().mode() & 0o001 != 0);
    let fits = wanted.as_os_str().len() <= 40 && wanted.ancestors().all(is_open);
    let folder = if fits { wanted } else { PathBuf::from("/tmp") };
    let path = folder.join(format!("tapvs-test-{}-{name}", std::process::id()));
    let _ = fs::remove_file(&path);
    path
}

/// Somebody who may not ask at a socket: another user where the test is root, else this one after the
/// socket was closed to everybody. It is open again when the stranger goes.
pub(crate) struct Stranger<'a> {
    socket: &'a Path,
    program: PathBuf,
    is_root: bool,
}

impl<'a> Stranger<'a> {
    pub(crate) fn at(socket: &'a Path) -> Self {
        let is_root = fs::metadata(socket).expect("it is there").uid() == 0;
        // Whoever is not root may not reach where it was built. Another process writes the copy: what this
        // one has open for writing, a child of another thread may hold for a moment, and it cannot be run.
        let program = socket.with_extension("bin");
        let copied = Command::new("cp").arg(env!("CARGO_BIN_EXE_tapvs")).arg(&program).status();
        assert!(copied.expect("cp is there").success());
        // Whatever rights new files get here, a stranger may run it.
        fs::set_permissions(&program, Permissions::from_mode(0o755)).expect("it is ours");
        if !is_root {
            fs::set_permissions(socket, Permissions::from_mode(0o000)).expect("it is ours");
        }
        Self { socket, program, is_root }
    }

    /// A call of tapvs by the stranger.
    pub(crate) fn call(&self) -> Command {
        let mut call = Command::new(&self.program);
        call.current_dir("/").env_remove("RUST_LOG").stdin(Stdio::null());
        if self.is_root {
            call.uid(NOBODY).gid(NOBODY);
        }
        call
    }
}

impl Drop for Stranger<'_> {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.program);
        let _ = fs::set_permissions(self.socket, Permissions::from_mode(0o600));
    }
}
