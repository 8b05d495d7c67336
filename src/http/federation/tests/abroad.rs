//! What users ask of their own server that others have a part in.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use bytes::Bytes;
use ruma::ServerName;
use serde_json::{Value, json};

use super::{Server, via};
use crate::{
    http::Wire,
    peer::{Bounds, Net, NetError},
    store::BoxFuture,
    types::Membership,
};

#[tokio::test]
async fn a_room_that_is_not_here_any_more_is_joined_by_state_through_another_server() {
    let wire = Wire::default();
    let (a, b) = (Server::new("a.org", &wire).await, Server::new("b.org", &wire).await);
    let (alice, bob) = (a.register("alice").await, b.register("bob").await);
    let room = a.room(&alice, "11", json!({ "preset": "public_chat" })).await;
    b.met(&bob, &format!("POST /join/{}", via(&room, &[&a])), json!({})).await;
    b.met(&bob, &format!("POST /rooms/{room}/leave"), json!({})).await;
    // Nothing carries the leave over this wire.
    a.met(&alice, &format!("POST /rooms/{room}/kick"), json!({ "user_id": "@bob:b.org" })).await;
    let name = format!("PUT /rooms/{room}/state/m.room.name");
    a.met(&alice, &name, json!({ "name": "Meanwhile" })).await;
    let own = format!("PUT /rooms/{room}/state/m.room.member/@bob:b.org");
    let joined = b.met(&bob, &own, json!({ "membership": "join", "displayname": "B" })).await;
    assert!(joined["event_id"].is_string(), "{joined}");
    assert_eq!(a.membership(&room, &b.user("bob")).await, Some(Membership::Join));
    assert_eq!(a.state(&room).await, b.state(&room).await);
    let member = format!("GET /rooms/{room}/state/m.room.member/@bob:b.org");
    assert_eq!(a.met(&alice, &member, Value::Null).await["displayname"], "B");
}

#[tokio::test]
async fn a_room_goes_by_aliases_of_other_servers_that_point_to_it() {
    let wire = Wire::default();
    let (a, b) = (Server::new("a.org", &wire).await, Server::new("b.org", &wire).await);
    let (alice, bob) = (a.register("alice").await, b.register("bob").await);
    let room = a.room(&alice, "11", json!({ "preset": "public_chat" })).await;
    b.met(&bob, &format!("POST /join/{}", via(&room, &[&a])), json!({})).await;
    let other = b.room(&bob, "11", json!({ "preset": "public_chat" })).await;
    for (alias, room) in [("#ours:b.org", &room), ("#theirs:b.org", &other)] {
        let put = format!("PUT /directory/room/{alias}");
        assert_eq!(b.met(&bob, &put, json!({ "room_id": room })).await, json!({}));
    }
    let put = format!("PUT /rooms/{room}/state/m.room.canonical_alias/");
    let bad = "400 M_BAD_ALIAS";
    assert_eq!(a.met(&alice, &put, json!({ "alt_aliases": ["#theirs:b.org"] })).await, bad);
    assert_eq!(a.met(&alice, &put, json!({ "alias": "#none:b.org" })).await, bad);
    let many: Vec<String> = (0..100).map(|number| format!("#x:{number}.org")).collect();
    assert_eq!(a.met(&alice, &put, json!({ "alt_aliases": many })).await, bad);
    assert_eq!(a.met(&alice, &put, json!({ "alias": "#x:nowhere.org" })).await, "502 M_UNKNOWN");
    let set = a.met(&alice, &put, json!({ "alias": "#ours:b.org" })).await;
    assert!(set["event_id"].is_string(), "{set}");
    // What is there already is not asked for again.
    b.met(&bob, "DELETE /directory/room/#ours:b.org", Value::Null).await;
    let content = json!({ "alt_aliases": ["#ours:b.org"] });
    assert!(a.met(&alice, &put, content).await["event_id"].is_string());
}

/// A wire on which invites take a while, and which counts how many are under way.
struct Slow {
    wire: Wire,
    now: AtomicUsize,
    most: AtomicUsize,
}

impl Net for Slow {
    fn exchange<'a>(
        &'a self,
        server: &'a ServerName,
        request: http::Request<Bytes>,
        bounds: Bounds,
    ) -> BoxFuture<'a, Result<http::Response<Bytes>, NetError>> {
        Box::pin(async move {
            let is_invite = request.uri().path().contains("/v2/invite/");
            if is_invite {
                let now = self.now.fetch_add(1, Ordering::SeqCst) + 1;
                self.most.fetch_max(now, Ordering::SeqCst);
                for _ in 0..1_000 {
                    tokio::task::yield_now().await;
                }
            }
            let answer = self.wire.exchange(server, request, bounds).await;
            self.now.fetch_sub(usize::from(is_invite), Ordering::SeqCst);
            answer
        })
    }
}

#[tokio::test]
async fn users_of_other_servers_are_invited_to_a_new_room_at_the_same_time() {
    let wire = Wire::default();
    let net = Arc::new(Slow { wire: wire.clone(), now: AtomicUsize::new(0), most: AtomicUsize::new(0) });
    let a = Server::behind("a.org", &wire, net.clone()).await;
    let alice = a.register("alice").await;
    let (mut others, mut invite) = (Vec::new(), Vec::new());
    for name in ["b.org", "c.org", "d.org"] {
        let other = Server::new(name, &wire).await;
        other.register("bob").await;
        invite.push(other.user("bob"));
        others.push(other);
    }
    let room = a.room(&alice, "11", json!({ "invite": invite })).await;
    for other in &others {
        assert_eq!(a.membership(&room, &other.user("bob")).await, Some(Membership::Invite), "{}", other.name);
    }
    assert_eq!(net.most.load(Ordering::SeqCst), 3);
}

/// A wire to servers that do not know the version of any room.
struct Older(Wire);

impl Net for Older {
    fn exchange<'a>(
        &'a self,
        server: &'a ServerName,
        request: http::Request<Bytes>,
        bounds: Bounds,
    ) -> BoxFuture<'a, Result<http::Response<Bytes>, NetError>> {
        Box::pin(async move {
            if request.uri().path().contains("/v2/invite/") {
                let error =
                    json!({ "errcode": "M_INCOMPATIBLE_ROOM_VERSION", "error": "", "room_version": "11" });
                let body = Bytes::from(error.to_string());
                return Ok(http::Response::builder().status(400).body(body).unwrap());
            }
            self.0.exchange(server, request, bounds).await
        })
    }
}

#[tokio::test]
async fn who_cannot_be_invited_because_of_the_version_is_told_of_as_such() {
    let wire = Wire::default();
    let a = Server::behind("a.org", &wire, Arc::new(Older(wire.clone()))).await;
    let b = Server::new("b.org", &wire).await;
    let alice = a.register("alice").await;
    b.register("bob").await;
    let room = a.room(&alice, "11", json!({})).await;
    let invite = format!("POST /rooms/{room}/invite");
    let answer = a.met(&alice, &invite, json!({ "user_id": "@bob:b.org" })).await;
    assert_eq!(answer, "400 M_UNSUPPORTED_ROOM_VERSION");
}
