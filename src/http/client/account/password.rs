//! `POST /_matrix/client/v3/account/password`
//!
//! <https://spec.matrix.org/v1.19/client-server-api/#post_matrixclientv3accountpassword>

use ruma::api::client::account::change_password::v3::{Request, Response};

use crate::{
    account::{Caller, Target},
    http::{App, Failure, Peer, prove, throttle::network},
};

/// Whoever has forgotten the password is not logged in, and proves an address instead.
pub(super) async fn handle(
    app: App,
    caller: Option<Caller>,
    peer: Peer,
    request: Request,
) -> Result<Response, Failure> {
    let (auth, password) = (request.auth.as_ref(), &request.new_password);
    let user_id = match &caller {
        Some(caller) => {
            let target = Target::of((password, request.logout_devices));
            let verified = prove(&app, ("account/password", caller), (auth, target)).await?;
            app.accounts.replace_password(&verified, password).await?;
            caller.user_id.clone()
        }
        None if app.post.is_none() => return Err(Failure::missing_token()),
        None => {
            let (user_id, proved) = app.accounts.authorize_reset(auth, peer.ip.map(network)).await?;
            app.accounts.reset_password(&user_id, password, &proved).await?;
            user_id
        }
    };
    if request.logout_devices {
        let keep = caller.as_ref().map(|caller| &*caller.device_id);
        app.devices.remove_all(&user_id, keep).await?;
    }
    Ok(Response::new())
}
