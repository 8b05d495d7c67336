//! EDUs from other servers, each handed to the module that it concerns.
//!
//! <https://spec.matrix.org/v1.19/server-server-api/#edus>

use std::{collections::BTreeMap, panic::AssertUnwindSafe};

use futures_util::FutureExt;
use ruma::{OwnedEventId, OwnedRoomId, OwnedUserId, RoomId, ServerName, UserId};
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::value::RawValue;

use super::{Federation, FederationError};
use crate::{
    account::AccountError,
    device::{DeviceError, DirectToDevice, Told},
    ephemeral::{EphemeralError, RemotePresence, RemoteReceipt, Said, Thread},
    limits::{PRESENCE_EDU_USERS_MAX, RECEIPT_EDU_MAX, TRANSACTION_EDUS_MAX},
    log::Audience,
    store::StoreError,
    types::Lane,
};

/// Why an EDU has no effect. Its sender is not told: a transaction with a bad EDU is no failure.
#[derive(Debug, thiserror::Error)]
enum EduError {
    #[error("it is malformed: {0}")]
    Malformed(#[from] serde_json::Error),
    #[error("it speaks for a user of another server")]
    Foreign,
    #[error("the server is denied by the room")]
    Denied,
    #[error("a mistake in this program")]
    Fault,
    #[error(transparent)]
    Ephemeral(#[from] EphemeralError),
    #[error(transparent)]
    Device(#[from] DeviceError),
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl EduError {
    /// Whether it is this server's own trouble, which may be over later.
    fn may_pass(&self) -> bool {
        match self {
            Self::Device(DeviceError::Contended)
            | Self::Ephemeral(EphemeralError::Account(AccountError::Contended)) => true,
            Self::Device(DeviceError::Commit(error))
            | Self::Ephemeral(EphemeralError::Commit(error))
            | Self::Ephemeral(EphemeralError::Account(AccountError::Commit(error))) => error.may_pass(),
            Self::Store(error)
            | Self::Device(DeviceError::Store(error))
            | Self::Ephemeral(EphemeralError::Store(error))
            | Self::Ephemeral(EphemeralError::Account(AccountError::Store(error))) => error.may_pass(),
            _ => false,
        }
    }

    /// Whether something is wrong with this server, for good.
    fn is_ours(&self) -> bool {
        matches!(
            self,
            Self::Fault
                | Self::Store(_)
                | Self::Device(DeviceError::Store(_) | DeviceError::Commit(_))
                | Self::Ephemeral(EphemeralError::Store(_) | EphemeralError::Commit(_))
        )
    }
}

#[derive(Deserialize)]
struct Edu<'a> {
    edu_type: String,
    #[serde(borrow)]
    content: &'a RawValue,
}

#[derive(Deserialize)]
struct Typing {
    room_id: OwnedRoomId,
    user_id: OwnedUserId,
    typing: bool,
}

#[derive(Deserialize)]
struct ReceiptsOfRoom {
    #[serde(rename = "m.read", default)]
    read: BTreeMap<OwnedUserId, Receipt>,
}

#[derive(Deserialize)]
struct Receipt {
    event_ids: Vec<OwnedEventId>,
    #[serde(default)]
    data: ReceiptData,
}

#[derive(Default, Deserialize)]
struct ReceiptData {
    #[serde(default)]
    ts: u64,
    #[serde(default)]
    thread_id: Option<String>,
}

#[derive(Deserialize)]
struct PresencePush {
    push: Vec<Presence>,
}

#[derive(Deserialize)]
struct Presence {
    user_id: OwnedUserId,
    presence: Said,
    #[serde(default)]
    last_active_ago: u64,
    #[serde(default)]
    status_msg: Option<String>,
}

#[derive(Deserialize)]
struct AboutUser {
    user_id: OwnedUserId,
}

impl Federation {
    /// Takes in the EDUs of one transaction of `origin`. Those that make no sense are passed over, and do not
    /// stop the others.
    ///
    /// # Errors
    /// When this server is in trouble that may pass. What follows has not been looked at, so that nothing overtakes;
    /// it is all to come again, which does no harm to what has been taken.
    pub async fn receive_edus(
        &self,
        origin: &ServerName,
        edus: &[Box<RawValue>],
    ) -> Result<(), FederationError> {
        // In order, since later ones may build on earlier ones: a message on the devices told before it.
        for edu in edus.iter().take(TRANSACTION_EDUS_MAX) {
            let received = AssertUnwindSafe(self.receive_edu(origin, edu)).catch_unwind().await;
            // It would come up each time that the transaction comes again.
            match received.unwrap_or(Err(EduError::Fault)) {
                Ok(()) => {}
                Err(error) if error.may_pass() => return Err(FederationError::Trouble(error.to_string())),
                Err(error) if error.is_ours() => tracing::error!(%error, "an EDU of {origin} is lost"),
                Err(error) => tracing::debug!("an EDU of {origin} has no effect: {error}"),
            }
        }
        Ok(())
    }

    async fn receive_edu(&self, origin: &ServerName, edu: &RawValue) -> Result<(), EduError> {
        let Edu { edu_type, content } = serde_json::from_str(edu.get())?;
        match edu_type.as_str() {
            "m.typing" => self.receive_typing(origin, read(content)?).await,
            "m.receipt" => self.receive_receipts(origin, read(content)?).await,
            "m.presence" => self.receive_presence(origin, read(content)?).await,
            "m.direct_to_device" => {
                let direct: DirectToDevice = read(content)?;
                Ok(self.devices.receive_to_device(origin, direct).await?)
            }
            "m.device_list_update" => {
                let told = read(content).map_or(Told::Unclear, Told::Device);
                self.receive_devices(origin, read(content)?, &told).await
            }
            "m.signing_key_update" | "org.matrix.signing_key_update" => {
                let told = read(content).map_or(Told::Unclear, Told::CrossSigning);
                self.receive_devices(origin, read(content)?, &told).await
            }
            // What is not known may be of a later version of the specification.
            _ => Ok(()),
        }
    }

    async fn receive_devices(
        &self,
        origin: &ServerName,
        AboutUser { user_id }: AboutUser,
        told: &Told,
    ) -> Result<(), EduError> {
        only_of(origin, &user_id)?;
        match self.is_met(origin, &user_id).await? {
            true => Ok(self.devices.follow_remote(&user_id, told).await?),
            false => Ok(()),
        }
    }

    async fn receive_typing(&self, origin: &ServerName, typing: Typing) -> Result<(), EduError> {
        only_of(origin, &typing.user_id)?;
        self.only_allowed(origin, &typing.room_id).await?;
        Ok(self.ephemeral.receive_typing(&typing.room_id, &typing.user_id, typing.typing).await?)
    }

    async fn receive_receipts(
        &self,
        origin: &ServerName,
        receipts: BTreeMap<OwnedRoomId, Box<RawValue>>,
    ) -> Result<(), EduError> {
        let mut outcome = Ok(());
        let mut left = RECEIPT_EDU_MAX;
        for (room, receipts) in receipts.into_iter().take(RECEIPT_EDU_MAX) {
            // One room's trouble is not that of the others.
            let of_room = async {
                let ReceiptsOfRoom { read: receipts } = read(&receipts)?;
                self.only_allowed(origin, &room).await?;
                let mut outcome = Ok(());
                for (user, receipt) in receipts.into_iter().take(left) {
                    left -= 1;
                    outcome = graver(outcome, self.receive_receipt(origin, (&room, &user), receipt).await);
                    tokio::task::consume_budget().await;
                }
                outcome
            };
            outcome = graver(outcome, of_room.await);
        }
        outcome
    }

    async fn receive_receipt(
        &self,
        origin: &ServerName,
        (room, user): (&RoomId, &UserId),
        receipt: Receipt,
    ) -> Result<(), EduError> {
        only_of(origin, user)?;
        let thread = match receipt.data.thread_id.as_deref() {
            None => Thread::Unthreaded,
            Some("main") => Thread::Main,
            Some(root) => match OwnedEventId::try_from(root) {
                Ok(root) => Thread::Root(root),
                Err(_) => return Ok(()),
            },
        };
        // Only the newest counts.
        let Some(event_id) = receipt.event_ids.into_iter().next_back() else { return Ok(()) };
        let receipt = RemoteReceipt { event_id, thread, ts: receipt.data.ts };
        Ok(self.ephemeral.receive_receipt(room, user, &receipt).await?)
    }

    async fn receive_presence(&self, origin: &ServerName, presence: PresencePush) -> Result<(), EduError> {
        if !self.ephemeral.has_presence() {
            return Ok(());
        }
        let (mut outcome, shared) = (Ok(()), self.shared_rooms(origin).await?);
        for Presence { user_id, presence: said, last_active_ago, status_msg } in
            presence.push.into_iter().take(PRESENCE_EDU_USERS_MAX)
        {
            let of_user = async {
                only_of(origin, &user_id)?;
                if self.is_in_one(&shared, &user_id).await? {
                    let presence = RemotePresence { said, last_active_ago, status_msg };
                    self.ephemeral.receive_presence(&user_id, presence).await?;
                }
                Ok(())
            };
            outcome = graver(outcome, of_user.await);
            tokio::task::consume_budget().await;
        }
        outcome
    }

    /// Whether a user of `origin` is in a room with one of ours: nobody here cares for others.
    async fn is_met(&self, origin: &ServerName, user: &UserId) -> Result<bool, StoreError> {
        self.is_in_one(&self.shared_rooms(origin).await?, user).await
    }

    /// The rooms in which `origin` and this server are.
    async fn shared_rooms(&self, origin: &ServerName) -> Result<Vec<OwnedRoomId>, StoreError> {
        let rooms = self.log.subscriptions(&Audience::Server(origin.to_owned())).await?;
        let open = rooms.latest().filter(|(_, interval)| interval.closed.is_none());
        Ok(open
            .filter_map(|(lane, _)| match lane {
                Lane::Egress(room) => Some(room.clone()),
                _ => None,
            })
            .collect())
    }

    async fn is_in_one(&self, rooms: &[OwnedRoomId], user: &UserId) -> Result<bool, StoreError> {
        for room in rooms {
            let is_joined = self.history.current_members(room).await?.is_joined(user);
            if is_joined
                || self.history.is_partial(room).await? && self.history.may_be_joined(room, user).await?
            {
                return Ok(true);
            }
        }
        Ok(false)
    }

    async fn only_allowed(&self, origin: &ServerName, room: &RoomId) -> Result<(), EduError> {
        match self.history.allows_server(room, origin).await? {
            true => Ok(()),
            false => Err(EduError::Denied),
        }
    }
}

/// Of two outcomes the one that is to be told: what may pass has to come again, whatever else is wrong.
fn graver(one: Result<(), EduError>, other: Result<(), EduError>) -> Result<(), EduError> {
    match (&one, &other) {
        (Ok(()), _) => other,
        (Err(first), Err(second)) if second.may_pass() && !first.may_pass() => other,
        _ => one,
    }
}

fn read<T: DeserializeOwned>(content: &RawValue) -> Result<T, serde_json::Error> {
    serde_json::from_str(content.get())
}

/// A server speaks for its own users alone.
fn only_of(origin: &ServerName, user: &UserId) -> Result<(), EduError> {
    match user.server_name() == origin {
        true => Ok(()),
        false => Err(EduError::Foreign),
    }
}
