//! `GET /_matrix/client/v3/rooms/{roomId}/event/{eventId}`
//!
//! <https://spec.matrix.org/v1.19/client-server-api/#get_matrixclientv3roomsroomideventeventid>

use ruma::api::client::room::get_room_event::v3::{Request, Response};

use super::scene::{Scene, no_such_event};
use crate::{
    account::Caller,
    http::{App, Failure},
};

/// Answers the request.
pub(super) async fn handle(app: App, caller: Caller, request: Request) -> Result<Response, Failure> {
    let scene = Scene::find(&app, &caller, &request.room_id).await?;
    let mut scene = scene.ok_or_else(no_such_event)?;
    let event = scene.event(&request.room_id, &request.event_id).await?;
    Ok(Response::new(scene.show_one(&event).await?))
}
