//! Access and refresh tokens, devices and when they were last heard of.

use super::{super::DEVICES, Duration, NewSession, Session, World, device, outcome};
use crate::log::Commit;

fn refresh_token(session: &Session) -> &str {
    session.refresh_token.as_deref().unwrap()
}

#[tokio::test]
async fn a_token_stands_for_one_device() {
    let world = World::new().await;
    let (alice, bob) = (world.user("alice").await, world.user("bob").await);
    let phone = world.login(&alice, "PHONE", false).await;
    let same_name = world.login(&bob, "PHONE", false).await;
    assert_eq!(world.meets(&phone.access_token).await, "@alice:here PHONE");
    assert_eq!(world.meets(&same_name.access_token).await, "@bob:here PHONE");
    assert_eq!((phone.refresh_token, phone.expires_in), (None, None));
    for nonsense in ["", "x", &phone.access_token[1..], &phone.access_token.to_lowercase()] {
        assert_eq!(world.meets(nonsense).await, "unknown token", "{nonsense}");
    }
    let again = world.login(&alice, "PHONE", false).await;
    assert_eq!(world.meets(&phone.access_token).await, "unknown token", "the device logged in anew");
    let world = world.restart().await;
    assert_eq!(world.meets(&again.access_token).await, "@alice:here PHONE");
    let made_up =
        NewSession { user_id: alice, device_id: None, display_name: None, refreshes: false, client: None };
    let session = world.accounts.start_session(made_up).await.unwrap();
    assert_eq!(session.device_id.as_str().len(), 10);
}

#[tokio::test]
async fn a_removed_device_is_out_at_once() {
    let world = World::new().await;
    let alice = world.user("alice").await;
    let session = world.login(&alice, "PHONE", true).await;
    assert_eq!(world.meets(&session.access_token).await, "@alice:here PHONE");
    let owner = (alice.clone(), device("PHONE"));
    let row = world.log.db().row(&DEVICES, &owner).await.unwrap().unwrap();
    let mut commit = Commit::new();
    row.forget(&mut commit, &owner);
    world.log.commit(commit).await.unwrap();
    assert_eq!(world.meets(&session.access_token).await, "unknown token");
    assert_eq!(outcome(&world.accounts.refresh(refresh_token(&session), None).await), "unknown token");
    assert_eq!(world.accounts.last_seen(&alice, &[device("PHONE")]).await.unwrap(), [None]);
}

#[tokio::test]
async fn whether_an_account_is_in_use_decides_every_way_in() {
    let world = World::new().await;
    let alice = world.user("alice").await;
    let session = world.login(&alice, "PHONE", true).await;
    world.change(&alice, |user| user.locked = true).await;
    assert_eq!(world.meets(&session.access_token).await, "locked");
    assert!(world.accounts.recognize(&session.access_token).await.unwrap().1.locked, "may log out");
    // The session goes on: a client that refreshes is told of the lock, and of no end.
    let renewed = world.accounts.refresh(refresh_token(&session), None).await.unwrap();
    assert_eq!(world.meets(&renewed.access_token).await, "locked");
    world.clock.advance(Duration::from_secs(301));
    assert_eq!(outcome(&world.accounts.recognize(&renewed.access_token).await), "locked");
    let session = world.accounts.refresh(refresh_token(&renewed), None).await.unwrap();
    let login = NewSession {
        user_id: alice.clone(),
        device_id: None,
        display_name: None,
        refreshes: false,
        client: None,
    };
    assert_eq!(outcome(&world.accounts.start_session(login).await), "locked");
    world.change(&alice, |user| user.locked = false).await;
    assert_eq!(world.meets(&session.access_token).await, "@alice:here PHONE");
    let stranger = ruma::owned_user_id!("@nobody:here");
    let login =
        NewSession { user_id: stranger, device_id: None, display_name: None, refreshes: false, client: None };
    assert_eq!(outcome(&world.accounts.start_session(login).await), "not found");
}

#[tokio::test]
async fn tokens_that_can_be_refreshed_expire_softly() {
    let world = World::new().await;
    let alice = world.user("alice").await;
    let first = world.login(&alice, "PHONE", true).await;
    assert_eq!(first.expires_in, Some(Duration::from_secs(300)));
    world.clock.advance(Duration::from_millis(299_999));
    assert_eq!(world.meets(&first.access_token).await, "@alice:here PHONE");
    world.clock.advance(Duration::from_millis(1));
    assert_eq!(world.meets(&first.access_token).await, "soft logout");
    let second = world.accounts.refresh(refresh_token(&first), None).await.unwrap();
    assert_eq!(world.meets(&second.access_token).await, "@alice:here PHONE");
    assert_eq!(world.meets(&first.access_token).await, "unknown token");
}

#[tokio::test]
async fn what_came_before_a_refresh_ends_when_the_new_token_is_used() {
    let world = World::new().await;
    let alice = world.user("alice").await;
    let first = world.login(&alice, "PHONE", true).await;
    let second = world.accounts.refresh(refresh_token(&first), None).await.unwrap();
    assert_eq!(world.meets(&first.access_token).await, "@alice:here PHONE", "the answer may be lost");
    // The answer was lost: the client asks again, and again.
    let third = world.accounts.refresh(refresh_token(&first), None).await.unwrap();
    assert_eq!(world.meets(&second.access_token).await, "unknown token", "replaced");
    assert_eq!(outcome(&world.accounts.refresh(refresh_token(&second), None).await), "unknown token");
    assert_eq!(world.meets(&third.access_token).await, "@alice:here PHONE");
    for (session, expected) in [(&first, "unknown token"), (&third, "@alice:here PHONE")] {
        assert_eq!(world.meets(&session.access_token).await, expected);
    }
    assert_eq!(outcome(&world.accounts.refresh(refresh_token(&first), None).await), "unknown token", "used");
    let row = world.log.db().row(&DEVICES, &(alice, device("PHONE"))).await.unwrap().unwrap();
    assert_eq!((row.tokens.len(), row.refresh_tokens.len()), (1, 1));
}

#[tokio::test]
async fn a_new_refresh_token_ends_what_came_before_too() {
    let world = World::new().await;
    let alice = world.user("alice").await;
    let first = world.login(&alice, "PHONE", true).await;
    let second = world.accounts.refresh(refresh_token(&first), None).await.unwrap();
    let third = world.accounts.refresh(refresh_token(&second), None).await.unwrap();
    assert_eq!(world.meets(&first.access_token).await, "unknown token");
    assert_eq!(outcome(&world.accounts.refresh(refresh_token(&first), None).await), "unknown token");
    assert_eq!(world.meets(&second.access_token).await, "@alice:here PHONE");
    assert_eq!(world.meets(&third.access_token).await, "@alice:here PHONE", "its own use settles it");
    assert_eq!(world.meets(&second.access_token).await, "unknown token");
}

#[tokio::test]
async fn many_refreshes_leave_two_pairs_at_most() {
    let world = World::new().await;
    let alice = world.user("alice").await;
    let first = world.login(&alice, "PHONE", true).await;
    for _ in 0..20 {
        world.accounts.refresh(refresh_token(&first), None).await.unwrap();
    }
    let row = world.log.db().row(&DEVICES, &(alice, device("PHONE"))).await.unwrap().unwrap();
    assert_eq!((row.tokens.len(), row.refresh_tokens.len()), (2, 2));
}

#[tokio::test]
async fn when_devices_were_last_heard_of_survives_a_restart_to_within_minutes() {
    let world = World::new().await;
    let alice = world.user("alice").await;
    let devices = [device("PHONE"), device("TABLET")];
    let times = async |world: &World| {
        let seen = world.accounts.last_seen(&alice, &devices).await.unwrap();
        seen.into_iter().map(|seen| seen.map(|seen| seen.at_ms)).collect::<Vec<_>>()
    };
    let note = |world: &World| world.accounts.note_seen(&alice, &devices[0], Some("1.2.3.4".to_owned()));
    note(&world);
    let rows_before = world.log.head();
    world.clock.advance(Duration::from_secs(60));
    note(&world);
    assert_eq!(times(&world).await, [Some(1_060_000), None]);
    assert_eq!(world.log.head(), rows_before, "no fact is written");
    let world = world.restart().await;
    assert_eq!(times(&world).await, [Some(1_000_000), None]);
    world.clock.advance(Duration::from_secs(600));
    note(&world);
    let world = world.restart().await;
    assert_eq!(times(&world).await, [Some(1_660_000), None]);
    let seen = world.accounts.last_seen(&alice, &devices[..1]).await.unwrap();
    assert_eq!(seen[0].as_ref().unwrap().ip.as_deref(), Some("1.2.3.4"));
}

#[tokio::test]
async fn names_of_devices_are_kept_and_bounded() {
    let world = World::new().await;
    let alice = world.user("alice").await;
    let login = |device_id: &str, name: &str| NewSession {
        user_id: alice.clone(),
        device_id: Some(device_id.into()),
        display_name: Some(name.to_owned()),
        refreshes: false,
        client: None,
    };
    for (id, name, expected) in [
        ("PHONE", "my phone", "ok"),
        ("PHONE", "another name", "ok"),
        ("", "x", "invalid"),
        (&"x".repeat(256), "x", "invalid"),
        ("TABLET", &"x".repeat(1_000), "invalid"),
    ] {
        assert_eq!(outcome(&world.accounts.start_session(login(id, name)).await), expected, "{id} {name}");
    }
    let row = world.log.db().row(&DEVICES, &(alice.clone(), device("PHONE"))).await.unwrap().unwrap();
    assert_eq!(row.display_name.as_deref(), Some("my phone"));
}
