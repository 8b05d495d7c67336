//! Users of one server in the rooms of another.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use parking_lot::Mutex;
use ruma::{
    CanonicalJsonObject, EventId, MilliSecondsSinceUnixEpoch, OwnedUserId, RoomId, RoomVersionId, ServerName,
    api::federation::{
        membership::{create_join_event, prepare_join_event},
        transactions::send_transaction_message,
    },
    server_name, uint,
};
use serde_json::{Value, json};

use super::{Server, via};
use crate::{
    config::Config,
    dag::{Pdu, versions},
    history::tables::FAREWELLS,
    http::Wire,
    keys::SigningKey,
    limits::FAREWELL_PAUSE_FIRST,
    log::PageLimits,
    peer::{Bounds, Net, NetError},
    room::Message,
    store::BoxFuture,
    types::{Cursor, Membership, Position, Reader},
};

async fn two() -> (Wire, Server, Server) {
    let wire = Wire::default();
    let (a, b) = (Server::new("a.org", &wire).await, Server::new("b.org", &wire).await);
    (wire, a, b)
}

const VERSIONS: [&str; 6] = ["1", "6", "9", "10", "11", "12"];

#[tokio::test]
async fn an_invite_arrives_and_is_accepted() {
    for version in VERSIONS {
        let (_, a, b) = two().await;
        let (alice, bob) = (a.register("alice").await, b.register("bob").await);
        let room = a.room(&alice, version, json!({ "preset": "private_chat" })).await;
        let invite = format!("POST /rooms/{room}/invite");
        assert_eq!(a.met(&alice, &invite, json!({ "user_id": "@bob:b.org" })).await, json!({}), "{version}");
        assert_eq!(a.membership(&room, &b.user("bob")).await, Some(Membership::Invite), "{version}");

        let sync = b.met(&bob, "GET /sync", Value::Null).await;
        let state = sync["rooms"]["invite"][room.as_str()]["invite_state"]["events"].as_array().unwrap();
        let says = |kind: &str, content: Value| {
            state.iter().any(|event| event["type"] == kind && event["content"] == content)
        };
        assert!(says("m.room.name", json!({ "name": "The room" })), "{version}: {state:?}");
        assert!(state.iter().any(|event| event["state_key"] == "@alice:a.org"), "{version}: {state:?}");
        assert_eq!(state.last().unwrap()["state_key"], "@bob:b.org");
        assert!(state.iter().all(|event| event["signatures"].is_null()));

        // It is in no timeline here, and phones are told of it.
        let (user, from) = (b.user("bob"), Cursor::at(Position::ZERO));
        let limits = PageLimits { append: 10, queue: 0, before_opening: false, backlog: usize::MAX };
        let page = b.app.history.log().page(&Reader::Pusher(user.clone()), from, &limits).await.unwrap();
        let notices = b.app.push.notices(&user, &page).await.unwrap();
        assert_eq!(notices.len(), 1, "{version}: {notices:?}");

        // Who is invited may know what the room is, though their server is not in it; others may not.
        let carol = b.register("carol").await;
        let summary = format!("GET /_matrix/client/v1/room_summary/{}", via(&room, &[&a]));
        let told = b.met(&bob, &summary, Value::Null).await;
        assert_eq!((&told["name"], &told["membership"]), (&json!("The room"), &json!("invite")), "{told}");
        assert_eq!(b.met(&carol, &summary, Value::Null).await, "404 M_NOT_FOUND");
        let tree = format!("GET /_matrix/client/v1/rooms/{room}/hierarchy");
        let told = b.met(&bob, &tree, Value::Null).await;
        assert_eq!(told["rooms"][0]["room_id"], room.as_str(), "{version}: {told}");
        assert_eq!(b.met(&carol, &tree, Value::Null).await, "403 M_FORBIDDEN");

        let joined = b.met(&bob, &format!("POST /rooms/{room}/join"), json!({})).await;
        assert_eq!(joined, json!({ "room_id": room }), "{version}");
        assert_eq!(a.membership(&room, &b.user("bob")).await, Some(Membership::Join), "{version}");
        assert_eq!(a.state(&room).await, b.state(&room).await, "{version}");
        let since = sync["next_batch"].as_str().unwrap();
        let sync = b.met(&bob, &format!("GET /sync?since={since}"), Value::Null).await;
        assert!(sync["rooms"]["join"][room.as_str()].is_object(), "{version}: {sync}");
        assert!(sync["rooms"]["invite"][room.as_str()].is_null());
    }
}

/// Whoever is invited again and again from elsewhere hears of some of it only.
#[tokio::test]
async fn invites_from_elsewhere_are_limited() {
    let (_, a, b) = two().await;
    let burst = usize::try_from(Config::default().rate_limits.invites_received.burst).unwrap();
    let alice = a.register("alice").await;
    b.register("bob").await;
    b.register("ben").await;
    let mut answers = Vec::new();
    for number in 0..=burst {
        // Nor may one user invite so many at once.
        a.clock.advance(Duration::from_millis(500));
        let room = a.room(&alice, "12", json!({ "preset": "private_chat" })).await;
        let invite = format!("POST /rooms/{room}/invite");
        answers.push(a.met(&alice, &invite, json!({ "user_id": "@bob:b.org" })).await);
        if number == burst {
            answers.push(a.met(&alice, &invite, json!({ "user_id": "@ben:b.org" })).await);
        }
    }
    let taken = answers.iter().filter(|answer| **answer == json!({})).count();
    assert_eq!(taken, burst + 1, "{answers:?}");
    assert_eq!(answers[burst], "502 M_UNKNOWN", "bob has had enough, and ben not");
}

#[tokio::test]
async fn the_invite_of_another_stands_when_one_comes_in() {
    for version in VERSIONS {
        let (_, a, b) = two().await;
        let alice = a.register("alice").await;
        let (bob, carol) = (b.register("bob").await, b.register("carol").await);
        let room = a.room(&alice, version, json!({ "preset": "private_chat" })).await;
        for user in ["@bob:b.org", "@carol:b.org"] {
            a.met(&alice, &format!("POST /rooms/{room}/invite"), json!({ "user_id": user })).await;
        }
        b.met(&bob, &format!("POST /rooms/{room}/join"), json!({})).await;
        let sync = b.met(&carol, "GET /sync", Value::Null).await;
        let told = sync["rooms"]["invite"][room.as_str()]["invite_state"]["events"].as_array().unwrap();
        assert!(told.iter().any(|event| event["type"] == "m.room.name"), "{version}: {told:?}");
        let joined = b.met(&carol, &format!("POST /rooms/{room}/join"), json!({})).await;
        assert_eq!(joined, json!({ "room_id": room }), "{version}");
    }
}

#[tokio::test]
async fn a_public_room_is_joined_by_id_and_by_alias() {
    for version in VERSIONS {
        let (_, a, b) = two().await;
        let alice = a.register("alice").await;
        let extra = json!({ "preset": "public_chat", "room_alias_name": "lobby" });
        let room = a.room(&alice, version, extra).await;
        let (bob, carol) = (b.register("bob").await, b.register("carol").await);
        let joined = b.met(&bob, &format!("POST /join/{}", via(&room, &[&a])), json!({})).await;
        assert_eq!(joined, json!({ "room_id": room }), "{version}");
        assert_eq!(a.state(&room).await, b.state(&room).await, "{version}");
        // The room is here now: the second one needs nobody.
        let joined = b.met(&carol, "POST /join/#lobby:a.org", json!({})).await;
        assert_eq!(joined, json!({ "room_id": room }), "{version}");
        assert_eq!(b.membership(&room, &b.user("carol")).await, Some(Membership::Join));
        let said = format!("PUT /rooms/{room}/send/m.room.message/1");
        let said = b.met(&bob, &said, json!({ "body": "hello" })).await;
        assert!(said["event_id"].is_string(), "{said}");
    }
}

#[tokio::test]
async fn a_restricted_room_lets_in_who_is_in_the_other() {
    for version in ["9", "10", "11", "12"] {
        let (_, a, b) = two().await;
        let alice = a.register("alice").await;
        let (bob, carol) = (b.register("bob").await, b.register("carol").await);
        let club = a.room(&alice, version, json!({ "preset": "public_chat" })).await;
        let allow = json!([{ "type": "m.room_membership", "room_id": club }]);
        let rules = json!({ "join_rule": "restricted", "allow": allow });
        let state = json!([{ "type": "m.room.join_rules", "state_key": "", "content": rules }]);
        let room = a.room(&alice, version, json!({ "preset": "private_chat", "initial_state": state })).await;
        b.met(&bob, &format!("POST /join/{}", via(&club, &[&a])), json!({})).await;
        let join = format!("POST /join/{}", via(&room, &[&a]));
        assert_eq!(b.met(&carol, &join, json!({})).await, "403 M_FORBIDDEN", "{version}");
        assert_eq!(b.met(&bob, &join, json!({})).await, json!({ "room_id": room }), "{version}");
        assert_eq!(a.state(&room).await, b.state(&room).await, "{version}");
        let content = format!("GET /rooms/{room}/state/m.room.member/@bob:b.org");
        let content = b.met(&bob, &content, Value::Null).await;
        assert_eq!(content["join_authorised_via_users_server"], "@alice:a.org", "{version}");
    }
}

#[tokio::test]
async fn who_has_the_power_lets_in_and_else_the_lack_of_it_is_told() {
    for version in ["9", "10", "11", "12"] {
        let (wire, a, b) = two().await;
        let alice = a.register("alice").await;
        let mut tokens = Vec::new();
        for name in ["bob", "carol", "dave"] {
            tokens.push(b.register(name).await);
        }
        let club = a.room(&alice, version, json!({ "preset": "public_chat" })).await;
        for token in &tokens {
            b.met(token, &format!("POST /join/{}", via(&club, &[&a])), json!({})).await;
        }
        let allow = json!([{ "type": "m.room_membership", "room_id": club }]);
        let rules = json!({ "join_rule": "restricted", "allow": allow });
        let state = json!([{ "type": "m.room.join_rules", "state_key": "", "content": rules }]);
        let extra = json!({ "initial_state": state, "power_level_content_override": { "invite": 50 } });
        let room = a.room(&alice, version, extra).await;
        let join = format!("POST /join/{}", via(&room, &[&a]));
        assert_eq!(b.met(&tokens[0], &join, json!({})).await, json!({ "room_id": room }), "{version}");
        // Nobody of b may invite, but somebody of a may.
        assert_eq!(b.met(&tokens[1], &join, json!({})).await, json!({ "room_id": room }), "{version}");
        assert_eq!(a.state(&room).await, b.state(&room).await, "{version}");
        wire.cut(&a.name);
        assert_eq!(b.met(&tokens[2], &join, json!({})).await, "400 M_UNABLE_TO_GRANT_JOIN", "{version}");
    }
}

#[tokio::test]
async fn a_room_that_does_not_federate_invites_nobody_from_elsewhere() {
    let (_, a, b) = two().await;
    let (alice, bob) = (a.register("alice").await, b.register("bob").await);
    let extra = json!({ "preset": "private_chat", "creation_content": { "m.federate": false } });
    let room = a.room(&alice, "11", extra).await;
    let invite = format!("POST /rooms/{room}/invite");
    assert_eq!(a.met(&alice, &invite, json!({ "user_id": "@bob:b.org" })).await, "403 M_FORBIDDEN");
    assert_eq!(a.membership(&room, &b.user("bob")).await, None);
    let sync = b.met(&bob, "GET /sync", Value::Null).await;
    assert!(sync["rooms"]["invite"][room.as_str()].is_null(), "{sync}");
}

#[tokio::test]
async fn a_knock_is_heard_and_answered() {
    for (version, rule) in [("7", "knock"), ("10", "knock_restricted"), ("11", "knock"), ("12", "knock")] {
        let (_, a, b) = two().await;
        let (alice, bob) = (a.register("alice").await, b.register("bob").await);
        let rules = json!({ "join_rule": rule });
        let state = json!([{ "type": "m.room.join_rules", "state_key": "", "content": rules }]);
        let room = a.room(&alice, version, json!({ "preset": "private_chat", "initial_state": state })).await;
        let knock = format!("POST /knock/{}", via(&room, &[&a]));
        let knocked = b.met(&bob, &knock, json!({ "reason": "hello" })).await;
        assert_eq!(knocked, json!({ "room_id": room }), "{version}");
        assert_eq!(a.membership(&room, &b.user("bob")).await, Some(Membership::Knock), "{version}");
        let sync = b.met(&bob, "GET /sync", Value::Null).await;
        let state = &sync["rooms"]["knock"][room.as_str()]["knock_state"]["events"];
        assert!(state.as_array().unwrap().iter().any(|event| event["type"] == "m.room.name"), "{sync}");
        let invite = format!("POST /rooms/{room}/invite");
        assert_eq!(a.met(&alice, &invite, json!({ "user_id": "@bob:b.org" })).await, json!({}));
        let joined = b.met(&bob, &format!("POST /rooms/{room}/join"), json!({})).await;
        assert_eq!(joined, json!({ "room_id": room }), "{version}");
        assert_eq!(a.state(&room).await, b.state(&room).await, "{version}");
    }
}

#[tokio::test]
async fn an_invite_is_rejected_whether_its_server_lives_or_not() {
    for (version, is_alive) in VERSIONS.into_iter().flat_map(|version| [(version, true), (version, false)]) {
        let (wire, a, b) = two().await;
        let (alice, bob) = (a.register("alice").await, b.register("bob").await);
        let room = a.room(&alice, version, json!({ "preset": "private_chat" })).await;
        a.met(&alice, &format!("POST /rooms/{room}/invite"), json!({ "user_id": "@bob:b.org" })).await;
        let sync = b.met(&bob, "GET /sync", Value::Null).await;
        if !is_alive {
            wire.cut(&a.name);
        }
        let leave = format!("POST /rooms/{room}/leave");
        assert_eq!(b.met(&bob, &leave, json!({})).await, json!({}), "{version}");
        assert_eq!(b.met(&bob, &leave, json!({})).await, json!({}), "leaving twice is leaving once");
        let expected = if is_alive { Membership::Leave } else { Membership::Invite };
        assert_eq!(a.membership(&room, &b.user("bob")).await, Some(expected), "{version}");
        let since = sync["next_batch"].as_str().unwrap();
        let sync = b.met(&bob, &format!("GET /sync?since={since}"), Value::Null).await;
        let left = &sync["rooms"]["leave"][room.as_str()]["timeline"]["events"][0];
        assert_eq!(left["content"]["membership"], "leave", "{version}: {sync}");
        let fresh = b.met(&bob, "GET /sync", Value::Null).await;
        assert!(fresh["rooms"]["invite"][room.as_str()].is_null(), "{version}: {fresh}");
        assert_eq!(b.met(&bob, &format!("POST /rooms/{room}/forget"), json!({})).await, json!({}));
        // Who could not be told is told later.
        wire.connect(a.name.clone(), a.router.clone());
        b.app.rooms.say_farewells().await.unwrap();
        assert_eq!(a.membership(&room, &b.user("bob")).await, Some(expected), "{version}: not at once again");
        b.clock.advance(FAREWELL_PAUSE_FIRST);
        b.app.rooms.say_farewells().await.unwrap();
        assert_eq!(a.membership(&room, &b.user("bob")).await, Some(Membership::Leave), "{version}");
        let left = b.app.log.db().range(&FAREWELLS, &(), 10).await.unwrap();
        assert!(left.is_empty(), "{version}: it is said once: {left:?}");
    }
}

/// An old rejection must not undo a new invite.
#[tokio::test]
async fn who_is_invited_again_has_not_rejected_that() {
    let (wire, a, b) = two().await;
    let (alice, bob) = (a.register("alice").await, b.register("bob").await);
    let room = a.room(&alice, "11", json!({ "preset": "private_chat" })).await;
    let invite = format!("POST /rooms/{room}/invite");
    a.met(&alice, &invite, json!({ "user_id": "@bob:b.org" })).await;
    wire.cut(&a.name);
    assert_eq!(b.met(&bob, &format!("POST /rooms/{room}/leave"), json!({})).await, json!({}));
    wire.connect(a.name.clone(), a.router.clone());
    a.met(&alice, &format!("POST /rooms/{room}/kick"), json!({ "user_id": "@bob:b.org" })).await;
    assert_eq!(a.met(&alice, &invite, json!({ "user_id": "@bob:b.org" })).await, json!({}));
    b.clock.advance(FAREWELL_PAUSE_FIRST);
    b.app.rooms.say_farewells().await.unwrap();
    assert_eq!(a.membership(&room, &b.user("bob")).await, Some(Membership::Invite));
}

#[tokio::test]
async fn the_next_server_helps_when_one_fails() {
    let (wire, a, b) = two().await;
    let c = Server::new("c.org", &wire).await;
    let (alice, bob, carol) = (a.register("alice").await, b.register("bob").await, c.register("carol").await);
    let room = a.room(&alice, "11", json!({ "preset": "public_chat" })).await;
    b.met(&bob, &format!("POST /join/{}", via(&room, &[&a])), json!({})).await;
    let dead = Server::new("x.org", &wire).await;
    wire.cut(&dead.name);
    let join = format!("POST /join/{}", via(&room, &[&dead, &b]));
    assert_eq!(c.met(&carol, &join, json!({})).await, json!({ "room_id": room }));
    assert_eq!(b.membership(&room, &c.user("carol")).await, Some(Membership::Join));
    assert_eq!(b.state(&room).await, c.state(&room).await);
    wire.cut(&a.name);
    wire.cut(&b.name);
    let dave = Server::new("d.org", &wire).await;
    let token = dave.register("dave").await;
    assert_eq!(dave.met(&token, &join, json!({})).await, "502 M_UNKNOWN");
    assert_eq!(dave.met(&token, "POST /join/!nowhere", json!({})).await, "404 M_NOT_FOUND");
}

/// A wire on which the answer to a join comes late, after something else has happened.
struct Late {
    wire: Wire,
    meanwhile: Box<dyn Fn() -> BoxFuture<'static, ()> + Send + Sync>,
}

impl Net for Late {
    fn exchange<'a>(
        &'a self,
        server: &'a ServerName,
        request: http::Request<Bytes>,
        bounds: Bounds,
    ) -> BoxFuture<'a, Result<http::Response<Bytes>, NetError>> {
        Box::pin(async move {
            let joins = request.uri().path().contains("/send_join/");
            let answer = self.wire.exchange(server, request, bounds).await;
            if joins {
                (self.meanwhile)().await;
            }
            answer
        })
    }
}

/// The others in the room send what happens there as soon as they have let a user in, and send it once.
#[tokio::test]
async fn what_is_said_while_a_join_is_under_way_is_not_lost() {
    let wire = Wire::default();
    let a = Server::new("a.org", &wire).await;
    let alice = a.register("alice").await;
    let room = a.room(&alice, "11", json!({ "preset": "public_chat" })).await;
    let said = Arc::new(Mutex::new(None));
    let (app, place, slot) = (a.app.clone(), room.clone(), said.clone());
    let meanwhile = move || -> BoxFuture<'static, ()> {
        let (app, room, said) = (app.clone(), place.clone(), slot.clone());
        Box::pin(async move {
            let content = serde_json::value::to_raw_value(&json!({ "body": "meanwhile" })).unwrap();
            let message = Message { event_type: "m.room.message".into(), content, txn: None };
            let alice = OwnedUserId::try_from("@alice:a.org").unwrap();
            let id = app.rooms.send(&alice, &room, message).await.unwrap();
            let pdu = app.history.event(&id).await.unwrap().unwrap().pdu.json().to_owned();
            let moment = MilliSecondsSinceUnixEpoch(uint!(1));
            let from = app.server_name.clone();
            let mut request = send_transaction_message::v1::Request::new("t".into(), from, moment);
            request.pdus = vec![pdu];
            let peers = app.peers.clone();
            let sending = app.tasks.spawn(async move {
                let bounds = Bounds::new(Duration::from_secs(60), 1 << 20);
                peers.call(server_name!("b.org"), request, bounds).await.unwrap()
            });
            // It is at b before b hears that it is in the room.
            for _ in 0..100 {
                tokio::task::yield_now().await;
            }
            assert!(!sending.is_finished(), "b has answered before it knew");
            *said.lock() = Some((id, sending));
        })
    };
    let net = Arc::new(Late { wire: wire.clone(), meanwhile: Box::new(meanwhile) });
    let b = Server::behind("b.org", &wire, net).await;
    let bob = b.register("bob").await;
    let joined = b.met(&bob, &format!("POST /join/{}", via(&room, &[&a])), json!({})).await;
    assert_eq!(joined, json!({ "room_id": room }));
    let (id, sending) = said.lock().take().unwrap();
    let answer = sending.await.unwrap();
    assert_eq!(answer.pdus.get(&id), Some(&Ok(())));
    assert!(b.app.history.event(&id).await.unwrap().unwrap().is_shown());
}

/// Servers of old know only the first version of the endpoint.
#[tokio::test]
async fn an_invite_goes_by_the_first_version_where_the_second_is_not_known() {
    for (version, expected) in [("1", json!({})), ("2", json!({})), ("11", json!("404 M_NOT_FOUND"))] {
        let wire = Wire::default();
        let net = Arc::new(Old(wire.clone()));
        let (a, b) = (Server::behind("a.org", &wire, net).await, Server::new("b.org", &wire).await);
        let (alice, bob) = (a.register("alice").await, b.register("bob").await);
        let room = a.room(&alice, version, json!({ "preset": "private_chat" })).await;
        let invite = format!("POST /rooms/{room}/invite");
        let invited = a.met(&alice, &invite, json!({ "user_id": "@bob:b.org" })).await;
        assert_eq!(invited, expected, "{version}");
        if expected == json!({}) {
            let sync = b.met(&bob, "GET /sync", Value::Null).await;
            let events = &sync["rooms"]["invite"][room.as_str()]["invite_state"]["events"];
            let names = events.as_array().unwrap().iter().any(|event| event["type"] == "m.room.name");
            assert!(names, "{version}: {sync}");
            let joined = b.met(&bob, &format!("POST /rooms/{room}/join"), json!({})).await;
            assert_eq!(joined, json!({ "room_id": room }), "{version}");
        }
    }
}

/// A wire to servers that know nothing of the second version of invites.
struct Old(Wire);

impl Net for Old {
    fn exchange<'a>(
        &'a self,
        server: &'a ServerName,
        request: http::Request<Bytes>,
        bounds: Bounds,
    ) -> BoxFuture<'a, Result<http::Response<Bytes>, NetError>> {
        Box::pin(async move {
            if request.uri().path().starts_with("/_matrix/federation/v2/invite/") {
                let body = json!({ "errcode": "M_UNRECOGNIZED", "error": "" }).to_string();
                return Ok(http::Response::builder().status(404).body(Bytes::from(body)).unwrap());
            }
            self.0.exchange(server, request, bounds).await
        })
    }
}

/// The specification has `PUT` here and `POST` there; identity servers use the latter.
#[tokio::test]
async fn an_identity_server_tells_of_an_address_by_either_method() {
    let (_, a, _) = two().await;
    for method in ["PUT", "POST"] {
        let path = format!("{method} /_matrix/federation/v1/3pid/onbind");
        let body = json!({ "medium": "email", "address": "a@b.c", "mxid": "@alice:a.org", "invites": [] });
        assert_eq!(a.met("", &path, body).await, json!({}), "{method}");
        assert_eq!(a.met("", &path, json!({ "medium": 5 })).await, "400 M_BAD_JSON", "{method}");
    }
}

#[tokio::test]
async fn a_ban_and_an_access_control_list_keep_users_out() {
    let (_, a, b) = two().await;
    let (alice, bob) = (a.register("alice").await, b.register("bob").await);
    let room = a.room(&alice, "11", json!({ "preset": "public_chat" })).await;
    let ban = |name: &str| (format!("POST /rooms/{room}/{name}"), json!({ "user_id": "@bob:b.org" }));
    let (request, body) = ban("ban");
    a.met(&alice, &request, body).await;
    let join = format!("POST /join/{}", via(&room, &[&a]));
    assert_eq!(b.met(&bob, &join, json!({})).await, "403 M_FORBIDDEN");
    let (request, body) = ban("unban");
    a.met(&alice, &request, body).await;
    let acl = json!({ "allow": ["*"], "deny": ["b.org"], "allow_ip_literals": true });
    a.met(&alice, &format!("PUT /rooms/{room}/state/m.room.server_acl"), acl).await;
    assert_eq!(b.met(&bob, &join, json!({})).await, "403 M_FORBIDDEN");
    a.met(&alice, &format!("PUT /rooms/{room}/state/m.room.server_acl"), json!({ "allow": ["*"] })).await;
    assert_eq!(b.met(&bob, &join, json!({})).await, json!({ "room_id": room }));
}

#[tokio::test]
async fn a_room_of_which_the_last_of_us_has_left_is_joined_again() {
    for version in VERSIONS {
        let (_, a, b) = two().await;
        let (alice, bob) = (a.register("alice").await, b.register("bob").await);
        let room = a.room(&alice, version, json!({ "preset": "public_chat" })).await;
        let join = format!("POST /join/{}", via(&room, &[&a]));
        b.met(&bob, &join, json!({})).await;
        // Nothing carries the leave over this wire, so that a is told by the handshake of a kick.
        b.met(&bob, &format!("POST /rooms/{room}/leave"), json!({})).await;
        let kick = format!("POST /rooms/{room}/kick");
        a.met(&alice, &kick, json!({ "user_id": "@bob:b.org" })).await;
        let name = format!("PUT /rooms/{room}/state/m.room.name");
        a.met(&alice, &name, json!({ "name": "Meanwhile" })).await;
        assert_eq!(b.met(&bob, &join, json!({})).await, json!({ "room_id": room }), "{version}");
        assert_eq!(a.state(&room).await, b.state(&room).await, "{version}");
    }
}

/// Hands a join of `who` of b over, and asks for few members; the answer as JSON.
async fn joined_with_few(a: &Server, b: &Server, (room, who): (&RoomId, &str), version: &str) -> Value {
    let version = RoomVersionId::try_from(version).unwrap();
    let mut request = prepare_join_event::v1::Request::new(room.to_owned(), b.user(who));
    request.ver = vec![version.clone()];
    let bounds = Bounds::new(Duration::from_secs(5), 1 << 20);
    let template = b.app.peers.call(&a.name, request, bounds).await.unwrap();
    assert_eq!(template.room_version, Some(version.clone()));
    let rules = versions::rules(&version).unwrap();
    let mut object: CanonicalJsonObject = serde_json::from_str(template.event.get()).unwrap();
    if rules.event_format.require_event_id {
        object.insert(String::from("event_id"), format!("$join:{}", b.name).into());
    }
    let key = SigningKey::from_seed(b.name.clone(), "1", [b'b'; 32]).unwrap();
    key.hash_and_sign(&mut object, rules).unwrap();
    let pdu = Pdu::from_object(object, rules).unwrap();
    let mut request = create_join_event::v2::Request::new(
        room.to_owned(),
        pdu.event_id().to_owned(),
        pdu.json().to_owned(),
    );
    request.omit_members = true;
    let answer = b.app.peers.call(&a.name, request, bounds).await.unwrap().room_state;
    serde_json::to_value(&answer).unwrap()
}

#[tokio::test]
async fn a_join_may_ask_for_few_members() {
    for version in VERSIONS {
        let (_, a, b) = two().await;
        let alice = a.register("alice").await;
        let room = a.room(&alice, version, json!({ "preset": "public_chat" })).await;
        for name in ["anna", "anton"] {
            let token = a.register(name).await;
            a.met(&token, &format!("POST /rooms/{room}/join"), json!({})).await;
        }
        let answer = joined_with_few(&a, &b, (&room, "bob"), version).await;
        assert_eq!(answer["members_omitted"], true, "{version}");
        assert_eq!(answer["servers_in_room"], json!(["a.org"]), "{version}");
        let rules = versions::rules(&version.try_into().unwrap()).unwrap();
        let pdu = |value: &Value| Pdu::parse(&value.to_string(), rules).unwrap();
        let list = |name: &str| answer[name].as_array().unwrap().iter().map(pdu).collect::<Vec<_>>();
        let (state, chain, join) = (list("state"), list("auth_chain"), pdu(&answer["event"]));
        assert!(state.iter().all(|pdu| pdu.membership().is_none()), "{version}: the room has a name");
        assert!(state.iter().any(|pdu| pdu.event_type().to_string() == "m.room.create"), "{version}");
        assert_eq!(join.sender(), &*b.user("bob"));
        // What allows all of it is there, once.
        let mut ids: Vec<&EventId> = state.iter().chain(&chain).map(Pdu::event_id).collect();
        ids.sort_unstable();
        let count = ids.len();
        ids.dedup();
        assert_eq!(ids.len(), count, "{version}");
        for pdu in state.iter().chain(&chain).chain([&join]) {
            assert!(pdu.auth_events().iter().all(|id| ids.contains(&&**id)), "{version}: {}", pdu.json());
        }
    }
}
