//! What this server is and can do: versions, capabilities, discovery.

use crate::http::Routes;

/// Adds the endpoints of this area.
pub(super) fn routes(_routes: &mut Routes) {}
