//! The pages and endpoints as a browser and a client meet them.

mod account;
mod address;
mod flow;
mod hostile;
mod mail;
mod newcomer;

use std::sync::Arc;

use axum::{Router, body::Body};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use http::{HeaderMap, header};
use http_body_util::BodyExt;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tower::ServiceExt;

use crate::{
    account::NewUser,
    config::{Config, RegistrationMode},
    http::{App, endpoints, tests::services_with},
    peer::Isolated,
};

const SITE: &str = "https://matrix.localhost";
const REDIRECT: &str = "https://app.example.org/back";
const VERIFIER: &str = "a-verifier-that-is-long-enough-for-the-standard";

/// A server, asked without sockets.
struct Scene {
    router: Router,
    app: App,
}

/// What is answered.
struct Answer {
    status: u16,
    headers: HeaderMap,
    text: String,
}

impl Answer {
    fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|_| panic!("{}", self.text))
    }

    fn location(&self) -> &str {
        self.headers
            .get(header::LOCATION)
            .unwrap_or_else(|| panic!("{} {}", self.status, self.text))
            .to_str()
            .unwrap()
    }

    /// The value of a hidden field.
    fn field(&self, name: &str) -> String {
        let start = format!("name=\"{name}\" value=\"");
        let rest = self.text.split(&start).nth(1).unwrap_or_else(|| panic!("no {name} in {}", self.text));
        rest.split('"').next().unwrap().to_owned()
    }
}

impl Scene {
    async fn new(mode: RegistrationMode) -> Self {
        let mut config = Config { public_base_url: Some(SITE.to_owned()), ..Config::default() };
        config.registration.mode = mode;
        config.registration.tokens = vec!["sesame".into()];
        Self::with(config).await
    }

    async fn with(config: Config) -> Self {
        let app = App::new(services_with(config, Arc::new(Isolated)).await);
        Self { router: endpoints().into_router(app.clone()), app }
    }

    async fn user(&self, name: &str) {
        let (username, password) = (Some(name.to_owned()), Some("secret".to_owned()));
        self.app.accounts.create_user(NewUser { username, password, admin: false }).await.unwrap();
    }

    async fn send(&self, request: http::Request<Body>) -> Answer {
        let response = self.router.clone().oneshot(request).await.unwrap();
        let (parts, body) = response.into_parts();
        let bytes = body.collect().await.unwrap().to_bytes();
        let text = String::from_utf8(bytes.to_vec()).unwrap();
        Answer { status: parts.status.as_u16(), headers: parts.headers, text }
    }

    /// What a program sends.
    async fn form(&self, page: &str, fields: &[(&str, &str)]) -> Answer {
        Browser::default().post(self, page, fields).await
    }

    async fn json(&self, request: &str, (token, body): (&str, Value)) -> Answer {
        let (method, path) = request.split_once(' ').unwrap();
        let mut builder = http::Request::builder().method(method).uri(path);
        if !token.is_empty() {
            builder = builder.header("authorization", format!("Bearer {token}"));
        }
        let body = if body.is_null() { Body::empty() } else { Body::from(body.to_string()) };
        self.send(builder.body(body).unwrap()).await
    }

    async fn client(&self, more: Value) -> String {
        let mut given = json!({
            "client_name": "App", "client_uri": "https://example.org/", "redirect_uris": [REDIRECT],
            "grant_types":
                ["authorization_code", "refresh_token", "urn:ietf:params:oauth:grant-type:device_code"],
        });
        given.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let answer = self.json("POST /_matrix/oauth2/clients", ("", given)).await;
        assert_eq!(answer.status, 201, "{}", answer.text);
        answer.json()["client_id"].as_str().unwrap().to_owned()
    }
}

/// A browser with one cookie.
#[derive(Default)]
struct Browser {
    cookie: Option<String>,
}

impl Browser {
    async fn get(&mut self, scene: &Scene, url: &str) -> Answer {
        self.send(scene, "GET", (url, Body::empty())).await
    }

    async fn post(&mut self, scene: &Scene, page: &str, fields: &[(&str, &str)]) -> Answer {
        let path = format!("/_matrix/oauth2/{page}");
        let path = if page.starts_with("http") { page } else { &path };
        self.send(scene, "POST", (path, Body::from(serde_html_form::to_string(fields).unwrap()))).await
    }

    async fn send(&mut self, scene: &Scene, method: &str, (url, body): (&str, Body)) -> Answer {
        let path = url.strip_prefix(SITE).unwrap_or(url);
        let mut builder = http::Request::builder().method(method).uri(path);
        builder = builder.header("content-type", "application/x-www-form-urlencoded");
        if let Some(cookie) = &self.cookie {
            builder = builder.header("cookie", format!("other=1; {cookie}"));
        }
        let answer = scene.send(builder.body(body).unwrap()).await;
        if let Some(cookie) = answer.headers.get(header::SET_COOKIE) {
            let cookie = cookie.to_str().unwrap();
            assert!(cookie.starts_with("__Host-lockstep="), "{cookie}");
            for part in ["HttpOnly", "SameSite=Lax", "Secure", "Path=/"] {
                assert!(cookie.contains(part), "{cookie}");
            }
            self.cookie = Some(cookie.split(';').next().unwrap().to_owned());
        }
        answer
    }

    /// Signs `name` in on the page at `login`; where that leads.
    async fn sign_in(&mut self, scene: &Scene, login: &str, name: &str) -> String {
        let page = self.get(scene, login).await;
        assert_eq!(page.status, 200, "{}", page.text);
        let next = page.field("next").replace("&amp;", "&");
        let fields =
            [("csrf", &*page.field("csrf")), ("next", &*next), ("username", name), ("password", "secret")];
        let answer = self.post(scene, "login", &fields).await;
        answer.location().to_owned()
    }

    /// A session of `name` on `device`, by way of the pages; the token answer.
    async fn session(&mut self, scene: &Scene, name: &str, device: &str) -> Value {
        let client = scene.client(json!({})).await;
        let asked = self.get(scene, &authorize(&client, device, "")).await;
        let consent = match asked.status {
            303 => self.sign_in(scene, asked.location(), name).await,
            _ => format!("{SITE}{}", authorize(&client, device, "")),
        };
        let page = self.get(scene, &consent).await;
        let allowed = [("csrf", &*page.field("csrf")), ("decision", "allow")];
        let back = self.post(scene, &consent, &allowed).await;
        let code = parameter(back.location(), "code");
        let granted = scene.form("token", &redemption(&client, &code)).await;
        assert_eq!(granted.status, 200, "{}", granted.text);
        granted.json()
    }
}

fn authorize(client: &str, device: &str, more: &str) -> String {
    let challenge = URL_SAFE_NO_PAD.encode(Sha256::digest(VERIFIER));
    let scope = format!("urn:matrix:client:api:* urn:matrix:client:device:{device}");
    let fields = [
        ("response_type", "code"),
        ("client_id", client),
        ("redirect_uri", REDIRECT),
        ("scope", &*scope),
        ("state", "xyz"),
        ("code_challenge", &*challenge),
        ("code_challenge_method", "S256"),
    ];
    format!("/_matrix/oauth2/authorize?{}{more}", serde_html_form::to_string(fields).unwrap())
}

fn redemption<'a>(client: &'a str, code: &'a str) -> [(&'a str, &'a str); 5] {
    [
        ("grant_type", "authorization_code"),
        ("client_id", client),
        ("code", code),
        ("redirect_uri", REDIRECT),
        ("code_verifier", VERIFIER),
    ]
}

/// A parameter of a URL's query or fragment.
fn parameter(url: &str, name: &str) -> String {
    let (_, pairs) = url.split_once(['?', '#']).unwrap();
    let pairs: Vec<(String, String)> = serde_html_form::from_str(pairs).unwrap();
    pairs.into_iter().find(|(key, _)| key == name).unwrap_or_else(|| panic!("no {name} in {url}")).1
}
