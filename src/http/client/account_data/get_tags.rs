//! `GET /_matrix/client/v3/user/{userId}/rooms/{roomId}/tags`
//!
//! <https://spec.matrix.org/v1.19/client-server-api/#get_matrixclientv3useruseridroomsroomidtags>

use ruma::api::client::tag::get_tags::v3::{Request, Response};
use serde_json::Value;

use crate::{
    account::Caller,
    http::{App, Failure},
};

pub(super) async fn handle(app: App, caller: Caller, request: Request) -> Result<Response, Failure> {
    super::own(&caller, &request.user_id)?;
    let tags = app.accounts.tags(&caller.user_id, &request.room_id).await?;
    // What a client stored in another shape is left out rather than failing the rest.
    let tags = tags.into_iter().filter_map(|(name, info)| Some((name.into(), tag_info(info)?))).collect();
    Ok(Response::new(tags))
}

fn tag_info(info: Value) -> Option<ruma::events::tag::TagInfo> {
    serde_json::from_value(info).ok()
}
