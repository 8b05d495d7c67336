//! `GET /_matrix/client/v3/login/sso/redirect` and the page that a browser passes on its way back: the older way to
//! sign in by browser, which ends with a login token
//!
//! <https://spec.matrix.org/v1.19/client-server-api/#client-login-via-sso>

use axum::response::Response;
use http::{Method, StatusCode};
use maud::html;
use serde::Deserialize;
use url::Url;

use super::{
    Visitor,
    authorize::{form_target, somebody_else},
    page::{Page, go_to, sorry},
    reply::{page_form, query},
    visitor::here,
};
use crate::http::{App, Call, Failure, Routes};

const PATH: &str = "/_matrix/oauth2/sso";
const REDIRECTS: [&str; 4] = [
    "/_matrix/client/r0/login/sso/redirect",
    "/_matrix/client/v3/login/sso/redirect",
    "/_matrix/client/v3/login/sso/redirect/{provider}",
    "/_matrix/client/unstable/org.matrix.msc2858/login/sso/redirect/{provider}",
];
/// Schemes of addresses that a browser would open here, instead of going somewhere else.
const LOCAL_SCHEMES: [&str; 7] = ["javascript", "data", "file", "about", "blob", "view-source", "vbscript"];

#[derive(Deserialize)]
struct Wanted {
    #[serde(default, rename = "redirectUrl")]
    redirect_url: String,
    #[serde(default)]
    action: String,
}

#[derive(Deserialize)]
struct Form {
    csrf: String,
}

/// Adds the pages.
pub(super) fn routes(routes: &mut Routes) {
    for path in REDIRECTS {
        routes.page(Method::GET, path, begin);
    }
    routes.page(Method::GET, PATH, ask);
    routes.page(Method::POST, PATH, go);
}

/// Where a client sends the browser.
async fn begin(app: App, call: Call) -> Result<Response, Failure> {
    let visitor = Visitor::of(&app, &call).await?;
    let wanted: Wanted = query(&call)?;
    if client(&wanted).is_none() {
        return Ok(visitor.show(wrong()));
    }
    let next =
        serde_html_form::to_string([("redirectUrl", &wanted.redirect_url)]).map_err(Failure::internal)?;
    let next = format!("{PATH}?{next}");
    let url = match (call.path.first(), wanted.action.as_str()) {
        (Some(provider), _) if app.oauth.providers().any(|(id, _)| id == provider) => {
            let next = serde_html_form::to_string([("next", &next)]).map_err(Failure::internal)?;
            visitor.site.url(&format!("upstream/{provider}?{next}"))
        }
        (Some(_), _) => {
            let page = sorry(
                "No such provider",
                "The application asks for a way to sign in that is not there.",
                StatusCode::NOT_FOUND,
            );
            return Ok(visitor.show(page));
        }
        (None, "register") => visitor.register_url(&next),
        (None, _) if visitor.browser.is_some() => visitor.site.at(&next),
        (None, _) => visitor.login_url(&next),
    };
    Ok(visitor.keep_cookie(go_to(&url)?))
}

/// Asks before the client gets a login token, unless the operator trusts it.
async fn ask(app: App, call: Call) -> Result<Response, Failure> {
    let visitor = Visitor::of(&app, &call).await?;
    let wanted: Wanted = query(&call)?;
    let Some(client) = client(&wanted) else { return Ok(visitor.show(wrong())) };
    let Some(browser) = visitor.browser.as_ref() else { return go_to(&visitor.login_url(&here(&call))) };
    if is_trusted(&app, &client) {
        return back(&app, &visitor, client).await;
    }
    let shown =
        client.host_str().map_or_else(|| format!("the application {}", client.scheme()), str::to_owned);
    let body = html! {
        p { strong { (shown) } " wants to use your account " strong { (browser.user_id) } "." }
        p.soft {
            "It will be able to read and write everything there, as you can: allow it only if you have just opened it "
            "and trust it."
        }
        form method="post" action=(visitor.site.at(&here(&call))) {
            (visitor.csrf())
            button type="submit" { "Continue" }
        }
        (somebody_else(&visitor, &browser.user_id, &here(&call)))
    };
    let leads_to = form_target(&wanted.redirect_url);
    Ok(visitor.show(Page { leads_to, ..Page::new(format!("Sign in to {shown}?"), body) }))
}

async fn go(app: App, call: Call) -> Result<Response, Failure> {
    let visitor = Visitor::of(&app, &call).await?;
    let Form { csrf } = page_form(&call)?;
    visitor.check(&csrf)?;
    let wanted: Wanted = query(&call)?;
    match client(&wanted) {
        Some(client) => back(&app, &visitor, client).await,
        None => Ok(visitor.show(wrong())),
    }
}

/// Back to the client, with a login token.
async fn back(app: &App, visitor: &Visitor, mut client: Url) -> Result<Response, Failure> {
    let Some(browser) = &visitor.browser else { return Err(Failure::forbidden("Please sign in first.")) };
    let token = app.accounts.login_token(&browser.user_id).await?;
    client.query_pairs_mut().append_pair("loginToken", &token);
    go_to(client.as_str())
}

fn is_trusted(app: &App, client: &Url) -> bool {
    app.config.sso.trusted_clients.iter().any(|trusted| is_below(client, trusted))
}

/// Where a form leads by which somebody signs in and then goes on to `next`, if it leads away from here: this page sends
/// the browser on to a trusted client without a question, and browsers judge the form by that.
pub(super) fn leads_to(app: &App, next: &str) -> Option<String> {
    let query = next.strip_prefix(PATH)?.strip_prefix('?')?;
    let wanted: Wanted = serde_html_form::from_str(query).ok()?;
    let client = client(&wanted).filter(|client| is_trusted(app, client))?;
    // All of a scheme is more than the client.
    form_target(client.as_str()).filter(|target| !["http:", "https:"].contains(&target.as_str()))
}

fn wrong() -> Page {
    let text = "It did not say where you should go afterwards.";
    sorry("The application made a mistake", text, StatusCode::BAD_REQUEST)
}

/// Where the client wants the browser back.
fn client(wanted: &Wanted) -> Option<Url> {
    let url = Url::parse(&wanted.redirect_url).ok()?;
    (!LOCAL_SCHEMES.contains(&url.scheme())).then_some(url)
}

/// Whether `url` is `trusted` or lies below it: the same scheme, host and port, and a path that goes on from its path.
fn is_below(url: &Url, trusted: &str) -> bool {
    let Ok(trusted) = Url::parse(trusted) else { return false };
    let same = url.scheme() == trusted.scheme()
        && url.host() == trusted.host()
        && url.port_or_known_default() == trusted.port_or_known_default()
        && url.username().is_empty()
        && url.password().is_none();
    let below = url.path().strip_prefix(trusted.path());
    same && below
        .is_some_and(|rest| rest.is_empty() || trusted.path().ends_with('/') || rest.starts_with('/'))
}

#[cfg(test)]
mod tests {
    use url::Url;

    use super::is_below;

    #[test]
    fn trust_ends_at_the_host() {
        for (url, trusted, expected) in [
            ("https://app.example.org/", "https://app.example.org/", true),
            ("https://app.example.org/#/login", "https://app.example.org", true),
            ("https://app.example.org/deep?x", "https://app.example.org/", true),
            ("https://app.example.org.evil.org/", "https://app.example.org", false),
            ("https://app.example.org@evil.org/", "https://app.example.org", false),
            ("https://x:y@app.example.org/", "https://app.example.org", false),
            ("https://app.example.org:8443/", "https://app.example.org", false),
            ("http://app.example.org/", "https://app.example.org", false),
            ("https://app.example.org/application", "https://app.example.org/app", false),
            ("https://app.example.org/app/x", "https://app.example.org/app", true),
            ("element://connect", "element://connect", true),
            ("https://app.example.org/", "nonsense", false),
        ] {
            assert_eq!(is_below(&Url::parse(url).unwrap(), trusted), expected, "{url} {trusted}");
        }
    }
}
