//! Room tags: account data of the type `m.tag`.
//!
//! <https://spec.matrix.org/v1.19/client-server-api/#room-tagging>

use ruma::{RoomId, UserId};
use serde_json::{Map, Value, json};

use super::{AccountError, Accounts, DataChange};
use crate::{limits::ID_BYTES_MAX, log::Commit, store::StoreError};

impl Accounts {
    /// The tags of a room.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn tags(&self, user: &UserId, room: &RoomId) -> Result<Map<String, Value>, AccountError> {
        let content = self.data(user, Some(room), "m.tag").await?;
        let content: Value =
            content.and_then(|content| serde_json::from_str(content.get()).ok()).unwrap_or_default();
        Ok(content.get("tags").and_then(Value::as_object).cloned().unwrap_or_default())
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
            return Err(AccountError::TooLarge("The name of a tag may have 255 bytes at most"));
        }
        let mut tags = self.tags(user, room).await?;
        match info {
            Some(info) => drop(tags.insert(tag.to_owned(), info)),
            None => drop(tags.remove(tag)),
        }
        let content =
            serde_json::value::to_raw_value(&json!({ "tags": tags })).map_err(StoreError::engine)?;
        let mut commit = Commit::new();
        let change = DataChange { room_id: Some(room.to_owned()), event_type: "m.tag".to_owned(), content };
        self.put_data(&mut commit, user, change)?;
        Ok(self.log.commit(commit).await.map(|_| ())?)
    }
}
