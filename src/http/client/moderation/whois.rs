//! `GET /_matrix/client/v3/admin/whois/{userId}`
//!
//! <https://spec.matrix.org/v1.19/client-server-api/#get_matrixclientv3adminwhoisuserid>

use std::collections::BTreeMap;

use ruma::{
    MilliSecondsSinceUnixEpoch, UserId,
    api::client::admin::get_user_info::v3::{ConnectionInfo, DeviceInfo, Request, Response, SessionInfo},
    assign,
};

use super::examine_any;
use crate::{
    account::{Caller, Seen},
    http::{App, Failure, Peer},
};

/// Answers the request, for administrators, and everybody about themselves.
pub(super) async fn handle(
    app: App,
    caller: Caller,
    peer: Peer,
    request: Request,
) -> Result<Response, Failure> {
    if request.user_id != caller.user_id {
        examine_any(&app, (&caller, &peer), &request.user_id).await?;
    }
    let devices = devices(&app, &request.user_id).await?;
    Ok(assign!(Response::new(), { user_id: Some(request.user_id), devices }))
}

/// When and from where the devices of `user` were last heard of.
pub(in crate::http) async fn devices(
    app: &App,
    user: &UserId,
) -> Result<BTreeMap<String, DeviceInfo>, Failure> {
    let ids: Vec<_> = app.devices.list(user).await?.into_iter().map(|(id, _)| id).collect();
    let seen = app.accounts.last_seen(user, &ids).await?;
    Ok(ids.iter().map(ToString::to_string).zip(seen.into_iter().map(shown)).collect())
}

fn shown(seen: Option<Seen>) -> DeviceInfo {
    let connection = seen.map(|seen| {
        let last_seen = seen.at_ms.try_into().ok().map(MilliSecondsSinceUnixEpoch);
        assign!(ConnectionInfo::new(), { ip: seen.ip, last_seen })
    });
    let session = assign!(SessionInfo::new(), { connections: connection.into_iter().collect() });
    assign!(DeviceInfo::new(), { sessions: vec![session] })
}
