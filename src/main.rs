//! The `lockstep` command: see [`lockstep::cli`].

fn main() {}
