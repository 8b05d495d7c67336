//! Profiles.

mod delete_field;
mod get_field;
mod get_profile;
mod set_field;
mod set_profile;

use http::Method;
use ruma::UserId;
use serde_json::Value;

use crate::{
    account::{Caller, Profile},
    http::{Access, App, Failure, Routes},
};

/// A whole profile: where the proposal has it, and where matrix-js-sdk asks for it, of servers of version 1.16 and of older ones.
const WHOLE: [&str; 3] = [
    "/_matrix/client/unstable/com.beeper.msc4437/profile/{user_id}",
    "/_matrix/client/unstable/uk.tcpip.msc4133/profile/{user_id}",
    "/_matrix/client/v3/profile/{user_id}",
];

/// Adds the endpoints of this area.
pub(super) fn routes(routes: &mut Routes) {
    routes.add(delete_field::handle);
    routes.add(get_field::handle);
    routes.add(get_profile::handle);
    routes.add(set_field::handle);
    for path in WHOLE {
        routes.raw(Method::PUT, path, Access::Required, set_profile::replace);
        routes.raw(Method::PATCH, path, Access::Required, set_profile::merge);
    }
    routes.feature("com.beeper.msc4437");
    // Fields of any name, under the path of the proposal and that of the specification.
    routes.feature("uk.tcpip.msc4133");
    routes.feature("uk.tcpip.msc4133.stable");
}

/// Refuses what is not about the caller themselves.
fn own(caller: &Caller, user: &UserId) -> Result<(), Failure> {
    match caller.user_id == user {
        true => Ok(()),
        false => Err(Failure::forbidden("This belongs to another user")),
    }
}

/// Sets or removes a field.
pub(in crate::http) async fn change(
    app: &App,
    user_id: &UserId,
    name: &str,
    value: Option<Value>,
) -> Result<(), Failure> {
    app.accounts.set_profile_field(user_id, name, value).await?;
    if matches!(name, "displayname" | "avatar_url") {
        app.rooms.update_member_profile(user_id).await?;
    }
    Ok(())
}

/// Shows what a profile has become in the rooms of its user, if that shows there; one event for each room.
async fn show(app: &App, user_id: &UserId, (before, after): (&Profile, &Profile)) -> Result<(), Failure> {
    if ["displayname", "avatar_url"].iter().any(|name| before.get(*name) != after.get(*name)) {
        app.rooms.update_member_profile(user_id).await?;
    }
    Ok(())
}

#[cfg(test)]
mod tests;
