//! For those who run the server: `/`, `/health`, `/metrics` and how the deliveries to other servers stand.

use axum::{
    body::Body,
    response::{IntoResponse, Response},
};
use http::{Method, StatusCode, header};
use ruma::OwnedServerName;
use serde_json::json;

use super::{Access, App, Call, Failure, Routes, Source};
use crate::{
    delivery::{DestinationStatus, Lag},
    limits::DESTINATIONS_MEASURED_MAX,
};

/// Where it is told how the deliveries to other servers stand.
pub const DESTINATIONS: &str = "/_lockstep/federation/destinations";

/// Adds the endpoints.
pub(super) fn routes(routes: &mut Routes) {
    routes.raw(Method::GET, "/", Access::Open, front_door);
    routes.raw(Method::GET, "/health", Access::Open, health);
    routes.raw(Method::GET, "/metrics", Access::Open, metrics);
    routes.raw(Method::GET, DESTINATIONS, Access::Open, destinations);
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
    operators_only(&app, &call)?;
    let (requests, polls) = app.budget.used();
    let mut text = app.metrics.render(app.log.head(), polls, requests);
    let setbacks = app.rooms.setbacks();
    text.push_str(&format!(
        "# TYPE lockstep_state_setbacks_total counter\nlockstep_state_setbacks_total {setbacks}\n"
    ));
    text.push_str(&in_trouble(&app.couriers.troubled().await?, app.ports.clock.now_ms()));
    text.push_str(&behind(&app).await?);
    text.push_str(&waiting(&app.couriers.lags().await?));
    let mut response = Response::new(Body::from(text));
    let kind = header::HeaderValue::from_static("text/plain; version=0.0.4");
    response.headers_mut().insert(header::CONTENT_TYPE, kind);
    Ok(response)
}

/// `?server=` says which one; all that are in trouble or being delivered to without it.
async fn destinations(app: App, call: Call) -> Result<Response, Failure> {
    operators_only(&app, &call)?;
    let query = call.parts.uri.query().unwrap_or_default();
    let server = query.split('&').find_map(|pair| pair.strip_prefix("server="));
    let server = server.map(OwnedServerName::try_from).transpose();
    let server = server.map_err(|_| Failure::invalid_param("That is no name of a server"))?;
    let destinations = app.couriers.standings(server.as_deref()).await?;
    Ok(axum::Json(json!({ "destinations": destinations })).into_response())
}

/// Lines for servers that are not reached, those first that have been out of reach for longest.
fn in_trouble(troubled: &[(OwnedServerName, DestinationStatus)], now_ms: u64) -> String {
    let mut longest: Vec<_> = troubled.iter().collect();
    longest.sort_by_key(|(_, status)| status.failing_since_ms);
    longest.truncate(DESTINATIONS_MEASURED_MAX);
    let mut text = format!(
        "# TYPE lockstep_destinations_failing gauge\nlockstep_destinations_failing {}\n",
        troubled.len()
    );
    // The names of servers have no character that would have to be escaped.
    let mut family = |name: &str, value: &dyn Fn(&DestinationStatus) -> u64| {
        text.push_str(&format!("# TYPE {name} gauge\n"));
        for (server, status) in &longest {
            text.push_str(&format!("{name}{{server=\"{server}\"}} {}\n", value(status)));
        }
    };
    family("lockstep_destination_failures", &|status| status.failures.into());
    family("lockstep_destination_failing_seconds", &|status| {
        now_ms.saturating_sub(status.failing_since_ms) / 1_000
    });
    family("lockstep_destination_retry_seconds", &|status| status.retry_at_ms.saturating_sub(now_ms) / 1_000);
    text
}

/// Lines for application services: how much of the log they do not have yet, and for how long they have not answered.
async fn behind(app: &App) -> Result<String, Failure> {
    let (head, now_ms) = (app.log.head(), app.ports.clock.now_ms());
    let (mut lags, mut failing) = (String::new(), String::new());
    for appservice in app.appservices.all().iter().filter(|it| it.registration.url.is_some()) {
        let Some(row) = app.appservice_couriers.standing(appservice).await? else { continue };
        let id = appservice.registration.id.replace(['\\', '"', '\n'], "_");
        let lag = row.lag(head);
        let since_ms = row.trouble.map_or(now_ms, |trouble| trouble.failing_since_ms);
        lags.push_str(&format!("lockstep_appservice_lag{{appservice=\"{id}\"}} {lag}\n"));
        let seconds = now_ms.saturating_sub(since_ms) / 1_000;
        failing.push_str(&format!("lockstep_appservice_failing_seconds{{appservice=\"{id}\"}} {seconds}\n"));
    }
    Ok(format!(
        "# TYPE lockstep_appservice_lag gauge\n{lags}# TYPE lockstep_appservice_failing_seconds gauge\n{failing}"
    ))
}

/// Lines for servers for whom something waits, those first for whom it has been waiting longest.
fn waiting(lags: &[Lag]) -> String {
    let mut text = String::new();
    let mut family = |name: &str, value: &dyn Fn(&Lag) -> u64| {
        text.push_str(&format!("# TYPE {name} gauge\n"));
        for lag in lags {
            text.push_str(&format!("{name}{{server=\"{}\"}} {}\n", lag.server, value(lag)));
        }
    };
    family("lockstep_destination_waiting", &|lag| lag.waiting as u64);
    family("lockstep_destination_oldest_seconds", &|lag| lag.oldest_ms / 1_000);
    text
}

/// Those who may not read this need not know that it exists.
fn operators_only(app: &App, call: &Call) -> Result<(), Failure> {
    let local = call.parts.extensions.get::<Source>() == Some(&Source::Unix) && call.peer.ip.is_none();
    let reader = call.peer.ip.is_some_and(|ip| app.config.metrics_readers.contains(&ip));
    match local || reader {
        true => Ok(()),
        false => Err(Failure::unrecognized()),
    }
}
