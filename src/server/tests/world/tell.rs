//! What the servers keep of a room, for whoever wants to know why they do not agree.

use std::fmt::Write;

use ruma::RoomId;

use super::{World, node::Node};
use crate::{history::StoredEvent, types::Position};

impl World {
    /// Prints what each server has of a room.
    pub(super) async fn tell(&self, room: &RoomId) {
        for node in &self.nodes {
            if let Ok(true) = node.app().rooms.is_here(room).await {
                println!("{}", node.tell(room).await);
            }
        }
    }
}

impl Node {
    async fn tell(&self, room: &RoomId) -> String {
        let state = self.state(room).await;
        let heads = self.heads(room).await;
        let mut text =
            format!("{room} at {}: heads {:?}\n", self.name, heads.iter().map(short).collect::<Vec<_>>());
        for ((kind, key), id) in &state {
            let _ = writeln!(text, "  state {kind} {key}: {}", short(id));
        }
        let mut events: Vec<_> =
            self.kept(heads.into_iter().chain(state.into_values())).await.into_values().collect();
        events.sort_by_key(|event| (event.pdu.depth(), event.pdu.event_id().to_owned()));
        for event in events {
            let _ = writeln!(text, "  {}", line(&event));
        }
        for id in self.timeline(room, Position::ZERO).await {
            let status =
                self.app().history.event(&id).await.unwrap().map(|event| (event.position.0, event.status));
            let _ = writeln!(text, "  in the timeline: {} {status:?}", short(&id));
        }
        text
    }
}

fn line(event: &StoredEvent) -> String {
    let pdu = &event.pdu;
    let list = |ids: &[ruma::OwnedEventId]| ids.iter().map(short).collect::<Vec<_>>().join(" ");
    let states = event.states.map(|states| {
        let word = |state: crate::dag::StateId| {
            format!("{state:?}").chars().filter(char::is_ascii_hexdigit).rev().take(6).collect::<String>()
        };
        format!("{} {} {}", word(states.before), word(states.after), word(states.current))
    });
    format!(
        "{} {} {} {:?} at {} {} {:?}: {} {} [after {}] [by {}] {:?} {:?}",
        pdu.depth(),
        short(pdu.event_id()),
        pdu.event_type(),
        event.status,
        event.position.0,
        pdu.sender(),
        pdu.state_key(),
        pdu.content(),
        pdu.origin_server_ts().0,
        list(pdu.prev_events()),
        list(pdu.auth_events()),
        states,
        event.notes.reason
    )
}

fn short(id: impl AsRef<str>) -> String {
    id.as_ref().chars().take(7).collect()
}
