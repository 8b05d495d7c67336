//! `GET /_matrix/client/v3/pushrules/`
//!
//! <https://spec.matrix.org/v1.19/client-server-api/#get_matrixclientv3pushrules>

use ruma::api::client::push::get_pushrules_all::v3::{Request, Response};

use crate::{
    account::Caller,
    http::{App, Failure},
};

pub(super) async fn handle(app: App, caller: Caller, _: Request) -> Result<Response, Failure> {
    Ok(Response::new(app.accounts.push_rules(&caller.user_id).await?))
}
