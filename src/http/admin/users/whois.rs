//! `GET /_synapse/admin/v1/whois/{userId}`: when and from where the devices of a user were last heard of.

use axum::response::Response;
use serde_json::json;

use super::{admit, answer, known};
use crate::http::{App, Call, Failure, client::moderation::whois};

pub(super) async fn handle(app: App, call: Call) -> Result<Response, Failure> {
    admit(&app, &call).await?;
    let user = known(&app, &call).await?;
    let devices = whois::devices(&app, &user).await?;
    Ok(answer(json!({ "user_id": user, "devices": devices })))
}
