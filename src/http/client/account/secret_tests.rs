//! What is secret is told to nobody but whom it belongs to: not to the log, not to the store, not in other answers.

use std::sync::Arc;

use serde_json::{Value, json};

use crate::{
    account::Registration,
    config::Config,
    http::{
        client::testing::{Server, exported, stored},
        tests::{Lines, services_over},
    },
    store::{Db, Store, memory::Memory},
    types::ManualClock,
};

const OLD: &str = "canary-old-password";
const NEW: &str = "canary-new-password";
const WRONG: &str = "canary-wrong-password";

fn password(password: &str) -> Value {
    let identifier = json!({ "type": "m.id.user", "user": "alice" });
    json!({ "type": "m.login.password", "password": password, "identifier": identifier })
}

/// Rows 7.6 (CVE-2023-41335: the password stayed in the session of an authentication) and 7.15 (tokens in queries and
/// passwords in spans) of the list of known vulnerabilities.
#[tokio::test]
async fn row_7_6_and_7_15_no_secret_is_logged_stored_or_told() {
    let _second = tracing::Dispatch::new(tracing_subscriber::registry());
    let lines = Lines::default();
    let guard = lines.listen();
    let store: Arc<dyn Store> = Arc::new(Memory::new());
    let (config, clock) = (Config::default(), Arc::new(ManualClock::at(0)));
    let services = services_over(config, clock, Db::new(store.clone())).await;
    let server = Server::over(services, Registration::Open);
    let dummy = json!({ "type": "m.login.dummy" });
    let wanted = json!({ "username": "alice", "password": OLD, "refresh_token": true, "auth": dummy });
    let first = server.met("", "POST /register", wanted.clone()).await;
    let secret = |answer: &Value, name: &str| answer[name].as_str().unwrap().to_owned();
    let (access, refresh) = (secret(&first, "access_token"), secret(&first, "refresh_token"));
    let second = server.met("", "POST /login", password(OLD)).await;
    let other = secret(&second, "access_token");
    let openid = server.met(&access, "POST /user/@alice:localhost/openid/request_token", json!({})).await;
    let mut secrets = vec![access.clone(), refresh.clone(), other, secret(&openid, "access_token")];
    let mut told = Vec::new();
    let change = |auth: Value| json!({ "new_password": NEW, "auth": auth });
    for (token, request, body) in [
        ("", "POST /register", wanted),
        ("", "POST /login", password(WRONG)),
        ("", "POST /login", json!({ "type": "m.login.unknown", "password": WRONG, "token": 1 })),
        ("", "POST /refresh", json!({ "refresh_token": WRONG })),
        (WRONG, "GET /account/whoami", Value::Null),
        ("", &format!("GET /account/whoami?access_token={access}"), Value::Null),
        (&access, "POST /account/password", json!({ "new_password": NEW })),
        (&access, "POST /account/password", change(password(WRONG))),
        (&access, "POST /account/password", change(password(OLD))),
        (&access, "GET /devices", Value::Null),
        (&access, "GET /sync", Value::Null),
    ] {
        told.push(server.ask(token, request, body).await.1.to_string());
    }
    let proof = password(NEW);
    let login = json!({ "auth": proof });
    let login = server.met(&access, "POST /_matrix/client/v1/login/get_token", login).await;
    secrets.push(secret(&login, "login_token"));
    let renewed = server.met("", "POST /refresh", json!({ "refresh_token": refresh })).await;
    secrets.extend([secret(&renewed, "access_token"), secret(&renewed, "refresh_token")]);
    secrets.extend([OLD, NEW, WRONG].map(String::from));
    drop(guard);
    let (logged, stored) = (lines.text(), stored(server.app()).await);
    let exported = exported(&*store).await;
    for text in [&stored, &exported] {
        assert!(text.contains("@alice:localhost"));
    }
    for secret in &secrets {
        assert!(!logged.contains(secret), "{secret} is logged");
        assert!(!stored.contains(secret), "{secret} is stored");
        assert!(!exported.contains(secret), "{secret} is exported");
        assert!(told.iter().all(|answer| !answer.contains(secret)), "{secret} is told");
    }
}
