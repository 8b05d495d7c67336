//! Servers that do not take everything, and what cannot be rendered.

use super::*;

fn message(n: usize, filling: usize) -> Fact {
    let content = json!({ "message_id": n, "filling": "x".repeat(filling) }).to_string();
    Fact::Edu { edu_type: "m.direct_to_device".into(), content }
}

impl World {
    /// Puts EDUs into the outbox of b.org, all in one commit.
    async fn owes(&self, facts: Vec<Fact>) {
        let mut commit = Commit::new();
        facts.into_iter().for_each(|fact| commit.fact(Lane::Outbox(server("b.org")), fact));
        self.log.commit(commit).await.unwrap();
    }
}

impl Others {
    fn numbers(&self) -> Vec<u64> {
        let edus = self.edus("b.org", "m.direct_to_device");
        edus.iter().map(|edu| edu["message_id"].as_u64().unwrap()).collect()
    }
}

/// Everything else arrives, once and in order; what comes later does too.
#[tokio::test(start_paused = true)]
async fn an_item_that_is_refused_holds_nothing_else_up() {
    let world = World::new().await;
    let others = &world.others;
    *others.refused.lock() = Some(|body| {
        let edus = body["edus"].as_array().unwrap();
        edus.iter().any(|edu| edu["content"]["message_id"] == 13)
    });
    world.owes((0..30).map(|n| message(n, 1)).collect()).await;
    world.say("one").await;
    let (couriers, _stopping) = world.start();
    others.until("had what is not refused", |_| others.numbers().len() == 29).await;
    world.say("two").await;
    others.until("had all events", |_| bodies(&others.arrived("b.org")) == ["one", "two"]).await;
    let expected: Vec<u64> = (0..30).filter(|n| *n != 13).collect();
    assert_eq!(others.numbers(), expected);
    assert!(couriers.troubled().await.unwrap().is_empty());
    let tries = others.attempts.lock().iter().filter(|one| !one.arrived).count();
    assert!(tries < 12, "{tries} transactions were refused");
    world.log.close();
}

/// A proxy that lets only so much through gets everything in pieces.
#[tokio::test(start_paused = true)]
async fn a_server_that_takes_little_at_a_time_gets_everything() {
    let world = World::new().await;
    let others = &world.others;
    *others.refused.lock() = Some(|body| body.to_string().len() > 100_000);
    world.owes((0..50).map(|n| message(n, 40_000)).collect()).await;
    let (_couriers, _stopping) = world.start();
    others.until("had everything", |_| others.numbers().len() == 50).await;
    assert_eq!(others.numbers(), (0..50).collect::<Vec<u64>>());
    world.log.close();
}

/// Nothing is lost on a server whose proxy refuses whatever comes.
#[tokio::test(start_paused = true)]
async fn a_server_that_refuses_everything_gets_it_later() {
    let world = World::new().await;
    let others = &world.others;
    *others.refused.lock() = Some(|_| true);
    world.owes((0..30).map(|n| message(n, 1)).collect()).await;
    let (couriers, _stopping) = world.start();
    others.until("tried twice", |attempts| attempts.len() > 20).await;
    assert_eq!(couriers.troubled().await.unwrap()[0].1.last_error, "too large");
    *others.refused.lock() = None;
    others.until("had everything", |_| others.numbers().len() == 30).await;
    assert_eq!(others.numbers(), (0..30).collect::<Vec<u64>>());
    world.log.close();
}

#[tokio::test(start_paused = true)]
async fn a_transaction_holds_only_so_many_bytes() {
    let world = World::new().await;
    let others = &world.others;
    world.owes((0..8).map(|n| message(n, 1 << 20)).collect()).await;
    let (_couriers, _stopping) = world.start();
    others.until("had everything", |_| others.numbers().len() == 8).await;
    assert_eq!(others.numbers(), (0..8).collect::<Vec<u64>>());
    for body in others.arrived("b.org") {
        assert!(body.to_string().len() < crate::limits::TRANSACTION_BYTES_MAX, "{}", body.to_string().len());
    }
    world.log.close();
}

/// What is damaged in the store is left out; its neighbours arrive.
#[tokio::test(start_paused = true)]
async fn what_cannot_be_rendered_is_left_out() {
    let world = World::new().await;
    let others = &world.others;
    let damaged = Fact::Edu { edu_type: "m.direct_to_device".into(), content: "{".into() };
    world.owes(vec![message(0, 1), damaged, message(1, 1)]).await;
    let content = "no object".to_owned();
    world.fact(Lane::People, Fact::Presence { user_id: alice(), content }).await;
    let (couriers, _stopping) = world.start();
    world.say("one").await;
    others.until("had the event", |_| bodies(&others.arrived("b.org")) == ["one"]).await;
    assert_eq!(others.numbers(), [0, 1]);
    assert!(couriers.troubled().await.unwrap().is_empty());
    world.log.close();
}
