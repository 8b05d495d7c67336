//! `GET /_matrix/client/v3/rooms/{roomId}/state/{eventType}/{stateKey}`
//!
//! <https://spec.matrix.org/v1.19/client-server-api/#get_matrixclientv3roomsroomidstateeventtypestatekey>

use ruma::api::client::state::get_state_event_for_key::v3::{Request, Response, StateEventFormat};

use crate::{
    account::Caller,
    history::Shape,
    http::{App, Failure},
};

/// Answers the request.
pub(super) async fn handle(app: App, caller: Caller, request: Request) -> Result<Response, Failure> {
    let history = &app.history;
    let state = history.readable_state(&caller.user_id, &request.room_id).await?;
    let state = state.ok_or_else(|| Failure::forbidden("You may not look into the room"))?;
    let event = history.state_event(state, request.event_type, &request.state_key).await?;
    let event = event.ok_or_else(|| Failure::not_found("There is no such state event"))?;
    let mut viewer = history.viewer(&caller.user_id, Some(&caller.device_id)).await?;
    match request.format {
        StateEventFormat::Content => Ok(Response::new(viewer.as_shown(&event)?.pdu.content().to_owned())),
        StateEventFormat::Event => Ok(Response::new(viewer.render_one(&event, Shape::Full).await?)),
        _ => Err(Failure::invalid_param("The format is `content` or `event`")),
    }
}
