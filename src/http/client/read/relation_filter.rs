//! Which events of a page are wanted for how they relate to others.
//!
//! <https://github.com/matrix-org/matrix-spec-proposals/pull/3874>

use http::Uri;
use serde::Deserialize;

use crate::dag::{Pdu, relates};

/// The part of a filter that ruma's type leaves out.
#[derive(Debug, Default, Deserialize)]
pub(super) struct RelationFilter {
    #[serde(rename = "org.matrix.msc3874.rel_types")]
    wanted: Option<Vec<String>>,
    #[serde(rename = "org.matrix.msc3874.not_rel_types", default)]
    unwanted: Vec<String>,
}

impl RelationFilter {
    /// The one of the parameter `filter`, which has been read as a filter already; what makes no sense counts as absent.
    pub(super) fn of(uri: &Uri) -> Self {
        let mut pairs = url::form_urlencoded::parse(uri.query().unwrap_or_default().as_bytes());
        let filter = pairs.find(|(name, _)| name == "filter");
        filter.and_then(|(_, text)| serde_json::from_str(&text).ok()).unwrap_or_default()
    }

    /// Whether an event passes.
    pub(super) fn passes(&self, pdu: &Pdu) -> bool {
        if self.wanted.is_none() && self.unwanted.is_empty() {
            return true;
        }
        let relation = relates::of(pdu).and_then(|relation| relation.parent);
        let kind = relation.map(|(kind, _)| kind);
        let is_in = |kinds: &[String]| kind.as_ref().is_some_and(|kind| kinds.contains(kind));
        self.wanted.as_deref().is_none_or(is_in) && !is_in(&self.unwanted)
    }
}
