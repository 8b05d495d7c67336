//! Requests and answers of programs: forms in, JSON out, errors in the words of RFC 6749.

use axum::response::{IntoResponse, Response};
use http::{StatusCode, header};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::{
    http::{Call, Failure},
    oauth::{Code, OauthError},
};

/// A form.
const FORM: &str = "application/x-www-form-urlencoded";

/// The fields of a form. A field that comes twice is a mistake (RFC 6749, 3.2).
pub(super) fn form<T: DeserializeOwned>(call: &Call) -> Option<T> {
    let kind = call.parts.headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok());
    let kind = kind.map(|kind| kind.split(';').next().unwrap_or_default().trim());
    let is_form = kind.is_some_and(|kind| kind.eq_ignore_ascii_case(FORM));
    serde_html_form::from_bytes(&call.body).ok().filter(|_| is_form)
}

/// The fields of a form on a page.
pub(in crate::http) fn page_form<T: DeserializeOwned>(call: &Call) -> Result<T, Failure> {
    form(call).ok_or_else(|| Failure::invalid_param("The form is incomplete"))
}

/// The fields of a query.
pub(in crate::http) fn query<T: DeserializeOwned>(call: &Call) -> Result<T, Failure> {
    let text = call.parts.uri.query().unwrap_or_default();
    serde_html_form::from_str(text).map_err(|_| Failure::invalid_param("The address is not valid"))
}

/// An answer for a program, which nobody may keep.
pub(super) fn answer(status: StatusCode, body: Value) -> Response {
    (status, [(header::CACHE_CONTROL, "no-store"), (header::PRAGMA, "no-cache")], axum::Json(body))
        .into_response()
}

/// What a program is told that made a mistake.
pub(super) fn refusal(code: Code, text: &str) -> Response {
    let status = match code {
        Code::InvalidClient => StatusCode::UNAUTHORIZED,
        _ => StatusCode::BAD_REQUEST,
    };
    answer(status, json!({ "error": code.as_str(), "error_description": text }))
}

/// The form of a request was not understood.
pub(super) fn misunderstood() -> Response {
    refusal(Code::InvalidRequest, "The body must be a form in which no field comes twice")
}

/// What a program is told when something failed: a refusal, unless the failure is the server's.
pub(super) fn failed(error: OauthError) -> Result<Response, Failure> {
    match error {
        OauthError::Refused(code, text) => Ok(refusal(code, &text)),
        error => Err(error.into()),
    }
}
