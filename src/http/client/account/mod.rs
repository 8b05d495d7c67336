//! Registration, login, sessions, profiles, account data, filters.

use crate::http::Routes;

/// Adds the endpoints of this area.
pub(super) fn routes(_routes: &mut Routes) {}
