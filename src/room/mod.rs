//! The verbs: create, say, set state, invite, join, leave, knock, upgrade.
