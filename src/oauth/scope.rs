//! What a client asks for: everything, on a device whose id it has chosen.
//!
//! <https://spec.matrix.org/v1.19/client-server-api/#scope>

use ruma::OwnedDeviceId;

use super::{Code, OauthError};
use crate::limits::ID_BYTES_MAX;

/// Access to the whole client-server API.
const API: [&str; 2] = ["urn:matrix:client:api:*", "urn:matrix:org.matrix.msc2967.client:api:*"];
/// What is before the id of the device.
const DEVICE: [&str; 2] = ["urn:matrix:client:device:", "urn:matrix:org.matrix.msc2967.client:device:"];

/// A scope that can be granted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scope {
    /// The device that is to be logged in.
    pub device_id: OwnedDeviceId,
    /// What is granted, as the client is told.
    pub text: String,
}

impl Scope {
    /// Reads what a client asks for. Tokens that mean nothing here are not granted.
    ///
    /// # Errors
    /// When there is not exactly one device, or it is not the whole API that is asked for.
    pub fn parse(text: &str) -> Result<Self, OauthError> {
        let refused = |text: &'static str| OauthError::refused(Code::InvalidScope, text);
        let tokens = || text.split(' ').filter(|token| !token.is_empty());
        let device =
            |token: &str| DEVICE.iter().find_map(|prefix| token.strip_prefix(prefix)).map(str::to_owned);
        let mut devices = tokens().filter_map(device);
        let device_id = devices.next().ok_or_else(|| refused("The scope names no device"))?;
        if devices.next().is_some() {
            return Err(refused("The scope names several devices"));
        }
        let allowed = |byte: u8| matches!(byte, 0x21 | 0x23..=0x5B | 0x5D..=0x7E);
        if device_id.is_empty() || device_id.len() > ID_BYTES_MAX || !device_id.bytes().all(allowed) {
            return Err(refused("The device id is not valid"));
        }
        if !tokens().any(|token| API.contains(&token)) {
            return Err(refused("The scope must contain urn:matrix:client:api:*"));
        }
        let known = |token: &&str| API.contains(token) || device(token).is_some();
        let text = tokens().filter(known).collect::<Vec<_>>().join(" ");
        Ok(Self { device_id: device_id.into(), text })
    }

    /// That of a session which has been granted.
    #[must_use]
    pub fn of(device_id: OwnedDeviceId) -> Self {
        let text = format!("{} {}{device_id}", API[0], DEVICE[0]);
        Self { device_id, text }
    }
}
