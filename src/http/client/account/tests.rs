//! Accounts over HTTP: what a client sends and what it is told.

use serde_json::{Value, json};

use crate::{account::Registration, http::client::testing::Server};

fn password(password: &str) -> Value {
    json!({
        "type": "m.login.password", "password": password,
        "identifier": { "type": "m.id.user", "user": "alice" },
    })
}

#[tokio::test]
async fn registering_goes_through_its_stages() {
    let server = Server::new(Registration::Open).await;
    let wanted = json!({ "username": "alice", "password": "secret", "refresh_token": true });
    let (status, asked) = server.ask("", "POST /register", wanted.clone()).await;
    assert_eq!((status, &asked["flows"]), (401, &json!([{ "stages": ["m.login.dummy"] }])));
    let mut second = wanted;
    second["auth"] = json!({ "type": "m.login.dummy", "session": asked["session"] });
    let (status, answer) = server.ask("", "POST /register", second.clone()).await;
    assert_eq!((status, &answer["user_id"]), (200, &json!("@alice:localhost")));
    assert!(answer["refresh_token"].is_string() && answer["expires_in_ms"].is_u64(), "{answer}");
    let token = answer["access_token"].as_str().unwrap();
    let me = json!({ "user_id": "@alice:localhost", "device_id": answer["device_id"] });
    server.check(token, "GET /account/whoami", (Value::Null, me)).await;
    let dummy = json!({ "type": "m.login.dummy" });
    for (body, expected) in [
        (second, json!("400 M_USER_IN_USE")),
        (json!({ "username": "a b", "auth": dummy }), json!("400 M_INVALID_USERNAME")),
        (
            json!({ "username": "bob", "inhibit_login": true, "auth": dummy }),
            json!({ "user_id": "@bob:localhost", "device_id": null }),
        ),
    ] {
        server.check("", "POST /register", (body, expected)).await;
    }
    let guest = server.met("", "POST /register?kind=guest", json!({})).await;
    assert_eq!(guest, "403 M_GUEST_ACCESS_FORBIDDEN");
    for (name, expected) in [
        ("carol", json!({ "available": true })),
        ("alice", json!("400 M_USER_IN_USE")),
        ("%21", json!("400 M_INVALID_USERNAME")),
    ] {
        let request = format!("GET /register/available?username={name}");
        server.check("", &request, (Value::Null, expected)).await;
    }
}

#[tokio::test]
async fn closed_servers_and_servers_with_tokens_refuse_strangers() {
    let closed = Server::new(Registration::Closed).await;
    let body = json!({ "username": "alice", "auth": { "type": "m.login.dummy" } });
    closed.check("", "POST /register", (body, json!("403 M_FORBIDDEN"))).await;
    let available = "GET /register/available?username=alice";
    closed.check("", available, (Value::Null, json!("403 M_FORBIDDEN"))).await;

    let server = Server::new(Registration::Token).await;
    let with = |token: &str| {
        json!({ "username": "alice", "inhibit_login": true,
            "auth": { "type": "m.login.registration_token", "token": token } })
    };
    server.check("", "POST /register", (with("wrong"), json!("401 M_UNAUTHORIZED"))).await;
    server
        .check(
            "",
            "POST /register",
            (with("sesame"), json!({ "user_id": "@alice:localhost", "device_id": null })),
        )
        .await;
}

#[tokio::test]
async fn logging_in_and_out() {
    let server = Server::new(Registration::Open).await;
    let phone = server.register("alice").await;
    let flows = json!({ "flows": [{ "type": "m.login.password" }, { "type": "m.login.token", "get_login_token": true },
            { "type": "m.login.application_service" }] });
    server.check("", "GET /login", (Value::Null, flows)).await;
    for (extra, expected) in [
        (json!({ "password": "wrong" }), "403 M_FORBIDDEN"),
        (json!({ "identifier": { "type": "m.id.user", "user": "nobody" } }), "403 M_FORBIDDEN"),
        (json!({ "identifier": { "type": "m.id.user", "user": "@alice:there" } }), "403 M_FORBIDDEN"),
        (json!({ "type": "m.login.sso" }), "400 M_UNKNOWN"),
        (json!({ "device_id": "x".repeat(256) }), "400 M_INVALID_PARAM"),
    ] {
        assert_eq!(server.login(extra.clone()).await, expected, "{extra}");
    }
    let old = json!({ "type": "m.login.password", "password": "secret", "user": "alice" });
    assert!(server.met("", "POST /login", old).await["access_token"].is_string());
    let named = json!({ "device_id": "TAB", "initial_device_display_name": "tablet", "refresh_token": true });
    let tablet = server.login(named).await;
    assert_eq!(tablet["device_id"], "TAB");
    let refresh = json!({ "refresh_token": tablet["refresh_token"] });
    let renewed = server.met("", "POST /refresh", refresh.clone()).await;
    let token = renewed["access_token"].as_str().unwrap();
    let me = json!({ "user_id": "@alice:localhost", "device_id": "TAB" });
    server.check(token, "GET /account/whoami", (Value::Null, me)).await;
    server.check("", "POST /refresh", (refresh, json!("401 M_UNKNOWN_TOKEN"))).await;

    server.check(token, "POST /logout", (Value::Null, json!({}))).await;
    server.check(token, "GET /account/whoami", (Value::Null, json!("401 M_UNKNOWN_TOKEN"))).await;
    server.check(&phone, "POST /logout/all", (json!({}), json!({}))).await;
    server.check(&phone, "GET /account/whoami", (Value::Null, json!("401 M_UNKNOWN_TOKEN"))).await;
    server.check("", "POST /logout", (json!({}), json!("401 M_MISSING_TOKEN"))).await;
}

#[tokio::test]
async fn a_new_password_ends_the_other_sessions() {
    let server = Server::new(Registration::Open).await;
    let phone = server.register("alice").await;
    let tablet = server.login(json!({ "device_id": "TAB" })).await;
    let tablet = tablet["access_token"].as_str().unwrap();
    let change = |given: &str, logout: bool| json!({ "new_password": "secret", "logout_devices": logout, "auth": password(given) });
    server.check(&phone, "POST /account/password", (change("wrong", true), json!("401 M_FORBIDDEN"))).await;
    server.check(&phone, "POST /account/password", (change("secret", false), json!({}))).await;
    assert!(server.met(tablet, "GET /account/whoami", Value::Null).await["user_id"].is_string());
    server.check(&phone, "POST /account/password", (change("secret", true), json!({}))).await;
    server.check(tablet, "GET /account/whoami", (Value::Null, json!("401 M_UNKNOWN_TOKEN"))).await;
    assert!(server.met(&phone, "GET /account/whoami", Value::Null).await["user_id"].is_string());
}

#[tokio::test]
async fn a_deactivated_account_leaves_its_rooms_and_is_out() {
    let server = Server::new(Registration::Open).await;
    let (alice, bob) = (server.register("alice").await, server.register("bob").await);
    let room = server.met(&alice, "POST /createRoom", json!({ "preset": "public_chat" })).await;
    let room = room["room_id"].as_str().unwrap();
    assert!(server.met(&bob, &format!("POST /join/{room}"), json!({})).await["room_id"].is_string());
    let (status, asked) = server.ask(&alice, "POST /account/deactivate", json!({})).await;
    assert_eq!((status, &asked["flows"]), (401, &json!([{ "stages": ["m.login.password"] }])));
    let body = json!({ "auth": password("secret"), "erase": true });
    let done = json!({ "id_server_unbind_result": "success" });
    server.check(&alice, "POST /account/deactivate", (body, done)).await;
    server.check(&alice, "GET /account/whoami", (Value::Null, json!("401 M_UNKNOWN_TOKEN"))).await;
    assert_eq!(server.login(json!({})).await, "403 M_USER_DEACTIVATED");
    let member = format!("GET /rooms/{room}/state/m.room.member/@alice:localhost");
    assert_eq!(server.met(&bob, &member, Value::Null).await["membership"], "leave");
}

#[tokio::test]
async fn what_belongs_to_others_is_refused_and_what_is_not_kept_is_said() {
    let server = Server::new(Registration::Open).await;
    let alice = server.register("alice").await;
    let openid = server.met(&alice, "POST /user/@alice:localhost/openid/request_token", json!({})).await;
    assert_eq!((&openid["token_type"], &openid["expires_in"]), (&json!("Bearer"), &json!(3_600)));
    let userinfo = "GET /_matrix/federation/v1/openid/userinfo";
    let token = openid["access_token"].as_str().unwrap();
    for (request, expected) in [
        (format!("{userinfo}?access_token={token}"), json!({ "sub": "@alice:localhost" })),
        (format!("{userinfo}?access_token=lko_1_x"), json!("401 M_UNKNOWN_TOKEN")),
        (format!("{userinfo}?access_token={alice}"), json!("401 M_UNKNOWN_TOKEN")),
        (userinfo.to_owned(), json!("401 M_MISSING_TOKEN")),
    ] {
        server.check("", &request, (Value::Null, expected)).await;
    }
    let mail = json!({ "client_secret": "abc", "email": "a@b.c", "send_attempt": 1 });
    for (request, body, expected) in [
        ("POST /user/@bob:localhost/openid/request_token", json!({}), json!("403 M_FORBIDDEN")),
        ("GET /account/3pid", Value::Null, json!({ "threepids": [] })),
        ("POST /account/3pid", json!({ "three_pid_creds": {} }), json!("403 M_FORBIDDEN")),
        ("POST /account/3pid", json!({}), json!("400 M_BAD_JSON")),
        ("POST /account/3pid/bind", json!({}), json!("400 M_BAD_JSON")),
        ("POST /account/3pid/add", json!({ "client_secret": "abc", "sid": "1" }), json!("401 -")),
        (
            "POST /account/3pid/delete",
            json!({ "medium": "email", "address": "a@b.c" }),
            json!("403 M_FORBIDDEN"),
        ),
        ("POST /account/3pid/email/requestToken", mail.clone(), json!("400 M_THREEPID_MEDIUM_NOT_SUPPORTED")),
        ("POST /register/email/requestToken", mail, json!("400 M_THREEPID_MEDIUM_NOT_SUPPORTED")),
        ("PUT /user/@bob:localhost/account_data/m.x", json!({}), json!("403 M_FORBIDDEN")),
        ("GET /user/@alice:localhost/account_data/m.x", Value::Null, json!("404 M_NOT_FOUND")),
        ("PUT /user/@alice:localhost/account_data/m.x", json!({ "a": 1 }), json!({})),
        ("GET /user/@alice:localhost/account_data/m.x", Value::Null, json!({ "a": 1 })),
        ("PUT /user/@alice:localhost/account_data/m.fully_read", json!({}), json!("405 M_BAD_JSON")),
        ("PUT /user/@alice:localhost/rooms/!r:x/tags/m.favourite", json!({ "order": 0.5 }), json!({})),
        (
            "GET /user/@alice:localhost/rooms/!r:x/tags",
            Value::Null,
            json!({ "tags": { "m.favourite": { "order": 0.5 } } }),
        ),
        (
            "PUT /user/@alice:localhost/rooms/!r:x/tags/m.favourite",
            json!({ "order": 0.5, "x": 1 }),
            json!({}),
        ),
        (
            "GET /user/@alice:localhost/rooms/!r:x/tags",
            Value::Null,
            json!({ "tags": { "m.favourite": { "order": 0.5, "x": 1 } } }),
        ),
        ("DELETE /user/@alice:localhost/rooms/!r:x/tags/m.favourite", Value::Null, json!({})),
        ("GET /user/@alice:localhost/rooms/!r:x/tags", Value::Null, json!({ "tags": {} })),
        ("GET /user/@alice:localhost/filter/none", Value::Null, json!("404 M_NOT_FOUND")),
    ] {
        server.check(&alice, request, (body, expected)).await;
    }
}

#[tokio::test]
async fn account_data_can_be_removed() {
    const BASE: &str = "/_matrix/client/unstable/org.matrix.msc3391/user/@alice:localhost";
    let server = Server::new(Registration::Open).await;
    let alice = server.register("alice").await;
    let room = server.met(&alice, "POST /createRoom", json!({})).await;
    let room = room["room_id"].as_str().unwrap().to_owned();
    let places = ["account_data/m.x".to_owned(), format!("rooms/{room}/account_data/m.x")];
    for place in &places {
        let put = format!("PUT /user/@alice:localhost/{place}");
        server.check(&alice, &put, (json!({ "a": 1 }), json!({}))).await;
    }
    // By `DELETE`, and by an empty content.
    for by_put in [false, true] {
        let before = server.met(&alice, "GET /sync", Value::Null).await;
        for place in &places {
            for _ in 0..2 {
                let (request, body) = match by_put {
                    true => (format!("PUT /user/@alice:localhost/{place}"), json!({})),
                    false => (format!("DELETE {BASE}/{place}"), Value::Null),
                };
                server.check(&alice, &request, (body, json!({}))).await;
            }
            let get = format!("GET /user/@alice:localhost/{place}");
            server.check(&alice, &get, (Value::Null, json!("404 M_NOT_FOUND"))).await;
        }
        let sync = format!("GET /sync?since={}", before["next_batch"].as_str().unwrap());
        let after = server.met(&alice, &sync, Value::Null).await;
        let empty = json!([{ "type": "m.x", "content": {} }]);
        assert_eq!(after["account_data"]["events"], empty);
        assert_eq!(after["rooms"]["join"][&room]["account_data"]["events"], empty);
        let later = format!("GET /sync?since={}", after["next_batch"].as_str().unwrap());
        let later = server.met(&alice, &later, Value::Null).await.to_string();
        let whole = server.met(&alice, "GET /sync", Value::Null).await.to_string();
        assert!(!whole.contains("m.x") && !later.contains("m.x"), "{whole} {later}");
        for place in &places {
            let put = format!("PUT /user/@alice:localhost/{place}");
            server.check(&alice, &put, (json!({ "a": 1 }), json!({}))).await;
        }
    }
    for (request, expected) in [
        (format!("DELETE {BASE}/account_data/m.push_rules"), "405 M_BAD_JSON"),
        (format!("DELETE {BASE}/rooms/nowhere/account_data/m.x"), "400 M_INVALID_PARAM"),
        (format!("DELETE {}/account_data/m.x", BASE.replace("alice", "bob")), "403 M_FORBIDDEN"),
    ] {
        server.check(&alice, &request, (Value::Null, json!(expected))).await;
    }
    let features = server.met("", "GET /_matrix/client/versions", Value::Null).await;
    assert_eq!(features["unstable_features"]["org.matrix.msc3391"], true);
}

#[tokio::test]
async fn mistakes_in_bodies_and_in_parameters_have_their_codes() {
    let server = Server::new(Registration::Open).await;
    let alice = server.register("alice").await;
    let long = "x".repeat(300);
    let room = server.met(&alice, "POST /createRoom", json!({})).await;
    let room = room["room_id"].as_str().unwrap();
    let device = json!({ "username": "bob", "device_id": long, "auth": { "type": "m.login.dummy" } });
    for (request, body, expected) in [
        (
            "PUT /profile/@alice:localhost/displayname".to_owned(),
            json!({ "displayname": 1 }),
            "400 M_BAD_JSON",
        ),
        ("PUT /profile/@alice:localhost/Bad".to_owned(), json!({ "Bad": 1 }), "400 M_INVALID_PARAM"),
        (format!("PUT /user/@alice:localhost/account_data/{long}"), json!({}), "400 M_INVALID_PARAM"),
        (format!("PUT /user/@alice:localhost/rooms/{room}/tags/{long}"), json!({}), "400 M_INVALID_PARAM"),
        ("PUT /user/@alice:localhost/account_data/m.x".to_owned(), json!([]), "400 M_BAD_JSON"),
        ("POST /user/@alice:localhost/filter".to_owned(), json!({ "room": 1 }), "400 M_BAD_JSON"),
        ("POST /register".to_owned(), device, "400 M_INVALID_PARAM"),
        (format!("POST /rooms/{room}/receipt/m.read/$none"), json!({}), "404 M_NOT_FOUND"),
        (format!("POST /rooms/{room}/read_markers"), json!({ "m.fully_read": "$none" }), "404 M_NOT_FOUND"),
        (format!("POST /rooms/{room}/receipt/m.odd/$none"), json!({}), "400 M_INVALID_PARAM"),
        (
            format!("POST /rooms/{room}/receipt/m.read/$none"),
            json!({ "thread_id": "" }),
            "400 M_INVALID_PARAM",
        ),
        (
            format!("POST /rooms/{room}/receipt/m.read/$none"),
            json!({ "thread_id": 1 }),
            "400 M_INVALID_PARAM",
        ),
    ] {
        server.check(&alice, &request, (body, json!(expected))).await;
    }
}

#[tokio::test]
async fn profiles_have_any_fields() {
    let server = Server::new(Registration::Open).await;
    let alice = server.register("alice").await;
    let long = format!("PUT /profile/@alice:localhost/{}", "a.".to_owned() + &"x".repeat(300));
    for (request, body, expected) in [
        ("PUT /profile/@alice:localhost/displayname", json!({ "displayname": "Alice" }), json!({})),
        ("GET /profile/@alice:localhost/displayname", Value::Null, json!({ "displayname": "Alice" })),
        ("PUT /profile/@bob:localhost/displayname", json!({ "displayname": "x" }), json!("403 M_FORBIDDEN")),
        ("PUT /profile/@alice:localhost/org.x.y", json!({ "org.x.y": [1] }), json!({})),
        ("GET /profile/@alice:localhost/org.x.y", Value::Null, json!({ "org.x.y": [1] })),
        ("GET /profile/@alice:localhost", Value::Null, json!({ "displayname": "Alice", "org.x.y": [1] })),
        ("DELETE /profile/@alice:localhost/org.x.y", Value::Null, json!({})),
        ("GET /profile/@alice:localhost/org.x.y", Value::Null, json!("404 M_NOT_FOUND")),
        ("GET /profile/@nobody:localhost", Value::Null, json!("404 M_NOT_FOUND")),
        (
            "PUT /profile/@alice:localhost/org.x.big",
            json!({ "org.x.big": "x".repeat(70_000) }),
            json!("400 M_PROFILE_TOO_LARGE"),
        ),
        (&long, json!({ "a.".to_owned() + &"x".repeat(300): 1 }), json!("400 M_KEY_TOO_LARGE")),
    ] {
        server.check(&alice, request, (body, expected)).await;
    }
}

#[tokio::test]
async fn push_rules_are_set_moved_and_removed() {
    let server = Server::new(Registration::Open).await;
    let alice = server.register("alice").await;
    let rule = json!({ "pattern": "cake", "actions": ["notify"] });
    let base = "/pushrules/global";
    for (request, body, expected) in [
        ("PUT", "content/cake", rule.clone(), json!({})),
        ("PUT", "content/pie?before=cake", rule.clone(), json!({})),
        ("PUT", "content/tart?after=none", rule.clone(), json!("404 M_NOT_FOUND")),
        ("PUT", "content/.m.mine", rule.clone(), json!("400 M_INVALID_PARAM")),
        ("PUT", "content/cake/enabled", json!({ "enabled": false }), json!({})),
        ("GET", "content/cake/enabled", Value::Null, json!({ "enabled": false })),
        ("PUT", "content/cake/actions", json!({ "actions": [] }), json!({})),
        ("GET", "content/cake/actions", Value::Null, json!({ "actions": [] })),
        ("PUT", "override/.m.rule.master/enabled", json!({ "enabled": true }), json!({})),
        ("GET", "override/.m.rule.master/enabled", Value::Null, json!({ "enabled": true })),
        ("DELETE", "override/.m.rule.master", Value::Null, json!("400 M_INVALID_PARAM")),
        ("GET", "content/none", Value::Null, json!("404 M_NOT_FOUND")),
        ("PUT", "content/none/enabled", json!({ "enabled": false }), json!("404 M_NOT_FOUND")),
        ("DELETE", "content/none", Value::Null, json!("404 M_NOT_FOUND")),
    ]
    .map(|(method, path, body, expected)| (format!("{method} {base}/{path}"), body, expected))
    {
        server.check(&alice, &request, (body, expected)).await;
    }
    let all = server.met(&alice, "GET /pushrules/", Value::Null).await;
    let names: Vec<_> =
        all["global"]["content"].as_array().unwrap().iter().map(|rule| &rule["rule_id"]).collect();
    assert_eq!(names[..2], ["pie", "cake"]);
    server.check(&alice, "DELETE /pushrules/global/content/pie", (Value::Null, json!({}))).await;
    server.check(&alice, "GET /pushrules/global/content/pie", (Value::Null, json!("404 M_NOT_FOUND"))).await;
}

#[tokio::test]
async fn what_an_erased_user_said_is_hidden_from_those_who_come_later() {
    let server = Server::new(Registration::Open).await;
    let (alice, bob, carol) =
        (server.register("alice").await, server.register("bob").await, server.register("carol").await);
    let room = server.met(&bob, "POST /createRoom", json!({ "preset": "public_chat" })).await;
    let room = room["room_id"].as_str().unwrap();
    server.met(&alice, &format!("POST /join/{room}"), json!({})).await;
    let said = json!({ "body": "secret", "msgtype": "m.text" });
    let sent = server.met(&alice, &format!("PUT /rooms/{room}/send/m.room.message/1"), said.clone()).await;
    server.met(&bob, &format!("PUT /rooms/{room}/send/m.room.message/1"), said.clone()).await;
    let invited = json!({ "preset": "private_chat", "invite": ["@alice:localhost"] });
    let waiting = server.met(&bob, "POST /createRoom", invited).await;
    let own = json!({ "preset": "public_chat", "topic": "secret topic" });
    let own = server.met(&alice, "POST /createRoom", own).await;
    let own = own["room_id"].as_str().unwrap();
    server.met(&bob, &format!("POST /join/{own}"), json!({})).await;
    let body = json!({ "auth": password("secret"), "erase": true });
    let done = json!({ "id_server_unbind_result": "success" });
    server.check(&alice, "POST /account/deactivate", (body, done)).await;
    for room in [room, own] {
        server.met(&carol, &format!("POST /join/{room}"), json!({})).await;
    }
    for (token, topic) in [(&bob, json!("secret topic")), (&carol, Value::Null)] {
        let state = format!("GET /rooms/{own}/state/m.room.topic");
        assert_eq!(server.met(token, &state, Value::Null).await["topic"], topic);
        let event = server.met(token, &format!("{state}?format=event"), Value::Null).await;
        assert_eq!(event["content"]["topic"], topic, "{event}");
        for format in ["client", "federation"] {
            let filter = json!({ "event_format": format, "room": { "timeline": { "limit": 50 } } });
            let filter = serde_html_form::to_string([("filter", filter.to_string())]).unwrap();
            let all = server.met(token, &format!("GET /sync?{filter}"), Value::Null).await;
            let told = all["rooms"]["join"][room]["timeline"]["events"].as_array().unwrap();
            let is_hers = |event: &Value| event["sender"] == "@alice:localhost" && event["content"] == said;
            assert_eq!(told.iter().any(is_hers), !topic.is_null(), "{format}: {told:?}");
            assert_eq!(all.to_string().contains("secret topic"), !topic.is_null(), "{format}: {all}");
        }
    }
    let event = format!("GET /rooms/{room}/event/{}", sent["event_id"].as_str().unwrap());
    for (token, expected) in [(&bob, said.clone()), (&carol, json!({}))] {
        assert_eq!(server.met(token, &event, Value::Null).await["content"], expected);
    }
    let page = server.met(&carol, &format!("GET /rooms/{room}/messages?dir=b"), Value::Null).await;
    let bodies: Vec<_> = page["chunk"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|event| event["type"] == "m.room.message")
        .map(|event| (event["sender"].as_str().unwrap(), event["content"] == said))
        .collect();
    assert_eq!(bodies, [("@bob:localhost", true), ("@alice:localhost", false)]);
    // An invite that was waiting is turned down.
    let waiting = waiting["room_id"].as_str().unwrap();
    let member = format!("GET /rooms/{waiting}/state/m.room.member/@alice:localhost");
    assert_eq!(server.met(&bob, &member, Value::Null).await["membership"], "leave");
}

/// What a room is called belongs to the room; what somebody was called, and wrote with an invite, to them.
#[tokio::test]
async fn an_invite_of_an_erased_user_tells_of_the_room_and_not_of_the_user() {
    let server = Server::new(Registration::Open).await;
    let [alice, bob, carol, dan] = ["alice", "bob", "carol", "dan"];
    let [alice, bob, carol, dan] = [
        server.register(alice).await,
        server.register(bob).await,
        server.register(carol).await,
        server.register(dan).await,
    ];
    let make =
        json!({ "preset": "public_chat", "visibility": "public", "name": "The room", "topic": "Its topic" });
    let room = server.met(&alice, "POST /createRoom", make).await;
    let room = room["room_id"].as_str().unwrap();
    for token in [&carol, &dan] {
        server.met(token, &format!("POST /join/{room}"), json!({})).await;
    }
    server.met(&carol, &format!("POST /rooms/{room}/leave"), json!({})).await;
    for name in ["bob", "carol"] {
        let invite = json!({ "user_id": format!("@{name}:localhost"), "reason": "secret reason" });
        server.check(&alice, &format!("POST /rooms/{room}/invite"), (invite, json!({}))).await;
    }
    let told = async |token: &str| {
        let synced = server.met(token, "GET /sync", Value::Null).await;
        let told = synced["rooms"]["invite"][room]["invite_state"]["events"].clone();
        let list =
            json!({ "lists": { "a": { "ranges": [[0, 9]], "timeline_limit": 1, "required_state": [] } } });
        let path = "POST /_matrix/client/unstable/org.matrix.simplified_msc3575/sync";
        let slid = server.met(token, path, list).await;
        assert_eq!(slid["rooms"][room]["invite_state"], told, "{slid}");
        told
    };
    let of = |told: &Value, kind: &str, sender: &str, key: &str| -> Value {
        let is_it =
            |event: &&Value| event["type"] == kind && event["sender"] == sender && event["state_key"] == key;
        told.as_array().unwrap().iter().find(is_it).unwrap_or_else(|| panic!("{kind} {key}: {told}"))["content"].clone()
    };
    let before = told(&bob).await;
    assert_eq!(of(&before, "m.room.member", "@alice:localhost", "@alice:localhost")["displayname"], "alice");
    assert_eq!(of(&before, "m.room.member", "@alice:localhost", "@bob:localhost")["reason"], "secret reason");
    let body = json!({ "auth": password("secret"), "erase": true });
    let done = json!({ "id_server_unbind_result": "success" });
    server.check(&alice, "POST /account/deactivate", (body, done)).await;
    let after = told(&bob).await;
    for (kind, key, content) in [
        ("m.room.member", "@alice:localhost", json!({ "membership": "join" })),
        ("m.room.member", "@bob:localhost", json!({ "membership": "invite" })),
        ("m.room.name", "", json!({ "name": "The room" })),
    ] {
        assert_eq!(of(&after, kind, "@alice:localhost", key), content, "{kind} {key}");
    }
    assert_eq!(of(&after, "m.room.topic", "@alice:localhost", "")["topic"], "Its topic");
    // Who had been in the room before keeps what they were told.
    let known = told(&carol).await;
    assert_eq!(of(&known, "m.room.member", "@alice:localhost", "@alice:localhost")["displayname"], "alice");
    assert_eq!(
        of(&known, "m.room.member", "@alice:localhost", "@carol:localhost")["reason"],
        "secret reason"
    );
    let summary = format!("GET /_matrix/client/v1/room_summary/{room}");
    let hierarchy = format!("GET /_matrix/client/v1/rooms/{room}/hierarchy");
    for (path, place) in [(&*summary, ""), (&*hierarchy, "/rooms/0"), ("GET /publicRooms", "/chunk/0")] {
        let shown = server.met(&bob, path, Value::Null).await;
        let shown = shown.pointer(place).unwrap_or_else(|| panic!("{path}: {shown}"));
        assert_eq!((&shown["name"], &shown["topic"]), (&json!("The room"), &json!("Its topic")), "{path}");
    }
}

#[tokio::test]
async fn what_was_set_for_a_room_goes_with_its_upgrade() {
    let server = Server::new(Registration::Open).await;
    let (alice, bob, carol) =
        (server.register("alice").await, server.register("bob").await, server.register("carol").await);
    let make = json!({ "preset": "public_chat", "room_version": "10" });
    let old = server.met(&alice, "POST /createRoom", make).await;
    let old = old["room_id"].as_str().unwrap();
    server.met(&bob, &format!("POST /join/{old}"), json!({})).await;
    for (token, name, other) in [(&alice, "alice", "bob"), (&bob, "bob", "alice")] {
        let user = format!("/user/@{name}:localhost");
        let tag = format!("PUT {user}/rooms/{old}/tags/m.favourite");
        server.check(token, &tag, (json!({ "order": 0.5 }), json!({}))).await;
        let direct = json!({ format!("@{other}:localhost"): [old] });
        server.check(token, &format!("PUT {user}/account_data/m.direct"), (direct, json!({}))).await;
        let rule = format!("PUT /pushrules/global/room/{old}");
        server.check(token, &rule, (json!({ "actions": [] }), json!({}))).await;
    }
    let upgrade = format!("POST /rooms/{old}/upgrade");
    let new = server.met(&alice, &upgrade, json!({ "new_version": "11" })).await;
    let new = new["replacement_room"].as_str().unwrap();
    for token in [&bob, &carol] {
        server.met(token, &format!("POST /join/{new}"), json!({})).await;
    }
    for (token, name, other) in [(&alice, "alice", "bob"), (&bob, "bob", "alice")] {
        let user = format!("/user/@{name}:localhost");
        let tags = json!({ "tags": { "m.favourite": { "order": 0.5 } } });
        server.check(token, &format!("GET {user}/rooms/{new}/tags"), (Value::Null, tags)).await;
        let direct = json!({ format!("@{other}:localhost"): [old, new] });
        server.check(token, &format!("GET {user}/account_data/m.direct"), (Value::Null, direct)).await;
        let rule = server.met(token, &format!("GET /pushrules/global/room/{new}"), Value::Null).await;
        assert_eq!(rule["actions"], json!([]), "{rule}");
    }
    let none = (Value::Null, json!({ "tags": {} }));
    server.check(&carol, &format!("GET /user/@carol:localhost/rooms/{new}/tags"), none).await;
}

#[tokio::test]
async fn a_login_token_lets_another_device_in_once() {
    let server = Server::new(Registration::Open).await;
    let phone = server.register("alice").await;
    let ask = "POST /_matrix/client/v1/login/get_token";
    server.check(&phone, ask, (json!({}), json!("401 -"))).await;
    let told = server.met(&phone, ask, json!({ "auth": password("secret") })).await;
    assert_eq!(told["expires_in_ms"], 120_000, "{told}");
    let by_token = |token: &Value| json!({ "type": "m.login.token", "token": token, "device_id": "DESK" });
    let session = server.met("", "POST /login", by_token(&told["login_token"])).await;
    assert_eq!((&session["user_id"], &session["device_id"]), (&json!("@alice:localhost"), &json!("DESK")));
    for token in [&told["login_token"], &json!("lkt_9999999999999_x"), &json!(phone), &json!("")] {
        server.check("", "POST /login", (by_token(token), json!("403 M_FORBIDDEN"))).await;
    }
}

/// Row 3.19 of the list of known vulnerabilities (tuwunel 1.9.0: a rule after the last one, and the server fell over).
#[tokio::test]
async fn row_3_19_a_push_rule_may_come_after_the_last_one() {
    let server = Server::new(Registration::Open).await;
    let alice = server.register("alice").await;
    let rule = |kind: &str| match kind {
        "content" => json!({ "actions": [], "pattern": "x" }),
        "override" | "underride" => json!({ "actions": [], "conditions": [] }),
        _ => json!({ "actions": [] }),
    };
    for (kind, ids) in [
        ("override", ["a", "b", "c", "d"]),
        ("underride", ["a", "b", "c", "d"]),
        ("content", ["a", "b", "c", "d"]),
        ("room", ["!a:x", "!b:x", "!c:x", "!d:x"]),
        ("sender", ["@a:x", "@b:x", "@c:x", "@d:x"]),
    ] {
        let [a, b, c, d] = ids;
        for (place, expected) in [
            (a.to_owned(), 200),
            (format!("{b}?after={a}"), 200),
            (format!("{c}?after={b}"), 200),
            (format!("{a}?after={c}"), 200),
            (format!("{a}?before={b}"), 200),
            (format!("{a}?after={a}"), 404),
            (format!("{d}?after={c}&before={a}"), 400),
            (format!("{d}?after={d}"), 404),
            (format!("{d}?after=.m.rule.master"), 400),
        ] {
            let request = format!("PUT /pushrules/global/{kind}/{place}");
            let (status, answer) = server.ask(&alice, &request, rule(kind)).await;
            assert!(
                status == expected || (expected >= 400 && (400..500).contains(&status)),
                "{request}: {answer}"
            );
        }
        let rules = server.met(&alice, "GET /pushrules/", Value::Null).await;
        let kept = rules["global"][kind].as_array().unwrap().iter().map(|rule| rule["rule_id"].clone());
        let kept: Vec<Value> = kept.filter(|id| ids.iter().any(|known| id == known)).collect();
        assert_eq!(kept, [a, b, c], "{kind}");
    }
}

/// Row 7.2 of the list of known vulnerabilities: whoever has got hold of an access token guesses the password no faster
/// than somebody who logs in.
#[tokio::test]
async fn row_7_2_guesses_of_a_password_are_counted() {
    let server = Server::new(Registration::Open).await;
    let alice = server.register("alice").await;
    let mut told = Vec::new();
    for guess in 0..=10 {
        let identifier = json!({ "type": "m.id.user", "user": "alice" });
        let auth =
            json!({ "type": "m.login.password", "password": format!("{guess}"), "identifier": identifier });
        let (request, body) = match guess % 3 {
            0 => ("POST /account/password", json!({ "new_password": "mine", "auth": auth })),
            1 => ("POST /account/deactivate", json!({ "auth": auth })),
            _ => ("POST /delete_devices", json!({ "devices": [], "auth": auth })),
        };
        told.push(server.ask(&alice, request, body).await.0);
    }
    assert_eq!(told, [[401].repeat(10), vec![429]].concat());
}
