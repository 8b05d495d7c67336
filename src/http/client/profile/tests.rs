//! Whole profiles, and how a change of one reaches clients.

use serde_json::{Value, json};

use crate::{account::Registration, http::client::testing::Server};

const WHOLE: &str = "/_matrix/client/unstable/com.beeper.msc4437/profile/@alice:localhost";

#[tokio::test]
async fn a_profile_is_replaced_or_added_to_as_a_whole() {
    let server = Server::new(Registration::Open).await;
    let (alice, bob) = (server.register("alice").await, server.register("bob").await);
    let full = json!({ "displayname": "Alice", "avatar_url": "mxc://localhost/a", "org.x.y": [1] });
    let merged = json!({ "displayname": "Alice", "org.x.y": [1], "org.x.z": null });
    let bad = |name: &str, value: Value| json!({ "displayname": "Other", name: value });
    for (who, request, body, expected) in [
        (&alice, "PUT", full.clone(), json!({})),
        (&alice, "GET", Value::Null, full.clone()),
        (&alice, "PATCH", json!({ "avatar_url": "", "org.x.z": null }), merged.clone()),
        (&alice, "GET", Value::Null, merged.clone()),
        (&bob, "PUT", full.clone(), json!("403 M_FORBIDDEN")),
        (&bob, "PATCH", full.clone(), json!("403 M_FORBIDDEN")),
        // One that is at fault is enough.
        (&alice, "PUT", bad("Bad", json!(1)), json!("400 M_INVALID_PARAM")),
        (&alice, "PUT", bad("avatar_url", json!(1)), json!("400 M_BAD_JSON")),
        (&alice, "PATCH", bad("m.tz", Value::Null), json!("400 M_BAD_JSON")),
        (&alice, "PUT", bad(&"a.".repeat(200), json!(1)), json!("400 M_KEY_TOO_LARGE")),
        (&alice, "PUT", bad("org.x.y", json!("x".repeat(70_000))), json!("400 M_PROFILE_TOO_LARGE")),
        (&alice, "PUT", json!([]), json!("400 M_BAD_JSON")),
        (&alice, "GET", Value::Null, merged),
        (&alice, "PUT", json!({ "org.x.y": 2 }), json!({})),
        (&alice, "GET", Value::Null, json!({ "org.x.y": 2 })),
    ] {
        let path = if request == "GET" { "/_matrix/client/v3/profile/@alice:localhost" } else { WHOLE };
        server.check(who, &format!("{request} {path}"), (body, expected)).await;
    }
    // matrix-js-sdk asks here.
    server.check(&alice, "PUT /profile/@alice:localhost", (json!({ "org.x.y": 3 }), json!({}))).await;
    server.check(&alice, "PATCH /profile/@alice:localhost", (json!({}), json!({ "org.x.y": 3 }))).await;
}

#[tokio::test]
async fn a_whole_profile_makes_one_member_event() {
    let server = Server::new(Registration::Open).await;
    let alice = server.register("alice").await;
    let room = server.met(&alice, "POST /createRoom", json!({})).await;
    let room = room["room_id"].as_str().unwrap();
    let first = server.met(&alice, "GET /sync", Value::Null).await;
    let since = first["next_batch"].as_str().unwrap();
    let both = json!({ "displayname": "A", "avatar_url": "mxc://localhost/a", "org.x.y": 1 });
    for _ in 0..2 {
        server.check(&alice, &format!("PUT {WHOLE}"), (both.clone(), json!({}))).await;
    }
    server
        .check(
            &alice,
            &format!("PATCH {WHOLE}"),
            (json!({ "org.x.y": 2 }), {
                let mut both = both.clone();
                both["org.x.y"] = json!(2);
                both
            }),
        )
        .await;
    let next = server.met(&alice, &format!("GET /sync?since={since}"), Value::Null).await;
    let events = &next["rooms"]["join"][room]["timeline"]["events"];
    assert_eq!(events.as_array().map(Vec::len), Some(1), "{events}");
    assert_eq!(events[0]["content"]["displayname"], "A");
    assert_eq!(events[0]["content"]["avatar_url"], "mxc://localhost/a");
}

/// By a filter that is kept, as matrix-js-sdk does it, and by an extension, as matrix-rust-sdk does it.
#[tokio::test]
async fn clients_that_ask_are_told_of_a_change() {
    let server = Server::new(Registration::Open).await;
    let (alice, bob) = (server.register("alice").await, server.register("bob").await);
    let room = server.met(&alice, "POST /createRoom", json!({ "preset": "public_chat" })).await;
    let room = room["room_id"].as_str().unwrap();
    server.met(&bob, &format!("POST /join/{room}"), json!({})).await;
    let filter = json!({ "org.matrix.msc4429.profile_fields": { "ids": ["m.status"] } });
    let filter = server.met(&bob, "POST /user/@bob:localhost/filter", filter).await;
    let sync = format!("GET /sync?filter={}", filter["filter_id"].as_str().unwrap());
    let slide = "POST /_matrix/client/unstable/org.matrix.simplified_msc3575/sync";
    let list =
        json!({ "ranges": [[0, 9]], "timeline_limit": 1, "required_state": [["m.room.member", "$LAZY"]] });
    let body = json!({ "lists": { "all": list }, "extensions": { "org.matrix.msc4262.profiles": {
        "enabled": true, "lists": ["*"], "rooms": ["*"], "fields": ["m.status", "m.call"] } } });
    let first = server.met(&bob, &sync, Value::Null).await;
    let slid = server.met(&bob, slide, body.clone()).await;
    assert!(
        first["org.matrix.msc4429.users"].is_null()
            && slid["extensions"].get("org.matrix.msc4262.profiles").is_some_and(|told| told == &json!({})),
        "{slid}"
    );
    let status = json!({ "text": "swims", "emoji": "x" });
    server.met(&alice, "PUT /profile/@alice:localhost/m.status", json!({ "m.status": status })).await;
    let next = server
        .met(&bob, &format!("{sync}&since={}", first["next_batch"].as_str().unwrap()), Value::Null)
        .await;
    assert_eq!(
        next["org.matrix.msc4429.users"],
        json!({ "@alice:localhost": { "profile_updates": { "m.status": status } } }),
        "{next}"
    );
    let slid =
        server.met(&bob, &format!("{slide}?pos={}", slid["pos"].as_str().unwrap()), body.clone()).await;
    assert_eq!(
        slid["extensions"]["org.matrix.msc4262.profiles"]["users"],
        json!({ "@alice:localhost": { "updated": { "m.status": status } } }),
        "{slid}"
    );
    server.met(&alice, "DELETE /profile/@alice:localhost/m.status", Value::Null).await;
    let slid = server.met(&bob, &format!("{slide}?pos={}", slid["pos"].as_str().unwrap()), body).await;
    let gone = json!({ "@alice:localhost": { "removed": ["m.status"] } });
    assert_eq!(slid["extensions"]["org.matrix.msc4262.profiles"]["users"], gone, "{slid}");
}
