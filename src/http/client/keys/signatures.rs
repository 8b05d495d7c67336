//! `POST /_matrix/client/v3/keys/signatures/upload`
//!
//! <https://spec.matrix.org/v1.19/client-server-api/#post_matrixclientv3keyssignaturesupload>

use ruma::api::client::keys::upload_signatures::v3;
use serde_json::json;

use crate::{
    account::Caller,
    device::{SignatureFailure, SignedKeys},
    http::{App, Failure},
};

/// Publishes signatures that the caller's keys made.
pub(super) async fn handle(app: App, caller: Caller, request: v3::Request) -> Result<v3::Response, Failure> {
    let signed: SignedKeys = request
        .signed_keys
        .iter()
        .map(|(user, keys)| {
            let keys = keys.iter().map(|(target, object)| (target.to_owned(), object.to_owned())).collect();
            (user.clone(), keys)
        })
        .collect();
    let failures = app.devices.upload_signatures(&caller.user_id, &signed).await?;
    let mut response = v3::Response::new();
    for (user, failures) in failures {
        let of_user = response.failures.entry(user).or_default();
        for (target, failure) in failures {
            of_user.insert(target, render(failure)?);
        }
    }
    Ok(response)
}

fn render(failure: SignatureFailure) -> Result<v3::Failure, Failure> {
    let (errcode, error) = failure.describe();
    // The fields of ruma's type cannot be set in any other way.
    serde_json::from_value(json!({ "errcode": errcode, "error": error })).map_err(Failure::internal)
}
