//! Redirect URIs: which a client may register, and which are the same.
//!
//! <https://spec.matrix.org/v1.19/client-server-api/#redirect-uri-validation>

use url::{Host, Url};

use super::{Site, site::is_loopback};
use crate::limits::OAUTH_URI_BYTES_MAX;

/// A page of a client: `https`, and nobody's password in it. On a loopback site it may be `http` on the same machine,
/// for those who develop clients.
pub(super) fn web_page(text: &str, site: &Site) -> Option<Url> {
    let url = Url::parse(text).ok().filter(|_| text.len() <= OAUTH_URI_BYTES_MAX)?;
    let developed = site.is_loopback() && url.scheme() == "http" && is_loopback(&url);
    let secure = url.scheme() == "https" || developed;
    let anonymous = url.username().is_empty() && url.password().is_none();
    (secure && anonymous && url.host().is_some()).then_some(url)
}

/// Whether `url` lies on the host of `base` or below it.
pub(super) fn has_base(url: &Url, base: &Url) -> bool {
    let (Some(host), Some(base)) = (url.host(), base.host()) else { return false };
    match (&host, &base) {
        (Host::Domain(name), Host::Domain(base)) => {
            name == base || name.strip_suffix(base).is_some_and(|rest| rest.ends_with('.'))
        }
        _ => host == base,
    }
}

/// Whether a client may register `text`.
pub(super) fn may_register(text: &str, is_native: bool, (base, site): (&Url, &Site)) -> bool {
    if text.len() > OAUTH_URI_BYTES_MAX || text.contains('#') {
        return false;
    }
    let Ok(url) = Url::parse(text) else { return false };
    let claimed = web_page(text, site).is_some_and(|url| has_base(&url, base));
    claimed || (is_native && (is_private(text, &url, base) || is_any_port(&url)))
}

/// A scheme that is the host of the client's page backwards, and no host.
fn is_private(text: &str, url: &Url, base: &Url) -> bool {
    let Some(Host::Domain(name)) = base.host() else { return false };
    let reversed = name.split('.').rev().collect::<Vec<_>>().join(".");
    let scheme = url.scheme();
    let own = scheme == reversed || scheme.strip_prefix(&reversed).is_some_and(|rest| rest.starts_with('.'));
    let after = text.split_once(':').map(|(_, after)| after).unwrap_or_default();
    own && reversed.contains('.') && !url.has_authority() && !after.starts_with("//")
}

/// The client's own machine, whose port is chosen anew each time.
fn is_any_port(url: &Url) -> bool {
    let named = match url.host() {
        Some(Host::Domain(name)) => name == "localhost",
        Some(Host::Ipv4(ip)) => ip.octets() == [127, 0, 0, 1],
        Some(Host::Ipv6(ip)) => ip.is_loopback(),
        None => false,
    };
    let anonymous = url.username().is_empty() && url.password().is_none();
    named && url.scheme() == "http" && url.port().is_none() && anonymous
}

/// Whether a request may name `given`, when the client has registered `registered`: the same text, but for the port
/// of the client's own machine.
pub(super) fn is_registered(registered: &str, given: &str) -> bool {
    if registered == given {
        return true;
    }
    let (Ok(known), Ok(mut url)) = (Url::parse(registered), Url::parse(given)) else { return false };
    if !is_any_port(&known) || given.contains('#') || given.len() > OAUTH_URI_BYTES_MAX {
        return false;
    }
    url.set_port(None).is_ok() && url == known
}
