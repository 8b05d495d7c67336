//! `POST /_synapse/admin/v1/deactivate/{userId}`: the account ends. With `erase` what its user said is hidden from those
//! who come later; it is removed by `POST /_lockstep/admin/v1/users/{userId}/erase`.

use axum::response::Response;
use serde::Deserialize;
use serde_json::json;

use super::{active, admit, answer};
use crate::http::{App, Call, Failure, client::account::deactivate::deactivate};

#[derive(Default, Deserialize)]
struct Asked {
    #[serde(default)]
    erase: bool,
}

pub(super) async fn handle(app: App, call: Call) -> Result<Response, Failure> {
    admit(&app, &call).await?;
    let Asked { erase } = call.json_or_default()?;
    let user = active(&app, &call).await?;
    let unbound = deactivate(&app, user, erase).await?;
    Ok(answer(json!({ "id_server_unbind_result": unbound })))
}
