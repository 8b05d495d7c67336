//! The steps by which somebody proves what they have to, and what they prove it for.
//!
//! <https://spec.matrix.org/v1.19/client-server-api/#authentication-types>

use ruma::{
    OwnedUserId,
    api::client::uiaa::{AuthData, AuthType},
};
use serde::Serialize;
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};

use super::Settings;

/// What is being authenticated; a session is good for one operation of one user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// Making an account.
    Register,
    /// Another password for somebody who has forgotten theirs.
    ResetPassword,
    /// An operation (named by its endpoint) of a user who has to prove that it is them, and on what.
    Operation(&'static str, OwnedUserId, Target),
}

impl Purpose {
    /// Whether it is the same operation of the same user, on whatever.
    pub(super) fn is_like(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Operation(of, by, _), Self::Operation(other_of, other_by, _)) => {
                (of, by) == (other_of, other_by)
            }
            _ => self == other,
        }
    }
}

/// What a request asks for beside its authentication: a digest, since there may be a secret in it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Target(Vec<u8>);

impl Target {
    /// That of a request whose parameters are `parameters`.
    pub fn of(parameters: impl Serialize) -> Self {
        // A value has its keys in order, however the client wrote them.
        let text = serde_json::to_value(parameters).map(|value| value.to_string()).unwrap_or_default();
        Self(Sha256::digest(text.as_bytes()).to_vec())
    }
}

/// One step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Stage {
    /// `m.login.dummy`
    Dummy,
    /// `m.login.password`
    Password,
    /// `m.login.registration_token`
    RegistrationToken,
    /// `m.login.terms`
    Terms,
    /// `m.login.email.identity`
    Email,
    /// `m.login.recaptcha`
    Captcha,
    /// `m.login.sso`
    Sso,
    /// `m.oauth`
    Oauth {
        /// Where the user allows what is asked for.
        url: String,
    },
}

impl Stage {
    /// Whether `auth` is an attempt to pass it.
    pub(super) fn is_tried_by(&self, auth: &AuthData) -> bool {
        match self {
            Self::Dummy => matches!(auth, AuthData::Dummy(_)),
            Self::Password => matches!(auth, AuthData::Password(_)),
            Self::Terms => matches!(auth, AuthData::Terms(_)),
            Self::Email => matches!(auth, AuthData::EmailIdentity(_)),
            Self::Captcha => matches!(auth, AuthData::ReCaptcha(_)),
            // It is passed on a page alone.
            Self::Sso => false,
            Self::RegistrationToken => matches!(auth, AuthData::RegistrationToken(_)),
            // Clients send nothing but the session when the user says to have been on the page.
            Self::Oauth { .. } => matches!(auth, AuthData::OAuth(_) | AuthData::FallbackAcknowledgement(_)),
        }
    }

    pub(super) fn auth_type(&self) -> AuthType {
        match self {
            Self::Dummy => AuthType::Dummy,
            Self::Password => AuthType::Password,
            Self::RegistrationToken => AuthType::RegistrationToken,
            Self::Terms => AuthType::Terms,
            Self::Email => AuthType::EmailIdentity,
            Self::Captcha => AuthType::ReCaptcha,
            Self::Sso => AuthType::Sso,
            Self::Oauth { .. } => AuthType::OAuth,
        }
    }
}

/// What a client has to know for the stages of some flows.
pub(super) fn params(flows: &[Vec<Stage>], settings: &Settings) -> Map<String, Value> {
    let mut params = Map::new();
    for stage in flows.iter().flatten() {
        let value = match stage {
            Stage::Terms => json!(settings.terms),
            Stage::Captcha => {
                json!({ "public_key": settings.captcha.as_ref().map(|captcha| &captcha.site_key) })
            }
            Stage::Oauth { url } => {
                params.insert("org.matrix.cross_signing_reset".to_owned(), json!({ "url": url }));
                json!({ "url": url })
            }
            _ => continue,
        };
        params.insert(stage.auth_type().to_string(), value);
    }
    params
}
