//! `GET /_matrix/client/v3/rooms/{roomId}/joined_members`
//!
//! <https://spec.matrix.org/v1.19/client-server-api/#get_matrixclientv3roomsroomidjoined_members>

use axum::response::{IntoResponse, Response};
use ruma::api::client::membership::joined_members::v3::Request;
use serde_json::{Map, Value, json};

use crate::{
    http::{App, Call, Failure, call::Given},
    types::Membership,
};

/// Answers the request.
pub(super) async fn handle(app: App, call: Call) -> Result<Response, Failure> {
    let appservice = call.peer.appservice.clone();
    let Given { caller, request, .. } = call.decode::<Request>()?;
    let caller = caller.ok_or_else(Failure::missing_token)?;
    let history = &app.history;
    let is_in = match &appservice {
        // Any of its users will do.
        Some(appservice) => {
            let members = history.current_members(&request.room_id).await?;
            members.with(Membership::Join).any(|user| appservice.owns(user))
        }
        None => history.is_joined(&request.room_id, &caller.user_id).await?,
    };
    if !is_in {
        return Err(Failure::forbidden("You are not in the room"));
    }
    app.rooms.whole(&request.room_id).await?;
    let members = history.current_members(&request.room_id).await?;
    let joined = || members.iter().filter(|(_, member)| member.membership == Membership::Join);
    let ids: Vec<_> = joined().map(|(_, member)| member.event_id.clone()).collect();
    let events = history.events(&ids).await?;
    let viewer = history.viewer(&caller.user_id, Some(&caller.device_id)).await?;
    // By hand, because ruma leaves out names and pictures that are not set, and clients look for them.
    let mut answer = Map::new();
    for ((user, _), event) in joined().zip(events) {
        let event = event.map(|event| viewer.as_shown(&event)).transpose()?;
        let content: Option<Map<String, Value>> = event.and_then(|event| event.pdu.content_as().ok());
        let text = |name| content.as_ref().and_then(|content| content.get(name)?.as_str().map(String::from));
        let member = json!({ "display_name": text("displayname"), "avatar_url": text("avatar_url") });
        answer.insert(user.to_string(), member);
    }
    Ok(axum::Json(json!({ "joined": answer })).into_response())
}
