//! Load, `kill -9`, start, check: whatever was acknowledged is there exactly once, and nothing takes longer for it.
//!
//! `KILL_ROUNDS` (50) says how often, `KILL_SEED` repeats a run's moments of death.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use reqwest::Method;
use serde_json::{Map, Value, json};
use spec_tests::{
    Outcome,
    keys::one_time_keys,
    matrix::{Client, txn_id},
    server::{Kind, Server},
};
use tokio::{task::JoinSet, time::sleep};

/// Rounds when the environment does not say.
const ROUNDS: usize = 50;
/// Who talk at the same time, each in two rooms.
const TALKERS: usize = 6;
/// Devices whose inboxes are filled.
const INBOXES: usize = 3;
/// One-time keys uploaded before a round when fewer than this are left; servers keep a few hundred at most.
const KEYS_EACH_ROUND: usize = 100;
/// The longest life of a round, in milliseconds.
const LIFE_MS: u64 = 400;
/// How much longer than at first a start may take at last, as a factor and in time.
const START_SLACK: (u32, Duration) = (3, Duration::from_millis(500));

/// A request whose answer may have been lost, to be made again with the same transaction id.
#[derive(Clone)]
enum Deed {
    Say { room: String, body: String },
    Whisper { body: String },
}

struct Record {
    who: usize,
    txn: String,
    deed: Deed,
    /// What the answer was, if one came.
    answer: Option<Value>,
}

/// What happened in one round.
#[derive(Default)]
struct Deeds {
    records: Vec<Record>,
    claimed: Vec<String>,
}

struct World {
    talkers: Vec<Client>,
    rooms: Vec<String>,
    inboxes: Vec<Client>,
    owner: Client,
    /// Sync tokens of the inboxes.
    tokens: Vec<String>,
    /// Everything that must be in each room, by body, with its event id.
    said: BTreeMap<String, BTreeMap<String, String>>,
    /// Everything that must have come to every inbox.
    whispered: BTreeSet<String>,
    heard: Vec<Vec<String>>,
    claimed: BTreeSet<String>,
    keys_made: usize,
}

impl World {
    async fn new(base: &str) -> Outcome<Self> {
        let nobody = Client::anonymous(base)?;
        let mut talkers = Vec::new();
        for number in 0..TALKERS {
            talkers.push(nobody.register(&format!("talker{number}")).await?);
        }
        let mut rooms = Vec::new();
        for _ in 0..2 {
            let room = talkers[0].create_room(&json!({"preset": "public_chat"})).await?;
            for talker in &talkers[1..] {
                talker.join(&room).await?;
            }
            rooms.push(room);
        }
        let (mut inboxes, mut tokens) = (Vec::new(), Vec::new());
        for number in 0..INBOXES {
            let inbox = nobody.register(&format!("inbox{number}")).await?;
            tokens.push(token(&inbox.sync("", 0).await?)?);
            inboxes.push(inbox);
        }
        let owner = nobody.register("owner").await?;
        let said = rooms.iter().map(|room| (room.clone(), BTreeMap::new())).collect();
        let (whispered, claimed, heard) = (BTreeSet::new(), BTreeSet::new(), vec![Vec::new(); INBOXES]);
        Ok(Self { talkers, rooms, inboxes, owner, tokens, said, whispered, heard, claimed, keys_made: 0 })
    }

    async fn upload_keys(&mut self) -> Outcome<()> {
        let path = "/_matrix/client/v3/keys/upload";
        let counts = self.owner.post(path, &json!({})).await?;
        let left = counts["one_time_key_counts"]["signed_curve25519"].as_u64().unwrap_or(0);
        if left >= u64::try_from(KEYS_EACH_ROUND)? {
            return Ok(());
        }
        let from = self.keys_made;
        self.keys_made += KEYS_EACH_ROUND;
        let keys = one_time_keys(&self.owner, from..self.keys_made);
        self.owner.post(path, &json!({ "one_time_keys": keys })).await?;
        Ok(())
    }

    /// Everybody talks, whispers and claims until the server dies.
    async fn live(&self, server: &mut Server, life: Duration, round: usize) -> Outcome<Deeds> {
        let over = Arc::new(AtomicBool::new(false));
        let mut acting = JoinSet::new();
        for (who, talker) in self.talkers.iter().enumerate() {
            let (talker, over) = (talker.clone(), Arc::clone(&over));
            let (rooms, inboxes, owner) = (self.rooms.clone(), self.inboxes.clone(), self.owner.clone());
            acting.spawn(async move {
                match who {
                    0 => claim(&talker, &owner, &over).await,
                    1 | 2 => act((who, &talker), round, &over, |body| Deed::Whisper { body }, &inboxes).await,
                    _ => {
                        let room = &rooms[who % rooms.len()];
                        let say = |body| Deed::Say { room: room.clone(), body };
                        act((who, &talker), round, &over, say, &inboxes).await
                    }
                }
            });
        }
        sleep(life).await;
        // A database of its own dies with the server every other time.
        match round % 2 {
            0 => server.kill().await?,
            _ => server.kill_with_database().await?,
        }
        over.store(true, Ordering::Relaxed);
        let mut all = Deeds::default();
        while let Some(done) = acting.join_next().await {
            let done = done?;
            all.records.extend(done.records);
            all.claimed.extend(done.claimed);
        }
        Ok(all)
    }

    /// Repeats what was not answered, and keeps what must now be there.
    async fn settle(&mut self, deeds: Deeds) -> Outcome<()> {
        for record in deeds.records {
            let again = perform(&self.talkers[record.who], &record.txn, &record.deed, &self.inboxes).await?;
            if let Some(before) = record.answer.filter(|before| *before != again) {
                return Err(format!("the retry of {} was answered {again}, not {before}", record.txn).into());
            }
            match record.deed {
                Deed::Say { room, body } => {
                    let id = again["event_id"].as_str().ok_or("no event_id")?.to_owned();
                    self.said.entry(room).or_default().insert(body, id);
                }
                Deed::Whisper { body } => {
                    self.whispered.insert(body);
                }
            }
        }
        for key in deeds.claimed {
            if !self.claimed.insert(key.clone()) {
                return Err(format!("the one-time key {key} was handed out twice").into());
            }
        }
        Ok(())
    }

    /// Everything is there, exactly once.
    async fn check(&mut self) -> Outcome<()> {
        for room in &self.rooms {
            let found = history(&self.talkers[0], room).await?;
            let mut once = BTreeMap::new();
            for (body, id) in found {
                if once.insert(body.clone(), id).is_some() {
                    return Err(format!("\"{body}\" is in the room twice").into());
                }
            }
            let expected = &self.said[room];
            if once != *expected {
                let lost = expected.iter().find(|(body, id)| once.get(*body) != Some(*id));
                let extra = once.iter().find(|(body, id)| expected.get(*body) != Some(*id));
                return Err(format!("the room lost {lost:?} and has {extra:?} that nobody knows of").into());
            }
        }
        for (number, inbox) in self.inboxes.iter().enumerate() {
            let heard = &mut self.heard[number];
            drain(inbox, &mut self.tokens[number], heard).await?;
            let once: BTreeSet<String> = heard.iter().cloned().collect();
            if once.len() != heard.len() || once != self.whispered {
                let lost: Vec<_> = self.whispered.difference(&once).take(5).collect();
                let twice = heard.len() - once.len();
                return Err(format!("inbox {number} lost {lost:?} and got {twice} messages twice").into());
            }
        }
        Ok(())
    }
}

fn token(sync: &Value) -> Outcome<String> {
    Ok(sync["next_batch"].as_str().ok_or("no next_batch")?.to_owned())
}

/// Does one deed after another until one is not answered.
async fn act(
    (who, talker): (usize, &Client),
    round: usize,
    over: &AtomicBool,
    deed: impl Fn(String) -> Deed,
    inboxes: &[Client],
) -> Deeds {
    let mut all = Deeds::default();
    while !over.load(Ordering::Relaxed) {
        let body = format!("round {round}, talker {who}, number {}", all.records.len());
        let (txn, deed) = (txn_id(), deed(body));
        let answer = perform(talker, &txn, &deed, inboxes).await.ok();
        let lost = answer.is_none();
        all.records.push(Record { who, txn, deed, answer });
        if lost {
            break;
        }
    }
    all
}

async fn perform(talker: &Client, txn: &str, deed: &Deed, inboxes: &[Client]) -> Outcome<Value> {
    match deed {
        Deed::Say { room, body } => {
            let path = format!("/_matrix/client/v3/rooms/{room}/send/m.room.message/{txn}");
            talker.put(&path, &json!({"msgtype": "m.text", "body": body})).await
        }
        Deed::Whisper { body } => {
            let content = json!({"*": {"body": body}});
            let to: Map<String, Value> =
                inboxes.iter().map(|i| (i.user_id.clone(), content.clone())).collect();
            let path = format!("/_matrix/client/v3/sendToDevice/org.example.whisper/{txn}");
            talker.put(&path, &json!({ "messages": to })).await
        }
    }
}

async fn claim(talker: &Client, owner: &Client, over: &AtomicBool) -> Deeds {
    let body = json!({"one_time_keys": {&owner.user_id: {&owner.device_id: "signed_curve25519"}}});
    let mut all = Deeds::default();
    while !over.load(Ordering::Relaxed) {
        let Ok(answer) = talker.post("/_matrix/client/v3/keys/claim", &body).await else { break };
        let keys = answer["one_time_keys"][&owner.user_id][&owner.device_id].as_object().cloned();
        all.claimed.extend(keys.into_iter().flatten().map(|(id, _)| id));
    }
    all
}

/// Bodies and ids of all messages of a room.
async fn history(reader: &Client, room: &str) -> Outcome<Vec<(String, String)>> {
    let (mut from, mut found) = (String::new(), Vec::new());
    loop {
        let path = format!("/_matrix/client/v3/rooms/{room}/messages?dir=b&limit=500{from}");
        let page = reader.get(&path).await?;
        let events = page["chunk"].as_array().cloned().unwrap_or_default();
        for event in events.iter().filter(|event| event["type"] == "m.room.message") {
            let field = |value: &Value| value.as_str().unwrap_or_default().to_owned();
            found.push((field(&event["content"]["body"]), field(&event["event_id"])));
        }
        match page["end"].as_str() {
            Some(end) if !events.is_empty() => from = format!("&from={end}"),
            _ => return Ok(found),
        }
    }
}

/// Syncs until no to-device message is left.
async fn drain(inbox: &Client, token_of: &mut String, heard: &mut Vec<String>) -> Outcome<()> {
    loop {
        let body = inbox.sync(token_of, 0).await?;
        *token_of = token(&body)?;
        let events = body["to_device"]["events"].as_array().cloned().unwrap_or_default();
        if events.is_empty() {
            return Ok(());
        }
        heard.extend(events.iter().filter_map(|event| event["content"]["body"].as_str().map(str::to_owned)));
    }
}

/// A small generator: the moments of death repeat with the seed.
fn next_random(state: &mut u64) -> u64 {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    *state
}

fn number(name: &str, otherwise: u64) -> Outcome<u64> {
    match std::env::var(name) {
        Ok(value) => Ok(value.parse()?),
        Err(_) => Ok(otherwise),
    }
}

fn median(times: &[Duration]) -> Duration {
    spec_tests::measure::quantile(times, 0.5)
}

#[tokio::test]
async fn whatever_was_acknowledged_survives() -> Outcome<()> {
    let rounds = usize::try_from(number("KILL_ROUNDS", u64::try_from(ROUNDS)?)?)?;
    let mut seed = number("KILL_SEED", u64::from(std::process::id()))?.max(1);
    println!("KILL_SEED={seed} KILL_ROUNDS={rounds}");
    let mut server = Server::start(Kind::from_environment()?).await?;
    let mut world = World::new(&server.url()).await?;
    let mut starts = Vec::new();
    for round in 0..rounds {
        world.upload_keys().await?;
        let life = Duration::from_millis(20 + next_random(&mut seed) % LIFE_MS);
        let deeds = world.live(&mut server, life, round).await?;
        starts.push(server.up().await?);
        let lived = async {
            world.settle(deeds).await?;
            world.check().await
        };
        if let Err(error) = lived.await {
            println!("the server's log:\n{}", server.log());
            return Err(format!("round {round}, killed after {life:?}: {error}").into());
        }
    }
    let said: usize = world.said.values().map(BTreeMap::len).sum();
    println!("{said} messages, {} whispers, {} keys claimed", world.whispered.len(), world.claimed.len());
    let (first, last) = starts.split_at(starts.len() / 2);
    println!("start after a kill: median {:?} at first, {:?} at last", median(first), median(last));
    if said == 0 || world.whispered.is_empty() || world.claimed.is_empty() {
        return Err("nothing was done".into());
    }
    if !first.is_empty() && median(last) > median(first) * START_SLACK.0 + START_SLACK.1 {
        return Err("starting takes longer and longer".into());
    }
    world.owner.ask(Method::GET, "/_matrix/client/v3/account/whoami", None).await?;
    server.stop().await
}
