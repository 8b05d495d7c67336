//! What tests of several areas share: a server to ask, without sockets.

use std::sync::Arc;

use axum::{Router, body::Body};
use http_body_util::BodyExt;
use serde_json::{Value, json};
use tower::ServiceExt;

use crate::{
    account::{Accounts, Registration, Settings},
    http::{App, Routes, Services, admin, client, tests::services},
    store::{Key, Scan, Store, dump},
};

/// A server with every endpoint of the client-server API.
pub(in crate::http) struct Server {
    router: Router,
    app: App,
}

/// Everything in the store, as text.
pub(in crate::http) async fn stored(app: &App) -> String {
    let (mut from, to, mut text) = (Key(vec![0]), Key(vec![0xFF]), String::new());
    loop {
        let scan = Scan { from, to: to.clone(), reverse: false, limit: 1_000 };
        let rows = app.log.db().scan_many(&[scan]).await.unwrap().concat();
        let Some((last, _)) = rows.last() else { return text };
        from = last.successor();
        for (key, value) in &rows {
            text.push_str(&String::from_utf8_lossy(&key.0));
            text.push_str(&String::from_utf8_lossy(value));
        }
    }
}

/// What `lockstep db export` writes, as text.
pub(in crate::http) async fn exported(store: &dyn Store) -> String {
    let file = dump::export(store, "localhost", Vec::new(), &|_| ()).await.unwrap();
    let (mut reader, mut text) = (dump::Reader::new(&file[..], "localhost").unwrap(), String::new());
    loop {
        match reader.item().unwrap() {
            dump::Item::Row(key, value) => {
                text.push_str(&String::from_utf8_lossy(&key.0));
                text.push_str(&String::from_utf8_lossy(&value));
            }
            dump::Item::Gone(_) => {}
            dump::Item::End(_) => return text,
        }
    }
}

impl Server {
    /// A server whose registration is so.
    pub(in crate::http) async fn new(registration: Registration) -> Self {
        Self::over(services().await, registration)
    }

    /// One of these services.
    pub(in crate::http) fn over(services: Services, registration: Registration) -> Self {
        let registration_tokens = vec!["sesame".to_owned()];
        let reserved = vec![services.config.notices.localpart.clone()];
        Self::under(services, Settings { registration, registration_tokens, reserved, ..Settings::default() })
    }

    /// One whose accounts are run so.
    pub(in crate::http) fn under(mut services: Services, settings: Settings) -> Self {
        let (log, ports) = (services.log.clone(), services.ports.clone());
        services.accounts = Accounts::new(log, ports, services.server_name.clone(), settings);
        services.gate = Arc::new(services.accounts.clone());
        let mut routes = Routes::default();
        client::routes(&mut routes);
        admin::routes(&mut routes);
        let app = App::new(services);
        Self { router: routes.into_router(app.clone()), app }
    }

    /// Asks for `METHOD PATH`, with `/_matrix/client/v3` before a path that says nothing else.
    pub(in crate::http) async fn ask(&self, token: &str, request: &str, body: Value) -> (u16, Value) {
        let (method, path) = request.split_once(' ').unwrap();
        let path = match path.starts_with("/_") {
            true => path.to_owned(),
            false => format!("/_matrix/client/v3{path}"),
        };
        let mut builder = http::Request::builder().method(method).uri(path);
        if !token.is_empty() {
            builder = builder.header("authorization", format!("Bearer {token}"));
        }
        let body = if body.is_null() { Body::empty() } else { Body::from(body.to_string()) };
        let response = self.router.clone().oneshot(builder.body(body).unwrap()).await.unwrap();
        let status = response.status().as_u16();
        let bytes = response.into_body().collect().await.unwrap().to_bytes();
        (status, serde_json::from_slice(&bytes).unwrap())
    }

    /// A page, or what comes of the form on it: status, `Content-Security-Policy` and text.
    pub(in crate::http) async fn page(&self, request: &str, form: Option<&str>) -> (u16, String, String) {
        let (method, path) = request.split_once(' ').unwrap();
        let builder = http::Request::builder().method(method).uri(path);
        let builder = builder.header("content-type", "application/x-www-form-urlencoded");
        let body = form.map_or_else(Body::empty, |form| Body::from(form.to_owned()));
        let response = self.router.clone().oneshot(builder.body(body).unwrap()).await.unwrap();
        let status = response.status().as_u16();
        let policy = response.headers().get("content-security-policy").map(|policy| policy.to_str().unwrap());
        let policy = policy.unwrap_or_default().to_owned();
        let bytes = response.into_body().collect().await.unwrap().to_bytes();
        (status, policy, String::from_utf8(bytes.to_vec()).unwrap())
    }

    /// The status of an answer that is no JSON.
    pub(in crate::http) async fn status(&self, token: &str, request: &str) -> u16 {
        let (method, path) = request.split_once(' ').unwrap();
        let builder = http::Request::builder().method(method).uri(path);
        let request = builder.header("authorization", format!("Bearer {token}")).body(Body::empty()).unwrap();
        self.router.clone().oneshot(request).await.unwrap().status().as_u16()
    }

    /// The services, for what no client can do.
    pub(in crate::http) fn app(&self) -> &App {
        &self.app
    }

    /// The body of an answer 200, or its status and `errcode`.
    pub(in crate::http) async fn met(&self, token: &str, request: &str, body: Value) -> Value {
        match self.ask(token, request, body).await {
            (200, answer) => answer,
            (status, answer) => {
                let code = answer["errcode"].as_str().unwrap_or("-");
                Value::from(format!("{status} {code}"))
            }
        }
    }

    /// Asks, and wants to be answered `expected`.
    pub(in crate::http) async fn check(&self, token: &str, request: &str, (body, expected): (Value, Value)) {
        let met = self.met(token, request, body.clone()).await;
        assert_eq!(met, expected, "{request} {body}");
    }

    /// Makes an account with the password `secret` on the device `PHONE`; its access token.
    pub(in crate::http) async fn register(&self, name: &str) -> String {
        let body = json!({
            "username": name, "password": "secret", "device_id": "PHONE",
            "auth": { "type": "m.login.dummy" },
        });
        let answer = self.met("", "POST /register", body).await;
        answer["access_token"].as_str().unwrap_or_else(|| panic!("{answer}")).to_owned()
    }

    /// Logs `alice` in, with what `extra` says otherwise.
    pub(in crate::http) async fn login(&self, extra: Value) -> Value {
        let mut body = json!({
            "type": "m.login.password", "password": "secret",
            "identifier": { "type": "m.id.user", "user": "alice" },
        });
        body.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
        self.met("", "POST /login", body).await
    }
}
