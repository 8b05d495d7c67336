//! From accepted connection to answered request.

use std::{convert::Infallible, sync::Arc, time::Duration};

use axum::body::Body;
use hyper::service::service_fn;
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    server::conn::auto::Builder,
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
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
    pub(super) async fn listen(self, listener: Listener) {
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
                (Stream::Tcp(stream, ip), None) => self.serve(stream, Source::Tcp(ip)).await,
                (Stream::Unix(stream), None) => self.serve(stream, Source::Unix).await,
                (Stream::Tcp(stream, ip), Some(tls)) => self.shake(tls, stream, Source::Tcp(ip)).await,
                (Stream::Unix(stream), Some(tls)) => self.shake(tls, stream, Source::Unix).await,
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
            Ok(Ok(stream)) => self.serve(stream, source).await,
            Ok(Err(error)) => tracing::debug!(%error, "a TLS handshake failed"),
            Err(_) => tracing::debug!("a TLS handshake took too long"),
        }
    }

    async fn serve<S>(&self, stream: S, source: Source)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let front = self.front.clone();
        let service = service_fn(move |request: hyper::Request<hyper::body::Incoming>| {
            let front = front.clone();
            async move { Ok::<_, Infallible>(front.answer(request.map(Body::new), source).await) }
        });
        let builder = protocol(self.connections.clone());
        let mut connection = std::pin::pin!(builder.serve_connection(TokioIo::new(stream), service));
        let ended = tokio::select! {
            ended = connection.as_mut() => ended,
            () = self.accepting.cancelled() => {
                connection.as_mut().graceful_shutdown();
                connection.await
            }
        };
        if let Err(error) = ended {
            tracing::debug!(%error, "a connection ended badly");
        }
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

fn protocol(tasks: TaskTracker) -> Builder<Tracked> {
    let mut builder = Builder::new(Tracked(tasks));
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_SECONDS_MAX)
        .max_buf_size(usize::try_from(HEAD_BYTES_MAX).unwrap_or(usize::MAX));
    builder
        .http2()
        .timer(TokioTimer::new())
        .keep_alive_interval(PING_EVERY)
        .keep_alive_timeout(PONG_WITHIN)
        .max_concurrent_streams(STREAMS_MAX)
        .max_header_list_size(HEAD_BYTES_MAX);
    builder
}
