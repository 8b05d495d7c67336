//! The way of all files from one place to another: `lockstep media copy`.
//!
//! A file is copied when the other place has nothing of its name and size, so a copy that was broken off goes on. Each
//! is checked on its way and read back. Nothing is removed where it was before everything is in the other place.

use std::collections::BTreeMap;

use futures_util::{StreamExt, TryStreamExt, stream};
use serde::{Serialize, de::DeserializeOwned};
use sha2::{Digest, Sha256};

use super::{
    Body, Hash, MediaError, Place,
    blobs::{Blobs, Sort, is_absent},
    rows::{CONTENTS, THUMBNAILS},
};
use crate::{
    limits::{MEDIA_COPIES_AT_ONCE, SCAN_ROWS_MAX},
    store::{Db, KeyFields, Scan, table::Rows},
    types::{Rng, random_string},
};

/// Which files are meant.
#[derive(Clone, Copy, Debug)]
pub enum Among<'a> {
    /// All of which the store of a server knows that does not run.
    Known(&'a Db),
    /// Those that are in the first place, whatever a running server does with them meanwhile.
    Found,
}

/// What is to happen beside copying. Neither is possible while the server runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Wish {
    /// In the end they are removed from the first place, if the other one has them all.
    pub remove: bool,
    /// Files of which the store does not know are removed from the other place.
    pub tidy: bool,
}

/// What a copy has come to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Copied {
    /// Files that were copied.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Files that the other place had before.
    pub before: u64,
    /// Names of those that cannot be had, and why.
    pub failed: Vec<(String, String)>,
    /// Files that were removed from the first place.
    pub removed: u64,
    /// Files in the other place of which the store does not know; they are gone if that was wished.
    pub strays: u64,
    /// The same in the first place. They are left there.
    pub left: u64,
}

/// Copies files `from` one place `to` another; `tell` hears how many of how many are done. Names are what they were, so
/// that the rows of the store need not change.
///
/// # Errors
/// When a place cannot be reached, both are the same, or one lies within the other: then nothing was removed, and the
/// next call goes on. What is wrong with a single file is told in [`Copied::failed`].
pub async fn copy(
    (from, to): (&Place, &Place),
    among: Among<'_>,
    wish: Wish,
    (rng, tell): (&dyn Rng, &dyn Fn(u64, u64)),
) -> Result<Copied, MediaError> {
    let runs = matches!(among, Among::Found);
    if from.is_nested(to)? {
        return Err(MediaError::Place(String::from("one place lies within the other")));
    }
    let work = Work { from: Blobs::open(from)?, to: Blobs::open(to)?, rng, proves: wish.remove, runs };
    work.tell_apart().await?;
    let here = work.from.list().await?;
    let wanted = match among {
        Among::Known(db) => known(db).await?,
        Among::Found => here.clone(),
    };
    let there = work.to.list().await?;
    let mut copied = work.all((&wanted, &there), tell).await?;
    if runs {
        return Ok(copied);
    }
    let strays: Vec<&String> = there.keys().filter(|name| !wanted.contains_key(*name)).collect();
    copied.strays = strays.len() as u64;
    if wish.tidy {
        remove_all(&work.to, &strays).await?;
    }
    let (mine, left): (Vec<&String>, Vec<_>) = here.keys().partition(|name| wanted.contains_key(*name));
    copied.left = left.len() as u64;
    if wish.remove && copied.failed.is_empty() {
        remove_all(&work.from, &mine).await?;
        copied.removed = mine.len() as u64;
    }
    Ok(copied)
}

/// The names that rows tell of, with their sizes.
async fn known(db: &Db) -> Result<BTreeMap<String, u64>, MediaError> {
    let mut names = named(db, &CONTENTS, |row| Some((row.name?, row.size))).await?;
    names.append(&mut named(db, &THUMBNAILS, |row| Some((row.name?, row.size))).await?);
    Ok(names)
}

async fn named<K: KeyFields, V: Serialize + DeserializeOwned>(
    db: &Db,
    rows: &Rows<K, V>,
    name: impl Fn(V) -> Option<(String, u64)>,
) -> Result<BTreeMap<String, u64>, MediaError> {
    let mut names = BTreeMap::new();
    let mut from = rows.prefix(&());
    let to = from.after_prefix();
    loop {
        let scan = Scan { from, to: to.clone(), reverse: false, limit: SCAN_ROWS_MAX };
        let page = db.scan(rows, scan).await?;
        let Some((last, _)) = page.last() else { return Ok(names) };
        from = rows.key(last).successor();
        names.extend(page.into_iter().filter_map(|(_, row)| name(row)));
    }
}

async fn remove_all(blobs: &Blobs, names: &[&String]) -> Result<(), MediaError> {
    let removing = stream::iter(names.iter().map(|name| blobs.remove(name)));
    removing.buffer_unordered(MEDIA_COPIES_AT_ONCE).try_collect().await
}

/// How one file fared.
enum Fate {
    Copied,
    Before,
    Failed(String),
    /// The running server has removed it.
    Gone,
}

struct Work<'a> {
    from: Blobs,
    to: Blobs,
    rng: &'a dyn Rng,
    /// Whether what the other place has already is read there once more.
    proves: bool,
    /// Whether files may go meanwhile.
    runs: bool,
}

impl Work<'_> {
    /// Makes sure that both places are not one under two names, or everything would be lost when one is emptied.
    async fn tell_apart(&self) -> Result<(), MediaError> {
        let probe = format!("probe-{}", random_string(self.rng, 16));
        let bytes = bytes::Bytes::from(probe.clone());
        let size = bytes.len() as u64;
        let body: Body = stream::iter([Ok(bytes)]).boxed();
        let mut staged = self.to.receive(body, size, self.rng).await?;
        self.to.put(&mut staged, &probe).await?;
        let seen = hash_of(&self.from, &probe, size).await;
        self.to.remove(&probe).await?;
        match seen {
            Ok(hash) if hash == staged.hash => {
                Err(MediaError::Place(String::from("both places are the same")))
            }
            Ok(_) => Ok(()),
            Err(MediaError::Storage(error)) if is_absent(&*error) => Ok(()),
            // Whoever cannot read there does not know that nothing is there.
            Err(error) => Err(error),
        }
    }

    async fn all(
        &self,
        (wanted, there): (&BTreeMap<String, u64>, &BTreeMap<String, u64>),
        tell: &dyn Fn(u64, u64),
    ) -> Result<Copied, MediaError> {
        let (mut copied, mut done, total) = (Copied::default(), 0, wanted.len() as u64);
        let each = wanted.iter().map(|(name, size)| async move {
            let is_there = there.get(name) == Some(size);
            Ok::<_, MediaError>((name, *size, self.one(name, *size, is_there).await?))
        });
        let mut fates = stream::iter(each).buffer_unordered(MEDIA_COPIES_AT_ONCE);
        while let Some((name, size, fate)) = fates.try_next().await? {
            match fate {
                Fate::Copied => {
                    copied.files += 1;
                    copied.bytes += size;
                }
                Fate::Before => copied.before += 1,
                Fate::Gone => {}
                Fate::Failed(why) => copied.failed.push((name.clone(), why)),
            }
            done += 1;
            tell(done, total);
        }
        drop(fates);
        copied.failed.sort();
        Ok(copied)
    }

    /// Sees to it that the other place has the file.
    async fn one(&self, name: &str, size: u64, is_there: bool) -> Result<Fate, MediaError> {
        if is_there && !self.proves {
            return Ok(Fate::Before);
        }
        if is_there && self.is_same(name, size).await? {
            return Ok(Fate::Before);
        }
        let body = match self.from.read(name, 0..size).await {
            Ok(body) => body,
            Err(error) => return self.judge(error),
        };
        // What is wrong there must be told from what is wrong with the folder through which it goes.
        let body: Body = body.map_err(|error| MediaError::Broken(error.to_string())).boxed();
        let mut staged = match self.to.receive(body, size, self.rng).await {
            Ok(staged) => staged,
            Err(MediaError::Broken(why)) => return self.judge(MediaError::Broken(why)),
            Err(MediaError::TooLarge(_)) => return self.judge(MediaError::Damaged),
            Err(error) => return Err(error),
        };
        if staged.size != size || !fits(name, staged.hash) {
            return self.judge(MediaError::Damaged);
        }
        self.to.put(&mut staged, name).await?;
        match hash_of(&self.to, name, size).await? == staged.hash {
            true => Ok(Fate::Copied),
            false => {
                self.to.remove(name).await?;
                Err(MediaError::storage(format!("the other place does not keep {name} as it was put there")))
            }
        }
    }

    /// Whether the other place has the bytes that belong to this name.
    async fn is_same(&self, name: &str, size: u64) -> Result<bool, MediaError> {
        let there = match hash_of(&self.to, name, size).await {
            Ok(hash) => hash,
            Err(error) if is_of_file(&error) => return Ok(false),
            Err(error) => return Err(error),
        };
        match Blobs::parse_name(name) {
            Some((Sort::Whole, hash)) => Ok(there == hash),
            // The name of a thumbnail does not tell its hash. If it is here no more, there is nothing to hold against.
            _ => Ok(hash_of(&self.from, name, size).await.map_or(true, |here| here == there)),
        }
    }

    /// What is wrong with one file is no reason to leave out the rest; a place that fails is.
    fn judge(&self, error: MediaError) -> Result<Fate, MediaError> {
        if self.runs && matches!(&error, MediaError::Storage(error) if is_absent(&**error)) {
            return Ok(Fate::Gone);
        }
        let is_local = self.from.is_folder() && matches!(error, MediaError::Storage(_));
        match is_of_file(&error) || is_local || matches!(error, MediaError::Broken(_)) {
            true => Ok(Fate::Failed(error.to_string())),
            false => Err(error),
        }
    }
}

/// Whether the error is of one file alone.
fn is_of_file(error: &MediaError) -> bool {
    match error {
        MediaError::Damaged => true,
        MediaError::Storage(error) => is_absent(&**error),
        _ => false,
    }
}

/// Whether these bytes may have this name.
fn fits(name: &str, found: Hash) -> bool {
    match Blobs::parse_name(name) {
        Some((Sort::Whole, hash)) => hash == found,
        _ => true,
    }
}

/// The hash of what a name has in a place; damaged if that are not `size` bytes.
async fn hash_of(blobs: &Blobs, name: &str, size: u64) -> Result<Hash, MediaError> {
    let (mut digest, mut length) = (Sha256::new(), 0);
    let mut body = blobs.read(name, 0..size).await?;
    while let Some(piece) = body.try_next().await? {
        length += piece.len() as u64;
        digest.update(&piece);
    }
    match length == size {
        true => Ok(Hash(digest.finalize().into())),
        false => Err(MediaError::Damaged),
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, path::Path, sync::Arc};

    use tokio_util::task::TaskTracker;

    use super::*;
    use crate::{
        log::{Commit, Log},
        media::rows::{Content, Thumbnail},
        store::memory::Memory,
        types::SeededRng,
    };

    /// Two folders, and a store that knows of files in the first.
    struct Scene {
        folder: tempfile::TempDir,
        log: Log,
        rng: SeededRng,
    }

    impl Scene {
        async fn new() -> Self {
            let log = Log::open(Db::new(Arc::new(Memory::default())), &TaskTracker::new()).await.unwrap();
            Self { folder: tempfile::tempdir().unwrap(), log, rng: SeededRng::new(7) }
        }

        fn place(&self, name: &str) -> Place {
            Place { folder: self.folder.path().join(name), url: None, options: BTreeMap::new() }
        }

        /// A file in the first place; its name.
        fn lay(&self, sort: Sort, named_for: &[u8], bytes: &[u8]) -> String {
            let name = Blobs::new_name(sort, Hash(Sha256::digest(named_for).into()), &self.rng);
            self.write("old", &name, bytes);
            name
        }

        fn write(&self, place: &str, name: &str, bytes: &[u8]) {
            let path = self.path(place, name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, bytes).unwrap();
        }

        fn path(&self, place: &str, name: &str) -> std::path::PathBuf {
            self.place(place).files().join(&name[1..3]).join(name)
        }

        fn read(&self, place: &str, name: &str) -> Option<Vec<u8>> {
            fs::read(self.path(place, name)).ok()
        }

        async fn know(&self, name: &str, size: usize) {
            let (sort, hash) = Blobs::parse_name(name).unwrap();
            let (name, size) = (Some(String::from(name)), size as u64);
            let mut commit = Commit::new();
            match sort {
                Sort::Whole => {
                    commit.put(&CONTENTS, &(hash.0,), &Content { name, size, uses: 1, ..Content::default() });
                }
                Sort::Thumbnail => {
                    let thumbnail = Thumbnail { name, size, content_type: String::from("image/png") };
                    commit.put(&THUMBNAILS, &(hash.0, String::from("shape")), &thumbnail);
                }
            }
            self.log.commit(commit).await.unwrap();
        }

        async fn known(&self, wish: Wish) -> Copied {
            let places = (&self.place("old"), &self.place("new"));
            copy(places, Among::Known(self.log.db()), wish, (&self.rng, &|_, _| {})).await.unwrap()
        }
    }

    const REMOVE: Wish = Wish { remove: true, tidy: false };

    #[tokio::test]
    async fn a_copy_goes_on_and_removes_nothing_too_early() {
        let scene = Scene::new().await;
        let one = scene.lay(Sort::Whole, b"one", b"one");
        let two = scene.lay(Sort::Whole, b"second", b"second");
        let small = scene.lay(Sort::Thumbnail, b"second", b"2nd");
        let empty = scene.lay(Sort::Whole, b"", b"");
        let bad = scene.lay(Sort::Whole, b"as it was", b"as it is!");
        for (name, size) in [(&one, 3), (&two, 6), (&small, 3), (&empty, 0), (&bad, 9)] {
            scene.know(name, size).await;
        }
        let unknown = scene.lay(Sort::Whole, b"nobody's", b"nobody's");
        let first = scene.known(REMOVE).await;
        assert_eq!((first.files, first.bytes, first.before, first.removed, first.left), (4, 12, 0, 0, 1));
        assert!(first.failed.iter().map(|(name, _)| name).eq([&bad]), "{:?}", first.failed);
        assert_eq!(scene.read("new", &bad), None);
        assert_eq!(scene.read("old", &one).unwrap(), b"one");

        // What is lost, cut off or changed there meanwhile is copied once more.
        fs::remove_file(scene.path("new", &one)).unwrap();
        scene.write("new", &two, b"sec");
        assert_eq!(scene.known(Wish::default()).await.files, 2);
        assert_eq!(scene.read("new", &two).unwrap(), b"second");
        scene.write("new", &two, b"SECOND");
        scene.write("new", &small, b"3rd");
        scene.write("old", &bad, b"as it was");
        let last = scene.known(REMOVE).await;
        assert_eq!((last.files, last.before, last.removed, last.left), (3, 2, 5, 1));
        for (name, bytes) in
            [(&one, "one"), (&two, "second"), (&small, "2nd"), (&empty, ""), (&bad, "as it was")]
        {
            assert_eq!(scene.read("new", name).unwrap(), bytes.as_bytes());
            assert_eq!(scene.read("old", name), None);
        }
        assert!(scene.read("old", &unknown).is_some() && scene.read("new", &unknown).is_none());
        assert_eq!(fs::read_dir(scene.place("new").folder.join("incoming")).unwrap().count(), 0);
        assert_eq!(scene.known(REMOVE).await.before, 5, "what is there need not be here");
    }

    #[tokio::test]
    async fn what_was_copied_ahead_and_is_not_known_any_more_is_told_and_removed_by_wish() {
        let scene = Scene::new().await;
        let (stays, goes) =
            (scene.lay(Sort::Whole, b"stays", b"stays"), scene.lay(Sort::Whole, b"goes", b"goes"));
        scene.know(&stays, 5).await;
        let places = (&scene.place("old"), &scene.place("new"));
        let ahead = copy(places, Among::Found, Wish::default(), (&scene.rng, &|_, _| {})).await.unwrap();
        assert_eq!(ahead.files, 2);
        fs::remove_file(scene.path("old", &goes)).unwrap();
        assert_eq!(scene.known(Wish::default()).await.strays, 1);
        assert!(scene.read("new", &goes).is_some());
        assert_eq!(scene.known(Wish { tidy: true, remove: false }).await.strays, 1);
        assert!(scene.read("new", &goes).is_none() && scene.read("new", &stays).is_some());
    }

    #[tokio::test]
    async fn a_place_that_cannot_be_read_is_not_taken_for_another_one() {
        let scene = Scene::new().await;
        let name = scene.lay(Sort::Whole, b"one", b"one");
        scene.know(&name, 3).await;
        // Where the probe would be is no folder: that is an error, and does not say that it is absent.
        fs::write(scene.place("old").files().join("ro"), "").unwrap();
        let places = (&scene.place("old"), &scene.place("new"));
        let refused = copy(places, Among::Known(scene.log.db()), REMOVE, (&scene.rng, &|_, _| {})).await;
        assert!(matches!(refused, Err(MediaError::Storage(_))), "{refused:?}");
        assert!(scene.read("old", &name).is_some());
        assert_eq!(
            fs::read_dir(scene.place("new").files().join("ro")).unwrap().count(),
            0,
            "no probe is left"
        );
    }

    #[tokio::test]
    async fn one_place_under_two_names_is_not_emptied() {
        let scene = Scene::new().await;
        let name = scene.lay(Sort::Whole, b"one", b"one");
        scene.know(&name, 3).await;
        std::os::unix::fs::symlink(Path::new("old"), scene.folder.path().join("new")).unwrap();
        let places = (&scene.place("old"), &scene.place("new"));
        let refused = copy(places, Among::Known(scene.log.db()), REMOVE, (&scene.rng, &|_, _| {})).await;
        assert!(matches!(refused, Err(MediaError::Place(_))), "{refused:?}");
        assert!(scene.read("old", &name).is_some());
        assert_eq!(fs::read_dir(scene.path("old", &name).parent().unwrap()).unwrap().count(), 1);
    }
}
