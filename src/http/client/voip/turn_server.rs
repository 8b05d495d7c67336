//! `GET /_matrix/client/v3/voip/turnServer`
//!
//! <https://spec.matrix.org/v1.19/client-server-api/#get_matrixclientv3voipturnserver>

use std::time::Duration;

use hmac::{Hmac, KeyInit, Mac};
use ruma::{
    api::client::voip::get_turn_server_info::v3::{Request, Response},
    serde::{Base64, base64::Standard},
};
use sha1::Sha1;

use crate::{
    account::Caller,
    http::{App, Failure},
};

/// Answers the request.
pub(super) async fn handle(app: App, caller: Caller, _request: Request) -> Result<Response, Failure> {
    let voip = &app.config.voip;
    if voip.turn_uris.is_empty() {
        return Err(Failure::not_found("There is no TURN server"));
    }
    let (username, password) = match (&voip.turn_shared_secret, &voip.turn_username, &voip.turn_password) {
        (Some(secret), ..) => {
            let ends = app.ports.clock.now_ms() / 1_000 + voip.turn_seconds;
            credentials(secret.reveal(), &format!("{ends}:{}", caller.user_id))?
        }
        (None, Some(username), Some(password)) => (username.clone(), password.reveal().to_owned()),
        _ => return Err(Failure::not_found("There is no TURN server")),
    };
    let ttl = Duration::from_secs(voip.turn_seconds);
    Ok(Response::new(username, password, voip.turn_uris.clone(), ttl))
}

/// The password of a name that says when it ends, as TURN servers reckon it with the same secret.
fn credentials(secret: &str, username: &str) -> Result<(String, String), Failure> {
    let mut mac = Hmac::<Sha1>::new_from_slice(secret.as_bytes()).map_err(Failure::internal)?;
    mac.update(username.as_bytes());
    let digest = mac.finalize().into_bytes().to_vec();
    // With padding, which TURN servers want.
    let mut password = Base64::<Standard, _>::new(digest).encode();
    password.extend(std::iter::repeat_n('=', (4 - password.len() % 4) % 4));
    Ok((username.to_owned(), password))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use serde_json::{Value, json};

    use super::credentials;
    use crate::{
        account::Registration,
        config::Config,
        http::{client::testing::Server, tests::services_at},
        types::ManualClock,
    };

    /// Row 7.11 of the list of known vulnerabilities (tuwunel 1.8.1: TURN without a login).
    #[tokio::test]
    async fn row_7_11_turn_is_for_users_whose_account_is_in_use() {
        let mut config = Config::default();
        config.voip.turn_uris = vec![String::from("turn:turn.example.org")];
        config.voip.turn_shared_secret = Some("north".into());
        let clock = Arc::new(ManualClock::at(1_700_000_000_000));
        let server = Server::over(services_at(config, clock).await, Registration::Open);
        let alice = server.register("alice").await;
        let ask = "GET /voip/turnServer";
        let given = server.met(&alice, ask, Value::Null).await;
        assert_eq!(given["username"], "1700086400:@alice:localhost", "{given}");
        server.check("", ask, (Value::Null, json!("401 M_MISSING_TOKEN"))).await;
        server.check("nonsense", ask, (Value::Null, json!("401 M_UNKNOWN_TOKEN"))).await;
        let (accounts, user) = (&server.app().accounts, ruma::user_id!("@alice:localhost"));
        accounts.change_user(user, |user| user.locked = true).await.unwrap();
        server.check(&alice, ask, (Value::Null, json!("401 M_USER_LOCKED"))).await;
        accounts.change_user(user, |user| user.locked = false).await.unwrap();
        accounts.deactivate(user, false).await.unwrap();
        server.check(&alice, ask, (Value::Null, json!("401 M_UNKNOWN_TOKEN"))).await;
    }

    #[test]
    fn passwords_are_those_of_the_turn_rest_api() {
        // echo -n 1433895918:@a:b | openssl dgst -sha1 -hmac north -binary | base64
        let (username, password) = credentials("north", "1433895918:@a:b").unwrap();
        assert_eq!(username, "1433895918:@a:b");
        assert_eq!(password, "19YM+d0nWCyO8cvSy1TGHEPPmY4=");
    }
}
