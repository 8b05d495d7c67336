//! Keys as a device publishes them: the device keys rightly signed, the one-time keys merely of the right shape.

use std::ops::Range;

use base64::{Engine, engine::general_purpose::STANDARD_NO_PAD};
use ed25519_dalek::{Signer, SigningKey};
use serde_json::{Map, Value, json};

use crate::matrix::Client;

/// A signature of the right length that nobody made.
fn no_signature() -> String {
    "A".repeat(86)
}

/// Something that looks like a Curve25519 key and differs for each number.
fn curve25519(number: usize) -> String {
    format!("{number:0>43}")
}

/// The signing key of a device: made of its names, so that it is the same each time.
fn signing_key(device: &Client) -> SigningKey {
    let mut seed = [0; 32];
    for (at, byte) in device.user_id.bytes().chain(device.device_id.bytes()).enumerate() {
        seed[at % 32] ^= byte.rotate_left(u32::try_from(at % 8).unwrap_or_default());
    }
    SigningKey::from_bytes(&seed)
}

/// The device's identity keys, signed by itself.
pub fn device_keys(device: &Client) -> Value {
    let (user, id) = (&device.user_id, &device.device_id);
    let secret = signing_key(device);
    let public = STANDARD_NO_PAD.encode(secret.verifying_key().as_bytes());
    let mut keys = json!({
        "user_id": user,
        "device_id": id,
        "algorithms": ["m.olm.v1.curve25519-aes-sha2", "m.megolm.v1.aes-sha2"],
        "keys": {format!("curve25519:{id}"): curve25519(1), format!("ed25519:{id}"): public},
    });
    // Keys of a map are in order and nothing here needs escaping: this is canonical JSON.
    let signature = STANDARD_NO_PAD.encode(secret.sign(keys.to_string().as_bytes()).to_bytes());
    keys["signatures"] = json!({user: {format!("ed25519:{id}"): signature}});
    keys
}

/// One-time keys of the given numbers, which also order them.
pub fn one_time_keys(device: &Client, numbers: Range<usize>) -> Value {
    let signatures = json!({&device.user_id: {format!("ed25519:{}", device.device_id): no_signature()}});
    let key = |number| {
        let value = json!({"key": curve25519(number), "signatures": signatures});
        (format!("signed_curve25519:K{number:07}"), value)
    };
    Value::Object(numbers.map(key).collect::<Map<String, Value>>())
}
