//! `GET` and `PUT /_synapse/admin/v1/users/{userId}/admin`: whether a user is an administrator.

use axum::response::Response;
use http::Method;
use serde::Deserialize;
use serde_json::json;

use super::{active, admit, answer};
use crate::http::{App, Call, Failure};

#[derive(Deserialize)]
struct Asked {
    admin: bool,
}

pub(super) async fn handle(app: App, call: Call) -> Result<Response, Failure> {
    admit(&app, &call).await?;
    let asked: Option<Asked> = match call.parts.method == Method::PUT {
        true => Some(call.json()?),
        false => None,
    };
    let user = active(&app, &call).await?;
    let Some(Asked { admin }) = asked else {
        let row = app.accounts.user(&user).await?;
        return Ok(answer(json!({ "admin": row.is_some_and(|row| row.admin) })));
    };
    // Whoever takes it from themselves may be the last one who has it.
    if !admin && call.caller.is_some_and(|caller| caller.user_id == user) {
        return Err(Failure::invalid_param("Nobody can do this to their own account"));
    }
    app.accounts.change_user(&user, |row| row.admin = admin).await?;
    Ok(answer(json!({})))
}
