//! Third-party identifiers: `/_matrix/client/v3/account/3pid/…` and every `requestToken`.
//!
//! This server keeps no addresses and sends neither mail nor messages, so all of these but the (empty)
//! list answer the same: no. The capability `m.3pid_changes` says so in advance.
//!
//! <https://spec.matrix.org/v1.19/client-server-api/#adding-account-administrative-contact-information>

use http::Method;
use ruma::api::{
    IncomingRequest,
    client::account::{
        add_3pid, bind_3pid, delete_3pid, get_3pids, request_3pid_management_token_via_email as manage_email,
        request_3pid_management_token_via_msisdn as manage_msisdn,
        request_password_change_token_via_email as password_email,
        request_password_change_token_via_msisdn as password_msisdn,
        request_registration_token_via_email as register_email,
        request_registration_token_via_msisdn as register_msisdn, unbind_3pid,
    },
    error::ErrorKind,
};
use serde::Deserialize;
use serde_json::{Map, Value};

use crate::{
    account::Caller,
    http::{Access, Anonymous, App, Call, Failure, Routes},
};

/// The paths of the list; a `POST` to them is the older way to add an identifier.
const ALL: [&str; 2] = ["/_matrix/client/r0/account/3pid", "/_matrix/client/v3/account/3pid"];

/// Adds the endpoints.
pub(super) fn routes(routes: &mut Routes) {
    routes.add(list);
    for path in ALL {
        // ruma has no type for it.
        routes.raw(Method::POST, path, Access::Required, add);
    }
    routes.add(refuse::<add_3pid::v3::Request>);
    routes.add(refuse::<bind_3pid::v3::Request>);
    routes.add(refuse::<delete_3pid::v3::Request>);
    routes.add(refuse::<unbind_3pid::v3::Request>);
    routes.add(refuse_token::<manage_email::v3::Request>);
    routes.add(refuse_token::<manage_msisdn::v3::Request>);
    routes.add(refuse_token::<password_email::v3::Request>);
    routes.add(refuse_token::<password_msisdn::v3::Request>);
    routes.add(refuse_token::<register_email::v3::Request>);
    routes.add(refuse_token::<register_msisdn::v3::Request>);
}

async fn list(_: App, _: Caller, _: get_3pids::v3::Request) -> Result<get_3pids::v3::Response, Failure> {
    Ok(get_3pids::v3::Response::new(Vec::new()))
}

#[derive(Deserialize)]
struct Added {
    #[serde(rename = "three_pid_creds")]
    _three_pid_creds: Map<String, Value>,
}

async fn add(_: App, call: Call) -> Result<axum::response::Response, Failure> {
    call.json::<Added>()?;
    Err(unchangeable())
}

fn unchangeable() -> Failure {
    Failure::forbidden("Third-party identifiers cannot be changed on this server")
}

async fn refuse<R: IncomingRequest>(_: App, _: Caller, _: R) -> Result<R::OutgoingResponse, Failure> {
    Err(unchangeable())
}

async fn refuse_token<R>(_: App, _: R) -> Result<R::OutgoingResponse, Failure>
where
    R: IncomingRequest,
    R::Authentication: Anonymous,
{
    let message = "This server sends neither mail nor messages";
    Err(Failure::bad_request(ErrorKind::ThreepidMediumNotSupported, message))
}
