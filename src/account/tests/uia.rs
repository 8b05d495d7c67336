//! User-interactive authentication: which proof completes which operation of whom.

use ruma::{
    OwnedUserId,
    api::client::uiaa::{AuthData, UiaaInfo},
};
use serde_json::{Value, json};

use super::{
    super::{AccountError, Purpose, Target},
    Duration, NewUser, Registration, Settings, World,
};
use crate::limits::{UIA_SESSIONS_EACH_MAX, UIA_SESSIONS_MAX};

fn auth(value: Value) -> AuthData {
    serde_json::from_value(value).unwrap()
}

/// `ok`, or what is told to the client.
async fn tries(world: &World, purpose: &Purpose, given: Option<Value>) -> Result<(), Box<UiaaInfo>> {
    match world.accounts.authorize(purpose, given.map(auth).as_ref()).await {
        Ok(()) => Ok(()),
        Err(AccountError::Uia(info)) => Err(info),
        Err(error) => panic!("{error}"),
    }
}

fn word(result: &Result<(), Box<UiaaInfo>>) -> String {
    match result {
        Ok(()) => "ok".to_owned(),
        Err(info) => {
            let code = |error: &ruma::api::error::StandardErrorBody| error.kind.errcode().to_string();
            info.auth_error.as_deref().map_or_else(|| "asks".to_owned(), code)
        }
    }
}

async fn with_alice() -> (World, OwnedUserId) {
    let world = World::with(Settings { registration: Registration::Open, ..Settings::default() }).await;
    let new = NewUser {
        username: Some("alice".to_owned()),
        password: Some("secret".to_owned()),
        ..NewUser::default()
    };
    let alice = world.accounts.create_user(new).await.unwrap();
    (world, alice)
}

fn password(user: &str, password: &str, session: Option<&str>) -> Value {
    json!({
        "type": "m.login.password",
        "identifier": { "type": "m.id.user", "user": user },
        "password": password,
        "session": session,
    })
}

#[tokio::test]
async fn an_operation_asks_for_the_password_of_its_own_user() {
    let (world, alice) = with_alice().await;
    world.user("bob").await;
    let purpose = Purpose::Operation("delete_devices", alice, Target::default());
    let asked = tries(&world, &purpose, None).await.unwrap_err();
    let shown = serde_json::to_value(&asked).unwrap();
    assert_eq!(shown["flows"], json!([{ "stages": ["m.login.password"] }]));
    assert!(shown.get("completed").is_none_or(|completed| completed == &json!([])));
    let session = asked.session.as_deref();
    for other in ["bob", "alice:there"] {
        let given = auth(password(other, "secret", session));
        let refusal = world.accounts.authorize(&purpose, Some(&given)).await;
        assert!(matches!(refusal, Err(AccountError::NotTheCaller)), "{other}");
    }
    for (given, expected) in [
        (password("alice", "wrong", session), "M_FORBIDDEN"),
        (json!({ "type": "m.login.dummy", "session": session }), "M_UNRECOGNIZED"),
        (json!({ "type": "m.login.registration_token", "token": "x", "session": session }), "M_UNRECOGNIZED"),
        (password("alice", "secret", Some("unknown")), "M_UNKNOWN"),
        (password("alice", "secret", session), "ok"),
        (password("alice", "secret", session), "M_UNKNOWN"),
        (password("@alice:here", "secret", None), "ok"),
    ] {
        assert_eq!(word(&tries(&world, &purpose, Some(given.clone())).await), expected, "{given}");
    }
}

#[tokio::test]
async fn a_refused_proof_keeps_the_session() {
    let (world, alice) = with_alice().await;
    let purpose = Purpose::Operation("delete_devices", alice, Target::default());
    let session = tries(&world, &purpose, None).await.unwrap_err().session;
    let refused = tries(&world, &purpose, Some(password("alice", "wrong", session.as_deref()))).await;
    assert_eq!(refused.unwrap_err().session, session);
    assert_eq!(
        word(&tries(&world, &purpose, Some(password("alice", "secret", session.as_deref()))).await),
        "ok"
    );
}

#[tokio::test]
async fn a_session_is_good_for_one_operation_of_one_user_and_not_for_long() {
    let (world, alice) = with_alice().await;
    let purpose = Purpose::Operation("delete_devices", alice.clone(), Target::default());
    let bob = world.user("bob").await;
    let session = tries(&world, &purpose, None).await.unwrap_err().session;
    let given = || Some(password("alice", "secret", session.as_deref()));
    for other in [
        Purpose::Operation("account/deactivate", alice.clone(), Target::default()),
        Purpose::Operation("delete_devices", bob, Target::default()),
        Purpose::Register,
    ] {
        assert_eq!(word(&tries(&world, &other, given()).await), "M_UNKNOWN", "{other:?}");
    }
    world.clock.advance(Duration::from_secs(15 * 60));
    assert_eq!(word(&tries(&world, &purpose, given()).await), "M_UNKNOWN");
}

/// Row 7.2: what somebody has allowed on a page is that request, and no other one.
#[tokio::test]
async fn row_7_2_what_was_allowed_for_one_request_is_not_allowed_for_another() {
    let world = World::with(Settings { pages: true, ..Settings::default() }).await;
    let carol = world.user("carol").await;
    let delete = |devices: &[&str]| Purpose::Operation("delete_devices", carol.clone(), Target::of(devices));
    let session = tries(&world, &delete(&["OLD"]), None).await.unwrap_err().session.unwrap();
    let given = || Some(json!({ "type": "m.login.sso", "session": session }));
    assert_eq!(word(&tries(&world, &delete(&["OLD"]), given()).await), "asks");
    assert!(world.accounts.pass_as(&session, &carol).await.unwrap());
    let other = tries(&world, &delete(&["OLD", "PHONE"]), given()).await;
    assert_eq!(word(&other), "M_UNKNOWN");
    assert_ne!(other.unwrap_err().session.unwrap(), session);
    assert_eq!(word(&tries(&world, &delete(&["OLD"]), given()).await), "ok");
    assert_eq!(word(&tries(&world, &delete(&["OLD"]), given()).await), "M_UNKNOWN");
}

/// Row 7.2: what passes is the password of whoever has one, and nothing else that can be said, for every operation and
/// every kind of account; least of all something made up of an account that has no password.
#[tokio::test]
async fn row_7_2_nothing_but_a_password_passes_for_one() {
    let registration_tokens = vec!["sesame".to_owned()];
    for (kind, pages) in [("password", false), ("password", true), ("none", false), ("none", true)] {
        let registration_tokens = registration_tokens.clone();
        let settings =
            Settings { registration: Registration::Open, pages, registration_tokens, ..Settings::default() };
        let world = World::with(settings).await;
        let mine = (kind == "password").then(|| "secret".to_owned());
        let new = NewUser { username: Some("alice".to_owned()), password: mine, ..NewUser::default() };
        let alice = world.accounts.create_user(new).await.unwrap();
        let mallory = NewUser {
            username: Some("mallory".to_owned()),
            password: Some("hers".to_owned()),
            ..NewUser::default()
        };
        world.accounts.create_user(mallory).await.unwrap();
        let creds = json!({ "sid": "x", "client_secret": "x" });
        for operation in
            ["account/password", "account/deactivate", "delete_devices", "device_signing", "login/get_token"]
        {
            let purpose = Purpose::Operation(operation, alice.clone(), Target::default());
            for (given, passes) in [
                (password("alice", "secret", None), kind == "password"),
                (password("alice", "wrong", None), false),
                (password("alice", "", None), false),
                (password("alice", "*", None), false),
                (password("alice", "hers", None), false),
                (password("mallory", "hers", None), false),
                (password("@alice:there", "secret", None), false),
                (json!({ "type": "m.login.dummy" }), false),
                (json!({ "type": "m.login.terms" }), false),
                (json!({ "type": "m.login.registration_token", "token": "sesame" }), false),
                (json!({ "type": "m.login.recaptcha", "response": "x" }), false),
                (json!({ "type": "m.login.email.identity", "threepid_creds": creds }), false),
                (json!({ "type": "m.login.sso" }), false),
                (json!({ "type": "m.oauth" }), false),
                (json!({ "type": "org.matrix.cross_signing_reset" }), false),
                (json!({ "type": "m.login.token", "token": "x" }), false),
            ] {
                // By itself, and in a session that was begun for it.
                let begun = tries(&world, &purpose, None).await.unwrap_err().session.unwrap();
                for session in [None, Some(&begun)] {
                    let mut given = given.clone();
                    if let Some(session) = session {
                        given["session"] = json!(session);
                    }
                    let result = world.accounts.authorize(&purpose, Some(&auth(given.clone()))).await;
                    assert_eq!(result.is_ok(), passes, "{kind} {pages}: {operation} by {given}");
                }
                if !passes {
                    let after = json!({ "session": begun });
                    let result = world.accounts.authorize(&purpose, Some(&auth(after))).await;
                    assert!(result.is_err(), "{kind} {pages}: {operation} after {given}");
                }
            }
        }
    }
}

#[tokio::test]
async fn registering_asks_for_what_the_server_is_set_to() {
    let settings = |registration| Settings {
        registration,
        registration_tokens: vec!["sesame".to_owned(), String::new()],
        ..Settings::default()
    };
    let dummy = json!({ "type": "m.login.dummy" });
    let token = |token: &str| json!({ "type": "m.login.registration_token", "token": token });
    for (registration, given, expected) in [
        (Registration::Open, dummy.clone(), "ok"),
        (Registration::Open, token("sesame"), "M_UNRECOGNIZED"),
        (Registration::Token, token("sesame"), "ok"),
        (Registration::Token, token("sesam"), "M_UNAUTHORIZED"),
        (Registration::Token, token(""), "M_UNAUTHORIZED"),
        (Registration::Token, dummy, "M_UNRECOGNIZED"),
        (Registration::Open, password("alice", "secret", None), "M_UNRECOGNIZED"),
    ] {
        let world = World::with(settings(registration)).await;
        let result = tries(&world, &Purpose::Register, Some(given.clone())).await;
        assert_eq!(word(&result), expected, "{registration:?} {given}");
    }
}

/// Whoever begins very many sessions, by whatever way, is in nobody else's; their own make room.
#[tokio::test]
async fn sessions_are_bounded_in_number_and_nobody_is_pushed_out_of_one_by_others() {
    let (world, alice) = with_alice().await;
    let purpose = Purpose::Operation("x", alice, Target::default());
    let asked = tries(&world, &purpose, None).await.unwrap_err();
    for (network, count) in [(Some([10, 0, 0, 1].into()), UIA_SESSIONS_EACH_MAX), (None, UIA_SESSIONS_MAX)] {
        let begin = async |given: Option<Value>| {
            let met = world.accounts.authorize_newcomer(given.map(auth).as_ref(), network).await;
            match met {
                Err(AccountError::Uia(info)) => Err(info),
                Err(error) => panic!("{error}"),
                Ok(_) => Ok(()),
            }
        };
        let first = begin(None).await.unwrap_err().session;
        world.clock.advance(Duration::from_millis(1));
        for _ in 0..count {
            begin(None).await.unwrap_err();
        }
        let given = json!({ "type": "m.login.dummy", "session": first });
        assert_eq!(word(&begin(Some(given)).await), "M_UNKNOWN", "the oldest made room");
    }
    let session = asked.session.as_deref();
    assert_eq!(word(&tries(&world, &purpose, Some(password("alice", "secret", session))).await), "ok");
}
