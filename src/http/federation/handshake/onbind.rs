//! `PUT /_matrix/federation/v1/3pid/onbind`
//!
//! <https://spec.matrix.org/v1.19/server-server-api/#put_matrixfederationv13pidonbind>

use ruma::api::federation::thirdparty::bind_callback::v1::{Request, Response};

use crate::{
    federation::Exchange,
    http::{App, Failure},
};

pub(super) async fn handle(app: App, request: Request) -> Result<Response, Failure> {
    let exchanges = request.invites.into_iter().filter_map(|invite| {
        let signed = serde_json::from_str(invite.signed.json().get()).ok()?;
        Some((invite.room_id, Exchange { sender: invite.sender, user: invite.mxid, signed }))
    });
    app.federation.bound(&request.mxid, exchanges.collect()).await;
    Ok(Response::new())
}
