//! How many are in a room, and by whom it is called if it has no name.

use ruma::OwnedUserId;

use super::{
    Sync, SyncError,
    response::Summary,
    room::{Place, Scene},
    timeline::Span,
};
use crate::{limits::SYNC_HEROES_MAX, types::Membership};

impl Sync {
    /// The summary of a room, if it may have changed.
    pub(super) async fn summary(
        &self,
        scene: &Scene<'_>,
        place: &Place<'_>,
        span: &Span,
    ) -> Result<Option<Summary>, SyncError> {
        if !place.is_new && !Self::moves_members(span) {
            return Ok(None);
        }
        let members = self.history.current_members(place.room).await?;
        Ok(Some(Summary {
            heroes: Some(self.heroes(scene, place).await?),
            joined: members.joined_count(),
            invited: members.invited_count(),
        }))
    }

    /// The first few others who are joined or invited; without any, those who have left.
    pub(super) async fn heroes(
        &self,
        scene: &Scene<'_>,
        place: &Place<'_>,
    ) -> Result<Vec<OwnedUserId>, SyncError> {
        let members = self.history.current_members(place.room).await?;
        let me = &scene.caller.user_id;
        let among = |wanted: &[Membership]| -> Vec<OwnedUserId> {
            members
                .iter()
                .filter(|(user, member)| *user != me && wanted.contains(&member.membership))
                .map(|(user, _)| user.clone())
                .take(SYNC_HEROES_MAX)
                .collect()
        };
        let present = among(&[Membership::Join, Membership::Invite]);
        Ok(match present.is_empty() {
            true => among(&[Membership::Leave, Membership::Ban]),
            false => present,
        })
    }
}
