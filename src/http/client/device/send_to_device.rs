//! `PUT /_matrix/client/v3/sendToDevice/{eventType}/{txnId}`
//!
//! <https://spec.matrix.org/v1.19/client-server-api/#put_matrixclientv3sendtodeviceeventtypetxnid>

use ruma::api::client::to_device::send_event_to_device::v3;

use crate::{
    account::Caller,
    device::Sending,
    http::{App, Failure},
};

/// Sends messages to devices.
pub(super) async fn handle(app: App, caller: Caller, request: v3::Request) -> Result<v3::Response, Failure> {
    let event_type = request.event_type.to_string();
    let sending = Sending {
        user: &caller.user_id,
        device: &caller.device_id,
        event_type: &event_type,
        txn_id: request.txn_id.as_str(),
    };
    app.devices.send_to_device(&sending, &request.messages).await?;
    Ok(v3::Response::new())
}
