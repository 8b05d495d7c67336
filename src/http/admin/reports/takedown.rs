//! `POST /_lockstep/admin/v1/reports/{reportId}/takedown`: what was reported is shown to nobody any more.
//!
//! The files that the event shows are quarantined, with all of the same bytes in whatever room, and the event is redacted,
//! also for other servers. Its sender is suspended if that is asked for.

use axum::response::Response;
use ruma::{OwnedServerName, OwnedUserId};
use serde::Deserialize;
use serde_json::json;

use super::{admit, answer, no_such_report, number};
use crate::{
    history::media_addresses,
    http::{App, Call, Failure},
    media::MediaError,
    report::Subject,
    room::RoomError,
};

#[derive(Default, Deserialize)]
#[serde(default)]
struct Asked {
    /// For everybody to read.
    reason: Option<String>,
    /// Whether the sender may say nothing any more, if they are a user of this server.
    suspend: bool,
}

pub(super) async fn handle(app: App, call: Call) -> Result<Response, Failure> {
    admit(&app, &call).await?;
    let number = number(&call)?;
    let asked: Asked = call.json_or_default()?;
    let report = app.reports.get(number).await?.ok_or_else(no_such_report)?;
    let Subject::Event { room_id, event_id, sender } = report.subject else {
        return Err(Failure::invalid_param("The report is about no event"));
    };
    let found = app.history.event(&event_id).await?;
    let present = found.as_ref().map(|event| event.pdu.text().to_owned());
    let mut files = media_addresses(&app.reports.evidence(number).await?.unwrap_or_default());
    files.extend(media_addresses(&present.unwrap_or_default()));
    let mut quarantined = Vec::new();
    for (server, id) in files {
        if quarantine(&app, (&server, &id)).await? {
            quarantined.push(format!("mxc://{server}/{id}"));
        }
    }
    let is_gone = found.as_ref().is_none_or(|event| event.notes.redacted_by.is_some());
    let by = call.caller.map(|caller| caller.user_id);
    let redaction = match is_gone {
        true => Ok(()),
        false => redact(&app, (&room_id, &event_id, &sender), (by, asked.reason)).await,
    };
    let suspended =
        asked.suspend && app.history.is_local(&sender) && app.accounts.user(&sender).await?.is_some();
    if suspended {
        app.accounts.change_user(&sender, |user| user.suspended = true).await?;
    }
    let not_redacted = match redaction {
        Ok(()) => None,
        Err(RoomError::Store(error)) => return Err(RoomError::Store(error).into()),
        Err(error) => Some(error.to_string()),
    };
    Ok(answer(json!({
        "quarantined": quarantined,
        "redacted": not_redacted.is_none(),
        "not_redacted": not_redacted,
        "suspended": suspended,
    })))
}

/// Whether the file is shown to nobody; not if it is one of this server that is gone.
async fn quarantine(app: &App, (server, id): (&OwnedServerName, &str)) -> Result<bool, Failure> {
    match app.media.quarantine(server, id, true).await {
        Ok(()) => Ok(true),
        Err(MediaError::NotFound) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

async fn redact(
    app: &App,
    (room, event, sender): (&ruma::RoomId, &ruma::EventId, &ruma::UserId),
    (by, reason): (Option<OwnedUserId>, Option<String>),
) -> Result<(), RoomError> {
    let by = app.rooms.redactor(room, sender, by.as_deref()).await?;
    app.rooms.redact(&by, room, event, (reason, None)).await.map(drop)
}
