//! How long other servers are waited for, over all of those that are asked for one thing.

use std::time::Duration;

/// How long a server is waited for before the next one is asked as well, where any of several will do (ours; nearly all answer
/// within a second).
pub const HEDGE_AFTER: Duration = Duration::from_secs(5);
/// How long one request of a client waits for other servers in all, however many are asked (ours; most proxies give up after
/// 60 s). What a page or a hierarchy lacks then is left out.
pub const CLIENT_WAIT_MAX: Duration = Duration::from_secs(50);
/// How long a join waits for other servers in all (ours; `SEND_JOIN_MAX`, and a minute for those that do not answer).
pub const JOIN_MAX: Duration = Duration::from_secs(360);
