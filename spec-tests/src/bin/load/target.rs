//! One server under load, with the users that the scenes share.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use futures_util::{StreamExt, TryStreamExt, stream};
use serde_json::json;
use spec_tests::{
    Outcome,
    matrix::Client,
    measure,
    server::{Kind, Server},
};
use tokio::time::{Instant, sleep};

/// The push gateway of the scenes lies on this machine.
const HERE: &[(&str, &str)] = &[("LOCKSTEP_PUSH__ALLOW_RANGES", "[\"127.0.0.0/8\"]")];
/// How many requests at a time set a scene.
pub(crate) const SETUP_PARALLEL: usize = 8;
/// A server is idle when it used less than this much CPU time ..
const IDLE_CPU: Duration = Duration::from_millis(10);
/// .. in this time.
const IDLE_WINDOW: Duration = Duration::from_millis(250);
/// How long it may take to become idle ..
const IDLE_DEADLINE: Duration = Duration::from_secs(20);
/// .. and after a scene with very much in it has been set.
const CALM_DEADLINE: Duration = Duration::from_secs(180);

/// A server and what is known of it.
pub(crate) struct Target {
    pub(crate) name: String,
    pub(crate) nobody: Client,
    /// Present when this program started it.
    pub(crate) server: Option<Server>,
    pid: Option<u32>,
    users: Vec<Client>,
}

impl Target {
    /// Starts the named server or binary of Lockstep, or takes the address of one that runs.
    pub(crate) async fn open(name: &str) -> Outcome<Self> {
        let kind = match name {
            "lockstep" => Kind::lockstep()?,
            "synapse" => Kind::synapse()?,
            path if Path::new(path).is_file() => Kind::Lockstep(std::fs::canonicalize(path)?),
            address => {
                let (base, pid) = address.split_once('#').unwrap_or((address, ""));
                let nobody = Client::anonymous(base)?;
                let pid = if pid.is_empty() { None } else { Some(pid.parse()?) };
                return Ok(Self { name: base.to_owned(), nobody, server: None, pid, users: Vec::new() });
            }
        };
        println!("{name}: {kind:?}");
        let server = Server::prepare(kind, HERE).await?;
        let nobody = Client::anonymous(&server.url())?;
        Ok(Self { name: name.to_owned(), nobody, server: Some(server), pid: None, users: Vec::new() })
    }

    pub(crate) async fn close(&mut self) -> Outcome<()> {
        match &mut self.server {
            Some(server) => server.stop().await,
            None => Ok(()),
        }
    }

    pub(crate) fn pid(&self) -> Option<u32> {
        self.server.as_ref().map_or(self.pid, Server::pid)
    }

    /// The folder with its data, when it is known.
    pub(crate) fn data(&self) -> Option<PathBuf> {
        self.server.as_ref().map(Server::data)
    }

    /// CPU time used so far, once nothing is going on any more; nothing when the process is not known.
    pub(crate) async fn settled_cpu(&self) -> Outcome<Option<Duration>> {
        self.idle_within(IDLE_DEADLINE).await
    }

    /// Waits until what a server does in the background after much was written is done.
    pub(crate) async fn calm(&self) -> Outcome<()> {
        self.idle_within(CALM_DEADLINE).await.map(drop)
    }

    async fn idle_within(&self, deadline: Duration) -> Outcome<Option<Duration>> {
        let Some(pid) = self.pid() else { return Ok(None) };
        let begun = Instant::now();
        let mut before = measure::cpu(pid)?;
        loop {
            sleep(IDLE_WINDOW).await;
            let now = measure::cpu(pid)?;
            if now - before <= IDLE_CPU || begun.elapsed() > deadline {
                return Ok(Some(now));
            }
            before = now;
        }
    }

    /// The first `count` users of this run, registered when they are first needed.
    pub(crate) async fn users(&mut self, count: usize) -> Outcome<Vec<Client>> {
        let stamp = std::process::id();
        let names = (self.users.len()..count).map(|number| format!("load-{stamp}-{number}"));
        let nobody = &self.nobody;
        let made: Vec<Client> = stream::iter(names)
            .map(|name| async move { nobody.register(&name).await })
            .buffered(SETUP_PARALLEL)
            .try_collect()
            .await?;
        self.users.extend(made);
        Ok(self.users[..count].to_vec())
    }

    /// A public room made by the first of the users and joined by the others.
    pub(crate) async fn room(&self, users: &[Client]) -> Outcome<String> {
        let owner = users.first().ok_or("a room needs somebody")?;
        let room = owner.create_room(&json!({"preset": "public_chat", "name": "load"})).await?;
        let room_id = room.as_str();
        stream::iter(&users[1..])
            .map(|user| async move { user.join(room_id).await })
            .buffer_unordered(SETUP_PARALLEL)
            .try_collect::<()>()
            .await?;
        Ok(room)
    }
}
