//! Makes images smaller. Slow, and not to be trusted with what it is given: it runs beside the server's threads, looks at
//! the head of an image before anything else, and has bounds for pixels, frames, bytes and time.

use std::{fs, io::BufReader, path::Path, time::Duration};

use image::{
    AnimationDecoder, DynamicImage, Frame, Frames, ImageDecoder, ImageFormat, ImageReader, Limits, RgbaImage,
    codecs::{
        gif::{GifDecoder, GifEncoder, Repeat},
        jpeg::JpegEncoder,
        png::{PngDecoder, PngEncoder},
        webp::WebPDecoder,
    },
    imageops::FilterType,
    metadata::Orientation,
};

use super::{Refusal, Shape, webp};
use crate::{
    limits::{
        MEDIA_ANIMATION_FRAMES_MAX, MEDIA_ANIMATION_PIXELS_MAX, MEDIA_ANIMATION_SECONDS_MAX,
        MEDIA_IMAGE_MEMORY_MAX, MEDIA_IMAGE_PIXELS_MAX,
    },
    types::Clock,
};

/// What came of it.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Drawn {
    /// The image, of this type, is no larger than what is asked for.
    Original(&'static str),
    /// A smaller image: its bytes and their type.
    Smaller(Vec<u8>, &'static str),
}

/// Quality of JPEG, of 100.
const JPEG_QUALITY: u8 = 82;
/// From 1, careful, to 30, quick: how the colours of a GIF are chosen.
const GIF_SPEED: i32 = 20;

type Source = BufReader<fs::File>;

impl From<image::ImageError> for Refusal {
    fn from(error: image::ImageError) -> Self {
        match error {
            image::ImageError::Limits(_) => Self::TooManyPixels,
            image::ImageError::IoError(error) => error.into(),
            error => Self::NoThumbnail(error.to_string()),
        }
    }
}

impl From<std::io::Error> for Refusal {
    fn from(error: std::io::Error) -> Self {
        use std::io::ErrorKind::{InvalidData, InvalidInput, NotFound, Other, UnexpectedEof};
        match error.kind() {
            UnexpectedEof | InvalidData | InvalidInput | Other => Self::NoThumbnail(error.to_string()),
            NotFound => Self::Gone,
            // The disk is at fault, and not the image.
            _ => Self::Trouble(error.to_string()),
        }
    }
}

/// The image in the file `path`, in `shape`.
pub(super) fn draw(path: &Path, shape: Shape, clock: &dyn Clock) -> Result<Drawn, Refusal> {
    let source = || Ok::<_, Refusal>(BufReader::new(fs::File::open(path)?));
    let mut reader = ImageReader::new(source()?).with_guessed_format()?;
    reader.limits(limits());
    let format = reader.format().filter(|format| is_known(*format));
    let format = format.ok_or_else(|| Refusal::NoThumbnail(String::from("it is no image that is known")))?;
    if format == ImageFormat::WebP {
        webp::check(source()?, fs::metadata(path)?.len())?;
    }
    let mut decoder = reader.into_decoder()?;
    let (width, height) = decoder.dimensions();
    if u64::from(width) * u64::from(height) > MEDIA_IMAGE_PIXELS_MAX {
        return Err(Refusal::TooManyPixels);
    }
    let orientation = decoder.orientation().unwrap_or(Orientation::NoTransforms);
    let is_animated = is_animated(format, source()?)?;
    let turned = matches!(
        orientation,
        Orientation::Rotate90
            | Orientation::Rotate270
            | Orientation::Rotate90FlipH
            | Orientation::Rotate270FlipH
    );
    let seen = if turned { (height, width) } else { (width, height) };
    let plan = shape.plan(seen);
    if plan.is_none() && (shape.animated || !is_animated) {
        return Ok(Drawn::Original(format.to_mime_type()));
    }
    let (part, to) = plan.unwrap_or(([0, 0, seen.0, seen.1], seen));
    if shape.animated
        && is_animated
        && let Some(animation) = animate(frames(format, source()?)?, (format, part, to), clock)?
    {
        return Ok(animation);
    }
    let mut image = DynamicImage::from_decoder(decoder)?;
    image.apply_orientation(orientation);
    let has_alpha = image.color().has_alpha();
    let image = shrink(&image, part, to);
    let mut bytes = Vec::new();
    if has_alpha {
        image.to_rgba8().write_with_encoder(PngEncoder::new(&mut bytes))?;
        return Ok(Drawn::Smaller(bytes, "image/png"));
    }
    let image = image.to_rgb8();
    if format == ImageFormat::Png {
        image.write_with_encoder(PngEncoder::new(&mut bytes))?;
        return Ok(Drawn::Smaller(bytes, "image/png"));
    }
    image.write_with_encoder(JpegEncoder::new_with_quality(&mut bytes, JPEG_QUALITY))?;
    Ok(Drawn::Smaller(bytes, "image/jpeg"))
}

fn limits() -> Limits {
    let mut limits = Limits::default();
    limits.max_alloc = Some(MEDIA_IMAGE_MEMORY_MAX);
    limits
}

/// Formats whose decoders are written in a language that keeps to its memory.
fn is_known(format: ImageFormat) -> bool {
    matches!(format, ImageFormat::Png | ImageFormat::Jpeg | ImageFormat::Gif | ImageFormat::WebP)
}

fn is_animated(format: ImageFormat, source: Source) -> Result<bool, Refusal> {
    Ok(match format {
        ImageFormat::Gif => {
            let mut decoder = GifDecoder::new(source)?;
            decoder.set_limits(limits())?;
            decoder.into_frames().take(2).filter(Result::is_ok).count() == 2
        }
        ImageFormat::WebP => WebPDecoder::new(source)?.has_animation(),
        ImageFormat::Png => PngDecoder::with_limits(source, limits())?.is_apng()?,
        _ => false,
    })
}

fn frames(format: ImageFormat, source: Source) -> Result<Frames<'static>, Refusal> {
    Ok(match format {
        ImageFormat::Gif => {
            let mut decoder = GifDecoder::new(source)?;
            decoder.set_limits(limits())?;
            decoder.into_frames()
        }
        ImageFormat::WebP => {
            let mut decoder = WebPDecoder::new(source)?;
            decoder.set_limits(limits())?;
            decoder.into_frames()
        }
        _ => PngDecoder::with_limits(source, limits())?.apng()?.into_frames(),
    })
}

fn shrink(image: &DynamicImage, [x, y, width, height]: [u32; 4], (to_w, to_h): (u32, u32)) -> DynamicImage {
    let part = image.crop_imm(x, y, width, height);
    if (width, height) == (to_w, to_h) {
        return part;
    }
    // Most of the way quickly, the rest well.
    let (near_w, near_h) = (to_w.saturating_mul(2), to_h.saturating_mul(2));
    let near = match width > near_w.saturating_mul(2) && height > near_h.saturating_mul(2) {
        true => part.thumbnail_exact(near_w, near_h),
        false => part,
    };
    near.resize_exact(to_w, to_h, FilterType::CatmullRom)
}

/// Every frame, smaller; nothing when there are too many of them, or it takes too long.
fn animate(
    frames: Frames<'_>,
    (format, part, to): (ImageFormat, [u32; 4], (u32, u32)),
    clock: &dyn Clock,
) -> Result<Option<Drawn>, Refusal> {
    let started = clock.monotonic();
    let in_time = || clock.monotonic().saturating_sub(started) < MEDIA_ANIMATION_SECONDS_MAX;
    let (mut read, mut written) = (0_u64, 0_u64);
    let mut smaller: Vec<Frame> = Vec::new();
    for frame in frames {
        let frame = frame?;
        let delay = frame.delay();
        let whole = frame.into_buffer();
        read += u64::from(whole.width()) * u64::from(whole.height());
        written += u64::from(to.0) * u64::from(to.1);
        let too_much = read > MEDIA_ANIMATION_PIXELS_MAX * 8 || written > MEDIA_ANIMATION_PIXELS_MAX;
        if too_much || smaller.len() >= MEDIA_ANIMATION_FRAMES_MAX || !in_time() {
            return Ok(None);
        }
        let image: RgbaImage = shrink(&DynamicImage::ImageRgba8(whole), part, to).to_rgba8();
        smaller.push(Frame::from_parts(image, 0, 0, delay));
    }
    match format {
        ImageFormat::Gif => {
            let mut bytes = Vec::new();
            let mut encoder = GifEncoder::new_with_speed(&mut bytes, GIF_SPEED);
            encoder.set_repeat(Repeat::Infinite)?;
            for frame in smaller {
                if !in_time() {
                    return Ok(None);
                }
                encoder.encode_frame(frame)?;
            }
            drop(encoder);
            Ok(Some(Drawn::Smaller(bytes, "image/gif")))
        }
        _ => apng(&smaller, to).map(Some).map_err(|error| Refusal::NoThumbnail(error.to_string())),
    }
}

fn apng(frames: &[Frame], (width, height): (u32, u32)) -> Result<Drawn, png::EncodingError> {
    let mut bytes = Vec::new();
    let mut encoder = png::Encoder::new(&mut bytes, width, height);
    encoder.set_color(png::ColorType::Rgba);
    encoder.set_depth(png::BitDepth::Eight);
    encoder.set_animated(u32::try_from(frames.len()).unwrap_or(u32::MAX), 0)?;
    let mut writer = encoder.write_header()?;
    for frame in frames {
        let delay = Duration::from(frame.delay()).as_millis();
        writer.set_frame_delay(u16::try_from(delay).unwrap_or(u16::MAX), 1_000)?;
        writer.write_image_data(frame.buffer())?;
    }
    writer.finish()?;
    Ok(Drawn::Smaller(bytes, "image/png"))
}
