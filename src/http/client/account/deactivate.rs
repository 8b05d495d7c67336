//! `POST /_matrix/client/v3/account/deactivate`
//!
//! <https://spec.matrix.org/v1.19/client-server-api/#post_matrixclientv3accountdeactivate>

use ruma::{
    OwnedUserId, UserId,
    api::client::account::{
        ThirdPartyIdRemovalStatus,
        deactivate::v3::{Request, Response},
    },
    thirdparty::Medium,
};

use crate::{
    account::{Caller, Target},
    http::{App, Failure, identity::removal, prove},
    identity::{Address, Unbound},
};

pub(super) async fn handle(app: App, caller: Caller, request: Request) -> Result<Response, Failure> {
    prove(&app, ("account/deactivate", &caller), (request.auth.as_ref(), Target::of(request.erase))).await?;
    let unbound = end_at(&app, caller.user_id, (request.erase, request.id_server)).await?;
    Ok(Response::new(removal(unbound)))
}

/// Ends an account.
pub(in crate::http) async fn deactivate(
    app: &App,
    user_id: OwnedUserId,
    erase: bool,
) -> Result<ThirdPartyIdRemovalStatus, Failure> {
    end_at(app, user_id, (erase, None)).await.map(removal)
}

async fn end_at(
    app: &App,
    user_id: OwnedUserId,
    (erase, named): (bool, Option<String>),
) -> Result<Unbound, Failure> {
    // A client that hangs up now does not stop it halfway.
    let ending = app.tasks.spawn(end(app.clone(), user_id, (erase, named)));
    ending.await.map_err(Failure::internal)?
}

/// Has no identity server say any more that an address is the user's. One that is `named` is asked about the addresses
/// of the account too, which may be bound there without our knowledge.
async fn unbind(app: &App, user_id: &UserId, named: Option<String>) -> Result<Unbound, Failure> {
    let mut others = Vec::new();
    if let Some(server) = named.filter(|_| app.identity.is_on()) {
        for (address, _) in app.accounts.addresses(user_id).await? {
            others.push((Address::new(Medium::Email, &address)?, server.clone()));
        }
    }
    Ok(app.identity.leave(user_id, others).await?)
}

/// Ends an account, and forgets what is known of its user beside it.
pub(in crate::http) async fn end(
    app: App,
    user_id: OwnedUserId,
    (erase, named): (bool, Option<String>),
) -> Result<Unbound, Failure> {
    // First, while it can be asked for again.
    let unbound = unbind(&app, &user_id, named).await?;
    app.purge.end_account(&user_id, erase).await?;
    app.ephemeral.forget(&user_id).await?;
    if erase {
        app.reports.forget_reasons(&user_id).await?;
    }
    Ok(unbound)
}
