//! Addresses that are bound to users at identity servers, and how that ends.
//!
//! <https://spec.matrix.org/v1.19/identity-service-api/#establishing-associations>

use std::collections::BTreeSet;

use ruma::{OwnedUserId, UserId, thirdparty::Medium};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{Address, Desk, Identity, IdentityError, ask::Proof};
use crate::{
    limits::BOUND_ADDRESSES_MAX,
    log::Commit,
    store::table::{Rows, TableId},
};

/// What is bound, by user, kind of address, address, and identity server.
const BOUND: Rows<(OwnedUserId, String, String, String), ()> = Rows::new(TableId::BoundAddress);

/// What came of unbinding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unbound {
    /// What was bound is so no more.
    Done,
    /// An identity server refuses, or none is known or may be asked.
    Unsupported,
}

impl Unbound {
    /// Both.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        if self == Self::Done { other } else { self }
    }
}

impl Identity {
    /// Binds an address to `user` that they have proved to an identity server, in the session `sid`. Where it is bound
    /// is remembered.
    ///
    /// # Errors
    /// When the identity server does not, or there are too many already.
    pub async fn bind(
        &self,
        user: &UserId,
        desk: Desk<'_>,
        (sid, client_secret): (&str, &str),
    ) -> Result<(), IdentityError> {
        #[derive(Deserialize)]
        struct Answer {
            medium: Medium,
            address: String,
        }
        let server = self.trusted(desk.server)?;
        let present = self.0.log.db().range(&BOUND, &(user.to_owned(),), BOUND_ADDRESSES_MAX).await?;
        if present.len() == BOUND_ADDRESSES_MAX {
            return Err(IdentityError::Invalid("Too many addresses are bound"));
        }
        let body = json!({ "sid": sid, "client_secret": client_secret, "mxid": user });
        let answer: Answer = self.post(server, "/3pid/bind", (Proof::Token(desk.token), &body)).await?;
        let bad = |_| IdentityError::BadAnswer("what is bound is no address");
        let address = Address::new(answer.medium, &answer.address).map_err(bad)?;
        let mut commit = Commit::new();
        commit.put(&BOUND, &key(user, &address, server.as_str()), &());
        self.0.log.commit(commit).await?;
        Ok(())
    }

    /// Unbinds an address of `user`, at the identity server that is named, or else wherever it was bound.
    ///
    /// # Errors
    /// When an identity server is not reached, or the one that is named may not be asked.
    pub async fn unbind(
        &self,
        user: &UserId,
        address: &Address,
        named: Option<&str>,
    ) -> Result<Unbound, IdentityError> {
        let servers = match named {
            Some(name) => vec![self.trusted(name)?.to_string()],
            None => {
                let prefix = (user.to_owned(), address.medium.to_string(), address.address.clone());
                let rows = self.0.log.db().range(&BOUND, &prefix, BOUND_ADDRESSES_MAX).await?;
                rows.into_iter().map(|((_, _, _, server), _)| server).collect()
            }
        };
        if servers.is_empty() {
            return Ok(Unbound::Unsupported);
        }
        let mut all = Unbound::Done;
        for server in servers {
            all = all.and(self.unbind_at(user, address, &server).await?);
        }
        Ok(all)
    }

    /// Unbinds all that is bound to `user`, and what else is said to be: who is not reached or refuses does not keep the
    /// others, and is not asked again. Whatever came of it, nothing is known of it any more.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn leave(
        &self,
        user: &UserId,
        others: Vec<(Address, String)>,
    ) -> Result<Unbound, IdentityError> {
        let rows = self.0.log.db().range(&BOUND, &(user.to_owned(),), BOUND_ADDRESSES_MAX).await?;
        let known = rows.into_iter().filter_map(|((_, medium, address, server), _)| {
            Some((Address::new(Medium::from(medium), &address).ok()?, server))
        });
        let (mut all, mut silent, mut done) = (Unbound::Done, BTreeSet::new(), Vec::new());
        for (address, server) in known.chain(others) {
            if done.contains(&(address.clone(), server.clone())) {
                continue;
            }
            let unbound = match silent.contains(&server) {
                true => Unbound::Unsupported,
                false => match self.unbind_at(user, &address, &server).await {
                    Ok(unbound) => unbound,
                    Err(error) => {
                        tracing::info!(user.id = %user, server.name = %server, %error, "an address stays bound");
                        silent.insert(server.clone());
                        Unbound::Unsupported
                    }
                },
            };
            all = all.and(unbound);
            done.push((address, server));
        }
        if !done.is_empty() {
            let mut commit = Commit::new();
            commit.delete_prefix(&BOUND, &(user.to_owned(),));
            self.0.log.commit(commit).await?;
        }
        Ok(all)
    }

    async fn unbind_at(
        &self,
        user: &UserId,
        address: &Address,
        name: &str,
    ) -> Result<Unbound, IdentityError> {
        // It may have been named once, and be no more.
        let Ok(server) = self.trusted(name) else { return Ok(Unbound::Unsupported) };
        let Address { medium, address: text } = address;
        let body = json!({ "mxid": user, "threepid": { "medium": medium, "address": text } });
        match self.post::<Value>(server, "/3pid/unbind", (Proof::Signature, &body)).await {
            Ok(_) => {}
            Err(IdentityError::Refused { status, errcode, .. }) => {
                tracing::info!(user.id = %user, server.name = %server, "it does not unbind: {status} {errcode}");
                return Ok(Unbound::Unsupported);
            }
            Err(error) => return Err(error),
        }
        let mut commit = Commit::new();
        commit.delete(&BOUND, &key(user, address, name));
        self.0.log.commit(commit).await?;
        Ok(Unbound::Done)
    }
}

fn key(user: &UserId, address: &Address, server: &str) -> (OwnedUserId, String, String, String) {
    let Address { medium, address } = address;
    (user.to_owned(), medium.to_string(), address.clone(), server.to_owned())
}
