//! `GET /_matrix/client/v3/rooms/{roomId}/joined_members`
//!
//! <https://spec.matrix.org/v1.19/client-server-api/#get_matrixclientv3roomsroomidjoined_members>

use std::collections::BTreeMap;

use ruma::{
    api::client::membership::joined_members::v3::{Request, Response, RoomMember},
    assign,
};
use serde_json::{Map, Value};

use crate::{
    account::Caller,
    http::{App, Failure},
    types::Membership,
};

/// Answers the request.
pub(super) async fn handle(app: App, caller: Caller, request: Request) -> Result<Response, Failure> {
    let history = &app.history;
    if !history.is_joined(&request.room_id, &caller.user_id).await? {
        return Err(Failure::forbidden("You are not in the room"));
    }
    let members = history.current_members(&request.room_id).await?;
    let joined = || members.iter().filter(|(_, member)| member.membership == Membership::Join);
    let ids: Vec<_> = joined().map(|(_, member)| member.event_id.clone()).collect();
    let events = history.events(&ids).await?;
    let mut answer = BTreeMap::new();
    for ((user, _), event) in joined().zip(events) {
        let content: Option<Map<String, Value>> = event.and_then(|event| event.pdu.content_as().ok());
        let text = |name| content.as_ref().and_then(|content| content.get(name)?.as_str().map(String::from));
        let member = assign!(RoomMember::new(), {
            display_name: text("displayname"),
            avatar_url: text("avatar_url").map(Into::into),
        });
        answer.insert(user.clone(), member);
    }
    Ok(Response::new(answer))
}
