//! Who may invite a user.
//!
//! <https://spec.matrix.org/v1.19/client-server-api/#invite-permission>

use ruma::{OwnedUserId, UserId};
use serde::Deserialize;
use serde_json::Value;
use wildmatch::WildMatch;

use super::{AccountError, Accounts};
use crate::limits::INVITE_RULES_MAX;

/// The types of account data that say it: the specification's, what it was called before (MSC4380), and the one
/// with lists of users and servers (MSC4155).
pub const INVITE_PERMISSION: [&str; 3] = [
    "m.invite_permission_config",
    "org.matrix.msc4380.invite_permission_config",
    "org.matrix.msc4155.invite_permission_config",
];

/// The `default_action` by which only those may invite who share a room that is not public (MSC4494).
const DENY_PUBLIC: &str = "uk.timedout.msc4494.deny_public";

/// What becomes of an invite.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The user sees it.
    Allow,
    /// It is refused unless both are in some room that is not public (MSC4494).
    Acquainted,
    /// The user does not see it; who invites is not told.
    Ignore,
    /// It is refused.
    Block,
}

/// What a user says about invites.
#[derive(Clone, Debug, Default)]
pub struct InvitePermission {
    rules: Vec<Rule>,
    /// What becomes of an invite that no rule fits.
    otherwise: Otherwise,
    /// Whose invites are always seen: who tells users what the server has to say.
    announcer: Option<OwnedUserId>,
}

/// The strictest of what the contents say.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
enum Otherwise {
    #[default]
    Allow,
    Acquainted,
    Block,
}

#[derive(Clone, Debug)]
struct Rule {
    verdict: Verdict,
    /// Whether it is about the server of who invites, and not about them.
    of_server: bool,
    pattern: WildMatch,
}

/// Lists that are none, and entries that are no text, say nothing.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Content {
    default_action: Value,
    /// What MSC4380 had before `default_action`.
    block_all: Value,
    /// Whether the lists count (MSC4155); they do if nothing is said.
    enabled: Value,
    allowed_users: Value,
    ignored_users: Value,
    blocked_users: Value,
    allowed_servers: Value,
    ignored_servers: Value,
    blocked_servers: Value,
}

impl Content {
    fn otherwise(&self) -> Otherwise {
        match self.default_action.as_str() {
            _ if self.block_all == true => Otherwise::Block,
            Some("block") => Otherwise::Block,
            Some(DENY_PUBLIC) => Otherwise::Acquainted,
            _ => Otherwise::Allow,
        }
    }
}

impl InvitePermission {
    /// What becomes of an invite by `inviter`: the first rule that fits decides.
    #[must_use]
    pub fn judge(&self, inviter: &UserId) -> Verdict {
        if self.announcer.as_deref() == Some(inviter) {
            return Verdict::Allow;
        }
        let fits = |rule: &&Rule| match rule.of_server {
            true => {
                rule.pattern.matches(inviter.server_name().host())
                    || rule.pattern.matches(inviter.server_name().as_str())
            }
            false => rule.pattern.matches(inviter.as_str()),
        };
        match self.rules.iter().find(fits) {
            Some(rule) => rule.verdict,
            None => match self.otherwise {
                Otherwise::Allow => Verdict::Allow,
                Otherwise::Acquainted => Verdict::Acquainted,
                Otherwise::Block => Verdict::Block,
            },
        }
    }

    /// Whether an invite by `inviter` that is here already is kept from the user's sight.
    #[must_use]
    pub fn hides(&self, inviter: &UserId) -> bool {
        matches!(self.judge(inviter), Verdict::Ignore | Verdict::Block)
    }

    fn read(&mut self, content: Content) {
        self.otherwise = self.otherwise.max(content.otherwise());
        if content.enabled == false {
            return;
        }
        let lists = [
            (Verdict::Allow, false, content.allowed_users),
            (Verdict::Ignore, false, content.ignored_users),
            (Verdict::Block, false, content.blocked_users),
            (Verdict::Allow, true, content.allowed_servers),
            (Verdict::Ignore, true, content.ignored_servers),
            (Verdict::Block, true, content.blocked_servers),
        ];
        for (verdict, of_server, list) in lists {
            let patterns = list.as_array().into_iter().flatten().filter_map(Value::as_str);
            let room = INVITE_RULES_MAX.saturating_sub(self.rules.len());
            let rules = patterns.map(|text| Rule { verdict, of_server, pattern: WildMatch::new(text) });
            self.rules.extend(rules.take(room));
        }
    }
}

impl Accounts {
    /// What `user`, a local one, says about invites.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn invite_permission(&self, user: &UserId) -> Result<InvitePermission, AccountError> {
        let wanted: Vec<_> = INVITE_PERMISSION.iter().map(|kind| (None, (*kind).to_owned())).collect();
        let announcer = self.settings.announcer.clone();
        let mut permission = InvitePermission { announcer, ..InvitePermission::default() };
        for content in self.data_of(user, &wanted).await?.into_iter().flatten() {
            permission.read(serde_json::from_str(content.get()).unwrap_or_default());
        }
        Ok(permission)
    }

    /// What becomes of an invite of `user`, a local one, by `inviter`, by the word of the user.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn judge_invite(&self, user: &UserId, inviter: &UserId) -> Result<Verdict, AccountError> {
        match user == inviter {
            true => Ok(Verdict::Allow),
            false => Ok(self.invite_permission(user).await?.judge(inviter)),
        }
    }

    /// Who tells users what the server has to say, and whom nobody can refuse to hear.
    #[must_use]
    pub fn announcer(&self) -> Option<&UserId> {
        self.settings.announcer.as_deref()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::{InvitePermission, Verdict};

    fn judged(contents: &[Value], inviter: &str) -> Verdict {
        let mut permission = InvitePermission::default();
        for content in contents {
            permission.read(serde_json::from_value(content.clone()).unwrap_or_default());
        }
        permission.judge(inviter.try_into().unwrap())
    }

    #[test]
    fn the_first_rule_that_fits_decides() {
        use Verdict::{Acquainted, Allow, Block, Ignore};
        let none = json!({});
        let all = json!({ "default_action": "block" });
        for (content, inviter, expected) in [
            (none.clone(), "@a:b", Allow),
            (all.clone(), "@a:b", Block),
            (json!({ "default_action": "allow" }), "@a:b", Allow),
            (json!({ "default_action": 1, "blocked_users": null, "allowed_users": 3 }), "@a:b", Allow),
            (json!({ "blocked_users": ["@a:b"] }), "@a:b", Block),
            (json!({ "blocked_users": ["@a:b"] }), "@aa:b", Allow),
            (json!({ "blocked_users": ["@a*:b", 7] }), "@aa:b", Block),
            (json!({ "blocked_users": ["@a?:b"] }), "@a:b", Allow),
            (json!({ "ignored_users": ["@a:b"], "blocked_users": ["@a:b"] }), "@a:b", Ignore),
            (json!({ "allowed_users": ["@a:b"], "blocked_servers": ["*"] }), "@a:b", Allow),
            (json!({ "allowed_servers": ["b"], "blocked_users": ["@a:b"] }), "@a:b", Block),
            (json!({ "allowed_servers": ["b"], "blocked_servers": ["*"] }), "@a:b", Allow),
            (json!({ "allowed_servers": ["b"], "blocked_servers": ["*"] }), "@a:c", Block),
            (json!({ "blocked_servers": ["b"] }), "@a:b:8448", Block),
            (json!({ "ignored_servers": ["*.b"] }), "@a:x.b", Ignore),
            (json!({ "default_action": "block", "allowed_users": ["@a:b"] }), "@a:b", Allow),
            (json!({ "block_all": true }), "@a:b", Block),
            (json!({ "block_all": false }), "@a:b", Allow),
            (json!({ "block_all": "true" }), "@a:b", Allow),
            (json!({ "default_action": "uk.timedout.msc4494.deny_public" }), "@a:b", Acquainted),
            (
                json!({ "default_action": "uk.timedout.msc4494.deny_public", "blocked_users": ["@a:b"] }),
                "@a:b",
                Block,
            ),
            (
                json!({ "default_action": "uk.timedout.msc4494.deny_public", "allowed_servers": ["b"] }),
                "@a:b",
                Allow,
            ),
            (json!({ "enabled": false, "blocked_users": ["@a:b"] }), "@a:b", Allow),
            (json!({ "enabled": null, "blocked_users": ["@a:b"] }), "@a:b", Block),
            (json!({ "enabled": true, "blocked_users": ["@a:b"] }), "@a:b", Block),
            // The switch is one of the lists.
            (
                json!({ "enabled": false, "default_action": "block", "allowed_users": ["@a:b"] }),
                "@a:b",
                Block,
            ),
        ] {
            assert_eq!(judged(std::slice::from_ref(&content), inviter), expected, "{content} {inviter}");
        }
        assert_eq!(judged(&[all, json!({ "allowed_servers": ["b"] })], "@a:b"), Allow);
        assert_eq!(judged(&[json!([])], "@a:b"), Allow);
        let acquainted = json!({ "default_action": "uk.timedout.msc4494.deny_public" });
        assert_eq!(judged(&[acquainted, json!({ "block_all": true })], "@a:b"), Block);
    }

    #[test]
    fn there_is_an_end_to_rules() {
        let many: Vec<String> = (0..100_000).map(|number| format!("@{number}:b")).collect();
        assert_eq!(judged(&[json!({ "blocked_users": many })], "@99999:b"), Verdict::Allow);
    }
}
