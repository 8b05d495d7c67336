//! `GET` and `PUT /_synapse/admin/v1/rooms/{roomId}/block`: whether users of this server may come into a room.

use axum::response::Response;
use http::Method;
use serde::Deserialize;
use serde_json::json;

use super::{admit, answer, room};
use crate::http::{App, Call, Failure};

#[derive(Deserialize)]
struct Asked {
    block: bool,
}

pub(super) async fn handle(app: App, call: Call) -> Result<Response, Failure> {
    admit(&app, &call).await?;
    let room = room(&call)?;
    if call.parts.method == Method::PUT {
        let Asked { block } = call.json()?;
        app.purge.block_room(&room, block).await?;
    }
    Ok(answer(json!({ "block": app.history.is_blocked(&room).await? })))
}
