//! `GET /_matrix/client/unstable/io.element.msc4388/rendezvous`
//!
//! MSC4388: <https://github.com/matrix-org/matrix-spec-proposals/pull/4388>

use ruma::api::client::rendezvous::discover_rendezvous::unstable::{Request, Response};

use super::check_on;
use crate::http::{App, Failure};

/// Everybody may begin a session: the new device has no account yet.
pub(super) async fn handle(app: App, _: Request) -> Result<Response, Failure> {
    check_on(&app)?;
    Ok(Response::new(true))
}
