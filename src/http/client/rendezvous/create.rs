//! `POST /_matrix/client/unstable/io.element.msc4388/rendezvous`
//!
//! MSC4388: <https://github.com/matrix-org/matrix-spec-proposals/pull/4388>

use std::time::Duration;

use http::StatusCode;
use ruma::api::client::rendezvous::create_rendezvous_session::unstable_msc4388::{Request, Response};

use super::{check_on, unwritten};
use crate::http::{App, Failure};

pub(super) async fn handle(app: App, request: Request) -> Result<Response, Failure> {
    check_on(&app)?;
    let met = app.oauth.meet(request.data).await;
    let met = met.map_err(|why| unwritten(why, StatusCode::CONFLICT))?;
    let expires_in = Duration::from_millis(met.ends_ms.saturating_sub(app.ports.clock.now_ms()));
    Ok(Response::new(met.id, met.sequence, expires_in))
}
