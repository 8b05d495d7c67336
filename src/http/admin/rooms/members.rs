//! `GET /_synapse/admin/v1/rooms/{roomId}/members`: who is in a room.

use axum::response::Response;
use serde_json::json;

use super::{admit, answer, room};
use crate::{
    http::{App, Call, Failure},
    types::Membership,
};

pub(super) async fn handle(app: App, call: Call) -> Result<Response, Failure> {
    admit(&app, &call).await?;
    let room = room(&call)?;
    if app.history.room(&room).await?.is_none() {
        return Err(Failure::not_found("This server does not know the room"));
    }
    let members = app.history.current_members(&room).await?;
    let joined: Vec<_> = members.with(Membership::Join).collect();
    Ok(answer(json!({ "total": joined.len(), "members": joined })))
}
