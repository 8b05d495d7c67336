//! The account page, and what sessions of the OAuth 2.0 API leave to it.

use serde_json::{Value, json};

use super::{Browser, SITE, Scene};
use crate::{
    account::{Identity, NewProof, ProofOf},
    config::{Config, RegistrationMode},
};

fn page(action: &str) -> String {
    format!("/_matrix/oauth2/account?action={action}")
}

#[tokio::test]
async fn users_look_after_their_devices() {
    let scene = Scene::new(RegistrationMode::Open).await;
    scene.user("alice").await;
    let mut browser = Browser::default();
    let phone = browser.session(&scene, "alice", "PHONE").await;
    let desk = browser.session(&scene, "alice", "DESK").await;
    let list = browser.get(&scene, &page("org.matrix.devices_list")).await;
    assert!(list.text.contains("PHONE") && list.text.contains("DESK"), "{}", list.text);
    let view = browser.get(&scene, &page("org.matrix.device_delete&device_id=DESK")).await;
    let csrf = view.field("csrf");
    let change = |change: &'static str, name: &'static str| {
        [
            ("csrf", csrf.clone()),
            ("device_id", "DESK".to_owned()),
            ("change", change.to_owned()),
            ("name", name.to_owned()),
        ]
    };
    for fields in [change("rename", "My <desk>"), change("remove", "")] {
        let fields = fields.each_ref().map(|(name, value)| (*name, value.as_str()));
        assert_eq!(browser.post(&scene, "account/device", &fields).await.status, 303);
        let list = browser.get(&scene, &page("org.matrix.devices_list")).await;
        assert_eq!(list.text.contains("My &lt;desk&gt;"), fields[2].1 == "rename", "{}", list.text);
    }
    for (session, expected) in [(&phone, 200), (&desk, 401)] {
        let token = session["access_token"].as_str().unwrap();
        let me = scene.json("GET /_matrix/client/v3/account/whoami", (token, Value::Null)).await;
        assert_eq!(me.status, expected);
    }
    let fields = [("csrf", &*csrf), ("displayname", "Alice in W.")];
    assert_eq!(browser.post(&scene, "account/profile", &fields).await.status, 303);
    assert!(browser.get(&scene, &page("org.matrix.profile")).await.text.contains("Alice in W."));
    let fields = [("csrf", &*csrf), ("current", "wrong"), ("password", "new"), ("again", "new")];
    assert_eq!(browser.post(&scene, "account/password", &fields).await.status, 403);
    let fields = [("csrf", &*csrf), ("current", "secret"), ("password", "new"), ("again", "new")];
    assert_eq!(browser.post(&scene, "account/password", &fields).await.status, 303);
    assert_eq!(
        browser.get(&scene, "/_matrix/oauth2/account").await.status,
        200,
        "this browser stays signed in"
    );
    assert_eq!(
        browser.post(&scene, "account/profile", &fields[..1]).await.status,
        400,
        "an old form is no good"
    );
}

/// Somebody who has had an identity of theirs connected has another way in, of which the owner is told and which they close.
#[tokio::test]
async fn identities_are_shown_told_of_and_disconnected() {
    let clock = std::sync::Arc::new(crate::types::ManualClock::at(1_000_000));
    let (scene, letters) = super::mail::scene_at(Config::default(), clock.clone()).await;
    scene.user("alice").await;
    let alice = ruma::user_id!("@alice:localhost");
    let proof = NewProof {
        of: ProofOf::Account,
        address: "alice@example.org".to_owned(),
        client_secret: "hidden".to_owned(),
        attempt: 1,
    };
    let begun = scene.app.accounts.begin_proof(proof).await.unwrap();
    let letter = (&*begun.sid, &*begun.code.unwrap());
    let proved = scene.app.accounts.proved_by_letter(ProofOf::Account, letter).await.unwrap().unwrap();
    scene.app.accounts.add_address(alice, &proved).await.unwrap();
    let mut browser = Browser::default();
    browser.sign_in(&scene, "/_matrix/oauth2/login", "alice").await;
    let link = async |subject: &str| {
        let shown = scene.app.accounts.check_password(alice, "secret").await.unwrap();
        let identity = Identity { provider: "p".to_owned(), subject: subject.to_owned() };
        scene.app.accounts.link(&shown, &identity, |_| ()).await.unwrap();
    };
    link("mallory").await;
    super::super::letter::tell_linked(&scene.app, alice, "Provider".to_owned());
    assert_eq!(letters.coming().await, format!("{SITE}{}", page("identities")));
    let shown = browser.get(&scene, &page("identities")).await;
    assert!(shown.text.contains("mallory"), "{}", shown.text);
    let fields = [("csrf", &*shown.field("csrf")), ("provider", "p"), ("subject", "mallory")];
    clock.advance(std::time::Duration::from_secs(3_600));
    let again = browser.post(&scene, "account/identity", &fields).await;
    assert!(again.location().contains("login"), "who signed in long ago proves again that it is them");
    assert_eq!(scene.app.accounts.identities(alice).await.unwrap().len(), 1);
    browser.sign_in(&scene, "/_matrix/oauth2/login", "alice").await;
    let csrf = browser.get(&scene, &page("identities")).await.field("csrf");
    let fields = [("csrf", &*csrf), fields[1], fields[2]];
    let done = browser.post(&scene, "account/identity", &fields).await;
    assert_eq!(done.location(), format!("{SITE}{}", page("identities")));
    assert!(scene.app.accounts.identities(alice).await.unwrap().is_empty());
    assert!(!browser.get(&scene, &page("identities")).await.text.contains("mallory"));
    assert!(!browser.get(&scene, &page("password")).await.text.contains("unlink"));
    link("mallory").await;
    let csrf = browser.get(&scene, &page("password")).await.field("csrf");
    let change = [("csrf", &*csrf), ("current", "secret"), ("password", "new"), ("again", "new")];
    let change = change.into_iter().chain([("unlink", "all")]).collect::<Vec<_>>();
    assert_eq!(browser.post(&scene, "account/password", &change).await.status, 303);
    assert!(scene.app.accounts.identities(alice).await.unwrap().is_empty());
}

#[tokio::test]
async fn who_came_in_by_an_identity_is_out_when_it_is_unlinked_with_the_new_password() {
    let clock = std::sync::Arc::new(crate::types::ManualClock::at(1_000_000));
    let (scene, _) = super::mail::scene_at(Config::default(), clock.clone()).await;
    scene.user("alice").await;
    let alice = ruma::user_id!("@alice:localhost");
    let (accounts, oauth) = (&scene.app.accounts, &scene.app.oauth);
    let identity = Identity { provider: "p".to_owned(), subject: "mallory".to_owned() };
    let shown = accounts.check_password(alice, "secret").await.unwrap();
    accounts.link(&shown, &identity, |_| ()).await.unwrap();
    let changed = accounts.replace_password(&shown, "new").await.unwrap();
    clock.advance(std::time::Duration::from_millis(1));
    let mallory = accounts.verified_by(&identity).await.unwrap().unwrap();
    let cookie = oauth.sign_in_by(&mallory).await.unwrap();
    assert!(oauth.browser(&cookie).await.unwrap().is_some());
    clock.advance(std::time::Duration::from_millis(1));
    let unlinked = accounts.unlink_all(&changed).await.unwrap();
    assert!(oauth.browser(&cookie).await.unwrap().is_none());
    assert!(oauth.sign_in_by(&mallory).await.is_err());
    let cookie = oauth.sign_in_by(&unlinked).await.unwrap();
    assert_eq!(oauth.browser(&cookie).await.unwrap().unwrap().user_id, alice);
    assert!(accounts.unlink_all(&shown).await.is_err(), "what was shown before the password holds no more");
}

/// As by the endpoints of clients.
#[tokio::test]
async fn users_who_are_suspended_change_nothing_that_others_see() {
    let (scene, _) = super::mail::scene_with(Config::default()).await;
    scene.user("alice").await;
    let alice = ruma::owned_user_id!("@alice:localhost");
    let mut browser = Browser::default();
    browser.sign_in(&scene, "/_matrix/oauth2/login", "alice").await;
    let csrf = browser.get(&scene, &page("org.matrix.profile")).await.field("csrf");
    for (suspended, expected) in [(false, 303), (true, 403)] {
        scene.app.accounts.change_user(&alice, |user| user.suspended = suspended).await.unwrap();
        let name = [("csrf", &*csrf), ("displayname", "Alice in W.")];
        assert_eq!(browser.post(&scene, "account/profile", &name).await.status, expected);
        let gone = [("csrf", &*csrf), ("change", "remove"), ("address", "alice@example.org")];
        assert_eq!(browser.post(&scene, "account/address", &gone).await.status, expected);
    }
}

#[tokio::test]
async fn a_client_replaces_cross_signing_keys_when_the_user_has_allowed_it() {
    let scene = Scene::new(RegistrationMode::Open).await;
    scene.user("alice").await;
    let mut browser = Browser::default();
    let session = browser.session(&scene, "alice", "PHONE").await;
    let token = session["access_token"].as_str().unwrap();
    let upload = "POST /_matrix/client/v3/keys/device_signing/upload";
    let keys = |key: &str| {
        json!({ "master_key": {
            "user_id": "@alice:localhost", "usage": ["master"], "keys": { format!("ed25519:{key}"): key },
        } })
    };
    let (first, second) = ("A".repeat(43), format!("{}Q", "B".repeat(42)));
    assert_eq!(scene.json(upload, (token, keys(&first))).await.status, 200, "the first keys need nothing");
    let asked = scene.json(upload, (token, keys(&second))).await;
    let told = asked.json();
    assert_eq!((asked.status, &told["flows"]), (401, &json!([{ "stages": ["m.oauth"] }])), "{told}");
    let url = told["params"]["m.oauth"]["url"].as_str().unwrap();
    assert_eq!(url, format!("{SITE}{}", page("org.matrix.cross_signing_reset")));
    let mut again = keys(&second);
    for auth in [
        json!({ "session": told["session"] }),
        json!({ "session": told["session"], "type": "m.login.password", "password": "secret",
            "identifier": { "type": "m.id.user", "user": "alice" } }),
    ] {
        again["auth"] = auth;
        assert_eq!(scene.json(upload, (token, again.clone())).await.status, 401);
    }
    let reset = browser.get(&scene, url).await;
    let allowed = browser.post(&scene, "account/cross_signing", &[("csrf", &reset.field("csrf"))]).await;
    assert_eq!(allowed.status, 200, "{}", allowed.text);
    again["auth"] = json!({ "session": told["session"] });
    let done = scene.json(upload, (token, again)).await;
    assert_eq!(done.status, 200, "{}", done.text);
}

/// Row 7.2 (tuwunel c564d9e23): no `auth` that somebody makes up passes for a session of the OAuth 2.0 API.
#[tokio::test]
async fn tuwunel_c564d9e23_sessions_without_a_password_are_not_let_by() {
    let scene = Scene::new(RegistrationMode::Open).await;
    scene.user("alice").await;
    let mut browser = Browser::default();
    let session = browser.session(&scene, "alice", "PHONE").await;
    let token = session["access_token"].as_str().unwrap();
    for auth in [
        json!(null),
        json!({ "type": "m.login.password", "password": "secret",
            "identifier": { "type": "m.id.user", "user": "alice" } }),
        json!({ "type": "m.login.dummy" }),
        json!({ "type": "m.oauth" }),
        json!({ "session": "x" }),
    ] {
        for request in [
            "POST /_matrix/client/v3/account/deactivate",
            "POST /_matrix/client/v3/account/password",
            "POST /_matrix/client/v3/delete_devices",
            "DELETE /_matrix/client/v3/devices/PHONE",
        ] {
            let mut body = json!({ "devices": ["PHONE"], "new_password": "mine" });
            if !auth.is_null() {
                body["auth"] = auth.clone();
            }
            let answer = scene.json(request, (token, body)).await;
            assert_eq!(
                (answer.status, &answer.json()["errcode"]),
                (403, &json!("M_FORBIDDEN")),
                "{request} {auth}"
            );
        }
    }
}

#[tokio::test]
async fn clients_are_told_what_their_session_may_not_change() {
    let (scene, _) = super::mail::scene_with(Config::default()).await;
    scene.user("alice").await;
    let login = json!({ "type": "m.login.password", "password": "secret",
        "identifier": { "type": "m.id.user", "user": "alice" } });
    let older = scene.json("POST /_matrix/client/v3/login", ("", login)).await.json();
    let newer = Browser::default().session(&scene, "alice", "PHONE").await;
    for (session, expected) in [(older, true), (newer, false)] {
        let token = session["access_token"].as_str().unwrap();
        let told = scene.json("GET /_matrix/client/v3/capabilities", (token, Value::Null)).await.json();
        for name in ["m.change_password", "m.3pid_changes", "m.get_login_token"] {
            assert_eq!(told["capabilities"][name]["enabled"], expected, "{name}");
        }
        assert_eq!(told["capabilities"]["m.set_displayname"]["enabled"], true);
        let address = json!({ "medium": "email", "address": "alice@example.org" });
        let gone = scene.json("POST /_matrix/client/v3/account/3pid/delete", (token, address)).await;
        assert_eq!(gone.status, if expected { 200 } else { 403 }, "{}", gone.text);
    }
}

#[tokio::test]
async fn deactivation_asks_twice() {
    let scene = Scene::new(RegistrationMode::Open).await;
    scene.user("alice").await;
    let mut browser = Browser::default();
    browser.session(&scene, "alice", "PHONE").await;
    let asked = browser.get(&scene, &page("org.matrix.account_deactivate")).await;
    let csrf = asked.field("csrf");
    let wrong = [("csrf", &*csrf), ("confirmed", "alice")];
    assert_eq!(browser.post(&scene, "account/deactivate", &wrong).await.status, 400);
    let right = [("csrf", &*csrf), ("confirmed", "@alice:localhost")];
    assert_eq!(browser.post(&scene, "account/deactivate", &right).await.status, 200);
    assert_eq!(browser.get(&scene, "/_matrix/oauth2/account").await.status, 303, "nobody is signed in");
    let login = browser.get(&scene, "/_matrix/oauth2/login").await;
    let fields =
        [("csrf", &*login.field("csrf")), ("next", ""), ("username", "alice"), ("password", "secret")];
    let refused = browser.post(&scene, "login", &fields).await;
    assert!(refused.status == 403 && refused.text.contains("deactivated"), "{}", refused.text);
}
