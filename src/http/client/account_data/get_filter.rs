//! `GET /_matrix/client/v3/user/{userId}/filter/{filterId}`
//!
//! <https://spec.matrix.org/v1.19/client-server-api/#get_matrixclientv3useruseridfilterfilterid>

use ruma::api::client::filter::get_filter::v3::{Request, Response};

use crate::{
    account::Caller,
    http::{App, Failure},
};

pub(super) async fn handle(app: App, caller: Caller, request: Request) -> Result<Response, Failure> {
    super::own(&caller, &request.user_id)?;
    let filter = app.accounts.filter(&caller.user_id, &request.filter_id).await?;
    Ok(Response::new(serde_json::from_str(filter.get()).map_err(Failure::internal)?))
}
