//! Which thumbnail: clients ask for any size, and get one out of a few.

use crate::{limits::MEDIA_THUMBNAIL_SIDE_MAX, media::MediaError};

/// How an image becomes smaller.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Method {
    /// The middle of it, in the asked-for proportions.
    Crop,
    /// All of it, in its own proportions.
    Scale,
}

/// What a thumbnail is to be like.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Shape {
    pub(super) width: u32,
    pub(super) height: u32,
    pub(super) method: Method,
    pub(super) animated: bool,
}

/// Boxes into which images are scaled: those of the specification, and some for large screens.
const SCALED: [(u32, u32); 6] = [(320, 240), (640, 480), (800, 600), (1_280, 960), (1_920, 1_440), LARGEST];
/// What nothing is larger than.
const LARGEST: (u32, u32) = (MEDIA_THUMBNAIL_SIDE_MAX, MEDIA_THUMBNAIL_SIDE_MAX);
/// Sides of the squares that images are cropped to: those of the specification, and some for sharper screens.
const SQUARES: [u32; 8] = [32, 64, 96, 192, 320, 640, 1_280, MEDIA_THUMBNAIL_SIDE_MAX];
/// Sides of what else they are cropped to: each at most half as long again as the one before, so that proportions are about
/// those that were asked for.
const SIDES: [u32; 12] = [32, 48, 64, 96, 144, 192, 288, 432, 640, 960, 1_440, MEDIA_THUMBNAIL_SIDE_MAX];

impl Shape {
    /// The smallest usual shape that is not smaller than what is asked for.
    ///
    /// # Errors
    /// When a side is 0 or too long for a thumbnail.
    pub fn fitting(width: u64, height: u64, method: Method, animated: bool) -> Result<Self, MediaError> {
        let side = |side: u64| u32::try_from(side).ok().filter(|side| *side > 0);
        let (Some(width), Some(height)) = (side(width), side(height)) else {
            return Err(MediaError::Invalid("A thumbnail has a width and a height"));
        };
        let (width, height) = match method {
            Method::Scale => {
                let fits = |other: &&(u32, u32)| width <= other.0 && height <= other.1;
                SCALED.iter().find(fits).copied().unwrap_or(LARGEST)
            }
            Method::Crop if width == height => (above(width, &SQUARES), above(width, &SQUARES)),
            Method::Crop if SCALED.contains(&(width, height)) => (width, height),
            Method::Crop => (above(width, &SIDES), above(height, &SIDES)),
        };
        Ok(Self { width, height, method, animated })
    }

    /// As a part of a query.
    pub(in crate::media) fn query(self) -> String {
        let method = match self.method {
            Method::Crop => "crop",
            Method::Scale => "scale",
        };
        let Self { width, height, animated, .. } = self;
        format!("width={width}&height={height}&method={method}&animated={animated}")
    }

    /// As a part of a key.
    pub(in crate::media) fn key(self) -> String {
        let method = match self.method {
            Method::Crop => "crop",
            Method::Scale => "scale",
        };
        let animated = if self.animated { "-animated" } else { "" };
        format!("{}x{}-{method}{animated}", self.width, self.height)
    }

    /// What of an image of `size` is shown (x, y, width, height), and how large; nothing when the image is not larger
    /// than what is asked for.
    pub(super) fn plan(self, (width, height): (u32, u32)) -> Option<([u32; 4], (u32, u32))> {
        if width <= self.width && height <= self.height {
            return None;
        }
        let (w, h) = (u64::from(width), u64::from(height));
        let (to_w, to_h) = (u64::from(self.width), u64::from(self.height));
        let small = |n: u64| u32::try_from(n).unwrap_or(u32::MAX).max(1);
        let wider = w * to_h > h * to_w;
        match self.method {
            Method::Scale => {
                let to = if wider { (to_w, h * to_w / w) } else { (w * to_h / h, to_h) };
                Some(([0, 0, width, height], (small(to.0), small(to.1))))
            }
            Method::Crop => {
                let (cut_w, cut_h) = if wider { (h * to_w / to_h, h) } else { (w, w * to_h / to_w) };
                let (cut_w, cut_h) = (small(cut_w), small(cut_h));
                let at = ((width - cut_w.min(width)) / 2, (height - cut_h.min(height)) / 2);
                let to = (self.width.min(cut_w), self.height.min(cut_h));
                Some(([at.0, at.1, cut_w, cut_h], to))
            }
        }
    }
}

/// The first of `usual` sides that is not shorter than `side`, or the longest.
fn above(side: u32, usual: &[u32]) -> u32 {
    usual.iter().find(|usual| side <= **usual).copied().unwrap_or(MEDIA_THUMBNAIL_SIDE_MAX)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::{Method, Shape};

    #[track_caller]
    fn fits(asked: (u64, u64), method: Method, expected: &str) {
        let shape = Shape::fitting(asked.0, asked.1, method, false);
        assert_eq!(shape.map_or_else(|_| String::from("refused"), Shape::key), expected);
    }

    #[test]
    fn what_is_asked_for_becomes_a_usual_size_that_is_not_smaller() {
        fits((1, 1), Method::Scale, "320x240-scale");
        fits((320, 240), Method::Scale, "320x240-scale");
        fits((320, 241), Method::Scale, "640x480-scale");
        fits((800, 600), Method::Scale, "800x600-scale");
        fits((9_999, 1), Method::Scale, "2048x2048-scale");
        fits((30, 30), Method::Crop, "32x32-crop");
        fits((96, 96), Method::Crop, "96x96-crop");
        fits((97, 97), Method::Crop, "192x192-crop");
        fits((100, 50), Method::Crop, "144x64-crop");
        fits((800, 600), Method::Crop, "800x600-crop");
        fits((700, 700), Method::Crop, "1280x1280-crop");
        fits((9_999, 50), Method::Crop, "2048x64-crop");
        fits((u64::MAX, 50), Method::Crop, "refused");
        fits((0, 50), Method::Crop, "refused");
        fits((50, 0), Method::Scale, "refused");
    }

    #[test]
    fn there_are_few_shapes() {
        let all = |method| {
            let sizes =
                (1..2_100_u64).step_by(7).flat_map(|w| (1..2_100_u64).step_by(7).map(move |h| (w, h)));
            let keys = sizes.map(|(w, h)| Shape::fitting(w, h, method, false).unwrap().key());
            keys.collect::<BTreeSet<_>>().len()
        };
        assert_eq!(all(Method::Scale), 6);
        assert!(all(Method::Crop) <= 12 * 12 + 8 + 6);
    }

    type Plan = Option<([u32; 4], (u32, u32))>;

    #[track_caller]
    fn plan(image: (u32, u32), asked: (u32, u32), method: Method, expected: Plan) {
        let shape = Shape { width: asked.0, height: asked.1, method, animated: false };
        assert_eq!(shape.plan(image), expected);
    }

    #[test]
    fn nothing_is_made_larger() {
        plan((30, 30), (32, 32), Method::Crop, None);
        plan((320, 240), (320, 240), Method::Scale, None);
        plan((1_000, 1_000), (320, 240), Method::Scale, Some(([0, 0, 1_000, 1_000], (240, 240))));
        plan((1_000, 10), (320, 240), Method::Scale, Some(([0, 0, 1_000, 10], (320, 3))));
        plan((100_000, 1), (320, 240), Method::Scale, Some(([0, 0, 100_000, 1], (320, 1))));
        plan((200, 100), (32, 32), Method::Crop, Some(([50, 0, 100, 100], (32, 32))));
        plan((200, 20), (32, 32), Method::Crop, Some(([90, 0, 20, 20], (20, 20))));
        plan((100, 200), (100, 50), Method::Crop, Some(([0, 75, 100, 50], (100, 50))));
    }
}
