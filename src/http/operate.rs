//! For those who run the server: `/`, `/health` and `/metrics`.

use axum::{
    body::Body,
    response::{IntoResponse, Response},
};
use http::{Method, StatusCode, header};

use super::{Access, App, Call, Failure, Routes, Source};

/// Adds the endpoints.
pub(super) fn routes(routes: &mut Routes) {
    routes.raw(Method::GET, "/", Access::Open, front_door);
    routes.raw(Method::GET, "/health", Access::Open, health);
    routes.raw(Method::GET, "/metrics", Access::Open, metrics);
}

/// For people who open the address in a browser.
async fn front_door(app: App, _: Call) -> Result<Response, Failure> {
    let text = format!(
        "Lockstep serves {}. There is nothing to see here: point a Matrix client at this address.\n",
        app.server_name
    );
    Ok(text.into_response())
}

/// 200 while the server takes requests, 503 from the moment it stops.
async fn health(app: App, _: Call) -> Result<Response, Failure> {
    Ok(match app.stopping.is_cancelled() {
        false => (StatusCode::OK, "OK\n").into_response(),
        true => (StatusCode::SERVICE_UNAVAILABLE, "stopping\n").into_response(),
    })
}

async fn metrics(app: App, call: Call) -> Result<Response, Failure> {
    let local = call.parts.extensions.get::<Source>() == Some(&Source::Unix) && call.peer.ip.is_none();
    let reader = call.peer.ip.is_some_and(|ip| app.config.metrics_readers.contains(&ip));
    if !(local || reader) {
        // Those who may not read it need not know that it exists.
        return Err(Failure::unrecognized());
    }
    let (requests, polls) = app.budget.used();
    let text = app.metrics.render(app.log.head(), polls, requests);
    let mut response = Response::new(Body::from(text));
    let kind = header::HeaderValue::from_static("text/plain; version=0.0.4");
    response.headers_mut().insert(header::CONTENT_TYPE, kind);
    Ok(response)
}
