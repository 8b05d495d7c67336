//! `GET /_matrix/client/v3/pushrules/global/{kind}/{ruleId}`
//!
//! <https://spec.matrix.org/v1.19/client-server-api/#get_matrixclientv3pushrulesglobalkindruleid>

use ruma::{
    api::client::push::get_pushrule::v3::{Request, Response},
    push::AnyPushRule,
};

use crate::{
    account::Caller,
    http::{App, Failure},
};

pub(super) async fn handle(app: App, caller: Caller, request: Request) -> Result<Response, Failure> {
    let rules = app.accounts.push_rules(&caller.user_id).await?;
    let rule = rules.get(super::kind(&request.kind), &request.rule_id).ok_or_else(super::no_rule)?;
    Ok(Response::new(match rule.to_owned() {
        // Which ruma's own conversion does not know.
        AnyPushRule::PostContent(rule) => rule.into(),
        rule => rule.into(),
    }))
}
