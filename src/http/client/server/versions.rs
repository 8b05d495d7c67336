//! `GET /_matrix/client/versions`
//!
//! <https://spec.matrix.org/v1.19/client-server-api/#get_matrixclientversions>

use std::collections::BTreeMap;

use ruma::api::client::discovery::get_supported_versions::{Request, Response};

use crate::http::{
    App, Failure, Routes,
    client::{rendezvous, room, thread_subscription},
};

/// The versions whose client-server API works here.
const VERSIONS: [&str; 19] = [
    "v1.1", "v1.2", "v1.3", "v1.4", "v1.5", "v1.6", "v1.7", "v1.8", "v1.9", "v1.10", "v1.11", "v1.12",
    "v1.13", "v1.14", "v1.15", "v1.16", "v1.17", "v1.18", "v1.19",
];

/// Adds the endpoint; the features are those that the other areas have named until then.
pub(in crate::http) fn route(routes: &mut Routes) {
    let features: BTreeMap<String, bool> =
        routes.features().iter().map(|name| (String::from(*name), true)).collect();
    routes.add::<Request, _>(move |app: App, _: Request| {
        let versions = VERSIONS.iter().map(|version| String::from(*version)).collect();
        let mut unstable_features = features.clone();
        if app.oauth.site().is_none() {
            unstable_features.retain(|name, _| !rendezvous::FEATURES.contains(&name.as_str()));
        }
        if !app.config.push.thread_subscriptions {
            unstable_features.remove(thread_subscription::FEATURE);
        }
        if !app.config.redact_on_ban {
            unstable_features.remove(room::SWEEPS);
        }
        async move { Ok::<_, Failure>(Response { versions, unstable_features }) }
    });
}
