//! The maker of a puzzle is asked over real sockets, and not where it must not lie.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use axum::{Json, Router, body::Body, routing::post};
use http::Request;
use http_body_util::BodyExt;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio_util::task::TaskTracker;
use tower::ServiceExt;

use super::federation::Town;
use crate::{
    config::{Config, RegistrationMode},
    http::endpoints,
    server::Running,
};

/// Has `alice` register with a solution; the status and the error code.
async fn register(server: &Running, response: &str) -> (u16, Value) {
    let auth = json!({ "type": "m.login.recaptcha", "response": response });
    let body = json!({ "username": "alice", "password": "secret", "auth": auth });
    let request = Request::builder().method("POST").uri("/_matrix/client/v3/register");
    let request = request.body(Body::from(body.to_string())).unwrap();
    let response = endpoints().into_router(server.app().clone()).oneshot(request).await.unwrap();
    let status = response.status().as_u16();
    let bytes = response.into_body().collect().await.unwrap().to_bytes();
    let answer: Value = serde_json::from_slice(&bytes).unwrap();
    (status, answer["errcode"].clone())
}

fn config(town: &Town, name: &str, url: &str) -> Config {
    let mut config = town.config(name, name);
    config.registration.mode = RegistrationMode::Open;
    config.captcha.site_key = Some("public".into());
    config.captcha.secret = Some("between us".into());
    config.captcha.verify_url = url.into();
    config
}

#[tokio::test]
async fn a_solution_is_judged_by_its_maker_who_does_not_lie_in_a_private_network() {
    let asked = Arc::new(AtomicUsize::new(0));
    let count = asked.clone();
    let verify = move |form: String| {
        count.fetch_add(1, Ordering::Relaxed);
        async move { Json(json!({ "success": form == "secret=between+us&response=right" })) }
    };
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/verify", listener.local_addr().unwrap());
    let maker = Router::new().route("/verify", post(verify));
    let maker = TaskTracker::new().spawn(async move { axum::serve(listener, maker).await });
    let town = Town::new();
    // What is open to other servers is not open to this.
    let careful = town.start(config(&town, "a.test", &url)).await;
    let refused = (401, json!("M_CAPTCHA_INVALID"));
    assert_eq!(register(&careful, "right").await, refused);
    assert_eq!(asked.load(Ordering::Relaxed), 0);
    careful.stop().await.unwrap();

    let mut open = config(&town, "b.test", &url);
    open.captcha.allow_ranges = vec!["127.0.0.0/8".parse().unwrap()];
    let open = town.start(open).await;
    assert_eq!(register(&open, "wrong").await, refused);
    assert_eq!(register(&open, "right").await, (200, Value::Null));
    assert_eq!(asked.load(Ordering::Relaxed), 2);
    open.stop().await.unwrap();
    maker.abort();
}
