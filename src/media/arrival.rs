//! A file of another server on its way here: whoever asks for it meanwhile reads what has come so far.
//!
//! There is one fetch; it writes to the folder `incoming`, and all readers follow it there. When it fails, every body
//! ends with an error, so that nobody takes a part for the whole.

use std::{
    collections::HashMap,
    fs::File,
    os::unix::fs::FileExt,
    sync::{Arc, Weak},
};

use bytes::Bytes;
use futures_util::{StreamExt, stream};
use parking_lot::Mutex;
use tokio::sync::watch;

use super::{Body, Loss, MediaError, Offered, keep::Address};
use crate::limits::{MEDIA_BUFFER_BYTES, MEDIA_HEAD_BYTES};

/// What has come of a file.
#[derive(Clone, Debug, Default)]
struct State {
    /// What the other server says about it, and where it is written.
    begun: Option<(Arc<Offered>, Arc<File>)>,
    /// Bytes that can be read.
    bytes: u64,
    /// How it ended.
    end: Option<Result<(), Loss>>,
}

/// One fetch, to whoever does it and to whoever reads along.
#[derive(Debug, Default)]
pub(super) struct Arrival(watch::Sender<State>);

/// A file that has begun to come.
pub(super) struct Begun {
    pub(super) offered: Arc<Offered>,
    /// The first [`MEDIA_HEAD_BYTES`] bytes, or as many as there are.
    pub(super) head: Bytes,
    /// All of it, as it comes.
    pub(super) body: Body,
}

impl Arrival {
    /// Whoever fetches writes to `file`.
    pub(super) fn begin(&self, offered: Offered, file: File) {
        self.0.send_modify(|state| state.begun = Some((Arc::new(offered), Arc::new(file))));
    }

    /// So many bytes can be read.
    pub(super) fn wrote(&self, bytes: u64) {
        self.0.send_modify(|state| state.bytes = bytes);
    }

    /// It is over.
    pub(super) fn end(&self, end: Result<(), Loss>) {
        self.0.send_modify(|state| {
            state.end.get_or_insert(end);
        });
    }

    /// Nobody may read it any more, not even what has come already.
    pub(super) fn cut(&self) {
        self.0.send_modify(|state| state.end = Some(Err(Loss::NotFound)));
    }

    fn is_over(&self) -> bool {
        self.0.borrow().end.is_some()
    }

    /// Waits until enough has come to tell what it is. Never returns for one that fails before.
    pub(super) async fn begun(self: Arc<Self>) -> Result<Begun, MediaError> {
        let mut states = self.0.subscribe();
        let enough = |state: &State| match state.end {
            None => state.begun.is_some() && state.bytes >= MEDIA_HEAD_BYTES as u64,
            Some(Ok(())) => true,
            Some(Err(_)) => false,
        };
        let state = states.wait_for(enough).await.ok().map(|state| state.clone());
        let Some(State { begun: Some((offered, file)), bytes, .. }) = state else {
            return std::future::pending().await;
        };
        let head = read(&file, 0, bytes.min(MEDIA_HEAD_BYTES as u64)).await?;
        let follower = Follower { _arrival: self, states, file, at: 0 };
        let body = stream::try_unfold(follower, |mut follower| async move {
            Ok(follower.next().await?.map(|piece| (piece, follower)))
        });
        Ok(Begun { offered, head, body: body.boxed() })
    }
}

/// One who reads along.
struct Follower {
    _arrival: Arc<Arrival>,
    states: watch::Receiver<State>,
    file: Arc<File>,
    at: u64,
}

impl Follower {
    async fn next(&mut self) -> Result<Option<Bytes>, MediaError> {
        loop {
            let (bytes, end) = {
                let state = self.states.borrow_and_update();
                (state.bytes, state.end.clone())
            };
            if let Some(Err(loss)) = end {
                return Err(loss.into());
            }
            if self.at < bytes {
                let piece = read(&self.file, self.at, bytes - self.at).await?;
                self.at += piece.len() as u64;
                return Ok(Some(piece));
            }
            if end.is_some() {
                return Ok(None);
            }
            self.states.changed().await.map_err(MediaError::storage)?;
        }
    }
}

/// At most `length` bytes of `file`, which has them; no more than one buffer.
async fn read(file: &Arc<File>, at: u64, length: u64) -> Result<Bytes, MediaError> {
    let length = usize::try_from(length).unwrap_or(usize::MAX).min(MEDIA_BUFFER_BYTES);
    let file = file.clone();
    let reading = tokio::task::spawn_blocking(move || {
        let mut piece = vec![0; length];
        file.read_exact_at(&mut piece, at).map(|()| Bytes::from(piece))
    });
    Ok(reading.await.map_err(MediaError::storage)??)
}

/// The fetches that are under way, or are just going to be.
#[derive(Debug, Default)]
pub(super) struct Arrivals(Mutex<HashMap<Address, Weak<Arrival>>>);

impl Arrivals {
    /// The fetch from `address` that is not over, or a new one.
    pub(super) fn at(&self, address: &Address) -> Arc<Arrival> {
        let mut known = self.0.lock();
        known.retain(|_, arrival| arrival.strong_count() > 0);
        let running = known.get(address).and_then(Weak::upgrade).filter(|arrival| !arrival.is_over());
        running.unwrap_or_else(|| {
            let arrival = Arc::<Arrival>::default();
            known.insert(address.clone(), Arc::downgrade(&arrival));
            arrival
        })
    }

    /// Whether something of what is fetched from `address` has come.
    pub(super) fn have_begun(&self, address: &Address) -> bool {
        let known = self.0.lock().get(address).and_then(Weak::upgrade);
        known.is_some_and(|arrival| arrival.0.borrow().begun.is_some())
    }

    /// Ends what somebody still reads along from `address`.
    pub(super) fn cut(&self, address: &Address) {
        let known = self.0.lock().get(address).and_then(Weak::upgrade);
        if let Some(arrival) = known {
            arrival.cut();
        }
    }
}

/// Ends an arrival when the fetch ends in whatever way.
pub(super) struct Ending(pub(super) Arc<Arrival>);

impl Drop for Ending {
    fn drop(&mut self) {
        self.0.end(Err(Loss::Trouble(String::from("the fetch was broken off"))));
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use futures_util::{FutureExt, TryStreamExt};
    use ruma::owned_server_name;

    use super::*;

    #[tokio::test]
    async fn a_reader_is_ahead_of_nothing_and_is_told_of_the_end() {
        let arrivals = Arrivals::default();
        let address = (owned_server_name!("a.test"), String::from("id"));
        let arrival = arrivals.at(&address);
        assert!(Arc::ptr_eq(&arrival, &arrivals.at(&address)), "two share one");
        assert!(arrival.clone().begun().now_or_never().is_none());
        let mut file = tempfile::NamedTempFile::new().unwrap();
        arrival.begin(Offered::default(), file.reopen().unwrap());
        file.write_all(&[7; MEDIA_HEAD_BYTES]).unwrap();
        arrival.wrote(MEDIA_HEAD_BYTES as u64);
        let [mut one, two] = [arrival.clone().begun().await.unwrap(), arrival.clone().begun().await.unwrap()];
        assert_eq!((one.head.len(), two.head[0]), (MEDIA_HEAD_BYTES, 7));
        assert_eq!(one.body.try_next().await.unwrap().unwrap().len(), MEDIA_HEAD_BYTES);
        assert!(one.body.try_next().now_or_never().is_none(), "the rest has not come");
        file.write_all(&[8; 9]).unwrap();
        arrival.wrote(MEDIA_HEAD_BYTES as u64 + 9);
        assert_eq!(one.body.try_next().await.unwrap().unwrap(), [8; 9][..]);
        arrival.end(Ok(()));
        assert_eq!(one.body.try_next().await.unwrap(), None);
        let all: Vec<Bytes> = two.body.try_collect().await.unwrap();
        assert_eq!(all.concat().len(), MEDIA_HEAD_BYTES + 9);
        assert!(!Arc::ptr_eq(&arrival, &arrivals.at(&address)), "what is over is not joined");

        let lost = arrivals.at(&address);
        lost.begin(Offered::default(), file.reopen().unwrap());
        lost.wrote(MEDIA_HEAD_BYTES as u64 + 9);
        let begun = lost.clone().begun().await.unwrap();
        drop(Ending(lost));
        assert!(begun.body.try_collect::<Vec<_>>().await.is_err(), "a part is not taken for the whole");

        let shut = arrivals.at(&address);
        shut.begin(Offered::default(), file.reopen().unwrap());
        shut.wrote(MEDIA_HEAD_BYTES as u64 + 9);
        let mut begun = shut.clone().begun().await.unwrap();
        shut.end(Ok(()));
        arrivals.cut(&address);
        assert!(matches!(begun.body.try_next().await, Err(MediaError::NotFound)), "though all has come");
    }
}
