//! `GET /_matrix/client/v3/rooms/{roomId}/state`
//!
//! <https://spec.matrix.org/v1.19/client-server-api/#get_matrixclientv3roomsroomidstate>

use ruma::{
    api::client::state::get_state_events::v3::{Request, Response},
    serde::Raw,
};

use crate::{
    account::Caller,
    history::{Bundles, Shape},
    http::{App, Failure},
};

/// Answers the request.
pub(super) async fn handle(app: App, caller: Caller, request: Request) -> Result<Response, Failure> {
    let history = &app.history;
    let readable = async || {
        let state = history.readable_state(&caller.user_id, &request.room_id).await?;
        state.ok_or_else(|| Failure::forbidden("You may not look into the room"))
    };
    let mut state = readable().await?;
    // Nobody else waits, or learns that there is something to wait for.
    if history.is_partial(&request.room_id).await? {
        app.rooms.whole(&request.room_id).await?;
        state = readable().await?;
    }
    let events = history.state_events(state, None).await?;
    let mut viewer = history.viewer(&caller.user_id, Some(&caller.device_id)).await?;
    let rendered = viewer.render(&events, Shape::Full, &Bundles::new()).await?;
    Ok(Response::new(rendered.into_iter().map(Raw::from_json).collect()))
}
