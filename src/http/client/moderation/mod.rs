//! What administrators do about accounts: lock and suspend them, and see where they are used.
//!
//! <https://spec.matrix.org/v1.19/client-server-api/#account-moderation>

mod get_lock;
mod get_suspend;
mod set_lock;
mod set_suspend;
pub(in crate::http) mod whois;

use ruma::UserId;

use crate::{
    account::{Caller, User},
    http::{App, Failure, Peer, Routes, admin::is_administrator},
};

/// Adds the endpoints of this area.
pub(super) fn routes(routes: &mut Routes) {
    routes.add(get_lock::handle);
    routes.add(get_suspend::handle);
    routes.add(set_lock::handle);
    routes.add(set_suspend::handle);
    routes.add(whois::handle);
}

/// The account `user`, for administrators, unless it is one of theirs.
async fn examine(app: &App, (caller, peer): (&Caller, &Peer), user: &UserId) -> Result<User, Failure> {
    let found = examine_any(app, (caller, peer), user).await?;
    match found.admin && user != caller.user_id {
        true => Err(Failure::forbidden("The user is an administrator too")),
        false => Ok(found),
    }
}

/// The account `user`, for administrators. Whether the caller is one comes first, so that nobody else
/// learns who has an account.
async fn examine_any(app: &App, (caller, peer): (&Caller, &Peer), user: &UserId) -> Result<User, Failure> {
    if !is_administrator(app, caller, peer).await? {
        return Err(Failure::forbidden("Only administrators of the server may do this"));
    }
    if user.server_name() != app.server_name {
        return Err(Failure::invalid_param("The user belongs to another server"));
    }
    let found = app.accounts.user(user).await?.filter(|user| !user.deactivated);
    found.ok_or_else(|| Failure::not_found("There is no such user"))
}

/// As [`examine`], for those who are to be locked or suspended.
async fn change(
    app: &App,
    (caller, peer): (&Caller, &Peer),
    user: &UserId,
    change: impl Fn(&mut User),
) -> Result<(), Failure> {
    examine(app, (caller, peer), user).await?;
    if user == caller.user_id {
        return Err(Failure::forbidden("Nobody can do this to their own account"));
    }
    Ok(app.accounts.change_user(user, change).await?)
}

#[cfg(test)]
mod tests;
