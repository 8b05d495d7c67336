//! `PUT /_lockstep/admin/v1/appservices/{appserviceId}`: takes in an application service, or another registration of
//! one that was taken in so. The body is the registration.
//!
//! <https://spec.matrix.org/v1.19/application-service-api/#registration>

use axum::response::Response;

use super::{admit, answer, id, refused, told};
use crate::{
    appservice::Registration,
    http::{App, Call, Failure},
};

pub(super) async fn handle(app: App, call: Call) -> Result<Response, Failure> {
    admit(&app, &call).await?;
    let registration: Registration = call.json()?;
    if registration.id != id(&call)? {
        return Err(Failure::invalid_param("`id` is another one than that in the path"));
    }
    // Whose requests such a token brings would not be clear any more.
    if app.accounts.owner_of(&registration.as_token).await?.is_some() {
        return Err(Failure::invalid_param("`as_token` is a token of a user"));
    }
    let couriers = &app.appservice_couriers;
    let added = couriers.register(&app.appservices, registration, &app.server_name).await.map_err(refused)?;
    Ok(answer(told(&app, &added).await?))
}
