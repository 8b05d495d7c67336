//! Syncs: fan-out to devices that poll, first syncs of accounts with many rooms, and small increments.

use futures_util::{StreamExt, TryStreamExt, stream};
use reqwest::Method;
use serde::Deserialize;
use spec_tests::{Outcome, matrix::Client};
use tokio::{
    sync::mpsc,
    task::JoinSet,
    time::{Duration, Instant, sleep, timeout},
};

use crate::{
    bench::{Bench, Scene, Work},
    options::Sizes,
    scene_send::send_many,
    target::{SETUP_PARALLEL, Target},
};

/// How long a device polls at a time.
const POLL_MS: u32 = 30_000;
/// How long a message may take to everyone.
const FAN_OUT_DEADLINE: Duration = Duration::from_secs(60);
/// Time for the devices to be polling again before the next message.
const BREATH: Duration = Duration::from_millis(50);
/// Messages in each room of an account that syncs for the first time.
const MESSAGES_EACH: usize = 10;

pub(crate) async fn run(sizes: &Sizes, targets: &mut [Target], bench: &mut Bench) -> Outcome<()> {
    let messages = (sizes.sends / sizes.rounds / 25).max(2);
    bench.play(&FanOut { devices: sizes.devices, messages }, targets).await?;
    let count = (sizes.sends / sizes.rounds / 5).max(2);
    for rooms in sizes.rooms.iter().copied() {
        bench.play(&First { rooms, count: (400 / rooms).clamp(2, 10) }, targets).await?;
        bench.play(&Increment { rooms, count, news: true }, targets).await?;
        bench.play(&Increment { rooms, count, news: false }, targets).await?;
    }
    Ok(())
}

/// The part of a sync's answer that is looked at.
#[derive(Deserialize)]
struct Token {
    next_batch: String,
}

/// The path of a sync that leaves presence alone. A server that answers equal requests from a cache needs another
/// `limit` to do the work again.
pub(crate) fn quiet_sync(since: &str, wait_ms: u32, limit: usize) -> String {
    let since = if since.is_empty() { String::new() } else { format!("&since={since}") };
    let filter = format!("%7B%22room%22%3A%7B%22timeline%22%3A%7B%22limit%22%3A{limit}%7D%7D%7D");
    format!("/_matrix/client/v3/sync?timeout={wait_ms}&set_presence=offline&filter={filter}{since}")
}

async fn next(device: &Client, path: &str) -> Outcome<String> {
    let bytes = device.bytes(Method::GET, path, None).await?;
    Ok(serde_json::from_slice::<Token>(&bytes)?.next_batch)
}

/// A token for what comes from now on, with nothing left to tell before it.
pub(crate) async fn since_now(device: &Client) -> Outcome<String> {
    advance(device, "").await
}

/// The token after everything that is there.
pub(crate) async fn advance(device: &Client, since: &str) -> Outcome<String> {
    let first = next(device, &quiet_sync(since, 0, 1)).await?;
    next(device, &quiet_sync(&first, 0, 1)).await
}

struct FanOut {
    devices: usize,
    messages: usize,
}

impl Scene for FanOut {
    type State = (Client, String, Vec<(Client, String)>);

    fn name(&self) -> String {
        format!("fan-out to {} polling devices, a delivery", self.devices)
    }

    async fn prepare(&self, target: &mut Target) -> Outcome<Self::State> {
        let users = target.users(self.devices + 1).await?;
        let room = target.room(&users).await?;
        let (sender, devices) = users.split_last().ok_or("no users")?;
        let devices: Vec<(Client, String)> = stream::iter(devices)
            .map(|device| async move { Outcome::Ok((device.clone(), since_now(device).await?)) })
            .buffered(SETUP_PARALLEL)
            .try_collect()
            .await?;
        Ok((sender.clone(), room, devices))
    }

    async fn before(&self, _target: &mut Target, (_, _, devices): &mut Self::State) -> Outcome<()> {
        for (device, since) in devices {
            *since = advance(device, since).await?;
        }
        Ok(())
    }

    async fn round(&self, _target: &Target, (sender, room, devices): &mut Self::State) -> Outcome<Work> {
        let (heard, mut hearing) = mpsc::channel(self.devices);
        let mut pollers = JoinSet::new();
        for (device, since) in devices.iter().cloned() {
            pollers.spawn(listen(device, since, self.messages, heard.clone()));
        }
        drop(heard);
        let mut work = Work { wall: Some(Duration::ZERO), ..Work::default() };
        for number in 0..self.messages {
            sleep(BREATH).await;
            let begun = Instant::now();
            sender.say(room, &marker(number)).await?;
            for _ in 0..self.devices {
                let answer = timeout(FAN_OUT_DEADLINE, hearing.recv()).await;
                answer.map_err(|_| "a message did not reach every device")?.ok_or("a device gave up")?;
                work.latencies.push(begun.elapsed());
            }
            work.operations += self.devices;
            work.wall = work.wall.map(|wall| wall + begun.elapsed());
        }
        while let Some(ended) = pollers.join_next().await {
            ended??;
        }
        Ok(work)
    }
}

fn marker(number: usize) -> String {
    format!("<fan-out {number}>")
}

/// Polls until the messages have come, one after another.
async fn listen(device: Client, mut since: String, messages: usize, heard: mpsc::Sender<()>) -> Outcome<()> {
    let mut number = 0;
    while number < messages {
        let bytes = device.bytes(Method::GET, &quiet_sync(&since, POLL_MS, 10), None).await?;
        since = serde_json::from_slice::<Token>(&bytes)?.next_batch;
        let text = std::str::from_utf8(&bytes)?;
        while number < messages && text.contains(&marker(number)) {
            heard.send(()).await?;
            number += 1;
        }
    }
    Ok(())
}

/// An account with `rooms` rooms, shared by the scenes of that size.
async fn account(target: &mut Target, rooms: usize) -> Outcome<(Client, Client, Vec<String>)> {
    let users = target.users(2).await?;
    let partner = &users[1];
    let name = format!("rooms-{}-{rooms}", std::process::id());
    let owner = match target.nobody.login(&name).await {
        Ok(owner) => owner,
        Err(_) => target.nobody.register(&name).await?,
    };
    let joined = owner.get("/_matrix/client/v3/joined_rooms").await?;
    let mut known: Vec<String> = serde_json::from_value(joined["joined_rooms"].clone())?;
    let missing = rooms.saturating_sub(known.len());
    let both = [owner.clone(), partner.clone()];
    let (target, both, one) = (&*target, &both, &owner);
    let made: Vec<String> = stream::iter(0..missing)
        .map(|_| async move {
            let room = target.room(both).await?;
            send_many(one, std::slice::from_ref(&room), MESSAGES_EACH).await?;
            Outcome::Ok(room)
        })
        .buffer_unordered(SETUP_PARALLEL)
        .try_collect()
        .await?;
    known.extend(made);
    Ok((owner, partner.clone(), known))
}

struct First {
    rooms: usize,
    count: usize,
}

impl Scene for First {
    type State = (Client, Vec<Client>);

    fn name(&self) -> String {
        format!("first sync of {} rooms", self.rooms)
    }

    async fn prepare(&self, target: &mut Target) -> Outcome<Self::State> {
        Ok((account(target, self.rooms).await?.0, Vec::new()))
    }

    async fn before(&self, target: &mut Target, (owner, devices): &mut Self::State) -> Outcome<()> {
        devices.clear();
        for _ in 0..self.count {
            devices.push(target.nobody.login(&owner.user_id).await?);
        }
        Ok(())
    }

    async fn round(&self, _target: &Target, (_, devices): &mut Self::State) -> Outcome<Work> {
        let mut work = Work::default();
        for device in devices {
            let begun = Instant::now();
            let body = device.bytes(Method::GET, &quiet_sync("", 0, 10), None).await?;
            work.latencies.push(begun.elapsed());
            let rooms: serde_json::Value = serde_json::from_slice(&body)?;
            let got = rooms["rooms"]["join"].as_object().map_or(0, serde_json::Map::len);
            if got != self.rooms {
                return Err(format!("{got} rooms, not {}", self.rooms).into());
            }
        }
        work.operations = work.latencies.len();
        Ok(work)
    }
}

/// Syncs from a token that one message, or none, has come after.
struct Increment {
    rooms: usize,
    count: usize,
    news: bool,
}

struct Tokens {
    owner: Client,
    partner: Client,
    room: String,
    since: String,
}

impl Scene for Increment {
    type State = Tokens;

    fn name(&self) -> String {
        let what = if self.news { "with news in one" } else { "without news" };
        format!("sync of {} rooms {what}", self.rooms)
    }

    async fn prepare(&self, target: &mut Target) -> Outcome<Self::State> {
        let (owner, partner, rooms) = account(target, self.rooms).await?;
        let room = rooms.into_iter().next().ok_or("no rooms")?;
        Ok(Tokens { owner, partner, room, since: String::new() })
    }

    async fn before(&self, _target: &mut Target, state: &mut Self::State) -> Outcome<()> {
        state.since = since_now(&state.owner).await?;
        if self.news {
            state.partner.say(&state.room, "news").await?;
        }
        Ok(())
    }

    async fn round(&self, _target: &Target, state: &mut Self::State) -> Outcome<Work> {
        let mut work = Work::default();
        for number in 0..self.count {
            let path = quiet_sync(&state.since, 0, 10 + number);
            let begun = Instant::now();
            let bytes = state.owner.bytes(Method::GET, &path, None).await?;
            work.latencies.push(begun.elapsed());
            if self.news != std::str::from_utf8(&bytes)?.contains("\"news\"") {
                return Err("the sync does not tell the news".into());
            }
        }
        work.operations = work.latencies.len();
        Ok(work)
    }
}
