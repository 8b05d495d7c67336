//! `PUT /_matrix/client/v3/pushrules/global/{kind}/{ruleId}/actions`
//!
//! <https://spec.matrix.org/v1.19/client-server-api/#put_matrixclientv3pushrulesglobalkindruleidactions>

use ruma::api::client::push::set_pushrule_actions::v3::{Request, Response};

use crate::{
    account::Caller,
    http::{App, Failure},
};

pub(super) async fn handle(app: App, caller: Caller, request: Request) -> Result<Response, Failure> {
    let mut rules = app.accounts.push_rules(&caller.user_id).await?;
    rules.set_actions(request.kind, &request.rule_id, request.actions).map_err(|_| super::no_rule())?;
    app.accounts.set_push_rules(&caller.user_id, rules).await?;
    Ok(Response::new())
}
