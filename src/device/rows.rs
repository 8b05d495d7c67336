//! The rows that this module owns.

use std::collections::{BTreeMap, BTreeSet};

use ruma::{CanonicalJsonObject, CanonicalJsonValue, OwnedDeviceId, OwnedRoomId, OwnedUserId};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::store::table::{Rows, TableId};

/// The device whose keys a row is about.
pub(super) type DeviceKey = (OwnedUserId, OwnedDeviceId);

/// Device keys with the device's own signature alone; other signatures are in [`SIGNATURES`].
pub(super) const DEVICE_KEYS: Rows<DeviceKey, CanonicalJsonObject> = Rows::new(TableId::DeviceKeys);

/// One-time keys by algorithm and order of upload.
pub(super) const ONE_TIME_KEYS: Rows<(OwnedUserId, OwnedDeviceId, String, u64), OneTimeKeyRow> =
    Rows::new(TableId::OneTimeKey);

/// The place in [`ONE_TIME_KEYS`] of each key id.
pub(super) const ONE_TIME_KEY_IDS: Rows<(OwnedUserId, OwnedDeviceId, String), u64> =
    Rows::new(TableId::OneTimeKeyId);

/// The fallback key of each algorithm.
pub(super) const FALLBACK_KEYS: Rows<(OwnedUserId, OwnedDeviceId, String), FallbackKeyRow> =
    Rows::new(TableId::FallbackKey);

/// Counts by device. Every change of its one-time and fallback keys expects and rewrites this row, so
/// that such changes happen one after another.
pub(super) const KEY_COUNTS: Rows<DeviceKey, KeyCounts> = Rows::new(TableId::KeyCounts);

/// Cross-signing keys by user and usage; the master key without signatures, the others with its
/// signature alone.
pub(super) const CROSS_SIGNING_KEYS: Rows<(OwnedUserId, String), CanonicalJsonObject> =
    Rows::new(TableId::CrossSigningKey);

/// Checked signatures: by the user whose key was signed, the user who signed, the signed device id or
/// public key, and the id of the signing key. What one user may see of another is two ranges of it.
pub(super) const SIGNATURES: Rows<(OwnedUserId, OwnedUserId, String, String), String> =
    Rows::new(TableId::KeySignature);

/// Backups by user and version; deleted ones stay as tombstones until there is a newer one, so that no version is used
/// twice.
pub(super) const BACKUPS: Rows<(OwnedUserId, u64), BackupRow> = Rows::new(TableId::BackupVersion);

/// The keys of a backup by version, room and session.
pub(super) const BACKUP_KEYS: Rows<(OwnedUserId, u64, OwnedRoomId, String), Box<RawValue>> =
    Rows::new(TableId::BackupKey);

/// The dehydrated device of each user.
pub(super) const DEHYDRATED: Rows<(OwnedUserId,), DehydratedRow> = Rows::new(TableId::DehydratedDevice);

/// A one-time key that waits to be claimed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct OneTimeKeyRow {
    /// `<algorithm>:<id>`.
    pub(super) key_id: String,
    /// The key as it was uploaded.
    pub(super) key: CanonicalJsonValue,
}

/// A key that is given out when no one-time key is left.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct FallbackKeyRow {
    /// `<algorithm>:<id>`.
    pub(super) key_id: String,
    /// The key as it was uploaded.
    pub(super) key: CanonicalJsonValue,
    /// Whether it has been given out.
    pub(super) used: bool,
}

/// What a device's stock of keys is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyCounts {
    /// The place that the next one-time key takes.
    pub(super) next: u64,
    /// One-time keys that are left, by algorithm.
    pub one_time: BTreeMap<String, u64>,
    /// Algorithms whose fallback key has not been given out.
    pub unused_fallback: BTreeSet<String>,
}

/// A version of a user's key backup.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct BackupRow {
    /// The algorithm with its `auth_data`; nothing once the version is deleted.
    pub(super) auth: Option<BackupAuth>,
    /// How many changes the keys have seen.
    pub(super) etag: u64,
    /// How many keys there are.
    pub(super) count: u64,
}

/// What a client says of its backup.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct BackupAuth {
    /// The algorithm; it never changes.
    pub(super) algorithm: String,
    /// Its data.
    pub(super) auth_data: serde_json::Value,
}

/// A dehydrated device.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct DehydratedRow {
    /// The device id.
    pub(super) device_id: OwnedDeviceId,
    /// The secret part, encrypted by the client.
    pub(super) device_data: serde_json::Value,
}
