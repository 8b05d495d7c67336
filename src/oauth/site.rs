//! Where the server's pages are.

use url::{Host, Url};

/// What the paths of the pages and of the OAuth 2.0 endpoints begin with. Reverse proxies pass on `/_matrix`
/// already, so nobody has to configure anything for them.
pub const PAGES: &str = "/_matrix/oauth2";

/// The address under which the server's pages are reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Site {
    base: String,
    loopback: bool,
    https: bool,
}

impl Site {
    /// The site at this base URL; nothing when tokens would travel in the clear, over `http` to another machine.
    #[must_use]
    pub fn new(base_url: &str) -> Option<Self> {
        let url = Url::parse(base_url).ok()?;
        let loopback = is_loopback(&url);
        let https = url.scheme() == "https";
        let safe = https || (url.scheme() == "http" && loopback);
        let plain = url.query().is_none() && url.fragment().is_none();
        let base = base_url.trim_end_matches('/').to_owned();
        (safe && plain).then_some(Self { base, loopback, https })
    }

    /// The URL of a page or endpoint.
    #[must_use]
    pub fn url(&self, page: &str) -> String {
        format!("{}{PAGES}/{page}", self.base)
    }

    /// The URL of a path of this server.
    #[must_use]
    pub fn at(&self, path: &str) -> String {
        format!("{}{path}", self.base)
    }

    /// The issuer identifier (RFC 8414, 2).
    #[must_use]
    pub fn issuer(&self) -> String {
        format!("{}/", self.base)
    }

    /// Whether browsers come over TLS.
    #[must_use]
    pub fn is_https(&self) -> bool {
        self.https
    }

    /// Whether only programs on the same machine come: a server on which somebody develops a client.
    #[must_use]
    pub fn is_loopback(&self) -> bool {
        self.loopback
    }
}

/// Whether `url` leads to the machine that opens it.
pub(super) fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Domain(name)) => name == "localhost",
        Some(Host::Ipv4(ip)) => ip.is_loopback(),
        Some(Host::Ipv6(ip)) => ip.is_loopback(),
        None => false,
    }
}
