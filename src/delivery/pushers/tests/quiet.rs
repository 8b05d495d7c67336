//! What a phone is not told.

use std::time::Duration;

use super::{Mood, World, pusher};

#[tokio::test(start_paused = true)]
async fn what_is_not_shown_any_more_is_not_told() {
    let world = World::new().await;
    let room = world.room().await;
    world.set("PHONE", &pusher("key", None), false).await;
    *world.phones.mood.lock() = Mood::Fails;
    let one = world.say("bob", &room, "one").await;
    let two = world.say("bob", &room, "two").await;
    assert_eq!(world.rooms.expire(&room, std::slice::from_ref(&one)).await.unwrap(), 1);
    *world.phones.mood.lock() = Mood::Takes;
    world.phones.until("told", |taken| !taken.is_empty()).await;
    tokio::time::sleep(Duration::from_secs(3_600)).await;
    assert_eq!(world.phones.events(), [two.to_string()]);
    world.log.close();
}
