//! The client-server API. Each area lists its endpoints; each endpoint is one file.

use super::Routes;

mod account;
mod device;
mod ephemeral;
mod push;
mod room;
pub(in crate::http) mod server;
mod sync;

/// Adds every endpoint of the client-server API.
pub fn routes(routes: &mut Routes) {
    server::routes(routes);
    account::routes(routes);
    device::routes(routes);
    room::routes(routes);
    sync::routes(routes);
    push::routes(routes);
    ephemeral::routes(routes);
}
