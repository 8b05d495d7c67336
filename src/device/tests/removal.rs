//! A device goes with all that is its own.

use std::collections::BTreeMap;

use ruma::{OwnedDeviceId, to_device::DeviceIdOrAllDevices};
use serde_json::{json, value::to_raw_value};

use super::{Identity, Signer, World, one_time_keys, raw, upload, user};
use crate::{
    account::{Accounts, DEVICES, DataChange, Device, ListChange, tell_people},
    device::{CrossSigningKeys, NewDehydrated, Sending},
    limits::{DEVICE_CHANGES_READ_MAX, DEVICES_MAX},
    log::Commit,
    store::{Key, Scan, table::TableId},
    types::{Fact, Lane, Position},
};

/// All rows whose key or value names `needle`, but for the one that lets other servers be told that it is gone.
async fn rows_with(world: &World, needle: &str) -> Vec<String> {
    let scan = Scan { from: Key(vec![0]), to: Key(vec![0xFF]), reverse: false, limit: usize::MAX };
    let rows = world.log.db().scan_many(&[scan]).await.unwrap().pop().unwrap();
    let has = |bytes: &[u8]| bytes.windows(needle.len()).any(|part| part == needle.as_bytes());
    let is_told = |key: &Key| key.0.first() == Some(&(TableId::DeviceChange as u8));
    let named = rows.into_iter().filter(|(key, value)| !is_told(key) && (has(&key.0) || has(value)));
    named.map(|(key, _)| String::from_utf8_lossy(&key.0).into_owned()).collect()
}

/// Gives `@bob`'s `device` something in every table.
async fn fill(world: &World, device: &str) {
    let bob = world.log_in_with_keys("bob", device).await;
    world.devices.rename(&bob.user, &bob.device, "a name").await.unwrap();
    let mut body = one_time_keys(0..5);
    body["fallback_keys"] = json!({ "signed_curve25519:f": { "key": "f" } });
    world.upload(&bob, body).await.unwrap();
    let master = Signer::new("bob", None, "master");
    let signed = bob.signer.sign(master.cross_signing_key("master"));
    let keys = CrossSigningKeys { master: Some(raw(&signed)), ..Default::default() };
    let change = world.devices.check_cross_signing(&bob.user, &keys).await.unwrap();
    world.devices.apply_cross_signing(change).await.unwrap();
    let by_device = BTreeMap::from([(master.public(), to_raw_value(&signed).unwrap())]);
    let signed = BTreeMap::from([(bob.user.clone(), by_device)]);
    assert!(world.devices.upload_signatures(&bob.user, &signed).await.unwrap().is_empty());
    let messages = BTreeMap::from([(
        bob.user.clone(),
        BTreeMap::from([(DeviceIdOrAllDevices::DeviceId(bob.device.clone()), raw(&json!({})))]),
    )]);
    let sending = Sending { user: &bob.user, device: &bob.device, event_type: "m.test", txn_id: "t" };
    world.devices.send_to_device(&sending, &messages).await.unwrap();
    let mut commit = Commit::new();
    let (app, pushkey) = (String::from("app"), device.to_owned());
    let pusher = Key::new(TableId::Pusher, &(bob.user.clone(), app.clone(), pushkey.clone()));
    commit.put_raw(Key::new(TableId::PusherKey, &(app, pushkey, bob.user.clone())), b"null".to_vec());
    commit.put_raw(pusher, serde_json::to_vec(&json!({ "device_id": device })).unwrap());
    world.log.commit(commit).await.unwrap();
}

#[tokio::test]
async fn nothing_of_a_removed_device_is_left_and_all_of_the_others() {
    let world = World::new().await;
    fill(&world, "STAYS").await;
    let before = rows_with(&world, "STAYS").await;
    fill(&world, "LEAVES").await;
    assert!(rows_with(&world, "LEAVES").await.len() >= 18);
    let at = world.log.head();
    world.devices.remove(&user("bob"), &["LEAVES".into(), "NEVER".into()]).await.unwrap();
    assert_eq!(rows_with(&world, "LEAVES").await, Vec::<String>::new());
    assert_eq!(rows_with(&world, "STAYS").await, before);
    assert_eq!(world.changed(Lane::People, at).await, [user("bob")]);
    let at = world.log.head();
    world.devices.remove(&user("bob"), &["LEAVES".into()]).await.unwrap();
    assert_eq!(world.log.head(), at, "a device that is gone is no news");
    world.devices.remove_all(&user("bob"), Some("STAYS".into())).await.unwrap();
    assert_eq!(world.devices.list(&user("bob")).await.unwrap().len(), 1);
    world.devices.remove_all(&user("bob"), None).await.unwrap();
    assert_eq!(rows_with(&world, "STAYS").await, Vec::<String>::new());
}

#[tokio::test]
async fn a_message_to_a_device_that_is_being_removed_leaves_no_queue() {
    let world = std::sync::Arc::new(World::new().await);
    for round in 0..50 {
        let device = format!("D{round}");
        let (bob, id) = world.log_in("bob", &device).await;
        let send = async {
            let messages = BTreeMap::from([(
                bob.clone(),
                BTreeMap::from([(DeviceIdOrAllDevices::AllDevices, raw(&json!({})))]),
            )]);
            let (alice, txn) = (user("alice"), round.to_string());
            let sending = Sending { user: &alice, device: "A".into(), event_type: "m.test", txn_id: &txn };
            world.devices.send_to_device(&sending, &messages).await.unwrap();
        };
        let remove = world.devices.remove(&bob, std::slice::from_ref(&id));
        let ((), removed) = tokio::join!(send, remove);
        removed.unwrap();
        assert_eq!(rows_with(&world, &device).await, Vec::<String>::new());
    }
}

/// Gives `@bob` a dehydrated device with a message that waits for it.
async fn dehydrate(world: &World) {
    let asleep = Identity::new("bob", "ASLEEP");
    let new = NewDehydrated {
        device_id: asleep.device.clone(),
        device_data: json!({ "secret": "x" }),
        display_name: None,
        keys: upload(&json!({ "device_keys": asleep.device_keys() })),
    };
    world.devices.dehydrate(&user("bob"), &new).await.unwrap();
    let to = DeviceIdOrAllDevices::DeviceId(asleep.device.clone());
    let messages = BTreeMap::from([(user("bob"), BTreeMap::from([(to, raw(&json!({})))]))]);
    let sending = Sending { user: &user("bob"), device: "X".into(), event_type: "m.test", txn_id: "d" };
    world.devices.send_to_device(&sending, &messages).await.unwrap();
}

/// Whoever logs out everywhere or resets a password may have nothing left but the dehydrated device.
#[tokio::test]
async fn the_dehydrated_device_stays_when_all_others_go() {
    let world = World::new().await;
    world.log_in_with_keys("bob", "PHONE").await;
    world.log_in_with_keys("bob", "LAPTOP").await;
    dehydrate(&world).await;
    let bob = user("bob");
    world.devices.remove_all(&bob, Some("PHONE".into())).await.unwrap();
    world.devices.remove_all(&bob, None).await.unwrap();
    let left = world.devices.list(&bob).await.unwrap().into_iter().map(|(device, _)| device);
    assert_eq!(left.collect::<Vec<_>>(), ["ASLEEP"]);
    let wanted = BTreeMap::from([(bob.clone(), Vec::new())]);
    let shown = world.devices.query_keys(None, &wanted).await.unwrap().device_keys;
    assert_eq!(shown[&bob].keys().collect::<Vec<_>>(), ["ASLEEP"], "others go on to write to it");
    world.devices.dehydrated(&bob).await.unwrap();
    let (events, _) = world.devices.dehydrated_events(&bob, "ASLEEP".into(), None).await.unwrap();
    assert_eq!(events.len(), 1);
    world.devices.retire(&bob).await.unwrap();
    world.devices.dehydrated(&bob).await.unwrap_err();
    assert_eq!(rows_with(&world, "ASLEEP").await, Vec::<String>::new());
}

/// Whoever logs in on it is logged in as on any other.
#[tokio::test]
async fn a_session_on_the_dehydrated_device_ends_with_all_others() {
    let world = World::new().await;
    world.log_in_with_keys("bob", "PHONE").await;
    dehydrate(&world).await;
    world.log_in("bob", "ASLEEP").await;
    world.devices.remove_all(&user("bob"), Some("PHONE".into())).await.unwrap();
    let left = world.devices.list(&user("bob")).await.unwrap().into_iter().map(|(device, _)| device);
    assert_eq!(left.collect::<Vec<_>>(), ["PHONE"]);
}

#[tokio::test]
async fn nothing_of_a_user_who_leaves_for_good_is_left() {
    let world = World::new().await;
    fill(&world, "PHONE").await;
    let at = world.log.head();
    world.devices.retire(&user("bob")).await.unwrap();
    let kept = [
        TableId::CrossSigningKey,
        TableId::KeySignature,
        TableId::BackupVersion,
        TableId::BackupKey,
        TableId::DehydratedDevice,
        TableId::Pusher,
        TableId::DeviceKeys,
        TableId::OneTimeKey,
    ];
    for table in kept {
        let from = Key::new(table, &(user("bob"),));
        let scan = Scan { to: from.after_prefix(), from, reverse: false, limit: 10 };
        assert!(world.log.db().scan_many(&[scan]).await.unwrap()[0].is_empty(), "{table:?}");
    }
    assert_eq!(world.changed(Lane::People, at).await, [user("bob")]);
}

#[tokio::test]
async fn what_was_said_of_its_notifications_goes_with_it() {
    let world = World::new().await;
    let server = ruma::server_name!("a.org").to_owned();
    let accounts = Accounts::new(world.log.clone(), world.devices.ports.clone(), server, Default::default());
    fill(&world, "LEAVES").await;
    let kinds =
        ["LEAVES", "STAYS"].map(|device| format!("org.matrix.msc3890.local_notification_settings.{device}"));
    for kind in &kinds {
        let content = to_raw_value(&json!({ "is_silenced": true })).unwrap();
        let change = DataChange { room_id: None, event_type: kind.clone(), content };
        accounts.set_data(&user("bob"), change).await.unwrap();
    }
    let at = world.log.head();
    world.devices.remove(&user("bob"), &["LEAVES".into()]).await.unwrap();
    assert!(accounts.data(&user("bob"), None, &kinds[0]).await.unwrap().is_none());
    assert!(accounts.data(&user("bob"), None, &kinds[1]).await.unwrap().is_some());
    let told = world.log.registers(&Lane::Account(user("bob")), at, world.log.head()).await.unwrap();
    let is_told =
        |fact: &Fact| matches!(fact, Fact::AccountData { event_type, .. } if *event_type == kinds[0]);
    assert!(told.iter().any(|(_, fact)| is_told(fact)));
}

/// Whoever makes names up has nothing written by them.
#[tokio::test]
async fn nobody_is_told_of_devices_that_never_were() {
    let world = World::new().await;
    let (bob, phone) = world.log_in("bob", "PHONE").await;
    let (phone, never) = (phone, OwnedDeviceId::from("NEVER"));
    let from = world.log.head();
    world.devices.remove(&bob, &[phone.clone(), never.clone(), phone.clone(), never]).await.unwrap();
    let told = world.devices.list_updates(&bob, (from, world.log.head())).await.unwrap();
    let told: Vec<_> = told.devices.into_iter().map(|update| (update.device_id, update.is_gone)).collect();
    assert_eq!(told, [(phone, true)]);
}

/// Other servers are told of every device, however many there were whose ids come before.
#[tokio::test]
async fn changes_behind_very_many_devices_that_are_gone_are_told() {
    let world = World::new().await;
    let bob = user("bob");
    let gone: Vec<_> =
        (0..DEVICE_CHANGES_READ_MAX + 10).map(|n| OwnedDeviceId::from(format!("A{n:05}"))).collect();
    let mut commit = Commit::new();
    tell_people(&mut commit, &bob, gone.iter().map(|device| ListChange::Gone(device)));
    world.log.commit(commit).await.unwrap();
    let at = world.log.head();
    world.log_in("bob", "PHONE").await;
    let head = world.log.head();
    let told = world.devices.list_updates(&bob, (at, head)).await.unwrap();
    let ids: Vec<_> = told.devices.iter().map(|update| update.device_id.as_str()).collect();
    assert_eq!((ids, told.left_out), (vec!["PHONE"], None));
    // Who has missed more than is told one by one is told that something is missing.
    let all = world.devices.list_updates(&bob, (Position::ZERO, head)).await.unwrap();
    assert_eq!((all.devices.len(), all.left_out), (DEVICE_CHANGES_READ_MAX, Some(all.devices[0].at)));
    assert_eq!(all.devices.last().unwrap().device_id, "PHONE");
}

/// However many there are.
#[tokio::test]
async fn the_devices_of_an_account_go_to_the_last_one() {
    let world = World::new().await;
    let (bob, _) = world.log_in("bob", "PHONE").await;
    let many = async || {
        let mut commit = Commit::new();
        for n in 0..=DEVICES_MAX {
            commit.put(&DEVICES, &(bob.clone(), format!("D{n}").into()), &Device::default());
        }
        world.log.commit(commit).await.unwrap();
    };
    many().await;
    world.devices.remove_all(&bob, Some("PHONE".into())).await.unwrap();
    let left = world.devices.list(&bob).await.unwrap().into_iter().map(|(device, _)| device);
    assert_eq!(left.collect::<Vec<_>>(), ["PHONE"]);
    many().await;
    world.devices.retire(&bob).await.unwrap();
    assert_eq!(world.devices.list(&bob).await.unwrap().len(), 0);
}
