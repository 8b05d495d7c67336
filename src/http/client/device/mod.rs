//! Devices, dehydrated devices, to-device messages.

use http::Method;

use crate::http::{Access, Routes};

mod dehydrated_delete;
mod dehydrated_events;
mod dehydrated_get;
mod dehydrated_put;
mod delete_device;
mod delete_devices;
mod get_device;
mod get_devices;
mod send_to_device;
mod update_device;

/// Adds the endpoints of this area.
pub(super) fn routes(routes: &mut Routes) {
    routes.add(get_devices::handle);
    routes.add(get_device::handle);
    update_device::route(routes);
    routes.add(delete_device::handle);
    routes.add(delete_devices::handle);
    routes.add(send_to_device::handle);
    routes.feature("org.matrix.msc3814");
    routes.add(dehydrated_put::handle);
    routes.add(dehydrated_get::handle);
    routes.add(dehydrated_delete::handle);
    routes.add(dehydrated_events::handle_post);
    routes.raw(Method::GET, dehydrated_events::PATH, Access::Required, dehydrated_events::handle_get);
}

#[cfg(test)]
mod tests;
