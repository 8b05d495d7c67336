//! The first page of sliding sync, as an app opens its room list, of an account with very many rooms.

use futures_util::{StreamExt, TryStreamExt, stream};
use reqwest::Method;
use serde_json::{Value, json};
use spec_tests::{Outcome, matrix::Client};
use tokio::time::Instant;

use crate::{
    bench::{Bench, Scene, Work},
    options::Sizes,
    target::{SETUP_PARALLEL, Target},
};

const PATH: &str = "/_matrix/client/unstable/org.matrix.simplified_msc3575/sync?timeout=0";
/// Rooms in the window.
const WINDOW: usize = 20;

pub(crate) async fn run(sizes: &Sizes, targets: &mut [Target], bench: &mut Bench) -> Outcome<()> {
    let rooms = sizes.account_rooms;
    for window in [WINDOW, rooms] {
        let count = (400 / window).max(2);
        bench.play(&FirstPage { rooms, window: window.min(rooms), count }, targets).await?;
    }
    Ok(())
}

struct FirstPage {
    rooms: usize,
    window: usize,
    count: usize,
}

impl Scene for FirstPage {
    type State = (Client, Vec<Client>);

    fn name(&self) -> String {
        format!("sliding sync: first {} of {} rooms", self.window, self.rooms)
    }

    async fn prepare(&self, target: &mut Target) -> Outcome<Self::State> {
        let name = format!("window-{}-{}", std::process::id(), self.rooms);
        let owner = match target.nobody.login(&name).await {
            Ok(owner) => owner,
            Err(_) => target.nobody.register(&name).await?,
        };
        let joined = owner.get("/_matrix/client/v3/joined_rooms").await?;
        let known = joined["joined_rooms"].as_array().map_or(0, Vec::len);
        let owner_ref = &owner;
        stream::iter(known..self.rooms)
            .map(|number| async move {
                let request = json!({"preset": "private_chat", "name": format!("Room {number}")});
                let room = owner_ref.create_room(&request).await?;
                owner_ref.say(&room, "the only message").await
            })
            .buffer_unordered(SETUP_PARALLEL)
            .try_collect::<Vec<String>>()
            .await?;
        target.calm().await?;
        Ok((owner, Vec::new()))
    }

    async fn before(&self, target: &mut Target, (owner, devices): &mut Self::State) -> Outcome<()> {
        devices.clear();
        for _ in 0..self.count {
            devices.push(target.nobody.login(&owner.user_id).await?);
        }
        Ok(())
    }

    async fn round(&self, _target: &Target, (_, devices): &mut Self::State) -> Outcome<Work> {
        let request = request(self.window);
        let mut work = Work::default();
        for device in devices {
            let begun = Instant::now();
            let body = device.bytes(Method::POST, PATH, Some(&request)).await?;
            work.latencies.push(begun.elapsed());
            let page: Value = serde_json::from_slice(&body)?;
            let rooms = page["rooms"].as_object().map_or(0, serde_json::Map::len);
            if (rooms, page["lists"]["all"]["count"].as_u64())
                != (self.window, u64::try_from(self.rooms).ok())
            {
                return Err(format!("{rooms} rooms on the page, lists {}", page["lists"]).into());
            }
        }
        work.operations = work.latencies.len();
        Ok(work)
    }
}

/// What an app on matrix-rust-sdk asks for: a list, the state that a room list shows, all extensions.
fn request(window: usize) -> Value {
    json!({
        "conn_id": "room-list",
        "lists": {"all": {
            "ranges": [[0, window - 1]],
            "timeline_limit": 1,
            "required_state": [
                ["m.room.name", ""], ["m.room.encryption", ""], ["m.room.member", "$LAZY"],
                ["m.room.member", "$ME"], ["m.room.topic", ""], ["m.room.avatar", ""],
                ["m.room.canonical_alias", ""], ["m.room.power_levels", ""], ["m.room.join_rules", ""],
                ["m.room.tombstone", ""], ["m.room.create", ""], ["m.room.history_visibility", ""],
            ],
            "filters": {"not_room_types": ["m.space"]},
        }},
        "extensions": {
            "account_data": {"enabled": true}, "receipts": {"enabled": true}, "typing": {"enabled": true},
            "e2ee": {"enabled": true}, "to_device": {"enabled": true},
        },
    })
}
