//! Other servers, for administrators.

use http::Method;

use super::{add, admit, answer};
use crate::http::Routes;

mod forget;

/// Adds the endpoints of this area.
pub(super) fn routes(routes: &mut Routes) {
    add(routes, Method::POST, "/_lockstep/admin/v1/servers/{server_name}/forget", |app, call| {
        Box::pin(forget::handle(app, call))
    });
}
