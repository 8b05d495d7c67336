//! What users may still do whose account is locked or suspended.
//!
//! <https://spec.matrix.org/v1.19/client-server-api/#account-moderation>

use http::Method;
use ruma::EventId;

use super::{App, Failure};
use crate::account::{AccountError, Caller, Standing};

/// What a suspended user is refused: the method and the end of the path's template, without the names of
/// its variables. The specification leaves the list to servers; it is the one that it recommends, with
/// what else would let somebody speak, come in, or put others out.
const REFUSED: [(Method, &str); 31] = [
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
    (Method::POST, "/rtc/livekit/get_token"),
    (Method::POST, "/rooms/{}/ban"),
    (Method::POST, "/rooms/{}/invite"),
    (Method::POST, "/rooms/{}/join"),
    (Method::POST, "/rooms/{}/kick"),
    (Method::POST, "/rooms/{}/unban"),
    (Method::POST, "/rooms/{}/upgrade"),
    (Method::PUT, "/rooms/{}/delayed_event/{}/{}"),
    (Method::PUT, "/rooms/{}/send/{}/{}"),
    (Method::PUT, "/rooms/{}/state/{}"),
    (Method::PUT, "/rooms/{}/state/{}/"),
    (Method::PUT, "/rooms/{}/state/{}/{}"),
    (Method::PUT, "/directory/list/appservice/{}/{}"),
    (Method::PUT, "/directory/list/room/{}"),
    (Method::PUT, "/directory/room/{}"),
    (Method::PUT, "/presence/{}/status"),
    (Method::PUT, "/profile/{}/{}"),
    (Method::DELETE, "/profile/{}/{}"),
    (Method::PUT, "/profile/{}"),
    (Method::PATCH, "/profile/{}"),
    // Nobody could be written to any more.
    (Method::POST, "/account/3pid/delete"),
];

/// What a guest may ask for, in the same form: the list of the specification, and other paths to the same.
///
/// <https://spec.matrix.org/v1.19/client-server-api/#guest-access>
const GUESTS: [(Method, &str); 39] = [
    (Method::GET, "/rooms/{}/state"),
    (Method::GET, "/rooms/{}/context/{}"),
    (Method::GET, "/rooms/{}/event/{}"),
    (Method::GET, "/rooms/{}/state/{}"),
    (Method::GET, "/rooms/{}/state/{}/"),
    (Method::GET, "/rooms/{}/state/{}/{}"),
    (Method::GET, "/rooms/{}/messages"),
    (Method::GET, "/rooms/{}/members"),
    (Method::GET, "/rooms/{}/initialSync"),
    (Method::GET, "/sync"),
    (Method::GET, "/events"),
    (Method::GET, "/media/download/{}/{}"),
    (Method::GET, "/media/download/{}/{}/{}"),
    (Method::GET, "/media/thumbnail/{}/{}"),
    (Method::POST, "/rooms/{}/join"),
    // Clients join by this one; what it does is the same.
    (Method::POST, "/join/{}"),
    (Method::POST, "/rooms/{}/leave"),
    (Method::PUT, "/rooms/{}/send/{}/{}"),
    (Method::PUT, "/rooms/{}/state/{}"),
    (Method::PUT, "/rooms/{}/state/{}/"),
    (Method::PUT, "/rooms/{}/state/{}/{}"),
    (Method::PUT, "/sendToDevice/{}/{}"),
    (Method::PUT, "/profile/{}/{}"),
    (Method::DELETE, "/profile/{}/{}"),
    (Method::GET, "/devices"),
    (Method::GET, "/devices/{}"),
    (Method::PUT, "/devices/{}"),
    (Method::GET, "/account/whoami"),
    (Method::POST, "/keys/upload"),
    (Method::POST, "/keys/query"),
    (Method::POST, "/keys/claim"),
    // It takes nothing but the session itself.
    (Method::POST, "/logout"),
    // Whoever shows no token is answered too.
    (Method::GET, "/room_summary/{}"),
    // <https://github.com/matrix-org/matrix-spec-proposals/pull/4140>
    (Method::GET, "/delayed_events"),
    (Method::GET, "/delayed_events/{}"),
    (Method::PUT, "/rooms/{}/delayed_event/{}/{}"),
    (Method::GET, "/org.matrix.msc4140/delayed_events"),
    (Method::GET, "/org.matrix.msc4140/delayed_events/{}"),
    (Method::PUT, "/org.matrix.msc4140/rooms/{}/delayed_event/{}/{}"),
];
/// What the paths of guests begin with, beside the version.
const CLIENT: &str = "/_matrix/client/";

/// Whether somebody of `standing` may use the endpoint whose path is `template` with these variables.
pub(super) fn judge(
    standing: Standing,
    method: &Method,
    (template, variables): (&str, &[String]),
) -> Result<(), Failure> {
    let shape = shape(template);
    let is_suspended = match standing {
        Standing::Good => return Ok(()),
        Standing::Locked if template.ends_with("/logout") || template.ends_with("/logout/all") => {
            return Ok(());
        }
        Standing::Locked => return Err(AccountError::Locked.into()),
        Standing::Guest { suspended } => {
            check_guest(method, (&shape, variables))?;
            suspended
        }
        Standing::Suspended => true,
    };
    let refused =
        is_suspended && REFUSED.iter().any(|(refused, end)| refused == method && shape.ends_with(end));
    // Whose event it redacts is asked in the handler.
    let redacts =
        template.contains("/send/") && variables.get(1).is_some_and(|kind| kind == "m.room.redaction");
    match refused && !redacts {
        true => Err(Failure::suspended()),
        false => Ok(()),
    }
}

/// Refuses what is not left to guests.
fn check_guest(method: &Method, (shape, variables): (&str, &[String])) -> Result<(), Failure> {
    // Behind the version, so that no longer path has the same end.
    let rest = shape.strip_prefix(CLIENT).and_then(|rest| rest.split_once('/')).map(|(_, rest)| rest);
    let is_listed = rest.is_some_and(|rest| {
        GUESTS.iter().any(|(allowed, path)| allowed == method && path.strip_prefix('/') == Some(rest))
    });
    let other_field =
        shape.contains("/profile/") && variables.get(1).is_none_or(|name| name != "displayname");
    match is_listed && !other_field {
        true => Ok(()),
        false => Err(AccountError::GuestsRefused("Guests may not do this").into()),
    }
}

/// Refuses to let somebody who is suspended redact what others have sent.
pub(super) async fn redacts(app: &App, caller: &Caller, target: &EventId) -> Result<(), Failure> {
    let user = app.accounts.user(&caller.user_id).await?;
    let is_free = |standing| matches!(standing, Standing::Good | Standing::Guest { suspended: false });
    if user.is_none_or(|user| is_free(user.standing())) {
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
    use std::collections::BTreeSet;

    use super::{GUESTS, REFUSED, Standing, judge, shape};
    use crate::http::endpoints;

    #[test]
    fn guests_are_left_what_the_specification_lists() {
        let variables = ["x".to_owned(), "displayname".to_owned()];
        let guest = Standing::Guest { suspended: false };
        let mut open = BTreeSet::new();
        for (method, path) in endpoints().listed() {
            if judge(guest, method, (path, &variables)).is_ok() {
                open.insert(format!("{method} {}", shape(path)));
            }
        }
        for expected in [
            "GET /_matrix/client/v3/sync",
            "GET /_matrix/client/v3/rooms/{}/messages",
            "GET /_matrix/client/v1/media/download/{}/{}",
            "PUT /_matrix/client/v3/rooms/{}/send/{}/{}",
            "PUT /_matrix/client/r0/rooms/{}/state/{}/{}",
            "PUT /_matrix/client/v3/profile/{}/{}",
            "POST /_matrix/client/v3/keys/claim",
        ] {
            assert!(open.contains(expected), "{expected} is not in {open:#?}");
        }
        for closed in
            ["createRoom", "/invite", "/pushers", "/account_data", "/admin/", "/password", "/users/"]
        {
            assert!(!open.iter().any(|path| path.contains(closed)), "{closed} is in {open:#?}");
        }
        let versions = open.iter().filter(|path| path.contains("/v3/") || path.contains("/v1/"));
        assert!(versions.count() <= GUESTS.len(), "{open:#?}");
        let avatar = ["@a:b".to_owned(), "avatar_url".to_owned()];
        let field = "/_matrix/client/v3/profile/{user_id}/{field}";
        assert!(judge(guest, &http::Method::PUT, (field, &avatar)).is_err());
        let suspended = Standing::Guest { suspended: true };
        let (send, sync) = ("/_matrix/client/v3/rooms/{r}/send/{e}/{t}", "/_matrix/client/v3/sync");
        assert!(judge(suspended, &http::Method::PUT, (send, &variables)).is_err());
        assert!(judge(suspended, &http::Method::GET, (sync, &variables)).is_ok());
    }

    #[test]
    fn what_is_listed_is_there() {
        let listed = endpoints();
        let shapes: Vec<_> = listed.listed().iter().map(|(method, path)| (method, shape(path))).collect();
        for (method, end) in REFUSED.iter().chain(&GUESTS) {
            let is_there = shapes.iter().any(|(other, shape)| *other == method && shape.ends_with(end));
            assert!(is_there, "{method} {end}");
        }
    }

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
            ("POST /_matrix/client/v3/rooms/{room_id}/kick", &["!a"], false, false),
            ("POST /_matrix/client/r0/rooms/{room_id}/ban", &["!a"], false, false),
            ("POST /_matrix/client/v3/rooms/{room_id}/unban", &["!a"], false, false),
            ("PUT /_matrix/client/v3/directory/list/room/{room_id}", &["!a"], false, false),
            ("PUT /_matrix/client/v3/presence/{user_id}/status", &["@a:b"], false, false),
            ("GET /_matrix/client/v3/presence/{user_id}/status", &["@a:b"], false, true),
            ("POST /_matrix/client/v3/account/3pid", &[], false, true),
            ("POST /_matrix/client/v3/account/3pid/delete", &[], false, false),
            ("PUT /_matrix/client/v3/rooms/{r}/send/{e}/{t}", &["!a", "m.room.message", "1"], false, false),
            ("PUT /_matrix/client/v1/rooms/{r}/delayed_event/{e}/{t}", &["!a", "m.x", "1"], false, false),
            ("POST /_matrix/client/v1/rtc/livekit/get_token", &[], false, false),
            ("POST /_matrix/client/v1/rtc/livekit/delegate_delayed_leave", &[], false, true),
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
