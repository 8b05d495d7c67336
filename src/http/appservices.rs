//! Users and rooms that come to be when they are asked for, by application services.
//!
//! <https://spec.matrix.org/v1.19/application-service-api/#querying>

use ruma::{OwnedUserId, RoomAliasId};

use super::{App, Failure};

/// Asks for local users that are not here yet, so that they may be made.
///
/// # Errors
/// When the store fails.
pub(crate) async fn meet_users(app: &App, users: &[OwnedUserId]) -> Result<(), Failure> {
    if app.appservices.is_empty() {
        return Ok(());
    }
    for user in users.iter().filter(|user| user.server_name() == app.server_name) {
        if app.accounts.user(user).await?.is_some() {
            continue;
        }
        for appservice in app.appservices.of_user(user) {
            if app.appservice_client.knows_user(&appservice, user).await {
                break;
            }
        }
    }
    Ok(())
}

/// Asks for a local alias that is not here yet, so that its room may be made.
///
/// # Errors
/// When the store fails.
pub(crate) async fn meet_alias(app: &App, alias: &RoomAliasId) -> Result<(), Failure> {
    if app.appservices.is_empty() || alias.server_name() != app.server_name {
        return Ok(());
    }
    if app.history.alias(alias).await?.is_some() {
        return Ok(());
    }
    for appservice in app.appservices.of_alias(alias) {
        if app.appservice_client.knows_alias(&appservice, alias).await {
            break;
        }
    }
    Ok(())
}
