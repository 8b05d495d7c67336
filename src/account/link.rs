//! Which identities at other providers belong to which users.

use ruma::{OwnedUserId, UserId};
use serde::{Deserialize, Serialize};

use super::{AccountError, Accounts, NewUser, User, Verified, user::USERS};
use crate::{
    limits::{ACCOUNT_ATTEMPTS_MAX, SCAN_ROWS_MAX},
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

    /// Whom an identity belongs to, as somebody who has shown who they are: what they do by it holds only as long as the
    /// identity is theirs.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn verified_by(&self, identity: &Identity) -> Result<Option<Verified>, AccountError> {
        let Some(user) = self.linked_user(identity).await? else { return Ok(None) };
        let verified = self.verified_now(&user).await?;
        // When it is unlinked after this, that signs the user out, and nothing holds that was shown before.
        let is_linked = self.linked_user(identity).await?.as_ref() == Some(&user);
        Ok(is_linked.then_some(verified))
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

    /// Has an identity of `user` belong to nobody, and signs out every browser of theirs, since somebody may have come in
    /// by it. `leads_in` says whether somebody can still sign in by another one.
    ///
    /// # Errors
    /// When it is not theirs; [`AccountError::Invalid`] when nobody could sign in to the account any more.
    pub async fn unlink(
        &self,
        user: &UserId,
        identity: &Identity,
        leads_in: impl Fn(&Identity) -> bool,
    ) -> Result<(), AccountError> {
        let owner = (user.to_owned(),);
        let own_key = |identity: &Identity| {
            let (provider, subject) = identity.key();
            (user.to_owned(), provider, subject)
        };
        for _ in 0..ACCOUNT_ATTEMPTS_MAX {
            let before = self.user(user).await?.ok_or(AccountError::NotFound("user"))?;
            let identities = self.identities(user).await?;
            if !identities.contains(identity) {
                return Err(AccountError::NotFound("identity"));
            }
            let mut commit = Commit::new();
            if before.password_hash.is_none() {
                let other = identities.iter().find(|other| *other != identity && leads_in(other));
                let other = other.ok_or_else(|| {
                    AccountError::Invalid("Set a password first, or nobody could sign in any more".to_owned())
                })?;
                commit.expect_equals(&OWN_LINKS, &own_key(other), &());
            }
            let after = User { signed_out_ms: self.ports.clock.now_ms(), ..before.clone() };
            commit.expect_equals(&USERS, &owner, &before);
            commit.put(&USERS, &owner, &after);
            commit.delete(&LINKS, &identity.key());
            commit.delete(&OWN_LINKS, &own_key(identity));
            match self.log.commit(commit).await {
                Err(CommitError::Conflict(_)) => {}
                other => return Ok(other.map(drop)?),
            }
        }
        Err(AccountError::Contended)
    }

    /// Has every identity of somebody belong to nobody who has just got a password, by which they sign in; what they have
    /// then. It signs out every browser of theirs: somebody may have come in by one of them since the password.
    ///
    /// # Errors
    /// [`AccountError::WrongPassword`] when what they have shown does not hold any more.
    pub async fn unlink_all(&self, verified: &Verified) -> Result<Verified, AccountError> {
        let (mut verified, user) = (verified.clone(), verified.user_id());
        for _ in 0..ACCOUNT_ATTEMPTS_MAX {
            let before = self.user(user).await?.ok_or(AccountError::NotFound("user"))?;
            verified.check(&before)?;
            let identities = self.identities(user).await?;
            if identities.is_empty() {
                return Ok(verified);
            }
            let after = User { signed_out_ms: self.ports.clock.now_ms(), ..before.clone() };
            let mut commit = Commit::new();
            commit.expect_equals(&USERS, &(user.to_owned(),), &before);
            commit.put(&USERS, &(user.to_owned(),), &after);
            Self::forget_identities(&mut commit, user, &identities);
            match self.log.commit(commit).await {
                Err(CommitError::Conflict(_)) => {}
                // And again, for one that was linked while these were read. From now on nobody can who has come in by one.
                done => verified = done.map(|_| Verified::of(user, &after))?,
            }
        }
        Err(AccountError::Contended)
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
