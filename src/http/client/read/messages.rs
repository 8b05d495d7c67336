//! `GET /_matrix/client/v3/rooms/{roomId}/messages`
//!
//! <https://spec.matrix.org/v1.19/client-server-api/#get_matrixclientv3roomsroomidmessages>

use axum::response::{IntoResponse, Response as Answer};
use bytes::BytesMut;
use ruma::{
    OwnedRoomId,
    api::{
        OutgoingResponseExt,
        client::message::get_message_events::v3::{Request, Response},
    },
    assign,
};

use super::{
    scene::{Scene, direction, is_lazy, page_limit, place_token},
    stroll::{Wanted, relations, stroll},
};
use crate::{
    history::Stroll,
    http::{App, Call, Failure, call::Given},
    limits::{BACKFILLS_PER_PAGE, PAGE_EVENTS_DEFAULT},
    sync::RelationFilter,
};

/// Answers the request. Who may not look into the room is told that before anything that is wrong with the query.
pub(super) async fn handle(app: App, call: Call) -> Result<Answer, Failure> {
    let caller = call.caller.as_ref().ok_or_else(Failure::missing_token)?;
    let room = call.path.first().and_then(|room| OwnedRoomId::try_from(room.as_str()).ok());
    let room = room.ok_or_else(|| Failure::invalid_param("The path names no room"))?;
    let scene = Scene::enter(&app, caller, &room).await?;
    let Given { uri, request, .. } = call.decode::<Request>()?;
    let answer = look(&app, scene, (relations(&uri)?, request)).await?;
    let answer = answer.try_into_http_response::<BytesMut>().map_err(Failure::internal)?;
    Ok(answer.map(BytesMut::freeze).map(axum::body::Body::from).into_response())
}

/// What there is to see.
async fn look(
    app: &App,
    mut scene: Scene,
    (relations, request): (RelationFilter, Request),
) -> Result<Response, Failure> {
    let direction = direction(request.dir);
    let way = Stroll {
        from: scene.start(request.from.as_deref(), direction)?,
        to: scene.stop(request.to.as_deref(), direction)?,
        direction,
        limit: page_limit(Some(request.limit), PAGE_EVENTS_DEFAULT),
    };
    let lazy = is_lazy(&request.filter);
    let passes = scene.wanted(request.filter);
    let wanted = Wanted { relations: &relations, passes: &passes, backfills: BACKFILLS_PER_PAGE };
    let page = stroll(app, &mut scene, &request.room_id, way, wanted).await?;
    let members = match lazy {
        true => scene.senders(&page.events).await?,
        false => Vec::new(),
    };
    Ok(assign!(Response::new(), {
        start: place_token(way.from),
        end: page.more.then(|| place_token(page.reached)),
        chunk: scene.show(&page.events).await?,
        state: scene.show_state(&members).await?,
    }))
}
