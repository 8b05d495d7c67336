//! What ends a sync that waits, and how much one answer has.

use ruma::OwnedEventId;
use serde_json::{Value, json};

use super::{
    World,
    sliding::{list, of, rooms},
};
use crate::{
    log::Commit,
    store::table::{Rows, TableId},
};

#[tokio::test]
async fn counts_of_a_room_that_cannot_be_rendered_come_when_it_can() {
    const EVENTS: Rows<(OwnedEventId,), ()> = Rows::new(TableId::Event);
    let world = World::new(false).await;
    let room = world.room("alice").await;
    world.join("bob", &room).await.unwrap();
    let event = world.say("alice", &room, "x").await;
    let first = world.slide("bob", list(&Value::Null, 9)).await;
    assert_eq!(of(&first, &room)["notification_count"], 1);
    let key = EVENTS.key(&(event,));
    let whole = world.db.raw(&key).await.unwrap().unwrap();
    let write = async |world: &World, value: Vec<u8>| {
        let mut commit = Commit::new();
        commit.put_raw(key.clone(), value);
        world.log.commit(commit).await.unwrap();
    };
    write(&world, b"damaged".to_vec()).await;
    let ignored = json!({ "ignored_users": { "@alice:a.org": {} } });
    world.set_data("bob", None, "m.ignored_user_list", ignored).await;
    let world = world.restart().await;
    let next = world.slide("bob", list(&first["pos"], 9)).await;
    assert_eq!(rooms(&next), [""; 0]);
    write(&world, whole).await;
    let healed = world.restart().await.slide("bob", list(&next["pos"], 9)).await;
    assert_eq!(of(&healed, &room)["notification_count"], 0, "{healed}");
}
