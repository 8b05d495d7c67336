//! `GET /_matrix/client/v3/profile/{userId}`
//!
//! <https://spec.matrix.org/v1.19/client-server-api/#get_matrixclientv3profileuserid>

use ruma::api::client::profile::get_profile::v3::{Request, Response};

use crate::http::{App, Failure, meet_users};

pub(super) async fn handle(app: App, request: Request) -> Result<Response, Failure> {
    meet_users(&app, std::slice::from_ref(&request.user_id)).await?;
    let profile = app.federation.profile_of(&request.user_id, None).await?;
    Ok(Response { data: profile.into_iter().collect() })
}
