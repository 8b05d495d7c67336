//! `PUT /_matrix/client/unstable/io.element.msc4388/rendezvous/{id}`
//!
//! MSC4388: <https://github.com/matrix-org/matrix-spec-proposals/pull/4388>

use http::StatusCode;
use ruma::api::client::rendezvous::update_rendezvous_session::unstable::{Request, Response};

use super::{check_on, unwritten};
use crate::http::{App, Failure};

pub(super) async fn handle(app: App, request: Request) -> Result<Response, Failure> {
    check_on(&app)?;
    let said = app.oauth.say(&request.id, &request.sequence_token, request.data).await;
    Ok(Response::new(said.map_err(|why| unwritten(why, StatusCode::CONFLICT))?.sequence))
}
