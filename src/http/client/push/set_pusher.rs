//! `POST /_matrix/client/v3/pushers/set`
//!
//! <https://spec.matrix.org/v1.19/client-server-api/#post_matrixclientv3pushersset>

use ruma::api::client::push::{
    PusherIds, PusherKind,
    set_pusher::v3::{PusherAction, Request, Response},
};
use serde::Deserialize;

use crate::{
    account::Caller,
    http::{App, Body, Failure},
    push::{PusherId, PusherSetting},
};

/// What ruma's type leaves out.
///
/// <https://github.com/matrix-org/matrix-spec-proposals/pull/3881>
#[derive(Deserialize)]
struct Switch {
    #[serde(rename = "org.matrix.msc3881.enabled", default = "on")]
    enabled: bool,
}

fn on() -> bool {
    true
}

pub(super) async fn handle(
    app: App,
    caller: Caller,
    body: Body,
    request: Request,
) -> Result<Response, Failure> {
    match request.action {
        PusherAction::Post(data) => {
            let writes = matches!(data.pusher.kind, PusherKind::Email(_));
            if writes && (app.post.is_none() || app.oauth.site().is_none()) {
                return Err(Failure::invalid_param("This server sends no mail"));
            }
            let (Switch { enabled }, now_ms) = (body.json()?, app.ports.clock.now_ms());
            let setting = PusherSetting { append: data.append, disabled: !enabled, now_ms };
            app.push.set_pusher(&caller, &data.pusher, setting).await?;
        }
        PusherAction::Delete(PusherIds { app_id, pushkey, .. }) => {
            app.push.remove_pusher(&PusherId { user_id: caller.user_id, app_id, pushkey }).await?;
        }
    }
    Ok(Response::new())
}
