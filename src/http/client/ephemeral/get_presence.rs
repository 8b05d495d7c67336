//! `GET /_matrix/client/v3/presence/{userId}/status`
//!
//! <https://spec.matrix.org/v1.19/client-server-api/#get_matrixclientv3presenceuseridstatus>

use std::time::Duration;

use ruma::{
    api::client::presence::get_presence::v3::{Request, Response},
    presence::PresenceState,
};

use crate::{
    account::Caller,
    ephemeral::{Said, Seen},
    http::{App, Failure, Routes},
};

/// Adds the endpoint.
pub(super) fn routes(routes: &mut Routes) {
    routes.add::<Request, _>(handle);
}

async fn handle(app: App, caller: Caller, request: Request) -> Result<Response, Failure> {
    let seen = app.ephemeral.presence_for(&caller.user_id, &request.user_id).await?;
    let Seen { presence, currently_active, last_active_ago, status_msg } = seen;
    let mut response = Response::new(match presence {
        Said::Online => PresenceState::Online,
        Said::Unavailable => PresenceState::Unavailable,
        Said::Offline => PresenceState::Offline,
    });
    response.currently_active = Some(currently_active);
    response.last_active_ago = last_active_ago.map(Duration::from_millis);
    response.status_msg = status_msg;
    Ok(response)
}
