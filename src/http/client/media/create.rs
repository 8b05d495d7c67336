//! `POST /_matrix/media/v1/create`
//!
//! <https://spec.matrix.org/v1.19/client-server-api/#post_matrixmediav1create>

use ruma::{
    MilliSecondsSinceUnixEpoch, UInt,
    api::client::media::create_mxc_uri::v1::{Request, Response},
};

use crate::{
    account::Caller,
    http::{App, Failure, Routes},
};

/// Adds the endpoint.
pub(super) fn routes(routes: &mut Routes) {
    routes.add(handle);
}

async fn handle(app: App, caller: Caller, _: Request) -> Result<Response, Failure> {
    let reserved = app.media.reserve(&caller.user_id).await?;
    let mut response = Response::new(reserved.uri);
    response.unused_expires_at = UInt::try_from(reserved.expires_ms).ok().map(MilliSecondsSinceUnixEpoch);
    Ok(response)
}
