//! User-interactive authentication: which stages an operation asks for, and which have been passed.
//!
//! <https://spec.matrix.org/v1.19/client-server-api/#user-interactive-authentication-api>

use std::collections::BTreeMap;

use parking_lot::Mutex;
use ruma::{
    OwnedUserId, UserId,
    api::{
        client::uiaa::{AuthData, AuthFlow, AuthType, UiaaInfo, UserIdentifier},
        error::{ErrorKind, StandardErrorBody},
    },
};

use super::{AccountError, Accounts, Registration};
use crate::{
    limits::{UIA_SESSION_MS, UIA_SESSIONS_MAX},
    types::random_string,
};

/// What is being authenticated; a session is good for one operation of one user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// Making an account.
    Register,
    /// An operation (named by its endpoint) of a user who has to prove that it is them.
    Operation(&'static str, OwnedUserId),
}

/// One step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// `m.login.dummy`
    Dummy,
    /// `m.login.password`
    Password,
    /// `m.login.registration_token`
    RegistrationToken,
}

impl Stage {
    fn auth_type(self) -> AuthType {
        match self {
            Self::Dummy => AuthType::Dummy,
            Self::Password => AuthType::Password,
            Self::RegistrationToken => AuthType::RegistrationToken,
        }
    }
}

#[derive(Default)]
pub(super) struct Uia(Mutex<BTreeMap<String, Attempt>>);

#[derive(Clone)]
struct Attempt {
    purpose: Purpose,
    passed: Vec<Stage>,
    started_ms: u64,
}

impl Accounts {
    /// Passes when `auth` completes what `purpose` asks for.
    ///
    /// # Errors
    /// [`AccountError::Uia`] with what is missing, or what was wrong.
    pub async fn authorize(&self, purpose: &Purpose, auth: Option<&AuthData>) -> Result<(), AccountError> {
        let flow = self.flow(purpose);
        let Some(auth) = auth else {
            let session = self.begin(purpose);
            return Err(self.incomplete(&flow, session, Vec::new(), None));
        };
        let session = auth.session().map(str::to_owned);
        let Some((session, mut passed)) = self.resume(purpose, session.as_deref()) else {
            let session = self.begin(purpose);
            let error = (ErrorKind::Unknown, "The authentication session is unknown or its time is over");
            return Err(self.incomplete(&flow, session, Vec::new(), Some(error)));
        };
        let stage = match auth {
            AuthData::Dummy(_) => Some(Stage::Dummy),
            AuthData::Password(_) => Some(Stage::Password),
            AuthData::RegistrationToken(_) => Some(Stage::RegistrationToken),
            _ => None,
        };
        let Some(stage) = stage.filter(|stage| flow.contains(stage)) else {
            let error = (ErrorKind::Unrecognized, "The stage is not part of any flow");
            return Err(self.incomplete(&flow, session, passed, Some(error)));
        };
        if let Err(message) = self.pass(purpose, auth).await? {
            let kind = match stage {
                Stage::RegistrationToken => ErrorKind::Unauthorized,
                _ => ErrorKind::Forbidden,
            };
            return Err(self.incomplete(&flow, session, passed, Some((kind, message))));
        }
        if !passed.contains(&stage) {
            passed.push(stage);
        }
        let mut attempts = self.uia.0.lock();
        if flow.iter().all(|stage| passed.contains(stage)) {
            attempts.remove(&session);
            return Ok(());
        }
        if let Some(attempt) = attempts.get_mut(&session) {
            attempt.passed.clone_from(&passed);
        }
        drop(attempts);
        Err(self.incomplete(&flow, session, passed, None))
    }

    fn flow(&self, purpose: &Purpose) -> Vec<Stage> {
        match (purpose, self.settings.registration) {
            (Purpose::Register, Registration::Token) => vec![Stage::RegistrationToken],
            (Purpose::Register, _) => vec![Stage::Dummy],
            (Purpose::Operation(..), _) => vec![Stage::Password],
        }
    }

    /// Whether one stage is passed; the text says why not.
    async fn pass(
        &self,
        purpose: &Purpose,
        auth: &AuthData,
    ) -> Result<Result<(), &'static str>, AccountError> {
        match (auth, purpose) {
            (AuthData::Dummy(_), _) => Ok(Ok(())),
            (AuthData::RegistrationToken(given), _) => match self.is_registration_token(&given.token) {
                true => Ok(Ok(())),
                false => Ok(Err("The registration token is not valid")),
            },
            (AuthData::Password(given), Purpose::Operation(_, user)) => {
                if !self.names(&given.identifier, user) {
                    return Err(AccountError::NotTheCaller);
                }
                match self.check_password(user, &given.password).await {
                    Ok(_) => Ok(Ok(())),
                    Err(AccountError::WrongPassword) => Ok(Err("Invalid password")),
                    Err(error) => Err(error),
                }
            }
            _ => Ok(Err("The stage is not part of any flow")),
        }
    }

    fn names(&self, identifier: &UserIdentifier, user: &UserId) -> bool {
        match identifier {
            UserIdentifier::Matrix(named) => {
                named.user.to_lowercase() == user.as_str() || named.user.to_lowercase() == user.localpart()
            }
            _ => false,
        }
    }

    fn begin(&self, purpose: &Purpose) -> String {
        let session = random_string(&*self.ports.rng, 24);
        let started_ms = self.ports.clock.now_ms();
        let mut attempts = self.uia.0.lock();
        attempts.retain(|_, attempt| attempt.started_ms + UIA_SESSION_MS > started_ms);
        if attempts.len() >= UIA_SESSIONS_MAX {
            // Whoever is asked to begin again loses a moment; memory stays bounded.
            let oldest = attempts.iter().min_by_key(|(_, attempt)| attempt.started_ms);
            if let Some(oldest) = oldest.map(|(session, _)| session.clone()) {
                attempts.remove(&oldest);
            }
        }
        let attempt = Attempt { purpose: purpose.clone(), passed: Vec::new(), started_ms };
        attempts.insert(session.clone(), attempt);
        session
    }

    /// The session and what was passed in it. A client may also complete a flow of one stage without
    /// having asked for a session first.
    fn resume(&self, purpose: &Purpose, session: Option<&str>) -> Option<(String, Vec<Stage>)> {
        let Some(session) = session else { return Some((self.begin(purpose), Vec::new())) };
        let now_ms = self.ports.clock.now_ms();
        let attempts = self.uia.0.lock();
        let attempt = attempts.get(session)?;
        let valid = attempt.purpose == *purpose && attempt.started_ms + UIA_SESSION_MS > now_ms;
        valid.then(|| (session.to_owned(), attempt.passed.clone()))
    }

    fn incomplete(
        &self,
        flow: &[Stage],
        session: String,
        passed: Vec<Stage>,
        error: Option<(ErrorKind, &str)>,
    ) -> AccountError {
        let stages = flow.iter().map(|stage| stage.auth_type()).collect();
        let mut info = UiaaInfo::new(vec![AuthFlow::new(stages)]);
        info.session = Some(session);
        info.completed = passed.iter().map(|stage| stage.auth_type()).collect();
        info.params = serde_json::value::to_raw_value(&serde_json::json!({})).ok();
        info.auth_error =
            error.map(|(kind, message)| Box::new(StandardErrorBody { kind, message: message.to_owned() }));
        AccountError::Uia(Box::new(info))
    }
}
