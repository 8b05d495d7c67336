//! `PUT /_matrix/client/v3/rooms/{roomId}/redact/{eventId}/{txnId}`
//!
//! <https://spec.matrix.org/v1.19/client-server-api/#put_matrixclientv3roomsroomidredacteventidtxnid>

use std::collections::BTreeSet;

use ruma::{
    EventId, RoomId,
    api::client::redact::redact_event::v3::{Request, Response},
};
use serde::Deserialize;

use crate::{
    account::Caller,
    http::{App, Body, Failure, standing},
    limits::{ERRANDS_RETRY_AFTER, RELATED_REDACTIONS_MAX, RELATION_KINDS_MAX},
    room::{RoomError, Txn},
};

/// What ruma's type leaves out.
///
/// <https://github.com/matrix-org/matrix-spec-proposals/pull/3912>
#[derive(Deserialize)]
struct Wider {
    /// What relates to the event in one of these ways is to be redacted too; `*` stands for all.
    #[serde(rename = "org.matrix.msc3912.with_relations", default)]
    kinds: BTreeSet<String>,
}

/// Answers the request. What relates to the event is redacted afterwards, and once: who repeats the request is only answered.
pub(super) async fn handle(
    app: App,
    caller: Caller,
    body: Body,
    request: Request,
) -> Result<Response, Failure> {
    let wider: Wider = body.json()?;
    if wider.kinds.len() > RELATION_KINDS_MAX {
        return Err(Failure::invalid_param(format!(
            "At most {RELATION_KINDS_MAX} ways to relate may be named"
        )));
    }
    let Request { room_id, event_id, txn_id, reason, .. } = request;
    standing::redacts(&app, &caller, &event_id).await?;
    let txn = Txn { device: caller.device_id.clone(), id: txn_id.to_string() };
    let is_done =
        wider.kinds.is_empty() || app.rooms.has_redacted(&caller.user_id, &room_id, &event_id, &txn).await?;
    let errand = match is_done {
        true => None,
        false => {
            let errand = app.errands.begin(&caller.user_id);
            Some(errand.ok_or_else(|| Failure::limit_exceeded(ERRANDS_RETRY_AFTER))?)
        }
    };
    let message = (reason.clone(), Some(txn.clone()));
    let redaction = app.rooms.redact(&caller.user_id, &room_id, &event_id, message).await?;
    if let Some(errand) = errand {
        let services = app.clone();
        app.tasks.spawn(async move {
            let related = redact_related(&services, (&caller, &room_id, &event_id), (wider, reason, txn));
            tokio::select! {
                () = services.stopping.cancelled() => {}
                done = errand.run(related) => if let Err(error) = done {
                    tracing::warn!(
                        room.id = %room_id, event.id = %event_id, ?error,
                        "not all that relates to {event_id} is redacted"
                    );
                }
            }
        });
    }
    Ok(Response::new(redaction))
}

/// Redacts what relates to an event, as far as the caller may: the rest stays. Each redaction has a transaction of its own,
/// so that a request that is repeated makes no more of them.
async fn redact_related(
    app: &App,
    (caller, room, target): (&Caller, &RoomId, &EventId),
    (wider, reason, txn): (Wider, Option<String>, Txn),
) -> Result<(), Failure> {
    let kinds: Vec<String> = wider.kinds.into_iter().collect();
    for related in app.history.related_to(target, &kinds, RELATED_REDACTIONS_MAX).await? {
        if standing::redacts(app, caller, &related).await.is_err() {
            continue;
        }
        let txn = Txn { id: format!("{}~{related}", txn.id), ..txn.clone() };
        match app.rooms.redact(&caller.user_id, room, &related, (reason.clone(), Some(txn))).await {
            Err(RoomError::Store(error)) => return Err(error.into()),
            Err(error) => {
                tracing::debug!(room.id = %room, event.id = %related, %error, "{related} stays as it is");
            }
            Ok(_) => {}
        }
    }
    Ok(())
}
