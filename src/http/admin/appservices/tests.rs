//! Application services come and go.

use std::sync::Arc;

use serde_json::{Value, json};

use crate::{
    account::Registration as Mode,
    appservice::{Appservices, Registration},
    config::Config,
    http::{
        client::testing::{Server, stored},
        tests::{services_for, services_over},
    },
    peer::Isolated,
    store::{Db, memory::Memory},
    types::ManualClock,
};

const ALL: &str = "/_lockstep/admin/v1/appservices";

fn irc() -> Value {
    json!({
        "id": "irc",
        "url": "http://bridge.example.org",
        "as_token": "as_irc",
        "hs_token": "hs_irc",
        "sender_localpart": "irc_bot",
        "rate_limited": false,
        "namespaces": { "users": [{ "exclusive": true, "regex": "@irc_.*" }] },
    })
}

/// The server, the tokens of an administrator and of a user.
async fn server(db: &Db, configured: Appservices) -> (Server, String, String) {
    let server = match configured.is_empty() {
        true => {
            let clock = Arc::new(ManualClock::at(0));
            Server::over(services_over(Config::default(), clock, db.clone()).await, Mode::Open)
        }
        false => {
            let services = services_for(Config::default(), Arc::new(Isolated), configured).await;
            Server::over(services, Mode::Open)
        }
    };
    let (root, alice) = (server.register("root").await, server.register("alice").await);
    let id = ruma::user_id!("@root:localhost");
    server.app().accounts.change_user(id, |user| user.admin = true).await.unwrap();
    (server, root, alice)
}

fn memory() -> Db {
    Db::new(Arc::new(Memory::new()))
}

#[tokio::test]
async fn one_that_is_added_is_served_until_it_is_removed_and_over_restarts() {
    let db = memory();
    let (server, root, alice) = server(&db, Appservices::default()).await;
    let put = format!("PUT {ALL}/irc");
    server.check(&alice, &put, (irc(), json!("403 M_FORBIDDEN"))).await;
    server.check("as_irc", "GET /account/whoami", (Value::Null, json!("401 M_UNKNOWN_TOKEN"))).await;
    let told = server.met(&root, &put, irc()).await;
    assert_eq!((&told["origin"], &told["sender"]), (&json!("added"), &json!("@irc_bot:localhost")), "{told}");
    assert_eq!((&told["lag"], &told["rate_limited"]), (&json!(0), &json!(false)), "{told}");
    assert!(!told.to_string().contains("s_irc"), "its tokens are told: {told}");
    let whoami = server.met("as_irc", "GET /account/whoami", Value::Null).await;
    assert_eq!(whoami["user_id"], "@irc_bot:localhost");
    let taken = "GET /register/available?username=irc_alice";
    server.check("", taken, (Value::Null, json!("400 M_EXCLUSIVE"))).await;
    // Another registration of the same one takes its place.
    let mut changed = irc();
    changed["as_token"] = json!("as_other");
    server.met(&root, &put, changed).await;
    server.check("as_irc", "GET /account/whoami", (Value::Null, json!("401 M_UNKNOWN_TOKEN"))).await;

    let again = services_over(Config::default(), Arc::new(ManualClock::at(0)), db).await;
    let again = Server::over(again, Mode::Open);
    let listed = again.met(&root, &format!("GET {ALL}"), Value::Null).await;
    assert_eq!(
        (&listed["appservices"][0]["id"], listed["appservices"].as_array().unwrap().len()),
        (&json!("irc"), 1)
    );
    assert!(!listed.to_string().contains("as_other") && !listed.to_string().contains("hs_irc"), "{listed}");
    let whoami = again.met("as_other", "GET /account/whoami", Value::Null).await;
    assert_eq!(whoami["user_id"], "@irc_bot:localhost");
    let delete = format!("DELETE {ALL}/irc");
    again.check(&alice, &delete, (Value::Null, json!("403 M_FORBIDDEN"))).await;
    again.check(&root, &delete, (Value::Null, json!({}))).await;
    again.check(&root, &delete, (Value::Null, json!("404 M_NOT_FOUND"))).await;
    again.check("as_other", "GET /account/whoami", (Value::Null, json!("401 M_UNKNOWN_TOKEN"))).await;
    again.check("", taken, (Value::Null, json!({ "available": true }))).await;
    again.check(&root, &format!("GET {ALL}"), (Value::Null, json!({ "appservices": [] }))).await;
}

/// The token with which an application service comes to us is kept like those of users: whoever reads the store cannot
/// act in the name of its users.
#[tokio::test]
async fn the_token_of_an_application_service_is_not_in_the_store() {
    let db = memory();
    let (server, root, _) = server(&db, Appservices::default()).await;
    let mut registration = irc();
    registration["as_token"] = json!("canary-as-token");
    let told = server.met(&root, &format!("PUT {ALL}/irc"), registration).await;
    let listed = server.met(&root, &format!("GET {ALL}"), Value::Null).await;
    let stored = stored(server.app()).await;
    assert!(
        stored.contains("hs_irc") && stored.contains("irc_bot"),
        "the registration is not looked at: {stored}"
    );
    for text in [told.to_string(), listed.to_string(), stored] {
        assert!(!text.contains("canary-as-token"), "{text}");
    }
    let whoami = server.met("canary-as-token", "GET /account/whoami", Value::Null).await;
    assert_eq!(whoami["user_id"], "@irc_bot:localhost");
    // What is kept of it is not as good as the token.
    let hash = crate::account::token_hash("canary-as-token");
    server.check(&hash, "GET /account/whoami", (Value::Null, json!("401 M_UNKNOWN_TOKEN"))).await;
}

#[tokio::test]
async fn what_cannot_be_used_is_refused_with_the_reason() {
    let (server, root, _) = server(&memory(), Appservices::default()).await;
    server.met(&root, &format!("PUT {ALL}/irc"), irc()).await;
    let with = |changes: Value| {
        let mut registration = irc();
        registration["id"] = json!("new");
        registration["as_token"] = json!("as_new");
        registration["hs_token"] = json!("hs_new");
        registration.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
        registration
    };
    for (changes, status, why) in [
        (json!({ "id": "old" }), 400, "`id` is another one"),
        (json!({ "as_token": "as_irc" }), 400, "another one has the same `as_token`"),
        (json!({ "hs_token": "" }), 400, "`hs_token` is empty"),
        (json!({ "hs_token": null }), 400, "invalid type: null"),
        (json!({ "url": "bridge" }), 400, "`url`: it must begin with"),
        (json!({ "sender_localpart": "a b" }), 400, "A user name consists of"),
        (json!({ "namespaces": { "users": [{ "regex": "(" }] } }), 400, "`namespaces.users`: regex"),
        (json!({ "namespaces": { "users": "@a" } }), 400, "invalid type: string"),
        (json!({}), 200, ""),
    ] {
        let (answered, body) = server.ask(&root, &format!("PUT {ALL}/new"), with(changes)).await;
        assert_eq!(answered, status, "{why}: {body}");
        assert!(body["error"].as_str().unwrap_or_default().contains(why), "{why}: {body}");
    }
    server.check(&root, &format!("PUT {ALL}/new"), (json!({}), json!("400 M_BAD_JSON"))).await;
}

#[tokio::test]
async fn those_of_the_configuration_stay() {
    let text = irc().to_string();
    let configured = Registration::parse(&text).unwrap().open(ruma::server_name!("localhost")).unwrap();
    let (server, root, _) = server(&memory(), Appservices::new(vec![configured]).unwrap()).await;
    let listed = server.met(&root, &format!("GET {ALL}"), Value::Null).await;
    assert_eq!(listed["appservices"][0]["origin"], "configuration", "{listed}");
    server.check(&root, &format!("PUT {ALL}/irc"), (irc(), json!("409 M_UNKNOWN"))).await;
    server.check(&root, &format!("DELETE {ALL}/irc"), (Value::Null, json!("409 M_UNKNOWN"))).await;
    assert!(server.met("as_irc", "GET /account/whoami", Value::Null).await["user_id"].is_string());
}

/// Row 7.8 of the list of known vulnerabilities: a token that stands for a user stands for no application service.
#[tokio::test]
async fn row_7_8_the_token_of_a_user_is_none_of_an_application_service() {
    let (server, root, alice) = server(&memory(), Appservices::default()).await;
    let desk = server.login(json!({ "device_id": "DESK", "refresh_token": true })).await;
    for token in [json!(alice), desk["access_token"].clone(), desk["refresh_token"].clone()] {
        let mut registration = irc();
        registration["as_token"] = token;
        let refused = json!("400 M_INVALID_PARAM");
        server.check(&root, &format!("PUT {ALL}/irc"), (registration, refused)).await;
    }
    let me = server.met(&alice, "GET /account/whoami", Value::Null).await;
    assert_eq!(me["user_id"], "@alice:localhost");
}
