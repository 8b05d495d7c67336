//! `POST /_matrix/client/v3/pushers/set`
//!
//! <https://spec.matrix.org/v1.19/client-server-api/#post_matrixclientv3pushersset>

use ruma::api::client::push::{
    PusherIds,
    set_pusher::v3::{PusherAction, Request, Response},
};

use crate::{
    account::Caller,
    http::{App, Failure},
    push::PusherId,
};

pub(super) async fn handle(app: App, caller: Caller, request: Request) -> Result<Response, Failure> {
    match request.action {
        PusherAction::Post(data) => {
            let now_ms = app.ports.clock.now_ms();
            app.push.set_pusher(&caller, &data.pusher, (data.append, now_ms)).await?;
        }
        PusherAction::Delete(PusherIds { app_id, pushkey, .. }) => {
            app.push.remove_pusher(&PusherId { user_id: caller.user_id, app_id, pushkey }).await?;
        }
    }
    Ok(Response::new())
}
