//! Devices, end-to-end encryption keys, key backup, to-device messages.

use crate::http::Routes;

/// Adds the endpoints of this area.
pub(super) fn routes(_routes: &mut Routes) {}
