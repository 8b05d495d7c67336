//! Addresses of users (third-party identifiers), and how somebody proves that they read what is sent to one.
//!
//! <https://spec.matrix.org/v1.19/client-server-api/#adding-account-administrative-contact-information>

use ruma::{OwnedUserId, UserId};
use serde::{Deserialize, Serialize};
use subtle::ConstantTimeEq;

use super::{
    AccountError, Accounts, User, Verified,
    token::{hash, new_token},
};
use crate::{
    limits::{ADDRESS_BYTES_MAX, ADDRESS_PROOF_MS, ADDRESS_SWEEP_ROWS, SCAN_ROWS_MAX},
    log::{Commit, CommitError},
    store::{
        Scan,
        table::{Rows, TableId},
    },
};

/// By address.
const ADDRESSES: Rows<(String,), Owned> = Rows::new(TableId::ThirdParty);
/// By user and address.
const OWN_ADDRESSES: Rows<(OwnedUserId, String), AddressRow> = Rows::new(TableId::UserThirdParty);
/// By session id.
const PROOFS: Rows<(String,), ProofRow> = Rows::new(TableId::AddressProof);
/// Characters of a session id: 128 bits of the hash of what it stands for.
const ID_CHARS: usize = 32;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Owned {
    user_id: OwnedUserId,
}

/// An address of a user.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AddressRow {
    /// When the user proved that it is theirs, in milliseconds since the epoch.
    pub validated_ms: u64,
    /// When it was added, in milliseconds since the epoch.
    pub added_ms: u64,
}

/// What a proof is good for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ProofOf {
    /// Making an account.
    Registration,
    /// Another password for whoever has forgotten theirs.
    Password,
    /// Adding the address to an account.
    Account,
}

/// What a client asks for: a letter to an address.
#[derive(Clone, Debug)]
pub struct NewProof {
    /// What it is good for.
    pub of: ProofOf,
    /// The address.
    pub address: String,
    /// What the client will show again; others do not know it.
    pub client_secret: String,
    /// A letter is sent only if this number is greater than the last one.
    pub attempt: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct ProofRow {
    of: ProofOf,
    address: String,
    secret: String,
    /// The hash of what is in the letter.
    code: String,
    attempt: u64,
    ends_ms: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    validated_ms: Option<u64>,
}

/// A proof that has begun.
#[derive(Clone, Debug)]
pub struct Begun {
    /// Its session id.
    pub sid: String,
    /// The address, as it is kept.
    pub address: String,
    /// What goes into the letter; nothing when the letter has been sent before.
    pub code: Option<String>,
    /// What an earlier letter is about, which this one makes void.
    former: Option<ProofRow>,
}

/// A proof that holds. It is good once: whoever uses it removes it in the same commit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proved {
    /// The address.
    pub address: String,
    sid: String,
    row: ProofRow,
}

/// The one form in which an address is kept, so that it cannot be had twice.
///
/// # Errors
/// When it is no mail address.
fn normal(address: &str) -> Result<String, AccountError> {
    let address = address.trim().to_lowercase();
    let plain = |byte: u8| byte.is_ascii_graphic() && !b"<>(),;:\\\"[]".contains(&byte);
    let parts = address.split_once('@').filter(|(name, host)| {
        !name.is_empty() && !host.contains('@') && host.contains('.') && !host.starts_with('.')
    });
    match parts.is_some() && address.len() <= ADDRESS_BYTES_MAX && address.bytes().all(plain) {
        true => Ok(address),
        false => Err(AccountError::Invalid("That is no mail address".to_owned())),
    }
}

impl Accounts {
    /// Begins to have an address proved.
    ///
    /// # Errors
    /// When it is no address.
    pub async fn begin_proof(&self, new: NewProof) -> Result<Begun, AccountError> {
        let NewProof { of, address, client_secret, attempt } = new;
        let address = normal(&address)?;
        let sid = hash(&format!("{of:?} {address} {client_secret}"))[..ID_CHARS].to_owned();
        let now_ms = self.ports.clock.now_ms();
        let key = (sid.clone(),);
        let before = self.log.db().row(&PROOFS, &key).await?.filter(|row| row.ends_ms > now_ms);
        if before.as_ref().is_some_and(|row| row.attempt >= attempt) {
            return Ok(Begun { sid, address, code: None, former: None });
        }
        let code = new_token(&*self.ports.rng, "lkm_");
        let row = ProofRow {
            of,
            address: address.clone(),
            secret: hash(&client_secret),
            code: hash(&code),
            attempt,
            ends_ms: now_ms + ADDRESS_PROOF_MS,
            validated_ms: None,
        };
        let mut commit = Commit::new();
        self.sweep_proofs(&mut commit, &sid).await?;
        commit.put(&PROOFS, &key, &row);
        self.log.commit(commit).await?;
        Ok(Begun { sid, address, code: Some(code), former: before })
    }

    /// The letter was not sent: whoever asks for it again with the same number is sent one, and an earlier letter is
    /// good for what it was.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn letter_failed(&self, begun: &Begun) -> Result<(), AccountError> {
        let (Some(code), key) = (&begun.code, (begun.sid.clone(),)) else { return Ok(()) };
        let row = self.log.db().row(&PROOFS, &key).await?;
        let Some(row) = row.filter(|row| row.code == hash(code)) else { return Ok(()) };
        let mut commit = Commit::new();
        commit.expect_equals(&PROOFS, &key, &row);
        match &begun.former {
            Some(former) => commit.put(&PROOFS, &key, former),
            None => commit.delete(&PROOFS, &key),
        };
        match self.log.commit(commit).await {
            // Another one has been begun.
            Err(CommitError::Conflict(_)) => Ok(()),
            other => Ok(other.map(drop)?),
        }
    }

    /// Somebody has read the letter: whether it is one of ours whose time is not over.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn confirm_proof(&self, sid: &str, code: &str) -> Result<bool, AccountError> {
        let Some(row) = self.of_letter((sid, code)).await? else { return Ok(false) };
        let (now_ms, key) = (self.ports.clock.now_ms(), (sid.to_owned(),));
        let mut commit = Commit::new();
        commit.expect_equals(&PROOFS, &key, &row);
        commit.put(&PROOFS, &key, &ProofRow { validated_ms: Some(now_ms), ..row });
        match self.log.commit(commit).await {
            Err(CommitError::Conflict(_)) => Ok(false),
            other => Ok(other.map(|_| true)?),
        }
    }

    /// What a letter proves, and of which address, for whoever has it: they are to know what they confirm.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn purpose_of_letter(
        &self,
        (sid, code): (&str, &str),
    ) -> Result<Option<(ProofOf, String)>, AccountError> {
        Ok(self.of_letter((sid, code)).await?.map(|row| (row.of, row.address)))
    }

    /// What a letter is about, for whoever has it, as long as its time is not over.
    async fn of_letter(&self, (sid, code): (&str, &str)) -> Result<Option<ProofRow>, AccountError> {
        let row = self.log.db().row(&PROOFS, &(sid.to_owned(),)).await?;
        let now_ms = self.ports.clock.now_ms();
        let right = |row: &ProofRow| bool::from(row.code.as_bytes().ct_eq(hash(code).as_bytes()));
        Ok(row.filter(|row| row.ends_ms > now_ms && right(row)))
    }

    /// A proof, if the letter has been read and the client is the one that asked for it.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn proved(
        &self,
        of: ProofOf,
        (sid, client_secret): (&str, &str),
    ) -> Result<Option<Proved>, AccountError> {
        let is_own = |row: &ProofRow| bool::from(row.secret.as_bytes().ct_eq(hash(client_secret).as_bytes()));
        self.proof((of, sid), |row| is_own(row) && row.validated_ms.is_some()).await
    }

    /// A proof, if `code` is what is in its letter: whoever has it has read that. For pages of the server, to which the
    /// letter itself leads.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn proved_by_letter(
        &self,
        of: ProofOf,
        (sid, code): (&str, &str),
    ) -> Result<Option<Proved>, AccountError> {
        self.proof((of, sid), |row| bool::from(row.code.as_bytes().ct_eq(hash(code).as_bytes()))).await
    }

    /// As [`Self::proved_by_letter`], if it was begun with this secret besides: the letter is for whoever has asked for it.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn proved_by_letter_to(
        &self,
        of: ProofOf,
        (sid, code): (&str, &str),
        client_secret: &str,
    ) -> Result<Option<Proved>, AccountError> {
        let is = |kept: &str, given: &str| bool::from(kept.as_bytes().ct_eq(hash(given).as_bytes()));
        self.proof((of, sid), |row| is(&row.code, code) & is(&row.secret, client_secret)).await
    }

    /// A proof that has not ended and `holds`. One for another password ends when the user gets one, whatever way.
    async fn proof(
        &self,
        (of, sid): (ProofOf, &str),
        holds: impl Fn(&ProofRow) -> bool,
    ) -> Result<Option<Proved>, AccountError> {
        let row = self.log.db().row(&PROOFS, &(sid.to_owned(),)).await?;
        let now_ms = self.ports.clock.now_ms();
        let row = row.filter(|row| row.of == of && row.ends_ms > now_ms && holds(row));
        let proved = row.map(|row| Proved { address: row.address.clone(), sid: sid.to_owned(), row });
        let Some(proved) = proved else { return Ok(None) };
        if of != ProofOf::Password {
            return Ok(Some(proved));
        }
        let user = match self.user_of_address(&proved.address).await? {
            Some(user) => self.user(&user).await?,
            None => None,
        };
        Ok(Some(proved).filter(|proved| user.is_none_or(|user| !proved.is_before_password(&user))))
    }

    /// Whether a proof has not been used, and its address is nobody's.
    ///
    /// # Errors
    /// [`AccountError::AddressNotProved`] and [`AccountError::AddressInUse`], when it is otherwise.
    pub(super) async fn still_proved(&self, proved: &Proved) -> Result<(), AccountError> {
        let row = self.log.db().row(&PROOFS, &(proved.sid.clone(),)).await?;
        if row.as_ref() != Some(&proved.row) {
            return Err(AccountError::AddressNotProved);
        }
        match self.user_of_address(&proved.address).await? {
            None => Ok(()),
            Some(_) => Err(AccountError::AddressInUse),
        }
    }

    /// Whose address it is.
    ///
    /// # Errors
    /// When the store fails, or it is no address.
    pub async fn user_of_address(&self, address: &str) -> Result<Option<OwnedUserId>, AccountError> {
        let row = self.log.db().row(&ADDRESSES, &(normal(address)?,)).await?;
        Ok(row.map(|row| row.user_id))
    }

    /// The addresses of a user.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn addresses(&self, user: &UserId) -> Result<Vec<(String, AddressRow)>, AccountError> {
        let rows = self.log.db().range(&OWN_ADDRESSES, &(user.to_owned(),), SCAN_ROWS_MAX).await?;
        Ok(rows.into_iter().map(|((_, address), row)| (address, row)).collect())
    }

    /// Adds an address that was proved. The proof is used up.
    ///
    /// # Errors
    /// [`AccountError::AddressInUse`] when it is somebody's already.
    pub async fn add_address(&self, user: &UserId, proved: &Proved) -> Result<(), AccountError> {
        let mut commit = Commit::new();
        self.plan_address(&mut commit, user, proved);
        match self.log.commit(commit).await {
            Err(CommitError::Conflict(_)) => Err(AccountError::AddressInUse),
            other => Ok(other.map(drop)?),
        }
    }

    /// Adds an address that was proved, for somebody who has shown who they are: whoever reads what is sent there gets the
    /// account by it.
    ///
    /// # Errors
    /// As [`Accounts::commit_verified`]; [`AccountError::AddressInUse`] when it is somebody's already.
    pub async fn add_address_by(&self, verified: &Verified, proved: &Proved) -> Result<(), AccountError> {
        let plan = |commit: &mut Commit| self.plan_address(commit, verified.user_id(), proved);
        match self.commit_verified(verified, plan).await {
            Err(AccountError::Contended) => Err(AccountError::AddressInUse),
            other => other,
        }
    }

    /// Removes an address of a user; one that is not theirs is passed over.
    ///
    /// # Errors
    /// When the store fails, or it is no address.
    pub async fn remove_address(&self, user: &UserId, address: &str) -> Result<(), AccountError> {
        let key = (user.to_owned(), normal(address)?);
        if self.log.db().row(&OWN_ADDRESSES, &key).await?.is_none() {
            return Ok(());
        }
        let mut commit = Commit::new();
        commit.delete(&OWN_ADDRESSES, &key);
        commit.delete(&ADDRESSES, &(key.1,));
        self.log.commit(commit).await?;
        Ok(())
    }

    /// Adds to `commit` an address for `user`, and the end of its proof.
    pub(super) fn plan_address(&self, commit: &mut Commit, user: &UserId, proved: &Proved) {
        let address = (proved.address.clone(),);
        let added_ms = self.ports.clock.now_ms();
        // Without a moment it is proved now, by what is in the letter.
        let row = AddressRow { validated_ms: proved.row.validated_ms.unwrap_or(added_ms), added_ms };
        proved.use_up(commit);
        commit.expect_absent(&ADDRESSES, &address);
        commit.put(&ADDRESSES, &address, &Owned { user_id: user.to_owned() });
        commit.put(&OWN_ADDRESSES, &(user.to_owned(), address.0), &row);
    }

    /// Removes some proofs whose time is over: ids are as good as random, so the neighbours of a new one are.
    async fn sweep_proofs(&self, commit: &mut Commit, sid: &str) -> Result<(), AccountError> {
        let from = PROOFS.key(&(sid.to_owned(),));
        let to = PROOFS.prefix(&()).after_prefix();
        let scan = Scan { from, to, reverse: false, limit: ADDRESS_SWEEP_ROWS };
        let now_ms = self.ports.clock.now_ms();
        for (key, row) in self.log.db().scan(&PROOFS, scan).await? {
            if row.ends_ms <= now_ms {
                commit.delete(&PROOFS, &key);
            }
        }
        Ok(())
    }
}

impl Proved {
    /// Whether the user has got another password since the proof was begun.
    pub(super) fn is_before_password(&self, user: &User) -> bool {
        self.row.ends_ms < user.signed_out_ms + ADDRESS_PROOF_MS
    }

    /// Adds to `commit` that the proof is used, which must be for the first time.
    pub(super) fn use_up(&self, commit: &mut Commit) {
        let key = (self.sid.clone(),);
        commit.expect_equals(&PROOFS, &key, &self.row);
        commit.delete(&PROOFS, &key);
    }
}

/// What is known of the addresses of a user.
pub(super) struct Reached {
    addresses: Vec<(String, AddressRow)>,
    /// The sessions in which somebody proves one of them.
    proofs: Vec<(String,)>,
}

impl Accounts {
    /// What is known of the addresses of `user`.
    pub(super) async fn reached(&self, user: &UserId) -> Result<Reached, AccountError> {
        let addresses = self.addresses(user).await?;
        let mut proofs = Vec::new();
        if addresses.is_empty() {
            return Ok(Reached { addresses, proofs });
        }
        let (mut from, to) = (PROOFS.prefix(&()), PROOFS.prefix(&()).after_prefix());
        loop {
            let scan = Scan { from, to: to.clone(), reverse: false, limit: SCAN_ROWS_MAX };
            let rows = self.log.db().scan(&PROOFS, scan).await?;
            let (is_full, last) = (rows.len() == SCAN_ROWS_MAX, rows.last().map(|(key, _)| key.clone()));
            let is_of = |row: &ProofRow| addresses.iter().any(|(address, _)| *address == row.address);
            proofs.extend(rows.into_iter().filter(|(_, row)| is_of(row)).map(|(key, _)| key));
            match last {
                Some(last) if is_full => from = PROOFS.key(&last).successor(),
                _ => return Ok(Reached { addresses, proofs }),
            }
        }
    }
}

/// Adds to `commit` the removal of what is known of the addresses of a user.
pub(super) fn forget_addresses(commit: &mut Commit, user: &UserId, Reached { addresses, proofs }: &Reached) {
    for proof in proofs {
        commit.delete(&PROOFS, proof);
    }
    for (address, _) in addresses {
        commit.delete(&ADDRESSES, &(address.clone(),));
        commit.delete(&OWN_ADDRESSES, &(user.to_owned(), address.clone()));
    }
}
