//! Has the maker of a puzzle say whether it has been solved.
//!
//! <https://spec.matrix.org/v1.19/client-server-api/#google-recaptcha>

use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderValue, Method, Request, StatusCode, header};
use serde::Deserialize;

use crate::{
    account::CaptchaCheck,
    limits::{CAPTCHA_ANSWER_BYTES_MAX, CAPTCHA_RESPONSE_BYTES_MAX, CAPTCHA_SECONDS_MAX},
    peer::{Bounds, Net, NetError, Purpose},
    store::BoxFuture,
};

/// The maker, on the network, wherever its rules for puzzles let us go.
pub(super) struct ByNet {
    pub(super) net: Arc<dyn Net>,
    /// Where solutions are judged.
    pub(super) verify_url: String,
    /// How this server proves who it is.
    pub(super) secret: String,
}

#[derive(Deserialize)]
struct Judgement {
    success: bool,
}

impl CaptchaCheck for ByNet {
    fn is_solved<'a>(&'a self, response: &'a str) -> BoxFuture<'a, Result<bool, String>> {
        Box::pin(async move {
            if response.is_empty() || response.len() > CAPTCHA_RESPONSE_BYTES_MAX {
                return Ok(false);
            }
            let form = serde_html_form::to_string([("secret", &*self.secret), ("response", response)]);
            let form = form.map_err(|error| error.to_string())?;
            let kind = HeaderValue::from_static("application/x-www-form-urlencoded");
            let request = Request::builder()
                .method(Method::POST)
                .uri(&self.verify_url)
                .header(header::CONTENT_TYPE, kind)
                .body(Bytes::from(form))
                .map_err(|error| error.to_string())?;
            let bounds = Bounds::new(CAPTCHA_SECONDS_MAX, CAPTCHA_ANSWER_BYTES_MAX);
            let answer = self.net.visit(Purpose::Captcha, request, bounds).await;
            let answer = answer.map_err(|error| match error {
                NetError::Forbidden(_) => format!("{error}; `captcha.allow_ranges` can admit it"),
                error => error.to_string(),
            })?;
            if answer.status() != StatusCode::OK {
                return Err(format!("it answered {}", answer.status()));
            }
            let judgement: Judgement =
                serde_json::from_slice(answer.body()).map_err(|error| error.to_string())?;
            Ok(judgement.success)
        })
    }
}
