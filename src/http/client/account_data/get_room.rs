//! `GET /_matrix/client/v3/user/{userId}/rooms/{roomId}/account_data/{type}`
//!
//! <https://spec.matrix.org/v1.19/client-server-api/#get_matrixclientv3useruseridroomsroomidaccount_datatype>

use ruma::{
    api::client::config::get_room_account_data::v3::{Request, Response},
    serde::Raw,
};

use crate::{
    account::Caller,
    http::{App, Failure},
};

pub(super) async fn handle(app: App, caller: Caller, request: Request) -> Result<Response, Failure> {
    super::own(&caller, &request.user_id)?;
    let event_type = request.event_type.to_string();
    let content = app.accounts.data(&caller.user_id, Some(&*request.room_id), &event_type).await?;
    let content = content.ok_or_else(|| Failure::not_found("No such account data"))?;
    Ok(Response::new(Raw::from_json(content)))
}
