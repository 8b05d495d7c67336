//! `GET /_synapse/admin/v1/event_reports/{reportId}`, `…/user_reports/{reportId}`: one report, with the event if it is
//! about one: as it was when it was reported, if that is kept still, else as it is.

use axum::response::Response;
use serde_json::{Map, Value};

use super::{admit, answer, no_such_report, number, told};
use crate::{
    http::{App, Call, Failure},
    report::Subject,
};

pub(super) async fn handle(app: App, call: Call) -> Result<Response, Failure> {
    admit(&app, &call).await?;
    let number = number(&call)?;
    let report = app.reports.get(number).await?.ok_or_else(no_such_report)?;
    let mut body = told(number, &report);
    if let Subject::Event { event_id, .. } = &report.subject {
        let found = app.history.event(event_id).await?;
        let kept = app.reports.evidence(number).await?;
        if let Some(text) = kept.or_else(|| found.map(|event| event.pdu.text().to_owned())) {
            let event: Map<String, Value> = serde_json::from_str(&text).map_err(Failure::internal)?;
            body["event_json"] = event.into();
        }
    }
    Ok(answer(body))
}
