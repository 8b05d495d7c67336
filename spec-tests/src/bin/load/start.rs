//! From start to the first answer, and memory: idle, and for each idle long poll.

use std::time::Duration;

use futures_util::{FutureExt, StreamExt, stream};
use reqwest::Method;
use spec_tests::{Outcome, matrix::Client, measure};
use tokio::{
    task::JoinSet,
    time::{Instant, sleep},
};

use crate::{
    bench::{Bench, approximate},
    options::Sizes,
    scene_sync::{quiet_sync, since_now},
    target::{SETUP_PARALLEL, Target},
};

/// Starts of the same folder after the first one.
const RESTARTS: usize = 3;
/// How long the idle polls wait on the server.
const POLL_MS: u32 = 90_000;
/// How long connecting all of them may take.
const CONNECT_DEADLINE: Duration = Duration::from_secs(30);
/// Memory has settled when it has not fallen by a step for this long ..
const MEMORY_WINDOW: Duration = Duration::from_secs(8);
const MEMORY_STEP_KIB: f64 = 64.0;
/// .. or after this long.
const MEMORY_DEADLINE: Duration = Duration::from_secs(40);

/// Starts every target that is ours; their first start is the first line of the table.
pub(crate) async fn measure(targets: &mut [Target], bench: &mut Bench) -> Outcome<()> {
    let (mut first, mut again, mut memory) = (Vec::new(), Vec::new(), Vec::new());
    for target in &mut *targets {
        let mut times = Vec::new();
        if let Some(server) = &mut target.server {
            times.push(server.up().await?);
            for _ in 0..RESTARTS {
                times.push(server.restart().await?);
            }
        }
        target.settled_cpu().await?;
        let ms = |time: Option<&Duration>| time.map_or(f64::NAN, |time| time.as_secs_f64() * 1e3);
        first.push(ms(times.first()));
        again.push(ms(times.iter().skip(1).min()));
        memory.push(target.pid().map_or(Ok(f64::NAN), resident_mib)?);
    }
    bench.figures("first start to first answer", targets, &first, "ms");
    bench.figures("later start to first answer", targets, &again, "ms");
    bench.figures("idle memory after the start", targets, &memory, "MiB");
    Ok(())
}

fn resident_mib(pid: u32) -> Outcome<f64> {
    Ok(resident_kib(pid)? / 1024.0)
}

fn resident_kib(pid: u32) -> Outcome<f64> {
    Ok(approximate(usize::try_from(measure::resident(pid)? / 1024)?))
}

/// How much the memory grows for each device that polls and hears nothing; and the memory after all the load.
pub(crate) async fn measure_polls(sizes: &Sizes, targets: &mut [Target], bench: &mut Bench) -> Outcome<()> {
    let scene = "memory for each idle long poll";
    if bench.wants(scene) {
        let mut each = Vec::new();
        for target in &mut *targets {
            each.push(idle_polls(sizes.members, target).await?);
        }
        bench.figures(scene, targets, &each, "KiB");
    }
    let mut after = Vec::new();
    for target in targets.iter() {
        after.push(target.pid().map_or(Ok(f64::NAN), resident_mib)?);
    }
    bench.figures("memory after the load", targets, &after, "MiB");
    Ok(())
}

async fn idle_polls(count: usize, target: &mut Target) -> Outcome<f64> {
    let Some(pid) = target.pid() else { return Ok(f64::NAN) };
    let users = target.users(count).await?;
    // Once around, so that what the server caches of each account is not counted as part of the poll.
    let tokens: Vec<Outcome<String>> = stream::iter(&users)
        .map(|user| since_now(user).boxed_local())
        .buffered(SETUP_PARALLEL)
        .collect()
        .await;
    let before = settled_kib(target, pid).await?;
    let sockets = open_files(pid);
    let mut polls = JoinSet::new();
    for (user, since) in users.into_iter().zip(tokens) {
        polls.spawn(poll(user, since?));
    }
    let begun = Instant::now();
    while open_files(pid) < sockets + count * 9 / 10 && begun.elapsed() < CONNECT_DEADLINE {
        sleep(Duration::from_millis(20)).await;
    }
    let waiting = polls.len();
    let after = settled_kib(target, pid).await?;
    polls.shutdown().await;
    Ok((after - before) / approximate(waiting))
}

/// The memory once the server is idle and has given back what it needed to get there.
async fn settled_kib(target: &Target, pid: u32) -> Outcome<f64> {
    target.settled_cpu().await?;
    let begun = Instant::now();
    let mut least = resident_kib(pid)?;
    let mut since = begun;
    while since.elapsed() < MEMORY_WINDOW && begun.elapsed() < MEMORY_DEADLINE {
        sleep(MEMORY_WINDOW / 20).await;
        let now = resident_kib(pid)?;
        if now + MEMORY_STEP_KIB < least {
            (least, since) = (now, Instant::now());
        }
    }
    resident_kib(pid)
}

async fn poll(user: Client, since: String) -> Outcome<()> {
    user.bytes(Method::GET, &quiet_sync(&since, POLL_MS, 10), None).await.map(|_| ())
}

fn open_files(pid: u32) -> usize {
    std::fs::read_dir(format!("/proc/{pid}/fd")).map_or(0, Iterator::count)
}
