//! `POST /_lockstep/admin/v1/users/{userId}/reject_invites`: all that wait, or those of one sender or server.

use axum::response::Response;
use ruma::{OwnedServerName, OwnedUserId};
use serde::Deserialize;
use serde_json::json;

use super::{admit, answer, known};
use crate::{
    http::{App, Call, Failure},
    room::{InvitedBy, Rejected},
};

#[derive(Default, Deserialize)]
struct Asked {
    sender: Option<OwnedUserId>,
    server: Option<OwnedServerName>,
}

pub(super) async fn handle(app: App, call: Call) -> Result<Response, Failure> {
    admit(&app, &call).await?;
    let Asked { sender, server } = call.json_or_default()?;
    let user = known(&app, &call).await?;
    // What the server has to say cannot be rejected.
    let spared = app.notices.room_of(&user).await?;
    let by = InvitedBy { sender, server };
    let done = app.rooms.reject_invites(&user, &by, spared.as_deref(), Rejected::default()).await?;
    Ok(answer(json!({ "rejected": done.rejected, "failed": done.failed, "more": done.more })))
}
