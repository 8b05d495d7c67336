//! One HTTP exchange with the server that runs with the same configuration.

use std::{
    io::{self, Read, Write},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream},
    os::unix::net::UnixStream,
    time::Duration,
};

use serde_json::Value;

use super::Stop;
use crate::{
    config::{Address, Config},
    http::admin::{PROOF, proof},
    server::{Folder, real_ports},
};

/// Time for the server to answer.
const TIMEOUT: Duration = Duration::from_secs(30);

/// Why there is no answer.
pub(super) enum Missed {
    /// Nobody answers, for this reason.
    Unreachable(String),
    /// Somebody answers, but not well.
    Refused(Stop),
}

/// The JSON that the server answers with.
pub(super) fn exchange(
    config: &Config,
    method: &str,
    path: &str,
    body: Option<&Value>,
) -> Result<Value, Missed> {
    converse(config, (method, path), body, None)
}

/// As [`exchange`], in the name of the operator: with the secret in the data folder.
pub(super) fn command(
    config: &Config,
    method: &str,
    path: &str,
    body: Option<&Value>,
) -> Result<Value, Stop> {
    let secret = Folder::of(config).known_registration_secret().map_err(Stop::failed)?;
    let secret =
        secret.ok_or_else(|| Stop::failed("there is no server: it has made no secret in its data folder"))?;
    converse(config, (method, path), body, Some(&secret)).map_err(|missed| match missed {
        Missed::Refused(stop) => stop,
        Missed::Unreachable(why) => Stop::Failed(format!("cannot reach the server: {why}")),
    })
}

fn converse(
    config: &Config,
    (method, path): (&str, &str),
    body: Option<&Value>,
    secret: Option<&str>,
) -> Result<Value, Missed> {
    let plain = config.listen.iter().find(|listen| listen.tls.is_none());
    let address = plain.map(|listen| &listen.address).ok_or_else(|| {
        let why = "it listens with TLS only; let it listen on a `unix:` socket as well";
        Missed::Unreachable(String::from(why))
    })?;
    let body = body.map(Value::to_string).unwrap_or_default();
    // HTTP/1.0, so that the answer comes in one piece and ends with the connection.
    let proof = secret.map(|secret| {
        let now_ms = real_ports().clock.now_ms();
        format!("{PROOF}: {}\r\n", proof(secret, now_ms, (method, path, body.as_bytes())))
    });
    let request = format!(
        "{method} {path} HTTP/1.0\r\nhost: localhost\r\ncontent-type: application/json\r\n{}\
         content-length: {}\r\n\r\n{body}",
        proof.unwrap_or_default(),
        body.len()
    );
    let answer = send(address, request.as_bytes())
        .map_err(|error| Missed::Unreachable(format!("it does not answer on {address}: {error}")))?;
    read(&answer).map_err(Missed::Refused)
}

fn send(address: &Address, request: &[u8]) -> io::Result<Vec<u8>> {
    match address {
        Address::Unix(path) => {
            let stream = UnixStream::connect(path)?;
            stream.set_read_timeout(Some(TIMEOUT))?;
            speak(stream, request)
        }
        Address::Tcp(address) => {
            let stream = TcpStream::connect_timeout(&reachable(*address), TIMEOUT)?;
            stream.set_read_timeout(Some(TIMEOUT))?;
            speak(stream, request)
        }
    }
}

fn speak(mut stream: impl Read + Write, request: &[u8]) -> io::Result<Vec<u8>> {
    stream.write_all(request)?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    Ok(answer)
}

/// A server that listens on every address is reached on this machine.
pub(super) fn reachable(mut address: SocketAddr) -> SocketAddr {
    if address.ip().is_unspecified() {
        address.set_ip(match address.ip() {
            IpAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
            IpAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
        });
    }
    address
}

fn read(answer: &[u8]) -> Result<Value, Stop> {
    let text = String::from_utf8_lossy(answer);
    let strange = || Stop::failed("what answers there is no Lockstep");
    let (head, body) = text.split_once("\r\n\r\n").ok_or_else(strange)?;
    let status = head.split(' ').nth(1).ok_or_else(strange)?;
    let body: Value = serde_json::from_str(body).map_err(|_| strange())?;
    if status == "200" {
        return Ok(body);
    }
    let told = |name| body.get(name).and_then(Value::as_str).unwrap_or_default();
    Err(Stop::Failed(format!("the server refused: {} ({})", told("error"), told("errcode"))))
}

#[cfg(test)]
mod tests {
    use super::{Stop, reachable, read};

    #[test]
    fn answers_are_read_and_refusals_told() {
        let answer = read(b"HTTP/1.0 200 OK\r\na: b\r\n\r\n{\"nonce\":\"x\"}").unwrap();
        assert_eq!(answer["nonce"], "x");
        let refused = read(b"HTTP/1.0 400 Bad\r\n\r\n{\"errcode\":\"M_USER_IN_USE\",\"error\":\"taken\"}");
        assert!(matches!(refused, Err(Stop::Failed(text)) if text.contains("taken (M_USER_IN_USE)")));
        for strange in ["", "SSH-2.0", "HTTP/1.0 200 OK\r\n\r\n<html>"] {
            assert!(read(strange.as_bytes()).is_err(), "{strange}");
        }
    }

    #[test]
    fn the_unspecified_address_is_this_machine() {
        assert_eq!(reachable("0.0.0.0:1".parse().unwrap()), "127.0.0.1:1".parse().unwrap());
        assert_eq!(reachable("[::]:1".parse().unwrap()), "[::1]:1".parse().unwrap());
        assert_eq!(reachable("10.0.0.1:1".parse().unwrap()), "10.0.0.1:1".parse().unwrap());
    }
}
