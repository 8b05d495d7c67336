//! A user's new device signs in with the help of one that is signed in: one shows a QR code, the other scans it, each
//! way round. What it shall have afterwards is what Element X has: a verified device with all the secrets, which reads
//! what was said before it was there.
//!
//! MSC4108: <https://github.com/matrix-org/matrix-spec-proposals/pull/4108>

use futures_util::{Stream, StreamExt as _};
use matrix_sdk::{
    Client, RoomState,
    authentication::oauth::{
        ClientRegistrationData,
        qrcode::{
            DeviceCodeErrorResponseType, GeneratedQrProgress, GrantLoginProgress, LoginProgress,
            Msc4108IntentData, QRCodeGrantLoginError, QRCodeLoginError, QrAuthMessage, QrCodeData,
            QrCodeIntentData, QrProgress,
        },
        registration::{ApplicationType, ClientMetadata, Localized, OAuthGrantType},
    },
    encryption::{VerificationState, backups::BackupState, recovery::RecoveryState},
    reqwest::Url,
    ruma::{
        OwnedRoomId,
        api::client::room::create_room::v3::Request as CreateRoom,
        events::{InitialStateEvent, room::encryption::RoomEncryptionEventContent},
        serde::Raw,
    },
};
use matrix_sdk_ui::timeline::RoomExt as _;
use tempfile::TempDir;

use crate::{
    Outcome, PASSWORD, Phone, app,
    browser::{Asked, Browser},
    say, until,
};

/// What the app of the new devices is called.
const APP: &str = "Scenario of two phones";

/// A phone lets in a second one, which scans its code; and that one a third one, whose code it scans.
pub(crate) async fn sign_in() -> Outcome<()> {
    let first = Phone::register("alice").await?;
    first.client.encryption().wait_for_e2ee_initialization_tasks().await;
    let id = den(&first.client).await?;
    let room = first.room(&id, RoomState::Joined).await?;
    until("encryption", async || Ok(room.encryption_state().is_encrypted().then_some(()))).await?;
    first.service.room_list_service().subscribe_to_rooms(&[&id]).await;
    let timeline = room.timeline().await?;
    let mut said = vec!["before the second".to_owned()];
    say(&room, &said[0]).await?;
    first.client.encryption().recovery().enable().wait_for_backups_to_upload().await?;

    let (second, ()) = tokio::try_join!(scan(&first.client), refused(&first.client))?;
    let second = whole(&first.client, second).await?;
    talks(&second, &id, &mut said, "by the second").await?;
    first.reads(&timeline, &said).await?;
    second.client.oauth().refresh_access_token().await?;
    let third = whole(&first.client, show(&second.client).await?).await?;
    talks(&third, &id, &mut said, "by the third").await?;
    first.reads(&timeline, &said).await?;

    // The SDK signs out of servers with https only.
    let devices = second.client.devices().await?.devices;
    if devices.len() != 3 {
        return Err(format!("the devices are {devices:?}").into());
    }
    third.service.stop().await;
    first.service.stop().await;
    Ok(second.service.stop().await)
}

/// An encrypted room.
async fn den(client: &Client) -> Outcome<OwnedRoomId> {
    let mut request = CreateRoom::new();
    request.name = Some("den".to_owned());
    let encryption = RoomEncryptionEventContent::with_recommended_defaults();
    request.initial_state = vec![InitialStateEvent::with_empty_state_key(encryption).to_raw_any()];
    Ok(client.create_room(request).await?.room_id().to_owned())
}

/// A new device scans the code of the old one.
async fn scan(old: &Client) -> Outcome<(Client, TempDir)> {
    let oauth = old.oauth();
    let grant = oauth.grant_login_with_qr_code().generate();
    let mut old_shows = grant.subscribe_to_progress();
    let new_device = async {
        let code = shown(&mut old_shows, |progress| match progress {
            GrantLoginProgress::EstablishingSecureChannel(GeneratedQrProgress::QrReady(code)) => Some(code),
            _ => None,
        });
        let code = QrCodeData::from_bytes(&code.await?.to_bytes())?;
        let QrCodeIntentData::Msc4108 { data: Msc4108IntentData::Reciprocate { server_name }, .. } =
            code.intent_data()
        else {
            return Err("the code does not say which server it is".into());
        };
        let store = TempDir::new()?;
        let client = app(&store, server_name).await?;
        let (oauth, about) = (client.oauth(), about()?);
        let login = oauth.login_with_qr_code(Some(&about)).scan(&code);
        let mut new_shows = login.subscribe_to_progress();
        let user = async {
            let check_code = shown(&mut new_shows, |progress| match progress {
                LoginProgress::EstablishingSecureChannel(QrProgress { check_code }) => Some(check_code),
                _ => None,
            });
            let check_code = check_code.await?.to_digit();
            let field = shown(&mut old_shows, |progress| match progress {
                GrantLoginProgress::EstablishingSecureChannel(GeneratedQrProgress::QrScanned(field)) => {
                    Some(field)
                }
                _ => None,
            });
            field.await?.send(check_code).await?;
            answer(old, (&mut old_shows, &mut new_shows), "allow").await
        };
        tokio::try_join!(async { Outcome::Ok(login.await?) }, user)?;
        Ok((client, store))
    };
    Ok(tokio::try_join!(async { Outcome::Ok(grant.await?) }, new_device)?.1)
}

/// The old device scans the code of a new one.
async fn show(old: &Client) -> Outcome<(Client, TempDir)> {
    let store = TempDir::new()?;
    let client = app(&store, &std::env::var("HS_URL")?).await?;
    match sign_in_with_shown(&client, old, "allow").await? {
        (Ok(()), Ok(())) => Ok((client, store)),
        other => Err(format!("the two devices ended with {other:?}").into()),
    }
}

/// The same, and the user does not want it: both devices learn of it, and the new one is not signed in.
async fn refused(old: &Client) -> Outcome<()> {
    let store = TempDir::new()?;
    let client = app(&store, &std::env::var("HS_URL")?).await?;
    let (new_one, old_one) = sign_in_with_shown(&client, old, "deny").await?;
    let denied = matches!(&new_one, Err(QRCodeLoginError::OAuth(error))
        if error.as_request_token_error() == Some(&DeviceCodeErrorResponseType::AccessDenied));
    let told = matches!(
        &old_one,
        Err(QRCodeGrantLoginError::UnexpectedMessage { received: QrAuthMessage::LoginDeclined, .. })
    );
    match denied && told && client.session().is_none() {
        true => Ok(()),
        false => Err(format!("refused, and the new device says {new_one:?}, the old one {old_one:?}").into()),
    }
}

type Ends = (Result<(), QRCodeLoginError>, Result<(), QRCodeGrantLoginError>);

/// How it ends for the new device and for the old one, which scans its code.
async fn sign_in_with_shown(client: &Client, old: &Client, decision: &str) -> Outcome<Ends> {
    let (oauth, about) = (client.oauth(), about()?);
    let login = oauth.login_with_qr_code(Some(&about)).generate();
    let mut new_shows = login.subscribe_to_progress();
    let old_device = async {
        let code = shown(&mut new_shows, |progress| match progress {
            LoginProgress::EstablishingSecureChannel(GeneratedQrProgress::QrReady(code)) => Some(code),
            _ => None,
        });
        let code = QrCodeData::from_bytes(&code.await?.to_bytes())?;
        let oauth = old.oauth();
        let grant = oauth.grant_login_with_qr_code().scan(&code);
        let mut old_shows = grant.subscribe_to_progress();
        let user = async {
            let check_code = shown(&mut old_shows, |progress| match progress {
                GrantLoginProgress::EstablishingSecureChannel(QrProgress { check_code }) => Some(check_code),
                _ => None,
            });
            let check_code = check_code.await?.to_digit();
            let field = shown(&mut new_shows, |progress| match progress {
                LoginProgress::EstablishingSecureChannel(GeneratedQrProgress::QrScanned(field)) => {
                    Some(field)
                }
                _ => None,
            });
            field.await?.send(check_code).await?;
            answer(old, (&mut old_shows, &mut new_shows), decision).await
        };
        let (granted, answered) = tokio::join!(async { grant.await }, user);
        answered?;
        Outcome::Ok(granted)
    };
    let (signed_in, granted) = tokio::join!(async { login.await }, old_device);
    Ok((signed_in, granted?))
}

/// The user opens the page that the old device leads to, compares the code there with that on the new device, and
/// decides.
async fn answer<O, N>(
    old: &Client,
    (old_shows, new_shows): (
        &mut (impl Stream<Item = GrantLoginProgress<O>> + Unpin),
        &mut (impl Stream<Item = LoginProgress<N>> + Unpin),
    ),
    decision: &str,
) -> Outcome<()> {
    let user_code = shown(new_shows, |progress| match progress {
        LoginProgress::WaitingForToken { user_code } => Some(user_code),
        _ => None,
    });
    let user_code = user_code.await?;
    let link = shown(old_shows, |progress| match progress {
        GrantLoginProgress::WaitingForAuth { verification_uri } => Some(verification_uri),
        _ => None,
    });
    let asked = Asked { user_code: &user_code, client: APP, decision };
    let name = old.user_id().ok_or("nobody is signed in")?.localpart();
    Browser::new()?.decide(&link.await?, (name, PASSWORD), &asked).await
}

/// What a device shows, as soon as it is what is looked for.
async fn shown<P, T>(
    screen: &mut (impl Stream<Item = P> + Unpin),
    look: impl Fn(P) -> Option<T>,
) -> Outcome<T> {
    while let Some(progress) = screen.next().await {
        if let Some(found) = look(progress) {
            return Ok(found);
        }
    }
    Err("a device has gone away".into())
}

/// What the server is told of the app.
fn about() -> Outcome<ClientRegistrationData> {
    let home = Localized::new(Url::parse("https://example.org/")?, []);
    let mut metadata = ClientMetadata::new(ApplicationType::Native, vec![OAuthGrantType::DeviceCode], home);
    metadata.client_name = Some(Localized::new(APP.to_owned(), []));
    Ok(Raw::new(&metadata)?.into())
}

/// Starts the app on a device that has just been signed in, once it is found to have everything.
async fn whole(old: &Client, (client, store): (Client, TempDir)) -> Outcome<Phone> {
    let encryption = client.encryption();
    let keys = encryption.cross_signing_status().await.ok_or("no keys")?;
    if !keys.is_complete() || encryption.backups().state() != BackupState::Enabled {
        return Err(
            format!("the secrets are {keys:?}, the backup is {:?}", encryption.backups().state()).into()
        );
    }
    let verified = encryption.verification_state().get();
    if verified != VerificationState::Verified {
        return Err(format!("the new device is {verified:?} to itself").into());
    }
    let (user, device) = (old.user_id().ok_or("nobody")?, client.device_id().ok_or("no device")?);
    until("the device, signed", async || {
        old.encryption().request_user_identity(user).await?;
        let seen = old.encryption().get_device(user, device).await?;
        Ok(seen.is_some_and(|device| device.is_cross_signed_by_owner()).then_some(()))
    })
    .await?;
    let phone = Phone::start(client, store).await?;
    let recovery = phone.client.encryption().recovery();
    until("recovery", async || Ok((recovery.state() == RecoveryState::Enabled).then_some(()))).await?;
    Ok(phone)
}

/// A new device reads what was said before, and says something.
async fn talks(phone: &Phone, id: &OwnedRoomId, said: &mut Vec<String>, text: &str) -> Outcome<()> {
    let room = phone.room(id, RoomState::Joined).await?;
    phone.service.room_list_service().subscribe_to_rooms(&[id]).await;
    phone.reads(&room.timeline().await?, said).await?;
    say(&room, text).await?;
    said.push(text.to_owned());
    Ok(())
}
