//! What the embedded store costs, as ratios to the disk it runs on.
//!
//! `cargo run --release -p spec-tests --bin store_bench -- [EVENTS] [FOLDER]`

use std::{fs::File, io::Write, path::Path, time::Duration};

use lockstep::store::{
    Key, Scan, Store, StoreError,
    embedded::{Durability, Embedded, Settings},
    table::TableId,
};
use spec_tests::{Outcome, measure, store_load::Load};
use tokio::time::Instant;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Outcome<()> {
    let mut arguments = std::env::args().skip(1);
    let events: usize = arguments.next().map_or(Ok(20_000), |text| text.parse())?;
    let folder = match arguments.next() {
        Some(folder) => tempfile::tempdir_in(folder)?,
        None => tempfile::tempdir()?,
    };
    let settings = Settings::new(folder.path().join("store"), "example.org");
    latency(&settings, folder.path()).await?;
    fill(&settings, events).await?;
    Ok(())
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times[times.len() / 2]
}

async fn latency(settings: &Settings, folder: &Path) -> Outcome<()> {
    let settings = Settings { folder: folder.join("latency"), ..settings.clone() };
    let store = Embedded::open(settings)?;
    let mut load = Load::new(1, 20);
    let mut file = File::create(folder.join("raw"))?;
    let (mut raw, mut one, mut group) = (Vec::new(), Vec::new(), Vec::new());
    // Interleaved, because the disk's mood changes.
    for _ in 0..300 {
        let begin = Instant::now();
        file.write_all(&[7; 1024])?;
        file.sync_data()?;
        raw.push(begin.elapsed());
        let batch = load.event();
        let begin = Instant::now();
        store.commit(vec![batch]).await?;
        one.push(begin.elapsed());
        let batches = (0..32).map(|_| load.event()).collect();
        let begin = Instant::now();
        store.commit(batches).await?;
        group.push(begin.elapsed());
    }
    store.close().await?;
    let (raw, one, group) = (median(raw), median(one), median(group));
    println!("1 KiB append + fdatasync of this disk, median: {raw:?}");
    println!("one commit, median: {one:?} = {:.2} fdatasyncs", one.as_secs_f64() / raw.as_secs_f64());
    println!(
        "32 in a group, median: {group:?} = {:.1} times the rate of one by one",
        32.0 * one.as_secs_f64() / group.as_secs_f64()
    );
    Ok(())
}

async fn fill(settings: &Settings, events: usize) -> Outcome<()> {
    let pid = std::process::id();
    for (name, durability, size) in [
        ("one by one", Durability::LoseLastSecondsOnPowerCut, 1),
        ("groups of 32", Durability::EveryCommit, 32),
    ] {
        let folder = settings.folder.join(name.replace(' ', "-"));
        let store = Embedded::open(Settings { folder: folder.clone(), durability, ..settings.clone() })?;
        let mut load = Load::new(2, 20);
        let mut made = Duration::ZERO;
        let (begin, cpu) = (Instant::now(), measure::cpu(pid)?);
        for _ in 0..events / size {
            let making = Instant::now();
            let group = (0..size).map(|_| load.event()).collect();
            made += making.elapsed();
            store.commit(group).await?;
        }
        store.close().await?;
        let (took, cpu) = (begin.elapsed(), measure::cpu(pid)? - cpu);
        let count = events as f64;
        let micros = |time: Duration| time.as_secs_f64() * 1e6 / count;
        println!(
            "{events} events, {name}, {durability:?}: {:.0}/s, {:.0} µs CPU each (and {:.0} µs to make it)",
            count / (took - made).as_secs_f64(),
            micros(cpu.saturating_sub(made)),
            micros(made)
        );
        let sizes =
            ["", "log", "index"].map(|part| measure::disk(&folder.join(part)).unwrap_or(0) as f64 / count);
        println!("  disk per event: {:.0} bytes (log {:.0}, index {:.0})", sizes[0], sizes[1], sizes[2]);
        println!("  memory: {:.1} MiB", measure::resident(pid)? as f64 / f64::from(1 << 20));
        reads(&store).await?;
        let begin = Instant::now();
        drop(store);
        let closed = begin.elapsed();
        let begin = Instant::now();
        let store = Embedded::open(Settings { folder, durability, ..settings.clone() })?;
        println!("  dropped in {closed:.1?}, opened in {:.1?}", begin.elapsed());
        println!("  memory after opening: {:.1} MiB", measure::resident(pid)? as f64 / f64::from(1 << 20));
        drop(store);
    }
    Ok(())
}

async fn reads(store: &Embedded) -> Result<(), StoreError> {
    let table = |table| Key::new(table, &());
    let rows = |table: Key, limit| Scan { to: table.after_prefix(), from: table, reverse: true, limit };
    let events = store.scan_many(&[rows(table(TableId::Event), 5_000)]).await?.remove(0);
    let begin = Instant::now();
    for (key, _) in &events {
        store.get_many(std::slice::from_ref(key)).await?;
    }
    let get = begin.elapsed() / u32::try_from(events.len().max(1)).unwrap_or(1);
    let begin = Instant::now();
    for _ in 0..100 {
        store.scan_many(&[rows(table(TableId::LaneRow), 30)]).await?;
    }
    println!("  an event by id: {get:.1?}; the last 30 rows of a lane: {:.1?}", begin.elapsed() / 100);
    Ok(())
}
