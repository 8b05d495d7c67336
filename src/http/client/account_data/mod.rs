//! Account data, tags and filters.

mod create_filter;
mod delete_tag;
mod get_filter;
mod get_global;
mod get_room;
mod get_tags;
mod remove;
mod set_global;
mod set_room;
mod set_tag;

use ruma::UserId;

use crate::{
    account::Caller,
    http::{Failure, Routes},
};

/// Adds the endpoints of this area.
pub(super) fn routes(routes: &mut Routes) {
    routes.add(create_filter::handle);
    routes.add(delete_tag::handle);
    get_filter::routes(routes);
    routes.add(get_global::handle);
    routes.add(get_room::handle);
    get_tags::routes(routes);
    remove::routes(routes);
    routes.add(set_global::handle);
    routes.add(set_room::handle);
    routes.add(set_tag::handle);
    // Types of account data that say who may invite: see `account::InvitePermission`.
    routes.feature("org.matrix.msc4155");
    routes.feature("org.matrix.msc4380");
    routes.feature("org.matrix.msc4380.stable");
    routes.feature("uk.timedout.msc4494");
}

/// Refuses what is not about the caller themselves.
fn own(caller: &Caller, user: &UserId) -> Result<(), Failure> {
    match caller.user_id == user {
        true => Ok(()),
        false => Err(Failure::forbidden("This belongs to another user")),
    }
}
