//! `GET /_matrix/client/v3/pushrules/global/`
//!
//! <https://spec.matrix.org/v1.19/client-server-api/#get_matrixclientv3pushrulesglobal>

use ruma::api::client::push::get_pushrules_global_scope::v3::{Request, Response};

use crate::{
    account::Caller,
    http::{App, Failure},
};

pub(super) async fn handle(app: App, caller: Caller, _: Request) -> Result<Response, Failure> {
    Ok(Response::new(app.accounts.push_rules(&caller.user_id).await?))
}
