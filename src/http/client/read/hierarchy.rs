//! `GET /_matrix/client/v1/rooms/{roomId}/hierarchy`
//!
//! <https://spec.matrix.org/v1.19/client-server-api/#get_matrixclientv1roomsroomidhierarchy>

use std::collections::{HashMap, HashSet};

use ruma::{
    OwnedRoomId, OwnedServerName, RoomId,
    api::client::space::{
        SpaceHierarchyRoomsChunk,
        get_hierarchy::v1::{Request, Response},
    },
    assign,
    events::StateEventType,
    room::RoomSummary,
    serde::Raw,
};
use serde_json::{Map, Value};
use tokio::time::{Instant, timeout_at};

use super::scene::page_limit;
use crate::{
    account::Caller,
    history::StoredEvent,
    http::{App, Failure},
    limits::{
        CLIENT_WAIT_MAX, HIERARCHY_DEPTH_MAX, HIERARCHY_REMOTE_MAX, HIERARCHY_ROOMS_MAX, HIERARCHY_VIA_MAX,
        ROOM_LIST_MAX,
    },
};

/// A child of a space, as its parent names it.
pub(in crate::http) struct Child {
    pub(in crate::http) room: OwnedRoomId,
    order: Option<String>,
    ts: u64,
    via: Vec<OwnedServerName>,
    pub(in crate::http) stripped: Value,
}

/// A room on the way through the tree.
struct Stop {
    room: OwnedRoomId,
    level: u64,
    via: Vec<OwnedServerName>,
}

/// A room as it is told, with its children.
struct Sight {
    summary: RoomSummary,
    children: Vec<Child>,
}

/// What one request has learned from other servers.
struct Elsewhere {
    asked: usize,
    /// Nobody is waited for after that.
    until: Instant,
    /// Rooms that were told with their parents.
    told: HashMap<OwnedRoomId, RoomSummary>,
}

/// Answers the request. The tree is walked from its root again for each page; tokens count rooms.
pub(super) async fn handle(app: App, caller: Caller, request: Request) -> Result<Response, Failure> {
    let limit = page_limit(request.limit, ROOM_LIST_MAX).clamp(1, ROOM_LIST_MAX);
    let depth = request.max_depth.map_or(HIERARCHY_DEPTH_MAX, u64::from).min(HIERARCHY_DEPTH_MAX);
    let skipped: usize = match &request.from {
        Some(from) => from.parse().map_err(|_| Failure::invalid_param("`from` is no token of ours"))?,
        None => 0,
    };
    // Whoever has invited the caller knows of the room.
    let via = app.history.stripped_via(&caller.user_id, &request.room_id).await?;
    let mut open = vec![Stop { room: request.room_id.clone(), level: 0, via }];
    let mut met = HashSet::from([request.room_id.clone()]);
    let until = Instant::now() + CLIENT_WAIT_MAX;
    let mut elsewhere = Elsewhere { asked: 0, until, told: HashMap::new() };
    let (mut rooms, mut count) = (Vec::new(), 0_usize);
    while let Some(stop) = open.pop() {
        let sight = match app.rooms.is_here(&stop.room).await? {
            true => look(&app, &stop.room, request.suggested_only).await?,
            false => elsewhere.look(&app, &stop, request.suggested_only).await,
        };
        let Sight { summary, children } = match sight {
            Some(sight) if app.history.may_preview(Some(&caller.user_id), &sight.summary).await? => sight,
            _ if stop.level == 0 => return Err(Failure::forbidden("You may not look into the room")),
            _ => continue,
        };
        if rooms.len() >= limit {
            return Ok(assign!(Response::new(), { rooms, next_batch: Some(count.to_string()) }));
        }
        if stop.level < depth {
            // The last one in is the first one out.
            for child in children.iter().rev() {
                if met.len() < HIERARCHY_ROOMS_MAX && met.insert(child.room.clone()) {
                    let (room, level, via) = (child.room.clone(), stop.level + 1, child.via.clone());
                    open.push(Stop { room, level, via });
                }
            }
        }
        count += 1;
        if count > skipped {
            let raw = |child: Child| Raw::new(&child.stripped).map(Raw::cast_unchecked);
            let state: Result<Vec<_>, serde_json::Error> = children.into_iter().map(raw).collect();
            rooms.push(SpaceHierarchyRoomsChunk::new(summary, state.map_err(Failure::internal)?));
        }
    }
    Ok(assign!(Response::new(), { rooms }))
}

/// A room that this server is in.
async fn look(app: &App, room: &RoomId, suggested_only: bool) -> Result<Option<Sight>, Failure> {
    let Some(summary) = app.history.summary(room).await? else { return Ok(None) };
    let children = match is_space(&summary) {
        true => children(app, room, suggested_only).await?,
        false => Vec::new(),
    };
    Ok(Some(Sight { summary, children }))
}

/// Whether a room is a space: only then it has children, whatever its state says.
pub(in crate::http) fn is_space(summary: &RoomSummary) -> bool {
    summary.room_type.as_ref().is_some_and(|kind| kind.as_str() == "m.space")
}

impl Elsewhere {
    /// A room that other servers tell of.
    async fn look(&mut self, app: &App, stop: &Stop, suggested_only: bool) -> Option<Sight> {
        if let Some(summary) = self.told.get(&stop.room).filter(|summary| !is_space(summary)) {
            return Some(Sight { summary: summary.clone(), children: Vec::new() });
        }
        if self.asked >= HIERARCHY_REMOTE_MAX {
            return None;
        }
        self.asked += 1;
        let asking = app.federation.hierarchy_of(&stop.room, &stop.via, suggested_only);
        let answer = timeout_at(self.until, asking).await.ok()??;
        let told = answer.children.into_iter().take(HIERARCHY_ROOMS_MAX);
        self.told.extend(told.map(|summary| (summary.room_id.clone(), summary)));
        let told = answer.room.children_state.iter().take(HIERARCHY_ROOMS_MAX);
        let told = told.filter_map(|event| serde_json::from_str(event.json().get()).ok());
        let mut children: Vec<Child> =
            told.filter_map(|event: Value| told_child(&event, suggested_only)).collect();
        sort(&mut children);
        Some(Sight { summary: answer.room.summary, children })
    }
}

/// The children of a space in their order; a child without servers is none.
pub(in crate::http) async fn children(
    app: &App,
    space: &RoomId,
    suggested_only: bool,
) -> Result<Vec<Child>, Failure> {
    let Some(state) = app.history.current_state(space).await? else { return Ok(Vec::new()) };
    let events = app.history.state_events(state, Some(&StateEventType::SpaceChild)).await?;
    let mut children: Vec<Child> = events.iter().filter_map(|event| child(event, suggested_only)).collect();
    sort(&mut children);
    Ok(children)
}

fn sort(children: &mut [Child]) {
    children.sort_by(|a, b| {
        let key = |child: &Child| (child.order.is_none(), child.order.clone(), child.ts, child.room.clone());
        key(a).cmp(&key(b))
    });
}

fn child(event: &StoredEvent, suggested_only: bool) -> Option<Child> {
    let pdu = &event.pdu;
    let content: Map<String, Value> = pdu.content_as().ok()?;
    let stripped = serde_json::json!({
        "type": "m.space.child",
        "state_key": pdu.state_key()?,
        "sender": pdu.sender(),
        "origin_server_ts": pdu.origin_server_ts(),
        "content": content,
    });
    told_child(&stripped, suggested_only)
}

/// What a stripped event says of a child of a space.
fn told_child(event: &Value, suggested_only: bool) -> Option<Child> {
    let content = event.get("content")?;
    let via = content.get("via")?.as_array()?;
    let is_suggested = content.get("suggested").and_then(Value::as_bool).unwrap_or(false);
    let is_child = event.get("type").and_then(Value::as_str) == Some("m.space.child");
    if !is_child || (suggested_only && !is_suggested) {
        return None;
    }
    let is_order =
        |order: &&str| order.len() <= 50 && order.bytes().all(|byte| (0x20..=0x7e).contains(&byte));
    let order = content.get("order").and_then(Value::as_str).filter(is_order).map(String::from);
    let via = via.iter().filter_map(|server| OwnedServerName::try_from(server.as_str()?).ok());
    Some(Child {
        room: event.get("state_key")?.as_str()?.try_into().ok()?,
        order,
        ts: event.get("origin_server_ts")?.as_u64()?,
        via: via.take(HIERARCHY_VIA_MAX).collect(),
        stripped: event.clone(),
    })
}
