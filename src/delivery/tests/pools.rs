//! Servers that are slow or in trouble beside those that are not, and what is known of who is there.

use super::*;
use crate::limits::COURIERS_UNPROVEN_MAX;

impl World {
    /// Lets servers in that never answer.
    async fn lets_in_hanging(&self, count: usize) {
        for n in 0..count {
            let name = format!("aa{n}.org");
            self.others.hanging.lock().insert(server(&name));
            self.lets_in(&name).await;
        }
        self.others.down.lock().extend(self.others.hanging.lock().iter().cloned());
    }
}

/// After a join of a large room many servers are unknown, and some of them are dead.
#[tokio::test(start_paused = true)]
async fn many_dead_servers_do_not_delay_one_that_lives() {
    let world = World::new().await;
    let others = &world.others;
    let (_couriers, _stopping) = world.start();
    world.say("one").await;
    others.until("had one", |_| bodies(&others.arrived("b.org")) == ["one"]).await;
    world.lets_in_hanging(300).await;
    let begun = tokio::time::Instant::now();
    for body in ["two", "three"] {
        world.say(body).await;
        others.until("had it", |_| bodies(&others.arrived("b.org")).last().unwrap() == body).await;
    }
    assert!(begun.elapsed() < Duration::from_secs(1), "waited for {:?}", begun.elapsed());
    world.log.close();
}

/// Also one that was never reached does not wait for the others when it has reached us.
#[tokio::test(start_paused = true)]
async fn who_reaches_us_waits_for_nobody() {
    let world = World::new().await;
    let others = &world.others;
    world.lets_in_hanging(COURIERS_UNPROVEN_MAX + 50).await;
    world.lets_in("zz.org").await;
    let (couriers, _stopping) = world.start();
    world.say("one").await;
    // Everyone's courier is under way or waits for its turn.
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert!(others.arrived("zz.org").is_empty());
    let begun = tokio::time::Instant::now();
    couriers.heard_from(server_name!("zz.org"));
    others.until("had one", |_| bodies(&others.arrived("zz.org")) == ["one"]).await;
    assert!(begun.elapsed() < Duration::from_secs(1), "waited for {:?}", begun.elapsed());
    world.log.close();
}

/// How much waits for a server, and since when at most.
#[tokio::test(start_paused = true)]
async fn what_waits_is_counted() {
    let world = World::new().await;
    let others = &world.others;
    others.down.lock().insert(server("b.org"));
    let (couriers, _stopping) = world.start();
    for n in 0..120 {
        world.say(&n.to_string()).await;
    }
    tokio::time::sleep(Duration::from_secs(300)).await;
    let lags = couriers.lags().await.unwrap();
    let counted: Vec<_> = lags.iter().map(|lag| (lag.server.as_str(), lag.waiting)).collect();
    assert_eq!(counted, [("b.org", 121)], "the messages, and that the state moved");
    assert!((300_000..310_000).contains(&lags[0].oldest_ms), "{lags:?}");
    let standing = couriers.standings(Some(server_name!("b.org"))).await.unwrap().remove(0);
    assert_eq!((standing.waiting, standing.more), (121, false), "more than one transaction holds");
    others.down.lock().clear();
    others.until("had all", |_| bodies(&others.arrived("b.org")).len() == 120).await;
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert!(couriers.lags().await.unwrap().is_empty());
    world.log.close();
}

/// What somebody has sent to a server that does not exist is not tried for ever.
#[tokio::test(start_paused = true)]
async fn what_waits_for_a_stranger_who_is_not_there_is_dropped() {
    let world = World::new().await;
    let others = &world.others;
    others.down.lock().extend([server("b.org"), server("made-up.org")]);
    let (couriers, _stopping) = world.start();
    world.say("one").await;
    let outbox = Lane::Outbox(server("made-up.org"));
    world.fact(outbox.clone(), Fact::Edu { edu_type: "m.x".into(), content: "{}".into() }).await;
    let waiting = async || world.log.queued(&outbox, crate::types::Position::ZERO, 10).await.unwrap().len();
    tokio::time::sleep(Duration::from_secs(24 * 3_600)).await;
    assert_eq!((waiting().await, couriers.troubled().await.unwrap().len()), (1, 2));
    tokio::time::sleep(Duration::from_secs(7 * 24 * 3_600)).await;
    assert_eq!(waiting().await, 0);
    let troubled = couriers.troubled().await.unwrap();
    assert!(troubled.len() == 1 && troubled[0].0 == "b.org", "who shares a room gets it all: {troubled:?}");
    world.log.close();
}

/// At our start every server is told of us, however long that takes.
#[tokio::test(start_paused = true)]
async fn a_poke_that_fails_is_made_up_for() {
    let world = World::new().await;
    let others = &world.others;
    let (_, stopping) = world.start();
    world.say("one").await;
    others.until("had one", |_| bodies(&others.arrived("b.org")) == ["one"]).await;
    tokio::time::sleep(Duration::from_secs(5)).await;
    stopping.cancel();

    others.down.lock().insert(server("b.org"));
    let (couriers, _stopping) = world.start();
    others.until("tried", |attempts| attempts.iter().filter(|one| !one.arrived).count() >= 3).await;
    assert_eq!(couriers.troubled().await.unwrap().len(), 1, "it is not reached by being left alone");
    let before = others.arrived("b.org").len();
    others.down.lock().clear();
    others.until("told of us", |_| others.arrived("b.org").len() > before).await;
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert!(couriers.troubled().await.unwrap().is_empty());
    world.log.close();
}

/// Whoever shares no room any more gets what is still owed to it, and is left alone after that.
#[tokio::test(start_paused = true)]
async fn who_shares_no_room_is_not_told_of_us() {
    let world = World::new().await;
    let others = &world.others;
    world.lets_in("c.org").await;
    world.say("one").await;
    let mut commit = Commit::new();
    commit.close(Audience::Server(server("b.org")), world.egress());
    world.log.commit(commit).await.unwrap();
    let (_, stopping) = world.start();
    others.until("had one", |_| bodies(&others.arrived("b.org")) == ["one"]).await;
    tokio::time::sleep(Duration::from_secs(5)).await;
    stopping.cancel();

    let reached = |name: &str| others.attempts.lock().iter().filter(|one| one.server == name).count();
    let (before_b, before_c) = (reached("b.org"), reached("c.org"));
    let (_couriers, _stopping) = world.start();
    others.until("told of us", |_| reached("c.org") > before_c).await;
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(reached("b.org"), before_b);
    world.log.close();
}

/// What waits may go by itself, as who has ceased to type; that the server is there is not said by that.
#[tokio::test(start_paused = true)]
async fn trouble_ends_when_the_server_is_reached_and_not_when_nothing_is_owed_to_it() {
    let world = World::new().await;
    let others = &world.others;
    let (couriers, _stopping) = world.start();
    world.say("one").await;
    others.until("had one", |_| bodies(&others.arrived("b.org")) == ["one"]).await;
    others.down.lock().insert(server("b.org"));
    let outbox = Lane::Outbox(server("b.org"));
    world.fact(outbox.clone(), Fact::Edu { edu_type: "m.x".into(), content: "{}".into() }).await;
    others.until("tried", |attempts| attempts.iter().filter(|one| !one.arrived).count() >= 2).await;
    let mut commit = Commit::new();
    commit.drop_queued(&outbox, world.log.head());
    world.log.commit(commit).await.unwrap();
    tokio::time::sleep(Duration::from_secs(1_000)).await;
    assert_eq!(couriers.troubled().await.unwrap().len(), 1);
    others.down.lock().clear();
    tokio::time::sleep(Duration::from_secs(1_000)).await;
    assert!(couriers.troubled().await.unwrap().is_empty());
    world.log.close();
}
