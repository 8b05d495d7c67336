//! `POST /_matrix/client/v1/delayed_events/{delayId}/{action}`
//!
//! <https://github.com/matrix-org/matrix-spec-proposals/pull/4140>

use axum::{
    Json,
    response::{IntoResponse, Response},
};
use serde::Deserialize;
use serde_json::json;

use crate::{
    http::{App, Call, Failure},
    room::Action,
};

/// Answers the request; an access token is not asked for, so that a client can hand the id to somebody
/// who looks whether it is still there.
pub(super) async fn handle(app: App, call: Call) -> Result<Response, Failure> {
    let [id, action] = &call.path[..] else { return Err(Failure::unrecognized()) };
    let action = action_of(action).ok_or_else(Failure::unrecognized)?;
    app.delayed.act(id, action).await?;
    Ok(Json(json!({})).into_response())
}

/// The same with the action in the body, as older clients have it.
pub(super) async fn handle_body(app: App, call: Call) -> Result<Response, Failure> {
    #[derive(Deserialize)]
    struct Body {
        action: Option<String>,
    }
    let body: Body = call.json()?;
    let action = body.action.ok_or_else(|| Failure::missing_param("The action is missing"))?;
    let action = action_of(&action).ok_or_else(|| Failure::invalid_param("There is no such action"))?;
    let [id] = &call.path[..] else { return Err(Failure::unrecognized()) };
    app.delayed.act(id, action).await?;
    Ok(Json(json!({})).into_response())
}

fn action_of(name: &str) -> Option<Action> {
    match name {
        "send" => Some(Action::Send),
        "cancel" => Some(Action::Cancel),
        "restart" => Some(Action::Restart),
        _ => None,
    }
}
