//! Who has a code, a token or a cookie has no more than it was made for.

use serde_json::json;

use super::{Duration, OauthError, World, redemption, refresh_token, renewal, word};
use crate::account::{AccountError, NewDevice, NewSession};

/// Row 7.1 (GHSA-v2x6-m99h-vqxx, account takeover through OAuth): whoever swaps the client, the redirect URI, the
/// verifier, the code or the kind of token gets nothing.
#[tokio::test]
async fn row_7_1_ghsa_v2x6_m99h_vqxx_swapped_parameters() {
    let world = World::new().await;
    let (client, alice) = (world.client(json!({})).await, world.user("alice").await);
    let other = world.client(json!({ "client_name": "Other" })).await;
    let mallory = world.user("mallory").await;
    let code = world.oauth.grant(&world.ask(&client, "PHONE").await, &alice).await.unwrap();
    let foreign = world.oauth.grant(&world.ask(&other, "PHONE").await, &mallory).await.unwrap();
    let good = redemption(&client, &code);
    let text = |text: &str| Some(text.to_owned());
    for changed in [
        super::TokenParams { client_id: text(&other), ..good.clone() },
        super::TokenParams { redirect_uri: text("https://app.example.org/other"), ..good.clone() },
        super::TokenParams { code_verifier: text(&"x".repeat(43)), ..good.clone() },
        super::TokenParams { code_verifier: text(""), ..good.clone() },
        super::TokenParams { code: text(&foreign), ..good.clone() },
        super::TokenParams { code: text(&format!("{code}x")), ..good.clone() },
        super::TokenParams { code: text(&code.replacen("lkc", "lkb", 1)), ..good.clone() },
        renewal(&client, &code),
    ] {
        assert_eq!(word(&world.oauth.token(&changed).await), "invalid_grant", "{changed:?}");
    }
    let nobody = super::TokenParams { client_id: text("nobody"), ..good.clone() };
    assert_eq!(word(&world.oauth.token(&nobody).await), "invalid_client");
    let granted = world.oauth.token(&good).await.unwrap();
    assert_eq!(granted.session.user_id, alice);
    assert_eq!(word(&world.renew(&other, refresh_token(&granted)).await), "invalid_grant");
    assert_eq!(word(&world.renew(&client, &granted.session.access_token).await), "invalid_grant");
    // The older API does not renew what belongs to a client, and a client not what came by the older API.
    let by_legacy = world.accounts.refresh(refresh_token(&granted), None).await;
    assert!(matches!(by_legacy, Err(AccountError::UnknownToken { .. })));
    let new = NewSession {
        user_id: alice.clone(),
        device_id: None,
        display_name: None,
        refreshes: true,
        client: None,
    };
    let legacy = world.accounts.start_session(new).await.unwrap();
    let stolen = world.renew(&client, legacy.refresh_token.as_deref().unwrap()).await;
    assert_eq!(word(&stolen), "invalid_grant");
    // No token is a cookie, and no cookie a token.
    let cookie = world.oauth.sign_in(&alice).await.unwrap();
    assert!(world.accounts.recognize(&cookie).await.is_err());
    for token in [&granted.session.access_token, refresh_token(&granted), &code] {
        assert!(world.oauth.browser(token).await.unwrap().is_none());
    }
}

#[tokio::test]
async fn a_code_that_comes_twice_ends_its_session_and_a_late_one_starts_none() {
    let world = World::new().await;
    let (client, alice) = (world.client(json!({})).await, world.user("alice").await);
    let code = world.oauth.grant(&world.ask(&client, "PHONE").await, &alice).await.unwrap();
    let granted = world.oauth.token(&redemption(&client, &code)).await.unwrap();
    assert!(world.works(&granted).await);
    assert_eq!(word(&world.oauth.token(&redemption(&client, &code)).await), "invalid_grant");
    assert!(!world.works(&granted).await);
    let late = world.oauth.grant(&world.ask(&client, "PHONE").await, &alice).await.unwrap();
    world.clock.advance(Duration::from_secs(300));
    assert_eq!(word(&world.oauth.token(&redemption(&client, &late)).await), "invalid_grant");
}

/// Row 7.5 (CVE-2023-32682, deactivated users log in): every way in, for every standing.
#[tokio::test]
async fn row_7_5_cve_2023_32682_standing_of_the_account_on_every_way_in() {
    for (standing, may) in [("good", true), ("suspended", true), ("locked", false), ("deactivated", false)] {
        let world = World::new().await;
        let (client, alice) = (world.client(json!({})).await, world.user("alice").await);
        let session = world.log_in(&client, &alice, "PHONE").await;
        let asked = world.ask(&client, "DESK").await;
        let code = world.oauth.grant(&asked, &alice).await.unwrap();
        let device =
            world.oauth.device_authorization(&client, &session.scope.replace("PHONE", "TV")).await.unwrap();
        let second =
            world.oauth.device_authorization(&client, &session.scope.replace("PHONE", "TV2")).await.unwrap();
        assert!(world.oauth.decide(&device.user_code, &alice, true).await.unwrap());
        let cookie = world.oauth.sign_in(&alice).await.unwrap();
        let change = |user: &mut crate::account::User| match standing {
            "suspended" => user.suspended = true,
            "locked" => user.locked = true,
            "deactivated" => user.deactivated = true,
            _ => {}
        };
        world.accounts.change_user(&alice, change).await.unwrap();
        let poll = super::TokenParams {
            grant_type: Some("urn:ietf:params:oauth:grant-type:device_code".to_owned()),
            device_code: Some(device.device_code),
            ..redemption(&client, "")
        };
        let new = NewSession {
            user_id: alice.clone(),
            device_id: None,
            display_name: None,
            refreshes: false,
            client: None,
        };
        for (way, came_in) in [
            ("code", world.oauth.token(&redemption(&client, &code)).await.is_ok()),
            ("device code", world.oauth.token(&poll).await.is_ok()),
            ("cookie", world.oauth.browser(&cookie).await.unwrap().is_some()),
            ("consent", world.oauth.grant(&asked, &alice).await.is_ok()),
            ("link", world.oauth.decide(&second.user_code, &alice, true).await.is_ok()),
            ("page", world.oauth.sign_in(&alice).await.is_ok()),
            ("login", world.accounts.start_session(new).await.is_ok()),
        ] {
            assert_eq!(came_in, may, "{standing}, by {way}");
        }
        // Whoever is locked stays logged in, and can do nothing with it.
        let renewed = world.renew(&client, refresh_token(&session)).await.is_ok();
        assert_eq!(renewed, standing != "deactivated", "{standing}");
    }
}

#[tokio::test]
async fn a_new_password_signs_browsers_out() {
    let world = World::new().await;
    let alice = world.user("alice").await;
    let cookie = world.oauth.sign_in(&alice).await.unwrap();
    assert!(world.oauth.browser(&cookie).await.unwrap().is_some_and(|browser| browser.is_fresh));
    world.clock.advance(Duration::from_secs(600));
    assert!(world.oauth.browser(&cookie).await.unwrap().is_some_and(|browser| !browser.is_fresh));
    world.accounts.set_password(&alice, "new").await.unwrap();
    assert!(world.oauth.browser(&cookie).await.unwrap().is_none());
    let cookie = world.oauth.sign_in(&alice).await.unwrap();
    world.oauth.sign_out(&cookie).await.unwrap();
    assert!(world.oauth.browser(&cookie).await.unwrap().is_none());
    let cookie = world.oauth.sign_in(&alice).await.unwrap();
    world.clock.advance(Duration::from_secs(24 * 3_600));
    assert!(world.oauth.browser(&cookie).await.unwrap().is_none());
}

/// Row 7.1: who has let somebody in, and gives themselves another password, has shut everybody out: what was on its way
/// is good for nothing any more.
#[tokio::test]
async fn row_7_1_what_was_allowed_before_another_password_lets_nobody_in() {
    for changes in [false, true] {
        let world = World::new().await;
        let (client, alice) = (world.client(json!({})).await, world.user("alice").await);
        let scope = world.log_in(&client, &alice, "PHONE").await.scope;
        let code = world.oauth.grant(&world.ask(&client, "DESK").await, &alice).await.unwrap();
        let device = world.oauth.device_authorization(&client, &scope.replace("PHONE", "TV")).await.unwrap();
        let later = world.oauth.device_authorization(&client, &scope.replace("PHONE", "TV2")).await.unwrap();
        assert!(world.oauth.decide(&device.user_code, &alice, true).await.unwrap());
        let token = world.accounts.login_token(&alice).await.unwrap();
        world.clock.advance(Duration::from_secs(1));
        if changes {
            world.accounts.set_password(&alice, "new").await.unwrap();
        }
        let poll = |device_code: &str| super::TokenParams {
            grant_type: Some("urn:ietf:params:oauth:grant-type:device_code".to_owned()),
            device_code: Some(device_code.to_owned()),
            ..redemption(&client, "")
        };
        let by_code = world.oauth.token(&redemption(&client, &code)).await;
        let by_device = world.oauth.token(&poll(&device.device_code)).await;
        let by_token = world.accounts.start_session_by_token(&token, NewDevice::default()).await;
        assert_eq!((by_code.is_ok(), by_device.is_ok(), by_token.is_ok()), (!changes, !changes, !changes));
        if changes {
            assert_eq!((&*word(&by_code), &*word(&by_device)), ("invalid_grant", "invalid_grant"));
            assert!(matches!(by_token, Err(AccountError::WrongLoginToken)));
        }
        // What is allowed from then on is good.
        assert!(world.oauth.decide(&later.user_code, &alice, true).await.unwrap());
        assert!(world.oauth.token(&poll(&later.device_code)).await.is_ok());
        let code = world.oauth.grant(&world.ask(&client, "DESK").await, &alice).await.unwrap();
        assert!(world.oauth.token(&redemption(&client, &code)).await.is_ok());
        let token = world.accounts.login_token(&alice).await.unwrap();
        assert!(world.accounts.start_session_by_token(&token, NewDevice::default()).await.is_ok());
    }
}

#[tokio::test]
async fn nobody_is_let_in_by_a_name_alone() {
    let world = World::new().await;
    let stranger = ruma::user_id!("@nobody:here");
    assert!(matches!(
        world.oauth.sign_in(stranger).await,
        Err(OauthError::Account(AccountError::NotFound("user")))
    ));
}

/// Row 7.1: a device code is good for the client that asked for it, and each kind of code for what it was given out for.
#[tokio::test]
async fn row_7_1_a_code_is_of_one_client_and_of_one_kind() {
    let world = World::new().await;
    let (client, alice) = (world.client(json!({})).await, world.user("alice").await);
    let other = world.client(json!({ "client_name": "Other" })).await;
    assert_ne!(client, other);
    let session = world.log_in(&client, &alice, "PHONE").await;
    let scope = session.scope.replace("PHONE", "TV");
    let device = world.oauth.device_authorization(&client, &scope).await.unwrap();
    let poll = |client: &str, code: &str| super::TokenParams {
        grant_type: Some("urn:ietf:params:oauth:grant-type:device_code".to_owned()),
        client_id: Some(client.to_owned()),
        device_code: Some(code.to_owned()),
        ..super::TokenParams::default()
    };
    let met = async |params: super::TokenParams| word(&world.oauth.token(&params).await);
    assert_eq!(met(poll(&other, &device.device_code)).await, "invalid_grant", "of another client");
    assert_eq!(met(poll(&client, &device.device_code)).await, "authorization_pending", "not slowed by that");
    assert!(world.oauth.decide(&device.user_code, &alice, true).await.unwrap());
    assert_eq!(met(poll(&other, &device.device_code)).await, "invalid_grant", "of another client");

    let code = world.oauth.grant(&world.ask(&client, "DESK").await, &alice).await.unwrap();
    let refresh = refresh_token(&session);
    for (what, params) in [
        ("a device code as a code", redemption(&client, &device.device_code)),
        ("a device code as a refresh token", renewal(&client, &device.device_code)),
        ("a code as a device code", poll(&client, &code)),
        ("a code as a refresh token", renewal(&client, &code)),
        ("a refresh token as a device code", poll(&client, refresh)),
        ("a refresh token as a code", redemption(&client, refresh)),
        ("a user code as a device code", poll(&client, &device.user_code)),
        ("an access token as a refresh token", renewal(&client, &session.session.access_token)),
    ] {
        assert_eq!(met(params).await, "invalid_grant", "{what}");
    }
    // None of that has used one up.
    for (what, params) in [
        ("device code", poll(&client, &device.device_code)),
        ("code", redemption(&client, &code)),
        ("refresh token", renewal(&client, refresh)),
    ] {
        assert_eq!(met(params).await, "ok", "{what}");
    }
}
