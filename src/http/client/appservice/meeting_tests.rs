//! Users that are asked for at an application service that may not be there.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use parking_lot::Mutex;
use ruma::{OwnedUserId, server_name};

use crate::{
    account::Registration as Mode,
    appservice::{Appservices, Registration},
    config::Config,
    http::{client::testing::Server, meet_alias, meet_users, tests::services_by},
    peer::{Bounds, Net, NetError, Purpose},
    store::{BoxFuture, Db, memory::Memory},
    types::ManualClock,
};

const IRC: &str = "
id: irc
url: http://bridge.example.org
as_token: as_irc
hs_token: hs_irc
sender_localpart: irc_bot
namespaces: { users: [{ exclusive: true, regex: '@irc_.*' }], aliases: [{ exclusive: true, regex: '#irc_.*' }] }
";

/// One that answers with a status, or not at all.
#[derive(Default)]
struct Bridge {
    status: Mutex<Option<u16>>,
    asked: Mutex<usize>,
}

impl Net for Bridge {
    fn visit<'a>(
        &'a self,
        _: Purpose,
        request: http::Request<Bytes>,
        _: Bounds,
    ) -> BoxFuture<'a, Result<http::Response<Bytes>, NetError>> {
        let is_question = request.method() == http::Method::GET;
        *self.asked.lock() += usize::from(is_question);
        let status = if is_question { *self.status.lock() } else { Some(200) };
        Box::pin(async move {
            match status {
                Some(status) => Ok(http::Response::builder().status(status).body(Bytes::new()).unwrap()),
                None => {
                    tokio::time::sleep(Duration::from_secs(15)).await;
                    Err(NetError::Timeout)
                }
            }
        })
    }
}

struct World {
    server: Server,
    bridge: Arc<Bridge>,
    clock: Arc<ManualClock>,
}

impl World {
    async fn new() -> Self {
        let opened = Registration::parse(IRC).unwrap().open(server_name!("localhost")).unwrap();
        let (bridge, clock) = (Arc::new(Bridge::default()), Arc::new(ManualClock::at(0)));
        let place = (clock.clone(), Db::new(Arc::new(Memory::new())));
        let appservices = Appservices::new(vec![opened]).unwrap();
        let services = services_by(Config::default(), bridge.clone(), appservices, place).await;
        Self { server: Server::over(services, Mode::Open), bridge, clock }
    }

    /// Asks for so many users; how long that takes, and how many questions it comes to.
    async fn meet(&self, count: usize) -> (u64, usize) {
        let user = |number: usize| OwnedUserId::try_from(format!("@irc_{number}:localhost")).unwrap();
        let users: Vec<OwnedUserId> = (0..count).map(user).collect();
        let (begun, before) = (tokio::time::Instant::now(), *self.bridge.asked.lock());
        assert!(meet_users(self.server.app(), &users).await.is_ok());
        (begun.elapsed().as_secs(), *self.bridge.asked.lock() - before)
    }
}

#[tokio::test(start_paused = true)]
async fn one_that_does_not_answer_is_waited_for_once() {
    let world = World::new().await;
    let (took, asked) = world.meet(100).await;
    assert!(took <= 16 && asked <= 16, "{took} s, {asked} questions");
    assert_eq!(world.meet(100).await, (0, 0), "it has just failed to answer");
    world.clock.advance(Duration::from_secs(31));
    assert_eq!(world.meet(1).await, (15, 1));
    let alias = ruma::room_alias_id!("#irc_x:localhost");
    for waits in [15, 0] {
        let begun = tokio::time::Instant::now();
        assert!(meet_alias(world.server.app(), alias).await.is_ok());
        assert_eq!(begun.elapsed().as_secs(), waits, "aliases are another question");
    }
    // That it is there shows when it answers a ping.
    let ping = "POST /_matrix/client/v1/appservice/irc/ping";
    world.server.met("as_irc", ping, serde_json::json!({})).await;
    *world.bridge.status.lock() = Some(404);
    assert_eq!(world.meet(3).await, (0, 3));
    assert_eq!(world.meet(3).await, (0, 3), "that it does not know somebody is an answer");
    *world.bridge.status.lock() = Some(502);
    assert_eq!(world.meet(1).await, (0, 1));
    assert_eq!(world.meet(1).await, (0, 0), "a proxy has answered in its place");
}
