//! `PUT /_matrix/client/v3/directory/list/appservice/{networkId}/{roomId}`
//!
//! <https://spec.matrix.org/v1.19/application-service-api/#put_matrixclientv3directorylistappservicenetworkidroomid>

use ruma::api::client::{
    appservice::set_room_visibility::v3::{Request, Response},
    room::Visibility,
};

use crate::{
    account::Caller,
    http::{App, Failure, Peer},
};

pub(super) async fn handle(app: App, _: Caller, peer: Peer, request: Request) -> Result<Response, Failure> {
    let Some(appservice) = peer.appservice else {
        return Err(Failure::forbidden("Only application services have networks of their own"));
    };
    let network = super::third_party::network_of(&appservice.registration.id, &request.network_id);
    let is_public = request.visibility == Visibility::Public;
    app.rooms.publish_in(&network, &request.room_id, is_public).await?;
    Ok(Response::new())
}
