//! Files: many clients that up- and download at once, how fast that is, and how much memory the server takes meanwhile.

use std::{cell::RefCell, time::Duration};

use bytes::Bytes;
use spec_tests::{Outcome, matrix::Client, measure};
use tokio::time::Instant;

use crate::{
    bench::{Bench, Scene, Work, all, approximate},
    options::Sizes,
    target::Target,
};

const MIB: usize = 1 << 20;
/// By how much the content of one file lies behind that of the one before it.
const SHIFT: usize = 64;

pub(crate) async fn run(sizes: &Sizes, targets: &mut [Target], bench: &mut Bench) -> Outcome<()> {
    for mib in sizes.file_mib.iter().copied() {
        let clients = sizes.devices;
        let rounds = if mib > 4 { 1 } else { sizes.rounds };
        let bytes = noise(mib * MIB + SHIFT * clients * rounds);
        let files = RefCell::default();
        for way in [Way::Up, Way::Down] {
            let scene = Transfer {
                mib,
                way,
                clients,
                rounds,
                bytes: &bytes,
                files: &files,
                seen: RefCell::default(),
            };
            bench.play(&scene, targets).await?;
            scene.report(targets, bench);
        }
    }
    Ok(())
}

/// Bytes that nothing compresses: a generator of Marsaglia's (xorshift), since all that matters is that they differ.
fn noise(count: usize) -> Bytes {
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    let mut bytes = Vec::with_capacity(count + 8);
    while bytes.len() < count {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.into()
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Way {
    Up,
    Down,
}

/// Each of the clients has one file on its way.
struct Transfer<'a> {
    mib: usize,
    way: Way,
    clients: usize,
    rounds: usize,
    bytes: &'a Bytes,
    /// The files of each target, by its name.
    files: &'a RefCell<Vec<(String, String)>>,
    seen: RefCell<Vec<Seen>>,
}

/// One round of one server.
struct Seen {
    server: String,
    wall: Duration,
    /// The most memory meanwhile, in bytes.
    peak: Option<u64>,
}

impl Transfer<'_> {
    fn report(&self, targets: &[Target], bench: &mut Bench) {
        let seen = self.seen.borrow();
        if seen.is_empty() {
            return;
        }
        let each = approximate(self.mib * MIB * self.clients) / 1e6;
        let (mut rates, mut peaks) = (Vec::new(), Vec::new());
        for target in targets {
            let seen: Vec<&Seen> = seen.iter().filter(|seen| seen.server == target.name).collect();
            let wall: Duration = seen.iter().map(|seen| seen.wall).sum();
            rates.push(each * approximate(seen.len()) / wall.as_secs_f64());
            let peak = seen.iter().filter_map(|seen| seen.peak).max();
            let kib = peak.and_then(|bytes| usize::try_from(bytes / 1024).ok());
            peaks.push(kib.map_or(f64::NAN, |kib| approximate(kib) / 1024.0));
        }
        let name = self.name();
        bench.figures(&format!("{name}: rate"), targets, &rates, "MB/s");
        bench.figures(&format!("{name}: memory at its peak"), targets, &peaks, "MiB");
    }

    /// Uploads the file of the client with this number; no two are the same.
    async fn up(&self, user: &Client, number: usize) -> Outcome<(Duration, String)> {
        let content = self.bytes.slice(number * SHIFT..number * SHIFT + self.mib * MIB);
        let begun = Instant::now();
        let path = "/_matrix/media/v3/upload?filename=noise";
        let answer = user.upload(path, "application/octet-stream", content).await?;
        let uri = answer["content_uri"].as_str().and_then(|uri| uri.strip_prefix("mxc://"));
        Ok((begun.elapsed(), uri.ok_or("no content_uri")?.to_owned()))
    }

    async fn down(&self, user: &Client, file: &str) -> Outcome<(Duration, String)> {
        let begun = Instant::now();
        match user.drain(&format!("/_matrix/client/v1/media/download/{file}")).await? {
            got if got == self.mib * MIB => Ok((begun.elapsed(), String::new())),
            got => Err(format!("{got} bytes came of a file of {} MiB", self.mib).into()),
        }
    }
}

impl Scene for Transfer<'_> {
    /// Who, and how many files there have been.
    type State = (Vec<Client>, usize);

    fn name(&self) -> String {
        let way = if self.way == Way::Up { "upload" } else { "download" };
        format!("{way} by {} at once, {} MiB", self.clients, self.mib)
    }

    fn rounds(&self) -> Option<usize> {
        Some(self.rounds)
    }

    async fn prepare(&self, target: &mut Target) -> Outcome<Self::State> {
        let users = target.users(self.clients).await?;
        // What other scenes have left in memory is not counted.
        if let Some(server) = &mut target.server {
            server.restart().await?;
        }
        target.calm().await?;
        Ok((users, 0))
    }

    async fn round(&self, target: &Target, (users, files): &mut Self::State) -> Outcome<Work> {
        let pid = target.pid().filter(|pid| measure::reset_peak(*pid).is_ok());
        let known: Vec<String> = match self.way {
            Way::Up => Vec::new(),
            Way::Down => {
                let known = self.files.borrow();
                let known = known.iter().filter(|(name, _)| *name == target.name);
                known.map(|(_, file)| file.clone()).skip(*files).take(users.len()).collect()
            }
        };
        let begun = Instant::now();
        let done = match self.way {
            Way::Up => all(users.iter().enumerate().map(|(at, user)| self.up(user, *files + at))).await?,
            Way::Down => all(users.iter().zip(&known).map(|(user, file)| self.down(user, file))).await?,
        };
        let wall = begun.elapsed();
        let peak = pid.map(measure::peak_resident).transpose()?;
        *files += done.len();
        self.seen.borrow_mut().push(Seen { server: target.name.clone(), wall, peak });
        let latencies = done.iter().map(|(time, _)| *time).collect();
        if self.way == Way::Up {
            self.files.borrow_mut().extend(done.into_iter().map(|(_, file)| (target.name.clone(), file)));
        }
        Ok(Work { operations: users.len(), latencies, wall: Some(wall) })
    }
}
