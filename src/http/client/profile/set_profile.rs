//! `PUT` and `PATCH /_matrix/client/unstable/com.beeper.msc4437/profile/{userId}`
//!
//! Hand-written: ruma does not know them. The first replaces a whole profile. The second, which is no longer in the proposal and
//! which matrix-js-sdk has, sets what it names and is answered with all that there is then.
//!
//! <https://github.com/matrix-org/matrix-spec-proposals/pull/4437>

use axum::{
    Json,
    response::{IntoResponse, Response},
};
use ruma::{OwnedUserId, UserId};
use serde_json::json;

use crate::{
    account::Profile,
    http::{App, Call, Failure},
};

pub(super) async fn replace(app: App, call: Call) -> Result<Response, Failure> {
    let (user, fields) = read(&call)?;
    let (before, after) = app.accounts.replace_profile(&user, fields).await?;
    super::show(&app, &user, (&before, &after)).await?;
    Ok(Json(json!({})).into_response())
}

pub(super) async fn merge(app: App, call: Call) -> Result<Response, Failure> {
    let (user, fields) = read(&call)?;
    let (before, after) = app.accounts.merge_profile(&user, fields).await?;
    super::show(&app, &user, (&before, &after)).await?;
    Ok(Json(after).into_response())
}

/// Whose profile it is, who must be the caller, and the fields.
fn read(call: &Call) -> Result<(OwnedUserId, Profile), Failure> {
    let caller = call.caller.as_ref().ok_or_else(Failure::missing_token)?;
    let user = call.path.first().map(UserId::parse).and_then(Result::ok);
    let user = user.ok_or_else(|| Failure::invalid_param("The path names no user"))?;
    super::own(caller, &user)?;
    Ok((user, call.json()?))
}
