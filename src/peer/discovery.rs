//! From the name of a server to the addresses where it listens.
//!
//! It goes in two steps. [`Discovery::authority`] finds out who stands for a name; that text is the `Host` header, and
//! its host is the name in the certificate. [`Locator::locate`] finds the addresses of an authority, when a
//! connection is made.
//!
//! <https://spec.matrix.org/v1.19/server-server-api/#resolving-server-names>

use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use futures_util::join;
use ruma::{OwnedServerName, ServerName};

use super::{
    NetError,
    dns::{Dns, Service},
    flights::Flights,
    gate::Gate,
    well_known::{Delegation, Web, WellKnown},
};
use crate::{
    limits::{PEER_ADDRESSES_MAX, SRV_RECORDS_MAX},
    types::{Clock, Rng},
};

/// Where servers listen that say nothing else.
const DEFAULT_PORT: u16 = 8448;

/// Finds out who stands for a server.
pub struct Discovery {
    well_known: WellKnown,
}

/// Finds the addresses of who stands for it.
pub struct Locator {
    dns: Arc<dyn Dns>,
    gate: Gate,
    rng: Arc<dyn Rng>,
    flights: Flights<OwnedServerName, Result<Place, NetError>>,
}

/// Where an authority is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// In the order in which they are tried.
    pub addresses: Vec<SocketAddr>,
    /// How it was found, for people.
    pub steps: Vec<String>,
}

impl Discovery {
    /// Asks `web`.
    #[must_use]
    pub fn new(web: Arc<dyn Web>, clock: Arc<dyn Clock>) -> Self {
        Self { well_known: WellKnown::new(web, clock) }
    }

    /// Who stands for `server`, and how that was found out.
    pub async fn authority(&self, server: &ServerName) -> (OwnedServerName, String) {
        if server.is_ip_literal() || server.port().is_some() {
            return (server.to_owned(), String::from("the name itself says where it is"));
        }
        match self.well_known.of(&server.host().to_ascii_lowercase()).await {
            Delegation::To(authority) => {
                let how = format!("its .well-known delegates to {authority}");
                (authority, how)
            }
            Delegation::None(why) | Delegation::Broken(why) => {
                (server.to_owned(), format!("no delegation by .well-known: {why}"))
            }
        }
    }

    /// What is wrong with the delegation of `server`, for its owner.
    pub async fn flaw(&self, server: &ServerName) -> Option<String> {
        if server.is_ip_literal() || server.port().is_some() {
            return None;
        }
        match self.well_known.of(&server.host().to_ascii_lowercase()).await {
            Delegation::Broken(why) => Some(why),
            Delegation::To(_) | Delegation::None(_) => None,
        }
    }
}

impl Locator {
    /// Asks `dns`, and keeps to `gate`.
    #[must_use]
    pub fn new(dns: Arc<dyn Dns>, gate: Gate, rng: Arc<dyn Rng>) -> Self {
        Self { dns, gate, rng, flights: Flights::default() }
    }

    /// The addresses of `authority` that may be connected to.
    ///
    /// # Errors
    /// When there are none.
    pub async fn locate(&self, authority: &ServerName) -> Result<Place, NetError> {
        self.flights.join(&authority.to_owned(), || self.look_up(authority)).await
    }

    /// The addresses of `host` and `port` that may be connected to.
    ///
    /// # Errors
    /// When there are none.
    pub async fn locate_host(&self, host: &str, port: u16) -> Result<Place, NetError> {
        let mut place = Place { addresses: Vec::new(), steps: Vec::new() };
        let found = match literal(host) {
            Some(ip) => vec![ip],
            None => self.resolve(&host.to_ascii_lowercase(), &mut place.steps).await,
        };
        place.addresses = interleave(found).into_iter().map(|ip| SocketAddr::new(ip, port)).collect();
        self.admit(place)
    }

    async fn look_up(&self, authority: &ServerName) -> Result<Place, NetError> {
        let (host, port) = (authority.host(), authority.port());
        if port.is_some() || authority.is_ip_literal() {
            return self.locate_host(host, port.unwrap_or(DEFAULT_PORT)).await;
        }
        let host = host.to_ascii_lowercase();
        let mut place = Place { addresses: Vec::new(), steps: Vec::new() };
        // All at once: a resolver that does not answer one kind of question would use up the time for the others.
        let names = ["_matrix-fed._tcp", "_matrix._tcp"].map(|service| format!("{service}.{host}"));
        let [new, old] = &names;
        let mut steps = Vec::new();
        let (new, old, found) =
            join!(self.dns.services(new), self.dns.services(old), self.resolve(&host, &mut steps));
        for (name, services) in names.into_iter().zip([new, old]) {
            let services = match services {
                Ok(services) => services,
                Err(error) => {
                    // Some resolvers cannot answer this kind of question; that must not cut the server off.
                    place.steps.push(error.to_string());
                    continue;
                }
            };
            if services.is_empty() {
                place.steps.push(format!("{name}: no such record"));
                continue;
            }
            return self.locate_services(&name, services, place).await;
        }
        place.steps.extend(steps);
        place.addresses = interleave(found).into_iter().map(|ip| SocketAddr::new(ip, DEFAULT_PORT)).collect();
        self.admit(place)
    }

    async fn locate_services(
        &self,
        name: &str,
        services: Vec<Service>,
        mut place: Place,
    ) -> Result<Place, NetError> {
        let ordered = in_order(services, self.rng.as_ref());
        for service in ordered.into_iter().take(SRV_RECORDS_MAX) {
            let Service { port, target, .. } = service;
            place.steps.push(format!("{name}: {target}:{port}"));
            // A dot means that the service is decidedly not offered.
            if target.is_empty() {
                continue;
            }
            let found = match literal(&target) {
                Some(ip) => vec![ip],
                None => self.resolve(&target.to_ascii_lowercase(), &mut place.steps).await,
            };
            let found = interleave(found).into_iter().map(|ip| SocketAddr::new(ip, port));
            place
                .addresses
                .extend(found.filter(|address| !place.addresses.contains(address)).collect::<Vec<_>>());
        }
        self.admit(place)
    }

    async fn resolve(&self, host: &str, steps: &mut Vec<String>) -> Vec<IpAddr> {
        match self.dns.addresses(host).await {
            Ok(found) => {
                let list: Vec<String> = found.iter().map(ToString::to_string).collect();
                let text = if list.is_empty() { String::from("no address") } else { list.join(", ") };
                steps.push(format!("{host}: {text}"));
                found
            }
            Err(error) => {
                steps.push(error.to_string());
                Vec::new()
            }
        }
    }

    fn admit(&self, mut place: Place) -> Result<Place, NetError> {
        let how = match place.steps.is_empty() {
            // It was named by its address.
            true => place.addresses.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "),
            false => place.steps.join("; "),
        };
        if place.addresses.is_empty() {
            return Err(NetError::Unreachable(format!("it has no address ({how})")));
        }
        place.addresses.retain(|address| self.gate.admits(address.ip()));
        place.addresses.truncate(PEER_ADDRESSES_MAX);
        match place.addresses.is_empty() {
            true => {
                Err(NetError::Forbidden(format!("its address lies in a private or special range ({how})")))
            }
            false => Ok(place),
        }
    }
}

/// The address that a host is, with or without brackets.
pub(super) fn literal(host: &str) -> Option<IpAddr> {
    let inner = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    inner.unwrap_or(host).parse().ok()
}

/// IPv6 and IPv4 by turns, so that one of them being broken costs one attempt and not many.
///
/// RFC 8305
fn interleave(found: Vec<IpAddr>) -> Vec<IpAddr> {
    let (v6, v4): (Vec<IpAddr>, Vec<IpAddr>) = found.into_iter().partition(IpAddr::is_ipv6);
    let (mut v6, mut v4) = (v6.into_iter(), v4.into_iter());
    let mut ordered = Vec::new();
    loop {
        match (v6.next(), v4.next()) {
            (None, None) => return ordered,
            (a, b) => ordered.extend(a.into_iter().chain(b)),
        }
    }
}

/// By priority, and within one priority by a lottery in which the weights are the tickets.
fn in_order(mut services: Vec<Service>, rng: &dyn Rng) -> Vec<Service> {
    services.sort_by_key(|service| service.priority);
    let mut ordered = Vec::new();
    while let Some(first) = services.first() {
        let rivals = services.iter().take_while(|service| service.priority == first.priority).count();
        let tickets = |service: &Service| u64::from(service.weight) + 1;
        let total: u64 = services[..rivals].iter().map(tickets).sum();
        let mut bytes = [0; 8];
        rng.fill(&mut bytes);
        let mut drawn = u64::from_le_bytes(bytes) % total.max(1);
        let mut winner = 0;
        for (index, service) in services[..rivals].iter().enumerate() {
            winner = index;
            match drawn.checked_sub(tickets(service)) {
                Some(rest) => drawn = rest,
                None => break,
            }
        }
        ordered.push(services.remove(winner));
    }
    ordered
}

#[cfg(test)]
mod tests;
