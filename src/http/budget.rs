//! How much the server works on at the same time, and how much of that for one user.
//!
//! Some requests wait, for news, for a file, for another server. Whoever has many of them wait keeps nobody else from
//! being served: what is made to wait has a budget of its own, and of each budget nobody holds more than a part.

use std::collections::HashMap;

use http::Method;
use parking_lot::Mutex;
use tokio::sync::{Semaphore, SemaphorePermit};

use super::{Access, Class, Failure, bodies::Sender};
use crate::{
    config::Config,
    limits::{
        BRIDGE_SHARES_FACTOR, BUSY_RETRY_AFTER, MEDIA_UPLOADS_MAX, POLLS_EACH_MAX, REQUESTS_EACH_MAX,
        STRANGERS_EACH_MAX, STRANGERS_MAX,
    },
};

/// How much is worked on at the same time.
pub struct Budget {
    requests: Pool,
    polls: Pool,
    strangers: Pool,
    vouches: Pool,
    peers: Pool,
    uploads: Pool,
}

/// Out of which part of the budget the requests of an endpoint are served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Load {
    /// The server works on them.
    Work,
    /// They wait, for news or for a file.
    Wait,
    /// They have other servers or bridges asked, and need no token. Of whoever has one they are work like other requests.
    Ask,
    /// They have another server asked whom somebody vouches for who wants to speak in a call: no token is needed, and yet it is
    /// users who ask.
    Vouch,
    /// A file comes in.
    Upload,
    /// Another server asks.
    Server,
}

struct Pool {
    size: usize,
    free: Semaphore,
    /// How much of it one may hold.
    each: usize,
    held: Mutex<HashMap<Sender, usize>>,
}

/// Taken out of the budget until dropped.
pub struct Share<'a> {
    _permit: SemaphorePermit<'a>,
    pool: &'a Pool,
    holder: Option<Sender>,
}

impl Load {
    /// Of an endpoint by its path template.
    pub(super) fn of(method: &Method, path: &str, (access, class): (Access, Class)) -> Self {
        let segments: Vec<&str> = path.split('/').filter(|segment| !segment.starts_with('{')).collect();
        let last = segments.last().copied().unwrap_or_default();
        let has = |name: &str| segments.contains(&name);
        if access == Access::Signed {
            return Self::Server;
        }
        if class == Class::Poll {
            return Self::Wait;
        }
        let (is_get, is_post) = (*method == Method::GET, *method == Method::POST);
        // A file may not be uploaded yet, or have to come from another server.
        if is_get && has("media") && ["download", "thumbnail", "preview_url"].into_iter().any(has) {
            return Self::Wait;
        }
        let is_open = matches!(access, Access::Open | Access::Optional);
        let is_alias = has("directory") && last == "room" && !has("list");
        let is_about_others =
            is_alias || last == "publicRooms" || ["profile", "room_summary", "summary"].into_iter().any(has);
        let is_look_up = is_get && path.starts_with("/_matrix/client/") && is_about_others;
        // Keys of other servers.
        let is_check = has("key") && has("query");
        match is_open {
            true if is_look_up || is_check => Self::Ask,
            true if is_post && has("livekit") && has("jwt") => Self::Vouch,
            _ => Self::Work,
        }
    }
}

impl Budget {
    /// For so many requests and so many long polls.
    #[must_use]
    pub fn new(requests: usize, polls: usize) -> Self {
        Self {
            requests: Pool::new(requests, REQUESTS_EACH_MAX),
            polls: Pool::new(polls, POLLS_EACH_MAX),
            strangers: Pool::new(STRANGERS_MAX.min(requests), STRANGERS_EACH_MAX),
            vouches: Pool::new(STRANGERS_MAX.min(requests), STRANGERS_EACH_MAX),
            // Of these two it is counted elsewhere what one server or user holds.
            peers: Pool::new(requests, usize::MAX),
            uploads: Pool::new(MEDIA_UPLOADS_MAX, usize::MAX),
        }
    }

    /// As the configuration says.
    #[must_use]
    pub fn of(config: &Config) -> Self {
        let limits = &config.limits;
        let peers = Self::new(config.federation.concurrent_requests, 0).requests;
        Self { peers, ..Self::new(limits.concurrent_requests, limits.long_polls) }
    }

    /// A share for one request, by whomever. What others are asked for it is at first a request like others: who it is for
    /// is not known yet.
    ///
    /// # Errors
    /// 503 with `Retry-After` when there is none.
    pub(super) fn take(&self, load: Load) -> Result<Share<'_>, Failure> {
        match load {
            Load::Work | Load::Ask => self.requests.take(),
            Load::Wait => self.polls.take(),
            Load::Vouch => self.vouches.take(),
            Load::Upload => self.uploads.take(),
            Load::Server => self.peers.take(),
        }
    }

    /// A share for a request by whoever has not said who they are that has other servers or bridges asked.
    ///
    /// # Errors
    /// 503 with `Retry-After` when there is none.
    pub(super) fn stranger(&self) -> Result<Share<'_>, Failure> {
        self.strangers.take()
    }

    /// How many requests and how many long polls are under way.
    #[must_use]
    pub fn used(&self) -> (usize, usize) {
        (self.requests.used() + self.strangers.used() + self.vouches.used(), self.polls.used())
    }
}

impl Pool {
    fn new(size: usize, each: usize) -> Self {
        let size = size.min(Semaphore::MAX_PERMITS);
        Self { size, free: Semaphore::new(size), each, held: Mutex::default() }
    }

    fn take(&self) -> Result<Share<'_>, Failure> {
        let permit = self.free.try_acquire().map_err(|_| Failure::busy(BUSY_RETRY_AFTER))?;
        Ok(Share { _permit: permit, pool: self, holder: None })
    }

    fn used(&self) -> usize {
        self.size.saturating_sub(self.free.available_permits())
    }
}

impl Share<'_> {
    /// Counts it among those that `holder` has. An application service speaks for many, and has more.
    ///
    /// # Errors
    /// 429 with `Retry-After` when they have as many as one may have.
    pub(super) fn held_by(mut self, holder: Option<Sender>, is_bridge: bool) -> Result<Self, Failure> {
        let Some(holder) = holder else { return Ok(self) };
        let most = self.pool.each.saturating_mul(if is_bridge { BRIDGE_SHARES_FACTOR } else { 1 });
        let mut held = self.pool.held.lock();
        let count = held.get(&holder).copied().unwrap_or_default();
        if count >= most {
            return Err(Failure::limit_exceeded(BUSY_RETRY_AFTER));
        }
        held.insert(holder.clone(), count + 1);
        drop(held);
        self.holder = Some(holder);
        Ok(self)
    }
}

impl Drop for Share<'_> {
    fn drop(&mut self) {
        let Some(holder) = self.holder.take() else { return };
        let mut held = self.pool.held.lock();
        match held.get_mut(&holder) {
            Some(count) if *count > 1 => *count -= 1,
            _ => drop(held.remove(&holder)),
        }
    }
}

#[cfg(test)]
mod tests {
    use http::Method;

    use super::{Access, Budget, Class, Load, Sender};
    use crate::limits::{BRIDGE_SHARES_FACTOR, POLLS_EACH_MAX, REQUESTS_EACH_MAX};

    fn at(ip: &str) -> Option<Sender> {
        Sender::at(Some(ip.parse().unwrap()))
    }

    #[test]
    fn nobody_holds_more_than_a_part() {
        let budget = Budget::new(2_048, 2_048);
        for (load, is_bridge, most) in [
            (Load::Work, false, REQUESTS_EACH_MAX),
            (Load::Wait, false, POLLS_EACH_MAX),
            (Load::Work, true, REQUESTS_EACH_MAX * BRIDGE_SHARES_FACTOR),
        ] {
            let hold = |ip: &str| {
                let share = budget.take(load).unwrap();
                share.held_by(at(ip), is_bridge).map_err(|failure| failure.status().as_u16())
            };
            let mut held: Vec<_> = (0..most).map(|_| hold("1.1.1.1").unwrap()).collect();
            assert_eq!(hold("1.1.1.1").err(), Some(429), "{load:?}");
            assert!(hold("2.2.2.2").is_ok(), "{load:?}: somebody else");
            held.pop();
            assert!(hold("1.1.1.1").is_ok(), "{load:?}: what is over does not count");
        }
        assert_eq!(budget.used(), (0, 0));
        assert!(budget.requests.held.lock().is_empty(), "who asks nothing is forgotten");
        let nameless = || budget.take(Load::Work).unwrap().held_by(None, false);
        let many: Vec<_> = (0..2_048).map(|_| nameless().ok().unwrap()).collect();
        assert_eq!(budget.take(Load::Work).err().map(|failure| failure.status().as_u16()), Some(503));
        assert!(budget.take(Load::Wait).is_ok(), "what waits has a budget of its own");
        drop(many);
    }

    #[test]
    fn what_waits_and_what_asks() {
        for (method, path, access, expected) in [
            (
                "GET",
                "/_matrix/client/v1/media/download/{server_name}/{media_id}",
                Access::Required,
                Load::Wait,
            ),
            ("GET", "/_matrix/media/v3/thumbnail/{server_name}/{media_id}", Access::Open, Load::Wait),
            ("GET", "/_matrix/client/v1/media/preview_url", Access::Required, Load::Wait),
            ("POST", "/_matrix/media/v1/create", Access::Required, Load::Work),
            ("GET", "/_matrix/client/v1/media/config", Access::Required, Load::Work),
            ("GET", "/_matrix/federation/v1/media/download/{media_id}", Access::Signed, Load::Server),
            ("GET", "/_matrix/client/v3/sync", Access::Required, Load::Wait),
            ("GET", "/_matrix/client/v3/rooms/{room_id}/messages", Access::Required, Load::Work),
            ("GET", "/_matrix/client/v3/publicRooms", Access::Open, Load::Ask),
            ("POST", "/_matrix/client/v3/publicRooms", Access::Required, Load::Work),
            ("GET", "/_matrix/client/v3/directory/room/{room_alias}", Access::Open, Load::Ask),
            ("PUT", "/_matrix/client/v3/directory/room/{room_alias}", Access::Required, Load::Work),
            ("GET", "/_matrix/client/v3/directory/list/room/{room_id}", Access::Open, Load::Work),
            ("POST", "/_matrix/key/v2/query", Access::Open, Load::Ask),
            ("POST", "/_matrix/livekit/jwt/get_token", Access::Open, Load::Vouch),
            ("GET", "/_matrix/livekit/jwt/healthz", Access::Open, Load::Work),
        ] {
            let method: Method = method.parse().unwrap();
            let class = Class::of(&method, path, true);
            assert_eq!(Load::of(&method, path, (access, class)), expected, "{method} {path}");
        }
    }
}
