//! `GET` and `POST /_matrix/oauth2/mail`: where a letter leads that proves an address
//!
//! Opening the page proves nothing yet: programs that look through mail open what is in it. So the proof is sent by `POST`,
//! after which the specification has no `next_link` followed; and none is kept, since anybody may ask for a letter
//! to anybody, which would lead them wherever the one who asked for it likes.
//!
//! <https://spec.matrix.org/v1.19/client-server-api/#post_matrixclientv3account3pidemailrequesttoken>

use axum::response::Response;
use http::{Method, StatusCode};
use maud::html;
use serde::Deserialize;

use super::{
    Visitor,
    page::{Page, hidden, sorry},
    reply::{page_form, query},
};
use crate::{
    account::ProofOf,
    http::{App, Call, Failure, Routes},
};

const PATH: &str = "/_matrix/oauth2/mail";

#[derive(Deserialize)]
struct Proof {
    sid: String,
    code: String,
    #[serde(default)]
    csrf: String,
}

/// Adds the pages.
pub(super) fn routes(routes: &mut Routes) {
    routes.page(Method::GET, PATH, ask);
    routes.page(Method::POST, PATH, confirm);
}

async fn ask(app: App, call: Call) -> Result<Response, Failure> {
    let visitor = Visitor::of(&app, &call).await?;
    let Proof { sid, code, .. } = query(&call)?;
    let Some((of, address)) = app.accounts.purpose_of_letter((&sid, &code)).await? else {
        return Ok(visitor.show(too_old()));
    };
    let owner = match of {
        ProofOf::Password => app.accounts.user_of_address(&address).await?,
        ProofOf::Account | ProofOf::Registration => None,
    };
    let body = html! {
        p { "Somebody, hopefully you, has asked " strong { (app.server_name) } " to confirm " strong { (address) } "." }
        p.wrong {
            @match of {
                ProofOf::Registration => "They make an account that this address belongs to.",
                ProofOf::Account => {
                    "They add this address to their account: whoever reads what is sent there can then set its password."
                }
                ProofOf::Password => {
                    "They set a new password"
                    @if let Some(owner) = owner { " for your account " strong { (owner) } }
                    ", and sign in with it."
                }
            }
        }
        p { "Go on only if it was you, and just now." }
        form method="post" action=(visitor.site.url("mail")) {
            (visitor.csrf())
            (hidden("sid", &sid))
            (hidden("code", &code))
            button type="submit" { "It was me" }
        }
    };
    Ok(visitor.show(Page::new("Confirm your address", body)))
}

async fn confirm(app: App, call: Call) -> Result<Response, Failure> {
    let visitor = Visitor::of(&app, &call).await?;
    let Proof { sid, code, csrf } = page_form(&call)?;
    visitor.check(&csrf)?;
    Ok(visitor.show(match app.accounts.confirm_proof(&sid, &code).await? {
        true => sorry("Confirmed", "Go back to the application to go on.", StatusCode::OK),
        false => too_old(),
    }))
}

fn too_old() -> Page {
    let text = "The letter is too old, or another one was sent after it.";
    sorry("That did not work", text, StatusCode::BAD_REQUEST)
}
