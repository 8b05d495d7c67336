//! Reporting events, rooms and users to those who run the server.

mod event;
mod room;
mod user;

use crate::http::Routes;

/// Adds the endpoints of this area.
pub(super) fn routes(routes: &mut Routes) {
    routes.add(event::handle);
    routes.add(room::handle);
    routes.add(user::handle);
}

#[cfg(test)]
mod tests;
