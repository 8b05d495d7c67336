//! What users may still do whose account is locked or suspended.
//!
//! <https://spec.matrix.org/v1.19/client-server-api/#account-moderation>

use http::Method;
use ruma::EventId;

use super::{App, Failure};
use crate::account::{AccountError, Caller, Standing};

/// What a suspended user is refused: the method and the end of the path's template, without the names of
/// its variables. The specification leaves the list to servers; it is the one that it recommends, with
/// what else would let somebody speak or come in.
const REFUSED: [(Method, &str); 21] = [
    (Method::POST, "/createRoom"),
    (Method::POST, "/media/r0/upload"),
    (Method::POST, "/media/v1/create"),
    (Method::POST, "/media/v1/upload"),
    (Method::POST, "/media/v3/upload"),
    (Method::PUT, "/media/v3/upload/{}/{}"),
    (Method::POST, "/fi.mau.msc2246/create"),
    (Method::PUT, "/fi.mau.msc2246/upload/{}/{}"),
    (Method::POST, "/join/{}"),
    (Method::POST, "/knock/{}"),
    (Method::POST, "/rooms/{}/invite"),
    (Method::POST, "/rooms/{}/join"),
    (Method::POST, "/rooms/{}/upgrade"),
    (Method::PUT, "/rooms/{}/delayed_event/{}/{}"),
    (Method::PUT, "/rooms/{}/send/{}/{}"),
    (Method::PUT, "/rooms/{}/state/{}"),
    (Method::PUT, "/rooms/{}/state/{}/"),
    (Method::PUT, "/rooms/{}/state/{}/{}"),
    (Method::PUT, "/directory/room/{}"),
    (Method::PUT, "/profile/{}/{}"),
    (Method::DELETE, "/profile/{}/{}"),
];

/// Whether somebody of `standing` may use the endpoint whose path is `template` with these variables.
pub(super) fn judge(
    standing: Standing,
    method: &Method,
    (template, variables): (&str, &[String]),
) -> Result<(), Failure> {
    let refused = match standing {
        Standing::Good => return Ok(()),
        Standing::Locked if template.ends_with("/logout") || template.ends_with("/logout/all") => {
            return Ok(());
        }
        Standing::Locked => return Err(AccountError::Locked.into()),
        Standing::Suspended => {
            let shape = shape(template);
            REFUSED.iter().any(|(refused, end)| refused == method && shape.ends_with(end))
        }
    };
    // Whose event it redacts is asked in the handler.
    let redacts =
        template.contains("/send/") && variables.get(1).is_some_and(|kind| kind == "m.room.redaction");
    match refused && !redacts {
        true => Err(Failure::suspended()),
        false => Ok(()),
    }
}

/// Refuses to let somebody who is suspended redact what others have sent.
pub(super) async fn redacts(app: &App, caller: &Caller, target: &EventId) -> Result<(), Failure> {
    let user = app.accounts.user(&caller.user_id).await?;
    if user.is_none_or(|user| user.standing() == Standing::Good) {
        return Ok(());
    }
    let target = app.history.event(target).await?;
    match target.is_some_and(|target| target.pdu.sender() != caller.user_id) {
        true => Err(Failure::suspended()),
        false => Ok(()),
    }
}

/// The template without the names of its variables, which two spellings of a path may give differently.
fn shape(template: &str) -> String {
    let segment = |segment: &str| if segment.starts_with('{') { "{}" } else { segment }.to_owned();
    template.split('/').map(segment).collect::<Vec<_>>().join("/")
}

#[cfg(test)]
mod tests {
    use super::{Standing, judge};

    #[test]
    fn what_is_refused_follows_from_the_path() {
        for (request, variables, locked, suspended) in [
            ("POST /_matrix/client/v3/logout", &[][..], true, true),
            ("POST /_matrix/client/v3/logout/all", &[], true, true),
            ("GET /_matrix/client/v3/sync", &[], false, true),
            ("GET /_matrix/client/v3/profile/{user_id}/{field}", &["@a:b", "displayname"], false, true),
            ("PUT /_matrix/client/v3/profile/{user_id}/{field}", &["@a:b", "displayname"], false, false),
            ("POST /_matrix/client/r0/join/{room}", &["!a"], false, false),
            ("POST /_matrix/client/v3/rooms/{room_id}/leave", &["!a"], false, true),
            ("POST /_matrix/client/v3/rooms/{room_id}/invite", &["!a"], false, false),
            ("PUT /_matrix/client/v3/rooms/{r}/send/{e}/{t}", &["!a", "m.room.message", "1"], false, false),
            ("PUT /_matrix/client/v1/rooms/{r}/delayed_event/{e}/{t}", &["!a", "m.x", "1"], false, false),
            ("POST /_matrix/media/v3/upload", &[], false, false),
            ("POST /_matrix/client/v3/keys/upload", &[], false, true),
            ("PUT /_matrix/client/v3/rooms/{r}/send/{e}/{t}", &["!a", "m.room.redaction", "1"], false, true),
            ("GET /_matrix/client/v3/rooms/{r}/state/{e}/{k}", &["!a", "m.room.name", ""], false, true),
            ("PUT /_matrix/client/v3/rooms/{r}/state/{e}/{k}", &["!a", "m.room.name", ""], false, false),
            ("PUT /_matrix/client/v3/rooms/{r}/redact/{e}/{t}", &["!a", "$a", "1"], false, true),
        ] {
            let (method, path) = request.split_once(' ').unwrap();
            let variables: Vec<String> = variables.iter().map(ToString::to_string).collect();
            let method = method.parse().unwrap();
            let allows = |standing| judge(standing, &method, (path, &variables)).is_ok();
            assert!(allows(Standing::Good));
            assert_eq!(allows(Standing::Locked), locked, "{request}");
            assert_eq!(allows(Standing::Suspended), suspended, "{request}");
        }
    }
}
