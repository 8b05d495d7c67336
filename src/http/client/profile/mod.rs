//! Profiles.

mod delete_field;
mod get_field;
mod get_profile;
mod set_field;

use ruma::UserId;
use serde_json::Value;

use crate::{
    account::Caller,
    http::{App, Failure, Routes},
};

/// Adds the endpoints of this area.
pub(super) fn routes(routes: &mut Routes) {
    routes.add(delete_field::handle);
    routes.add(get_field::handle);
    routes.add(get_profile::handle);
    routes.add(set_field::handle);
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
