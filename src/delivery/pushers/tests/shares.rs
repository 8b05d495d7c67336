//! Pushers of some keep nobody else's from being served.

use std::time::Duration;

use ruma::{OwnedRoomId, api::client::push::Pusher};
use serde_json::json;

use super::{World, pusher, user};
use crate::{
    account::{Caller, NewSession, NewUser},
    push::PusherSetting,
    room::NewRoom,
};

/// A pusher at a gateway that takes 29 seconds to answer.
fn slow(key: &str, host: &str) -> Pusher {
    let url = format!("https://{host}/_matrix/push/v1/notify");
    serde_json::from_value(json!({
        "app_id": "org.example.app", "pushkey": key, "kind": "http", "app_display_name": "App",
        "device_display_name": "Phone", "lang": "en", "data": { "url": url },
    }))
    .unwrap()
}

impl World {
    async fn set_of(&self, name: &str, pusher: &Pusher) {
        let caller = Caller { user_id: user(name), device_id: "PHONE".into() };
        let setting = PusherSetting { append: true, disabled: false, now_ms: 5_000 };
        self.push.set_pusher(&caller, pusher, setting).await.unwrap();
    }

    async fn make(&self, name: &str) {
        let new = NewUser { username: Some(name.into()), ..NewUser::default() };
        self.accounts.create_user(new).await.unwrap();
        let session = NewSession {
            user_id: user(name),
            device_id: Some("PHONE".into()),
            display_name: None,
            refreshes: false,
            client: None,
        };
        self.accounts.start_session(session).await.unwrap();
    }

    /// A room full of people whose gateways are slow, each with as many pushers.
    async fn crowd(&self, people: usize, each: usize, host: impl Fn(usize, usize) -> String) -> OwnedRoomId {
        let room = NewRoom { is_public: true, ..NewRoom::default() };
        let room = self.rooms.create(&user("bob"), room).await.unwrap();
        for number in 0..people {
            let name = format!("mallory{number}");
            self.make(&name).await;
            self.rooms.join(&user(&name), &room, None, serde_json::Map::new()).await.unwrap();
            for key in 0..each {
                self.set_of(&name, &slow(&format!("{number}-{key}"), &host(number, key))).await;
            }
        }
        room
    }

    /// How long it takes until something that bob says is told to a phone.
    async fn time_to(&self, key: &str, room: &OwnedRoomId) -> Duration {
        let begun = tokio::time::Instant::now();
        let event_id = self.say("bob", room, "hello").await;
        let is_it =
            |(to, body): &(String, serde_json::Value)| to == key && body["event_id"] == event_id.as_str();
        self.phones.until("told", |taken| taken.iter().any(is_it)).await;
        begun.elapsed()
    }
}

/// `people` with `each` pushers at slow gateways hold up no phone that was told of something, nor, if `few`, others.
async fn check((people, each): (usize, usize), host: impl Fn(usize, usize) -> String, is_few: bool) {
    let world = World::new().await;
    let room = world.room().await;
    world.set("PHONE", &pusher("key", None), false).await;
    world.time_to("key", &room).await;
    let crowd = world.crowd(people, each, host).await;
    for number in 0..3 {
        world.say("bob", &crowd, &format!("{number}")).await;
    }
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert!(*world.phones.slow.lock() > 0, "nobody is slow");
    let took = world.time_to("key", &room).await;
    assert!(took < Duration::from_secs(1), "{took:?}");
    if is_few {
        world.make("carol").await;
        world.rooms.join(&user("carol"), &room, None, serde_json::Map::new()).await.unwrap();
        world.set_of("carol", &pusher("new", None)).await;
        let took = world.time_to("new", &room).await;
        assert!(took < Duration::from_secs(1), "{took:?}");
    }
    world.stopping.cancel();
    world.log.close();
}

#[tokio::test(start_paused = true)]
async fn a_few_accounts_with_many_pushers_at_many_gateways_hold_nobody_up() {
    check((3, 100), |number, key| format!("slow{number}-{key}.example.org"), true).await;
}

#[tokio::test(start_paused = true)]
async fn many_accounts_at_one_slow_gateway_hold_nobody_up() {
    check((40, 8), |_, _| "slow.example.org".to_owned(), true).await;
}

#[tokio::test(start_paused = true)]
async fn many_slow_gateways_hold_no_quick_one_up() {
    check((40, 8), |number, _| format!("slow{number}.example.org"), false).await;
}

/// Who has much to tell to a slow gateway gives the turn back in between.
#[tokio::test(start_paused = true)]
async fn a_turn_ends_before_everything_is_told() {
    let world = World::new().await;
    let room = world.room().await;
    for number in 0..8 {
        world.set_of("alice", &slow(&format!("slow{number}"), "slow.example.org")).await;
    }
    for number in 0..5 {
        world.say("bob", &room, &format!("{number}")).await;
    }
    tokio::time::sleep(Duration::from_secs(1)).await;
    world.set_of("alice", &pusher("key", None)).await;
    let took = world.time_to("key", &room).await;
    assert!(took < Duration::from_secs(30), "{took:?}");
    world.stopping.cancel();
    world.log.close();
}
