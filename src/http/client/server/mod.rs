//! What this server is and can do: versions, capabilities, discovery.

use crate::http::Routes;

mod capabilities;
pub(in crate::http) mod versions;
mod well_known;

/// Adds the endpoints of this area.
pub(super) fn routes(routes: &mut Routes) {
    capabilities::routes(routes);
    well_known::routes(routes);
}
