//! Authorisation requests: what a client sends the user's browser here with.
//!
//! <https://spec.matrix.org/v1.19/client-server-api/#authorisation-code-flow>

use serde::{Deserialize, Serialize};
use url::form_urlencoded;

use super::{Client, Code, Oauth, OauthError, Scope};
use crate::limits::OAUTH_STATE_BYTES_MAX;

/// The parameters of an authorisation request, as they come.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default)]
#[expect(missing_docs, reason = "the names are those of the standards")]
pub struct AuthorizationParams {
    pub response_type: Option<String>,
    pub response_mode: Option<String>,
    pub client_id: Option<String>,
    pub redirect_uri: Option<String>,
    pub scope: Option<String>,
    pub state: Option<String>,
    pub code_challenge: Option<String>,
    pub code_challenge_method: Option<String>,
    pub prompt: Option<String>,
}

/// A request that can be put to the user.
#[derive(Clone, Debug)]
pub struct Authorization {
    /// The id of the client.
    pub client_id: String,
    /// The client.
    pub client: Client,
    /// Where the browser is sent back to.
    pub redirect_uri: String,
    /// What is asked for.
    pub scope: Scope,
    /// What the user should see first.
    pub prompt: Option<Prompt>,
    pub(super) challenge: String,
    back: Back,
}

/// What a client wants the user to see (OpenID Connect Core 1.0, 3.1.2.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Prompt {
    /// Making an account.
    Create,
    /// Signing in, also when they are.
    Login,
    /// Nothing.
    None,
}

/// Why a request cannot be put to the user.
#[derive(Debug)]
pub enum Misled {
    /// It is not known where to send the browser; the user is told.
    Shown(&'static str),
    /// The browser is sent back, with an error in the URL.
    Back(String),
    /// The server failed.
    Failed(OauthError),
}

/// How the browser is sent back.
#[derive(Clone, Debug)]
struct Back {
    uri: String,
    in_fragment: bool,
    state: Option<String>,
    issuer: String,
}

impl Back {
    fn with(&self, pairs: &[(&str, &str)]) -> String {
        let mut answer = form_urlencoded::Serializer::new(String::new());
        answer.extend_pairs(pairs);
        answer.extend_pairs(self.state.iter().map(|state| ("state", state)));
        // RFC 9207: so that a client that talks to several servers knows which one answers.
        answer.append_pair("iss", &self.issuer);
        let answer = answer.finish();
        let mark = match (self.in_fragment, self.uri.contains('?')) {
            (true, _) => '#',
            (false, true) => '&',
            (false, false) => '?',
        };
        format!("{}{mark}{answer}", self.uri)
    }

    fn error(&self, code: Code, text: &str) -> String {
        self.with(&[("error", code.as_str()), ("error_description", text)])
    }
}

impl Authorization {
    /// The URL that tells the client that it has been granted `code`.
    #[must_use]
    pub fn granted(&self, code: &str) -> String {
        self.back.with(&[("code", code)])
    }

    /// The URL that tells the client that the user said no.
    #[must_use]
    pub fn denied(&self) -> String {
        self.back.error(Code::AccessDenied, "The user has refused")
    }

    /// The URL that tells the client that nobody is signed in.
    #[must_use]
    pub fn login_required(&self) -> String {
        self.back.error(Code::LoginRequired, "The user is not signed in")
    }

    /// The URL that tells the client that the user would have to be asked.
    #[must_use]
    pub fn interaction_required(&self) -> String {
        self.back.error(Code::InteractionRequired, "The user has to agree")
    }
}

impl Oauth {
    /// Checks an authorisation request.
    ///
    /// # Errors
    /// What to do with the browser instead.
    pub async fn authorization(&self, params: AuthorizationParams) -> Result<Authorization, Misled> {
        let site = self.needed_site().map_err(Misled::Failed)?;
        let client_id =
            params.client_id.ok_or(Misled::Shown("The application did not say which one it is."))?;
        let client = match self.client(&client_id).await {
            Ok(client) => client,
            Err(OauthError::Refused(..)) => {
                return Err(Misled::Shown("This server does not know the application that sent you here."));
            }
            Err(error) => return Err(Misled::Failed(error)),
        };
        let uri = params.redirect_uri.filter(|uri| client.has_redirect(uri));
        let uri = uri.ok_or(Misled::Shown(
            "The application wants to be answered at an address that is not its own.",
        ))?;
        let in_fragment = params.response_mode.as_deref() == Some("fragment");
        let state = params.state.filter(|state| state.len() <= OAUTH_STATE_BYTES_MAX);
        let back = Back { uri: uri.clone(), in_fragment, state, issuer: site.issuer() };
        let refuse = |code, text: &str| Misled::Back(back.error(code, text));
        if !matches!(params.response_mode.as_deref(), None | Some("query" | "fragment")) {
            return Err(refuse(Code::InvalidRequest, "response_mode must be query or fragment"));
        }
        if params.response_type.as_deref() != Some("code") {
            return Err(refuse(Code::UnsupportedResponseType, "response_type must be code"));
        }
        if !client.may_use("authorization_code") {
            return Err(refuse(Code::UnauthorizedClient, "The client has not registered this grant"));
        }
        let scope = Scope::parse(&params.scope.unwrap_or_default());
        let scope = scope.map_err(|error| refuse(Code::InvalidScope, &error.to_string()))?;
        let is_base64url = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
        let challenge =
            params.code_challenge.filter(|text| text.len() == 43 && text.bytes().all(is_base64url));
        let (Some(challenge), Some("S256")) = (challenge, params.code_challenge_method.as_deref()) else {
            return Err(refuse(Code::InvalidRequest, "A code_challenge with the method S256 is needed"));
        };
        let prompt = match params.prompt.as_deref() {
            Some("create") => Some(Prompt::Create),
            Some("login") => Some(Prompt::Login),
            Some("none") => Some(Prompt::None),
            _ => None,
        };
        Ok(Authorization { client_id, client, redirect_uri: uri, scope, prompt, challenge, back })
    }
}
