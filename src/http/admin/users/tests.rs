//! What administrators are told of accounts, and do with them.

use serde_json::{Value, json};

use crate::{
    account::{Registration, Settings},
    config::Policy,
    http::{client::testing::Server, settings::terms, tests::services},
};

/// A server with an administrator and `@alice`, who have accepted a policy; their tokens.
async fn server() -> (Server, String, String) {
    let policy = |version: &str| Policy {
        id: "privacy".into(),
        version: version.into(),
        name: "Privacy".into(),
        url: "https://example.org/privacy".into(),
        language: "en".into(),
    };
    let terms = terms(&[policy("2.1")]);
    let settings = Settings { registration: Registration::Open, terms, ..Settings::default() };
    let server = Server::under(services().await, settings);
    let mut tokens = Vec::new();
    for name in ["root", "alice"] {
        let register = async |auth: Value| {
            let mut body = json!({ "username": name, "password": "secret", "device_id": "PHONE" });
            if auth.is_object() {
                body["auth"] = auth;
            }
            server.ask("", "POST /register", body).await.1
        };
        let session = register(Value::Null).await["session"].clone();
        register(json!({ "type": "m.login.terms", "session": session })).await;
        let made = register(json!({ "type": "m.login.dummy", "session": session })).await;
        tokens.push(made["access_token"].as_str().unwrap_or_else(|| panic!("{made}")).to_owned());
    }
    let root = ruma::user_id!("@root:localhost");
    server.app().accounts.change_user(root, |user| user.admin = true).await.unwrap();
    let alice = tokens.pop().unwrap();
    (server, tokens.pop().unwrap(), alice)
}

#[tokio::test]
async fn which_policies_a_user_has_accepted_is_kept() {
    let (server, admin, alice) = server().await;
    let path = "GET /_synapse/admin/v2/users/@alice:localhost";
    server.check(&alice, path, (Value::Null, json!("403 M_FORBIDDEN"))).await;
    let told = server.met(&admin, path, Value::Null).await;
    assert_eq!(told["accepted_policies"]["privacy"], json!({ "version": "2.1", "at_ms": 0 }), "{told}");
    assert_eq!((&told["consent_version"], &told["consent_ts"]), (&json!("2.1"), &json!(0)));
    assert_eq!(
        (&told["name"], &told["admin"], &told["is_guest"]),
        (&json!("@alice:localhost"), &json!(false), &json!(false))
    );
    // Whom the operator has made an account for has accepted nothing.
    let new = crate::account::NewUser { username: Some("bob".into()), ..Default::default() };
    server.app().accounts.create_user(new).await.unwrap();
    let told = server.met(&admin, &path.replace("alice", "bob"), Value::Null).await;
    assert_eq!((&told["accepted_policies"], &told["consent_version"]), (&json!({}), &Value::Null));
    let nobody = path.replace("alice", "nobody");
    server.check(&admin, &nobody, (Value::Null, json!("404 M_NOT_FOUND"))).await;
}

#[tokio::test]
async fn administrators_make_others_and_end_accounts() {
    let (server, admin, alice) = server().await;
    let path =
        |method: &str, user: &str| format!("{method} /_synapse/admin/v1/users/@{user}:localhost/admin");
    server.check(&alice, &path("PUT", "alice"), (json!({ "admin": true }), json!("403 M_FORBIDDEN"))).await;
    for flag in [true, false] {
        server.check(&admin, &path("PUT", "alice"), (json!({ "admin": flag }), json!({}))).await;
        server.check(&admin, &path("GET", "alice"), (Value::Null, json!({ "admin": flag }))).await;
    }
    server
        .check(&admin, &path("PUT", "root"), (json!({ "admin": false }), json!("400 M_INVALID_PARAM")))
        .await;
    let end = "POST /_synapse/admin/v1/deactivate/@alice:localhost";
    server.check(&alice, end, (json!({}), json!("403 M_FORBIDDEN"))).await;
    let done = json!({ "id_server_unbind_result": "success" });
    server.check(&admin, end, (json!({ "erase": false }), done)).await;
    server.check(&alice, "GET /account/whoami", (Value::Null, json!("401 M_UNKNOWN_TOKEN"))).await;
    server.check(&admin, end, (json!({}), json!("404 M_NOT_FOUND"))).await;
}

#[tokio::test]
async fn accounts_are_listed_and_cared_for() {
    let (server, admin, alice) = server().await;
    let get =
        async |path: &str| server.met(&admin, &format!("GET /_synapse/admin/{path}"), Value::Null).await;
    let ids = |listed: &Value| -> Vec<String> {
        listed["users"].as_array().unwrap().iter().map(|user| user["name"].as_str().unwrap().into()).collect()
    };
    let listed = get("v2/users?limit=1").await;
    assert_eq!((ids(&listed), &listed["total"]), (vec!["@alice:localhost".to_owned()], &json!(2)));
    let rest = get(&format!("v2/users?limit=1&from={}", listed["next_token"].as_str().unwrap())).await;
    assert_eq!((ids(&rest), &rest["next_token"]), (vec!["@root:localhost".to_owned()], &Value::Null));
    assert_eq!(ids(&get("v3/users?name=ALI").await), ["@alice:localhost"]);
    assert_eq!(ids(&get("v2/users?admins=true").await), ["@root:localhost"]);
    assert_eq!(get("v2/users?limit=x").await, "400 M_INVALID_PARAM");
    assert!(get("v1/server_version").await["server_version"].as_str().unwrap().starts_with("Lockstep "));

    let room = server.met(&alice, "POST /createRoom", json!({})).await["room_id"].clone();
    let rooms = get("v1/users/@alice:localhost/joined_rooms").await;
    assert_eq!(rooms, json!({ "total": 1, "joined_rooms": [room] }));
    let tablet = server.login(json!({ "device_id": "TAB" })).await["access_token"].clone();
    let devices = get("v2/users/@alice:localhost/devices").await;
    assert_eq!(
        (&devices["total"], &devices["devices"][1]["device_id"]),
        (&json!(2), &json!("TAB")),
        "{devices}"
    );
    let of_alice = "/_synapse/admin/v2/users/@alice:localhost";
    server.check(&admin, &format!("DELETE {of_alice}/devices/TAB"), (Value::Null, json!({}))).await;
    let gone = (Value::Null, json!("401 M_UNKNOWN_TOKEN"));
    server.check(tablet.as_str().unwrap(), "GET /account/whoami", gone.clone()).await;
    let some = json!({ "devices": ["PHONE"] });
    server.check(&admin, &format!("POST {of_alice}/delete_devices"), (some, json!({}))).await;
    server.check(&alice, "GET /account/whoami", gone.clone()).await;

    let phone = server.login(json!({ "device_id": "PHONE" })).await["access_token"].clone();
    let reset = "POST /_synapse/admin/v1/reset_password/@alice:localhost";
    let body = json!({ "new_password": "other" });
    server.check(phone.as_str().unwrap(), reset, (body.clone(), json!("403 M_FORBIDDEN"))).await;
    server.check(&admin, reset, (body, json!({}))).await;
    server.check(phone.as_str().unwrap(), "GET /account/whoami", gone).await;
    assert_eq!(server.login(json!({})).await, "403 M_FORBIDDEN");
    assert!(server.login(json!({ "password": "other" })).await["access_token"].is_string());
}

#[tokio::test]
async fn accounts_are_made_and_changed() {
    let (server, admin, alice) = server().await;
    let put = |user: &str| format!("PUT /_synapse/admin/v2/users/@{user}:localhost");
    let free = "GET /_synapse/admin/v1/username_available?username=carol";
    server.check(&alice, free, (Value::Null, json!("403 M_FORBIDDEN"))).await;
    server.check(&admin, free, (Value::Null, json!({ "available": true }))).await;
    let new = json!({ "password": "first", "displayname": "Carol", "admin": true });
    server.check(&alice, &put("carol"), (new.clone(), json!("403 M_FORBIDDEN"))).await;
    let (status, made) = server.ask(&admin, &put("carol"), new).await;
    assert_eq!((status, &made["displayname"], &made["admin"]), (201, &json!("Carol"), &json!(true)));
    server.check(&admin, free, (Value::Null, json!("400 M_USER_IN_USE"))).await;
    let login = async |password: &str| {
        let who = json!({ "type": "m.id.user", "user": "carol" });
        server.login(json!({ "identifier": who, "password": password })).await
    };
    let token = login("first").await["access_token"].as_str().unwrap().to_owned();
    let kept = json!({ "password": "second", "logout_devices": false, "admin": false, "displayname": "" });
    let (status, told) = server.ask(&admin, &put("carol"), kept).await;
    assert_eq!((status, &told["displayname"], &told["admin"]), (200, &Value::Null, &json!(false)));
    assert_eq!(server.met(&token, "GET /account/whoami", Value::Null).await["user_id"], "@carol:localhost");
    assert_eq!(login("first").await, "403 M_FORBIDDEN");
    assert_eq!(server.met(&admin, &put("carol"), json!({ "locked": true })).await["locked"], true);
    server.check(&token, "GET /account/whoami", (Value::Null, json!("401 M_USER_LOCKED"))).await;
    assert_eq!(server.met(&admin, &put("carol"), json!({ "deactivated": true })).await["deactivated"], true);
    let again = (json!({ "deactivated": false }), json!("400 M_INVALID_PARAM"));
    server.check(&admin, &put("carol"), again).await;
    for wrong in [json!({ "admin": false }), json!({ "deactivated": true }), json!({ "locked": true })] {
        server.check(&admin, &put("root"), (wrong, json!("400 M_INVALID_PARAM"))).await;
    }
    server
        .check(&admin, "PUT /_synapse/admin/v2/users/@x:elsewhere", (json!({}), json!("400 M_INVALID_PARAM")))
        .await;
}

#[tokio::test]
async fn administrators_see_whether_a_user_can_read_and_no_key() {
    let (server, admin, alice) = server().await;
    let path = "GET /_lockstep/admin/v1/users/@alice:localhost/encryption";
    server.check(&alice, path, (Value::Null, json!("403 M_FORBIDDEN"))).await;
    let phone =
        json!({ "device_id": "PHONE", "display_name": null, "has_keys": false, "cross_signed": false });
    let bare =
        json!({ "cross_signing": false, "devices": [phone], "backup": null, "dehydrated_device": null });
    server.check(&admin, path, (Value::Null, bare)).await;
    let public = format!("{}Q", "A".repeat(42));
    let id = format!("ed25519:{public}");
    let key = json!({ "user_id": "@alice:localhost", "usage": ["master"], "keys": { &id: &public } });
    server.met(&alice, "POST /keys/device_signing/upload", json!({ "master_key": key })).await;
    for (signer, expected) in [("ed25519:PHONE", false), (&*id, true)] {
        let auth_data = json!({
            "public_key": "hidden canary", "signatures": { "@alice:localhost": { signer: "hidden canary" } },
        });
        let backup = json!({ "algorithm": "m.megolm_backup.v1.curve25519-aes-sha2", "auth_data": auth_data });
        let version = server.met(&alice, "POST /room_keys/version", backup).await["version"].clone();
        let told = server.met(&admin, path, Value::Null).await;
        assert_eq!(told["cross_signing"], true);
        let state = &told["backup"];
        assert_eq!((&state["version"], &state["count"]), (&version, &json!(0)));
        assert_eq!(state["signed_by_master_key"], expected, "{told}");
        assert!(!told.to_string().contains("canary"), "{told}");
    }
    let nobody = path.replace("alice", "nobody");
    server.check(&admin, &nobody, (Value::Null, json!("404 M_NOT_FOUND"))).await;
    let far = path.replace("localhost", "far.test");
    server.check(&admin, &far, (Value::Null, json!("400 M_INVALID_PARAM"))).await;
}
