//! `GET /_matrix/client/v3/thirdparty/…`: users and places of networks beyond Matrix.
//!
//! Application services know them; each is asked that has to do with the network, and what they answer is
//! put together. One that does not answer is left out.
//!
//! <https://spec.matrix.org/v1.19/client-server-api/#third-party-networks>

use std::collections::BTreeMap;

use axum::{body::Body, response::Response};
use futures_util::future::join_all;
use http::{Method, header};
use serde_json::{Map, Value};

use crate::http::{Access, App, Call, Failure, Routes};

const BASES: [&str; 2] = ["/_matrix/client/v3/thirdparty", "/_matrix/client/r0/thirdparty"];
const V3: [&str; 6] = [
    "/_matrix/client/v3/thirdparty/protocols",
    "/_matrix/client/v3/thirdparty/protocol/{protocol}",
    "/_matrix/client/v3/thirdparty/location/{protocol}",
    "/_matrix/client/v3/thirdparty/user/{protocol}",
    "/_matrix/client/v3/thirdparty/location",
    "/_matrix/client/v3/thirdparty/user",
];
const R0: [&str; 6] = [
    "/_matrix/client/r0/thirdparty/protocols",
    "/_matrix/client/r0/thirdparty/protocol/{protocol}",
    "/_matrix/client/r0/thirdparty/location/{protocol}",
    "/_matrix/client/r0/thirdparty/user/{protocol}",
    "/_matrix/client/r0/thirdparty/location",
    "/_matrix/client/r0/thirdparty/user",
];

/// Adds the endpoints.
pub(super) fn routes(routes: &mut Routes) {
    for [protocols, protocol, location, user, by_alias, by_id] in [V3, R0] {
        routes.raw(Method::GET, protocols, Access::Required, get_protocols);
        routes.raw(Method::GET, protocol, Access::Required, get_protocol);
        for path in [location, user] {
            routes.raw(Method::GET, path, Access::Required, in_network);
        }
        for path in [by_alias, by_id] {
            routes.raw(Method::GET, path, Access::Required, everywhere);
        }
    }
}

async fn get_protocols(app: App, _: Call) -> Result<Response, Failure> {
    let mut all = Map::new();
    for (protocol, answers) in protocols(&app, None).await {
        all.extend(merge(answers).map(|merged| (protocol, merged)));
    }
    json(&Value::Object(all))
}

async fn get_protocol(app: App, call: Call) -> Result<Response, Failure> {
    let wanted = call.path.first().cloned().unwrap_or_default();
    let answers = protocols(&app, Some(&wanted)).await.remove(&wanted).unwrap_or_default();
    match merge(answers) {
        Some(merged) => json(&merged),
        None => Err(Failure::not_found("No application service knows the network")),
    }
}

/// What application services say of each of their networks.
async fn protocols(app: &App, wanted: Option<&str>) -> BTreeMap<String, Vec<Value>> {
    let (all, mut asking) = (app.appservices.all(), Vec::new());
    for appservice in &all {
        for protocol in appservice.registration.protocols.iter().flatten() {
            if wanted.is_none_or(|wanted| wanted == protocol) {
                asking.push(async move {
                    let path = format!("protocol/{}", escape(protocol));
                    let answer = app.appservice_client.third_party(appservice, &path).await;
                    (protocol.clone(), answer.map(|answer| named(answer, &appservice.registration.id)))
                });
            }
        }
    }
    let mut found: BTreeMap<String, Vec<Value>> = BTreeMap::new();
    for (protocol, answer) in join_all(asking).await {
        found.entry(protocol).or_default().extend(answer.ok().filter(Value::is_object));
    }
    found
}

/// What an application service says of a network, with names for its instances by which clients ask for their rooms.
///
/// <https://spec.matrix.org/v1.19/client-server-api/#get_matrixclientv3thirdpartyprotocols>
fn named(mut answer: Value, id: &str) -> Value {
    for instance in answer["instances"].as_array_mut().into_iter().flatten() {
        if let Some(network) = instance["network_id"].as_str().map(ToOwned::to_owned) {
            instance["instance_id"] = network_of(id, &network).into();
        }
    }
    answer
}

/// What names the directory of a network beyond Matrix: which application service has it, and what that calls it.
pub(super) fn network_of(id: &str, network: &str) -> String {
    format!("{id}|{network}")
}

/// One description of a network: the first, with the instances of all of them.
fn merge(answers: Vec<Value>) -> Option<Value> {
    let mut answers = answers.into_iter();
    let mut merged = answers.next()?;
    for other in answers {
        if let (Some(ours), Some(theirs)) =
            (merged["instances"].as_array_mut(), other["instances"].as_array())
        {
            ours.extend(theirs.iter().cloned());
        }
    }
    Some(merged)
}

/// Asks those who have to do with one network.
async fn in_network(app: App, call: Call) -> Result<Response, Failure> {
    let protocol = call.path.first().cloned().unwrap_or_default();
    gather(&app, &call, Some(&protocol)).await
}

/// Asks all.
async fn everywhere(app: App, call: Call) -> Result<Response, Failure> {
    let name = if call.parts.uri.path().ends_with("/user") { "userid=" } else { "alias=" };
    if !call.parts.uri.query().unwrap_or_default().contains(name) {
        return Err(Failure::missing_param(format!("`{}` is missing", name.trim_end_matches('='))));
    }
    gather(&app, &call, None).await
}

async fn gather(app: &App, call: &Call, protocol: Option<&str>) -> Result<Response, Failure> {
    let path = call.parts.uri.path();
    let kind = BASES.iter().find_map(|base| path.strip_prefix(base)).unwrap_or_default();
    let kind = kind.trim_start_matches('/').split('/').next().unwrap_or_default();
    let mut wanted = kind.to_owned();
    if let Some(protocol) = protocol {
        wanted.push('/');
        wanted.push_str(&escape(protocol));
    }
    if let Some(query) = query_without_token(call.parts.uri.query().unwrap_or_default()) {
        wanted.push('?');
        wanted.push_str(&query);
    }
    let knows = |known: &str| protocol.is_none_or(|wanted| wanted == known);
    let all = app.appservices.all();
    let asked = all.iter().filter(|appservice| {
        let protocols = &appservice.registration.protocols;
        protocols.iter().flatten().any(|known| knows(known))
    });
    let asking = asked.map(|appservice| app.appservice_client.third_party(appservice, &wanted));
    let mut found = Vec::new();
    for answer in join_all(asking).await {
        if let Ok(Value::Array(answers)) = answer {
            found.extend(answers.into_iter().filter(Value::is_object));
        }
    }
    json(&Value::Array(found))
}

/// The query as it came, without what is a secret of the user's.
fn query_without_token(query: &str) -> Option<String> {
    let parts = query.split('&').filter(|part| !part.is_empty() && !part.starts_with("access_token="));
    let kept: Vec<&str> = parts.collect();
    (!kept.is_empty()).then(|| kept.join("&"))
}

fn escape(text: &str) -> String {
    text.bytes()
        .map(|byte| match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                char::from(byte).to_string()
            }
            _ => format!("%{byte:02X}"),
        })
        .collect()
}

fn json(value: &Value) -> Result<Response, Failure> {
    Response::builder()
        .header(header::CONTENT_TYPE, "application/json")
        .body(Body::from(value.to_string()))
        .map_err(Failure::internal)
}
