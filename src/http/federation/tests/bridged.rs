//! Users of other servers, and those of an application service.

use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use parking_lot::Mutex;
use ruma::{ServerName, server_name};
use serde_json::{Value, json};

use super::Server;
use crate::{
    account::{Accounts, NewUser},
    appservice::{Appservices, Registration},
    http::Wire,
    peer::{Bounds, Net, NetError, Purpose},
    store::BoxFuture,
};

const REGISTRATION: &str = "
id: irc
url: http://bridge.example.org
as_token: as_irc
hs_token: hs_irc
sender_localpart: irc_bot
namespaces: { users: [{ exclusive: true, regex: '@irc_.*' }] }
";

/// An application service that makes its users when it is asked for them, and remembers what it hears.
struct Bridge {
    wire: Wire,
    accounts: OnceLock<Accounts>,
    heard: Mutex<Vec<Value>>,
}

impl Net for Bridge {
    fn exchange<'a>(
        &'a self,
        server: &'a ServerName,
        request: http::Request<Bytes>,
        bounds: Bounds,
    ) -> BoxFuture<'a, Result<http::Response<Bytes>, NetError>> {
        self.wire.exchange(server, request, bounds)
    }

    fn visit<'a>(
        &'a self,
        _: Purpose,
        request: http::Request<Bytes>,
        _: Bounds,
    ) -> BoxFuture<'a, Result<http::Response<Bytes>, NetError>> {
        Box::pin(async move {
            let mut status = 200;
            if request.uri().path().contains("/users/") {
                let username = request.uri().path().contains("irc_carol").then(|| String::from("irc_carol"));
                status = if username.is_some() { 200 } else { 404 };
                if username.is_some() {
                    let new = NewUser { username, ..NewUser::default() };
                    self.accounts.get().unwrap().create_user(new).await.unwrap();
                }
            } else {
                let body: Value = serde_json::from_slice(request.body()).unwrap();
                self.heard.lock().extend(body["events"].as_array().unwrap().iter().cloned());
            }
            Ok(http::Response::builder().status(status).body(Bytes::from_static(b"{}")).unwrap())
        })
    }
}

#[tokio::test]
async fn an_invite_from_elsewhere_makes_a_user_who_hears_of_it_and_of_its_end() {
    let wire = Wire::default();
    let open = Registration::parse(REGISTRATION).unwrap().open(server_name!("b.org")).unwrap();
    let (accounts, heard) = Default::default();
    let bridge = Arc::new(Bridge { wire: wire.clone(), accounts, heard });
    let a = Server::new("a.org", &wire).await;
    let appservices = Appservices::new(vec![open]).unwrap();
    let b = Server::with("b.org", &wire, (bridge.clone(), appservices), |_| {}).await;
    bridge.accounts.set(b.app.accounts.clone()).ok().unwrap();
    // It begins at the present.
    let irc = b.app.appservices.by_token("as_irc").unwrap();
    let begun = async {
        while b.app.appservice_couriers.standing(&irc).await.unwrap().is_none() {
            tokio::task::yield_now().await;
        }
    };
    let second = std::time::Duration::from_secs(60);
    assert!(tokio::time::timeout(second, begun).await.is_ok(), "it never began");
    let alice = a.register("alice").await;
    let room = a.room(&alice, "11", json!({ "preset": "private_chat" })).await;
    let ask = async |verb: &str, user: &str| {
        a.met(&alice, &format!("POST /rooms/{room}/{verb}"), json!({ "user_id": user })).await
    };
    assert_ne!(ask("invite", "@irc_nobody:b.org").await, json!({}), "nobody knows of them");
    assert_eq!(ask("invite", "@irc_carol:b.org").await, json!({}));
    let until = async |count: usize| {
        let waited = async {
            while bridge.heard.lock().len() < count {
                tokio::time::sleep(std::time::Duration::from_millis(5)).await;
            }
        };
        let is_there = tokio::time::timeout(second, waited).await.is_ok();
        assert!(is_there, "{count}: {:?}", bridge.heard.lock());
    };
    until(1).await;
    assert_eq!(ask("kick", "@irc_carol:b.org").await, json!({}));
    until(2).await;
    let heard = bridge.heard.lock().clone();
    let told = |event: &Value| (event["state_key"].clone(), event["content"]["membership"].clone());
    let carol = json!("@irc_carol:b.org");
    let expected = [(carol.clone(), json!("invite")), (carol, json!("leave"))];
    assert_eq!(heard.iter().map(told).collect::<Vec<_>>(), expected);
}
