//! `POST /_matrix/client/v3/rooms/{roomId}/receipt/{receiptType}/{eventId}`
//!
//! <https://spec.matrix.org/v1.19/client-server-api/#post_matrixclientv3roomsroomidreceiptreceipttypeeventid>

use axum::response::IntoResponse;
use http::Method;
use ruma::{
    api::client::receipt::create_receipt::v3::{ReceiptType, Request},
    events::receipt::ReceiptThread,
};
use serde_json::{Value, json};

use super::Backward;
use crate::{
    account::Caller,
    ephemeral::{Markers, Moves, Thread},
    http::{Access, App, Call, Failure, Routes},
};

const PATHS: [&str; 2] = [
    "/_matrix/client/r0/rooms/{room_id}/receipt/{receipt_type}/{event_id}",
    "/_matrix/client/v3/rooms/{room_id}/receipt/{receipt_type}/{event_id}",
];

/// Adds the endpoint.
pub(super) fn routes(routes: &mut Routes) {
    for path in PATHS {
        routes.raw(Method::POST, path, Access::Required, answer);
    }
}

/// By hand, because the specification has another error code for a `thread_id` of the wrong type than for
/// other bodies, and ruma does not tell which it was.
async fn answer(app: App, call: Call) -> Result<axum::response::Response, Failure> {
    // A map and not a struct: an array would do for a struct.
    if let Ok(Value::Object(body)) = serde_json::from_slice(&call.body)
        && let Some(thread_id) = body.get("thread_id").filter(|given| !given.is_null())
        && thread_id.as_str().is_none_or(str::is_empty)
    {
        return Err(Failure::invalid_param("`thread_id` must be a string that is not empty"));
    }
    let given = call.decode::<Request>()?;
    let moves = given.body.json::<Backward>()?.moves();
    let caller = given.caller.ok_or_else(Failure::missing_token)?;
    handle(app, caller, (given.request, moves)).await?;
    Ok(axum::Json(json!({})).into_response())
}

async fn handle(app: App, caller: Caller, (request, moves): (Request, Moves)) -> Result<(), Failure> {
    if moves == Moves::Anywhere && request.receipt_type != ReceiptType::FullyRead {
        return Err(Failure::invalid_param("Only `m.fully_read` can be moved back"));
    }
    let thread = match request.thread {
        ReceiptThread::Unthreaded => Thread::Unthreaded,
        ReceiptThread::Main => Thread::Main,
        ReceiptThread::Thread(root) => Thread::Root(root),
        _ => return Err(Failure::invalid_param("`thread_id` is neither `main` nor an event id")),
    };
    let mut markers = Markers { thread, moves, ..Markers::default() };
    let place = match request.receipt_type {
        ReceiptType::Read => &mut markers.read,
        ReceiptType::ReadPrivate => &mut markers.read_private,
        ReceiptType::FullyRead => &mut markers.fully_read,
        _ => return Err(Failure::invalid_param("Unknown type of receipt")),
    };
    *place = Some(request.event_id);
    app.ephemeral.set_markers(&request.room_id, &caller.user_id, &markers).await?;
    Ok(())
}
