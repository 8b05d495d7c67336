//! The search of messages over the life of a server: an index that is lost, damaged or of another server, and what
//! other servers tell of the past.
//!
//! <https://spec.matrix.org/v1.19/client-server-api/#server-side-search>

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use reqwest::Method;
use serde_json::{Value, json};
use spec_tests::{
    Outcome,
    matrix::Client,
    server::{Kind, Server},
    world::World,
};
use tokio::time::{Instant, sleep};

/// How long an index may take to be made anew, or to hear of something.
const DEADLINE: Duration = Duration::from_secs(60);
/// Between two searches.
const POLL: Duration = Duration::from_millis(50);
const MESSAGES: usize = 50;

/// What is found, newest first; nothing while the index is not open.
async fn find(user: &Client, word: &str) -> Outcome<Option<Vec<String>>> {
    let request = json!({"search_categories": {"room_events": {
        "search_term": word, "order_by": "recent", "filter": {"limit": 100},
    }}});
    let answer = user.ask(Method::POST, "/_matrix/client/v3/search", Some(&request)).await?;
    if answer.status != 200 {
        return Ok(None);
    }
    let found = answer.json();
    let results = found["search_categories"]["room_events"]["results"].as_array().cloned();
    let body = |result: &Value| Some(result["result"]["content"]["body"].as_str()?.to_owned());
    Ok(Some(results.unwrap_or_default().iter().filter_map(body).collect()))
}

/// Searches until this is found, and nothing else.
async fn until_found(user: &Client, word: &str, expected: &BTreeSet<String>) -> Outcome<()> {
    let begun = Instant::now();
    loop {
        let found = find(user, word).await?;
        let all: BTreeSet<String> = found.iter().flatten().cloned().collect();
        if found.as_ref().is_some_and(|found| found.len() == expected.len()) && all == *expected {
            return Ok(());
        }
        if begun.elapsed() > DEADLINE {
            return Err(format!("\"{word}\" finds {found:?}, not {expected:?}").into());
        }
        sleep(POLL).await;
    }
}

fn files(folder: &Path) -> Outcome<Vec<PathBuf>> {
    fs::read_dir(folder)?.map(|entry| Ok(entry?.path())).collect()
}

#[tokio::test]
async fn an_index_is_made_anew_when_it_is_of_no_use() -> Outcome<()> {
    let mut server = Server::start(Kind::lockstep()?).await?;
    let alice = Client::anonymous(&server.url())?.register("alice").await?;
    let room = alice.create_room(&json!({ "name": "Paper" })).await?;
    let mut said = BTreeSet::new();
    let mut redacted = String::new();
    for number in 0..MESSAGES {
        let text = format!("paper number {number}");
        let event = alice.say(&room, &text).await?;
        match number {
            0 => redacted = event,
            _ => drop(said.insert(text)),
        }
    }
    let path = format!("/_matrix/client/v3/rooms/{room}/redact/{redacted}/1");
    alice.put(&path, &json!({})).await?;
    until_found(&alice, "number", &said).await?;
    let folder = server.data().join("search");

    // It is lost.
    server.stop().await?;
    fs::remove_dir_all(&folder)?;
    server.up().await?;
    until_found(&alice, "number", &said).await?;

    // Bytes of it are others, wherever.
    server.stop().await?;
    for path in files(&folder)?.into_iter().filter(|path| path.is_file()) {
        let mut bytes = fs::read(&path)?;
        let middle = bytes.len() / 2;
        if let Some(byte) = bytes.get_mut(middle) {
            *byte ^= 0x20;
        }
        fs::write(&path, bytes)?;
    }
    server.up().await?;
    until_found(&alice, "number", &said).await?;

    // It is of another server, whose messages are none of ours.
    let mut other = Server::start(Kind::lockstep()?).await?;
    let mallory = Client::anonymous(&other.url())?.register("mallory").await?;
    let elsewhere = mallory.create_room(&json!({})).await?;
    mallory.say(&elsewhere, "number of somebody else").await?;
    until_found(&mallory, "number", &BTreeSet::from(["number of somebody else".to_owned()])).await?;
    other.stop().await?;
    server.stop().await?;
    fs::remove_dir_all(&folder)?;
    fs::rename(other.data().join("search"), &folder)?;
    server.up().await?;
    until_found(&alice, "number", &said).await?;

    // And it goes on from there.
    let more = "one more number";
    alice.say(&room, more).await?;
    said.insert(more.to_owned());
    until_found(&alice, "number", &said).await?;
    server.stop().await
}

#[tokio::test]
async fn what_was_said_before_the_own_server_was_there_is_found() -> Outcome<()> {
    let mut world = World::start(Kind::lockstep()?, Kind::lockstep()?).await?;
    let (alice, bob) = world.people("search").await?;
    let room = alice.client.create_room(&json!({ "preset": "public_chat" })).await?;
    let mut said = BTreeSet::new();
    for number in 0..MESSAGES {
        let text = format!("early number {number}");
        alice.client.say(&room, &text).await?;
        said.insert(text);
    }
    bob.join_via(&room, &world.here.name()).await?;
    let mut from = String::new();
    let mut read = 0;
    while read < MESSAGES {
        let path = format!("/_matrix/client/v3/rooms/{room}/messages?dir=b&limit=20{from}");
        let page = bob.client.get(&path).await?;
        let events = page["chunk"].as_array().cloned().unwrap_or_default();
        read += events.iter().filter(|event| event["type"] == "m.room.message").count();
        match page["end"].as_str() {
            Some(end) => from = format!("&from={end}"),
            None if read < MESSAGES => return Err(format!("only {read} messages can be read").into()),
            None => {}
        }
    }
    // The index looks at what has come whenever something is written.
    bob.client.say(&room, "thank you").await?;
    until_found(&bob.client, "number", &said).await?;

    // An index that is made anew has it too.
    world.there.stop().await?;
    fs::remove_dir_all(world.there.data().join("search"))?;
    world.there.up().await?;
    until_found(&bob.client, "number", &said).await
}
