//! `POST /_synapse/admin/v1/reset_password/{userId}`: another password, which is known to whoever asks.

use axum::response::Response;
use serde::Deserialize;
use serde_json::json;

use super::{active, admit, answer};
use crate::http::{App, Call, Failure};

#[derive(Deserialize)]
struct Asked {
    new_password: String,
    /// Whether every device is logged out.
    logout_devices: Option<bool>,
}

pub(super) async fn handle(app: App, call: Call) -> Result<Response, Failure> {
    admit(&app, &call).await?;
    let Asked { new_password, logout_devices } = call.json()?;
    let user = active(&app, &call).await?;
    app.accounts.set_password(&user, &new_password).await?;
    if logout_devices.unwrap_or(true) {
        app.devices.remove_all(&user, None).await?;
    }
    Ok(answer(json!({})))
}
