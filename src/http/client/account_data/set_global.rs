//! `PUT /_matrix/client/v3/user/{userId}/account_data/{type}`
//!
//! An empty content takes it away, as in [`super::remove`].
//!
//! <https://spec.matrix.org/v1.19/client-server-api/#put_matrixclientv3useruseridaccount_datatype>

use ruma::api::client::config::set_global_account_data::v3::{Request, Response};

use crate::{
    account::{Caller, DataChange},
    http::{App, Failure},
};

pub(super) async fn handle(app: App, caller: Caller, request: Request) -> Result<Response, Failure> {
    super::own(&caller, &request.user_id)?;
    let event_type = request.event_type.to_string();
    let change = DataChange { room_id: None, event_type, content: request.data.into_json() };
    app.accounts.set_data(&caller.user_id, change).await?;
    Ok(Response::new())
}
