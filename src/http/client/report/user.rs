//! `POST /_matrix/client/v3/users/{userId}/report`
//!
//! <https://spec.matrix.org/v1.19/client-server-api/#post_matrixclientv3usersuseridreport>

use ruma::api::client::reporting::report_user::v3::{Request, Response};

use crate::{
    account::Caller,
    http::{App, Failure},
};

/// Answers the request.
pub(super) async fn handle(app: App, caller: Caller, request: Request) -> Result<Response, Failure> {
    app.reports.of_user(&caller.user_id, &request.user_id, request.reason).await?;
    Ok(Response::new())
}
