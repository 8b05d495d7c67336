//! `GET /_matrix/client/v3/rooms/{roomId}/messages`
//!
//! <https://spec.matrix.org/v1.19/client-server-api/#get_matrixclientv3roomsroomidmessages>

use ruma::{
    api::client::message::get_message_events::v3::{Request, Response},
    assign,
};

use super::scene::{Scene, direction, is_lazy, page_limit, token};
use crate::{
    account::Caller,
    history::{Source, Walk},
    http::{App, Failure},
    limits::PAGE_EVENTS_DEFAULT,
};

/// Answers the request.
pub(super) async fn handle(app: App, caller: Caller, request: Request) -> Result<Response, Failure> {
    let mut scene = Scene::enter(&app, &caller, &request.room_id).await?;
    let direction = direction(request.dir);
    let walk = Walk {
        from: scene.start(request.from.as_deref(), direction)?,
        to: scene.stop(request.to.as_deref(), direction)?,
        direction,
        limit: page_limit(Some(request.limit), PAGE_EVENTS_DEFAULT),
    };
    let lazy = is_lazy(&request.filter);
    let wanted = scene.wanted(request.filter);
    let page = scene.viewer.page(&Source::Timeline(&request.room_id), walk, &wanted).await?;
    let members = match lazy {
        true => scene.senders(&page.events).await?,
        false => Vec::new(),
    };
    Ok(assign!(Response::new(), {
        start: token(walk.from),
        end: page.next().map(token),
        chunk: scene.show(&page.events).await?,
        state: scene.show_state(&members).await?,
    }))
}
