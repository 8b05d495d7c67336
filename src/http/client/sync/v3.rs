//! `GET /_matrix/client/v3/sync`
//!
//! Hand-written, because clients ask for state in a dialect that ruma does not know.
//!
//! <https://spec.matrix.org/v1.19/client-server-api/#get_matrixclientv3sync>

use std::time::Duration;

use axum::{body::Body, extract::Query, response::Response};
use futures_util::stream;
use http::{HeaderValue, Method, header};
use ruma::{api::client::filter::FilterDefinition, presence::PresenceState};
use serde::Deserialize;

use crate::{
    account::Caller,
    http::{Access, App, Call, Failure, Routes},
    sync::{ProfileFields, RelationFilter, StateDialect, SyncRequest, SyncResponse},
};

/// The query of a sync request.
#[derive(Debug, Default, Deserialize)]
struct Parameters {
    filter: Option<String>,
    since: Option<String>,
    #[serde(default)]
    full_state: bool,
    set_presence: Option<PresenceState>,
    timeout: Option<u64>,
    #[serde(default)]
    use_state_after: bool,
    #[serde(default, rename = "org.matrix.msc4222.use_state_after")]
    unstable_use_state_after: bool,
}

pub(super) fn route(routes: &mut Routes) {
    routes.feature("org.matrix.msc4222");
    routes.feature("org.matrix.msc4429");
    for path in ["/_matrix/client/r0/sync", "/_matrix/client/v3/sync"] {
        routes.raw(Method::GET, path, Access::Required, handle);
    }
}

async fn handle(app: App, call: Call) -> Result<Response, Failure> {
    let caller = call.caller.ok_or_else(Failure::missing_token)?;
    let Query(parameters) = Query::<Parameters>::try_from_uri(&call.parts.uri)
        .map_err(|error| Failure::invalid_param(error.body_text()))?;
    let request = read(&app, &caller, parameters).await?;
    app.accounts.note_seen(&caller.user_id, &caller.device_id, call.peer.ip.map(|ip| ip.to_string()));
    let response = app.sync.sync(&caller, &request, &app.stopping).await?;
    let mut answer = Response::new(body(response)?);
    answer.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    Ok(answer)
}

/// A long answer goes out room by room. Should one not be had after all, the body breaks off, so that the client asks again.
fn body(response: SyncResponse) -> Result<Body, Failure> {
    match response.is_long() {
        true => Ok(Body::from_stream(stream::iter(response.into_pieces().map_err(Failure::internal)?))),
        false => Ok(Body::from(serde_json::to_vec(&response).map_err(Failure::internal)?)),
    }
}

async fn read(app: &App, caller: &Caller, parameters: Parameters) -> Result<SyncRequest, Failure> {
    let since = match parameters.since {
        Some(token) => {
            Some(token.parse().map_err(|_| Failure::invalid_param("`since` is not a token of this server"))?)
        }
        None => None,
    };
    let dialect = match (parameters.use_state_after, parameters.unstable_use_state_after) {
        (true, _) => StateDialect::After,
        (false, true) => StateDialect::AfterUnstable,
        (false, false) => StateDialect::Before,
    };
    let (filter, relations, profile_fields) = filter(app, caller, parameters.filter.as_deref()).await?;
    Ok(SyncRequest {
        filter,
        relations,
        profile_fields,
        since,
        keeps_inbox: false,
        full_state: parameters.full_state,
        dialect,
        timeout: Duration::from_millis(parameters.timeout.unwrap_or_default()),
        set_presence: parameters.set_presence,
    })
}

/// A filter, with what ruma's type leaves out.
type Filter = (FilterDefinition, RelationFilter, ProfileFields);

/// The filter: JSON if it begins with a brace, else the id of one that was kept.
async fn filter(app: &App, caller: &Caller, text: Option<&str>) -> Result<Filter, Failure> {
    match text {
        None | Some("") => Ok(Default::default()),
        Some(json) if json.trim_start().starts_with('{') => parse(json),
        Some(id) => match app.accounts.filter(&caller.user_id, id).await {
            Ok(stored) => parse(stored.get()),
            Err(error) => Err(error.into()),
        },
    }
}

fn parse(json: &str) -> Result<Filter, Failure> {
    let filter = serde_json::from_str(json);
    let filter = filter.map_err(|error| Failure::invalid_param(format!("Not a filter: {error}")))?;
    let relations = RelationFilter::of_timelines(json);
    let relations = relations.map_err(|error| Failure::invalid_param(error.to_string()))?;
    Ok((filter, relations, ProfileFields::of_filter(json)))
}
