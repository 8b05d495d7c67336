//! Whether the files of a folder are what was put there.

use std::{
    fs::{self, File},
    io::{self, Read},
    path::PathBuf,
};

use sha2::{Digest, Sha256};

use super::{
    Hash,
    blobs::{Blobs, Place, Sort},
};
use crate::limits::MEDIA_BUFFER_BYTES;

/// What a look at all files has found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Checked {
    /// How many files there are.
    pub files: u64,
    /// How many bytes they have.
    pub bytes: u64,
    /// Those whose bytes are not the ones that their names tell the hash of.
    pub damaged: Vec<PathBuf>,
}

/// Reads all files that are kept in the folder of `place`; `tell` hears how many of how many are done. Thumbnails are
/// not looked at: they can be drawn again. An object store looks after its files itself.
///
/// # Errors
/// When the disk does not answer.
pub fn check(place: &Place, tell: &dyn Fn(u64, u64)) -> io::Result<Checked> {
    let mut checked = Checked::default();
    if place.url.is_some() {
        return Ok(checked);
    }
    let paths = files(place)?;
    let total = paths.len() as u64;
    for (path, hash) in paths {
        tell(checked.files, total);
        match hash_of(&path, &mut checked.bytes) {
            Ok(found) if found == hash => {}
            // A sector that cannot be read is damage too, and no reason not to look at the rest.
            _ => checked.damaged.push(path),
        }
        checked.files += 1;
    }
    Ok(checked)
}

/// The files that came whole, with the hashes that they had.
fn files(place: &Place) -> io::Result<Vec<(PathBuf, Hash)>> {
    let shelves = match fs::read_dir(place.files()) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        shelves => shelves?,
    };
    let mut found = Vec::new();
    for shelf in shelves {
        for file in fs::read_dir(shelf?.path())? {
            let file = file?;
            if let Some((Sort::Whole, hash)) = Blobs::parse_name(&file.file_name().to_string_lossy()) {
                found.push((file.path(), hash));
            }
        }
    }
    found.sort();
    Ok(found)
}

fn hash_of(path: &PathBuf, bytes: &mut u64) -> io::Result<Hash> {
    let mut file = File::open(path)?;
    let (mut digest, mut buffer) = (Sha256::new(), vec![0; MEDIA_BUFFER_BYTES]);
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(Hash(digest.finalize().into())),
            length => {
                digest.update(&buffer[..length]);
                *bytes += length as u64;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::types::SeededRng;

    #[test]
    fn a_flipped_byte_is_found() {
        let folder = tempfile::tempdir().unwrap();
        let place = Place { folder: folder.path().to_owned(), url: None, options: BTreeMap::new() };
        assert_eq!(check(&place, &|_, _| {}).unwrap(), Checked::default());
        let rng = SeededRng::new(1);
        let put = |sort, named_for: &[u8], bytes: &[u8]| {
            let name = Blobs::new_name(sort, Hash(Sha256::digest(named_for).into()), &rng);
            let path = place.files().join(&name[1..3]).join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(&path, bytes).unwrap();
            path
        };
        put(Sort::Whole, b"as it was", b"as it was");
        put(Sort::Thumbnail, b"as it was", b"smaller");
        let damaged = put(Sort::Whole, b"another", b"anothes");
        let expected = Checked { files: 2, bytes: 16, damaged: vec![damaged] };
        assert_eq!(check(&place, &|_, _| {}).unwrap(), expected);
    }
}
