//! Accounts by table, on the memory engine, with a clock that moves when told.

mod data;
mod registration;
mod sessions;
mod uia;

use std::{sync::Arc, time::Duration};

use ruma::{OwnedDeviceId, OwnedUserId, owned_server_name};
use tokio_util::task::TaskTracker;

use super::{AccountError, Accounts, NewDevice, NewSession, NewUser, Registration, Session, Settings, User};
use crate::{
    log::{Commit, Log},
    store::{Db, Store, memory::Memory},
    types::{ManualClock, Ports, SeededRng},
};

const SEED: u64 = 7;

/// A server's accounts.
struct World {
    accounts: Accounts,
    clock: Arc<ManualClock>,
    store: Arc<dyn Store>,
    log: Log,
}

impl World {
    async fn with(settings: Settings) -> Self {
        let (store, clock) = (Arc::new(Memory::new()), Arc::new(ManualClock::at(1_000_000)));
        Self::over(store, clock, settings).await
    }

    async fn new() -> Self {
        Self::with(Settings { access_token_lifetime: Some(Duration::from_secs(300)), ..Settings::default() })
            .await
    }

    /// A server that opens `store`.
    async fn over(store: Arc<dyn Store>, clock: Arc<ManualClock>, settings: Settings) -> Self {
        let log = Log::open(Db::new(store.clone()), &TaskTracker::new()).await.unwrap();
        let ports = Ports { clock: clock.clone(), rng: Arc::new(SeededRng::new(SEED)) };
        let accounts = Accounts::new(log.clone(), ports, owned_server_name!("here"), settings);
        Self { accounts, clock, store, log }
    }

    /// The same store after the process has ended.
    async fn restart(self) -> Self {
        self.settled().await;
        Self::over(self.store, self.clock, self.accounts.settings().clone()).await
    }

    /// An account without a password, since hashing one takes long.
    async fn user(&self, name: &str) -> OwnedUserId {
        let new = NewUser { username: Some(name.to_owned()), ..NewUser::default() };
        self.accounts.create_user(new).await.unwrap()
    }

    async fn login(&self, user: &OwnedUserId, device: &str, refreshes: bool) -> Session {
        let new = NewSession {
            user_id: user.clone(),
            device_id: Some(device.into()),
            display_name: None,
            refreshes,
            client: None,
        };
        self.accounts.start_session(new).await.unwrap()
    }

    /// What a request with `token` meets.
    async fn meets(&self, token: &str) -> String {
        let met = self.accounts.recognize(token).await.and_then(|(caller, user)| match user.locked {
            true => Err(AccountError::Locked),
            false => Ok(caller),
        });
        // Clean-up that the request has left to the committer is done before the next one.
        self.settled().await;
        match met {
            Ok(caller) => format!("{} {}", caller.user_id, caller.device_id),
            Err(error) => refusal(&error).to_owned(),
        }
    }

    /// Returns when the committer has done all it was given so far.
    async fn settled(&self) {
        self.log.commit(Commit::new()).await.unwrap();
    }

    async fn change(&self, user: &OwnedUserId, change: impl Fn(&mut User)) {
        self.accounts.change_user(user, change).await.unwrap();
    }
}

/// A word for each way to be refused.
fn refusal(error: &AccountError) -> &'static str {
    match error {
        AccountError::InvalidUsername(_) => "invalid username",
        AccountError::UserInUse => "in use",
        AccountError::RegistrationRefused(_) => "refused",
        AccountError::WrongPassword => "wrong password",
        AccountError::NotTheCaller => "not the caller",
        AccountError::Deactivated => "deactivated",
        AccountError::Locked => "locked",
        AccountError::UnknownToken { soft: true } => "soft logout",
        AccountError::UnknownToken { soft: false } => "unknown token",
        AccountError::NotFound(_) => "not found",
        AccountError::BadJson(_) => "bad json",
        AccountError::Invalid(_) => "invalid",
        AccountError::TooLarge(_) => "too large",
        AccountError::KeyTooLarge => "key too large",
        AccountError::ProfileTooLarge => "profile too large",
        AccountError::ManagedType => "managed",
        AccountError::Uia(_) => "uia",
        AccountError::Busy => "busy",
        AccountError::NameOfKey => "name of a key",
        AccountError::Contended => "contended",
        AccountError::Commit(_) => "commit",
        AccountError::Store(_) => "store",
        AccountError::WrongLoginToken => "wrong login token",
        AccountError::Replayed(_) => "replayed",
        AccountError::AddressInUse => "address in use",
        AccountError::AddressUnknown => "address unknown",
        AccountError::AddressNotProved => "address not proved",
        AccountError::AccountPage => "account page",
        AccountError::GuestsRefused(_) => "guests refused",
    }
}

/// `ok`, or how it was refused.
fn outcome<T>(result: &Result<T, AccountError>) -> &'static str {
    match result {
        Ok(_) => "ok",
        Err(error) => refusal(error),
    }
}

fn device(id: &str) -> OwnedDeviceId {
    id.into()
}
