//! A browser goes to a provider and comes back.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use ruma::OwnedUserId;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest, Sha256};
use url::Url;

use super::{
    Provider, ProviderError,
    claims::{Expected, localpart, verify},
    remote::Redeemed,
};
use crate::{
    account::{Identity, NewUser, Ticket, TicketKey, Verified, token_hash},
    limits::{OAUTH_NEXT_BYTES_MAX, PROVIDER_AWAY_MS, PROVIDER_NEWCOMER_MS},
    log::Commit,
    oauth::{Code, Oauth, OauthError},
    store::table::{Rows, TableId},
    types::random_string,
};

const AWAY: Rows<TicketKey, AwayRow> = Rows::new(TableId::ProviderAway);
const NEWCOMERS: Rows<TicketKey, NewcomerRow> = Rows::new(TableId::ProviderNewcomer);
/// What the states of browsers that are away begin with.
const AWAY_PREFIX: &str = "lks";
/// What the tickets of newcomers begin with.
const NEWCOMER_PREFIX: &str = "lki";
/// Characters of a nonce and of a verifier.
const SECRET_CHARS: usize = 48;

/// A browser that is away at a provider.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct AwayRow {
    provider: String,
    nonce: String,
    verifier: String,
    /// Where it goes then.
    next: String,
    /// The hash of its cookie: it comes back, and not somebody whom it was given to.
    cookie: String,
}

/// Somebody who is known at a provider and not here.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct NewcomerRow {
    identity: Identity,
    localpart: String,
    next: String,
    cookie: String,
}

/// Somebody who is known at a provider and not here, for the page that asks what to do about it.
#[derive(Clone, Debug)]
pub struct Newcomer {
    /// The secret that the page gives back.
    pub ticket: String,
    /// The user name that is proposed.
    pub localpart: String,
    /// The name of the provider.
    pub provider: String,
    /// Where the browser goes then.
    pub next: String,
}

/// Whom a provider knows the browser's user as.
#[derive(Debug)]
pub enum Returned {
    /// A user of this server, and where the browser goes.
    User(Verified, String),
    /// Nobody yet: the ticket for the page that asks.
    Newcomer(String),
}

impl Oauth {
    /// The ids and names of the providers.
    pub fn providers(&self) -> impl Iterator<Item = (&str, &str)> {
        self.providers.iter().map(|provider| (&*provider.settings.id, &*provider.settings.name))
    }

    fn provider(&self, id: &str) -> Result<&Provider, ProviderError> {
        self.providers.iter().find(|provider| provider.settings.id == id).ok_or(ProviderError::Unknown)
    }

    fn callback(&self, id: &str) -> Result<String, ProviderError> {
        Ok(self.needed_site()?.url(&format!("callback/{id}")))
    }

    /// Where a browser with this cookie goes to sign in with a provider, and then to `next`.
    ///
    /// # Errors
    /// When the provider does not answer or cannot be believed, or `next` is too long to be kept.
    pub async fn leave(&self, id: &str, cookie: &str, next: &str) -> Result<String, ProviderError> {
        let provider = self.provider(id)?;
        if next.len() > OAUTH_NEXT_BYTES_MAX {
            return Err(
                OauthError::refused(Code::InvalidRequest, "The address to go on to is too long").into()
            );
        }
        let known = self.provider_known(provider, false).await?;
        let secret = || random_string(&*self.ports.rng, SECRET_CHARS);
        let row = AwayRow {
            provider: id.to_owned(),
            nonce: secret(),
            verifier: secret(),
            next: next.to_owned(),
            cookie: token_hash(cookie),
        };
        let ticket = Ticket::new(&self.ports, AWAY_PREFIX, PROVIDER_AWAY_MS);
        let mut commit = Commit::new();
        commit.delete_range(AWAY.prefix(&()), AWAY.prefix(&(self.ports.clock.now_ms(),)));
        commit.put(&AWAY, &ticket.key, &row);
        self.log.commit(commit).await?;
        let address = Url::parse(&known.metadata.authorization_endpoint);
        let mut address = address.map_err(|_| ProviderError::wrong("an endpoint of it has no address"))?;
        address.query_pairs_mut().extend_pairs([
            ("response_type", "code"),
            ("client_id", &*provider.settings.client_id),
            ("redirect_uri", &*self.callback(id)?),
            ("scope", &*provider.settings.scopes.join(" ")),
            ("state", &*ticket.text),
            ("nonce", &*row.nonce),
            ("code_challenge", &*URL_SAFE_NO_PAD.encode(Sha256::digest(&row.verifier))),
            ("code_challenge_method", "S256"),
        ]);
        Ok(address.into())
    }

    /// A browser with this cookie has come back: with a state and a code, or why there is none. A state is good
    /// once.
    ///
    /// # Errors
    /// When it is not the browser that left, or the provider cannot be believed.
    pub async fn come_back(
        &self,
        (id, cookie): (&str, &str),
        state: &str,
        code: Result<&str, &str>,
    ) -> Result<Returned, ProviderError> {
        let key = Ticket::key_of(&self.ports, AWAY_PREFIX, state).ok_or(ProviderError::Stale)?;
        let row = self.log.db().row(&AWAY, &key).await?.ok_or(ProviderError::Stale)?;
        if row.provider != id || row.cookie != token_hash(cookie) {
            return Err(ProviderError::Stale);
        }
        let mut commit = Commit::new();
        commit.expect_equals(&AWAY, &key, &row);
        commit.delete(&AWAY, &key);
        self.log.commit(commit).await.map_err(|_| ProviderError::Stale)?;
        let code = code.map_err(|error| ProviderError::Denied(error.chars().take(64).collect()))?;
        let (identity, localpart) = self.identify(self.provider(id)?, code, &row).await?;
        if let Some(verified) = self.accounts.verified_by(&identity).await? {
            return Ok(Returned::User(verified, row.next));
        }
        let ticket = Ticket::new(&self.ports, NEWCOMER_PREFIX, PROVIDER_NEWCOMER_MS);
        let newcomer = NewcomerRow { identity, localpart, next: row.next, cookie: row.cookie };
        let mut commit = Commit::new();
        commit.delete_range(NEWCOMERS.prefix(&()), NEWCOMERS.prefix(&(self.ports.clock.now_ms(),)));
        commit.put(&NEWCOMERS, &ticket.key, &newcomer);
        self.log.commit(commit).await?;
        Ok(Returned::Newcomer(ticket.text))
    }

    /// Who somebody is that brings `code`, and the user name that is proposed to them.
    async fn identify(
        &self,
        provider: &Provider,
        code: &str,
        row: &AwayRow,
    ) -> Result<(Identity, String), ProviderError> {
        let known = self.provider_known(provider, false).await?;
        let redirect_uri = self.callback(&row.provider)?;
        let redeemed = Redeemed { code, verifier: &row.verifier, redirect_uri: &redirect_uri };
        let tokens = self.provider_tokens(provider, &known.metadata, redeemed).await?;
        let now_ms = self.ports.clock.now_ms();
        let expected = Expected { settings: &provider.settings, nonce: &row.nonce, now_ms };
        let claims = match verify(&tokens.id_token, &known, &expected)? {
            Some(claims) => claims,
            None => {
                // The provider may have a new key.
                let known = self.provider_known(provider, true).await?;
                let claims = verify(&tokens.id_token, &known, &expected)?;
                claims.ok_or(ProviderError::wrong("its ID token is signed by a key that it does not name"))?
            }
        };
        let subject = claims.get("sub").and_then(Value::as_str).unwrap_or_default().to_owned();
        let template = &provider.settings.localpart;
        let mut name = localpart(template, &claims);
        if name.is_empty() {
            let more = self.provider_userinfo(&known.metadata, &tokens.access_token).await?;
            // Core 1.0, 5.3.2: it is about the same person, or it is not used.
            if more.get("sub").and_then(Value::as_str) == Some(&subject) {
                name = localpart(template, &more);
            }
        }
        Ok((Identity { provider: row.provider.clone(), subject }, name))
    }

    /// Who has a ticket, if it belongs to the browser with this cookie.
    ///
    /// # Errors
    /// When its time is over.
    pub async fn newcomer(&self, ticket: &str, cookie: &str) -> Result<Newcomer, ProviderError> {
        let (_, row) = self.newcomer_row(ticket, cookie).await?;
        let provider = self.provider(&row.identity.provider)?.settings.name.clone();
        Ok(Newcomer { ticket: ticket.to_owned(), localpart: row.localpart, provider, next: row.next })
    }

    async fn newcomer_row(
        &self,
        ticket: &str,
        cookie: &str,
    ) -> Result<(TicketKey, NewcomerRow), ProviderError> {
        let key = Ticket::key_of(&self.ports, NEWCOMER_PREFIX, ticket).ok_or(ProviderError::Stale)?;
        let row = self.log.db().row(&NEWCOMERS, &key).await?;
        let row = row.filter(|row| row.cookie == token_hash(cookie)).ok_or(ProviderError::Stale)?;
        Ok((key, row))
    }

    /// Makes an account for a newcomer.
    ///
    /// # Errors
    /// When newcomers are not let in, or the name cannot be had.
    pub async fn welcome(
        &self,
        (ticket, cookie): (&str, &str),
        username: &str,
    ) -> Result<OwnedUserId, ProviderError> {
        let (key, row) = self.newcomer_row(ticket, cookie).await?;
        self.accounts.check_provider_registration()?;
        let new = NewUser { username: Some(username.to_owned()), ..NewUser::default() };
        let also = |commit: &mut Commit| commit.delete(&NEWCOMERS, &key);
        Ok(self.accounts.create_linked_user(new, &row.identity, also).await?)
    }

    /// Has a newcomer be somebody who has an account here, and has shown so.
    ///
    /// # Errors
    /// When the user may not sign in.
    pub async fn connect(
        &self,
        (ticket, cookie): (&str, &str),
        verified: &Verified,
    ) -> Result<(), ProviderError> {
        let (key, row) = self.newcomer_row(ticket, cookie).await?;
        let also = |commit: &mut Commit| commit.delete(&NEWCOMERS, &key);
        Ok(self.accounts.link(verified, &row.identity, also).await?)
    }
}

impl From<ProviderError> for OauthError {
    fn from(error: ProviderError) -> Self {
        match error {
            ProviderError::Failed(error) => error,
            error => Self::refused(crate::oauth::Code::AccessDenied, error.to_string()),
        }
    }
}
