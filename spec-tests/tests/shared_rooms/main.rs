//! Two servers over TLS on loopback: Lockstep with Lockstep, and Lockstep with a real Synapse, each way round.
//!
//! Synapse is installed by `spec-tests/clients/setup`. `FEDERATION=lockstep` runs without it.

mod devices;
mod doors;
mod media;
mod rooms;

use serde_json::{Value, json};
use spec_tests::{
    Outcome,
    clients::{Script, run_across},
    matrix::txn_id,
    server::Kind,
    world::World,
};
use tokio::sync::Mutex;

use devices::device_lists;
use doors::{knock, knock_restricted, restricted_join, third_party_invite};
use media::media;
use rooms::{room_upgrade, space_hierarchy};

/// One pair of servers at a time: the deadlines are meant for a machine that does nothing else.
static TURN: Mutex<()> = Mutex::const_new(());

/// The room versions that each scene of joining is played in.
const VERSIONS: [&str; 6] = ["1", "6", "9", "10", "11", "12"];

/// Whether whoever runs this wants Lockstep alone.
fn is_without_synapse() -> bool {
    std::env::var("FEDERATION").is_ok_and(|word| word == "lockstep")
}

async fn play(here: Kind, there: Kind) -> Outcome<()> {
    let _turn = TURN.lock().await;
    let mut world = World::start(here, there).await?;
    let outcome = scenes(&mut world).await;
    if outcome.is_err() {
        println!("the log of the first server:\n{}", world.here.log());
        println!("the log of the second server:\n{}", world.there.log());
    }
    outcome
}

async fn scenes(world: &mut World) -> Outcome<()> {
    let wanted = std::env::var("SCENARIOS").unwrap_or_default();
    let mut failed = Vec::new();
    macro_rules! scene {
        ($name:ident) => {
            if wanted.is_empty() || wanted.split(' ').any(|name| name == stringify!($name)) {
                match $name(world).await {
                    Ok(()) => println!("ok {}", stringify!($name)),
                    Err(error) => {
                        println!("FAIL {}: {error}", stringify!($name));
                        failed.push(stringify!($name));
                    }
                }
            }
        };
    }
    scene!(invite_and_talk);
    scene!(public_join);
    scene!(people_and_rooms_are_found);
    scene!(kick_ban_redact);
    scene!(typing_receipts_presence);
    scene!(to_device);
    scene!(history_from_before);
    scene!(catch_up);
    scene!(conflicting_state);
    scene!(device_lists);
    scene!(restricted_join);
    scene!(knock);
    scene!(knock_restricted);
    scene!(third_party_invite);
    scene!(space_hierarchy);
    scene!(room_upgrade);
    scene!(media);
    match failed.is_empty() {
        true => Ok(()),
        false => Err(format!("failed: {failed:?}").into()),
    }
}

async fn invite_and_talk(world: &mut World) -> Outcome<()> {
    for version in VERSIONS {
        let (mut alice, mut bob) = world.people(&format!("invite{version}")).await?;
        let request = json!({ "preset": "private_chat", "room_version": version, "invite": [bob.id()], "name": "a name" });
        let room = alice.client.create_room(&request).await?;
        let invitation = bob.invited(&room).await?;
        let events = invitation["invite_state"]["events"].as_array().cloned().unwrap_or_default();
        let name = events.iter().find(|event| event["type"] == "m.room.name");
        if name.is_none_or(|name| name["content"]["name"] != "a name") {
            return Err(
                format!("version {version}: the invitation does not name the room: {events:?}").into()
            );
        }
        bob.join_via(&room, &world.here.name())
            .await
            .map_err(|error| format!("version {version}: {error}"))?;
        alice.sees_member(&room, &bob.id(), "join").await?;
        alice.client.say(&room, "from here").await?;
        bob.hears(&room, "from here").await?;
        bob.client.say(&room, "from there").await?;
        alice.hears(&room, "from there").await?;
        bob.act(&room, "leave", &bob.id()).await?;
        alice.sees_member(&room, &bob.id(), "leave").await?;
    }
    Ok(())
}

async fn public_join(world: &mut World) -> Outcome<()> {
    for version in VERSIONS {
        let (mut alice, mut bob) = world.people(&format!("public{version}")).await?;
        let request = json!({
            "preset": "public_chat",
            "room_version": version,
            "room_alias_name": format!("public{version}"),
        });
        let room = bob.client.create_room(&request).await?;
        let alias = format!("%23public{version}:{}", world.there.name());
        let joined = alice.client.post(&format!("/_matrix/client/v3/join/{alias}"), &json!({})).await?;
        if joined["room_id"] != room.as_str() {
            return Err(format!("version {version}: joined {joined} instead of {room}").into());
        }
        bob.sees_member(&room, &alice.id(), "join").await?;
        alice.client.say(&room, "from here").await?;
        bob.hears(&room, "from here").await?;
        bob.client.say(&room, "from there").await?;
        alice.hears(&room, "from there").await?;
    }
    Ok(())
}

async fn people_and_rooms_are_found(world: &mut World) -> Outcome<()> {
    let (alice, bob) = world.people("found").await?;
    for (one, other, their_server) in [(&alice, &bob, &world.there), (&bob, &alice, &world.here)] {
        let path = format!("/_matrix/client/v3/profile/{}/displayname", other.id());
        other.client.put(&path, &json!({ "displayname": "a person" })).await?;
        let profile = one.client.get(&format!("/_matrix/client/v3/profile/{}", other.id())).await?;
        if profile["displayname"] != "a person" {
            return Err(format!("the profile is {profile}").into());
        }
        let request = json!({ "preset": "public_chat", "visibility": "public", "name": "found by all" });
        let room = other.client.create_room(&request).await?;
        let path = format!("/_matrix/client/v3/publicRooms?server={}", their_server.name());
        let found = one.client.get(&path).await?;
        let rooms = found["chunk"].as_array().cloned().unwrap_or_default();
        if !rooms.iter().any(|entry| entry["room_id"] == room.as_str()) {
            return Err(format!("{room} is not in {found}").into());
        }
    }
    Ok(())
}

/// A room of alice's with bob in it.
async fn together(
    world: &World,
    scene: &str,
) -> Outcome<(spec_tests::world::Person, spec_tests::world::Person, String)> {
    let (mut alice, mut bob) = world.people(scene).await?;
    let room = alice.client.create_room(&json!({ "preset": "public_chat" })).await?;
    bob.join_via(&room, &world.here.name()).await?;
    alice.sees_member(&room, &bob.id(), "join").await?;
    bob.sees_member(&room, &bob.id(), "join").await?;
    Ok((alice, bob, room))
}

async fn kick_ban_redact(world: &mut World) -> Outcome<()> {
    let (mut alice, mut bob, room) = together(world, "order").await?;
    let event_id = bob.client.say(&room, "a mistake").await?;
    alice.hears(&room, "a mistake").await?;
    let path = format!("/_matrix/client/v3/rooms/{room}/redact/{event_id}/{}", txn_id());
    alice.client.put(&path, &json!({})).await?;
    bob.event(&room, "the redaction", |event| event["type"] == "m.room.redaction").await?;
    let event = bob.client.get(&format!("/_matrix/client/v3/rooms/{room}/event/{event_id}")).await?;
    if event["content"] != json!({}) {
        return Err(format!("still there: {event}").into());
    }
    alice.act(&room, "kick", &bob.id()).await?;
    bob.sees_member(&room, &bob.id(), "leave").await?;
    bob.join_via(&room, &world.here.name()).await?;
    alice.forget();
    alice.client.say(&room, "back again").await?;
    bob.hears(&room, "back again").await?;
    alice.act(&room, "ban", &bob.id()).await?;
    bob.sees_member(&room, &bob.id(), "ban").await?;
    match bob.join_via(&room, &world.here.name()).await {
        Ok(()) => Err("joined in spite of the ban".into()),
        Err(_) => Ok(()),
    }
}

async fn typing_receipts_presence(world: &mut World) -> Outcome<()> {
    let (mut alice, mut bob, room) = together(world, "ephemeral").await?;
    let event_id = alice.client.say(&room, "read me").await?;
    bob.hears(&room, "read me").await?;
    let typing = format!("/_matrix/client/v3/rooms/{room}/typing/{}", bob.id());
    bob.client.put(&typing, &json!({ "typing": true, "timeout": 30_000 })).await?;
    let id = bob.id();
    let types = |event: &Value| event["type"] == "m.typing" && event["content"]["user_ids"][0] == id.as_str();
    alice.ephemeral(&room, "bob typing", types).await?;
    bob.client
        .post(&format!("/_matrix/client/v3/rooms/{room}/receipt/m.read/{event_id}"), &json!({}))
        .await?;
    let reads = |event: &Value| {
        event["type"] == "m.receipt" && event["content"][&event_id]["m.read"].get(&id).is_some()
    };
    alice.ephemeral(&room, "bob's receipt", reads).await?;
    let path = format!("/_matrix/client/v3/presence/{}/status", alice.id());
    alice.client.put(&path, &json!({ "presence": "online", "status_msg": "here" })).await?;
    let id = alice.id();
    bob.until("alice's presence", |sync| {
        let events = sync["presence"]["events"].as_array().cloned().unwrap_or_default();
        events
            .into_iter()
            .find(|event| event["sender"] == id.as_str() && event["content"]["status_msg"] == "here")
    })
    .await?;
    Ok(())
}

async fn to_device(world: &mut World) -> Outcome<()> {
    let (mut alice, mut bob, _room) = together(world, "todevice").await?;
    for _ in 0..2 {
        let messages =
            json!({ "messages": { bob.id(): { bob.client.device_id.as_str(): { "number": 1 } } } });
        let path = format!("/_matrix/client/v3/sendToDevice/m.test/{}", txn_id());
        alice.client.put(&path, &messages).await?;
        let message = bob.to_device("m.test").await?;
        if message["sender"] != alice.id() || message["content"]["number"] != 1 {
            return Err(format!("another message came: {message}").into());
        }
        std::mem::swap(&mut alice, &mut bob);
    }
    Ok(())
}

async fn history_from_before(world: &mut World) -> Outcome<()> {
    let (alice, mut bob) = world.people("before").await?;
    let room = alice.client.create_room(&json!({ "preset": "public_chat" })).await?;
    for number in 0..30 {
        alice.client.say(&room, &format!("old {number}")).await?;
    }
    bob.join_via(&room, &world.here.name()).await?;
    bob.sees_member(&room, &bob.id(), "join").await?;
    let mut from = String::new();
    let mut bodies: Vec<String> = Vec::new();
    for _ in 0..20 {
        let path = format!("/_matrix/client/v3/rooms/{room}/messages?dir=b&limit=10{from}");
        let page = bob.client.get(&path).await?;
        let chunk = page["chunk"].as_array().cloned().unwrap_or_default();
        bodies.extend(chunk.iter().filter_map(|event| Some(event["content"]["body"].as_str()?.to_owned())));
        match page["end"].as_str() {
            Some(end) => from = format!("&from={end}"),
            None => break,
        }
    }
    let expected: Vec<String> = (0..30).rev().map(|number| format!("old {number}")).collect();
    match bodies == expected {
        true => Ok(()),
        false => Err(format!("the history is {bodies:?}").into()),
    }
}

async fn catch_up(world: &mut World) -> Outcome<()> {
    let (mut alice, mut bob, room) = together(world, "catchup").await?;
    world.there.stop().await?;
    for number in 0..5 {
        alice.client.say(&room, &format!("missed {number}")).await?;
    }
    let messages = json!({ "messages": { bob.id(): { bob.client.device_id.as_str(): { "n": 1 } } } });
    alice.client.put(&format!("/_matrix/client/v3/sendToDevice/m.missed/{}", txn_id()), &messages).await?;
    world.there.up().await?;
    for number in 0..5 {
        bob.hears(&room, &format!("missed {number}")).await?;
    }
    bob.to_device("m.missed").await?;
    world.here.stop().await?;
    bob.client.say(&room, "while you were out").await?;
    world.here.up().await?;
    alice.hears(&room, "while you were out").await?;
    Ok(())
}

/// Both sides change the same state while they cannot reach each other, and one takes the other's power; they come to the
/// same answer, whatever the version of the room.
async fn conflicting_state(world: &mut World) -> Outcome<()> {
    let mut rooms = Vec::new();
    for version in ["1", "6", "11", "12"] {
        let (mut alice, mut bob) = world.people(&format!("conflict{version}")).await?;
        let request = json!({ "preset": "public_chat", "room_version": version });
        let room = alice.client.create_room(&request).await?;
        bob.join_via(&room, &world.here.name()).await?;
        alice.sees_member(&room, &bob.id(), "join").await?;
        // Creators are above all levels since version 12, and must not be named; before, they must be.
        let levels = |bobs: u64| match version == "12" {
            true => json!({ "users": { bob.id(): bobs } }),
            false => json!({ "users": { alice.id(): 100, bob.id(): bobs } }),
        };
        let (trusted, distrusted, id) = (levels(50), levels(0), bob.id());
        alice.set_state(&room, "m.room.power_levels", "", &trusted).await?;
        bob.event(&room, "the power levels", |event| {
            event["type"] == "m.room.power_levels" && event["content"]["users"].get(&id).is_some()
        })
        .await?;
        rooms.push((version, alice, bob, room, distrusted));
    }
    world.there.stop().await?;
    for (_, alice, _, room, distrusted) in &rooms {
        alice.set_state(room, "m.room.topic", "", &json!({ "topic": "from here" })).await?;
        alice.set_state(room, "m.room.power_levels", "", distrusted).await?;
    }
    world.here.stop().await?;
    world.there.up().await?;
    for (_, _, bob, room, _) in &rooms {
        for (kind, field) in [("m.room.topic", "topic"), ("m.room.name", "name")] {
            bob.set_state(room, kind, "", &json!({ field: "from there" })).await?;
        }
    }
    world.here.up().await?;
    for (version, mut alice, mut bob, room, distrusted) in rooms {
        alice.client.say(&room, "joined again, here").await?;
        bob.client.say(&room, "joined again, there").await?;
        alice.hears(&room, "joined again, there").await?;
        bob.hears(&room, "joined again, here").await?;
        for kind in ["m.room.power_levels", "m.room.topic", "m.room.name"] {
            let sides = [alice.state(&room, kind, "").await.ok(), bob.state(&room, kind, "").await.ok()];
            if sides[0] != sides[1] {
                return Err(
                    format!("version {version}: the two sides disagree about {kind}: {sides:?}").into()
                );
            }
        }
        let levels = alice.state(&room, "m.room.power_levels", "").await?;
        if levels["users"][bob.id()] != distrusted["users"][bob.id()] {
            return Err(format!("version {version}: he has his power still: {levels}").into());
        }
    }
    Ok(())
}

/// Real client libraries on the two servers, in encrypted rooms: what they can tell of one another is what
/// they can tell on one server.
async fn encrypted(here: Kind, there: Kind) -> Outcome<()> {
    let _turn = TURN.lock().await;
    let mut world = World::start(here, there).await?;
    for (script, names) in [
        (Script::Nio, "everyone_decrypts away_catches_up conversation emoji removed_device"),
        (Script::JsSdk, "everyone_decrypts away_catches_up emoji_users removed_device"),
    ] {
        if let Err(error) = run_across(script, names, (&mut world.here, &world.there)).await {
            println!("the log of the first server:\n{}", world.here.log());
            println!("the log of the second server:\n{}", world.there.log());
            return Err(error);
        }
    }
    Ok(())
}

#[tokio::test]
async fn encrypted_between_lockstep_and_lockstep() -> Outcome<()> {
    encrypted(Kind::lockstep()?, Kind::lockstep()?).await
}

#[tokio::test]
async fn encrypted_between_lockstep_and_synapse() -> Outcome<()> {
    if is_without_synapse() {
        return Ok(());
    }
    encrypted(Kind::lockstep()?, Kind::synapse()?).await
}

#[tokio::test]
async fn encrypted_between_synapse_and_lockstep() -> Outcome<()> {
    if is_without_synapse() {
        return Ok(());
    }
    encrypted(Kind::synapse()?, Kind::lockstep()?).await
}

#[tokio::test]
async fn lockstep_with_lockstep() -> Outcome<()> {
    play(Kind::lockstep()?, Kind::lockstep()?).await
}

#[tokio::test]
async fn lockstep_with_synapse() -> Outcome<()> {
    if is_without_synapse() {
        return Ok(());
    }
    play(Kind::lockstep()?, Kind::synapse()?).await
}

#[tokio::test]
async fn synapse_with_lockstep() -> Outcome<()> {
    if is_without_synapse() {
        return Ok(());
    }
    play(Kind::synapse()?, Kind::lockstep()?).await
}
