//! Reports, for administrators.

use http::Method;
use serde_json::{Value, json};

use super::{add, admit, answer};
use crate::{
    http::{Call, Failure, Routes},
    report::{Report, Subject},
};

mod get;
mod list;
mod remove;
mod takedown;
#[cfg(test)]
mod tests;

/// The paths of lists, with the kind of report that is in them.
const LISTS: [(&str, Option<&str>); 4] = [
    ("/_synapse/admin/v1/event_reports", Some("event")),
    ("/_synapse/admin/v1/user_reports", Some("user")),
    ("/_lockstep/admin/v1/room_reports", Some("room")),
    ("/_lockstep/admin/v1/reports", None),
];
/// The paths of single reports.
const SINGLE: [&str; 4] = [
    "/_synapse/admin/v1/event_reports/{report_id}",
    "/_synapse/admin/v1/user_reports/{report_id}",
    "/_lockstep/admin/v1/room_reports/{report_id}",
    "/_lockstep/admin/v1/reports/{report_id}",
];

/// Adds the endpoints of this area.
pub(super) fn routes(routes: &mut Routes) {
    for (path, _) in LISTS {
        add(routes, Method::GET, path, |app, call| Box::pin(list::handle(app, call)));
    }
    for path in SINGLE {
        add(routes, Method::GET, path, |app, call| Box::pin(get::handle(app, call)));
        add(routes, Method::DELETE, path, |app, call| Box::pin(remove::handle(app, call)));
    }
    add(routes, Method::POST, "/_lockstep/admin/v1/reports/{report_id}/takedown", |app, call| {
        Box::pin(takedown::handle(app, call))
    });
}

/// The number in the path.
fn number(call: &Call) -> Result<u64, Failure> {
    let number = call.path.first().and_then(|number| number.parse().ok());
    number.ok_or_else(|| Failure::invalid_param("That is no number of a report"))
}

/// A report as it is told.
fn told(number: u64, report: &Report) -> Value {
    let mut told = json!({
        "id": number,
        "received_ts": report.received_ms,
        "user_id": report.reporter,
        "reason": report.reason,
    });
    let more = match &report.subject {
        Subject::Event { room_id, event_id, sender } => {
            json!({ "kind": "event", "room_id": room_id, "event_id": event_id, "sender": sender })
        }
        Subject::Room { room_id } => json!({ "kind": "room", "room_id": room_id }),
        Subject::User { user_id } => json!({ "kind": "user", "target_user_id": user_id }),
    };
    if let (Some(told), Value::Object(more)) = (told.as_object_mut(), more) {
        told.extend(more);
    }
    told
}

fn no_such_report() -> Failure {
    Failure::not_found("There is no such report")
}
