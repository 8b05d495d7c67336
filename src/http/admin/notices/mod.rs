//! Server notices, for administrators.

use http::Method;

use super::{add, admit, answer};
use crate::http::Routes;

mod send;

/// Adds the endpoints of this area.
pub(super) fn routes(routes: &mut Routes) {
    add(routes, Method::POST, "/_synapse/admin/v1/send_server_notice", |app, call| {
        Box::pin(send::handle(app, call))
    });
    add(routes, Method::PUT, "/_synapse/admin/v1/send_server_notice/{txn_id}", |app, call| {
        Box::pin(send::handle(app, call))
    });
}

#[cfg(test)]
mod tests;
