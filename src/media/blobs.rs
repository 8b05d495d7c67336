//! Where the bytes are: a folder, or an object store.
//!
//! Every file has a name of its own, never used again: the hash of its bytes and something random. So what is
//! deleted cannot be what somebody else has just written.

use std::{
    collections::BTreeMap,
    fs, io,
    ops::Range,
    path::{Path as FilePath, PathBuf},
    pin::Pin,
    sync::Arc,
};

use futures_util::{Stream, StreamExt, TryStreamExt};
use object_store::{
    GetOptions, GetRange, GetResultPayload, ObjectStore, ObjectStoreExt, buffered::BufWriter,
    local::LocalFileSystem, path::Path,
};
use tokio::io::{AsyncReadExt, AsyncSeekExt, AsyncWriteExt};
use tokio_util::io::ReaderStream;

use super::{Hash, MediaError, Offered, arrival::Arrival, object, staged::Staged};
use crate::{
    limits::MEDIA_BUFFER_BYTES,
    types::{Rng, random_string},
};

/// The bytes of a file, piece by piece.
pub type Body = Pin<Box<dyn Stream<Item = Result<bytes::Bytes, MediaError>> + Send>>;

/// Where the bytes are to be kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// A folder of this process alone: files on their way in are there, and all of them if there is no `url`.
    pub folder: PathBuf,
    /// An object store, such as `s3://bucket/prefix`.
    pub url: Option<String>,
    /// What the object store wants to be told: keys, region, endpoint.
    pub options: BTreeMap<String, String>,
}

impl Place {
    /// Whether it can be opened; a store is not asked for anything.
    ///
    /// # Errors
    /// When it is written wrongly, or this program was built without such stores.
    pub fn check(&self) -> Result<(), MediaError> {
        Blobs::open(self).map(drop)
    }

    /// Whether the files of one lie below those of the other, as far as both are written alike. Two names of the same
    /// place are not nested: who writes to one of them sees it in the other.
    ///
    /// # Errors
    /// When one is written wrongly.
    pub(super) fn is_nested(&self, other: &Self) -> Result<bool, MediaError> {
        match (&self.url, &other.url) {
            (Some(one), Some(two)) => Ok(self.account() == other.account() && object::is_nested(one, two)?),
            (None, None) => {
                let (one, two) = (std::path::absolute(&self.folder)?, std::path::absolute(&other.folder)?);
                let in_files = |inner: &FilePath, outer: &FilePath| inner.starts_with(outer.join("files"));
                Ok(in_files(&one, &two) || in_files(&two, &one))
            }
            _ => Ok(false),
        }
    }

    /// Where a bucket of that name is: other providers may have one too.
    fn account(&self) -> Vec<(String, &String)> {
        let lower = self.options.iter().map(|(key, value)| (key.to_ascii_lowercase(), value));
        lower.filter(|(key, _)| key.contains("endpoint") || key.contains("account_name")).collect()
    }

    /// The folder with the files, unless they are in an object store.
    pub(super) fn files(&self) -> PathBuf {
        self.folder.join("files")
    }
}

/// What the bytes of a name are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sort {
    /// A file as it came.
    Whole,
    /// A thumbnail of the file with that hash.
    Thumbnail,
}

impl Sort {
    fn letter(self) -> char {
        match self {
            Self::Whole => 'f',
            Self::Thumbnail => 't',
        }
    }
}

/// Reads, writes and removes bytes by name.
#[derive(Debug)]
pub(super) struct Blobs {
    store: Arc<dyn ObjectStore>,
    prefix: Path,
    incoming: PathBuf,
    /// The folder with the files, if they are in one.
    files: Option<PathBuf>,
}

/// Random characters in a name.
const NAME_CHARACTERS: usize = 16;

impl Blobs {
    /// Opens `place`; folders are made when something is written.
    pub(super) fn open(place: &Place) -> Result<Self, MediaError> {
        let incoming = place.folder.join("incoming");
        let Some(url) = &place.url else {
            let files = place.files();
            let store = Arc::new(LocalFileSystem::new().with_fsync(true));
            return Ok(Self { store, prefix: Path::default(), incoming, files: Some(files) });
        };
        let (store, prefix) = object::open(url, &place.options)?;
        Ok(Self { store, prefix, incoming, files: None })
    }

    /// Takes `body` in, at most `bytes_max` bytes of it.
    pub(super) async fn receive(
        &self,
        body: Body,
        bytes_max: u64,
        rng: &dyn Rng,
    ) -> Result<Staged, MediaError> {
        Staged::receive(self.new_path(rng).await?, body, bytes_max, None).await
    }

    /// The same for a file that others read `along`.
    pub(super) async fn receive_along(
        &self,
        body: Body,
        bytes_max: u64,
        rng: &dyn Rng,
        along: Option<(&Arrival, Offered)>,
    ) -> Result<Staged, MediaError> {
        Staged::receive(self.new_path(rng).await?, body, bytes_max, along).await
    }

    /// A path for a file that is not wanted after a crash.
    pub(super) async fn new_path(&self, rng: &dyn Rng) -> Result<PathBuf, MediaError> {
        tokio::fs::create_dir_all(&self.incoming).await?;
        Ok(self.incoming.join(format!("new-{}", random_string(rng, NAME_CHARACTERS))))
    }

    /// A name for bytes that belong to the file with `hash`.
    pub(super) fn new_name(sort: Sort, hash: Hash, rng: &dyn Rng) -> String {
        format!("{}{hash}-{}", sort.letter(), random_string(rng, NAME_CHARACTERS))
    }

    /// What a name says.
    pub(super) fn parse_name(name: &str) -> Option<(Sort, Hash)> {
        let (hash, _) = name.get(1..)?.split_once('-')?;
        let sort = match name.chars().next()? {
            'f' => Sort::Whole,
            't' => Sort::Thumbnail,
            _ => return None,
        };
        Some((sort, Hash::parse(hash)?))
    }

    /// Puts a copy of `staged` where it stays, under `name`, durably. Until `staged` is dropped, its path tells what to
    /// remove if nobody ever hears of it.
    pub(super) async fn put(&self, staged: &mut Staged, name: &str) -> Result<(), MediaError> {
        staged.rename(name).await?;
        if let Some(files) = &self.files {
            let (from, to) = (staged.path().to_owned(), within(files, name));
            return blocking(move || link(&from, &to)).await;
        }
        let mut from = tokio::fs::File::open(staged.path()).await?;
        let mut to = BufWriter::new(self.store.clone(), self.path(name));
        if let Err(error) = tokio::io::copy(&mut from, &mut to).await {
            drop(to.abort().await);
            return Err(error.into());
        }
        Ok(to.shutdown().await?)
    }

    /// The bytes of `name`, or a part of them.
    pub(super) async fn read(&self, name: &str, range: Range<u64>) -> Result<Body, MediaError> {
        if range.is_empty() {
            return Ok(futures_util::stream::empty().boxed());
        }
        if let Some(files) = &self.files {
            let mut file = tokio::fs::File::open(within(files, name)).await?;
            let Range { start, end } = range;
            if start > 0 {
                file.seek(io::SeekFrom::Start(start)).await?;
            }
            let pieces = ReaderStream::with_capacity(file.take(end - start), MEDIA_BUFFER_BYTES);
            return Ok(pieces.map_err(MediaError::from).boxed());
        }
        let options = GetOptions { range: Some(GetRange::Bounded(range)), ..GetOptions::default() };
        let got = self.store.get_opts(&self.path(name), options).await?;
        Ok(match got.payload {
            GetResultPayload::Stream(pieces) => pieces.map_err(MediaError::from).boxed(),
            GetResultPayload::File(..) => got.into_stream().map_err(MediaError::from).boxed(),
        })
    }

    /// A file of the operating system with the bytes of `name`, which `body` reads and checks; and what to hold while
    /// it is used.
    pub(super) async fn as_file(
        &self,
        name: &str,
        mut body: Body,
        rng: &dyn Rng,
    ) -> Result<(PathBuf, Option<Staged>), MediaError> {
        match &self.files {
            Some(files) => {
                while body.try_next().await?.is_some() {}
                Ok((within(files, name), None))
            }
            None => {
                let staged = self.receive(body, u64::MAX, rng).await?;
                Ok((staged.path().to_owned(), Some(staged)))
            }
        }
    }

    /// Removes the bytes of `name`; if there are none, that is fine.
    pub(super) async fn remove(&self, name: &str) -> Result<(), MediaError> {
        let removed = match &self.files {
            Some(files) => tokio::fs::remove_file(within(files, name)).await.map_err(MediaError::from),
            None => self.store.delete(&self.path(name)).await.map_err(MediaError::from),
        };
        match removed {
            Err(MediaError::Storage(error)) if is_absent(&*error) => Ok(()),
            other => other,
        }
    }

    /// The names that there are, with the sizes of what they name.
    pub(super) async fn list(&self) -> Result<BTreeMap<String, u64>, MediaError> {
        if let Some(files) = self.files.clone() {
            return blocking(move || list(&files)).await;
        }
        let mut objects = self.store.list(Some(&self.prefix));
        let mut found = BTreeMap::new();
        while let Some(object) = objects.try_next().await? {
            let Some(name) = object.location.filename().filter(|name| Self::parse_name(name).is_some())
            else {
                continue;
            };
            // Another place may lie within this one; its files are not ours.
            if object.location == self.path(name) {
                found.insert(String::from(name), object.size);
            }
        }
        Ok(found)
    }

    /// Whether files are in a folder of this machine.
    pub(super) fn is_folder(&self) -> bool {
        self.files.is_some()
    }

    /// What a crash has left in the folder `incoming`: paths and names.
    pub(super) async fn left_over(&self) -> Result<Vec<(PathBuf, String)>, MediaError> {
        let incoming = self.incoming.clone();
        blocking(move || {
            let entries = match fs::read_dir(&incoming) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
                entries => entries?,
            };
            let mut found = Vec::new();
            for entry in entries {
                let entry = entry?;
                found.push((entry.path(), entry.file_name().to_string_lossy().into_owned()));
            }
            Ok(found)
        })
        .await
    }

    fn path(&self, name: &str) -> Path {
        self.prefix.clone().join(shelf(name)).join(name)
    }
}

/// Files of one folder share two digits of their hashes, so that none has millions.
fn shelf(name: &str) -> &str {
    name.get(1..3).unwrap_or("00")
}

fn within(files: &FilePath, name: &str) -> PathBuf {
    files.join(shelf(name)).join(name)
}

/// What has a name of ours below `files`.
fn list(files: &FilePath) -> io::Result<BTreeMap<String, u64>> {
    let shelves = match fs::read_dir(files) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(BTreeMap::new()),
        shelves => shelves?,
    };
    let mut found = BTreeMap::new();
    for shelf in shelves {
        let shelf = shelf?;
        if !shelf.file_type()?.is_dir() {
            continue;
        }
        for file in fs::read_dir(shelf.path())? {
            let file = file?;
            let name = file.file_name().to_string_lossy().into_owned();
            if Blobs::parse_name(&name).is_some() {
                found.insert(name, file.metadata()?.len());
            }
        }
    }
    Ok(found)
}

pub(super) fn is_absent(error: &(dyn std::error::Error + Send + Sync + 'static)) -> bool {
    let io = error.downcast_ref::<io::Error>();
    let object = error.downcast_ref::<object_store::Error>();
    io.is_some_and(|error| error.kind() == io::ErrorKind::NotFound)
        || object.is_some_and(|error| matches!(error, object_store::Error::NotFound { .. }))
}

/// Gives a file, whose bytes are durable, a second path, durably.
fn link(from: &FilePath, to: &FilePath) -> io::Result<()> {
    let shelf = to.parent().unwrap_or(to);
    if !shelf.exists() {
        fs::create_dir_all(shelf)?;
        for folder in shelf.ancestors().skip(1).take(2) {
            fs::File::open(folder)?.sync_all()?;
        }
    }
    match fs::hard_link(from, to) {
        Ok(()) => {}
        // Some file systems have no second paths.
        Err(_) => {
            fs::copy(from, to)?;
            fs::File::open(to)?.sync_all()?;
        }
    }
    fs::File::open(shelf)?.sync_all()
}

/// Runs what blocks where that is fine.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> Result<T, MediaError> {
    Ok(tokio::task::spawn_blocking(work).await.map_err(MediaError::storage)??)
}

#[cfg(test)]
mod tests {
    use object_store::memory::InMemory;

    use super::*;
    use crate::types::SeededRng;

    #[tokio::test]
    async fn files_of_a_place_within_another_are_not_listed() {
        let store: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
        let open = |prefix: &str| Blobs {
            store: store.clone(),
            prefix: Path::from(prefix),
            incoming: PathBuf::new(),
            files: None,
        };
        let (outer, inner) = (open(""), open("old"));
        let rng = SeededRng::new(7);
        let [mine, theirs] = [1, 2].map(|byte| Blobs::new_name(Sort::Whole, Hash([byte; 32]), &rng));
        store.put(&outer.path(&mine), "mine".into()).await.unwrap();
        store.put(&inner.path(&theirs), "theirs".into()).await.unwrap();
        assert!(outer.list().await.unwrap().into_keys().eq([mine]));
        assert!(inner.list().await.unwrap().into_keys().eq([theirs]));
    }

    #[track_caller]
    fn check(one: &str, two: &str, is_nested: bool) {
        let place = |text: &str| {
            let (url, endpoint) = text.split_once(' ').unwrap_or((text, ""));
            let is_folder = url.starts_with('/');
            Place {
                folder: PathBuf::from(if is_folder { url } else { "/var/media" }),
                url: (!is_folder).then(|| String::from(url)),
                options: BTreeMap::from([(String::from("AWS_ENDPOINT"), String::from(endpoint))]),
            }
        };
        assert_eq!(place(one).is_nested(&place(two)).unwrap(), is_nested, "{one} {two}");
        assert_eq!(place(two).is_nested(&place(one)).unwrap(), is_nested, "{two} {one}");
    }

    #[test]
    fn a_place_within_another_is_told() {
        check("s3://bucket/old", "s3://bucket", true);
        check("s3://bucket/a/b/", "s3://bucket/a", true);
        check("s3://bucket/ab", "s3://bucket/a", false);
        check("s3://bucket/a", "s3://bucket/a/", false);
        check("s3://bucket/old", "s3://other", false);
        check("s3://bucket/old https://a.test", "s3://bucket https://b.test", false);
        check("gs://bucket/old", "s3://bucket", false);
        check("s3://bucket/old", "/var/media", false);
        check("/var/media", "/var/media/files/new", true);
        check("/var/media", "/var/media/new", false);
    }
}
