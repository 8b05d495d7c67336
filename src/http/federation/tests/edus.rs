//! EDUs that speak for others or of what is not there, by the rows of published vulnerabilities.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use bytes::Bytes;
use parking_lot::Mutex;
use ruma::OwnedRoomId;
use serde_json::{Value, json, value::to_raw_value};

use super::{Server, hostile::Tampered, via};
use crate::{
    federation::Transaction,
    http::Wire,
    keys::SigningKey,
    peer::{Bounds, Net, XMatrix},
    types::{Fact, Lane, Position},
};

/// alice@a, bob@b and carol@c in one room.
async fn three() -> (Wire, [Server; 3], OwnedRoomId, String) {
    let wire = Wire::default();
    let servers = [
        Server::new("a.org", &wire).await,
        Server::new("b.org", &wire).await,
        Server::new("c.org", &wire).await,
    ];
    let [a, b, c] = &servers;
    let alice = a.register("alice").await;
    let room = a.room(&alice, "11", json!({ "preset": "public_chat" })).await;
    for (server, name) in [(b, "bob"), (c, "carol")] {
        let token = server.register(name).await;
        let joined = server.met(&token, &format!("POST /join/{}", via(&room, &[a])), json!({})).await;
        assert_eq!(joined, json!({ "room_id": room }));
    }
    (wire, servers, room, alice)
}

/// What a user of `a` may be told because of an EDU.
async fn told(a: &Server, room: &OwnedRoomId) -> Vec<(Position, Fact)> {
    let mut facts = Vec::new();
    for lane in [Lane::Room(room.clone()), Lane::People, Lane::Account(a.user("alice"))] {
        facts.extend(a.app.log.registers(&lane, Position::ZERO, Position::MAX).await.unwrap());
    }
    let inbox = Lane::Inbox(a.user("alice"), "PHONE".into());
    facts.extend(a.app.log.queued(&inbox, Position::ZERO, 100).await.unwrap());
    // Clients come and go by themselves.
    facts.retain(|(_, fact)| match fact {
        Fact::Presence { user_id, .. } => *user_id != a.user("alice"),
        _ => true,
    });
    facts
}

async fn send(a: &Server, from: &Server, edu_type: &str, content: &Value) {
    let edu = to_raw_value(&json!({ "edu_type": edu_type, "content": content })).unwrap();
    a.app.federation.receive_edus(&from.name, &[edu]).await.unwrap();
}

/// Each kind of EDU about `user`, with what tells it apart from a repetition.
fn about(user: &str, room: &OwnedRoomId, event: &str) -> Vec<(&'static str, Value)> {
    let receipt = json!({ "event_ids": [event], "data": { "ts": 5 } });
    let presence = json!({ "user_id": user, "presence": "online", "last_active_ago": 1 });
    let to_device = json!({
        "sender": user, "type": "m.test", "message_id": user,
        "messages": { "@alice:a.org": { "PHONE": { "x": 1 } } },
    });
    vec![
        ("m.typing", json!({ "room_id": room, "user_id": user, "typing": true })),
        ("m.receipt", json!({ room.as_str(): { "m.read": { user: receipt } } })),
        ("m.presence", json!({ "push": [presence] })),
        ("m.direct_to_device", to_device),
        ("m.device_list_update", json!({ "user_id": user, "device_id": "D", "stream_id": 1, "prev_id": [] })),
        ("m.signing_key_update", json!({ "user_id": user })),
    ]
}

#[tokio::test]
async fn row_3_15_cve_2024_6301_a_server_speaks_for_its_own_users_only() {
    let (_wire, [a, b, _c], room, alice) = three().await;
    let said =
        a.met(&alice, &format!("PUT /rooms/{room}/send/m.room.message/1"), json!({ "body": "x" })).await;
    let event = said["event_id"].as_str().unwrap();
    for user in ["@alice:a.org", "@carol:c.org", "@nobody:b.org"] {
        for (edu_type, content) in about(user, &room, event) {
            // Whoever is not in the room may still write to devices.
            if user == "@nobody:b.org" && edu_type == "m.direct_to_device" {
                continue;
            }
            let before = told(&a, &room).await;
            send(&a, &b, edu_type, &content).await;
            assert_eq!(told(&a, &room).await, before, "{edu_type} about {user}");
        }
    }
    for (edu_type, content) in about("@bob:b.org", &room, event) {
        let before = told(&a, &room).await;
        send(&a, &b, edu_type, &content).await;
        assert_ne!(told(&a, &room).await, before, "{edu_type} has an effect when it is honest");
    }
}

/// Row 2.10: what concerns a room has no effect when it comes from a server that the room does not let take part.
#[tokio::test]
async fn row_2_10_msc4163_edus_of_a_denied_server_have_no_effect() {
    let (_wire, [a, b, _c], room, alice) = three().await;
    let said =
        a.met(&alice, &format!("PUT /rooms/{room}/send/m.room.message/1"), json!({ "body": "x" })).await;
    let event = said["event_id"].as_str().unwrap();
    let of_room = || about("@bob:b.org", &room, event).into_iter().take(2);
    for (is_denied, deny) in [(true, "B.ORG"), (false, "x.b.org")] {
        let list = json!({ "allow": ["*"], "deny": [deny] });
        a.met(&alice, &format!("PUT /rooms/{room}/state/m.room.server_acl/"), list).await;
        for (edu_type, content) in of_room() {
            let before = told(&a, &room).await;
            send(&a, &b, edu_type, &content).await;
            assert_eq!(told(&a, &room).await == before, is_denied, "{edu_type} where {deny} is denied");
        }
    }
}

#[tokio::test]
async fn row_3_14_cve_2023_42453_receipts_are_for_events_of_rooms_one_is_in() {
    let (_wire, [a, b, _c], room, alice) = three().await;
    let secret = a.room(&alice, "11", json!({ "preset": "private_chat" })).await;
    let mut events = Vec::new();
    for room in [&room, &secret] {
        let path = format!("PUT /rooms/{room}/send/m.room.message/1");
        let said = a.met(&alice, &path, json!({ "body": "x" })).await;
        events.push(String::from(said["event_id"].as_str().unwrap()));
    }
    let receipt = |room: &OwnedRoomId, event: &str| {
        let receipt = json!({ "event_ids": [event], "data": { "ts": 5 } });
        json!({ room.as_str(): { "m.read": { "@bob:b.org": receipt } } })
    };
    for (asked, event) in [(&secret, &events[1]), (&secret, &events[0]), (&room, &events[1])] {
        let before = (told(&a, &room).await, told(&a, &secret).await);
        send(&a, &b, "m.receipt", &receipt(asked, event)).await;
        assert_eq!((told(&a, &room).await, told(&a, &secret).await), before, "{asked} {event}");
    }
}

/// A client tells from the sender's keys within a message who has sent it: servers must not touch it.
#[tokio::test]
async fn row_1_14_messages_to_devices_arrive_as_they_were_sent() {
    let (_wire, [a, b, _c], _room, _) = three().await;
    let content = json!({
        "algorithm": "m.olm.v1.curve25519-aes-sha2",
        "sender_key": "k",
        "sender_device_keys": { "user_id": "@mallory:c.org", "device_id": "D", "keys": { "ed25519:D": "x" } },
        "ciphertext": { "k": { "type": 0, "body": "\u{e9} \u{1F600}" } },
    });
    let direct = json!({
        "sender": "@bob:b.org", "type": "m.room.encrypted", "message_id": "1",
        "messages": { "@alice:a.org": { "PHONE": content } },
    });
    send(&a, &b, "m.direct_to_device", &direct).await;
    let inbox = Lane::Inbox(a.user("alice"), "PHONE".into());
    let queued = a.app.log.queued(&inbox, Position::ZERO, 10).await.unwrap();
    let [(_, Fact::ToDevice { sender, event_type, content: told })] = &queued[..] else {
        panic!("{queued:?}")
    };
    assert_eq!((sender.as_str(), event_type.as_str()), ("@bob:b.org", "m.room.encrypted"));
    assert_eq!(*told, content.to_string(), "to the byte");
}

/// Row 2.20 of the list of known vulnerabilities: of whichever thread, and by whichever endpoint.
#[tokio::test]
async fn row_2_20_private_receipts_never_leave() {
    let (wire, seen) = (Wire::default(), Arc::<Mutex<Vec<(String, Value)>>>::default());
    let net = Tampered { wire: wire.clone(), change: Box::new(|_, _| ()), seen: seen.clone() };
    let a = Server::behind("a.org", &wire, Arc::new(net)).await;
    let b = Server::new("b.org", &wire).await;
    let (alice, bob) = (a.register("alice").await, b.register("bob").await);
    let room = a.room(&alice, "11", json!({ "preset": "public_chat" })).await;
    b.met(&bob, &format!("POST /join/{}", via(&room, &[&a])), json!({})).await;
    let mut events: Vec<String> = Vec::new();
    for number in 0..9 {
        let mut content = json!({ "body": "x" });
        if matches!(number, 3 | 7) {
            content["m.relates_to"] = json!({ "rel_type": "m.thread", "event_id": events[0] });
        }
        let path = format!("PUT /rooms/{room}/send/m.room.message/{number}");
        let said = a.met(&alice, &path, content).await;
        events.push(said["event_id"].as_str().unwrap().to_owned());
    }
    let receipt = |kind: &str, event: usize| format!("receipt/{kind}/{}", events[event]);
    let thread = |root: &str| json!({ "thread_id": root });
    for (path, body) in [
        (receipt("m.read.private", 1), json!({})),
        (receipt("m.read.private", 2), thread("main")),
        (receipt("m.read.private", 3), thread(&events[0])),
        (String::from("read_markers"), json!({ "m.fully_read": events[4], "m.read.private": events[4] })),
        (receipt("m.fully_read", 5), json!({})),
        (receipt("m.read", 6), thread("main")),
        (receipt("m.read", 7), thread(&events[0])),
        (String::from("read_markers"), json!({ "m.read": events[8], "m.read.private": events[5] })),
    ] {
        assert_eq!(
            a.met(&alice, &format!("POST /rooms/{room}/{path}"), body.clone()).await,
            json!({}),
            "{path}"
        );
    }
    // What was read publicly comes last, so that with it everything has been sent that will be.
    let sent = || {
        let (mut read, mut text) = (BTreeSet::new(), String::new());
        for (_, body) in seen.lock().iter() {
            text.push_str(&body.to_string());
            for edu in body["edus"].as_array().into_iter().flatten() {
                let users = edu["content"][room.as_str()]["m.read"].as_object().into_iter().flatten();
                let ids = users.flat_map(|(_, receipt)| receipt["event_ids"].as_array().unwrap().clone());
                read.extend(ids.map(|id| id.as_str().unwrap().to_owned()));
            }
        }
        (read, text)
    };
    let wanted: BTreeSet<String> = events[6..].iter().cloned().collect();
    let leaves = async {
        while !sent().0.is_superset(&wanted) {
            tokio::task::yield_now().await;
        }
    };
    assert!(tokio::time::timeout(Duration::from_secs(60), leaves).await.is_ok(), "{:?}", sent());
    let (read, text) = sent();
    assert_eq!(read, wanted);
    for word in ["m.read.private", "m.fully_read"] {
        assert!(!text.contains(word), "{text}");
    }
}

/// Who reads an event, or types, may have come into the room just before, by the same transaction.
#[tokio::test]
async fn receipts_and_typing_come_after_the_events_of_their_transaction() {
    let (wire, [a, b, _c], room, _alice) = three().await;
    let token = b.register("ben").await;
    let sender = "@ben:b.org";
    // Nobody but this transaction tells a of the join.
    wire.cut(&a.name);
    let joined = b.met(&token, &format!("POST /join/{}", via(&room, &[])), json!({})).await;
    assert_eq!(joined, json!({ "room_id": room }));
    let path = format!("PUT /rooms/{room}/send/m.room.message/1");
    let said = b.met(&token, &path, json!({ "body": "x" })).await;
    let said = said["event_id"].as_str().unwrap().to_owned();
    let join =
        b.app.history.current_members(&room).await.unwrap().get(&b.user("ben")).unwrap().event_id.clone();
    let mut pdus = Vec::new();
    for id in [join, said.as_str().try_into().unwrap()] {
        pdus.push(b.app.history.event(&id).await.unwrap().unwrap().pdu.json().to_owned());
    }
    let edus = about(sender, &room, &said).into_iter().take(2);
    let edus = edus.map(|(edu_type, content)| {
        to_raw_value(&json!({ "edu_type": edu_type, "content": content })).unwrap()
    });
    let transaction = Transaction { id: String::from("t"), pdus, edus: edus.collect() };
    let answer = a.app.federation.receive(&b.name, transaction).await.unwrap();
    assert!(answer.values().all(Result::is_ok), "{answer:?}");
    let facts = told(&a, &room).await;
    let is_read = |fact: &Fact| matches!(fact, Fact::Receipt { user_id, .. } if user_id == sender);
    assert!(facts.iter().any(|(_, fact)| is_read(fact)), "{facts:?}");
    let types = |fact: &Fact| matches!(fact, Fact::Typing { user_ids, .. } if user_ids.iter().any(|user| user == sender));
    assert!(facts.iter().any(|(_, fact)| types(fact)), "{facts:?}");
}

/// Some servers leave out `pdus` when there are none.
#[tokio::test]
async fn a_transaction_without_pdus_is_taken() {
    let (wire, [a, b, _c], room, _alice) = three().await;
    let typing = json!({ "room_id": room, "user_id": "@bob:b.org", "typing": true });
    let edus = json!([{ "edu_type": "m.typing", "content": typing }]);
    let body = json!({ "origin": "b.org", "origin_server_ts": 5, "edus": edus }).to_string();
    let request = http::Request::builder().method("PUT").uri("/_matrix/federation/v1/send/t1").body(body);
    let request = request.unwrap();
    let key = SigningKey::from_seed(b.name.clone(), "1", [b'b'; 32]).unwrap();
    let proof = XMatrix::sign(&request, &key, &a.name).unwrap();
    let (mut parts, body) = request.into_parts();
    parts.headers.insert("authorization", proof.header());
    let before = told(&a, &room).await;
    let request = http::Request::from_parts(parts, Bytes::from(body));
    let answer = wire.exchange(&a.name, request, Bounds::default()).await.unwrap();
    assert_eq!(answer.status(), 200, "{:?}", answer.body());
    assert_ne!(told(&a, &room).await, before);
}

/// A user of another server is neither brought into a room nor put out of it by anybody's word but theirs.
#[tokio::test]
async fn row_3_16_nobody_is_joined_or_parted_by_a_third_party() {
    let (_wire, [a, b, _c], room, _alice) = three().await;
    let signed = json!({ "mxid": "@alice:a.org", "token": "t", "signatures": {} });
    for membership in ["join", "leave", "invite"] {
        let content = json!({
            "membership": membership, "third_party_invite": { "display_name": "x", "signed": signed },
        });
        let bob = b.user("bob");
        let versions = [ruma::RoomVersionId::V11];
        let place = (&*room, &*bob);
        let join = crate::types::Membership::Join;
        let template = a.app.federation.make(&b.name, join, place, Some(&versions));
        let template = serde_json::to_value(&template.await.unwrap().event).unwrap();
        let (_, event) = super::hostile::event("11", |event| {
            for field in ["prev_events", "auth_events", "depth"] {
                event[field] = template[field].clone();
            }
            event["room_id"] = json!(room);
            event["sender"] = json!("@bob:b.org");
            event["content"] = content.clone();
        });
        let pdus = vec![super::hostile::raw(&event)];
        let transaction =
            crate::federation::Transaction { id: String::from(membership), pdus, edus: Vec::new() };
        let answer = a.app.federation.receive(&b.name, transaction).await.unwrap();
        assert!(answer.values().all(Result::is_err), "{membership}: {answer:?}");
        let found = a.membership(&room, &a.user("alice")).await;
        assert_eq!(found, Some(crate::types::Membership::Join), "{membership}");
    }
}

/// Spaces that contain each other and themselves, over two servers.
#[tokio::test]
async fn row_5_7_spaces_in_circles_come_to_an_end() {
    let (_wire, [a, b, _c], _room, alice) = three().await;
    let bob = b.met("", "POST /login", json!({
        "type": "m.login.password", "identifier": { "type": "m.id.user", "user": "bob" }, "password": "secret",
    }));
    let bob = bob.await["access_token"].as_str().unwrap().to_owned();
    let space = json!({ "preset": "public_chat", "creation_content": { "type": "m.space" } });
    let one = a.room(&alice, "11", space.clone()).await;
    let two = b.room(&bob, "11", space).await;
    for (server, token, parent, child, via) in [
        (&a, &alice, &one, &one, "a.org"),
        (&a, &alice, &one, &two, "b.org"),
        (&b, &bob, &two, &one, "a.org"),
        (&b, &bob, &two, &two, "b.org"),
    ] {
        let path = format!("PUT /rooms/{parent}/state/m.space.child/{child}");
        let set = server.met(token, &path, json!({ "via": [via] })).await;
        assert!(set["event_id"].is_string(), "{set}");
    }
    let found = a.met(&alice, &format!("GET /_matrix/client/v1/rooms/{one}/hierarchy"), Value::Null).await;
    let rooms = found["rooms"].as_array().unwrap();
    assert_eq!(rooms.len(), 2, "each is told once: {found}");
    assert!(found["next_batch"].is_null(), "{found}");
}
