//! Addresses, and passwords that were forgotten.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::sync::Notify;

use super::{Browser, SITE, Scene, authorize, parameter, redemption};
use crate::{
    config::{Config, RateLimits},
    http::{
        App, Services,
        client::testing::stored,
        endpoints,
        tests::{Lines, services_at, services_with},
    },
    limits::LETTERS_TO_ONE_BURST,
    mail::{Letter, MailError, Post},
    peer::Isolated,
    store::BoxFuture,
    types::ManualClock,
};

/// Keeps what is sent.
#[derive(Default)]
pub(super) struct Letterbox(Mutex<Vec<Letter>>, Notify, AtomicBool);

impl Post for Letterbox {
    fn send<'a>(&'a self, letter: Letter) -> BoxFuture<'a, Result<(), MailError>> {
        if self.2.load(Ordering::SeqCst) {
            return Box::pin(async { Err(MailError::Timeout) });
        }
        self.0.lock().push(letter);
        self.1.notify_one();
        Box::pin(async { Ok(()) })
    }
}

impl Letterbox {
    pub(super) fn link(&self) -> String {
        link_in(&self.0.lock().pop().expect("a letter was sent"))
    }

    /// The link in a letter that is on its way.
    pub(super) async fn coming(&self) -> String {
        loop {
            let letter = self.0.lock().pop();
            match letter {
                Some(letter) => return link_in(&letter),
                None => self.1.notified().await,
            }
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.lock().is_empty()
    }
}

fn link_in(letter: &Letter) -> String {
    letter.text.lines().find(|line| line.starts_with(SITE)).expect("it has a link").to_owned()
}

const ACCOUNT: &str = "POST /_matrix/client/v3/account";

/// A server with a mail server.
pub(super) async fn scene_with(config: Config) -> (Scene, Arc<Letterbox>) {
    let config = Config { public_base_url: Some(SITE.to_owned()), ..config };
    scene_over(services_with(config, Arc::new(Isolated)).await)
}

/// As [`scene_with`], at a time that goes as `clock` does.
pub(super) async fn scene_at(config: Config, clock: Arc<ManualClock>) -> (Scene, Arc<Letterbox>) {
    let config = Config { public_base_url: Some(SITE.to_owned()), ..config };
    scene_over(services_at(config, clock).await)
}

fn scene_over(mut services: Services) -> (Scene, Arc<Letterbox>) {
    let letters = Arc::new(Letterbox::default());
    services.post = Some(letters.clone());
    let app = App::new(services);
    (Scene { router: endpoints().into_router(app.clone()), app }, letters)
}

async fn scene() -> (Scene, Arc<Letterbox>, String) {
    let (scene, letters) = scene_with(Config::default()).await;
    scene.user("alice").await;
    let login = json!({ "type": "m.login.password", "password": "secret",
        "identifier": { "type": "m.id.user", "user": "alice" } });
    let session = scene.json("POST /_matrix/client/v3/login", ("", login)).await.json();
    let token = session["access_token"].as_str().unwrap().to_owned();
    (scene, letters, token)
}

/// What alice shows as a proof that it is her.
fn proof(password: &str) -> Value {
    json!({ "type": "m.login.password", "password": password,
        "identifier": { "type": "m.id.user", "user": "alice" } })
}

fn ask(address: &str, attempt: u64) -> Value {
    json!({ "client_secret": "hidden", "email": address, "send_attempt": attempt })
}

/// What the page to which a letter leads says.
pub(super) async fn asked(scene: &Scene, link: &str) -> (u16, String) {
    let page = Browser::default().get(scene, link).await;
    (page.status, page.text)
}

pub(super) async fn confirm(scene: &Scene, link: &str) -> u16 {
    let mut browser = Browser::default();
    let page = browser.get(scene, link).await;
    if page.status != 200 {
        return page.status;
    }
    let (csrf, sid, code) = (page.field("csrf"), page.field("sid"), page.field("code"));
    browser.post(scene, "mail", &[("csrf", &csrf), ("sid", &sid), ("code", &code)]).await.status
}

#[tokio::test]
async fn an_address_is_added_once_its_letter_was_read() {
    let (scene, letters, token) = scene().await;
    let request = format!("{ACCOUNT}/3pid/email/requestToken");
    assert_eq!(scene.json(&request, ("", ask("no address", 1))).await.status, 400);
    let begun = scene.json(&request, ("", ask("Alice@Example.org", 1))).await.json();
    assert_eq!(scene.json(&request, ("", ask("alice@example.org", 1))).await.json(), begun, "sent already");
    assert_eq!(letters.0.lock().len(), 1);
    let add = json!({ "sid": begun["sid"], "client_secret": "hidden", "auth": proof("secret") });
    let adding = format!("{ACCOUNT}/3pid/add");
    let early = scene.json(&adding, (&token, add.clone())).await;
    assert_eq!(early.json()["errcode"], "M_THREEPID_AUTH_FAILED");
    let link = letters.link();
    assert_eq!(
        scene.json(&adding, (&token, add.clone())).await.status,
        400,
        "a letter is not read by being sent"
    );
    let (status, text) = asked(&scene, &link).await;
    assert_eq!(status, 200);
    assert!(
        text.contains("alice@example.org") && text.contains("add this address to their account"),
        "{text}"
    );
    assert_eq!(asked(&scene, &format!("{link}x")).await.0, 400, "whoever has no letter is told nothing");
    assert_eq!(confirm(&scene, &link).await, 200);
    let mut stolen = add.clone();
    stolen["client_secret"] = json!("guessed");
    assert_eq!(scene.json(&adding, (&token, stolen)).await.json()["errcode"], "M_THREEPID_AUTH_FAILED");
    assert_eq!(scene.json(&adding, (&token, add.clone())).await.status, 200);
    assert_eq!(scene.json(&adding, (&token, add)).await.status, 400, "a proof is good once");
    let list = scene.json("GET /_matrix/client/v3/account/3pid", (&token, Value::Null)).await.json();
    assert_eq!(list["threepids"][0]["address"], "alice@example.org");
    let taken = scene.json(&request, ("", ask("alice@example.org", 2))).await;
    assert_eq!(taken.json()["errcode"], "M_THREEPID_IN_USE");
    let by_mail = json!({ "type": "m.login.password", "password": "secret",
        "identifier": { "type": "m.id.thirdparty", "medium": "email", "address": "ALICE@example.org" } });
    assert_eq!(scene.json("POST /_matrix/client/v3/login", ("", by_mail)).await.status, 200);
}

/// What a client asks for again is what it has not got.
#[tokio::test]
async fn a_letter_that_could_not_be_sent_is_sent_when_it_is_asked_for_again() {
    let (scene, letters, _) = scene().await;
    let request = format!("{ACCOUNT}/3pid/email/requestToken");
    letters.2.store(true, Ordering::SeqCst);
    assert_eq!(scene.json(&request, ("", ask("alice@example.org", 1))).await.status, 500);
    letters.2.store(false, Ordering::SeqCst);
    assert_eq!(scene.json(&request, ("", ask("alice@example.org", 1))).await.status, 200);
    assert_eq!(letters.0.lock().len(), 1);
}

/// However many ask, from wherever, nobody's mail is flooded.
#[tokio::test]
async fn letters_to_one_address_are_counted() {
    let config = Config { rate_limits: RateLimits::default(), ..Config::default() };
    let (scene, letters) = scene_with(config).await;
    let request = format!("{ACCOUNT}/3pid/email/requestToken");
    let mut refused = 0;
    for n in 0..LETTERS_TO_ONE_BURST + 5 {
        let body =
            json!({ "client_secret": format!("s{n}"), "email": "Alice@example.org", "send_attempt": 1 });
        refused += u32::from(scene.json(&request, ("", body)).await.status == 429);
    }
    assert_eq!((refused, letters.0.lock().len()), (5, LETTERS_TO_ONE_BURST as usize));
    let again = json!({ "client_secret": "s0", "email": "alice@example.org", "send_attempt": 2 });
    assert_eq!(scene.json(&request, ("", again)).await.status, 429);
    let first = link_in(&letters.0.lock()[0]);
    assert_eq!(confirm(&scene, &first).await, 200, "what was refused makes no earlier letter void");
    let other = json!({ "client_secret": "s", "email": "bob@example.org", "send_attempt": 1 });
    assert_eq!(scene.json(&request, ("", other)).await.status, 200);
}

/// The page sends its form by `POST`, after which no `next_link` is followed; so nobody is led anywhere by a letter of
/// this server.
#[tokio::test]
async fn nobody_is_led_on_by_a_letter() {
    let (scene, letters, _) = scene().await;
    for next in ["https://evil.example.org/", "javascript:alert(1)", "no link at all"] {
        let mut wanted = ask(&format!("{}@example.org", next.len()), 1);
        wanted["next_link"] = json!(next);
        let begun = scene.json(&format!("{ACCOUNT}/3pid/email/requestToken"), ("", wanted)).await;
        assert_eq!(begun.status, 200, "{}", begun.text);
        let link = letters.link();
        assert!(!link.contains("next") && !link.contains("evil"), "{link}");
        let mut browser = Browser::default();
        let page = browser.get(&scene, &link).await;
        let (csrf, sid, code) = (page.field("csrf"), page.field("sid"), page.field("code"));
        let fields = [("csrf", &*csrf), ("sid", &sid), ("code", &code), ("next_link", next)];
        let confirmed = browser.post(&scene, "mail", &fields).await;
        assert_eq!((confirmed.status, confirmed.headers.get("location")), (200, None));
        assert!(!page.text.contains(next) && !confirmed.text.contains(next), "{}", confirmed.text);
    }
}

/// Row 7.17 (#6426, identifiers left after deactivation): wherever an address of somebody may stand, it is gone with
/// them. The letters that are on their way, too: what they prove is of use to nobody.
#[tokio::test]
async fn row_7_17_no_address_is_left_of_who_is_gone() {
    for erase in [false, true] {
        let (scene, letters, token) = scene().await;
        let user = ruma::user_id!("@alice:localhost");
        let request = format!("{ACCOUNT}/3pid/email/requestToken");
        let begun = scene.json(&request, ("", ask("canary@example.org", 1))).await.json();
        assert_eq!(confirm(&scene, &letters.link()).await, 200);
        let add = json!({ "sid": begun["sid"], "client_secret": "hidden", "auth": proof("secret") });
        assert_eq!(scene.json(&format!("{ACCOUNT}/3pid/add"), (&token, add)).await.status, 200);
        let pusher = json!({ "kind": "email", "app_id": "m.email", "pushkey": "canary@example.org", "lang": "en",
            "app_display_name": "x", "device_display_name": "x", "data": {} });
        let set = scene.json("POST /_matrix/client/v3/pushers/set", (&token, pusher)).await;
        assert_eq!(set.status, 200, "{}", set.text);
        let reset = format!("{ACCOUNT}/password/email/requestToken");
        assert_eq!(scene.json(&reset, ("", ask("canary@example.org", 1))).await.status, 200);
        assert!(stored(&scene.app).await.contains("canary@example.org"));
        let end = json!({ "auth": proof("secret"), "erase": erase });
        assert_eq!(scene.json(&format!("{ACCOUNT}/deactivate"), (&token, end)).await.status, 200);
        assert_eq!(scene.app.accounts.user_of_address("canary@example.org").await.unwrap(), None);
        assert!(scene.app.accounts.addresses(user).await.unwrap().is_empty());
        let stored = stored(&scene.app).await;
        let around = stored.split("canary").next().filter(|before| before.len() < stored.len());
        let around: Option<String> = around.map(|before| before.chars().rev().take(200).collect());
        assert_eq!(around, None, "erase: {erase}");
    }
}

/// Row 7.11 (tuwunel 1.9.0: a proof of an address was good again after logging out).
#[tokio::test]
async fn tuwunel_1_9_0_a_proof_resets_one_password_once() {
    let (scene, letters, token) = scene().await;
    let add = format!("{ACCOUNT}/3pid/email/requestToken");
    let begun = scene.json(&add, ("", ask("alice@example.org", 1))).await.json();
    confirm(&scene, &letters.link()).await;
    // Row 7.2: the older way of adding one asks for as much as the newer one. Whoever has a token alone, and an address,
    // would have the account by a new password otherwise.
    let adding = format!("{ACCOUNT}/3pid");
    let mut old = json!({ "three_pid_creds": { "sid": begun["sid"], "client_secret": "hidden" } });
    let asked = scene.json(&adding, (&token, old.clone())).await;
    assert_eq!((asked.status, &asked.json()["flows"]), (401, &json!([{ "stages": ["m.login.password"] }])));
    old["auth"] = proof("wrong");
    assert_eq!(scene.json(&adding, (&token, old.clone())).await.status, 401);
    assert!(scene.app.accounts.addresses(ruma::user_id!("@alice:localhost")).await.unwrap().is_empty());
    old["auth"] = proof("secret");
    assert_eq!(scene.json(&adding, (&token, old)).await.status, 200);

    let request = format!("{ACCOUNT}/password/email/requestToken");
    let nobody = scene.json(&request, ("", ask("bob@example.org", 1))).await;
    assert_eq!(nobody.json()["errcode"], "M_THREEPID_NOT_FOUND");
    let begun = scene.json(&request, ("", ask("alice@example.org", 1))).await.json();
    let reset = |sid: &Value, password: &str| {
        json!({ "new_password": password, "auth": { "type": "m.login.email.identity",
            "threepid_creds": { "sid": sid, "client_secret": "hidden" } } })
    };
    let change = format!("{ACCOUNT}/password");
    let asked = scene.json(&change, ("", json!({ "new_password": "x" }))).await;
    assert_eq!(
        (asked.status, &asked.json()["flows"]),
        (401, &json!([{ "stages": ["m.login.email.identity"] }]))
    );
    assert_eq!(scene.json(&change, ("", reset(&begun["sid"], "mine"))).await.status, 401, "not read yet");
    let first = letters.link();
    let again = scene.json(&request, ("", ask("alice@example.org", 2))).await.json();
    assert_eq!(again["sid"], begun["sid"]);
    assert_eq!(confirm(&scene, &first).await, 400, "another letter was sent after it");
    assert_eq!(confirm(&scene, &letters.link()).await, 200);
    assert_eq!(scene.json(&change, ("", reset(&begun["sid"], "new"))).await.status, 200);
    assert_eq!(scene.json(&change, ("", reset(&begun["sid"], "newer"))).await.status, 401, "good once");
    let me = scene.json("GET /_matrix/client/v3/account/whoami", (&token, Value::Null)).await;
    assert_eq!(me.status, 401, "every device is signed out");
    for (password, expected) in [("secret", 403), ("newer", 403), ("new", 200)] {
        let login = json!({ "type": "m.login.password", "password": password,
            "identifier": { "type": "m.id.user", "user": "alice" } });
        assert_eq!(scene.json("POST /_matrix/client/v3/login", ("", login)).await.status, expected);
    }
}

/// Row 7.15 of the list of known vulnerabilities: what lets somebody in is neither logged nor stored as it is.
#[tokio::test]
async fn row_7_15_codes_cookies_and_proofs_are_not_logged_or_stored() {
    let _second = tracing::Dispatch::new(tracing_subscriber::registry());
    let lines = Lines::default();
    let guard = lines.listen();
    let (scene, letters, token) = scene().await;
    let mut browser = Browser::default();
    let client = scene.client(json!({})).await;
    let asked = browser.get(&scene, &authorize(&client, "LAPTOP", "")).await;
    let consent = browser.sign_in(&scene, asked.location(), "alice").await;
    let page = browser.get(&scene, &consent).await;
    let csrf = page.field("csrf");
    let back = browser.post(&scene, &consent, &[("csrf", &csrf), ("decision", "allow")]).await;
    let code = parameter(back.location(), "code");
    let granted = scene.form("token", &redemption(&client, &code)).await.json();
    let scope = "urn:matrix:client:api:* urn:matrix:client:device:TV";
    let device = scene.form("device", &[("client_id", &*client), ("scope", scope)]).await.json();
    let sso = "/_matrix/client/v3/login/sso/redirect?redirectUrl=https%3A%2F%2Fapp.example.org%2F";
    let confirm = browser.get(&scene, sso).await.location().to_owned();
    let csrf = browser.get(&scene, &confirm).await.field("csrf");
    let back = browser.post(&scene, &confirm, &[("csrf", &csrf)]).await;
    let request = format!("{ACCOUNT}/3pid/email/requestToken");
    scene.json(&request, ("", ask("alice@example.org", 1))).await;
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let cookie = browser.cookie.as_deref().and_then(|cookie| cookie.split_once('=')).unwrap().1.to_owned();
    let secrets = [
        ("access token", token),
        ("authorisation code", code),
        ("refresh token", text(&granted["refresh_token"])),
        ("device code", text(&device["device_code"])),
        ("cookie", cookie),
        ("login token", parameter(back.location(), "loginToken")),
        ("proof", parameter(&letters.link(), "code")),
        ("client secret", "hidden".to_owned()),
    ];
    drop(guard);
    let (logged, stored) = (lines.text(), stored(&scene.app).await);
    assert!(stored.contains("@alice:localhost"));
    for (kind, secret) in &secrets {
        assert!(secret.len() > 5, "{kind}: {secret}");
        assert!(!logged.contains(secret), "the {kind} is logged");
        assert!(!stored.contains(secret), "the {kind} is stored");
    }
}
