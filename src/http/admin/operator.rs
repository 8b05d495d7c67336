//! How a command of the operator's proves that it may read the secret in the data folder.
//!
//! The proof is an HMAC-SHA256 of the moment and the whole request by that secret, so that nobody who overhears it can
//! ask for anything else, nor later.

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use subtle::ConstantTimeEq;

use crate::{
    account::{Caller, Standing},
    http::{App, Call, Failure, Peer},
    limits::OPERATOR_PROOF_MS,
};

/// The header that carries the proof: the moment in milliseconds since 1970, a colon, and the MAC in hexadecimal.
pub const PROOF: &str = "x-lockstep-operator";

/// What [`PROOF`] has to say for a request: its method, its path with the query, and its body.
#[must_use]
pub fn proof(secret: &str, now_ms: u64, (method, target, body): (&str, &str, &[u8])) -> String {
    let mut mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).expect("a secret may have any length");
    for part in ["lockstep operator", &now_ms.to_string(), method, target] {
        mac.update(part.as_bytes());
        mac.update(&[0]);
    }
    mac.update(body);
    let mac: String = mac.finalize().into_bytes().iter().map(|byte| format!("{byte:02x}")).collect();
    format!("{now_ms}:{mac}")
}

/// Refuses whoever is neither an administrator nor has proved to be the operator.
pub(super) async fn admit(app: &App, call: &Call) -> Result<(), Failure> {
    if let Some(given) = call.parts.headers.get(PROOF) {
        return match is_proof(app, call, given.as_bytes()) {
            true => Ok(()),
            false => Err(Failure::forbidden("That is no proof of being the operator, or it is too old")),
        };
    }
    let caller = call.caller.as_ref().ok_or_else(Failure::missing_token)?;
    match is_administrator(app, caller, &call.peer).await? {
        true => Ok(()),
        false => Err(Failure::forbidden("Only administrators of the server may do this")),
    }
}

/// Whether the caller is an administrator in good standing, and not an application service that acts in the name of
/// one. Who was suspended could make that undone otherwise.
///
/// # Errors
/// When the store fails.
pub async fn is_administrator(app: &App, caller: &Caller, peer: &Peer) -> Result<bool, Failure> {
    let user = app.accounts.user(&caller.user_id).await?;
    let is_one = user.is_some_and(|user| user.admin && user.standing() == Standing::Good);
    Ok(is_one && peer.appservice.is_none())
}

fn is_proof(app: &App, call: &Call, given: &[u8]) -> bool {
    let moment = std::str::from_utf8(given).ok().and_then(|given| given.split_once(':'));
    let Some(moment) = moment.and_then(|(moment, _)| moment.parse::<u64>().ok()) else { return false };
    let target = call.parts.uri.path_and_query().map_or("/", |target| target.as_str());
    let request = (call.parts.method.as_str(), target, &*call.body);
    let expected = proof(&app.registration_secret, moment, request);
    app.ports.clock.now_ms().abs_diff(moment) <= OPERATOR_PROOF_MS
        && bool::from(expected.as_bytes().ct_eq(given))
}
