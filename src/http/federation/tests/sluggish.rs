//! Servers that hang: what they cost those who could be helped by another one, and that everything ends.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use parking_lot::Mutex;
use ruma::{OwnedRoomId, ServerName};
use serde_json::{Value, json};
use tokio::time::Instant;

use super::{Server, via};
use crate::{
    http::Wire,
    limits::{CLIENT_WAIT_MAX, FETCH_MAX, HEDGE_AFTER, JOIN_MAX, LOOK_UP_MAX, SEND_JOIN_MAX},
    peer::{Bounds, Net, NetError},
    store::BoxFuture,
};

/// Timers go off a little late.
const SLACK: Duration = Duration::from_millis(100);

/// A wire on which some questions are never answered, by server and a part of the path.
#[derive(Clone, Default)]
pub(super) struct Sluggish {
    wire: Wire,
    hangs: Arc<Mutex<Vec<(&'static str, &'static str)>>>,
    refuses: Arc<Mutex<Vec<&'static str>>>,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Sluggish {
    pub(super) async fn server(&self, name: &str) -> Server {
        Server::behind(name, &self.wire, Arc::new(self.clone())).await
    }

    pub(super) fn hang(&self, server: &'static str, path: &'static str) {
        self.hangs.lock().push((server, path));
    }

    /// From now on what has this in its path is answered with 404.
    pub(super) fn refuse(&self, path: &'static str) {
        self.refuses.lock().push(path);
    }

    /// It is answered again.
    pub(super) fn allow(&self, path: &str) {
        self.refuses.lock().retain(|refused| *refused != path);
    }

    /// Who was asked for paths with this in them since the last time.
    pub(super) fn asked(&self, path: &str) -> Vec<String> {
        let all = std::mem::take(&mut *self.asked.lock());
        let asked = all.into_iter().filter(|asked| asked.contains(path));
        asked.map(|asked| asked.split('/').next().unwrap_or_default().to_owned()).collect()
    }
}

impl Net for Sluggish {
    fn exchange<'a>(
        &'a self,
        server: &'a ServerName,
        request: http::Request<Bytes>,
        bounds: Bounds,
    ) -> BoxFuture<'a, Result<http::Response<Bytes>, NetError>> {
        Box::pin(async move {
            let path = request.uri().path().to_owned();
            self.asked.lock().push(format!("{server}{path}"));
            if self.refuses.lock().iter().any(|part| path.contains(part)) {
                let body = json!({ "errcode": "M_NOT_FOUND", "error": "" }).to_string();
                return Ok(http::Response::builder().status(404).body(Bytes::from(body)).unwrap());
            }
            let hangs = self.hangs.lock().iter().any(|(who, part)| *who == server && path.contains(part));
            if hangs {
                tokio::time::sleep(bounds.timeout).await;
                return Err(NetError::Timeout);
            }
            self.wire.exchange(server, request, bounds).await
        })
    }
}

/// Two servers in a public room, and a third that is in none, with tokens of alice on the first and dave on the third.
async fn world() -> (Sluggish, [Server; 3], [String; 2], OwnedRoomId) {
    let net = Sluggish::default();
    let (a, b, d) = (net.server("a.org").await, net.server("b.org").await, net.server("d.org").await);
    let (alice, bob, dave) = (a.register("alice").await, b.register("bob").await, d.register("dave").await);
    let rules =
        json!([{ "type": "m.room.join_rules", "state_key": "", "content": { "join_rule": "public" } }]);
    let room = a.room(&alice, "11", json!({ "preset": "public_chat", "initial_state": rules })).await;
    let joined = b.met(&bob, &format!("POST /join/{}", via(&room, &[&a])), json!({})).await;
    assert_eq!(joined, json!({ "room_id": room }));
    net.asked("");
    tokio::time::pause();
    (net, [a, b, d], [alice, dave], room)
}

/// How long something takes.
async fn timed(work: impl Future<Output = Value>) -> (Value, Duration) {
    let begun = Instant::now();
    (work.await, begun.elapsed())
}

#[tokio::test]
async fn who_hangs_costs_a_join_a_few_seconds_and_one_server_is_handed_it() {
    let (net, [a, b, d], [_, dave], room) = world().await;
    net.hang("a.org", "/make_join/");
    let join = format!("POST /join/{}", via(&room, &[&a, &b]));
    let (joined, took) = timed(d.met(&dave, &join, json!({}))).await;
    assert_eq!(joined, json!({ "room_id": room }));
    assert!(took >= HEDGE_AFTER && took < HEDGE_AFTER * 2, "it took {took:?}");
    assert_eq!(net.asked("/send_join/"), ["b.org"]);
}

/// A join that has been handed over may have been taken: the next server comes only when there is no hope any more.
#[tokio::test]
async fn a_join_is_in_the_hands_of_one_server_at_a_time() {
    let (net, [a, b, d], [_, dave], room) = world().await;
    net.hang("a.org", "/send_join/");
    let join = format!("POST /join/{}", via(&room, &[&a, &b]));
    let (joined, took) = timed(d.met(&dave, &join, json!({}))).await;
    assert_eq!(joined, json!({ "room_id": room }));
    assert_eq!(net.asked("/send_join/"), ["a.org", "b.org"]);
    assert!(took >= SEND_JOIN_MAX && took < JOIN_MAX, "it took {took:?}");
}

#[tokio::test]
async fn joins_and_knocks_end_where_everybody_hangs() {
    let (net, [_, _, d], [_, dave], room) = world().await;
    const NAMES: [&str; 8] = ["e.org", "f.org", "g.org", "h.org", "i.org", "j.org", "k.org", "l.org"];
    for name in NAMES {
        net.hang(name, "/send_");
        net.hang(name, "/make_");
    }
    let via: Vec<String> = NAMES.iter().map(|name| format!("via={name}")).collect();
    let place = format!("{}?{}", room.as_str().replace('!', "%21"), via.join("&"));
    let (refused, took) = timed(d.met(&dave, &format!("POST /join/{place}"), json!({}))).await;
    assert_eq!(refused, "502 M_UNKNOWN");
    assert!(took < Duration::from_secs(60), "it took {took:?}");
    let (refused, took) = timed(d.met(&dave, &format!("POST /knock/{place}"), json!({}))).await;
    assert_eq!(refused, "502 M_UNKNOWN");
    assert!(took <= CLIENT_WAIT_MAX + SLACK, "it took {took:?}");
}

#[tokio::test]
async fn hierarchies_come_from_whoever_answers_and_end() {
    let (net, [a, b, d], [alice, dave], room) = world().await;
    net.hang("a.org", "/hierarchy/");
    let space = d.room(&dave, "11", json!({ "creation_content": { "type": "m.space" } })).await;
    let name = |room: &OwnedRoomId, via: &[&Server]| {
        let via: Vec<&ServerName> = via.iter().map(|server| &*server.name).collect();
        (format!("PUT /rooms/{space}/state/m.space.child/{room}"), json!({ "via": via }))
    };
    let (put, child) = name(&room, &[&a, &b]);
    d.met(&dave, &put, child).await;
    let hierarchy = format!("GET /_matrix/client/v1/rooms/{space}/hierarchy");
    let (rooms, took) = timed(d.met(&dave, &hierarchy, Value::Null)).await;
    let ids: Vec<&Value> = rooms["rooms"].as_array().unwrap().iter().map(|room| &room["room_id"]).collect();
    assert_eq!(ids, [&json!(space), &json!(room)], "{rooms}");
    assert!(took >= HEDGE_AFTER && took < LOOK_UP_MAX, "it took {took:?}");

    // Rooms that only a server tells of that hangs are left out, and not waited for one after the other.
    for n in 0..12_u32 {
        let other: OwnedRoomId = format!("!other{n}:e{n}.org").try_into().unwrap();
        let (put, _) = name(&other, &[]);
        d.met(&dave, &put, json!({ "via": [format!("e{n}.org")] })).await;
        net.hang(Box::leak(format!("e{n}.org").into_boxed_str()), "/hierarchy/");
    }
    let (rooms, took) = timed(d.met(&dave, &hierarchy, Value::Null)).await;
    assert!(!rooms["rooms"].as_array().unwrap().is_empty(), "{rooms}");
    assert!(took <= CLIENT_WAIT_MAX + SLACK, "it took {took:?}");
    drop(alice);
}

#[tokio::test]
async fn the_past_comes_from_whoever_answers() {
    let (net, [a, b, d], [alice, dave], room) = world().await;
    for n in 0..3 {
        let said = format!("PUT /rooms/{room}/send/m.room.message/{n}");
        a.met(&alice, &said, json!({ "msgtype": "m.text", "body": format!("{n}") })).await;
    }
    let join = format!("POST /join/{}", via(&room, &[&a]));
    assert_eq!(d.met(&dave, &join, json!({})).await, json!({ "room_id": room }));
    drop(net.asked(""));
    let hang = ["a.org", "b.org"];
    // Nobody but a has all of it.
    net.hang(hang[1], "/backfill/");
    net.hang(hang[1], "/event/");
    net.hang(hang[1], "/state_ids/");
    let messages = format!("GET /rooms/{room}/messages?dir=b&limit=50");
    let (page, took) = timed(d.met(&dave, &messages, Value::Null)).await;
    let said = |page: &Value| {
        let is_message = |event: &&Value| event["type"] == "m.room.message";
        page["chunk"].as_array().unwrap().iter().filter(is_message).count()
    };
    assert_eq!(said(&page), 3, "{page}");
    assert!(took <= HEDGE_AFTER * 4, "it took {took:?}");
    drop(b);
}

#[tokio::test]
async fn a_page_of_the_past_ends_where_everybody_hangs() {
    let (net, [a, _, d], [_, dave], room) = world().await;
    let join = format!("POST /join/{}", via(&room, &[&a]));
    assert_eq!(d.met(&dave, &join, json!({})).await, json!({ "room_id": room }));
    for server in ["a.org", "b.org"] {
        net.hang(server, "/v1/");
    }
    let messages = format!("GET /rooms/{room}/messages?dir=b&limit=50");
    let (page, took) = timed(d.met(&dave, &messages, Value::Null)).await;
    assert!(page["chunk"].is_array(), "{page}");
    assert!(took <= CLIENT_WAIT_MAX.min(FETCH_MAX) + SLACK, "it took {took:?}");
}
