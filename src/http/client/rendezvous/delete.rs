//! `DELETE /_matrix/client/unstable/io.element.msc4388/rendezvous/{id}`
//!
//! MSC4388: <https://github.com/matrix-org/matrix-spec-proposals/pull/4388>

use ruma::api::client::rendezvous::delete_rendezvous_session::unstable::{Request, Response};

use super::{check_on, gone};
use crate::http::{App, Failure};

pub(super) async fn handle(app: App, request: Request) -> Result<Response, Failure> {
    check_on(&app)?;
    match app.oauth.part(&request.id).await? {
        true => Ok(Response::new()),
        false => Err(gone()),
    }
}
