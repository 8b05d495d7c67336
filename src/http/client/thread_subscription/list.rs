//! `GET /_matrix/client/v1/thread_subscriptions`
//!
//! <https://github.com/matrix-org/matrix-spec-proposals/pull/4308>

use std::collections::BTreeMap;

use axum::{
    Json,
    extract::Query,
    response::{IntoResponse, Response},
};
use ruma::{OwnedEventId, OwnedRoomId};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::{
    http::{
        App, Call, Failure,
        client::read::scene::{boundary, token},
    },
    types::Position,
};

/// The query.
#[derive(Debug, Deserialize)]
struct Parameters {
    dir: Option<String>,
    from: Option<String>,
    to: Option<String>,
    limit: Option<usize>,
}

/// The body of the answer: by room and root of the thread.
#[derive(Debug, Default, Serialize)]
struct Answer {
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    subscribed: BTreeMap<OwnedRoomId, BTreeMap<OwnedEventId, Value>>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    unsubscribed: BTreeMap<OwnedRoomId, BTreeMap<OwnedEventId, Value>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    end: Option<String>,
}

/// Answers the request.
pub(super) async fn handle(app: App, call: Call) -> Result<Response, Failure> {
    let caller = call.caller.ok_or_else(Failure::missing_token)?;
    let Query(parameters) = Query::<Parameters>::try_from_uri(&call.parts.uri)
        .map_err(|error| Failure::invalid_param(error.body_text()))?;
    if parameters.dir.is_some_and(|dir| dir != "b") {
        return Err(Failure::invalid_param("Thread subscriptions are paged backwards only"));
    }
    let read = |token: Option<String>| token.map(|token| boundary(&token)).transpose();
    let newest = read(parameters.from)?.unwrap_or(Position::MAX);
    let oldest = read(parameters.to)?.unwrap_or(Position::ZERO);
    let page = app
        .ephemeral
        .subscriptions(&caller.user_id, (oldest, newest), parameters.limit)
        .await
        .map_err(Failure::from)?;
    let mut answer = Answer { end: page.more.map(token), ..Answer::default() };
    for (at, change) in page.changes {
        let (of, value) = match change.subscribed {
            true => (&mut answer.subscribed, json!({ "automatic": change.automatic, "bump_stamp": at })),
            false => (&mut answer.unsubscribed, json!({ "bump_stamp": at })),
        };
        of.entry(change.room_id).or_default().insert(change.thread_root, value);
    }
    Ok(Json(answer).into_response())
}
