//! `PUT /_matrix/client/v3/pushrules/global/{kind}/{ruleId}`
//!
//! <https://spec.matrix.org/v1.19/client-server-api/#put_matrixclientv3pushrulesglobalkindruleid>

use ruma::{
    api::client::push::set_pushrule::v3::{Request, Response},
    push::Ruleset,
};

use crate::{
    account::{Caller, check_push_rule},
    http::{App, Failure},
};

pub(super) async fn handle(app: App, caller: Caller, request: Request) -> Result<Response, Failure> {
    app.accounts.change_push_rules(&caller.user_id, |rules| place(rules, &request)).await?;
    Ok(Response::new())
}

/// Makes or replaces a rule. One that is there and is to have another place is taken out first, since ruma counts it
/// where it was, and looks beyond the end for what comes after the last one.
fn place(rules: &mut Ruleset, request: &Request) -> Result<(), Failure> {
    let (rule, after, before) = (&request.rule, request.after.as_deref(), request.before.as_deref());
    let (kind, id) = (rule.kind(), rule.rule_id());
    if after == Some(id) || before == Some(id) {
        return Err(super::no_rule());
    }
    check_push_rule(rules, rule)?;
    let known = rules.get(kind.clone(), id).map(|known| known.enabled());
    let is_moved = known.is_some() && (after.is_some() || before.is_some());
    // The server's own cannot be taken out; that they have their place is told below.
    let is_out = is_moved && rules.remove(kind.clone(), id).is_ok();
    rules.insert(rule.clone(), after, before).map_err(|error| super::refused(&error))?;
    match known.filter(|_| is_out) {
        Some(enabled) => rules.set_enabled(kind, id, enabled).map_err(|_| super::no_rule()),
        None => Ok(()),
    }
}
