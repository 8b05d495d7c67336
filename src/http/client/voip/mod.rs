//! Calls: the servers that carry them.

mod delegate;
mod get_token;
mod service;
mod transports;
mod turn_server;
mod webhook;

#[cfg(test)]
mod livekit_tests;
#[cfg(test)]
pub(in crate::http) mod testing;

pub(in crate::http) use get_token::here as token_here;
use http::Method;
use ruma::{OwnedRoomId, OwnedUserId};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::{
    config::Config,
    http::{Access, Failure, Routes},
    rtc::{Member, Seat},
};

/// The second is what the proposal asks for.
const TRANSPORTS: [&str; 2] =
    ["/_matrix/client/unstable/org.matrix.msc4143/rtc/transports", "/_matrix/client/v1/rtc/transports"];
const TOKENS: [&str; 2] = [
    "/_matrix/client/unstable/io.element.msc4195/rtc/livekit/get_token",
    "/_matrix/client/v1/rtc/livekit/get_token",
];
const LEAVES: [&str; 2] = [
    "/_matrix/client/unstable/io.element.msc4195/rtc/livekit/delegate_delayed_leave",
    "/_matrix/client/v1/rtc/livekit/delegate_delayed_leave",
];

/// Adds the endpoints of this area.
pub(super) fn routes(routes: &mut Routes) {
    routes.add(turn_server::handle);
    for path in TRANSPORTS {
        routes.raw(Method::GET, path, Access::Required, transports::handle);
    }
    for path in TOKENS {
        routes.raw(Method::POST, path, Access::Required, get_token::handle);
    }
    for path in LEAVES {
        routes.raw(Method::POST, path, Access::Optional, delegate::handle);
    }
    routes.raw(Method::POST, webhook::PATH, Access::Open, webhook::handle);
    service::routes(routes);
}

/// Who wants into which call, as requests have it. Hand-written: clients of today name the member by an object that has
/// the device too, as the proposal had it at first, and ruma's types know only what it says now.
///
/// <https://github.com/matrix-org/matrix-spec-proposals/pull/4195>
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(in crate::http) struct Place {
    room_id: OwnedRoomId,
    slot_id: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    member_id: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    member: Option<Named>,
}

#[derive(Clone, Debug, Deserialize, Serialize)]
struct Named {
    id: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    claimed_device_id: Option<String>,
}

impl Place {
    /// The place of `user_id`.
    ///
    /// # Errors
    /// When it is not said which member.
    pub(in crate::http) fn of(self, user_id: OwnedUserId) -> Result<Seat, Failure> {
        let member = match (self.member_id, self.member) {
            (Some(id), _) => Member { id, device_id: None },
            (None, Some(named)) => Member { id: named.id, device_id: named.claimed_device_id },
            (None, None) => return Err(Failure::bad_json("`member_id` is missing")),
        };
        Ok(Seat { user_id, room_id: self.room_id, slot_id: self.slot_id, member })
    }
}

/// What carries calls between many: as clients of today look for it, and as the proposal has it.
///
/// <https://github.com/matrix-org/matrix-spec-proposals/pull/4195>
fn transports(config: &Config) -> Vec<Value> {
    let mut found = foci(config);
    if let Some(url) = &config.voip.livekit_url {
        match found.first_mut() {
            Some(first) => first["url"] = Value::from(url.as_str()),
            None => found.push(json!({ "type": "livekit", "url": url })),
        }
        found.push(json!({ "type": "m.livekit", "url": url }));
    }
    found
}

/// The same for clients that look for it in the well-known document, and ask a service and not their server.
pub(in crate::http) fn foci(config: &Config) -> Vec<Value> {
    let own = config.public_base_url.as_deref().filter(|_| config.voip.livekit_url.is_some());
    let own = own.map(|base| format!("{}{}", base.trim_end_matches('/'), service::BASE));
    let url = config.voip.livekit_service_url.clone().or(own);
    url.iter().map(|url| json!({ "type": "livekit", "livekit_service_url": url })).collect()
}
