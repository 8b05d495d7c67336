//! Whether everything is served that the specification has, and what clients use beyond it.

use std::{collections::BTreeSet, sync::Arc};

use axum::{Router, body::Body};
use http_body_util::BodyExt;
use serde_json::{Value, json};
use tower::ServiceExt;

use super::services_with;
use crate::{
    config::Config,
    http::{App, endpoints},
    peer::Isolated,
};

/// Method and path of every endpoint of the client-server and the server-server API, version 1.19.
const SPECIFICATION: &str = include_str!("specification.tsv");
/// Method and path of what is not in the specification, and used by clients and bridges all the same.
const BEYOND: &str = include_str!("beyond.tsv");

/// What is added when the router is made; and what a policy server answers, which this is none.
const ELSEWHERE: [&str; 2] = ["GET\t/_matrix/client/versions", "POST\t/_matrix/policy/v1/sign"];

/// The endpoints to which a black-box test gives nonsense.
const TRIED: &str = include_str!("../../../spec-tests/tests/endpoints.tsv");

/// Whether a template that is served takes in the path of a table, whose variables may have other names.
pub(super) fn serves(served: &str, wanted: &str) -> bool {
    let (mut served, mut wanted) = (served.split('/'), wanted.split('/'));
    loop {
        match (served.next(), wanted.next()) {
            (None, None) => return true,
            (Some(rest), Some(_)) if rest.starts_with("{*") => return true,
            (Some(one), Some(other)) if one == other || one.starts_with('{') => {}
            _ => return false,
        }
    }
}

#[test]
fn what_the_specification_has_is_served() {
    let served = endpoints();
    let mut missing = Vec::new();
    for line in SPECIFICATION.lines().chain(BEYOND.lines()) {
        let (method, path) = line.split_once('\t').expect("a method, a tab, a path");
        let is_served = |(found, template): &(http::Method, &str)| found == method && serves(template, path);
        if !ELSEWHERE.contains(&line) && !served.listed().iter().any(is_served) {
            missing.push(line);
        }
    }
    assert!(missing.is_empty(), "not served: {missing:#?}");
}

#[test]
fn what_is_served_is_given_nonsense() {
    // Older and unstable paths lead to the same handlers; application services and other servers have their own tests.
    let begins = [
        "/_matrix/client/v1/",
        "/_matrix/client/v3/",
        "/_matrix/client/v4/",
        "/_synapse/",
        "/_lockstep/admin/",
    ];
    let mut missing = Vec::new();
    for (method, template) in endpoints().listed() {
        if !begins.iter().any(|begin| template.starts_with(begin)) || template.contains("/appservice/") {
            continue;
        }
        let is_it = |line: &str| {
            let mut fields = line.split('\t');
            let mut leads_here =
                |path: &str| serves(template.trim_end_matches('/'), path.trim_end_matches('/'));
            fields.next() == Some(method.as_str()) && fields.next().is_some_and(&mut leads_here)
        };
        if !TRIED.lines().any(is_it) {
            missing.push(format!("{method} {template}"));
        }
    }
    assert!(missing.is_empty(), "not in spec-tests/tests/endpoints.tsv: {missing:#?}");
}

/// What is claimed whatever the configuration.
const FEATURES: [&str; 26] = [
    "com.beeper.msc4437",
    "com.beeper.msc4446",
    "org.matrix.msc1763",
    "org.matrix.msc3391",
    "org.matrix.msc3814",
    "org.matrix.msc3874",
    "org.matrix.msc3881",
    "org.matrix.msc3882",
    "org.matrix.msc3912",
    "org.matrix.msc3916.stable",
    "org.matrix.msc3930",
    "org.matrix.msc4028",
    "org.matrix.msc4140",
    "org.matrix.msc4155",
    "org.matrix.msc4222",
    "org.matrix.msc4262",
    "org.matrix.msc4354",
    "org.matrix.msc4380",
    "org.matrix.msc4380.stable",
    "org.matrix.msc4429",
    "org.matrix.simplified_msc3575",
    "uk.half-shot.msc2666.query_mutual_rooms",
    "uk.half-shot.msc2666.query_mutual_rooms.stable",
    "uk.tcpip.msc4133",
    "uk.tcpip.msc4133.stable",
    "uk.timedout.msc4494",
];

/// What is claimed besides where there are the OAuth 2.0 API, thread subscriptions and bans that redact.
const CONFIGURED: [&str; 4] =
    ["io.element.msc4388", "org.matrix.msc4108", "org.matrix.msc4293", "org.matrix.msc4306"];

async fn versions(config: Config) -> Value {
    let router: Router = endpoints().into_router(App::new(services_with(config, Arc::new(Isolated)).await));
    let request = http::Request::get("/_matrix/client/versions").body(Body::empty()).unwrap();
    let response = router.oneshot(request).await.unwrap();
    serde_json::from_slice(&response.into_body().collect().await.unwrap().to_bytes()).unwrap()
}

/// Clients go by it: whatever is claimed works, and nothing comes or goes unnoticed.
#[tokio::test]
async fn this_and_nothing_else_is_claimed() {
    let bare = Config::default();
    let mut whole = Config { public_base_url: Some("https://matrix.localhost".into()), ..Config::default() };
    whole.push.thread_subscriptions = true;
    whole.redact_on_ban = true;
    for (config, more) in [(bare, &CONFIGURED[..0]), (whole, &CONFIGURED[..])] {
        let told = versions(config).await;
        let expected: Vec<String> = (1..=19).map(|minor| format!("v1.{minor}")).collect();
        assert_eq!(told["versions"], json!(expected));
        let mut expected: Vec<&str> = FEATURES.iter().chain(more).copied().collect();
        expected.sort_unstable();
        let features = told["unstable_features"].as_object().unwrap();
        let claimed: Vec<&str> = features.keys().map(String::as_str).collect();
        assert_eq!(claimed, expected);
        assert!(features.values().all(|value| *value == true), "{told}");
    }
}

/// What administrators can ask for, for people.
const MANUAL: &str = include_str!("../../../docs/administration.md");

/// A method and a path, with variables that have no names.
pub(super) fn nameless(method: &str, path: &str) -> String {
    let segments = path.split('/').map(|segment| if segment.starts_with('{') { "{}" } else { segment });
    format!("{method} {}", segments.collect::<Vec<_>>().join("/"))
}

#[test]
fn the_manual_names_each_call_for_administrators_and_no_other() {
    let (mut named, mut under) = (BTreeSet::new(), "");
    for line in MANUAL.lines() {
        if !line.starts_with('|') {
            under = "";
        }
        let mut cells = line.split('|').skip(1).map(str::trim);
        let (Some(methods), Some(path)) = (cells.next(), cells.next()) else { continue };
        if methods == "method" {
            under = path.trim_start_matches("path below ").trim_matches('`');
        } else if !under.is_empty() && path.starts_with('`') {
            let path = format!("{under}/{}", path.trim_matches('`'));
            named.extend(methods.split(", ").map(|method| nameless(method, &path)));
        }
    }
    let is_for_them = |path: &str| path.starts_with("/_synapse/") || path.starts_with("/_lockstep/admin/");
    let routes = endpoints();
    let served = routes.listed().iter().filter(|(_, path)| is_for_them(path));
    let served: BTreeSet<_> = served.map(|(method, path)| nameless(method.as_str(), path)).collect();
    let (lacking, idle): (Vec<_>, Vec<_>) =
        (served.difference(&named).collect(), named.difference(&served).collect());
    assert!(lacking.is_empty() && idle.is_empty(), "not in the manual: {lacking:#?}; not served: {idle:#?}");
}
