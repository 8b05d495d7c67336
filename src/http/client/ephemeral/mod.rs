//! Typing, receipts, read markers and presence.

use serde::Deserialize;

use crate::{ephemeral::Moves, http::Routes};

mod get_presence;
mod read_markers;
mod receipt;
mod set_presence;
#[cfg(test)]
mod tests;
mod typing;

/// Adds the endpoints of this area.
pub(super) fn routes(routes: &mut Routes) {
    typing::routes(routes);
    receipt::routes(routes);
    read_markers::routes(routes);
    get_presence::routes(routes);
    set_presence::routes(routes);
    routes.feature("com.beeper.msc4446");
}

/// Whether the fully-read marker may be moved back; what ruma's types leave out.
///
/// <https://github.com/matrix-org/matrix-spec-proposals/pull/4446>
#[derive(Default, Deserialize)]
struct Backward {
    #[serde(rename = "com.beeper.allow_backward", default)]
    unstable: bool,
    #[serde(rename = "allow_backward", default)]
    stable: bool,
}

impl Backward {
    fn moves(&self) -> Moves {
        if self.unstable || self.stable { Moves::Anywhere } else { Moves::Forward }
    }
}
