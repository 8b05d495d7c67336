//! `DELETE /_matrix/client/v3/pushrules/global/{kind}/{ruleId}`
//!
//! <https://spec.matrix.org/v1.19/client-server-api/#delete_matrixclientv3pushrulesglobalkindruleid>

use ruma::{
    api::client::push::delete_pushrule::v3::{Request, Response},
    push::RemovePushRuleError,
};

use crate::{
    account::Caller,
    http::{App, Failure},
};

pub(super) async fn handle(app: App, caller: Caller, request: Request) -> Result<Response, Failure> {
    let mut rules = app.accounts.push_rules(&caller.user_id).await?;
    rules.remove(request.kind, &request.rule_id).map_err(|error| match error {
        RemovePushRuleError::ServerDefault => Failure::invalid_param("A default rule can only be disabled"),
        _ => super::no_rule(),
    })?;
    app.accounts.set_push_rules(&caller.user_id, rules).await?;
    Ok(Response::new())
}
