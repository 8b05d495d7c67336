//! Large rooms: paging through many events, and a room with many members.

use std::cell::RefCell;

use futures_util::{StreamExt, TryStreamExt, stream};
use reqwest::Method;
use serde_json::Value;
use spec_tests::{Outcome, matrix::Client};
use tokio::time::Instant;

use crate::{
    bench::{Bench, Scene, Work, all},
    options::Sizes,
    scene_send::send_many,
    scene_sync::quiet_sync,
    target::{SETUP_PARALLEL, Target},
};

/// Events on one page.
const PAGE: usize = 100;
/// How many send while the long room is filled.
const WRITERS: usize = 16;

pub(crate) async fn run(sizes: &Sizes, targets: &mut [Target], bench: &mut Bench) -> Outcome<()> {
    bench.play(&Pages { events: sizes.events }, targets).await?;
    let join = Join { members: sizes.members, rounds: sizes.rounds, rooms: RefCell::default() };
    bench.play(&join, targets).await?;
    let rooms = join.rooms.take();
    for what in [Crowd::Send, Crowd::Members, Crowd::FirstSync] {
        let count = (sizes.sends / sizes.rounds / what.cost()).max(1);
        bench.play(&InCrowd { what, members: sizes.members, count, rooms: rooms.clone() }, targets).await?;
    }
    Ok(())
}

struct Pages {
    events: usize,
}

impl Scene for Pages {
    type State = (Client, String);

    fn name(&self) -> String {
        format!("/messages through {} events, a page of {PAGE}", self.events)
    }

    async fn prepare(&self, target: &mut Target) -> Outcome<Self::State> {
        let users = target.users(WRITERS).await?;
        let room = [target.room(&users).await?];
        all(users.iter().map(|user| send_many(user, &room, self.events / WRITERS))).await?;
        let [room] = room;
        Ok((users[0].clone(), room))
    }

    async fn round(&self, _target: &Target, (user, room): &mut Self::State) -> Outcome<Work> {
        let mut work = Work::default();
        let (mut from, mut seen) = (String::new(), 0);
        loop {
            let path = format!("/_matrix/client/v3/rooms/{room}/messages?dir=b&limit={PAGE}{from}");
            let begun = Instant::now();
            let bytes = user.bytes(Method::GET, &path, None).await?;
            work.latencies.push(begun.elapsed());
            let page: Value = serde_json::from_slice(&bytes)?;
            let events = page["chunk"].as_array().map_or(0, Vec::len);
            seen += events;
            match page["end"].as_str() {
                Some(end) if events > 0 => from = format!("&from={end}"),
                _ => break,
            }
        }
        work.operations = work.latencies.len();
        match seen >= self.events / WRITERS * WRITERS {
            true => Ok(work),
            false => Err(format!("{seen} events came, {} were sent", self.events).into()),
        }
    }
}

/// Joining a public room until it has all its members.
struct Join {
    members: usize,
    rounds: usize,
    /// The room of each target, by name.
    rooms: RefCell<Vec<(String, String)>>,
}

impl Scene for Join {
    type State = (String, Vec<Client>);

    fn name(&self) -> String {
        format!("join until a room has {} members", self.members)
    }

    async fn prepare(&self, target: &mut Target) -> Outcome<Self::State> {
        let mut users = target.users(self.members).await?;
        let room = target.room(&users[..1]).await?;
        self.rooms.borrow_mut().push((target.name.clone(), room.clone()));
        users.remove(0);
        Ok((room, users))
    }

    async fn round(&self, _target: &Target, (room, users): &mut Self::State) -> Outcome<Work> {
        let share = (self.members - 1).div_ceil(self.rounds).min(users.len());
        let room = room.as_str();
        let latencies: Vec<_> = stream::iter(users.drain(..share))
            .map(|user| async move {
                let begun = Instant::now();
                user.join(room).await?;
                Outcome::Ok(begun.elapsed())
            })
            .buffer_unordered(SETUP_PARALLEL)
            .try_collect()
            .await?;
        Ok(Work { operations: latencies.len(), latencies, wall: None })
    }
}

/// What is done in the room with many members.
#[derive(Clone, Copy)]
enum Crowd {
    Send,
    Members,
    FirstSync,
}

impl Crowd {
    /// How much more one of these takes than a send, roughly.
    fn cost(self) -> usize {
        match self {
            Self::Send => 2,
            Self::Members => 50,
            Self::FirstSync => 100,
        }
    }
}

struct InCrowd {
    what: Crowd,
    members: usize,
    count: usize,
    rooms: Vec<(String, String)>,
}

impl Scene for InCrowd {
    type State = (String, Vec<Client>);

    fn name(&self) -> String {
        let what = match self.what {
            Crowd::Send => "send in",
            Crowd::Members => "/members of",
            Crowd::FirstSync => "first sync with",
        };
        format!("{what} a room of {} members", self.members)
    }

    async fn prepare(&self, target: &mut Target) -> Outcome<Self::State> {
        let known = self.rooms.iter().find(|(name, _)| *name == target.name);
        let users = target.users(self.members).await?;
        let room = match known {
            Some((_, room)) => room.clone(),
            None => target.room(&users).await?,
        };
        Ok((room, users))
    }

    async fn round(&self, _target: &Target, (room, users): &mut Self::State) -> Outcome<Work> {
        let mut work = Work::default();
        let members = format!("/_matrix/client/v3/rooms/{room}/members");
        for _ in 0..self.count {
            // Everyone in turn, since a server may remember its answer to one.
            users.rotate_left(1);
            let user = &users[0];
            let begun = Instant::now();
            match self.what {
                Crowd::Send => user.say(room, "hello, all of you").await.map(|_| ())?,
                Crowd::Members => user.bytes(Method::GET, &members, None).await.map(|_| ())?,
                Crowd::FirstSync => {
                    user.bytes(Method::GET, &quiet_sync("", 0, 20), None).await.map(|_| ())?
                }
            }
            work.latencies.push(begun.elapsed());
        }
        work.operations = work.latencies.len();
        Ok(work)
    }
}
