//! `POST /_matrix/client/v3/keys/claim`
//!
//! <https://spec.matrix.org/v1.19/client-server-api/#post_matrixclientv3keysclaim>

use ruma::api::client::keys::claim_keys::v3;

use super::query::failures;
use crate::{
    account::Caller,
    http::{App, Failure},
};

/// Gives out one-time keys.
pub(super) async fn handle(app: App, _: Caller, request: v3::Request) -> Result<v3::Response, Failure> {
    let mut claimed = app.devices.claim_keys(&request.one_time_keys).await?;
    let asked = (request.timeout, &mut claimed);
    app.devices.claim_from_others(&app.peers, &request.one_time_keys, asked).await;
    Ok(v3::Response { failures: failures(&claimed.unreachable), one_time_keys: claimed.keys })
}
