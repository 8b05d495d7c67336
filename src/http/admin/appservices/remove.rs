//! `DELETE /_lockstep/admin/v1/appservices/{appserviceId}`: lets an application service go that was taken in while the
//! server ran. Its users and rooms stay.

use axum::response::Response;
use serde_json::json;

use super::{admit, answer, id, refused};
use crate::http::{App, Call, Failure};

pub(super) async fn handle(app: App, call: Call) -> Result<Response, Failure> {
    admit(&app, &call).await?;
    match app.appservice_couriers.unregister(&app.appservices, id(&call)?).await.map_err(refused)? {
        true => Ok(answer(json!({}))),
        false => Err(Failure::not_found("There is no such application service")),
    }
}
