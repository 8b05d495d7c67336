//! `POST /_matrix/client/v4/sync`, and the same in the shape of today's clients,
//! `POST /_matrix/client/unstable/org.matrix.simplified_msc3575/sync`
//!
//! Hand-written, because ruma has only the second, without several of the fields that clients use.
//!
//! <https://github.com/matrix-org/matrix-spec-proposals/blob/main/proposals/4186-simplified-sliding-sync.md>

use axum::{body::Body, extract::Query, response::Response};
use http::{HeaderValue, Method, header};
use serde::Deserialize;

use crate::{
    http::{Access, App, Call, Failure, Routes},
    sync::{SlidingBody, SlidingRequest, SlidingShape},
};

/// What the unstable shape has in the query.
#[derive(Debug, Default, Deserialize)]
struct Parameters {
    pos: Option<String>,
    timeout: Option<u64>,
    set_presence: Option<String>,
}

pub(super) fn route(routes: &mut Routes) {
    routes.feature("org.matrix.simplified_msc3575");
    routes.feature("org.matrix.msc4262");
    let unstable = "/_matrix/client/unstable/org.matrix.simplified_msc3575/sync";
    routes.raw(Method::POST, unstable, Access::Required, async |app, call: Call| {
        let Query(parameters) = Query::<Parameters>::try_from_uri(&call.parts.uri)
            .map_err(|error| Failure::invalid_param(error.body_text()))?;
        let body = call.json::<SlidingBody>()?.in_query((
            parameters.pos,
            parameters.timeout,
            parameters.set_presence,
        ));
        handle(app, call, (SlidingShape::Unstable, body)).await
    });
    routes.raw(Method::POST, "/_matrix/client/v4/sync", Access::Required, async |app, call: Call| {
        let body = call.json()?;
        handle(app, call, (SlidingShape::Final, body)).await
    });
}

async fn handle(
    app: App,
    call: Call,
    (shape, body): (SlidingShape, SlidingBody),
) -> Result<Response, Failure> {
    let caller = call.caller.ok_or_else(Failure::missing_token)?;
    let request = SlidingRequest::new(shape, &caller.user_id, body)?;
    app.accounts.note_seen(&caller.user_id, &caller.device_id, call.peer.ip.map(|ip| ip.to_string()));
    let response = app.sync.slide(&caller, &request, &app.stopping).await?;
    let mut answer = Response::new(Body::from(serde_json::to_vec(&response).map_err(Failure::internal)?));
    answer.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    Ok(answer)
}
