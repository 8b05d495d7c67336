//! `GET /_matrix/client/v3/publicRooms`
//!
//! <https://spec.matrix.org/v1.19/client-server-api/#get_matrixclientv3publicrooms>

use axum::response::{IntoResponse, Response};
use ruma::{
    OwnedServerName, RoomAliasId, RoomId, UInt,
    api::client::directory::get_public_rooms::v3::Request,
    directory::{Filter, PublicRoomsChunk, RoomNetwork, RoomTypeFilter},
    room::RoomSummary,
};
use serde_json::{Value, json};

use super::scene::page_limit;
use crate::{
    history::is_open,
    http::{App, Call, Failure},
    limits::ROOM_LIST_MAX,
    room::Banned,
};

/// Which rooms of the directory are wanted.
pub(in crate::http) struct Question {
    pub(in crate::http) server: Option<OwnedServerName>,
    /// Matrix alone, with all networks beyond it, or one of these: the id of the application service, `|`, the network.
    pub(in crate::http) network: RoomNetwork,
    pub(in crate::http) limit: Option<UInt>,
    pub(in crate::http) since: Option<String>,
    pub(in crate::http) filter: Filter,
}

/// A page of the directory.
pub(in crate::http) struct Answer {
    pub(in crate::http) chunk: Vec<PublicRoomsChunk>,
    pub(in crate::http) next_batch: Option<String>,
    pub(in crate::http) prev_batch: Option<String>,
    pub(in crate::http) total: UInt,
}

/// Answers the request.
pub(super) async fn handle(app: App, call: Call) -> Result<Response, Failure> {
    let Request { server, limit, since, .. } = call.decode()?.request;
    render(
        list(&app, Question { server, network: RoomNetwork::Matrix, limit, since, filter: Filter::new() })
            .await?,
    )
}

/// The answer to a client. By hand, because ruma leaves out the join rule of the usual rooms, and clients look
/// for it.
pub(super) fn render(answer: Answer) -> Result<Response, Failure> {
    let mut chunk = Vec::with_capacity(answer.chunk.len());
    for room in answer.chunk {
        let mut room = serde_json::to_value(room).map_err(Failure::internal)?;
        if let Some(fields) = room.as_object_mut() {
            fields.entry("join_rule").or_insert_with(|| Value::from("public"));
        }
        chunk.push(room);
    }
    let mut body = json!({ "chunk": chunk, "total_room_count_estimate": answer.total });
    for (name, token) in [("next_batch", answer.next_batch), ("prev_batch", answer.prev_batch)] {
        if let Some(token) = token {
            body[name] = Value::from(token);
        }
    }
    Ok(axum::Json(body).into_response())
}

/// One page of the directory. Its tokens count rooms.
pub(in crate::http) async fn list(app: &App, question: Question) -> Result<Answer, Failure> {
    let banned = app.rooms.banned().await?;
    if let Some(server) = question.server.as_ref().filter(|server| **server != app.server_name) {
        let page = (question.limit, question.since);
        let mut answer = app.federation.directory_of(server, page, question.filter).await?;
        answer.chunk.retain(|room| !is_banned(&banned, &room.room_id, room.canonical_alias.as_deref()));
        return Ok(Answer {
            total: answer.total_room_count_estimate.unwrap_or_default(),
            chunk: answer.chunk,
            next_batch: answer.next_batch,
            prev_batch: answer.prev_batch,
        });
    }
    let limit = page_limit(question.limit, ROOM_LIST_MAX).min(ROOM_LIST_MAX);
    let skipped: usize = match &question.since {
        Some(since) => since.parse().map_err(|_| Failure::invalid_param("`since` is no token of ours"))?,
        None => 0,
    };
    let rooms = match &question.network {
        RoomNetwork::ThirdParty(network) => app.history.published_in(network).await?,
        RoomNetwork::All => app.history.directory_of_all_networks().await?,
        _ => app.history.directory().await?,
    };
    let is_filtered = question.filter.generic_search_term.is_some() || !question.filter.room_types.is_empty();
    let (mut chunk, mut total) = (Vec::new(), if is_filtered { 0 } else { rooms.len() });
    let first = if is_filtered { 0 } else { skipped };
    let mut left_off = None;
    for (index, room) in rooms.iter().enumerate().skip(first) {
        if !is_filtered && chunk.len() >= limit {
            left_off = Some(index);
            break;
        }
        let Some(summary) = app.history.summary(room).await? else { continue };
        // One that has been closed since it was listed is told to nobody.
        if !is_open(&summary) || is_banned(&banned, room, summary.canonical_alias.as_deref()) {
            continue;
        }
        if is_filtered {
            if !passes(&question.filter, &summary) {
                continue;
            }
            total += 1;
            if total <= skipped || chunk.len() >= limit {
                continue;
            }
        }
        chunk.push(PublicRoomsChunk::from(summary));
    }
    let end = skipped.saturating_add(limit);
    let end = if is_filtered { (end < total).then_some(end) } else { left_off };
    Ok(Answer {
        chunk,
        next_batch: end.filter(|_| limit > 0).map(|end| end.to_string()),
        prev_batch: (skipped > 0).then(|| skipped.saturating_sub(limit).to_string()),
        total: UInt::new_saturating(u64::try_from(total).unwrap_or(u64::MAX)),
    })
}

/// Whether a policy list bans a room, or the alias by which it goes.
fn is_banned(banned: &Banned, room: &RoomId, alias: Option<&RoomAliasId>) -> bool {
    banned.has_room(room) || alias.is_some_and(|alias| banned.has_alias(alias))
}

fn passes(filter: &Filter, summary: &RoomSummary) -> bool {
    let kind = summary.room_type.as_ref().map(|kind| kind.as_str());
    let is_wanted = |wanted: &RoomTypeFilter| wanted.as_str() == kind;
    if !filter.room_types.is_empty() && !filter.room_types.iter().any(is_wanted) {
        return false;
    }
    let Some(term) = filter.generic_search_term.as_ref().map(|term| term.to_lowercase()) else { return true };
    let alias = summary.canonical_alias.as_ref().map(|alias| alias.to_string());
    let texts = [summary.name.clone(), summary.topic.clone(), alias];
    texts.into_iter().flatten().any(|text| text.to_lowercase().contains(&term))
}
