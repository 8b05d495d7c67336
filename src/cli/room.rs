//! `lockstep room graph ROOM`

use std::{fs, path::PathBuf};

use ruma::OwnedRoomId;
use tokio::runtime;

use super::{Stop, print};
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
