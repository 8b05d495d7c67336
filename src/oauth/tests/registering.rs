//! What a client may say about itself.

use serde_json::{Value, json};

use super::{Duration, World, word};
use crate::{
    limits::{OAUTH_CLIENT_KEEP_MS, OAUTH_CLIENT_UNUSED_KEEP_MS, OAUTH_CLIENTS_PER_HOUR},
    oauth::{Client, OauthError, Site, client::ClientRow},
};

fn client(more: &Value, site: &str) -> Result<Client, super::OauthError> {
    let mut given =
        json!({ "client_uri": "https://example.com/", "redirect_uris": ["https://example.com/back"] });
    given.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    Client::new(serde_json::from_value(given).unwrap(), &Site::new(site).unwrap())
}

/// What is swept is expected to be as it was read.
#[test]
fn rows_of_old_are_written_as_they_were() {
    let text = r#"{"client_uri":"https://example.com/","redirect_uris":[],"response_types":[],"grant_types":[],"token_endpoint_auth_method":"none","application_type":"web","used_ms":1}"#;
    let row: ClientRow = serde_json::from_str(text).unwrap();
    assert_eq!(serde_json::to_string(&row).unwrap(), text);
}

/// The examples of the specification, and more.
#[test]
fn redirect_uris_belong_to_the_client() {
    for (uri, web, native) in [
        ("https://example.com/callback", true, true),
        ("https://app.example.com/callback", true, true),
        ("https://example.com:5173/?query=value", true, true),
        ("https://example.com/callback#fragment", false, false),
        ("https://example.com/#", false, false),
        ("http://example.com/callback", false, false),
        ("https://user:pass@example.com/callback", false, false),
        ("https://example.com@evil.org/", false, false),
        ("https://evilexample.com/", false, false),
        ("https://example.com.evil.org/", false, false),
        ("https://other.org/", false, false),
        ("http://localhost/callback", false, true),
        ("http://127.0.0.1/callback", false, true),
        ("http://[::1]/callback", false, true),
        ("http://127.0.0.2/callback", false, false),
        ("http://localhost:1234/callback", false, false),
        ("https://localhost/callback", false, false),
        ("http://localhost.evil.org/", false, false),
        ("com.example.app:/callback", false, true),
        ("com.example:/", false, true),
        ("com.example:callback", false, true),
        ("com.example.app://callback", false, false),
        ("com.examples:/callback", false, false),
        ("example:/callback", false, false),
        ("javascript:alert(1)", false, false),
        ("data:text/html,x", false, false),
        ("/callback", false, false),
        ("", false, false),
    ] {
        for (kind, expected) in [("web", web), ("native", native)] {
            let met = client(&json!({ "redirect_uris": [uri], "application_type": kind }), "https://here");
            let expected = if expected { "ok" } else { "invalid_redirect_uri" };
            assert_eq!(word(&met), expected, "{kind} {uri}");
        }
    }
}

#[test]
fn only_the_port_of_the_own_machine_is_left_open() {
    let uris = json!({ "redirect_uris": ["http://127.0.0.1/back", "https://example.com/back", "com.example:/back"],
        "application_type": "native" });
    let client = client(&uris, "https://here").unwrap();
    for (given, expected) in [
        ("http://127.0.0.1/back", true),
        ("http://127.0.0.1:4711/back", true),
        ("http://127.0.0.1:4711/other", false),
        ("http://127.0.0.1:4711/back?x", false),
        ("http://127.0.0.1:4711/back#x", false),
        ("http://x@127.0.0.1:4711/back", false),
        ("http://localhost:4711/back", false),
        ("https://example.com/back", true),
        ("https://example.com:443/back", false),
        ("https://example.com/back/", false),
        ("https://example.com/back/../back", false),
        ("com.example:/back", true),
        ("com.example:/back2", false),
    ] {
        assert_eq!(client.has_redirect(given), expected, "{given}");
    }
}

#[test]
fn metadata_is_checked_and_what_is_not_understood_left_out() {
    let long = "x".repeat(101);
    for (more, expected) in [
        (json!({ "client_uri": null }), "invalid_client_metadata"),
        (json!({ "client_uri": "http://example.com/" }), "invalid_client_metadata"),
        (json!({ "client_uri": "https://user@example.com/" }), "invalid_client_metadata"),
        (json!({ "client_name": long }), "invalid_client_metadata"),
        (json!({ "application_type": "car" }), "invalid_client_metadata"),
        (json!({ "token_endpoint_auth_method": "client_secret_basic" }), "invalid_client_metadata"),
        (json!({ "grant_types": ["implicit"] }), "invalid_client_metadata"),
        (json!({ "response_types": ["token"] }), "invalid_client_metadata"),
        (json!({ "redirect_uris": [] }), "invalid_redirect_uri"),
        (json!({ "redirect_uris": vec!["https://example.com/back"; 21] }), "invalid_redirect_uri"),
        (
            json!({ "redirect_uris": [], "grant_types": ["urn:ietf:params:oauth:grant-type:device_code"] }),
            "ok",
        ),
    ] {
        assert_eq!(word(&client(&more, "https://here")), expected, "{more}");
    }
    let given = json!({
        "client_name": "  App ", "logo_uri": "https://cdn.other.org/logo.png", "tos_uri": "https://www.example.com/tos",
        "grant_types": ["urn:ietf:params:oauth:grant-type:token-exchange", "refresh_token", "authorization_code"],
        "response_types": ["code", "id_token"], "client_name#fr": "Application",
    });
    let shown = serde_json::to_value(client(&given, "https://here").unwrap()).unwrap();
    let expected = json!({
        "client_name": "App", "client_uri": "https://example.com/", "tos_uri": "https://www.example.com/tos",
        "redirect_uris": ["https://example.com/back"], "response_types": ["code"],
        "grant_types": ["authorization_code", "refresh_token"], "token_endpoint_auth_method": "none",
        "application_type": "web",
    });
    assert_eq!(shown, expected);
}

#[test]
fn who_develops_on_one_machine_needs_no_certificate() {
    let given =
        json!({ "client_uri": "http://localhost:8080/", "redirect_uris": ["http://localhost:8080/back"] });
    for (site, expected) in [("http://127.0.0.1:8008", "ok"), ("https://here", "invalid_client_metadata")] {
        assert_eq!(word(&client(&given, site)), expected, "{site}");
    }
    assert_eq!(Site::new("http://here.example.org"), None, "tokens do not travel in the clear");
}

#[tokio::test]
async fn equal_clients_have_one_id_and_old_ones_are_forgotten() {
    let world = World::new().await;
    let first = world.client(json!({})).await;
    assert_eq!(world.client(json!({})).await, first);
    assert_ne!(world.client(json!({ "client_name": "Other" })).await, first);
    world.clock.advance(Duration::from_millis(OAUTH_CLIENT_KEEP_MS - 1));
    assert_eq!(world.client(json!({})).await, first, "who comes again is kept");
    world.clock.advance(Duration::from_millis(1));
    // Each new client has some of the old ones looked at.
    for number in 0..20 {
        world.client(json!({ "client_name": format!("App {number}") })).await;
    }
    let other = Client::id(&client_of(&world, "Other"));
    assert!(world.oauth.client(&first).await.is_ok());
    assert!(world.oauth.client(&other).await.is_err());
}

#[tokio::test]
async fn clients_by_which_nobody_signs_in_are_not_kept_for_long() {
    let world = World::new().await;
    let alice = world.user("alice").await;
    let used = world.client(json!({ "client_name": "Used" })).await;
    let unused = world.client(json!({ "client_name": "Unused" })).await;
    world.log_in(&used, &alice, "PHONE").await;
    let sweep = async |round: u64| {
        for number in 0..20 {
            world.client(json!({ "client_name": format!("App {round} {number}") })).await;
        }
    };
    world.clock.advance(Duration::from_millis(OAUTH_CLIENT_UNUSED_KEEP_MS - 1));
    sweep(1).await;
    assert!(world.oauth.client(&used).await.is_ok() && world.oauth.client(&unused).await.is_ok());
    world.clock.advance(Duration::from_millis(1));
    sweep(2).await;
    assert!(world.oauth.client(&used).await.is_ok() && world.oauth.client(&unused).await.is_err());
    world.clock.advance(Duration::from_millis(OAUTH_CLIENT_KEEP_MS));
    sweep(3).await;
    assert!(world.oauth.client(&used).await.is_err());
}

/// Whatever strangers register, it fills no more than so much.
#[tokio::test]
async fn strangers_have_little_room_for_clients() {
    let long: Vec<String> = (0..20).map(|n| format!("https://example.com/{n}/{}", "x".repeat(500))).collect();
    let refused = client(&json!({ "redirect_uris": long }), "https://here");
    assert_eq!(word(&refused), "invalid_client_metadata");
    assert_eq!(word(&client(&json!({ "redirect_uris": long[..10] }), "https://here")), "ok");

    let world = World::new().await;
    for number in 0..OAUTH_CLIENTS_PER_HOUR {
        world.client(json!({ "client_name": number.to_string() })).await;
    }
    let register = async |name: &str| {
        let given = json!({
            "client_name": name, "client_uri": "https://example.org/", "redirect_uris": [super::REDIRECT],
            "grant_types":
                ["authorization_code", "refresh_token", "urn:ietf:params:oauth:grant-type:device_code"],
        });
        world.oauth.register_client(serde_json::from_value(given).unwrap()).await
    };
    assert!(matches!(register("another").await, Err(OauthError::Busy)));
    assert!(register("7").await.is_ok(), "who is known already comes in");
    world.clock.advance(Duration::from_secs(3_600));
    assert!(register("another").await.is_ok());
}

fn client_of(world: &World, name: &str) -> Client {
    let given = json!({
        "client_name": name, "client_uri": "https://example.org/", "redirect_uris": [super::REDIRECT],
        "grant_types": ["authorization_code", "refresh_token", "urn:ietf:params:oauth:grant-type:device_code"],
    });
    Client::new(serde_json::from_value(given).unwrap(), world.oauth.site().unwrap()).unwrap()
}
