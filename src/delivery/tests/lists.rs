//! What servers are told of the devices of users whom they meet.

use super::*;

impl World {
    /// Alice comes into a room that these servers read from now on.
    async fn meets(&self, names: &[&str]) {
        let mut commit = Commit::new();
        commit.fact(self.egress(), Fact::Devices { user_id: alice() });
        for name in names {
            commit.open(Audience::Server(server(name)), self.egress());
        }
        self.log.commit(commit).await.unwrap();
    }

    /// The device, the update that it builds on and itself, of each update that a server was sent.
    fn updates(&self, name: &str) -> Vec<(String, Value, Value)> {
        let updates = self.others.edus(name, "m.device_list_update").into_iter();
        updates
            .map(|update| {
                let device = update["device_id"].as_str().unwrap().to_owned();
                (device, update["prev_id"].clone(), update["stream_id"].clone())
            })
            .collect()
    }
}

#[tokio::test(start_paused = true)]
async fn who_meets_a_user_is_told_once_that_there_are_devices() {
    let world = World::new().await;
    let others = &world.others;
    let (_couriers, stopping) = world.start();
    for device in ["ONE", "TWO", "THREE"] {
        world.log_in(device).await;
    }
    world.devices.remove(&alice(), &["THREE".into()]).await.unwrap();
    others.until("told", |_| world.updates("b.org").len() == 4).await;
    world.meets(&["c.org"]).await;
    world.say("nothing").await;
    others.until("introduced", |_| !world.updates("c.org").is_empty()).await;
    world.devices.rename(&alice(), "ONE".into(), "another name").await.unwrap();
    others.until("renamed", |_| world.updates("c.org").len() == 2).await;

    // Of the one that is gone there is nothing to tell, but that what is told builds on its going.
    let of_c = world.updates("c.org");
    let gone = world.updates("b.org")[3].2.clone();
    assert_eq!(of_c[0], ("TWO".into(), json!([]), gone.clone()));
    assert_eq!((of_c[1].0.as_str(), &of_c[1].1), ("ONE", &json!([gone])));

    // It is known from then on: in another room, after another coming, after a restart.
    let room = world.rooms.create(&alice(), NewRoom::default()).await.unwrap();
    let mut commit = Commit::new();
    commit.fact(Lane::Egress(room.clone()), Fact::Devices { user_id: alice() });
    for name in ["b.org", "c.org"] {
        commit.open(Audience::Server(server(name)), Lane::Egress(room.clone()));
    }
    world.log.commit(commit).await.unwrap();
    world.meets(&[]).await;
    stopping.cancel();
    let (_couriers, _stopping) = world.start();
    world.say("one").await;
    let all = ["b.org", "c.org"];
    others
        .until("had one", |_| all.iter().all(|name| bodies(&others.arrived(name)) == ["nothing", "one"]))
        .await;
    assert_eq!((world.updates("b.org").len(), world.updates("c.org")), (5, of_c));
    world.log.close();
}

/// One that has the devices from before is told what it lacks, and not what it has.
#[tokio::test(start_paused = true)]
async fn who_has_asked_before_is_told_what_has_changed_since() {
    let world = World::new().await;
    let others = &world.others;
    world.log_in("ONE").await;
    world.devices.note_asked(server_name!("c.org"), [&alice()].into_iter()).await.unwrap();
    world.log_in("TWO").await;
    let (_couriers, _stopping) = world.start();
    world.meets(&["c.org", "d.org"]).await;
    let all = ["c.org", "d.org"];
    others.until("met", |_| !world.updates("c.org").is_empty()).await;
    world.say("one").await;
    others.until("had one", |_| all.iter().all(|name| bodies(&others.arrived(name)) == ["one"])).await;
    let (of_c, of_d) = (world.updates("c.org"), world.updates("d.org"));
    assert_eq!((of_c.len(), of_c[0].0.as_str(), of_c[0].1 == json!([])), (1, "TWO", false), "{of_c:?}");
    assert_eq!((of_d.len(), of_d[0].0.as_str(), of_d[0].1 == json!([])), (1, "TWO", true), "{of_d:?}");
    world.log.close();
}

/// Nobody is reached for it alone, unless something changes.
#[tokio::test(start_paused = true)]
async fn servers_are_told_with_what_they_are_sent_next() {
    let world = World::new().await;
    let others = &world.others;
    world.log_in("ONE").await;
    let (_couriers, stopping) = world.start();
    others.until("poked", |_| !others.arrived("b.org").is_empty()).await;
    let names = ["s0.org", "s1.org", "s2.org", "s3.org"];
    world.meets(&names).await;
    let outbox = Lane::Outbox(server("s0.org"));
    world.fact(outbox, Fact::Edu { edu_type: "m.test".into(), content: "{}".into() }).await;
    others.until("told", |_| !world.updates("s0.org").is_empty()).await;
    tokio::time::sleep(Duration::from_secs(600)).await;
    let told = || names.iter().filter(|name| !world.updates(name).is_empty()).count();
    assert_eq!(told(), 1);
    // Over a restart, of which all hear.
    stopping.cancel();
    let before = others.attempts.lock().len();
    let (_couriers, _stopping) = world.start();
    let hear = |attempts: &[Attempt]| {
        names.iter().all(|name| attempts[before..].iter().any(|one| one.server == *name))
    };
    others.until("all poked", hear).await;
    tokio::time::sleep(Duration::from_secs(600)).await;
    assert_eq!(told(), 1);
    // Something of its own tells one, and a change all others.
    world
        .fact(Lane::Outbox(server("s1.org")), Fact::Edu { edu_type: "m.test".into(), content: "{}".into() })
        .await;
    others.until("the second told", |_| told() == 2).await;
    world.log_in("TWO").await;
    let last = |name: &str| world.updates(name).pop().map(|(device, ..)| device);
    others.until("all told", |_| names.iter().all(|name| last(name).as_deref() == Some("TWO"))).await;
    assert_eq!(names.map(|name| world.updates(name).len()), [2, 2, 1, 1]);
    world.log.close();
}
