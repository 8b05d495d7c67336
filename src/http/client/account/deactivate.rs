//! `POST /_matrix/client/v3/account/deactivate`
//!
//! <https://spec.matrix.org/v1.19/client-server-api/#post_matrixclientv3accountdeactivate>

use ruma::{
    OwnedUserId,
    api::client::account::{
        ThirdPartyIdRemovalStatus,
        deactivate::v3::{Request, Response},
    },
};

use crate::{
    account::Caller,
    http::{App, Failure, prove},
};

pub(super) async fn handle(app: App, caller: Caller, request: Request) -> Result<Response, Failure> {
    prove(&app, ("account/deactivate", &caller), request.auth.as_ref()).await?;
    deactivate(&app, caller.user_id, request.erase).await?;
    // There are no identifiers to unbind, which the specification calls a success.
    Ok(Response::new(ThirdPartyIdRemovalStatus::Success))
}

/// Ends an account.
pub(in crate::http) async fn deactivate(app: &App, user_id: OwnedUserId, erase: bool) -> Result<(), Failure> {
    // A client that hangs up now does not stop it halfway.
    let ending = app.tasks.spawn(end(app.clone(), user_id, erase));
    ending.await.map_err(Failure::internal)?
}

/// The rooms come first, so that whoever is cut off can ask again; from then on no token is good.
pub(in crate::http) async fn end(app: App, user_id: OwnedUserId, erase: bool) -> Result<(), Failure> {
    app.rooms.leave_all(&user_id).await?;
    if erase {
        app.history.erase(&user_id).await?;
        app.media.delete_of(&user_id).await?;
    }
    app.accounts.deactivate(&user_id, erase).await?;
    app.devices.retire(&user_id).await?;
    Ok(())
}
