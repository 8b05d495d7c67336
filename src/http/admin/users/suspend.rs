//! `PUT /_synapse/admin/v1/suspend/{userId}`: the user can read, and leave rooms, and say nothing.

use axum::response::Response;
use serde::Deserialize;
use serde_json::json;

use super::{active, admit, answer};
use crate::http::{App, Call, Failure};

#[derive(Deserialize)]
struct Asked {
    suspend: bool,
}

pub(super) async fn handle(app: App, call: Call) -> Result<Response, Failure> {
    admit(&app, &call).await?;
    let Asked { suspend } = call.json()?;
    let user = active(&app, &call).await?;
    app.accounts.change_user(&user, |user| user.suspended = suspend).await?;
    Ok(answer(json!({ format!("user_{user}_suspended"): suspend })))
}
