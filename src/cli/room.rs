//! `lockstep room graph ROOM`

use std::{fs, path::PathBuf, thread, time::Duration};

use ruma::OwnedRoomId;
use serde_json::{Value, json};
use tokio::runtime;

use super::{Stop, exchange::command, print};
use crate::{
    config::Config,
    dag::graph::{dot, svg},
    server::Offline,
};

/// What to draw.
#[derive(Debug, clap::Args)]
pub(super) struct Graph {
    /// The room's id.
    room: OwnedRoomId,
    /// Where to write: `NAME.dot` and `NAME.svg`.
    #[arg(long, value_name = "NAME", default_value = "room")]
    out: PathBuf,
    /// How many of the newest events to draw.
    #[arg(long, default_value_t = 500, value_parser = clap::value_parser!(u16).range(1..=10_000))]
    events: u16,
}

/// Time between two looks at whether a room is gone.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// What to remove.
#[derive(Debug, clap::Args)]
pub(super) struct Delete {
    /// The room's id.
    room: OwnedRoomId,
    /// Really does it: nothing of the room can be had back.
    #[arg(long)]
    yes: bool,
    /// Nobody of this server may come into the room any more.
    #[arg(long)]
    block: bool,
    /// Removes the room although users of this server cannot leave it.
    #[arg(long)]
    force: bool,
}

/// Which room to block, or to open again.
#[derive(Debug, clap::Args)]
pub(super) struct Block {
    /// The room's id.
    room: OwnedRoomId,
}

/// Has a running server remove a room, and waits for that.
pub(super) fn delete(config: &Config, delete: &Delete) -> Result<(), Stop> {
    if !delete.yes {
        return Err(Stop::wrong("nothing of the room can be had back; say --yes to remove it all the same"));
    }
    let room = path_of(&delete.room);
    let body = json!({ "block": delete.block, "purge": true, "force_purge": delete.force });
    command(config, "DELETE", &format!("/_synapse/admin/v2/rooms/{room}"), Some(&body))?;
    loop {
        let told = command(config, "GET", &format!("/_synapse/admin/v2/rooms/delete_status/{room}"), None)?;
        match told.get("status").and_then(Value::as_str) {
            Some("complete") => return print(&format!("{} and everything in it is gone\n", delete.room)),
            Some("failed") => {
                let why = told.get("error").and_then(Value::as_str).unwrap_or_default();
                return Err(Stop::Failed(format!(
                    "the server tries again later: {why}. If its users cannot leave, say --force"
                )));
            }
            _ => thread::sleep(LOOK_EVERY),
        }
    }
}

/// Has a running server let nobody into a room, or let them again.
pub(super) fn block(config: &Config, block: &Block, blocks: bool) -> Result<(), Stop> {
    let path = format!("/_synapse/admin/v1/rooms/{}/block", path_of(&block.room));
    command(config, "PUT", &path, Some(&json!({ "block": blocks })))?;
    print(&format!("{} is {}\n", block.room, if blocks { "blocked" } else { "open again" }))
}

fn path_of(room: &OwnedRoomId) -> String {
    room.as_str().replace('%', "%25").replace('/', "%2F").replace('?', "%3F").replace('#', "%23")
}

/// Draws the graph of a room of a server that does not run.
pub(super) fn graph(config: &Config, graph: &Graph) -> Result<(), Stop> {
    let runtime = runtime::Builder::new_current_thread().enable_all().build().map_err(Stop::failed)?;
    let found = runtime.block_on(async {
        let offline = Offline::open(config).await.map_err(Stop::failed)?;
        let found = offline.history.graph(&graph.room, graph.events.into()).await;
        offline.close().await.map_err(Stop::failed)?;
        found.map_err(Stop::failed)
    })?;
    let vertices = found.ok_or_else(|| Stop::Wrong(format!("{} is not known here", graph.room)))?;
    for (extension, text) in [("dot", dot(&vertices)), ("svg", svg(&vertices))] {
        let mut path = graph.out.clone().into_os_string();
        path.push(format!(".{extension}"));
        fs::write(&path, text).map_err(Stop::failed)?;
        print(&format!("wrote {} ({} events)\n", path.display(), vertices.len()))?;
    }
    Ok(())
}
