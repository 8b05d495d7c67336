//! `GET /_lockstep/admin/v1/rooms/{roomId}/explain?type=…&state_key=…`: why what stands at a place of a room's state
//! stands there.

use axum::response::Response;

use super::{admit, answer, room};
use crate::{
    dag::StateKey,
    http::{App, Call, Failure},
};

pub(super) async fn handle(app: App, call: Call) -> Result<Response, Failure> {
    admit(&app, &call).await?;
    let room = room(&call)?;
    let query = call.parts.uri.query().unwrap_or_default().as_bytes();
    let (mut kind, mut state_key, mut hidden) = (None, String::new(), false);
    for (name, value) in url::form_urlencoded::parse(query) {
        match &*name {
            "type" => kind = Some(value.into_owned()),
            "state_key" => state_key = value.into_owned(),
            "hidden" => hidden = value == "true",
            _ => {}
        }
    }
    let kind = kind.ok_or_else(|| Failure::invalid_param("`type` does not say which event is meant"))?;
    let key = StateKey::new(kind.into(), &state_key);
    let told = app.history.explain(&room, &key, hidden).await?;
    let told = told.ok_or_else(|| Failure::not_found("This server does not know the room"))?;
    Ok(answer(serde_json::to_value(told).map_err(Failure::internal)?))
}
