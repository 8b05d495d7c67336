//! A push gateway that takes what it is sent: a small HTTP server on a port of its own.

use std::{sync::Arc, time::Duration};

use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::Mutex,
    task::JoinSet,
    time::{Instant, sleep, timeout},
};

use crate::Outcome;

/// How long anything may take to arrive.
const DEADLINE: Duration = Duration::from_secs(60);
/// Between two looks at what has arrived.
const POLL: Duration = Duration::from_millis(10);

/// What the gateway answers.
#[derive(Clone, Debug, Default)]
pub struct Mood {
    /// The HTTP status; 0 stands for 200.
    pub status: u16,
    /// Pushkeys that it wants to hear of no more.
    pub rejected: Vec<String>,
}

#[derive(Default)]
struct Seen {
    mood: Mood,
    /// Notifications that it has taken, and when.
    taken: Vec<(Value, Instant)>,
    refused: usize,
}

/// A running gateway; it ends when dropped.
pub struct Gateway {
    port: u16,
    seen: Arc<Mutex<Seen>>,
    _listening: JoinSet<()>,
}

impl Gateway {
    /// Starts one.
    pub async fn start() -> Outcome<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let port = listener.local_addr()?.port();
        let seen = Arc::new(Mutex::new(Seen::default()));
        let shared = seen.clone();
        let mut listening = JoinSet::new();
        listening.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                let seen = shared.clone();
                connections.spawn(async move { drop(serve(stream, seen).await) });
            }
        });
        Ok(Self { port, seen, _listening: listening })
    }

    /// Its address, as pushers name it.
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}/_matrix/push/v1/notify", self.port)
    }

    /// From now on it answers like this.
    pub async fn set_mood(&self, mood: Mood) {
        self.seen.lock().await.mood = mood;
    }

    /// What it has taken, oldest first.
    pub async fn taken(&self) -> Vec<Value> {
        self.seen.lock().await.taken.iter().map(|(body, _)| body.clone()).collect()
    }

    /// When something was taken that answers `wanted`, and what.
    pub async fn until(&self, what: &str, wanted: impl Fn(&Value) -> bool) -> Outcome<(Value, Instant)> {
        let waiting = async {
            loop {
                let found = self.seen.lock().await.taken.iter().find(|(body, _)| wanted(body)).cloned();
                match found {
                    Some(found) => return found,
                    None => sleep(POLL).await,
                }
            }
        };
        match timeout(DEADLINE, waiting).await {
            Ok(found) => Ok(found),
            Err(_) => Err(format!("the gateway never got {what}: {:#?}", self.taken().await).into()),
        }
    }

    /// Waits until it has refused something.
    pub async fn until_refused(&self) -> Outcome<()> {
        let waiting = async {
            while self.seen.lock().await.refused == 0 {
                sleep(POLL).await;
            }
        };
        timeout(DEADLINE, waiting).await.map_err(|_| "the gateway was never asked".into())
    }
}

/// Answers the requests of one connection.
async fn serve(mut stream: TcpStream, seen: Arc<Mutex<Seen>>) -> Outcome<()> {
    let mut read = Vec::new();
    loop {
        let Some(body) = request(&mut stream, &mut read).await? else { return Ok(()) };
        let mut seen = seen.lock().await;
        let status = if seen.mood.status == 0 { 200 } else { seen.mood.status };
        match status {
            200 => seen.taken.push((body["notification"].clone(), Instant::now())),
            _ => seen.refused += 1,
        }
        let answer = json!({ "rejected": seen.mood.rejected }).to_string();
        drop(seen);
        let head = format!(
            "HTTP/1.1 {status} X\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
            answer.len()
        );
        stream.write_all(format!("{head}{answer}").as_bytes()).await?;
    }
}

/// The body of the next request; nothing when the connection ends.
async fn request(stream: &mut TcpStream, read: &mut Vec<u8>) -> Outcome<Option<Value>> {
    loop {
        if let Some(end) = read.windows(4).position(|part| part == b"\r\n\r\n") {
            let head = String::from_utf8_lossy(&read[..end]).to_ascii_lowercase();
            let length = head.lines().find_map(|line| line.strip_prefix("content-length:"));
            let length: usize = length.map(str::trim).unwrap_or("0").parse()?;
            if read.len() >= end + 4 + length {
                let body = serde_json::from_slice(&read[end + 4..end + 4 + length])?;
                read.drain(..end + 4 + length);
                return Ok(Some(body));
            }
        }
        let mut chunk = [0; 8192];
        match stream.read(&mut chunk).await? {
            0 => return Ok(None),
            got => read.extend_from_slice(&chunk[..got]),
        }
    }
}
