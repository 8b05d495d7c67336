//! What a provider is asked: its metadata, its keys, tokens for a code, and claims.

use std::sync::Arc;

use base64::{Engine, engine::general_purpose::STANDARD};
use bytes::Bytes;
use http::{Method, Request, StatusCode, header};
use jsonwebtoken::jwk::JwkSet;
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::{Map, Value};
use url::{Url, form_urlencoded};

use super::{Provider, ProviderError, ProviderSettings};
use crate::{
    limits::{PROVIDER_ANSWER_BYTES_MAX, PROVIDER_KNOWN_MS, PROVIDER_SECONDS_MAX},
    oauth::{Oauth, site::is_loopback},
    peer::{Bounds, Purpose},
};

/// The metadata that matter here (OpenID Connect Discovery 1.0, 3).
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Metadata {
    pub(super) issuer: String,
    pub(super) authorization_endpoint: String,
    token_endpoint: String,
    jwks_uri: String,
    #[serde(default)]
    userinfo_endpoint: Option<String>,
    #[serde(default)]
    token_endpoint_auth_methods_supported: Option<Vec<String>>,
}

/// The keys of a provider, among which may be some of kinds that are not known here (RFC 7517, 5).
#[derive(Deserialize)]
struct Keys {
    keys: Vec<Value>,
}

/// What is known of a provider for a while.
#[derive(Clone)]
pub(super) struct Known {
    pub(super) metadata: Arc<Metadata>,
    pub(super) keys: Arc<JwkSet>,
    asked_ms: u64,
}

/// What a provider gives for a code.
#[derive(Deserialize)]
pub(super) struct Tokens {
    pub(super) id_token: String,
    pub(super) access_token: String,
}

/// A code, and what proves that it was given to this server.
pub(super) struct Redeemed<'a> {
    pub(super) code: &'a str,
    pub(super) verifier: &'a str,
    pub(super) redirect_uri: &'a str,
}

impl Oauth {
    /// Metadata and keys of a provider; `anew` asks for them though they are known.
    pub(super) async fn provider_known(
        &self,
        provider: &Provider,
        anew: bool,
    ) -> Result<Known, ProviderError> {
        let now_ms = self.ports.clock.now_ms();
        let known = provider.known.lock().clone();
        if let Some(known) = known.filter(|known| !anew && known.asked_ms + PROVIDER_KNOWN_MS > now_ms) {
            return Ok(known);
        }
        let issuer = &provider.settings.issuer;
        let address = format!("{}/.well-known/openid-configuration", issuer.trim_end_matches('/'));
        let metadata: Metadata = self.fetch(get(&address)?).await?;
        // Core 1.0, 3.1.3.7: the issuer is the one that was asked, to the letter.
        if metadata.issuer != *issuer {
            return Err(ProviderError::wrong("its metadata are those of another issuer"));
        }
        let endpoints = [&metadata.authorization_endpoint, &metadata.token_endpoint, &metadata.jwks_uri];
        for url in endpoints.into_iter().chain(&metadata.userinfo_endpoint) {
            check_safe(url, issuer)?;
        }
        let Keys { keys } = self.fetch(get(&metadata.jwks_uri)?).await?;
        let keys =
            JwkSet { keys: keys.into_iter().filter_map(|key| serde_json::from_value(key).ok()).collect() };
        let known = Known { metadata: Arc::new(metadata), keys: Arc::new(keys), asked_ms: now_ms };
        *provider.known.lock() = Some(known.clone());
        Ok(known)
    }

    /// Tokens for a code.
    pub(super) async fn provider_tokens(
        &self,
        provider: &Provider,
        metadata: &Metadata,
        redeemed: Redeemed<'_>,
    ) -> Result<Tokens, ProviderError> {
        self.fetch(token_request(&provider.settings, metadata, &redeemed)?).await
    }

    /// The claims of the userinfo endpoint, if there is one.
    pub(super) async fn provider_userinfo(
        &self,
        metadata: &Metadata,
        access_token: &str,
    ) -> Result<Map<String, Value>, ProviderError> {
        let Some(address) = &metadata.userinfo_endpoint else { return Ok(Map::new()) };
        let mut request = get(address)?;
        let value = format!("Bearer {access_token}").parse();
        let value = value.map_err(|_| ProviderError::wrong("its access token is no token"))?;
        request.headers_mut().insert(header::AUTHORIZATION, value);
        self.fetch(request).await
    }

    async fn fetch<T: DeserializeOwned>(&self, request: Request<Bytes>) -> Result<T, ProviderError> {
        let bounds = Bounds::new(PROVIDER_SECONDS_MAX, PROVIDER_ANSWER_BYTES_MAX);
        let answer = self.net.visit(Purpose::Provider, request, bounds).await?;
        if answer.status() != StatusCode::OK {
            return Err(ProviderError::Refused(answer.status()));
        }
        serde_json::from_slice(answer.body())
            .map_err(|_| ProviderError::wrong("its answer is not what was asked"))
    }
}

/// Asks for tokens, as the server that the code was given to.
fn token_request(
    settings: &ProviderSettings,
    metadata: &Metadata,
    redeemed: &Redeemed<'_>,
) -> Result<Request<Bytes>, ProviderError> {
    let mut form = form_urlencoded::Serializer::new(String::new());
    form.extend_pairs([
        ("grant_type", "authorization_code"),
        ("code", redeemed.code),
        ("redirect_uri", redeemed.redirect_uri),
        ("code_verifier", redeemed.verifier),
    ]);
    let mut request = Request::builder().method(Method::POST).uri(&metadata.token_endpoint);
    request = request.header(header::CONTENT_TYPE, "application/x-www-form-urlencoded");
    let methods = metadata.token_endpoint_auth_methods_supported.as_deref();
    let basic = methods.is_none_or(|methods| methods.iter().any(|method| method == "client_secret_basic"));
    match &settings.client_secret {
        Some(secret) if basic => {
            let escape = |text: &str| form_urlencoded::byte_serialize(text.as_bytes()).collect::<String>();
            let pair = format!("{}:{}", escape(&settings.client_id), escape(secret));
            let value = format!("Basic {}", STANDARD.encode(pair));
            request = request.header(header::AUTHORIZATION, value);
        }
        Some(secret) => {
            form.extend_pairs([("client_id", &settings.client_id), ("client_secret", secret)]);
        }
        None => {
            form.append_pair("client_id", &settings.client_id);
        }
    }
    let request = request.header(header::ACCEPT, "application/json").body(Bytes::from(form.finish()));
    request.map_err(|_| ProviderError::wrong("its token endpoint has no address"))
}

fn get(address: &str) -> Result<Request<Bytes>, ProviderError> {
    let request =
        Request::builder().uri(address).header(header::ACCEPT, "application/json").body(Bytes::new());
    request.map_err(|_| ProviderError::wrong("an endpoint of it has no address"))
}

/// Secrets go over TLS, unless the operator has named a provider on this machine.
fn check_safe(address: &str, issuer: &str) -> Result<(), ProviderError> {
    let url = Url::parse(address).map_err(|_| ProviderError::wrong("an endpoint of it has no address"))?;
    let tested = issuer.starts_with("http://") && is_loopback(&url);
    match url.scheme() == "https" || tested {
        true => Ok(()),
        false => Err(ProviderError::wrong("an endpoint of it does not use https")),
    }
}
