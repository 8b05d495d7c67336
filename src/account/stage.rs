//! The steps by which somebody proves what they have to, and what they prove it for.
//!
//! <https://spec.matrix.org/v1.19/client-server-api/#authentication-types>

use ruma::{
    OwnedUserId,
    api::client::uiaa::{AuthData, AuthType},
};
use serde_json::{Map, Value, json};

use super::Settings;

/// What is being authenticated; a session is good for one operation of one user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// Making an account.
    Register,
    /// Another password for somebody who has forgotten theirs.
    ResetPassword,
    /// An operation (named by its endpoint) of a user who has to prove that it is them.
    Operation(&'static str, OwnedUserId),
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
