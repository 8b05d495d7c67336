//! `PUT /_matrix/client/v3/user/{userId}/rooms/{roomId}/tags/{tag}`
//!
//! <https://spec.matrix.org/v1.19/client-server-api/#put_matrixclientv3useruseridroomsroomidtagstag>

use ruma::api::client::tag::create_tag::v3::{Request, Response};
use serde_json::{Map, Value};

use crate::{
    account::Caller,
    http::{App, Body, Failure},
};

/// Answers the request. Whatever else a client says of a tag is kept, as in account data that is set as such.
pub(super) async fn handle(
    app: App,
    caller: Caller,
    body: Body,
    request: Request,
) -> Result<Response, Failure> {
    super::own(&caller, &request.user_id)?;
    let mut info: Map<String, Value> = body.json()?;
    if let Value::Object(known) = serde_json::to_value(&request.tag_info).map_err(Failure::internal)? {
        info.extend(known);
    }
    let tag = (&*request.tag, Some(Value::Object(info)));
    app.accounts.set_tag(&caller.user_id, &request.room_id, tag).await?;
    Ok(Response::new())
}
