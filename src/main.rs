//! The door: hands the arguments to [`tapvs::cli`] and turns its answer into an exit code.

use std::process::ExitCode;

fn main() -> ExitCode {
    ExitCode::from(tapvs::cli::run(std::env::args_os().collect()))
}
