//! `lockstep report list` and `lockstep report remove`, on a running server.

use serde_json::Value;

use super::{Stop, exchange::command, print};
use crate::config::Config;

const PATH: &str = "/_lockstep/admin/v1/reports";

/// Looks at what users have reported.
#[derive(Debug, clap::Subcommand)]
pub(super) enum ReportVerb {
    /// Lists reports, the newest first.
    List {
        /// How many at most.
        #[arg(long, default_value_t = 100)]
        limit: u16,
    },
    /// Shows one report, with the event if it is about one.
    Show {
        /// Its number.
        number: u64,
    },
    /// Removes a report that has been dealt with.
    Remove {
        /// Its number.
        number: u64,
    },
}

/// Does what `verb` says.
pub(super) fn obey(config: &Config, verb: &ReportVerb) -> Result<(), Stop> {
    match verb {
        ReportVerb::List { limit } => {
            let answer = command(config, "GET", &format!("{PATH}?limit={limit}"), None)?;
            print(&listed(&answer))
        }
        ReportVerb::Show { number } => {
            let answer = command(config, "GET", &format!("{PATH}/{number}"), None)?;
            print(&format!("{answer:#}\n"))
        }
        ReportVerb::Remove { number } => {
            command(config, "DELETE", &format!("{PATH}/{number}"), None)?;
            print(&format!("removed {number}\n"))
        }
    }
}

fn listed(answer: &Value) -> String {
    let reports = answer.get("reports").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    let total = answer.get("total").and_then(Value::as_u64).unwrap_or_default();
    let lines: String = reports.iter().map(line).collect();
    format!("{lines}{} of {total} reports\n", reports.len())
}

/// What a terminal would obey is told as it is written in JSON.
fn line(report: &Value) -> String {
    let text = |name: &str| report.get(name).and_then(Value::as_str).unwrap_or_default();
    let about = match text("kind") {
        "event" => format!("{} of {} in {}", text("event_id"), text("sender"), text("room_id")),
        "room" => text("room_id").to_owned(),
        _ => text("target_user_id").to_owned(),
    };
    let id = report.get("id").cloned().unwrap_or_default();
    format!("{id}  {} reports {about}: {}\n", text("user_id"), Value::from(text("reason")))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::listed;

    #[test]
    fn reports_are_told_a_line_each() {
        let user = json!({ "id": 5, "kind": "user", "user_id": "@a:x", "target_user_id": "@b:x",
            "reason": "rude\u{1b}[31m" });
        let event = json!({ "id": 4, "kind": "event", "user_id": "@a:x", "event_id": "$e", "room_id": "!r:x",
            "sender": "@b:x", "reason": "" });
        assert_eq!(
            listed(&json!({ "reports": [user, event], "total": 7 })),
            "5  @a:x reports @b:x: \"rude\\u001b[31m\"\n4  @a:x reports $e of @b:x in !r:x: \"\"\n2 of 7 reports\n"
        );
    }
}
