//! Rooms that are joined before their members are known.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use ruma::{OwnedRoomId, RoomId, UserId};
use serde_json::json;
use tokio_util::sync::CancellationToken;

use super::{Node, Wire, server, user};
use crate::{
    account::Caller,
    device::Devices,
    federation::FederationError,
    history::Status,
    limits::PARTIAL_WAIT_MAX,
    push::Push,
    room::RoomError,
    store::memory::Memory,
    sync::{Sync, SyncRequest},
    types::{Fact, Lane, Membership, Position},
};

/// A room of alice's at a, with carol of c in it and mallory of c banned; d's dave has joined it, and cannot get its
/// members yet.
pub(super) async fn scene(version: &str) -> (Arc<Wire>, OwnedRoomId) {
    let wire = Wire::new(&["a", "c", "d"]).await;
    let (a, c, d) = (wire.node("a"), wire.node("c"), wire.node("d"));
    let room = a.create("alice@a", version).await;
    c.join_through(&a, &room, "carol@c").await.unwrap();
    a.rooms().ban(&user("alice@a"), &room, &user("mallory@c"), None).await.unwrap();
    wire.drive().await;
    for other in ["a", "c"] {
        wire.lies.lock().push((server(other), "/v1/state", None));
    }
    d.join_with(&a, &room, ("dave@d", true)).await.unwrap();
    (wire, room)
}

#[tokio::test(start_paused = true)]
async fn a_room_joined_without_its_members_is_usable_and_becomes_whole() {
    for version in ["1", "6", "10", "11", "12"] {
        let (wire, room) = scene(version).await;
        let (a, c, d) = (wire.node("a"), wire.node("c"), wire.node("d"));
        let carol = user("carol@c");
        assert!(d.history().is_partial(&room).await.unwrap(), "{version}");
        assert_eq!(d.history().membership(&room, &carol).await.unwrap(), None, "{version}");
        let first = d.say("dave@d", &room, "I am here").await.unwrap();
        d.set("dave@d", &room, ("org.example.mood", "@dave:d.org"), json!({ "mood": "fine" }))
            .await
            .unwrap_err();
        let told = d.federation.log.head();

        // Who speaks is believed to be there.
        wire.drive().await;
        assert_eq!(c.status(&first).await, Some(Status::Timeline), "{version}: others hear of it");
        let answer = c.say("carol@c", &room, "welcome").await.unwrap();
        wire.drive().await;
        assert_eq!(d.status(&answer).await, Some(Status::Timeline), "{version}");
        let member = d.history().membership(&room, &carol).await.unwrap();
        assert_eq!(member, Some(Membership::Join), "{version}");
        let waited = d.rooms().whole(&room).await;
        assert!(matches!(waited, Err(RoomError::Partial)), "{version}");

        wire.lies.lock().clear();
        for _ in 0..3 {
            wire.clock.advance(Duration::from_secs(3_600));
            d.rooms().judge_due().await.unwrap();
        }
        d.rooms().whole(&room).await.unwrap();
        assert_eq!(d.status(&answer).await, Some(Status::Timeline), "{version}: nothing is lost");
        assert_eq!(d.state(&room).await, a.state(&room).await, "{version}");
        let row = d.history().room(&room).await.unwrap().unwrap();
        assert_eq!((row.joined, row.remote, row.partial), (3, 2, false), "{version}");
        let [ours, theirs] = [&d, &a].map(|node| node.history().state_at(&first));
        let (ours, theirs) = (ours.await.unwrap().unwrap(), theirs.await.unwrap().unwrap());
        for (ours, theirs) in [(ours.before, theirs.before), (ours.after, theirs.after)] {
            let ours = d.history().state_of(ours, None).await.unwrap();
            let theirs = a.history().state_of(theirs, None).await.unwrap();
            assert_eq!(ours, theirs, "{version}: as if all had been known when it was said");
        }
        // The log tells when the members came.
        let before = d.history().state_at_position(&room, told).await.unwrap();
        let after = d.history().state_at_position(&room, d.federation.log.head()).await.unwrap();
        let mallory = user("mallory@c");
        assert_eq!(d.history().membership_in(before, &mallory).await.unwrap(), None, "{version}");
        let member = d.history().membership_in(after, &mallory).await.unwrap();
        assert_eq!(member, Some(Membership::Ban), "{version}");
        assert!(d.history().grown_after(&room, told).await.unwrap().is_some(), "{version}");
    }
}

/// Somebody speaks all the time while the members come.
#[tokio::test(start_paused = true)]
async fn what_is_said_while_a_room_becomes_whole_knows_the_members() {
    for version in ["1", "11", "12"] {
        let (wire, room) = scene(version).await;
        let (a, d) = (wire.node("a"), wire.node("d"));
        wire.lies.lock().clear();
        wire.clock.advance(Duration::from_secs(3_600));
        let talk = async {
            let mut said = Vec::new();
            while d.history().is_partial(&room).await.unwrap() && said.len() < 1_000 {
                said.push(d.say("dave@d", &room, "still here").await.unwrap());
            }
            said
        };
        let (said, done) = tokio::join!(talk, d.rooms().judge_due());
        done.unwrap();
        assert!(!d.history().is_partial(&room).await.unwrap(), "{version}");
        wire.drive().await;
        assert_eq!(d.state(&room).await, a.state(&room).await, "{version}");
        for event in said {
            let [ours, theirs] = [&d, &a].map(|node| node.history().state_at(&event));
            let (ours, theirs) = (ours.await.unwrap().unwrap(), theirs.await.unwrap().unwrap());
            let ours = d.history().state_of(ours.before, None).await.unwrap();
            assert_eq!(ours, a.history().state_of(theirs.before, None).await.unwrap(), "{version}");
        }
    }
}

/// A member who could not be had is asked for again, and the room is not taken for whole without them.
#[tokio::test(start_paused = true)]
async fn a_state_of_which_something_could_not_be_had_is_not_whole() {
    let (wire, room) = scene("11").await;
    let (a, d) = (wire.node("a"), wire.node("d"));
    wire.lies.lock().clear();
    for other in ["a", "c"] {
        for path in ["/v1/event/", "/v1/state/"] {
            wire.lies.lock().push((server(other), path, None));
        }
    }
    wire.clock.advance(Duration::from_secs(3_600));
    d.rooms().judge_due().await.unwrap();
    assert!(d.history().is_partial(&room).await.unwrap());
    wire.lies.lock().clear();
    wire.clock.advance(Duration::from_secs(3_600));
    d.rooms().judge_due().await.unwrap();
    assert!(!d.history().is_partial(&room).await.unwrap());
    assert_eq!(d.state(&room).await, a.state(&room).await);
}

/// Nobody decides by members that are not known.
/// What was taken meanwhile is still there, and the members are asked for at once.
#[tokio::test(start_paused = true)]
async fn a_restart_before_the_members_are_known_loses_nothing() {
    for version in ["1", "6", "10", "12"] {
        let (wire, room) = scene(version).await;
        let a = wire.node("a");
        let store = Arc::new(Memory::new());
        let open = async || {
            let e = Node::with_store(&wire, server("e"), (9, store.clone())).await;
            wire.nodes.lock().insert(server("e"), Arc::new(e));
            wire.node("e")
        };
        let e = open().await;
        e.join_with(&a, &room, ("erin@e", true)).await.unwrap();
        wire.drive().await;
        let heard = a.say("alice@a", &room, "one").await.unwrap();
        wire.drive().await;
        assert_eq!(e.status(&heard).await, Some(Status::Timeline), "{version}");
        drop(e);

        let e = open().await;
        assert!(e.history().is_partial(&room).await.unwrap(), "{version}");
        let said = e.say("erin@e", &room, "two").await.unwrap();
        wire.drive().await;
        assert_eq!(a.status(&said).await, Some(Status::Timeline), "{version}");
        wire.lies.lock().clear();
        let stopping = CancellationToken::new();
        e.rooms().keep_judging(stopping.clone());
        e.rooms().whole(&room).await.unwrap();
        stopping.cancel();
        assert_eq!(e.status(&heard).await, Some(Status::Timeline), "{version}");
        assert_eq!(e.state(&room).await, a.state(&room).await, "{version}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_depends_on_the_members_waits_for_them() {
    let (wire, room) = scene("12").await;
    let (a, d) = (wire.node("a"), wire.node("d"));
    let (dave, mallory) = (user("dave@d"), user("mallory@c"));
    let began = tokio::time::Instant::now();
    let invited = d.rooms().invite(&dave, &room, &mallory, None).await;
    assert!(matches!(invited, Err(RoomError::Partial)), "{invited:?}");
    assert!(began.elapsed() >= PARTIAL_WAIT_MAX);
    let template = d.federation.make(&server("c"), Membership::Join, (&room, &user("eve@c")), None).await;
    assert!(matches!(template, Err(FederationError::NotFound(_))), "another server can tell: {template:?}");
    wire.lies.lock().clear();
    let (invited, ()) = tokio::join!(d.rooms().invite(&dave, &room, &mallory, None), async {
        wire.clock.advance(Duration::from_secs(3_600));
        d.rooms().judge_due().await.unwrap();
    });
    assert!(matches!(invited, Err(RoomError::Forbidden(_))), "a ban is a ban: {invited:?}");
    assert_eq!(d.state(&room).await, a.state(&room).await);
}

/// Those who are not known yet may be in the room, so what they do in it is not passed over.
#[tokio::test(start_paused = true)]
async fn who_is_not_known_yet_is_heard() {
    let (wire, room) = scene("12").await;
    let (c, d) = (wire.node("c"), wire.node("d"));
    let (carol, eve) = (user("carol@c"), user("eve@c"));
    let said = c.say("carol@c", &room, "welcome").await.unwrap();
    let text = c.history().event(&said).await.unwrap().unwrap().pdu.json().to_owned();
    let results = d.rooms().receive(&c.name, &room, vec![text]).await.unwrap();
    assert!(matches!(results.as_slice(), [(id, Ok(()))] if *id == said), "it is kept: {results:?}");
    let typing = |who: &UserId| {
        let content = json!({ "room_id": room, "user_id": who, "typing": true });
        serde_json::value::to_raw_value(&json!({ "edu_type": "m.typing", "content": content })).unwrap()
    };
    let nobody = json!({ "room_id": room, "user_id": "@nobody:e.org", "typing": true });
    let nobody = json!({ "edu_type": "m.typing", "content": nobody });
    let nobody = serde_json::value::to_raw_value(&nobody).unwrap();
    d.federation.receive_edus(&server("e"), &[nobody]).await.unwrap();
    assert!(d.federation.ephemeral.typing(&room).is_empty(), "their server is not said to be in the room");
    d.federation.receive_edus(&c.name, &[typing(&carol)]).await.unwrap();
    assert_eq!(d.federation.ephemeral.typing(&room), std::slice::from_ref(&carol));
    let first = d.say("dave@d", &room, "I am here").await.unwrap();
    wire.drive().await;
    let read = json!({ &room: { "m.read": { &carol: { "event_ids": [first], "data": { "ts": 1 } } } } });
    let edu = json!({ "edu_type": "m.receipt", "content": read });
    d.federation.receive_edus(&c.name, &[serde_json::value::to_raw_value(&edu).unwrap()]).await.unwrap();
    let lane = Lane::Room(room.clone());
    let told = d.federation.log.registers(&lane, Position::ZERO, d.federation.log.head()).await.unwrap();
    let is_receipt = |fact: &Fact| matches!(fact, Fact::Receipt { user_id, .. } if *user_id == carol);
    assert!(told.iter().any(|(_, fact)| is_receipt(fact)), "{told:?}");

    wire.lies.lock().clear();
    for _ in 0..3 {
        wire.clock.advance(Duration::from_secs(3_600));
        d.rooms().judge_due().await.unwrap();
    }
    d.rooms().whole(&room).await.unwrap();
    d.federation.receive_edus(&c.name, &[typing(&eve)]).await.unwrap();
    assert!(!d.federation.ephemeral.typing(&room).contains(&eve), "nobody else is in the room");
    assert_eq!(d.status(&said).await, Some(Status::Timeline));
}

/// Who is put out of a room whose members are not known yet is out at once, by those who may do it.
#[tokio::test(start_paused = true)]
async fn one_may_be_put_out_before_the_members_are_known() {
    for (version, is_ban) in [("1", false), ("11", true), ("12", false), ("12", true)] {
        let (wire, room) = scene(version).await;
        let (a, c, d) = (wire.node("a"), wire.node("c"), wire.node("d"));
        let (alice, dave) = (user("alice@a"), user("dave@d"));
        wire.drive().await;
        let leave = json!({ "membership": "leave" });
        let weak = c.build(&c, &room, (&user("carol@c"), "m.room.member", Some(dave.as_str()), leave)).await;
        let id = weak.event_id().to_owned();
        let results = d.rooms().receive(&c.name, &room, vec![weak.json().to_owned()]).await.unwrap();
        assert!(matches!(results.as_slice(), [(_, Ok(()))]), "{version}: not for good: {results:?}");
        assert_eq!(d.status(&id).await, Some(Status::Rejected), "{version}: she may not");
        let other = json!({ "membership": "ban" });
        let other = a.build(&a, &room, (&alice, "m.room.member", Some("@other:d.org"), other)).await;
        d.rooms().receive(&a.name, &room, vec![other.json().to_owned()]).await.unwrap();
        assert_eq!(d.status(other.event_id()).await, Some(Status::Timeline), "{version}: she may");
        match is_ban {
            true => a.rooms().ban(&alice, &room, &dave, None).await.unwrap(),
            false => a.rooms().kick(&alice, &room, &dave, None).await.unwrap(),
        };
        wire.drive().await;
        let expected = if is_ban { Membership::Ban } else { Membership::Leave };
        let member = d.history().membership(&room, &dave).await.unwrap();
        assert_eq!(member, Some(expected), "{version}");
        assert!(!d.rooms().is_here(&room).await.unwrap(), "{version}");
        assert!(!d.history().is_partial(&room).await.unwrap(), "{version}: nothing is waited for");
    }
}

/// What one client of dave's has been told of the room.
struct Told {
    members: BTreeSet<String>,
    said: Vec<String>,
    counted: Option<u64>,
    /// Whose devices have to be asked for.
    met: BTreeSet<String>,
}

/// Syncs on from `since`; what is told of the room, if anything, and the next token.
async fn sync(d: &Node, room: &RoomId, lazy: bool, since: Option<&str>) -> (Option<Told>, String) {
    let federation = &d.federation;
    let push = Push::new(federation.history.clone(), federation.accounts.clone());
    let devices = Devices::new(federation.log.clone(), federation.ports.clone(), d.name.clone());
    let (history, accounts) = (federation.history.clone(), federation.accounts.clone());
    let sync = Sync::new(history, accounts, devices, push, federation.ephemeral.clone());
    let caller = Caller { user_id: user("dave@d"), device_id: "D".into() };
    let filter = json!({ "room": { "state": { "lazy_load_members": lazy } } });
    let request = SyncRequest {
        filter: serde_json::from_value(filter).unwrap(),
        since: since.map(|since| since.parse().unwrap()),
        keeps_inbox: false,
        relations: Default::default(),
        profile_fields: Default::default(),
        full_state: false,
        dialect: Default::default(),
        timeout: Duration::ZERO,
        set_presence: None,
    };
    let answer = sync.sync(&caller, &request, &CancellationToken::new()).await.unwrap();
    let answer = serde_json::to_value(&answer).unwrap();
    let told = answer["rooms"]["join"].get(room.as_str()).map(|told| {
        let events = |part: &str| told[part]["events"].as_array().cloned().unwrap_or_default();
        let members = events("state").into_iter().chain(events("timeline"));
        let members = members.filter(|event| event["type"] == "m.room.member");
        let said = events("timeline")
            .into_iter()
            .filter_map(|event| Some(event["content"]["body"].as_str()?.into()));
        Told {
            members: members.map(|event| event["state_key"].as_str().unwrap().into()).collect(),
            said: said.collect(),
            counted: told["summary"]["m.joined_member_count"].as_u64(),
            met: serde_json::from_value(answer["device_lists"]["changed"].clone()).unwrap_or_default(),
        }
    });
    (told, answer["next_batch"].as_str().unwrap().into())
}

/// A client that asks for members when it needs them has the room at once, and the others' when they are all known.
#[tokio::test(start_paused = true)]
async fn clients_are_told_of_members_once_they_are_known() {
    let (wire, room) = scene("12").await;
    let (a, d) = (wire.node("a"), wire.node("d"));
    d.say("dave@d", &room, "one").await.unwrap();
    let (lazy, lazy_token) = sync(&d, &room, true, None).await;
    let lazy = lazy.unwrap();
    assert_eq!(lazy.said, ["one"]);
    assert_eq!(lazy.counted, None, "it is not known how many there are");
    let (eager, eager_token) = sync(&d, &room, false, None).await;
    assert!(eager.is_none(), "it would take the members for all that there are");

    a.say("alice@a", &room, "two").await.unwrap();
    wire.drive().await;
    wire.lies.lock().clear();
    for _ in 0..3 {
        wire.clock.advance(Duration::from_secs(3_600));
        d.rooms().judge_due().await.unwrap();
    }
    let (lazy, _) = sync(&d, &room, true, Some(&lazy_token)).await;
    let lazy = lazy.unwrap();
    assert_eq!(lazy.said, ["two"]);
    assert_eq!(lazy.counted, Some(3));
    assert!(lazy.members.contains("@alice:a.org"), "who has spoken: {:?}", lazy.members);
    assert!(!lazy.members.contains("@mallory:c.org"), "who is needed: {:?}", lazy.members);
    let (eager, eager_token) = sync(&d, &room, false, Some(&eager_token)).await;
    let eager = eager.unwrap();
    let all = ["@alice:a.org", "@carol:c.org", "@dave:d.org", "@mallory:c.org"].map(String::from);
    assert_eq!(eager.members, BTreeSet::from(all));
    assert_eq!(eager.counted, Some(3));
    assert_eq!(eager.said.last().unwrap(), "two");
    let joined = ["@alice:a.org", "@carol:c.org", "@dave:d.org"].map(String::from);
    assert_eq!(eager.met, BTreeSet::from(joined), "it has not heard of their devices before");
    let (eager, _) = sync(&d, &room, false, Some(&eager_token)).await;
    assert!(eager.is_none(), "once");
}

/// What is taken before the members are known is judged again by them: what was wrongly taken has no effect and is shown no
/// more, and what was wrongly refused is there in the end.
#[tokio::test(start_paused = true)]
async fn what_was_judged_without_the_members_is_judged_again() {
    for version in ["1", "6", "11", "12"] {
        let wire = Wire::new(&["a", "c", "d"]).await;
        let (a, c, d) = (wire.node("a"), wire.node("c"), wire.node("d"));
        let (alice, carol, mallory) = (user("alice@a"), user("carol@c"), user("mallory@c"));
        let room = a.create("alice@a", version).await;
        for who in ["carol@c", "mallory@c"] {
            c.join_through(&a, &room, who).await.unwrap();
            wire.drive().await;
        }
        let mut users = json!({ &mallory: 50 });
        if version != "12" {
            users[alice.as_str()] = 100.into();
        }
        a.set("alice@a", &room, ("m.room.power_levels", ""), json!({ "users": users })).await.unwrap();
        wire.drive().await;
        let was_inside = c.state_event(&room, ("m.room.member", mallory.as_str())).await;
        a.rooms().ban(&alice, &room, &mallory, None).await.unwrap();
        wire.drive().await;
        for other in ["a", "c"] {
            wire.lies.lock().push((server(other), "/v1/state", None));
        }
        d.join_with(&a, &room, ("dave@d", true)).await.unwrap();
        wire.drive().await;

        // She says that she is still there.
        let leave = json!({ "membership": "leave" });
        let kick = (&mallory, "m.room.member", Some(carol.as_str()), leave);
        let kick = c.build_with(&c, &room, kick, (&[], &[&was_inside])).await;
        let topic = (&carol, "m.room.name", Some(""), json!({ "name": "of carol's" }));
        let weak = c.build_with(&c, &room, topic, (&[&kick], &[])).await;
        let said = json!({ "msgtype": "m.text", "body": "here I am" });
        let said = c.build_with(&c, &room, (&carol, "m.room.message", None, said), (&[&weak], &[])).await;
        let after = json!({ "msgtype": "m.text", "body": "of those who are known" });
        let after = (&alice, "m.room.message", None, after);
        let after = c.build_with(&a, &room, after, (&[&said], &[])).await;
        let events = [&kick, &weak, &said, &after];
        for node in [&a, &d] {
            node.receive(&c, &events).await;
        }
        let statuses = async |node: &Node| {
            let mut statuses = Vec::new();
            for event in events {
                statuses.push(node.status(event.event_id()).await);
            }
            statuses
        };
        use Status::{Rejected, Timeline};
        let found = statuses(&d).await;
        assert_eq!(found, [Timeline, Rejected, Rejected, Timeline].map(Some), "{version}: by what is known");
        assert_eq!(
            d.history().membership(&room, &carol).await.unwrap(),
            Some(Membership::Leave),
            "{version}"
        );

        wire.lies.lock().clear();
        for _ in 0..3 {
            wire.clock.advance(Duration::from_secs(3_600));
            d.rooms().judge_due().await.unwrap();
        }
        d.rooms().whole(&room).await.unwrap();
        let expected = [Rejected, Rejected, Timeline, Timeline].map(Some);
        assert_eq!(statuses(&a).await, expected, "{version}: who has always known");
        assert_eq!(statuses(&d).await, expected, "{version}");
        assert_eq!(d.state(&room).await, a.state(&room).await, "{version}");
        let heads = async |node: &Node| node.history().room(&room).await.unwrap().unwrap().heads.clone();
        assert_eq!(heads(&d).await, heads(&a).await, "{version}");
    }
}
