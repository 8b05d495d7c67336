//! `GET /_matrix/federation/v1/backfill/{roomId}`
//!
//! <https://spec.matrix.org/v1.19/server-server-api/#get_matrixfederationv1backfillroomid>

use ruma::api::federation::backfill::get_backfill::v1::{Request, Response};

use crate::http::{
    App, Failure,
    federation::{Origin, now},
};

pub(super) async fn handle(app: App, origin: Origin, request: Request) -> Result<Response, Failure> {
    let limit = usize::try_from(u64::from(request.limit)).unwrap_or(usize::MAX);
    let pdus = app.federation.backfill(&origin, &request.room_id, request.v, limit).await?;
    Ok(Response::new(app.server_name.clone(), now(&app), pdus))
}
