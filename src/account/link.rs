//! Which identities at other providers belong to which users.

use ruma::{OwnedUserId, UserId};
use serde::{Deserialize, Serialize};

use super::{AccountError, Accounts, NewUser, Verified};
use crate::{
    limits::SCAN_ROWS_MAX,
    log::{Commit, CommitError},
    store::table::{Rows, TableId},
};

/// By provider and subject.
const LINKS: Rows<(String, String), LinkRow> = Rows::new(TableId::ProviderLink);
/// By user, provider and subject.
const OWN_LINKS: Rows<(OwnedUserId, String, String), ()> = Rows::new(TableId::UserLink);

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct LinkRow {
    user_id: OwnedUserId,
    linked_ms: u64,
}

/// Somebody as a provider knows them: the provider's id here, and its name for them, which never changes.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Identity {
    /// The id of the provider in the configuration.
    pub provider: String,
    /// The claim `sub`.
    pub subject: String,
}

impl Identity {
    fn key(&self) -> (String, String) {
        (self.provider.clone(), self.subject.clone())
    }
}

impl Accounts {
    /// Whom an identity belongs to.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn linked_user(&self, identity: &Identity) -> Result<Option<OwnedUserId>, AccountError> {
        let row = self.log.db().row(&LINKS, &identity.key()).await?;
        Ok(row.map(|row| row.user_id))
    }

    /// Makes an account for an identity that has none, in the same commit as what `also` adds. Its owner has accepted
    /// the policies.
    ///
    /// # Errors
    /// As [`Accounts::create_user`]; when the identity has an account by now, as if the name were taken.
    pub async fn create_linked_user(
        &self,
        new: NewUser,
        identity: &Identity,
        also: impl Fn(&mut Commit),
    ) -> Result<OwnedUserId, AccountError> {
        let (mut commit, user_id) = self.plan_user(new, true).await?;
        self.plan_link(&mut commit, identity, &user_id);
        also(&mut commit);
        self.commit_user(commit).await.map(|()| user_id)
    }

    /// Has an identity belong to somebody who has shown who they are, in the same commit as what `also` adds.
    ///
    /// # Errors
    /// As [`Accounts::commit_verified`]; [`AccountError::Contended`] when the identity belongs to somebody.
    pub async fn link(
        &self,
        verified: &Verified,
        identity: &Identity,
        also: impl Fn(&mut Commit),
    ) -> Result<(), AccountError> {
        let user_id = verified.user_id().to_owned();
        let plan = |commit: &mut Commit| {
            self.plan_link(commit, identity, &user_id);
            also(commit);
        };
        self.commit_verified(verified, plan).await
    }

    /// The identities of a user.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn identities(&self, user: &UserId) -> Result<Vec<Identity>, AccountError> {
        let rows = self.log.db().range(&OWN_LINKS, &(user.to_owned(),), SCAN_ROWS_MAX).await?;
        Ok(rows.into_iter().map(|((_, provider, subject), ())| Identity { provider, subject }).collect())
    }

    /// Has `commit` forget which identities belonged to a user: whoever has one may have another account with it.
    pub(super) fn forget_identities(commit: &mut Commit, user: &UserId, identities: &[Identity]) {
        for identity in identities {
            commit.delete(&LINKS, &identity.key());
        }
        commit.delete_prefix(&OWN_LINKS, &(user.to_owned(),));
    }

    fn plan_link(&self, commit: &mut Commit, identity: &Identity, user_id: &OwnedUserId) {
        let row = LinkRow { user_id: user_id.clone(), linked_ms: self.ports.clock.now_ms() };
        let (provider, subject) = identity.key();
        commit.expect_absent(&LINKS, &identity.key());
        commit.put(&LINKS, &identity.key(), &row);
        commit.put(&OWN_LINKS, &(user_id.clone(), provider, subject), &());
    }
}
