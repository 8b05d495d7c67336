//! What application services ask, and what users ask of them: networks beyond Matrix.

mod ping;
mod room_visibility;
mod third_party;

#[cfg(test)]
mod meeting_tests;
#[cfg(test)]
mod tests;

use crate::http::Routes;

/// Adds the endpoints of this area.
pub(super) fn routes(routes: &mut Routes) {
    routes.add(ping::handle);
    routes.add(room_visibility::handle);
    third_party::routes(routes);
}
