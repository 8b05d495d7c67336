//! `PUT /_matrix/client/v3/pushrules/global/{kind}/{ruleId}`
//!
//! <https://spec.matrix.org/v1.19/client-server-api/#put_matrixclientv3pushrulesglobalkindruleid>

use ruma::api::client::push::set_pushrule::v3::{Request, Response};

use crate::{
    account::Caller,
    http::{App, Failure},
};

pub(super) async fn handle(app: App, caller: Caller, request: Request) -> Result<Response, Failure> {
    let mut rules = app.accounts.push_rules(&caller.user_id).await?;
    rules
        .insert(request.rule, request.after.as_deref(), request.before.as_deref())
        .map_err(|error| super::refused(&error))?;
    app.accounts.set_push_rules(&caller.user_id, rules).await?;
    Ok(Response::new())
}
