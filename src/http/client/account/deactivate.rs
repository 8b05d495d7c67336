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
    account::{Caller, Target},
    http::{App, Failure, prove},
};

pub(super) async fn handle(app: App, caller: Caller, request: Request) -> Result<Response, Failure> {
    prove(&app, ("account/deactivate", &caller), (request.auth.as_ref(), Target::of(request.erase))).await?;
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

/// Ends an account, and forgets what is known of its user beside it.
pub(in crate::http) async fn end(app: App, user_id: OwnedUserId, erase: bool) -> Result<(), Failure> {
    app.purge.end_account(&user_id, erase).await?;
    app.ephemeral.forget(&user_id).await?;
    if erase {
        app.reports.forget_reasons(&user_id).await?;
    }
    Ok(())
}
