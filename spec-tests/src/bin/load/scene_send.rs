//! Sending: one after another and many at once, into one room and into many; and what the disk takes.

use std::{cell::RefCell, time::Duration};

use spec_tests::{
    Outcome,
    matrix::Client,
    measure::{disk, fdatasync, quantile},
};
use tokio::time::Instant;

use crate::{
    bench::{Bench, Scene, Work, all, approximate},
    options::Sizes,
    target::Target,
};

/// How many messages are on their way at a time while the disk fills.
const DISK_SENDERS: usize = 16;
/// What a send may take beside two syncs of the disk.
const ALLOWANCE: Duration = Duration::from_millis(1);
/// How often the disk is asked to sync beside each round of sends.
const SYNC_SAMPLES: usize = 50;

pub(crate) async fn run(sizes: &Sizes, targets: &mut [Target], bench: &mut Bench) -> Outcome<()> {
    let each = (sizes.sends / sizes.rounds).max(1);
    for (senders, many_rooms) in [(1, false), (1, true), (sizes.senders, false), (sizes.senders, true)] {
        let scene = Send { senders, many_rooms, each, disk: RefCell::default() };
        bench.play(&scene, targets).await?;
        let syncs = scene.disk.take();
        if !syncs.is_empty() {
            let median = quantile(&syncs, 0.5).as_secs_f64() * 1e3;
            let worst = quantile(&syncs, 0.99).as_secs_f64() * 1e3;
            println!("  fdatasync of the same disk meanwhile: p50 {median:.2} ms, p99 {worst:.2} ms");
            if senders == 1 {
                bench.print_medians(&scene.name(), quantile(&syncs, 0.5) * 2 + ALLOWANCE);
            }
        }
    }
    for rooms in ["one room", "many rooms"] {
        let many = format!("send {} at once, {rooms}", sizes.senders);
        bench.print_gain(&format!("send one by one, {rooms}"), &many);
    }
    bytes_per_event(sizes, targets, bench).await
}

struct Send {
    senders: usize,
    many_rooms: bool,
    each: usize,
    /// Times of fdatasync, taken in the same rounds.
    disk: RefCell<Vec<Duration>>,
}

impl Scene for Send {
    /// Who sends, and into which rooms.
    type State = Vec<(Client, Vec<String>)>;

    fn name(&self) -> String {
        let how =
            if self.senders == 1 { "one by one".to_owned() } else { format!("{} at once", self.senders) };
        format!("send {how}, {}", if self.many_rooms { "many rooms" } else { "one room" })
    }

    async fn prepare(&self, target: &mut Target) -> Outcome<Self::State> {
        let users = target.users(self.senders.max(2)).await?;
        if !self.many_rooms {
            let room = target.room(&users).await?;
            let senders = users.into_iter().take(self.senders);
            return Ok(senders.map(|user| (user, vec![room.clone()])).collect());
        }
        let mut state = Vec::new();
        for user in users.iter().take(self.senders) {
            let mut rooms = Vec::new();
            for _ in 0..(32 / self.senders).max(1) {
                rooms.push(target.room(&[user.clone(), users[users.len() - 1].clone()][..]).await?);
            }
            state.push((user.clone(), rooms));
        }
        Ok(state)
    }

    async fn before(&self, target: &mut Target, _state: &mut Self::State) -> Outcome<()> {
        if let Some(folder) = target.data() {
            self.disk.borrow_mut().extend(fdatasync(&folder, SYNC_SAMPLES)?);
        }
        Ok(())
    }

    async fn round(&self, _target: &Target, state: &mut Self::State) -> Outcome<Work> {
        let share = (self.each / self.senders).max(1);
        let latencies = all(state.iter().map(|(user, rooms)| send_many(user, rooms, share))).await?.concat();
        Ok(Work { operations: latencies.len(), latencies, wall: None })
    }
}

/// Sends `count` messages in turn to the rooms, one after another.
pub(crate) async fn send_many(user: &Client, rooms: &[String], count: usize) -> Outcome<Vec<Duration>> {
    let mut latencies = Vec::with_capacity(count);
    for room in rooms.iter().cycle().take(count) {
        let begun = Instant::now();
        user.say(room, "a message about as long as what people write to each other").await?;
        latencies.push(begun.elapsed());
    }
    Ok(latencies)
}

/// What the data folder grows by for each message, once it has been closed.
async fn bytes_per_event(sizes: &Sizes, targets: &mut [Target], bench: &mut Bench) -> Outcome<()> {
    let scene = "disk per event";
    if !bench.wants(scene) {
        return Ok(());
    }
    let mut each = Vec::new();
    for target in &mut *targets {
        // Two in the room: with many members some servers write rows for each of them.
        let users = target.users(2).await?;
        let rooms = [target.room(&users).await?];
        let before = at_rest(target).await?;
        let share = sizes.events / DISK_SENDERS;
        all(users.iter().cycle().take(DISK_SENDERS).map(|user| send_many(user, &rooms, share))).await?;
        let after = at_rest(target).await?;
        each.push((after - before) / approximate(share * DISK_SENDERS));
    }
    bench.figures(scene, targets, &each, "bytes");
    Ok(())
}

/// Size of the data folder after a clean restart.
async fn at_rest(target: &mut Target) -> Outcome<f64> {
    let Some(server) = &mut target.server else { return Ok(f64::NAN) };
    server.restart().await?;
    Ok(approximate(usize::try_from(disk(&server.data())?)?))
}
