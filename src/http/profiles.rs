//! What rooms have to know of local users: the accounts know it.

use ruma::{RoomId, UserId};

use crate::{
    account::{AccountError, Accounts, Inheritance, Standing, Verdict},
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

    fn judge_invite<'a>(
        &'a self,
        user: &'a UserId,
        inviter: &'a UserId,
    ) -> BoxFuture<'a, Result<Verdict, StoreError>> {
        Box::pin(async move { Self::judge_invite(self, user, inviter).await.map_err(store) })
    }

    fn is_above_policy<'a>(&'a self, user: &'a UserId) -> BoxFuture<'a, Result<bool, StoreError>> {
        Box::pin(async move {
            if self.announcer() == Some(user) {
                return Ok(true);
            }
            let row = self.user(user).await.map_err(store)?;
            Ok(row.is_some_and(|row| row.admin && row.standing() == Standing::Good))
        })
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
