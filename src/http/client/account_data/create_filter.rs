//! `POST /_matrix/client/v3/user/{userId}/filter`
//!
//! <https://spec.matrix.org/v1.19/client-server-api/#post_matrixclientv3useruseridfilter>

use ruma::api::client::filter::create_filter::v3::{Request, Response};
use serde_json::{Value, value::to_raw_value};

use crate::{
    account::Caller,
    http::{App, Failure, call::Body},
    sync::RelationFilter,
};

/// Answers the request. The filter is kept as it came: it may say more than ruma's type holds.
pub(super) async fn handle(
    app: App,
    caller: Caller,
    body: Body,
    request: Request,
) -> Result<Response, Failure> {
    super::own(&caller, &request.user_id)?;
    let filter = to_raw_value(&body.json::<Value>()?).map_err(Failure::internal)?;
    // A sync by it would be refused.
    RelationFilter::of_timelines(filter.get()).map_err(|error| Failure::invalid_param(error.to_string()))?;
    Ok(Response::new(app.accounts.store_filter(&caller.user_id, &filter).await?))
}
