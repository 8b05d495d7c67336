//! `lockstep notice USER TEXT`, on a running server.

use ruma::OwnedUserId;
use serde_json::json;

use super::{Stop, exchange::command, print};
use crate::config::Config;

const PATH: &str = "/_synapse/admin/v1/send_server_notice";

/// What a user is to be told.
#[derive(Debug, clap::Args)]
pub(super) struct Notice {
    /// The user's id.
    user: OwnedUserId,
    /// The text.
    text: String,
}

/// Tells a user something, in the room that is for that.
pub(super) fn send(config: &Config, notice: &Notice) -> Result<(), Stop> {
    let content = json!({ "msgtype": "m.text", "body": notice.text });
    let answer = command(config, "POST", PATH, Some(&json!({ "user_id": notice.user, "content": content })))?;
    let event_id = answer.get("event_id").and_then(|id| id.as_str()).unwrap_or_default();
    print(&format!("told {} ({event_id})\n", notice.user))
}
