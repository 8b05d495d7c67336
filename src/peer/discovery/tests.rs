//! Discovery by table: a name, a small internet, and where the name leads.

use std::{
    collections::BTreeMap,
    net::IpAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use futures_util::future::join_all;
use http::{Response, Uri};
use parking_lot::Mutex;
use ruma::ServerName;

use super::{Discovery, Locator, in_order};
use crate::{
    limits::{
        WELL_KNOWN_ABSENT, WELL_KNOWN_DEFAULT, WELL_KNOWN_FAILED, WELL_KNOWN_MAX, WELL_KNOWN_MIN,
        WELL_KNOWN_REDIRECTS_MAX,
    },
    peer::{Dns, DnsError, Gate, NetError, Service, Web},
    store::BoxFuture,
    types::{ManualClock, SeededRng},
};

/// A small internet: lines `a NAME ADDRESS…`, `srv NAME PRIORITY WEIGHT PORT TARGET`, `fail NAME`, and
/// `web HOST STATUS HEADER BODY` (`-` for no header).
#[derive(Default)]
struct World {
    addresses: BTreeMap<String, Vec<IpAddr>>,
    services: BTreeMap<String, Vec<Service>>,
    failing: Vec<String>,
    pages: Mutex<BTreeMap<String, (u16, String, String)>>,
    asked: AtomicUsize,
}

impl World {
    fn new(text: &str) -> Self {
        let mut world = Self::default();
        for line in text.lines().map(str::trim).filter(|line| !line.is_empty()) {
            let words: Vec<&str> = line.split(' ').collect();
            match words[..] {
                ["a", name, ref addresses @ ..] => {
                    let addresses = addresses.iter().map(|ip| ip.parse().unwrap()).collect();
                    world.addresses.insert(String::from(name), addresses);
                }
                ["srv", name, priority, weight, port, target] => {
                    world.services.entry(String::from(name)).or_default().push(Service {
                        priority: priority.parse().unwrap(),
                        weight: weight.parse().unwrap(),
                        port: port.parse().unwrap(),
                        target: String::from(target.trim_end_matches('.')),
                    });
                }
                ["fail", name] => world.failing.push(String::from(name)),
                ["web", host, status, header, ref body @ ..] => {
                    let page = (status.parse().unwrap(), header.replace('_', " "), body.join(" "));
                    world.pages.lock().insert(String::from(host), page);
                }
                _ => panic!("{line}"),
            }
        }
        world
    }
}

impl Dns for World {
    fn addresses<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<Vec<IpAddr>, DnsError>> {
        Box::pin(async move {
            self.asked.fetch_add(1, Ordering::SeqCst);
            tokio::task::yield_now().await;
            match self.failing.iter().any(|failing| failing == name) {
                true => Err(DnsError::new(name, "SERVFAIL")),
                false => Ok(self.addresses.get(name).cloned().unwrap_or_default()),
            }
        })
    }

    fn services<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<Vec<Service>, DnsError>> {
        Box::pin(async move {
            match self.failing.iter().any(|failing| failing == name) {
                true => Err(DnsError::new(name, "SERVFAIL")),
                false => Ok(self.services.get(name).cloned().unwrap_or_default()),
            }
        })
    }
}

impl Web for World {
    fn get<'a>(&'a self, uri: &'a Uri) -> BoxFuture<'a, Result<Response<Bytes>, NetError>> {
        Box::pin(async move {
            self.asked.fetch_add(1, Ordering::SeqCst);
            tokio::task::yield_now().await;
            let host = uri.authority().unwrap().as_str();
            let page = self.pages.lock().get(host).cloned();
            let (status, header, body) = page.ok_or(NetError::Unreachable(String::from("nobody there")))?;
            let mut response = Response::builder().status(status);
            if let Some((name, value)) = header.split_once(':') {
                response = response.header(name, value);
            }
            Ok(response.body(Bytes::from(body)).unwrap())
        })
    }
}

/// `HOST HEADER → ADDRESSES`, or what went wrong.
async fn find(world: World, server: &str) -> String {
    let world = Arc::new(world);
    let discovery = Discovery::new(world.clone(), Arc::new(ManualClock::at(0)));
    let locator = Locator::new(world, Gate::default(), Arc::new(SeededRng::new(1)));
    let (authority, _) = discovery.authority(<&ServerName>::try_from(server).unwrap()).await;
    match locator.locate(&authority).await {
        Ok(place) => {
            let list: Vec<String> = place.addresses.iter().map(ToString::to_string).collect();
            format!("{authority} {}", list.join(" "))
        }
        Err(NetError::Forbidden(why)) => {
            assert!(!why.contains("()"), "which address it is can be read: {why}");
            format!("{authority} forbidden")
        }
        Err(_) => format!("{authority} unreachable"),
    }
}

#[track_caller]
fn check(world: &str, server: &str, expected: &str) {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    assert_eq!(runtime.block_on(find(World::new(world), server)), expected, "{server} in\n{world}");
}

#[test]
fn literals_and_ports_need_no_delegation() {
    check("", "1.2.3.4", "1.2.3.4 1.2.3.4:8448");
    check("", "1.2.3.4:80", "1.2.3.4:80 1.2.3.4:80");
    check("", "[2a00::1]", "[2a00::1] [2a00::1]:8448");
    check("", "[2a00::1]:80", "[2a00::1]:80 [2a00::1]:80");
    let world = r#"a a.org 1.1.1.1
        web a.org 200 - {"m.server":"b.org"}
        srv _matrix-fed._tcp.a.org 1 1 9 b.org"#;
    check(world, "a.org:1234", "a.org:1234 1.1.1.1:1234");
    check("", "a.org:1234", "a.org:1234 unreachable");
}

#[test]
fn a_delegation_decides() {
    let delegate = |server: &str| {
        format!(
            r#"web a.org 200 - {{"m.server":"{server}"}}
            a a.org 1.1.1.1
            a b.org 2.2.2.2
            a c.org 3.3.3.3"#
        )
    };
    check(&delegate("5.6.7.8"), "a.org", "5.6.7.8 5.6.7.8:8448");
    check(&delegate("5.6.7.8:443"), "a.org", "5.6.7.8:443 5.6.7.8:443");
    check(&delegate("b.org:443"), "a.org", "b.org:443 2.2.2.2:443");
    check(&delegate("b.org"), "a.org", "b.org 2.2.2.2:8448");
    check(&delegate("b.org"), "A.ORG", "b.org 2.2.2.2:8448");
    let srv = |service: &str| format!("{}\nsrv {service}._tcp.b.org 1 1 999 c.org", delegate("b.org"));
    check(&srv("_matrix-fed"), "a.org", "b.org 3.3.3.3:999");
    check(&srv("_matrix"), "a.org", "b.org 3.3.3.3:999");
    // A second delegation is not followed.
    check(
        &format!("{}\nweb b.org 200 - {{\"m.server\":\"c.org\"}}", delegate("b.org")),
        "a.org",
        "b.org 2.2.2.2:8448",
    );
}

#[test]
fn a_broken_delegation_counts_as_none() {
    for page in [
        "web a.org 404 - x",
        "web a.org 500 - x",
        "web a.org 200 - x",
        "web a.org 200 - {}",
        r#"web a.org 200 - {"m.server":5}"#,
        r#"web a.org 200 - {"m.server":"https://b.org"}"#,
        r#"web a.org 200 - {"m.server":""}"#,
        r#"web a.org 200 - ["b.org"]"#,
        "web a.org 302 - x",
        "web a.org 302 location:http://b.org/ x",
        "web a.org 302 location:ftp://b.org/ x",
        "web a.org 302 location:https://a.org/ x",
        "web a.org 302 location:/again x",
        "web a.org 302 location:// x",
    ] {
        check(&format!("{page}\na a.org 1.1.1.1"), "a.org", "a.org 1.1.1.1:8448");
    }
    let world = r#"web a.org 301 location:https://www.a.org/x y
        web www.a.org 200 - {"m.server":"b.org:1"}
        a b.org 2.2.2.2"#;
    check(world, "a.org", "b.org:1 2.2.2.2:1");
}

#[test]
fn services_and_the_default_port() {
    check("a a.org 1.1.1.1", "a.org", "a.org 1.1.1.1:8448");
    check("a a.org 1.1.1.1 2a00::1 2.2.2.2", "a.org", "a.org [2a00::1]:8448 1.1.1.1:8448 2.2.2.2:8448");
    let world = "srv _matrix-fed._tcp.a.org 10 1 1 b.org
        srv _matrix-fed._tcp.a.org 5 1 2 c.org
        srv _matrix._tcp.a.org 1 1 3 d.org
        a a.org 1.1.1.1
        a b.org 2.2.2.2
        a c.org 3.3.3.3";
    check(world, "a.org", "a.org 3.3.3.3:2 2.2.2.2:1");
    check("srv _matrix._tcp.a.org 1 1 3 d.org\na d.org 4.4.4.4", "a.org", "a.org 4.4.4.4:3");
    // The service is decidedly not offered.
    check("srv _matrix-fed._tcp.a.org 1 1 3 .\na a.org 1.1.1.1", "a.org", "a.org unreachable");
    // A resolver that cannot answer such questions does not cut the server off.
    check(
        "fail _matrix-fed._tcp.a.org\nfail _matrix._tcp.a.org\na a.org 1.1.1.1",
        "a.org",
        "a.org 1.1.1.1:8448",
    );
    check("fail a.org", "a.org", "a.org unreachable");
}

/// Rows 4.5 and 4.6 of the list of known vulnerabilities: whatever way leads to a private address.
#[test]
fn no_way_leads_into_a_private_network() {
    check("", "127.0.0.1", "127.0.0.1 forbidden");
    check("", "127.0.0.1:8008", "127.0.0.1:8008 forbidden");
    check("", "[::1]:8008", "[::1]:8008 forbidden");
    check("", "[::ffff:10.0.0.1]", "[::ffff:10.0.0.1] forbidden");
    check("a a.org 10.0.0.1", "a.org", "a.org forbidden");
    check("a a.org 10.0.0.1 1.1.1.1", "a.org", "a.org 1.1.1.1:8448");
    check("a a.org 169.254.169.254", "a.org:80", "a.org:80 forbidden");
    check("srv _matrix._tcp.a.org 1 1 80 b.org\na b.org 192.168.0.1", "a.org", "a.org forbidden");
    check("srv _matrix._tcp.a.org 1 1 80 127.0.0.1", "a.org", "a.org forbidden");
    check(r#"web a.org 200 - {"m.server":"127.0.0.1:80"}"#, "a.org", "127.0.0.1:80 forbidden");
}

/// Row 4.7 of the list of known vulnerabilities (CVE-2021-21274): whoever is sent in circles gives up, and does not begin
/// again with every request.
#[tokio::test]
async fn row_4_7_cve_2021_21274_redirects_end_and_are_remembered() {
    for target in ["https://a.org/", "https://b.org/", "/again"] {
        let pages = format!("web a.org 302 location:{target} x\nweb b.org 302 location:https://a.org/ x");
        let world = Arc::new(World::new(&pages));
        let clock = Arc::new(ManualClock::at(0));
        let discovery = Discovery::new(world.clone(), clock.clone());
        let server = <&ServerName>::try_from("a.org").unwrap();
        for _ in 0..9 {
            assert_eq!(discovery.authority(server).await.0, "a.org");
            assert_eq!(world.asked.load(Ordering::SeqCst), 1 + WELL_KNOWN_REDIRECTS_MAX, "{target}");
        }
        clock.advance(WELL_KNOWN_ABSENT);
        discovery.authority(server).await;
        assert_eq!(world.asked.load(Ordering::SeqCst), 2 * (1 + WELL_KNOWN_REDIRECTS_MAX), "{target}");
    }
}

#[tokio::test]
async fn delegations_are_kept_as_long_as_they_say_and_asked_for_once() {
    let clock = Arc::new(ManualClock::at(0));
    let world = Arc::new(World::new(r#"web a.org 200 - {"m.server":"b.org"}"#));
    let discovery = Discovery::new(world.clone(), clock.clone());
    let server = <&ServerName>::try_from("a.org").unwrap();
    let asked = || world.asked.load(Ordering::SeqCst);
    let set = |status: u16, header: &str| {
        let page = (status, String::from(header), String::from(r#"{"m.server":"c.org"}"#));
        world.pages.lock().insert(String::from("a.org"), page);
    };
    let found = join_all((0..9).map(|_| discovery.authority(server))).await;
    assert!(found.iter().all(|(authority, _)| authority == "b.org"));
    assert_eq!(asked(), 1, "many ask together, one question is sent");

    let second = Duration::from_secs(1);
    clock.advance(WELL_KNOWN_DEFAULT - second);
    discovery.authority(server).await;
    assert_eq!(asked(), 1);
    set(503, "");
    clock.advance(second);
    assert_eq!(discovery.authority(server).await.0, "b.org", "what is known outlives an outage");
    discovery.authority(server).await;
    assert_eq!(asked(), 2, "an outage is remembered");
    clock.advance(WELL_KNOWN_MAX);
    assert_eq!(discovery.authority(server).await.0, "a.org", "but not for ever");
    set(200, "cache-control:public, max-age=60");
    clock.advance(WELL_KNOWN_FAILED);
    assert_eq!(discovery.authority(server).await.0, "c.org");
    assert_eq!(asked(), 4);
    clock.advance(WELL_KNOWN_MIN - second);
    discovery.authority(server).await;
    assert_eq!(asked(), 4, "there is a least time");
    set(404, "");
    clock.advance(second);
    assert_eq!(discovery.authority(server).await.0, "a.org", "a delegation can be taken back");
    clock.advance(WELL_KNOWN_ABSENT - second);
    discovery.authority(server).await;
    assert_eq!(asked(), 5);
}

#[test]
fn weights_are_a_lottery_within_a_priority() {
    let service = |priority, weight, port| Service { priority, weight, port, target: String::from("x") };
    let services = vec![service(2, 0, 1), service(1, 90, 2), service(1, 10, 3), service(1, 0, 4)];
    let rng = SeededRng::new(7);
    let mut firsts = BTreeMap::new();
    for _ in 0..1_000 {
        let order = in_order(services.clone(), &rng);
        assert_eq!(order.len(), 4);
        assert_eq!(order[3].port, 1, "a higher number comes last");
        *firsts.entry(order[0].port).or_insert(0) += 1;
    }
    assert!(firsts[&2] > 800 && firsts[&3] > 50 && firsts[&4] < 50, "{firsts:?}");
}

/// What the owner of a server should know, and what is just not there.
#[tokio::test]
async fn flaws_of_a_delegation() {
    for (page, is_flaw) in [
        ("web a.org 404 - nothing", false),
        ("", false),
        ("web a.org 200 - <html>", true),
        (r#"web a.org 200 - {"m.server":"https://b.org"}"#, true),
        ("web a.org 200 - {}", true),
        ("web a.org 500 - oops", true),
        ("web a.org 302 location:https://a.org/.well-known/matrix/server -", true),
        ("web a.org 302 location:http://a.org/ -", true),
        (r#"web a.org 200 - {"m.server":"b.org:443"}"#, false),
    ] {
        let discovery = Discovery::new(Arc::new(World::new(page)), Arc::new(ManualClock::at(1)));
        let flaw = discovery.flaw(<&ServerName>::try_from("a.org").unwrap()).await;
        assert_eq!(flaw.is_some(), is_flaw, "{page}: {flaw:?}");
        assert_eq!(discovery.flaw(<&ServerName>::try_from("a.org:1").unwrap()).await, None);
    }
}
