//! Pushers that write letters.

use std::time::Duration;

use ruma::{OwnedRoomId, api::client::push::Pusher};
use serde_json::json;

use super::{Mood, World, user};
use crate::{
    account::{Caller, NewProof, ProofOf},
    delivery::Digest,
    push::{PushError, PusherSetting},
};

const ADDRESS: &str = "alice@example.org";
const MINUTE: Duration = Duration::from_secs(60);

fn letters_to(address: &str, app_id: &str) -> Pusher {
    serde_json::from_value(json!({
        "app_id": app_id, "pushkey": address, "kind": "email", "app_display_name": "Letters",
        "device_display_name": address, "lang": "en", "data": {},
    }))
    .unwrap()
}

impl World {
    async fn try_letters(&self, address: &str, app_id: &str) -> Result<(), PushError> {
        let caller = Caller { user_id: user("alice"), device_id: "PHONE".into() };
        let setting = PusherSetting { append: false, disabled: false, now_ms: 5_000 };
        self.push.set_pusher(&caller, &letters_to(address, app_id), setting).await
    }

    /// A world in which alice gets letters about what she has not read in a room.
    pub(super) async fn with_letters() -> (Self, OwnedRoomId) {
        let world = Self::new().await;
        let (address, client_secret) = (ADDRESS.to_owned(), "hidden".to_owned());
        let new = NewProof { of: ProofOf::Account, address, client_secret, attempt: 1 };
        let begun = world.accounts.begin_proof(new).await.unwrap();
        assert!(world.accounts.confirm_proof(&begun.sid, &begun.code.unwrap()).await.unwrap());
        let proved = world.accounts.proved(ProofOf::Account, (&begun.sid, "hidden")).await.unwrap().unwrap();
        world.accounts.add_address(&user("alice"), &proved).await.unwrap();
        let room = world.room().await;
        world.try_letters(ADDRESS, "m.email").await.unwrap();
        (world, room)
    }

    pub(super) async fn wait(&self, minutes: u32) {
        // The dispatcher looks at its clock once in a while.
        for _ in 0..minutes {
            tokio::time::sleep(MINUTE).await;
        }
    }

    pub(super) fn letters(&self) -> Vec<Digest> {
        self.phones.letters.lock().clone()
    }
}

fn texts(digest: &Digest) -> Vec<&str> {
    digest.lines.iter().map(|line| line.text.as_deref().unwrap_or("-")).collect()
}

#[tokio::test(start_paused = true)]
async fn what_is_not_read_for_a_while_is_told_in_one_letter() {
    let (world, room) = World::with_letters().await;
    world.say("bob", &room, "one").await;
    world.wait(5).await;
    world.say("bob", &room, "two\n\u{202E}li\u{2028}nes\u{2066}").await;
    world.say("alice", &room, "my own words").await;
    world.wait(4).await;
    assert_eq!(world.letters(), [], "it is too early");
    world.wait(3).await;
    let letters = world.letters();
    assert_eq!(letters.iter().map(texts).collect::<Vec<_>>(), [["one", "two lines"]]);
    assert_eq!((&*letters[0].address, &*letters[0].lines[0].sender, letters[0].more), (ADDRESS, "bob", 0));
    world.wait(200).await;
    assert_eq!(world.letters().len(), 1, "nothing is told twice");
    world.log.close();
}

#[tokio::test(start_paused = true)]
async fn what_was_read_in_time_needs_no_letter() {
    let (world, room) = World::with_letters().await;
    let one = world.say("bob", &room, "one").await;
    world.wait(5).await;
    world.read(&room, &one).await;
    world.wait(30).await;
    assert_eq!(world.letters(), []);
    world.say("bob", &room, "two").await;
    world.wait(9).await;
    assert_eq!(world.letters(), [], "the time begins anew");
    world.wait(3).await;
    assert_eq!(world.letters().iter().map(texts).collect::<Vec<_>>(), [["two"]]);
    world.log.close();
}

#[tokio::test(start_paused = true)]
async fn letters_that_nobody_answers_get_rarer() {
    let (world, room) = World::with_letters().await;
    world.say("bob", &room, "one").await;
    world.wait(12).await;
    assert_eq!(world.letters().len(), 1);
    // An app that sets its pusher again changes nothing of that.
    world.try_letters(ADDRESS, "m.email").await.unwrap();
    world.say("bob", &room, "two").await;
    world.wait(40).await;
    assert_eq!(world.letters().len(), 1, "the first has not been answered");
    world.wait(40).await;
    assert_eq!(world.letters().len(), 2);
    let three = world.say("bob", &room, "three").await;
    world.wait(60).await;
    assert_eq!(world.letters().len(), 2, "nor has the second");
    world.read(&room, &three).await;
    world.wait(60).await;
    assert_eq!(world.letters().len(), 2, "it was read before the letter");
    world.say("bob", &room, "four").await;
    world.wait(12).await;
    assert_eq!(world.letters().len(), 3, "everything has been read in between");
    world.log.close();
}

#[tokio::test(start_paused = true)]
async fn a_letter_outlives_restarts_and_a_mail_server_that_fails() {
    let (world, room) = World::with_letters().await;
    world.say("bob", &room, "one").await;
    world.wait(5).await;
    let world = world.crash().await;
    *world.phones.mood.lock() = Mood::Fails;
    world.wait(20).await;
    assert!(*world.phones.tries.lock() > 1, "it is tried again");
    assert_eq!(world.letters(), []);
    world.say("bob", &room, "two").await;
    let world = world.crash().await;
    *world.phones.mood.lock() = Mood::Takes;
    world.wait(30).await;
    assert_eq!(world.letters().iter().map(texts).collect::<Vec<_>>(), [["one", "two"]]);
    let world = world.crash().await;
    world.wait(200).await;
    assert_eq!(world.letters().len(), 1);
    world.log.close();
}

#[tokio::test(start_paused = true)]
async fn what_no_mail_server_takes_for_a_day_is_given_up() {
    let (world, room) = World::with_letters().await;
    *world.phones.mood.lock() = Mood::Fails;
    world.say("bob", &room, "one").await;
    world.wait(26 * 60).await;
    let row = world.push.pushers(&user("alice")).await.unwrap()[0].1.clone();
    assert_eq!((row.cursor, row.trouble), (world.log.head(), None));
    *world.phones.mood.lock() = Mood::Takes;
    world.say("bob", &room, "two").await;
    world.wait(12).await;
    assert_eq!(world.letters().iter().map(texts).collect::<Vec<_>>(), [["two"]]);
    world.log.close();
}

#[tokio::test(start_paused = true)]
async fn a_letter_has_bounds() {
    let (world, room) = World::with_letters().await;
    for number in 0..40 {
        world.say("bob", &room, &format!("{number} {}", "x".repeat(1_000))).await;
    }
    world.wait(12).await;
    let letters = world.letters();
    assert_eq!((letters.len(), letters[0].lines.len(), letters[0].more), (1, 30, 10));
    let last = letters[0].lines[29].text.as_deref().unwrap();
    assert!(last.starts_with("39 x") && last.chars().count() == 201, "{last}");
    world.log.close();
}

#[tokio::test(start_paused = true)]
async fn letters_go_to_proved_addresses_only() {
    let (world, room) = World::with_letters().await;
    for (address, app_id) in [
        ("bob@example.org", "m.email"),
        ("Alice@example.org", "m.email"),
        ("nonsense", "m.email"),
        (ADDRESS, "org.x"),
    ] {
        let refused = world.try_letters(address, app_id).await;
        assert!(matches!(refused, Err(PushError::Invalid(_))), "{address} {app_id}");
    }
    let caller = Caller { user_id: user("bob"), device_id: "PHONE".into() };
    let setting = PusherSetting { append: false, disabled: false, now_ms: 5_000 };
    let usurper = json!({
        "app_id": "m.email", "pushkey": ADDRESS, "kind": "http", "app_display_name": "App",
        "device_display_name": "Phone", "lang": "en",
        "data": { "url": "https://gateway.example/_matrix/push/v1/notify" },
    });
    let refused = world.push.set_pusher(&caller, &serde_json::from_value(usurper).unwrap(), setting).await;
    assert!(matches!(refused, Err(PushError::Invalid(_))), "it would take the place of alice's");
    world.say("bob", &room, "one").await;
    world.wait(5).await;
    world.accounts.remove_address(&user("alice"), ADDRESS).await.unwrap();
    world.wait(30).await;
    assert_eq!(world.letters(), []);
    assert!(world.push.pushers(&user("alice")).await.unwrap().is_empty());
    world.log.close();
}
