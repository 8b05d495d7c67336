//! The OAuth 2.0 API by table, on the memory engine, with a clock that moves when told.

mod binding;
mod provider;
mod registering;

use std::{sync::Arc, time::Duration};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use ruma::{OwnedUserId, UserId, owned_server_name};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tokio_util::task::TaskTracker;

use super::{
    Authorization, AuthorizationParams, Foundation, Granted, Misled, Oauth, OauthError, ProviderSettings,
    Site, TokenParams,
};
use crate::{
    account::{Accounts, NewUser, Settings},
    device::Devices,
    log::Log,
    peer::{Isolated, Net},
    store::{Db, Scan, Store, memory::Memory},
    types::{ManualClock, Ports, SeededRng},
};

const REDIRECT: &str = "https://app.example.org/back";
const VERIFIER: &str = "a-verifier-that-is-long-enough-for-the-standard";

struct World {
    oauth: Oauth,
    accounts: Accounts,
    devices: Devices,
    clock: Arc<ManualClock>,
    store: Arc<dyn Store>,
}

impl World {
    async fn new() -> Self {
        Self::with(Arc::new(Isolated), Vec::new(), Settings::default()).await
    }

    async fn with(net: Arc<dyn Net>, providers: Vec<ProviderSettings>, settings: Settings) -> Self {
        let (store, clock) = (Arc::new(Memory::new()), Arc::new(ManualClock::at(1_000_000)));
        let log = Log::open(Db::new(store.clone()), &TaskTracker::new()).await.unwrap();
        let ports = Ports { clock: clock.clone(), rng: Arc::new(SeededRng::new(7)) };
        let name = owned_server_name!("here");
        let accounts = Accounts::new(log.clone(), ports.clone(), name.clone(), settings);
        let devices = Devices::new(log.clone(), ports.clone(), name);
        let site = Site::new("https://matrix.here");
        let oauth = Oauth::new(Foundation {
            log,
            ports,
            net,
            accounts: accounts.clone(),
            devices: devices.clone(),
            site,
            providers,
        });
        Self { oauth, accounts, devices, clock, store }
    }

    async fn user(&self, name: &str) -> OwnedUserId {
        let new = NewUser { username: Some(name.to_owned()), ..NewUser::default() };
        self.accounts.create_user(new).await.unwrap()
    }

    async fn client(&self, more: Value) -> String {
        let mut given = json!({
            "client_name": "App", "client_uri": "https://example.org/", "redirect_uris": [REDIRECT],
            "grant_types":
                ["authorization_code", "refresh_token", "urn:ietf:params:oauth:grant-type:device_code"],
        });
        given.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        self.oauth.register_client(serde_json::from_value(given).unwrap()).await.unwrap().0
    }

    async fn ask(&self, client: &str, device: &str) -> Authorization {
        match self.oauth.authorization(request(client, device)).await {
            Ok(asked) => asked,
            Err(misled) => panic!("{misled:?}"),
        }
    }

    /// A session by the authorisation code grant.
    async fn log_in(&self, client: &str, user: &UserId, device: &str) -> Granted {
        let code = self.oauth.grant(&self.ask(client, device).await, user).await.unwrap();
        self.oauth.token(&redemption(client, &code)).await.unwrap()
    }

    async fn renew(&self, client: &str, refresh_token: &str) -> Result<Granted, OauthError> {
        self.oauth.token(&renewal(client, refresh_token)).await
    }

    async fn works(&self, granted: &Granted) -> bool {
        self.accounts.recognize(&granted.session.access_token).await.is_ok()
    }

    async fn device_ids(&self, user: &UserId) -> Vec<String> {
        self.devices.list(user).await.unwrap().into_iter().map(|(id, _)| id.to_string()).collect()
    }
}

fn request(client: &str, device: &str) -> AuthorizationParams {
    AuthorizationParams {
        response_type: Some("code".to_owned()),
        client_id: Some(client.to_owned()),
        redirect_uri: Some(REDIRECT.to_owned()),
        scope: Some(format!("urn:matrix:client:api:* urn:matrix:client:device:{device}")),
        state: Some("s t".to_owned()),
        code_challenge: Some(URL_SAFE_NO_PAD.encode(Sha256::digest(VERIFIER))),
        code_challenge_method: Some("S256".to_owned()),
        ..AuthorizationParams::default()
    }
}

fn redemption(client: &str, code: &str) -> TokenParams {
    TokenParams {
        grant_type: Some("authorization_code".to_owned()),
        client_id: Some(client.to_owned()),
        code: Some(code.to_owned()),
        redirect_uri: Some(REDIRECT.to_owned()),
        code_verifier: Some(VERIFIER.to_owned()),
        ..TokenParams::default()
    }
}

fn renewal(client: &str, refresh_token: &str) -> TokenParams {
    TokenParams {
        grant_type: Some("refresh_token".to_owned()),
        client_id: Some(client.to_owned()),
        refresh_token: Some(refresh_token.to_owned()),
        ..TokenParams::default()
    }
}

fn word<T>(result: &Result<T, OauthError>) -> String {
    match result {
        Ok(_) => "ok".to_owned(),
        Err(OauthError::Refused(code, _)) => code.as_str().to_owned(),
        Err(error) => error.to_string(),
    }
}

fn refresh_token(granted: &Granted) -> &str {
    granted.session.refresh_token.as_deref().unwrap()
}

#[tokio::test]
async fn a_request_that_makes_no_sense_goes_back_only_to_where_it_may() {
    let world = World::new().await;
    let client = world.client(json!({})).await;
    let good = request(&client, "PHONE");
    for (change, expected) in [
        (json!({}), "ok"),
        (json!({ "client_id": "other" }), "shown"),
        (json!({ "client_id": null }), "shown"),
        (json!({ "redirect_uri": "https://evil.example.org/back" }), "shown"),
        (json!({ "redirect_uri": "https://app.example.org/back?more" }), "shown"),
        (json!({ "redirect_uri": null }), "shown"),
        (json!({ "response_type": "token" }), "?error=unsupported_response_type"),
        (json!({ "response_mode": "form_post" }), "?error=invalid_request"),
        (json!({ "code_challenge_method": "plain" }), "?error=invalid_request"),
        (json!({ "code_challenge": null, "response_mode": "fragment" }), "#error=invalid_request"),
        (json!({ "code_challenge": "short" }), "?error=invalid_request"),
        (json!({ "scope": "openid" }), "?error=invalid_scope"),
        (json!({ "scope": "urn:matrix:client:api:*" }), "?error=invalid_scope"),
        (json!({ "scope": "urn:matrix:client:device:A" }), "?error=invalid_scope"),
        (json!({ "scope": "urn:matrix:client:api:* urn:matrix:client:device:" }), "?error=invalid_scope"),
        (
            json!({ "scope": "urn:matrix:client:api:* urn:matrix:client:device:A urn:matrix:client:device:B" }),
            "?error=invalid_scope",
        ),
    ] {
        let mut params = serde_json::to_value(&good).unwrap();
        params.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
        let met = match world.oauth.authorization(serde_json::from_value(params).unwrap()).await {
            Ok(_) => "ok".to_owned(),
            Err(Misled::Shown(_)) => "shown".to_owned(),
            Err(Misled::Back(url)) => {
                assert!(
                    url.contains("state=s+t") && url.ends_with("iss=https%3A%2F%2Fmatrix.here%2F"),
                    "{url}"
                );
                url.strip_prefix(REDIRECT).unwrap().split('&').next().unwrap().to_owned()
            }
            Err(Misled::Failed(error)) => panic!("{error}"),
        };
        assert_eq!(met, expected, "{change}");
    }
}

#[tokio::test]
async fn a_refresh_is_confirmed_by_use_and_an_old_token_that_comes_back_ends_the_session() {
    let world = World::new().await;
    let (client, alice) = (world.client(json!({})).await, world.user("alice").await);
    let first = world.log_in(&client, &alice, "PHONE").await;
    assert_eq!(first.scope, "urn:matrix:client:api:* urn:matrix:client:device:PHONE");
    assert!(first.session.expires_in.is_some());
    // The answer is lost: the client asks again, and perhaps has both answers in the end.
    let lost = world.renew(&client, refresh_token(&first)).await.unwrap();
    let second = world.renew(&client, refresh_token(&first)).await.unwrap();
    assert_eq!(word(&world.renew(&client, refresh_token(&lost)).await), "invalid_grant");
    assert!(world.works(&first).await, "nothing has been confirmed");
    assert!(world.works(&second).await);
    let third = world.renew(&client, refresh_token(&second)).await.unwrap();
    assert!(!world.works(&first).await);
    assert!(world.works(&third).await);
    // Whoever comes with the first token now is not alone in having it.
    assert_eq!(word(&world.renew(&client, refresh_token(&first)).await), "invalid_grant");
    assert!(!world.works(&third).await);
    assert_eq!(word(&world.renew(&client, refresh_token(&third)).await), "invalid_grant");
    assert!(world.device_ids(&alice).await.is_empty());
}

#[tokio::test]
async fn revocation_takes_the_device_with_it() {
    let world = World::new().await;
    let (client, alice) = (world.client(json!({})).await, world.user("alice").await);
    let phone = world.log_in(&client, &alice, "PHONE").await;
    let desk = world.log_in(&client, &alice, "DESK").await;
    world.oauth.revoke("lka_of_nobody").await.unwrap();
    // An access token whose time is over still says which session is meant.
    world.clock.advance(Duration::from_secs(7_200));
    world.oauth.revoke(&phone.session.access_token).await.unwrap();
    assert_eq!(world.device_ids(&alice).await, ["DESK"]);
    world.oauth.revoke(refresh_token(&desk)).await.unwrap();
    assert!(world.device_ids(&alice).await.is_empty());
    assert_eq!(word(&world.renew(&client, refresh_token(&phone)).await), "invalid_grant");
}

#[tokio::test]
async fn a_device_code_waits_for_its_user() {
    let world = World::new().await;
    let (client, alice) = (world.client(json!({})).await, world.user("alice").await);
    let scope =
        "urn:matrix:org.matrix.msc2967.client:api:* urn:matrix:org.matrix.msc2967.client:device:TV openid";
    let poll = |code: &str| TokenParams {
        grant_type: Some("urn:ietf:params:oauth:grant-type:device_code".to_owned()),
        client_id: Some(client.clone()),
        device_code: Some(code.to_owned()),
        ..TokenParams::default()
    };
    let asked = world.oauth.device_authorization(&client, scope).await.unwrap();
    assert_eq!(word(&world.oauth.token(&poll(&asked.device_code)).await), "authorization_pending");
    assert_eq!(word(&world.oauth.token(&poll(&asked.device_code)).await), "slow_down");
    let typed = asked.user_code.to_lowercase().replace('-', " ");
    let shown = world.oauth.device_code(&typed).await.unwrap().unwrap();
    assert_eq!((shown.device_id.as_str(), shown.client.shown_name().as_str()), ("TV", "App"));
    assert!(world.oauth.decide(&typed, &alice, true).await.unwrap());
    assert!(!world.oauth.decide(&typed, &alice, true).await.unwrap(), "decided once");
    let granted = world.oauth.token(&poll(&asked.device_code)).await.unwrap();
    assert_eq!((granted.session.user_id.clone(), world.works(&granted).await), (alice.clone(), true));
    assert!(!granted.scope.contains("openid"));
    assert_eq!(word(&world.oauth.token(&poll(&asked.device_code)).await), "invalid_grant", "good once");

    let refused = world.oauth.device_authorization(&client, scope).await.unwrap();
    assert!(world.oauth.decide(&refused.user_code, &alice, false).await.unwrap());
    assert_eq!(word(&world.oauth.token(&poll(&refused.device_code)).await), "access_denied");
    let late = world.oauth.device_authorization(&client, scope).await.unwrap();
    world.clock.advance(Duration::from_secs(900));
    assert!(world.oauth.device_code(&late.user_code).await.unwrap().is_none());
    assert_eq!(word(&world.oauth.token(&poll(&late.device_code)).await), "expired_token");
    assert_eq!(word(&world.oauth.token(&poll("made up")).await), "invalid_grant");
}

#[tokio::test]
async fn secrets_are_kept_as_hashes() {
    let world = World::new().await;
    let (client, alice) = (world.client(json!({})).await, world.user("alice").await);
    let code = world.oauth.grant(&world.ask(&client, "PHONE").await, &alice).await.unwrap();
    let granted = world.oauth.token(&redemption(&client, &code)).await.unwrap();
    let cookie = world.oauth.sign_in(&alice).await.unwrap();
    let asked =
        world.oauth.device_authorization(&client, &granted.scope.replace("PHONE", "TV")).await.unwrap();
    let secret = |text: &str| text.rsplit('_').next().unwrap().to_owned();
    let (from, to) = (crate::store::Key(vec![0]), crate::store::Key(vec![0xFF]));
    let scan = Scan { from, to, reverse: false, limit: 10_000 };
    let rows = world.store.scan_many(&[scan]).await.unwrap().pop().unwrap();
    assert!(rows.len() > 5);
    for text in [
        secret(&code),
        secret(&cookie),
        secret(&asked.device_code),
        asked.user_code.replace('-', ""),
        secret(&granted.session.access_token),
        secret(refresh_token(&granted)),
    ] {
        let holds = |bytes: &[u8]| bytes.windows(text.len()).any(|part| part == text.as_bytes());
        assert!(!rows.iter().any(|(key, value)| holds(&key.0) || holds(value)), "{text}");
    }
}
