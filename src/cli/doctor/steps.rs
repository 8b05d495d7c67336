//! The steps, in the order in which one depends on the other.

use std::{net::SocketAddr, time::Duration};

use bytes::Bytes;
use http::{HeaderMap, Request, Response, StatusCode, header};
use ruma::{OwnedServerName, ServerName};
use serde_json::Value;

use super::{Finding, Patient, bodies::bodies};
use crate::{
    keys::SigningKey,
    limits::CLOCK_SKEW_MAX,
    peer::{Bounds, Net, NetError, XMatrix, read_key_document},
};

/// Characters that proxies like to change, and how they are written in a path.
const TRICKY: &str = "a/b c+d%e#f";
const TRICKY_WRITTEN: &str = "a%2Fb%20c+d%25e%23f";

/// Goes through all steps, as far as they lead.
pub(super) async fn examine(patient: &Patient) -> Vec<Finding> {
    let mut findings = Vec::new();
    findings.extend(name(patient));
    let authority = delegation(patient, &mut findings).await;
    if !location(patient, &authority, &mut findings).await {
        return findings;
    }
    if !certificates(patient, &authority, &mut findings).await {
        return findings;
    }
    let answers = version(patient, &mut findings).await;
    if !answers {
        return findings;
    }
    keys(patient, &mut findings).await;
    findings.extend(round_trip(patient).await);
    findings.extend(bodies(patient).await);
    findings
}

/// Whether a name means something else on every machine.
pub(super) fn is_local(server: &ServerName) -> bool {
    let host = server.host();
    host == "localhost" || (!host.contains('.') && !host.starts_with('['))
}

fn name(patient: &Patient) -> Option<Finding> {
    let server = &patient.server;
    (patient.own && is_local(server)).then(|| {
        let fix = "set `server_name` to a domain of yours before anybody registers; it can never be changed";
        Finding::bad("name", format!("{server} means something else on every machine"), fix)
    })
}

async fn delegation(patient: &Patient, findings: &mut Vec<Finding>) -> OwnedServerName {
    let (authority, how) = patient.net.discovery().authority(&patient.server).await;
    let flaw = patient.net.discovery().flaw(&patient.server).await;
    let same = authority == patient.server;
    findings.push(match flaw {
        Some(why) => broken_delegation(&patient.server, why),
        None if same => Finding::note("well-known", how),
        None => Finding::good("well-known", how),
    });
    authority
}

fn broken_delegation(server: &ServerName, why: String) -> Finding {
    let host = server.host();
    let fix = format!(
        "let https://{host}/.well-known/matrix/server answer 200 with JSON, {{\"m.server\": \"matrix.{host}:443\"}} (a host \
         and a port, without https://), or 404 if the server is at {host}:8448"
    );
    Finding::bad("well-known", why, fix)
}

async fn location(patient: &Patient, authority: &ServerName, findings: &mut Vec<Finding>) -> bool {
    let host = authority.host();
    match patient.net.locate(authority).await {
        Ok(place) => {
            let list: Vec<String> = place.addresses.iter().map(ToString::to_string).collect();
            let text = format!("{authority} is at {} ({})", list.join(", "), place.steps.join("; "));
            findings.push(Finding::good("address", text));
            true
        }
        Err(error @ NetError::Forbidden(_)) => {
            let fix = match patient.own {
                true => format!(
                    "give {host} a public address in the DNS; for servers of your own network set \
                     `federation.allow_ranges` on each of them"
                ),
                false => String::from("if you trust it, add its range to `federation.allow_ranges`"),
            };
            findings.push(Finding::bad("address", format!("{authority} {error}"), fix));
            false
        }
        Err(error) => {
            let fix = format!(
                "add an A or AAAA record for {host}, or delegate: let https://{host}/.well-known/matrix/server \
                 answer {{\"m.server\": \"matrix.{host}:443\"}}"
            );
            findings.push(Finding::bad("address", format!("{authority} {error}"), fix));
            false
        }
    }
}

async fn certificates(patient: &Patient, authority: &ServerName, findings: &mut Vec<Finding>) -> bool {
    let results = patient.net.shake_hands(authority).await;
    let reached = results.iter().any(|(_, result)| result.is_ok());
    for (address, result) in results {
        findings.push(match result {
            Ok(protocol) => Finding::good(
                "tls",
                format!("{address} has a certificate for {} ({protocol})", authority.host()),
            ),
            Err(error) => no_handshake((address, reached), &error.to_string(), authority),
        });
    }
    reached
}

/// What it means that there was no handshake with one address, when there was `reached` with another.
fn no_handshake((address, reached): (SocketAddr, bool), error: &str, authority: &ServerName) -> Finding {
    if reached && address.is_ipv6() && error.contains("unreachable") {
        let text =
            format!("{address} was not tried: this machine has no way to IPv6 addresses; others may use it");
        return Finding::note("tls", text);
    }
    Finding::bad("tls", error.to_owned(), tls_fix(error, authority, &address.to_string()))
}

fn tls_fix(error: &str, authority: &ServerName, address: &str) -> String {
    let host = authority.host();
    let has = |words: &[&str]| words.iter().any(|word| error.contains(word));
    if has(&["UnknownIssuer"]) {
        return String::from(
            "serve the whole chain (certbot's fullchain.pem, not cert.pem); a private authority goes into \
             `federation.roots` of the other server",
        );
    }
    if has(&["NotValidForName", "not valid for name"]) {
        return format!(
            "the certificate must name {host}: that is the name other servers ask for by SNI, also after an SRV \
             record; with several sites on one address, give the proxy a site for {host}"
        );
    }
    if has(&["Expired", "NotValidYet", "expired", "not valid yet"]) {
        return String::from("renew the certificate, and reload the proxy afterwards; check the clock too");
    }
    if has(&["InvalidContentType", "CorruptMessage", "corrupt message"]) {
        return format!(
            "{address} does not speak TLS: let the proxy serve HTTPS there, or set `tls_certificate`"
        );
    }
    if has(&["refused", "timed out", "in time", "unreachable"]) {
        return format!(
            "open the port in the firewall and let the server or its proxy listen on {address}; if it listens \
             elsewhere, delegate with .well-known; if this is an IPv6 address that does not work, remove its AAAA record"
        );
    }
    String::from("look at the log of what listens there")
}

/// Asks for `path` without a signature.
async fn get(patient: &Patient, path: &str) -> Result<Response<Bytes>, NetError> {
    let request = Request::builder().uri(path).body(Bytes::new());
    let request = request.map_err(|error| NetError::Unreachable(error.to_string()))?;
    patient.net.exchange(&patient.server, request, Bounds::new(Duration::from_secs(20), 1 << 20)).await
}

async fn version(patient: &Patient, findings: &mut Vec<Finding>) -> bool {
    let path = "/_matrix/federation/v1/version";
    let answer = match get(patient, path).await {
        Ok(answer) => answer,
        Err(error) => {
            let fix = "look at the log of the server and of its proxy";
            findings.push(Finding::bad("http", format!("{path}: {error}"), fix));
            return false;
        }
    };
    let body: Value = serde_json::from_slice(answer.body()).unwrap_or_default();
    let told = |name: &str| body["server"][name].as_str().unwrap_or("?").chars().take(80).collect::<String>();
    if answer.status() != StatusCode::OK || !body["server"].is_object() {
        let fix = "let the proxy pass everything under /_matrix to the server, not only /_matrix/client";
        let text = format!("{path} answers {}, and not as a Matrix server does", answer.status());
        findings.push(Finding::bad("http", text, fix));
        return false;
    }
    findings.push(Finding::good("http", format!("it is {} {}", told("name"), told("version"))));
    findings.extend(clock(patient, answer.headers()));
    true
}

fn clock(patient: &Patient, headers: &HeaderMap) -> Option<Finding> {
    let date = headers.get(header::DATE)?.to_str().ok()?;
    let theirs = unix_seconds(date)?;
    let ours = patient.ports.clock.now_ms() / 1_000;
    let apart = theirs.abs_diff(ours);
    Some(match apart > CLOCK_SKEW_MAX.as_secs() {
        true => {
            let fix = "let both machines keep their clocks by NTP: `timedatectl set-ntp true`";
            Finding::bad("clock", format!("its clock and ours are {apart} s apart"), fix)
        }
        false => Finding::good("clock", format!("its clock and ours are {apart} s apart")),
    })
}

/// The seconds since 1970 of an HTTP date, `Sun, 06 Nov 1994 08:49:37 GMT`.
fn unix_seconds(date: &str) -> Option<u64> {
    const MONTHS: &str = "JanFebMarAprMayJunJulAugSepOctNovDec";
    let mut words = date.split_once(", ")?.1.split(' ');
    let day: u64 = words.next()?.parse().ok()?;
    let month = MONTHS.find(words.next()?).map(|at| at as u64 / 3 + 1)?;
    let year: u64 = words.next()?.parse().ok().filter(|year| (1970..10_000).contains(year))?;
    let mut time = words.next()?.split(':').map(|part| part.parse::<u64>().ok());
    let (hour, minute, second) = (time.next()??, time.next()??, time.next()??);
    // Years that begin in March have their odd day at the end.
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let days = 365 * year + year / 4 - year / 100 + year / 400 + (153 * month + 2) / 5 + day;
    let days = days.checked_sub(719_469)?;
    Some(days * 86_400 + hour * 3_600 + minute * 60 + second)
}

async fn keys(patient: &Patient, findings: &mut Vec<Finding>) {
    let path = "/_matrix/key/v2/server";
    let pass = "let the proxy pass everything under /_matrix to the server, /_matrix/key included";
    let answer = match get(patient, path).await {
        Ok(answer) if answer.status() == StatusCode::OK => answer,
        Ok(answer) => {
            return findings.push(Finding::bad("keys", format!("{path} answers {}", answer.status()), pass));
        }
        Err(error) => return findings.push(Finding::bad("keys", format!("{path}: {error}"), pass)),
    };
    let text = String::from_utf8_lossy(answer.body());
    let report = match read_key_document(&text) {
        Ok(report) => report,
        Err(error) => return findings.push(Finding::bad("keys", format!("{path}: {error}"), pass)),
    };
    if report.server != patient.server {
        let text = format!("what answers for {} is {}", patient.server, report.server);
        let fix = "the delegation leads to another server, or `server_name` is not what it should be";
        return findings.push(Finding::bad("keys", text, fix));
    }
    if report.valid_until_ts < patient.ports.clock.now_ms() {
        let fix = "check the clocks of both machines, and that no proxy caches this answer";
        return findings.push(Finding::bad("keys", "its keys are not valid any more", fix));
    }
    if let Some(key) = patient.key.as_ref().filter(|_| patient.own)
        && !report.ids.iter().any(|id| id == key.key_id().as_str())
    {
        let text = format!("it signs with {}, but publishes {}", key.key_id(), report.ids.join(", "));
        let fix = "another server answers under this name, or it must be restarted after `key rotate`";
        return findings.push(Finding::bad("keys", text, fix));
    }
    findings.push(Finding::good("keys", format!("signed and valid: {}", report.ids.join(", "))));
}

/// Whether a request that we sign arrives as we have signed it, and is believed.
async fn round_trip(patient: &Patient) -> Vec<Finding> {
    let Some(key) = &patient.key else {
        return vec![Finding::note(
            "signature",
            "not checked: there is no signing key before the first start",
        )];
    };
    let path = format!("/_matrix/federation/unstable/org.lockstep.echo/{TRICKY_WRITTEN}");
    let echo = signed(patient, key, &path).await;
    match echo {
        Err(error) => {
            return vec![Finding::bad("signature", error, "look at the log of the server and its proxy")];
        }
        Ok(answer) if answer.status() == StatusCode::OK => return vec![judge_echo(answer.body())],
        Ok(answer) if answer.status() == StatusCode::UNAUTHORIZED || patient.own => {
            return vec![refused(patient, &answer)];
        }
        // Another software, which has no such endpoint.
        Ok(_) => {}
    }
    let path = format!("/_matrix/federation/v1/query/profile?user_id=%40doctor%3A{}", patient.server);
    vec![match signed(patient, key, &path).await {
        Err(error) => Finding::bad("signature", error, "look at the log of the server and its proxy"),
        Ok(answer) if answer.status() == StatusCode::UNAUTHORIZED => refused(patient, &answer),
        Ok(answer) if answer.status().is_server_error() => {
            let text = format!("a signed request is answered with {}", answer.status());
            Finding::bad("signature", text, "look at the log of that server")
        }
        Ok(answer) => {
            Finding::good("signature", format!("a signed request is believed ({})", answer.status()))
        }
    }]
}

/// Asks for `path` with our signature.
async fn signed(patient: &Patient, key: &SigningKey, path: &str) -> Result<Response<Bytes>, String> {
    let request = Request::builder().uri(path).body(Bytes::new());
    let mut request = request.map_err(|error| error.to_string())?;
    let proof = XMatrix::sign(&request, key, &patient.server).map_err(|error| error.to_string())?;
    request.headers_mut().insert(header::AUTHORIZATION, proof.header());
    let bounds = Bounds::new(Duration::from_secs(60), 1 << 20);
    let answer = patient.net.exchange(&patient.server, request, bounds).await;
    answer.map_err(|error| error.to_string())
}

fn judge_echo(body: &[u8]) -> Finding {
    let body: Value = serde_json::from_slice(body).unwrap_or_default();
    match body["text"].as_str() {
        Some(TRICKY) => Finding::good("signature", "a signed request with %2F in its path arrives unchanged"),
        text => Finding::bad("signature", format!("a path arrives changed: {text:?}"), proxy_fix()),
    }
}

fn refused(patient: &Patient, answer: &Response<Bytes>) -> Finding {
    let body: Value = serde_json::from_slice(answer.body()).unwrap_or_default();
    let why: String = body["error"].as_str().unwrap_or_default().chars().take(200).collect();
    let text = format!("a signed request is refused with {}: {why}", answer.status());
    match patient.own {
        true => Finding::bad("signature", text, proxy_fix()),
        false => {
            let fix =
                "it cannot get the keys of this server: run `lockstep doctor federation` without a name";
            Finding::bad("signature", text, fix)
        }
    }
}

fn proxy_fix() -> &'static str {
    "the proxy must pass paths and the header Authorization unchanged: nginx `proxy_pass http://127.0.0.1:8008;` with \
     nothing after the port; Apache `AllowEncodedSlashes NoDecode` and `ProxyPass … nocanon`"
}

#[cfg(test)]
mod tests {
    use super::{broken_delegation, no_handshake, tls_fix, unix_seconds};
    use crate::cli::doctor::{Mark, render};

    #[test]
    fn dates_of_http() {
        assert_eq!(unix_seconds("Sun, 06 Nov 1994 08:49:37 GMT"), Some(784_111_777));
        assert_eq!(unix_seconds("Thu, 01 Jan 1970 00:00:00 GMT"), Some(0));
        assert_eq!(unix_seconds("Thu, 29 Feb 2024 23:59:59 GMT"), Some(1_709_251_199));
        for nonsense in ["", "Sun, ", "Sun, 06 Nov 19 08:49:37 GMT", "Sun, x Nov 1994 08:49:37 GMT"] {
            assert_eq!(unix_seconds(nonsense), None, "{nonsense}");
        }
    }

    #[test]
    fn a_broken_delegation_comes_with_what_it_should_be() {
        let server = <&ruma::ServerName>::try_from("a.org").unwrap();
        let finding = broken_delegation(server, String::from("https://a.org/.well-known/matrix/server: EOF"));
        assert_eq!(finding.mark, Mark::Bad);
        let text = render(&[finding]);
        assert!(text.contains(r#"{"m.server": "matrix.a.org:443"}"#) && text.contains("FAIL"), "{text}");
    }

    #[test]
    fn a_machine_without_ipv6_finds_no_fault_with_others() {
        let server = <&ruma::ServerName>::try_from("m.a.org:443").unwrap();
        let (v4, v6) = ("1.1.1.1:443".parse().unwrap(), "[2001:db8::1]:443".parse().unwrap());
        let unreachable = "the server cannot be reached: Network is unreachable (os error 101)";
        for (place, error, expected) in [
            ((v6, true), unreachable, Mark::Note),
            ((v6, false), unreachable, Mark::Bad),
            ((v4, true), unreachable, Mark::Bad),
            ((v6, true), "Connection refused (os error 111)", Mark::Bad),
        ] {
            assert_eq!(no_handshake(place, error, server).mark, expected, "{place:?} {error}");
        }
    }

    #[test]
    fn the_usual_mistakes_have_their_own_line() {
        let server = <&ruma::ServerName>::try_from("m.a.org:443").unwrap();
        let fix = |error: &str| tls_fix(error, server, "1.1.1.1:443");
        assert!(fix("invalid peer certificate: UnknownIssuer").contains("fullchain"));
        assert!(fix("invalid peer certificate: NotValidForName").contains("m.a.org"));
        assert!(fix("Connection refused (os error 111)").contains("1.1.1.1:443"));
    }
}
