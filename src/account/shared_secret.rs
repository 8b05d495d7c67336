//! Registration by whoever knows the server's secret, administrators included. It is how programs and
//! the first administrator get accounts on a server that is closed otherwise.
//!
//! The secret itself never travels: the client proves that it knows it by a MAC over what it asks for
//! and a nonce, which is good once and not for long.

use std::collections::BTreeMap;

use hmac::{Hmac, KeyInit, Mac};
use parking_lot::Mutex;
use sha1::Sha1;

use super::{AccountError, Accounts, NewDevice, NewUser, Session};
use crate::{
    limits::{REGISTRATION_NONCE_MS, REGISTRATION_NONCES_MAX},
    types::random_string,
};

/// An account that somebody who knows the secret asks for.
#[derive(Clone, Debug)]
pub struct SharedSecretUser {
    /// A nonce that this server gave out.
    pub nonce: String,
    /// The local part of the user id.
    pub username: String,
    /// The password.
    pub password: String,
    /// Whether it may use the administration API.
    pub admin: bool,
    /// The kind of user, as far as one is named; it is part of what the MAC covers.
    pub user_type: Option<String>,
    /// HMAC-SHA1 in hexadecimal.
    pub mac: String,
}

/// Nonces that wait for their use, with the moment at which they were given out.
#[derive(Default)]
pub(super) struct Nonces(Mutex<BTreeMap<String, u64>>);

impl Accounts {
    /// A nonce for one registration.
    #[must_use]
    pub fn registration_nonce(&self) -> String {
        let nonce = random_string(&*self.ports.rng, 32);
        let now_ms = self.ports.clock.now_ms();
        let mut nonces = self.nonces.0.lock();
        nonces.retain(|_, given_ms| *given_ms + REGISTRATION_NONCE_MS > now_ms);
        if nonces.len() >= REGISTRATION_NONCES_MAX {
            let oldest = nonces.iter().min_by_key(|(_, given_ms)| **given_ms).map(|(nonce, _)| nonce.clone());
            oldest.and_then(|nonce| nonces.remove(&nonce));
        }
        nonces.insert(nonce.clone(), now_ms);
        nonce
    }

    /// Makes an account for somebody who proves that they know `secret`, and logs it in.
    ///
    /// # Errors
    /// When the nonce or the MAC is wrong, or the name cannot be had.
    pub async fn register_with_shared_secret(
        &self,
        secret: &str,
        asked: SharedSecretUser,
    ) -> Result<Session, AccountError> {
        let now_ms = self.ports.clock.now_ms();
        let given_ms = self.nonces.0.lock().remove(&asked.nonce);
        if given_ms.is_none_or(|given_ms| given_ms + REGISTRATION_NONCE_MS <= now_ms) {
            return Err(AccountError::Invalid("The nonce is unknown or its time is over".to_owned()));
        }
        if !is_signed(secret, &asked) {
            return Err(AccountError::RegistrationRefused("The MAC is wrong"));
        }
        let SharedSecretUser { username, password, admin, .. } = asked;
        let new = NewUser { username: Some(username), password: Some(password), admin };
        self.register(new, NewDevice::default()).await
    }
}

/// Whether the MAC is the one of the request. An empty secret signs nothing.
fn is_signed(secret: &str, asked: &SharedSecretUser) -> bool {
    let SharedSecretUser { nonce, username, password, admin, user_type, mac } = asked;
    let (Ok(mut expected), Some(mac)) = (Hmac::<Sha1>::new_from_slice(secret.as_bytes()), bytes(mac)) else {
        return false;
    };
    let role = if *admin { "admin" } else { "notadmin" };
    let fields = [nonce.as_str(), username, password, role];
    for (place, field) in fields.into_iter().chain(user_type.as_deref()).enumerate() {
        // No field can reach into the next: a zero byte in a name or a password is refused below.
        if place > 0 {
            expected.update(&[0]);
        }
        if field.contains('\0') {
            return false;
        }
        expected.update(field.as_bytes());
    }
    !secret.is_empty() && expected.verify_slice(&mac).is_ok()
}

fn bytes(hex: &str) -> Option<Vec<u8>> {
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    let (pairs, rest) = hex.as_bytes().as_chunks::<2>();
    let decoded = pairs.iter().map(|[high, low]| Some(digit(*high)? * 16 + digit(*low)?)).collect();
    if rest.is_empty() { decoded } else { None }
}
