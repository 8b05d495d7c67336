//! Addresses over HTTP: invites, what becomes of them, and addresses that are bound.

use std::sync::Arc;

use serde_json::{Value, json};

use crate::{
    account::Registration,
    config::Config,
    federation::Exchange,
    http::{
        client::testing::{Server, stored},
        tests::services_with,
    },
    identity::tests::Directory,
    keys::{canonical_text, parse_object},
};

/// A server that asks the identity server `id.test`, with alice and bob, and a room of alice's.
struct Scene {
    server: Server,
    directory: Arc<Directory>,
    alice: String,
    bob: String,
    room: String,
}

impl Scene {
    async fn new() -> Self {
        let mut config = Config::default();
        config.identity.servers = vec![Directory::name()];
        let directory = Directory::new();
        let server = Server::over(services_with(config, directory.clone()).await, Registration::Open);
        let (alice, bob) = (server.register("alice").await, server.register("bob").await);
        server
            .met(&alice, "PUT /profile/@alice:localhost/displayname", json!({ "displayname": "Alice" }))
            .await;
        let room = json!({
            "name": "Kitchen", "room_alias_name": "kitchen", "creation_content": { "type": "m.space" },
            "initial_state": [{ "type": "m.room.avatar", "content": { "url": "mxc://localhost/pot" } }],
        });
        let room = server.met(&alice, "POST /createRoom", room).await["room_id"].as_str().unwrap().to_owned();
        Self { server, directory, alice, bob, room }
    }

    fn path(&self, rest: &str) -> String {
        let (method, rest) = rest.split_once(' ').unwrap();
        format!("{method} /rooms/{}/{rest}", self.room)
    }

    /// Has somebody invite an address at an identity server.
    async fn check(&self, token: &str, (server, address): (&str, &str), expected: Value) {
        let body = third(server, address);
        self.server.check(token, &self.path("POST invite"), (body, expected)).await;
    }

    async fn state(&self, place: &str) -> Value {
        self.server.met(&self.alice, &self.path(&format!("GET state/{place}")), Value::Null).await
    }

    /// What the identity server says.
    fn signed(&self, word: &Value) -> Value {
        let mut signed = parse_object(&word.to_string()).unwrap();
        self.directory.key.sign_json(&mut signed).unwrap();
        serde_json::from_str(&canonical_text(&signed)).unwrap()
    }

    /// The identity server says that an address of an invite is bob's.
    async fn bound(&self) {
        let signed = self.signed(&json!({ "mxid": "@bob:localhost", "token": "a-token" }));
        let (bob, room) = ("@bob:localhost".try_into().unwrap(), self.room.as_str().try_into().unwrap());
        let exchange = Exchange { sender: "@alice:localhost".try_into().unwrap(), user: bob, signed };
        let user = exchange.user.clone();
        self.server.app().federation.bound(&user, vec![(room, exchange)]).await;
    }
}

fn third(server: &str, address: &str) -> Value {
    json!({ "id_server": server, "id_access_token": "a-token-there", "medium": "email", "address": address })
}

#[tokio::test]
async fn who_may_not_invite_tells_nobody() {
    let scene = Scene::new().await;
    let carol = ("id.test", "carol@example.org");
    scene.check(&scene.bob, carol, json!("403 M_FORBIDDEN")).await;
    scene.check(&scene.alice, ("other.test", carol.1), json!("403 M_SERVER_NOT_TRUSTED")).await;
    scene.check(&scene.alice, ("id.test", "carol"), json!("400 M_INVALID_PARAM")).await;
    let invite = (json!({ "user_id": "@bob:localhost" }), json!({}));
    scene.server.check(&scene.alice, &scene.path("POST invite"), invite).await;
    scene
        .server
        .check(&scene.bob, &scene.path("POST join"), (json!({}), json!({ "room_id": scene.room })))
        .await;
    let levels = scene.path("PUT state/m.room.power_levels");
    let set = scene.server.met(&scene.alice, &levels, json!({ "invite": 50 })).await;
    assert!(set["event_id"].is_string(), "{set}");
    scene.check(&scene.bob, carol, json!("403 M_FORBIDDEN")).await;
    assert!(scene.directory.asked().is_empty());
}

#[tokio::test]
async fn whoever_has_the_address_is_invited() {
    let scene = Scene::new().await;
    scene.directory.knows("bob@example.org", "@bob:localhost");
    scene.check(&scene.alice, ("id.test", "Bob@example.org"), json!({})).await;
    assert_eq!(scene.state("m.room.member/@bob:localhost").await["membership"], "invite");
    let asked: Vec<String> = scene.directory.asked().into_iter().map(|(path, _)| path).collect();
    assert_eq!(asked, ["/hash_details", "/lookup"]);
}

#[tokio::test]
async fn an_address_of_nobody_is_invited_until_it_is_bound() {
    let scene = Scene::new().await;
    scene.check(&scene.alice, ("id.test", "carol@example.org"), json!({})).await;
    let (path, told) = scene.directory.asked().pop().unwrap();
    assert_eq!(path, "/store-invite");
    let expected = json!({
        "medium": "email", "address": "carol@example.org", "room_id": scene.room, "sender": "@alice:localhost",
        "room_alias": "#kitchen:localhost", "room_avatar_url": "mxc://localhost/pot",
        "room_join_rules": "invite", "room_name": "Kitchen", "room_type": "m.space",
        "sender_display_name": "Alice",
    });
    assert_eq!(told, expected);
    let event = scene.state("m.room.third_party_invite/a-token").await;
    let public = scene.directory.key.public_key().encode();
    let url = "https://id.test/_matrix/identity/v2/pubkey/isvalid";
    let key = json!({ "public_key": public, "key_validity_url": url });
    let expected = json!({
        "display_name": "c...@e...", "public_key": public, "key_validity_url": url, "public_keys": [key],
    });
    assert_eq!(event, expected);

    scene.directory.says(Some(("/pubkey", 200, json!({ "valid": false }))));
    scene.bound().await;
    assert_eq!(scene.state("m.room.member/@bob:localhost").await, json!("404 M_NOT_FOUND"));
    scene.directory.says(None);
    scene.bound().await;
    let member = scene.state("m.room.member/@bob:localhost").await;
    assert_eq!(
        (&member["membership"], &member["third_party_invite"]["display_name"]),
        (&json!("invite"), &json!("c...@e..."))
    );
    scene
        .server
        .check(&scene.bob, &scene.path("POST join"), (json!({}), json!({ "room_id": scene.room })))
        .await;
    let kept = stored(scene.server.app()).await;
    assert!(!kept.contains("carol@example.org") && !kept.contains("a-token-there"));
}

/// A client may bring the word of the identity server itself.
#[tokio::test]
async fn whoever_proves_the_address_comes_in() {
    let scene = Scene::new().await;
    scene.check(&scene.alice, ("id.test", "carol@example.org"), json!({})).await;
    let word = |user: &str, token: &str| {
        scene.signed(&json!({ "mxid": user, "sender": "@alice:localhost", "token": token }))
    };
    let mut forged = word("@eve:localhost", "a-token");
    forged["mxid"] = json!("@bob:localhost");
    let room = json!({ "room_id": scene.room });
    for (signed, expected) in [
        (Value::Null, json!("403 M_FORBIDDEN")),
        (json!({ "mxid": "@bob:localhost" }), json!("400 M_BAD_JSON")),
        (forged, json!("403 M_FORBIDDEN")),
        (word("@eve:localhost", "a-token"), json!("400 M_INVALID_PARAM")),
        (word("@bob:localhost", "another"), json!("403 M_FORBIDDEN")),
        (word("@bob:localhost", "a-token"), room.clone()),
        (word("@bob:localhost", "a-token"), room),
    ] {
        let body = json!({ "third_party_signed": signed });
        scene.server.check(&scene.bob, &scene.path("POST join"), (body, expected)).await;
    }
}

#[tokio::test]
async fn what_the_identity_server_says_is_told() {
    let scene = Scene::new().await;
    let refusal = |status, errcode: &str| Some(("/", status, json!({ "errcode": errcode, "error": "no" })));
    let event = json!({ "token": "a token", "display_name": "c", "public_keys": [] });
    for (instead, expected) in [
        (refusal(403, "M_TERMS_NOT_SIGNED"), "403 M_TERMS_NOT_SIGNED"),
        (refusal(401, "M_UNKNOWN_TOKEN"), "403 M_FORBIDDEN"),
        (refusal(429, "M_LIMIT_EXCEEDED"), "429 M_LIMIT_EXCEEDED"),
        (refusal(500, "M_UNKNOWN"), "502 M_UNKNOWN"),
        (Some(("/", 0, json!(null))), "502 M_UNKNOWN"),
        (Some(("/store-invite", 200, event)), "502 M_UNKNOWN"),
        (Some(("/store-invite", 400, json!({ "errcode": "M_THREEPID_IN_USE" }))), "400 M_THREEPID_IN_USE"),
    ] {
        scene.directory.says(instead);
        scene.check(&scene.alice, ("id.test", "carol@example.org"), json!(expected)).await;
    }
}

#[tokio::test]
async fn addresses_are_invited_into_a_new_room() {
    let mut scene = Scene::new().await;
    scene.directory.knows("bob@example.org", "@bob:localhost");
    let invite = [third("id.test", "bob@example.org"), third("id.test", "carol@example.org")];
    let direct = json!({ "is_direct": true, "invite_3pid": invite });
    let room = scene.server.met(&scene.alice, "POST /createRoom", direct).await;
    scene.room = room["room_id"].as_str().unwrap().to_owned();
    let bob = scene.state("m.room.member/@bob:localhost").await;
    assert_eq!((&bob["membership"], &bob["is_direct"]), (&json!("invite"), &json!(true)));
    assert_eq!(scene.state("m.room.third_party_invite/a-token").await["display_name"], "c...@e...");
    for (invite, expected) in [
        (vec![third("other.test", "bob@example.org")], "403 M_SERVER_NOT_TRUSTED"),
        (vec![third("id.test", "bob@example.org"); 21], "400 M_INVALID_PARAM"),
    ] {
        let body = json!({ "invite_3pid": invite });
        scene.server.check(&scene.alice, "POST /createRoom", (body, json!(expected))).await;
    }
    let off = Server::new(Registration::Open).await;
    let alice = off.register("alice").await;
    let body = json!({ "invite_3pid": [third("id.test", "bob@example.org")] });
    off.check(&alice, "POST /createRoom", (body, json!("403 M_FORBIDDEN"))).await;
}

#[tokio::test]
async fn addresses_are_bound_and_unbound() {
    let scene = Scene::new().await;
    let bind = |server: &str, sid: &str| json!({ "client_secret": "s", "sid": sid, "id_server": server, "id_access_token": "a-token-there" });
    let address = |name: &str| json!({ "medium": "email", "address": format!("{name}@example.org") });
    let result = |word: &str| json!({ "id_server_unbind_result": word });
    let mut elsewhere = address("bob");
    elsewhere["id_server"] = json!("other.test");
    for (request, body, expected) in [
        ("POST /account/3pid/bind", bind("other.test", "bob"), json!("403 M_SERVER_NOT_TRUSTED")),
        ("POST /account/3pid/bind", bind("id.test", "bob"), json!({})),
        ("POST /account/3pid/bind", bind("id.test", "robert"), json!({})),
        ("POST /account/3pid/unbind", elsewhere, json!("403 M_SERVER_NOT_TRUSTED")),
        ("POST /account/3pid/unbind", address("carol"), result("no-support")),
        ("POST /account/3pid/unbind", address("bob"), result("success")),
        ("POST /account/3pid/unbind", address("bob"), result("no-support")),
    ] {
        scene.server.check(&scene.bob, request, (body, expected)).await;
    }
    assert_eq!(scene.directory.user_of("bob@example.org"), None);
    let auth = json!({ "type": "m.login.password", "password": "secret",
        "identifier": { "type": "m.id.user", "user": "bob" } });
    let end = (json!({ "auth": auth }), result("success"));
    scene.server.check(&scene.bob, "POST /account/deactivate", end).await;
    assert_eq!(scene.directory.user_of("robert@example.org"), None);

    scene.server.check(&scene.alice, "POST /account/3pid/bind", (bind("id.test", "alice"), json!({}))).await;
    scene.directory.says(Some(("/3pid/unbind", 403, json!({ "errcode": "M_FORBIDDEN" }))));
    let auth = json!({ "type": "m.login.password", "password": "secret",
        "identifier": { "type": "m.id.user", "user": "alice" } });
    let end = (json!({ "auth": auth }), result("no-support"));
    scene.server.check(&scene.alice, "POST /account/deactivate", end).await;
    assert!(!stored(scene.server.app()).await.contains("alice@example.org"));
}
