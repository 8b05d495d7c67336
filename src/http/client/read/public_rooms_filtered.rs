//! `POST /_matrix/client/v3/publicRooms`
//!
//! <https://spec.matrix.org/v1.19/client-server-api/#post_matrixclientv3publicrooms>

use axum::response::Response;
use ruma::api::client::directory::get_public_rooms_filtered::v3::Request;

use super::public_rooms::{Question, list, render};
use crate::http::{App, Call, Failure};

/// Answers the request.
pub(super) async fn handle(app: App, call: Call) -> Result<Response, Failure> {
    let Request { server, limit, since, filter, room_network, .. } = call.decode()?.request;
    render(list(&app, Question { server, network: room_network, limit, since, filter }).await?)
}
