//! Registration, login, sessions.

mod available;
pub(in crate::http) mod deactivate;
pub(in crate::http) mod fallback;
mod get_token;
pub(in crate::http) mod login;
mod login_flows;
mod logout;
mod logout_all;
mod openid_token;
mod openid_user;
mod password;
mod refresh;
mod register;
mod registration_token;
mod third_party;
mod whoami;

#[cfg(test)]
mod guest_tests;
#[cfg(test)]
mod newcomer_tests;
#[cfg(test)]
mod secret_tests;
#[cfg(test)]
mod tests;

use crate::http::Routes;

/// Adds the endpoints of this area.
pub(super) fn routes(routes: &mut Routes) {
    routes.add(available::handle);
    routes.add(deactivate::handle);
    fallback::routes(routes);
    routes.add(get_token::handle);
    routes.add_at(&["/_matrix/client/unstable/org.matrix.msc3882/login/token"], get_token::handle);
    routes.feature("org.matrix.msc3882");
    login::route(routes);
    routes.add(login_flows::handle);
    routes.add(logout::handle);
    routes.add(logout_all::handle);
    routes.add(openid_token::handle);
    openid_user::route(routes);
    routes.add(password::handle);
    routes.add(refresh::handle);
    routes.add(register::handle);
    routes.add(registration_token::handle);
    third_party::routes(routes);
    routes.add(whoami::handle);
}
