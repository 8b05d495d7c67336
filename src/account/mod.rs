//! Users, passwords, sessions and tokens, UIA, profiles, account data, filters.
