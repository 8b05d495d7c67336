//! Signing in by a real provider of identities, which `clients/setup` installs.

use std::{net::TcpListener, process::Stdio, time::Duration};

use reqwest::{Method, header, redirect::Policy};
use serde_json::{Value, json};
use spec_tests::{
    Outcome,
    clients::{home, installed},
    matrix::Client,
    server::{Kind, Server},
};
use tokio::process::Child;

/// How long the provider may take to start.
const START_POLLS: u32 = 300;
/// Between two looks at it.
const START_POLL: Duration = Duration::from_millis(50);

/// A provider that believes whatever is typed.
struct Provider {
    url: String,
    _child: Child,
}

impl Provider {
    async fn start() -> Outcome<Self> {
        let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let child = installed(&home().join("oidc/bin/oidc-provider-mock"))?
            .args(["--port", &port.to_string(), "--require-nonce", "true"])
            .args(["--user-claims", &json!({ "sub": "4711", "preferred_username": "Carol" }).to_string()])
            .env("AUTHLIB_INSECURE_TRANSPORT", "1")
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()?;
        let url = format!("http://127.0.0.1:{port}");
        let http = reqwest::Client::builder().no_proxy().build()?;
        for _ in 0..START_POLLS {
            if http.get(format!("{url}/jwks")).send().await.is_ok_and(|answer| answer.status().is_success()) {
                return Ok(Self { url, _child: child });
            }
            tokio::time::sleep(START_POLL).await;
        }
        Err("the provider did not start".into())
    }
}

/// A browser that keeps one cookie of the server and follows redirects until there is something to look at.
struct Browser {
    http: reqwest::Client,
    server: String,
    cookie: String,
}

struct Page {
    url: String,
    status: u16,
    text: String,
}

impl Browser {
    fn new(server: &Server) -> Outcome<Self> {
        let http = reqwest::Client::builder().no_proxy().redirect(Policy::none()).build()?;
        Ok(Self { http, server: server.url(), cookie: String::new() })
    }

    async fn go(&mut self, url: &str, fields: Option<&[(&str, &str)]>) -> Outcome<Page> {
        let (mut url, mut fields) = (url.to_owned(), fields);
        for _ in 0..10 {
            let mut request = match fields.take() {
                Some(fields) => {
                    let body = reqwest::Url::parse_with_params("http://form", fields)?;
                    let kind = "application/x-www-form-urlencoded";
                    let request = self.http.post(&url).header(header::CONTENT_TYPE, kind);
                    request.body(body.query().unwrap_or_default().to_owned())
                }
                None => self.http.get(&url),
            };
            if url.starts_with(&self.server) {
                request = request.header(header::COOKIE, &self.cookie);
            }
            let answer = request.send().await?;
            let header = |name| answer.headers().get(name).and_then(|value| value.to_str().ok());
            if let Some(cookie) = header(header::SET_COOKIE).filter(|_| url.starts_with(&self.server)) {
                self.cookie = cookie.split(';').next().unwrap_or_default().to_owned();
            }
            match header(header::LOCATION).map(str::to_owned) {
                // The client's own page is not there to be opened.
                Some(location) if location.contains("loginToken=") => {
                    return Ok(Page { url: location, status: 200, text: String::new() });
                }
                Some(location) => url = reqwest::Url::parse(&url)?.join(&location)?.into(),
                None => {
                    let status = answer.status().as_u16();
                    return Ok(Page { url, status, text: answer.text().await? });
                }
            }
        }
        Err(format!("no end of redirects at {url}").into())
    }
}

impl Page {
    /// The value of a field.
    fn field(&self, name: &str) -> Outcome<String> {
        let start = format!("name=\"{name}\" value=\"");
        let rest = self.text.split(&start).nth(1).ok_or_else(|| format!("no {name} in {}", self.text))?;
        Ok(rest.split('"').next().unwrap_or_default().replace("&amp;", "&"))
    }

    /// Logs in with the token that the browser brings back.
    async fn log_in(&self, server: &Server) -> Outcome<Value> {
        let url = reqwest::Url::parse(&self.url)?;
        let token = url.query_pairs().find(|(name, _)| name == "loginToken");
        let token = token.ok_or_else(|| format!("no token: {} {}", self.url, self.text))?.1.into_owned();
        let login = json!({ "type": "m.login.token", "token": token });
        let client = Client::anonymous(&server.url())?;
        Ok(client.ask(Method::POST, "/_matrix/client/v3/login", Some(&login)).await?.json())
    }
}

#[tokio::test]
async fn a_user_of_a_provider_signs_in() -> Outcome<()> {
    let provider = Provider::start().await?;
    let folder = tempfile::tempdir()?;
    let config = folder.path().join("lockstep.toml");
    std::fs::write(
        &config,
        format!(
            "[[sso.providers]]\nid = 'mock'\nname = 'Mock'\nissuer = '{}'\nclient_id = 'lockstep'\nclient_secret = 's'\n",
            provider.url
        ),
    )?;
    let config = config.to_str().ok_or("the folder has no name in UTF-8")?;
    let mut server = Server::start_with(
        Kind::lockstep()?,
        &[("LOCKSTEP_CONFIG", config), ("LOCKSTEP_REGISTRATION", "closed")],
    )
    .await?;
    let url = server.url();
    let flows = Client::anonymous(&url)?.ask(Method::GET, "/_matrix/client/v3/login", None).await?.json();
    let sso =
        flows["flows"].as_array().and_then(|flows| flows.iter().find(|flow| flow["type"] == "m.login.sso"));
    assert_eq!(sso.ok_or("no m.login.sso")?["identity_providers"][0]["id"], "mock", "{flows}");

    let start = format!("{url}/_matrix/client/v3/login/sso/redirect/mock?redirectUrl=http://client.example/");
    for turn in ["first", "second"] {
        let mut browser = Browser::new(&server)?;
        let form = browser.go(&start, None).await?;
        assert!(form.url.starts_with(&provider.url), "{} {} {}", form.url, form.status, form.text);
        let mut page = browser.go(&form.url, Some(&[("sub", "4711")])).await?;
        if turn == "first" {
            assert_eq!(page.field("username")?, "carol");
            let fields =
                [("csrf", &*page.field("csrf")?), ("ticket", &*page.field("ticket")?), ("username", "carol")];
            page = browser.go(&format!("{url}/_matrix/oauth2/welcome"), Some(&fields)).await?;
        }
        let fields = [("csrf", &*page.field("csrf")?)];
        let back = browser.go(&page.url, Some(&fields)).await?;
        let session = back.log_in(&server).await?;
        assert_eq!(session["user_id"], json!(format!("@carol:{}", server.name())), "{turn} {session}");
        server.restart().await?;
    }
    let mut browser = Browser::new(&server)?;
    let form = browser.go(&start, None).await?;
    let refused = browser.go(&form.url, Some(&[("action", "deny")])).await?;
    // This provider leaves the state out when it refuses, so that it is not even known whom.
    assert!(refused.status >= 400 && refused.text.contains("You are not signed in"), "{}", refused.text);
    server.stop().await
}
