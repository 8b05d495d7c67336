//! `POST /_lockstep/admin/v1/users/{userId}/reject_invites`: all that wait, or those of one sender or server.

use axum::response::Response;
use ruma::{OwnedServerName, OwnedUserId};
use serde::Deserialize;
use serde_json::json;

use super::{admit, answer, user};
use crate::{
    http::{App, Body, Call, Failure},
    room::{InvitedBy, Rejected},
};

#[derive(Deserialize)]
struct Asked {
    sender: Option<OwnedUserId>,
    server: Option<OwnedServerName>,
}

pub(super) async fn handle(app: App, call: Call) -> Result<Response, Failure> {
    admit(&app, &call).await?;
    let Asked { sender, server } = Body::from(call.body.clone()).json()?;
    let user = user(&app, &call)?;
    if app.accounts.user(&user).await?.is_none() {
        return Err(Failure::not_found("There is no such user"));
    }
    // What the server has to say cannot be rejected.
    let spared = app.notices.room_of(&user).await?;
    let by = InvitedBy { sender, server };
    let done = app.rooms.reject_invites(&user, &by, spared.as_deref(), Rejected::default()).await?;
    Ok(answer(json!({ "rejected": done.rejected, "failed": done.failed, "more": done.more })))
}
