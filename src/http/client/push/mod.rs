//! Pushers and notifications.

mod get_pushers;
mod notifications;
mod set_pusher;

#[cfg(test)]
mod tests;

use crate::http::Routes;

/// Adds the endpoints of this area.
pub(super) fn routes(routes: &mut Routes) {
    routes.add(get_pushers::handle);
    routes.add(set_pusher::handle);
    routes.add(notifications::handle);
}
