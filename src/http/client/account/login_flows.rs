//! `GET /_matrix/client/v3/login`
//!
//! <https://spec.matrix.org/v1.19/client-server-api/#get_matrixclientv3login>

use ruma::api::client::session::get_login_types::v3::{
    ApplicationServiceLoginType, IdentityProvider, LoginType, PasswordLoginType, Request, Response,
    SsoLoginType, TokenLoginType,
};

use crate::http::{App, Failure};

pub(super) async fn handle(app: App, _: Request) -> Result<Response, Failure> {
    let mut token = TokenLoginType::new();
    token.get_login_token = true;
    let mut flows = vec![
        LoginType::Password(PasswordLoginType::new()),
        LoginType::Token(token),
        LoginType::ApplicationService(ApplicationServiceLoginType::new()),
    ];
    if app.oauth.site().is_some() {
        let provider = |(id, name): (&str, &str)| IdentityProvider::new(id.to_owned(), name.to_owned());
        let mut sso = SsoLoginType::new();
        sso.identity_providers = app.oauth.providers().map(provider).collect();
        // <https://spec.matrix.org/v1.19/client-server-api/#oauth-20-aware-clients>
        sso.oauth_aware_preferred = true;
        flows.push(LoginType::Sso(sso));
    }
    Ok(Response::new(flows))
}
