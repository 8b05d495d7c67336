//! `GET /_matrix/client/v1/mutual_rooms`
//!
//! <https://spec.matrix.org/v1.19/client-server-api/#get_matrixclientv1mutual_rooms>

use ruma::{
    OwnedRoomId, RoomId, UInt,
    api::client::membership::get_mutual_rooms::v1::{Request, Response},
};

use crate::{
    account::Caller,
    http::{App, Failure},
    limits::MUTUAL_ROOMS_PAGE_MAX,
};

/// Answers the request.
pub(super) async fn handle(app: App, caller: Caller, request: Request) -> Result<Response, Failure> {
    if request.user_id == caller.user_id {
        return Err(Failure::invalid_param("That is yourself"));
    }
    let from = request.from.as_deref().map(RoomId::parse).transpose();
    let from = from.map_err(|_| Failure::invalid_param("The token is not one of this server"))?;
    let all = app.history.mutual_rooms(&caller.user_id, &request.user_id).await?;
    let count = UInt::try_from(all.len()).unwrap_or(UInt::MAX);
    let mut left =
        all.into_iter().skip_while(|room| from.as_ref().is_some_and(|from| room <= from)).peekable();
    let joined: Vec<OwnedRoomId> = left.by_ref().take(MUTUAL_ROOMS_PAGE_MAX).collect();
    let mut response = Response::new(count, joined);
    if left.peek().is_some() {
        response.next_batch = response.joined.last().map(ToString::to_string);
    }
    Ok(response)
}
