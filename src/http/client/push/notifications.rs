//! `GET /_matrix/client/v3/notifications`
//!
//! <https://spec.matrix.org/v1.19/client-server-api/#get_matrixclientv3notifications>

use ruma::{
    MilliSecondsSinceUnixEpoch, UInt,
    api::client::push::get_notifications::v3::{Notification, Request, Response},
    serde::Raw,
};

use crate::{
    account::Caller,
    history::Shape,
    http::{App, Failure},
    limits::{NOTIFICATIONS_DEFAULT, NOTIFICATIONS_MAX},
    types::Position,
};

pub(super) async fn handle(app: App, caller: Caller, request: Request) -> Result<Response, Failure> {
    let before = match &request.from {
        Some(token) => position(token)?,
        None => app.log.head().next(),
    };
    let limit = request.limit.map_or(NOTIFICATIONS_DEFAULT, number).clamp(1, NOTIFICATIONS_MAX);
    let only_highlights = request.only.as_deref() == Some("highlight");
    let user = &caller.user_id;
    let (found, next) = app.push.notifications(user, before, limit, only_highlights).await?;
    let viewer = app.history.viewer(user, Some(&caller.device_id)).await?;
    let mut viewer = viewer.ignoring(&app.push.person(user).await?.ignored);
    let events: Vec<_> = found.iter().map(|notification| notification.event.clone()).collect();
    let bundles = viewer.bundles(&events).await?;
    let rendered = viewer.render(&events, Shape::Full, &bundles).await?;
    let mut notifications = Vec::with_capacity(found.len());
    for (notification, event) in found.into_iter().zip(rendered) {
        let pdu = &notification.event.pdu;
        let (room_id, sent) = (pdu.room_id().to_owned(), pdu.origin_server_ts());
        let ts = MilliSecondsSinceUnixEpoch(sent.0);
        let event = Raw::from_json(event);
        notifications.push(Notification::new(notification.actions, event, notification.is_read, room_id, ts));
    }
    let mut response = Response::new(notifications);
    response.next_token = next.map(|next| format!("n{next}"));
    Ok(response)
}

fn number(limit: UInt) -> usize {
    usize::try_from(u64::from(limit)).unwrap_or(usize::MAX)
}

/// Where an earlier page has ended.
fn position(token: &str) -> Result<Position, Failure> {
    let digits = token.strip_prefix('n').filter(|digits| digits.bytes().all(|byte| byte.is_ascii_digit()));
    let position = digits.and_then(|digits| digits.parse().ok()).map(Position);
    position.ok_or_else(|| Failure::invalid_param("The token is not one of this server"))
}
