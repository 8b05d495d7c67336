//! The row of a device: what its sessions are. Its keys belong to the `device` module.

use std::collections::BTreeMap;

use ruma::{DeviceId, OwnedDeviceId, OwnedUserId, UserId};
use serde::{Deserialize, Serialize};

use super::{
    AccountError, Accounts,
    token::{FAMILIES, REFRESH_TOKENS, TOKENS, TokenHash},
};
use crate::{
    limits::LAST_SEEN_KEEP_MS,
    log::Commit,
    store::{
        Expect,
        table::{Rows, TableId},
    },
};

/// Devices by user.
pub const DEVICES: Rows<(OwnedUserId, OwnedDeviceId), Device> = Rows::new(TableId::Device);

/// The rows belong to `device`, which stands above; here only that no device is called like one of these keys.
const CROSS_SIGNING_KEYS: Rows<(OwnedUserId, String), KeyNames> = Rows::new(TableId::CrossSigningKey);
/// What cross-signing keys are for.
const USAGES: [&str; 3] = ["master", "self_signing", "user_signing"];

/// The part of a cross-signing key that says what it is called.
#[derive(Deserialize, Serialize)]
struct KeyNames {
    keys: BTreeMap<String, String>,
}

/// Apart from [`DEVICES`], so that it can be written without regard to who else changes a device.
const SEEN: Rows<(OwnedUserId, OwnedDeviceId), Seen> = Rows::new(TableId::DeviceSeen);

/// What is known of a device.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Device {
    /// Its name, as the user sees it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub display_name: Option<String>,
    /// When it first logged in, in milliseconds since the epoch.
    #[serde(default)]
    pub created_ms: u64,
    /// An application service has made it, without a login.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub is_made: bool,
    /// The hashes of its access tokens: the one in use, and perhaps one that a refresh gave out since.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tokens: Vec<TokenHash>,
    /// The hashes of its refresh tokens.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub refresh_tokens: Vec<TokenHash>,
    /// The client that was authorised to log it in, if that went through the OAuth 2.0 API.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client: Option<DeviceClient>,
    /// What the refresh tokens of its session have in common, if it was logged in by the OAuth 2.0 API.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub family: Option<Family>,
}

/// A client of the OAuth 2.0 API, as far as its sessions have to know it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceClient {
    /// Its `client_id`.
    pub id: String,
    /// What it calls itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Its page.
    pub uri: String,
}

/// The refresh tokens of one session, of which each but the newest has been replaced by another.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Family {
    /// The hash of the part that all of them begin with.
    pub hash: TokenHash,
    /// The generation of which the client is known to have its token.
    pub confirmed: u64,
}

/// When and from where a device was last heard of.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Seen {
    /// When, in milliseconds since the epoch.
    pub at_ms: u64,
    /// From which address, as far as it is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ip: Option<String>,
}

/// What this process knows of it, and when it last wrote that down.
#[derive(Clone, Debug)]
pub(super) struct SeenMark {
    seen: Seen,
    kept_ms: u64,
}

impl Device {
    /// Whether somebody is logged in there.
    #[must_use]
    pub fn is_in_use(&self) -> bool {
        !self.tokens.is_empty() || !self.refresh_tokens.is_empty() || self.family.is_some()
    }

    /// Notes that the client has the refresh token of this generation.
    pub(super) fn confirm(&mut self, generation: u64) {
        if let Some(family) = &mut self.family {
            family.confirmed = family.confirmed.max(generation);
        }
    }

    /// Adds to `commit` the removal of everything that lets this device in.
    pub fn forget_tokens(&self, commit: &mut Commit) {
        for hash in &self.tokens {
            commit.delete(&TOKENS, &(hash.clone(),));
        }
        for hash in &self.refresh_tokens {
            commit.delete(&REFRESH_TOKENS, &(hash.clone(),));
        }
        if let Some(family) = &self.family {
            commit.delete(&FAMILIES, &(family.hash.clone(),));
        }
    }

    /// Adds to `commit` the removal of the device with all that this module knows of it.
    pub fn forget(&self, commit: &mut Commit, owner: &(OwnedUserId, OwnedDeviceId)) {
        self.forget_tokens(commit);
        commit.delete(&SEEN, owner);
        commit.delete(&DEVICES, owner);
    }
}

impl Accounts {
    /// Refuses a new device that has the name of a cross-signing key of its user, in the end by what `commit` expects:
    /// keys and devices are looked up by one name.
    pub(super) async fn refuse_key_names(
        &self,
        commit: &mut Commit,
        (user, device): &(OwnedUserId, OwnedDeviceId),
    ) -> Result<(), AccountError> {
        // A public key is 32 bytes in base64; nothing has to be read for other names.
        if !(43..=44).contains(&device.as_str().len()) {
            return Ok(());
        }
        for usage in USAGES {
            let key = CROSS_SIGNING_KEYS.key(&(user.clone(), usage.to_owned()));
            let Some(found) = self.log.db().raw(&key).await? else {
                commit.expect_raw(Expect::Absent(key));
                continue;
            };
            let names = CROSS_SIGNING_KEYS.decode(&found)?;
            if names.keys.values().any(|public| public == device.as_str()) {
                return Err(AccountError::NameOfKey);
            }
            commit.expect_raw(Expect::Equals(key, found));
        }
        Ok(())
    }

    /// When and from where devices of `user` were last heard of, in the order asked for.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn last_seen(
        &self,
        user: &UserId,
        devices: &[OwnedDeviceId],
    ) -> Result<Vec<Option<Seen>>, AccountError> {
        let keys: Vec<_> = devices.iter().map(|device| (user.to_owned(), device.clone())).collect();
        let kept = self.log.db().rows(&SEEN, &keys).await?;
        let known = keys.iter().map(|key| self.seen.get(key).map(|mark| mark.seen));
        // Another process may know of a later request than this one.
        let later = |(known, kept): (Option<Seen>, Option<Seen>)| {
            known.into_iter().chain(kept).max_by_key(|seen| seen.at_ms)
        };
        Ok(known.zip(kept).map(later).collect())
    }

    /// Notes that a device made a request from `ip`. It is written down now and then, with whatever
    /// else is being committed: nobody waits for it, and a crash loses minutes of it at most.
    pub fn note_seen(&self, user: &UserId, device: &DeviceId, ip: Option<String>) {
        let key = (user.to_owned(), device.to_owned());
        let seen = Seen { at_ms: self.ports.clock.now_ms(), ip };
        let before = self.seen.get(&key);
        let due = before.as_ref().is_none_or(|mark| mark.kept_ms + LAST_SEEN_KEEP_MS <= seen.at_ms);
        let kept_ms = match before {
            Some(mark) if !due => mark.kept_ms,
            _ => seen.at_ms,
        };
        if due {
            // When the device is removed at this moment the row outlives it; the next login of a
            // device of that id writes it anew.
            let mut commit = Commit::new();
            commit.put(&SEEN, &key, &seen);
            self.log.commit_later(commit);
        }
        self.seen.insert(key, SeenMark { seen, kept_ms });
    }
}
