//! Notifications as gateways get them.
//!
//! <https://spec.matrix.org/v1.19/push-gateway-api/#post_matrixpushv1notify>

use ruma::{
    SecondsSinceUnixEpoch, UInt, UserId,
    api::push_gateway::send_event_notification::v1::{
        Device, Notification, NotificationCounts, NotificationPriority,
    },
    events::{
        StateEventType, TimelineEventType,
        room::{
            canonical_alias::RoomCanonicalAliasEventContent, member::RoomMemberEventContent,
            name::RoomNameEventContent,
        },
    },
    push::{Action, HttpPusherData, PushFormat},
};
use serde_json::{Value, json, value::to_raw_value};

use crate::{
    dag::{Pdu, StateId},
    history::{History, StoredEvent},
    push::{Notice, PusherId, PusherRow},
    store::StoreError,
    types::Membership,
};

/// To which app on which phone, and how it is to be presented.
pub(super) fn device(
    (id, row): (&PusherId, &PusherRow),
    gateway: &HttpPusherData,
    actions: &[Action],
) -> Device {
    let mut device = Device::new(id.app_id.clone(), id.pushkey.clone());
    device.pushkey_ts = UInt::try_from(row.set_ms / 1_000).ok().map(SecondsSinceUnixEpoch);
    device.data = gateway.clone().into();
    device.tweaks = actions
        .iter()
        .filter_map(|action| match action {
            // One without a value says nothing, and ruma cannot write it. Of `highlight` and `sound` it knows the value.
            Action::SetTweak(tweak) => tweak.value().is_some().then(|| tweak.clone()),
            _ => None,
        })
        .collect();
    device
}

/// The body of a request with this notification.
///
/// # Errors
/// When it cannot be written.
pub(super) fn body(notification: &Notification) -> serde_json::Result<Value> {
    let mut told = serde_json::to_value(notification)?;
    if notification.event_id.is_none() {
        // By hand: ruma leaves zero out, as the specification says of notifications of events. What tells nothing but the
        // count tells that nothing is unread, and gateways clear the badge when they read the zero.
        told["counts"]["unread"] = u64::from(notification.counts.unread).into();
    }
    Ok(json!({ "notification": told }))
}

/// Nothing but the count.
pub(super) fn count(device: Device, badge: u64) -> Notification {
    let mut notification = Notification::new(vec![device]);
    notification.prio = NotificationPriority::Low;
    notification.counts = counts(badge);
    notification
}

/// Of an event: as little as the client has asked for.
pub(super) async fn event(
    history: &History,
    (user, notice): (&UserId, &Notice),
    format: Option<&PushFormat>,
    (device, badge): (Device, u64),
) -> Result<Notification, StoreError> {
    let event = &notice.event;
    let pdu = &event.pdu;
    let mut notification = Notification::new(vec![device]);
    notification.event_id = Some(pdu.event_id().to_owned());
    notification.room_id = Some(pdu.room_id().to_owned());
    notification.prio = priority(notice);
    notification.counts = counts(badge);
    if matches!(format, Some(PushFormat::EventIdOnly)) {
        return Ok(notification);
    }
    notification.event_type = Some(pdu.event_type().clone());
    notification.sender = Some(pdu.sender().to_owned());
    notification.user_is_target =
        pdu.membership().is_some() && pdu.state_key().is_some_and(|key| key == user.as_str());
    if is_from_stranger(history, user, pdu).await? {
        let content = to_raw_value(&json!({ "membership": "invite" })).map_err(StoreError::engine)?;
        notification.content = Some(content);
        return Ok(notification);
    }
    notification.content = Some(pdu.content().to_owned());
    let state = event.states.map_or(StateId::EMPTY, |states| states.before);
    let sender = (StateEventType::RoomMember, pdu.sender().as_str());
    let member: Option<RoomMemberEventContent> = content(history, state, sender).await?;
    notification.sender_display_name = member.and_then(|member| member.displayname);
    let name: Option<RoomNameEventContent> = content(history, state, (StateEventType::RoomName, "")).await?;
    notification.room_name = name.map(|name| name.name);
    let alias: Option<RoomCanonicalAliasEventContent> =
        content(history, state, (StateEventType::RoomCanonicalAlias, "")).await?;
    notification.room_alias = alias.and_then(|content| content.alias);
    Ok(notification)
}

/// Whether an event invites `user`.
pub(super) fn invites(pdu: &Pdu, user: &UserId) -> bool {
    pdu.membership() == Some(Membership::Invite) && pdu.state_key() == Some(user.as_str())
}

/// Whether an event is an invite by somebody with whom the user is in no room. Of such a one nothing is shown on a phone
/// or in a letter that its sender could choose freely: no reason, no names, no picture.
pub(super) async fn is_from_stranger(
    history: &History,
    user: &UserId,
    pdu: &Pdu,
) -> Result<bool, StoreError> {
    Ok(invites(pdu, user) && !history.shares_room(user, pdu.sender()).await?)
}

pub(super) async fn content<T: serde::de::DeserializeOwned>(
    history: &History,
    state: StateId,
    (event_type, key): (StateEventType, &str),
) -> Result<Option<T>, StoreError> {
    let event: Option<std::sync::Arc<StoredEvent>> = history.state_event(state, event_type, key).await?;
    Ok(event.and_then(|event| event.pdu.content_as().ok()))
}

/// What makes a sound, and what nobody but the app can read, is worth waking a phone at once.
fn priority(notice: &Notice) -> NotificationPriority {
    let is_urgent = notice.actions.iter().any(|action| action.is_highlight() || action.sound().is_some())
        || matches!(
            notice.event.pdu.event_type(),
            TimelineEventType::RoomEncrypted | TimelineEventType::CallInvite
        );
    match is_urgent {
        true => NotificationPriority::High,
        false => NotificationPriority::Low,
    }
}

fn counts(badge: u64) -> NotificationCounts {
    NotificationCounts::new(UInt::try_from(badge).unwrap_or(UInt::MAX), UInt::MIN)
}
