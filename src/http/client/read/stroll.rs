//! A page of a room's history, by everything that a filter can say.

use std::collections::BTreeSet;

use http::Uri;
use ruma::RoomId;
use tokio::time::{Instant, timeout_at};

use super::scene::Scene;
use crate::{
    history::{PastPage, StoredEvent, Stroll},
    http::{App, Failure},
    limits::{CLIENT_WAIT_MAX, RELATED_BATCH_EVENTS, RELATED_BATCHES_MAX},
    log::Direction,
    sync::RelationFilter,
};

/// Which events are wanted.
pub(super) struct Wanted<'a> {
    /// How they relate to others, and others to them.
    pub(super) relations: &'a RelationFilter,
    /// And whatever else there is to say of them.
    pub(super) passes: &'a (dyn Fn(&StoredEvent) -> bool + Send + Sync),
    /// How often other servers are asked for events that are missing.
    pub(super) backfills: usize,
}

/// What the parameter `filter` says of relations.
pub(super) fn relations(uri: &Uri) -> Result<RelationFilter, Failure> {
    let mut pairs = url::form_urlencoded::parse(uri.query().unwrap_or_default().as_bytes());
    let filter = pairs.find(|(name, _)| name == "filter");
    let filter = filter.map(|(_, text)| RelationFilter::of_events(&text)).transpose();
    Ok(filter.map_err(|error| Failure::invalid_param(error.to_string()))?.unwrap_or_default())
}

/// A page of the room. What others relate to is looked for among so many events; a page that ends before it is full says
/// that there is more.
pub(super) async fn stroll(
    app: &App,
    scene: &mut Scene,
    room: &RoomId,
    stroll: Stroll,
    wanted: Wanted<'_>,
) -> Result<PastPage, Failure> {
    let Wanted { relations, passes, mut backfills } = wanted;
    let passes = |event: &StoredEvent| passes(event) && relations.passes(&event.pdu);
    if !relations.asks_for_others() || stroll.limit == 0 {
        return page(app, scene, room, stroll, (&passes, backfills)).await;
    }
    let mut found = PastPage { events: Vec::new(), reached: stroll.from, more: true, lacking: None };
    for _ in 0..RELATED_BATCHES_MAX {
        let batch = Stroll { from: found.reached, limit: RELATED_BATCH_EVENTS, ..stroll };
        // The first batch may ask for all that one page may.
        let backfills = std::mem::take(&mut backfills);
        let batch = page(app, scene, room, batch, (&passes, backfills)).await?;
        (found.reached, found.more) = (batch.reached, batch.more);
        for event in batch.events {
            if !relations.is_met(&mut scene.viewer, &event).await? {
                continue;
            }
            found.events.push(event.clone());
            if found.events.len() == stroll.limit {
                let (before, after) = app.history.boundaries(&event).await?;
                found.reached = if stroll.direction == Direction::Backward { before } else { after };
                found.more = true;
                return Ok(found);
            }
        }
        if !found.more || batch.lacking.is_some() {
            break;
        }
    }
    Ok(found)
}

/// A page of the room; where events are missing, other servers are asked for them.
async fn page(
    app: &App,
    scene: &mut Scene,
    room: &RoomId,
    stroll: Stroll,
    (passes, backfills): (&(dyn Fn(&StoredEvent) -> bool + Send + Sync), usize),
) -> Result<PastPage, Failure> {
    let mut passed = BTreeSet::new();
    let mut page = scene.viewer.stroll(room, stroll, &passed, passes).await?;
    let mut left = backfills;
    let until = Instant::now() + CLIENT_WAIT_MAX;
    // What is lacking after so many attempts is tried for the next page.
    while let Some(anchor) = page.lacking.filter(|_| left > 0) {
        left -= 1;
        let filling = timeout_at(until, app.rooms.backfill(room, anchor)).await;
        if !filling.unwrap_or(Ok(false))? {
            passed.insert(anchor);
        }
        let limit = stroll.limit.saturating_sub(page.events.len());
        let rest = Stroll { from: page.reached, limit, ..stroll };
        let next = scene.viewer.stroll(room, rest, &passed, passes).await?;
        page.events.extend(next.events);
        (page.reached, page.more, page.lacking) = (next.reached, next.more, next.lacking);
    }
    Ok(page)
}
