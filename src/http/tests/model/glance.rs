//! What the endpoints serve of a room that give a first look at it, or look beyond single events: first syncs, relations
//! of relations, summaries.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::{
    sight::{Look, ids},
    town::Town,
};

/// How far relations of relations are followed.
const LEVELS: usize = 3;

impl Look<'_> {
    /// The endpoints of a single room.
    pub(super) async fn glance(&self) {
        self.check_first_look().await;
        self.check_preview().await;
        if self.until.is_none() {
            return;
        }
        for at in (0..self.room.events.len()).filter(|at| self.timeline.contains(at)) {
            if self.room.children(at).next().is_some() {
                self.check_descendants(at).await;
            }
        }
    }

    async fn check_first_look(&self) {
        let limit = 5 + self.who * 20;
        let request = self.path(&format!("initialSync?limit={limit}"));
        let (status, answer) = self.ask(&request).await;
        let Some(until) = self.until else {
            assert_eq!(status, 403, "{request}: {} {answer}", self.name());
            return;
        };
        assert_eq!(status, 200, "{request}: {} {answer}", self.name());
        self.check_served(&request, &answer["messages"], false);
        self.check_served(&request, &answer["state"], true);
        let newest = self.timeline.iter().copied().skip(self.timeline.len().saturating_sub(limit));
        assert_eq!(ids(&answer["messages"]["chunk"]), self.room.ids(newest), "{request}: {}", self.name());
        let found: BTreeSet<String> = ids(&answer["state"]).into_iter().collect();
        let state: BTreeSet<String> =
            self.room.ids(self.room.state_before(until).into_values()).into_iter().collect();
        assert_eq!(found, state, "{request}: {}", self.name());
    }

    /// The events that relate to one, to those, and so on.
    async fn check_descendants(&self, at: usize) {
        let id = &self.room.events[at].id;
        for kind in ["", "m.annotation"] {
            let (mut level, mut all) = (vec![at], BTreeSet::new());
            for _ in 0..LEVELS {
                let next: Vec<(usize, &str)> =
                    level.iter().flat_map(|parent| self.room.children(*parent)).collect();
                let fits = next.iter().filter(|(_, how)| kind.is_empty() || *how == kind);
                all.extend(fits.map(|(child, _)| *child));
                level = next.iter().map(|(child, _)| *child).collect();
            }
            let wanted =
                all.into_iter().filter(|child| self.timeline.contains(child) && !self.is_kept(*child));
            let rest = if kind.is_empty() { String::new() } else { format!("/{kind}") };
            let request = self.path_v1(&format!("relations/{id}{rest}?recurse=true&dir=f&limit=1000"));
            let answer = self.get(&request).await;
            self.check_served(&request, &answer, false);
            assert_eq!(ids(&answer["chunk"]), self.room.ids(wanted), "{request}: {}", self.name());
        }
    }

    /// A timeline and a state of a sync without a token; `is_cut` where it ends with the user's stay.
    pub(super) fn check_whole(&self, (timeline, state): (&Value, &Value), is_cut: bool) {
        if timeline.is_null() {
            return;
        }
        self.check_served("a sync's timeline", timeline, false);
        self.check_served("a sync's state", state, true);
        let stays = self.room.stays(self.user);
        let last = stays.last().and_then(|(_, end)| *end);
        let is_in = stays.last().is_some_and(|(_, end)| end.is_none());
        if is_in || is_cut {
            let cut = last.map_or(usize::MAX, |end| end + 1);
            let wanted = self.timeline.iter().copied().filter(|at| *at < cut);
            assert_eq!(ids(timeline), self.room.ids(wanted), "a whole timeline: {}", self.name());
        }
    }
}

/// The first answers of syncs of every kind.
pub(super) async fn check_first_syncs(town: &Town, who: usize, looks: &[Look<'_>]) {
    let old = town.get(who, "GET /initialSync?limit=1000&archived=true").await;
    let list = json!({ "ranges": [[0, 99]], "timeline_limit": 100, "required_state": [["*", "*"]] });
    let body = json!({ "lists": { "a": list } });
    let (status, slid) = town.ask(who, "POST /_matrix/client/v4/sync", body).await;
    assert_eq!(status, 200, "{slid}");
    for look in looks {
        let rooms = old["rooms"].as_array().unwrap();
        let told: Vec<&Value> = rooms.iter().filter(|room| room["room_id"] == *look.room.id).collect();
        let membership = look.room.member(look.user);
        let is_in = membership == "join";
        assert!(told.len() == 1 || (!is_in && told.is_empty()), "{}: {old}", look.name());
        for room in told {
            assert_eq!(room["membership"], *membership, "{}: {room}", look.name());
            let is_left = matches!(membership, "leave" | "ban");
            look.check_whole((&room["messages"]["chunk"], &room["state"]), is_left);
        }
        let slid = &slid["rooms"][&look.room.id];
        look.check_whole((&slid["timeline"], &slid["required_state"]), false);
        look.check_stripped(membership, &slid["stripped_state"]);
    }
}
