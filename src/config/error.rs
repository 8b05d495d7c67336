//! Mistakes in the configuration, told so that they can be put right.

use std::{collections::BTreeSet, fmt, io, path::PathBuf};

use figment::error::Kind;
use http::HeaderValue;
use ruma::{
    ServerName,
    serde::{Base64, base64::Standard},
};

use super::{Config, RegistrationEmail};
use crate::limits::POLICY_LISTS_MAX;

/// Least likeness of a known key to an unknown one that is worth a question.
const LIKENESS_MIN: f64 = 0.7;

/// Why there is no configuration.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read the configuration file {}: {}", .0.display(), .1)]
    Read(PathBuf, #[source] io::Error),
    /// One or more settings are wrong; one line for each.
    #[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))]
    Wrong(Vec<Mistake>),
}

/// One wrong setting.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mistake {
    /// The key as it is written in its source.
    pub key: String,
    /// What is wrong with it.
    pub message: String,
    /// Where it was set.
    pub source: Option<String>,
}

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.key.is_empty() {
            write!(f, "{}: ", self.key)?;
        }
        f.write_str(&self.message)?;
        match &self.source {
            Some(source) => write!(f, " (in {source})"),
            None => Ok(()),
        }
    }
}

impl ConfigError {
    pub(super) fn from_figment(error: figment::Error) -> Self {
        Self::Wrong(error.into_iter().map(|error| mistake(&error)).collect())
    }
}

fn mistake(error: &figment::Error) -> Mistake {
    let path = error.path.clone();
    let profile = error.profile.clone().unwrap_or_default();
    let spelt = |path: &[String]| match &error.metadata {
        Some(metadata) => metadata.interpolate(&profile, path),
        None => path.join("."),
    };
    let source = error.metadata.as_ref().map(|metadata| metadata.name.to_string());
    let message = match &error.kind {
        Kind::UnknownField(name, known) => unknown(name, known),
        kind => kind.to_string(),
    };
    Mistake { key: spelt(&path), message, source }
}

fn unknown(name: &str, known: &[&str]) -> String {
    let likeness = |other: &&str| strsim::jaro_winkler(name, other);
    let best = known.iter().copied().max_by(|a, b| likeness(a).total_cmp(&likeness(b)));
    match best.filter(|best| likeness(best) >= LIKENESS_MIN) {
        Some(best) => format!("unknown key `{name}`; did you mean `{best}`?"),
        None => format!("unknown key `{name}`; known are {}", known.join(", ")),
    }
}

/// An ed25519 key.
const PUBLIC_KEY_BYTES: usize = 32;

impl Config {
    /// What the types alone do not say.
    pub(super) fn check(&self) -> Result<(), ConfigError> {
        let mut mistakes = Vec::new();
        let mut wrong = |key: &str, message: &str| {
            mistakes.push(Mistake { key: String::from(key), message: String::from(message), source: None });
        };
        if self.listen.is_empty() {
            wrong("listen", "the server must listen somewhere");
        }
        if let Some(url) = &self.public_base_url {
            let rest = url.strip_prefix("https://").or_else(|| url.strip_prefix("http://"));
            if rest.is_none_or(|rest| rest.is_empty() || rest.contains(char::is_whitespace)) {
                wrong("public_base_url", "it is written as https://host or https://host:port");
            }
        }
        let limits = &self.rate_limits;
        let rates = [
            ("rate_limits.login", limits.login),
            ("rate_limits.registration", limits.registration),
            ("rate_limits.messages", limits.messages),
            ("rate_limits.joins", limits.joins),
            ("rate_limits.invites", limits.invites),
            ("rate_limits.invites_by_server", limits.invites_by_server),
            ("rate_limits.invites_received", limits.invites_received),
            ("rate_limits.reports", limits.reports),
            ("rate_limits.rendezvous", limits.rendezvous),
            ("rate_limits.clients", limits.clients),
            ("rate_limits.general", limits.general),
        ];
        for (key, rate) in rates {
            if !(rate.per_second > 0.0 && rate.per_second.is_finite()) || rate.burst == 0 {
                wrong(key, "`per_second` and `burst` are above 0");
            }
        }
        if self.limits.concurrent_requests == 0 || self.limits.long_polls == 0 || self.limits.connections == 0
        {
            wrong("limits", "a limit is above 0");
        }
        if self.media.upload_mib == 0 || self.media.remote_mib == 0 {
            wrong("media", "a limit is above 0");
        }
        if HeaderValue::from_str(&self.media.url_preview_languages).is_err() {
            wrong("media.url_preview_languages", "it is written as in the header Accept-Language");
        }
        let voip = &self.voip;
        let has_login = voip.turn_username.is_some() && voip.turn_password.is_some();
        if !voip.turn_uris.is_empty() && voip.turn_shared_secret.is_none() && !has_login {
            wrong(
                "voip.turn_uris",
                "`turn_shared_secret`, or `turn_username` and `turn_password`, go with it",
            );
        }
        if !voip
            .turn_uris
            .iter()
            .all(|uri| ["turn:", "turns:", "stun:", "stuns:"].iter().any(|it| uri.starts_with(it)))
        {
            wrong("voip.turn_uris", "an entry is written as turn:HOST:PORT?transport=udp");
        }
        self.check_livekit(&mut wrong);
        self.check_sso(&mut wrong);
        let localpart = &self.notices.localpart;
        let allowed =
            |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"._=-/+".contains(&byte);
        if localpart.is_empty() || localpart.len() > 100 || !localpart.bytes().all(allowed) {
            wrong("notices.localpart", "a name consists of a-z, 0-9, and ._=-/+");
        }
        if self.moderation.policy_lists.len() > POLICY_LISTS_MAX {
            wrong("moderation.policy_lists", "there are too many");
        }
        if self.email.host.is_some() && self.email.from.is_none() {
            wrong("email.from", "letters come from somebody");
        }
        self.check_captcha(&mut wrong);
        self.check_federation(&mut wrong);
        if mistakes.is_empty() { Ok(()) } else { Err(ConfigError::Wrong(mistakes)) }
    }

    fn check_livekit(&self, wrong: &mut impl FnMut(&str, &str)) {
        let voip = &self.voip;
        let is = |url: &Option<String>, schemes: [&str; 2]| {
            let url = url.as_deref().map(url::Url::parse);
            url.is_none_or(|url| url.is_ok_and(|url| url.has_host() && schemes.contains(&url.scheme())))
        };
        if !is(&voip.livekit_url, ["ws", "wss"]) {
            wrong("voip.livekit_url", "it is written as wss://host");
        }
        if !is(&voip.livekit_api_url, ["http", "https"]) {
            wrong("voip.livekit_api_url", "it is written as http://host:port");
        }
        let has_secret = voip.livekit_secret.is_some() || voip.livekit_secret_file.is_some();
        if voip.livekit_url.is_some() && (voip.livekit_key.is_none() || !has_secret) {
            wrong("voip.livekit_url", "`livekit_key` and `livekit_secret` go with it");
        }
    }

    fn check_captcha(&self, wrong: &mut impl FnMut(&str, &str)) {
        let captcha = &self.captcha;
        if captcha.site_key.is_some() && captcha.secret.is_none() && captcha.secret_file.is_none() {
            wrong("captcha.secret", "the maker of the puzzle gives it out with the `site_key`");
        }
        if !url::Url::parse(&captcha.verify_url).is_ok_and(|url| url.has_host()) {
            wrong("captcha.verify_url", "it is written as https://host/path");
        }
        let mut sources = captcha.script_sources.iter().chain([&captcha.script_url]);
        let plain = |url: &String| !url.contains([';', ',', ' ']);
        if !sources.all(|url| plain(url) && url::Url::parse(url).is_ok_and(|url| url.has_host())) {
            wrong("captcha.script_url", "a script is named as https://host/path");
        }
        let has_letters = self.email.host.is_some() && self.email.from.is_some();
        if self.registration.email != RegistrationEmail::Off && !has_letters {
            wrong("registration.email", "it takes a mail server: see `email`");
        }
        let has_pages = self.oauth.enabled && self.public_base_url.is_some();
        if self.registration.email != RegistrationEmail::Off && !has_pages {
            wrong("registration.email", "a letter leads to a page: it takes `public_base_url` and `oauth`");
        }
    }

    fn check_sso(&self, wrong: &mut impl FnMut(&str, &str)) {
        let ids: BTreeSet<&str> = self.sso.providers.iter().map(|provider| &*provider.id).collect();
        let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-_".contains(&byte);
        if ids.len() < self.sso.providers.len()
            || !ids.iter().all(|id| !id.is_empty() && id.bytes().all(plain))
        {
            wrong("sso.providers", "each has an `id` of its own, of a-z, 0-9, - and _");
        }
        for provider in &self.sso.providers {
            if !is_issuer(&provider.issuer) {
                wrong(
                    "sso.providers",
                    "an `issuer` is written as https://host/path; `http` leads to this machine only",
                );
            }
            if !provider.scopes.iter().any(|scope| scope == "openid") {
                wrong("sso.providers", "`scopes` contain `openid`");
            }
        }
        if !self.sso.trusted_clients.iter().all(|client| url::Url::parse(client).is_ok()) {
            wrong("sso.trusted_clients", "an entry is written as https://host/path");
        }
    }

    fn check_federation(&self, wrong: &mut impl FnMut(&str, &str)) {
        let federation = &self.federation;
        let is_key = |text: &str| {
            Base64::<Standard>::parse(text).is_ok_and(|key| key.as_bytes().len() == PUBLIC_KEY_BYTES)
        };
        if !federation.ignored_keys.iter().all(|key| is_key(key)) {
            wrong("federation.ignored_keys", "an entry is the base64 of a public key");
        }
        for (id, old) in &federation.old_verify_keys {
            if !id.starts_with("ed25519:") || !is_key(&old.key) {
                wrong(
                    "federation.old_verify_keys",
                    "an entry is `\"ed25519:VERSION\" = { key, expired_ts }`",
                );
            }
        }
        if federation.requests_per_server == 0 || federation.concurrent_requests == 0 {
            wrong("federation", "a limit is above 0");
        }
        let well_known = &self.well_known;
        if well_known.server.as_deref().is_some_and(|server| <&ServerName>::try_from(server).is_err()) {
            wrong("well_known.server", "it is written as HOST:PORT");
        }
        let fields = well_known.client.as_deref().map(serde_json::from_str::<serde_json::Map<_, _>>);
        if fields.is_some_and(|fields| fields.is_err()) {
            wrong("well_known.client", "it is the text of a JSON object");
        }
    }
}
/// Whether a provider can be believed there: over TLS, or on the same machine, where somebody tries something out.
fn is_issuer(text: &str) -> bool {
    let Ok(url) = url::Url::parse(text) else { return false };
    let is_here = match url.host() {
        Some(url::Host::Domain(name)) => name == "localhost",
        Some(url::Host::Ipv4(ip)) => ip.is_loopback(),
        Some(url::Host::Ipv6(ip)) => ip.is_loopback(),
        None => false,
    };
    url.scheme() == "https" || (url.scheme() == "http" && is_here)
}
