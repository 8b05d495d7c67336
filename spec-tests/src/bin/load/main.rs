//! The load generator: what homeservers take, in time, CPU, memory and disk, for what clients do to them.
//!
//! `load lockstep synapse` starts both in folders of their own, interleaves their rounds and prints ratios. A server that
//! runs already is named by its address, and its process for the CPU time: `load http://127.0.0.1:8008#1234`. It runs
//! on one thread, so that on two cores the server has one to itself.

mod bench;
mod options;
mod scene_bridge;
mod scene_keys;
mod scene_media;
mod scene_push;
mod scene_rooms;
mod scene_search;
mod scene_send;
mod scene_sync;
mod scene_window;
mod start;
mod target;

use clap::Parser;
use spec_tests::Outcome;

use crate::{bench::Bench, options::Options, target::Target};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Outcome<()> {
    let options = Options::parse();
    raise_file_limit();
    let sizes = options.sizes();
    let mut targets = Vec::new();
    for name in &options.servers {
        targets.push(Target::open(name).await?);
    }
    let mut bench = Bench::new(sizes.rounds, options.only.clone());
    println!("{sizes:?}");
    start::measure(&mut targets, &mut bench).await?;
    scene_send::run(&sizes, &mut targets, &mut bench).await?;
    scene_keys::run(&sizes, &mut targets, &mut bench).await?;
    scene_sync::run(&sizes, &mut targets, &mut bench).await?;
    scene_rooms::run(&sizes, &mut targets, &mut bench).await?;
    start::measure_polls(&sizes, &mut targets, &mut bench).await?;
    scene_window::run(&sizes, &mut targets, &mut bench).await?;
    scene_push::run(&sizes, &mut targets, &mut bench).await?;
    scene_media::run(&sizes, &mut targets, &mut bench).await?;
    scene_search::run(&sizes, &mut targets, &mut bench).await?;
    scene_bridge::run(&sizes, &mut targets, &mut bench).await?;
    bench.print_table();
    for target in &mut targets {
        target.close().await?;
    }
    Ok(())
}

/// A thousand long polls are a thousand files, here and in the servers that inherit the limit.
fn raise_file_limit() {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    if let Err(error) = setrlimit(Resource::Nofile, limit) {
        eprintln!("the limit of open files stays: {error}");
    }
}
