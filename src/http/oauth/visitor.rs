//! The browser in front of a page: its cookie, who is signed in, and the token that its forms carry.

use axum::response::{IntoResponse, Response};
use cookie::{Cookie, SameSite, time};
use http::{HeaderValue, header};
use maud::Markup;
use subtle::ConstantTimeEq;

use super::page::{Page, go_to, hidden};
use crate::{
    account::token_hash,
    http::{App, Call, Failure},
    limits::BROWSER_SESSION_MS,
    oauth::{Browser, PAGES, Site},
    types::random_string,
};

/// Characters of the cookie of a browser that is not signed in.
const COOKIE_CHARS: usize = 40;
/// Pages that a browser may be sent on to.
const ONWARDS: [&str; 5] = ["authorize", "link", "account", "sso", "prove"];

/// A browser.
pub(super) struct Visitor {
    /// Where the pages are.
    pub(super) site: Site,
    /// Who is signed in.
    pub(super) browser: Option<Browser>,
    cookie: String,
    is_new: bool,
}

impl Visitor {
    /// The browser that makes a request.
    pub(super) async fn of(app: &App, call: &Call) -> Result<Self, Failure> {
        let site = app.oauth.site().cloned().ok_or_else(Failure::unrecognized)?;
        let Some(cookie) = cookie_of(call, cookie_name(&site)) else {
            let cookie = random_string(&*app.ports.rng, COOKIE_CHARS);
            return Ok(Self { site, browser: None, cookie, is_new: true });
        };
        let browser = app.oauth.browser(&cookie).await?;
        Ok(Self { site, browser, cookie, is_new: false })
    }

    /// The hidden field that a form must have.
    pub(super) fn csrf(&self) -> Markup {
        hidden("csrf", &self.csrf_token())
    }

    fn csrf_token(&self) -> String {
        token_hash(&format!("csrf {}", self.cookie))
    }

    /// Whether a form was made for this browser, and not put under it by a page of somebody else.
    pub(super) fn check(&self, csrf: &str) -> Result<(), Failure> {
        match !self.is_new && bool::from(self.csrf_token().as_bytes().ct_eq(csrf.as_bytes())) {
            true => Ok(()),
            false => Err(Failure::forbidden(
                "This form is out of date. Please go back, reload the page and try again.",
            )),
        }
    }

    /// Shows a page.
    pub(super) fn show(&self, page: Page) -> Response {
        self.keep_cookie(page.into_response())
    }

    /// Sends the browser on, signed in with another cookie than before, so that nobody knows it who gave it that one.
    pub(super) fn sign_in(&self, cookie: &str, url: &str) -> Result<Response, Failure> {
        let mut response = go_to(url)?;
        self.set_cookie(&mut response, cookie);
        Ok(response)
    }

    /// What tells this browser from others.
    pub(super) fn cookie(&self) -> &str {
        &self.cookie
    }

    /// The same answer, with the cookie for a browser that has none yet.
    pub(super) fn keep_cookie(&self, mut response: Response) -> Response {
        if self.is_new {
            self.set_cookie(&mut response, &self.cookie);
        }
        response
    }

    /// Signs the browser out.
    pub(super) async fn sign_out(&self, app: &App) -> Result<(), Failure> {
        Ok(app.oauth.sign_out(&self.cookie).await?)
    }

    /// Where somebody signs in who then goes on to `next`, a path of these pages with its query.
    pub(super) fn login_url(&self, next: &str) -> String {
        let query = serde_html_form::to_string([("next", next)]).unwrap_or_default();
        format!("{}?{query}", self.site.url("login"))
    }

    /// Where somebody signs in with a provider who then goes on to `next`.
    pub(super) fn upstream_url(&self, provider: &str, next: &str) -> String {
        let query = serde_html_form::to_string([("next", next)]).unwrap_or_default();
        format!("{}?{query}", self.site.url(&format!("upstream/{provider}")))
    }

    /// Where somebody makes an account who then goes on to `next`.
    pub(super) fn register_url(&self, next: &str) -> String {
        let query = serde_html_form::to_string([("next", next)]).unwrap_or_default();
        format!("{}?{query}", self.site.url("register"))
    }

    /// Where somebody goes who has forgotten the password and then wants to go on to `next`.
    pub(super) fn forgot_url(&self, next: &str) -> String {
        let query = serde_html_form::to_string([("next", next)]).unwrap_or_default();
        format!("{}?{query}", self.site.url("forgot"))
    }

    /// The URL of `next` if it is one of the pages to which a browser may be sent on; else that of the account page.
    pub(super) fn onwards(&self, next: &str) -> String {
        let page = next.strip_prefix(PAGES).and_then(|rest| rest.strip_prefix('/'));
        let known = page.is_some_and(|page| {
            let path = page.split_once('?').map_or(page, |(path, _)| path);
            ONWARDS.contains(&path) && page.bytes().all(|byte| byte.is_ascii_graphic())
        });
        if known { self.site.at(next) } else { self.site.url("account") }
    }

    /// Out of reach of scripts and of other sites; over `https` the prefix keeps other hosts of the domain from
    /// setting it.
    fn set_cookie(&self, response: &mut Response, value: &str) {
        let lifetime = i64::try_from(BROWSER_SESSION_MS / 1_000).unwrap_or(i64::MAX);
        let cookie = Cookie::build((cookie_name(&self.site), value.to_owned()))
            .path("/")
            .http_only(true)
            .same_site(SameSite::Lax)
            .secure(self.site.is_https())
            .max_age(time::Duration::seconds(lifetime));
        if let Ok(value) = HeaderValue::from_str(&cookie.build().to_string()) {
            response.headers_mut().insert(header::SET_COOKIE, value);
        }
    }
}

/// The value of a cookie.
fn cookie_of(call: &Call, name: &str) -> Option<String> {
    let headers = call.parts.headers.get_all(header::COOKIE).iter();
    let given = headers.filter_map(|value| value.to_str().ok()).flat_map(Cookie::split_parse);
    let mut given = given.flatten().filter(|cookie| cookie.name() == name);
    given.next().map(|cookie| cookie.value().to_owned())
}

fn cookie_name(site: &Site) -> &'static str {
    if site.is_https() { "__Host-lockstep" } else { "lockstep" }
}

/// The path of a request with its query, as `next` has it.
pub(super) fn here(call: &Call) -> String {
    let uri = &call.parts.uri;
    let query = uri.query().map(|query| format!("?{query}")).unwrap_or_default();
    format!("{}{query}", uri.path())
}
