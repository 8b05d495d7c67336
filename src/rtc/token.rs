//! Tokens as LiveKit wants them: JWTs that the secret of a key signs.
//!
//! <https://docs.livekit.io/frontends/reference/tokens-grants/>

use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation, decode, encode};
use serde::{Deserialize, Serialize};

use crate::limits::SFU_SKEW_SECONDS;

/// What a token says.
#[derive(Debug, Serialize)]
pub(super) struct Claims<'a> {
    pub(super) iss: &'a str,
    pub(super) sub: &'a str,
    /// Seconds since the epoch.
    pub(super) nbf: u64,
    /// Seconds since the epoch.
    pub(super) exp: u64,
    pub(super) video: Video<'a>,
}

/// What whoever bears it may do.
#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Video<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) room: Option<&'a str>,
    pub(super) room_create: bool,
    pub(super) room_join: bool,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub(super) room_admin: bool,
    pub(super) can_publish: bool,
    pub(super) can_subscribe: bool,
    pub(super) can_update_own_metadata: bool,
}

/// Signs.
pub(super) fn sign(claims: &Claims<'_>, secret: &str) -> String {
    let key = EncodingKey::from_secret(secret.as_bytes());
    encode(&Header::new(Algorithm::HS256), claims, &key).expect("claims of strings and numbers can be signed")
}

/// What the token of a webhook says.
#[derive(Debug, Deserialize)]
struct Sent {
    iss: String,
    #[serde(default)]
    nbf: u64,
    exp: u64,
    /// The hash of the body.
    sha256: String,
}

/// The hash of the body that `token` vouches for, if the SFU has signed it and it is valid at `now`, in seconds since the
/// epoch.
pub(super) fn vouched(token: &str, (key, secret): (&str, &str), now: u64) -> Option<String> {
    let mut validation = Validation::new(Algorithm::HS256);
    // The clock is ours.
    validation.validate_exp = false;
    validation.validate_nbf = false;
    validation.validate_aud = false;
    validation.required_spec_claims.clear();
    let secret = DecodingKey::from_secret(secret.as_bytes());
    let sent = decode::<Sent>(token, &secret, &validation).ok()?.claims;
    let is_now =
        sent.nbf <= now.saturating_add(SFU_SKEW_SECONDS) && now <= sent.exp.saturating_add(SFU_SKEW_SECONDS);
    (sent.iss == key && is_now).then_some(sent.sha256)
}

#[cfg(test)]
mod tests {
    use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
    use serde_json::json;

    use super::vouched;

    #[test]
    fn a_webhook_is_signed_by_the_sfu() {
        let claims =
            |iss: &str, nbf: u64, exp: u64| json!({ "iss": iss, "nbf": nbf, "exp": exp, "sha256": "h" });
        for (claims, algorithm, secret, expected) in [
            (claims("key", 1_000, 1_300), Algorithm::HS256, "secret", true),
            (claims("key", 1_050, 1_300), Algorithm::HS256, "secret", true),
            (claims("key", 1_090, 1_300), Algorithm::HS256, "secret", false),
            (claims("key", 0, 970), Algorithm::HS256, "secret", true),
            (claims("key", 0, 900), Algorithm::HS256, "secret", false),
            (claims("other", 1_000, 1_300), Algorithm::HS256, "secret", false),
            (claims("key", 1_000, 1_300), Algorithm::HS256, "other", false),
            (claims("key", 1_000, 1_300), Algorithm::HS512, "secret", false),
            (json!({ "iss": "key", "sha256": "h" }), Algorithm::HS256, "secret", false),
            (json!({ "iss": "key", "exp": 1_300 }), Algorithm::HS256, "secret", false),
        ] {
            let key = EncodingKey::from_secret(secret.as_bytes());
            let token = encode(&Header::new(algorithm), &claims, &key).unwrap();
            let met = vouched(&token, ("key", "secret"), 1_000);
            assert_eq!(met.is_some(), expected, "{claims} {algorithm:?} {secret}");
        }
        let unsigned = "eyJhbGciOiJub25lIn0.eyJpc3MiOiJrZXkiLCJleHAiOjEzMDAsInNoYTI1NiI6ImgifQ.";
        assert_eq!(vouched(unsigned, ("key", "secret"), 1_000), None);
    }
}
