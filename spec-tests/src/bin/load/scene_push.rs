//! Notifications: what a message costs in a room of people with phones, beside the same without.

use futures_util::{StreamExt, TryStreamExt, stream};
use serde_json::json;
use spec_tests::{Outcome, gateway::Gateway, matrix::Client};
use tokio::{sync::Mutex, time::Instant};

use crate::{
    bench::{Bench, Scene, Work, approximate},
    options::Sizes,
    target::{SETUP_PARALLEL, Target},
};

pub(crate) async fn run(sizes: &Sizes, targets: &mut [Target], bench: &mut Bench) -> Outcome<()> {
    let phones = sizes.phones;
    let messages = (sizes.sends / sizes.rounds / 5).max(2);
    let mut names = Vec::new();
    for gateway in [None, Some(Gateway::start().await?)] {
        let told = Mutex::new(0);
        let scene = Told { phones, messages, gateway, told };
        names.push(scene.name());
        bench.play(&scene, targets).await?;
    }
    let (without, with) = (bench.cpu(&names[0]), bench.cpu(&names[1]));
    if without.len() == targets.len() && with.len() == targets.len() {
        let each: Vec<f64> = without
            .iter()
            .zip(with)
            .map(|(without, with)| (with - without) * 1e6 / approximate(phones))
            .collect();
        bench.figures("CPU for each push", targets, &each, "µs");
    }
    Ok(())
}

struct Told {
    phones: usize,
    messages: usize,
    /// Where the phones are told; without one they are not.
    gateway: Option<Gateway>,
    /// How many notifications it has had in earlier rounds.
    told: Mutex<usize>,
}

impl Scene for Told {
    type State = (Client, String);

    fn name(&self) -> String {
        let phones = if self.gateway.is_some() { "phones" } else { "members" };
        format!("a message to {} {phones}", self.phones)
    }

    async fn prepare(&self, target: &mut Target) -> Outcome<Self::State> {
        // People of this scene alone: their phones ring at nothing else.
        let kind = if self.gateway.is_some() { "phone" } else { "member" };
        let nobody = &target.nobody;
        let users: Vec<Client> =
            stream::iter(0..=self.phones)
                .map(|number| async move {
                    nobody.register(&format!("{kind}-{}-{number}", std::process::id())).await
                })
                .buffered(SETUP_PARALLEL)
                .try_collect()
                .await?;
        let room = target.room(&users).await?;
        if let Some(gateway) = &self.gateway {
            for user in &users[1..] {
                let pusher = json!({
                    "app_id": "org.example.app", "pushkey": user.user_id, "kind": "http", "lang": "en",
                    "app_display_name": "App", "device_display_name": "Phone",
                    "data": {"url": gateway.url(), "format": "event_id_only"},
                });
                user.post("/_matrix/client/v3/pushers/set", &pusher).await?;
            }
        }
        Ok((users[0].clone(), room))
    }

    async fn round(&self, _target: &Target, (sender, room): &mut Self::State) -> Outcome<Work> {
        let mut work = Work::default();
        let mut told = self.told.lock().await;
        for _ in 0..self.messages {
            let begun = Instant::now();
            sender.say(room, "hello, all of you").await?;
            if let Some(gateway) = &self.gateway {
                *told += self.phones;
                gateway.until_count(*told).await?;
            }
            work.latencies.push(begun.elapsed());
        }
        work.operations = work.latencies.len();
        Ok(work)
    }
}
