//! Binds ruma's request types to handlers.
//!
//! One concrete type, [`Endpoint`], goes into axum's router for all of them, so that axum's generic
//! machinery is compiled once and not once for each of a few hundred endpoints.

use std::{collections::BTreeSet, pin::Pin, sync::Arc};

use axum::{
    RequestPartsExt, Router,
    body::Body,
    extract::{RawPathParams, Request},
    handler::Handler,
    response::{IntoResponse, Response},
    routing::{MethodFilter, on},
};
use bytes::{Bytes, BytesMut};
use http::{Method, header};
use hyper::body::Body as _;
use ruma::api::{IncomingRequest, OutgoingResponseExt, path_builder::PathBuilder};

use super::{
    Access, App, Call, Failure, Handle, Peer,
    auth::{appservice_of, identify},
    bodies::{Sender, open_bytes_max, user_bytes_max},
    budget::{Load, Share},
    call::{Given, read_body},
    client::server::versions,
    federation::prove,
    oauth, standing,
    throttle::Class,
};
use crate::{
    account::Caller,
    appservice::Appservice,
    limits::{
        BODY_REJUDGED_AFTER, BUSY_RETRY_AFTER, FEDERATION_BODY_BYTES_MAX, FEDERATION_SECONDS_MAX,
        FEDERATION_WAIT_MAX, MEDIA_UPLOAD_SECONDS_MAX,
    },
};

/// An answer to come.
type Pending = Pin<Box<dyn Future<Output = Result<Response, Failure>> + Send>>;
/// A handler whose types are forgotten.
type Run = Arc<dyn Fn(App, Call) -> Pending + Send + Sync>;
/// A handler that reads the body itself.
type RunStreamed = Arc<dyn Fn(App, Call, Body) -> Pending + Send + Sync>;

/// What answers.
#[derive(Clone)]
enum Answering {
    /// It is given the whole body.
    Whole(Run),
    /// It reads the body as it comes.
    Streamed(RunStreamed),
}

/// The template of the path that answered: an extension of each response, for metrics.
#[derive(Clone, Copy, Debug)]
pub(super) struct RouteLabel(pub(super) &'static str);

/// Collects the endpoints of the server.
#[derive(Default)]
pub struct Routes {
    router: Router<App>,
    listed: Vec<(Method, &'static str)>,
    features: BTreeSet<&'static str>,
    /// What is made of each of those listed.
    judged: Vec<(Access, Class)>,
}

impl Routes {
    /// Binds `handler` to every path of `R`: deprecated, unstable and current ones.
    ///
    /// # Panics
    /// When the same method and path was added before.
    pub fn add<R, Shape>(&mut self, handler: impl Handle<R, Shape>)
    where
        R: IncomingRequest + Send + 'static,
    {
        let paths: Vec<&'static str> = R::PATH_BUILDER.all_paths().collect();
        self.add_at(&paths, handler);
    }

    /// Binds `handler` to `paths` instead of those that ruma knows. Their variables must be those of
    /// `R`, in the same order.
    ///
    /// # Panics
    /// When the same method and path was added before.
    pub fn add_at<R, Shape>(&mut self, paths: &[&'static str], handler: impl Handle<R, Shape>)
    where
        R: IncomingRequest + Send + 'static,
    {
        let access = access_of(&handler);
        let run = erase(handler);
        for path in paths {
            let class = match access {
                Access::Signed => Class::Free,
                _ => Class::of(&R::METHOD, path, R::RATE_LIMITED),
            };
            let run = Answering::Whole(run.clone());
            self.insert(R::METHOD, Definition::new(path, (access, class), run));
        }
    }

    /// Binds a hand-written endpoint, for what ruma's types cannot express. The body is read whole
    /// and may be anything.
    ///
    /// # Panics
    /// When the same method and path was added before, or the method is not an ordinary one.
    pub fn raw<F, Answer>(&mut self, method: Method, path: &'static str, access: Access, handler: F)
    where
        F: Fn(App, Call) -> Answer + Send + Sync + 'static,
        Answer: Future<Output = Result<Response, Failure>> + Send + 'static,
    {
        let class = Class::of(&method, path, access != Access::Open);
        let run = Answering::Whole(Arc::new(move |app, call| Box::pin(handler(app, call))));
        self.insert(method, Definition::new(path, (access, class), run));
    }

    /// As [`Self::raw`], for a page that people look at: what goes wrong is told by a page too.
    ///
    /// # Panics
    /// When the same method and path was added before, or the method is not an ordinary one.
    pub fn page<F, Answer>(&mut self, method: Method, path: &'static str, handler: F)
    where
        F: Fn(App, Call) -> Answer + Send + Sync + 'static,
        Answer: Future<Output = Result<Response, Failure>> + Send + 'static,
    {
        let class = Class::of(&method, path, true);
        let run = Answering::Whole(Arc::new(move |app, call| Box::pin(handler(app, call))));
        let page = Definition::new(path, (Access::Open, class), run);
        self.insert(method, Definition { is_page: true, ..page });
    }

    /// As [`Self::raw`], for an endpoint that takes a file: its handler is given a call without a body, and the body
    /// beside it, unread.
    ///
    /// # Panics
    /// When the same method and path was added before, or the method is not an ordinary one.
    pub fn streamed<F, Answer>(&mut self, method: Method, path: &'static str, handler: F)
    where
        F: Fn(App, Call, Body) -> Answer + Send + Sync + 'static,
        Answer: Future<Output = Result<Response, Failure>> + Send + 'static,
    {
        let class = Class::of(&method, path, true);
        let run = Answering::Streamed(Arc::new(move |app, call, body| Box::pin(handler(app, call, body))));
        self.insert(method, Definition::new(path, (Access::Required, class), run));
    }

    /// Says that an unstable feature works, in `unstable_features` of `/_matrix/client/versions`.
    pub fn feature(&mut self, name: &'static str) {
        self.features.insert(name);
    }

    /// The unstable features that work.
    #[must_use]
    pub fn features(&self) -> &BTreeSet<&'static str> {
        &self.features
    }

    /// Every method and path template, in the order of registration.
    #[must_use]
    pub fn listed(&self) -> &[(Method, &'static str)] {
        &self.listed
    }

    /// What each of those listed asks of the caller's token, and in which class its requests are without one.
    #[must_use]
    pub fn judged(&self) -> &[(Access, Class)] {
        &self.judged
    }

    /// The router of everything that was added.
    pub fn into_router(mut self, app: App) -> Router {
        versions::route(&mut self);
        self.router
            .fallback(|request: Request| async move { nothing(&request, Failure::unrecognized()) })
            .method_not_allowed_fallback(|request: Request| async move {
                nothing(&request, Failure::method_not_allowed())
            })
            .with_state(app)
    }

    fn insert(&mut self, method: Method, mut definition: Definition) {
        let filter = MethodFilter::try_from(method.clone()).expect("endpoints have ordinary methods");
        let path = definition.path;
        definition.load = match definition.run {
            Answering::Streamed(_) => Load::Upload,
            Answering::Whole(_) => Load::of(&method, path, (definition.access, definition.class)),
        };
        self.judged.push((definition.access, definition.class_of(None)));
        let endpoint = on(filter, Endpoint(Arc::new(definition)));
        self.router = std::mem::take(&mut self.router).route(path, endpoint);
        self.listed.push((method, path));
    }
}

/// Where there is no endpoint. Those who look at the pages of the server with a browser get a page.
fn nothing(request: &Request, failure: Failure) -> Response {
    let accepts = request.headers().get(header::ACCEPT).and_then(|value| value.to_str().ok());
    let is_browser = accepts.is_some_and(|accepts| accepts.contains("text/html"));
    match is_browser && request.uri().path().starts_with(oauth::PAGES) {
        true => oauth::failure_page(&Failure::not_found("There is no such page")),
        false => failure.into_response(),
    }
}

fn access_of<R: IncomingRequest, Shape, H: Handle<R, Shape>>(_: &H) -> Access {
    H::ACCESS
}

/// Forgets the types of a handler: decode, handle, encode.
fn erase<R, Shape, H>(handler: H) -> Run
where
    R: IncomingRequest + Send + 'static,
    H: Handle<R, Shape>,
{
    Arc::new(move |app, call| {
        let handler = handler.clone();
        Box::pin(async move {
            let given: Given<R> = call.decode()?;
            let response = handler.handle(app, given).await?;
            let response = response.try_into_http_response::<BytesMut>().map_err(Failure::internal)?;
            Ok(response.map(|body| Body::from(body.freeze())))
        })
    })
}

struct Definition {
    path: &'static str,
    access: Access,
    class: Class,
    load: Load,
    run: Answering,
    /// People look at it, so that failures are pages.
    is_page: bool,
}

impl Definition {
    fn new(path: &'static str, (access, class): (Access, Class), run: Answering) -> Self {
        Self { path, access, class, load: Load::Work, run, is_page: false }
    }

    async fn answer(&self, app: App, request: Request) -> Result<Response, Failure> {
        let mut peer = request.extensions().get::<Peer>().cloned().unwrap_or_default();
        let (mut parts, body) = request.into_parts();
        let path = path_variables(&mut parts).await?;
        let services = app.clone();
        let share = services.budget.take(self.load)?;
        peer.appservice = appservice_of(&app.appservices, self.access, &parts);
        let caller = self.caller(&app, (&parts, &path), peer.appservice.as_deref()).await?;
        let mut call = Call { parts, path, caller, origin: None, peer, body: Bytes::new() };
        app.throttle.admit(self.class_of(call.caller.as_ref()), call.caller.as_ref(), &call.peer)?;
        let share = self.hold(&services, share, &call)?;
        match &self.run {
            Answering::Whole(run) if self.access == Access::Signed => {
                // In a box: what it needs would be set aside for clients too, also while they poll.
                Box::pin(self.answer_server(app, body, (run, call), share)).await
            }
            // A body means nothing there.
            Answering::Whole(run) if matches!(call.parts.method, Method::GET | Method::HEAD) => {
                run(app, call).await
            }
            Answering::Whole(run) if body.is_end_stream() => run(app, call).await,
            Answering::Whole(run) => {
                // Who sends slowly, or not at all, keeps nobody from being served.
                drop(share);
                let began = services.ports.clock.monotonic();
                call.body = Box::pin(self.read(&services, body, &call)).await?;
                let _share = self.hold(&services, services.budget.take(self.load)?, &call)?;
                if services.ports.clock.monotonic().saturating_sub(began) > BODY_REJUDGED_AFTER {
                    let appservice = call.peer.appservice.clone();
                    let again = self.caller(&services, (&call.parts, &call.path), appservice.as_deref());
                    call.caller = Box::pin(again).await?;
                }
                run(app, call).await
            }
            Answering::Streamed(run) => {
                let sender = call.caller.as_ref().map(|caller| Sender::User(caller.user_id.clone()));
                let _room = services.bodies.uploads.enter(sender, 0)?;
                let answering = tokio::time::timeout(MEDIA_UPLOAD_SECONDS_MAX, run(app, call, body));
                Box::pin(answering).await.map_err(|_| Failure::not_json("The body took too long"))?
            }
        }
    }

    /// Who calls, if they may.
    async fn caller(
        &self,
        app: &App,
        (parts, path): (&http::request::Parts, &[String]),
        appservice: Option<&Appservice>,
    ) -> Result<Option<Caller>, Failure> {
        if self.load == Load::Ask && self.access == Access::Open {
            // Nobody need say who they are. Whoever does is not one of all the others.
            let known = identify(app, Access::Optional, (parts, appservice)).await;
            return Ok(known.unwrap_or_default().map(|(caller, _)| caller));
        }
        match identify(app, self.access, (parts, appservice)).await? {
            Some((caller, standing)) => {
                standing::judge(standing, &parts.method, (self.path, path))?;
                Ok(Some(caller))
            }
            None => Ok(None),
        }
    }

    /// What kind of request it is. Whoever has not said who they are has others asked only so often.
    fn class_of(&self, caller: Option<&Caller>) -> Class {
        match (self.load, self.class) {
            (Load::Ask, Class::Free) if caller.is_none() => Class::General,
            (_, class) => class,
        }
    }

    /// The request's share of what the server does at the same time, counted for whoever makes it.
    fn hold<'a>(&self, app: &'a App, share: Share<'a>, call: &Call) -> Result<Share<'a>, Failure> {
        let appservice = call.peer.appservice.as_ref();
        let share = match self.load {
            // Counted by those who have them: the uploads of a user, the requests of a server.
            Load::Upload | Load::Server => return Ok(share),
            Load::Ask if call.caller.is_none() && appservice.is_none() => app.budget.stranger()?,
            Load::Ask | Load::Vouch | Load::Work | Load::Wait => share,
        };
        let user = call.caller.as_ref().map(|caller| &caller.user_id);
        let holder = appservice.map(|appservice| &appservice.sender).or(user);
        let holder = holder.cloned().map(Sender::User).or_else(|| Sender::at(call.peer.ip));
        share.held_by(holder, appservice.is_some())
    }

    /// Reads the body of a client's request. Those who have not said who they are send little.
    async fn read(&self, app: &App, body: Body, call: &Call) -> Result<Bytes, Failure> {
        let appservice = call.peer.appservice.as_ref().map(|appservice| appservice.sender.clone());
        let user = call.caller.as_ref().map(|caller| caller.user_id.clone()).or(appservice);
        let (pool, sender, limit) = match user {
            Some(user) => (&app.bodies.users, Some(Sender::User(user)), user_bytes_max(self.path)),
            None => (&app.bodies.open, Sender::at(call.peer.ip), open_bytes_max(self.path)),
        };
        let mut room = pool.enter(sender, expected(&body, limit))?;
        read_body(body, limit, (&call.parts.headers, &mut room)).await
    }

    /// Answers another server: who it is must be proved, and it does not get more than its share.
    async fn answer_server(
        &self,
        app: App,
        body: Body,
        (run, mut call): (&Run, Call),
        share: Share<'_>,
    ) -> Result<Response, Failure> {
        let services = app.clone();
        let (_share, origin) = match body.is_end_stream() {
            true => (share, prove(&app, self.path, (&call.parts, &call.body)).await?),
            false => {
                // Until somebody has proved who they are, they fill little of our memory and hold nothing else.
                drop(share);
                let bytes = expected(&body, FEDERATION_BODY_BYTES_MAX);
                let room = services.bodies.servers.wait(Sender::at(call.peer.ip), bytes);
                let room = tokio::time::timeout(FEDERATION_WAIT_MAX, room).await;
                let mut room = room.map_err(|_| Failure::busy(BUSY_RETRY_AFTER))?;
                let reading = read_body(body, FEDERATION_BODY_BYTES_MAX, (&call.parts.headers, &mut room));
                call.body = reading.await?;
                let share = services.budget.take(self.load)?;
                (share, prove(&app, self.path, (&call.parts, &call.body)).await?)
            }
        };
        let entering = tokio::time::timeout(FEDERATION_WAIT_MAX, services.slots.enter(&*origin)).await;
        let _slot = entering.map_err(|_| Failure::limit_exceeded(BUSY_RETRY_AFTER))?;
        call.origin = Some(origin);
        let answer = tokio::time::timeout(FEDERATION_SECONDS_MAX, run(app, call)).await;
        answer.map_err(|_| Failure::busy(BUSY_RETRY_AFTER))?
    }
}

/// How much memory a body may need, in bytes: as much as it says, or else as much as it may have.
fn expected(body: &Body, limit: usize) -> usize {
    let said = body.size_hint().upper().and_then(|bytes| usize::try_from(bytes).ok());
    said.unwrap_or(limit).min(limit)
}

async fn path_variables(parts: &mut http::request::Parts) -> Result<Vec<String>, Failure> {
    let found = parts.extract::<RawPathParams>().await;
    let found = found.map_err(|_| Failure::invalid_param("The path is not UTF-8"))?;
    Ok(found.iter().map(|(_, value)| String::from(value)).collect())
}

/// What axum is given for every endpoint.
#[derive(Clone)]
struct Endpoint(Arc<Definition>);

impl Handler<(), App> for Endpoint {
    type Future = Pin<Box<dyn Future<Output = Response> + Send>>;

    fn call(self, request: Request, app: App) -> Self::Future {
        Box::pin(async move {
            let answer = self.0.answer(app, request).await;
            let mut response = answer.unwrap_or_else(|failure| match self.0.is_page {
                true => oauth::failure_page(&failure),
                false => failure.into_response(),
            });
            response.extensions_mut().insert(RouteLabel(self.0.path));
            response
        })
    }
}
