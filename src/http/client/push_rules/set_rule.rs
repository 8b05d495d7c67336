//! `PUT /_matrix/client/v3/pushrules/global/{kind}/{ruleId}`
//!
//! <https://spec.matrix.org/v1.19/client-server-api/#put_matrixclientv3pushrulesglobalkindruleid>

use ruma::{
    api::client::push::set_pushrule::v3::{Request, Response},
    push::Ruleset,
};

use crate::{
    account::Caller,
    http::{App, Failure},
};

pub(super) async fn handle(app: App, caller: Caller, request: Request) -> Result<Response, Failure> {
    let change = |rules: &mut Ruleset| {
        let set = rules.insert(request.rule.clone(), request.after.as_deref(), request.before.as_deref());
        set.map_err(|error| super::refused(&error))
    };
    app.accounts.change_push_rules(&caller.user_id, change).await?;
    Ok(Response::new())
}
