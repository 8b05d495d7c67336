//! `GET /_matrix/client/v3/user/{userId}/filter/{filterId}`
//!
//! Hand-written, because a filter may say more than ruma's type holds.
//!
//! <https://spec.matrix.org/v1.19/client-server-api/#get_matrixclientv3useruseridfilterfilterid>

use axum::response::{IntoResponse, Response};
use http::Method;
use ruma::api::{Metadata, client::filter::get_filter::v3::Request, path_builder::PathBuilder};

use crate::http::{Access, App, Call, Failure, Routes, call::Given};

/// Adds the endpoint.
pub(super) fn routes(routes: &mut Routes) {
    for path in Request::PATH_BUILDER.all_paths() {
        routes.raw(Method::GET, path, Access::Required, handle);
    }
}

async fn handle(app: App, call: Call) -> Result<Response, Failure> {
    let Given { caller, request, .. } = call.decode::<Request>()?;
    let caller = caller.ok_or_else(Failure::missing_token)?;
    super::own(&caller, &request.user_id)?;
    let filter = app.accounts.filter(&caller.user_id, &request.filter_id).await?;
    Ok(axum::Json(filter).into_response())
}
