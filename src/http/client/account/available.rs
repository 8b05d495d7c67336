//! `GET /_matrix/client/v3/register/available`
//!
//! <https://spec.matrix.org/v1.19/client-server-api/#get_matrixclientv3registeravailable>

use ruma::api::client::account::get_username_availability::v3::{Request, Response};

use crate::http::{App, Failure};

pub(super) async fn handle(app: App, request: Request) -> Result<Response, Failure> {
    // On a closed server the answer would only tell strangers who has an account.
    app.accounts.check_registration()?;
    let user = app.accounts.available(&request.username).await?;
    if app.appservices.keeps_user(&user, None) {
        return Err(Failure::exclusive());
    }
    Ok(Response::new(true))
}
