//! Push rules.

mod delete_rule;
mod get_actions;
mod get_all;
mod get_enabled;
mod get_global;
mod get_rule;
mod set_actions;
mod set_enabled;
mod set_rule;

use ruma::push::{InsertPushRuleError, RuleKind};

use crate::http::{Failure, Routes};

/// Adds the endpoints of this area.
pub(super) fn routes(routes: &mut Routes) {
    routes.feature("org.matrix.msc3930");
    routes.feature("org.matrix.msc4028");
    routes.add(delete_rule::handle);
    routes.add(get_actions::handle);
    routes.add(get_all::handle);
    routes.add(get_enabled::handle);
    routes.add(get_global::handle);
    routes.add(get_rule::handle);
    routes.add(set_actions::handle);
    routes.add(set_enabled::handle);
    routes.add(set_rule::handle);
}

/// The kind that a path names. ruma has the newest one under another name than the proposal.
///
/// <https://github.com/matrix-org/matrix-spec-proposals/pull/4306>
fn kind(named: &RuleKind) -> RuleKind {
    match named.as_str() {
        "postcontent" => RuleKind::PostContent,
        _ => named.clone(),
    }
}

/// There is no such rule.
fn no_rule() -> Failure {
    Failure::not_found("No such push rule")
}

/// Why a rule cannot be set.
fn refused(error: &InsertPushRuleError) -> Failure {
    match error {
        InsertPushRuleError::UnknownRuleId => no_rule(),
        other => Failure::invalid_param(other.to_string()),
    }
}

#[cfg(test)]
mod tests;
