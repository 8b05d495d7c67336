//! A random model with crashes and lost answers.

use std::time::Duration;

use rand::{Rng as _, SeedableRng, rngs::StdRng};

use super::{Mood, World, user};

/// Says, joins, leaves, fails, loses answers and crashes at random; in the end the bridge has had every
/// event that it should, once and in order.
async fn run(seed: u64) {
    let mut rng = StdRng::seed_from_u64(seed);
    let mut world = World::new().await;
    let rooms = [world.room().await, world.room().await];
    let mut inside = [false; 2];
    let mut expected: Vec<String> = Vec::new();
    for number in 0..60 {
        let at = rng.random_range(0..2);
        match rng.random_range(0..10) {
            0..5 => {
                let body = format!("{number}");
                world.say("alice", &rooms[at], &body).await;
                expected.extend(inside[at].then_some(body));
            }
            5 if inside[at] => {
                world.rooms.leave(&user("irc_bob"), &rooms[at], None).await.unwrap();
                inside[at] = false;
            }
            5 => {
                world.join("irc_bob", &rooms[at]).await;
                inside[at] = true;
            }
            6 => *world.bridge.mood.lock() = Mood::Takes,
            7 => {
                let moods = [Mood::Fails, Mood::Loses, Mood::Narrow];
                *world.bridge.mood.lock() = moods[rng.random_range(0..3)];
            }
            8 => world = world.crash().await,
            _ => tokio::time::sleep(Duration::from_secs(rng.random_range(0..30))).await,
        }
        for _ in 0..rng.random_range(0..20) {
            tokio::task::yield_now().await;
        }
    }
    *world.bridge.mood.lock() = Mood::Takes;
    world.join("irc_bob", &rooms[0]).await;
    world.say("alice", &rooms[0], "the end").await;
    expected.push("the end".into());
    world.bridge.until("the end", || world.bodies().contains(&"the end".to_owned())).await;
    assert_eq!(world.bodies(), expected, "seed {seed}");
    world.stopping.cancel();
    world.log.close();
}

#[tokio::test(start_paused = true)]
async fn nothing_is_lost_or_doubled_whatever_happens() {
    for seed in 0..60 {
        run(seed).await;
    }
}
