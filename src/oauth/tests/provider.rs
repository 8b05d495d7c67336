//! Signing in by a provider of identities, which lies in some of the cases.

use std::{collections::BTreeMap, sync::Arc};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use bytes::Bytes;
use http::{Request, Response};
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use parking_lot::Mutex;
use rcgen::{KeyPair, PKCS_ECDSA_P256_SHA256};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::{Duration, World};
use crate::{
    account::{AccountError, Settings},
    oauth::{OauthError, ProviderError, ProviderSettings, Returned},
    peer::{Bounds, Net, NetError, Purpose},
    store::BoxFuture,
};

const ISSUER: &str = "https://id.example.org/";
const COOKIE: &str = "the cookie of the browser";

/// A provider with one key. What it says can be changed.
struct Provider {
    key: KeyPair,
    other_key: KeyPair,
    said: Mutex<Said>,
}

struct Said {
    /// Claims that replace the proper ones; null removes one.
    claims: Value,
    header: Header,
    /// The nonce and the challenge that the browser brought.
    brought: BTreeMap<String, String>,
    by_other_key: bool,
    userinfo: Value,
    userinfo_endpoint: &'static str,
}

impl Provider {
    fn new() -> Arc<Self> {
        let key = || KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap();
        let mut header = Header::new(Algorithm::ES256);
        header.kid = Some("one".to_owned());
        let said = Said {
            claims: json!({}),
            header,
            brought: BTreeMap::new(),
            by_other_key: false,
            userinfo: json!({}),
            userinfo_endpoint: "https://id.example.org/userinfo",
        };
        Arc::new(Self { key: key(), other_key: key(), said: Mutex::new(said) })
    }

    /// The user agrees: the browser is sent back with this code.
    fn agree(&self, url: &str) -> (String, String) {
        let url = url::Url::parse(url).unwrap();
        assert!(url.as_str().starts_with("https://id.example.org/authorize?"), "{url}");
        let brought: BTreeMap<String, String> = url.query_pairs().into_owned().collect();
        assert_eq!(brought["redirect_uri"], "https://matrix.here/_matrix/oauth2/callback/id");
        assert_eq!((&*brought["scope"], &*brought["client_id"]), ("openid profile", "lockstep"));
        let state = brought["state"].clone();
        self.said.lock().brought = brought;
        (state, "the code".to_owned())
    }

    fn change(&self, change: impl FnOnce(&mut Said)) {
        change(&mut self.said.lock());
    }

    fn answer(&self, request: &Request<Bytes>) -> Value {
        let said = self.said.lock();
        match request.uri().path() {
            "/.well-known/openid-configuration" => json!({
                "issuer": ISSUER, "authorization_endpoint": "https://id.example.org/authorize",
                "token_endpoint": "https://id.example.org/token", "jwks_uri": "https://id.example.org/keys",
                "userinfo_endpoint": said.userinfo_endpoint,
            }),
            "/keys" => {
                let point = self.key.public_key_raw();
                let part = |part: &[u8]| URL_SAFE_NO_PAD.encode(part);
                // What it says of keys of other kinds is no reason not to believe it.
                json!({ "keys": [
                    { "kty": "EC", "crv": "secp256k1", "kid": "two", "alg": "ES256K", "x": "AA", "y": "AA" },
                    { "kty": "AKP", "kid": "three", "alg": "ML-DSA-44", "pub": "AA" },
                    { "kty": "EC", "crv": "P-256", "kid": "one", "alg": "ES256",
                    "x": part(&point[1..33]), "y": part(&point[33..65]) },
                ] })
            }
            "/userinfo" => {
                assert_eq!(request.headers()["authorization"], "Bearer its token");
                said.userinfo.clone()
            }
            "/token" => {
                assert_eq!(
                    request.headers()["authorization"],
                    "Basic bG9ja3N0ZXA6cyUyQmNyZXQ=",
                    "lockstep:s+cret"
                );
                let form: BTreeMap<String, String> =
                    url::form_urlencoded::parse(request.body()).into_owned().collect();
                let challenge = URL_SAFE_NO_PAD.encode(Sha256::digest(&form["code_verifier"]));
                assert_eq!((&*form["code"], &challenge), ("the code", &said.brought["code_challenge"]));
                json!({ "access_token": "its token", "token_type": "Bearer", "id_token": self.id_token(&said) })
            }
            other => panic!("{other}"),
        }
    }

    fn id_token(&self, said: &Said) -> String {
        let mut claims = json!({
            "iss": ISSUER, "aud": "lockstep", "sub": "4711", "exp": 1_300, "iat": 1_000,
            "nonce": said.brought["nonce"], "preferred_username": "Alice",
        });
        let fields = claims.as_object_mut().unwrap();
        fields.extend(said.claims.as_object().unwrap().clone());
        fields.retain(|_, value| !value.is_null());
        let key = if said.by_other_key { &self.other_key } else { &self.key };
        let key = match said.header.alg {
            Algorithm::HS256 => EncodingKey::from_secret(b"lockstep"),
            _ => EncodingKey::from_ec_der(&key.serialize_der()),
        };
        encode(&said.header, &claims, &key).unwrap()
    }
}

/// The way to the provider.
struct Wire(Arc<Provider>);

impl Net for Wire {
    fn visit<'a>(
        &'a self,
        purpose: Purpose,
        request: Request<Bytes>,
        _: Bounds,
    ) -> BoxFuture<'a, Result<Response<Bytes>, NetError>> {
        assert_eq!(purpose, Purpose::Provider);
        let answer = self.0.answer(&request).to_string();
        Box::pin(async move { Ok(Response::new(answer.into())) })
    }
}

async fn world(provider: &Arc<Provider>, registers: bool) -> World {
    let settings = ProviderSettings {
        id: "id".to_owned(),
        name: "Example".to_owned(),
        issuer: ISSUER.to_owned(),
        client_id: "lockstep".to_owned(),
        client_secret: Some("s+cret".to_owned()),
        scopes: vec!["openid".to_owned(), "profile".to_owned()],
        localpart: "{preferred_username}".to_owned(),
    };
    let other = ProviderSettings { id: "other".to_owned(), ..settings.clone() };
    let accounts = Settings { provider_registration: registers, ..Settings::default() };
    World::with(Arc::new(Wire(provider.clone())), vec![settings, other], accounts).await
}

impl World {
    async fn returns(&self, provider: &Provider) -> Result<Returned, ProviderError> {
        let url = self.oauth.leave("id", COOKIE, "/next").await.unwrap();
        let (state, code) = provider.agree(&url);
        self.oauth.come_back(("id", COOKIE), &state, Ok(&code)).await
    }

    async fn newcomer(&self, provider: &Provider) -> String {
        match self.returns(provider).await.unwrap() {
            Returned::Newcomer(ticket) => ticket,
            Returned::User(user, _) => panic!("{user:?}"),
        }
    }
}

#[tokio::test]
async fn a_newcomer_gets_an_account_and_finds_it_again() {
    let provider = Provider::new();
    let world = world(&provider, true).await;
    let ticket = world.newcomer(&provider).await;
    let newcomer = world.oauth.newcomer(&ticket, COOKIE).await.unwrap();
    assert_eq!((&*newcomer.localpart, &*newcomer.provider, &*newcomer.next), ("alice", "Example", "/next"));
    assert!(matches!(world.oauth.newcomer(&ticket, "another cookie").await, Err(ProviderError::Stale)));
    world.user("alice").await;
    let taken = world.oauth.welcome((&ticket, COOKIE), "alice").await;
    let in_use = |error: &ProviderError| {
        matches!(error, ProviderError::Failed(OauthError::Account(AccountError::UserInUse)))
    };
    assert!(taken.is_err_and(|error| in_use(&error)), "a name alone connects nobody");
    let alice = world.oauth.welcome((&ticket, COOKIE), "alice2").await.unwrap();
    assert!(matches!(world.oauth.welcome((&ticket, COOKIE), "alice3").await, Err(ProviderError::Stale)));
    match world.returns(&provider).await.unwrap() {
        Returned::User(shown, next) => assert_eq!((shown.user_id(), &*next), (&*alice, "/next")),
        Returned::Newcomer(_) => panic!("not found again"),
    }
    assert_eq!(world.accounts.identities(&alice).await.unwrap().len(), 1);
}

#[tokio::test]
async fn whoever_has_an_account_connects_it() {
    let provider = Provider::new();
    let world = world(&provider, false).await;
    let alice = world.user("alice").await;
    let ticket = world.newcomer(&provider).await;
    let refused = world.oauth.welcome((&ticket, COOKIE), "new").await;
    assert!(matches!(
        refused,
        Err(ProviderError::Failed(OauthError::Account(AccountError::RegistrationRefused(_))))
    ));
    let verified = world.accounts.without_password(&alice).await.unwrap().unwrap();
    world.oauth.connect((&ticket, COOKIE), &verified).await.unwrap();
    assert!(
        matches!(world.returns(&provider).await, Ok(Returned::User(shown, _)) if shown.user_id() == alice)
    );
}

/// Whose identity it was is out, and nobody is shut out of their own account.
#[tokio::test]
async fn an_identity_is_disconnected_unless_it_is_the_last_way_in() {
    let provider = Provider::new();
    let world = world(&provider, true).await;
    let ticket = world.newcomer(&provider).await;
    let alice = world.oauth.welcome((&ticket, COOKIE), "alice").await.unwrap();
    let Ok(Returned::User(shown, _)) = world.returns(&provider).await else { panic!("not found again") };
    let cookie = world.oauth.sign_in_by(&shown).await.unwrap();
    let [identity] = <[_; 1]>::try_from(world.accounts.identities(&alice).await.unwrap()).unwrap();
    let unlink = async || world.accounts.unlink(&alice, &identity, |_| true).await;
    assert!(matches!(unlink().await, Err(AccountError::Invalid(_))), "it is the only way in");
    world.accounts.set_password(&alice, "secret").await.unwrap();
    let Ok(Returned::User(shown, _)) = world.returns(&provider).await else { panic!("not found again") };
    world.clock.advance(Duration::from_secs(1));
    unlink().await.unwrap();
    assert!(matches!(unlink().await, Err(AccountError::NotFound(_))));
    assert!(world.oauth.browser(&cookie).await.unwrap().is_none());
    let late = world.oauth.sign_in_by(&shown).await;
    assert!(matches!(late, Err(AccountError::WrongPassword)), "who came back at that moment is not let in");
    assert!(matches!(world.returns(&provider).await, Ok(Returned::Newcomer(_))));
}

#[tokio::test]
async fn the_userinfo_endpoint_is_asked_for_what_the_token_does_not_say() {
    let provider = Provider::new();
    let world = world(&provider, true).await;
    provider.change(|said| said.claims = json!({ "preferred_username": null }));
    for (subject, expected) in [("4711", "bob"), ("4712", "")] {
        provider.change(|said| said.userinfo = json!({ "sub": subject, "preferred_username": "bob" }));
        let ticket = world.newcomer(&provider).await;
        assert_eq!(world.oauth.newcomer(&ticket, COOKIE).await.unwrap().localpart, expected);
    }
}

/// The access token goes there.
#[tokio::test]
async fn the_userinfo_endpoint_has_to_be_safe() {
    let provider = Provider::new();
    let world = world(&provider, true).await;
    provider.change(|said| said.userinfo_endpoint = "http://id.example.org/userinfo");
    assert!(matches!(world.oauth.leave("id", COOKIE, "/next").await, Err(ProviderError::Wrong(_))));
}

/// Row 7.3 (tuwunel 1.5.1, audit of single sign-on): state, browser, provider and ID token are held against what was
/// sent away, one after the other.
#[tokio::test]
async fn tuwunel_1_5_1_answers_of_providers_that_do_not_hold() {
    let provider = Provider::new();
    let world = world(&provider, true).await;
    let url = world.oauth.leave("id", COOKIE, "/next").await.unwrap();
    let (state, code) = provider.agree(&url);
    for (id, cookie, state) in [
        ("other", COOKIE, &*state),
        ("id", "another cookie", &*state),
        ("id", COOKIE, "lks_9999999999999_x"),
        ("id", COOKIE, ""),
    ] {
        let met = world.oauth.come_back((id, cookie), state, Ok(&code)).await;
        assert!(matches!(met, Err(ProviderError::Stale)), "{id} {cookie} {state}");
    }
    assert!(world.oauth.come_back(("id", COOKIE), &state, Ok(&code)).await.is_ok());
    let again = world.oauth.come_back(("id", COOKIE), &state, Ok(&code)).await;
    assert!(matches!(again, Err(ProviderError::Stale)), "a state is good once");
    let url = world.oauth.leave("id", COOKIE, "/next").await.unwrap();
    let (state, _) = provider.agree(&url);
    let denied = world.oauth.come_back(("id", COOKIE), &state, Err("access_denied")).await;
    assert!(matches!(denied, Err(ProviderError::Denied(text)) if text == "access_denied"));
    let url = world.oauth.leave("id", COOKIE, "/next").await.unwrap();
    let (state, code) = provider.agree(&url);
    world.clock.advance(Duration::from_secs(900));
    let late = world.oauth.come_back(("id", COOKIE), &state, Ok(&code)).await;
    assert!(matches!(late, Err(ProviderError::Stale)));
    assert!(matches!(world.oauth.leave("nobody", COOKIE, "").await, Err(ProviderError::Unknown)));
    let long = "x".repeat(crate::limits::OAUTH_NEXT_BYTES_MAX + 1);
    assert!(world.oauth.leave("id", COOKIE, &long[1..]).await.is_ok());
    assert!(matches!(world.oauth.leave("id", COOKIE, &long).await, Err(ProviderError::Failed(_))));
}

#[tokio::test]
async fn id_tokens_that_do_not_hold_are_refused() {
    let provider = Provider::new();
    let world = world(&provider, true).await;
    for claims in [
        json!({ "iss": "https://evil.example.org/" }),
        json!({ "aud": "somebody else" }),
        json!({ "aud": ["somebody else"] }),
        json!({ "aud": ["lockstep", "other"], "azp": "other" }),
        json!({ "nonce": "another" }),
        json!({ "nonce": null }),
        json!({ "sub": null }),
        json!({ "sub": "" }),
        json!({ "exp": 900 }),
        json!({ "exp": null }),
    ] {
        provider.change(|said| said.claims = claims.clone());
        let met = world.returns(&provider).await;
        assert!(matches!(met, Err(ProviderError::Wrong(_))), "{claims}");
    }
    provider.change(|said| said.claims = json!({}));
    provider.change(|said| said.by_other_key = true);
    assert!(matches!(world.returns(&provider).await, Err(ProviderError::Wrong(_))), "another key");
    provider.change(|said| said.header.kid = Some("two".to_owned()));
    assert!(
        matches!(world.returns(&provider).await, Err(ProviderError::Wrong(_))),
        "a key that is not named"
    );
    provider.change(|said| said.header = Header::new(Algorithm::HS256));
    assert!(
        matches!(world.returns(&provider).await, Err(ProviderError::Wrong(_))),
        "a secret both sides know"
    );
    let mut header = Header::new(Algorithm::ES256);
    header.kid = Some("one".to_owned());
    provider.change(|said| {
        said.header = header;
        said.by_other_key = false;
    });
    assert!(world.returns(&provider).await.is_ok());
}
