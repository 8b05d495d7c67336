//! This server's signing key.

use std::fmt;

use base64::{Engine, engine::general_purpose::STANDARD_NO_PAD};
use ruma::{
    CanonicalJsonObject, OwnedServerName, OwnedServerSigningKeyId, ServerName, ServerSigningKeyId,
    room_version_rules::RoomVersionRules,
    serde::{Base64, base64::Standard},
    signatures::{Ed25519KeyPair, KeyPair, hash_and_sign_event, sign_event, sign_json},
};

use super::{ObjectError, PublicKeyMap, PublicKeySet};

/// A signing key cannot be made from what was given.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// The version may hold only `A-Z a-z 0-9 _` and is not empty.
    #[error("a key version holds only letters, digits and underscores")]
    Version,
    /// The text is not `ed25519 VERSION BASE64`, with 32 bytes in unpadded base64.
    #[error("a signing key is written as `ed25519 VERSION BASE64`")]
    Text,
    /// The secret was refused by the signature library.
    #[error("the secret is no ed25519 key: {0}")]
    Secret(#[source] ruma::signatures::Ed25519KeyPairParseError),
}

/// An ed25519 key with which this server signs, together with the server's name.
pub struct SigningKey {
    server: OwnedServerName,
    key_id: OwnedServerSigningKeyId,
    seed: [u8; 32],
    pair: Ed25519KeyPair,
}

/// PKCS #8 (RFC 8410) wrapping of a 32-byte ed25519 seed; the seed follows.
const PKCS8_PREFIX: [u8; 16] =
    [0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x04, 0x22, 0x04, 0x20];

impl SigningKey {
    /// The key that `seed`, 32 random bytes, stands for. Its id is `ed25519:<version>`.
    pub fn from_seed(server: OwnedServerName, version: &str, seed: [u8; 32]) -> Result<Self, KeyError> {
        let valid = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
        if version.is_empty() || !version.bytes().all(valid) {
            return Err(KeyError::Version);
        }
        let key_id =
            ServerSigningKeyId::parse(format!("ed25519:{version}")).map_err(|_| KeyError::Version)?;
        let document = [PKCS8_PREFIX.as_slice(), seed.as_slice()].concat();
        let pair = Ed25519KeyPair::from_der(&document, String::from(version)).map_err(KeyError::Secret)?;
        Ok(Self { server, key_id, seed, pair })
    }

    /// Reads the form that [`Self::to_text`] writes. It is also Synapse's `*.signing.key` file.
    pub fn from_text(server: OwnedServerName, text: &str) -> Result<Self, KeyError> {
        let mut words = text.split_ascii_whitespace();
        let (Some("ed25519"), Some(version), Some(secret), None) =
            (words.next(), words.next(), words.next(), words.next())
        else {
            return Err(KeyError::Text);
        };
        // Other servers write keys whose last character carries stray bits; ruma reads those too.
        let seed =
            Base64::<Standard>::parse(secret).ok().and_then(|bytes| bytes.into_inner().try_into().ok());
        Self::from_seed(server, version, seed.ok_or(KeyError::Text)?)
    }

    /// `ed25519 VERSION BASE64`: the secret, to be kept in a file of mode 0600.
    #[must_use]
    pub fn to_text(&self) -> String {
        format!("ed25519 {} {}", self.pair.version(), STANDARD_NO_PAD.encode(self.seed))
    }

    /// The server that signs with this key.
    #[must_use]
    pub fn server(&self) -> &ServerName {
        &self.server
    }

    /// `ed25519:<version>`.
    #[must_use]
    pub fn key_id(&self) -> &ServerSigningKeyId {
        &self.key_id
    }

    /// The public half, in unpadded base64.
    #[must_use]
    pub fn public_key(&self) -> Base64 {
        Base64::new(self.pair.public_key().to_vec())
    }

    /// The public half as the map that [`super::verify_event`] wants.
    #[must_use]
    pub fn public_keys(&self) -> PublicKeyMap {
        let set = PublicKeySet::from([(self.key_id.to_string(), self.public_key())]);
        PublicKeyMap::from([(self.server.to_string(), set)])
    }

    /// Adds our signature to any JSON object.
    pub fn sign_json(&self, object: &mut CanonicalJsonObject) -> Result<(), ObjectError> {
        Ok(sign_json(self.server.as_str(), &self.pair, object)?)
    }

    /// Our signature of a text, for what is not signed within itself.
    #[must_use]
    pub fn sign_text(&self, text: &[u8]) -> Base64 {
        let (_, signature) = self.pair.sign(text).into_parts();
        Base64::new(signature)
    }

    /// Adds our signature to an event that is hashed already, say an invite that another server made.
    pub fn sign_event(
        &self,
        object: &mut CanonicalJsonObject,
        rules: &RoomVersionRules,
    ) -> Result<(), ObjectError> {
        Ok(sign_event(self.server.as_str(), &self.pair, object, &rules.redaction)?)
    }

    /// Adds the content hash and our signature to an event.
    pub fn hash_and_sign(
        &self,
        object: &mut CanonicalJsonObject,
        rules: &RoomVersionRules,
    ) -> Result<(), ObjectError> {
        Ok(hash_and_sign_event(self.server.as_str(), &self.pair, object, &rules.redaction)?)
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SigningKey").field("server", &self.server).field("key_id", &self.key_id).finish()
    }
}

#[cfg(test)]
mod tests {
    use ruma::{owned_server_name, serde::Base64};

    use super::SigningKey;
    use crate::keys::{parse_object, verify_object};

    /// The seed and the public key of the specification's test vectors.
    const SEED: &str = "YJDBA9Xnr2sVqXD9Vj7XVUnmFZcZrlw8Md7kMW+3XA1";

    #[test]
    fn text_form_round_trips() {
        let text = format!("ed25519 1 {SEED}");
        let key = SigningKey::from_text(owned_server_name!("domain"), &text).unwrap();
        let again = SigningKey::from_text(owned_server_name!("domain"), &key.to_text()).unwrap();
        assert_eq!(again.to_text(), key.to_text());
        assert_eq!(again.public_key(), key.public_key());
        assert_eq!(key.key_id().as_str(), "ed25519:1");
        assert!(!format!("{key:?}").contains(SEED), "the secret must not be printed");
    }

    #[test]
    fn malformed_texts_are_refused() {
        for text in ["", "ed25519", "ed25519 1", "rsa 1 AAAA", "ed25519 1 AAAA", "ed25519 a:b AAAA"] {
            assert!(SigningKey::from_text(owned_server_name!("domain"), text).is_err(), "{text:?}");
        }
        let text = format!("ed25519 a-b {SEED}");
        assert!(SigningKey::from_text(owned_server_name!("domain"), &text).is_err());
    }

    /// <https://spec.matrix.org/v1.19/appendices/#json-signing>
    #[test]
    fn signs_as_the_specification_says() {
        let key = SigningKey::from_text(owned_server_name!("domain"), &format!("ed25519 1 {SEED}")).unwrap();
        let mut object = parse_object(r#"{"one":1,"two":"Two"}"#).unwrap();
        key.sign_json(&mut object).unwrap();
        let signature = object["signatures"].as_object().unwrap()["domain"].as_object().unwrap()["ed25519:1"]
            .as_str()
            .map(String::from);
        let expected =
            "KqmLSbO39/Bzb0QIYE82zqLwsA+PDzYIpIRA2sRQ4sL53+sN6/fpNSoqE7BP7vBZhG6kYdD13EIMJpvhJI+6Bw";
        assert_eq!(signature.as_deref(), Some(expected));
        verify_object(key.server(), &object, &key.public_keys()).unwrap();

        let mut wrong = key.public_keys();
        wrong.get_mut("domain").unwrap().insert(String::from("ed25519:1"), Base64::new(vec![7; 32]));
        verify_object(key.server(), &object, &wrong).unwrap_err();
    }
}
