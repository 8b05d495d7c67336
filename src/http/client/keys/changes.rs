//! `GET /_matrix/client/v3/keys/changes`
//!
//! <https://spec.matrix.org/v1.19/client-server-api/#get_matrixclientv3keyschanges>

use ruma::api::client::keys::get_key_changes::v3;

use crate::{
    account::Caller,
    http::{App, Failure},
    types::{Cursor, Position},
};

/// Tells whose devices the caller has to look up anew.
pub(super) async fn handle(app: App, caller: Caller, request: v3::Request) -> Result<v3::Response, Failure> {
    let parse = |token: &str| {
        token.parse::<Cursor>().map_err(|error| Failure::invalid_param(format!("{token}: {error}")))
    };
    let (from, to) = (parse(&request.from)?.log, parse(&request.to)?.log);
    if from >= to {
        return Ok(v3::Response::new(Vec::new(), Vec::new()));
    }
    // Of whoever has changed once more since, only that is still known, maybe of a moment that is yet to be told.
    let span = (from, Position::MAX);
    let changes = app.devices.list_changes(&app.history, &caller.user_id, span, None).await?;
    Ok(v3::Response::new(changes.changed.into_iter().collect(), changes.left.into_iter().collect()))
}
