//! Ways into a room of another server: by another room, by knocking, by an invite to an address.

use base64::{Engine, engine::general_purpose::STANDARD_NO_PAD};
use ed25519_dalek::{Signer, SigningKey};
use serde_json::{Value, json};
use spec_tests::{
    Outcome,
    matrix::Client,
    world::{Person, World},
};

/// The versions that know restricted rooms.
const RESTRICTED: [&str; 4] = ["9", "10", "11", "12"];
/// The versions that know both at once.
const KNOCK_RESTRICTED: [&str; 3] = ["10", "11", "12"];

/// A private room of alice's with a join rule.
async fn room_with(alice: &Person, version: &str, rule: &Value) -> Outcome<String> {
    let rule = json!({ "type": "m.room.join_rules", "state_key": "", "content": rule });
    // Nobody of the other server may invite, and so let others in.
    let levels = json!({ "invite": 50 });
    let request = json!({
        "preset": "private_chat", "room_version": version, "initial_state": [rule],
        "power_level_content_override": levels,
    });
    alice.client.create_room(&request).await
}

/// A public room of bob's that alice is in.
async fn club(world: &World, alice: &Person, bob: &mut Person) -> Outcome<String> {
    let club = bob.client.create_room(&json!({ "preset": "public_chat" })).await?;
    alice.join_via(&club, &world.there.name()).await?;
    bob.sees_member(&club, &alice.id(), "join").await?;
    Ok(club)
}

fn allows(rule: &str, club: &str) -> Value {
    json!({ "join_rule": rule, "allow": [{ "type": "m.room_membership", "room_id": club }] })
}

async fn talk(one: &mut Person, other: &mut Person, room: &str) -> Outcome<()> {
    one.client.say(room, "from one").await?;
    other.hears(room, "from one").await?;
    other.client.say(room, "from the other").await?;
    one.hears(room, "from the other").await.map(drop)
}

/// Who is in a room on the other server may join, whoever of that server is in already; others may not.
pub(crate) async fn restricted_join(world: &mut World) -> Outcome<()> {
    for version in RESTRICTED {
        let (mut alice, mut bob) = world.people(&format!("restricted{version}")).await?;
        let (_, mut dan) = world.people(&format!("restricted{version}b")).await?;
        let (_, stranger) = world.people(&format!("restricted{version}c")).await?;
        let club = club(world, &alice, &mut bob).await?;
        dan.client.join(&club).await?;
        alice.sees_member(&club, &dan.id(), "join").await?;
        let room = room_with(&alice, version, &allows("restricted", &club)).await?;
        if stranger.join_via(&room, &world.here.name()).await.is_ok() {
            return Err(format!("version {version}: a stranger came in").into());
        }
        for guest in [&mut bob, &mut dan] {
            let joined = guest.join_via(&room, &world.here.name()).await;
            joined.map_err(|error| format!("version {version}: {error}"))?;
            let event = alice.sees_member(&room, &guest.id(), "join").await?;
            if event["content"]["join_authorised_via_users_server"] != alice.id() {
                return Err(format!("version {version}: nobody has let {event} in").into());
            }
            guest.sees_member(&room, &guest.id(), "join").await?;
        }
        if stranger.join_via(&room, &world.here.name()).await.is_ok() {
            return Err(format!("version {version}: a stranger came in after the others").into());
        }
        talk(&mut alice, &mut bob, &room).await?;
        talk(&mut dan, &mut alice, &room).await?;
    }
    Ok(())
}

async fn knock_on(person: &mut Person, room: &str, via: &str) -> Outcome<()> {
    let path = format!("/_matrix/client/v3/knock/{room}?server_name={via}&via={via}");
    person.client.post(&path, &json!({ "reason": "let me in" })).await?;
    let state = person.until("the knock", |sync| sync["rooms"]["knock"].get(room).cloned()).await?;
    let events = state["knock_state"]["events"].as_array().cloned().unwrap_or_default();
    match events.iter().any(|event| event["type"] == "m.room.join_rules") {
        true => Ok(()),
        false => Err(format!("the knock tells little: {events:?}").into()),
    }
}

/// A knock is heard, refused, made again, answered with an invite, and withdrawn.
pub(crate) async fn knock(world: &mut World) -> Outcome<()> {
    for version in ["7", "12"] {
        let (mut alice, mut bob) = world.people(&format!("knock{version}")).await?;
        let room = room_with(&alice, version, &json!({ "join_rule": "knock" })).await?;
        let via = world.here.name();
        if bob.join_via(&room, &via).await.is_ok() {
            return Err(format!("version {version}: came in without a knock").into());
        }
        knock_on(&mut bob, &room, &via).await?;
        let heard = alice.sees_member(&room, &bob.id(), "knock").await?;
        if heard["content"]["reason"] != "let me in" {
            return Err(format!("version {version}: the reason is lost: {heard}").into());
        }
        // Synapse neither tells another server that a knock is turned down, nor takes one back there (#18030).
        if [&world.here, &world.there].iter().all(|server| server.kind().name() == "lockstep") {
            alice.act(&room, "kick", &bob.id()).await?;
            bob.until("the refusal", |sync| sync["rooms"]["leave"].get(&room).cloned()).await?;
            alice.forget();
            bob.forget();
            knock_on(&mut bob, &room, &via).await?;
            alice.sees_member(&room, &bob.id(), "knock").await?;
            bob.act(&room, "leave", &bob.id()).await?;
            alice.sees_member(&room, &bob.id(), "leave").await?;
            alice.forget();
            bob.forget();
            knock_on(&mut bob, &room, &via).await?;
            alice.sees_member(&room, &bob.id(), "knock").await?;
        }
        alice.act(&room, "invite", &bob.id()).await?;
        bob.invited(&room).await?;
        bob.join_via(&room, &via).await.map_err(|error| format!("version {version}: {error}"))?;
        alice.sees_member(&room, &bob.id(), "join").await?;
        bob.sees_member(&room, &bob.id(), "join").await?;
        talk(&mut alice, &mut bob, &room).await?;
    }
    Ok(())
}

/// Members of the other room come in, others knock.
pub(crate) async fn knock_restricted(world: &mut World) -> Outcome<()> {
    for version in KNOCK_RESTRICTED {
        let (mut alice, mut bob) = world.people(&format!("both{version}")).await?;
        let (_, mut stranger) = world.people(&format!("both{version}b")).await?;
        let club = club(world, &alice, &mut bob).await?;
        let room = room_with(&alice, version, &allows("knock_restricted", &club)).await?;
        let via = world.here.name();
        if stranger.join_via(&room, &via).await.is_ok() {
            return Err(format!("version {version}: a stranger came in").into());
        }
        knock_on(&mut stranger, &room, &via).await?;
        alice.sees_member(&room, &stranger.id(), "knock").await?;
        bob.join_via(&room, &via).await.map_err(|error| format!("version {version}: {error}"))?;
        alice.sees_member(&room, &bob.id(), "join").await?;
        alice.act(&room, "invite", &stranger.id()).await?;
        stranger.invited(&room).await?;
        // The room has to know of it too, on their server. Synapse's syncs leave out what came as an invite first.
        bob.finds_member(&room, &stranger.id(), "invite").await?;
        stranger.join_via(&room, &via).await.map_err(|error| format!("version {version}: {error}"))?;
        alice.sees_member(&room, &stranger.id(), "join").await?;
        talk(&mut stranger, &mut alice, &room).await?;
    }
    Ok(())
}

/// An address is invited; an identity server tells the other server whose it is, which asks for the invite.
pub(crate) async fn third_party_invite(world: &mut World) -> Outcome<()> {
    for version in ["1", "10", "12"] {
        let (mut alice, mut bob) = world.people(&format!("address{version}")).await?;
        let request = json!({ "preset": "private_chat", "room_version": version });
        let room = alice.client.create_room(&request).await?;
        let secret = SigningKey::from_bytes(&[9; 32]);
        let public = STANDARD_NO_PAD.encode(secret.verifying_key().as_bytes());
        let content = json!({
            "display_name": "b...@example.org",
            "key_validity_url": "https://identity.example.org/valid",
            "public_key": public,
            "public_keys": [{ "public_key": public }],
        });
        alice.set_state(&room, "m.room.third_party_invite", "a-token", &content).await?;
        let mut signed = json!({ "mxid": bob.id(), "token": "a-token" });
        // Keys of a map are in order and nothing here needs escaping: this is canonical JSON.
        let signature = STANDARD_NO_PAD.encode(secret.sign(signed.to_string().as_bytes()).to_bytes());
        signed["signatures"] = json!({ "identity.example.org": { "ed25519:0": signature } });
        let invite = json!({
            "address": "bob@example.org", "medium": "email", "mxid": bob.id(), "room_id": room,
            "sender": alice.id(), "signed": signed,
        });
        let bound = json!({
            "address": "bob@example.org", "medium": "email", "mxid": bob.id(), "invites": [invite],
        });
        let anyone = Client::anonymous(&world.there.url())?;
        let path = "/_matrix/federation/v1/3pid/onbind";
        // The specification says PUT, Synapse takes POST only.
        match world.there.kind().name() {
            "synapse" => anyone.post(path, &bound).await?,
            _ => anyone.put(path, &bound).await?,
        };
        let invited = alice.sees_member(&room, &bob.id(), "invite").await;
        let invited = invited.map_err(|error| format!("version {version}: {error}"))?;
        if invited["content"]["third_party_invite"]["signed"]["token"] != "a-token" {
            return Err(format!("version {version}: it is no invite by address: {invited}").into());
        }
        bob.invited(&room).await?;
        bob.join_via(&room, &world.here.name()).await?;
        alice.sees_member(&room, &bob.id(), "join").await?;
        bob.sees_member(&room, &bob.id(), "join").await?;
        talk(&mut alice, &mut bob, &room).await?;
    }
    Ok(())
}
