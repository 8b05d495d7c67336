//! Addresses on the account page.

use std::{sync::Arc, time::Duration};

use serde_json::json;

use super::{
    Answer, Browser, Scene,
    mail::{Letterbox, scene_at},
};
use crate::{
    config::{Config, RegistrationMode},
    types::ManualClock,
};

const PAGE: &str = "/_matrix/oauth2/account?action=addresses";

/// A server that sends mail, with alice and bob, and the browser of alice.
async fn scene() -> (Scene, Arc<Letterbox>, Arc<ManualClock>, Browser) {
    let clock = Arc::new(ManualClock::at(1_700_000_000_000));
    let (scene, letters) = scene_at(Config::default(), clock.clone()).await;
    scene.user("alice").await;
    scene.user("bob").await;
    let mut browser = Browser::default();
    browser.session(&scene, "alice", "PHONE").await;
    (scene, letters, clock, browser)
}

async fn change(scene: &Scene, browser: &mut Browser, fields: [(&str, &str); 3]) -> Answer {
    let csrf = browser.get(scene, PAGE).await.field("csrf");
    let fields = [&[("csrf", &*csrf)][..], &fields].concat();
    browser.post(scene, "account/address", &fields).await
}

fn add<'a>(address: &'a str, password: &'a str) -> [(&'a str, &'a str); 3] {
    [("change", "write"), ("address", address), ("current", password)]
}

/// What comes of the button in the letter.
async fn open(scene: &Scene, browser: &mut Browser, link: &str) -> Answer {
    let page = browser.get(scene, link).await;
    assert_eq!(page.status, 200, "{}", page.text);
    let (csrf, sid, code) = (page.field("csrf"), page.field("sid"), page.field("code"));
    let fields = [("csrf", &*csrf), ("change", "add"), ("sid", &*sid), ("code", &*code)];
    browser.post(scene, "account/address", &fields).await
}

async fn addresses(scene: &Scene, user: &str) -> Vec<String> {
    let user = ruma::UserId::parse(format!("@{user}:localhost")).unwrap();
    let rows = scene.app.accounts.addresses(&user).await.unwrap();
    rows.into_iter().map(|(address, _)| address).collect()
}

#[tokio::test]
async fn an_address_is_added_by_its_letter_and_removed() {
    let (scene, letters, _, mut browser) = scene().await;
    let account = browser.get(&scene, "/_matrix/oauth2/account").await;
    assert!(account.text.contains("action=addresses"), "{}", account.text);
    assert!(
        browser
            .get(&scene, "/_matrix/oauth2/account?action=org.matrix.profile")
            .await
            .text
            .contains("action=addresses")
    );
    for (fields, status) in [(add("alice@example.org", "wrong"), 403), (add("no address", "secret"), 400)] {
        assert_eq!(change(&scene, &mut browser, fields).await.status, status);
    }
    let sent = change(&scene, &mut browser, add("Alice@Example.org", "secret")).await;
    assert_eq!(sent.status, 200, "{}", sent.text);
    let link = letters.coming().await;
    assert!(addresses(&scene, "alice").await.is_empty(), "a letter is not read by being sent");
    assert_eq!(open(&scene, &mut browser, &link).await.status, 303);
    assert_eq!(addresses(&scene, "alice").await, ["alice@example.org"]);
    let again = browser.get(&scene, &link).await;
    assert_eq!(again.status, 400, "good once: {}", again.text);
    let page = browser.get(&scene, PAGE).await;
    assert!(page.text.contains("alice@example.org"), "{}", page.text);
    let remove = [("change", "remove"), ("address", "alice@example.org"), ("current", "")];
    assert_eq!(
        browser.post(&scene, "account/address", &remove).await.status,
        400,
        "without the token of a form"
    );
    assert_eq!(change(&scene, &mut browser, remove).await.status, 303);
    assert!(addresses(&scene, "alice").await.is_empty());
}

/// Whoever could have another's browser add an address of their own would be sent a new password to it.
#[tokio::test]
async fn a_letter_adds_an_address_to_who_has_asked_for_it_alone() {
    let (scene, letters, clock, mut browser) = scene().await;
    let mut other = Browser::default();
    other.session(&scene, "bob", "PHONE").await;
    change(&scene, &mut browser, add("alice@example.org", "secret")).await;
    let link = letters.coming().await;
    assert_eq!(other.get(&scene, &link).await.status, 400, "it is not bob's");
    let (sid, code) = (super::parameter(&link, "sid"), super::parameter(&link, "code"));
    let put = [("change", "add"), ("sid", &*sid), ("code", &*code)];
    assert_eq!(change(&scene, &mut other, put).await.status, 400);
    assert_eq!(
        Browser::default().get(&scene, &link).await.status,
        303,
        "whoever is not signed in signs in first"
    );
    // One that a client has asked for, with a secret of its own.
    let asked = json!({ "client_secret": "hidden", "email": "other@example.org", "send_attempt": 1 });
    let begun =
        scene.json("POST /_matrix/client/v3/account/3pid/email/requestToken", ("", asked)).await.json();
    let code = super::parameter(&letters.link(), "code");
    let put = [("change", "add"), ("sid", begun["sid"].as_str().unwrap()), ("code", &*code)];
    assert_eq!(change(&scene, &mut browser, put).await.status, 400);
    // A second letter makes the first one void; there is one a minute.
    change(&scene, &mut browser, add("alice@example.org", "secret")).await;
    clock.advance(Duration::from_secs(60));
    change(&scene, &mut browser, add("alice@example.org", "secret")).await;
    let second = letters.coming().await;
    assert_eq!(browser.get(&scene, &link).await.status, 400);
    assert_eq!(open(&scene, &mut browser, &second).await.status, 303);
    assert!(letters.is_empty() && addresses(&scene, "bob").await.is_empty());
    // It is told to nobody that the address is somebody's.
    let taken = change(&scene, &mut other, add("alice@example.org", "secret")).await;
    assert_eq!(taken.status, 200, "{}", taken.text);
    clock.advance(Duration::from_secs(60));
    change(&scene, &mut other, add("bob@example.org", "secret")).await;
    assert!(letters.coming().await.contains("sid="));
    assert!(letters.is_empty());
}

#[tokio::test]
async fn there_are_no_addresses_where_no_mail_is_sent() {
    let scene = Scene::new(RegistrationMode::Open).await;
    scene.user("alice").await;
    let mut browser = Browser::default();
    browser.session(&scene, "alice", "PHONE").await;
    let account = browser.get(&scene, "/_matrix/oauth2/account").await;
    assert!(!account.text.contains("addresses"), "{}", account.text);
    assert_eq!(browser.get(&scene, PAGE).await.status, 404);
    let fields = [("csrf", &*account.field("csrf")), ("change", "write"), ("address", "a@example.org")];
    assert_eq!(browser.post(&scene, "account/address", &fields).await.status, 404);
}
