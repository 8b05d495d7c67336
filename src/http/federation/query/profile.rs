//! `GET /_matrix/federation/v1/query/profile`
//!
//! <https://spec.matrix.org/v1.19/server-server-api/#get_matrixfederationv1queryprofile>

use ruma::api::federation::query::get_profile_information::v1::{Request, Response};

use crate::http::{App, Failure, federation::Origin, meet_users};

pub(super) async fn handle(app: App, _: Origin, request: Request) -> Result<Response, Failure> {
    meet_users(&app, std::slice::from_ref(&request.user_id)).await?;
    let field = request.field.as_ref().map(|field| field.as_str());
    let profile = app.federation.profile(&request.user_id, field).await?;
    Ok(profile.into_iter().collect())
}
