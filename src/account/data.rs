//! Account data: what clients keep with their account, global or for a room.
//!
//! <https://spec.matrix.org/v1.19/client-server-api/#client-config>

use ruma::{OwnedRoomId, OwnedUserId, RoomId, UserId};
use serde_json::value::RawValue;

use super::{
    AccountError, Accounts,
    measure::{Counted, Growth},
};
use crate::{
    limits::{
        ACCOUNT_ATTEMPTS_MAX, ACCOUNT_DATA_BYTES_MAX, ID_BYTES_MAX, PUSH_RULES_BYTES_MAX, SCAN_ROWS_MAX,
    },
    log::{Commit, CommitError, Log},
    store::{
        KeyFields, Scan, StoreError,
        table::{Rows, TableId},
    },
    types::{Fact, Lane},
};

/// By user, room (empty for global data) and type. The value is the content.
pub(super) const ACCOUNT_DATA: Rows<(OwnedUserId, String, String), Box<RawValue>> =
    Rows::new(TableId::AccountData);

/// A row of it.
type DataRow = ((OwnedUserId, String, String), Box<RawValue>);

/// Types that only the server writes, through endpoints of their own.
const MANAGED: [&str; 2] = ["m.fully_read", PUSH_RULES];
pub(super) const PUSH_RULES: &str = "m.push_rules";

/// Account data to be set.
#[derive(Clone, Debug)]
pub struct DataChange {
    /// The room, or nothing for global data.
    pub room_id: Option<OwnedRoomId>,
    /// The event type.
    pub event_type: String,
    /// The content.
    pub content: Box<RawValue>,
}

impl DataChange {
    fn check(&self) -> Result<(), AccountError> {
        let limit = match self.event_type.as_str() {
            PUSH_RULES => PUSH_RULES_BYTES_MAX,
            _ => ACCOUNT_DATA_BYTES_MAX,
        };
        if self.content.get().len() > limit {
            return Err(AccountError::TooLarge("The account data is too large"));
        }
        if self.event_type.is_empty() || self.event_type.len() > ID_BYTES_MAX {
            return Err(AccountError::Invalid("The type is empty or too long".to_owned()));
        }
        if !self.content.get().trim_start().starts_with('{') {
            return Err(AccountError::BadJson("The content must be an object".to_owned()));
        }
        Ok(())
    }
}

/// When the devices of a user are told that account data is removed.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Told {
    Always,
    IfItWasThere,
}

/// Whether a content is the empty object.
fn is_empty(content: &RawValue) -> bool {
    let inner = content.get().trim().strip_prefix('{').and_then(|rest| rest.strip_suffix('}'));
    inner.is_some_and(|inner| inner.trim().is_empty())
}

/// Adds to `commit` the removal of account data, and the fact that tells all devices of the user.
fn drop_data(commit: &mut Commit, user: &UserId, (room, event_type): (Option<&RoomId>, &str)) {
    commit.delete(&ACCOUNT_DATA, &(user.to_owned(), room_field(room), event_type.to_owned()));
    let fact = Fact::AccountData { room_id: room.map(RoomId::to_owned), event_type: event_type.to_owned() };
    commit.fact(Lane::Account(user.to_owned()), fact);
}

impl Accounts {
    /// Has `commit` remove what `user` has noted about a room.
    pub fn drop_room_data(&self, commit: &mut Commit, user: &UserId, room: &RoomId) {
        commit.delete_prefix(&ACCOUNT_DATA, &(user.to_owned(), room.to_string()));
        // They are counted anew when somebody asks.
        self.data_bytes.remove(user);
        self.data_types.remove(&(user.to_owned(), room.to_string()));
    }

    /// Account data of one type.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn data(
        &self,
        user: &UserId,
        room: Option<&RoomId>,
        event_type: &str,
    ) -> Result<Option<Box<RawValue>>, AccountError> {
        let key = (user.to_owned(), room_field(room), event_type.to_owned());
        Ok(self.log.db().row(&ACCOUNT_DATA, &key).await?)
    }

    /// All account data of a user, global (`None`) or of one room.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn all_data(
        &self,
        user: &UserId,
        room: Option<&RoomId>,
    ) -> Result<Vec<(String, Box<RawValue>)>, AccountError> {
        let prefix = (user.to_owned(), room_field(room));
        let rows = self.data_rows(&prefix).await?;
        Ok(rows.into_iter().map(|((_, _, event_type), content)| (event_type, content)).collect())
    }

    /// All account data of a user, of all rooms: room (nothing for global), type, content.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn data_of_all_rooms(
        &self,
        user: &UserId,
    ) -> Result<Vec<(Option<OwnedRoomId>, String, Box<RawValue>)>, AccountError> {
        let rows = self.data_rows(&(user.to_owned(),)).await?;
        let room = |text: String| OwnedRoomId::try_from(text).ok();
        Ok(rows.into_iter().map(|((_, of, event_type), content)| (room(of), event_type, content)).collect())
    }

    /// All rows that begin with `prefix`, however many scans it takes.
    async fn data_rows(&self, prefix: &impl KeyFields) -> Result<Vec<DataRow>, StoreError> {
        let all = ACCOUNT_DATA.prefix(prefix);
        let (mut from, to) = (all.clone(), all.after_prefix());
        let mut rows = Vec::new();
        loop {
            let scan = Scan { from, to: to.clone(), reverse: false, limit: SCAN_ROWS_MAX };
            let page = self.log.db().scan(&ACCOUNT_DATA, scan).await?;
            let next = page.last().map(|(key, _)| ACCOUNT_DATA.key(key).successor());
            let whole = page.len() < SCAN_ROWS_MAX;
            rows.extend(page);
            match next {
                Some(next) if !whole => from = next,
                _ => return Ok(rows),
            }
        }
    }

    /// Several pieces of account data at once, in the order asked for.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn data_of(
        &self,
        user: &UserId,
        wanted: &[(Option<OwnedRoomId>, String)],
    ) -> Result<Vec<Option<Box<RawValue>>>, AccountError> {
        let keys: Vec<_> = wanted
            .iter()
            .map(|(room, event_type)| (user.to_owned(), room_field(room.as_deref()), event_type.clone()))
            .collect();
        Ok(self.log.db().rows(&ACCOUNT_DATA, &keys).await?)
    }

    /// Sets account data as a client asks. No content is no account data: it is removed, and told once.
    ///
    /// <https://github.com/matrix-org/matrix-spec-proposals/pull/3391>
    ///
    /// # Errors
    /// When the type is one that the server manages, or the content or all that the user keeps is too large.
    pub async fn set_data(&self, user: &UserId, change: DataChange) -> Result<(), AccountError> {
        if MANAGED.contains(&change.event_type.as_str()) {
            return Err(AccountError::ManagedType);
        }
        change.check()?;
        let DataChange { room_id, event_type, content } = change;
        let content = Some(content).filter(|content| !is_empty(content));
        // Told though nothing was there: a client waits for what it has set.
        self.replace_data(user, (room_id.as_deref(), &event_type), (content, Told::Always)).await
    }

    /// Removes account data; what is not there is removed already.
    ///
    /// # Errors
    /// When the type is one that the server manages.
    pub async fn remove_data(
        &self,
        user: &UserId,
        room: Option<&RoomId>,
        event_type: &str,
    ) -> Result<(), AccountError> {
        if MANAGED.contains(&event_type) {
            return Err(AccountError::ManagedType);
        }
        self.replace_data(user, (room, event_type), (None, Told::IfItWasThere)).await
    }

    /// Writes account data, or removes it, whatever is there. What goes is only counted as gone if the commit expects it to be
    /// there, so that of many requests at the same time one counts it.
    async fn replace_data(
        &self,
        user: &UserId,
        (room, event_type): (Option<&RoomId>, &str),
        (content, told): (Option<Box<RawValue>>, Told),
    ) -> Result<(), AccountError> {
        let key = (user.to_owned(), room_field(room), event_type.to_owned());
        for attempt in 1..=ACCOUNT_ATTEMPTS_MAX {
            let before = self.data(user, room, event_type).await?;
            if content.is_none() && before.is_none() && told == Told::IfItWasThere {
                return Ok(());
            }
            // Who was not fast enough so often is counted as if nothing went.
            let is_sure = attempt < ACCOUNT_ATTEMPTS_MAX;
            let mut commit = Commit::new();
            match &before {
                Some(before) if is_sure => commit.expect_equals(&ACCOUNT_DATA, &key, before),
                None if is_sure => commit.expect_absent(&ACCOUNT_DATA, &key),
                _ => {}
            }
            let before = before.as_ref().filter(|_| is_sure).map(|content| content.get().len());
            let after = content.as_ref().map(|content| content.get().len());
            let counted = self.check_growth(user, Growth { room, event_type, before, after }).await?;
            match content.clone() {
                None => drop_data(&mut commit, user, (room, event_type)),
                Some(content) => {
                    let (room_id, event_type) = (room.map(RoomId::to_owned), event_type.to_owned());
                    self.put_data(&mut commit, user, DataChange { room_id, event_type, content })?;
                }
            }
            match self.log.commit(commit).await {
                Err(CommitError::Conflict(_)) => counted.withdraw(),
                Err(error) => return Err(error.into()),
                Ok(_) => {
                    counted.settle();
                    return Ok(());
                }
            }
        }
        Err(AccountError::Contended)
    }

    /// Adds to `commit` account data of any type, and the fact that tells all devices of the user.
    ///
    /// # Errors
    /// When the content is no object or too large.
    pub fn put_data(
        &self,
        commit: &mut Commit,
        user: &UserId,
        change: DataChange,
    ) -> Result<(), AccountError> {
        change.check()?;
        let DataChange { room_id, event_type, content } = change;
        let key = (user.to_owned(), room_field(room_id.as_deref()), event_type.clone());
        commit.put(&ACCOUNT_DATA, &key, &content);
        commit.fact(Lane::Account(user.to_owned()), Fact::AccountData { room_id, event_type });
        Ok(())
    }

    /// Reads account data, has `change` make other content of it, and writes that; once more if another
    /// request was faster. With `None` from `change` all stays as it was.
    pub(super) async fn change_data<E: From<AccountError>>(
        &self,
        user: &UserId,
        (room, event_type): (Option<&RoomId>, &str),
        mut change: impl FnMut(Option<&RawValue>) -> Result<Option<Box<RawValue>>, E>,
    ) -> Result<(), E> {
        let key = (user.to_owned(), room_field(room), event_type.to_owned());
        for _ in 0..ACCOUNT_ATTEMPTS_MAX {
            let before = self.data(user, room, event_type).await?;
            let Some(content) = change(before.as_deref())? else { return Ok(()) };
            // These have a bound of their own.
            let counted = match event_type {
                PUSH_RULES => None,
                _ => {
                    let before = before.as_ref().map(|before| before.get().len());
                    let after = Some(content.get().len());
                    Some(self.check_growth(user, Growth { room, event_type, before, after }).await?)
                }
            };
            let mut commit = Commit::new();
            match &before {
                Some(before) => commit.expect_equals(&ACCOUNT_DATA, &key, before),
                None => commit.expect_absent(&ACCOUNT_DATA, &key),
            }
            let room_id = room.map(RoomId::to_owned);
            self.put_data(
                &mut commit,
                user,
                DataChange { room_id, event_type: event_type.to_owned(), content },
            )?;
            match self.log.commit(commit).await {
                Err(CommitError::Conflict(_)) => counted.into_iter().for_each(Counted::withdraw),
                Err(error) => return Err(AccountError::from(error).into()),
                Ok(_) => {
                    counted.into_iter().for_each(Counted::settle);
                    return Ok(());
                }
            }
        }
        Err(AccountError::Contended.into())
    }

    /// Reads global account data of one type as JSON of `T`; `None` when it is absent or of another
    /// shape (clients write it, so its shape is not ours to insist on).
    ///
    /// # Errors
    /// When the store fails.
    pub async fn read_data<T: serde::de::DeserializeOwned>(
        &self,
        user: &UserId,
        event_type: &str,
    ) -> Result<Option<T>, AccountError> {
        let content = self.data(user, None, event_type).await?;
        Ok(content.and_then(|content| serde_json::from_str(content.get()).ok()))
    }
}

/// Adds to `commit` the removal of global account data, if there is any, and the fact that tells all devices of the
/// user.
///
/// # Errors
/// When the store fails.
pub async fn forget_data(
    log: &Log,
    commit: &mut Commit,
    user: &UserId,
    event_type: &str,
) -> Result<(), StoreError> {
    let key = (user.to_owned(), room_field(None), event_type.to_owned());
    if log.db().row(&ACCOUNT_DATA, &key).await?.is_some() {
        drop_data(commit, user, (None, event_type));
    }
    Ok(())
}

pub(super) fn room_field(room: Option<&RoomId>) -> String {
    room.map(|room| room.as_str().to_owned()).unwrap_or_default()
}
