//! `/_matrix/client/unstable/org.matrix.msc4108/rendezvous`, the dialect of 2024: plain text, versions as `ETag`
//!
//! MSC4108: <https://github.com/matrix-org/matrix-spec-proposals/pull/4108>

use std::time::{Duration, UNIX_EPOCH};

use axum::{
    body::Body,
    response::{IntoResponse, Response},
};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use ruma::http_headers::system_time_to_http_date;
use serde_json::json;

use super::{check_on, gone, unwritten};
use crate::{
    http::{Access, App, Call, Failure, Routes},
    oauth::Rendezvous,
};

const ALL: &str = "/_matrix/client/unstable/org.matrix.msc4108/rendezvous";
const ONE: &str = "/_matrix/client/unstable/org.matrix.msc4108/rendezvous/{id}";

/// Adds the endpoints.
pub(super) fn routes(routes: &mut Routes) {
    routes.raw(Method::POST, ALL, Access::Open, create);
    routes.raw(Method::GET, ONE, Access::Open, get);
    routes.raw(Method::PUT, ONE, Access::Open, update);
    routes.raw(Method::DELETE, ONE, Access::Open, delete);
}

async fn create(app: App, call: Call) -> Result<Response, Failure> {
    let site = app.oauth.site().ok_or_else(Failure::unrecognized)?;
    let met = app.oauth.meet(text(&call)?).await;
    let met = met.map_err(|why| unwritten(why, StatusCode::PRECONDITION_FAILED))?;
    let url = site.at(&format!("{ALL}/{}", met.id));
    let mut response = (StatusCode::CREATED, axum::Json(json!({ "url": url }))).into_response();
    describe(response.headers_mut(), &met)?;
    Ok(response)
}

async fn get(app: App, call: Call) -> Result<Response, Failure> {
    let met = meeting(&app, &call).await?;
    let known = named(&call, &header::IF_NONE_MATCH).is_some_and(|sequence| sequence == met.sequence);
    let mut response = match known {
        true => StatusCode::NOT_MODIFIED.into_response(),
        false => {
            let text = HeaderValue::from_static("text/plain");
            ([(header::CONTENT_TYPE, text)], Body::from(met.data.clone())).into_response()
        }
    };
    describe(response.headers_mut(), &met)?;
    Ok(response)
}

async fn update(app: App, call: Call) -> Result<Response, Failure> {
    check_on(&app)?;
    let sequence = named(&call, &header::IF_MATCH);
    let sequence = sequence.ok_or_else(|| Failure::missing_param("The header If-Match is missing"))?;
    let said = app.oauth.say(id(&call)?, &sequence, text(&call)?).await;
    let said = said.map_err(|why| unwritten(why, StatusCode::PRECONDITION_FAILED))?;
    let mut response = StatusCode::ACCEPTED.into_response();
    describe(response.headers_mut(), &said)?;
    Ok(response)
}

async fn delete(app: App, call: Call) -> Result<Response, Failure> {
    check_on(&app)?;
    match app.oauth.part(id(&call)?).await? {
        true => Ok(StatusCode::NO_CONTENT.into_response()),
        false => Err(gone()),
    }
}

async fn meeting(app: &App, call: &Call) -> Result<Rendezvous, Failure> {
    check_on(app)?;
    app.oauth.meeting(id(call)?).await?.ok_or_else(gone)
}

fn id(call: &Call) -> Result<&str, Failure> {
    call.path.first().map(String::as_str).ok_or_else(gone)
}

fn text(call: &Call) -> Result<String, Failure> {
    let text = String::from_utf8(call.body.to_vec());
    text.map_err(|_| Failure::invalid_param("The payload is not text"))
}

/// The version that a header names.
fn named(call: &Call, header: &HeaderName) -> Option<String> {
    let value = call.parts.headers.get(header)?.to_str().ok()?;
    Some(value.trim_matches('"').to_owned())
}

fn describe(headers: &mut HeaderMap, met: &Rendezvous) -> Result<(), Failure> {
    let date = |ms: u64| {
        let time = UNIX_EPOCH + Duration::from_millis(ms);
        system_time_to_http_date(&time).map_err(Failure::internal)
    };
    let tag = HeaderValue::from_str(&format!("\"{}\"", met.sequence)).map_err(Failure::internal)?;
    headers.insert(header::ETAG, tag);
    headers.insert(header::EXPIRES, date(met.ends_ms)?);
    headers.insert(header::LAST_MODIFIED, date(met.written_ms)?);
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store, no-transform"));
    headers.insert(header::PRAGMA, HeaderValue::from_static("no-cache"));
    headers.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, HeaderValue::from_static("ETag"));
    Ok(())
}
