//! `PUT /_matrix/client/v3/pushrules/global/{kind}/{ruleId}/enabled`
//!
//! <https://spec.matrix.org/v1.19/client-server-api/#put_matrixclientv3pushrulesglobalkindruleidenabled>

use ruma::{
    api::client::push::set_pushrule_enabled::v3::{Request, Response},
    push::Ruleset,
};

use crate::{
    account::Caller,
    http::{App, Failure},
};

pub(super) async fn handle(app: App, caller: Caller, request: Request) -> Result<Response, Failure> {
    let change = |rules: &mut Ruleset| {
        let set = rules.set_enabled(super::kind(&request.kind), &request.rule_id, request.enabled);
        set.map_err(|_| super::no_rule())
    };
    app.accounts.change_push_rules(&caller.user_id, change).await?;
    Ok(Response::new())
}
