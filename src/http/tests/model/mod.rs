//! Random users of a server, or of two, against plain lists of what they did, over HTTP without sockets.
//!
//! Clients of every kind of sync lose answers, ask again, move their windows, begin anew and stay away; in the
//! end each must believe what a naive recount says ([`ledger`]). And whoever looks into a room, by whatever
//! endpoint, must be served the events that they may see and no others ([`sight`]); also where a room goes over two
//! servers, and the servers themselves when they read of each other's rooms ([`abroad`]). A seed decides everything
//! that chance decides. By hand: `SEEDS=1000` runs as many (`FROM=2000` not from the first), `SEED=7` runs one
//! (`TELL=1` tells each request, `TELL=all` each answer too), with `cargo test --lib http::tests::model`.

mod abroad;
mod asked;
mod beside;
mod deeds;
mod faces;
mod follower;
mod glance;
mod known;
mod ledger;
mod served;
mod sight;
mod slider;
mod tap;
mod town;

use self::{
    follower::{Fate, Follower},
    sight::{Look, check_everywhere},
    slider::{Slider, Wish},
    town::Town,
};

/// As many seeds as there is time for in every run of the tests.
const SEEDS: u64 = 20;
/// Things that happen in a run.
const STEPS: usize = 220;

/// Names the seed of a run that fails.
struct Named(u64);

impl Drop for Named {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("this was seed {0}: SEED={0} cargo test --lib http::tests::model", self.0);
        }
    }
}

fn run_one<F: Future<Output = ()>>(seed: u64, run: &impl Fn(u64) -> F) {
    let _named = Named(seed);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.unwrap().block_on(run(seed));
}

/// Runs all seeds that are asked for, and fails if one does. Says whether there were many.
fn run_all<F: Future<Output = ()>>(run: impl Fn(u64) -> F) -> bool {
    let setting = |name: &str| std::env::var(name).ok().map(|text| text.parse::<u64>().unwrap());
    if let Some(seed) = setting("SEED") {
        run_one(seed, &run);
        return false;
    }
    let (first, count) = (setting("FROM").unwrap_or(0), setting("SEEDS").unwrap_or(SEEDS));
    let run = std::panic::AssertUnwindSafe(run);
    let fails = |seed: &u64| std::panic::catch_unwind(|| run_one(*seed, &*run)).is_err();
    let failed: Vec<u64> = (first..first + count).filter(fails).collect();
    assert!(failed.is_empty(), "of {count} seeds from {first} on, these have failed: {failed:?}");
    count >= SEEDS
}

async fn settled_town(seed: u64) -> Town {
    let mut town = Town::new(seed).await;
    for who in 0..3 {
        town.found(who).await;
    }
    town
}

#[test]
fn everybody_sees_what_they_may_and_no_more() {
    let many = run_all(async |seed| {
        let mut town = settled_town(seed).await;
        let (goes, when) = (town.below(town.people.len()), town.below(STEPS));
        for step in 0..STEPS {
            town.deed(true).await;
            if step == when && seed % 4 != 0 {
                town.erase(goes).await;
            }
        }
        if town.chance(1, 2) {
            town.restart().await;
        }
        for who in (0..town.people.len()).filter(|who| !town.is_gone(*who)) {
            for room in &town.rooms {
                Look::new(&town, who, room).check().await;
            }
            check_everywhere(&town, who).await;
        }
        town.asked.count();
    });
    if many {
        asked::check_all(false);
    }
}

fn fate(town: &mut Town) -> Fate {
    match town.below(8) {
        0 | 1 => Fate::Lost,
        2 => Fate::Doubled,
        _ => Fate::Good,
    }
}

#[test]
fn clients_of_sync_believe_what_happened() {
    run_all(async |seed| {
        let mut town = settled_town(seed).await;
        let mut clients = Follower::all();
        let mut kept = clients.clone();
        for _ in 0..STEPS {
            town.deed(false).await;
            if town.chance(1, 150) {
                town.restart().await;
            }
            if !town.chance(1, 2) {
                continue;
            }
            let index = town.below(clients.len());
            match town.below(30) {
                0 => clients[index].reset(),
                1 => clients[index].go_back(kept[index].clone()),
                2 | 3 => kept[index] = clients[index].clone(),
                _ => {
                    let how = (town.below(6), town.chance(1, 20));
                    let fate = fate(&mut town);
                    clients[index].poll(&town, how, fate).await;
                }
            }
        }
        for client in &mut clients {
            client.settle(&town).await;
        }
    });
}

#[test]
fn clients_that_slide_believe_what_happened() {
    run_all(async |seed| {
        let mut town = settled_town(seed).await;
        let mut clients = Slider::all();
        let mut kept = clients.clone();
        for _ in 0..STEPS {
            town.deed(false).await;
            if town.chance(1, 150) {
                town.restart().await;
            }
            if !town.chance(1, 2) {
                continue;
            }
            let index = town.below(clients.len());
            match town.below(30) {
                0 => clients[index].reset(),
                1 => clients[index].go_back(kept[index].clone()),
                2 | 3 => kept[index] = clients[index].clone(),
                _ => {
                    let (wish, fate) = (Wish::any(&mut town), fate(&mut town));
                    clients[index].poll(&town, &wish, fate).await;
                }
            }
        }
        for client in &mut clients {
            client.settle(&town).await;
        }
    });
}
