//! `POST /_matrix/client/v3/user/{userId}/filter`
//!
//! <https://spec.matrix.org/v1.19/client-server-api/#post_matrixclientv3useruseridfilter>

use ruma::api::client::filter::create_filter::v3::{Request, Response};

use crate::{
    account::Caller,
    http::{App, Failure},
};

pub(super) async fn handle(app: App, caller: Caller, request: Request) -> Result<Response, Failure> {
    super::own(&caller, &request.user_id)?;
    let filter = serde_json::value::to_raw_value(&request.filter).map_err(Failure::internal)?;
    Ok(Response::new(app.accounts.store_filter(&caller.user_id, &filter).await?))
}
