//! End-to-end encryption keys.

use http::Method;

use crate::http::{Access, Routes};

mod changes;
mod claim;
mod device_signing;
mod query;
mod signatures;
mod upload;

/// Adds the endpoints of this area.
pub(super) fn routes(routes: &mut Routes) {
    for path in upload::PATHS {
        routes.raw(Method::POST, path, Access::Required, upload::handle);
    }
    routes.add(query::handle);
    routes.add(claim::handle);
    routes.add(changes::handle);
    routes.add(device_signing::handle);
    routes.add(signatures::handle);
}

#[cfg(test)]
mod tests;
