//! More rows of the list of known vulnerabilities: what nobody can do from outside, whatever they send.

use std::{collections::BTreeMap, time::Duration};

use bytes::Bytes;
use ruma::{
    OwnedEventId, RoomVersionId,
    api::federation::{
        keys::get_keys,
        membership::{RawStrippedState, create_invite},
    },
    server_name,
};
use serde_json::{Value, json};

use super::{Server, hostile::event, hostile::raw, via};
use crate::{
    http::{Wire, endpoints},
    keys::SigningKey,
    peer::{Bounds, Net, PeerError, XMatrix},
    types::Membership,
};

const BOUNDS: Bounds = Bounds::new(Duration::from_secs(5), 1 << 20);

/// Two servers with alice and bob in a room of a's; their tokens.
async fn scene(version: &str) -> (Wire, Server, Server, ruma::OwnedRoomId, [String; 2]) {
    let wire = Wire::default();
    let (a, b) = (Server::new("a.org", &wire).await, Server::new("b.org", &wire).await);
    let (alice, bob) = (a.register("alice").await, b.register("bob").await);
    let room = a.room(&alice, version, json!({ "preset": "public_chat" })).await;
    let joined = b.met(&bob, &format!("POST /join/{}", via(&room, &[&a])), json!({})).await;
    assert_eq!(joined, json!({ "room_id": room }));
    (wire, a, b, room, [alice, bob])
}

/// Row 2.15: a server is administered by its administrators, through its own interface, and by nothing that is
/// said in a room or signed by another server.
#[tokio::test]
async fn row_2_15_nothing_from_another_server_commands_this_one() {
    let (wire, a, b, room, [alice, bob]) = scene("11").await;
    for (number, body) in
        ["!admin users deactivate alice", "\\!admin users deactivate alice", "/deop @alice:a.org"]
            .into_iter()
            .enumerate()
    {
        let content = json!({ "msgtype": "m.text", "body": body });
        let path = format!("PUT /rooms/{room}/send/m.room.message/{number}");
        let said = b.met(&bob, &path, content).await;
        let id = OwnedEventId::try_from(said["event_id"].as_str().unwrap()).unwrap();
        let pdu = b.app.history.event(&id).await.unwrap().unwrap().pdu.json().to_owned();
        let results = a.app.rooms.receive(&b.name, &room, vec![pdu]).await.unwrap();
        assert!(results.iter().all(|(_, result)| result.is_ok()), "{results:?}");
        let timeline = a.met(&alice, &format!("GET /rooms/{room}/messages?dir=b&limit=1"), Value::Null).await;
        assert_eq!(timeline["chunk"][0]["event_id"], json!(id), "nobody has answered it");
        assert!(a.app.accounts.is_active(&a.user("alice")).await.unwrap(), "{body}");
    }
    let key = SigningKey::from_seed(b.name.clone(), "1", [b'b'; 32]).unwrap();
    let mut count = 0;
    for (method, path) in endpoints().listed().iter().filter(|(_, path)| path.contains("/admin/")) {
        let path: String = path.split('/').map(|part| if part.starts_with('{') { "x" } else { part }).fold(
            String::new(),
            |path, part| match path.is_empty() && part.is_empty() {
                true => String::from("/"),
                false => format!("{path}{}{part}", if path.ends_with('/') { "" } else { "/" }),
            },
        );
        let request =
            http::Request::builder().method(method.clone()).uri(&path).body(String::from("{}")).unwrap();
        let proof = XMatrix::sign(&request, &key, &a.name).unwrap();
        let (mut parts, body) = request.into_parts();
        parts.headers.insert("authorization", proof.header());
        let request = http::Request::from_parts(parts, Bytes::from(body));
        let status = wire.exchange(&a.name, request, BOUNDS).await.unwrap().status().as_u16();
        // Registration by a shared secret asks for that, and nothing else.
        let expected: &[u16] = if path.ends_with("/register") { &[200, 400, 403] } else { &[401] };
        assert!(expected.contains(&status), "{method} {path}: {status}");
        count += 1;
    }
    assert!(count > 3, "there is something to try");
    let _ = alice;
}

/// Row 3.5: keys that are none are refused when they are published, so that nothing breaks that tells of them.
#[tokio::test]
async fn row_3_5_cve_2025_61672_device_keys_without_sense_are_refused() {
    let (_wire, a, b, _room, [alice, _]) = scene("11").await;
    let good = json!({
        "user_id": "@alice:a.org", "device_id": "PHONE", "algorithms": ["m.olm.v1.curve25519-aes-sha2"],
        "keys": { "ed25519:PHONE": "a", "curve25519:PHONE": "b" },
        "signatures": { "@alice:a.org": { "ed25519:PHONE": "c" } },
    });
    let with = |field: &str, value: Value| {
        let mut keys = good.clone();
        keys[field] = value;
        keys
    };
    let nonsense = [
        json!(5),
        json!([]),
        json!({}),
        with("user_id", json!("@bob:b.org")),
        with("user_id", json!(7)),
        with("device_id", json!("OTHER")),
        with("device_id", Value::Null),
        with("algorithms", json!("all")),
        with("algorithms", json!([1])),
        with("keys", json!([])),
        with("keys", json!({ "ed25519:PHONE": 1 })),
        with("keys", json!({ "ed25519:PHONE": { "key": "a" } })),
        with("signatures", json!("signed")),
        with("signatures", json!({ "@alice:a.org": "c" })),
        with("signatures", json!({ "@alice:a.org": { "ed25519:PHONE": 1 } })),
        with("filler", json!("x".repeat(200_000))),
    ];
    for keys in nonsense {
        let text = keys.to_string().chars().take(300).collect::<String>();
        let answer = a.met(&alice, "POST /keys/upload", json!({ "device_keys": keys })).await;
        let status = answer.as_str().unwrap_or_else(|| panic!("{text}: {answer}"));
        assert!(status.starts_with('4'), "{text}: {status}");
    }
    let wanted = BTreeMap::from([(a.user("alice"), Vec::new())]);
    let answer = b.app.peers.call(&a.name, get_keys::v1::Request::new(wanted), BOUNDS).await.unwrap();
    assert!(answer.device_keys.values().all(BTreeMap::is_empty), "{:?}", answer.device_keys);
}

/// Row 8 (d): since room version 12 it takes more than the level of an administrator to put a room to rest.
#[tokio::test]
async fn row_8_d_an_upgrade_needs_a_creator_since_version_12() {
    for (version, level, expected) in [("11", 100, None), ("12", 150, Some("403 M_FORBIDDEN"))] {
        let wire = Wire::default();
        let a = Server::new("a.org", &wire).await;
        let (alice, ben) = (a.register("alice").await, a.register("ben").await);
        let room = a.room(&alice, version, json!({ "preset": "public_chat" })).await;
        a.met(&ben, &format!("POST /rooms/{room}/join"), json!({})).await;
        let path = format!("/rooms/{room}/state/m.room.power_levels");
        let mut levels = a.met(&alice, &format!("GET {path}"), Value::Null).await;
        assert_eq!(levels["events"]["m.room.tombstone"], level, "version {version}");
        levels["users"]["@ben:a.org"] = json!(100);
        a.met(&alice, &format!("PUT {path}"), levels).await;
        let upgrade = format!("POST /rooms/{room}/upgrade");
        let by_ben = a.met(&ben, &upgrade, json!({ "new_version": "12" })).await;
        match expected {
            None => assert!(by_ben["replacement_room"].is_string(), "version {version}: {by_ben}"),
            Some(refusal) => {
                assert_eq!(by_ben, refusal, "version {version}");
                let by_alice = a.met(&alice, &upgrade, json!({ "new_version": "12" })).await;
                let new = by_alice["replacement_room"].as_str().unwrap_or_else(|| panic!("{by_alice}"));
                let path = format!("GET /rooms/{new}/state/m.room.power_levels");
                let levels = a.met(&alice, &path, Value::Null).await;
                assert_eq!(levels["events"]["m.room.tombstone"], 150);
            }
        }
    }
}

/// Row 8 (g): the create event that comes with an invite is that of the room.
#[tokio::test]
async fn row_8_g_the_create_event_of_an_invite_is_that_of_its_room() {
    let (_wire, a, b, ..) = scene("12").await;
    let eve = b.register("eve").await;
    let mut creates = Vec::new();
    for _ in 0..2 {
        let room = b.room(&eve, "12", json!({})).await;
        let id = b.app.history.room(&room).await.unwrap().unwrap().create.clone();
        creates.push((room, b.app.history.event(&id).await.unwrap().unwrap().pdu.json().to_owned()));
    }
    let (room, create) = &creates[0];
    let mut altered: Value = serde_json::from_str(create.get()).unwrap();
    altered["content"]["x"] = json!(1);
    for (what, told, is_good) in [
        ("of another room", creates[1].1.clone(), false),
        ("altered", raw(&altered), false),
        ("its own", create.clone(), true),
    ] {
        let (id, object) = event("12", |event| event["room_id"] = json!(room));
        let state = vec![RawStrippedState::Pdu(told)];
        let request =
            create_invite::v2::Request::new(room.clone(), id, RoomVersionId::V12, raw(&object), state);
        match b.app.peers.call(server_name!("a.org"), request, BOUNDS).await {
            Ok(_) => assert!(is_good, "{what}"),
            Err(PeerError::Refused { status, .. }) if !is_good => assert_eq!(status.as_u16(), 400, "{what}"),
            Err(error) => panic!("{what}: {error}"),
        }
        let standing = a.app.history.standing(&a.user("alice"), room).await.unwrap();
        let invited = standing.is_some_and(|standing| standing.membership == Membership::Invite);
        assert_eq!(invited, is_good, "{what}");
    }
}
