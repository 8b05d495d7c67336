//! Key backups.

use ruma::{RoomId, owned_room_id};
use serde_json::{Value, json, value::to_raw_value};

use super::{World, user};
use crate::{
    device::{BackupKeys, BackupState, DeviceError},
    limits::{BACKUP_AUTH_BYTES_MAX, BACKUP_KEYS_MAX, BACKUP_KEYS_PAGE, BACKUP_VERSIONS_MAX},
    log::Commit,
    store::{Scan, table::TableId},
};

fn key(verified: bool, index: u64, forwarded: u64) -> Value {
    json!({
        "is_verified": verified, "first_message_index": index, "forwarded_count": forwarded,
        "session_data": { "mac": format!("{verified} {index} {forwarded}") },
    })
}

fn keys(entries: &[(&str, &str, Value)]) -> BackupKeys {
    let mut keys = BackupKeys::new();
    for (room, session, key) in entries {
        let room = (*room).try_into().unwrap();
        keys.entry(room).or_default().insert((*session).to_owned(), to_raw_value(key).unwrap());
    }
    keys
}

async fn new_backup(world: &World) -> String {
    let created = world.devices.create_backup(&user("a"), "m.alg".into(), json!({ "k": 1 })).await;
    created.unwrap()
}

async fn put(
    world: &World,
    version: &str,
    entries: &[(&str, &str, Value)],
) -> Result<BackupState, DeviceError> {
    world.devices.put_backup_keys(&user("a"), version, &keys(entries)).await
}

async fn stored(world: &World, version: &str) -> Value {
    json!(read(world, version, None).await.unwrap())
}

/// The keys of a backup or of a room in it.
async fn read(world: &World, version: &str, room: Option<&RoomId>) -> Result<BackupKeys, DeviceError> {
    let mut range = world.devices.backup_range(&user("a"), version, room).await?;
    let mut keys = BackupKeys::new();
    loop {
        let page = world.devices.next_backup_keys(&mut range).await?;
        assert!(page.len() <= BACKUP_KEYS_PAGE);
        if page.is_empty() {
            return Ok(keys);
        }
        for (room, session, key) in page {
            keys.entry(room).or_default().insert(session, key);
        }
    }
}

/// Stores `first`, then `second` for the same session, and says which is there.
async fn check(first: (bool, u64, u64), second: (bool, u64, u64), replaced: bool) {
    let world = World::new().await;
    let version = new_backup(&world).await;
    let key = |(verified, index, forwarded)| self::key(verified, index, forwarded);
    let before = put(&world, &version, &[("!r:here", "s", key(first))]).await.unwrap();
    let after = put(&world, &version, &[("!r:here", "s", key(second))]).await.unwrap();
    let expected = if replaced { key(second) } else { key(first) };
    assert_eq!(
        stored(&world, &version).await,
        json!({ "!r:here": { "s": expected } }),
        "{first:?} {second:?}"
    );
    assert_eq!(before.etag != after.etag, replaced, "the etag tells of changes alone");
    assert_eq!(after.count, 1);
}

#[tokio::test]
async fn the_better_of_two_keys_stays() {
    check((false, 10, 5), (true, 11, 6), true).await;
    check((true, 10, 5), (false, 0, 0), false).await;
    check((true, 10, 5), (true, 9, 9), true).await;
    check((true, 10, 5), (true, 11, 0), false).await;
    check((false, 10, 5), (false, 10, 4), true).await;
    check((false, 10, 5), (false, 10, 6), false).await;
    check((false, 10, 5), (false, 10, 5), false).await;
}

#[tokio::test]
async fn keys_are_read_and_deleted_by_backup_room_and_session() {
    let world = World::new().await;
    let version = new_backup(&world).await;
    let k = || key(false, 0, 0);
    let entries =
        [("!a:here", "1", k()), ("!a:here", "2", k()), ("!b:here", "1", k()), ("!b:here", "12", k())];
    let state = put(&world, &version, &entries).await.unwrap();
    assert_eq!(state.count, 4);
    let a = user("a");
    let (room_a, room_b) = (owned_room_id!("!a:here"), owned_room_id!("!b:here"));
    let of_b = read(&world, &version, Some(&room_b)).await.unwrap();
    assert_eq!(json!(of_b), json!({ "!b:here": { "1": k(), "12": k() } }));
    let one = world.devices.backup_key(&a, &version, (&room_b, "1")).await.unwrap();
    assert_eq!(json!(one), k());
    assert!(world.devices.backup_key(&a, &version, (&room_b, "2")).await.unwrap().is_none());
    let gone = world.devices.delete_backup_keys(&a, &version, (Some(&room_b), Some("1"))).await.unwrap();
    assert_eq!(gone.count, 3);
    let again = world.devices.delete_backup_keys(&a, &version, (Some(&room_b), Some("1"))).await.unwrap();
    assert_eq!(again, gone, "nothing was there any more");
    let gone = world.devices.delete_backup_keys(&a, &version, (Some(&room_a), None)).await.unwrap();
    assert_eq!(gone.count, 1);
    assert_eq!(stored(&world, &version).await, json!({ "!b:here": { "12": k() } }));
    let gone = world.devices.delete_backup_keys(&a, &version, (None, None)).await.unwrap();
    assert_eq!(gone.count, 0);
    assert_eq!(world.devices.backup(&a, &version).await.unwrap().state, gone);
}

#[tokio::test]
async fn only_the_current_version_is_written_to() {
    let world = World::new().await;
    let a = user("a");
    let entry = || [("!r:here", "s", key(false, 0, 0))];
    assert!(matches!(put(&world, "1", &entry()).await, Err(DeviceError::NotFound(_))));
    world.devices.latest_backup(&a).await.unwrap_err();
    let (first, second) = (new_backup(&world).await, new_backup(&world).await);
    let wrong = put(&world, &first, &entry()).await;
    assert!(matches!(wrong, Err(DeviceError::WrongBackupVersion { current }) if current == second));
    put(&world, &second, &entry()).await.unwrap();
    world.devices.delete_backup(&a, &second).await.unwrap();
    for version in [second.as_str(), "x", "99"] {
        assert!(matches!(put(&world, version, &entry()).await, Err(DeviceError::NotFound(_))), "{version}");
        world.devices.backup(&a, version).await.unwrap_err();
        read(&world, version, None).await.unwrap_err();
        world.devices.delete_backup(&a, version).await.unwrap_err();
    }
    assert_eq!(world.devices.latest_backup(&a).await.unwrap().version, first);
    put(&world, &first, &entry()).await.unwrap();
    let third = new_backup(&world).await;
    assert_ne!(third, second, "a version is never used again");
}

#[tokio::test]
async fn the_algorithm_never_changes() {
    let world = World::new().await;
    let a = user("a");
    let version = new_backup(&world).await;
    world.devices.update_backup(&a, &version, ("m.other", &json!({}))).await.unwrap_err();
    world.devices.update_backup(&a, &version, ("m.alg", &json!({ "k": 2 }))).await.unwrap();
    assert_eq!(world.devices.backup(&a, &version).await.unwrap().auth_data, json!({ "k": 2 }));
}

#[tokio::test(flavor = "multi_thread")]
async fn writers_at_once_are_all_counted() {
    let world = std::sync::Arc::new(World::new().await);
    let version = new_backup(&world).await;
    let mut tasks = tokio::task::JoinSet::new();
    for n in 0..20 {
        let (world, version) = (world.clone(), version.clone());
        tasks.spawn(async move {
            let session = format!("s{n}");
            put(&world, &version, &[("!r:here", &session, key(true, n, 0))]).await.unwrap();
        });
    }
    tasks.join_all().await;
    let state = world.devices.backup(&user("a"), &version).await.unwrap().state;
    assert_eq!(state, BackupState { etag: "20".into(), count: 20 });
}

#[tokio::test]
async fn malformed_keys_are_refused() {
    let world = World::new().await;
    let version = new_backup(&world).await;
    for field in ["is_verified", "first_message_index", "forwarded_count", "session_data"] {
        let mut key = key(true, 0, 0);
        key.as_object_mut().unwrap().remove(field);
        put(&world, &version, &[("!r:here", "s", key)]).await.unwrap_err();
    }
    let mut negative = key(true, 0, 0);
    negative["first_message_index"] = json!(-1);
    put(&world, &version, &[("!r:here", "s", negative)]).await.unwrap_err();
    let long = "s".repeat(300);
    put(&world, &version, &[("!r:here", &long, key(true, 0, 0))]).await.unwrap_err();
    assert_eq!(stored(&world, &version).await, json!({}));
}

#[tokio::test]
async fn what_a_client_says_of_a_backup_is_bounded() {
    let world = World::new().await;
    let a = user("a");
    let auth = |bytes: usize| json!({ "k": "x".repeat(bytes - r#"{"k":""}"#.len()) });
    let create = |bytes: usize| world.devices.create_backup(&a, "m.alg".into(), auth(bytes));
    let version = create(BACKUP_AUTH_BYTES_MAX).await.unwrap();
    assert!(matches!(create(BACKUP_AUTH_BYTES_MAX + 1).await, Err(DeviceError::TooLarge)));
    let large = auth(BACKUP_AUTH_BYTES_MAX + 1);
    let changed = world.devices.update_backup(&a, &version, ("m.alg", &large)).await;
    assert!(matches!(changed, Err(DeviceError::TooLarge)));
    let named = world.devices.create_backup(&a, "x".repeat(256), json!({})).await;
    assert!(matches!(named, Err(DeviceError::TooLarge)));
}

#[tokio::test]
async fn versions_are_bounded_and_deleted_ones_are_not_gathered() {
    let world = World::new().await;
    let a = user("a");
    let rows = async || {
        let from = crate::store::Key::new(TableId::BackupVersion, &(a.clone(),));
        let scan = Scan { to: from.after_prefix(), from, reverse: false, limit: 1_000 };
        world.log.db().scan_many(&[scan]).await.unwrap()[0].len()
    };
    for number in 1..=BACKUP_VERSIONS_MAX as u64 + 10 {
        let version = new_backup(&world).await;
        assert_eq!(version, number.to_string(), "a version is never used again");
        world.devices.delete_backup(&a, &version).await.unwrap();
        assert_eq!(rows().await, 1);
    }
    world.devices.latest_backup(&a).await.unwrap_err();
    for _ in 0..BACKUP_VERSIONS_MAX {
        new_backup(&world).await;
    }
    let newest = world.devices.latest_backup(&a).await.unwrap().version;
    let more = world.devices.create_backup(&a, "m.alg".into(), json!({})).await;
    assert!(matches!(more, Err(DeviceError::TooLarge)));
    world.devices.delete_backup(&a, &newest).await.unwrap();
    new_backup(&world).await;
}

#[tokio::test]
async fn the_keys_of_a_backup_are_bounded_and_read_page_by_page() {
    let world = World::new().await;
    let a = user("a");
    let version = new_backup(&world).await;
    let sessions: Vec<String> = (0..BACKUP_KEYS_PAGE * 2 + 1).map(|n| format!("s{n}")).collect();
    let many: Vec<_> = sessions.iter().map(|session| ("!a:here", &**session, key(false, 0, 0))).collect();
    put(&world, &version, &many).await.unwrap();
    put(&world, &version, &[("!b:here", "s", key(false, 0, 0))]).await.unwrap();
    let room = owned_room_id!("!a:here");
    let found = read(&world, &version, Some(&room)).await.unwrap();
    assert_eq!(found[&room].len(), sessions.len());
    let left = world.devices.delete_backup_keys(&a, &version, (Some(&room), None)).await.unwrap();
    assert_eq!(left.count, 1);
    // A backup that is full takes no new keys, but better ones.
    let number: u64 = version.parse().unwrap();
    let place = (a.clone(), number);
    let mut row = world.log.db().row(&crate::device::rows::BACKUPS, &place).await.unwrap().unwrap();
    row.count = BACKUP_KEYS_MAX;
    let mut commit = Commit::new();
    commit.put(&crate::device::rows::BACKUPS, &place, &row);
    world.log.commit(commit).await.unwrap();
    let more = put(&world, &version, &[("!b:here", "t", key(false, 0, 0))]).await;
    assert!(matches!(more, Err(DeviceError::TooLarge)));
    put(&world, &version, &[("!b:here", "s", key(true, 0, 0))]).await.unwrap();
}
