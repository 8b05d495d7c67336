//! What newcomers have to show: policies, registration tokens, and pages for clients that do not know a stage.

use std::collections::BTreeMap;

use ruma::{
    api::client::uiaa::{LoginTermsParams, PolicyDefinition, PolicyTranslation},
    user_id,
};
use serde_json::{Value, json};

use crate::{
    account::{NewDevice, NewUser, Registration, Settings},
    http::{client::testing::Server, tests::services},
};

const TOKENS: &str = "/_synapse/admin/v1/registration_tokens";

async fn server_with_policies(registration: Registration) -> Server {
    let translation = PolicyTranslation::new("Privacy".into(), "https://example.org/privacy".into());
    let policy = PolicyDefinition::new("2".into(), BTreeMap::from([("en".to_owned(), translation)]));
    let terms = LoginTermsParams::new(BTreeMap::from([("privacy".to_owned(), policy)]));
    let registration_tokens = vec!["sesame".to_owned()];
    let settings = Settings { registration, registration_tokens, terms, ..Settings::default() };
    Server::under(services().await, settings)
}

fn fallback(auth_type: &str, session: &Value) -> String {
    let session = session.as_str().unwrap();
    format!("/_matrix/client/v3/auth/{auth_type}/fallback/web?session={session}")
}

#[tokio::test]
async fn policies_are_accepted_before_there_is_an_account() {
    let server = server_with_policies(Registration::Open).await;
    let (status, asked) = server.ask("", "POST /register", json!({ "username": "alice" })).await;
    assert_eq!((status, &asked["flows"]), (401, &json!([{ "stages": ["m.login.terms", "m.login.dummy"] }])));
    let policy = json!({ "version": "2", "en": { "name": "Privacy", "url": "https://example.org/privacy" } });
    assert_eq!(asked["params"]["m.login.terms"], json!({ "policies": { "privacy": policy } }));
    let session = &asked["session"];
    let with = |kind: &str| json!({ "username": "alice", "auth": { "type": kind, "session": session } });
    let (status, left) = server.ask("", "POST /register", with("m.login.dummy")).await;
    assert_eq!((status, &left["completed"]), (401, &json!(["m.login.dummy"])));
    let done = server.met("", "POST /register", with("m.login.terms")).await;
    assert_eq!(done["user_id"], "@alice:localhost");
    let mut again = with("m.login.terms");
    again["username"] = "bob".into();
    let (status, _) = server.ask("", "POST /register", again).await;
    assert_eq!(status, 401, "the session is used up");
}

#[tokio::test]
async fn stages_are_passed_on_pages() {
    let server = server_with_policies(Registration::Token).await;
    let (_, asked) = server.ask("", "POST /register", json!({ "username": "alice" })).await;
    let session = &asked["session"];
    let known = session.as_str().unwrap();
    let terms = fallback("m.login.terms", session);
    let (status, _, text) = server.page(&format!("GET {terms}"), None).await;
    assert!(status == 200 && text.contains("https://example.org/privacy"), "{text}");
    let (status, _, text) = server.page(&format!("POST {terms}"), Some(&format!("session={known}"))).await;
    assert!(status == 400 && text.contains("accepted"), "{text}");
    let form = format!("session={known}&terms=yes");
    let (status, policy, text) = server.page(&format!("POST {terms}"), Some(&form)).await;
    assert!(status == 200 && text.contains("window.onAuthDone"), "{text}");
    assert!(policy.contains("script-src 'sha256-") && !policy.contains("unsafe"), "{policy}");
    let finish = json!({ "username": "alice", "auth": { "session": session } });
    let (status, left) = server.ask("", "POST /register", finish.clone()).await;
    assert_eq!((status, &left["completed"]), (401, &json!(["m.login.terms"])));
    let token = format!("POST {}", fallback("m.login.registration_token", session));
    let wrong = server.page(&token, Some(&format!("session={known}&token=wrong"))).await;
    assert_eq!(wrong.0, 403);
    let right = server.page(&token, Some(&format!("session={known}&token=sesame"))).await;
    assert_eq!(right.0, 200);
    assert_eq!(server.met("", "POST /register", finish).await["user_id"], "@alice:localhost");
    for nothing in [terms, fallback("m.login.terms", &json!("made-up")), fallback("m.login.sso", session)] {
        let (status, _, text) = server.page(&format!("GET {nothing}"), None).await;
        assert!(status == 404 && text.contains("<!DOCTYPE html>"), "{status} {text}");
    }
}

async fn administrator(server: &Server) -> String {
    let new = NewUser { username: Some("root".into()), password: None, admin: true };
    server.app().accounts.register(new, NewDevice::default()).await.unwrap().access_token
}

#[tokio::test]
async fn a_registration_token_is_good_as_often_as_it_says() {
    let server = server_with_policies(Registration::Token).await;
    let admin = administrator(&server).await;
    server.check("", &format!("GET {TOKENS}"), (Value::Null, json!("401 M_MISSING_TOKEN"))).await;
    let wanted = json!({ "token": "once", "uses_allowed": 1 });
    let made = server.met(&admin, &format!("POST {TOKENS}/new"), wanted.clone()).await;
    let expected = json!({ "token": "once", "uses_allowed": 1, "pending": 0, "completed": 0,
        "expiry_time": null });
    assert_eq!(made, expected);
    server.check(&admin, &format!("POST {TOKENS}/new"), (wanted, json!("400 M_INVALID_PARAM"))).await;
    let bad = json!({ "token": "a b" });
    server.check(&admin, &format!("POST {TOKENS}/new"), (bad, json!("400 M_INVALID_PARAM"))).await;
    let validity = "GET /_matrix/client/v1/register/m.login.registration_token/validity?token=once";
    assert_eq!(server.met("", validity, Value::Null).await, json!({ "valid": true }));
    // Two newcomers show it at the same time.
    let mut sessions = Vec::new();
    for _ in 0..2 {
        let (_, asked) = server.ask("", "POST /register", json!({})).await;
        let session = asked["session"].clone();
        let auth = json!({ "type": "m.login.registration_token", "token": "once", "session": session });
        server.ask("", "POST /register", json!({ "auth": auth })).await;
        sessions.push(session);
    }
    let finish = |name: &str, session: &Value| json!({ "username": name, "auth": { "type": "m.login.terms", "session": session } });
    let first = server.met("", "POST /register", finish("alice", &sessions[0])).await;
    assert_eq!(first["user_id"], "@alice:localhost");
    let second = (finish("bob", &sessions[1]), json!("403 M_FORBIDDEN"));
    server.check("", "POST /register", second).await;
    assert_eq!(server.met("", validity, Value::Null).await, json!({ "valid": false }));
    let one = format!("{TOKENS}/once");
    let changed = server.met(&admin, &format!("PUT {one}"), json!({ "uses_allowed": null })).await;
    assert_eq!((&changed["completed"], &changed["uses_allowed"]), (&json!(1), &Value::Null));
    assert_eq!(server.met("", validity, Value::Null).await, json!({ "valid": true }));
    // One that is removed is worth nothing to who has shown it before.
    let (_, asked) = server.ask("", "POST /register", json!({})).await;
    let auth = json!({ "type": "m.login.registration_token", "token": "once", "session": asked["session"] });
    server.ask("", "POST /register", json!({ "auth": auth })).await;
    let listed = server.met(&admin, &format!("GET {TOKENS}?valid=true"), Value::Null).await;
    assert_eq!(listed["registration_tokens"].as_array().map(Vec::len), Some(1));
    server.met(&admin, &format!("DELETE {one}"), Value::Null).await;
    server.check(&admin, &format!("GET {one}"), (Value::Null, json!("404 M_NOT_FOUND"))).await;
    let late = (finish("carol", &asked["session"]), json!("403 M_FORBIDDEN"));
    server.check("", "POST /register", late).await;
    assert_eq!(server.met("", validity, Value::Null).await, json!({ "valid": false }));
}

#[tokio::test]
async fn operators_lock_and_suspend() {
    let server = Server::new(Registration::Open).await;
    let (alice, admin) = (server.register("alice").await, administrator(&server).await);
    assert!(server.app().accounts.is_active(user_id!("@alice:localhost")).await.unwrap());
    let lock = "PUT /_lockstep/admin/v1/users/@alice:localhost/lock";
    let suspend = "PUT /_synapse/admin/v1/suspend/@alice:localhost";
    for (request, body) in [(lock, json!({ "locked": true })), (suspend, json!({ "suspend": true }))] {
        server.check(&alice, request, (body, json!("403 M_FORBIDDEN"))).await;
    }
    server.met(&admin, lock, json!({ "locked": true })).await;
    server.check(&alice, "GET /account/whoami", (Value::Null, json!("401 M_USER_LOCKED"))).await;
    server.met(&admin, lock, json!({ "locked": false })).await;
    server.met(&admin, suspend, json!({ "suspend": true })).await;
    server.check(&alice, "POST /createRoom", (json!({}), json!("403 M_USER_SUSPENDED"))).await;
    server.met(&admin, suspend, json!({ "suspend": false })).await;
    assert!(server.met(&alice, "POST /createRoom", json!({})).await["room_id"].is_string());
    let nobody = "PUT /_synapse/admin/v1/suspend/@nobody:localhost";
    server.check(&admin, nobody, (json!({ "suspend": true }), json!("404 M_NOT_FOUND"))).await;
}
