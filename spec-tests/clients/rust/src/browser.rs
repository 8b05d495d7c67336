//! The browser in which a user says yes or no on the server's pages: one cookie, no redirect followed by itself.

use matrix_sdk::reqwest::{Client, RequestBuilder, Url, header, redirect::Policy};

use crate::Outcome;

/// A browser.
pub(crate) struct Browser {
    http: Client,
    cookie: Option<String>,
}

/// What it was shown.
struct Page {
    location: Option<String>,
    text: String,
}

impl Browser {
    pub(crate) fn new() -> Outcome<Self> {
        let http = Client::builder().no_proxy().redirect(Policy::none()).build()?;
        Ok(Self { http, cookie: None })
    }

    /// Opens the page where a new device is let in, signs in there, looks for what the new device shows, and presses
    /// the button with the given name.
    pub(crate) async fn decide(&mut self, link: &Url, user: (&str, &str), asked: &Asked<'_>) -> Outcome<()> {
        let mut page = self.get(link.as_str()).await?;
        if let Some(login) = page.location.take() {
            let form = self.get(&login).await?;
            let fields = [
                ("csrf", &*form.field("csrf")?),
                ("next", &*form.field("next")?),
                ("username", user.0),
                ("password", user.1),
            ];
            let action = link.join("login")?;
            let back =
                self.post(action.as_str(), &fields).await?.location.ok_or("the user is not signed in")?;
            page = self.get(&back).await?;
        }
        page.shows(asked.user_code)?;
        let mut action = link.clone();
        action.set_query(None);
        let mut fields = vec![("user_code", asked.user_code)];
        let csrf = page.field("csrf")?;
        fields.push(("csrf", &csrf));
        let consent = self.post(action.as_str(), &fields).await?;
        for text in [asked.user_code, asked.client] {
            consent.shows(text)?;
        }
        fields.push(("decision", asked.decision));
        let (done, expected) = (self.post(action.as_str(), &fields).await?, asked.expected());
        done.shows(expected)
    }

    async fn get(&mut self, url: &str) -> Outcome<Page> {
        self.send(self.http.get(url)).await
    }

    async fn post(&mut self, url: &str, fields: &[(&str, &str)]) -> Outcome<Page> {
        let form = Url::parse_with_params("http://form", fields)?;
        let request = self.http.post(url).header(header::CONTENT_TYPE, "application/x-www-form-urlencoded");
        self.send(request.body(form.query().unwrap_or_default().to_owned())).await
    }

    async fn send(&mut self, request: RequestBuilder) -> Outcome<Page> {
        let request = match &self.cookie {
            Some(cookie) => request.header(header::COOKIE, cookie),
            None => request,
        };
        let answer = request.send().await?;
        let text = |name| answer.headers().get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
        let (cookie, location) = (text(header::SET_COOKIE), text(header::LOCATION));
        if let Some(cookie) = cookie {
            self.cookie = cookie.split(';').next().map(str::to_owned);
        }
        Ok(Page { location, text: answer.text().await? })
    }
}

/// What the user decides, and what the pages have to show before.
pub(crate) struct Asked<'a> {
    /// The code that the new device shows.
    pub(crate) user_code: &'a str,
    /// What its app is called.
    pub(crate) client: &'a str,
    /// `allow` or `deny`.
    pub(crate) decision: &'a str,
}

impl Asked<'_> {
    fn expected(&self) -> &'static str {
        match self.decision {
            "allow" => "The device is signed in",
            _ => "The device gets no access",
        }
    }
}

impl Page {
    /// The value of a hidden field.
    fn field(&self, name: &str) -> Outcome<String> {
        let start = format!("name=\"{name}\" value=\"");
        let rest = self.text.split(&start).nth(1).ok_or_else(|| format!("no {name} in {}", self.text))?;
        Ok(rest.split('"').next().unwrap_or_default().replace("&amp;", "&"))
    }

    fn shows(&self, text: &str) -> Outcome<()> {
        match self.text.contains(text) {
            true => Ok(()),
            false => Err(format!("the page does not say {text}: {}", self.text).into()),
        }
    }
}
