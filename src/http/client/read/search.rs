//! `POST /_matrix/client/v3/search`
//!
//! <https://spec.matrix.org/v1.19/client-server-api/#post_matrixclientv3search>

use std::collections::{BTreeMap, BTreeSet};

use axum::response::{IntoResponse, Response};
use http::StatusCode;
use ruma::{
    OwnedRoomId, RoomId,
    api::client::search::search_events::v3::{Criteria, GroupingKey, OrderBy, Request, SearchKeys},
    events::StateEventType,
};
use serde_json::{Map, Value, json, value::RawValue};

use super::{
    scene::{Scene, ignored, is_lazy, page_limit, wanted},
    search_context,
};
use crate::{
    account::Caller,
    history::{Shape, StoredEvent, Viewer},
    http::{App, Call, Failure},
    limits::{SEARCH_PAGE_DEFAULT, SEARCH_PAGE_MAX, SEARCH_PREDECESSORS_MAX},
    search::{self, Ask, Findings, Key},
    sync::RelationFilter,
    types::Membership,
};

/// Answers the request. By hand, because ruma leaves out what is empty, and clients look for it.
pub(super) async fn handle(app: App, call: Call) -> Result<Response, Failure> {
    let caller = call.caller.clone().ok_or_else(Failure::missing_token)?;
    // For ruma, no context and the usual context are one.
    let said: Value = call.json()?;
    let has_context = said.pointer("/search_categories/room_events/event_context").is_some();
    let request = call.decode::<Request>()?.request;
    let Some(criteria) = request.search_categories.room_events else {
        return Ok(axum::Json(json!({ "search_categories": {} })).into_response());
    };
    let messages = app.messages.as_ref().ok_or_else(|| {
        let message = "This server has no index of messages";
        Failure::custom(StatusCode::BAD_REQUEST, "M_UNKNOWN", message)
    })?;
    let filter = said.pointer("/search_categories/room_events/filter");
    let relations = filter.map(|filter| RelationFilter::of_events(&filter.to_string())).transpose();
    let relations = relations.map_err(|error| Failure::invalid_param(error.to_string()))?.unwrap_or_default();
    let ask = ask(&app, &caller, &criteria, (request.next_batch, &relations)).await?;
    let ignored = ignored(&app, &caller).await?;
    let viewer = app.history.viewer(&caller.user_id, Some(&caller.device_id)).await?;
    let mut viewer = viewer.ignoring(&ignored);
    let passes = wanted(ignored, criteria.filter.clone());
    let is_wanted = |event: &StoredEvent| passes(event) && relations.passes(&event.pdu);
    let found = messages.find(&mut viewer, &ask, &is_wanted).await?;

    let mut results = render(&mut viewer, &found).await?;
    if has_context {
        let limits = (criteria.event_context.before_limit, criteria.event_context.after_limit);
        let with_profiles = criteria.event_context.include_profile;
        let context = search_context::of(&app, &caller, &found, (limits, with_profiles)).await?;
        for (result, context) in results.iter_mut().zip(context) {
            result["context"] = context;
        }
    }
    let mut body = json!({ "count": found.count, "highlights": found.highlights });
    if let Some(next) = &found.next {
        body["next_batch"] = next.as_str().into();
    }
    if criteria.include_state == Some(true) {
        let needed = is_lazy(&criteria.filter).then(|| senders(&results));
        body["state"] = state(&app, &caller, &found, needed.as_ref()).await?;
    }
    body["results"] = results.into();
    let groups = groups(&criteria, &found);
    if !groups.is_empty() {
        body["groups"] = groups.into();
    }
    Ok(axum::Json(json!({ "search_categories": { "room_events": body } })).into_response())
}

async fn ask(
    app: &App,
    caller: &Caller,
    criteria: &Criteria,
    (after, relations): (Option<String>, &RelationFilter),
) -> Result<Ask, Failure> {
    let key = |key: &SearchKeys| match key {
        SearchKeys::ContentBody => Some(Key::Body),
        SearchKeys::ContentName => Some(Key::Name),
        SearchKeys::ContentTopic => Some(Key::Topic),
        _ => None,
    };
    let keys = match &criteria.keys {
        Some(keys) => keys.iter().filter_map(key).collect(),
        None => vec![Key::Body, Key::Name, Key::Topic],
    };
    Ok(Ask {
        term: criteria.search_term.clone(),
        keys,
        rooms: rooms(app, caller, criteria).await?,
        senders: criteria.filter.senders.clone(),
        related: relations.related(),
        order_by: match criteria.order_by {
            Some(OrderBy::Recent) => search::OrderBy::Recent,
            _ => search::OrderBy::Rank,
        },
        limit: page_limit(criteria.filter.limit, SEARCH_PAGE_DEFAULT).clamp(1, SEARCH_PAGE_MAX),
        after,
    })
}

/// The rooms to search: those that the caller is in, or was in and has not forgotten, as far as the filter wants them, and those that they have
/// come out of.
async fn rooms(app: &App, caller: &Caller, criteria: &Criteria) -> Result<Vec<OwnedRoomId>, Failure> {
    let been_in = [Membership::Join, Membership::Leave, Membership::Ban];
    let all = app.history.memberships(&caller.user_id).await?.into_iter();
    let mut all: BTreeSet<OwnedRoomId> =
        all.filter(|entry| been_in.contains(&entry.membership)).map(|entry| entry.room_id).collect();
    for forgotten in app.history.forgotten(&caller.user_id).await? {
        all.remove(&forgotten);
    }
    let filter = &criteria.filter;
    let mut rooms = match &filter.rooms {
        None => all,
        Some(named) => {
            let mut rooms: BTreeSet<OwnedRoomId> =
                named.iter().filter(|room| all.contains(*room)).cloned().collect();
            for room in rooms.clone() {
                let before = app.history.predecessors(&room, SEARCH_PREDECESSORS_MAX).await?;
                rooms.extend(before.into_iter().filter(|room| all.contains(room)));
            }
            rooms
        }
    };
    rooms.retain(|room| !filter.not_rooms.contains(room));
    Ok(rooms.into_iter().collect())
}

async fn render(viewer: &mut Viewer, found: &Findings) -> Result<Vec<Value>, Failure> {
    let events: Vec<_> = found.page.iter().map(|found| found.event.clone()).collect();
    let bundles = viewer.bundles(&events).await?;
    let rendered = viewer.render(&events, Shape::Full, &bundles).await?;
    let result = |(raw, found): (Box<RawValue>, &search::Found)| {
        let event: Value = serde_json::from_str(raw.get()).map_err(Failure::internal)?;
        Ok(json!({ "rank": found.rank, "result": event }))
    };
    rendered.into_iter().zip(&found.page).map(result).collect()
}

/// Who has said what is shown.
fn senders(results: &[Value]) -> BTreeSet<String> {
    let around = ["/context/events_before", "/context/events_after"];
    let around = results.iter().flat_map(|result| around.map(|place| result.pointer(place)));
    let around = around.flatten().filter_map(Value::as_array).flatten();
    let all = results.iter().map(|result| &result["result"]).chain(around);
    all.filter_map(|event| event["sender"].as_str().map(String::from)).collect()
}

/// The state of each room of the results, as far as the caller may look at it; of the members only those who are
/// `needed`, if that is given.
async fn state(
    app: &App,
    caller: &Caller,
    found: &Findings,
    needed: Option<&BTreeSet<String>>,
) -> Result<Value, Failure> {
    let rooms: BTreeSet<&RoomId> = found.page.iter().map(|found| found.event.pdu.room_id()).collect();
    let mut states = Map::new();
    for room in rooms {
        let Some(mut scene) = Scene::find(app, caller, room).await? else { continue };
        let mut entries = app.history.state_of(scene.reach.state, None).await?;
        entries.retain(|entry| {
            let is_member = entry.key.event_type == StateEventType::RoomMember;
            !is_member || needed.is_none_or(|needed| needed.contains(&entry.key.state_key))
        });
        let ids: Vec<_> = entries.into_iter().map(|entry| entry.value.event_id).collect();
        let events: Vec<_> = app.history.events(&ids).await?.into_iter().flatten().collect();
        let shown = scene.show_state::<Value>(&events).await?;
        states.insert(room.to_string(), serde_json::to_value(shown).map_err(Failure::internal)?);
    }
    Ok(states.into())
}

/// Which of the results are of which room or sender.
fn groups(criteria: &Criteria, found: &Findings) -> Map<String, Value> {
    let mut all = Map::new();
    for key in criteria.groupings.group_by.iter().filter_map(|grouping| grouping.key.as_ref()) {
        let mut groups: BTreeMap<String, Vec<&str>> = BTreeMap::new();
        for found in &found.page {
            let pdu = &found.event.pdu;
            let group = match key {
                GroupingKey::RoomId => pdu.room_id().as_str(),
                GroupingKey::Sender => pdu.sender().as_str(),
                _ => continue,
            };
            groups.entry(group.to_owned()).or_default().push(pdu.event_id().as_str());
        }
        let groups = groups.into_iter().enumerate();
        let group = |(order, (name, results))| (name, json!({ "order": order, "results": results }));
        let groups: Map<String, Value> = groups.map(group).collect();
        all.insert(key.to_string(), groups.into());
    }
    all
}
