//! What all pages have in common: frame, style, headers.

use axum::{
    body::Body,
    response::{IntoResponse, Response},
};
use base64::{Engine, engine::general_purpose::STANDARD};
use http::{HeaderValue, StatusCode, header};
use maud::{DOCTYPE, Markup, PreEscaped, html};
use ruma::api::client::uiaa::{LoginTermsParams, PolicyDefinition};
use sha2::{Digest, Sha256};

use crate::{
    http::{App, Failure},
    oauth::PAGES,
};

/// The box by which whoever sets a password shuts out those who come in by other providers.
pub(super) fn unlinking() -> Markup {
    html! {
        label.box { input type="checkbox" name="unlink" value="all"; " Disconnect the accounts at other providers" }
    }
}

/// A page for people.
pub(in crate::http) struct Page {
    /// What it is about.
    pub(super) title: String,
    /// Its content.
    pub(super) body: Markup,
    /// 200, unless something is wrong.
    pub(super) status: StatusCode,
    /// Where its forms lead beside this server, as a source of `Content-Security-Policy`: browsers judge redirects
    /// after a form by it too.
    pub(super) leads_to: Option<String>,
    /// What it does by itself.
    pub(super) script: Option<&'static str>,
    /// The script of somebody else that shows a puzzle.
    pub(super) puzzle: Option<Puzzle>,
}

/// The script of somebody else that shows a puzzle.
pub(in crate::http) struct Puzzle {
    url: String,
    /// Where it may take things from, as sources of `Content-Security-Policy`.
    sources: String,
}

impl Page {
    /// A page of this server alone.
    pub(in crate::http) fn new(title: impl Into<String>, body: Markup) -> Self {
        Self { title: title.into(), body, status: StatusCode::OK, leads_to: None, script: None, puzzle: None }
    }

    /// The same page with another status.
    pub(in crate::http) fn with_status(self, status: StatusCode) -> Self {
        Self { status, ..self }
    }

    /// The same page, whose forms lead to this source too, if to any.
    pub(super) fn leading_to(self, leads_to: Option<String>) -> Self {
        Self { leads_to, ..self }
    }

    /// The same page, which does something by itself.
    pub(in crate::http) fn with_script(self, script: &'static str) -> Self {
        Self { script: Some(script), ..self }
    }

    /// The same page, with the script of a puzzle, if there is one.
    pub(in crate::http) fn with_puzzle(self, puzzle: Option<Puzzle>) -> Self {
        Self { puzzle, ..self }
    }
}

impl IntoResponse for Page {
    fn into_response(self) -> Response {
        let Self { title, body, status, leads_to, script, puzzle } = self;
        let style = format!("{PAGES}/style.css");
        let text = html! {
            (DOCTYPE)
            html lang="en" {
                head {
                    meta charset="utf-8";
                    meta name="viewport" content="width=device-width, initial-scale=1";
                    meta name="robots" content="noindex";
                    title { (title) }
                    link rel="stylesheet" href=(style);
                    @if let Some(puzzle) = &puzzle { script src=(puzzle.url) async defer {} }
                }
                body {
                    main { h1 { (title) } (body) }
                    @if let Some(script) = script { script { (PreEscaped(script)) } }
                }
            }
        };
        let mut response = Response::new(Body::from(text.into_string()));
        *response.status_mut() = status;
        protect(&mut response, (leads_to.as_deref(), script), puzzle.as_ref());
        let html = HeaderValue::from_static("text/html; charset=utf-8");
        response.headers_mut().insert(header::CONTENT_TYPE, html);
        response
    }
}

/// Headers that leave a page no more than it needs.
fn protect(
    response: &mut Response,
    (leads_to, script): (Option<&str>, Option<&str>),
    puzzle: Option<&Puzzle>,
) {
    let leads_to = leads_to.unwrap_or_default();
    // The one script that the page may run.
    let script =
        script.map(|script| format!("script-src 'sha256-{}'; ", STANDARD.encode(Sha256::digest(script))));
    let script = script.unwrap_or_default();
    let (puzzle, styles) = puzzle.map_or_else(Default::default, |Puzzle { sources, .. }| {
        (format!("script-src {sources}; frame-src {sources}; connect-src {sources}; "), format!(" {sources}"))
    });
    let policy = format!(
        "default-src 'none'; {script}{puzzle}style-src 'self'{styles}; form-action 'self' {leads_to}; frame-ancestors 'none'; base-uri 'none'"
    );
    // What is led to comes out of a URL that has been parsed, so that it has no characters that a header must not have.
    let policy = HeaderValue::from_str(&policy)
        .unwrap_or(HeaderValue::from_static("default-src 'none'; frame-ancestors 'none'"));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_SECURITY_POLICY, policy);
    headers.insert(header::X_FRAME_OPTIONS, HeaderValue::from_static("DENY"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    // The addresses of pages may hold codes.
    headers.insert(header::REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
}

/// Sends the browser to another page with `GET`.
pub(in crate::http) fn go_to(url: &str) -> Result<Response, Failure> {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::SEE_OTHER;
    protect(&mut response, (None, None), None);
    let url = HeaderValue::from_str(url).map_err(|_| Failure::invalid_param("The address is not valid"))?;
    response.headers_mut().insert(header::LOCATION, url);
    Ok(response)
}

/// A page that says that something did not work.
pub(super) fn sorry(title: &str, text: &str, status: StatusCode) -> Page {
    Page::new(title, html! { p { (text) } }).with_status(status)
}

/// The same, with a way on: where the link leads, and what is written on it.
pub(super) fn sorry_but(title: &str, text: &str, (url, label): (&str, &str), status: StatusCode) -> Page {
    let body = html! {
        p { (text) }
        p { a href=(url) { (label) } }
    };
    Page::new(title, body).with_status(status)
}

/// What people see where programs are told of a failure. It leads on to where most of them want to go.
pub(in crate::http) fn failure_page(failure: &Failure) -> Response {
    let text = match failure.status() {
        StatusCode::TOO_MANY_REQUESTS => "That was too often. Please wait a little and try again.",
        StatusCode::SERVICE_UNAVAILABLE => "The server has too much to do. Please try again.",
        StatusCode::INTERNAL_SERVER_ERROR => "Something went wrong inside the server.",
        _ => failure.message(),
    };
    let text = format!("{}.", text.trim_end_matches('.'));
    let on = ("/_matrix/oauth2/account", "Go to your account");
    sorry_but("That did not work", &text, on, failure.status()).into_response()
}

/// A hidden field.
pub(in crate::http) fn hidden(name: &str, value: &str) -> Markup {
    html! { input type="hidden" name=(name) value=(value); }
}

/// Text that something is wrong with what was entered.
pub(in crate::http) fn complaint(text: Option<&str>) -> Markup {
    html! { @if let Some(text) = text { p.wrong role="alert" { (text) } } }
}

/// The script that shows the puzzle of newcomers, if there is one.
pub(in crate::http) fn puzzle(app: &App) -> Option<Puzzle> {
    app.accounts.settings().captcha.as_ref()?;
    let captcha = &app.config.captcha;
    let site = url::Url::parse(&captcha.script_url).ok()?.origin().ascii_serialization();
    let mut sources = vec![site];
    sources.extend(captcha.script_sources.iter().cloned());
    Some(Puzzle { url: captcha.script_url.clone(), sources: sources.join(" ") })
}

/// Where the puzzle is shown in a form. Every maker's script knows this class, and answers in the same field.
pub(in crate::http) fn puzzle_field(app: &App) -> Markup {
    html! {
        @if let Some(captcha) = &app.accounts.settings().captcha {
            div class="g-recaptcha" data-sitekey=(captcha.site_key) {}
            noscript { p.wrong { "The puzzle that belongs here takes JavaScript." } }
        }
    }
}

/// What newcomers have to accept, each policy in its first language and a box to tick.
pub(in crate::http) fn accepting(terms: &LoginTermsParams) -> Markup {
    let named = |policy: &PolicyDefinition| {
        let translation = policy.translations.get("en").or_else(|| policy.translations.values().next());
        translation.map(|translation| (translation.name.clone(), translation.url.clone()))
    };
    html! {
        @for (name, url) in terms.policies.values().filter_map(named) {
            p { a href=(url) target="_blank" rel="noopener" { (name) } }
        }
        label.box {
            input type="checkbox" name="terms" value="yes" required;
            " I have read this and accept it"
        }
    }
}
