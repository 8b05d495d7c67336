//! Typing, receipts, read markers and presence.

use crate::http::Routes;

mod get_presence;
mod read_markers;
mod receipt;
mod set_presence;
mod typing;

/// Adds the endpoints of this area.
pub(super) fn routes(routes: &mut Routes) {
    typing::routes(routes);
    receipt::routes(routes);
    read_markers::routes(routes);
    get_presence::routes(routes);
    set_presence::routes(routes);
}
