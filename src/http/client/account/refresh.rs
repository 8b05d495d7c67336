//! `POST /_matrix/client/v3/refresh`
//!
//! <https://spec.matrix.org/v1.19/client-server-api/#post_matrixclientv3refresh>

use ruma::api::client::session::refresh_token::v3::{Request, Response};

use crate::http::{App, Failure};

pub(super) async fn handle(app: App, request: Request) -> Result<Response, Failure> {
    let session = app.accounts.refresh(&request.refresh_token, None).await?;
    let mut response = Response::new(session.access_token);
    response.refresh_token = session.refresh_token;
    response.expires_in_ms = session.expires_in;
    Ok(response)
}
