//! Questions of other servers.

mod claim;
mod devices;
mod directory;
mod hierarchy;
mod keys;
mod other;
mod profile;
mod public_rooms;
mod public_rooms_filtered;
mod timestamp;

use crate::http::Routes;

/// Adds the endpoints of this area.
pub(super) fn routes(routes: &mut Routes) {
    routes.add(claim::handle);
    routes.add(devices::handle);
    routes.add(directory::handle);
    routes.add(hierarchy::handle);
    routes.add(keys::handle);
    routes.add(other::handle);
    routes.add(profile::handle);
    routes.add(public_rooms::handle);
    routes.add(public_rooms_filtered::handle);
    routes.add(timestamp::handle);
}
