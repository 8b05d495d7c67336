//! The administration API, under the paths that Synapse made the custom.

use super::Routes;

mod media;
mod register;

/// Adds the endpoints of the administration API.
pub fn routes(routes: &mut Routes) {
    register::routes(routes);
    media::routes(routes);
}
