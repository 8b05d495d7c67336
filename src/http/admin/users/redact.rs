//! `POST /_synapse/admin/v1/user/{userId}/redact`: what a user of any server said is redacted, in the background; and
//! `GET /_synapse/admin/v1/user/redact_status/{redactId}`: what has become of that.

use axum::response::Response;
use ruma::{OwnedRoomId, UserId};
use serde::Deserialize;
use serde_json::json;

use super::{admit, answer};
use crate::{
    http::{App, Call, Failure},
    limits::USER_REDACTIONS_DEFAULT,
    purge::{UserRedaction, UserRedactionStatus},
};

#[derive(Deserialize)]
struct Asked {
    rooms: Vec<OwnedRoomId>,
    reason: Option<String>,
    limit: Option<usize>,
    #[serde(default)]
    use_admin: Option<bool>,
    after_ts: Option<u64>,
    before_ts: Option<u64>,
}

pub(super) async fn handle(app: App, call: Call) -> Result<Response, Failure> {
    admit(&app, &call).await?;
    let user = call.path.first().and_then(|text| UserId::parse(text.as_str()).ok());
    let user = user.ok_or_else(|| Failure::invalid_param("The path names no user"))?;
    let asked: Asked = call.json()?;
    let limit = asked.limit.unwrap_or(USER_REDACTIONS_DEFAULT);
    if limit == 0 {
        return Err(Failure::invalid_param("`limit` must be greater than 0"));
    }
    let by = call.caller.map(|caller| caller.user_id);
    let by_alone = asked.use_admin.unwrap_or_default();
    if by_alone && by.is_none() {
        return Err(Failure::invalid_param("`use_admin` is for administrators, who have an account"));
    }
    let wanted = UserRedaction {
        user,
        rooms: asked.rooms,
        reason: asked.reason,
        limit,
        after_ms: asked.after_ts,
        before_ms: asked.before_ts,
        by,
        by_alone,
    };
    let id = app.purge.begin_user_redaction(&wanted.user);
    let id = id.ok_or_else(|| Failure::invalid_param("That is being done already"))?;
    let (services, under) = (app.clone(), id.clone());
    app.tasks.spawn(async move {
        tokio::select! {
            () = services.stopping.cancelled() => {}
            () = services.purge.redact_user(&under, &wanted) => {}
        }
    });
    Ok(answer(json!({ "redact_id": id })))
}

pub(super) async fn handle_status(app: App, call: Call) -> Result<Response, Failure> {
    admit(&app, &call).await?;
    let id = call.path.first().map(String::as_str).unwrap_or_default();
    let status = app.purge.user_redaction(id);
    Ok(answer(match status.ok_or_else(|| Failure::not_found("There is no such task"))? {
        UserRedactionStatus::Active => json!({ "status": "active" }),
        UserRedactionStatus::Complete(failed) => json!({ "status": "complete", "failed_redactions": failed }),
        UserRedactionStatus::Failed(error) => json!({ "status": "failed", "error": error }),
    }))
}
