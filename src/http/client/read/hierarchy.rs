//! `GET /_matrix/client/v1/rooms/{roomId}/hierarchy`
//!
//! <https://spec.matrix.org/v1.19/client-server-api/#get_matrixclientv1roomsroomidhierarchy>

use std::collections::HashSet;

use ruma::{
    OwnedRoomId, RoomId,
    api::client::space::{
        SpaceHierarchyRoomsChunk,
        get_hierarchy::v1::{Request, Response},
    },
    assign,
    events::StateEventType,
    serde::Raw,
};
use serde_json::{Map, Value};

use super::scene::page_limit;
use crate::{
    account::Caller,
    history::StoredEvent,
    http::{App, Failure},
    limits::{HIERARCHY_DEPTH_MAX, HIERARCHY_ROOMS_MAX, ROOM_LIST_MAX},
};

/// A child of a space, as its parent names it.
struct Child {
    room: OwnedRoomId,
    order: Option<String>,
    ts: u64,
    stripped: Value,
}

/// Answers the request. The tree is walked from its root again for each page; tokens count rooms.
pub(super) async fn handle(app: App, caller: Caller, request: Request) -> Result<Response, Failure> {
    let limit = page_limit(request.limit, ROOM_LIST_MAX).clamp(1, ROOM_LIST_MAX);
    let depth = request.max_depth.map_or(HIERARCHY_DEPTH_MAX, u64::from).min(HIERARCHY_DEPTH_MAX);
    let skipped: usize = match &request.from {
        Some(from) => from.parse().map_err(|_| Failure::invalid_param("`from` is no token of ours"))?,
        None => 0,
    };
    let mut open = vec![(request.room_id.clone(), 0)];
    let mut met = HashSet::from([request.room_id.clone()]);
    let (mut rooms, mut count) = (Vec::new(), 0_usize);
    while let Some((room, level)) = open.pop() {
        let summary = match app.history.summary(&room).await? {
            Some(summary) if app.history.may_preview(Some(&caller.user_id), &summary).await? => summary,
            _ if level == 0 => return Err(Failure::forbidden("You may not look into the room")),
            _ => continue,
        };
        if rooms.len() >= limit {
            return Ok(assign!(Response::new(), { rooms, next_batch: Some(count.to_string()) }));
        }
        let is_space = summary.room_type.as_ref().is_some_and(|kind| kind.as_str() == "m.space");
        let children = match is_space {
            true => children(&app, &room, request.suggested_only).await?,
            false => Vec::new(),
        };
        if level < depth {
            // The last one in is the first one out.
            for child in children.iter().rev() {
                if met.len() < HIERARCHY_ROOMS_MAX && met.insert(child.room.clone()) {
                    open.push((child.room.clone(), level + 1));
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

/// The children of a space in their order; a child without servers is none.
async fn children(app: &App, space: &RoomId, suggested_only: bool) -> Result<Vec<Child>, Failure> {
    let Some(state) = app.history.current_state(space).await? else { return Ok(Vec::new()) };
    let events = app.history.state_events(state, Some(&StateEventType::SpaceChild)).await?;
    let mut children: Vec<Child> = events.iter().filter_map(|event| child(event, suggested_only)).collect();
    children.sort_by(|a, b| {
        let key = |child: &Child| (child.order.is_none(), child.order.clone(), child.ts, child.room.clone());
        key(a).cmp(&key(b))
    });
    Ok(children)
}

fn child(event: &StoredEvent, suggested_only: bool) -> Option<Child> {
    let pdu = &event.pdu;
    let content: Map<String, Value> = pdu.content_as().ok()?;
    content.get("via")?.as_array()?;
    let is_suggested = content.get("suggested").and_then(Value::as_bool).unwrap_or(false);
    if suggested_only && !is_suggested {
        return None;
    }
    let is_order =
        |order: &&str| order.len() <= 50 && order.bytes().all(|byte| (0x20..=0x7e).contains(&byte));
    let order = content.get("order").and_then(Value::as_str).filter(is_order).map(String::from);
    let ts = pdu.origin_server_ts().0.into();
    let stripped = serde_json::json!({
        "type": "m.space.child",
        "state_key": pdu.state_key()?,
        "sender": pdu.sender(),
        "origin_server_ts": pdu.origin_server_ts(),
        "content": content,
    });
    Some(Child { room: pdu.state_key()?.try_into().ok()?, order, ts, stripped })
}
