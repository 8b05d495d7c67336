//! Clients and their registration.
//!
//! <https://spec.matrix.org/v1.19/client-server-api/#client-registration>

use serde::{Deserialize, Serialize};
use url::Url;

use super::{
    Code, Oauth, OauthError, Site,
    redirect::{has_base, is_registered, may_register, web_page},
};
use crate::{
    account::{DeviceClient, token_hash},
    limits::{
        OAUTH_CLIENT_BYTES_MAX, OAUTH_CLIENT_KEEP_MS, OAUTH_CLIENT_UNUSED_KEEP_MS, OAUTH_CLIENT_USED_MS,
        OAUTH_CLIENTS_PER_HOUR, OAUTH_NAME_CHARS_MAX, OAUTH_REDIRECTS_MAX, OAUTH_SWEEP_ROWS,
    },
    log::{Commit, CommitError},
    store::{
        Scan,
        table::{Rows, TableId},
    },
};

pub(super) const CLIENTS: Rows<(String,), ClientRow> = Rows::new(TableId::OauthClient);

/// The grants that there are.
const GRANTS: [&str; 3] =
    ["authorization_code", "refresh_token", "urn:ietf:params:oauth:grant-type:device_code"];
/// Characters of a `client_id`: 128 bits of the hash of what it stands for.
const ID_CHARS: usize = 32;

/// What a client says about itself. Everything else that it may say means nothing here.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
#[expect(missing_docs, reason = "the names are those of the specification")]
pub struct ClientMetadata {
    pub client_name: Option<String>,
    pub client_uri: Option<String>,
    pub logo_uri: Option<String>,
    pub tos_uri: Option<String>,
    pub policy_uri: Option<String>,
    pub redirect_uris: Option<Vec<String>>,
    pub response_types: Option<Vec<String>>,
    pub grant_types: Option<Vec<String>>,
    pub token_endpoint_auth_method: Option<String>,
    pub application_type: Option<String>,
}

/// A client that has been registered, as it is told about itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "the names are those of the specification")]
pub struct Client {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_name: Option<String>,
    pub client_uri: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub logo_uri: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tos_uri: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub policy_uri: Option<String>,
    pub redirect_uris: Vec<String>,
    pub response_types: Vec<String>,
    pub grant_types: Vec<String>,
    pub token_endpoint_auth_method: String,
    pub application_type: String,
}

/// A client, and when it was last of use to somebody.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct ClientRow {
    #[serde(flatten)]
    pub(super) client: Client,
    pub(super) used_ms: u64,
    /// Whether somebody has signed in by it. Of rows of old it is not known.
    #[serde(default = "yes", skip_serializing_if = "is_yes")]
    pub(super) granted: bool,
}

fn yes() -> bool {
    true
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde wants it so")]
fn is_yes(value: &bool) -> bool {
    *value
}

impl ClientRow {
    /// Whether it is time to note that it is of use.
    fn is_behind(&self, now_ms: u64) -> bool {
        let exact_ms = if self.granted { OAUTH_CLIENT_USED_MS } else { OAUTH_CLIENT_UNUSED_KEEP_MS / 3 };
        self.used_ms.saturating_add(exact_ms) <= now_ms
    }

    /// Whether nobody needs it any more.
    fn is_over(&self, now_ms: u64) -> bool {
        let keep_ms = if self.granted { OAUTH_CLIENT_KEEP_MS } else { OAUTH_CLIENT_UNUSED_KEEP_MS };
        self.used_ms.saturating_add(keep_ms) <= now_ms
    }
}

impl Client {
    /// Checks what a client says about itself.
    ///
    /// # Errors
    /// When it is not what the specification allows.
    pub fn new(given: ClientMetadata, site: &Site) -> Result<Self, OauthError> {
        let refused = |text: &'static str| OauthError::refused(Code::InvalidClientMetadata, text);
        let client_uri = given.client_uri.ok_or_else(|| refused("client_uri is missing"))?;
        let base = web_page(&client_uri, site);
        let base = base.ok_or_else(|| refused("client_uri must be a https URL without user and password"))?;
        let client_name =
            given.client_name.map(|name| name.trim().to_owned()).filter(|name| !name.is_empty());
        if client_name.as_ref().is_some_and(|name| name.chars().count() > OAUTH_NAME_CHARS_MAX) {
            return Err(refused("client_name is too long"));
        }
        let method = given.token_endpoint_auth_method;
        if method.is_some_and(|method| method != "none") {
            return Err(refused("token_endpoint_auth_method must be none"));
        }
        let application_type = given.application_type.unwrap_or_else(|| "web".to_owned());
        if application_type != "web" && application_type != "native" {
            return Err(refused("application_type must be web or native"));
        }
        let grants = given.grant_types.unwrap_or_else(|| vec![GRANTS[0].to_owned()]);
        let grant_types: Vec<String> = GRANTS
            .iter()
            .filter(|known| grants.iter().any(|grant| grant == *known))
            .map(ToString::to_string)
            .collect();
        let by_redirect = grant_types.iter().any(|grant| grant == GRANTS[0]);
        if !by_redirect && !grant_types.iter().any(|grant| grant == GRANTS[2]) {
            return Err(refused("grant_types contains no grant that this server knows"));
        }
        let responses = given.response_types.is_none_or(|types| types.iter().any(|known| known == "code"));
        if by_redirect && !responses {
            return Err(refused("response_types must contain code"));
        }
        let redirect_uris = given.redirect_uris.unwrap_or_default();
        check_redirects(&redirect_uris, by_redirect, (application_type == "native", &base, site))?;
        // RFC 7591, 3.2.1: what is not registered is left out of the answer.
        let own = |uri: Option<String>| {
            uri.filter(|uri| web_page(uri, site).is_some_and(|url| has_base(&url, &base)))
        };
        let client = Self {
            client_name,
            logo_uri: own(given.logo_uri),
            tos_uri: own(given.tos_uri),
            policy_uri: own(given.policy_uri),
            client_uri,
            redirect_uris,
            response_types: if by_redirect { vec!["code".to_owned()] } else { Vec::new() },
            grant_types,
            token_endpoint_auth_method: "none".to_owned(),
            application_type,
        };
        match client.text().len() > OAUTH_CLIENT_BYTES_MAX {
            true => Err(refused("The metadata is too long")),
            false => Ok(client),
        }
    }

    /// Its id: whoever says the same gets the same one.
    ///
    /// # Panics
    /// Never: the fields are text.
    #[must_use]
    pub fn id(&self) -> String {
        token_hash(&self.text())[..ID_CHARS].to_owned()
    }

    fn text(&self) -> String {
        serde_json::to_string(self).expect("text serializes")
    }

    /// Whether it may use a grant.
    #[must_use]
    pub fn may_use(&self, grant: &str) -> bool {
        self.grant_types.iter().any(|known| known == grant)
    }

    /// Whether a request of it may name this redirect URI.
    #[must_use]
    pub fn has_redirect(&self, given: &str) -> bool {
        self.redirect_uris.iter().any(|registered| is_registered(registered, given))
    }

    /// What people are shown: its name, or else the host of its page.
    #[must_use]
    pub fn shown_name(&self) -> String {
        self.client_name.clone().unwrap_or_else(|| self.host())
    }

    /// The host of its page.
    #[must_use]
    pub fn host(&self) -> String {
        let url = Url::parse(&self.client_uri).ok();
        url.and_then(|url| url.host_str().map(str::to_owned)).unwrap_or_default()
    }

    /// What its sessions know of it.
    pub(super) fn of_device(&self, id: &str) -> DeviceClient {
        DeviceClient { id: id.to_owned(), name: self.client_name.clone(), uri: self.client_uri.clone() }
    }
}

fn check_redirects(
    uris: &[String],
    needed: bool,
    (is_native, base, site): (bool, &Url, &Site),
) -> Result<(), OauthError> {
    let refused = |text: String| OauthError::refused(Code::InvalidRedirectUri, text);
    if uris.len() > OAUTH_REDIRECTS_MAX || (needed && uris.is_empty()) {
        return Err(refused("redirect_uris must have at least one entry, and not too many".to_owned()));
    }
    let wrong = uris.iter().find(|uri| !may_register(uri, is_native, (base, site)));
    match wrong {
        Some(wrong) => Err(refused(format!("This is not a redirect URI for this client: {wrong}"))),
        None => Ok(()),
    }
}

impl Oauth {
    /// Registers a client: its id, and what it is known as from now on. A client that is known already is given the
    /// id that it has.
    ///
    /// # Errors
    /// When what it says about itself is not what the specification allows, or too many are new.
    pub async fn register_client(&self, given: ClientMetadata) -> Result<(String, Client), OauthError> {
        let client = Client::new(given, self.needed_site()?)?;
        let (id, now_ms) = (client.id(), self.ports.clock.now_ms());
        let mut commit = Commit::new();
        let known = self.client_row(&id).await?;
        if let Some(known) = &known {
            // Somebody may sign in by it at this moment, which notes more.
            commit.expect_equals(&CLIENTS, &(id.clone(),), known);
        }
        let granted = match &known {
            Some(known) if !known.is_behind(now_ms) => return Ok((id, client)),
            Some(known) if known.granted => true,
            // To be kept for another day counts as much as to be new.
            Some(_) if !self.count_client(now_ms / 3_600_000) => return Ok((id, client)),
            Some(_) => false,
            None if !self.count_client(now_ms / 3_600_000) => return Err(OauthError::Busy),
            None => {
                self.sweep_clients(&mut commit, &id).await?;
                false
            }
        };
        commit.put(&CLIENTS, &(id.clone(),), &ClientRow { client: client.clone(), used_ms: now_ms, granted });
        match self.log.commit(commit).await {
            Err(CommitError::Conflict(_)) if known.is_some() => Ok((id, client)),
            done => Ok(done.map(|_| (id, client))?),
        }
    }

    /// Whether another client by which nobody signs in may be kept from this hour on.
    fn count_client(&self, hour: u64) -> bool {
        let mut unused = self.unused_clients.lock();
        if unused.0 != hour {
            *unused = (hour, 0);
        }
        let may_come = unused.1 < OAUTH_CLIENTS_PER_HOUR;
        unused.1 += u32::from(may_come);
        may_come
    }

    /// A client by its id.
    ///
    /// # Errors
    /// When there is no such client.
    pub async fn client(&self, id: &str) -> Result<Client, OauthError> {
        let row = self.client_row(id).await?.map(|row| row.client);
        row.ok_or_else(|| OauthError::refused(Code::InvalidClient, "There is no such client"))
    }

    pub(super) async fn client_row(&self, id: &str) -> Result<Option<ClientRow>, OauthError> {
        Ok(self.log.db().row(&CLIENTS, &(id.to_owned(),)).await?)
    }

    /// Adds to `commit` that somebody signs in by the client, or still does.
    pub(super) fn note_use(&self, commit: &mut Commit, id: &str, row: &ClientRow) {
        let used_ms = self.ports.clock.now_ms();
        if !row.granted || row.is_behind(used_ms) {
            commit.put(&CLIENTS, &(id.to_owned(),), &ClientRow { used_ms, granted: true, ..row.clone() });
        }
    }

    /// Removes some clients that nobody has used for long, or ever. Ids are random, so the neighbours of a new one are as good
    /// as any.
    async fn sweep_clients(&self, commit: &mut Commit, id: &str) -> Result<(), OauthError> {
        let all = CLIENTS.prefix(&());
        let from = CLIENTS.key(&(id.to_owned(),));
        let scan = Scan { from, to: all.after_prefix(), reverse: false, limit: OAUTH_SWEEP_ROWS };
        let now_ms = self.ports.clock.now_ms();
        for (key, row) in self.log.db().scan(&CLIENTS, scan).await? {
            if row.is_over(now_ms) {
                // A login at this moment writes the row anew: then the registration is refused, and comes again.
                commit.expect_equals(&CLIENTS, &key, &row);
                commit.delete(&CLIENTS, &key);
            }
        }
        Ok(())
    }
}
