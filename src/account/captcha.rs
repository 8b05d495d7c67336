//! Puzzles that programs do not solve (`m.login.recaptcha`), as far as accounts have to know of them.
//!
//! <https://spec.matrix.org/v1.19/client-server-api/#google-recaptcha>

use std::{fmt, sync::Arc};

use crate::store::BoxFuture;

/// Knows whether a puzzle has been solved; whoever makes the puzzles does.
pub trait CaptchaCheck: Send + Sync + 'static {
    /// Whether `response`, which the client of a newcomer was given for the solution, is good. The error says why
    /// nobody knows.
    fn is_solved<'a>(&'a self, response: &'a str) -> BoxFuture<'a, Result<bool, String>>;
}

/// The puzzle that newcomers have to solve.
#[derive(Clone)]
pub struct Captcha {
    /// Under which name its maker knows this server; everybody may know it.
    pub site_key: String,
    /// Knows whether it has been solved.
    pub check: Arc<dyn CaptchaCheck>,
}

impl fmt::Debug for Captcha {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Captcha").field("site_key", &self.site_key).finish_non_exhaustive()
    }
}
