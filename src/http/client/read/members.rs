//! `GET /_matrix/client/v3/rooms/{roomId}/members`
//!
//! <https://spec.matrix.org/v1.19/client-server-api/#get_matrixclientv3roomsroomidmembers>

use ruma::{
    api::client::membership::get_member_events::v3::{Request, Response},
    events::StateEventType,
};

use super::scene::{Scene, boundary};
use crate::{
    account::Caller,
    http::{App, Failure},
};

/// Answers the request.
pub(super) async fn handle(app: App, caller: Caller, request: Request) -> Result<Response, Failure> {
    let mut scene = Scene::enter_whole(&app, &caller, &request.room_id).await?;
    let then = match request.at.as_deref().map(boundary).transpose()? {
        Some(at) if at < scene.reach.until.position => scene.viewer.state_at(&request.room_id, at).await?,
        _ => None,
    };
    let state = then.unwrap_or(scene.reach.state);
    let mut events = app.history.state_events(state, Some(&StateEventType::RoomMember)).await?;
    events.retain(|event| {
        let membership = event.pdu.membership().map_or("", |membership| membership.as_str());
        let is_wanted = request.membership.as_ref().map(|wanted| wanted.as_str() == membership);
        let is_other = request.not_membership.as_ref().map(|unwanted| unwanted.as_str() != membership);
        // Both together are an "or".
        match (is_wanted, is_other) {
            (None, None) => true,
            (is_wanted, is_other) => is_wanted == Some(true) || is_other == Some(true),
        }
    });
    Ok(Response::new(scene.show_state(&events).await?))
}
