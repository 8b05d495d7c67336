//! A real mail server, which `clients/setup` installs, takes the letters: those that prove an address, that replace a
//! forgotten password, and that tell of what was not read.

use reqwest::{Method, header};
use serde_json::{Value, json};
use spec_tests::{
    Outcome,
    letters::Letters,
    matrix::{Client, PASSWORD},
    server::{Kind, Server},
};

const ACCOUNT: &str = "/_matrix/client/v3/account";
const ADDRESS: &str = "alice@example.org";

/// A server and the mail server that takes its letters.
struct Scene {
    server: Server,
    letters: Letters,
}

impl Scene {
    async fn new(extra: &[(&str, &str)]) -> Outcome<Self> {
        let letters = Letters::start().await?;
        let port = letters.port().to_string();
        let mut settings = vec![
            ("LOCKSTEP_EMAIL__HOST", "127.0.0.1"),
            ("LOCKSTEP_EMAIL__PORT", &*port),
            ("LOCKSTEP_EMAIL__PROTECTION", "plain"),
            ("LOCKSTEP_EMAIL__FROM", "Lockstep <lockstep@example.org>"),
        ];
        settings.extend_from_slice(extra);
        let server = Server::start_with(Kind::lockstep()?, &settings).await?;
        Ok(Self { server, letters })
    }

    /// The link in a letter.
    async fn link(&self, number: usize) -> Outcome<String> {
        let letter = self.letters.letter(number).await?;
        let url = self.server.url();
        let link = letter.lines().find(|line| line.trim().starts_with(&url));
        Ok(link.ok_or_else(|| format!("no link in {letter}"))?.trim().to_owned())
    }

    /// Opens a page and sends its form, with what its hidden fields say and `more`; status and text of the answer.
    async fn fill_in(&self, url: &str, page: &str, more: &str) -> Outcome<(u16, String)> {
        let http =
            reqwest::Client::builder().no_proxy().redirect(reqwest::redirect::Policy::none()).build()?;
        let shown = http.get(url).send().await?;
        let cookie = shown.headers().get(header::SET_COOKIE).and_then(|value| value.to_str().ok());
        let cookie = cookie.and_then(|cookie| cookie.split(';').next()).unwrap_or_default().to_owned();
        let text = shown.text().await?;
        let mut body = more.to_owned();
        for name in ["csrf", "sid", "code", "next"] {
            let field = format!("name=\"{name}\" value=\"");
            if let Some(value) = text.split(&field).nth(1).and_then(|rest| rest.split('"').next()) {
                body.push_str(&format!("&{name}={value}"));
            }
        }
        let answer = http
            .post(format!("{}/_matrix/oauth2/{page}", self.server.url()))
            .header(header::COOKIE, cookie)
            .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded")
            .body(body)
            .send()
            .await?;
        Ok((answer.status().as_u16(), answer.text().await?))
    }

    /// Has the letter of this number prove its address.
    async fn confirm(&self, number: usize) -> Outcome<()> {
        let (status, text) = self.fill_in(&self.link(number).await?, "mail", "").await?;
        match status {
            200 => Ok(()),
            _ => Err(text.into()),
        }
    }
}

fn ask() -> Value {
    json!({ "client_secret": "hidden", "email": ADDRESS, "send_attempt": 1 })
}

fn password() -> Value {
    json!({ "type": "m.login.password", "password": PASSWORD,
        "identifier": { "type": "m.id.user", "user": "alice" } })
}

/// Has alice prove her address, by the first letter.
async fn add_address(scene: &Scene, alice: &Client) -> Outcome<()> {
    let begun = alice.ask(Method::POST, &format!("{ACCOUNT}/3pid/email/requestToken"), Some(&ask())).await?;
    assert_eq!(begun.status, 200, "{}", begun.json());
    scene.confirm(0).await?;
    let add = json!({ "sid": begun.json()["sid"], "client_secret": "hidden", "auth": password() });
    let added = alice.ask(Method::POST, &format!("{ACCOUNT}/3pid/add"), Some(&add)).await?;
    assert_eq!(added.status, 200, "{}", added.json());
    Ok(())
}

#[tokio::test]
async fn a_letter_proves_an_address() -> Outcome<()> {
    let mut scene = Scene::new(&[]).await?;
    let alice = Client::anonymous(&scene.server.url())?.register("alice").await?;
    add_address(&scene, &alice).await?;
    let list = alice.ask(Method::GET, &format!("{ACCOUNT}/3pid"), None).await?.json();
    assert_eq!(list["threepids"][0]["address"], ADDRESS, "{list}");
    scene.server.stop().await
}

#[tokio::test]
async fn a_newcomer_proves_an_address_and_gets_a_new_password_by_it() -> Outcome<()> {
    let mut scene = Scene::new(&[("LOCKSTEP_REGISTRATION__EMAIL", "required")]).await?;
    let nobody = Client::anonymous(&scene.server.url())?;
    let register = "/_matrix/client/v3/register";
    let asked = nobody.ask(Method::POST, register, Some(&json!({ "username": "alice" }))).await?;
    let flows = &asked.json()["flows"];
    assert_eq!((asked.status, flows), (401, &json!([{ "stages": ["m.login.email.identity"] }])));
    let begun =
        nobody.ask(Method::POST, &format!("{register}/email/requestToken"), Some(&ask())).await?.json();
    scene.confirm(0).await?;
    let auth = json!({ "type": "m.login.email.identity", "session": asked.json()["session"],
        "threepid_creds": { "sid": begun["sid"], "client_secret": "hidden" } });
    let body = json!({ "username": "alice", "password": PASSWORD, "auth": auth });
    let made = nobody.ask(Method::POST, register, Some(&body)).await?;
    assert_eq!(made.status, 200, "{}", made.json());

    let pages = format!("{}/_matrix/oauth2", scene.server.url());
    let asking = format!("email={ADDRESS}");
    assert_eq!(scene.fill_in(&format!("{pages}/forgot"), "forgot", &asking).await?.0, 200);
    let chosen = "password=another&again=another&logout=all";
    let (status, text) = scene.fill_in(&scene.link(1).await?, "reset", chosen).await?;
    assert_eq!(status, 303, "{text}");
    for (word, expected) in [(PASSWORD, 403), ("another", 200)] {
        let mut login = password();
        login["password"] = json!(word);
        let answer = nobody.ask(Method::POST, "/_matrix/client/v3/login", Some(&login)).await?;
        assert_eq!(answer.status, expected, "{word}");
    }
    scene.server.stop().await
}

#[tokio::test]
async fn a_letter_tells_of_what_was_not_read() -> Outcome<()> {
    let mut scene = Scene::new(&[("LOCKSTEP_PUSH__EMAIL_DELAY_SECONDS", "1")]).await?;
    let nobody = Client::anonymous(&scene.server.url())?;
    let (alice, bob) = (nobody.register("alice").await?, nobody.register("bob").await?);
    let pusher = json!({ "kind": "email", "app_id": "m.email", "pushkey": ADDRESS, "lang": "en",
        "app_display_name": "Letters", "device_display_name": ADDRESS, "data": {} });
    let set = "/_matrix/client/v3/pushers/set";
    let early = alice.ask(Method::POST, set, Some(&pusher)).await?;
    assert_eq!(early.status, 400, "the address is nobody's: {}", early.json());
    add_address(&scene, &alice).await?;
    assert_eq!(alice.ask(Method::POST, set, Some(&pusher)).await?.status, 200);
    let room = bob.create_room(&json!({ "preset": "public_chat", "name": "Kitchen" })).await?;
    alice.join(&room).await?;
    bob.say(&room, "the soup is ready").await?;
    let letter = scene.letters.letter(1).await?;
    for part in ["To: alice@example.org", "In Kitchen:", "the soup is ready", "List-Unsubscribe: <http"] {
        assert!(letter.contains(part), "{part} is not in {letter}");
    }
    let link = scene.link(1).await?;
    let http = reqwest::Client::builder().no_proxy().build()?;
    assert_eq!(http.get(&link).send().await?.status().as_u16(), 200);
    let left = alice.get("/_matrix/client/v3/pushers").await?;
    assert_eq!(left["pushers"].as_array().map(Vec::len), Some(1), "opening the link does nothing yet");
    let wrong = link.replace("alice%40", "bob%40");
    assert_eq!(http.post(&wrong).send().await?.status().as_u16(), 403);
    assert_eq!(http.post(&link).body("List-Unsubscribe=One-Click").send().await?.status().as_u16(), 200);
    let left = alice.get("/_matrix/client/v3/pushers").await?;
    assert_eq!(left["pushers"].as_array().map(Vec::len), Some(0), "{left}");
    scene.server.stop().await
}
