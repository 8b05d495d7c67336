//! `DELETE /_matrix/client/v3/pushrules/global/{kind}/{ruleId}`
//!
//! <https://spec.matrix.org/v1.19/client-server-api/#delete_matrixclientv3pushrulesglobalkindruleid>

use ruma::{
    api::client::push::delete_pushrule::v3::{Request, Response},
    push::{RemovePushRuleError, Ruleset},
};

use crate::{
    account::Caller,
    http::{App, Failure},
};

pub(super) async fn handle(app: App, caller: Caller, request: Request) -> Result<Response, Failure> {
    let change = |rules: &mut Ruleset| {
        rules.remove(super::kind(&request.kind), &request.rule_id).map_err(|error| match error {
            RemovePushRuleError::ServerDefault => {
                Failure::invalid_param("A default rule can only be disabled")
            }
            _ => super::no_rule(),
        })
    };
    app.accounts.change_push_rules(&caller.user_id, change).await?;
    Ok(Response::new())
}
