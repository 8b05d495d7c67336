//! Telling a user something.

use ruma::{
    OwnedDeviceId, OwnedEventId, OwnedRoomId, OwnedUserId, UserId,
    api::client::room::create_room::v3::RoomPreset,
    events::{StateEventType, TimelineEventType},
};
use serde_json::{Map, Value, json, value::RawValue};

use super::{NOTICE_ROOMS, NoticeError, Notices};
use crate::{
    account::AccountError,
    log::Commit,
    room::{Message, NewRoom, Txn},
    types::Membership,
};

/// What a user is to be told.
#[derive(Clone, Debug)]
pub struct Notice {
    /// Who is told.
    pub user: OwnedUserId,
    /// The content of the event.
    pub content: Box<RawValue>,
    /// The type of the event, if it is not `m.room.message`.
    pub event_type: Option<TimelineEventType>,
    /// The state key, if it is a state event.
    pub state_key: Option<String>,
    /// Names the request, which takes effect once.
    pub txn: Option<String>,
}

impl Notices {
    /// Tells a user something; answers with the id of the event.
    ///
    /// # Errors
    /// Why it cannot be done.
    pub async fn send(&self, notice: Notice) -> Result<OwnedEventId, NoticeError> {
        let is_local = self.0.history.is_local(&notice.user);
        if !is_local || !self.0.accounts.is_active(&notice.user).await? {
            return Err(NoticeError::NoSuchUser);
        }
        let _turn = self.0.turn.lock().await;
        self.prepare_sender().await?;
        let room = self.prepare_room(&notice.user).await?;
        let (sender, rooms) = (&self.0.settings.sender, &self.0.rooms);
        let event_type = notice.event_type.unwrap_or(TimelineEventType::RoomMessage);
        if let Some(state_key) = notice.state_key {
            let content = notice.content;
            let event_type = StateEventType::from(event_type.to_string());
            return Ok(rooms.set_state(sender, &room, (&event_type, &state_key), content).await?);
        }
        let device = OwnedDeviceId::from("NOTICES");
        let txn = notice.txn.map(|id| Txn { device, id });
        let message = Message { event_type, content: notice.content, txn };
        Ok(rooms.send(sender, &room, message).await?)
    }

    /// Makes the account that tells users, and shows it as the configuration wants it.
    async fn prepare_sender(&self) -> Result<(), NoticeError> {
        let settings = &self.0.settings;
        let accounts = &self.0.accounts;
        match accounts.user(&settings.sender).await? {
            Some(row) if row.password_hash.is_some() || row.deactivated => {
                return Err(NoticeError::NameTaken);
            }
            Some(_) => {}
            None => match accounts.create_own_user(settings.sender.localpart()).await {
                Ok(_) | Err(AccountError::UserInUse) => {}
                Err(error) => return Err(error.into()),
            },
        }
        let (name, avatar) = accounts.display(&settings.sender).await?;
        for (field, before, after) in [
            ("displayname", name, Some(&settings.display_name)),
            ("avatar_url", avatar, settings.avatar_url.as_ref()),
        ] {
            if before.as_ref() != after {
                let value = after.map(|after| Value::from(after.as_str()));
                accounts.set_profile_field(&settings.sender, field, value).await?;
            }
        }
        Ok(())
    }

    /// The room with a user, who is in it or invited afterwards.
    async fn prepare_room(&self, user: &UserId) -> Result<OwnedRoomId, NoticeError> {
        let (history, rooms, sender) = (&self.0.history, &self.0.rooms, &self.0.settings.sender);
        let known = self.room_of(user).await?;
        let room = match known {
            Some(room) if history.is_joined(&room, sender).await? => room,
            _ => self.make_room(user).await?,
        };
        match history.membership(&room, user).await? {
            Some(Membership::Join | Membership::Invite) => {}
            Some(Membership::Ban) => {
                rooms.unban(sender, &room, user, None).await?;
                rooms.invite(sender, &room, user, None).await?;
            }
            _ => rooms.invite(sender, &room, user, None).await?,
        }
        Ok(room)
    }

    async fn make_room(&self, user: &UserId) -> Result<OwnedRoomId, NoticeError> {
        let settings = &self.0.settings;
        let field = |name: &str, value: Value| Map::from_iter([(String::from(name), value)]);
        let wanted = NewRoom {
            version: Some(settings.room_version.clone()),
            preset: Some(RoomPreset::PrivateChat),
            name: Some(settings.room_name.clone()),
            creation_content: field("m.federate", false.into()),
            // Who is told has no say there.
            power_levels: field("users_default", (-10).into()),
            ..NewRoom::default()
        };
        let room = self.0.rooms.create(&settings.sender, wanted).await?;
        // Before the invite, so that clients see by the tag what it is.
        self.0.accounts.set_tag(user, &room, ("m.server_notice", Some(json!({})))).await?;
        let mut commit = Commit::new();
        commit.put(&NOTICE_ROOMS, &(user.to_owned(),), &room);
        self.0.history.log().commit(commit).await?;
        Ok(room)
    }
}
