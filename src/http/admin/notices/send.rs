//! `POST /_synapse/admin/v1/send_server_notice` and `PUT /_synapse/admin/v1/send_server_notice/{txnId}`: tells a user
//! something.

use axum::response::Response;
use ruma::OwnedUserId;
use serde::Deserialize;
use serde_json::{json, value::RawValue};

use super::{admit, answer};
use crate::{
    http::{App, Call, Failure},
    notice::Notice,
};

#[derive(Deserialize)]
struct Asked {
    user_id: OwnedUserId,
    content: Box<RawValue>,
    #[serde(rename = "type")]
    event_type: Option<String>,
    state_key: Option<String>,
}

pub(super) async fn handle(app: App, call: Call) -> Result<Response, Failure> {
    admit(&app, &call).await?;
    let asked: Asked = call.json()?;
    if !asked.content.get().starts_with('{') {
        return Err(Failure::bad_json("The content must be an object"));
    }
    let notice = Notice {
        user: asked.user_id,
        content: asked.content,
        event_type: asked.event_type.map(Into::into),
        state_key: asked.state_key,
        txn: call.path.into_iter().next(),
    };
    let event_id = app.notices.send(notice).await?;
    Ok(answer(json!({ "event_id": event_id })))
}
