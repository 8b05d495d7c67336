//! What a provider says about somebody, and whether it is the provider that says it.

use http::StatusCode;
use jsonwebtoken::{Algorithm, DecodingKey, Validation, decode, decode_header, jwk::JwkSet};
use serde_json::{Map, Value};

use super::{ProviderSettings, remote::Known};
use crate::{
    account::AccountError, limits::PROVIDER_SKEW_MS, log::CommitError, oauth::OauthError, peer::NetError,
    store::StoreError,
};

/// Why nobody could be signed in by a provider.
#[derive(Debug, thiserror::Error)]
pub enum ProviderError {
    /// There is no such provider.
    #[error("there is no such provider")]
    Unknown,
    /// The browser comes back with something that it was not sent away with, or too late.
    #[error("the sign-in is out of date")]
    Stale,
    /// The user, or the provider, said no; the text is the provider's code.
    #[error("the provider refused: {0}")]
    Denied(String),
    /// The provider cannot be reached.
    #[error("the provider cannot be reached: {0}")]
    Unreachable(#[from] NetError),
    /// The provider refused what this server asked.
    #[error("the provider answered with {0}")]
    Refused(StatusCode),
    /// The provider said something that cannot be believed.
    #[error("the provider cannot be believed: {0}")]
    Wrong(&'static str),
    /// The server failed.
    #[error(transparent)]
    Failed(#[from] OauthError),
}

impl ProviderError {
    pub(super) fn wrong(text: &'static str) -> Self {
        Self::Wrong(text)
    }
}

impl From<AccountError> for ProviderError {
    fn from(error: AccountError) -> Self {
        Self::Failed(error.into())
    }
}

impl From<StoreError> for ProviderError {
    fn from(error: StoreError) -> Self {
        Self::Failed(error.into())
    }
}

impl From<CommitError> for ProviderError {
    fn from(error: CommitError) -> Self {
        Self::Failed(error.into())
    }
}

/// What is expected of an ID token.
pub(super) struct Expected<'a> {
    pub(super) settings: &'a ProviderSettings,
    pub(super) nonce: &'a str,
    pub(super) now_ms: u64,
}

/// Signatures by a secret that both sides know are not among them, and the absence of one is neither.
const ALGORITHMS: [Algorithm; 9] = [
    Algorithm::RS256,
    Algorithm::RS384,
    Algorithm::RS512,
    Algorithm::PS256,
    Algorithm::PS384,
    Algorithm::PS512,
    Algorithm::ES256,
    Algorithm::ES384,
    Algorithm::EdDSA,
];

/// The claims of an ID token that the provider has signed for this server and this sign-in (Core 1.0, 3.1.3.7).
/// Nothing when its key is not among those that are known.
pub(super) fn verify(
    id_token: &str,
    known: &Known,
    expected: &Expected<'_>,
) -> Result<Option<Map<String, Value>>, ProviderError> {
    let wrong = |text| Err(ProviderError::wrong(text));
    let Ok(head) = decode_header(id_token) else { return wrong("its ID token is none") };
    if !ALGORITHMS.contains(&head.alg) {
        return wrong("its ID token is signed in a way that proves nothing");
    }
    let Some(key) = key(&known.keys, head.kid.as_deref()) else { return Ok(None) };
    let Some(key) = key else { return wrong("its key is of an unknown kind") };
    let settings = expected.settings;
    let mut validation = Validation::new(head.alg);
    validation.set_audience(&[&settings.client_id]);
    validation.set_issuer(&[&settings.issuer]);
    validation.set_required_spec_claims(&["iss", "aud", "sub", "exp"]);
    // The time is the server's clock's, see below.
    validation.validate_exp = false;
    let Ok(token) = decode::<Map<String, Value>>(id_token, &key, &validation) else {
        return wrong("its ID token does not hold");
    };
    let claims = token.claims;
    let ends_ms = claims.get("exp").and_then(Value::as_u64).unwrap_or_default().saturating_mul(1_000);
    if ends_ms.saturating_add(PROVIDER_SKEW_MS) <= expected.now_ms {
        return wrong("its ID token is out of date");
    }
    if claims.get("nonce").and_then(Value::as_str) != Some(expected.nonce) {
        return wrong("its ID token belongs to another sign-in");
    }
    // Core 1.0, 3.1.3.7: a token for several parties says for whom it was made.
    let party = claims.get("azp").and_then(Value::as_str);
    if party.is_some_and(|party| party != settings.client_id) {
        return wrong("its ID token was made for somebody else");
    }
    match claims.get("sub").and_then(Value::as_str) {
        Some(subject) if !subject.is_empty() && subject.len() <= 255 => Ok(Some(claims)),
        _ => wrong("its ID token names nobody"),
    }
}

/// The key with this id; the only one, when none is named.
fn key(keys: &JwkSet, kid: Option<&str>) -> Option<Option<DecodingKey>> {
    let jwk = match (kid, keys.keys.as_slice()) {
        (Some(kid), _) => keys.find(kid)?,
        (None, [only]) => only,
        (None, _) => return None,
    };
    Some(DecodingKey::from_jwk(jwk).ok())
}

/// The user name that is proposed to somebody with these claims: the template with the claims in it, and with what a
/// user name must not have left out.
pub(super) fn localpart(template: &str, claims: &Map<String, Value>) -> String {
    let mut name = String::new();
    let mut rest = template;
    while let Some((before, after)) = rest.split_once('{') {
        let Some((claim, after)) = after.split_once('}') else { break };
        name.push_str(before);
        name.push_str(claims.get(claim).and_then(Value::as_str).unwrap_or_default());
        rest = after;
    }
    name.push_str(rest);
    let allowed = |letter: &char| {
        letter.is_ascii_lowercase() || letter.is_ascii_digit() || matches!(letter, '.' | '_' | '=' | '-')
    };
    // The part before the @ of a mail address is the name in it.
    let name = name.split('@').next().unwrap_or_default().to_lowercase();
    name.chars().filter(allowed).take(64).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::localpart;

    #[test]
    fn names_are_proposed_from_claims() {
        let claims = json!({ "preferred_username": "Alice.W", "email": "alice+x@example.org", "n": 5 });
        let claims = claims.as_object().unwrap();
        for (template, expected) in [
            ("{preferred_username}", "alice.w"),
            ("{email}", "alicex"),
            ("u-{preferred_username}", "u-alice.w"),
            ("{missing}", ""),
            ("{n}", ""),
            ("{open", "open"),
        ] {
            assert_eq!(localpart(template, claims), expected, "{template}");
        }
    }
}
