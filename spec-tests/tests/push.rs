//! Pushers against a real HTTP gateway: what is told, how soon, over restarts, and to whom no more.
//!
//! <https://spec.matrix.org/v1.19/client-server-api/#push-notifications>

use serde_json::{Value, json};
use spec_tests::{
    Outcome,
    gateway::{Gateway, Mood},
    matrix::Client,
    server::{Kind, Server},
};
use tokio::time::Instant;

/// Gateways lie on this machine.
const HERE: &[(&str, &str)] = &[("LOCKSTEP_PUSH__ALLOW_RANGES", "[\"127.0.0.0/8\"]")];

struct Scene {
    server: Server,
    gateway: Gateway,
    alice: Client,
    bob: Client,
    room: String,
}

fn pusher(key: &str, url: &str, format: Option<&str>) -> Value {
    let mut data = json!({ "url": url });
    if let Some(format) = format {
        data["format"] = format.into();
    }
    json!({
        "app_id": "org.example.app", "pushkey": key, "kind": "http", "app_display_name": "App",
        "device_display_name": "Phone", "lang": "en", "data": data,
    })
}

async fn set(client: &Client, pusher: &Value) -> Outcome<()> {
    client.post("/_matrix/client/v3/pushers/set", pusher).await.map(drop)
}

async fn pushkeys(client: &Client) -> Outcome<Vec<String>> {
    let answer = client.get("/_matrix/client/v3/pushers").await?;
    let list = answer["pushers"].as_array().ok_or("no pushers")?;
    Ok(list.iter().filter_map(|pusher| Some(pusher["pushkey"].as_str()?.to_owned())).collect())
}

async fn read(client: &Client, room: &str, event: &str) -> Outcome<()> {
    let path = format!("/_matrix/client/v3/rooms/{room}/receipt/m.read.private/{event}");
    client.post(&path, &json!({})).await.map(drop)
}

/// The sum of the unread notifications that a sync tells of.
async fn unread(client: &Client) -> Outcome<u64> {
    let synced = client.sync("", 0).await?;
    let rooms = synced["rooms"]["join"].as_object().cloned().unwrap_or_default();
    Ok(rooms.values().filter_map(|room| room["unread_notifications"]["notification_count"].as_u64()).sum())
}

fn is(event: &str) -> impl Fn(&Value) -> bool {
    move |body| body["event_id"] == event
}

async fn scene() -> Outcome<Scene> {
    let server = Server::start_with(Kind::lockstep()?, HERE).await?;
    let gateway = Gateway::start().await?;
    let alice = Client::anonymous(&server.url())?.register("alice").await?;
    let bob = Client::anonymous(&server.url())?.register("bob").await?;
    let room = bob.create_room(&json!({ "preset": "public_chat", "name": "The room" })).await?;
    alice.join(&room).await?;
    Ok(Scene { server, gateway, alice, bob, room })
}

#[tokio::test]
async fn messages_are_told_and_what_is_read_elsewhere_is_cleared() -> Outcome<()> {
    let Scene { server: _server, gateway, alice, bob, room } = scene().await?;
    set(&alice, &pusher("phone", &gateway.url(), None)).await?;
    let begun = Instant::now();
    let event = bob.say(&room, "hello").await?;
    let (told, at) = gateway.until("the message", is(&event)).await?;
    println!("from sending to the gateway: {:?}", at - begun);
    assert_eq!((&told["content"]["body"], &told["room_name"]), (&json!("hello"), &json!("The room")));
    assert_eq!((&told["counts"]["unread"], &told["devices"][0]["pushkey"]), (&json!(1), &json!("phone")));
    assert_eq!(unread(&alice).await?, 1);
    let begun = Instant::now();
    // Another device reads it, and nobody else learns of that.
    read(&alice.login("alice").await?, &room, &event).await?;
    let (_, at) = gateway.until("the clearing", |body| body.get("event_id").is_none()).await?;
    println!("from reading to the gateway: {:?}", at - begun);
    assert_eq!(unread(&alice).await?, 0);

    set(&alice, &pusher("phone", &gateway.url(), Some("event_id_only"))).await?;
    let event = bob.say(&room, "secret words").await?;
    let (told, _) = gateway.until("the other message", is(&event)).await?;
    assert!(!told.to_string().contains("secret"), "{told}");
    let list = alice.get("/_matrix/client/v3/notifications").await?;
    assert_eq!(list["notifications"][0]["event"]["event_id"], event.as_str());
    Ok(())
}

#[tokio::test]
async fn nothing_is_lost_over_a_gateway_that_fails_and_a_server_that_is_killed() -> Outcome<()> {
    let Scene { mut server, gateway, alice, bob, room } = scene().await?;
    set(&alice, &pusher("phone", &gateway.url(), Some("event_id_only"))).await?;
    gateway.set_mood(Mood { status: 503, ..Mood::default() }).await;
    let mut events = Vec::new();
    for number in 0..5 {
        events.push(bob.say(&room, &format!("{number}")).await?);
    }
    gateway.until_refused().await?;
    server.kill().await?;
    server.up().await?;
    gateway.set_mood(Mood::default()).await;
    let last = events.last().ok_or("nothing was said")?;
    gateway.until("the last message", is(last)).await?;
    let told: Vec<String> =
        gateway.taken().await.iter().filter_map(|body| Some(body["event_id"].as_str()?.to_owned())).collect();
    assert_eq!(told, events);
    let badge = gateway.taken().await.last().map(|body| body["counts"]["unread"].clone());
    assert_eq!(badge, Some(json!(unread(&alice).await?)));
    Ok(())
}

#[tokio::test]
async fn pushers_go_when_they_are_rejected_or_their_device_goes() -> Outcome<()> {
    let Scene { server: _server, gateway, alice, bob, room } = scene().await?;
    let tablet = alice.login("alice").await?;
    set(&alice, &pusher("phone", &gateway.url(), None)).await?;
    set(&tablet, &pusher("tablet", &gateway.url(), None)).await?;
    gateway.set_mood(Mood { rejected: vec!["phone".into(), "nobody's".into()], ..Mood::default() }).await;
    let event = bob.say(&room, "one").await?;
    let of = |key: &'static str, event: String| {
        move |body: &Value| body["event_id"] == event.as_str() && body["devices"][0]["pushkey"] == key
    };
    gateway.until("the phone's", of("phone", event.clone())).await?;
    gateway.until("the tablet's", of("tablet", event)).await?;
    let event = bob.say(&room, "two").await?;
    gateway.until("the tablet's", of("tablet", event.clone())).await?;
    assert_eq!(pushkeys(&alice).await?, ["tablet"]);
    assert!(!gateway.taken().await.iter().any(of("phone", event)));
    tablet.post("/_matrix/client/v3/logout", &json!({})).await?;
    assert_eq!(pushkeys(&alice).await?, Vec::<String>::new());
    Ok(())
}

#[tokio::test]
async fn a_gateway_in_a_private_network_is_not_connected_to_unless_allowed() -> Outcome<()> {
    let server = Server::start(Kind::lockstep()?).await?;
    let gateway = Gateway::start().await?;
    let alice = Client::anonymous(&server.url())?.register("alice").await?;
    let bob = Client::anonymous(&server.url())?.register("bob").await?;
    let room = bob.create_room(&json!({ "preset": "public_chat" })).await?;
    alice.join(&room).await?;
    for (key, host) in [("name", "localhost"), ("address", "127.0.0.1"), ("mapped", "[::ffff:127.0.0.1]")] {
        let url = gateway.url().replace("127.0.0.1", host);
        set(&alice, &pusher(key, &url, None)).await?;
    }
    bob.say(&room, "one").await?;
    let begun = Instant::now();
    while server.log().matches("push.allow_ranges").count() < 3 {
        assert!(begun.elapsed().as_secs() < 30, "the log does not say why: {}", server.log());
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    assert_eq!(gateway.taken().await, Vec::<Value>::new());
    Ok(())
}
