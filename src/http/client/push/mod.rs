//! Pushers and notifications.

mod get_pushers;
mod notifications;
mod set_pusher;

#[cfg(test)]
mod tests;

use http::Method;
use ruma::api::{Metadata, client::push::get_pushers as getting, path_builder::PathBuilder};

use crate::http::{Access, Routes};

/// Adds the endpoints of this area.
pub(super) fn routes(routes: &mut Routes) {
    for path in getting::v3::Request::PATH_BUILDER.all_paths() {
        routes.raw(Method::GET, path, Access::Required, get_pushers::handle);
    }
    routes.add(set_pusher::handle);
    routes.add(notifications::handle);
    routes.feature("org.matrix.msc3881");
}
