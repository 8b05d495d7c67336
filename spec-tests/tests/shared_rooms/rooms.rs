//! Rooms that point to other rooms, across servers: spaces and upgrades.

use serde_json::{Value, json};
use spec_tests::{Outcome, world::World};

/// A space has rooms of both servers, and both servers tell of all of them.
pub(crate) async fn space_hierarchy(world: &mut World) -> Outcome<()> {
    let (mut alice, mut bob) = world.people("space").await?;
    let space =
        json!({ "preset": "public_chat", "name": "a space", "creation_content": { "type": "m.space" } });
    let space = alice.client.create_room(&space).await?;
    let near = json!({ "preset": "public_chat", "name": "the near room" });
    let near = alice.client.create_room(&near).await?;
    let far = bob.client.create_room(&json!({ "preset": "public_chat", "name": "the far room" })).await?;
    let hidden = bob.client.create_room(&json!({ "preset": "private_chat", "name": "hidden" })).await?;
    for (child, server) in [(&near, &world.here), (&far, &world.there), (&hidden, &world.there)] {
        let content = json!({ "via": [server.name()] });
        alice.set_state(&space, "m.space.child", child, &content).await?;
    }
    bob.join_via(&space, &world.here.name()).await?;
    alice.sees_member(&space, &bob.id(), "join").await?;
    bob.sees_member(&space, &bob.id(), "join").await?;
    for person in [&alice, &bob] {
        let found = person.client.get(&format!("/_matrix/client/v1/rooms/{space}/hierarchy")).await?;
        let rooms = found["rooms"].as_array().cloned().unwrap_or_default();
        let named = |name: &str| rooms.iter().any(|room| room["name"] == name);
        if !named("a space") || !named("the near room") || !named("the far room") {
            return Err(format!("{} does not see all of {rooms:?}", person.id()).into());
        }
        if named("hidden") != (person.id() == bob.id()) {
            return Err(format!("{} sees what is not for them: {rooms:?}", person.id()).into());
        }
    }
    Ok(())
}

/// A room goes on as another one: the other server sees where, and its user follows.
pub(crate) async fn room_upgrade(world: &mut World) -> Outcome<()> {
    for (from, to) in [("9", "10"), ("10", "11"), ("11", "12")] {
        let (mut alice, mut bob) = world.people(&format!("upgrade{to}")).await?;
        let request = json!({ "preset": "public_chat", "room_version": from, "name": "to be moved" });
        let old = alice.client.create_room(&request).await?;
        bob.join_via(&old, &world.here.name()).await?;
        alice.sees_member(&old, &bob.id(), "join").await?;
        bob.sees_member(&old, &bob.id(), "join").await?;
        let path = format!("/_matrix/client/v3/rooms/{old}/upgrade");
        let upgraded = alice.client.post(&path, &json!({ "new_version": to })).await?;
        let new = upgraded["replacement_room"].as_str().ok_or("no replacement_room")?.to_owned();
        let is_tombstone = |event: &Value| event["type"] == "m.room.tombstone";
        let tombstone = bob.event(&old, "the tombstone", is_tombstone).await?;
        if tombstone["content"]["replacement_room"] != new.as_str() {
            return Err(format!("version {to}: it leads elsewhere: {tombstone}").into());
        }
        let sender = tombstone["sender"].as_str().unwrap_or_default();
        let via = sender.split_once(':').map_or("", |(_, server)| server);
        bob.join_via(&new, via).await.map_err(|error| format!("version {to}: {error}"))?;
        alice.sees_member(&new, &bob.id(), "join").await?;
        bob.sees_member(&new, &bob.id(), "join").await?;
        let create = bob.state(&new, "m.room.create", "").await?;
        let name = bob.state(&new, "m.room.name", "").await?;
        if create["predecessor"]["room_id"] != old.as_str() || name["name"] != "to be moved" {
            return Err(format!("version {to}: it is another room: {create} {name}").into());
        }
        alice.client.say(&new, "here we are").await?;
        bob.hears(&new, "here we are").await?;
    }
    Ok(())
}
