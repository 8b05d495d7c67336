//! `PUT /_matrix/client/v3/presence/{userId}/status`
//!
//! <https://spec.matrix.org/v1.19/client-server-api/#put_matrixclientv3presenceuseridstatus>

use ruma::{
    api::client::presence::set_presence::v3::{Request, Response},
    presence::PresenceState,
};

use crate::{
    account::Caller,
    ephemeral::Said,
    http::{App, Failure, Routes},
};

/// Adds the endpoint.
pub(super) fn routes(routes: &mut Routes) {
    routes.add::<Request, _>(handle);
}

async fn handle(app: App, caller: Caller, request: Request) -> Result<Response, Failure> {
    if request.user_id != caller.user_id {
        return Err(Failure::forbidden("Nobody says how somebody else is"));
    }
    let said = match request.presence {
        PresenceState::Online => Said::Online,
        PresenceState::Unavailable => Said::Unavailable,
        PresenceState::Offline => Said::Offline,
        _ => return Err(Failure::invalid_param("Unknown state of presence")),
    };
    app.ephemeral.set_presence(&caller.user_id, &caller.device_id, said, request.status_msg).await?;
    Ok(Response::new())
}
