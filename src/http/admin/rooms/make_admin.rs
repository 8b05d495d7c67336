//! `POST /_synapse/admin/v1/rooms/{roomIdOrAlias}/make_room_admin`: somebody becomes as powerful in a room as the most
//! powerful user of this server is there: whoever asks, or `user_id`.

use axum::response::Response;
use ruma::OwnedUserId;
use serde::Deserialize;
use serde_json::json;

use super::{admit, answer, named};
use crate::http::{App, Call, Failure};

#[derive(Default, Deserialize)]
struct Asked {
    user_id: Option<OwnedUserId>,
}

pub(super) async fn handle(app: App, call: Call) -> Result<Response, Failure> {
    admit(&app, &call).await?;
    let Asked { user_id } = call.json_or_default()?;
    let caller = call.caller.as_ref().map(|caller| caller.user_id.clone());
    let user = user_id.or(caller).ok_or_else(|| Failure::missing_param("`user_id` is missing"))?;
    let room = named(&app, &call).await?;
    app.rooms.empower(&room, &user).await?;
    Ok(answer(json!({})))
}
