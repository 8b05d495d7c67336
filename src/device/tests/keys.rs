//! Uploading, querying and claiming keys.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use ruma::{OneTimeKeyAlgorithm, OwnedDeviceId, OwnedUserId};
use serde_json::{Value, json};

use super::{Identity, World, one_time_keys, user};
use crate::{
    account::NewSession,
    limits::{KEY_ALGORITHMS_MAX, KEYS_CLAIMED_AT_ONCE},
    types::{Cursor, Fact, Lane, Position, Reader},
};

async fn claim(world: &World, identity: &Identity) -> Option<String> {
    let algorithm = OneTimeKeyAlgorithm::SignedCurve25519;
    let wanted =
        BTreeMap::from([(identity.user.clone(), BTreeMap::from([(identity.device.clone(), algorithm)]))]);
    let claimed = world.devices.claim_keys(&wanted).await.unwrap();
    let keys = claimed.keys.get(&identity.user)?.get(&identity.device)?;
    assert_eq!(keys.len(), 1);
    keys.keys().next().map(ToString::to_string)
}

async fn query(world: &World, viewer: &str, wanted: &[&str]) -> Value {
    let wanted: BTreeMap<OwnedUserId, Vec<OwnedDeviceId>> =
        wanted.iter().map(|name| (user(name), Vec::new())).collect();
    let found = world.devices.query_keys(Some(&user(viewer)), &wanted).await.unwrap();
    json!(found.device_keys)
}

/// Uploads `body` with `device_keys` changed by `change`, and says what comes of it.
#[track_caller]
fn check_device_keys(change: impl FnOnce(&Identity) -> Value, expected: &str) {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(async {
        let world = World::new().await;
        let identity = Identity::new("a", "DEV");
        world.log_in("a", "DEV").await;
        let result = world.upload(&identity, json!({ "device_keys": change(&identity) })).await;
        let found = result.map_or_else(|error| error, |_| "ok".to_owned());
        assert!(found.starts_with(expected), "{found}");
    });
}

#[test]
fn device_keys_must_be_the_devices_own_and_signed_by_it() {
    let edited = |name: &'static str, value: Value| {
        move |identity: &Identity| {
            let mut keys = identity.bare_keys();
            keys[name] = value;
            identity.signer.sign(keys)
        }
    };
    check_device_keys(Identity::device_keys, "ok");
    check_device_keys(edited("user_id", json!("@b:here")), "device_keys name another user");
    check_device_keys(edited("device_id", json!("OTHER")), "device_keys name another user or device");
    check_device_keys(edited("keys", json!({ "ed25519:OTHER": "x" })), "the key ed25519:OTHER is not one");
    check_device_keys(edited("keys", json!({ "curve25519:DEV": "x" })), "device_keys have no ed25519 key");
    check_device_keys(edited("algorithms", json!("x")), "device_keys: invalid type");
    check_device_keys(edited("extra", json!(1)), "ok");
    check_device_keys(|_| json!({ "user_id": 1.5 }), "a key object");
    check_device_keys(Identity::bare_keys, "device_keys: missing field `signatures`");
    check_device_keys(
        |identity| {
            let mut keys = identity.device_keys();
            keys["algorithms"] = json!([]);
            keys
        },
        "the device's signature of its keys is wrong",
    );
    check_device_keys(
        |identity| Identity::with_seed("a", "DEV", "other").signer.sign(identity.bare_keys()),
        "the device's signature of its keys is wrong",
    );
}

#[tokio::test]
async fn one_time_keys_are_given_out_once_in_upload_order() {
    let world = World::new().await;
    let bob = world.log_in_with_keys("bob", "DEV").await;
    // The later upload has ids that sort before those of the earlier one.
    world.upload(&bob, one_time_keys(50..53)).await.unwrap();
    let counts = world.upload(&bob, one_time_keys(10..12)).await.unwrap();
    assert_eq!(counts, BTreeMap::from([("signed_curve25519".to_owned(), 5)]));
    let mut order = Vec::new();
    while let Some(key) = claim(&world, &bob).await {
        order.push(key);
    }
    let ids = [50, 51, 52, 10, 11].map(|n| format!("signed_curve25519:k{n:03}"));
    assert_eq!(order, ids);
    let counts = world.devices.key_counts(&bob.user, &bob.device).await.unwrap();
    assert_eq!(counts.one_time["signed_curve25519"], 0, "a zero is told");
}

#[tokio::test]
async fn the_same_key_may_be_sent_again_but_not_another_of_the_same_id() {
    let world = World::new().await;
    let bob = world.log_in_with_keys("bob", "DEV").await;
    world.upload(&bob, one_time_keys(0..3)).await.unwrap();
    let counts = world.upload(&bob, one_time_keys(1..5)).await.unwrap();
    assert_eq!(counts["signed_curve25519"], 5);
    let other = json!({ "one_time_keys": { "signed_curve25519:k001": { "key": "another" } } });
    world.upload(&bob, other).await.unwrap_err();
    for malformed in
        [json!({}), json!(7), json!({ "key": 1 }), json!({ "key": "k", "signatures": { "@u:x": 1 } })]
    {
        let body = json!({ "one_time_keys": { "signed_curve25519:new": malformed } });
        world.upload(&bob, body).await.unwrap_err();
    }
    assert_eq!(world.upload(&bob, json!({})).await.unwrap()["signed_curve25519"], 5);
}

#[tokio::test(flavor = "multi_thread")]
async fn claimers_at_once_never_get_the_same_key() {
    let world = std::sync::Arc::new(World::new().await);
    let bob = std::sync::Arc::new(world.log_in_with_keys("bob", "DEV").await);
    world.upload(&bob, one_time_keys(0..90)).await.unwrap();
    let mut tasks = tokio::task::JoinSet::new();
    for n in 0..40 {
        let (world, bob) = (world.clone(), bob.clone());
        tasks.spawn(async move {
            // Uploads at the same time must not disturb.
            if n % 8 == 0 {
                world.upload(&bob, one_time_keys(100 + n..102 + n)).await.unwrap();
            }
            [claim(&world, &bob).await.unwrap(), claim(&world, &bob).await.unwrap()]
        });
    }
    let claimed: Vec<String> = tasks.join_all().await.into_iter().flatten().collect();
    let distinct: BTreeSet<&String> = claimed.iter().collect();
    assert_eq!((claimed.len(), distinct.len()), (80, 80));
    let counts = world.devices.key_counts(&bob.user, &bob.device).await.unwrap();
    assert_eq!(counts.one_time["signed_curve25519"], 90 + 10 - 80);
}

#[tokio::test]
async fn the_fallback_key_is_given_out_when_none_is_left_and_told_as_used() {
    let world = World::new().await;
    let bob = world.log_in_with_keys("bob", "DEV").await;
    world.upload(&bob, one_time_keys(0..1)).await.unwrap();
    let fallback = |id: &str| json!({ "fallback_keys": { format!("signed_curve25519:{id}"): { "key": id, "fallback": true } } });
    world.upload(&bob, fallback("f1")).await.unwrap();
    let unused =
        async || !world.devices.key_counts(&bob.user, &bob.device).await.unwrap().unused_fallback.is_empty();
    assert!(unused().await);
    assert_eq!(claim(&world, &bob).await.unwrap(), "signed_curve25519:k000");
    assert!(unused().await);
    for _ in 0..2 {
        assert_eq!(claim(&world, &bob).await.unwrap(), "signed_curve25519:f1");
        assert!(!unused().await);
    }
    world.upload(&bob, fallback("f1")).await.unwrap();
    assert!(!unused().await, "the same key again is still used");
    world.upload(&bob, fallback("f2")).await.unwrap();
    assert!(unused().await);
    assert_eq!(claim(&world, &bob).await.unwrap(), "signed_curve25519:f2");
    let two = json!({ "fallback_keys": {
        "signed_curve25519:x": { "key": "x" }, "signed_curve25519:y": { "key": "y" },
    } });
    world.upload(&bob, two).await.unwrap_err();
}

#[tokio::test]
async fn changes_of_counts_wake_the_device_and_changes_of_keys_everybody() {
    let world = World::new().await;
    let bob = world.log_in_with_keys("bob", "DEV").await;
    let at = world.log.head();
    assert_eq!(world.changed(Lane::People, Position::ZERO).await, [user("bob")]);
    world.upload(&bob, json!({ "device_keys": bob.device_keys() })).await.unwrap();
    assert!(world.changed(Lane::People, at).await.is_empty(), "the same keys are no news");
    world.upload(&bob, one_time_keys(0..1)).await.unwrap();
    let reader = Reader::Device(bob.user.clone(), bob.device.clone());
    let limits = crate::log::PageLimits { append: 1, queue: 1, before_opening: false, backlog: usize::MAX };
    let page = world.log.page(&reader, Cursor::at(at), &limits).await.unwrap();
    assert_eq!(page.slices.len(), 1);
    assert_eq!(page.slices[0].facts[0].1, Fact::KeyCounts);
    let at = world.log.head();
    world.devices.rename(&bob.user, &bob.device, "phone").await.unwrap();
    assert_eq!(world.changed(Lane::People, at).await, [user("bob")]);
}

#[tokio::test]
async fn a_new_identity_leaves_no_keys_of_the_old_one() {
    let world = World::new().await;
    let bob = world.log_in_with_keys("bob", "DEV").await;
    world.upload(&bob, one_time_keys(0..3)).await.unwrap();
    let again = Identity::with_seed("bob", "DEV", "second");
    let mut body = one_time_keys(1..2);
    body["device_keys"] = again.device_keys();
    assert_eq!(world.upload(&again, body).await.unwrap()["signed_curve25519"], 1);
    assert_eq!(claim(&world, &bob).await.unwrap(), "signed_curve25519:k001");
    assert_eq!(claim(&world, &bob).await, None);
}

#[tokio::test]
async fn a_query_finds_the_devices_with_their_names() {
    let world = World::new().await;
    let bob = world.log_in_with_keys("bob", "DEV").await;
    world.log_in("bob", "KEYLESS").await;
    world.devices.rename(&bob.user, &bob.device, "phone").await.unwrap();
    let found = query(&world, "alice", &["bob", "nobody"]).await;
    let mut expected = bob.device_keys();
    expected["unsigned"] = json!({ "device_display_name": "phone" });
    assert_eq!(found, json!({ "@bob:here": { "DEV": expected }, "@nobody:here": {} }));
    let named = BTreeMap::from([(bob.user.clone(), vec!["OTHER".into()])]);
    let found = world.devices.query_keys(None, &named).await.unwrap();
    assert_eq!(json!(found.device_keys), json!({ "@bob:here": {} }));
}

#[tokio::test]
async fn a_query_sees_every_change_since_the_one_before() {
    let world = World::new().await;
    let bob = world.log_in_with_keys("bob", "DEV").await;
    let names = async || {
        let found = query(&world, "alice", &["bob"]).await;
        let devices = found["@bob:here"].as_object().unwrap();
        let name = |keys: &Value| keys["unsigned"]["device_display_name"].as_str().map(String::from);
        devices.iter().map(|(device, keys)| (device.clone(), name(keys))).collect::<Vec<_>>()
    };
    let is = |device: &str, name: Option<&str>| (String::from(device), name.map(String::from));
    assert_eq!(names().await, [is("DEV", None)]);
    let session = NewSession {
        user_id: bob.user.clone(),
        device_id: Some(bob.device.clone()),
        display_name: Some("tablet".into()),
        refreshes: false,
        client: None,
    };
    world.accounts.start_session(session).await.unwrap();
    assert_eq!(names().await, [is("DEV", Some("tablet"))], "a login gave it a name");
    world.devices.rename(&bob.user, &bob.device, "phone").await.unwrap();
    assert_eq!(names().await, [is("DEV", Some("phone"))]);
    world.log_in_with_keys("bob", "OTHER").await;
    assert_eq!(names().await, [is("DEV", Some("phone")), is("OTHER", None)]);
    world.devices.remove(&bob.user, std::slice::from_ref(&bob.device)).await.unwrap();
    assert_eq!(names().await, [is("OTHER", None)]);
}

#[tokio::test]
async fn keys_of_a_device_that_is_gone_are_refused() {
    let world = World::new().await;
    let bob = Identity::new("bob", "DEV");
    world.upload(&bob, json!({ "device_keys": bob.device_keys() })).await.unwrap_err();
}

/// Names that are made up neither wait for anybody nor keep anybody waiting.
#[tokio::test(start_paused = true)]
async fn who_claims_of_nobody_waits_for_nobody() {
    let world = World::new().await;
    let identity = world.log_in_with_keys("alice", "PHONE").await;
    world.upload(&identity, one_time_keys(0..200)).await.unwrap();
    let every: Vec<u64> = (0..10_000).collect();
    let _all = world.devices.turns.take(&every).await;
    let algorithm = || OneTimeKeyAlgorithm::SignedCurve25519;
    let made_up = (0..500).map(|n| (OwnedDeviceId::from(format!("D{n}")), algorithm()));
    let wanted = BTreeMap::from([
        (user("alice"), made_up.collect()),
        (user("nobody"), [("D".into(), algorithm())].into()),
    ]);
    let claiming = tokio::time::timeout(Duration::from_secs(1), world.devices.claim_keys(&wanted));
    assert!(claiming.await.expect("nothing is waited for").unwrap().keys.is_empty());
}

#[tokio::test]
async fn many_devices_get_their_keys_in_one_request() {
    let world = World::new().await;
    let mut wanted = BTreeMap::new();
    for n in 0..KEYS_CLAIMED_AT_ONCE + 5 {
        let identity = world.log_in_with_keys("alice", &format!("D{n}")).await;
        world.upload(&identity, one_time_keys(0..1)).await.unwrap();
        wanted.insert(identity.device.clone(), OneTimeKeyAlgorithm::SignedCurve25519);
    }
    let claimed = world.devices.claim_keys(&BTreeMap::from([(user("alice"), wanted)])).await.unwrap();
    assert_eq!(claimed.keys[&user("alice")].len(), KEYS_CLAIMED_AT_ONCE + 5);
}

#[tokio::test]
async fn a_device_has_keys_of_few_algorithms() {
    let world = World::new().await;
    let phone = world.log_in_with_keys("bob", "PHONE").await;
    let keys = |kind: &str, names: std::ops::Range<usize>| {
        let keys = names.map(|n| (format!("alg{n}:k"), json!({ "key": "x" })));
        json!({ kind: keys.collect::<serde_json::Map<_, _>>() })
    };
    for kind in ["one_time_keys", "fallback_keys"] {
        let refused = world.upload(&phone, keys(kind, 0..KEY_ALGORITHMS_MAX + 1)).await;
        assert!(refused.unwrap_err().contains("too many algorithms"), "{kind}");
        world.upload(&phone, keys(kind, 0..KEY_ALGORITHMS_MAX)).await.unwrap();
        let more = keys(kind, KEY_ALGORITHMS_MAX..KEY_ALGORITHMS_MAX + 1);
        assert!(world.upload(&phone, more).await.is_err(), "{kind}");
        world.upload(&phone, keys(kind, 3..4)).await.unwrap();
    }
    // What has run out makes room for another.
    let wanted = [(phone.user.clone(), [(phone.device.clone(), "alg3".into())].into())].into();
    world.devices.claim_keys(&wanted).await.unwrap();
    let counts = world.upload(&phone, keys("one_time_keys", 90..91)).await.unwrap();
    assert!(counts.contains_key("alg90") && !counts.contains_key("alg3"), "{counts:?}");
}
