//! Room tags: account data of the type `m.tag`.
//!
//! <https://spec.matrix.org/v1.19/client-server-api/#room-tagging>

use ruma::{RoomId, UserId};
use serde_json::{
    Map, Value, json,
    value::{RawValue, to_raw_value},
};

use super::{AccountError, Accounts};
use crate::{limits::ID_BYTES_MAX, store::StoreError};

impl Accounts {
    /// The tags of a room.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn tags(&self, user: &UserId, room: &RoomId) -> Result<Map<String, Value>, AccountError> {
        Ok(tags_of(self.data(user, Some(room), "m.tag").await?.as_deref()))
    }

    /// Sets a tag of a room, or removes it.
    ///
    /// # Errors
    /// When the name of the tag is too long.
    pub async fn set_tag(
        &self,
        user: &UserId,
        room: &RoomId,
        (tag, info): (&str, Option<Value>),
    ) -> Result<(), AccountError> {
        if tag.len() > ID_BYTES_MAX {
            return Err(AccountError::Invalid("The name of a tag may have 255 bytes at most".to_owned()));
        }
        self.change_data(user, (Some(room), "m.tag"), |content| {
            let mut tags = tags_of(content);
            let before = match &info {
                Some(info) => tags.insert(tag.to_owned(), info.clone()),
                None => tags.remove(tag),
            };
            if before == info {
                return Ok(None);
            }
            let content = to_raw_value(&json!({ "tags": tags })).map_err(StoreError::engine)?;
            Ok(Some(content))
        })
        .await
    }
}

/// What is in the content; nothing if a client stored something of another shape.
fn tags_of(content: Option<&RawValue>) -> Map<String, Value> {
    let content: Value =
        content.and_then(|content| serde_json::from_str(content.get()).ok()).unwrap_or_default();
    content.get("tags").and_then(Value::as_object).cloned().unwrap_or_default()
}
