//! `GET /_matrix/client/v3/pushrules/global/{kind}/{ruleId}/actions`
//!
//! <https://spec.matrix.org/v1.19/client-server-api/#get_matrixclientv3pushrulesglobalkindruleidactions>

use ruma::api::client::push::get_pushrule_actions::v3::{Request, Response};

use crate::{
    account::Caller,
    http::{App, Failure},
};

pub(super) async fn handle(app: App, caller: Caller, request: Request) -> Result<Response, Failure> {
    let rules = app.accounts.push_rules(&caller.user_id).await?;
    let rule = rules.get(super::kind(&request.kind), &request.rule_id).ok_or_else(super::no_rule)?;
    Ok(Response::new(rule.actions().to_owned()))
}
