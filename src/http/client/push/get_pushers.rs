//! `GET /_matrix/client/v3/pushers`
//!
//! <https://spec.matrix.org/v1.19/client-server-api/#get_matrixclientv3pushers>

use ruma::api::client::push::get_pushers::v3::{Request, Response};

use crate::{
    account::Caller,
    http::{App, Failure},
};

pub(super) async fn handle(app: App, caller: Caller, _: Request) -> Result<Response, Failure> {
    let rows = app.push.pushers(&caller.user_id).await?;
    let pushers: Result<Vec<_>, _> = rows.iter().map(|(_, row)| row.pusher()).collect();
    Ok(Response::new(pushers?))
}
