//! Users come and go at random; what the server knows must be what a simple model says.

use std::collections::BTreeMap;

use ruma::{OwnedRoomId, api::client::room::create_room::v3::RoomPreset};

use super::{NewRoom, World, user, word};
use crate::{
    log::Audience,
    types::{Fact, Lane, Membership, Position, Rng, SeededRng},
};

const USERS: [&str; 5] = ["alice", "bob", "carol", "dan", "eve"];

/// What the rules let happen in a room of alice's, in which she has all the power and stays.
fn expected(
    verb: usize,
    (who, whom): (&str, &str),
    (is_public, of): (bool, &BTreeMap<&str, Membership>),
) -> Option<Membership> {
    use Membership::{Ban, Invite, Join, Leave};
    let (mine, theirs) = (of.get(who).copied(), of.get(whom).copied());
    let rules = who == "alice";
    match verb {
        0 => match mine {
            Some(Ban) => None,
            Some(Join | Invite) => Some(Join),
            _ => is_public.then_some(Join),
        },
        1 => match mine {
            Some(Join | Invite | Leave) if who != "alice" => Some(Leave),
            _ => None,
        },
        2 => match (mine, theirs) {
            (Some(Join), Some(Join | Ban)) => None,
            // Inviting takes power in a public room.
            (Some(Join), _) if rules || !is_public => Some(Invite),
            _ => None,
        },
        // Kicking oneself is leaving.
        3 if who == whom => matches!(mine, Some(Join | Invite)).then_some(Leave),
        3 if rules && whom != "alice" => matches!(theirs, Some(Join | Invite)).then_some(Leave),
        4 if rules && whom != "alice" => Some(Ban),
        5 if rules => (theirs == Some(Ban)).then_some(Leave),
        _ => None,
    }
}

async fn run(seed: u64) {
    let rng = SeededRng::new(seed);
    let below = |bound: usize| {
        let mut bytes = [0; 8];
        rng.fill(&mut bytes);
        usize::try_from(u64::from_le_bytes(bytes) % bound as u64).unwrap()
    };
    let world = World::new().await;
    let mut model: Vec<(OwnedRoomId, bool, BTreeMap<&str, Membership>)> = Vec::new();
    for is_public in [true, false] {
        let preset = if is_public { RoomPreset::PublicChat } else { RoomPreset::PrivateChat };
        let room = NewRoom { preset: Some(preset), ..NewRoom::default() };
        let room = world.rooms.create(&user("alice"), room).await.unwrap();
        model.push((room, is_public, BTreeMap::from([("alice", Membership::Join)])));
    }
    for step in 0..150 {
        let (room, is_public, members) = &mut model[below(2)];
        let (verb, who, mut whom) = (below(6), USERS[below(5)], USERS[below(5)]);
        if verb < 2 {
            whom = who;
        }
        if matches!(verb, 1 | 3) && (who, whom) == ("alice", "alice") {
            continue;
        }
        let (rooms, a, b) = (&world.rooms, user(who), user(whom));
        let found = match verb {
            0 => rooms.join(&a, room, None, serde_json::Map::new()).await,
            1 => rooms.leave(&a, room, None).await,
            2 => rooms.invite(&a, room, &b, None).await,
            3 => rooms.kick(&a, room, &b, None).await,
            4 => rooms.ban(&a, room, &b, None).await,
            _ => rooms.unban(&a, room, &b, None).await,
        };
        let wanted = expected(verb, (who, whom), (*is_public, members));
        let is_allowed = if wanted.is_some() { "ok" } else { "forbidden" };
        assert_eq!(word(found), is_allowed, "seed {seed} step {step}: {who} verb {verb} {whom} {members:?}");
        if let Some(membership) = wanted {
            members.insert(whom, membership);
        }
        if step % 10 == 0 {
            check(&world, &model, seed).await;
        }
    }
    check(&world, &model, seed).await;
    assert!(world.rooms.0.slots.is_empty());
}

async fn check(world: &World, model: &[(OwnedRoomId, bool, BTreeMap<&str, Membership>)], seed: u64) {
    for history in [world.history().clone(), world.cold().await] {
        for (room, _, expected) in model {
            let members = history.current_members(room).await.unwrap();
            let count = |wanted| expected.values().filter(|found| **found == wanted).count();
            let row = history.room(room).await.unwrap().unwrap();
            assert_eq!(members.joined_count(), count(Membership::Join), "seed {seed}");
            assert_eq!(members.invited_count(), count(Membership::Invite), "seed {seed}");
            assert_eq!(row.joined, count(Membership::Join) as u64, "seed {seed}");
            assert_eq!(row.invited, count(Membership::Invite) as u64, "seed {seed}");
            assert_eq!(members.iter().count(), expected.len(), "seed {seed}");
        }
        for name in USERS {
            let user = user(name);
            let lanes = history.log().subscriptions(&Audience::Account(user.clone())).await.unwrap();
            let entries = history.memberships(&user).await.unwrap();
            for (room, _, expected) in model {
                let expected = expected.get(name).copied();
                assert_eq!(history.membership(room, &user).await.unwrap(), expected, "seed {seed}");
                let entry = entries.iter().find(|entry| entry.room_id == *room);
                assert_eq!(entry.map(|entry| entry.membership), expected, "seed {seed}");
                let is_in = expected == Some(Membership::Join);
                assert_eq!(lanes.is_open(&Lane::Room(room.clone())), is_in, "seed {seed}");
                assert_eq!(history.joined_rooms(&user).await.unwrap().contains(room), is_in);
                let has_stripped = !history.stripped(&user, room).await.unwrap().is_empty();
                assert_eq!(has_stripped, expected == Some(Membership::Invite), "seed {seed}");
                let Some(entry) = entry else { continue };
                let event = history.event(&entry.event_id).await.unwrap().unwrap();
                assert_eq!(event.position, entry.position, "seed {seed}");
                let lane = Lane::Account(user.clone());
                let facts = history.log().registers(&lane, Position::ZERO, Position::MAX).await.unwrap();
                let of_room =
                    |fact: &Fact| matches!(fact, Fact::Membership { room_id, .. } if room_id == room);
                assert_eq!(facts.iter().filter(|(_, fact)| of_room(fact)).count(), 1, "seed {seed}");
            }
        }
    }
}

#[tokio::test]
async fn memberships_and_subscriptions_follow_a_model() {
    for seed in 0..6 {
        run(seed).await;
    }
}
