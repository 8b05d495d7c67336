//! `GET /_synapse/admin/v1/username_available`: whether an account of a name could be made, whoever may register.

use axum::{extract::Query, response::Response};
use serde::Deserialize;
use serde_json::json;

use super::{admit, answer};
use crate::http::{App, Call, Failure};

#[derive(Deserialize)]
struct Asked {
    username: String,
}

pub(super) async fn handle(app: App, call: Call) -> Result<Response, Failure> {
    admit(&app, &call).await?;
    let asked = Query::<Asked>::try_from_uri(&call.parts.uri);
    let Query(Asked { username }) = asked.map_err(|error| Failure::invalid_param(error.body_text()))?;
    app.accounts.available(&username).await?;
    Ok(answer(json!({ "available": true })))
}
