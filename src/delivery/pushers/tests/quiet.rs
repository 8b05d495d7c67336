//! What a phone is not told, and what letters do not say.

use std::time::Duration;

use serde_json::{Value, json};

use super::{Mood, World, pusher, user};
use crate::{account::NewUser, room::NewRoom};

impl World {
    /// Somebody invites alice into another room, which has a name, and says why.
    async fn invited_by(&self, name: &str) {
        let room = NewRoom { name: Some("Buy this".to_owned()), ..NewRoom::default() };
        let room = self.rooms.create(&user(name), room).await.unwrap();
        self.rooms.invite(&user(name), &room, &user("alice"), Some("it is cheap")).await.unwrap();
    }

    pub(super) async fn lock(&self, locked: bool) {
        self.accounts.change_user(&user("alice"), |user| user.locked = locked).await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn whoever_is_locked_out_is_told_nothing_of_that_time() {
    let world = World::new().await;
    let room = world.room().await;
    world.set("PHONE", &pusher("key", None), false).await;
    let one = world.say("bob", &room, "one").await;
    world.phones.until("told", |taken| !taken.is_empty()).await;
    world.lock(true).await;
    world.say("bob", &room, "two").await;
    tokio::time::sleep(Duration::from_secs(3_600)).await;
    world.lock(false).await;
    let three = world.say("bob", &room, "three").await;
    world.phones.until("told again", |taken| taken.len() > 1).await;
    // A gateway that is not there makes no difference.
    *world.phones.mood.lock() = Mood::Fails;
    world.say("bob", &room, "four").await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    world.lock(true).await;
    world.say("bob", &room, "five").await;
    world.lock(false).await;
    *world.phones.mood.lock() = Mood::Takes;
    let six = world.say("bob", &room, "six").await;
    tokio::time::sleep(Duration::from_secs(3_600)).await;
    assert_eq!(world.phones.events(), [one, three, six].map(|id| id.to_string()));
    world.log.close();
}

#[tokio::test(start_paused = true)]
async fn what_is_not_shown_any_more_is_not_told() {
    let world = World::new().await;
    let room = world.room().await;
    world.set("PHONE", &pusher("key", None), false).await;
    *world.phones.mood.lock() = Mood::Fails;
    let one = world.say("bob", &room, "one").await;
    let two = world.say("bob", &room, "two").await;
    assert_eq!(world.rooms.expire(&room, std::slice::from_ref(&one)).await.unwrap(), 1);
    *world.phones.mood.lock() = Mood::Takes;
    world.phones.until("told", |taken| !taken.is_empty()).await;
    tokio::time::sleep(Duration::from_secs(3_600)).await;
    assert_eq!(world.phones.events(), [two.to_string()]);
    world.log.close();
}

#[tokio::test(start_paused = true)]
async fn an_invite_by_a_stranger_says_nothing_that_they_chose() {
    for (shares, name, content) in
        [(true, json!("Buy this"), json!("it is cheap")), (false, Value::Null, Value::Null)]
    {
        let world = World::new().await;
        if shares {
            world.room().await;
        }
        world.set("PHONE", &pusher("key", None), false).await;
        world.invited_by("bob").await;
        world.phones.until("invited", |taken| !taken.is_empty()).await;
        let told = world.phones.taken.lock()[0].1.clone();
        assert_eq!((&told["room_name"], &told["content"]["reason"]), (&name, &content), "{told}");
        assert_eq!(told["sender_display_name"].is_string(), shares, "{told}");
        // What is needed to say that there is an invite is always there.
        assert_eq!((&told["type"], &told["user_is_target"]), (&json!("m.room.member"), &json!(true)));
        assert_eq!(
            (&told["sender"], &told["content"]["membership"]),
            (&json!("@bob:a.org"), &json!("invite"))
        );
        assert!(told["event_id"].is_string() && told["room_id"].is_string(), "{told}");
        if !shares {
            assert_eq!(told["content"], json!({ "membership": "invite" }));
        }
        world.log.close();
    }
}

#[tokio::test(start_paused = true)]
async fn a_letter_of_a_stranger_s_invite_says_nothing_that_they_chose() {
    let (world, _) = World::with_letters().await;
    let new = NewUser { username: Some("carol".into()), ..NewUser::default() };
    world.accounts.create_user(new).await.unwrap();
    world.invited_by("carol").await;
    world.invited_by("bob").await;
    world.wait(12).await;
    let letters = world.letters();
    let line = |index: usize| {
        let line = &letters[0].lines[index];
        (line.sender.as_str(), line.room_name.as_deref(), line.text.as_deref(), line.is_invite)
    };
    assert_eq!(line(0), ("@carol:a.org", None, None, true));
    assert_eq!(line(1), ("bob", Some("Buy this"), None, true));
    world.log.close();
}

#[tokio::test(start_paused = true)]
async fn no_letter_tells_of_the_time_in_which_an_account_was_locked() {
    let (world, room) = World::with_letters().await;
    world.say("bob", &room, "one").await;
    world.wait(5).await;
    world.lock(true).await;
    world.say("bob", &room, "two").await;
    world.wait(3).await;
    world.lock(false).await;
    world.wait(60).await;
    assert_eq!(world.letters(), [], "it was due while the account was locked");
    world.say("bob", &room, "three").await;
    world.wait(5).await;
    assert_eq!(world.letters(), [], "the time begins anew");
    world.wait(7).await;
    let letters = world.letters();
    let texts: Vec<_> =
        letters.iter().flat_map(|letter| &letter.lines).map(|line| line.text.as_deref()).collect();
    assert_eq!(texts, [Some("three")]);
    world.log.close();
}

/// An app sets its pusher again at every start.
#[tokio::test(start_paused = true)]
async fn a_pusher_that_is_set_again_remembers_when_it_told_something() {
    let world = World::new().await;
    let room = world.room().await;
    world.set("PHONE", &pusher("key", None), false).await;
    world.say("bob", &room, "one").await;
    let told = async || world.push.pushers(&user("alice")).await.unwrap()[0].1.told_ms;
    while told().await.is_none() {
        tokio::task::yield_now().await;
    }
    let before = told().await;
    world.set("PHONE", &pusher("key", None), false).await;
    assert_eq!(told().await, before);
    world.log.close();
}
