//! Signing in on the pages of a running server: what was begun before a restart goes on after it.

use reqwest::{Method, header, redirect::Policy};
use serde_json::{Value, json};
use spec_tests::{
    Outcome,
    matrix::{Client, PASSWORD},
    server::{Kind, Server},
};

/// Where the client of these tests is answered.
const REDIRECT: &str = "http://127.0.0.1/back";
/// The verifier of RFC 7636, appendix B, and its challenge.
const VERIFIER: &str = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";
const CHALLENGE: &str = "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM";

/// A browser with one cookie, which follows no redirect by itself; without the cookie, any client.
struct Browser {
    http: reqwest::Client,
    cookie: Option<String>,
}

struct Page {
    status: u16,
    location: Option<String>,
    text: String,
}

impl Browser {
    fn new() -> Outcome<Self> {
        let http = reqwest::Client::builder().no_proxy().redirect(Policy::none()).build()?;
        Ok(Self { http, cookie: None })
    }

    async fn send(&mut self, request: reqwest::RequestBuilder) -> Outcome<Page> {
        let request = match &self.cookie {
            Some(cookie) => request.header(header::COOKIE, cookie),
            None => request,
        };
        let answer = request.send().await?;
        let text = |name| answer.headers().get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
        let (cookie, location) = (text(header::SET_COOKIE), text(header::LOCATION));
        if let Some(cookie) = cookie {
            self.cookie = cookie.split(';').next().map(str::to_owned);
        }
        Ok(Page { status: answer.status().as_u16(), location, text: answer.text().await? })
    }

    async fn get(&mut self, url: &str) -> Outcome<Page> {
        self.send(self.http.get(url)).await
    }

    async fn post(&mut self, url: &str, fields: &[(&str, &str)]) -> Outcome<Page> {
        let body = form(fields)?;
        let request = self.http.post(url).header(header::CONTENT_TYPE, "application/x-www-form-urlencoded");
        self.send(request.body(body)).await
    }
}

impl Page {
    /// The value of a hidden field.
    fn field(&self, name: &str) -> Outcome<String> {
        let start = format!("name=\"{name}\" value=\"");
        let rest = self.text.split(&start).nth(1).ok_or_else(|| format!("no {name} in {}", self.text))?;
        Ok(rest.split('"').next().unwrap_or_default().replace("&amp;", "&"))
    }

    fn location(&self) -> Outcome<&str> {
        self.location.as_deref().ok_or_else(|| format!("{} {}", self.status, self.text).into())
    }

    fn json(&self) -> Outcome<Value> {
        Ok(serde_json::from_str(&self.text)?)
    }
}

fn form(fields: &[(&str, &str)]) -> Outcome<String> {
    let url = reqwest::Url::parse_with_params("http://form", fields)?;
    Ok(url.query().unwrap_or_default().to_owned())
}

/// The metadata of the server, and a client that is registered with it.
async fn client(browser: &mut Browser, url: &str) -> Outcome<(Value, String)> {
    let metadata = browser.get(&format!("{url}/_matrix/client/v1/auth_metadata")).await?.json()?;
    let endpoint = text(&metadata, "registration_endpoint")?;
    let about = json!({
        "client_name": "Tester", "client_uri": "https://example.org/", "application_type": "native",
        "redirect_uris": [REDIRECT], "grant_types": ["authorization_code", "refresh_token"],
    });
    let request = browser.http.post(endpoint).header(header::CONTENT_TYPE, "application/json");
    let registered = browser.send(request.body(about.to_string())).await?;
    assert_eq!(registered.status, 201, "{}", registered.text);
    Ok((metadata, text(&registered.json()?, "client_id")?))
}

fn text(object: &Value, name: &str) -> Outcome<String> {
    Ok(object[name].as_str().ok_or_else(|| format!("no {name} in {object}"))?.to_owned())
}

async fn whoami(url: &str, token: &str) -> Outcome<Value> {
    let mut caller = Client::anonymous(url)?;
    token.clone_into(&mut caller.token);
    let answer = caller.ask(Method::GET, "/_matrix/client/v3/account/whoami", None).await?;
    Ok(if answer.status == 200 { answer.json() } else { json!(answer.errcode()) })
}

#[tokio::test]
async fn what_is_begun_before_a_restart_goes_on_after_it() -> Outcome<()> {
    let mut server = Server::start(Kind::lockstep()?).await?;
    let url = server.url();
    let alice = Client::anonymous(&url)?.register("alice").await?;
    let mut browser = Browser::new()?;
    let (metadata, client_id) = client(&mut browser, &url).await?;
    let scope = "urn:matrix:client:api:* urn:matrix:client:device:PHONE";
    // The port of a client on the own machine is chosen at the last moment.
    let redirect = REDIRECT.replace("127.0.0.1", "127.0.0.1:4711");
    let asked = form(&[
        ("response_type", "code"),
        ("response_mode", "query"),
        ("client_id", &client_id),
        ("redirect_uri", &redirect),
        ("scope", scope),
        ("state", "abc"),
        ("code_challenge", CHALLENGE),
        ("code_challenge_method", "S256"),
    ])?;
    let asked = format!("{}?{asked}", text(&metadata, "authorization_endpoint")?);
    let login = browser.get(&asked).await?;
    let page = browser.get(login.location()?).await?;
    let fields = [
        ("csrf", &*page.field("csrf")?),
        ("next", &*page.field("next")?),
        ("username", "alice"),
        ("password", PASSWORD),
    ];
    let signed_in = browser.post(&format!("{url}/_matrix/oauth2/login"), &fields).await?;
    assert_eq!(signed_in.location()?, asked);

    server.restart().await?;
    let consent = browser.get(&asked).await?;
    assert!(consent.text.contains(&alice.user_id), "{}", consent.text);
    let fields = [("csrf", &*consent.field("csrf")?), ("decision", "allow")];
    let back = browser.post(&asked, &fields).await?;
    let back = reqwest::Url::parse(back.location()?)?;
    assert!(back.as_str().starts_with(&format!("{redirect}?code=")), "{back}");
    let code = back.query_pairs().find(|(name, _)| name == "code").map(|(_, code)| code.into_owned());
    let code = code.ok_or("no code")?;

    server.kill().await?;
    server.up().await?;
    let token_endpoint = text(&metadata, "token_endpoint")?;
    let redemption = [
        ("grant_type", "authorization_code"),
        ("client_id", &*client_id),
        ("code", &*code),
        ("redirect_uri", &*redirect),
        ("code_verifier", VERIFIER),
    ];
    let mut program = Browser::new()?;
    let granted = program.post(&token_endpoint, &redemption).await?.json()?;
    let (first, refresh) = (text(&granted, "access_token")?, text(&granted, "refresh_token")?);
    let me = whoami(&url, &first).await?;
    assert_eq!((&me["user_id"], &me["device_id"]), (&json!(alice.user_id), &json!("PHONE")));

    server.kill().await?;
    server.up().await?;
    let renewal = [("grant_type", "refresh_token"), ("client_id", &*client_id), ("refresh_token", &*refresh)];
    let renewed = program.post(&token_endpoint, &renewal).await?.json()?;
    let second = text(&renewed, "access_token")?;
    assert_eq!(whoami(&url, &second).await?["device_id"], "PHONE");
    assert_eq!(whoami(&url, &first).await?, "M_UNKNOWN_TOKEN");
    let replayed = program.post(&token_endpoint, &renewal).await?;
    assert_eq!((replayed.status, &replayed.json()?["error"]), (400, &json!("invalid_grant")));
    assert_eq!(whoami(&url, &second).await?, "M_UNKNOWN_TOKEN", "an old token came back: the session ends");
    server.stop().await
}
