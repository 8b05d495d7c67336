//! Publishing signatures on keys.
//!
//! <https://spec.matrix.org/v1.19/client-server-api/#post_matrixclientv3keyssignaturesupload>

use std::collections::BTreeMap;

use ruma::{CanonicalJsonObject, CanonicalJsonValue, DeviceId, OwnedUserId, UserId};
use serde_json::value::RawValue;

use super::{
    Attempt, DeviceError, Devices,
    cross_signing::{MASTER, SELF_SIGNING, StoredKeys, USER_SIGNING},
    object::{bare, ed25519, is_signed, only_key, parse, signatures_by},
    rows::{CROSS_SIGNING_KEYS, DEVICE_KEYS, SIGNATURES},
};
use crate::{
    account::{ListChange, tell_people},
    limits::DEVICE_ATTEMPTS_MAX,
    log::Commit,
    types::{Fact, Lane},
};

/// Why signatures on one key were not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SignatureFailure {
    /// There is no such key.
    NotFound,
    /// The key that was sent is not the one that is stored.
    Differs,
    /// No signature by a key that may sign this one is right.
    InvalidSignature,
    /// What was sent is no key object.
    Malformed,
}

impl SignatureFailure {
    /// The `errcode` and what it means here.
    #[must_use]
    pub fn describe(self) -> (&'static str, &'static str) {
        match self {
            Self::NotFound => ("M_NOT_FOUND", "There is no such key"),
            Self::Differs => ("M_INVALID_PARAM", "The key differs from the one that is stored"),
            Self::InvalidSignature => {
                ("M_INVALID_SIGNATURE", "No valid signature by a key that may sign this")
            }
            Self::Malformed => ("M_BAD_JSON", "Not a key object"),
        }
    }
}

/// Signed objects by user and by device id or public key.
pub type SignedKeys = BTreeMap<OwnedUserId, BTreeMap<String, Box<RawValue>>>;

/// Failures by user and by device id or public key.
pub type SignatureFailures = BTreeMap<OwnedUserId, BTreeMap<String, SignatureFailure>>;

/// One object that `signer` has signed.
struct Signed<'a> {
    signer: &'a UserId,
    keys: &'a StoredKeys,
    owner: &'a OwnedUserId,
    target: &'a str,
    text: &'a RawValue,
}

impl Devices {
    /// Stores the good signatures among `signed`: those by the signer's self-signing key on the
    /// signer's devices, by the signer's devices on the signer's master key, and by the signer's
    /// user-signing key on other users' master keys. Says why for each object without any.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn upload_signatures(
        &self,
        signer: &UserId,
        signed: &SignedKeys,
    ) -> Result<SignatureFailures, DeviceError> {
        let _turn = self.turns.take([signer]).await;
        for _ in 0..DEVICE_ATTEMPTS_MAX {
            let (commit, failures) = self.plan_signatures(signer, signed).await?;
            if commit.is_empty() {
                return Ok(failures);
            }
            if let Attempt::Done = self.attempt(commit).await? {
                return Ok(failures);
            }
        }
        Err(DeviceError::Contended)
    }

    async fn plan_signatures(
        &self,
        signer: &UserId,
        signed: &SignedKeys,
    ) -> Result<(Commit, SignatureFailures), DeviceError> {
        let keys = &self.cross_signing_keys(signer).await?;
        let mut commit = Commit::new();
        let mut failures = SignatureFailures::new();
        for (owner, objects) in signed {
            let mut is_news = false;
            for (target, text) in objects {
                let signed = Signed { signer, keys, owner, target, text };
                match self.plan_signed(&mut commit, &signed).await? {
                    Ok(()) => is_news = true,
                    Err(failure) => {
                        failures.entry(owner.clone()).or_default().insert(target.clone(), failure);
                    }
                }
            }
            if !is_news {
                continue;
            }
            match owner == signer {
                true => {
                    // What is signed is a device, or a cross-signing key.
                    let targets = objects.keys().map(|target| ListChange::Device(target.as_str().into()));
                    tell_people(&mut commit, owner, targets.chain([ListChange::CrossSigning]));
                }
                // Whom one has verified is nobody else's business.
                false => {
                    commit.fact(Lane::Account(signer.to_owned()), Fact::Devices { user_id: owner.clone() })
                }
            }
        }
        Ok((commit, failures))
    }

    async fn plan_signed(
        &self,
        commit: &mut Commit,
        signed: &Signed<'_>,
    ) -> Result<Result<(), SignatureFailure>, DeviceError> {
        let Ok(object) = parse(signed.text) else { return Ok(Err(SignatureFailure::Malformed)) };
        if signed.owner == signed.signer {
            let own_master = signed.keys.master.as_ref().and_then(only_key);
            return match own_master.is_some_and(|(_, public)| public == signed.target) {
                true => self.plan_own_master(commit, signed, &object).await,
                false => self.plan_own_device(commit, signed, &object).await,
            };
        }
        if !self.is_local(signed.owner) {
            return Ok(signed.put_on_foreign(commit, &object));
        }
        let key = (signed.owner.clone(), MASTER.to_owned());
        let Some(master) = self.log.db().row(&CROSS_SIGNING_KEYS, &key).await? else {
            return Ok(Err(SignatureFailure::NotFound));
        };
        if only_key(&master).is_none_or(|(_, public)| public != signed.target) {
            return Ok(Err(SignatureFailure::NotFound));
        }
        commit.expect_equals(&CROSS_SIGNING_KEYS, &key, &master);
        Ok(signed.put_by(commit, &master, &object, (USER_SIGNING, &signed.keys.user_signing)))
    }

    async fn plan_own_device(
        &self,
        commit: &mut Commit,
        signed: &Signed<'_>,
        object: &CanonicalJsonObject,
    ) -> Result<Result<(), SignatureFailure>, DeviceError> {
        let key = (signed.owner.clone(), <&DeviceId>::from(signed.target).to_owned());
        let Some(stored) = self.log.db().row(&DEVICE_KEYS, &key).await? else {
            return Ok(Err(SignatureFailure::NotFound));
        };
        commit.expect_equals(&DEVICE_KEYS, &key, &stored);
        Ok(signed.put_by(commit, &stored, object, (SELF_SIGNING, &signed.keys.self_signing)))
    }

    async fn plan_own_master(
        &self,
        commit: &mut Commit,
        signed: &Signed<'_>,
        object: &CanonicalJsonObject,
    ) -> Result<Result<(), SignatureFailure>, DeviceError> {
        let Some(master) = &signed.keys.master else { return Ok(Err(SignatureFailure::NotFound)) };
        if bare(object.clone()) != bare(master.clone()) {
            return Ok(Err(SignatureFailure::Differs));
        }
        let good = self.device_signatures(signed.owner, object).await?;
        if good.is_empty() {
            return Ok(Err(SignatureFailure::InvalidSignature));
        }
        commit.expect_equals(&CROSS_SIGNING_KEYS, &(signed.owner.clone(), MASTER.to_owned()), master);
        for (id, signature) in good {
            signed.put(commit, &id, &signature);
        }
        Ok(Ok(()))
    }
}

impl Signed<'_> {
    /// Stores the signature that the signer's key `(usage, key)` put on an object that equals `stored`.
    fn put_by(
        &self,
        commit: &mut Commit,
        stored: &CanonicalJsonObject,
        object: &CanonicalJsonObject,
        (usage, key): (&str, &Option<CanonicalJsonObject>),
    ) -> Result<(), SignatureFailure> {
        if bare(object.clone()) != bare(stored.clone()) {
            return Err(SignatureFailure::Differs);
        }
        let Some(key) = key else { return Err(SignatureFailure::InvalidSignature) };
        let Some((id, public)) = only_key(key) else { return Err(SignatureFailure::InvalidSignature) };
        let found = signatures_by(object, self.signer).into_iter().find(|(by, _)| by == id);
        match found.filter(|(_, text)| is_signed(object, text, public)) {
            Some((_, text)) => {
                let row = (self.signer.to_owned(), usage.to_owned());
                commit.expect_equals(&CROSS_SIGNING_KEYS, &row, key);
                self.put(commit, &ed25519(public), &text);
                Ok(())
            }
            None => Err(SignatureFailure::InvalidSignature),
        }
    }

    /// As [`Self::put_by`] for the master key of a user of another server. Whether it is that user's we cannot
    /// know; the signature is shown to the signer alone, on the key with this public part.
    fn put_on_foreign(
        &self,
        commit: &mut Commit,
        object: &CanonicalJsonObject,
    ) -> Result<(), SignatureFailure> {
        let is_of_owner =
            object.get("user_id").and_then(CanonicalJsonValue::as_str) == Some(self.owner.as_str());
        if !is_of_owner || only_key(object).is_none_or(|(_, public)| public != self.target) {
            return Err(SignatureFailure::NotFound);
        }
        self.put_by(commit, object, object, (USER_SIGNING, &self.keys.user_signing))
    }

    fn put(&self, commit: &mut Commit, key_id: &str, signature: &str) {
        let key = (self.owner.clone(), self.signer.to_owned(), self.target.to_owned(), key_id.to_owned());
        commit.put(&SIGNATURES, &key, &signature.to_owned());
    }
}
