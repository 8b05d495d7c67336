//! What a process costs: CPU time, memory and disk, read from outside; and what the disk itself takes to sync.

use std::{
    fs::{self, File},
    io::Write,
    path::Path,
    time::Duration,
};

use tokio::time::Instant;

use crate::Outcome;

/// Position of `utime`, `stime`, `cutime`, `cstime` in `/proc/PID/stat`, counted after the command name.
const STAT_TIMES: std::ops::Range<usize> = 11..15;
/// One write of the disk's own measurement, about the size of a stored message.
const SYNC_WRITE_BYTES: usize = 1024;

/// CPU time, user and system, of a process and all its descendants so far, in steps of a clock tick (10 ms).
pub fn cpu(pid: u32) -> Outcome<Duration> {
    let ticks: u64 = family(pid).into_iter().map(|pid| stat_ticks(pid).unwrap_or(0)).sum();
    let per_second = rustix::param::clock_ticks_per_second();
    if ticks == 0 && !Path::new(&format!("/proc/{pid}")).exists() {
        return Err(format!("process {pid} has ended").into());
    }
    Ok(Duration::from_nanos(ticks * 1_000_000_000 / per_second))
}

/// CPU time of this process alone, in the same steps.
pub fn own_cpu() -> Duration {
    let ticks = stat_ticks(std::process::id()).unwrap_or(0);
    Duration::from_nanos(ticks * 1_000_000_000 / rustix::param::clock_ticks_per_second())
}

fn stat_ticks(pid: u32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The command name may hold spaces; it ends with the last parenthesis.
    let fields: Vec<&str> = stat[stat.rfind(')')? + 1..].split_whitespace().collect();
    fields.get(STAT_TIMES)?.iter().map(|field| field.parse::<u64>().ok()).sum()
}

/// The process and its descendants.
fn family(pid: u32) -> Vec<u32> {
    let mut found = vec![pid];
    let mut next = 0;
    while let Some(&parent) = found.get(next) {
        next += 1;
        let tasks = fs::read_dir(format!("/proc/{parent}/task"));
        for task in tasks.into_iter().flatten().flatten() {
            let children = fs::read_to_string(task.path().join("children")).unwrap_or_default();
            found.extend(children.split_whitespace().filter_map(|child| child.parse::<u32>().ok()));
        }
    }
    found
}

/// Resident memory of a process and its descendants, in bytes.
pub fn resident(pid: u32) -> Outcome<u64> {
    status_bytes(pid, "VmRSS:")
}

/// The most resident memory that they had since [`reset_peak`], in bytes; of each at its own moment.
pub fn peak_resident(pid: u32) -> Outcome<u64> {
    status_bytes(pid, "VmHWM:")
}

/// Forgets how much memory they once had.
pub fn reset_peak(pid: u32) -> Outcome<()> {
    for pid in family(pid) {
        fs::write(format!("/proc/{pid}/clear_refs"), "5")?;
    }
    Ok(())
}

fn status_bytes(pid: u32, field: &str) -> Outcome<u64> {
    let mut kib = 0;
    for pid in family(pid) {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix(field));
        kib += line.and_then(|rest| rest.split_whitespace().next()?.parse::<u64>().ok()).unwrap_or(0);
    }
    match kib {
        0 => Err(format!("process {pid} has ended").into()),
        kib => Ok(kib * 1024),
    }
}

/// Bytes that the files below a folder occupy on the disk.
pub fn disk(folder: &Path) -> Outcome<u64> {
    use std::os::unix::fs::MetadataExt;
    let mut total = 0;
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder)? {
            let entry = entry?;
            let data = entry.metadata()?;
            match data.is_dir() {
                true => folders.push(entry.path()),
                false => total += data.blocks() * 512,
            }
        }
    }
    Ok(total)
}

/// Times of `count` appends of about a message, each made durable by fdatasync, in the given folder.
pub fn fdatasync(folder: &Path, count: usize) -> Outcome<Vec<Duration>> {
    let path = folder.join(format!("fdatasync-{}", std::process::id()));
    let mut file = File::create(&path)?;
    let bytes = [7_u8; SYNC_WRITE_BYTES];
    let mut times = Vec::with_capacity(count);
    for _ in 0..count {
        let begun = Instant::now();
        file.write_all(&bytes)?;
        file.sync_data()?;
        times.push(begun.elapsed());
    }
    fs::remove_file(path)?;
    Ok(times)
}

/// The value below which the given share (0 to 1) of the samples lies.
pub fn quantile(samples: &[Duration], share: f64) -> Duration {
    let mut sorted = samples.to_vec();
    sorted.sort_unstable();
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss,
        reason = "an index below a length is small and positive"
    )]
    let index = ((sorted.len() as f64 * share) as usize).min(sorted.len().saturating_sub(1));
    sorted.get(index).copied().unwrap_or_default()
}
