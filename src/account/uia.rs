//! User-interactive authentication: which stages an operation asks for, and which have been passed.
//!
//! <https://spec.matrix.org/v1.19/client-server-api/#user-interactive-authentication-api>

use std::collections::BTreeMap;

use parking_lot::Mutex;
use ruma::{
    OwnedUserId, UserId,
    api::{
        client::uiaa::{
            AuthData, AuthFlow, AuthType, LoginTermsParams, ThirdpartyIdCredentials, UiaaInfo, UserIdentifier,
        },
        error::{ErrorKind, StandardErrorBody},
    },
};
use serde_json::{Map, Value, json};

use super::{AccountError, Accounts, Caller, ProofOf, Proved, device::DEVICES};
use crate::{
    limits::{UIA_SESSION_MS, UIA_SESSIONS_MAX},
    types::random_string,
};

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
    /// `m.oauth`
    Oauth {
        /// Where the user allows what is asked for.
        url: String,
    },
}

impl Stage {
    /// Whether `auth` is an attempt to pass it.
    fn is_tried_by(&self, auth: &AuthData) -> bool {
        match self {
            Self::Dummy => matches!(auth, AuthData::Dummy(_)),
            Self::Password => matches!(auth, AuthData::Password(_)),
            Self::Terms => matches!(auth, AuthData::Terms(_)),
            Self::Email => matches!(auth, AuthData::EmailIdentity(_)),
            Self::RegistrationToken => matches!(auth, AuthData::RegistrationToken(_)),
            // Clients send nothing but the session when the user says to have been on the page.
            Self::Oauth { .. } => matches!(auth, AuthData::OAuth(_) | AuthData::FallbackAcknowledgement(_)),
        }
    }

    fn auth_type(&self) -> AuthType {
        match self {
            Self::Dummy => AuthType::Dummy,
            Self::Password => AuthType::Password,
            Self::RegistrationToken => AuthType::RegistrationToken,
            Self::Terms => AuthType::Terms,
            Self::Email => AuthType::EmailIdentity,
            Self::Oauth { .. } => AuthType::OAuth,
        }
    }
}

/// The operation that replaces cross-signing keys.
const CROSS_SIGNING: &str = "device_signing";

/// What a client has to know for the stages of a flow.
fn params(flow: &[Stage], terms: &LoginTermsParams) -> Map<String, Value> {
    let mut params = Map::new();
    for stage in flow {
        if *stage == Stage::Terms {
            params.insert("m.login.terms".to_owned(), json!(terms));
        }
        if let Stage::Oauth { url } = stage {
            params.insert("m.oauth".to_owned(), json!({ "url": url }));
            params.insert("org.matrix.cross_signing_reset".to_owned(), json!({ "url": url }));
        }
    }
    params
}

#[derive(Default)]
pub(super) struct Uia(Mutex<BTreeMap<String, Attempt>>);

#[derive(Clone)]
struct Attempt {
    purpose: Purpose,
    passed: Vec<Stage>,
    /// The registration token that was shown.
    token: Option<String>,
    started_ms: u64,
}

impl Accounts {
    /// Passes when `auth` completes what `purpose` asks for.
    ///
    /// # Errors
    /// [`AccountError::Uia`] with what is missing, or what was wrong.
    pub async fn authorize(&self, purpose: &Purpose, auth: Option<&AuthData>) -> Result<(), AccountError> {
        let flow = self.flow(purpose)?;
        self.authorize_by(&flow, purpose, auth).await.map(drop)
    }

    /// As [`Accounts::authorize`], for somebody who wants an account; the registration token that they have shown.
    ///
    /// # Errors
    /// As [`Accounts::authorize`].
    pub async fn authorize_newcomer(&self, auth: Option<&AuthData>) -> Result<Option<String>, AccountError> {
        let flow = self.flow(&Purpose::Register)?;
        self.authorize_by(&flow, &Purpose::Register, auth).await
    }

    /// The stage of the kind `auth_type` that is left in a session, for somebody who passes it on a page.
    #[must_use]
    pub fn stage_left(&self, session: &str, auth_type: &AuthType) -> Option<Stage> {
        let attempt = self.attempt(session)?;
        let stages = self.flow(&attempt.purpose).ok()?;
        stages.into_iter().find(|stage| stage.auth_type() == *auth_type && !attempt.passed.contains(stage))
    }

    /// Whether what was entered on a page passes a stage; the client goes on with the session.
    ///
    /// # Errors
    /// When the session is unknown, or the store fails.
    pub async fn pass_on_page(&self, auth: &AuthData) -> Result<Result<(), &'static str>, AccountError> {
        let session = auth.session().unwrap_or_default();
        let attempt = self.attempt(session).ok_or(AccountError::NotFound("authentication session"))?;
        let stages = self.flow(&attempt.purpose)?;
        let Some(stage) = stages.into_iter().find(|stage| stage.is_tried_by(auth)) else {
            return Ok(Err("The stage is not part of any flow"));
        };
        let outcome = self.pass(&attempt.purpose, auth).await?;
        if outcome.is_ok() {
            self.note_passed(session, &stage, auth);
        }
        Ok(outcome)
    }

    /// As [`Accounts::authorize`], for an operation of somebody who is logged in. Whoever was logged in by the
    /// OAuth 2.0 API shows no password to a client: the account page of the server, which begins with `account_page`,
    /// is where they allow it.
    ///
    /// <https://spec.matrix.org/v1.19/client-server-api/#oauth-authentication>
    ///
    /// # Errors
    /// As [`Accounts::authorize`]; [`AccountError::AccountPage`] for what can only be done there.
    pub async fn authorize_caller(
        &self,
        operation: &'static str,
        caller: &Caller,
        auth: Option<&AuthData>,
        account_page: Option<&str>,
    ) -> Result<(), AccountError> {
        let purpose = Purpose::Operation(operation, caller.user_id.clone());
        let owner = (caller.user_id.clone(), caller.device_id.clone());
        let device = self.log.db().row(&DEVICES, &owner).await?;
        if device.is_none_or(|device| device.client.is_none()) {
            return self.authorize(&purpose, auth).await;
        }
        match (operation, account_page) {
            (CROSS_SIGNING, Some(page)) => {
                let stage = Stage::Oauth { url: format!("{page}?action=org.matrix.cross_signing_reset") };
                self.authorize_by(&[stage], &purpose, auth).await.map(drop)
            }
            _ => Err(AccountError::AccountPage),
        }
    }

    /// Passes when `auth` proves that its client's user reads the mail of an address: whose address it is, and the
    /// proof, which is good once.
    ///
    /// # Errors
    /// As [`Accounts::authorize`]; when the address is nobody's.
    pub async fn authorize_reset(
        &self,
        auth: Option<&AuthData>,
    ) -> Result<(OwnedUserId, Proved), AccountError> {
        self.authorize(&Purpose::ResetPassword, auth).await?;
        let Some(AuthData::EmailIdentity(given)) = auth else { return Err(AccountError::AddressNotProved) };
        let proved =
            self.proved_by(&given.thirdparty_id_creds).await?.ok_or(AccountError::AddressNotProved)?;
        let user = self.user_of_address(&proved.address).await?.ok_or(AccountError::AddressUnknown)?;
        Ok((user, proved))
    }

    async fn proved_by(&self, given: &ThirdpartyIdCredentials) -> Result<Option<Proved>, AccountError> {
        self.proved(ProofOf::Password, (given.sid.as_str(), given.client_secret.as_str())).await
    }

    async fn authorize_by(
        &self,
        flow: &[Stage],
        purpose: &Purpose,
        auth: Option<&AuthData>,
    ) -> Result<Option<String>, AccountError> {
        let Some(auth) = auth else {
            let session = self.begin(purpose);
            return Err(self.incomplete(flow, session, Vec::new(), None));
        };
        let session = auth.session().map(str::to_owned);
        let Some((session, passed)) = self.resume(purpose, session.as_deref()) else {
            let session = self.begin(purpose);
            let error = (ErrorKind::Unknown, "The authentication session is unknown or its time is over");
            return Err(self.incomplete(flow, session, Vec::new(), Some(error)));
        };
        let Some(stage) = flow.iter().find(|stage| stage.is_tried_by(auth)).cloned() else {
            if matches!(auth, AuthData::FallbackAcknowledgement(_)) {
                // Something was passed on a page.
                return self.conclude(flow, session, passed);
            }
            let error = (ErrorKind::Unrecognized, "The stage is not part of any flow");
            return Err(self.incomplete(flow, session, passed, Some(error)));
        };
        if let Err(message) = self.pass(purpose, auth).await? {
            let kind = match stage {
                Stage::RegistrationToken => ErrorKind::Unauthorized,
                _ => ErrorKind::Forbidden,
            };
            return Err(self.incomplete(flow, session, passed, Some((kind, message))));
        }
        let passed = self.note_passed(&session, &stage, auth);
        self.conclude(flow, session, passed)
    }

    /// Passes when every stage has been passed; the session is used up then.
    fn conclude(
        &self,
        flow: &[Stage],
        session: String,
        passed: Vec<Stage>,
    ) -> Result<Option<String>, AccountError> {
        if flow.iter().all(|stage| passed.contains(stage)) {
            let attempt = self.uia.0.lock().remove(&session);
            return Ok(attempt.and_then(|attempt| attempt.token));
        }
        Err(self.incomplete(flow, session, passed, None))
    }

    fn attempt(&self, session: &str) -> Option<Attempt> {
        let now_ms = self.ports.clock.now_ms();
        let attempts = self.uia.0.lock();
        attempts.get(session).filter(|attempt| attempt.started_ms + UIA_SESSION_MS > now_ms).cloned()
    }

    /// Notes in a session that a stage has been passed; all that have been.
    fn note_passed(&self, session: &str, stage: &Stage, auth: &AuthData) -> Vec<Stage> {
        let mut attempts = self.uia.0.lock();
        let Some(attempt) = attempts.get_mut(session) else { return Vec::new() };
        if !attempt.passed.contains(stage) {
            attempt.passed.push(stage.clone());
        }
        if let AuthData::RegistrationToken(given) = auth {
            attempt.token = Some(given.token.clone());
        }
        attempt.passed.clone()
    }

    fn flow(&self, purpose: &Purpose) -> Result<Vec<Stage>, AccountError> {
        match purpose {
            Purpose::Register => self.newcomer_stages(),
            Purpose::ResetPassword => Ok(vec![Stage::Email]),
            Purpose::Operation(..) => Ok(vec![Stage::Password]),
        }
    }

    /// Whether one stage is passed; the text says why not.
    async fn pass(
        &self,
        purpose: &Purpose,
        auth: &AuthData,
    ) -> Result<Result<(), &'static str>, AccountError> {
        match (auth, purpose) {
            (AuthData::Dummy(_) | AuthData::Terms(_), _) => Ok(Ok(())),
            (AuthData::RegistrationToken(given), _) => {
                match self.is_registration_token(&given.token).await? {
                    true => Ok(Ok(())),
                    false => Ok(Err("The registration token is not valid")),
                }
            }
            (AuthData::EmailIdentity(given), Purpose::ResetPassword) => {
                match self.proved_by(&given.thirdparty_id_creds).await? {
                    Some(_) => Ok(Ok(())),
                    None => Ok(Err("The address has not been proved")),
                }
            }
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
            (AuthData::OAuth(_) | AuthData::FallbackAcknowledgement(_), Purpose::Operation(_, user)) => {
                let until_ms = self.user(user).await?.map(|user| user.cross_signing_reset_until_ms);
                match until_ms.is_some_and(|until_ms| until_ms > self.ports.clock.now_ms()) {
                    true => Ok(Ok(())),
                    false => Ok(Err("This has to be allowed on the account page of the server first")),
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
        let attempt = Attempt { purpose: purpose.clone(), passed: Vec::new(), token: None, started_ms };
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
        let stages = flow.iter().map(Stage::auth_type).collect();
        let mut info = UiaaInfo::new(vec![AuthFlow::new(stages)]);
        info.session = Some(session);
        info.completed = passed.iter().map(Stage::auth_type).collect();
        info.params = serde_json::value::to_raw_value(&params(flow, &self.settings.terms)).ok();
        info.auth_error =
            error.map(|(kind, message)| Box::new(StandardErrorBody { kind, message: message.to_owned() }));
        AccountError::Uia(Box::new(info))
    }
}
