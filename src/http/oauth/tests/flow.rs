//! From discovery to logout.

use ruma::api::client::discovery::get_authorization_server_metadata::v1::AuthorizationServerMetadata;
use serde_json::{Value, json};

use super::{Browser, REDIRECT, SITE, Scene, authorize, parameter, redemption};
use crate::config::{Config, RegistrationMode};

#[tokio::test]
async fn clients_find_it_when_it_is_on() {
    let scene = Scene::new(RegistrationMode::Closed).await;
    for path in
        ["/_matrix/client/v1/auth_metadata", "/_matrix/client/unstable/org.matrix.msc2965/auth_metadata"]
    {
        let metadata = scene.json(&format!("GET {path}"), ("", Value::Null)).await.json();
        assert_eq!(metadata["issuer"], json!(format!("{SITE}/")));
        assert!(metadata.get("prompt_values_supported").is_none(), "nobody can register");
        let metadata: AuthorizationServerMetadata = serde_json::from_value(metadata).unwrap();
        metadata.validate_urls().unwrap();
    }
    for (base_url, enabled) in [(None, true), (Some("http://matrix.example.org"), true), (Some(SITE), false)]
    {
        let mut config = Config { public_base_url: base_url.map(str::to_owned), ..Config::default() };
        config.oauth.enabled = enabled;
        let scene = Scene::with(config).await;
        for path in ["/_matrix/client/v1/auth_metadata", "/_matrix/oauth2/login", "/_matrix/oauth2/account"] {
            let answer = scene.json(&format!("GET {path}"), ("", Value::Null)).await;
            assert_eq!(answer.status, 404, "{base_url:?} {enabled} {path}");
        }
        let token = scene.form("token", &[("grant_type", "refresh_token")]).await;
        assert_eq!((token.status, &token.json()["errcode"]), (404, &json!("M_UNRECOGNIZED")));
    }
}

#[tokio::test]
async fn a_client_gets_access_by_way_of_the_pages() {
    let scene = Scene::new(RegistrationMode::Open).await;
    scene.user("alice").await;
    let client = scene.client(json!({})).await;
    let mut browser = Browser::default();
    let asked = browser.get(&scene, &authorize(&client, "PHONE", "&response_mode=fragment")).await;
    assert_eq!(asked.status, 303);
    let onwards = browser.sign_in(&scene, asked.location(), "alice").await;
    let page = browser.get(&scene, &onwards).await;
    for shown in ["App", "example.org", "@alice:localhost", "PHONE", "app.example.org"] {
        assert!(page.text.contains(shown), "{shown} is not on {}", page.text);
    }
    let csrf = page.field("csrf");
    let refused = browser.post(&scene, &onwards, &[("csrf", &csrf), ("decision", "deny")]).await;
    assert_eq!(parameter(refused.location(), "error"), "access_denied");
    let allowed = browser.post(&scene, &onwards, &[("csrf", &csrf), ("decision", "allow")]).await;
    assert!(allowed.location().starts_with(&format!("{REDIRECT}#code=")), "{}", allowed.location());
    assert_eq!(parameter(allowed.location(), "state"), "xyz");
    let code = parameter(allowed.location(), "code");

    let wrong = scene.form("token", &redemption("other", &code)).await;
    assert_eq!((wrong.status, &wrong.json()["error"]), (401, &json!("invalid_client")));
    let granted = scene.form("token", &redemption(&client, &code)).await;
    assert_eq!(granted.headers["cache-control"], "no-store");
    let granted = granted.json();
    assert_eq!((&granted["token_type"], &granted["expires_in"]), (&json!("Bearer"), &json!(3600)));
    let token = granted["access_token"].as_str().unwrap();
    let me = scene.json("GET /_matrix/client/v3/account/whoami", (token, Value::Null)).await.json();
    assert_eq!(me["user_id"], "@alice:localhost");
    assert_eq!(me["device_id"], "PHONE");

    let fields = [
        ("grant_type", "refresh_token"),
        ("client_id", &*client),
        ("refresh_token", granted["refresh_token"].as_str().unwrap()),
    ];
    let renewed = scene.form("token", &fields).await.json();
    let token = renewed["access_token"].as_str().unwrap();
    assert_eq!(scene.json("GET /_matrix/client/v3/account/whoami", (token, Value::Null)).await.status, 200);
    assert_eq!(scene.form("revoke", &[("token", token), ("client_id", &client)]).await.status, 200);
    assert_eq!(scene.json("GET /_matrix/client/v3/account/whoami", (token, Value::Null)).await.status, 401);
    assert_eq!(
        scene.form("revoke", &[("token", token)]).await.status,
        200,
        "there is nothing left to revoke"
    );
}

#[tokio::test]
async fn prompts_say_what_the_user_sees_first() {
    let scene = Scene::new(RegistrationMode::Token).await;
    let client = scene.client(json!({})).await;
    let mut browser = Browser::default();
    let nobody = browser.get(&scene, &authorize(&client, "PHONE", "&prompt=none")).await;
    assert_eq!(parameter(nobody.location(), "error"), "login_required");
    let asked = browser.get(&scene, &authorize(&client, "PHONE", "&prompt=create")).await;
    assert!(asked.location().contains("/register?"), "{}", asked.location());
    let page = browser.get(&scene, asked.location()).await;
    let next = page.field("next").replace("&amp;", "&");
    let csrf = page.field("csrf");
    let with = |password: &'static str, token: &'static str| {
        [
            ("csrf", csrf.clone()),
            ("next", next.clone()),
            ("username", "Alice".to_owned()),
            ("password", "secret".to_owned()),
            ("again", password.to_owned()),
            ("token", token.to_owned()),
        ]
    };
    for (fields, expected) in
        [(with("secret", "wrong"), "token is not valid"), (with("other", "sesame"), "passwords differ")]
    {
        let fields = fields.each_ref().map(|(name, value)| (*name, value.as_str()));
        let answer = browser.post(&scene, "register", &fields).await;
        assert!(answer.status == 400 && answer.text.contains(expected), "{}", answer.text);
        // What was right need not be entered once more.
        assert_eq!(answer.field("token"), fields[5].1);
    }
    let fields = with("secret", "sesame");
    let fields = fields.each_ref().map(|(name, value)| (*name, value.as_str()));
    let made = browser.post(&scene, "register", &fields).await;
    let consent = browser.get(&scene, made.location()).await;
    assert!(consent.text.contains("@alice:localhost"), "{}", consent.text);
    let silent = browser.get(&scene, &authorize(&client, "PHONE", "&prompt=none")).await;
    assert_eq!(parameter(silent.location(), "error"), "interaction_required", "nobody agrees unasked");
    let fresh = browser.get(&scene, &authorize(&client, "PHONE", "&prompt=login")).await;
    assert_eq!(fresh.status, 200, "who has just signed in need not do so again");
    let closed = Scene::new(RegistrationMode::Closed).await;
    assert_eq!(browser.get(&closed, "/_matrix/oauth2/register").await.status, 403);
}

#[tokio::test]
async fn a_device_without_a_browser_is_signed_in_by_its_code() {
    let scene = Scene::new(RegistrationMode::Open).await;
    scene.user("alice").await;
    let client = scene.client(json!({})).await;
    let scope = "urn:matrix:client:api:* urn:matrix:client:device:TV";
    let codes = scene.form("device", &[("client_id", &*client), ("scope", scope)]).await.json();
    let poll = [
        ("grant_type", "urn:ietf:params:oauth:grant-type:device_code"),
        ("client_id", &*client),
        ("device_code", codes["device_code"].as_str().unwrap()),
    ];
    assert_eq!(scene.form("token", &poll).await.json()["error"], "authorization_pending");
    let mut browser = Browser::default();
    let link = codes["verification_uri_complete"].as_str().unwrap();
    let asked = browser.get(&scene, link).await;
    let onwards = browser.sign_in(&scene, asked.location(), "alice").await;
    assert_eq!(onwards, link);
    let page = browser.get(&scene, link).await;
    let user_code = codes["user_code"].as_str().unwrap();
    assert!(page.text.contains(user_code) && !page.text.contains("Allow"), "{}", page.text);
    let csrf = page.field("csrf");
    let wrong = browser.post(&scene, "link", &[("csrf", &csrf), ("user_code", "BBBB-BBBB")]).await;
    assert!(wrong.status == 400 && wrong.text.contains("no such code"));
    let consent = browser.post(&scene, "link", &[("csrf", &csrf), ("user_code", user_code)]).await;
    assert!(consent.text.contains("TV") && consent.text.contains("Allow"), "{}", consent.text);
    assert!(!consent.text.contains("this device already"), "{}", consent.text);
    let fields = [("csrf", &*csrf), ("user_code", user_code), ("decision", "allow")];
    assert!(browser.post(&scene, "link", &fields).await.text.contains("signed in"));
    let token = scene.form("token", &poll).await.json();
    let token = token["access_token"].as_str().unwrap();
    let me = scene.json("GET /_matrix/client/v3/account/whoami", (token, Value::Null)).await.json();
    assert_eq!(me["device_id"], "TV");
    // Another client names the same device: the user is told what becomes of the one that is there.
    let codes = scene.form("device", &[("client_id", &*client), ("scope", scope)]).await.json();
    let user_code = codes["user_code"].as_str().unwrap();
    let consent = browser.post(&scene, "link", &[("csrf", &csrf), ("user_code", user_code)]).await;
    assert!(consent.text.contains("You have this device already"), "{}", consent.text);
    assert!(consent.text.contains("will be signed out"), "{}", consent.text);
}

#[tokio::test]
async fn the_older_way_by_browser_ends_with_a_login_token() {
    let mut config = Config { public_base_url: Some(SITE.to_owned()), ..Config::default() };
    config.sso.trusted_clients = vec![String::from("https://trusted.example.org/")];
    let scene = Scene::with(config).await;
    scene.user("alice").await;
    let flows = scene.json("GET /_matrix/client/v3/login", ("", Value::Null)).await.json();
    let sso = flows["flows"].as_array().unwrap().iter().find(|flow| flow["type"] == "m.login.sso");
    assert_eq!(sso.unwrap()["oauth_aware_preferred"], true, "{flows}");
    let redirect = "/_matrix/client/v3/login/sso/redirect?redirectUrl=";
    let mut browser = Browser::default();
    for wrong in ["", "nonsense", "javascript:alert(1)", "data:text/html,x", "file:///etc/passwd"] {
        assert_eq!(browser.get(&scene, &format!("{redirect}{wrong}")).await.status, 400, "{wrong}");
    }
    let other = redirect.replace('?', "/nobody?");
    assert_eq!(browser.get(&scene, &format!("{other}https://app.example.org/")).await.status, 404);
    let app = format!("{redirect}https%3A%2F%2Fapp.example.org%2F%3Fa%3Db");
    let asked = browser.get(&scene, &app).await;
    let confirm = browser.sign_in(&scene, asked.location(), "alice").await;
    let page = browser.get(&scene, &confirm).await;
    assert!(page.status == 200 && page.text.contains("app.example.org"), "{}", page.text);
    let csrf = page.field("csrf");
    assert_eq!(browser.post(&scene, &confirm, &[("csrf", "x")]).await.status, 403);
    let back = browser.post(&scene, &confirm, &[("csrf", &csrf)]).await;
    assert!(back.location().starts_with("https://app.example.org/?a=b&loginToken="), "{}", back.location());
    let token = parameter(back.location(), "loginToken");
    let login = json!({ "type": "m.login.token", "token": token });
    let session = scene.json("POST /_matrix/client/v3/login", ("", login.clone())).await;
    assert_eq!(session.json()["user_id"], "@alice:localhost");
    assert_eq!(scene.json("POST /_matrix/client/v3/login", ("", login)).await.status, 403, "good once");
    assert_eq!(browser.get(&scene, &app).await.location(), confirm, "signed in already");
}

/// Chromium judges by the page with the form also where the browser is sent on to after it.
#[tokio::test]
async fn forms_lead_to_trusted_clients_and_to_no_others() {
    let mut config = Config { public_base_url: Some(SITE.to_owned()), ..Config::default() };
    config.registration.mode = RegistrationMode::Open;
    config.sso.trusted_clients = vec![
        "https://trusted.example.org/".into(),
        "element://connect".into(),
        "https://[2001:db8::1]/".into(),
    ];
    let scene = Scene::with(config).await;
    scene.user("alice").await;
    let sso = |url: &str| {
        let query = serde_html_form::to_string([("redirectUrl", url)]).unwrap();
        format!("/_matrix/oauth2/sso?{query}")
    };
    for (next, expected) in [
        (sso("https://trusted.example.org/deep?a=b"), " https://trusted.example.org"),
        (sso("element://connect?x"), " element:"),
        (sso("https://trusted.example.org.evil.org/"), " "),
        (sso("https://evil.org/; script-src *"), " "),
        (sso("https://[2001:db8::1]/"), " "),
        (sso("javascript:alert(1)"), " "),
        (String::from("/_matrix/oauth2/account?redirectUrl=https://trusted.example.org/"), " "),
        (String::from("https://trusted.example.org/"), " "),
        (String::new(), " "),
    ] {
        let mut browser = Browser::default();
        let query = serde_html_form::to_string([("next", &next)]).unwrap();
        let expected = format!("form-action 'self'{expected};");
        let policy =
            |answer: &super::Answer| answer.headers["content-security-policy"].to_str().unwrap().to_owned();
        for page in ["login", "register"] {
            let shown = browser.get(&scene, &format!("/_matrix/oauth2/{page}?{query}")).await;
            assert_eq!(shown.status, 200, "{}", shown.text);
            assert!(policy(&shown).contains(&expected), "{page} {next}: {}", policy(&shown));
        }
        let login = browser.get(&scene, &format!("/_matrix/oauth2/login?{query}")).await;
        let csrf = login.field("csrf");
        let fields = [("csrf", &*csrf), ("next", &*next), ("username", "alice"), ("password", "wrong")];
        let again = browser.post(&scene, "login", &fields).await;
        assert!(again.status == 403 && policy(&again).contains(&expected), "{next}: {}", policy(&again));
    }
}

/// Row 7.4 (b2bd54a2, Synapse 1.11.1: the login token leaks to whoever sends a link): nobody but the clients that the
/// operator trusts gets one without a question, and none at all before somebody signs in.
#[tokio::test]
async fn b2bd54a2_login_tokens_go_only_where_the_user_says() {
    let mut config = Config { public_base_url: Some(SITE.to_owned()), ..Config::default() };
    config.sso.trusted_clients = vec![String::from("https://trusted.example.org/")];
    let scene = Scene::with(config).await;
    scene.user("alice").await;
    let sso = |url: &str| format!("/_matrix/oauth2/sso?redirectUrl={url}");
    let mut browser = Browser::default();
    let nobody = browser.get(&scene, &sso("https://trusted.example.org/")).await;
    browser.sign_in(&scene, nobody.location(), "alice").await;
    for (url, asks) in [
        ("https://trusted.example.org/deep", false),
        ("https://trusted.example.org.evil.org/", true),
        ("https://trusted.example.org@evil.org/", true),
        ("http://trusted.example.org/", true),
        ("https://evil.org/?https://trusted.example.org/", true),
    ] {
        let answer = browser.get(&scene, &sso(url)).await;
        assert_eq!(answer.status == 200, asks, "{url}");
        assert_eq!(answer.headers.contains_key("location"), !asks, "{url}");
    }
}
