//! The `lockstep` command: see [`lockstep::cli`].

use std::process::ExitCode;

fn main() -> ExitCode {
    lockstep::cli::run(std::env::args_os(), std::env::vars_os())
}
