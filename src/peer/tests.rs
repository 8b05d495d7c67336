//! Keys through a simulated network: who is asked, what is believed, what is remembered.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use http::{Request, Response};
use parking_lot::Mutex;
use ruma::{
    MilliSecondsSinceUnixEpoch, OwnedServerName, OwnedServerSigningKeyId, ServerName, UInt,
    api::federation::discovery::get_server_version, room_version_rules::RoomVersionRules, server_name,
};
use tokio_util::task::TaskTracker;

use super::{Asked, Bounds, Net, NetError, OldKey, PeerError, Peers, Query, Settings, Validity, Wanted};
use crate::{
    keys::{PublicKeyMap, SigningKey, canonical_text, parse_object},
    limits::{KEY_PAUSE_FIRST, KEY_PAUSE_MAX, KEY_VALIDITY_MAX_MS, NOTARY_FETCHES_MAX, NOTARY_SECONDS_MAX},
    log::Log,
    store::{BoxFuture, Db, memory::Memory},
    types::{Clock, ManualClock, Ports, SeededRng},
};

/// Answers by server and path; counts the questions.
#[derive(Default)]
struct Script {
    answers: Mutex<BTreeMap<String, (u16, String)>>,
    asked: Mutex<Vec<String>>,
}

impl Script {
    fn set(&self, place: &str, status: u16, body: impl Into<String>) {
        self.answers.lock().insert(String::from(place), (status, body.into()));
    }

    fn asked(&self) -> Vec<String> {
        std::mem::take(&mut self.asked.lock())
    }
}

impl Net for Script {
    fn exchange<'a>(
        &'a self,
        server: &'a ServerName,
        request: Request<Bytes>,
        _: Bounds,
    ) -> BoxFuture<'a, Result<Response<Bytes>, NetError>> {
        let place = format!("{server}{}", request.uri().path());
        self.asked.lock().push(place.clone());
        let answer = self.answers.lock().get(&place).cloned();
        Box::pin(async move {
            let (status, body) = answer.ok_or(NetError::Unreachable(String::from("nobody there")))?;
            Ok(Response::builder().status(status).body(Bytes::from(body)).unwrap())
        })
    }
}

struct World {
    net: Arc<Script>,
    clock: Arc<ManualClock>,
    peers: Peers,
}

async fn world(settings: Settings) -> World {
    let net = Arc::new(Script::default());
    let clock = Arc::new(ManualClock::at(1_700_000_000_000));
    let log = Log::open(Db::new(Arc::new(Memory::new())), &TaskTracker::new()).await.unwrap();
    let ports = Ports { clock: clock.clone(), rng: Arc::new(SeededRng::new(1)) };
    let peers = Peers::new(net.clone(), log, ports, Arc::new(key("us.org", "1")), settings);
    World { net, clock, peers }
}

/// The key of a server: its secret is made of its name and version.
fn key(server: &str, version: &str) -> SigningKey {
    let mut seed = [7; 32];
    for (index, byte) in server.bytes().chain(version.bytes()).enumerate() {
        seed[index % 32] ^= byte;
    }
    SigningKey::from_seed(OwnedServerName::try_from(server).unwrap(), version, seed).unwrap()
}

/// What `server` publishes: current and old (with `expired_ts`) versions, signed by `signers`.
fn document(
    server: &str,
    current: &[&str],
    old: &[(&str, u64)],
    until: u64,
    signers: &[&SigningKey],
) -> String {
    let public = |version: &str| key(server, version).public_key().encode();
    let current: Vec<String> =
        current.iter().map(|v| format!(r#""ed25519:{v}":{{"key":"{}"}}"#, public(v))).collect();
    let old: Vec<String> = old
        .iter()
        .map(|(v, ts)| format!(r#""ed25519:{v}":{{"key":"{}","expired_ts":{ts}}}"#, public(v)))
        .collect();
    let text = format!(
        r#"{{"server_name":"{server}","valid_until_ts":{until},"verify_keys":{{{}}},"old_verify_keys":{{{}}}}}"#,
        current.join(","),
        old.join(",")
    );
    let mut object = parse_object(&text).unwrap();
    signers.iter().for_each(|signer| signer.sign_json(&mut object).unwrap());
    canonical_text(&object)
}

fn wanted(server: &str, ids: &[&str]) -> Wanted {
    let id = |version: &&str| OwnedServerSigningKeyId::try_from(format!("ed25519:{version}")).unwrap();
    BTreeMap::from([(OwnedServerName::try_from(server).unwrap(), ids.iter().map(id).collect())])
}

fn at(ms: u64) -> Validity {
    Validity::At(MilliSecondsSinceUnixEpoch(UInt::try_from(ms).unwrap()))
}

fn ids(map: &PublicKeyMap, server: &str) -> Vec<String> {
    map.get(server).map(|set| set.keys().cloned().collect()).unwrap_or_default()
}

const OWN: &str = "/_matrix/key/v2/server";
const BATCH: &str = "/_matrix/key/v2/query";
const HOUR: u64 = 3_600_000;

#[tokio::test]
async fn keys_are_fetched_once_and_kept() {
    let World { net, clock, peers } = world(Settings::default()).await;
    let now = clock.now_ms();
    let doc = document("b.org", &["k"], &[("o", now - HOUR)], now + HOUR, &[&key("b.org", "k")]);
    net.set(&format!("b.org{OWN}"), 200, doc);
    let ask = |validity| {
        let peers = peers.clone();
        async move { ids(&peers.keys(wanted("b.org", &["k", "o"]), validity).await, "b.org") }
    };
    let (first, second) = tokio::join!(ask(at(now)), ask(at(now)));
    assert_eq!(first, ["ed25519:k"], "an old key proves nothing new");
    assert_eq!(second, first);
    assert_eq!(net.asked().len(), 1, "asked for together, fetched once");
    assert_eq!(ask(at(now - HOUR)).await, ["ed25519:k", "ed25519:o"]);
    assert_eq!(ask(at(now - HOUR + 1)).await, ["ed25519:k"]);
    assert_eq!(ask(Validity::Any).await, ["ed25519:k", "ed25519:o"]);
    // The key `o` is not good for the present, which makes it worth asking again, but not at once.
    assert_eq!(net.asked().len(), 0);

    clock.advance(Duration::from_millis(HOUR + 1));
    net.set(&format!("b.org{OWN}"), 500, "{}");
    assert!(
        ask(at(clock.now_ms())).await.is_empty(),
        "what its server vouches for no longer, proves nothing"
    );
    assert_eq!(net.asked().len(), 1);
    assert_eq!(ask(Validity::Any).await.len(), 2, "old rooms do not ask");
}

/// Room version 5: the lesser of what the server says and a week.
#[tokio::test]
async fn a_key_is_not_believed_for_longer_than_a_week() {
    let World { net, clock, peers } = world(Settings::default()).await;
    let now = clock.now_ms();
    let doc = document("b.org", &["k"], &[], now + 100 * KEY_VALIDITY_MAX_MS, &[&key("b.org", "k")]);
    net.set(&format!("b.org{OWN}"), 200, doc);
    let week = now + KEY_VALIDITY_MAX_MS;
    assert_eq!(ids(&peers.keys(wanted("b.org", &["k"]), at(week)).await, "b.org").len(), 1);
    assert_eq!(ids(&peers.keys(wanted("b.org", &["k"]), at(week + 1)).await, "b.org").len(), 0);
    assert_eq!(Validity::of(&RoomVersionRules::V4, MilliSecondsSinceUnixEpoch(UInt::MIN)), Validity::Any);
    assert_eq!(Validity::of(&RoomVersionRules::V5, MilliSecondsSinceUnixEpoch(UInt::MIN)), at(0));
}

/// Row 1.4 of the list of known vulnerabilities, and its neighbours: what is not signed as it must be.
#[tokio::test]
async fn what_a_server_has_not_signed_is_not_believed() {
    let until = 1_700_000_000_000 + HOUR;
    let good = document("b.org", &["k"], &[], until, &[&key("b.org", "k")]);
    let huge = good.replacen('{', &format!("{{\"a\":\"{}\",", "x".repeat(70_000)), 1);
    let cases = [
        document("b.org", &["k"], &[], until, &[]),
        document("b.org", &["k"], &[], until, &[&key("b.org", "other")]),
        document("b.org", &["k"], &[("o", 1)], until, &[&key("b.org", "o")]),
        document("c.org", &["k"], &[], until, &[&key("c.org", "k")]),
        good.replace(&until.to_string(), &(until + 1).to_string()),
        good.replace("valid_until_ts", "valid_until"),
        String::from("{}"),
        String::from("[]"),
        String::from("nonsense"),
        huge,
    ];
    for text in cases {
        let World { net, clock, peers } = world(Settings::default()).await;
        net.set(&format!("b.org{OWN}"), 200, text.clone());
        let found = peers.keys(wanted("b.org", &["k", "o"]), at(clock.now_ms())).await;
        assert!(ids(&found, "b.org").is_empty() && ids(&found, "c.org").is_empty(), "{text:.200}");
    }
    let World { net, clock, peers } = world(Settings::default()).await;
    net.set(&format!("b.org{OWN}"), 200, good);
    assert_eq!(peers.keys(wanted("b.org", &["k"]), at(clock.now_ms())).await.len(), 1);
}

/// Row 1.4: a key proves what its server says that it proves: events up to its end where the room version asks for
/// that, and requests only while it is in use.
#[tokio::test]
async fn row_1_4_cve_2024_6299_a_key_that_has_ended_proves_nothing_new() {
    let World { net, clock, peers } = world(Settings::default()).await;
    let (now, newest) = (clock.now_ms(), clock.now_ms() + HOUR);
    let doc = document("b.org", &["k"], &[("o", now - HOUR)], newest, &[&key("b.org", "k")]);
    net.set(&format!("b.org{OWN}"), 200, doc);
    for (rules, is_lax) in [
        (RoomVersionRules::V1, true),
        (RoomVersionRules::V4, true),
        (RoomVersionRules::V5, false),
        (RoomVersionRules::V11, false),
        (RoomVersionRules::V12, false),
    ] {
        for (id, ts, expected) in [
            ("o", now - HOUR, true),
            ("o", now - HOUR + 1, is_lax),
            ("o", now, is_lax),
            ("k", now, true),
            ("k", newest, true),
            ("k", newest + 1, is_lax),
        ] {
            let ts_ms = MilliSecondsSinceUnixEpoch(UInt::try_from(ts).unwrap());
            let found = peers.keys(wanted("b.org", &[id]), Validity::of(&rules, ts_ms)).await;
            let is_found = ids(&found, "b.org").contains(&format!("ed25519:{id}"));
            assert_eq!(
                is_found,
                expected,
                "{id} at {} ms, lax: {is_lax}",
                ts.cast_signed() - now.cast_signed()
            );
        }
    }
    assert!(calls(&peers, "k").await, "who calls with a key that is in use");
    assert!(!calls(&peers, "o").await, "who calls with a key that has ended");
    clock.advance(Duration::from_millis(HOUR + 1));
    net.set(&format!("b.org{OWN}"), 500, "{}");
    assert!(!calls(&peers, "k").await, "who calls with a key that nobody vouches for any more");
}

/// Whether the server b is believed to be calling when it signs with one of its keys.
async fn calls(peers: &Peers, version: &str) -> bool {
    let id = OwnedServerSigningKeyId::try_from(format!("ed25519:{version}")).unwrap();
    let found = peers.caller_key(ruma::server_name!("b.org"), &id).await.unwrap();
    ids(&found, "b.org").iter().any(|found| *found == *id.as_str())
}

/// Row 1.5: neither events nor requests, whoever tells of the key.
#[tokio::test]
async fn row_1_5_cve_2026_24044_a_key_that_others_know_proves_nothing() {
    let ignored_keys = vec![key("b.org", "k").public_key(), key("b.org", "o").public_key()];
    for (ignored_keys, expected) in [(Vec::new(), true), (ignored_keys, false)] {
        let World { net, clock, peers } = world(Settings { ignored_keys, ..Settings::default() }).await;
        let now = clock.now_ms();
        let doc = document("b.org", &["k"], &[("o", now)], now + HOUR, &[&key("b.org", "k")]);
        net.set(&format!("b.org{OWN}"), 200, doc);
        for (id, validity) in [("k", at(now)), ("k", Validity::Any), ("o", at(now)), ("o", Validity::Any)] {
            let found = peers.keys(wanted("b.org", &[id]), validity).await;
            assert_eq!(
                ids(&found, "b.org").contains(&format!("ed25519:{id}")),
                expected,
                "{id} {validity:?}"
            );
        }
        assert_eq!(calls(&peers, "k").await, expected);
    }
}

/// Row 1.5: a key whose secret is known to others.
#[tokio::test]
async fn ignored_keys_prove_nothing() {
    let ignored_keys = vec![key("b.org", "k").public_key()];
    let World { net, clock, peers } = world(Settings { ignored_keys, ..Settings::default() }).await;
    let until = clock.now_ms() + HOUR;
    net.set(&format!("b.org{OWN}"), 200, document("b.org", &["k"], &[], until, &[&key("b.org", "k")]));
    assert!(peers.keys(wanted("b.org", &["k"]), at(clock.now_ms())).await.is_empty());
}

#[tokio::test]
async fn a_dead_server_is_not_asked_again_and_again() {
    let World { net, clock, peers } = world(Settings::default()).await;
    for _ in 0..5 {
        peers.keys(wanted("b.org", &["k"]), at(clock.now_ms())).await;
    }
    assert_eq!(net.asked().len(), 1);
    assert!(peers.is_down(server_name!("b.org")));
    clock.advance(KEY_PAUSE_FIRST);
    peers.keys(wanted("b.org", &["k"]), at(clock.now_ms())).await;
    assert_eq!(net.asked().len(), 1);
    clock.advance(KEY_PAUSE_FIRST);
    peers.keys(wanted("b.org", &["k"]), at(clock.now_ms())).await;
    assert_eq!(net.asked().len(), 0, "the second pause is longer");
}

#[tokio::test]
async fn notaries_stand_in_for_those_who_are_gone() {
    let notaries = vec![server_name!("n.org").to_owned()];
    let World { net, clock, peers } = world(Settings { notaries, ..Settings::default() }).await;
    let until = clock.now_ms() + HOUR;
    let notary = key("n.org", "n");
    let gone = key("b.org", "k");
    net.set(&format!("n.org{OWN}"), 200, document("n.org", &["n"], &[], until, &[&notary]));
    let answer = |documents: &[String]| format!(r#"{{"server_keys":[{}]}}"#, documents.join(","));

    let lies = [
        document("b.org", &["k"], &[], until, &[&gone]),
        document("b.org", &["k"], &[], until, &[&notary]),
        document("c.org", &["k"], &[], until, &[&key("c.org", "k"), &notary]),
        String::from("{}"),
    ];
    net.set(&format!("n.org{BATCH}"), 200, answer(&lies));
    let now = clock.now_ms();
    let found = peers.keys(wanted("b.org", &["k"]), at(now)).await;
    assert!(found.is_empty(), "not signed by both, or not asked for: {found:?}");
    assert_eq!(
        net.asked(),
        ["b.org/_matrix/key/v2/server", "n.org/_matrix/key/v2/query", "n.org/_matrix/key/v2/server"]
    );

    clock.advance(KEY_PAUSE_FIRST);
    net.set(
        &format!("n.org{BATCH}"),
        200,
        answer(&[lies[1].clone(), document("b.org", &["k"], &[], until, &[&gone, &notary])]),
    );
    let found = peers.keys(wanted("b.org", &["k"]), at(now)).await;
    assert_eq!(ids(&found, "b.org"), ["ed25519:k"], "a good one beside a bad one counts");
}

#[tokio::test]
async fn many_servers_at_once_are_asked_for_at_the_notary() {
    let notaries = vec![server_name!("n.org").to_owned()];
    let World { net, clock, peers } = world(Settings { notaries, ..Settings::default() }).await;
    let until = clock.now_ms() + HOUR;
    let notary = key("n.org", "n");
    net.set(&format!("n.org{OWN}"), 200, document("n.org", &["n"], &[], until, &[&notary]));
    let names: Vec<String> = (0..50).map(|n| format!("s{n}.org")).collect();
    let documents: Vec<String> =
        names.iter().map(|name| document(name, &["k"], &[], until, &[&key(name, "k"), &notary])).collect();
    net.set(&format!("n.org{BATCH}"), 200, format!(r#"{{"server_keys":[{}]}}"#, documents.join(",")));
    let all: Wanted = names.iter().flat_map(|name| wanted(name, &["k"])).collect();
    assert_eq!(peers.keys(all, at(clock.now_ms())).await.len(), 50);
    assert_eq!(net.asked().len(), 2);
}

#[tokio::test]
async fn our_own_document_is_signed_and_names_old_keys() {
    let old = OldKey { id: String::from("ed25519:0"), key: key("us.org", "0").public_key(), expired_ts: 5 };
    let World { net, clock, peers } = world(Settings { old_keys: vec![old], ..Settings::default() }).await;
    let text = peers.own_document().unwrap().json().get().to_owned();
    let judged = super::key_document::Document::parse(&text).unwrap();
    let keys = judged.keys(clock.now_ms(), true);
    assert_eq!(keys["ed25519:0"].expired_ts, Some(5));
    assert!(keys["ed25519:1"].is_valid_at(clock.now_ms()));
    assert_eq!(ids(&peers.keys(wanted("us.org", &["0", "1"]), at(6)).await, "us.org"), ["ed25519:1"]);
    assert_eq!(ids(&peers.keys(wanted("us.org", &["0", "1"]), at(5)).await, "us.org").len(), 2);
    assert!(net.asked().is_empty());
}

#[tokio::test]
async fn as_a_notary_we_sign_what_we_know_and_ask_for_what_we_do_not() {
    let World { net, clock, peers } = world(Settings::default()).await;
    let until = clock.now_ms() + HOUR;
    net.set(&format!("b.org{OWN}"), 200, document("b.org", &["k"], &[], until, &[&key("b.org", "k")]));
    let b = server_name!("b.org").to_owned();
    let ask = |server: &OwnedServerName, id: &[&str], until: Option<u64>| {
        let until = until.map(|ms| MilliSecondsSinceUnixEpoch(UInt::try_from(ms).unwrap()));
        let ids: BTreeMap<_, _> = id.iter().map(|id| (format!("ed25519:{id}"), until)).collect();
        let asked = if ids.is_empty() { Asked::All(until) } else { Asked::Some(ids) };
        let query = BTreeMap::from([(server.clone(), asked)]);
        let peers = peers.clone();
        async move { peers.notarise(query).await }
    };
    let answer = ask(&b, &[], None).await;
    assert_eq!(answer.len(), 1);
    let judged = super::key_document::Document::parse(answer[0].json().get()).unwrap();
    let us = peers.signing_key().public_keys().remove("us.org").unwrap();
    judged.is_signed_by(server_name!("us.org"), us).unwrap();
    assert_eq!(net.asked().len(), 1);
    assert_eq!(ask(&b, &["k"], Some(until)).await.len(), 1);
    assert_eq!(ask(&b, &["other"], None).await.len(), 0);
    assert_eq!(ask(&server_name!("us.org").to_owned(), &["1"], None).await.len(), 1);
    assert_eq!(ask(&server_name!("dead.org").to_owned(), &["1"], None).await.len(), 0);
    net.asked();
    clock.advance(KEY_PAUSE_FIRST);
    assert_eq!(ask(&b, &[], Some(until)).await.len(), 1);
    assert!(net.asked().is_empty(), "what is known is valid for long enough");
    ask(&b, &[], Some(until + 1)).await;
    assert_eq!(net.asked().len(), 1, "somebody needs it to be valid for longer");
}

/// A network in which nobody answers.
#[derive(Default)]
struct Silence(Mutex<BTreeSet<OwnedServerName>>);

impl Net for Silence {
    fn exchange<'a>(
        &'a self,
        server: &'a ServerName,
        _: Request<Bytes>,
        bounds: Bounds,
    ) -> BoxFuture<'a, Result<Response<Bytes>, NetError>> {
        self.0.lock().insert(server.to_owned());
        Box::pin(async move {
            tokio::time::sleep(bounds.timeout).await;
            Err(NetError::Timeout)
        })
    }
}

/// Anybody may ask a notary, also for servers that do not exist: that must not keep it from those that call.
#[tokio::test(start_paused = true)]
async fn who_asks_a_notary_takes_only_some_of_its_fetches() {
    let net = Arc::new(Silence::default());
    let log = Log::open(Db::new(Arc::new(Memory::new())), &TaskTracker::new()).await.unwrap();
    let clock = Arc::new(ManualClock::at(1_700_000_000_000));
    let ports = Ports { clock, rng: Arc::new(SeededRng::new(1)) };
    let peers = Peers::new(net.clone(), log, ports, Arc::new(key("us.org", "1")), Settings::default());
    let name = |n: usize| OwnedServerName::try_from(format!("s{n}.org")).unwrap();
    let query: Query = (0..200).map(|n| (name(n), Asked::All(None))).collect();
    let begun = tokio::time::Instant::now();
    let questions = (0..10).map(|_| peers.notarise(query.clone()));
    assert!(futures_util::future::join_all(questions).await.iter().all(Vec::is_empty));
    assert!(begun.elapsed() <= NOTARY_SECONDS_MAX, "it took {:?}", begun.elapsed());
    let asked = net.0.lock().len();
    assert!(asked <= 2 * NOTARY_FETCHES_MAX, "{asked} servers were asked");
}

#[tokio::test]
async fn refusals_and_nonsense_are_told_apart() {
    let World { net, peers, .. } = world(Settings::default()).await;
    let path = "b.org/_matrix/federation/v1/version";
    let call =
        || peers.call(server_name!("b.org"), get_server_version::v1::Request::new(), Bounds::default());
    assert!(matches!(call().await, Err(PeerError::Unreachable(_))));
    net.set(path, 403, r#"{"errcode":"M_FORBIDDEN","error":"no\nway"}"#);
    let refused = call().await.unwrap_err();
    assert_eq!(refused.to_string(), "the server refused with 403 Forbidden M_FORBIDDEN: no way");
    assert!(!refused.is_outage());
    net.set(path, 502, "<html>");
    assert!(call().await.unwrap_err().is_outage());
    net.set(path, 302, "");
    assert!(matches!(call().await, Err(PeerError::Refused { .. })));
    net.set(path, 200, "[]");
    assert!(matches!(call().await, Err(PeerError::BadAnswer(_))));
    net.set(path, 200, "<html>We are back soon</html>");
    let stranger = call().await.unwrap_err();
    assert!(matches!(stranger, PeerError::Stranger(_)), "{stranger:?}");
    assert!(stranger.is_outage());
    net.set(path, 200, "{}");
    call().await.unwrap();

    let World { net, peers, .. } = world(Settings { off: true, ..Settings::default() }).await;
    let answer =
        peers.call(server_name!("b.org"), get_server_version::v1::Request::new(), Bounds::default()).await;
    assert!(matches!(answer, Err(PeerError::Forbidden(_))));
    assert!(net.asked().is_empty());
}

/// A server that was away for long is believed as soon as it calls, though its key has to be had anew.
#[tokio::test]
async fn a_server_that_calls_is_asked_sooner() {
    let World { net, clock, peers } = world(Settings::default()).await;
    for _ in 0..6 {
        peers.keys(wanted("b.org", &["k"]), at(clock.now_ms())).await;
        clock.advance(KEY_PAUSE_MAX);
    }
    peers.keys(wanted("b.org", &["k"]), at(clock.now_ms())).await;
    net.asked();
    let until = clock.now_ms() + HOUR;
    net.set(&format!("b.org{OWN}"), 200, document("b.org", &["k"], &[], until, &[&key("b.org", "k")]));
    let id = OwnedServerSigningKeyId::try_from("ed25519:k").unwrap();
    let call = || peers.caller_key(server_name!("b.org"), &id);
    assert!(call().await.unwrap().is_empty());
    clock.advance(KEY_PAUSE_FIRST);
    assert!(peers.keys(wanted("b.org", &["k"]), at(clock.now_ms())).await.is_empty());
    assert!(net.asked().is_empty());
    assert_eq!(ids(&call().await.unwrap(), "b.org"), ["ed25519:k"]);
}
