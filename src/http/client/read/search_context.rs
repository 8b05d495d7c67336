//! What was said around the results of `POST /_matrix/client/v3/search`.

use std::{
    collections::{BTreeMap, BTreeSet, btree_map::Entry},
    sync::Arc,
};

use ruma::{UInt, api::client::filter::RoomEventFilter};
use serde::Serialize;
use serde_json::{Map, Value, json};

use super::scene::{Scene, place_token};
use crate::{
    account::Caller,
    history::{StoredEvent, Stroll},
    http::{App, Failure},
    limits::SEARCH_CONTEXT_MAX,
    log::Direction,
    search::Findings,
};

/// The context of each result, in order.
pub(super) async fn of(
    app: &App,
    caller: &Caller,
    found: &Findings,
    ((before, after), with_profiles): ((UInt, UInt), bool),
) -> Result<Vec<Value>, Failure> {
    let limit = |limit: UInt| usize::try_from(u64::from(limit)).unwrap_or(usize::MAX).min(SEARCH_CONTEXT_MAX);
    let (mut contexts, mut scenes) = (Vec::new(), BTreeMap::new());
    for found in &found.page {
        let scene = match scenes.entry(found.event.pdu.room_id().to_owned()) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(place) => {
                let scene = Scene::find(app, caller, place.key()).await?;
                place.insert(scene)
            }
        };
        contexts.push(match scene {
            Some(scene) => {
                let limits = (limit(before), limit(after));
                around(app, scene, &found.event, (limits, with_profiles)).await?
            }
            None => json!({}),
        });
    }
    Ok(contexts)
}

async fn around(
    app: &App,
    scene: &mut Scene,
    event: &Arc<StoredEvent>,
    ((before, after), with_profiles): ((usize, usize), bool),
) -> Result<Value, Failure> {
    let wanted = scene.wanted(RoomEventFilter::default());
    let (start, end) = app.history.boundaries(event).await?;
    let (room, passed) = (event.pdu.room_id(), BTreeSet::new());
    let backward = Stroll { from: start, to: None, direction: Direction::Backward, limit: before };
    let earlier = scene.viewer.stroll(room, backward, &passed, &wanted).await?;
    let to = Some(scene.reach.until);
    let forward = Stroll { from: end, to, direction: Direction::Forward, limit: after };
    let later = scene.viewer.stroll(room, forward, &passed, &wanted).await?;
    let mut context = json!({
        "start": place_token(earlier.reached),
        "end": place_token(later.reached),
        "events_before": value(scene.show::<Value>(&earlier.events).await?)?,
        "events_after": value(scene.show::<Value>(&later.events).await?)?,
    });
    if with_profiles {
        let events: Vec<_> = earlier.events.iter().chain([event]).chain(&later.events).cloned().collect();
        let mut profiles = Map::new();
        for member in scene.senders(&events).await? {
            let member = scene.viewer.as_shown(&member)?;
            let content: Map<String, Value> = member.pdu.content_as().unwrap_or_default();
            let profile = ["displayname", "avatar_url"].into_iter();
            let profile = profile.filter_map(|name| Some((name.to_owned(), content.get(name)?.clone())));
            profiles.insert(member.pdu.state_key().unwrap_or_default().to_owned(), profile.collect());
        }
        context["profile_info"] = profiles.into();
    }
    Ok(context)
}

fn value(shown: impl Serialize) -> Result<Value, Failure> {
    serde_json::to_value(shown).map_err(Failure::internal)
}
