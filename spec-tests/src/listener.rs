//! A small HTTP server on a port of its own: what a homeserver calls in tests, where nothing else is looked at.

use serde_json::Value;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    task::JoinSet,
};

use crate::Outcome;

/// How much is read at a time.
const CHUNK_BYTES: usize = 64 << 10;

/// A request.
#[derive(Debug)]
pub struct Request {
    /// The method, in upper case.
    pub method: String,
    /// The path with its query.
    pub path: String,
    /// The body; null when there is none.
    pub body: Value,
}

/// Something that answers requests with a status and JSON.
pub trait Answers: Clone + Send + 'static {
    /// The answer to `request`.
    fn answer(&self, request: Request) -> impl Future<Output = (u16, Value)> + Send;
}

/// A running server; it ends when dropped.
#[derive(Debug)]
pub struct Listener {
    port: u16,
    _listening: JoinSet<()>,
}

impl Listener {
    /// Starts one that has its answers from `answers`.
    pub async fn start(answers: impl Answers) -> Outcome<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let port = listener.local_addr()?.port();
        let mut listening = JoinSet::new();
        listening.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                let answers = answers.clone();
                connections.spawn(async move { drop(serve(stream, answers).await) });
                while connections.try_join_next().is_some() {}
            }
        });
        Ok(Self { port, _listening: listening })
    }

    /// Its address, without a slash at the end.
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }
}

/// Answers the requests of one connection.
async fn serve(mut stream: TcpStream, answers: impl Answers) -> Outcome<()> {
    let mut read = Vec::new();
    loop {
        let Some(request) = request(&mut stream, &mut read).await? else { return Ok(()) };
        let (status, answer) = answers.answer(request).await;
        let answer = answer.to_string();
        let head = format!(
            "HTTP/1.1 {status} X\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
            answer.len()
        );
        stream.write_all(format!("{head}{answer}").as_bytes()).await?;
    }
}

/// The next request; nothing when the connection ends.
async fn request(stream: &mut TcpStream, read: &mut Vec<u8>) -> Outcome<Option<Request>> {
    let mut chunk = vec![0; CHUNK_BYTES];
    loop {
        if let Some(end) = read.windows(4).position(|part| part == b"\r\n\r\n") {
            let head = String::from_utf8_lossy(&read[..end]).into_owned();
            let length = head.lines().find_map(|line| {
                let (name, value) = line.split_once(':')?;
                name.eq_ignore_ascii_case("content-length").then(|| value.trim().to_owned())
            });
            let length: usize = length.as_deref().unwrap_or("0").parse()?;
            if read.len() >= end + 4 + length {
                let body = match &read[end + 4..end + 4 + length] {
                    [] => Value::Null,
                    body => serde_json::from_slice(body)?,
                };
                read.drain(..end + 4 + length);
                let mut words = head.split_whitespace().map(str::to_owned);
                let (method, path) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
                return Ok(Some(Request { method, path, body }));
            }
        }
        match stream.read(&mut chunk).await? {
            0 => return Ok(None),
            got => read.extend_from_slice(&chunk[..got]),
        }
    }
}
