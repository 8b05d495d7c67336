//! What other people's pages, and people who make things up, get out of the pages: nothing.

use axum::body::Body;
use serde_json::json;

use super::{Answer, Browser, SITE, Scene, authorize};
use crate::{
    config::{Config, RegistrationMode},
    http::endpoints,
};

/// Rows 6.5 (CVE-2020-26891 and CVE-2021-21332, scripts through parameters; ea26e9a9, clickjacking).
#[tokio::test]
async fn row_6_5_cve_2020_26891_pages_show_parameters_as_text_and_run_nothing() {
    let scene = Scene::new(RegistrationMode::Open).await;
    scene.user("alice").await;
    let evil = "\"><script>alert(1)</script>'&lt;";
    let escaped = serde_html_form::to_string([("x", evil)]).unwrap().replacen("x=", "", 1);
    let client = scene.client(json!({ "client_name": evil })).await;
    let mut browser = Browser::default();
    let mut pages = vec![
        browser.get(&scene, &format!("/_matrix/oauth2/login?next={escaped}")).await,
        browser.get(&scene, &format!("/_matrix/oauth2/register?next={escaped}")).await,
        browser.get(&scene, &format!("/_matrix/oauth2/authorize?client_id={escaped}")).await,
    ];
    let asked = browser.get(&scene, &authorize(&client, "%22%3E%3Cscript%3E", "")).await;
    let onwards = browser.sign_in(&scene, asked.location(), "alice").await;
    pages.push(browser.get(&scene, &onwards).await);
    pages.push(browser.get(&scene, &format!("/_matrix/oauth2/link?user_code={escaped}")).await);
    let view = format!("/_matrix/oauth2/account?action=org.matrix.device_view&device_id={escaped}");
    pages.push(browser.get(&scene, &view).await);
    let csrf = pages[4].field("csrf");
    pages.push(browser.post(&scene, "link", &[("csrf", &csrf), ("user_code", evil)]).await);
    for page in pages {
        assert!(page.text.starts_with("<!DOCTYPE html>"), "{}", page.text);
        assert!(!page.text.contains("<script"), "{}", page.text);
        let policy = page.headers["content-security-policy"].to_str().unwrap();
        for part in ["default-src 'none'", "frame-ancestors 'none'", "base-uri 'none'", "form-action 'self'"]
        {
            assert!(policy.contains(part), "{policy}");
        }
        assert!(!policy.contains("unsafe") && !policy.contains("script-src"), "{policy}");
        for (name, value) in [
            ("x-frame-options", "DENY"),
            ("x-content-type-options", "nosniff"),
            ("referrer-policy", "no-referrer"),
            ("cache-control", "no-store"),
        ] {
            assert_eq!(page.headers[name], value);
        }
    }
}

/// What pages are asked for by.
const NAMES: [&str; 20] = [
    "next",
    "client_id",
    "redirect_uri",
    "redirectUrl",
    "state",
    "user_code",
    "action",
    "device_id",
    "sid",
    "code",
    "session",
    "error",
    "error_description",
    "ticket",
    "token",
    "prompt",
    "response_type",
    "scope",
    "login_hint",
    "username",
];
const EVIL: [&str; 6] = [
    "\"><script>alert(1)</script>",
    "' onmouseover='alert(2)' \" onmouseover=\"alert(2)",
    "javascript:alert(3)",
    "data:text/html,<script>alert(1)</script>",
    "//evil.org/",
    "https://evil.org/\r\nset-cookie: x=y",
];

/// Whether `page` is one, which holds nothing that runs and leads nowhere else.
fn is_harmless_page(what: &str, page: &Answer) -> bool {
    let header = |name: &str| page.headers.get(name).map_or("", |value| value.to_str().unwrap());
    assert!(!header("set-cookie").starts_with("x="), "{what}");
    let to = header("location");
    assert!(to.is_empty() || to.starts_with(SITE) || to.starts_with("/_matrix/"), "{what}: {to}");
    if !header("content-type").starts_with("text/html") {
        return false;
    }
    // Values stand in double quotes everywhere, so that single ones end nothing.
    let raw =
        ["<script>alert", "onmouseover=\"alert", "href=\"javascript:", "action=\"javascript:", "src=\"data:"];
    assert!(raw.iter().all(|raw| !page.text.contains(raw)), "{what}: {}", page.text);
    let policy = header("content-security-policy");
    let parts = ["default-src 'none'", "frame-ancestors 'none'", "base-uri 'none'"];
    assert!(parts.iter().all(|part| policy.contains(part)), "{what}: {policy}");
    assert!(!policy.contains("unsafe") && !policy.contains("alert"), "{what}: {policy}");
    let others = ["x-frame-options", "x-content-type-options", "referrer-policy"].map(header);
    assert_eq!(others, ["DENY", "nosniff", "no-referrer"], "{what}");
    true
}

/// Row 6.5: every page that there is, also those that only tell what is wrong, whatever each of its parameters says, for
/// whoever is signed in and whoever is not.
#[tokio::test]
async fn row_6_5_no_page_of_the_server_runs_what_it_is_given() {
    let (scene, _letters) = super::mail::scene_with(Config::default()).await;
    scene.user("alice").await;
    let mut signed_in = Browser::default();
    signed_in.session(&scene, "alice", "PHONE").await;
    let routes = endpoints();
    let is_page = |path: &str| {
        path.starts_with("/_matrix/oauth2/")
            || path.contains("/fallback/web")
            || path.contains("/sso/redirect")
    };
    let mut shown = 0;
    for (method, path) in routes.listed().iter().filter(|(_, path)| is_page(path)) {
        for evil in EVIL {
            let fields: Vec<(&str, &str)> = NAMES.iter().map(|name| (*name, evil)).collect();
            let query = serde_html_form::to_string(&fields).unwrap();
            let text = serde_html_form::to_string([("x", evil)]).unwrap().replacen("x=", "", 1);
            let part = |part: &str| if part.starts_with('{') { text.clone() } else { part.to_owned() };
            let path = path.split('/').map(part).collect::<Vec<_>>().join("/");
            for browser in [&mut Browser::default(), &mut signed_in] {
                let page = match *method {
                    http::Method::GET => browser.get(&scene, &format!("{path}?{query}")).await,
                    _ => browser.send(&scene, method.as_str(), (&path, Body::from(query.clone()))).await,
                };
                shown += usize::from(is_harmless_page(&format!("{method} {path}"), &page));
            }
        }
    }
    assert!(shown > 100, "{shown} pages were looked at");
}

#[tokio::test]
async fn forms_of_other_sites_do_nothing() {
    let scene = Scene::new(RegistrationMode::Open).await;
    scene.user("alice").await;
    let client = scene.client(json!({})).await;
    let mut browser = Browser::default();
    let asked = browser.get(&scene, &authorize(&client, "PHONE", "")).await;
    let onwards = browser.sign_in(&scene, asked.location(), "alice").await;
    let mut stranger = Browser::default();
    let foreign = stranger.get(&scene, "/_matrix/oauth2/login").await.field("csrf");
    for csrf in ["", "x", &foreign] {
        for (page, more) in [
            (&*onwards, [("decision", "allow"), ("x", "")]),
            ("login", [("next", ""), ("username", "alice")]),
            ("logout", [("next", ""), ("x", "")]),
            ("link", [("user_code", "x"), ("decision", "allow")]),
            ("account/profile", [("displayname", "x"), ("x", "")]),
            ("account/device", [("device_id", "PHONE"), ("change", "remove")]),
            ("account/cross_signing", [("x", ""), ("y", "")]),
            ("account/deactivate", [("confirmed", "@alice:localhost"), ("x", "")]),
        ] {
            let fields = [("csrf", csrf), ("password", "secret"), more[0], more[1]];
            let answer = browser.post(&scene, page, &fields).await;
            assert_eq!(answer.status, 403, "{page} {csrf}: {}", answer.text);
        }
    }
    assert_eq!(browser.get(&scene, "/_matrix/oauth2/account").await.status, 200, "still signed in");
}

/// Row 7.3 (tuwunel 1.5.1, audit): a browser that signs in gets another cookie, and goes only where it was going.
#[tokio::test]
async fn tuwunel_1_5_1_no_open_redirect_and_no_fixed_session() {
    let scene = Scene::new(RegistrationMode::Open).await;
    scene.user("alice").await;
    let account = format!("{SITE}/_matrix/oauth2/account");
    for next in [
        "https://evil.org/",
        "//evil.org/",
        "/_matrix/oauth2//evil.org",
        "/_matrix/oauth2/../../evil",
        "/_matrix/oauth2/authorize@evil.org",
        "/_matrix/oauth2/token",
        "/_matrix/oauth2/link?\r\nx: y",
        "",
    ] {
        let mut browser = Browser::default();
        let page = browser.get(&scene, "/_matrix/oauth2/login").await;
        let before = browser.cookie.clone();
        let fields =
            [("csrf", &*page.field("csrf")), ("next", next), ("username", "Alice"), ("password", "secret")];
        let answer = browser.post(&scene, "login", &fields).await;
        assert_eq!((answer.status, answer.location()), (303, &*account), "{next}");
        assert_ne!(browser.cookie, before);
        let mut fixed = Browser { cookie: before };
        assert_eq!(
            fixed.get(&scene, "/_matrix/oauth2/account").await.status,
            303,
            "the old cookie is nobody's"
        );
    }
}

#[tokio::test]
async fn a_field_that_comes_twice_and_a_body_that_is_no_form_are_mistakes() {
    let scene = Scene::new(RegistrationMode::Open).await;
    for page in ["token", "revoke", "device"] {
        let twice = [("token", "a"), ("token", "b"), ("client_id", "a"), ("client_id", "b")];
        let answer = scene.form(page, &twice).await;
        assert_eq!((answer.status, &answer.json()["error"]), (400, &json!("invalid_request")), "{page}");
        let path = format!("POST /_matrix/oauth2/{page}");
        let answer = scene.json(&path, ("", json!({ "token": "a", "client_id": "a" }))).await;
        assert_eq!((answer.status, &answer.json()["error"]), (400, &json!("invalid_request")), "{page}");
    }
    let unknown = scene.form("device", &[("client_id", "nobody"), ("scope", "x")]).await;
    assert_eq!((unknown.status, &unknown.json()["error"]), (401, &json!("invalid_client")));
    let clients = scene.json("POST /_matrix/oauth2/clients", ("", json!([]))).await;
    assert_eq!((clients.status, &clients.json()["error"]), (400, &json!("invalid_client_metadata")));
}

#[tokio::test]
async fn who_is_lost_sees_a_page_and_programs_are_told_in_json() {
    let scene = Scene::new(RegistrationMode::Open).await;
    for (method, path, accept, is_page) in [
        ("GET", "/_matrix/oauth2/acount", "text/html,application/xhtml+xml", true),
        ("GET", "/_matrix/oauth2/logout", "text/html", true),
        ("GET", "/_matrix/oauth2/acount", "application/json", false),
        ("GET", "/_matrix/oauth2/token", "*/*", false),
        ("GET", "/_matrix/client/v3/nothing", "text/html", false),
    ] {
        let request = http::Request::builder().method(method).uri(path).header("accept", accept);
        let answer = scene.send(request.body(Body::empty()).unwrap()).await;
        assert!(matches!(answer.status, 404 | 405), "{path}: {}", answer.status);
        let kind = answer.headers["content-type"].to_str().unwrap();
        assert_eq!(kind.starts_with("text/html"), is_page, "{path} for {accept}: {kind}");
        assert_eq!(answer.text.contains("href=\"/_matrix/oauth2/account\""), is_page, "{}", answer.text);
    }
}

#[tokio::test]
async fn pages_on_which_it_ends_lead_on() {
    let scene = Scene::new(RegistrationMode::Open).await;
    let mut browser = Browser::default();
    for (path, status, on) in [
        ("reset?sid=none&code=none&next=", 400, "forgot"),
        ("callback/none?state=x&code=y", 400, "login?next="),
    ] {
        let answer = browser.get(&scene, &format!("/_matrix/oauth2/{path}")).await;
        assert_eq!(answer.status, status, "{path}: {}", answer.text);
        assert!(answer.text.contains(&format!("/_matrix/oauth2/{on}\"")), "{path}: {}", answer.text);
    }
}
