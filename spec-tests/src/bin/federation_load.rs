//! What the rooms and events of another server cost a server: Lockstep has the room and sends, and each of the named
//! servers takes its turn at receiving. Figures are those of the receiver.
//!
//! `DEADLINE_MS=600000 federation_load --members 1000 --state 50000 lockstep synapse`

use std::{fs, time::Duration};

use clap::Parser;
use futures_util::{StreamExt, TryStreamExt, stream};
use serde_json::json;
use spec_tests::{
    Outcome,
    matrix::Client,
    measure::{cpu, quantile},
    server::{Kind, Server},
    world::{Person, World},
};
use tokio::time::{Instant, sleep};

/// Requests that are on their way at a time.
const PARALLEL: usize = 16;
/// How often it is looked whether an event has arrived.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// How long an event may be on its way.
const ARRIVAL_DEADLINE: Duration = Duration::from_secs(600);
/// A server is idle when it used less than this much CPU time ..
const IDLE_CPU: Duration = Duration::from_millis(10);
/// .. in this time.
const IDLE_WINDOW: Duration = Duration::from_millis(500);

/// Measures servers as they receive from Lockstep.
#[derive(Debug, Parser)]
struct Options {
    /// The receivers: "lockstep" or "synapse".
    #[arg(default_value = "lockstep")]
    servers: Vec<String>,
    /// Messages of which the time to the other server's client is taken.
    #[arg(long, default_value_t = 100)]
    messages: usize,
    /// Events sent at once, and those missed while the receiver is down.
    #[arg(long, default_value_t = 1_000)]
    events: usize,
    /// Members of the large room.
    #[arg(long, default_value_t = 1_000)]
    members: usize,
    /// Other state events of the large room.
    #[arg(long, default_value_t = 0)]
    state: usize,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Outcome<()> {
    let options = Options::parse();
    for name in &options.servers {
        let receiver = match name.as_str() {
            "lockstep" => Kind::lockstep()?,
            "synapse" => Kind::synapse()?,
            other => return Err(format!("\"{other}\" is neither lockstep nor synapse").into()),
        };
        println!("{name} receives");
        let mut world = World::start(Kind::lockstep()?, receiver).await?;
        let (alice, mut bob) = world.people("load").await?;
        let room = alice.client.create_room(&json!({ "preset": "public_chat" })).await?;
        bob.join_via(&room, &world.here.name()).await?;
        propagate(&alice, &mut bob, &room, options.messages).await?;
        receive(&world, &alice, &bob, &room, options.events).await?;
        catch_up(&mut world, &alice, &bob, &room, options.events).await?;
        join(&world, &alice, &bob, &options).await?;
        for server in [&mut world.here, &mut world.there] {
            server.stop().await?;
        }
    }
    Ok(())
}

/// From the sender's request to the answer of a waiting sync on the other server.
async fn propagate(alice: &Person, bob: &mut Person, room: &str, count: usize) -> Outcome<()> {
    let mut times = Vec::with_capacity(count);
    for number in 0..=count {
        let body = format!("propagated {number}");
        let begun = Instant::now();
        let (sent, heard) = tokio::join!(alice.client.say(room, &body), bob.hears(room, &body));
        sent?;
        heard?;
        // The first one finds connections and keys missing.
        if number > 0 {
            times.push(begun.elapsed());
        }
        bob.forget();
    }
    let [median, late] = [0.5, 0.99].map(|share| quantile(&times, share).as_secs_f64() * 1e3);
    println!("  message to a waiting client there      p50 {median:.1} ms, p99 {late:.1} ms");
    Ok(())
}

async fn receive(world: &World, alice: &Person, bob: &Person, room: &str, count: usize) -> Outcome<()> {
    let before = idle_cpu(&world.there).await?;
    let begun = Instant::now();
    let last = send(&alice.client, room, count).await?;
    arrived(&bob.client, room, &last).await?;
    // A server may leave what lies further back to those who look for it.
    read_back(&bob.client, room, count).await?;
    let wall = begun.elapsed();
    figure("event received", wall, idle_cpu(&world.there).await? - before, count);
    Ok(())
}

async fn catch_up(world: &mut World, alice: &Person, bob: &Person, room: &str, count: usize) -> Outcome<()> {
    world.there.stop().await?;
    let last = send(&alice.client, room, count).await?;
    world.there.up().await?;
    // What is missed may come at once.
    let before = cpu(world.there.pid().ok_or("no process")?)?;
    let begun = Instant::now();
    // A sign of life, so that the sender need not find out by itself.
    bob.client.say(room, "back again").await?;
    arrived(&bob.client, room, &last).await?;
    read_back(&bob.client, room, count).await?;
    let wall = begun.elapsed();
    figure("missed event", wall, idle_cpu(&world.there).await? - before, count);
    Ok(())
}

/// Pages back through the last `count` messages that were sent at once.
async fn read_back(client: &Client, room: &str, count: usize) -> Outcome<()> {
    let path = format!("/_matrix/client/v3/rooms/{room}/messages?dir=b&limit=100");
    let (mut from, mut seen) = (String::new(), 0);
    for _ in 0..=count {
        let page = client.get(&format!("{path}{from}")).await?;
        let events = page["chunk"].as_array().ok_or("a page without a chunk")?;
        seen += events.iter().filter(|event| event["type"] == "m.room.message").count();
        // Beside the last one and the sign of life.
        if seen >= count {
            return Ok(());
        }
        let Some(end) = page["end"].as_str() else { break };
        from = format!("&from={end}");
    }
    Err(format!("only {seen} of {count} messages are there").into())
}

/// A large room is joined: until the join is answered, until a message is sent, until all members are known.
async fn join(world: &World, alice: &Person, bob: &Person, options: &Options) -> Outcome<()> {
    let room = alice.client.create_room(&json!({ "preset": "public_chat" })).await?;
    let nobody = Client::anonymous(&world.here.url())?;
    let room_id = room.as_str();
    let begun = Instant::now();
    stream::iter(1..options.members)
        .map(|number| {
            let nobody = &nobody;
            async move { nobody.register(&format!("member{number}")).await?.join(room_id).await }
        })
        .buffer_unordered(PARALLEL)
        .try_collect::<()>()
        .await?;
    stream::iter(0..options.state)
        .map(|number| async move {
            alice.set_state(room_id, "org.example.thing", &number.to_string(), &json!({ "n": number })).await
        })
        .buffer_unordered(PARALLEL)
        .try_collect::<()>()
        .await?;
    println!("  (the large room was made in {:.0?})", begun.elapsed());
    let pid = world.there.pid().ok_or("no process")?;
    let before = idle_cpu(&world.there).await?;
    // Linux: the peak begins anew.
    fs::write(format!("/proc/{pid}/clear_refs"), "5")?;
    let at_rest = peak_mib(pid)?;
    let begun = Instant::now();
    bob.join_via(&room, &world.here.name()).await?;
    let joined = begun.elapsed();
    bob.client.say(&room, "hello").await?;
    let said = begun.elapsed();
    let members = bob.client.get(&format!("/_matrix/client/v3/rooms/{room}/members")).await?;
    let known = begun.elapsed();
    let found = members["chunk"].as_array().map_or(0, Vec::len);
    let used = idle_cpu(&world.there).await? - before;
    let Options { members, state, .. } = options;
    println!(
        "  join of {members} members, {state} things      {joined:.2?}; {said:.2?} to the first message; {known:.2?} to the \
         {found} members; {used:.2?} CPU; memory {at_rest:.0} -> {:.0} MiB at the peak",
        peak_mib(pid)?
    );
    Ok(())
}

/// Sends messages, many at a time; the id of the last one, which is sent after the others.
async fn send(client: &Client, room: &str, count: usize) -> Outcome<String> {
    stream::iter(1..count)
        .map(|number| async move { client.say(room, &format!("number {number}")).await.map(drop) })
        .buffer_unordered(PARALLEL)
        .try_collect::<()>()
        .await?;
    client.say(room, "the last one").await
}

/// Waits until the server of `client` shows an event.
async fn arrived(client: &Client, room: &str, event_id: &str) -> Outcome<()> {
    let path = format!("/_matrix/client/v3/rooms/{room}/event/{event_id}");
    let begun = Instant::now();
    while begun.elapsed() < ARRIVAL_DEADLINE {
        if client.get(&path).await.is_ok() {
            return Ok(());
        }
        sleep(LOOK_EVERY).await;
    }
    Err(format!("{event_id} never arrived").into())
}

fn figure(what: &str, wall: Duration, cpu: Duration, count: usize) {
    let each =
        |time: Duration| time.as_secs_f64() * 1e3 / f64::from(u32::try_from(count).unwrap_or(u32::MAX));
    println!("  {what:<38} {:.2} ms CPU; all {count} in {wall:.2?}, {:.2} ms each", each(cpu), each(wall));
}

/// CPU time used so far, once nothing is going on any more.
async fn idle_cpu(server: &Server) -> Outcome<Duration> {
    let pid = server.pid().ok_or("no process")?;
    let mut before = cpu(pid)?;
    loop {
        sleep(IDLE_WINDOW).await;
        let now = cpu(pid)?;
        if now - before <= IDLE_CPU {
            return Ok(now);
        }
        before = now;
    }
}

/// The most memory that a process has had, in MiB.
fn peak_mib(pid: u32) -> Outcome<f64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).ok_or("no VmHWM")?;
    let kib: f64 = line.trim().trim_end_matches(" kB").parse()?;
    Ok(kib / 1024.0)
}
