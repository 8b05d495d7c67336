//! The tables and what is in them.

use std::fmt;

use ruma::{OwnedServerName, OwnedUserId};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use serde_json::{Map, Value};

use super::sums::Sums;
use crate::store::table::{Rows, TableId};

/// The file of each address.
pub(super) const MEDIA: Rows<(OwnedServerName, String), Item> = Rows::new(TableId::Media);
/// The bytes, by their hash.
pub(super) const CONTENTS: Rows<([u8; 32],), Content> = Rows::new(TableId::MediaContent);
/// What each user has uploaded, by time: the size.
pub(super) const OWNED: Rows<(OwnedUserId, u64, String), u64> = Rows::new(TableId::MediaOwned);
/// How much each user has uploaded.
pub(super) const USAGE: Rows<(OwnedUserId,), Usage> = Rows::new(TableId::MediaUsage);
/// Addresses that wait for an upload: when they expire.
pub(super) const RESERVED: Rows<(OwnedUserId, String), u64> = Rows::new(TableId::MediaReserved);
/// Files in the order in which they were last looked at: the size, with what was drawn of them.
pub(super) const SEEN: Rows<(String, u64, OwnedServerName, String), u64> = Rows::new(TableId::MediaSeen);
/// Thumbnails by the hash of the image and the shape.
pub(super) const THUMBNAILS: Rows<([u8; 32], String), Thumbnail> = Rows::new(TableId::MediaThumbnail);
/// Bytes that nobody needs any more, by name: since when.
pub(super) const GARBAGE: Rows<(String,), u64> = Rows::new(TableId::MediaGarbage);
/// What quarantined bytes begin with, by its hash: since when that is known. Two rows say what is known of all.
pub(super) const HEADS: Rows<([u8; 32],), u64> = Rows::new(TableId::MediaQuarantinedHead);
/// What the bytes of each name are checked by.
pub(super) const SUMS: Rows<(String,), Sums> = Rows::new(TableId::MediaSums);
/// What pages of the web say about themselves, by address.
pub(super) const PREVIEWS: Rows<(String,), Preview> = Rows::new(TableId::UrlPreview);

/// The SHA-256 of a file.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Hash(pub [u8; 32]);

impl fmt::Display for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Hash {
    /// Reads 64 hexadecimal digits.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let mut hash = [0; 32];
        let digits = text.as_bytes();
        if digits.len() != 64 || !text.is_ascii() {
            return None;
        }
        for (byte, pair) in hash.iter_mut().zip(digits.chunks_exact(2)) {
            *byte = u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()?;
        }
        Some(Self(hash))
    }
}

impl Serialize for Hash {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Hash {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::parse(&text).ok_or_else(|| de::Error::custom("no hash"))
    }
}

/// Where a file comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Kind {
    /// A user of this server has uploaded it: it is kept.
    Local,
    /// Another server has it, or the web: it can be had again.
    Cached,
}

impl Kind {
    /// As the first field of [`SEEN`].
    pub(super) fn class(self) -> String {
        String::from(match self {
            Self::Local => "local",
            Self::Cached => "cached",
        })
    }
}

/// One address, `mxc://SERVER/ID`, and the file there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Item {
    pub(super) kind: Kind,
    /// Who has uploaded it, or will.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) owner: Option<OwnedUserId>,
    /// When the address was made, and the file came here if it was not made in advance.
    pub(super) created_ms: u64,
    /// When it was last looked at, roughly.
    pub(super) seen_ms: u64,
    /// Until when something may be uploaded to it, when nothing has been yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) expires_ms: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) stored: Option<Stored>,
    /// How many bytes the thumbnails have that were drawn of it, if it can be had again.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub(super) drawn: u64,
    /// Nobody gets it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(super) quarantined: bool,
}

fn is_zero(number: &u64) -> bool {
    *number == 0
}

impl Item {
    /// One that nobody has uploaded here, and that goes when there is no room.
    pub(super) fn cached(stored: Option<Stored>, now_ms: u64) -> Self {
        Self {
            kind: Kind::Cached,
            owner: None,
            created_ms: now_ms,
            seen_ms: now_ms,
            expires_ms: None,
            stored,
            drawn: 0,
            quarantined: false,
        }
    }
}

/// A file that is here.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Stored {
    pub(super) hash: Hash,
    pub(super) size: u64,
    /// When it came here.
    pub(super) uploaded_ms: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) content_type: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) filename: Option<String>,
}

/// Bytes that one or more files consist of.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Content {
    /// Their name in the storage; none when they are gone and only the quarantine is left.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) name: Option<String>,
    pub(super) size: u64,
    /// How many files consist of them.
    pub(super) uses: u64,
    /// No file that consists of them is given to anybody.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(super) quarantined: bool,
    /// The hash of what they begin with, once they are quarantined; there is a row of [`HEADS`] then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) head: Option<Hash>,
}

/// What a user has uploaded, in all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Usage {
    pub(super) bytes: u64,
    pub(super) files: u64,
}

/// A smaller image of an image.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Thumbnail {
    /// Its name in the storage; none when the image itself serves.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) name: Option<String>,
    pub(super) size: u64,
    /// Empty in rows of old where the image itself serves.
    pub(super) content_type: String,
}

/// What a page of the web says about itself.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Preview {
    pub(super) fetched_ms: u64,
    pub(super) expires_ms: u64,
    /// None when it could not be had.
    pub(super) data: Option<Map<String, Value>>,
}

impl Preview {
    /// How many bytes the row of the page at `url` has, roughly.
    pub(super) fn bytes(&self, url: &str) -> u64 {
        let fields = self.data.iter().flatten();
        let data: usize = fields.map(|(name, value)| name.len() + value.to_string().len()).sum();
        u64::try_from(data + url.len()).unwrap_or(u64::MAX).saturating_add(PREVIEW_ROW_BYTES)
    }
}

/// What else is in the row of a preview, in bytes.
const PREVIEW_ROW_BYTES: u64 = 100;
