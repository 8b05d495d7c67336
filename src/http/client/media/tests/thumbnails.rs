//! Smaller images.

use std::io::Cursor;

use image::{
    AnimationDecoder, Delay, DynamicImage, Frame, ImageFormat, Rgb, RgbImage, Rgba, RgbaImage,
    codecs::{
        gif::{GifDecoder, GifEncoder},
        png::PngDecoder,
    },
};

use super::scene::{Answer, Server};

/// An image in one colour, encoded.
pub(super) fn picture(width: u32, height: u32, format: ImageFormat) -> Vec<u8> {
    let image = DynamicImage::ImageRgb8(RgbImage::from_pixel(width, height, Rgb([200, 30, 30])));
    let mut bytes = Cursor::new(Vec::new());
    image.write_to(&mut bytes, format).unwrap();
    bytes.into_inner()
}

fn moving(width: u32, height: u32, frames: u8) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut encoder = GifEncoder::new(&mut bytes);
    for n in 0..frames {
        let image = RgbaImage::from_pixel(width, height, Rgba([n * 50, 0, 255 - n * 50, 255]));
        encoder.encode_frame(Frame::from_parts(image, 0, 0, Delay::from_numer_denom_ms(100, 1))).unwrap();
    }
    drop(encoder);
    bytes
}

/// Type and size of an image that was answered.
fn seen(answer: &Answer) -> String {
    assert_eq!(answer.status, 200, "{:?}", answer.bytes);
    let image = image::load_from_memory(&answer.bytes).unwrap();
    assert_eq!(answer.header("content-disposition"), "inline");
    format!("{} {}x{}", answer.header("content-type"), image.width(), image.height())
}

#[tokio::test]
async fn images_become_smaller_and_never_larger() {
    let server = Server::new().await;
    let check = |image: Vec<u8>, kind: &'static str, query: &'static str, expected: &'static str| {
        let server = &server;
        async move {
            let address = server.upload(kind, "", image).await;
            assert_eq!(seen(&server.thumbnail(&address, query).await), expected, "{kind} {query}");
        }
    };
    let (png, jpeg) = (ImageFormat::Png, ImageFormat::Jpeg);
    check(picture(1000, 500, png), "image/png", "width=300&height=200", "image/png 320x160").await;
    check(picture(1000, 500, jpeg), "image/jpeg", "width=300&height=200&method=scale", "image/jpeg 320x160")
        .await;
    check(picture(1000, 500, jpeg), "image/jpeg", "width=30&height=30&method=crop", "image/jpeg 32x32").await;
    check(picture(1000, 500, jpeg), "image/jpeg", "width=200&height=300&method=crop", "image/jpeg 288x432")
        .await;
    check(picture(100, 50, png), "image/png", "width=800&height=600", "image/png 100x50").await;
    check(picture(40, 40, png), "image/png", "width=96&height=96&method=crop", "image/png 40x40").await;
    check(picture(700, 700, ImageFormat::WebP), "image/webp", "width=640&height=480", "image/jpeg 480x480")
        .await;
    // What it is called does not matter; what it is does, also where it is small enough as it is.
    check(picture(40, 40, png), "text/html", "width=96&height=96&method=crop", "image/png 40x40").await;
    check(picture(40, 40, jpeg), "", "width=96&height=96&method=crop", "image/jpeg 40x40").await;
    check(picture(1000, 500, png), "text/plain", "width=320&height=240", "image/png 320x160").await;
}

#[tokio::test]
async fn a_thumbnail_is_made_once_and_goes_with_its_image() {
    let server = Server::new().await;
    let address = server.upload("image/png", "", picture(1000, 500, ImageFormat::Png)).await;
    let ask = || server.thumbnail(&address, "width=320&height=240");
    let answers = tokio::join!(ask(), ask(), ask());
    assert_eq!(answers.0.bytes, answers.1.bytes);
    assert_eq!(answers.0.bytes, answers.2.bytes);
    assert_eq!(server.files().len(), 2);
    let (_, id) = address.split_once('/').unwrap();
    server.app.media.delete(&ruma::owned_server_name!("localhost"), id).await.unwrap();
    assert_eq!(server.files(), Vec::<std::path::PathBuf>::new());
    assert_eq!(ask().await.refusal(), "404 M_NOT_FOUND");
}

#[tokio::test]
async fn moving_images_move_only_for_those_who_want_it() {
    let server = Server::new().await;
    let frames = |answer: &Answer| {
        let decoder = GifDecoder::new(Cursor::new(answer.bytes.to_vec())).unwrap();
        decoder.into_frames().collect_frames().unwrap().len()
    };
    let large = server.upload("image/gif", "", moving(400, 400, 3)).await;
    let answer = server.thumbnail(&large, "width=96&height=96&method=crop&animated=true").await;
    assert_eq!((seen(&answer), frames(&answer)), (String::from("image/gif 96x96"), 3));
    for still in ["", "&animated=false"] {
        let query = format!("width=96&height=96&method=crop{still}");
        assert_eq!(seen(&server.thumbnail(&large, &query).await), "image/png 96x96");
    }
    // Even if it is small enough as it is.
    let small = server.upload("image/gif", "", moving(20, 20, 3)).await;
    assert_eq!(seen(&server.thumbnail(&small, "width=32&height=32").await), "image/png 20x20");
    let answer = server.thumbnail(&small, "width=32&height=32&animated=true").await;
    assert_eq!((seen(&answer), frames(&answer)), (String::from("image/gif 20x20"), 3));
}

#[tokio::test]
async fn moving_pngs_stay_pngs() {
    let server = Server::new().await;
    let mut bytes = Vec::new();
    let mut encoder = png::Encoder::new(&mut bytes, 200, 200);
    encoder.set_color(png::ColorType::Rgba);
    encoder.set_animated(2, 0).unwrap();
    let mut writer = encoder.write_header().unwrap();
    for n in [0, 255] {
        writer.write_image_data(&[n; 200 * 200 * 4]).unwrap();
    }
    writer.finish().unwrap();
    let address = server.upload("image/apng", "", bytes).await;
    let answer = server.thumbnail(&address, "width=96&height=96&method=crop&animated=true").await;
    assert_eq!(seen(&answer), "image/png 96x96");
    let decoder = PngDecoder::new(Cursor::new(answer.bytes.to_vec())).unwrap().apng().unwrap();
    assert_eq!(decoder.into_frames().collect_frames().unwrap().len(), 2);
    let answer = server.thumbnail(&address, "width=96&height=96&method=crop").await;
    assert!(!PngDecoder::new(Cursor::new(answer.bytes.to_vec())).unwrap().is_apng().unwrap());
}
