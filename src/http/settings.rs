//! From the configuration to the settings of each service.

use std::{collections::BTreeMap, path::Path, sync::Arc, time::Duration};

use ruma::{
    UserId,
    api::client::uiaa::{LoginTermsParams, PolicyDefinition, PolicyTranslation},
    owned_user_id,
    serde::{Base64, base64::Standard},
};

use super::captcha::ByNet;
use crate::{
    account::{self, Captcha},
    config::{self, Config, InvitesFrom, RegistrationEmail, RegistrationMode},
    media::{self, Place, Previews},
    notice,
    oauth::{ProviderSettings, Site},
    peer::{self, Net, OldKey},
    purge,
    room::{Inviters, ModerationSettings},
    rtc,
    store::StoreError,
    types::Secret,
};

/// Milliseconds of a day.
pub(super) const DAY_MS: u64 = 24 * 3_600 * 1_000;

pub(super) fn account_settings(config: &Config) -> account::Settings {
    let registration = &config.registration;
    account::Settings {
        registration: match registration.mode {
            RegistrationMode::Closed => account::Registration::Closed,
            RegistrationMode::Token => account::Registration::Token,
            RegistrationMode::Open => account::Registration::Open,
        },
        registration_tokens: registration.tokens.iter().map(|token| token.reveal().to_owned()).collect(),
        terms: terms(&registration.terms),
        guests: registration.guests,
        email: match registration.email {
            RegistrationEmail::Off => account::RegistrationEmail::Off,
            RegistrationEmail::Offered => account::RegistrationEmail::Offered,
            RegistrationEmail::Required => account::RegistrationEmail::Required,
        },
        captcha: None,
        pages: site(config).is_some(),
        provider_registration: config.sso.registers,
        reserved: vec![config.notices.localpart.clone()],
        announcer: Some(notice_settings(config).sender),
        access_token_lifetime: match config.access_token_seconds {
            0 => None,
            seconds => Some(Duration::from_secs(seconds)),
        },
        thread_subscriptions: config.push.thread_subscriptions,
    }
}

/// Where the pages of the server are, if there are any.
pub(super) fn site(config: &Config) -> Option<Site> {
    config.public_base_url.as_deref().filter(|_| config.oauth.enabled).and_then(Site::new)
}

/// The puzzle for newcomers, if there is one.
pub(super) fn captcha(config: &Config, net: &Arc<dyn Net>) -> Result<Option<Captcha>, StoreError> {
    let captcha = &config.captcha;
    let Some(site_key) = captcha.site_key.clone() else { return Ok(None) };
    let secret = secret(captcha.secret.as_ref(), captcha.secret_file.as_deref())?;
    let verify_url = captcha.verify_url.clone();
    let check = ByNet { net: net.clone(), verify_url, secret: secret.unwrap_or_default() };
    Ok(Some(Captcha { site_key, check: Arc::new(check) }))
}

/// The policies as clients are told of them.
pub(super) fn terms(policies: &[config::Policy]) -> LoginTermsParams {
    let mut terms = LoginTermsParams::default();
    for policy in policies {
        let version = || PolicyDefinition::new(policy.version.clone(), BTreeMap::new());
        let definition = terms.policies.entry(policy.id.clone()).or_insert_with(version);
        let translation = PolicyTranslation::new(policy.name.clone(), policy.url.clone());
        definition.translations.insert(policy.language.clone(), translation);
    }
    terms
}

/// A secret that is given as it is, or lies in a file.
pub(super) fn secret(given: Option<&Secret>, file: Option<&Path>) -> Result<Option<String>, StoreError> {
    match (given, file) {
        (Some(secret), _) => Ok(Some(secret.reveal().to_owned())),
        (None, Some(file)) => {
            let text = std::fs::read_to_string(file);
            let text = text.map_err(|error| StoreError::Unusable(format!("{}: {error}", file.display())))?;
            Ok(Some(text.trim().to_owned()))
        }
        (None, None) => Ok(None),
    }
}

/// The LiveKit server, if there is one.
pub(super) fn rtc_settings(voip: &config::Voip) -> Result<Option<rtc::Settings>, StoreError> {
    let (Some(url), Some(key)) = (voip.livekit_url.clone(), voip.livekit_key.clone()) else {
        return Ok(None);
    };
    let secret = secret(voip.livekit_secret.as_ref(), voip.livekit_secret_file.as_deref())?;
    // What begins with `ws` is `http` and `https` otherwise.
    let api_url = voip.livekit_api_url.clone().unwrap_or_else(|| url.replacen("ws", "http", 1));
    Ok(secret.map(|secret| rtc::Settings { url, api_url, key, secret }))
}

pub(super) fn provider_settings(provider: &config::Provider) -> Result<ProviderSettings, StoreError> {
    let secret = secret(provider.client_secret.as_ref(), provider.client_secret_file.as_deref())?;
    Ok(ProviderSettings {
        id: provider.id.clone(),
        name: provider.name.clone(),
        issuer: provider.issuer.clone(),
        client_id: provider.client_id.clone(),
        client_secret: secret,
        scopes: provider.scopes.clone(),
        localpart: provider.localpart.clone(),
    })
}

pub(super) fn purge_settings(config: &Config) -> purge::Settings {
    let retention = &config.retention;
    let ms = |days: u64| (days > 0).then(|| days.saturating_mul(DAY_MS));
    purge::Settings {
        retention: retention.enabled.then(|| purge::Retention {
            usual_ms: ms(retention.days),
            shortest_ms: ms(retention.shortest_days),
            longest_ms: ms(retention.longest_days),
        }),
        files: config.media.delete_with_events,
        guest_idle_ms: ms(config.registration.guest_days),
    }
}

/// What the server keeps from its users.
pub(super) fn moderation_settings(config: &Config) -> ModerationSettings {
    ModerationSettings {
        inviters: match config.invites.from {
            InvitesFrom::Anyone => Inviters::Anyone,
            InvitesFrom::SharedRoom => Inviters::SharedRoom,
            InvitesFrom::Local => Inviters::Local,
        },
        allowed_servers: config.invites.allowed_servers.clone(),
        policy_lists: config.moderation.policy_lists.clone(),
    }
}

pub(super) fn notice_settings(config: &Config) -> notice::Settings {
    let notices = &config.notices;
    notice::Settings {
        // The configuration has been checked: this is a user id.
        sender: UserId::parse(format!("@{}:{}", notices.localpart, config.server_name))
            .unwrap_or_else(|_| owned_user_id!("@_server:localhost")),
        display_name: notices.display_name.clone(),
        avatar_url: notices.avatar_url.clone(),
        room_name: notices.room_name.clone(),
        room_version: config.default_room_version.id().clone(),
    }
}

/// Where the files are that a configuration names.
#[must_use]
pub fn media_place(config: &Config) -> Place {
    let media = &config.media;
    Place {
        folder: media.folder.clone().unwrap_or_else(|| config.data_dir.join("media")),
        url: media.url.clone(),
        options: media.options.0.clone(),
    }
}

pub(super) fn media_settings(config: &Config) -> media::Settings {
    let media = &config.media;
    let bytes = |mib: u64| mib.saturating_mul(1 << 20);
    media::Settings {
        place: media_place(config),
        upload_bytes_max: bytes(media.upload_mib),
        quota_bytes: (media.quota_mib > 0).then(|| bytes(media.quota_mib)),
        remote_bytes_max: bytes(media.remote_mib),
        cache_bytes_max: bytes(media.cache_mib),
        local_keep_ms: (media.local_keep_days > 0).then(|| media.local_keep_days.saturating_mul(DAY_MS)),
        remote_keep_ms: (media.remote_keep_days > 0).then(|| media.remote_keep_days.saturating_mul(DAY_MS)),
        previews: media.url_previews.then(|| Previews {
            denied_hosts: media.url_preview_denied_hosts.clone(),
            languages: media.url_preview_languages.clone(),
        }),
        unauthenticated_before_ms: media.unauthenticated_before_ts,
    }
}

/// What the configuration says of other servers; `old_keys` are those that this server itself remembers.
pub(super) fn peer_settings(federation: &config::Federation, mut old_keys: Vec<OldKey>) -> peer::Settings {
    // The configuration has been checked: these are keys.
    let key = |text: &String| Base64::<Standard>::parse(text).map(|key| Base64::new(key.into_inner())).ok();
    for (id, old) in &federation.old_verify_keys {
        let old = key(&old.key).map(|key| OldKey { id: id.clone(), key, expired_ts: old.expired_ts });
        old_keys.extend(old);
    }
    peer::Settings {
        notaries: federation.trusted_key_servers.clone(),
        old_keys,
        ignored_keys: federation.ignored_keys.iter().filter_map(key).collect(),
        off: !federation.enabled,
        denied: federation.denied_servers.clone(),
    }
}
