//! `POST /_lockstep/admin/v1/servers/{serverName}/forget`: what came from another server and waits, or is kept without need,
//! goes.

use axum::response::Response;
use ruma::{OwnedUserId, ServerName};
use serde::Deserialize;
use serde_json::json;

use super::{admit, answer};
use crate::{
    http::{App, Call, Failure},
    limits::SCAN_ROWS_MAX,
    room::{InvitedBy, Rejected},
};

/// What is to go; all of it if nothing is said.
#[derive(Deserialize)]
#[serde(default)]
struct Asked {
    /// The invites of local users by its users.
    invites: bool,
    /// Its files that are kept here.
    media: bool,
    /// Its users in the user directory.
    directory: bool,
}

impl Default for Asked {
    fn default() -> Self {
        Self { invites: true, media: true, directory: true }
    }
}

pub(super) async fn handle(app: App, call: Call) -> Result<Response, Failure> {
    admit(&app, &call).await?;
    let asked: Asked = call.json_or_default()?;
    let server = call.path.first().and_then(|text| ServerName::parse(text.as_str()).ok());
    let server = server.ok_or_else(|| Failure::invalid_param("The path names no server"))?;
    if server == app.server_name {
        return Err(Failure::invalid_param("This is that server"));
    }
    let rejected = if asked.invites { reject_all(&app, &server).await? } else { Rejected::default() };
    let (files, more_files) = if asked.media { app.media.forget_server(&server).await? } else { (0, false) };
    let (people, more_people) =
        if asked.directory { app.people.forget_server(&server).await? } else { (0, false) };
    Ok(answer(json!({
        "invites": rejected.rejected,
        "invites_failed": rejected.failed,
        "media": files,
        "people": people,
        "more": rejected.more || more_files || more_people,
    })))
}

/// Rejects what invites of all local users came from there, up to a bound.
async fn reject_all(app: &App, server: &ServerName) -> Result<Rejected, Failure> {
    let by = InvitedBy { sender: None, server: Some(server.to_owned()) };
    let (mut after, mut done) = (None::<OwnedUserId>, Rejected::default());
    loop {
        let users = app.accounts.users(after.as_deref(), SCAN_ROWS_MAX).await?;
        let Some((last, _)) = users.last() else { return Ok(done) };
        after = Some(last.clone());
        for (user, _) in users {
            done = app.rooms.reject_invites(&user, &by, None, done).await?;
            if done.more {
                return Ok(done);
            }
        }
    }
}
