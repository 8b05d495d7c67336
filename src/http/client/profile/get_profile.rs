//! `GET /_matrix/client/v3/profile/{userId}`
//!
//! <https://spec.matrix.org/v1.19/client-server-api/#get_matrixclientv3profileuserid>

use ruma::api::client::profile::get_profile::v3::{Request, Response};

use crate::http::{App, Failure};

pub(super) async fn handle(app: App, request: Request) -> Result<Response, Failure> {
    let profile = app.federation.profile_of(&request.user_id, None).await?;
    Ok(Response { data: profile.into_iter().collect() })
}
