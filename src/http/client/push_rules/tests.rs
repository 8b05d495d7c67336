//! What may be a push rule.

use serde_json::{Value, json};

use crate::{
    account::{DataChange, Registration},
    http::client::testing::Server,
    limits::{PUSH_CONDITIONS_MAX, PUSH_PATTERN_BYTES_MAX, PUSH_RULES_MAX},
    log::Commit,
};

/// Row 5.3 of the list of known vulnerabilities: what would be slow to match is not taken.
#[tokio::test]
async fn row_5_3_rules_have_bounds() {
    let server = Server::new(Registration::Open).await;
    let alice = server.register("alice").await;
    let pattern = |length: usize| json!({ "pattern": "?".repeat(length), "actions": ["notify"] });
    let (put, bad) = ("PUT /pushrules/global/content/x", json!("400 M_INVALID_PARAM"));
    server.check(&alice, put, (pattern(200_000), bad.clone())).await;
    server.check(&alice, put, (pattern(PUSH_PATTERN_BYTES_MAX + 1), bad.clone())).await;
    server.check(&alice, put, (pattern(PUSH_PATTERN_BYTES_MAX), json!({}))).await;
    let long = format!("PUT /pushrules/global/content/{}", "x".repeat(PUSH_PATTERN_BYTES_MAX + 1));
    server.check(&alice, &long, (pattern(1), bad.clone())).await;
    let condition =
        |key: &str, pattern: &str| json!({ "kind": "event_match", "key": key, "pattern": pattern });
    let with = |conditions: Vec<Value>| json!({ "conditions": conditions, "actions": [] });
    let text = "x".repeat(PUSH_PATTERN_BYTES_MAX + 1);
    for kind in ["override", "underride"] {
        let put = format!("PUT /pushrules/global/{kind}/x");
        server.check(&alice, &put, (with(vec![condition("a", &text)]), bad.clone())).await;
        server.check(&alice, &put, (with(vec![condition(&text, "a")]), bad.clone())).await;
        let many = |count: usize| with(vec![condition("a", "b"); count]);
        server.check(&alice, &put, (many(PUSH_CONDITIONS_MAX + 1), bad.clone())).await;
        server.check(&alice, &put, (many(PUSH_CONDITIONS_MAX), json!({}))).await;
    }
}

/// Rules as they are stored, for `alice`.
async fn store(server: &Server, content: Value) {
    let app = server.app();
    let mut commit = Commit::new();
    let content = serde_json::value::to_raw_value(&content).unwrap();
    let change = DataChange { room_id: None, event_type: "m.push_rules".to_owned(), content };
    app.accounts.put_data(&mut commit, "@alice:localhost".try_into().unwrap(), change).unwrap();
    app.log.commit(commit).await.unwrap();
}

#[tokio::test]
async fn one_rule_more_than_the_most_is_refused_and_those_there_can_be_changed() {
    let server = Server::new(Registration::Open).await;
    let alice = server.register("alice").await;
    let rule = |n: usize| json!({ "rule_id": format!("r{n}"), "pattern": "x", "actions": [], "default": false, "enabled": true });
    let rules: Vec<Value> = (0..PUSH_RULES_MAX).map(rule).collect();
    store(&server, json!({ "global": { "content": rules } })).await;
    let body = || json!({ "pattern": "y", "actions": [] });
    let many = json!("413 M_TOO_LARGE");
    server.check(&alice, "PUT /pushrules/global/content/new", (body(), many.clone())).await;
    server.check(&alice, "PUT /pushrules/global/room/!r:b", (json!({ "actions": [] }), many)).await;
    server.check(&alice, "PUT /pushrules/global/content/r7", (body(), json!({}))).await;
    server.check(&alice, "DELETE /pushrules/global/content/r7", (Value::Null, json!({}))).await;
    server.check(&alice, "PUT /pushrules/global/content/new", (body(), json!({}))).await;
}

/// Patterns for which a regular expression is too large were taken once: their user can sync.
#[tokio::test]
async fn row_5_3_stored_rules_and_names_do_not_stop_sync() {
    let server = Server::new(Registration::Open).await;
    let (alice, bob) = (server.register("alice").await, server.register("bob").await);
    let worst = "?".repeat(200_000);
    let rule = json!({ "rule_id": "x", "pattern": worst, "actions": [], "default": false, "enabled": true });
    store(&server, json!({ "global": { "content": [rule] } })).await;
    let created = server.met(&bob, "POST /createRoom", json!({ "preset": "public_chat" })).await;
    let room = created["room_id"].as_str().unwrap();
    server.met(&alice, &format!("POST /join/{room}"), json!({})).await;
    let name = json!({ "membership": "join", "displayname": "?".repeat(60_000) });
    let put = format!("PUT /rooms/{room}/state/m.room.member/@alice:localhost");
    let answer = server.met(&alice, &put, name).await;
    assert!(answer["event_id"].is_string(), "{answer}");
    let say = format!("PUT /rooms/{room}/send/m.room.message/1");
    server.met(&bob, &say, json!({ "msgtype": "m.text", "body": "x".repeat(50_000) })).await;
    let synced = server.met(&alice, "GET /sync", Value::Null).await;
    let counts = &synced["rooms"]["join"][room]["unread_notifications"];
    assert_eq!(counts["notification_count"], 1, "{counts}");
}

/// MSC4075 as clients use it: a call that begins is told by whom it mentions.
#[tokio::test]
async fn a_call_is_told_by_the_rules_about_mentions() {
    let server = Server::new(Registration::Open).await;
    let [alice, bob, carol] =
        [server.register("alice").await, server.register("bob").await, server.register("carol").await];
    let room = server.met(&alice, "POST /createRoom", json!({ "preset": "public_chat" })).await;
    let room = room["room_id"].as_str().unwrap().to_owned();
    for token in [&bob, &carol] {
        server.met(token, &format!("POST /join/{room}"), json!({})).await;
    }
    let everybody = json!({ "room": true, "user_ids": [] });
    let one = json!({ "user_ids": ["@bob:localhost"] });
    let mut expected = 0;
    // In a room only who may mention everybody does.
    for (number, (token, mentions, adds)) in
        [(&alice, &everybody, 1), (&carol, &everybody, 0), (&carol, &one, 1)].into_iter().enumerate()
    {
        let call = json!({
            "notification_type": "ring", "sender_ts": 1, "lifetime": 30_000, "m.mentions": mentions,
        });
        let path = format!("PUT /rooms/{room}/send/org.matrix.msc4075.rtc.notification/{number}");
        server.met(token, &path, call).await;
        expected += adds;
        let synced = server.met(&bob, "GET /sync", Value::Null).await;
        let unread = &synced["rooms"]["join"][&room]["unread_notifications"];
        assert_eq!(unread["highlight_count"], expected, "call {number}: {unread}");
    }
}
