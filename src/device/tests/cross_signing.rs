//! Cross-signing keys and signatures.

use std::collections::BTreeMap;

use serde_json::{Value, json, value::to_raw_value};

use super::{Identity, Signer, World, object, raw, user};
use crate::{
    device::{CrossSigningKeys, DeviceError, NewDehydrated, object::signatures_by},
    types::Lane,
};

/// The three keys of a user.
struct Cross {
    master: Signer,
    self_signing: Signer,
    user_signing: Signer,
}

impl Cross {
    fn new(user: &str, seed: &str) -> Self {
        let key = |role: &str| Signer::new(user, None, &format!("{user} {role} {seed}"));
        Self { master: key("m"), self_signing: key("s"), user_signing: key("u") }
    }

    fn master(&self) -> Value {
        self.master.cross_signing_key("master")
    }

    fn self_signing(&self) -> Value {
        self.master.sign(self.self_signing.cross_signing_key("self_signing"))
    }

    fn user_signing(&self) -> Value {
        self.master.sign(self.user_signing.cross_signing_key("user_signing"))
    }

    fn all(&self) -> Value {
        json!({ "m": self.master(), "s": self.self_signing(), "u": self.user_signing() })
    }
}

/// Publishes keys and says whether that needed authentication.
async fn publish(world: &World, name: &str, keys: &Value) -> Result<bool, DeviceError> {
    let keys = CrossSigningKeys {
        master: keys.get("m").map(raw),
        self_signing: keys.get("s").map(raw),
        user_signing: keys.get("u").map(raw),
    };
    let change = world.devices.check_cross_signing(&user(name), &keys).await?;
    let needs_auth = change.needs_auth();
    world.devices.apply_cross_signing(change).await?;
    Ok(needs_auth)
}

/// Publishes `keys` for `@a` and expects an error whose text begins with `expected`.
async fn check_refused(keys: Value, expected: &str) {
    let world = World::new().await;
    world.log_in("a", "DEV").await;
    let error = publish(&world, "a", &keys).await.unwrap_err().to_string();
    assert!(error.starts_with(expected), "{keys}: {error}");
}

#[tokio::test]
async fn keys_are_checked() {
    let (own, other) = (Cross::new("a", "1"), Cross::new("a", "2"));
    let edited = |mut key: Value, field: &str, value: Value| {
        key[field] = value;
        key
    };
    let master = |field: &str, value: Value| json!({ "m": edited(own.master(), field, value) });
    check_refused(master("user_id", json!("@b:here")), "the master key belongs to another user").await;
    check_refused(master("usage", json!(["self_signing"])), "the master key has another usage").await;
    check_refused(master("usage", json!(["master", "self_signing"])), "the master key has another").await;
    check_refused(master("keys", json!({})), "the master key must have exactly one key").await;
    check_refused(master("keys", json!({ "ed25519:a": "b" })), "the master key is not an ed25519 key").await;
    check_refused(master("keys", json!({ "ed25519:DEV": "DEV" })), "the master key is not an ed25519").await;
    check_refused(master("keys", json!(1)), "the master key: invalid type").await;
    check_refused(json!({ "s": own.self_signing() }), "no master key").await;
    check_refused(
        json!({ "m": own.master(), "s": other.self_signing() }),
        "the master key has not signed the self_signing key",
    )
    .await;
    check_refused(
        json!({ "m": own.master(), "u": own.user_signing.cross_signing_key("user_signing") }),
        "the master key has not signed the user_signing key",
    )
    .await;
    let forged = edited(own.self_signing(), "more", json!(1));
    check_refused(json!({ "m": own.master(), "s": forged }), "the master key has not signed").await;

    let world = World::new().await;
    world.log_in("a", &own.master.public()).await;
    let error = publish(&world, "a", &own.all()).await.unwrap_err();
    assert!(matches!(error, DeviceError::Forbidden(_)));
}

#[tokio::test]
async fn the_first_and_the_same_keys_need_no_authentication_and_others_do() {
    let world = World::new().await;
    let (one, two) = (Cross::new("a", "1"), Cross::new("a", "2"));
    assert!(!publish(&world, "a", &json!({})).await.unwrap());
    assert!(!publish(&world, "a", &one.all()).await.unwrap());
    let at = world.log.head();
    assert!(!publish(&world, "a", &one.all()).await.unwrap());
    assert!(!publish(&world, "a", &json!({ "m": one.master() })).await.unwrap());
    assert_eq!(world.log.head(), at, "nothing was new");
    let replaced = one.master.sign(two.self_signing.cross_signing_key("self_signing"));
    assert!(publish(&world, "a", &json!({ "m": one.master(), "s": replaced })).await.unwrap());
    assert!(publish(&world, "a", &two.all()).await.unwrap());
    assert_eq!(world.changed(Lane::People, at).await, [user("a")]);
}

#[tokio::test]
async fn of_two_first_uploads_at_once_only_one_goes_without_authentication() {
    let world = World::new().await;
    let keys = |cross: &Cross| CrossSigningKeys { master: Some(raw(&cross.master())), ..Default::default() };
    let check = async |seed| {
        world.devices.check_cross_signing(&user("a"), &keys(&Cross::new("a", seed))).await.unwrap()
    };
    let (one, two) = (check("1").await, check("2").await);
    assert!(!one.needs_auth() && !two.needs_auth());
    world.devices.apply_cross_signing(one).await.unwrap();
    let late = world.devices.apply_cross_signing(two).await;
    assert!(matches!(late, Err(DeviceError::Contended)));
}

/// Uploads the signed `object` for `owner`'s `target` and gives the failures by `errcode`.
async fn sign(
    world: &World,
    signer: &str,
    (owner, target): (&str, &str),
    object: &Value,
) -> Vec<&'static str> {
    let objects = BTreeMap::from([(target.to_owned(), to_raw_value(object).unwrap())]);
    let signed = BTreeMap::from([(user(owner), objects)]);
    let failures = world.devices.upload_signatures(&user(signer), &signed).await.unwrap();
    failures.values().flat_map(BTreeMap::values).map(|failure| failure.describe().0).collect()
}

/// The ids of the keys of `signer` whose signatures `viewer` sees on `owner`'s master key and devices.
async fn seen(world: &World, viewer: &str, owner: &str, signer: &str) -> (Vec<String>, Vec<String>) {
    let wanted = BTreeMap::from([(user(owner), Vec::new())]);
    let found = world.devices.query_keys(Some(&user(viewer)), &wanted).await.unwrap();
    let by = |value: Value| -> Vec<String> {
        signatures_by(&object(&value), &user(signer)).into_iter().map(|(id, _)| id).collect()
    };
    let devices = &found.device_keys[&user(owner)];
    (by(json!(found.master_keys[&user(owner)])), devices.values().flat_map(|keys| by(json!(keys))).collect())
}

#[tokio::test]
async fn signatures_are_taken_if_they_are_right_and_shown_to_those_who_may_see_them() {
    let world = World::new().await;
    let alice = world.log_in_with_keys("alice", "PHONE").await;
    let (a, b) = (Cross::new("alice", "1"), Cross::new("bob", "1"));
    publish(&world, "alice", &a.all()).await.unwrap();
    publish(&world, "bob", &b.all()).await.unwrap();
    let a_public = a.master.public();
    let own_device = ("alice", "PHONE");

    let good = a.self_signing.sign(alice.bare_keys());
    assert!(sign(&world, "alice", own_device, &good).await.is_empty());
    let by_device = alice.signer.sign(a.master());
    assert!(sign(&world, "alice", ("alice", &a_public), &by_device).await.is_empty());
    let at = world.log.head();
    let by_user = b.user_signing.sign(a.master());
    assert!(sign(&world, "bob", ("alice", &a_public), &by_user).await.is_empty());
    assert!(world.changed(Lane::People, at).await.is_empty(), "only bob learns whom bob verified");
    assert_eq!(world.changed(Lane::Account(user("bob")), at).await, [user("alice")]);

    let ids = |keys: &[&Signer]| keys.iter().map(|key| key.key_id()).collect::<Vec<_>>();
    let mut of_device = ids(&[&a.self_signing, &alice.signer]);
    of_device.sort();
    for viewer in ["alice", "bob", "carol"] {
        let seen = seen(&world, viewer, "alice", "alice").await;
        assert_eq!(seen, (ids(&[&alice.signer]), of_device.clone()), "{viewer}");
    }
    assert_eq!(seen(&world, "bob", "alice", "bob").await.0, ids(&[&b.user_signing]));
    for viewer in ["alice", "carol"] {
        assert!(seen(&world, viewer, "alice", "bob").await.0.is_empty(), "{viewer}");
    }
}

#[tokio::test]
async fn other_signatures_are_refused_one_by_one() {
    let world = World::new().await;
    let alice = world.log_in_with_keys("alice", "PHONE").await;
    let (a, b) = (Cross::new("alice", "1"), Cross::new("bob", "1"));
    publish(&world, "alice", &a.all()).await.unwrap();
    publish(&world, "bob", &b.all()).await.unwrap();
    let bare = alice.bare_keys();
    let mut forged = a.self_signing.sign(bare.clone());
    forged["signatures"]["@alice:here"][a.self_signing.key_id()] = json!("AAAA");
    let mut changed = bare.clone();
    changed["algorithms"] = json!([]);
    let device = ("alice", "PHONE");
    let a_public = a.master.public();
    let master = ("alice", a_public.as_str());
    for (signer, target, object, expected) in [
        ("alice", device, forged, "M_INVALID_SIGNATURE"),
        ("alice", device, a.master.sign(bare.clone()), "M_INVALID_SIGNATURE"),
        ("alice", device, bare.clone(), "M_INVALID_SIGNATURE"),
        ("alice", device, a.self_signing.sign(changed), "M_INVALID_PARAM"),
        ("alice", ("alice", "NONE"), a.self_signing.sign(bare.clone()), "M_NOT_FOUND"),
        ("alice", device, json!([]), "M_BAD_JSON"),
        ("alice", master, a.user_signing.sign(a.master()), "M_INVALID_SIGNATURE"),
        ("bob", device, b.user_signing.sign(bare), "M_NOT_FOUND"),
        ("bob", master, b.self_signing.sign(a.master()), "M_INVALID_SIGNATURE"),
        ("bob", master, b.user_signing.sign(b.master()), "M_INVALID_PARAM"),
        ("bob", ("carol", "x"), b.user_signing.sign(a.master()), "M_NOT_FOUND"),
    ] {
        let at = world.log.head();
        assert_eq!(sign(&world, signer, target, &object).await, [expected], "{signer} {target:?} {object}");
        assert_eq!(world.log.head(), at);
    }
}

#[tokio::test]
async fn new_keys_take_the_signatures_of_the_old_ones_with_them() {
    let world = World::new().await;
    let alice = world.log_in_with_keys("alice", "PHONE").await;
    let (a, b) = (Cross::new("alice", "1"), Cross::new("bob", "1"));
    publish(&world, "alice", &a.all()).await.unwrap();
    publish(&world, "bob", &b.all()).await.unwrap();
    let device = a.self_signing.sign(alice.bare_keys());
    assert!(sign(&world, "alice", ("alice", "PHONE"), &device).await.is_empty());
    let master = b.user_signing.sign(a.master());
    assert!(sign(&world, "bob", ("alice", &a.master.public()), &master).await.is_empty());
    publish(&world, "alice", &Cross::new("alice", "2").all()).await.unwrap();
    let devices = seen(&world, "alice", "alice", "alice").await.1;
    assert_eq!(devices, [Identity::new("alice", "PHONE").signer.key_id()]);
    assert!(seen(&world, "bob", "alice", "bob").await.0.is_empty());
}

#[tokio::test]
async fn the_user_signing_key_is_for_its_owner_alone() {
    let world = World::new().await;
    publish(&world, "a", &Cross::new("a", "1").all()).await.unwrap();
    let wanted = BTreeMap::from([(user("a"), Vec::new())]);
    for (viewer, expected) in [("a", 1), ("b", 0)] {
        let found = world.devices.query_keys(Some(&user(viewer)), &wanted).await.unwrap();
        assert_eq!(found.user_signing_keys.len(), expected, "{viewer}");
        assert_eq!(found.self_signing_keys.len(), 1);
    }
}

#[tokio::test]
async fn dehydrated_devices_have_ids_like_others() {
    let world = World::new().await;
    world.log_in("a", "DEV").await;
    for (id, expected) in [(String::new(), false), ("x".repeat(256), false), ("x".repeat(255), true)] {
        let asleep = Identity::with_seed("a", &id, "asleep");
        let new = NewDehydrated {
            device_id: asleep.device.clone(),
            device_data: json!({}),
            display_name: None,
            keys: super::upload(&json!({ "device_keys": asleep.device_keys() })),
        };
        assert_eq!(world.devices.dehydrate(&user("a"), &new).await.is_ok(), expected, "{}", id.len());
    }
}

/// From the other side than `a_key_named_like_a_device`: see also `account`, where clients log in.
#[tokio::test]
async fn a_dehydrated_device_does_not_get_the_name_of_a_key() {
    let world = World::new().await;
    world.log_in("a", "DEV").await;
    let own = Cross::new("a", "1");
    publish(&world, "a", &own.all()).await.unwrap();
    let asleep = Identity::with_seed("a", &own.self_signing.public(), "asleep");
    let new = NewDehydrated {
        device_id: asleep.device.clone(),
        device_data: json!({}),
        display_name: None,
        keys: super::upload(&json!({ "device_keys": asleep.device_keys() })),
    };
    assert!(matches!(world.devices.dehydrate(&user("a"), &new).await, Err(DeviceError::Forbidden(_))));
}
