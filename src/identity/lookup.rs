//! Whose an address is.
//!
//! <https://spec.matrix.org/v1.19/identity-service-api/#association-lookup>

use std::collections::BTreeMap;

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use ruma::OwnedUserId;
use serde::Deserialize;
use serde_json::json;
use sha2::{Digest, Sha256};

use super::{Address, Desk, Identity, IdentityError, ask::Proof};
use crate::limits::{LOOKUP_PEPPER_BYTES_MAX, LOOKUP_TURNS_MAX};

/// How addresses are written in questions.
#[derive(Deserialize)]
struct Details {
    algorithms: Vec<String>,
    lookup_pepper: String,
}

#[derive(Deserialize)]
struct Found {
    mappings: BTreeMap<String, String>,
}

impl Identity {
    /// The user to whom an address is bound, if the identity server knows.
    ///
    /// # Errors
    /// When it does not say.
    pub async fn user_of(
        &self,
        desk: Desk<'_>,
        address: &Address,
    ) -> Result<Option<OwnedUserId>, IdentityError> {
        for _ in 1..LOOKUP_TURNS_MAX {
            match self.look_up(desk, address).await {
                Err(IdentityError::Refused { errcode, .. }) if errcode == "M_INVALID_PEPPER" => {}
                settled => return settled,
            }
        }
        self.look_up(desk, address).await
    }

    async fn look_up(&self, desk: Desk<'_>, address: &Address) -> Result<Option<OwnedUserId>, IdentityError> {
        let server = self.trusted(desk.server)?;
        let details: Details = self.get(server, "/hash_details", desk.token).await?;
        let (algorithm, asked) = written(&details, address)?;
        let body = json!({ "addresses": [asked], "algorithm": algorithm, "pepper": details.lookup_pepper });
        let found: Found = self.post(server, "/lookup", (Proof::Token(desk.token), &body)).await?;
        let user = found.mappings.get(&asked);
        let bad = |_| IdentityError::BadAnswer("who has the address is no user");
        user.map(|user| OwnedUserId::try_from(user.as_str()).map_err(bad)).transpose()
    }
}

/// What is asked for an address: its hash, and only where the server takes none the address itself.
fn written(details: &Details, address: &Address) -> Result<(&'static str, String), IdentityError> {
    let offers = |name: &str| details.algorithms.iter().any(|offered| offered == name);
    let Address { medium, address } = address;
    if offers("sha256") {
        if details.lookup_pepper.len() > LOOKUP_PEPPER_BYTES_MAX {
            return Err(IdentityError::BadAnswer("its pepper is too long"));
        }
        let hash = Sha256::digest(format!("{address} {medium} {}", details.lookup_pepper));
        return Ok(("sha256", URL_SAFE_NO_PAD.encode(hash)));
    }
    match offers("none") {
        true => Ok(("none", format!("{address} {medium}"))),
        false => Err(IdentityError::BadAnswer("it knows no way to ask that this server knows")),
    }
}

#[cfg(test)]
mod tests {
    use ruma::thirdparty::Medium;

    use super::{Details, written};
    use crate::identity::Address;

    #[track_caller]
    fn check(algorithms: &[&str], (medium, address): (&str, &str), expected: Option<(&str, &str)>) {
        let algorithms = algorithms.iter().map(|&name| name.into()).collect();
        let details = Details { algorithms, lookup_pepper: "matrixrocks".into() };
        let found = written(&details, &Address::new(Medium::from(medium), address).unwrap()).ok();
        assert_eq!(found.as_ref().map(|(algorithm, text)| (*algorithm, &**text)), expected);
    }

    /// The hashes are the examples of the specification.
    #[test]
    fn addresses_are_hashed_where_that_is_offered() {
        let (alice, bob) = (("email", "alice@example.com"), ("email", "bob@example.com"));
        let hash = Some(("sha256", "4kenr7N9drpCJ4AfalmlGQVsOn3o2RHjkADUpXJWZUc"));
        check(&["sha256"], alice, hash);
        check(&["none", "sha256"], ("email", "Alice@example.com"), hash);
        check(&["sha256"], bob, Some(("sha256", "LJwSazmv46n0hlMlsb_iYxI0_HXEqy_yj6Jm636cdT8")));
        let number = ("msisdn", "18005552067");
        check(&["sha256"], number, Some(("sha256", "nlo35_T5fzSGZzJApqu8lgIudJvmOQtDaHtr-I4rU7I")));
        check(&["none"], alice, Some(("none", "alice@example.com email")));
        check(&["sha512"], alice, None);
        check(&[], alice, None);
    }
}
