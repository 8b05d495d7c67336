//! `PUT /_lockstep/admin/v1/users/{userId}/lock`: nobody can use the account until it is unlocked.

use axum::response::Response;
use serde::Deserialize;
use serde_json::json;

use super::{active, admit, answer};
use crate::http::{App, Call, Failure};

#[derive(Deserialize)]
struct Asked {
    locked: bool,
}

pub(super) async fn handle(app: App, call: Call) -> Result<Response, Failure> {
    admit(&app, &call).await?;
    let Asked { locked } = call.json()?;
    let user = active(&app, &call).await?;
    app.accounts.change_user(&user, |user| user.locked = locked).await?;
    Ok(answer(json!({ "locked": locked })))
}
