//! `GET /_synapse/admin/v1/users/{userId}/joined_rooms`: the rooms that a user is in.

use axum::response::Response;
use serde_json::json;

use super::{admit, answer, user};
use crate::http::{App, Call, Failure};

pub(super) async fn handle(app: App, call: Call) -> Result<Response, Failure> {
    admit(&app, &call).await?;
    let user = user(&app, &call)?;
    let rooms = app.history.joined_rooms(&user).await?;
    Ok(answer(json!({ "total": rooms.len(), "joined_rooms": rooms })))
}
