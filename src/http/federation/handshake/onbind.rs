//! `PUT /_matrix/federation/v1/3pid/onbind`
//!
//! <https://spec.matrix.org/v1.19/server-server-api/#put_matrixfederationv13pidonbind>

use axum::response::IntoResponse;
use http::{Method, StatusCode};
use ruma::api::federation::thirdparty::bind_callback::v1::{Request, Response};

use crate::{
    federation::Exchange,
    http::{App, Call, Failure, call::Given},
};

pub(super) async fn handle(app: App, request: Request) -> Result<Response, Failure> {
    let exchanges = request.invites.into_iter().filter_map(|invite| {
        let signed = serde_json::from_str(invite.signed.json().get()).ok()?;
        Some((invite.room_id, Exchange { sender: invite.sender, user: invite.mxid, signed }))
    });
    app.federation.bound(&request.mxid, exchanges.collect()).await;
    Ok(Response::new())
}

/// With the method that identity servers use, and that the client-server part of the specification shows.
///
/// <https://spec.matrix.org/v1.19/client-server-api/#third-party-invites>
pub(super) async fn handle_post(app: App, mut call: Call) -> Result<axum::response::Response, Failure> {
    call.parts.method = Method::PUT;
    let given: Given<Request> = call.decode()?;
    handle(app, given.request).await?;
    Ok((StatusCode::OK, axum::Json(serde_json::json!({}))).into_response())
}
