//! What HTTP/2 lets a client do that HTTP/1.1 does not: open streams and take them back, and heads without end. Frames
//! are written by hand, because no library writes such.
//!
//! <https://www.rfc-editor.org/rfc/rfc9113#section-10.5>

use std::time::Duration;

use reqwest::Method;
use spec_tests::{
    Outcome,
    matrix::Client,
    measure,
    server::{Kind, Server},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpStream, tcp::OwnedWriteHalf},
    sync::mpsc,
    task::JoinSet,
    time::{Instant, timeout},
};

/// How much more memory the server may have afterwards than before, in bytes.
const GROWTH_MAX: u64 = 32 << 20;
/// How long anybody else may have to wait for an answer that costs nothing.
const OTHERS_WAIT_MAX: Duration = Duration::from_secs(2);
/// How long anything may take here.
const DEADLINE: Duration = Duration::from_secs(60);

const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const CONTINUATION: u8 = 9;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

/// What a connection has to say: the kinds of the frames that somebody waits for; it closes when the server does.
struct Connection {
    writer: OwnedWriteHalf,
    said: mpsc::Receiver<u8>,
    /// Reads what the server sends, and ends with the connection.
    _reading: JoinSet<()>,
    next: u32,
}

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap_or(u32::MAX).to_be_bytes();
    let mut frame = vec![length[1], length[2], length[3], kind, flags];
    frame.extend(stream.to_be_bytes());
    frame.extend(payload);
    frame
}

/// A field of a head, written out (RFC 7541, 6.2.2).
fn field(name: &str, value: &str) -> Vec<u8> {
    let length = |text: &str| u8::try_from(text.len()).ok().filter(|length| *length < 127);
    let length = |text: &str| length(text).unwrap_or_else(|| panic!("{text} is too long for this test"));
    [&[0, length(name)], name.as_bytes(), &[length(value)], value.as_bytes()].concat()
}

impl Connection {
    async fn open(server: &Server) -> Outcome<Self> {
        let address = server.url().replace("http://", "");
        let (mut reader, mut writer) = TcpStream::connect(address).await?.into_split();
        writer.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await?;
        writer.write_all(&frame(SETTINGS, 0, 0, &[])).await?;
        let (tell, said) = mpsc::channel(100);
        let mut reading = JoinSet::new();
        reading.spawn(async move {
            let mut head = [0; 9];
            while reader.read_exact(&mut head).await.is_ok() {
                let length = usize::from(head[0]) << 16 | usize::from(head[1]) << 8 | usize::from(head[2]);
                let mut payload = vec![0; length];
                let is_read = reader.read_exact(&mut payload).await.is_ok();
                if !is_read || (matches!(head[3], PING | GOAWAY) && tell.send(head[3]).await.is_err()) {
                    break;
                }
            }
        });
        Ok(Self { writer, said, _reading: reading, next: 1 })
    }

    /// The frame of a request, and the stream that it opens.
    fn request(&mut self, path: &str, token: &str) -> (u32, Vec<u8>) {
        let stream = self.next;
        self.next += 2;
        let fields = [(":method", "GET"), (":scheme", "http"), (":path", path), (":authority", "localhost")];
        let mut head = fields.map(|(name, value)| field(name, value)).concat();
        head.extend(field("authorization", &format!("Bearer {token}")));
        (stream, frame(HEADERS, END_STREAM | END_HEADERS, stream, &head))
    }

    /// Waits until the server has read everything; an error when it has ended the connection.
    async fn caught_up(&mut self) -> Outcome<()> {
        self.writer.write_all(&frame(PING, 0, 0, &[7; 8])).await?;
        match timeout(DEADLINE, self.said.recv()).await? {
            Some(PING) => Ok(()),
            other => Err(format!("the connection ends: {other:?}").into()),
        }
    }

    /// Waits until the server ends it.
    async fn ended(&mut self) -> Outcome<()> {
        let over = async { while !matches!(self.said.recv().await, None | Some(GOAWAY)) {} };
        Ok(timeout(DEADLINE, over).await?)
    }
}

/// The longest that somebody else has to wait while `attack` goes on.
async fn meanwhile(client: &Client, attack: impl Future<Output = Outcome<()>>) -> Outcome<Duration> {
    let mut longest = Duration::ZERO;
    let asking = async {
        loop {
            let begun = Instant::now();
            let answer = client.ask(Method::GET, "/_matrix/client/v3/account/whoami", None).await?;
            assert_eq!(answer.status, 200, "{:?}", answer.json());
            longest = longest.max(begun.elapsed());
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let done: Outcome<()> = tokio::select! { done = attack => done, failed = asking => failed };
    done.map(|()| longest)
}

/// How many requests wait for something to happen.
async fn waiting(client: &Client) -> Outcome<usize> {
    let metrics = client.bytes(Method::GET, "/metrics", None).await?;
    let metrics = String::from_utf8_lossy(&metrics).into_owned();
    let line = metrics.lines().find_map(|line| line.strip_prefix("lockstep_long_polls "));
    Ok(line.ok_or("no such metric")?.trim().parse()?)
}

/// Streams that are opened and taken back in one breath.
async fn at_once(server: &Server, connections: usize) -> Outcome<()> {
    for _ in 0..connections {
        let mut connection = Connection::open(server).await?;
        let mut frames = Vec::new();
        for _ in 0..1_000 {
            let (stream, head) = connection.request("/_matrix/client/versions", "none");
            frames.extend(head);
            frames.extend(frame(RST_STREAM, 0, stream, &[0, 0, 0, 8]));
        }
        // It may be over before everything is written.
        drop(connection.writer.write_all(&frames).await);
        connection.ended().await?;
    }
    Ok(())
}

/// Streams that are taken back when the server is at work for them.
async fn at_work(server: &Server, rounds: usize, (path, client): (&str, &Client)) -> Outcome<()> {
    const AT_ONCE: usize = 100;
    let mut connection = Connection::open(server).await?;
    let mut most = 0;
    for _ in 0..rounds {
        let mut streams = Vec::new();
        for _ in 0..AT_ONCE {
            let (stream, head) = connection.request(path, &client.token);
            connection.writer.write_all(&head).await?;
            streams.push(stream);
        }
        connection.caught_up().await?;
        most = most.max(waiting(client).await?);
        for stream in streams {
            connection.writer.write_all(&frame(RST_STREAM, 0, stream, &[0, 0, 0, 8])).await?;
        }
    }
    connection.caught_up().await?;
    assert!(most > 0, "no request was at work");
    assert!(most <= 2 * AT_ONCE, "{most} requests were at work");
    // Nothing goes on for those that were taken back.
    let begun = Instant::now();
    while waiting(client).await? > 0 {
        assert!(begun.elapsed() < DEADLINE, "they still wait");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    Ok(())
}

/// Row 7.13 of the list of known vulnerabilities (CVE-2023-44487).
#[tokio::test]
async fn row_7_13_rapid_reset_neither_grows_memory_nor_stalls_others() -> Outcome<()> {
    let mut server = Server::start(Kind::lockstep()?).await?;
    let pid = server.pid().ok_or("it does not run")?;
    let alice = Client::anonymous(&server.url())?.register("alice").await?;
    let first = alice.sync("", 0).await?;
    let since = first["next_batch"].as_str().ok_or("no token")?.to_owned();
    let path = format!("/_matrix/client/v3/sync?timeout=50000&since={since}");
    // What is needed once for many clients is not what this is about.
    at_once(&server, 10).await?;
    at_work(&server, 5, (&path, &alice)).await?;
    let before = measure::resident(pid)?;
    let waited = meanwhile(&alice, at_once(&server, 100)).await?;
    assert!(waited < OTHERS_WAIT_MAX, "others wait for {waited:?} while streams are taken back at once");
    let waited = meanwhile(&alice, at_work(&server, 100, (&path, &alice))).await?;
    assert!(waited < OTHERS_WAIT_MAX, "others wait for {waited:?} while streams are taken back");
    let grown = measure::resident(pid)?.saturating_sub(before);
    assert!(grown < GROWTH_MAX, "it has {grown} bytes more than before");
    server.stop().await
}

/// Row 7.13 of the list of known vulnerabilities: a head that never ends, in frames that are none too long.
#[tokio::test]
async fn row_7_13_a_head_without_end_is_cut_off() -> Outcome<()> {
    let mut server = Server::start(Kind::lockstep()?).await?;
    let pid = server.pid().ok_or("it does not run")?;
    let before = measure::resident(pid)?;
    // One long field, and short ones.
    let long = [&[0, 1, b'x', 0x7F, 0x80, 0x80, 0x80, 0x40][..], &vec![b'a'; 16_000]].concat();
    let short = field("x", "y").repeat(3_000);
    for (first, more) in [(&long, vec![b'a'; 16_000]), (&short, short.clone()), (&short, Vec::new())] {
        let mut connection = Connection::open(&server).await?;
        connection.writer.write_all(&frame(HEADERS, END_STREAM, 1, first)).await?;
        let next = frame(CONTINUATION, 0, 1, &more).repeat(64);
        let flooding = async { while connection.writer.write_all(&next).await.is_ok() {} };
        timeout(DEADLINE, flooding).await?;
    }
    let grown = measure::resident(pid)?.saturating_sub(before);
    assert!(grown < GROWTH_MAX, "it has {grown} bytes more than before");
    server.stop().await
}
