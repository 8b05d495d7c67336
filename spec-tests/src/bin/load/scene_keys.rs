//! Devices: one-time keys uploaded, queried and claimed; to-device messages sent and fetched.

use std::time::Duration;

use reqwest::Method;
use serde_json::{Map, Value, json};
use spec_tests::{
    Outcome,
    keys::{device_keys, one_time_keys},
    matrix::{Client, txn_id},
};
use tokio::time::Instant;

use crate::{
    bench::{Bench, Scene, Work, all},
    options::Sizes,
    scene_sync::{quiet_sync, since_now},
    target::Target,
};

/// One-time keys in one upload, as clients do it.
const KEYS_EACH: usize = 50;
/// Devices that act at the same time.
const PARALLEL: usize = 8;

pub(crate) async fn run(sizes: &Sizes, targets: &mut [Target], bench: &mut Bench) -> Outcome<()> {
    let devices = sizes.devices;
    bench.play(&Upload { devices }, targets).await?;
    bench.play(&Query { devices, count: (sizes.sends / sizes.rounds / 5).max(1) }, targets).await?;
    bench.play(&Claim { devices, count: (sizes.sends / sizes.rounds).max(1) }, targets).await?;
    let scene = ToDevice { devices, messages: (sizes.sends / sizes.rounds / 25).max(2) };
    bench.play(&scene, targets).await?;
    bench.play(&Fetch(scene), targets).await
}

async fn upload(device: &Client, first: usize) -> Outcome<Duration> {
    let body = json!({"device_keys": device_keys(device), "one_time_keys": one_time_keys(device, first..first + KEYS_EACH)});
    let begun = Instant::now();
    device.post("/_matrix/client/v3/keys/upload", &body).await?;
    Ok(begun.elapsed())
}

/// Runs one operation for each item, [`PARALLEL`] at a time.
async fn parallel<I: Clone>(
    items: &[I],
    operation: impl AsyncFn(I) -> Outcome<Duration>,
) -> Outcome<Vec<Duration>> {
    let share = items.len().div_ceil(PARALLEL).max(1);
    let operation = &operation;
    let lanes = items.chunks(share).map(async |items| {
        let mut times = Vec::new();
        for item in items {
            times.push(operation(item.clone()).await?);
        }
        Outcome::Ok(times)
    });
    Ok(all(lanes).await?.concat())
}

fn timed(latencies: Vec<Duration>) -> Work {
    Work { operations: latencies.len(), latencies, wall: None }
}

struct Upload {
    devices: usize,
}

impl Scene for Upload {
    type State = (Vec<Client>, usize);

    fn name(&self) -> String {
        format!("key upload, {KEYS_EACH} one-time keys")
    }

    async fn prepare(&self, target: &mut Target) -> Outcome<Self::State> {
        let devices = target.users(self.devices).await?;
        target.room(&devices).await?;
        Ok((devices, 100_000))
    }

    async fn round(&self, _target: &Target, state: &mut Self::State) -> Outcome<Work> {
        let (devices, first) = state;
        *first += KEYS_EACH;
        Ok(timed(parallel(devices, async |device| upload(&device, *first).await).await?))
    }
}

struct Query {
    devices: usize,
    count: usize,
}

impl Scene for Query {
    type State = Vec<Client>;

    fn name(&self) -> String {
        format!("key query of {} users", self.devices)
    }

    async fn prepare(&self, target: &mut Target) -> Outcome<Self::State> {
        let devices = target.users(self.devices).await?;
        parallel(&devices, async |device| upload(&device, 500_000).await).await?;
        Ok(devices)
    }

    async fn round(&self, _target: &Target, devices: &mut Self::State) -> Outcome<Work> {
        let users: Map<String, Value> =
            devices.iter().map(|user| (user.user_id.clone(), json!([]))).collect();
        let body = json!({ "device_keys": users });
        let askers: Vec<Client> = devices.iter().cycle().take(self.count).cloned().collect();
        let latencies = parallel(&askers, async |device| {
            let begun = Instant::now();
            device.bytes(Method::POST, "/_matrix/client/v3/keys/query", Some(&body)).await?;
            Ok(begun.elapsed())
        });
        Ok(timed(latencies.await?))
    }
}

struct Claim {
    devices: usize,
    count: usize,
}

impl Scene for Claim {
    type State = (Vec<Client>, usize);

    fn name(&self) -> String {
        "key claim, one key".to_owned()
    }

    async fn prepare(&self, target: &mut Target) -> Outcome<Self::State> {
        Ok((target.users(self.devices).await?, 700_000))
    }

    async fn before(&self, _target: &mut Target, state: &mut Self::State) -> Outcome<()> {
        let (devices, first) = state;
        for _ in 0..self.count.div_ceil(devices.len() * KEYS_EACH) {
            *first += KEYS_EACH;
            parallel(devices, async |device| upload(&device, *first).await).await?;
        }
        Ok(())
    }

    async fn round(&self, _target: &Target, state: &mut Self::State) -> Outcome<Work> {
        let devices = &state.0;
        let claimed: Vec<Client> = devices.iter().cycle().take(self.count).cloned().collect();
        let asker = &devices[0];
        let latencies = parallel(&claimed, async |device| {
            let body = json!({"one_time_keys": {device.user_id: {device.device_id: "signed_curve25519"}}});
            let begun = Instant::now();
            asker.bytes(Method::POST, "/_matrix/client/v3/keys/claim", Some(&body)).await?;
            Ok(begun.elapsed())
        });
        Ok(timed(latencies.await?))
    }
}

struct ToDevice {
    devices: usize,
    messages: usize,
}

async fn to_everyone(sender: &Client, devices: &[Client]) -> Outcome<Duration> {
    let ciphertext = "A".repeat(600);
    let content =
        json!({"algorithm": "m.olm.v1.curve25519-aes-sha2", "ciphertext": {"key": {"body": ciphertext}}});
    let to: Map<String, Value> =
        devices.iter().map(|d| (d.user_id.clone(), json!({&d.device_id: content}))).collect();
    let path = format!("/_matrix/client/v3/sendToDevice/m.room.encrypted/{}", txn_id());
    let body = json!({ "messages": to });
    let begun = Instant::now();
    sender.put(&path, &body).await?;
    Ok(begun.elapsed())
}

impl Scene for ToDevice {
    type State = Vec<Client>;

    fn name(&self) -> String {
        format!("to-device message to {} devices", self.devices)
    }

    async fn prepare(&self, target: &mut Target) -> Outcome<Self::State> {
        target.users(self.devices).await
    }

    async fn round(&self, _target: &Target, devices: &mut Self::State) -> Outcome<Work> {
        let mut latencies = Vec::new();
        for _ in 0..self.messages {
            latencies.push(to_everyone(&devices[0], devices).await?);
        }
        Ok(timed(latencies))
    }
}

/// The other end: every device syncs and gets the messages that wait for it.
struct Fetch(ToDevice);

impl Scene for Fetch {
    type State = Vec<(Client, String)>;

    fn name(&self) -> String {
        format!("sync of {} to-device messages", self.0.messages)
    }

    async fn prepare(&self, target: &mut Target) -> Outcome<Self::State> {
        let devices = target.users(self.0.devices).await?;
        let tokens = all(devices.iter().map(since_now)).await?;
        Ok(devices.into_iter().zip(tokens).collect())
    }

    async fn before(&self, _target: &mut Target, state: &mut Self::State) -> Outcome<()> {
        for (device, since) in &mut *state {
            // Acknowledges what waits, so that the round begins with empty queues.
            *since = crate::scene_sync::advance(device, since).await?;
        }
        let devices: Vec<Client> = state.iter().map(|(device, _)| device.clone()).collect();
        for _ in 0..self.0.messages {
            to_everyone(&devices[0], &devices).await?;
        }
        Ok(())
    }

    async fn round(&self, _target: &Target, state: &mut Self::State) -> Outcome<Work> {
        let latencies = parallel(state, async |(device, since)| {
            let begun = Instant::now();
            let bytes = device.bytes(Method::GET, &quiet_sync(&since, 0, 10), None).await?;
            let took = begun.elapsed();
            let body: Value = serde_json::from_slice(&bytes)?;
            let got = body["to_device"]["events"].as_array().map_or(0, Vec::len);
            match got == self.0.messages {
                true => Ok(took),
                false => Err(format!("{got} to-device messages, not {}", self.0.messages).into()),
            }
        });
        Ok(timed(latencies.await?))
    }
}
