//! `GET /_matrix/client/v1/rooms/{roomId}/threads`
//!
//! <https://spec.matrix.org/v1.19/client-server-api/#get_matrixclientv1roomsroomidthreads>

use ruma::{
    api::client::threads::get_threads::v1::{IncludeThreads, Request, Response},
    assign,
};

use super::scene::{Scene, page_limit, place, place_token};
use crate::{
    account::Caller,
    history::{Boundary, Source, StoredEvent, Walk},
    http::{App, Failure},
    log::Direction,
};

/// Threads in one page when the client does not say.
const DEFAULT: usize = 20;

/// Answers the request.
pub(super) async fn handle(app: App, caller: Caller, request: Request) -> Result<Response, Failure> {
    let mut scene = Scene::enter(&app, &caller, &request.room_id).await?;
    let direction = Direction::Backward;
    // A thread is where its latest reply is, which may be beyond what the user may see.
    let from = request.from.as_deref().map(place).transpose()?;
    let walk = Walk {
        from: from.unwrap_or_else(|| Boundary::after(app.history.log().head())),
        to: None,
        direction,
        limit: page_limit(request.limit, DEFAULT),
    };
    let room = request.room_id.clone();
    let wanted = |event: &StoredEvent| event.pdu.room_id() == room;
    let page = scene.viewer.page(&Source::Threads(&request.room_id), walk, &wanted).await?;
    let next_batch = page.next().map(place_token);
    let participated = request.include == IncludeThreads::Participated;
    let (roots, bundles) = scene.viewer.threads(page.events, participated).await?;
    Ok(assign!(Response::new(scene.show_with(&roots, &bundles).await?), { next_batch }))
}
