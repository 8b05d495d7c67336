//! How often one client may ask for the same kind of thing.
//!
//! <https://spec.matrix.org/v1.19/client-server-api/#rate-limiting>

use std::{
    net::{IpAddr, Ipv6Addr},
    num::NonZeroU32,
    sync::Arc,
    time::Duration,
};

use governor::{
    Quota, RateLimiter, clock::Clock as GovernorClock, middleware::NoOpMiddleware,
    state::keyed::DefaultKeyedStateStore,
};
use http::Method;
use ruma::{OwnedServerName, OwnedUserId, ServerName, UserId};

use super::{Failure, Peer};
use crate::{
    account::{Caller, token_hash},
    config::{Rate, RateLimits},
    limits::{LETTERS_TO_ONE_BURST, LETTERS_TO_ONE_SECONDS, LOGIN_SITE_FACTOR},
    types::Clock,
};

/// What kind of request it is, as far as limits go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// `POST /login`, and whatever else a password can be guessed by.
    Login,
    /// `POST /register`.
    Registration,
    /// Sends an event.
    Message,
    /// Joins or knocks.
    Join,
    /// Invites.
    Invite,
    /// Reports an event, a room or a user.
    Report,
    /// Begins to sign a device in by QR code.
    Rendezvous,
    /// Registers a client for the OAuth 2.0 API.
    Client,
    /// Waits for news.
    Poll,
    /// Whatever else the specification wants limited.
    General,
    /// Not limited.
    Free,
}

impl Class {
    /// The class of an endpoint by its path template; `limited` is what the specification says of it.
    #[must_use]
    pub fn of(method: &Method, path: &str, limited: bool) -> Self {
        let segments: Vec<&str> = path.split('/').filter(|segment| !segment.starts_with('{')).collect();
        let last = segments.last().copied().unwrap_or_default();
        let has = |name: &str| segments.contains(&name);
        match method.as_str() {
            "POST" if last == "login" => Self::Login,
            // Pages on which a password, a code or a registration token can be guessed.
            "POST" if has("oauth2") && ["link", "password", "reset"].contains(&last) => Self::Login,
            "POST" if has("fallback") => Self::Login,
            "GET" if has("m.login.registration_token") => Self::Login,
            "POST" if last == "register" => Self::Registration,
            // Each has a letter sent to an address that anybody can name.
            "POST" if last == "requestToken" => Self::Registration,
            "POST" if has("oauth2") && ["address", "forgot", "letter"].contains(&last) => Self::Registration,
            // Sliding sync waits too.
            "GET" | "POST" if last == "sync" => Self::Poll,
            "GET" if path.ends_with("v3/events") || path.ends_with("r0/events") => Self::Poll,
            "PUT" if has("rooms") && ["delayed_event", "redact", "send", "state"].into_iter().any(has) => {
                Self::Message
            }
            "POST" if has("join") || has("knock") => Self::Join,
            "POST" if last == "invite" => Self::Invite,
            "POST" if last == "report" => Self::Report,
            "POST" if last == "rendezvous" => Self::Rendezvous,
            "POST" if has("oauth2") && last == "clients" => Self::Client,
            // Whoever knows its address may write to it, and that is all they have to know.
            "PUT" | "DELETE" if has("rendezvous") => Self::General,
            // Written by hand here, and not limited by the specification: people scroll fast.
            "GET" if has("rooms") && (last == "messages" || last == "context") => Self::Free,
            // Anybody may have this server ask others for keys, or hand out invites.
            "GET" | "POST" if has("key") && has("query") => Self::General,
            "PUT" | "POST" if last == "onbind" => Self::General,
            // Anybody may have this server ask others who a token stands for.
            "POST" if has("livekit") && has("jwt") => Self::General,
            // Each may have an identity server asked.
            "POST" if has("3pid") => Self::General,
            _ if limited || has("oauth2") => Self::General,
            _ => Self::Free,
        }
    }
}

/// Whose requests are counted together.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Who {
    User(OwnedUserId),
    Address(IpAddr),
    Server(OwnedServerName),
    /// The hash of a mail address.
    Mailbox(String),
}

/// The server's clock, for governor.
#[derive(Clone)]
struct Now(Arc<dyn Clock>);

impl GovernorClock for Now {
    type Instant = Duration;

    fn now(&self) -> Duration {
        self.0.monotonic()
    }
}

type Bucket = RateLimiter<Who, DefaultKeyedStateStore<Who>, Now, NoOpMiddleware<Duration>>;

/// Every bucket of the server.
pub struct Throttle(Option<Buckets>);

struct Buckets {
    clock: Arc<dyn Clock>,
    login: Bucket,
    login_sites: Bucket,
    registration: Bucket,
    messages: Bucket,
    joins: Bucket,
    invites: Bucket,
    invites_by_server: Bucket,
    invites_received: Bucket,
    reports: Bucket,
    rendezvous: Bucket,
    clients: Bucket,
    general: Bucket,
    letters: Bucket,
}

impl Throttle {
    /// Full buckets of the sizes in `limits`.
    #[must_use]
    pub fn new(limits: &RateLimits, clock: &Arc<dyn Clock>) -> Self {
        let bucket = |rate| bucket(rate, clock);
        Self(limits.enabled.then(|| Buckets {
            clock: clock.clone(),
            login: bucket(limits.login),
            login_sites: bucket(Rate {
                per_second: limits.login.per_second * f64::from(LOGIN_SITE_FACTOR),
                burst: limits.login.burst.saturating_mul(LOGIN_SITE_FACTOR),
            }),
            registration: bucket(limits.registration),
            messages: bucket(limits.messages),
            joins: bucket(limits.joins),
            invites: bucket(limits.invites),
            invites_by_server: bucket(limits.invites_by_server),
            invites_received: bucket(limits.invites_received),
            reports: bucket(limits.reports),
            rendezvous: bucket(limits.rendezvous),
            clients: bucket(limits.clients),
            general: bucket(limits.general),
            letters: bucket(Rate { per_second: 1.0 / LETTERS_TO_ONE_SECONDS, burst: LETTERS_TO_ONE_BURST }),
        }))
    }

    /// Counts one request.
    ///
    /// # Errors
    /// 429 with the time to wait, when there were too many.
    pub fn admit(&self, class: Class, caller: Option<&Caller>, peer: &Peer) -> Result<(), Failure> {
        self.admit_many(class, caller, peer, 1)
    }

    /// Counts a request that is worth `count` of them.
    ///
    /// # Errors
    /// 429 with the time to wait, when there were too many; 400 when it is more than are ever let through at once.
    pub fn admit_many(
        &self,
        class: Class,
        caller: Option<&Caller>,
        peer: &Peer,
        count: usize,
    ) -> Result<(), Failure> {
        let Some(count) = NonZeroU32::new(u32::try_from(count).unwrap_or(u32::MAX)) else { return Ok(()) };
        let Some(buckets) = &self.0 else { return Ok(()) };
        // <https://spec.matrix.org/v1.19/application-service-api/#registration>
        if let Some(appservice) = &peer.appservice {
            let is_sender = caller.is_some_and(|caller| caller.user_id == appservice.sender);
            if is_sender || !appservice.registration.is_limited() {
                return Ok(());
            }
        }
        let address = || peer.ip.map(network).map(Who::Address);
        let user = || caller.map(|caller| Who::User(caller.user_id.clone()));
        let (bucket, who) = match class {
            // Somebody who is logged in may prove who they are from anywhere.
            Class::Login => (&buckets.login, user().or_else(address)),
            Class::Registration => (&buckets.registration, address()),
            Class::Message => (&buckets.messages, user()),
            Class::Join => (&buckets.joins, user()),
            Class::Invite => (&buckets.invites, user()),
            Class::Report => (&buckets.reports, user()),
            Class::Rendezvous => (&buckets.rendezvous, address()),
            Class::Client => (&buckets.clients, address()),
            Class::General | Class::Poll => (&buckets.general, user().or_else(address)),
            Class::Free => return Ok(()),
        };
        // Nobody can be told from anybody else behind a Unix socket whose proxy names no client.
        let Some(who) = who else { return Ok(()) };
        buckets.check_many(bucket, &who, count)?;
        match (class, &who, peer.ip) {
            (Class::Login, Who::Address(_), Some(IpAddr::V6(ip))) => {
                buckets.check(&buckets.login_sites, &Who::Address(site(ip)))
            }
            _ => Ok(()),
        }
    }

    /// Counts an invite of one of our users that another server brings.
    ///
    /// # Errors
    /// 429 with the time to wait, when there were too many, by the server or of the user.
    pub fn admit_invite(&self, origin: &ServerName, invited: &UserId) -> Result<(), Failure> {
        let Some(buckets) = &self.0 else { return Ok(()) };
        buckets.check(&buckets.invites_by_server, &Who::Server(origin.to_owned()))?;
        buckets.check(&buckets.invites_received, &Who::User(invited.to_owned()))
    }

    /// Counts a letter to an address, as it is kept.
    ///
    /// # Errors
    /// 429 with the time to wait, when there were too many, whoever has asked for them.
    pub fn admit_letter(&self, address: &str) -> Result<(), Failure> {
        let Some(buckets) = &self.0 else { return Ok(()) };
        buckets.check(&buckets.letters, &Who::Mailbox(token_hash(address)))
    }

    /// Forgets whose buckets are full again; to be called now and then.
    pub fn forget(&self) {
        let Some(buckets) = &self.0 else { return };
        let Buckets { clock: _, login, registration, messages, joins, invites, reports, general, .. } =
            buckets;
        let Buckets {
            invites_by_server, invites_received, rendezvous, clients, login_sites, letters, ..
        } = buckets;
        let others =
            [invites, invites_by_server, invites_received, rendezvous, clients, login_sites, letters];
        for bucket in others.into_iter().chain([login, registration, messages, joins, reports, general]) {
            bucket.retain_recent();
            bucket.shrink_to_fit();
        }
    }
}

impl Buckets {
    fn check(&self, bucket: &Bucket, who: &Who) -> Result<(), Failure> {
        self.check_many(bucket, who, NonZeroU32::MIN)
    }

    fn check_many(&self, bucket: &Bucket, who: &Who, count: NonZeroU32) -> Result<(), Failure> {
        let too_many = |_| Failure::invalid_param("That is too many at once");
        bucket.check_key_n(who, count).map_err(too_many)?.map_err(|early| {
            let now = self.clock.monotonic();
            Failure::limit_exceeded(early.wait_time_from(now).max(Duration::from_millis(1)))
        })
    }
}

fn bucket(rate: Rate, clock: &Arc<dyn Clock>) -> Bucket {
    // The configuration has been checked: both numbers are above 0.
    let period = Duration::try_from_secs_f64(1.0 / rate.per_second).unwrap_or(Duration::MAX);
    let period = period.clamp(Duration::from_nanos(1), Duration::from_secs(86_400));
    let burst = NonZeroU32::new(rate.burst).unwrap_or(NonZeroU32::MIN);
    let quota = Quota::with_period(period).map(|quota| quota.allow_burst(burst));
    let quota = quota.unwrap_or(Quota::per_second(burst));
    RateLimiter::new(quota, DefaultKeyedStateStore::default(), Now(clock.clone()))
}

/// One customer has a whole /64 of IPv6 addresses.
pub(in crate::http) fn network(ip: IpAddr) -> IpAddr {
    match ip {
        IpAddr::V4(_) => ip,
        IpAddr::V6(ip) => {
            let [a, b, c, d, ..] = ip.segments();
            Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0).into()
        }
    }
}

/// What lies next to each other often belongs to one customer: a /56, or the /48 of a site.
fn site(ip: Ipv6Addr) -> IpAddr {
    let [a, b, c, ..] = ip.segments();
    Ipv6Addr::new(a, b, c, 0, 0, 0, 0, 0).into()
}

#[cfg(test)]
mod tests {
    use std::{sync::Arc, time::Duration};

    use http::Method;
    use ruma::{OwnedServerName, OwnedUserId, device_id, server_name, user_id};

    use super::{Class, Throttle};
    use crate::{
        account::Caller,
        appservice::Registration,
        config::{Rate, RateLimits},
        http::Peer,
        types::{Clock, ManualClock},
    };

    #[test]
    fn classes_by_path() {
        let cases = [
            ("POST", "/_matrix/client/v3/login", Class::Login),
            ("GET", "/_matrix/client/v3/login", Class::General),
            ("POST", "/_matrix/client/r0/register", Class::Registration),
            ("POST", "/_matrix/oauth2/login", Class::Login),
            ("POST", "/_matrix/oauth2/account/password", Class::Login),
            ("POST", "/_matrix/oauth2/account/address", Class::Registration),
            ("POST", "/_matrix/oauth2/link", Class::Login),
            ("POST", "/_matrix/oauth2/welcome/login", Class::Login),
            ("POST", "/_matrix/client/v3/auth/{auth_type}/fallback/web", Class::Login),
            ("GET", "/_matrix/client/v3/auth/{auth_type}/fallback/web", Class::General),
            ("GET", "/_matrix/client/v1/register/m.login.registration_token/validity", Class::Login),
            ("POST", "/_matrix/oauth2/register", Class::Registration),
            ("POST", "/_matrix/oauth2/clients", Class::Client),
            ("GET", "/_matrix/client/v3/sync", Class::Poll),
            ("POST", "/_matrix/client/unstable/org.matrix.simplified_msc3575/sync", Class::Poll),
            ("POST", "/_matrix/client/v4/sync", Class::Poll),
            ("GET", "/_matrix/client/v3/events", Class::Poll),
            ("GET", "/_matrix/client/v3/events/{event_id}", Class::General),
            ("PUT", "/_matrix/client/v3/rooms/{room_id}/send/{event_type}/{txn_id}", Class::Message),
            ("PUT", "/_matrix/client/v3/rooms/{room_id}/state/{event_type}/{state_key}", Class::Message),
            ("GET", "/_matrix/client/v3/rooms/{room_id}/state", Class::General),
            ("PUT", "/_matrix/client/v3/sendToDevice/{event_type}/{txn_id}", Class::General),
            ("POST", "/_matrix/client/v3/join/{room_id_or_alias}", Class::Join),
            ("POST", "/_matrix/client/v3/rooms/{room_id}/join", Class::Join),
            ("POST", "/_matrix/client/v3/rooms/{room_id}/invite", Class::Invite),
            ("POST", "/_matrix/client/v3/rooms/{room_id}/report/{event_id}", Class::Report),
        ];
        for (method, path, expected) in cases {
            let method: Method = method.parse().unwrap();
            assert_eq!(Class::of(&method, path, true), expected, "{method} {path}");
        }
        assert_eq!(Class::of(&Method::GET, "/_matrix/client/versions", false), Class::Free);
        let open = [
            ("POST", "/_matrix/key/v2/query", Class::General),
            ("GET", "/_matrix/key/v2/query/{server_name}", Class::General),
            ("GET", "/_matrix/key/v2/server", Class::Free),
            ("PUT", "/_matrix/federation/v1/3pid/onbind", Class::General),
            ("POST", "/_matrix/client/v3/account/3pid/unbind", Class::General),
            ("POST", "/_matrix/client/unstable/io.element.msc4388/rendezvous", Class::Rendezvous),
            ("POST", "/_matrix/client/unstable/org.matrix.msc4108/rendezvous", Class::Rendezvous),
            ("PUT", "/_matrix/client/unstable/org.matrix.msc4108/rendezvous/{id}", Class::General),
            ("GET", "/_matrix/client/unstable/org.matrix.msc4108/rendezvous/{id}", Class::Free),
        ];
        for (method, path, expected) in open {
            let method: Method = method.parse().unwrap();
            assert_eq!(Class::of(&method, path, false), expected, "{method} {path}");
        }
    }

    fn alice() -> Caller {
        Caller { user_id: user_id!("@alice:a").to_owned(), device_id: device_id!("A").to_owned() }
    }

    fn peer(ip: &str) -> Peer {
        Peer { ip: Some(ip.parse().unwrap()), ..Peer::default() }
    }

    #[test]
    fn buckets_empty_and_fill_again() {
        let manual = Arc::new(ManualClock::at(5_000));
        let clock: Arc<dyn Clock> = manual.clone();
        let limits = RateLimits { login: Rate { per_second: 0.5, burst: 2 }, ..RateLimits::default() };
        let throttle = Throttle::new(&limits, &clock);
        let login = |ip: &str| throttle.admit(Class::Login, None, &peer(ip)).map_err(|f| f.status().as_u16());

        assert_eq!([login("1.1.1.1"), login("1.1.1.1"), login("1.1.1.1")], [Ok(()), Ok(()), Err(429)]);
        assert_eq!(login("2.2.2.2"), Ok(()), "another address has its own bucket");
        manual.advance(Duration::from_millis(1_999));
        assert_eq!(login("1.1.1.1"), Err(429));
        manual.advance(Duration::from_millis(1));
        assert_eq!([login("1.1.1.1"), login("1.1.1.1")], [Ok(()), Err(429)]);
        throttle.forget();
        assert_eq!(login("1.1.1.1"), Err(429), "what is not full is not forgotten");
        assert_eq!([login("fe80::1"), login("fe80::2"), login("fe80::3")], [Ok(()), Ok(()), Err(429)]);
        assert!(throttle.admit(Class::Login, None, &Peer::default()).is_ok());
        let proves = || throttle.admit(Class::Login, Some(&alice()), &peer("1.1.1.1")).is_ok();
        assert_eq!([proves(), proves(), proves()], [true, true, false], "whoever is logged in has their own");
    }

    /// Whoever has many networks has not as many tries.
    #[test]
    fn networks_of_one_site_are_counted_together_for_logins() {
        let clock: Arc<dyn Clock> = Arc::new(ManualClock::at(0));
        let limits = RateLimits { login: Rate { per_second: 1.0, burst: 2 }, ..RateLimits::default() };
        let throttle = Throttle::new(&limits, &clock);
        let login = |ip: &str| throttle.admit(Class::Login, None, &peer(ip)).is_ok();
        let of_site = (0..200).filter(|network| login(&format!("2001:db8:1:{network:x}::1"))).count();
        assert_eq!(of_site, 2 * usize::try_from(crate::limits::LOGIN_SITE_FACTOR).unwrap());
        assert!(login("2001:db8:2::1"), "another site");
        let of_v4 = (0..200).filter(|host| login(&format!("10.0.0.{host}"))).count();
        assert_eq!(of_v4, 200, "each is somebody");
    }

    #[test]
    fn users_are_counted_wherever_they_come_from_and_limits_can_be_off() {
        let clock: Arc<dyn Clock> = Arc::new(ManualClock::at(0));
        let mut limits = RateLimits { messages: Rate { per_second: 1.0, burst: 1 }, ..RateLimits::default() };
        let say =
            |throttle: &Throttle, ip: &str| throttle.admit(Class::Message, Some(&alice()), &peer(ip)).is_ok();
        let throttle = Throttle::new(&limits, &clock);
        assert_eq!([say(&throttle, "1.1.1.1"), say(&throttle, "2.2.2.2")], [true, false]);
        limits.enabled = false;
        let throttle = Throttle::new(&limits, &clock);
        assert_eq!([say(&throttle, "1.1.1.1"), say(&throttle, "1.1.1.1")], [true, true]);
    }

    /// Row 7.9 of the list of known vulnerabilities: the limits hold for the users of an application service, unless the
    /// operator says otherwise; never for the one that stands for it.
    #[test]
    fn row_7_9_users_of_application_services_are_counted() {
        let clock: Arc<dyn Clock> = Arc::new(ManualClock::at(0));
        let limits = RateLimits { messages: Rate { per_second: 1.0, burst: 1 }, ..RateLimits::default() };
        for (setting, limited) in [("", true), ("rate_limited: true", true), ("rate_limited: false", false)] {
            let text = format!(
                "{{id: x, as_token: a, hs_token: b, sender_localpart: bot, {setting}, namespaces: {{}}}}"
            );
            let registration = Registration::parse(&text.replace(", ,", ",")).unwrap();
            let appservice = Some(Arc::new(registration.open(server_name!("a")).unwrap()));
            let throttle = Throttle::new(&limits, &clock);
            let peer = Peer { appservice, ..peer("1.1.1.1") };
            let bot = Caller { user_id: user_id!("@bot:a").to_owned(), ..alice() };
            let say = |caller: &Caller| throttle.admit(Class::Message, Some(caller), &peer).is_ok();
            assert_eq!([say(&alice()), say(&alice())], [true, !limited], "{setting}");
            assert_eq!([say(&bot), say(&bot), say(&bot)], [true; 3], "{setting}");
        }
    }

    #[test]
    fn what_is_worth_many_counts_as_many() {
        let clock: Arc<dyn Clock> = Arc::new(ManualClock::at(0));
        let limits = RateLimits { invites: Rate { per_second: 1.0, burst: 5 }, ..RateLimits::default() };
        let throttle = Throttle::new(&limits, &clock);
        let invite = |count: usize| {
            let admitted = throttle.admit_many(Class::Invite, Some(&alice()), &peer("1.1.1.1"), count);
            admitted.map_err(|failure| failure.status().as_u16())
        };
        assert_eq!([invite(0), invite(6), invite(3), invite(3)], [Ok(()), Err(400), Ok(()), Err(429)]);
        assert_eq!([invite(2), invite(1)], [Ok(()), Err(429)]);
    }

    #[test]
    fn invites_of_others_are_counted_by_server_and_by_user() {
        let clock: Arc<dyn Clock> = Arc::new(ManualClock::at(0));
        let limits = RateLimits {
            invites_by_server: Rate { per_second: 1.0, burst: 3 },
            invites_received: Rate { per_second: 1.0, burst: 2 },
            ..RateLimits::default()
        };
        let throttle = Throttle::new(&limits, &clock);
        let invite = |server: &str, user: &str| {
            let server = OwnedServerName::try_from(server).unwrap();
            let user = OwnedUserId::try_from(user).unwrap();
            throttle.admit_invite(&server, &user).map_err(|failure| failure.status().as_u16())
        };
        assert_eq!([invite("b", "@alice:a"), invite("c", "@alice:a")], [Ok(()), Ok(())]);
        assert_eq!(invite("d", "@alice:a"), Err(429), "whoever sends it");
        assert_eq!([invite("b", "@bob:a"), invite("b", "@carol:a")], [Ok(()), Ok(())]);
        assert_eq!(invite("b", "@dave:a"), Err(429), "whoever is invited");
        assert_eq!(invite("c", "@dave:a"), Ok(()));
    }
}
