//! Accounts that end.

use std::sync::atomic::Ordering;

use ruma::{OwnedUserId, UserId};

use super::{Purge, PurgeError, Trouble};
use crate::{
    account::User,
    limits::{GUESTS_LOOKED_AT_EVERY_MS, SCAN_ROWS_MAX},
};

impl Purge {
    /// Ends an account; what its user said is hidden from those who come later, if it `erases`. The rooms come first, so
    /// that whoever is cut off can ask again; from then on no token is good.
    ///
    /// # Errors
    /// When there is no such account, or the store fails.
    pub async fn end_account(&self, user: &UserId, erases: bool) -> Result<(), PurgeError> {
        self.0.rooms.leave_all(user).await?;
        if erases {
            self.0.history.erase(user).await?;
            self.0.media.delete_of(user).await?;
        }
        self.0.accounts.deactivate(user, erases).await?;
        self.0.devices.retire(user).await?;
        self.0.delayed.forget_user(user).await?;
        // Rooms that a device of theirs came into until no token was good.
        Ok(self.0.rooms.leave_all(user).await?)
    }

    /// Ends the accounts of guests who have not been heard of for long, now and then. One that cannot be ended does not
    /// keep the others.
    pub(super) async fn end_guests(&self, trouble: &mut Trouble) -> Result<(), PurgeError> {
        let (now_ms, seen_ms) = (self.now_ms(), &self.0.guests_seen_ms);
        let Some(idle_ms) = self.0.settings.guest_idle_ms else { return Ok(()) };
        if now_ms < seen_ms.load(Ordering::Relaxed).saturating_add(GUESTS_LOOKED_AT_EVERY_MS) {
            return Ok(());
        }
        let mut after: Option<OwnedUserId> = None;
        loop {
            let users = self.0.accounts.users(after.as_deref(), SCAN_ROWS_MAX).await?;
            let Some((last, _)) = users.last() else { break };
            after = Some(last.clone());
            for (user, row) in users.into_iter().filter(|(_, row)| row.guest && !row.deactivated) {
                let ended = self.end_if_idle(&user, &row, now_ms.saturating_sub(idle_ms)).await;
                trouble.note(format_args!("the account of the guest {user}"), ended);
            }
        }
        seen_ms.store(now_ms, Ordering::Relaxed);
        Ok(())
    }

    /// Ends the account of a guest who was not heard of since.
    async fn end_if_idle(&self, user: &UserId, row: &User, since_ms: u64) -> Result<(), PurgeError> {
        if self.last_heard_ms(user, row).await? < since_ms {
            self.end_account(user, false).await?;
            tracing::info!(user.id = %user, "the guest {user} has been away for too long");
        }
        Ok(())
    }

    /// When a user was last heard of, on whatever device, in milliseconds since the epoch.
    async fn last_heard_ms(&self, user: &UserId, row: &User) -> Result<u64, PurgeError> {
        let devices: Vec<_> = self.0.devices.list(user).await?.into_iter().map(|(id, _)| id).collect();
        let seen = self.0.accounts.last_seen(user, &devices).await?;
        let newest = seen.into_iter().flatten().map(|seen| seen.at_ms).max();
        Ok(newest.unwrap_or_default().max(row.created_ms))
    }
}
