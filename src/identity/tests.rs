//! An identity server as the specification has it, in memory, and what is asked of it.

use std::{collections::BTreeMap, sync::Arc};

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, header};
use parking_lot::Mutex;
use ruma::{OwnedServerName, owned_server_name, user_id};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tokio_util::task::TaskTracker;

use super::{Address, Desk, Identity, IdentityError, Unbound};
use crate::{
    keys::{SigningKey, canonical_text, parse_object, verify_text},
    limits::BOUND_ADDRESSES_MAX,
    log::Log,
    peer::{Bounds, Net, NetError, Purpose, XMatrix},
    store::{BoxFuture, Db, memory::Memory},
};

const NAME: &str = "id.test";
const TOKEN: &str = "a-token-there";

/// The identity server `id.test`. Whoever proves nothing binds the address that their session is named after.
pub(crate) struct Directory {
    /// Signs for addresses that are bound.
    pub(crate) key: SigningKey,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Users by address.
    bound: BTreeMap<String, String>,
    /// What was asked, and with which body.
    asked: Vec<(String, Value)>,
    /// What is answered instead, where the path has this in it.
    instead: Option<(&'static str, u16, Value)>,
}

impl Directory {
    pub(crate) fn new() -> Arc<Self> {
        let key = SigningKey::from_seed(owned_server_name!("id.test"), "0", [7; 32]).unwrap();
        Arc::new(Self { key, state: Mutex::default() })
    }

    pub(crate) fn name() -> OwnedServerName {
        owned_server_name!("id.test")
    }

    /// Says that an address is a user's.
    pub(crate) fn knows(&self, address: &str, user: &str) {
        self.state.lock().bound.insert(address.to_owned(), user.to_owned());
    }

    /// Whose an address is.
    pub(crate) fn user_of(&self, address: &str) -> Option<String> {
        self.state.lock().bound.get(address).cloned()
    }

    /// Answers so from now on, where the path has this in it.
    pub(crate) fn says(&self, instead: Option<(&'static str, u16, Value)>) {
        self.state.lock().instead = instead;
    }

    /// What was asked since the last time, without what is the same of all.
    pub(crate) fn asked(&self) -> Vec<(String, Value)> {
        std::mem::take(&mut self.state.lock().asked)
    }

    fn answer(&self, request: &Request<Bytes>) -> (u16, Value) {
        let mut state = self.state.lock();
        let path = request.uri().path().strip_prefix("/_matrix/identity/v2").unwrap().to_owned();
        let body: Value = serde_json::from_slice(request.body()).unwrap_or_default();
        state.asked.push((path.clone(), body.clone()));
        if let Some((_, status, answer)) = state.instead.clone().filter(|(part, ..)| path.contains(part)) {
            return (status, answer);
        }
        let proof = request.headers().get(header::AUTHORIZATION).map(|value| value.to_str().unwrap());
        if path.starts_with("/pubkey") {
            assert!(proof.is_none());
            let public = self.key.public_key().encode();
            let asked = url::form_urlencoded::parse(request.uri().query().unwrap().as_bytes());
            let is_own = asked.into_iter().any(|(name, value)| name == "public_key" && value == public);
            return (200, json!({ "valid": is_own }));
        }
        if path == "/3pid/unbind" {
            assert!(is_signed(request, proof.unwrap()), "{proof:?}");
            let address = body["threepid"]["address"].as_str().unwrap();
            let is_theirs = state.bound.get(address).is_some_and(|user| body["mxid"] == user.as_str());
            assert!(is_theirs, "{body}");
            state.bound.remove(address);
            return (200, json!({}));
        }
        if proof != Some("Bearer a-token-there") {
            return (401, json!({ "errcode": "M_UNKNOWN_TOKEN", "error": "Who are you?" }));
        }
        state.answer_user(&path, &body, &self.key.public_key().encode())
    }
}

impl State {
    fn answer_user(&mut self, path: &str, body: &Value, public: &str) -> (u16, Value) {
        match path {
            "/hash_details" => {
                let pepper = "pepper";
                (200, json!({ "algorithms": ["none", "sha256"], "lookup_pepper": pepper }))
            }
            "/lookup" => {
                let pepper = "pepper";
                if body["pepper"] != pepper {
                    return (400, json!({ "errcode": "M_INVALID_PEPPER", "error": "It has changed" }));
                }
                let hash = |address: &str| {
                    use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
                    URL_SAFE_NO_PAD.encode(Sha256::digest(format!("{address} email {pepper}")))
                };
                let asked = body["addresses"].as_array().unwrap();
                let known = self.bound.iter().map(|(address, user)| (hash(address), json!(user)));
                let found = known.filter(|(hash, _)| asked.contains(&json!(hash)));
                (200, json!({ "mappings": Value::Object(found.collect()) }))
            }
            "/store-invite" => {
                let url = "https://id.test/_matrix/identity/v2/pubkey/isvalid";
                let keys = [json!({ "public_key": public, "key_validity_url": url })];
                (200, json!({ "token": "a-token", "display_name": "c...@e...", "public_keys": keys }))
            }
            "/3pid/bind" => {
                let (address, user) = (body["sid"].as_str().unwrap(), body["mxid"].as_str().unwrap());
                let address = format!("{address}@example.org");
                self.bound.insert(address.clone(), user.to_owned());
                (200, json!({ "medium": "email", "address": address, "mxid": user }))
            }
            other => panic!("nobody asks for {other}"),
        }
    }
}

/// Whether a request is signed as identity servers want it.
fn is_signed(request: &Request<Bytes>, proof: &str) -> bool {
    let proof = XMatrix::parse(proof).unwrap();
    let text = json!({
        "content": serde_json::from_slice::<Value>(request.body()).unwrap(),
        "destination_is": NAME, "method": "POST", "origin": proof.origin,
        "uri": request.uri().path(),
    });
    let text = canonical_text(&parse_object(&text.to_string()).unwrap());
    let key = SigningKey::from_seed(proof.origin.clone(), "1", [1; 32]).unwrap().public_key();
    verify_text(&key, &proof.signature, text.as_bytes()).is_ok()
}

impl Net for Directory {
    fn visit<'a>(
        &'a self,
        purpose: Purpose,
        request: Request<Bytes>,
        _: Bounds,
    ) -> BoxFuture<'a, Result<Response<Bytes>, NetError>> {
        Box::pin(async move {
            assert_eq!(purpose, Purpose::Identity);
            assert!(matches!(*request.method(), Method::GET | Method::POST));
            assert_eq!(request.uri().host(), Some(NAME), "others are not asked");
            let (status, answer) = self.answer(&request);
            if status == 0 {
                return Err(NetError::Timeout);
            }
            let mut response = Response::new(Bytes::from(answer.to_string()));
            *response.status_mut() = StatusCode::from_u16(status).unwrap();
            Ok(response)
        })
    }
}

async fn identity(directory: &Arc<Directory>, servers: &[OwnedServerName]) -> Identity {
    let log = Log::open(Db::new(Arc::new(Memory::new())), &TaskTracker::new()).await.unwrap();
    let key = SigningKey::from_seed(owned_server_name!("localhost"), "1", [1; 32]).unwrap();
    Identity::new(directory.clone(), log, Arc::new(key), servers.to_vec())
}

fn mail(name: &str) -> Address {
    Address::new("email".into(), &format!("{name}@example.org")).unwrap()
}

const DESK: Desk<'_> = Desk { server: "ID.test", token: TOKEN };

#[tokio::test]
async fn only_the_named_are_asked() {
    let directory = Directory::new();
    let nobody = identity(&directory, &[]).await;
    assert!(!nobody.is_on());
    let desk = Desk { server: "other.test", ..DESK };
    for (asked, desk) in [(nobody, DESK), (identity(&directory, &[Directory::name()]).await, desk)] {
        let found = asked.user_of(desk, &mail("bob")).await;
        assert!(matches!(found, Err(IdentityError::NotTrusted)), "{found:?}");
        let bound = asked.bind(user_id!("@bob:localhost"), desk, ("bob", "s")).await;
        assert!(matches!(bound, Err(IdentityError::NotTrusted)), "{bound:?}");
    }
    assert!(directory.asked().is_empty());
}

/// Looks bob up while the directory says something else; what comes of it.
async fn check_lookup(instead: Option<(&'static str, u16, Value)>, expected: &str) {
    let directory = Directory::new();
    directory.knows("bob@example.org", "@bob:localhost");
    directory.says(instead);
    let found = identity(&directory, &[Directory::name()]).await.user_of(DESK, &mail("bob")).await;
    let found = match found {
        Ok(user) => user.map_or("nobody".into(), |user| user.to_string()),
        Err(error) => error.to_string(),
    };
    assert!(found.contains(expected), "{found}");
}

#[tokio::test]
async fn answers_are_checked() {
    let details =
        |algorithms: &[&str]| json!({ "algorithms": algorithms, "lookup_pepper": "p".repeat(2_000) });
    let found = |user: &str| json!({ "mappings": { "bob@example.org email": user } });
    check_lookup(None, "@bob:localhost").await;
    check_lookup(Some(("/hash_details", 200, details(&["sha256"]))), "pepper is too long").await;
    check_lookup(Some(("/hash_details", 200, details(&["md5"]))), "no way to ask").await;
    check_lookup(Some(("/hash_details", 200, json!([]))), "a field is missing").await;
    check_lookup(Some(("/hash_details", 302, json!({}))), "it answered 302").await;
    check_lookup(Some(("/hash_details", 0, json!({}))), "did not answer in time").await;
    check_lookup(Some(("/lookup", 200, json!({ "mappings": {} }))), "nobody").await;
    check_lookup(Some(("/lookup", 200, found("@eve:localhost"))), "nobody").await;
    check_lookup(Some(("/lookup", 500, json!({}))), "it answered 500").await;
    let refusal = json!({ "errcode": "M_TERMS_NOT_SIGNED", "error": "w".repeat(1_000) });
    check_lookup(Some(("/lookup", 403, refusal)), &format!("says: {}", "w".repeat(200))).await;
}

#[tokio::test]
async fn a_new_pepper_is_asked_for() {
    let directory = Directory::new();
    directory.knows("bob@example.org", "@bob:localhost");
    let asked = identity(&directory, &[Directory::name()]).await;
    let old = json!({ "algorithms": ["sha256"], "lookup_pepper": "old" });
    directory.says(Some(("/hash_details", 200, old)));
    let refused = asked.user_of(DESK, &mail("bob")).await;
    assert!(matches!(refused, Err(IdentityError::Refused { .. })), "{refused:?}");
    let paths: Vec<String> = directory.asked().into_iter().map(|(path, _)| path).collect();
    assert_eq!(paths, ["/hash_details", "/lookup", "/hash_details", "/lookup"]);
}

#[tokio::test]
async fn what_is_bound_is_unbound_where_it_was() {
    let (directory, bob) = (Directory::new(), user_id!("@bob:localhost"));
    let asked = identity(&directory, &[Directory::name()]).await;
    assert_eq!(asked.unbind(bob, &mail("bob"), None).await.unwrap(), Unbound::Unsupported);
    for name in ["bob", "robert", "rob"] {
        asked.bind(bob, DESK, (name, "secret")).await.unwrap();
    }
    assert_eq!(asked.unbind(bob, &mail("bob"), None).await.unwrap(), Unbound::Done);
    assert_eq!(directory.user_of("bob@example.org"), None);
    assert_eq!(asked.unbind(bob, &mail("bob"), None).await.unwrap(), Unbound::Unsupported);
    directory.says(Some(("/3pid/unbind", 501, json!(null))));
    assert_eq!(asked.unbind(bob, &mail("rob"), None).await.unwrap(), Unbound::Unsupported);
    directory.says(Some(("/3pid/unbind", 0, json!(null))));
    let lost = asked.unbind(bob, &mail("rob"), None).await;
    assert!(matches!(lost, Err(IdentityError::Unreachable(_))), "{lost:?}");
    directory.says(None);
    let lost = asked.unbind(bob, &mail("rob"), Some("other.test")).await;
    assert!(matches!(lost, Err(IdentityError::NotTrusted)), "{lost:?}");
    assert_eq!(asked.leave(bob, Vec::new()).await.unwrap(), Unbound::Done);
    assert_eq!((directory.user_of("rob@example.org"), directory.user_of("robert@example.org")), (None, None));
    assert_eq!(asked.leave(bob, Vec::new()).await.unwrap(), Unbound::Done);
}

#[tokio::test]
async fn who_leaves_does_not_wait_for_the_silent() {
    let (directory, bob) = (Directory::new(), user_id!("@bob:localhost"));
    let asked = identity(&directory, &[Directory::name()]).await;
    for number in 0..BOUND_ADDRESSES_MAX {
        asked.bind(bob, DESK, (&format!("bob{number:03}"), "secret")).await.unwrap();
    }
    let more = asked.bind(bob, DESK, ("more", "secret")).await;
    assert!(matches!(more, Err(IdentityError::Invalid(_))), "{more:?}");
    directory.asked();
    directory.says(Some(("/3pid/unbind", 0, json!(null))));
    assert_eq!(asked.leave(bob, Vec::new()).await.unwrap(), Unbound::Unsupported);
    assert_eq!(directory.asked().len(), 1);
    directory.says(None);
    assert_eq!(asked.leave(bob, Vec::new()).await.unwrap(), Unbound::Done);
    assert!(directory.asked().is_empty(), "nothing is known of them any more");
}

#[tokio::test]
async fn keys_are_asked_about_where_they_can_be() {
    let directory = Directory::new();
    let asked = identity(&directory, &[Directory::name()]).await;
    let mut signed = parse_object(r#"{"mxid":"@bob:localhost","token":"t"}"#).unwrap();
    directory.key.sign_json(&mut signed).unwrap();
    let signed: Value = serde_json::from_str(&canonical_text(&signed)).unwrap();
    let (own, other) = (directory.key.public_key().encode(), "A".repeat(43));
    let ours = "https://id.test/_matrix/identity/v2/pubkey/isvalid";
    let key = |public: &str, url: Option<&str>| json!({ "public_key": public, "key_validity_url": url });
    let revoked = || Some(("/pubkey", 200, json!({ "valid": false })));
    for (keys, instead, expected, questions) in [
        (vec![key(&own, Some(ours))], None, true, 1),
        (vec![key(&own, Some(ours))], revoked(), false, 1),
        (vec![key(&own, None)], revoked(), true, 0),
        (vec![key(&own, Some("https://other.test/valid"))], revoked(), true, 0),
        (vec![key(&own, Some("http://id.test/valid"))], revoked(), true, 0),
        // It is not the one that signed.
        (vec![key(&other, Some(ours))], revoked(), true, 0),
        (vec![key(&other, Some(ours)), key(&own, Some(ours))], revoked(), false, 1),
        (vec![], revoked(), true, 0),
    ] {
        directory.says(instead);
        let invite = json!({ "display_name": "b", "public_keys": keys });
        let found = asked.vouches(invite.as_object().unwrap(), &signed).await.unwrap();
        assert_eq!((found, directory.asked().len()), (expected, questions), "{invite}");
    }
    directory.says(None);
    let older = key(&own, Some(ours));
    assert!(asked.vouches(older.as_object().unwrap(), &signed).await.unwrap());
    assert_eq!(directory.asked().len(), 1);
}
