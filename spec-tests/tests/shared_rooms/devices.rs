//! What a server knows of the devices of the other server's users.

use std::collections::BTreeMap;

use reqwest::Method;
use serde_json::{Value, json};
use spec_tests::{
    Outcome,
    keys::device_keys,
    matrix::{Client, PASSWORD},
    world::{Person, World},
};

use crate::together;

/// What alice is told of bob's devices: their names.
async fn seen(alice: &Person, bob: &Person) -> Outcome<BTreeMap<String, String>> {
    let wanted = json!({ "device_keys": { bob.id(): [] }, "timeout": 10_000 });
    let found = alice.client.post("/_matrix/client/v3/keys/query", &wanted).await?;
    let devices = found["device_keys"][bob.id()].as_object();
    let devices = devices.ok_or_else(|| format!("nothing is known of {}: {found}", bob.id()))?;
    let name =
        |keys: &Value| String::from(keys["unsigned"]["device_display_name"].as_str().unwrap_or_default());
    Ok(devices.iter().map(|(id, keys)| (id.clone(), name(keys))).collect())
}

/// Waits until alice is told that bob's devices changed, and looks at them: as often as she is told, since
/// changes come one by one.
async fn told(alice: &mut Person, bob: &Person, expected: &[(&Client, &str)]) -> Outcome<()> {
    let expected = expected.iter().map(|(device, name)| (device.device_id.clone(), String::from(*name)));
    let expected: BTreeMap<String, String> = expected.collect();
    let mut last = BTreeMap::new();
    for _ in 0..10 {
        let id = bob.id();
        let is_told = |sync: &Value| {
            let changed = sync["device_lists"]["changed"].as_array()?;
            changed.iter().any(|user| *user == id.as_str()).then_some(())
        };
        let waited = alice.until(&format!("that {id} has {expected:?}, not {last:?}"), is_told).await;
        waited?;
        alice.forget();
        last = seen(alice, bob).await?;
        if last == expected {
            return Ok(());
        }
    }
    Err(format!("{} has {last:?}, not {expected:?}", bob.id()).into())
}

async fn publish(device: &Client) -> Outcome<()> {
    let body = json!({ "device_keys": device_keys(device) });
    device.post("/_matrix/client/v3/keys/upload", &body).await.map(drop)
}

async fn rename(device: &Client, name: &str) -> Outcome<()> {
    let path = format!("/_matrix/client/v3/devices/{}", device.device_id);
    device.put(&path, &json!({ "display_name": name })).await.map(drop)
}

async fn remove(by: &Client, device: &Client) -> Outcome<()> {
    let path = format!("/_matrix/client/v3/devices/{}", device.device_id);
    let asked = by.ask(Method::DELETE, &path, Some(&json!({}))).await?;
    let auth = json!({
        "type": "m.login.password", "password": PASSWORD, "session": asked.json()["session"],
        "identifier": { "type": "m.id.user", "user": by.user_id },
    });
    by.bytes(Method::DELETE, &path, Some(&json!({ "auth": auth }))).await.map(drop)
}

/// Devices come, are renamed and go while this server runs, while it is down, and while the other one is.
pub(crate) async fn device_lists(world: &mut World) -> Outcome<()> {
    let (mut alice, bob, room) = together(world, "devices").await?;
    let first = bob.client.clone();
    rename(&first, "first").await?;
    publish(&first).await?;
    told(&mut alice, &bob, &[(&first, "first")]).await?;
    let second = first.login(&bob.id()).await?;
    rename(&second, "second").await?;
    publish(&second).await?;
    told(&mut alice, &bob, &[(&first, "first"), (&second, "second")]).await?;
    world.here.stop().await?;
    let third = first.login(&bob.id()).await?;
    rename(&third, "third").await?;
    publish(&third).await?;
    rename(&first, "renamed").await?;
    world.here.up().await?;
    told(&mut alice, &bob, &[(&first, "renamed"), (&second, "second"), (&third, "third")]).await?;
    world.here.stop().await?;
    remove(&first, &second).await?;
    world.here.up().await?;
    told(&mut alice, &bob, &[(&first, "renamed"), (&third, "third")]).await?;
    world.there.stop().await?;
    let found =
        seen(&alice, &bob).await.map_err(|error| format!("while the other server is down: {error}"))?;
    if found.len() != 2 {
        return Err(format!("while the other server is down there are {found:?}").into());
    }
    world.there.up().await?;
    bob.act(&room, "leave", &bob.id()).await?;
    let id = bob.id();
    let has_left = |sync: &Value| {
        let left = sync["device_lists"]["left"].as_array()?;
        left.iter().any(|user| *user == id.as_str()).then_some(())
    };
    alice.until("that bob's devices are no concern any more", has_left).await
}
