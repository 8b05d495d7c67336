//! The server-server API. Each area lists its endpoints; each endpoint is one file.
//!
//! A handler whose request type wants a server's signature is given the [`Origin`] that has proved its name:
//! `async fn handle(app: App, origin: Origin, request: R) -> Result<Response, Failure>`.

use http::Method;
use ruma::{MilliSecondsSinceUnixEpoch, UInt};

use super::{Access, App, Routes};

mod echo;
mod handshake;
mod key;
mod media;
mod origin;
mod query;
mod room;
mod rtc;
mod send;
mod version;

#[cfg(test)]
mod tests;

pub use origin::Origin;
pub(super) use origin::prove;

/// Adds every endpoint of the server-server API.
pub fn routes(routes: &mut Routes) {
    routes.add::<ruma::api::federation::discovery::get_server_version::v1::Request, _>(version::handle);
    routes.raw(Method::GET, echo::PATH, Access::Signed, echo::handle);
    key::routes(routes);
    routes.add::<ruma::api::federation::transactions::send_transaction_message::v1::Request, _>(send::handle);
    room::routes(routes);
    handshake::routes(routes);
    query::routes(routes);
    media::routes(routes);
    rtc::routes(routes);
}

/// The areas whose answers may have events of rooms in them.
#[cfg(test)]
pub(super) fn looking(routes: &mut Routes) {
    room::routes(routes);
    handshake::routes(routes);
    query::routes(routes);
}

/// The moment that an answer bears.
fn now(app: &App) -> MilliSecondsSinceUnixEpoch {
    MilliSecondsSinceUnixEpoch(UInt::try_from(app.ports.clock.now_ms()).unwrap_or(UInt::MAX))
}
