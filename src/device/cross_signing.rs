//! Publishing cross-signing keys.
//!
//! <https://spec.matrix.org/v1.19/client-server-api/#cross-signing>

use std::collections::BTreeSet;

use ruma::{
    CanonicalJsonObject, DeviceId, OwnedUserId, UserId,
    encryption::{CrossSigningKey, KeyUsage},
    serde::{Base64, Raw, base64::Standard},
};

use super::{
    Attempt, DeviceError, Devices,
    object::{bare, ed25519, is_signed, only_key, parse, public_key, signature_map, signatures_by},
    rows::{CROSS_SIGNING_KEYS, DEVICE_KEYS, SIGNATURES},
};
use crate::{
    account::{DEVICES, ListChange, tell_people},
    limits::SCAN_ROWS_MAX,
    log::Commit,
    store::{Scan, StoreError},
};

pub(super) const MASTER: &str = "master";
pub(super) const SELF_SIGNING: &str = "self_signing";
pub(super) const USER_SIGNING: &str = "user_signing";

/// The keys that a user wants to publish.
#[derive(Clone, Debug, Default)]
pub struct CrossSigningKeys {
    /// Signs the other two.
    pub master: Option<Raw<CrossSigningKey>>,
    /// Signs the user's devices.
    pub self_signing: Option<Raw<CrossSigningKey>>,
    /// Signs other users' master keys.
    pub user_signing: Option<Raw<CrossSigningKey>>,
}

/// The cross-signing keys of a user as they are stored.
#[derive(Clone, Debug, Default)]
pub(super) struct StoredKeys {
    pub(super) master: Option<CanonicalJsonObject>,
    pub(super) self_signing: Option<CanonicalJsonObject>,
    pub(super) user_signing: Option<CanonicalJsonObject>,
}

/// A checked wish to publish keys, to be applied once the user has proved who they are if need be.
#[derive(Debug)]
#[must_use = "nothing is published before the change is applied"]
pub struct CrossSigningChange {
    user: OwnedUserId,
    before: StoredKeys,
    after: StoredKeys,
    /// Signatures of the user's devices on the master key.
    signatures: Vec<(String, String)>,
}

impl CrossSigningChange {
    /// Whether the user must authenticate again: not for the first keys, nor when nothing is new.
    #[must_use]
    pub fn needs_auth(&self) -> bool {
        self.before.master.is_some() && !self.is_same()
    }

    fn is_same(&self) -> bool {
        let same = |before: &Option<CanonicalJsonObject>, after: &Option<CanonicalJsonObject>| {
            before.clone().map(bare) == after.clone().map(bare)
        };
        same(&self.before.master, &self.after.master)
            && same(&self.before.self_signing, &self.after.self_signing)
            && same(&self.before.user_signing, &self.after.user_signing)
    }
}

impl Devices {
    /// Checks keys that `user` wants to publish.
    ///
    /// # Errors
    /// When a key is malformed, not the user's, or not signed by the master key; when there is no
    /// master key; when a key has the name of a device.
    pub async fn check_cross_signing(
        &self,
        user: &UserId,
        keys: &CrossSigningKeys,
    ) -> Result<CrossSigningChange, DeviceError> {
        let before = self.cross_signing_keys(user).await?;
        let mut after = before.clone();
        let mut signatures = Vec::new();
        if let Some(raw) = &keys.master {
            let object = parse_key(user, raw, &KeyUsage::Master)?;
            signatures = self.device_signatures(user, &object).await?;
            let object = bare(object);
            if before.master.as_ref() != Some(&object) {
                // The others stay only if the new master key has signed them too.
                after = StoredKeys { master: Some(object), ..StoredKeys::default() };
            }
        }
        let master = after.master.as_ref().and_then(only_key);
        let master = master.map(|(id, public)| (id.to_owned(), public.to_owned()));
        for (raw, usage, place) in [
            (&keys.self_signing, KeyUsage::SelfSigning, &mut after.self_signing),
            (&keys.user_signing, KeyUsage::UserSigning, &mut after.user_signing),
        ] {
            let Some(raw) = raw else { continue };
            let Some((id, public)) = &master else { return Err(DeviceError::Missing("no master key")) };
            *place = Some(parse_signed_key(user, raw, &usage, (id, public))?);
        }
        self.refuse_device_ids(user, &after).await?;
        Ok(CrossSigningChange { user: user.to_owned(), before, after, signatures })
    }

    /// Publishes what [`Self::check_cross_signing`] checked.
    ///
    /// # Errors
    /// [`DeviceError::Contended`] when other keys were published since then.
    pub async fn apply_cross_signing(&self, change: CrossSigningChange) -> Result<(), DeviceError> {
        let CrossSigningChange { user, before, after, signatures } = change;
        let _turn = self.turns.take([&user]).await;
        let mut commit = Commit::new();
        let parts = [
            (MASTER, &before.master, &after.master),
            (SELF_SIGNING, &before.self_signing, &after.self_signing),
            (USER_SIGNING, &before.user_signing, &after.user_signing),
        ];
        let mut is_news = false;
        for (usage, before, after) in parts {
            let key = (user.clone(), usage.to_owned());
            match before {
                Some(before) => commit.expect_equals(&CROSS_SIGNING_KEYS, &key, before),
                None => commit.expect_absent(&CROSS_SIGNING_KEYS, &key),
            }
            if before == after {
                continue;
            }
            is_news = true;
            if let Some((_, public)) = after.as_ref().and_then(only_key) {
                // Whoever logs in at this moment does not get a device of this name.
                commit.expect_absent(&DEVICES, &(user.clone(), <&DeviceId>::from(public).to_owned()));
            }
            match after {
                Some(after) => commit.put(&CROSS_SIGNING_KEYS, &key, after),
                None => commit.delete(&CROSS_SIGNING_KEYS, &key),
            }
            if let Some((id, public)) = before.as_ref().and_then(only_key) {
                self.drop_signatures_by(&mut commit, &user, &BTreeSet::from([id.to_owned()])).await?;
                self.drop_all_signatures_on(&mut commit, &user, public).await?;
            }
        }
        if let Some((_, public)) = after.master.as_ref().and_then(only_key) {
            for (id, signature) in signatures {
                let key = (user.clone(), user.clone(), public.to_owned(), id);
                if self.log.db().row(&SIGNATURES, &key).await?.as_ref() != Some(&signature) {
                    is_news = true;
                }
                commit.put(&SIGNATURES, &key, &signature);
            }
        }
        if !is_news {
            return Ok(());
        }
        tell_people(&mut commit, &user, [ListChange::CrossSigning]);
        match self.attempt(commit).await? {
            Attempt::Done => Ok(()),
            Attempt::Again => Err(DeviceError::Contended),
        }
    }

    /// The stored keys of `user`.
    pub(super) async fn cross_signing_keys(&self, user: &UserId) -> Result<StoredKeys, StoreError> {
        let key = |usage: &str| (user.to_owned(), usage.to_owned());
        let keys = [key(MASTER), key(SELF_SIGNING), key(USER_SIGNING)];
        let mut rows = self.log.db().rows(&CROSS_SIGNING_KEYS, &keys).await?.into_iter();
        let mut next = || rows.next().flatten();
        Ok(StoredKeys { master: next(), self_signing: next(), user_signing: next() })
    }

    /// Those signatures on a key of `user` that the user's devices really made.
    pub(super) async fn device_signatures(
        &self,
        user: &UserId,
        object: &CanonicalJsonObject,
    ) -> Result<Vec<(String, String)>, StoreError> {
        let mut good = Vec::new();
        for (id, signature) in signatures_by(object, user) {
            let Some(device) = id.strip_prefix("ed25519:") else { continue };
            let key = (user.to_owned(), <&DeviceId>::from(device).to_owned());
            let Some(keys) = self.log.db().row(&DEVICE_KEYS, &key).await? else { continue };
            if public_key(&keys, &id).is_some_and(|public| is_signed(object, &signature, public)) {
                good.push((id, signature));
            }
        }
        Ok(good)
    }

    /// Keys and devices are looked up by one name, so none may have the name of another.
    async fn refuse_device_ids(&self, user: &UserId, keys: &StoredKeys) -> Result<(), DeviceError> {
        for object in [&keys.master, &keys.self_signing, &keys.user_signing].into_iter().flatten() {
            let Some((_, public)) = only_key(object) else { continue };
            let key = (user.to_owned(), <&DeviceId>::from(public).to_owned());
            if self.log.db().row(&DEVICES, &key).await?.is_some() {
                return Err(DeviceError::Forbidden("a device has the name of this key"));
            }
        }
        Ok(())
    }

    /// The same from the other side: no device gets the name of a key.
    pub(super) async fn refuse_key_ids(&self, user: &UserId, device: &DeviceId) -> Result<(), DeviceError> {
        let StoredKeys { master, self_signing, user_signing } = self.cross_signing_keys(user).await?;
        let mut keys = [&master, &self_signing, &user_signing].into_iter().flatten().filter_map(only_key);
        match keys.any(|(_, public)| public == device.as_str()) {
            true => Err(DeviceError::Forbidden("a cross-signing key has the name of this device")),
            false => Ok(()),
        }
    }

    /// Removes what anybody signed of the key `target` of `user`.
    async fn drop_all_signatures_on(
        &self,
        commit: &mut Commit,
        user: &UserId,
        target: &str,
    ) -> Result<(), StoreError> {
        let prefix = SIGNATURES.prefix(&(user.to_owned(),));
        let (mut from, to) = (prefix.clone(), prefix.after_prefix());
        loop {
            let scan = Scan { from, to: to.clone(), reverse: false, limit: SCAN_ROWS_MAX };
            let rows = self.log.db().scan(&SIGNATURES, scan).await?;
            for (key, _) in rows.iter().filter(|(key, _)| key.2 == target) {
                commit.delete(&SIGNATURES, key);
            }
            match rows.last() {
                Some((last, _)) if rows.len() == SCAN_ROWS_MAX => from = SIGNATURES.key(last).successor(),
                _ => return Ok(()),
            }
        }
    }
}

fn parse_key(
    user: &UserId,
    raw: &Raw<CrossSigningKey>,
    usage: &KeyUsage,
) -> Result<CanonicalJsonObject, DeviceError> {
    let invalid = |why: &str| Err(DeviceError::Invalid(format!("the {usage} key {why}")));
    let mut object = parse(raw.json())?;
    let key = raw.deserialize().map_err(|error| DeviceError::BadJson(format!("the {usage} key: {error}")))?;
    if key.user_id != user {
        return invalid("belongs to another user");
    }
    if key.usage != [usage.clone()] {
        return invalid("has another usage");
    }
    let Some((id, public)) = only_key(&object) else {
        return invalid("must have exactly one key");
    };
    let is_key = Base64::<Standard>::parse(public).is_ok_and(|bytes| bytes.as_bytes().len() == 32);
    if !is_key || id != ed25519(public) {
        return invalid("is not an ed25519 key named after itself");
    }
    object.remove("unsigned");
    Ok(object)
}

/// A key that the master key `(id, public)` must have signed; keeps that signature alone.
fn parse_signed_key(
    user: &UserId,
    raw: &Raw<CrossSigningKey>,
    usage: &KeyUsage,
    (id, public): (&str, &str),
) -> Result<CanonicalJsonObject, DeviceError> {
    let mut object = parse_key(user, raw, usage)?;
    let signature = signatures_by(&object, user).into_iter().find(|(by, _)| by == id).map(|(_, text)| text);
    match signature.filter(|signature| is_signed(&object, signature, public)) {
        Some(signature) => {
            object.insert("signatures".into(), signature_map(user, id, &signature));
            Ok(object)
        }
        None => Err(DeviceError::InvalidSignature(format!("the master key has not signed the {usage} key"))),
    }
}
