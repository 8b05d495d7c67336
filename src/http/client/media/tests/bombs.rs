//! Files that are small, and become large when somebody looks at them.

use image::{Delay, Frame, ImageFormat, Rgba, RgbaImage, codecs::gif::GifEncoder};

use super::{scene::Server, thumbnails::picture};
use crate::limits::MEDIA_ANIMATION_FRAMES_MAX;

/// A part of a PNG.
fn chunk(kind: &[u8; 4], data: &[u8]) -> Vec<u8> {
    let content = [&kind[..], data].concat();
    let (length, sum) = (u32::try_from(data.len()).unwrap().to_be_bytes(), crc32fast::hash(&content));
    [&length[..], &content, &sum.to_be_bytes()].concat()
}

/// A PNG whose head promises `width` × `height` pixels and whose body is empty.
fn bomb(width: u32, height: u32) -> Vec<u8> {
    let head = [&width.to_be_bytes()[..], &height.to_be_bytes(), &[8, 6, 0, 0, 0]].concat();
    let body = chunk(b"IDAT", b"\x78\x9c\x03\x00\x00\x00\x00\x01");
    [b"\x89PNG\r\n\x1a\n".to_vec(), chunk(b"IHDR", &head), body, chunk(b"IEND", b"")].concat()
}

/// A PNG that says it has so many pictures, and has one.
fn many(count: u32) -> Vec<u8> {
    let mut bytes = picture(16, 16, ImageFormat::Png);
    let rest = bytes.split_off(33);
    [bytes, chunk(b"acTL", &[count.to_be_bytes(), [0; 4]].concat()), rest].concat()
}

/// A WebP of these parts.
fn webp(parts: &[(&[u8; 4], Vec<u8>)]) -> Vec<u8> {
    let mut content = b"WEBP".to_vec();
    for part in parts {
        content.extend(riff(part.0, part.1.len(), &part.1));
    }
    riff(b"RIFF", content.len(), &content)
}

/// A chunk that says it has so many bytes.
fn riff(kind: &[u8; 4], size: usize, data: &[u8]) -> Vec<u8> {
    let pad = &[0][..data.len() % 2];
    [&kind[..], &u32::try_from(size).unwrap().to_le_bytes(), data, pad].concat()
}

/// The head of a WebP with more than one part: flags, and the size of the picture.
fn canvas(flags: u8, side: u32) -> (&'static [u8; 4], Vec<u8>) {
    let side = &(side - 1).to_le_bytes()[..3];
    (b"VP8X", [&[flags, 0, 0, 0][..], side, side].concat())
}

/// What is compressed in a small WebP without loss, which says that it has `side` × `side` pixels.
fn lossless(side: u32) -> Vec<u8> {
    let mut bytes = picture(16, 16, ImageFormat::WebP);
    assert_eq!(bytes[12..16], *b"VP8L");
    let flags = u32::from_le_bytes(bytes[21..25].try_into().unwrap()) & !0x0FFF_FFFF;
    bytes[21..25].copy_from_slice(&(flags | (side - 1) << 14 | (side - 1)).to_le_bytes());
    bytes.split_off(20)
}

/// A frame that says it has `side` × `side` pixels, and has nothing of them.
fn lossy(side: u16) -> Vec<u8> {
    let side = side.to_le_bytes();
    [&[0x10, 0x02, 0, 0x9d, 0x01, 0x2a][..], &side[..], &side, &[0; 32]].concat()
}

/// A part of an animation: a frame in the corner of the picture.
fn frame(side: u32, parts: &[u8]) -> (&'static [u8; 4], Vec<u8>) {
    let side = &(side - 1).to_le_bytes()[..3];
    (b"ANMF", [&[0; 6][..], side, side, &[100, 0, 0, 0], parts].concat())
}

/// A JPEG that says it has `side` × `side` pixels.
fn jpeg(side: u16) -> Vec<u8> {
    let mut bytes = picture(16, 16, ImageFormat::Jpeg);
    let head = bytes.windows(2).position(|marker| marker == b"\xff\xc0").unwrap();
    bytes[head + 5..head + 7].copy_from_slice(&side.to_be_bytes());
    bytes[head + 7..head + 9].copy_from_slice(&side.to_be_bytes());
    bytes
}

/// Row 6.3: the same of every format that is known.
#[tokio::test]
async fn row_6_3_bombs_of_other_formats() {
    let server = Server::new().await;
    let (large, broken) = ("413 M_TOO_LARGE", "400 M_UNKNOWN");
    let anim = || (b"ANIM", vec![0; 6]);
    let inside = |kind, data: &[u8]| riff(kind, data.len(), data);
    let endless =
        |kind| [webp(&[canvas(0x08, 16), (b"VP8L", lossless(16))]), riff(kind, 0xFFFF_FFF0, b"")].concat();
    for (what, bytes, expected) in [
        ("JPEG", jpeg(u16::MAX), large),
        ("WebP without loss", webp(&[(b"VP8L", lossless(16_383))]), large),
        ("WebP with loss", webp(&[(b"VP8 ", lossy(16_383))]), large),
        ("the canvas of a WebP", webp(&[canvas(0, 40_000), (b"VP8L", lossless(16))]), large),
        (
            "a WebP that moves",
            webp(&[canvas(0x02, 16_383), anim(), frame(16, &inside(b"VP8L", &lossless(16)))]),
            large,
        ),
        ("a WebP larger than its canvas", webp(&[canvas(0, 16), (b"VP8 ", lossy(16_383))]), large),
        (
            "a frame larger than it says",
            webp(&[canvas(0x02, 16), anim(), frame(16, &inside(b"VP8 ", &lossy(16_383)))]),
            large,
        ),
        ("EXIF without end", endless(b"EXIF"), broken),
        (
            "EXIF without end in a frame",
            webp(&[
                canvas(0x02, 16),
                anim(),
                frame(16, &[inside(b"VP8L", &lossless(16)), riff(b"EXIF", 0xFFFF_FFF0, b"")].concat()),
            ]),
            broken,
        ),
    ] {
        let address = server.upload("image/png", "", bytes).await;
        for query in ["width=8&height=8", "width=8&height=8&animated=true"] {
            let answer = server.thumbnail(&address, query).await;
            assert_eq!(answer.refusal(), expected, "{what}, {query}");
        }
    }
    let address = server.upload("image/png", "", many(0x7FFF_FFFF)).await;
    for (query, expected) in
        [("width=8&height=8", &[200][..]), ("width=8&height=8&animated=true", &[200, 400][..])]
    {
        let status = server.thumbnail(&address, query).await.status;
        assert!(expected.contains(&status), "a PNG that says it moves, {query}: {status}");
    }
    // The same with heads that are true are pictures.
    for (what, bytes) in [
        ("JPEG", jpeg(16)),
        ("WebP", webp(&[(b"VP8L", lossless(16))])),
        ("WebP with a canvas", webp(&[canvas(0, 16), (b"VP8L", lossless(16)), (b"odd ", vec![0; 3])])),
        ("a WebP that moves", webp(&[canvas(0x02, 16), anim(), frame(16, &inside(b"VP8L", &lossless(16)))])),
    ] {
        let address = server.upload("image/png", "", bytes).await;
        let answer = server.thumbnail(&address, "width=8&height=8").await;
        assert_eq!(answer.status, 200, "{what}");
    }
}

/// Row 6.3: small files that become large images.
#[tokio::test]
async fn row_6_3_bombs_are_refused_by_their_heads() {
    let server = Server::new().await;
    for (width, height) in [(100_000, 100_000), (1, 1_000_000_000), (33 << 10, 1 << 10), (i32::MAX as u32, 1)]
    {
        let address = server.upload("image/png", "", bomb(width, height)).await;
        let answer = server.thumbnail(&address, "width=32&height=32").await;
        assert_eq!(answer.refusal(), "413 M_TOO_LARGE", "{width}x{height}");
    }
    // A GIF whose canvas is the largest there can be.
    let mut gif = b"GIF89a\xff\xff\xff\xff\x80\x00\x00\x00\x00\x00\xff\xff\xff".to_vec();
    gif.extend(b"\x2c\x00\x00\x00\x00\x01\x00\x01\x00\x00\x02\x02\x44\x01\x00\x3b");
    let address = server.upload("image/gif", "", gif).await;
    assert_eq!(server.thumbnail(&address, "width=32&height=32").await.refusal(), "413 M_TOO_LARGE");
    for bad in
        ["width=0&height=5", "width=5", "width=-5&height=5", "width=a&height=5", "width=5&height=5&method=x"]
    {
        let answer = server.thumbnail(&address, bad).await;
        assert_eq!(answer.status, 400, "{bad}");
    }
}

/// Row 6.3: pictures that move without end are shown as one that stands still.
#[tokio::test]
async fn row_6_3_bombs_of_frames_stand_still() {
    let server = Server::new().await;
    for (count, expected) in [(3, "image/gif"), (MEDIA_ANIMATION_FRAMES_MAX + 1, "image/png")] {
        let mut gif = Vec::new();
        let mut encoder = GifEncoder::new_with_speed(&mut gif, 30);
        for n in 0..count {
            let shade = u8::try_from(n % 200).unwrap();
            let image = RgbaImage::from_pixel(40, 40, Rgba([shade, 0, 0, 255]));
            let delay = Delay::from_numer_denom_ms(100, 1);
            encoder.encode_frame(Frame::from_parts(image, 0, 0, delay)).unwrap();
        }
        drop(encoder);
        let address = server.upload("image/gif", "", gif).await;
        let answer = server.thumbnail(&address, "width=32&height=32&method=crop&animated=true").await;
        assert_eq!((answer.status, answer.header("content-type")), (200, expected), "{count}");
    }
}
