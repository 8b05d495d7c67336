//! The shapes of function that can answer a request.

use http::Uri;
use ruma::api::{
    IncomingRequest,
    auth_scheme::{AccessTokenOptional, AppserviceTokenOptional, NoAccessToken, NoAuthentication},
    federation::authentication::ServerSignatures,
};

use super::{
    App, Failure,
    call::{Body, Given, Peer},
    federation::Origin,
};
use crate::account::Caller;

/// What an endpoint asks of the caller's access token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// No token is looked at.
    Open,
    /// A token that is there must be valid.
    Optional,
    /// A valid token must be there.
    Required,
    /// Another server must have signed the request.
    Signed,
}

/// Marks the authentication schemes under which a request may come without a token, so that a handler
/// without a [`Caller`] cannot be registered for an endpoint that the specification protects.
pub trait Anonymous {}

impl Anonymous for NoAuthentication {}
impl Anonymous for NoAccessToken {}
impl Anonymous for AccessTokenOptional {}
impl Anonymous for AppserviceTokenOptional {}

/// A function that answers requests of type `R`. `Shape` tells the compiler which kind it is.
pub trait Handle<R: IncomingRequest, Shape>: Clone + Send + Sync + 'static {
    /// What it asks of the access token.
    const ACCESS: Access;

    /// Answers one request.
    fn handle(
        self,
        app: App,
        given: Given<R>,
    ) -> impl Future<Output = Result<R::OutgoingResponse, Failure>> + Send;
}

impl<R, F, Answer> Handle<R, fn(App, R)> for F
where
    R: IncomingRequest + Send + 'static,
    R::Authentication: Anonymous,
    F: Fn(App, R) -> Answer + Clone + Send + Sync + 'static,
    Answer: Future<Output = Result<R::OutgoingResponse, Failure>> + Send,
{
    const ACCESS: Access = Access::Open;

    async fn handle(self, app: App, given: Given<R>) -> Result<R::OutgoingResponse, Failure> {
        self(app, given.request).await
    }
}

impl<R, F, Answer> Handle<R, fn(App, Peer, R)> for F
where
    R: IncomingRequest + Send + 'static,
    R::Authentication: Anonymous,
    F: Fn(App, Peer, R) -> Answer + Clone + Send + Sync + 'static,
    Answer: Future<Output = Result<R::OutgoingResponse, Failure>> + Send,
{
    const ACCESS: Access = Access::Open;

    async fn handle(self, app: App, given: Given<R>) -> Result<R::OutgoingResponse, Failure> {
        self(app, given.peer, given.request).await
    }
}

impl<R, F, Answer> Handle<R, fn(App, Option<Caller>, R)> for F
where
    R: IncomingRequest + Send + 'static,
    R::Authentication: Anonymous,
    F: Fn(App, Option<Caller>, R) -> Answer + Clone + Send + Sync + 'static,
    Answer: Future<Output = Result<R::OutgoingResponse, Failure>> + Send,
{
    const ACCESS: Access = Access::Optional;

    async fn handle(self, app: App, given: Given<R>) -> Result<R::OutgoingResponse, Failure> {
        self(app, given.caller, given.request).await
    }
}

impl<R, F, Answer> Handle<R, fn(App, Option<Caller>, Peer, R)> for F
where
    R: IncomingRequest + Send + 'static,
    R::Authentication: Anonymous,
    F: Fn(App, Option<Caller>, Peer, R) -> Answer + Clone + Send + Sync + 'static,
    Answer: Future<Output = Result<R::OutgoingResponse, Failure>> + Send,
{
    const ACCESS: Access = Access::Optional;

    async fn handle(self, app: App, given: Given<R>) -> Result<R::OutgoingResponse, Failure> {
        self(app, given.caller, given.peer, given.request).await
    }
}

impl<R, F, Answer> Handle<R, fn(App, Caller, R)> for F
where
    R: IncomingRequest + Send + 'static,
    F: Fn(App, Caller, R) -> Answer + Clone + Send + Sync + 'static,
    Answer: Future<Output = Result<R::OutgoingResponse, Failure>> + Send,
{
    const ACCESS: Access = Access::Required;

    async fn handle(self, app: App, given: Given<R>) -> Result<R::OutgoingResponse, Failure> {
        let caller = given.caller.ok_or_else(Failure::missing_token)?;
        self(app, caller, given.request).await
    }
}

impl<R, F, Answer> Handle<R, fn(App, Caller, Peer, R)> for F
where
    R: IncomingRequest + Send + 'static,
    F: Fn(App, Caller, Peer, R) -> Answer + Clone + Send + Sync + 'static,
    Answer: Future<Output = Result<R::OutgoingResponse, Failure>> + Send,
{
    const ACCESS: Access = Access::Required;

    async fn handle(self, app: App, given: Given<R>) -> Result<R::OutgoingResponse, Failure> {
        let caller = given.caller.ok_or_else(Failure::missing_token)?;
        self(app, caller, given.peer, given.request).await
    }
}

impl<R, F, Answer> Handle<R, fn(App, Caller, Body, R)> for F
where
    R: IncomingRequest + Send + 'static,
    F: Fn(App, Caller, Body, R) -> Answer + Clone + Send + Sync + 'static,
    Answer: Future<Output = Result<R::OutgoingResponse, Failure>> + Send,
{
    const ACCESS: Access = Access::Required;

    async fn handle(self, app: App, given: Given<R>) -> Result<R::OutgoingResponse, Failure> {
        let caller = given.caller.ok_or_else(Failure::missing_token)?;
        self(app, caller, given.body, given.request).await
    }
}

impl<R, F, Answer> Handle<R, fn(App, Caller, Uri, R)> for F
where
    R: IncomingRequest + Send + 'static,
    F: Fn(App, Caller, Uri, R) -> Answer + Clone + Send + Sync + 'static,
    Answer: Future<Output = Result<R::OutgoingResponse, Failure>> + Send,
{
    const ACCESS: Access = Access::Required;

    async fn handle(self, app: App, given: Given<R>) -> Result<R::OutgoingResponse, Failure> {
        let caller = given.caller.ok_or_else(Failure::missing_token)?;
        self(app, caller, given.uri, given.request).await
    }
}

impl<R, F, Answer> Handle<R, fn(App, Origin, R)> for F
where
    R: IncomingRequest<Authentication = ServerSignatures> + Send + 'static,
    F: Fn(App, Origin, R) -> Answer + Clone + Send + Sync + 'static,
    Answer: Future<Output = Result<R::OutgoingResponse, Failure>> + Send,
{
    const ACCESS: Access = Access::Signed;

    async fn handle(self, app: App, given: Given<R>) -> Result<R::OutgoingResponse, Failure> {
        let origin = given.origin.ok_or_else(Failure::missing_token)?;
        self(app, origin, given.request).await
    }
}
