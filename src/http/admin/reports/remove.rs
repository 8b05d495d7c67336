//! `DELETE /_synapse/admin/v1/event_reports/{reportId}`, `…/user_reports/{reportId}`: the report is dealt with.

use axum::response::Response;
use serde_json::json;

use super::{admit, answer, no_such_report, number};
use crate::http::{App, Call, Failure};

pub(super) async fn handle(app: App, call: Call) -> Result<Response, Failure> {
    admit(&app, &call).await?;
    match app.reports.remove(number(&call)?).await? {
        true => Ok(answer(json!({}))),
        false => Err(no_such_report()),
    }
}
