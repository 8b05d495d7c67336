//! From accepted connection to answered request.

use std::{convert::Infallible, sync::Arc, time::Duration};

use axum::body::Body;
use hyper::{
    Request, Response,
    body::Incoming,
    server::conn::http1,
    service::{Service, service_fn},
};
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    server::conn::auto::Builder,
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    sync::{OwnedSemaphorePermit, Semaphore},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::listener::{Listener, Stream};
use crate::{
    http::{Front, Source},
    limits::{ACCEPT_PAUSE, HANDSHAKE_SECONDS_MAX, HEAD_BYTES_MAX, HEAD_SECONDS_MAX, STREAMS_MAX},
};

/// How often an HTTP/2 peer is asked whether it is still there, and how long it may take to say so.
const PING_EVERY: Duration = Duration::from_secs(60);
const PONG_WITHIN: Duration = Duration::from_secs(20);

/// What every listener and connection shares.
#[derive(Clone)]
pub(super) struct Serving {
    pub(super) front: Front,
    /// One permit for each open connection.
    pub(super) room: Arc<Semaphore>,
    pub(super) accepting: CancellationToken,
    pub(super) cutting: CancellationToken,
    pub(super) connections: TaskTracker,
}

impl Serving {
    /// Accepts connections until the server stops.
    pub(super) async fn listen(self, listener: Arc<Listener>) {
        loop {
            // Beyond the limit, connections wait in the operating system's queue.
            let accepted = async {
                let permit = self.room.clone().acquire_owned().await.ok()?;
                Some((permit, listener.accept().await))
            };
            let (permit, stream) = tokio::select! {
                () = self.accepting.cancelled() => return,
                accepted = accepted => match accepted {
                    Some(accepted) => accepted,
                    None => return,
                },
            };
            match stream {
                Ok(stream) => {
                    let tls = listener.tls.clone();
                    self.connections.spawn(self.clone().connect(stream, tls, permit));
                }
                Err(error) => {
                    tracing::warn!(%error, "cannot accept a connection");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    async fn connect(
        self,
        stream: Stream,
        tls: Option<tokio_rustls::TlsAcceptor>,
        _permit: OwnedSemaphorePermit,
    ) {
        let cutting = self.cutting.clone();
        let serve = async {
            match (stream, tls) {
                (Stream::Tcp(stream, ip), None) => {
                    let is_http1 = tokio::select! {
                        () = self.accepting.cancelled() => return,
                        is_http1 = speaks_http1(&stream) => is_http1,
                    };
                    self.serve(stream, Source::Tcp(ip), is_http1).await;
                }
                // The rest in boxes: few connections are of these kinds, and all have room for the largest.
                (Stream::Unix(stream), None) => Box::pin(self.serve(stream, Source::Unix, false)).await,
                (Stream::Tcp(stream, ip), Some(tls)) => {
                    Box::pin(self.shake(tls, stream, Source::Tcp(ip))).await;
                }
                (Stream::Unix(stream), Some(tls)) => Box::pin(self.shake(tls, stream, Source::Unix)).await,
            }
        };
        tokio::select! {
            () = serve => {}
            () = cutting.cancelled() => {}
        }
    }

    async fn shake<S>(&self, tls: tokio_rustls::TlsAcceptor, stream: S, source: Source)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let shaken = tokio::select! {
            () = self.accepting.cancelled() => return,
            shaken = tokio::time::timeout(HANDSHAKE_SECONDS_MAX, tls.accept(stream)) => shaken,
        };
        match shaken {
            Ok(Ok(stream)) => {
                let is_http1 = stream.get_ref().1.alpn_protocol() == Some(b"http/1.1");
                self.serve(stream, source, is_http1).await;
            }
            Ok(Err(error)) => tracing::debug!(%error, "a TLS handshake failed"),
            Err(_) => tracing::debug!("a TLS handshake took too long"),
        }
    }

    /// Serves HTTP/1.1 if that is known to be spoken, and finds out otherwise.
    async fn serve<S>(&self, stream: S, source: Source, is_http1: bool)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let front = self.front.clone();
        let service = service_fn(move |request: Request<Incoming>| {
            let front = front.clone();
            async move { Ok::<_, Infallible>(front.answer(request.map(Body::new), source).await) }
        });
        let io = TokioIo::new(stream);
        let ended = match is_http1 {
            true => {
                let mut connection = std::pin::pin!(http1_only().serve_connection(io, service));
                let ended = tokio::select! {
                    ended = connection.as_mut() => ended,
                    () = self.accepting.cancelled() => {
                        connection.as_mut().graceful_shutdown();
                        connection.await
                    }
                };
                ended.map_err(Into::into)
            }
            // In a box: a connection that may be either has room for both.
            false => Box::pin(self.serve_any(io, service)).await,
        };
        if let Err(error) = ended {
            tracing::debug!(%error, "a connection ended badly");
        }
    }

    async fn serve_any<S, A>(&self, io: TokioIo<S>, service: A) -> Result<(), Ended>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
        A: Service<Request<Incoming>, Response = Response<Body>, Error = Infallible> + Send + 'static,
        A::Future: Send + 'static,
    {
        let builder = either(self.connections.clone());
        let mut connection = std::pin::pin!(builder.serve_connection(io, service));
        tokio::select! {
            ended = connection.as_mut() => ended,
            () = self.accepting.cancelled() => {
                connection.as_mut().graceful_shutdown();
                connection.await
            }
        }
    }
}

/// Why a connection ended.
type Ended = Box<dyn std::error::Error + Send + Sync>;

/// Whether a client begins with something else than HTTP/2, seen without taking it. When hyper looks for
/// itself, the connection keeps a read buffer of twice the size for all its life.
async fn speaks_http1(stream: &TcpStream) -> bool {
    let mut start = [0; 3];
    match tokio::time::timeout(HEAD_SECONDS_MAX, stream.peek(&mut start)).await {
        Ok(Ok(length)) => !b"PRI".starts_with(&start[..length]),
        Ok(Err(_)) | Err(_) => false,
    }
}

/// Spawns what hyper wants spawned where it is waited for.
#[derive(Clone)]
struct Tracked(TaskTracker);

impl<F> hyper::rt::Executor<F> for Tracked
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    fn execute(&self, future: F) {
        self.0.spawn(future);
    }
}

/// The longest head of a request.
fn head_bytes() -> usize {
    usize::try_from(HEAD_BYTES_MAX).unwrap_or(usize::MAX)
}

/// HTTP/1.1 alone: such a connection takes half the memory of one that may be either.
fn http1_only() -> http1::Builder {
    let mut builder = http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(HEAD_SECONDS_MAX).max_buf_size(head_bytes());
    builder
}

fn either(tasks: TaskTracker) -> Builder<Tracked> {
    let mut builder = Builder::new(Tracked(tasks));
    builder.http1().timer(TokioTimer::new()).header_read_timeout(HEAD_SECONDS_MAX).max_buf_size(head_bytes());
    builder
        .http2()
        .timer(TokioTimer::new())
        .keep_alive_interval(PING_EVERY)
        .keep_alive_timeout(PONG_WITHIN)
        .max_concurrent_streams(STREAMS_MAX)
        .max_header_list_size(HEAD_BYTES_MAX);
    builder
}
