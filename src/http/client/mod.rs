//! The client-server API. Each area lists its endpoints; each endpoint is one file.

use super::Routes;

pub(in crate::http) mod account;
pub(in crate::http) use account::deactivate::end as end_account;
mod account_data;
mod appservice;
mod backup;
pub(in crate::http) mod delayed;
mod device;
mod ephemeral;
mod keys;
mod media;
pub(in crate::http) mod moderation;
pub(in crate::http) mod profile;
mod push;
mod push_rules;
pub(in crate::http) mod read;
mod rendezvous;
mod report;
pub(in crate::http) mod room;
pub(in crate::http) mod server;
mod sync;
#[cfg(test)]
pub(in crate::http) mod testing;
mod thread_subscription;
pub(in crate::http) mod voip;

/// Adds every endpoint of the client-server API.
pub fn routes(routes: &mut Routes) {
    server::routes(routes);
    account::routes(routes);
    profile::routes(routes);
    account_data::routes(routes);
    appservice::routes(routes);
    moderation::routes(routes);
    push_rules::routes(routes);
    device::routes(routes);
    keys::routes(routes);
    backup::routes(routes);
    room::routes(routes);
    read::routes(routes);
    rendezvous::routes(routes);
    report::routes(routes);
    sync::routes(routes);
    media::routes(routes);
    push::routes(routes);
    ephemeral::routes(routes);
    thread_subscription::routes(routes);
    voip::routes(routes);
    delayed::routes(routes);
}

/// The areas whose answers may have events of rooms in them.
#[cfg(test)]
pub(super) fn looking(routes: &mut Routes) {
    room::routes(routes);
    read::routes(routes);
    sync::routes(routes);
    push::routes(routes);
}
