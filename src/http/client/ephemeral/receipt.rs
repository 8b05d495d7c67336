//! `POST /_matrix/client/v3/rooms/{roomId}/receipt/{receiptType}/{eventId}`
//!
//! <https://spec.matrix.org/v1.19/client-server-api/#post_matrixclientv3roomsroomidreceiptreceipttypeeventid>

use ruma::{
    api::client::receipt::create_receipt::v3::{ReceiptType, Request, Response},
    events::receipt::ReceiptThread,
};

use crate::{
    account::Caller,
    ephemeral::{Markers, Thread},
    http::{App, Failure, Routes},
};

/// Adds the endpoint.
pub(super) fn routes(routes: &mut Routes) {
    routes.add::<Request, _>(handle);
}

async fn handle(app: App, caller: Caller, request: Request) -> Result<Response, Failure> {
    let thread = match request.thread {
        ReceiptThread::Unthreaded => Thread::Unthreaded,
        ReceiptThread::Main => Thread::Main,
        ReceiptThread::Thread(root) => Thread::Root(root),
        _ => return Err(Failure::invalid_param("`thread_id` is neither `main` nor an event id")),
    };
    let mut markers = Markers { thread, ..Markers::default() };
    let place = match request.receipt_type {
        ReceiptType::Read => &mut markers.read,
        ReceiptType::ReadPrivate => &mut markers.read_private,
        ReceiptType::FullyRead => &mut markers.fully_read,
        _ => return Err(Failure::invalid_param("Unknown type of receipt")),
    };
    *place = Some(request.event_id);
    app.ephemeral.set_markers(&request.room_id, &caller.user_id, &markers).await?;
    Ok(Response::new())
}
