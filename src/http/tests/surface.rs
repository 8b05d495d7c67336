//! Whether everything is served that the specification has, and what clients use beyond it.

use crate::http::endpoints;

/// Method and path of every endpoint of the client-server and the server-server API, version 1.19.
const SPECIFICATION: &str = include_str!("specification.tsv");
/// Method and path of what is not in the specification, and used by clients and bridges all the same.
const BEYOND: &str = include_str!("beyond.tsv");

/// What is added when the router is made; and what a policy server answers, which this is none.
const ELSEWHERE: [&str; 2] = ["GET\t/_matrix/client/versions", "POST\t/_matrix/policy/v1/sign"];

/// The endpoints to which a black-box test gives nonsense.
const TRIED: &str = include_str!("../../../spec-tests/tests/endpoints.tsv");

/// Whether a template that is served takes in the path of a table, whose variables may have other names.
fn serves(served: &str, wanted: &str) -> bool {
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
