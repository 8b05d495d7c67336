//! Users and rooms that come to be when they are asked for, by application services.
//!
//! <https://spec.matrix.org/v1.19/application-service-api/#querying>

use std::pin::pin;

use futures_util::{
    StreamExt,
    stream::{self, FuturesUnordered},
};
use ruma::{OwnedUserId, RoomAliasId};
use tokio::time::timeout;

use super::{App, Failure};
use crate::limits::{APPSERVICE_QUERIES_AT_ONCE, CLIENT_WAIT_MAX};

/// Asks for local users that are not here yet, so that they may be made. Whoever is not known in time is left out.
///
/// # Errors
/// When the store fails.
pub(crate) async fn meet_users(app: &App, users: &[OwnedUserId]) -> Result<(), Failure> {
    if app.appservices.is_empty() {
        return Ok(());
    }
    let mut missing = Vec::new();
    for user in users.iter().filter(|user| user.server_name() == app.server_name) {
        if app.accounts.user(user).await?.is_none() {
            missing.push(user.clone());
        }
    }
    let asking = stream::iter(missing).for_each_concurrent(APPSERVICE_QUERIES_AT_ONCE, |user| async move {
        let (client, all) = (&app.appservice_client, app.appservices.of_user(&user));
        first_of(all.iter().map(|appservice| client.knows_user(appservice, &user))).await;
    });
    // Those who have not answered by then are not waited for.
    drop(timeout(CLIENT_WAIT_MAX, asking).await);
    Ok(())
}

/// Asks several at the same time, until one of them knows.
async fn first_of(asked: impl Iterator<Item = impl Future<Output = bool>>) {
    let answers = asked.collect::<FuturesUnordered<_>>();
    let knowing = answers.filter(|knows| std::future::ready(*knows));
    pin!(knowing).next().await;
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
    let all = app.appservices.of_alias(alias);
    let client = &app.appservice_client;
    first_of(all.iter().map(|appservice| client.knows_alias(appservice, alias))).await;
    Ok(())
}
