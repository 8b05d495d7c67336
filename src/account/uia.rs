//! User-interactive authentication: which stages an operation asks for, and which have been passed.
//!
//! <https://spec.matrix.org/v1.19/client-server-api/#user-interactive-authentication-api>

use std::{collections::BTreeMap, net::IpAddr};

use parking_lot::Mutex;
use ruma::{
    OwnedUserId, UserId,
    api::{
        client::uiaa::{AuthData, AuthFlow, AuthType, ThirdpartyIdCredentials, UiaaInfo, UserIdentifier},
        error::{ErrorKind, StandardErrorBody},
    },
};

use super::{
    AccountError, Accounts, Caller, ProofOf, Proved, Purpose, Shown, Stage, Target, Verified,
    device::DEVICES, stage::params,
};
use crate::{
    limits::{UIA_SESSION_MS, UIA_SESSIONS_EACH_MAX, UIA_SESSIONS_MAX},
    types::random_string,
};

/// The operation that replaces cross-signing keys.
const CROSS_SIGNING: &str = "device_signing";

#[derive(Default)]
pub(super) struct Uia(Mutex<BTreeMap<String, Attempt>>);

#[derive(Clone)]
struct Attempt {
    purpose: Purpose,
    owner: Owner,
    passed: Vec<Stage>,
    /// The registration token that was shown.
    token: Option<String>,
    /// The session of the proof of an address, and its secret.
    proof: Option<(String, String)>,
    /// What somebody has shown who has an account.
    verified: Option<Verified>,
    started_ms: u64,
}

/// Whose sessions are counted together, so that nobody's are in the way of anybody else's.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Owner {
    User(OwnedUserId),
    /// Those who have not said who they are, by where they come from, if that is known.
    Network(Option<IpAddr>),
}

impl Owner {
    fn of(purpose: &Purpose, network: Option<IpAddr>) -> Self {
        match purpose {
            Purpose::Operation(_, user, _) => Self::User(user.clone()),
            Purpose::Register | Purpose::ResetPassword => Self::Network(network),
        }
    }
}

/// Makes room for a session of `owner`. Whoever is asked to begin again loses a moment; memory stays bounded.
fn make_room(attempts: &mut BTreeMap<String, Attempt>, owner: &Owner) {
    let own = attempts.values().filter(|attempt| attempt.owner == *owner).count();
    let crowded = match (own >= UIA_SESSIONS_EACH_MAX, attempts.len() >= UIA_SESSIONS_MAX) {
        // Many may come from where nothing is known.
        (true, _) if *owner != Owner::Network(None) => owner.clone(),
        (_, false) => return,
        (_, true) => {
            let mut counts = BTreeMap::<&Owner, usize>::new();
            for attempt in attempts.values() {
                *counts.entry(&attempt.owner).or_default() += 1;
            }
            let most = counts.into_iter().max_by_key(|(_, count)| *count);
            most.map_or_else(|| owner.clone(), |(owner, _)| owner.clone())
        }
    };
    let theirs = attempts.iter().filter(|(_, attempt)| attempt.owner == crowded);
    let oldest = theirs.min_by_key(|(_, attempt)| attempt.started_ms).map(|(session, _)| session.clone());
    if let Some(oldest) = oldest {
        attempts.remove(&oldest);
    }
}

impl Accounts {
    /// Passes when `auth` completes what `purpose` asks for.
    ///
    /// # Errors
    /// [`AccountError::Uia`] with what is missing, or what was wrong.
    pub async fn authorize(&self, purpose: &Purpose, auth: Option<&AuthData>) -> Result<(), AccountError> {
        let flows = self.flows(purpose).await?;
        self.authorize_by(&flows, (purpose, None), auth).await.map(drop)
    }

    /// As [`Accounts::authorize`], for somebody from `network` who wants an account; what they have shown that is used up
    /// by it.
    ///
    /// # Errors
    /// As [`Accounts::authorize`].
    pub async fn authorize_newcomer(
        &self,
        auth: Option<&AuthData>,
        network: Option<IpAddr>,
    ) -> Result<Shown, AccountError> {
        let flows = self.newcomer_flows()?;
        let attempt = self.authorize_by(&flows, (&Purpose::Register, network), auth).await?;
        let Attempt { token, proof, passed, .. } = attempt;
        let address = match proof {
            Some((sid, secret)) => {
                let proved = self.proved(ProofOf::Registration, (&sid, &secret)).await?;
                Some(proved.ok_or(AccountError::AddressNotProved)?)
            }
            None => None,
        };
        Ok(Shown { token, address, terms: passed.contains(&Stage::Terms) })
    }

    /// The stage of the kind `auth_type` that is left in a session, for somebody who passes it on a page.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn stage_left(
        &self,
        session: &str,
        auth_type: &AuthType,
    ) -> Result<Option<Stage>, AccountError> {
        let Some(attempt) = self.attempt(session) else { return Ok(None) };
        let mut stages = self.flows(&attempt.purpose).await?.into_iter().flatten();
        Ok(stages.find(|stage| stage.auth_type() == *auth_type && !attempt.passed.contains(stage)))
    }

    /// What somebody proves in a session, and who.
    #[must_use]
    pub fn purpose_of(&self, session: &str) -> Option<Purpose> {
        self.attempt(session).map(|attempt| attempt.purpose)
    }

    /// `user` has proved on a page who they are; whether that is what the session asked for.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn pass_as(&self, session: &str, user: &UserId) -> Result<bool, AccountError> {
        let Some(attempt) = self.attempt(session) else { return Ok(false) };
        let is_theirs = matches!(&attempt.purpose, Purpose::Operation(_, owner, _) if owner == user);
        let stages = self.flows(&attempt.purpose).await?;
        let is_asked = is_theirs && stages.iter().flatten().any(|stage| *stage == Stage::Sso);
        if is_asked {
            let verified = self.verified_now(user).await?;
            self.note(session, &Stage::Sso, |attempt| attempt.verified = Some(verified));
        }
        Ok(is_asked)
    }

    /// Whether what was entered on a page passes a stage; the client goes on with the session.
    ///
    /// # Errors
    /// When the session is unknown, or the store fails.
    pub async fn pass_on_page(&self, auth: &AuthData) -> Result<Result<(), &'static str>, AccountError> {
        let session = auth.session().unwrap_or_default();
        let attempt = self.attempt(session).ok_or(AccountError::NotFound("authentication session"))?;
        let mut stages = self.flows(&attempt.purpose).await?.into_iter().flatten();
        let Some(stage) = stages.find(|stage| stage.is_tried_by(auth)) else {
            return Ok(Err("The stage is not part of any flow"));
        };
        Ok(match self.pass(&attempt.purpose, auth).await? {
            Ok(verified) => {
                self.note_passed(session, &stage, (auth, verified));
                Ok(())
            }
            Err(message) => Err(message),
        })
    }

    /// As [`Accounts::authorize`], for an operation of somebody who is logged in. Whoever was logged in by the
    /// OAuth 2.0 API shows no password to a client: the account page of the server, which begins with `account_page`,
    /// is where they allow it. What comes of it is what they have shown, which what they do by it should name.
    ///
    /// <https://spec.matrix.org/v1.19/client-server-api/#oauth-authentication>
    ///
    /// # Errors
    /// As [`Accounts::authorize`]; [`AccountError::AccountPage`] for what can only be done there.
    pub async fn authorize_caller(
        &self,
        (operation, target): (&'static str, Target),
        caller: &Caller,
        auth: Option<&AuthData>,
        account_page: Option<&str>,
    ) -> Result<Verified, AccountError> {
        let purpose = Purpose::Operation(operation, caller.user_id.clone(), target);
        let flows = match (self.is_oauth_session(caller).await?, operation, account_page) {
            (false, ..) => self.flows(&purpose).await?,
            (true, CROSS_SIGNING, Some(page)) => {
                vec![vec![Stage::Oauth { url: format!("{page}?action=org.matrix.cross_signing_reset") }]]
            }
            (true, ..) => return Err(AccountError::AccountPage),
        };
        let attempt = self.authorize_by(&flows, (&purpose, None), auth).await?;
        match attempt.verified {
            Some(verified) => Ok(verified),
            None => self.verified_now(&caller.user_id).await,
        }
    }

    /// Whether the caller was logged in by the OAuth 2.0 API.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn is_oauth_session(&self, caller: &Caller) -> Result<bool, AccountError> {
        let owner = (caller.user_id.clone(), caller.device_id.clone());
        let device = self.log.db().row(&DEVICES, &owner).await?;
        Ok(device.is_some_and(|device| device.client.is_some()))
    }

    /// Passes when `auth` proves that its client's user reads the mail of an address: whose address it is, and the
    /// proof, which is good once.
    ///
    /// # Errors
    /// As [`Accounts::authorize`]; when the address is nobody's.
    pub async fn authorize_reset(
        &self,
        auth: Option<&AuthData>,
        network: Option<IpAddr>,
    ) -> Result<(OwnedUserId, Proved), AccountError> {
        let flows = self.flows(&Purpose::ResetPassword).await?;
        self.authorize_by(&flows, (&Purpose::ResetPassword, network), auth).await?;
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
        flows: &[Vec<Stage>],
        (purpose, network): (&Purpose, Option<IpAddr>),
        auth: Option<&AuthData>,
    ) -> Result<Attempt, AccountError> {
        let owner = Owner::of(purpose, network);
        let Some(auth) = auth else {
            let session = self.begin(purpose, owner);
            return Err(self.incomplete(flows, session, Vec::new(), None));
        };
        let session = auth.session().map(str::to_owned);
        let Some((session, passed)) = self.resume((purpose, &owner), session.as_deref()) else {
            let session = self.begin(purpose, owner);
            let message =
                "The authentication session is unknown, its time is over, or it is for another request";
            let error = (ErrorKind::Unknown, message);
            return Err(self.incomplete(flows, session, Vec::new(), Some(error)));
        };
        let Some(stage) = flows.iter().flatten().find(|stage| stage.is_tried_by(auth)).cloned() else {
            let is_page = matches!(auth, AuthData::FallbackAcknowledgement(_));
            if is_page || auth.auth_type() == Some(AuthType::Sso) {
                // Something was passed on a page.
                return self.conclude(flows, session, passed);
            }
            let error = (ErrorKind::Unrecognized, "The stage is not part of any flow");
            return Err(self.incomplete(flows, session, passed, Some(error)));
        };
        let verified = match self.pass(purpose, auth).await? {
            Ok(verified) => verified,
            Err(message) => {
                let kind = match stage {
                    Stage::RegistrationToken => ErrorKind::Unauthorized,
                    Stage::Captcha => ErrorKind::CaptchaInvalid,
                    _ => ErrorKind::Forbidden,
                };
                return Err(self.incomplete(flows, session, passed, Some((kind, message))));
            }
        };
        let passed = self.note_passed(&session, &stage, (auth, verified));
        self.conclude(flows, session, passed)
    }

    /// Passes when every stage of a flow has been passed; the session is used up then.
    fn conclude(
        &self,
        flows: &[Vec<Stage>],
        session: String,
        passed: Vec<Stage>,
    ) -> Result<Attempt, AccountError> {
        let is_done = flows.iter().any(|flow| flow.iter().all(|stage| passed.contains(stage)));
        let attempt = if is_done { self.uia.0.lock().remove(&session) } else { None };
        attempt.ok_or_else(|| self.incomplete(flows, session, passed, None))
    }

    fn attempt(&self, session: &str) -> Option<Attempt> {
        let now_ms = self.ports.clock.now_ms();
        let attempts = self.uia.0.lock();
        attempts.get(session).filter(|attempt| attempt.started_ms + UIA_SESSION_MS > now_ms).cloned()
    }

    /// Notes in a session that a stage has been passed; all that have been.
    fn note_passed(
        &self,
        session: &str,
        stage: &Stage,
        (auth, verified): (&AuthData, Option<Verified>),
    ) -> Vec<Stage> {
        self.note(session, stage, |attempt| {
            if verified.is_some() {
                attempt.verified = verified;
            }
            match auth {
                AuthData::RegistrationToken(given) => attempt.token = Some(given.token.clone()),
                AuthData::EmailIdentity(given) => {
                    let creds = &given.thirdparty_id_creds;
                    attempt.proof = Some((creds.sid.to_string(), creds.client_secret.to_string()));
                }
                _ => {}
            }
        })
    }

    fn note(&self, session: &str, stage: &Stage, also: impl FnOnce(&mut Attempt)) -> Vec<Stage> {
        let mut attempts = self.uia.0.lock();
        let Some(attempt) = attempts.get_mut(session) else { return Vec::new() };
        if !attempt.passed.contains(stage) {
            attempt.passed.push(stage.clone());
        }
        also(attempt);
        attempt.passed.clone()
    }

    async fn flows(&self, purpose: &Purpose) -> Result<Vec<Vec<Stage>>, AccountError> {
        Ok(match purpose {
            Purpose::Register => self.newcomer_flows()?,
            Purpose::ResetPassword => vec![vec![Stage::Email]],
            // Whoever has no password proves on a page of the server who they are.
            Purpose::Operation(_, user, _) if self.settings.pages && !self.has_password(user).await? => {
                vec![vec![Stage::Sso]]
            }
            Purpose::Operation(..) => vec![vec![Stage::Password]],
        })
    }

    /// Whether one stage is passed, and what somebody who has an account has shown by it; the text says why not.
    async fn pass(
        &self,
        purpose: &Purpose,
        auth: &AuthData,
    ) -> Result<Result<Option<Verified>, &'static str>, AccountError> {
        if let (AuthData::Password(given), Purpose::Operation(_, user, _)) = (auth, purpose) {
            if !self.names(&given.identifier, user) {
                return Err(AccountError::NotTheCaller);
            }
            return match self.check_password(user, &given.password).await {
                Ok(verified) => Ok(Ok(Some(verified))),
                Err(AccountError::WrongPassword) => Ok(Err("Invalid password")),
                Err(error) => Err(error),
            };
        }
        Ok(self.pass_otherwise(purpose, auth).await?.map(|()| None))
    }

    /// The same, for a stage that shows no password.
    async fn pass_otherwise(
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
            (AuthData::ReCaptcha(given), Purpose::Register) => {
                Ok(self.is_captcha_solved(&given.response).await)
            }
            (AuthData::EmailIdentity(given), Purpose::Register) => {
                let creds = &given.thirdparty_id_creds;
                let creds = (creds.sid.as_str(), creds.client_secret.as_str());
                let Some(proved) = self.proved(ProofOf::Registration, creds).await? else {
                    return Ok(Err("The address has not been proved"));
                };
                match self.user_of_address(&proved.address).await? {
                    None => Ok(Ok(())),
                    Some(_) => Ok(Err("The address is in use")),
                }
            }
            (AuthData::EmailIdentity(given), Purpose::ResetPassword) => {
                match self.proved_by(&given.thirdparty_id_creds).await? {
                    Some(_) => Ok(Ok(())),
                    None => Ok(Err("The address has not been proved")),
                }
            }
            (AuthData::OAuth(_) | AuthData::FallbackAcknowledgement(_), Purpose::Operation(_, user, _)) => {
                let until_ms = self.user(user).await?.map(|user| user.cross_signing_reset_until_ms);
                match until_ms.is_some_and(|until_ms| until_ms > self.ports.clock.now_ms()) {
                    true => Ok(Ok(())),
                    false => Ok(Err("This has to be allowed on the account page of the server first")),
                }
            }
            _ => Ok(Err("The stage is not part of any flow")),
        }
    }

    /// Whether a newcomer has solved the puzzle.
    ///
    /// # Errors
    /// Why not, as it is told.
    pub async fn is_captcha_solved(&self, response: &str) -> Result<(), &'static str> {
        let Some(captcha) = &self.settings.captcha else { return Ok(()) };
        match captcha.check.is_solved(response).await {
            Ok(true) => Ok(()),
            Ok(false) => Err("The captcha has not been solved"),
            Err(error) => {
                tracing::warn!(%error, "a captcha cannot be checked");
                Err("The captcha cannot be checked at the moment")
            }
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

    fn begin(&self, purpose: &Purpose, owner: Owner) -> String {
        let session = random_string(&*self.ports.rng, 24);
        let started_ms = self.ports.clock.now_ms();
        let mut attempts = self.uia.0.lock();
        attempts.retain(|_, attempt| attempt.started_ms + UIA_SESSION_MS > started_ms);
        make_room(&mut attempts, &owner);
        let purpose = purpose.clone();
        let (passed, token, proof, verified) = (Vec::new(), None, None, None);
        let attempt = Attempt { purpose, owner, passed, token, proof, verified, started_ms };
        attempts.insert(session.clone(), attempt);
        session
    }

    /// The session and what was passed in it. A client may also complete a flow of one stage without
    /// having asked for a session first. What was passed before is worth nothing for another request than the one for
    /// which it was: whoever allows something on a page has allowed that and nothing else.
    fn resume(
        &self,
        (purpose, owner): (&Purpose, &Owner),
        session: Option<&str>,
    ) -> Option<(String, Vec<Stage>)> {
        let Some(session) = session else { return Some((self.begin(purpose, owner.clone()), Vec::new())) };
        let now_ms = self.ports.clock.now_ms();
        let attempts = self.uia.0.lock();
        let attempt = attempts.get(session)?;
        let is_meant = match attempt.passed.is_empty() {
            true => attempt.purpose.is_like(purpose),
            false => attempt.purpose == *purpose,
        };
        let valid = is_meant && attempt.started_ms + UIA_SESSION_MS > now_ms;
        valid.then(|| (session.to_owned(), attempt.passed.clone()))
    }

    fn incomplete(
        &self,
        flows: &[Vec<Stage>],
        session: String,
        passed: Vec<Stage>,
        error: Option<(ErrorKind, &str)>,
    ) -> AccountError {
        let told = |flow: &Vec<Stage>| AuthFlow::new(flow.iter().map(Stage::auth_type).collect());
        let mut info = UiaaInfo::new(flows.iter().map(told).collect());
        info.session = Some(session);
        info.completed = passed.iter().map(Stage::auth_type).collect();
        info.params = serde_json::value::to_raw_value(&params(flows, &self.settings)).ok();
        info.auth_error =
            error.map(|(kind, message)| Box::new(StandardErrorBody { kind, message: message.to_owned() }));
        AccountError::Uia(Box::new(info))
    }
}
