//! What a client finds in a sync, from the outside.

use std::sync::Arc;

use serde_json::{Value, json};

use crate::{
    account::Registration,
    config::Config,
    http::{
        client::testing::Server,
        tests::{services_at, services_over},
    },
    limits::{SLIDING_BODY_BYTES_MAX, SYNC_ROOMS_AT_ONCE},
    log::Commit,
    store::{Key, table::TableId},
    types::ManualClock,
};

async fn room(server: &Server, token: &str) -> String {
    let created = server.met(token, "POST /createRoom", json!({ "preset": "public_chat" })).await;
    created["room_id"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn counts_follow_the_push_rules_at_once() {
    let server = Server::new(Registration::Open).await;
    let (alice, bob) = (server.register("alice").await, server.register("bob").await);
    let (busy, quiet) = (room(&server, &alice).await, room(&server, &alice).await);
    for room in [&busy, &quiet] {
        server.met(&bob, &format!("POST /join/{room}"), json!({})).await;
    }
    let say = format!("PUT /rooms/{busy}/send/m.room.message/1");
    server.met(&alice, &say, json!({ "msgtype": "m.text", "body": "x" })).await;
    let slide = "POST /_matrix/client/unstable/org.matrix.simplified_msc3575/sync";
    let list = json!({ "ranges": [[0, 9]], "timeline_limit": 1, "required_state": [] });
    let slid = server.met(&bob, slide, json!({ "lists": { "all": list } })).await;
    assert_eq!(slid["rooms"][&busy]["notification_count"], 1, "{slid}");
    let (mut pos, mut since) = (slid["pos"].clone(), Value::Null);
    for (verb, body, count) in
        [("GET", Value::Null, 1), ("PUT", json!({ "actions": [] }), 0), ("DELETE", Value::Null, 1)]
    {
        server.met(&bob, &format!("{verb} /pushrules/global/room/{busy}"), body).await;
        let query = since.as_str().map_or(String::new(), |since| format!("?since={since}"));
        let next = server.met(&bob, &format!("GET /sync{query}"), Value::Null).await;
        let rooms = &next["rooms"]["join"];
        assert_eq!(rooms[&busy]["unread_notifications"]["notification_count"], count, "{verb}: {next}");
        assert_eq!(rooms[&quiet].is_object(), since.is_null(), "nothing is to be said of the other: {next}");
        since = next["next_batch"].clone();
        if verb == "GET" {
            continue;
        }
        let path = format!("{slide}?pos={}", pos.as_str().unwrap());
        let slid = server.met(&bob, &path, json!({ "lists": { "all": list } })).await;
        assert_eq!(slid["rooms"][&busy]["notification_count"], count, "{verb}: {slid}");
        pos = slid["pos"].clone();
    }
}

/// A server whose store is damaged in one event of one room, and goes on: a client of either sync gets the rest.
#[tokio::test]
async fn one_damaged_event_holds_up_nothing_else() {
    let (config, clock) = (Config::default(), Arc::new(ManualClock::at(1_700_000_000_000)));
    let server = Server::over(services_at(config.clone(), clock.clone()).await, Registration::Open);
    let (alice, bob) = (server.register("alice").await, server.register("bob").await);
    let (sick, well) = (room(&server, &alice).await, room(&server, &alice).await);
    for room in [&sick, &well] {
        server.met(&bob, &format!("POST /join/{room}"), json!({})).await;
    }
    let slide = "POST /_matrix/client/unstable/org.matrix.simplified_msc3575/sync";
    let list = json!({ "ranges": [[0, 9]], "timeline_limit": 1, "required_state": [] });
    let body = json!({ "lists": { "all": list }, "extensions": { "receipts": { "enabled": true } } });
    let slid = server.met(&bob, slide, body.clone()).await;
    let first = server.met(&bob, "GET /sync", Value::Null).await;
    let mut said = Vec::new();
    for room in [&sick, &well] {
        let say = format!("PUT /rooms/{room}/send/m.room.message/1");
        let sent = server.met(&alice, &say, json!({ "msgtype": "m.text", "body": "x" })).await;
        said.push(sent["event_id"].as_str().unwrap().to_owned());
    }
    let app = server.app();
    let mut commit = Commit::new();
    commit.put_raw(Key::new(TableId::Event, &(said[0].clone(),)), b"rubbish".to_vec());
    app.log.commit(commit).await.unwrap();
    app.stopping.cancel();
    app.log.close();
    app.tasks.close();
    let db = app.log.db().clone();
    let server = Server::over(services_over(config, clock, db).await, Registration::Open);
    let since = first["next_batch"].as_str().unwrap();
    let next = server.met(&bob, &format!("GET /sync?since={since}"), Value::Null).await;
    let rooms = &next["rooms"]["join"];
    assert_eq!(rooms[&well]["timeline"]["events"][0]["event_id"], said[1], "{next}");
    assert_eq!(rooms[&sick]["timeline"]["limited"], true, "{next}");
    let since = next["next_batch"].as_str().unwrap();
    let say = format!("PUT /rooms/{well}/send/m.room.message/2");
    server.met(&alice, &say, json!({ "msgtype": "m.text", "body": "x" })).await;
    let next = server.met(&bob, &format!("GET /sync?since={since}"), Value::Null).await;
    assert!(next["rooms"]["join"][&well].is_object(), "it goes on: {next}");
    let path = format!("{slide}?pos={}", slid["pos"].as_str().unwrap());
    let slid = server.met(&bob, &path, body).await;
    assert!(slid["rooms"][&well].is_object(), "{slid}");
}

#[tokio::test]
async fn a_sticky_event_is_told_to_those_who_come_later() {
    let server = Server::new(Registration::Open).await;
    let (alice, bob) = (server.register("alice").await, server.register("bob").await);
    let room = room(&server, &alice).await;
    let send = |txn: &str, query: &str| format!("PUT /rooms/{room}/send/m.x/{txn}{query}");
    let sticky = "?org.matrix.msc4354.sticky_duration_ms=600000";
    let sent = server.met(&alice, &send("a", sticky), json!({ "body": "sticks" })).await;
    let redacted = server.met(&alice, &send("b", sticky), json!({ "body": "gone" })).await;
    let redact = format!("PUT /rooms/{room}/redact/{}/r", redacted["event_id"].as_str().unwrap());
    server.met(&alice, &redact, json!({})).await;
    server
        .check(
            &alice,
            &send("c", "?org.matrix.msc4354.sticky_duration_ms=x"),
            (json!({}), json!("400 M_INVALID_PARAM")),
        )
        .await;
    for number in 0..30 {
        server.met(&alice, &send(&number.to_string(), ""), json!({})).await;
    }
    server.met(&bob, &format!("POST /join/{room}"), json!({})).await;
    let first = server.met(&bob, "GET /sync", Value::Null).await;
    let found = &first["rooms"]["join"][&room]["msc4354_sticky"]["events"];
    assert_eq!(found.as_array().map(Vec::len), Some(1), "{found}");
    assert_eq!(found[0]["event_id"], sent["event_id"]);
    assert_eq!(found[0]["msc4354_sticky"], json!({ "duration_ms": 600_000 }));
    assert!(
        found[0]["unsigned"]["msc4354_sticky_duration_ttl_ms"].as_u64().is_some_and(|left| left <= 600_000)
    );
    server.met(&alice, &send("d", sticky), json!({ "body": "in the timeline" })).await;
    let since = first["next_batch"].as_str().unwrap();
    let next = server.met(&bob, &format!("GET /sync?since={since}"), Value::Null).await;
    let update = &next["rooms"]["join"][&room];
    assert_eq!(update["timeline"]["events"][0]["msc4354_sticky"], json!({ "duration_ms": 600_000 }));
    assert!(update["msc4354_sticky"].is_null(), "nothing is told twice: {update}");

    let path = "POST /_matrix/client/unstable/org.matrix.simplified_msc3575/sync";
    let list = json!({ "ranges": [[0, 0]], "timeline_limit": 1, "required_state": [] });
    let extensions = json!({ "org.matrix.msc4354.sticky_events": { "enabled": true } });
    let slid = server.met(&bob, path, json!({ "lists": { "all": list }, "extensions": extensions })).await;
    let result = &slid["extensions"]["org.matrix.msc4354.sticky_events"];
    assert_eq!(result["rooms"][&room]["events"][0]["event_id"], sent["event_id"], "{slid}");
    assert_eq!(result["rooms"][&room]["events"].as_array().map(Vec::len), Some(1), "{slid}");
    let since = &result["next_batch"];
    let extensions = json!({ "org.matrix.msc4354.sticky_events": { "enabled": true, "since": since } });
    let pos = slid["pos"].as_str().unwrap();
    let body = json!({ "lists": { "all": list }, "extensions": extensions });
    let slid = server.met(&bob, &format!("{path}?pos={pos}"), body).await;
    assert_eq!(slid["extensions"]["org.matrix.msc4354.sticky_events"]["rooms"], json!({}), "{slid}");

    // The window has another room now.
    let other = self::room(&server, &bob).await;
    server.met(&alice, &send("e", sticky), json!({ "body": "outside" })).await;
    server.met(&bob, &format!("PUT /rooms/{other}/send/m.room.message/f"), json!({ "body": "up" })).await;
    let since = &slid["extensions"]["org.matrix.msc4354.sticky_events"]["next_batch"];
    let extensions = json!({ "org.matrix.msc4354.sticky_events": { "enabled": true, "since": since } });
    let pos = slid["pos"].as_str().unwrap();
    let body = json!({ "lists": { "all": list }, "extensions": extensions });
    let slid = server.met(&bob, &format!("{path}?pos={pos}"), body).await;
    let result = &slid["extensions"]["org.matrix.msc4354.sticky_events"];
    assert_eq!(result["rooms"][&room]["events"][0]["content"]["body"], "outside", "{slid}");
}

#[tokio::test]
async fn an_unwanted_invite_is_refused_or_overlooked() {
    let server = Server::new(Registration::Open).await;
    let (alice, bob) = (server.register("alice").await, server.register("bob").await);
    let id = server.met(&bob, "GET /account/whoami", Value::Null).await["user_id"].clone();
    let room = room(&server, &alice).await;
    let invite = format!("POST /rooms/{room}/invite");
    let set = |kind: &str| format!("PUT /user/{}/account_data/{kind}", id.as_str().unwrap());
    let features = server.met("", "GET /_matrix/client/versions", Value::Null).await;
    let names =
        ["org.matrix.msc4155", "org.matrix.msc4380", "org.matrix.msc4380.stable", "uk.timedout.msc4494"];
    for name in names {
        assert_eq!(features["unstable_features"][name], true, "{name}");
    }
    let block = json!({ "default_action": "block" });
    let refused = json!("403 M_INVITE_BLOCKED");
    let older = set("org.matrix.msc4380.invite_permission_config");
    // As today's clients write it, and as those of before wrote it.
    for content in [block.clone(), json!({ "block_all": true })] {
        server.check(&bob, &older, (content, json!({}))).await;
        server.check(&alice, &invite, (json!({ "user_id": id }), refused.clone())).await;
    }
    server.check(&bob, &older, (json!({}), json!({}))).await;
    server.check(&bob, &set("m.invite_permission_config"), (block, json!({}))).await;
    server.check(&alice, &invite, (json!({ "user_id": id }), refused.clone())).await;
    let state = format!("PUT /rooms/{room}/state/m.room.member/{}", id.as_str().unwrap());
    server.check(&alice, &state, (json!({ "membership": "invite" }), refused.clone())).await;
    server.check(&alice, "POST /createRoom", (json!({ "invite": [id] }), refused)).await;
    server.check(&bob, &set("m.invite_permission_config"), (json!({}), json!({}))).await;

    let ignore = json!({ "ignored_users": ["@alice:*"] });
    let kind = "org.matrix.msc4155.invite_permission_config";
    server.check(&bob, &set(kind), (ignore, json!({}))).await;
    server.check(&alice, &invite, (json!({ "user_id": id }), json!({}))).await;
    let synced = server.met(&bob, "GET /sync", Value::Null).await;
    assert!(synced["rooms"]["invite"].is_null(), "{synced}");
    let slide = "POST /_matrix/client/unstable/org.matrix.simplified_msc3575/sync";
    let lists =
        json!({ "lists": { "all": { "ranges": [[0, 9]], "timeline_limit": 1, "required_state": [] } } });
    assert_eq!(server.met(&bob, slide, lists.clone()).await["rooms"], json!({}));
    server.check(&bob, &set(kind), (json!({}), json!({}))).await;
    let synced = server.met(&bob, "GET /sync", Value::Null).await;
    assert!(synced["rooms"]["invite"][&room].is_object(), "{synced}");
    assert!(server.met(&bob, slide, lists).await["rooms"][&room].is_object());
}

/// One more page of a sliding sync, of the shape of today's clients or of the accepted one; the next position.
async fn slide(server: &Server, token: &str, is_final: bool, (pos, body): (&mut Value, &Value)) -> Value {
    let (path, mut body) = match (is_final, pos.as_str()) {
        (true, _) => (String::from("POST /_matrix/client/v4/sync"), body.clone()),
        (false, pos) => {
            let query = pos.map_or(String::new(), |pos| format!("?pos={pos}"));
            (format!("POST /_matrix/client/unstable/org.matrix.simplified_msc3575/sync{query}"), body.clone())
        }
    };
    if is_final {
        body["pos"] = pos.clone();
    }
    let page = server.met(token, &path, body).await;
    assert!(page["pos"].is_string(), "{page}");
    *pos = page["pos"].clone();
    page
}

/// Row 2.11 of the list of known vulnerabilities (CVE-2024-53867: sliding sync went on telling of a room that one had
/// left): after a kick, a ban or leaving, a connection hears of that and of nothing later, by no kind of sync and of
/// nothing that is in the room.
#[tokio::test]
async fn row_2_11_who_is_out_of_a_room_hears_nothing_of_it() {
    let server = Server::new(Registration::Open).await;
    let (alice, bob) = (server.register("alice").await, server.register("bob").await);
    for (way, is_final) in
        ["leave", "kick", "ban", "forget"].into_iter().flat_map(|way| [(way, false), (way, true)])
    {
        let room = room(&server, &alice).await;
        server.met(&bob, &format!("POST /join/{room}"), json!({})).await;
        let wanted = json!({ "timeline_limit": 20, "required_state": [["*", "*"]] });
        let on = || json!({ "enabled": true, "lists": ["*"], "rooms": ["*", &room] });
        let body = json!({
            "room_subscriptions": { &room: wanted },
            "lists": { "all": { "ranges": [[0, 9]], "timeline_limit": 20, "required_state": [["*", "*"]] } },
            "extensions": { "typing": on(), "receipts": on(), "account_data": on(), "e2ee": { "enabled": true } },
        });
        let mut pos = Value::Null;
        slide(&server, &bob, is_final, (&mut pos, &body)).await;
        let synced = server.met(&bob, "GET /sync", Value::Null).await;
        let whom = json!({ "user_id": "@bob:localhost" });
        match way {
            "kick" | "ban" => drop(server.met(&alice, &format!("POST /rooms/{room}/{way}"), whom).await),
            _ => drop(server.met(&bob, &format!("POST /rooms/{room}/leave"), json!({})).await),
        }
        if way == "forget" {
            server.met(&bob, &format!("POST /rooms/{room}/forget"), json!({})).await;
        }
        let topic = json!({ "topic": "canary" });
        server.met(&alice, &format!("PUT /rooms/{room}/state/m.room.topic"), topic).await;
        let say = format!("PUT /rooms/{room}/send/m.room.message/1");
        let said = server.met(&alice, &say, json!({ "msgtype": "m.text", "body": "canary" })).await;
        let read = format!("POST /rooms/{room}/receipt/m.read/{}", said["event_id"].as_str().unwrap());
        assert_eq!(server.met(&alice, &read, json!({})).await, json!({}));
        let types = format!("PUT /rooms/{room}/typing/@alice:localhost");
        for body in [json!({ "typing": false }), json!({ "typing": true, "timeout": 30_000 })] {
            server.check(&alice, &types, (body, json!({}))).await;
        }
        // Who does not say for how long types for the usual time.
        server.check(&alice, &types, (json!({ "typing": true }), json!({}))).await;
        server.check(&alice, &types, (json!({ "typing": 1 }), json!("400 M_BAD_JSON"))).await;
        let mut since = synced["next_batch"].clone();
        for _ in 0..3 {
            let slid = slide(&server, &bob, is_final, (&mut pos, &body)).await;
            assert!(!slid.to_string().contains("canary"), "{way}: {slid}");
            for kind in ["typing", "receipts"] {
                assert!(slid["extensions"][kind]["rooms"][&room].is_null(), "{way}, {kind}: {slid}");
            }
            let path = format!("GET /sync?full_state=true&since={}", since.as_str().unwrap());
            let synced = server.met(&bob, &path, Value::Null).await;
            let text = synced.to_string();
            assert!(!text.contains("canary") && !text.contains("m.typing"), "{way}: {synced}");
            assert!(!text.contains("m.receipt"), "{way}: {synced}");
            since = synced["next_batch"].clone();
        }
        let anew = slide(&server, &bob, is_final, (&mut Value::Null, &body)).await;
        assert!(!anew.to_string().contains("canary"), "{way}: {anew}");
    }
}

/// A room of alice's, who is logged in twice, with bob, who has synced once.
struct Shared {
    server: Server,
    alice: String,
    tablet: String,
    bob: String,
    room: String,
    from: String,
}

impl Shared {
    async fn new() -> Self {
        let server = Server::new(Registration::Open).await;
        let (alice, bob) = (server.register("alice").await, server.register("bob").await);
        let tablet = server.login(json!({ "device_id": "TABLET" })).await;
        let room = room(&server, &alice).await;
        server.met(&bob, &format!("POST /join/{room}"), json!({})).await;
        let from = server.met(&bob, "GET /sync", Value::Null).await;
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        Self {
            tablet: text(&tablet["access_token"]),
            from: text(&from["next_batch"]),
            server,
            alice,
            bob,
            room,
        }
    }
}

/// Row 2.20 of the list of known vulnerabilities: a private receipt is told to the devices of whoever has read, and to
/// nobody else, however others ask; other servers and application services are told of none by the tests of these.
#[tokio::test]
async fn row_2_20_private_receipts_are_told_to_their_user_only() {
    let Shared { server, alice, tablet, bob, room, from } = Shared::new().await;
    let (mut before, text) = (Value::Null, |body: &str| json!({ "msgtype": "m.text", "body": body }));
    let on = json!({ "enabled": true });
    let list = json!({ "ranges": [[0, 9]], "timeline_limit": 20, "required_state": [] });
    let body = json!({ "lists": { "all": list }, "extensions": { "receipts": on, "account_data": on } });
    slide(&server, &bob, true, (&mut before, &body)).await;
    let say = format!("PUT /rooms/{room}/send/m.room.message");
    let root = server.met(&bob, &format!("{say}/1"), text("root")).await["event_id"].clone();
    let mut reply = text("reply");
    reply["m.relates_to"] = json!({ "rel_type": "m.thread", "event_id": root });
    let reply = server.met(&bob, &format!("{say}/2"), reply).await["event_id"].clone();
    let (root, reply) = (root.as_str().unwrap(), reply.as_str().unwrap());
    for (request, body) in [
        (format!("receipt/m.read.private/{root}"), json!({})),
        (format!("receipt/m.read.private/{root}"), json!({ "thread_id": "main" })),
        (format!("receipt/m.read.private/{reply}"), json!({ "thread_id": root })),
        (String::from("read_markers"), json!({ "m.read.private": reply, "m.fully_read": reply })),
    ] {
        server.check(&alice, &format!("POST /rooms/{room}/{request}"), (body, json!({}))).await;
    }
    let old = format!("/rooms/{room}");
    for path in [
        String::from("/sync"),
        format!("/sync?since={from}"),
        String::from("/sync?full_state=true"),
        String::from("/initialSync"),
        format!("/events?from={from}"),
        format!("/events?from={from}&room_id={room}"),
        format!("{old}/initialSync"),
        format!("{old}/messages?dir=b"),
        format!("{old}/context/{root}"),
    ] {
        let answer = server.met(&bob, &format!("GET {path}"), Value::Null).await;
        let answer = answer.to_string();
        assert!(answer.contains("root") || answer.contains("chunk"), "{path}: {answer}");
        assert!(!answer.contains("m.read.private") && !answer.contains("m.fully_read"), "{path}: {answer}");
    }
    for (mut pos, is_final) in [(before, true), (Value::Null, true), (Value::Null, false)] {
        let page = slide(&server, &bob, is_final, (&mut pos, &body)).await;
        assert!(!page.to_string().contains("m.read.private"), "{page}");
    }
    let synced = server.met(&tablet, "GET /sync", Value::Null).await.to_string();
    assert_eq!(synced.matches("m.read.private").count(), 3, "the other device hears of all: {synced}");
}

/// Row 2.19 of the list of known vulnerabilities (tuwunel 1.9.0: transaction ids of others in bundled edits): the
/// transaction id of an event is told to the device that sent it and to no other, wherever the event is shown.
#[tokio::test]
async fn row_2_19_transaction_ids_are_for_the_sending_device() {
    let Shared { server, alice, tablet, bob, room, from } = Shared::new().await;
    let send = async |txn: &str, content: Value| {
        let path = format!("PUT /rooms/{room}/send/m.room.message/{txn}");
        let sent = server.met(&alice, &path, content).await;
        sent["event_id"].as_str().unwrap().to_owned()
    };
    let text = |body: &str| json!({ "msgtype": "m.text", "body": body });
    let root = send("canary-1", text("one")).await;
    let mut edit = text("two");
    edit["m.new_content"] = text("two");
    edit["m.relates_to"] = json!({ "rel_type": "m.replace", "event_id": root });
    send("canary-2", edit).await;
    let mut reply = text("three");
    reply["m.relates_to"] = json!({ "rel_type": "m.thread", "event_id": root });
    send("canary-3", reply).await;
    let slide = "POST /_matrix/client/unstable/org.matrix.simplified_msc3575/sync";
    let list = json!({ "ranges": [[0, 9]], "timeline_limit": 20, "required_state": [] });
    let search = json!({ "search_categories": { "room_events": { "search_term": "one" } } });
    let mut asked =
        vec![(slide.to_owned(), json!({ "lists": { "all": list } })), (String::from("POST /search"), search)];
    asked.push((String::from("POST /_matrix/client/v4/sync"), asked[0].1.clone()));
    for path in [
        "/sync".to_owned(),
        format!("/rooms/{room}/messages?dir=b"),
        format!("/rooms/{room}/event/{root}"),
        format!("/rooms/{room}/context/{root}"),
        format!("/_matrix/client/v1/rooms/{room}/relations/{root}"),
        format!("/_matrix/client/v1/rooms/{room}/relations/{root}/m.replace"),
        format!("/_matrix/client/v1/rooms/{room}/relations/{root}/m.thread/m.room.message"),
        format!("/_matrix/client/v1/rooms/{room}/threads"),
        String::from("/sync?full_state=true"),
        String::from("/initialSync?limit=20"),
        format!("/rooms/{room}/initialSync"),
        format!("/events?from={from}&room_id={room}"),
        format!("/events?from={from}"),
        format!("/events/{root}"),
        String::from("/notifications"),
    ] {
        asked.push((format!("GET {path}"), Value::Null));
    }
    for (request, body) in asked {
        for (name, token, may) in
            [("phone", &*alice, true), ("tablet", &*tablet, false), ("bob", &*bob, false)]
        {
            let (status, answer) = server.ask(token, &request, body.clone()).await;
            assert_eq!(status, 200, "{request}: {answer}");
            let told = answer.to_string().contains("canary-");
            let never = request.contains("notifications");
            assert!(
                told == (may && !never) || (may && request.contains("search")),
                "{name} {request}: {answer}"
            );
        }
    }
}

/// More rooms than are rendered at once, or sent in one piece.
#[tokio::test]
async fn an_answer_with_many_rooms_is_whole() {
    let server = Server::new(Registration::Open).await;
    let alice = server.register("alice").await;
    let mut rooms = Vec::new();
    for _ in 0..=SYNC_ROOMS_AT_ONCE {
        rooms.push(room(&server, &alice).await);
    }
    rooms.sort();
    let list = json!({ "timeline_limit": 1, "required_state": [] });
    let synced = server.met(&alice, "GET /sync", Value::Null).await;
    let slid = server.met(&alice, "POST /_matrix/client/v4/sync", json!({ "lists": { "all": list } })).await;
    for (answer, found) in [(&synced, &synced["rooms"]["join"]), (&slid, &slid["rooms"])] {
        let found: Vec<&String> = found.as_object().into_iter().flat_map(|rooms| rooms.keys()).collect();
        assert_eq!(found, rooms.iter().collect::<Vec<_>>(), "{answer}");
    }
    assert_eq!(synced["device_one_time_keys_count"], json!({ "signed_curve25519": 0 }));
    let since = synced["next_batch"].as_str().unwrap();
    let next = server.met(&alice, &format!("GET /sync?since={since}"), Value::Null).await;
    assert!(next["rooms"].is_null(), "{next}");
}

#[tokio::test]
async fn what_a_client_asks_for_has_bounds() {
    let server = Server::new(Registration::Open).await;
    let alice = server.register("alice").await;
    for path in ["v4/sync", "unstable/org.matrix.simplified_msc3575/sync"] {
        let request = format!("POST /_matrix/client/{path}");
        let large = json!({ "txn_id": "x".repeat(SLIDING_BODY_BYTES_MAX) });
        server.check(&alice, &request, (large, json!("413 M_TOO_LARGE"))).await;
        let long = json!({ "lists": { "x".repeat(256): { "timeline_limit": 1, "required_state": [] } } });
        server.check(&alice, &request, (long, json!("400 M_INVALID_PARAM"))).await;
    }
}

/// Clients of sliding sync have no other token where a room has no `prev_batch`.
#[tokio::test]
async fn a_position_of_sliding_sync_is_where_messages_begin() {
    let server = Server::new(Registration::Open).await;
    let alice = server.register("alice").await;
    let room = room(&server, &alice).await;
    let say = async |text: &str| {
        let say = format!("PUT /rooms/{room}/send/m.room.message/{text}");
        server.met(&alice, &say, json!({ "msgtype": "m.text", "body": text })).await
    };
    say("before").await;
    let slide = "POST /_matrix/client/unstable/org.matrix.simplified_msc3575/sync";
    let list = json!({ "ranges": [[0, 9]], "timeline_limit": 1, "required_state": [] });
    let slid = server.met(&alice, slide, json!({ "lists": { "all": list } })).await;
    let pos = slid["pos"].as_str().unwrap();
    assert!(pos.contains('~'), "{pos}");
    say("after").await;
    for (direction, expected) in [("b", "before"), ("f", "after")] {
        let query = format!("dir={direction}&limit=1&from={}", pos.replace('~', "%7E"));
        let page = server.met(&alice, &format!("GET /rooms/{room}/messages?{query}"), Value::Null).await;
        assert_eq!(page["chunk"][0]["content"]["body"], expected, "{page}");
        let query = query.replace("from", "to").replace("limit=1", "limit=50");
        let page = server.met(&alice, &format!("GET /rooms/{room}/messages?{query}"), Value::Null).await;
        let bodies: Vec<&Value> =
            page["chunk"].as_array().unwrap().iter().map(|it| &it["content"]["body"]).collect();
        let (has, lacks) = if direction == "b" { ("after", "before") } else { ("before", "after") };
        assert!(bodies.contains(&&json!(has)) && !bodies.contains(&&json!(lacks)), "{page}");
    }
    let query = format!("dir=b&from=~{pos}");
    let refused = server.met(&alice, &format!("GET /rooms/{room}/messages?{query}"), Value::Null).await;
    assert_eq!(refused, "400 M_INVALID_PARAM");
}
