//! As whom are we called, and what is asked? (room to be filled)

/// Runs what `args` (the program's name first) ask for and returns the exit code.
pub fn run(_args: Vec<std::ffi::OsString>) -> u8 {
    0
}
