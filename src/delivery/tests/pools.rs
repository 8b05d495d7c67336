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

/// Who has ceased to type is owed nothing any more; that the server is there is not said by that.
#[tokio::test(start_paused = true)]
async fn trouble_ends_when_the_server_is_reached_and_not_when_nothing_is_owed_to_it() {
    let world = World::new().await;
    let others = &world.others;
    let (couriers, _stopping) = world.start();
    world.say("one").await;
    others.until("had one", |_| bodies(&others.arrived("b.org")) == ["one"]).await;
    others.down.lock().insert(server("b.org"));
    world.fact(world.egress(), Fact::Typing { user_ids: vec![alice()] }).await;
    others.until("tried", |attempts| attempts.iter().filter(|one| !one.arrived).count() >= 2).await;
    world.fact(world.egress(), Fact::Typing { user_ids: vec![] }).await;
    tokio::time::sleep(Duration::from_secs(1_000)).await;
    assert_eq!(couriers.troubled().await.unwrap().len(), 1);
    others.down.lock().clear();
    tokio::time::sleep(Duration::from_secs(1_000)).await;
    assert!(couriers.troubled().await.unwrap().is_empty());
    world.log.close();
}
