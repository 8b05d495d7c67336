//! What newcomers prove: an address, and that they are no programs. And passwords that were forgotten.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use http::{Request, Response};
use ruma::user_id;
use serde_json::{Value, json};

use super::{
    Browser, SITE, Scene,
    mail::{confirm, scene_at, scene_with},
};
use crate::{
    account::{NewSession, NewUser},
    config::{Config, RegistrationEmail, RegistrationMode},
    peer::{Bounds, Net, NetError, Purpose},
    store::BoxFuture,
    types::ManualClock,
};

const REGISTER: &str = "POST /_matrix/client/v3/register";
const TOKEN: &str = "POST /_matrix/client/v3/register/email/requestToken";

fn config(email: RegistrationEmail) -> Config {
    let mut config = Config::default();
    config.registration.mode = RegistrationMode::Open;
    config.registration.email = email;
    config
}

fn ask(address: &str) -> Value {
    json!({ "client_secret": "hidden", "email": address, "send_attempt": 1 })
}

fn shows(sid: &Value, session: &Value) -> Value {
    json!({ "type": "m.login.email.identity", "session": session,
        "threepid_creds": { "sid": sid, "client_secret": "hidden" } })
}

#[tokio::test]
async fn a_newcomer_proves_an_address_which_is_theirs_then() {
    let (scene, letters) = scene_with(config(RegistrationEmail::Required)).await;
    let asked = scene.json(REGISTER, ("", json!({ "username": "alice" }))).await.json();
    assert_eq!(asked["flows"], json!([{ "stages": ["m.login.email.identity"] }]));
    let session = &asked["session"];
    let body = |name: &str, auth: Value| json!({ "username": name, "password": "secret", "auth": auth });
    let dummy = json!({ "type": "m.login.dummy", "session": session });
    assert_eq!(scene.json(REGISTER, ("", body("alice", dummy))).await.status, 401, "not a way in");
    assert_eq!(scene.json(TOKEN, ("", ask("no address"))).await.status, 400);
    let begun = scene.json(TOKEN, ("", ask("alice@example.org"))).await.json();
    let sid = &begun["sid"];
    let unread = scene.json(REGISTER, ("", body("alice", shows(sid, session)))).await;
    assert_eq!((unread.status, &unread.json()["errcode"]), (401, &json!("M_FORBIDDEN")));
    assert_eq!(confirm(&scene, &letters.link()).await, 200);
    let mut guessed = shows(sid, session);
    guessed["threepid_creds"]["client_secret"] = json!("guessed");
    assert_eq!(scene.json(REGISTER, ("", body("alice", guessed))).await.status, 401);
    let made = scene.json(REGISTER, ("", body("alice", shows(sid, session)))).await;
    assert_eq!(made.status, 200, "{}", made.text);
    let token = made.json()["access_token"].as_str().unwrap().to_owned();
    let list = scene.json("GET /_matrix/client/v3/account/3pid", (&token, Value::Null)).await.json();
    assert_eq!(list["threepids"][0]["address"], "alice@example.org");
    let again = scene.json(REGISTER, ("", body("bob", shows(sid, &Value::Null)))).await;
    assert_eq!(again.status, 401, "a proof is good for one account");
    assert_eq!(
        scene.json(TOKEN, ("", ask("alice@example.org"))).await.json()["errcode"],
        "M_THREEPID_IN_USE"
    );
}

#[tokio::test]
async fn two_newcomers_do_not_get_one_address() {
    let (scene, letters) = scene_with(config(RegistrationEmail::Required)).await;
    let mut sessions = Vec::new();
    for secret in ["one", "two"] {
        let mut asked = ask("both@example.org");
        asked["client_secret"] = json!(secret);
        let sid = scene.json(TOKEN, ("", asked)).await.json()["sid"].clone();
        assert_eq!(confirm(&scene, &letters.link()).await, 200);
        let mut auth = shows(&sid, &Value::Null);
        auth.as_object_mut().unwrap().remove("session");
        auth["threepid_creds"]["client_secret"] = json!(secret);
        sessions.push(auth);
    }
    let body = |name: &str, auth: &Value| json!({ "username": name, "auth": auth });
    assert_eq!(scene.json(REGISTER, ("", body("alice", &sessions[0]))).await.status, 200);
    assert_eq!(scene.json(REGISTER, ("", body("bob", &sessions[1]))).await.status, 401);
    let owner = scene.app.accounts.user_of_address("both@example.org").await.unwrap();
    assert_eq!(owner.as_deref(), Some(user_id!("@alice:localhost")));
}

#[tokio::test]
async fn an_address_is_offered_and_not_asked_for_where_nobody_wants_it() {
    let (scene, letters) = scene_with(config(RegistrationEmail::Offered)).await;
    let asked = scene.json(REGISTER, ("", json!({}))).await.json();
    let flows = json!([{ "stages": ["m.login.dummy"] }, { "stages": ["m.login.email.identity"] }]);
    assert_eq!(asked["flows"], flows);
    let sid = scene.json(TOKEN, ("", ask("alice@example.org"))).await.json()["sid"].clone();
    confirm(&scene, &letters.link()).await;
    let body = json!({ "username": "alice", "auth": shows(&sid, &asked["session"]) });
    assert_eq!(scene.json(REGISTER, ("", body)).await.status, 200);
    let body = json!({ "username": "bob", "auth": { "type": "m.login.dummy" } });
    assert_eq!(scene.json(REGISTER, ("", body)).await.status, 200, "it can be left out");
    let (without, _) = scene_with(config(RegistrationEmail::Off)).await;
    let denied = without.json(TOKEN, ("", ask("alice@example.org"))).await;
    assert_eq!((denied.status, &denied.json()["errcode"]), (403, &json!("M_THREEPID_DENIED")));
}

#[tokio::test]
async fn a_puzzle_does_not_keep_newcomers_from_proving_an_address() {
    let mut config = config(RegistrationEmail::Offered);
    config.captcha.site_key = Some("public".to_owned());
    config.captcha.secret = Some("between us".into());
    let (scene, _) = scene_with(config).await;
    let asked = scene.json(REGISTER, ("", json!({}))).await.json();
    let flows = json!([{ "stages": ["m.login.recaptcha", "m.login.dummy"] },
        { "stages": ["m.login.recaptcha", "m.login.email.identity"] }]);
    assert_eq!(asked["flows"], flows, "none begins with all of another");
}

#[tokio::test]
async fn a_page_leads_newcomers_over_their_mail() {
    let (scene, letters) = scene_with(config(RegistrationEmail::Required)).await;
    let mut browser = Browser::default();
    let next = "/_matrix/oauth2/account?action=profile";
    let page =
        browser.get(&scene, &format!("/_matrix/oauth2/register?next={}", next.replace('?', "%3F"))).await;
    let (csrf, kept) = (page.field("csrf"), page.field("next"));
    let fields =
        |email: &'static str| [("csrf", csrf.clone()), ("next", kept.clone()), ("email", email.into())];
    let write = |fields: [(&'static str, String); 3]| fields;
    let bad = write(fields("nonsense"));
    let bad: Vec<(&str, &str)> = bad.iter().map(|(name, value)| (*name, &**value)).collect();
    assert_eq!(browser.post(&scene, "register/letter", &bad).await.status, 400);
    let good = write(fields("alice@example.org"));
    let good: Vec<(&str, &str)> = good.iter().map(|(name, value)| (*name, &**value)).collect();
    assert_eq!(browser.post(&scene, "register/letter", &good).await.status, 200);
    let link = letters.coming().await;
    // The letter is opened in another browser.
    let mut phone = Browser::default();
    assert_eq!(phone.get(&scene, &link.replace("code=", "code=x")).await.status, 400);
    let form = phone.get(&scene, &link).await;
    let (csrf, sid, code) = (form.field("csrf"), form.field("sid"), form.field("code"));
    let account = |sid: &str| {
        serde_html_form::to_string([
            ("csrf", &*csrf),
            ("next", next),
            ("username", "alice"),
            ("password", "secret"),
            ("again", "secret"),
            ("sid", sid),
            ("code", &*code),
        ])
        .unwrap()
    };
    let send = |text: String| serde_html_form::from_str::<Vec<(String, String)>>(&text).unwrap();
    for (sid, expected) in [("made-up", 400), (&*sid, 303), (&*sid, 400)] {
        let fields = send(account(sid));
        let fields: Vec<(&str, &str)> = fields.iter().map(|(name, value)| (&**name, &**value)).collect();
        let answer = phone.post(&scene, "register", &fields).await;
        if expected == 400 {
            assert!(answer.status == 400 || answer.status == 403, "{sid} {} {}", answer.status, answer.text);
            continue;
        }
        assert_eq!((answer.status, answer.location()), (303, &*format!("{SITE}{next}")), "{}", answer.text);
    }
    let owner = scene.app.accounts.user_of_address("alice@example.org").await.unwrap();
    assert_eq!(owner.as_deref(), Some(user_id!("@alice:localhost")));
}

#[tokio::test]
async fn a_page_offers_to_prove_an_address_and_does_not_insist() {
    let (scene, letters) = scene_with(config(RegistrationEmail::Offered)).await;
    let mut browser = Browser::default();
    let page = browser.get(&scene, "/_matrix/oauth2/register?next=%2F_matrix%2Foauth2%2Faccount").await;
    let (csrf, next) = (page.field("csrf"), page.field("next"));
    let ask = [("csrf", &*csrf), ("next", &*next), ("email", "alice@example.org")];
    assert_eq!(browser.post(&scene, "register/letter", &ask).await.status, 200);
    let form = browser.get(&scene, &letters.coming().await).await;
    let without = page.text.split('"').find(|part| part.contains("without=")).unwrap().replace("&amp;", "&");
    let plain = browser.get(&scene, &without).await;
    for (form, name) in [(form, "alice"), (plain, "bob")] {
        let has_letter = name == "alice";
        assert_eq!(form.text.contains("name=\"sid\""), has_letter, "{}", form.text);
        let mut fields =
            vec![("csrf".to_owned(), form.field("csrf")), ("next".to_owned(), form.field("next"))];
        for (field, value) in [("username", name), ("password", "secret"), ("again", "secret")] {
            fields.push((field.to_owned(), value.to_owned()));
        }
        for field in ["sid", "code"].into_iter().filter(|_| has_letter) {
            fields.push((field.to_owned(), form.field(field)));
        }
        let fields: Vec<(&str, &str)> = fields.iter().map(|(name, value)| (&**name, &**value)).collect();
        let answer = Browser { cookie: browser.cookie.clone() }.post(&scene, "register", &fields).await;
        assert_eq!(answer.status, 303, "{name}: {}", answer.text);
    }
    let owner = scene.app.accounts.user_of_address("alice@example.org").await.unwrap();
    assert_eq!(owner.as_deref(), Some(user_id!("@alice:localhost")));
    assert!(scene.app.accounts.addresses(user_id!("@bob:localhost")).await.unwrap().is_empty());
}

#[tokio::test]
async fn a_new_password_ends_the_letters_from_before_it() {
    let clock = Arc::new(ManualClock::at(1_000_000_000));
    let (scene, letters) = scene_at(config(RegistrationEmail::Required), clock.clone()).await;
    let sid = scene.json(TOKEN, ("", ask("alice@example.org"))).await.json()["sid"].clone();
    confirm(&scene, &letters.link()).await;
    let mut body = json!({ "username": "alice", "password": "old", "auth": shows(&sid, &Value::Null) });
    body["auth"].as_object_mut().unwrap().remove("session");
    assert_eq!(scene.json(REGISTER, ("", body)).await.status, 200);
    let mut links = Vec::new();
    for minute in 0..3 {
        clock.advance(Duration::from_secs(61 * minute));
        let mut browser = Browser::default();
        let csrf = browser.get(&scene, "/_matrix/oauth2/forgot").await.field("csrf");
        let fields = [("csrf", &*csrf), ("next", ""), ("email", "alice@example.org")];
        assert_eq!(browser.post(&scene, "forgot", &fields).await.status, 200);
        links.push(letters.coming().await);
        clock.advance(Duration::from_secs(1));
        // The last one is asked for when the second has been used.
        if minute == 1 {
            let mut browser = Browser::default();
            let form = browser.get(&scene, &links[1]).await;
            let (csrf, sid, code) = (form.field("csrf"), form.field("sid"), form.field("code"));
            let fields =
                [("csrf", &*csrf), ("sid", &*sid), ("code", &*code), ("password", "new"), ("again", "new")];
            assert_eq!(browser.post(&scene, "reset", &fields).await.status, 303);
        }
    }
    for (link, expected) in links.iter().zip([400, 400, 200]) {
        assert_eq!(Browser::default().get(&scene, link).await.status, expected, "{link}");
    }
}

#[tokio::test]
async fn a_forgotten_password_is_replaced_by_a_letter() {
    let (scene, letters) = scene_with(config(RegistrationEmail::Required)).await;
    let sid = scene.json(TOKEN, ("", ask("alice@example.org"))).await.json()["sid"].clone();
    confirm(&scene, &letters.link()).await;
    let body = json!({ "username": "alice", "password": "old", "auth": shows(&sid, &Value::Null) });
    let mut body = body;
    body["auth"].as_object_mut().unwrap().remove("session");
    let token = scene.json(REGISTER, ("", body)).await.json()["access_token"].as_str().unwrap().to_owned();

    let mut browser = Browser::default();
    let login = browser.get(&scene, "/_matrix/oauth2/login").await;
    assert!(login.text.contains("/_matrix/oauth2/forgot"), "{}", login.text);
    let page = browser.get(&scene, "/_matrix/oauth2/forgot").await;
    let csrf = page.field("csrf");
    let asks =
        |email: &'static str| [("csrf", csrf.clone()), ("next", String::new()), ("email", email.to_owned())];
    let mut told = Vec::new();
    for email in ["nobody@example.org", "alice@example.org"] {
        let fields = asks(email);
        let fields: Vec<(&str, &str)> = fields.iter().map(|(name, value)| (*name, &**value)).collect();
        let answer = browser.post(&scene, "forgot", &fields).await;
        told.push((answer.status, answer.text));
    }
    assert_eq!(told[0], told[1], "it is not told whose address is known");
    let link = letters.coming().await;
    assert!(letters.is_empty(), "a stranger gets no letter");
    let form = browser.get(&scene, &link).await;
    let (csrf, sid, code) = (form.field("csrf"), form.field("sid"), form.field("code"));
    let fields = |again: &'static str, code: &str| {
        [
            ("csrf", csrf.clone()),
            ("sid", sid.clone()),
            ("code", code.to_owned()),
            ("password", "new".to_owned()),
            ("again", again.to_owned()),
            ("logout", "all".to_owned()),
        ]
    };
    for (again, code, expected) in
        [("other", &*code, 400), ("new", "guessed", 400), ("new", &*code, 303), ("new", &*code, 400)]
    {
        let fields = fields(again, code);
        let fields: Vec<(&str, &str)> = fields.iter().map(|(name, value)| (*name, &**value)).collect();
        let answer = browser.post(&scene, "reset", &fields).await;
        // Once signed in, the browser has another cookie, for which the form is out of date.
        assert!(
            answer.status == expected || (expected == 400 && answer.status == 403),
            "{again} {code}: {}",
            answer.text
        );
    }
    let me = scene.json("GET /_matrix/client/v3/account/whoami", (&token, Value::Null)).await;
    assert_eq!(me.status, 401, "every device is signed out");
    for (password, expected) in [("old", 403), ("new", 200)] {
        let login = json!({ "type": "m.login.password", "password": password,
            "identifier": { "type": "m.id.user", "user": "alice" } });
        assert_eq!(scene.json("POST /_matrix/client/v3/login", ("", login)).await.status, expected);
    }
    assert_eq!(browser.get(&scene, "/_matrix/oauth2/account").await.status, 200, "the browser is signed in");
}

/// The maker of the puzzle.
struct Maker;

impl Net for Maker {
    fn visit<'a>(
        &'a self,
        purpose: Purpose,
        request: Request<Bytes>,
        _: Bounds,
    ) -> BoxFuture<'a, Result<Response<Bytes>, NetError>> {
        assert_eq!(purpose, Purpose::Captcha);
        assert_eq!(request.uri(), "https://www.google.com/recaptcha/api/siteverify");
        let fields: Vec<(String, String)> = serde_html_form::from_bytes(request.body()).unwrap();
        assert_eq!(fields[0], ("secret".to_owned(), "between us".to_owned()));
        let answer = match &*fields[1].1 {
            "lost" => Err(NetError::Timeout),
            "garbled" => Ok(Response::new(Bytes::from_static(b"<html>"))),
            response => Ok(Response::new(json!({ "success": response == "right" }).to_string().into())),
        };
        Box::pin(async move { answer })
    }
}

#[tokio::test]
async fn a_newcomer_solves_a_puzzle() {
    let mut config = config(RegistrationEmail::Off);
    config.public_base_url = Some(SITE.to_owned());
    config.captcha.site_key = Some("public".to_owned());
    config.captcha.secret = Some("between us".into());
    let app = crate::http::App::new(crate::http::tests::services_with(config, Arc::new(Maker)).await);
    let scene = Scene { router: crate::http::endpoints().into_router(app.clone()), app };
    let asked = scene.json(REGISTER, ("", json!({ "username": "alice" }))).await.json();
    assert_eq!(asked["flows"], json!([{ "stages": ["m.login.recaptcha"] }]));
    assert_eq!(asked["params"]["m.login.recaptcha"], json!({ "public_key": "public" }));
    let session = asked["session"].as_str().unwrap();
    let solve = |name: &str, response: &str| {
        json!({ "username": name,
            "auth": { "type": "m.login.recaptcha", "session": session, "response": response } })
    };
    let long = "x".repeat(100_000);
    for wrong in ["", "wrong", "lost", "garbled", &long] {
        let answer = scene.json(REGISTER, ("", solve("alice", wrong))).await;
        assert_eq!((answer.status, &answer.json()["errcode"]), (401, &json!("M_CAPTCHA_INVALID")));
    }
    let fallback = format!("/_matrix/client/v3/auth/m.login.recaptcha/fallback/web?session={session}");
    let mut browser = Browser::default();
    let page = browser.get(&scene, &fallback).await;
    assert!(page.text.contains("data-sitekey=\"public\""), "{}", page.text);
    let policy = page.headers["content-security-policy"].to_str().unwrap();
    assert!(
        policy.contains("script-src https://www.google.com https://www.gstatic.com/recaptcha/;"),
        "{policy}"
    );
    let url = format!("{SITE}{fallback}");
    let answers = |response: &'static str| [("session", session), ("g-recaptcha-response", response)];
    assert_eq!(browser.post(&scene, &url, &answers("wrong")).await.status, 403);
    assert_eq!(browser.post(&scene, &url, &answers("right")).await.status, 200);
    let done = json!({ "username": "alice", "auth": { "session": session } });
    assert_eq!(scene.json(REGISTER, ("", done)).await.status, 200);
    let page = browser.get(&scene, "/_matrix/oauth2/register").await;
    let csrf = page.field("csrf");
    for (response, expected) in [("wrong", 400), ("right", 303)] {
        let fields = [
            ("csrf", &*csrf),
            ("next", ""),
            ("username", "bob"),
            ("password", "secret"),
            ("again", "secret"),
            ("g-recaptcha-response", response),
        ];
        assert_eq!(browser.post(&scene, "register", &fields).await.status, expected);
    }
}

#[tokio::test]
async fn whoever_has_no_password_proves_on_a_page_who_they_are() {
    let scene = Scene::new(RegistrationMode::Open).await;
    scene.user("alice").await;
    let new = NewUser { username: Some("carol".into()), ..NewUser::default() };
    let carol = scene.app.accounts.create_user(new).await.unwrap();
    let session = |device: &str| NewSession {
        user_id: carol.clone(),
        device_id: Some(device.into()),
        display_name: None,
        refreshes: false,
        client: None,
    };
    let token = scene.app.accounts.start_session(session("PHONE")).await.unwrap().access_token;
    scene.app.accounts.start_session(session("OLD")).await.unwrap();
    let request = "POST /_matrix/client/v3/delete_devices";
    let asked = scene.json(request, (&token, json!({ "devices": ["OLD"] }))).await;
    let told = asked.json();
    assert_eq!((asked.status, &told["flows"]), (401, &json!([{ "stages": ["m.login.sso"] }])), "{told}");
    let session = told["session"].as_str().unwrap();
    let finish = |auth: Value| json!({ "devices": ["OLD"], "auth": auth });
    for auth in [
        json!({ "session": session }),
        json!({ "session": session, "type": "m.login.sso" }),
        json!({ "session": session, "type": "m.login.dummy" }),
        json!({ "session": session, "type": "m.login.password", "password": "",
            "identifier": { "type": "m.id.user", "user": "carol" } }),
    ] {
        assert_eq!(scene.json(request, (&token, finish(auth.clone()))).await.status, 401, "{auth}");
    }
    let fallback = format!("/_matrix/client/v3/auth/m.login.sso/fallback/web?session={session}");
    let mut browser = Browser::default();
    let page = browser.get(&scene, &fallback).await;
    let prove = page.location().to_owned();
    assert!(prove.starts_with(&format!("{SITE}/_matrix/oauth2/prove?session=")), "{prove}");
    let login = browser.get(&scene, &prove).await;
    let back = browser.sign_in(&scene, login.location(), "alice").await;
    assert_eq!(back, prove);
    let page = browser.get(&scene, &prove).await;
    assert!(page.text.contains("you are signed in here as"), "{}", page.text);
    let csrf = page.field("csrf");
    let posted = [("csrf", &*csrf), ("session", session)];
    assert_eq!(browser.post(&scene, "prove", &posted).await.status, 404, "somebody else cannot pass it");
    assert_eq!(scene.json(request, (&token, finish(json!({ "session": session })))).await.status, 401);

    let cookie = scene.app.oauth.sign_in(&carol).await.unwrap();
    let mut browser = Browser { cookie: Some(format!("__Host-lockstep={cookie}")) };
    let page = browser.get(&scene, &prove).await;
    assert!(page.text.contains("sign out devices"), "{}", page.text);
    let forged = [("csrf", "x"), ("session", session)];
    assert_eq!(browser.post(&scene, "prove", &forged).await.status, 403);
    let posted = [("csrf", &*page.field("csrf")), ("session", session)];
    let passed = browser.post(&scene, "prove", &posted).await;
    assert!(passed.status == 200 && passed.text.contains("onAuthDone"), "{}", passed.text);
    let other = json!({ "devices": ["OLD", "PHONE"], "auth": { "session": session } });
    assert_eq!(scene.json(request, (&token, other)).await.status, 401, "something else was allowed");
    assert_eq!(scene.json(request, (&token, finish(json!({ "session": session })))).await.status, 200);
    let left = scene.json("GET /_matrix/client/v3/devices", (&token, Value::Null)).await.json();
    assert_eq!(left["devices"].as_array().unwrap().len(), 1);
    // It was good for one thing.
    let again = scene.json(request, (&token, finish(json!({ "session": session })))).await;
    assert_ne!(again.json()["session"], session);
}
