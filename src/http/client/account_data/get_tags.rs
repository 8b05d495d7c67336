//! `GET /_matrix/client/v3/user/{userId}/rooms/{roomId}/tags`
//!
//! <https://spec.matrix.org/v1.19/client-server-api/#get_matrixclientv3useruseridroomsroomidtags>

use axum::{
    Json,
    response::{IntoResponse, Response},
};
use ruma::{
    api::{Metadata, client::tag::get_tags::v3::Request, path_builder::PathBuilder},
    events::tag::TagInfo,
};
use serde_json::{Value, json};

use crate::http::{Access, App, Call, Failure, Routes, call::Given};

/// Adds the endpoint.
pub(super) fn routes(routes: &mut Routes) {
    for path in Request::PATH_BUILDER.all_paths() {
        routes.raw(Request::METHOD, path, Access::Required, handle);
    }
}

/// Answers the request. By hand, because ruma knows one field of a tag only.
async fn handle(app: App, call: Call) -> Result<Response, Failure> {
    let Given { caller, request, .. } = call.decode::<Request>()?;
    let caller = caller.ok_or_else(Failure::missing_token)?;
    super::own(&caller, &request.user_id)?;
    let mut tags = app.accounts.tags(&caller.user_id, &request.room_id).await?;
    // What a client stored in another shape is left out rather than failing the rest.
    tags.retain(|_, info| is_tag(info));
    Ok(Json(json!({ "tags": tags })).into_response())
}

fn is_tag(info: &Value) -> bool {
    serde_json::from_value::<TagInfo>(info.clone()).is_ok()
}
