//! What the tests of this module share: a server without network, and users with keys.

mod backups;
mod cross_signing;
mod keys;
mod messages;
mod removal;

use std::{collections::BTreeMap, sync::Arc};

use ruma::{
    CanonicalJsonObject, CanonicalJsonValue, OwnedDeviceId, OwnedUserId,
    canonical_json::to_canonical_value,
    owned_server_name,
    serde::{Base64, Raw},
    signatures::{Ed25519KeyPair, sign_json},
};
use serde_json::{Value, json};
use tokio_util::task::TaskTracker;

use super::{Devices, KeyUpload};
use crate::{
    account::{Accounts, NewSession, NewUser, Settings},
    log::Log,
    store::{Db, memory::Memory},
    types::{Fact, Lane, ManualClock, Ports, Position, SeededRng},
};

/// Devices over the memory engine.
pub(super) struct World {
    pub(super) accounts: Accounts,
    pub(super) devices: Devices,
    pub(super) log: Log,
    pub(super) clock: Arc<ManualClock>,
}

impl World {
    pub(super) async fn new() -> Self {
        let log = Log::open(Db::new(Arc::new(Memory::default())), &TaskTracker::new()).await.unwrap();
        let clock = Arc::new(ManualClock::at(1_000));
        let ports = Ports { clock: clock.clone(), rng: Arc::new(SeededRng::new(7)) };
        let name = owned_server_name!("here");
        let accounts = Accounts::new(log.clone(), ports.clone(), name.clone(), Settings::default());
        let devices = Devices::new(log.clone(), ports, name);
        Self { accounts, devices, log, clock }
    }

    /// Lets a device exist.
    pub(super) async fn log_in(&self, user: &str, device: &str) -> (OwnedUserId, OwnedDeviceId) {
        let owner = (self::user(user), OwnedDeviceId::from(device));
        // Somebody who has another device already has an account too.
        let new = NewUser { username: Some(owner.0.to_string()), ..NewUser::default() };
        drop(self.accounts.create_user(new).await);
        let session = NewSession {
            user_id: owner.0.clone(),
            device_id: Some(owner.1.clone()),
            display_name: None,
            refreshes: true,
            client: None,
        };
        self.accounts.start_session(session).await.unwrap();
        owner
    }

    /// A device that has published its keys.
    pub(super) async fn log_in_with_keys(&self, user: &str, device: &str) -> Identity {
        let identity = Identity::new(user, device);
        self.log_in(user, device).await;
        self.upload(&identity, json!({ "device_keys": identity.device_keys() })).await.unwrap();
        identity
    }

    pub(super) async fn upload(
        &self,
        identity: &Identity,
        body: Value,
    ) -> Result<BTreeMap<String, u64>, String> {
        let counts = self.devices.upload_keys(&identity.user, &identity.device, &upload(&body)).await;
        counts.map(|counts| counts.one_time).map_err(|error| error.to_string())
    }

    /// Whose devices changed since `from`, by a lane.
    pub(super) async fn changed(&self, lane: Lane, from: Position) -> Vec<OwnedUserId> {
        let facts = self.log.registers(&lane, from, Position::MAX).await.unwrap();
        let users = facts.into_iter().filter_map(|(_, fact)| match fact {
            Fact::Devices { user_id } => Some(user_id),
            _ => None,
        });
        users.collect()
    }
}

pub(super) fn user(name: &str) -> OwnedUserId {
    OwnedUserId::try_from(format!("@{name}:here")).unwrap()
}

pub(super) fn raw<T>(value: &Value) -> Raw<T> {
    Raw::from_json(serde_json::value::to_raw_value(value).unwrap())
}

/// A request body as an upload.
pub(super) fn upload(body: &Value) -> KeyUpload {
    let keys = |name: &str| {
        let object = body.get(name).and_then(Value::as_object).cloned().unwrap_or_default();
        object.iter().map(|(id, key)| (id.as_str().try_into().unwrap(), raw(key))).collect()
    };
    KeyUpload {
        device_keys: body.get("device_keys").map(raw),
        one_time_keys: keys("one_time_keys"),
        fallback_keys: keys("fallback_keys"),
    }
}

/// Something with an ed25519 key that can sign in the name of a user.
pub(super) struct Signer {
    user: OwnedUserId,
    pair: Ed25519KeyPair,
}

impl Signer {
    /// A key whose secret follows from `seed`; it is named `name`, or after itself.
    pub(super) fn new(user: &str, name: Option<&str>, seed: &str) -> Self {
        const PKCS8: [u8; 16] =
            [0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x04, 0x22, 0x04, 0x20];
        let mut secret = [b'.'; 32];
        secret[..seed.len()].copy_from_slice(seed.as_bytes());
        let document = [PKCS8.as_slice(), secret.as_slice()].concat();
        let unnamed = Ed25519KeyPair::from_der(&document, String::new()).unwrap();
        let public = Base64::<ruma::serde::base64::Standard>::new(unnamed.public_key().to_vec()).encode();
        let name = name.map_or(public, str::to_owned);
        Self { user: self::user(user), pair: Ed25519KeyPair::from_der(&document, name).unwrap() }
    }

    pub(super) fn public(&self) -> String {
        Base64::<ruma::serde::base64::Standard>::new(self.pair.public_key().to_vec()).encode()
    }

    pub(super) fn key_id(&self) -> String {
        format!("ed25519:{}", self.pair.version())
    }

    /// `object` with a signature by this key added.
    pub(super) fn sign(&self, object: Value) -> Value {
        let Ok(CanonicalJsonValue::Object(mut object)) = to_canonical_value(&object) else {
            panic!("not an object")
        };
        sign_json(self.user.as_str(), &self.pair, &mut object).unwrap();
        serde_json::to_value(object).unwrap()
    }

    /// This key as a cross-signing key.
    pub(super) fn cross_signing_key(&self, usage: &str) -> Value {
        json!({ "user_id": self.user, "usage": [usage], "keys": { self.key_id(): self.public() } })
    }
}

/// A device with its key.
pub(super) struct Identity {
    pub(super) user: OwnedUserId,
    pub(super) device: OwnedDeviceId,
    pub(super) signer: Signer,
}

impl Identity {
    pub(super) fn new(user: &str, device: &str) -> Self {
        Self::with_seed(user, device, device)
    }

    pub(super) fn with_seed(user: &str, device: &str, seed: &str) -> Self {
        Self { user: self::user(user), device: device.into(), signer: Signer::new(user, Some(device), seed) }
    }

    pub(super) fn bare_keys(&self) -> Value {
        json!({
            "user_id": self.user,
            "device_id": self.device,
            "algorithms": ["m.olm.v1.curve25519-aes-sha2"],
            "keys": {
                self.signer.key_id(): self.signer.public(),
                format!("curve25519:{}", self.device): "c",
            },
        })
    }

    pub(super) fn device_keys(&self) -> Value {
        self.signer.sign(self.bare_keys())
    }
}

/// One-time keys `first..last` as a body.
pub(super) fn one_time_keys(range: std::ops::Range<usize>) -> Value {
    let keys: serde_json::Map<String, Value> = range
        .map(|n| (format!("signed_curve25519:k{n:03}"), json!({ "key": format!("body {n}") })))
        .collect();
    json!({ "one_time_keys": keys })
}

/// The value of `object` as canonical JSON.
pub(super) fn object(value: &Value) -> CanonicalJsonObject {
    serde_json::from_value(value.clone()).unwrap()
}
