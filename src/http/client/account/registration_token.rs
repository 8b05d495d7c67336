//! `GET /_matrix/client/v1/register/m.login.registration_token/validity`
//!
//! <https://spec.matrix.org/v1.19/client-server-api/#get_matrixclientv1registermloginregistration_tokenvalidity>

use ruma::api::client::account::check_registration_token_validity::v1::{Request, Response};

use crate::http::{App, Failure};

pub(super) async fn handle(app: App, request: Request) -> Result<Response, Failure> {
    app.accounts.check_registration()?;
    Ok(Response::new(app.accounts.is_registration_token(&request.token).await?))
}
