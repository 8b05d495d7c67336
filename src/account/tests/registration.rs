//! Names, passwords, registration by secret, and what is left of an account that has ended.

use hmac::{Hmac, KeyInit, Mac};
use sha1::Sha1;

use super::{
    super::SharedSecretUser, Duration, NewDevice, NewSession, NewUser, Registration, Settings, World, device,
    outcome,
};
use crate::{
    account::{DEVICES, Identity},
    limits::{PASSWORD_HASHES_AT_ONCE, PASSWORD_HASHES_WAITING_MAX},
    log::Commit,
    store::{Key, Scan, table::TableId},
};

#[tokio::test]
async fn names_follow_the_grammar() {
    let world = World::new().await;
    world.user("taken").await;
    for (name, expected) in [
        ("alice", "ok"),
        ("a.b_c=d-e/f+1", "ok"),
        ("@alice:here", "ok"),
        ("Alice", "ok"),
        ("taken", "in use"),
        ("TAKEN", "in use"),
        ("@taken:here", "in use"),
        ("", "invalid username"),
        ("@:here", "invalid username"),
        ("@alice:there", "invalid username"),
        ("@alice", "invalid username"),
        ("alice!", "invalid username"),
        ("al ice", "invalid username"),
        ("álice", "invalid username"),
        ("\u{212a}elvin", "invalid username"),
        ("alice:here", "invalid username"),
        ("al\0ice", "invalid username"),
        (&"a".repeat(249), "ok"),
        (&"a".repeat(250), "invalid username"),
    ] {
        assert_eq!(outcome(&world.accounts.available(name).await), expected, "{name:?}");
    }
}

/// Row 7.7 of the list of known vulnerabilities (Dendrite: a registration went through for an account that there was):
/// of those who want a name at once, however it is spelt and by whichever way, one gets it, and it stays theirs.
#[tokio::test]
async fn row_7_7_of_several_who_want_a_name_one_gets_it() {
    let world = World::new().await;
    let accounts = &world.accounts;
    let new = |name: &str, password: &str| NewUser {
        username: Some(name.to_owned()),
        password: Some(password.to_owned()),
        ..NewUser::default()
    };
    let secret = |name: &str, password: &str| {
        let nonce = accounts.registration_nonce();
        let mut mac = Hmac::<Sha1>::new_from_slice(b"shared").unwrap();
        mac.update(format!("{nonce}\0{name}\0{password}\0notadmin").as_bytes());
        let mac = mac.finalize().into_bytes().iter().map(|byte| format!("{byte:02x}")).collect();
        let (username, password) = (name.to_owned(), password.to_owned());
        SharedSecretUser { nonce, username, password, admin: false, user_type: None, mac }
    };
    let (made, registered, by_secret, again) = tokio::join!(
        futures_util::future::join_all(
            ["bob", "Bob", "@bob:here"].map(|name| accounts.create_user(new(name, name)))
        ),
        futures_util::future::join_all(
            ["BOB", "@BOB:here"].map(|name| accounts.register(new(name, name), NewDevice::default()))
        ),
        accounts.register_with_shared_secret("shared", secret("bOB", "bOB")),
        accounts.create_own_user("bob"),
    );
    let mut outcomes: Vec<_> = made.iter().map(outcome).chain(registered.iter().map(outcome)).collect();
    outcomes.extend([outcome(&by_secret), outcome(&again)]);
    assert_eq!(outcomes.iter().filter(|outcome| **outcome == "ok").count(), 1, "{outcomes:?}");
    assert!(outcomes.iter().all(|outcome| ["ok", "in use"].contains(outcome)), "{outcomes:?}");
    assert_eq!(accounts.users(None, 10).await.unwrap().len(), 1);
    // Whoever comes later changes nothing about it either.
    let before = accounts.users(None, 10).await.unwrap();
    let sessions = registered.iter().chain([&by_secret]).filter_map(|session| session.as_ref().ok()).count();
    assert_eq!(outcome(&accounts.create_user(new("bob", "late")).await), "in use");
    assert_eq!(outcome(&accounts.register(new("BOB", "late"), NewDevice::default()).await), "in use");
    assert_eq!(
        outcome(&accounts.register_with_shared_secret("shared", secret("Bob", "late")).await),
        "in use"
    );
    assert_eq!(accounts.users(None, 10).await.unwrap(), before);
    let bob = before[0].0.clone();
    assert!(accounts.check_password(&bob, "late").await.is_err());
    let devices = world.log.db().range(&DEVICES, &(bob,), 10).await.unwrap();
    assert_eq!(devices.len(), sessions, "who got no account got no session");
}

#[tokio::test]
async fn registration_is_closed_unless_it_is_opened() {
    for (registration, expected) in
        [(Registration::Closed, "refused"), (Registration::Token, "ok"), (Registration::Open, "ok")]
    {
        let world = World::with(Settings { registration, ..Settings::default() }).await;
        assert_eq!(outcome(&world.accounts.check_registration()), expected);
    }
    assert_eq!(Settings::default().registration, Registration::Closed);
}

#[tokio::test]
async fn an_account_and_its_first_login_are_one() {
    let world = World::new().await;
    let new = || NewUser { username: Some("alice".to_owned()), ..NewUser::default() };
    let phone = NewDevice { device_id: Some(device("PHONE")), ..NewDevice::default() };
    let too_long = NewDevice { device_id: Some("x".repeat(256).into()), ..NewDevice::default() };
    assert_eq!(outcome(&world.accounts.register(new(), too_long).await), "invalid");
    let session = world.accounts.register(new(), phone).await.unwrap();
    assert_eq!(world.meets(&session.access_token).await, "@alice:here PHONE");
    assert_eq!(world.accounts.display(&session.user_id).await.unwrap().0.as_deref(), Some("alice"));
    let nameless = world.accounts.create_user(NewUser::default()).await.unwrap();
    assert!(world.accounts.is_active(&nameless).await.unwrap());
}

#[tokio::test]
async fn users_are_listed_in_pages() {
    let world = World::new().await;
    for name in ["c", "a", "b"] {
        world.user(name).await;
    }
    let first = world.accounts.users(None, 2).await.unwrap();
    let names: Vec<_> = first.iter().map(|(user, _)| user.localpart()).collect();
    assert_eq!(names, ["a", "b"]);
    let rest = world.accounts.users(Some(&first[1].0), 2).await.unwrap();
    assert_eq!(rest.iter().map(|(user, _)| user.localpart()).collect::<Vec<_>>(), ["c"]);
}

#[tokio::test]
async fn passwords_are_checked_and_never_stored() {
    let world = World::new().await;
    let canary = "correct horse battery staple";
    let new = NewUser {
        username: Some("alice".to_owned()),
        password: Some(canary.to_owned()),
        ..NewUser::default()
    };
    let alice = world.accounts.create_user(new).await.unwrap();
    let nobody = ruma::owned_user_id!("@nobody:here");
    let passwordless = world.user("bot").await;
    let long = "x".repeat(2_000);
    for (user, password, expected) in [
        (&alice, canary, "ok"),
        (&alice, "wrong", "wrong password"),
        (&alice, "", "wrong password"),
        (&alice, &long, "wrong password"),
        (&nobody, canary, "wrong password"),
        (&passwordless, "", "wrong password"),
    ] {
        let checked = world.accounts.check_password(user, password).await;
        assert_eq!(outcome(&checked), expected, "{user} {password}");
    }
    assert_eq!(outcome(&world.accounts.set_password(&alice, "").await), "invalid");
    assert_eq!(outcome(&world.accounts.set_password(&alice, &long).await), "too large");
    world.accounts.set_password(&alice, "new").await.unwrap();
    assert_eq!(outcome(&world.accounts.check_password(&alice, canary).await), "wrong password");
    assert_eq!(outcome(&world.accounts.check_password(&alice, "new").await), "ok");
    let session = world.login(&alice, "PHONE", true).await;
    let secrets = [canary, &session.access_token, session.refresh_token.as_deref().unwrap()];
    let everything = Scan { from: Key(vec![0]), to: Key(vec![0xFF]), reverse: false, limit: 1_000 };
    for (key, value) in world.store.scan_many(&[everything]).await.unwrap().concat() {
        let text = [String::from_utf8_lossy(&key.0), String::from_utf8_lossy(&value)].concat();
        assert!(secrets.iter().all(|secret| !text.contains(secret)), "a secret is stored: {text}");
    }
}

#[tokio::test]
async fn an_account_that_has_ended_keeps_nothing_but_its_name() {
    let world = World::new().await;
    let new = NewUser {
        username: Some("alice".to_owned()),
        password: Some("secret".to_owned()),
        ..NewUser::default()
    };
    let phone = NewDevice { device_id: Some(device("PHONE")), refreshes: true, ..NewDevice::default() };
    let session = world.accounts.register(new, phone).await.unwrap();
    let alice = &session.user_id;
    let openid = world.accounts.openid_token(alice).await.unwrap();
    let data = serde_json::value::to_raw_value(&serde_json::json!({"a": 1})).unwrap();
    let change = super::super::DataChange { room_id: None, event_type: "x".to_owned(), content: data };
    world.accounts.set_data(alice, change).await.unwrap();
    world.accounts.deactivate(alice, true).await.unwrap();
    world.accounts.deactivate(alice, false).await.unwrap();

    assert_eq!(world.meets(&session.access_token).await, "unknown token");
    assert_eq!(
        outcome(&world.accounts.refresh(&session.refresh_token.clone().unwrap(), None).await),
        "unknown token"
    );
    assert_eq!(outcome(&world.accounts.check_password(alice, "secret").await), "deactivated");
    assert_eq!(outcome(&world.accounts.openid_user(&openid).await), "unknown token");
    assert_eq!(outcome(&world.accounts.profile(alice).await), "not found");
    assert!(world.accounts.all_data(alice, None).await.unwrap().is_empty());
    assert_eq!(outcome(&world.accounts.available("alice").await), "in use");
    world.accounts.set_password(alice, "again").await.unwrap();
    let user = world.accounts.user(alice).await.unwrap().unwrap();
    assert_eq!((user.password_hash, user.erased), (None, true));
    let login = super::NewSession {
        user_id: alice.clone(),
        device_id: None,
        display_name: None,
        refreshes: false,
        client: None,
    };
    assert_eq!(outcome(&world.accounts.start_session(login).await), "deactivated");
    let nobody = ruma::owned_user_id!("@nobody:here");
    assert_eq!(outcome(&world.accounts.deactivate(&nobody, false).await), "not found");
}

fn sign(secret: &str, asked: &SharedSecretUser) -> String {
    let role = if asked.admin { "admin" } else { "notadmin" };
    let mut text = [&*asked.nonce, &asked.username, &asked.password, role].join("\0");
    if let Some(user_type) = &asked.user_type {
        text = [&text, user_type.as_str()].join("\0");
    }
    let mut mac = Hmac::<Sha1>::new_from_slice(secret.as_bytes()).unwrap();
    mac.update(text.as_bytes());
    mac.finalize().into_bytes().iter().map(|byte| format!("{byte:02x}")).collect()
}

#[tokio::test]
async fn whoever_knows_the_secret_may_register() {
    let world = World::new().await;
    let asked = |nonce: String| {
        let mut asked = SharedSecretUser {
            nonce,
            username: "Root".to_owned(),
            password: "pw".to_owned(),
            admin: true,
            user_type: None,
            mac: String::new(),
        };
        asked.mac = sign("secret", &asked);
        asked
    };
    let register = |secret: &'static str, asked| world.accounts.register_with_shared_secret(secret, asked);

    assert_eq!(outcome(&register("secret", asked("made-up".to_owned())).await), "invalid");
    let late = world.accounts.registration_nonce();
    world.clock.advance(Duration::from_secs(60));
    assert_eq!(outcome(&register("secret", asked(late)).await), "invalid");
    let wrong: [fn(&mut SharedSecretUser); 5] = [
        |asked| asked.admin = false,
        |asked| asked.username = "other".to_owned(),
        |asked| asked.mac = "zz".repeat(20),
        |asked| asked.mac.truncate(38),
        |asked| asked.user_type = Some("bot".to_owned()),
    ];
    for spoil in wrong {
        let mut asked = asked(world.accounts.registration_nonce());
        spoil(&mut asked);
        assert_eq!(outcome(&register("secret", asked).await), "refused");
    }
    let mut unsigned = asked(world.accounts.registration_nonce());
    unsigned.mac = sign("", &unsigned);
    assert_eq!(outcome(&register("", unsigned).await), "refused");

    let nonce = world.accounts.registration_nonce();
    let session = register("secret", asked(nonce.clone())).await.unwrap();
    assert_eq!(session.user_id, "@root:here");
    assert!(world.accounts.user(&session.user_id).await.unwrap().unwrap().admin);
    assert_eq!(outcome(&register("secret", asked(nonce)).await), "invalid", "a nonce is good once");
    let again = asked(world.accounts.registration_nonce());
    assert_eq!(outcome(&register("secret", again).await), "in use");
    let mut bot = asked(world.accounts.registration_nonce());
    bot.username = "bot".to_owned();
    bot.user_type = Some("bot".to_owned());
    bot.mac = sign("secret", &bot);
    assert_eq!(outcome(&register("secret", bot).await), "ok");
}

#[tokio::test]
async fn openid_tokens_end_and_are_cleared_away() {
    let world = World::new().await;
    let alice = world.user("alice").await;
    let token = world.accounts.openid_token(&alice).await.unwrap();
    assert_eq!(world.accounts.openid_user(&token).await.unwrap(), alice);
    for wrong in ["", "lko_", "lko_99999999999_x", "lko_x_y", &token[..token.len() - 1]] {
        assert_eq!(outcome(&world.accounts.openid_user(wrong).await), "unknown token", "{wrong}");
    }
    assert_eq!(world.meets(&token).await, "unknown token", "it is no access token");
    world.clock.advance(Duration::from_secs(3_601));
    assert_eq!(outcome(&world.accounts.openid_user(&token).await), "unknown token");
    world.accounts.openid_token(&alice).await.unwrap();
    let table = Key(vec![TableId::OpenIdToken as u8]);
    let scan = Scan { from: table.clone(), to: table.after_prefix(), reverse: false, limit: 10 };
    assert_eq!(world.store.scan_many(&[scan]).await.unwrap().concat().len(), 1);
}

/// Whoever makes many wait holds up a bounded part of what the server answers.
#[tokio::test]
async fn few_wait_for_a_password_to_be_checked() {
    let world = World::new().await;
    let alice = world.user("alice").await;
    let all = u32::try_from(PASSWORD_HASHES_AT_ONCE).unwrap();
    let busy = world.accounts.hashing.clone().acquire_many_owned(all).await.unwrap();
    let check = || Box::pin(world.accounts.check_password(&alice, "wrong"));
    let mut waiting: Vec<_> = (0..PASSWORD_HASHES_WAITING_MAX).map(|_| check()).collect();
    for _ in 0..16 {
        for check in &mut waiting {
            assert!(futures_util::poll!(check).is_pending());
        }
        tokio::task::yield_now().await;
    }
    assert_eq!(outcome(&check().await), "busy");
    drop(waiting);
    drop(busy);
    assert_eq!(outcome(&check().await), "wrong password", "whoever gives up makes room");
}

/// While a check of the old password waits, its owner gets another one and shuts everybody out.
#[tokio::test]
async fn what_was_shown_before_another_password_is_good_for_nothing() {
    let world = World::new().await;
    let new = NewUser {
        username: Some("alice".to_owned()),
        password: Some("old".to_owned()),
        ..NewUser::default()
    };
    let alice = world.accounts.create_user(new).await.unwrap();
    let shown = world.accounts.check_password(&alice, "old").await.unwrap();
    assert_eq!(outcome(&world.accounts.login_token_by(&shown).await), "ok");
    assert_eq!(outcome(&world.accounts.start_session_by(&shown, NewDevice::default()).await), "ok");
    let newer = world.accounts.replace_password(&shown, "new").await.unwrap();
    let accounts = &world.accounts;
    assert_eq!(outcome(&accounts.start_session_by(&shown, NewDevice::default()).await), "wrong password");
    assert_eq!(outcome(&accounts.login_token_by(&shown).await), "wrong password");
    assert_eq!(outcome(&accounts.replace_password(&shown, "stolen").await), "wrong password");
    let identity = Identity { provider: "p".to_owned(), subject: "mallory".to_owned() };
    assert_eq!(outcome(&accounts.link(&shown, &identity, |_| ()).await), "wrong password");
    assert!(accounts.identities(&alice).await.unwrap().is_empty());
    assert_eq!(outcome(&accounts.check_password(&alice, "new").await), "ok");
    assert_eq!(outcome(&accounts.start_session_by(&newer, NewDevice::default()).await), "ok");
    world.change(&alice, |user| user.locked = true).await;
    assert_eq!(outcome(&accounts.start_session_by(&newer, NewDevice::default()).await), "locked");
}

/// Keys and devices are looked up by one name: see `device`, which refuses it from the other side.
#[tokio::test]
async fn no_device_gets_the_name_of_a_cross_signing_key() {
    let world = World::new().await;
    let alice = world.user("alice").await;
    let key = "A".repeat(43);
    let row = serde_json::json!({ "keys": { format!("ed25519:{key}"): key }, "usage": ["master"] });
    let mut commit = Commit::new();
    let place = Key::new(TableId::CrossSigningKey, &(alice.clone(), "master".to_owned()));
    commit.put_raw(place, serde_json::to_vec(&row).unwrap());
    world.log.commit(commit).await.unwrap();
    for (name, expected) in [(key, "name of a key"), ("B".repeat(43), "ok")] {
        let new = NewSession {
            user_id: alice.clone(),
            device_id: Some(device(&name)),
            display_name: None,
            refreshes: false,
            client: None,
        };
        assert_eq!(outcome(&world.accounts.start_session(new).await), expected);
        let other = device(&name.replace('B', "C"));
        assert_eq!(outcome(&world.accounts.make_device(&alice, &other, None).await), expected);
    }
}
