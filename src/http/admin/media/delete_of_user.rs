//! `DELETE /_synapse/admin/v1/users/{userId}/media`: everything that a user has uploaded goes.

use axum::response::Response;
use serde_json::json;

use super::{admit, answer, user};
use crate::http::{App, Call, Failure};

pub(super) async fn handle(app: App, call: Call) -> Result<Response, Failure> {
    admit(&app, &call).await?;
    let total = app.media.delete_of(&user(&app, &call)?).await?;
    Ok(answer(json!({ "total": total })))
}
