//! Application services that come and go while the server runs.

use std::sync::Arc;

use ruma::ServerName;

use super::{AppserviceCouriers, row};
use crate::{
    account::{AccountError, Accounts, NewUser},
    appservice::{Appservice, Appservices, Kept, Origin, Registration, RegistrationError},
    limits::SCAN_ROWS_MAX,
    log::{Commit, CommitError, Log},
    store::{
        Scan, StoreError,
        table::{Rows, TableId},
    },
};

/// What was added while the server ran, by id.
const REGISTRATIONS: Rows<(String,), Kept> = Rows::new(TableId::AppserviceRegistration);

/// Why an application service does not come or go.
#[derive(Debug, thiserror::Error)]
pub enum RegisterError {
    /// The registration cannot be used; the text says why.
    #[error("{0}")]
    Invalid(String),
    /// Another one has the same token.
    #[error(transparent)]
    Clash(#[from] RegistrationError),
    /// The configuration names the file with this one, so it comes and goes there.
    #[error("The application service is in the configuration of the server")]
    Configured,
    /// The user that stands for it cannot be made.
    #[error(transparent)]
    Account(#[from] AccountError),
    /// The log refused.
    #[error(transparent)]
    Commit(#[from] CommitError),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl AppserviceCouriers {
    /// Takes in an application service, or another registration of one that was taken in so, durably, and begins to
    /// serve it: from the present on, or from where it was.
    ///
    /// # Errors
    /// When the registration cannot be used, or is one of the configuration's.
    pub async fn register(
        &self,
        all: &Appservices,
        registration: Registration,
        server: &ServerName,
    ) -> Result<Arc<Appservice>, RegisterError> {
        let _turn = self.0.changing.lock().await;
        let kept = Kept::from(registration.clone());
        let opened = registration.open(server).map_err(RegisterError::Invalid)?;
        let opened = Appservice { origin: Origin::Store, ..opened };
        let id = opened.registration.id.clone();
        not_configured(all, &id)?;
        all.check(&opened)?;
        make_sender(&self.0.accounts, &opened).await?;
        let opened = Arc::new(opened);
        let mut commit = Commit::new();
        commit.put(&REGISTRATIONS, &(id.clone(),), &kept);
        self.log().commit(commit).await?;
        all.add(opened.clone())?;
        self.end(&id).await;
        self.begin(&opened);
        Ok(opened)
    }

    /// Lets an application service go that was taken in while the server ran, with what was noted of how far it is.
    /// Its users and rooms stay. Whether there was one.
    ///
    /// # Errors
    /// When it is one of the configuration's, or the store fails.
    pub async fn unregister(&self, all: &Appservices, id: &str) -> Result<bool, RegisterError> {
        let _turn = self.0.changing.lock().await;
        not_configured(all, id)?;
        let Some(known) = all.by_id(id) else { return Ok(false) };
        // Nobody may write the row any more that goes.
        self.end(id).await;
        let mut commit = Commit::new();
        commit.delete(&REGISTRATIONS, &(id.to_owned(),));
        row::forget(&mut commit, id);
        match self.log().commit(commit).await {
            Ok(_) => {
                all.remove(id);
                Ok(true)
            }
            Err(error) => {
                self.begin(&known);
                Err(error.into())
            }
        }
    }
}

/// Adds those that were taken in while the server ran. One that cannot be used, since a file now has its id or tokens,
/// is logged and left out.
///
/// # Errors
/// When the store fails.
pub async fn load_registered(all: &Appservices, log: &Log, server: &ServerName) -> Result<(), StoreError> {
    let whole = REGISTRATIONS.prefix(&());
    let (mut from, to) = (whole.clone(), whole.after_prefix());
    loop {
        let scan = Scan { from, to: to.clone(), reverse: false, limit: SCAN_ROWS_MAX };
        let page = log.db().scan(&REGISTRATIONS, scan).await?;
        let next = page.last().map(|(key, _)| REGISTRATIONS.key(key).successor());
        let is_last = page.len() < SCAN_ROWS_MAX;
        for ((id,), kept) in page {
            if let Err(why) = restore(all, kept, server) {
                tracing::error!("the application service {id} that was added is not served: {why}");
            }
        }
        match next {
            Some(next) if !is_last => from = next,
            _ => return Ok(()),
        }
    }
}

fn restore(all: &Appservices, kept: Kept, server: &ServerName) -> Result<(), String> {
    let opened = Appservice { origin: Origin::Store, ..kept.open(server)? };
    if all.by_id(&opened.registration.id).is_some() {
        return Err("the configuration has one with the same `id`".to_owned());
    }
    all.add(Arc::new(opened)).map_err(|error| error.to_string())
}

fn not_configured(all: &Appservices, id: &str) -> Result<(), RegisterError> {
    match all.by_id(id).map(|known| known.origin) {
        Some(Origin::File) => Err(RegisterError::Configured),
        Some(Origin::Store) | None => Ok(()),
    }
}

/// Every application service has a user that stands for it.
///
/// # Errors
/// When it cannot be made.
pub async fn make_sender(accounts: &Accounts, appservice: &Appservice) -> Result<(), AccountError> {
    let username = Some(String::from(appservice.sender.localpart()));
    match accounts.create_user(NewUser { username, ..NewUser::default() }).await {
        Ok(_) | Err(AccountError::UserInUse) => Ok(()),
        Err(error) => Err(error),
    }
}
