//! What rooms have to know of local users: the accounts know it.

use ruma::{RoomId, UserId};

use crate::{
    account::{AccountError, Accounts, Inheritance},
    room::{Profile, Profiles},
    store::{BoxFuture, StoreError},
};

fn store(error: AccountError) -> StoreError {
    match error {
        AccountError::Store(error) => error,
        error => StoreError::engine(error),
    }
}

impl Profiles for Accounts {
    fn profile<'a>(&'a self, user: &'a UserId) -> BoxFuture<'a, Result<Profile, StoreError>> {
        Box::pin(async move {
            let (displayname, avatar_url) = self.display(user).await.map_err(store)?;
            Ok(Profile { displayname, avatar_url })
        })
    }

    fn refuses_invite<'a>(
        &'a self,
        user: &'a UserId,
        inviter: &'a UserId,
    ) -> BoxFuture<'a, Result<bool, StoreError>> {
        Box::pin(async move { Self::refuses_invite(self, user, inviter).await.map_err(store) })
    }

    fn is_guest<'a>(&'a self, user: &'a UserId) -> BoxFuture<'a, Result<bool, StoreError>> {
        Box::pin(async move { Self::is_guest(self, user).await.map_err(store) })
    }

    fn inheritance<'a>(
        &'a self,
        user: &'a UserId,
        old: &'a RoomId,
        new: &'a RoomId,
    ) -> BoxFuture<'a, Result<Option<Inheritance>, StoreError>> {
        Box::pin(async move { Self::inheritance(self, user, old, new).await.map(Some).map_err(store) })
    }
}
