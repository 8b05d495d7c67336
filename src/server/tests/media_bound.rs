//! How much of the files of other servers is kept.

use std::path::Path;

use super::{
    federation::Town,
    media::{get, register, upload},
};

/// What all files below a folder have together, in bytes.
fn size(files: &Path) -> u64 {
    let folders = std::fs::read_dir(files).into_iter().flatten().map(Result::unwrap);
    let files = folders.flat_map(|folder| std::fs::read_dir(folder.path()).unwrap().map(Result::unwrap));
    files.map(|file| file.metadata().unwrap().len()).sum()
}

#[tokio::test]
async fn there_is_a_bound_for_what_other_servers_have() {
    let town = Town::new();
    let a = town.start(town.config("a.test", "a.test")).await;
    let mut config = town.config("b.test", "b.test");
    config.media.cache_mib = 1;
    let files = config.data_dir.join("media/files");
    let b = town.start(config).await;
    let (alice, bob) = (register(&a, "alice", false).await, register(&b, "bob", false).await);
    let size = || size(&files);
    for n in 0..6_u8 {
        let address = upload(&a, &alice, "", vec![n; 300 << 10]).await;
        assert_eq!(get(&b, &bob, &format!("download/{address}")).await.status, 200);
        assert!(size() <= 1 << 20, "{}", size());
    }
    assert_eq!(size(), 900 << 10, "as much as fits is kept");
    a.stop().await.unwrap();
    b.stop().await.unwrap();
}

/// What is drawn of such files is within the bound too.
#[tokio::test]
async fn thumbnails_of_what_other_servers_have_are_within_its_bound() {
    let town = Town::new();
    let a = town.start(town.config("a.test", "a.test")).await;
    let mut config = town.config("b.test", "b.test");
    config.media.cache_mib = 2;
    let files = config.data_dir.join("media/files");
    let b = town.start(config).await;
    let (alice, bob) = (register(&a, "alice", false).await, register(&b, "bob", false).await);
    let size = || size(&files);
    for n in 0..2_u8 {
        let address = upload(&a, &alice, "", vec![n; 700 << 10]).await;
        assert_eq!(get(&b, &bob, &format!("download/{address}")).await.status, 200);
    }
    // Noise: nothing makes it smaller.
    let mut state = 7_u32;
    let noise = image::RgbImage::from_fn(420, 420, |_, _| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        image::Rgb([(state >> 24) as u8, (state >> 16) as u8, (state >> 8) as u8])
    });
    let mut bytes = std::io::Cursor::new(Vec::new());
    noise.write_to(&mut bytes, image::ImageFormat::Png).unwrap();
    let address = upload(&a, &alice, "", bytes.into_inner()).await;
    assert_eq!(get(&b, &bob, &format!("download/{address}")).await.status, 200);
    assert!(size() > 1_800 << 10, "three files are here: {}", size());
    for side in [320, 192, 96] {
        let query = format!("width={side}&height={side}&method=crop");
        assert_eq!(get(&b, &bob, &format!("thumbnail/{address}?{query}")).await.status, 200, "{side}");
        assert!(size() <= 2 << 20, "{side}: {}", size());
    }
    a.stop().await.unwrap();
    b.stop().await.unwrap();
}
