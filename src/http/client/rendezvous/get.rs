//! `GET /_matrix/client/unstable/io.element.msc4388/rendezvous/{id}`
//!
//! MSC4388: <https://github.com/matrix-org/matrix-spec-proposals/pull/4388>

use std::time::Duration;

use ruma::api::client::rendezvous::get_rendezvous_session::unstable::{Request, Response};

use super::{check_on, gone};
use crate::http::{App, Failure};

pub(super) async fn handle(app: App, request: Request) -> Result<Response, Failure> {
    check_on(&app)?;
    let met = app.oauth.meeting(&request.id).await?.ok_or_else(gone)?;
    let expires_in = Duration::from_millis(met.ends_ms.saturating_sub(app.ports.clock.now_ms()));
    Ok(Response::new(met.sequence, met.data, expires_in))
}
