//! Calls: the servers that carry them.

mod transports;
mod turn_server;

use http::Method;
use serde_json::{Value, json};

use crate::{
    config::Voip,
    http::{Access, Routes},
};

/// The second is what the proposal asks for.
const TRANSPORTS: [&str; 2] =
    ["/_matrix/client/unstable/org.matrix.msc4143/rtc/transports", "/_matrix/client/v1/rtc/transports"];

/// Adds the endpoints of this area.
pub(super) fn routes(routes: &mut Routes) {
    routes.add(turn_server::handle);
    for path in TRANSPORTS {
        routes.raw(Method::GET, path, Access::Required, transports::handle);
    }
}

/// What carries calls between many, as clients are told in two places.
pub(in crate::http) fn transports(voip: &Voip) -> Vec<Value> {
    let livekit = |url: &String| json!({ "type": "livekit", "livekit_service_url": url });
    voip.livekit_service_url.iter().map(livekit).collect()
}
