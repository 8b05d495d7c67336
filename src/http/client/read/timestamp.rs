//! `GET /_matrix/client/v1/rooms/{roomId}/timestamp_to_event`
//!
//! <https://spec.matrix.org/v1.19/client-server-api/#get_matrixclientv1roomsroomidtimestamp_to_event>

use ruma::api::client::room::get_event_by_timestamp::v1::{Request, Response};

use super::scene::{Scene, direction};
use crate::{
    account::Caller,
    history::{Source, StoredEvent, Walk},
    http::{App, Failure},
    log::Direction,
};

/// Answers the request.
pub(super) async fn handle(app: App, caller: Caller, request: Request) -> Result<Response, Failure> {
    let mut scene = Scene::enter(&app, &caller, &request.room_id).await?;
    let (direction, ts) = (direction(request.dir), request.ts);
    let wanted = move |event: &StoredEvent| match direction {
        Direction::Forward => event.pdu.origin_server_ts() >= ts,
        Direction::Backward => event.pdu.origin_server_ts() <= ts,
    };
    let source = Source::Timeline(&request.room_id);
    let mut walk =
        Walk { from: scene.start(None, direction)?, to: scene.stop(None, direction)?, direction, limit: 1 };
    loop {
        let page = scene.viewer.page(&source, walk, &wanted).await?;
        if let Some(event) = page.events.first() {
            let id = event.pdu.event_id().to_owned();
            return Ok(Response::new(id, event.pdu.origin_server_ts()));
        }
        match page.next() {
            Some(next) => walk.from = next,
            None => return Err(Failure::not_found("There is no event on that side of the time")),
        }
    }
}
