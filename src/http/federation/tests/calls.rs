//! Calls over the SFU of another server.

use std::sync::Arc;

use ruma::OwnedRoomId;
use serde_json::{Value, json};

use super::{Server, via};
use crate::{
    http::{
        Wire,
        client::voip::testing::{FakeSfu, URL, claims, configure},
    },
    peer::{Bounds, PeerError},
};

const TOKEN: &str = "POST /_matrix/client/unstable/io.element.msc4195/rtc/livekit/get_token";
const PEER: &str = "/_matrix/federation/v1/rtc/livekit/get_token";

fn seat(room: &OwnedRoomId) -> Value {
    json!({
        "server_name": "a.org", "url": URL, "room_id": room, "slot_id": "m.call#ROOM",
        "member": { "id": "xyz", "claimed_device_id": "PHONE" },
    })
}

#[tokio::test]
async fn who_is_in_a_room_listens_over_the_sfu_of_another_server() {
    let wire = Wire::default();
    let sfu = Arc::new(FakeSfu::on(&wire));
    let a = Server::set_up("a.org", &wire, sfu.clone(), configure).await;
    let b = Server::new("b.org", &wire).await;
    let (alice, bob, carol) = (a.register("alice").await, b.register("bob").await, b.register("carol").await);
    let room = a.room(&alice, "11", json!({ "preset": "public_chat" })).await;
    b.met(&bob, &format!("POST /join/{}", via(&room, &[&a])), json!({})).await;

    let answer = b.met(&bob, TOKEN, seat(&room)).await;
    let theirs = claims(answer["jwt"].as_str().unwrap_or_else(|| panic!("{answer}")));
    let answer = a.met(&alice, TOKEN, seat(&room)).await;
    let ours = claims(answer["jwt"].as_str().unwrap_or_else(|| panic!("{answer}")));
    assert_eq!(theirs["video"]["room"], ours["video"]["room"]);
    assert_ne!(theirs["sub"], ours["sub"]);
    let grants = |claims: &Value| {
        ["canPublish", "canSubscribe", "roomCreate"].map(|name| claims["video"][name] == true)
    };
    assert_eq!((grants(&ours), grants(&theirs)), ([true, true, false], [false, true, false]));

    let mut other = seat(&room);
    other["url"] = json!("wss://other.example.org");
    assert_eq!(b.met(&bob, TOKEN, other).await, "400 M_INVALID_PARAM");
    assert_eq!(b.met(&carol, TOKEN, seat(&room)).await, "403 M_FORBIDDEN");
    sfu.set_down(true);
    assert_eq!(b.met(&bob, TOKEN, seat(&room)).await, "502 M_UNKNOWN");
    sfu.set_down(false);

    // What a server says of its users is not believed where the room says otherwise.
    let ask = async |user: &str| {
        let mut body = seat(&room);
        body["user_id"] = json!(user);
        let body = serde_json::to_vec(&body).unwrap();
        match b.app.peers.post(&a.name, PEER, body, Bounds::default()).await {
            Ok(_) => 200,
            Err(PeerError::Refused { status, .. }) => status.as_u16(),
            Err(error) => panic!("{error}"),
        }
    };
    for (user, expected) in [("@bob:b.org", 200), ("@carol:b.org", 403), ("@alice:a.org", 403)] {
        assert_eq!(ask(user).await, expected, "{user}");
    }
    // Those who know no other way prove by an OpenID token who they are.
    for (token, user, expected) in [(&bob, "bob", None), (&carol, "carol", Some("403 M_FORBIDDEN"))] {
        let openid = format!("POST /user/{}/openid/request_token", b.user(user));
        let openid = b.met(token, &openid, json!({})).await["access_token"].clone();
        let proof = json!({ "access_token": openid, "matrix_server_name": "b.org" });
        let body = json!({ "room": room, "device_id": "PHONE", "openid_token": proof });
        let answer = a.met("", "POST /_matrix/livekit/jwt/sfu/get", body).await;
        match expected {
            Some(expected) => assert_eq!(answer, expected),
            None => assert_eq!(claims(answer["jwt"].as_str().unwrap())["sub"], "@bob:b.org:PHONE"),
        }
    }
    b.met(&bob, &format!("POST /rooms/{room}/leave"), json!({})).await;
    assert_eq!(b.met(&bob, TOKEN, seat(&room)).await, "403 M_FORBIDDEN");
    wire.cut(&a.name);
    assert_eq!(b.met(&carol, TOKEN, seat(&room)).await, "403 M_FORBIDDEN");
}
