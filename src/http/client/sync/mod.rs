//! Sync.

use crate::http::Routes;

mod sliding;
mod v3;

/// Adds the endpoints of this area.
pub(super) fn routes(routes: &mut Routes) {
    v3::route(routes);
    sliding::route(routes);
}

#[cfg(test)]
mod tests;
