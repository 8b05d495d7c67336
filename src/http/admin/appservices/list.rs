//! `GET /_lockstep/admin/v1/appservices`: all application services, and how far each has got.

use axum::response::Response;
use serde_json::json;

use super::{admit, answer, told};
use crate::http::{App, Call, Failure};

pub(super) async fn handle(app: App, call: Call) -> Result<Response, Failure> {
    admit(&app, &call).await?;
    let mut all = Vec::new();
    for appservice in app.appservices.all() {
        all.push(told(&app, &appservice).await?);
    }
    Ok(answer(json!({ "appservices": all })))
}
