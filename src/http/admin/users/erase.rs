//! `POST /_lockstep/admin/v1/users/{userId}/erase`: the account ends, and what the user said and showed is removed.

use axum::response::Response;
use serde_json::json;

use super::{admit, answer, known};
use crate::http::{App, Call, Failure, client};

pub(super) async fn handle(app: App, call: Call) -> Result<Response, Failure> {
    admit(&app, &call).await?;
    let user = known(&app, &call).await?;
    let erasing = {
        let (app, user) = (app.clone(), user.clone());
        app.tasks.clone().spawn(async move {
            // Also of an account that has ended: not all of it may have gone then.
            client::end_account(app.clone(), user.clone(), (true, None)).await?;
            Ok::<_, Failure>(app.purge.erase_user(&user).await?)
        })
    };
    let events = erasing.await.map_err(Failure::internal)??;
    app.purge.wake();
    Ok(answer(json!({ "events": events })))
}
