//! `lockstep room`: what operators look at of rooms, and do to them.

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

/// What to explain.
#[derive(Debug, clap::Args)]
pub(super) struct Explain {
    /// The room's id.
    room: OwnedRoomId,
    /// The type of the state event, as in `m.room.power_levels`.
    kind: String,
    /// Its state key; for `m.room.member` the user's id.
    #[arg(default_value = "")]
    state_key: String,
    /// Looks through all events of the store for those that were not taken; that takes a while.
    #[arg(long)]
    hidden: bool,
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

/// Says why what stands at a place of a room's state stands there.
pub(super) fn explain(config: &Config, explain: &Explain) -> Result<(), Stop> {
    let query = url::form_urlencoded::Serializer::new(String::new())
        .append_pair("type", &explain.kind)
        .append_pair("state_key", &explain.state_key)
        .append_pair("hidden", if explain.hidden { "true" } else { "false" })
        .finish();
    let path = format!("/_lockstep/admin/v1/rooms/{}/explain?{query}", path_of(&explain.room));
    print(&explained(&command(config, "GET", &path, None)?))
}

/// An explanation in words.
fn explained(told: &Value) -> String {
    let text = |value: &Value| value.as_str().unwrap_or("nothing").to_owned();
    let line = |event: &Value| {
        let why = event["why"].as_str().map(|why| format!("\n    {why}")).unwrap_or_default();
        let (id, sender, status) = (text(&event["event_id"]), text(&event["sender"]), text(&event["status"]));
        let (ms, depth) = (event["origin_server_ts"].as_u64().unwrap_or_default(), &event["depth"]);
        format!("  {id} by {sender}, at {ms} ms, depth {depth}, {status}{why}\n")
    };
    let all = |name: &str| told[name].as_array().into_iter().flatten().map(line).collect::<String>();
    let mut said = match &told["current"] {
        Value::Null => String::from("nothing stands there\n"),
        current => format!("there stands\n{}", line(current)),
    };
    let forks: Vec<_> = told["forks"].as_object().into_iter().flatten().collect();
    let stands = told["current"]["event_id"].as_str();
    match forks.iter().all(|(_, there)| there.as_str() == stands) {
        true => said.push_str("all newest events of the room agree on that\n"),
        false => {
            for (head, there) in forks {
                said.push_str(&format!("after {head} there is {}\n", text(there)));
            }
        }
    }
    for (name, title) in [("others", "these lost"), ("earlier", "before it, newest first")] {
        let events = all(name);
        if !events.is_empty() {
            said.push_str(&format!("{title}\n{events}"));
        }
    }
    said
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_explanation_is_put_into_words() {
        let event = |id: &str, why: Option<&str>| {
            json!({
                "event_id": id, "sender": "@a:b", "origin_server_ts": 5, "depth": 7, "position": 9,
                "status": "accepted", "why": why,
            })
        };
        let told = json!({
            "current": event("$two", None),
            "forks": { "$head": "$two" },
            "others": [],
            "earlier": [event("$one", None)],
        });
        let expected = "there stands\n  $two by @a:b, at 5 ms, depth 7, accepted\n\
            all newest events of the room agree on that\n\
            before it, newest first\n  $one by @a:b, at 5 ms, depth 7, accepted\n";
        assert_eq!(explained(&told), expected);
        let told = json!({
            "current": null,
            "forks": { "$head": "$two", "$other": null },
            "others": [event("$two", Some("it is older"))],
            "earlier": [],
        });
        let expected = "nothing stands there\nafter $head there is $two\nafter $other there is nothing\n\
            these lost\n  $two by @a:b, at 5 ms, depth 7, accepted\n    it is older\n";
        assert_eq!(explained(&told), expected);
    }
}
