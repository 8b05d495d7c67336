//! End-to-end encryption keys.

use http::Method;
use ruma::api::{
    Metadata,
    client::keys::{claim_keys, get_keys},
    path_builder::PathBuilder,
};

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
    for path in get_keys::v3::Request::PATH_BUILDER.all_paths() {
        routes.raw(Method::POST, path, Access::Required, query::handle);
    }
    for path in claim_keys::v3::Request::PATH_BUILDER.all_paths() {
        routes.raw(Method::POST, path, Access::Required, claim::handle);
    }
    routes.add(changes::handle);
    routes.add(device_signing::handle);
    routes.add(signatures::handle);
}

#[cfg(test)]
mod bridged_tests;
#[cfg(test)]
mod tests;
