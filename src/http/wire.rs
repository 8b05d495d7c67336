//! A network within one process: it carries requests to the routers of servers by their names, for
//! tests of several servers together.

use std::{collections::HashMap, sync::Arc};

use axum::{Router, body::Body};
use bytes::Bytes;
use http_body_util::{BodyExt, Limited};
use parking_lot::RwLock;
use ruma::{OwnedServerName, ServerName};
use tower::ServiceExt;

use crate::{
    peer::{Bounds, Net, NetError},
    store::BoxFuture,
};

/// The wire between servers. Cheap to clone: clones are the same wire.
#[derive(Clone, Default)]
pub(crate) struct Wire(Arc<RwLock<HashMap<OwnedServerName, Router>>>);

impl Wire {
    /// Has `router` answer for `server`.
    pub(crate) fn connect(&self, server: OwnedServerName, router: Router) {
        self.0.write().insert(server, router);
    }

    /// Nobody reaches `server` any more.
    pub(crate) fn cut(&self, server: &ServerName) {
        self.0.write().remove(server);
    }
}

impl Net for Wire {
    fn exchange<'a>(
        &'a self,
        server: &'a ServerName,
        request: http::Request<Bytes>,
        bounds: Bounds,
    ) -> BoxFuture<'a, Result<http::Response<Bytes>, NetError>> {
        Box::pin(async move {
            let unreachable = || NetError::Unreachable(format!("{server} is not connected"));
            let router = self.0.read().get(server).cloned().ok_or_else(unreachable)?;
            let Ok(answer) = router.oneshot(request.map(Body::from)).await;
            let (parts, body) = answer.into_parts();
            let body =
                Limited::new(body, bounds.bytes_max).collect().await.map_err(|_| NetError::TooLarge)?;
            Ok(http::Response::from_parts(parts, body.to_bytes()))
        })
    }
}
