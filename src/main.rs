//! The `lockstep` command: see [`lockstep::cli`].

use std::process::ExitCode;

/// glibc's allocator never gets back what hashing passwords takes (19 MiB aligned to 64 bytes each time: 700 MiB after a
/// hundred registrations); jemalloc does, and gives it back to the system.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    lockstep::cli::run(std::env::args_os(), std::env::vars_os())
}
