//! Keys: our own, and those of others of which we are a notary.

use http::Method;
use ruma::api::federation::discovery::{
    get_remote_server_keys::v2 as query_one, get_remote_server_keys_batch::v2 as query_many,
    get_server_keys::v2 as own,
};

use crate::http::{Access, Routes};

mod query;
mod query_batch;
mod server;

pub(super) fn routes(routes: &mut Routes) {
    routes.add::<own::Request, _>(server::handle);
    // Servers of old ask for one key by its id, and identity servers for one by none; the answer is the same.
    for path in ["/_matrix/key/v2/server/{key_id}", "/_matrix/key/v2/server/"] {
        routes.raw(Method::GET, path, Access::Open, server::with_id);
    }
    routes.add::<query_one::Request, _>(query::handle);
    routes.add::<query_many::Request, _>(query_batch::handle);
}
