//! The two cookies: the session, and what the forms are bound to before there is one.

use std::time::Duration;

use axum::http::{HeaderMap, HeaderValue, header};

use crate::secret::RANDOM_LEN;

/// The names and attributes of the cookies. Loopback ports share cookies, so the names say whose they are.
pub(crate) struct Cookies {
    secure: bool,
}

impl Cookies {
    pub(crate) fn new(secure: bool) -> Self {
        Self { secure }
    }

    /// The session's secret, as the browser sent it.
    pub(crate) fn session(&self, headers: &HeaderMap) -> Option<String> {
        read(headers, self.session_name())
    }

    /// What the browser's forms are bound to.
    pub(crate) fn form(&self, headers: &HeaderMap) -> Option<String> {
        read(headers, self.form_name())
    }

    pub(crate) fn set_session(&self, session: &str, lifetime: Duration) -> Option<HeaderValue> {
        self.set(self.session_name(), session, &format!("; Max-Age={}", lifetime.as_secs()))
    }

    pub(crate) fn clear_session(&self) -> Option<HeaderValue> {
        self.set(self.session_name(), "", "; Max-Age=0")
    }

    pub(crate) fn set_form(&self, form: &str) -> Option<HeaderValue> {
        self.set(self.form_name(), form, "")
    }

    fn set(&self, name: &str, value: &str, age: &str) -> Option<HeaderValue> {
        let secure = if self.secure { "; Secure" } else { "" };
        HeaderValue::try_from(format!("{name}={value}; HttpOnly; SameSite=Lax; Path=/{age}{secure}")).ok()
    }

    fn session_name(&self) -> &'static str {
        if self.secure { "__Host-kombify_idp_session" } else { "kombify_idp_session" }
    }

    fn form_name(&self) -> &'static str {
        if self.secure { "__Host-kombify_idp_form" } else { "kombify_idp_form" }
    }
}

/// The value of the cookie `name`, if it has the length of ours.
fn read(headers: &HeaderMap, name: &str) -> Option<String> {
    headers
        .get_all(header::COOKIE)
        .iter()
        .filter_map(|line| line.to_str().ok())
        .flat_map(|line| line.split(';'))
        .filter_map(|pair| pair.trim().split_once('='))
        .find(|(key, value)| *key == name && value.len() == RANDOM_LEN)
        .map(|(_, value)| value.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cookie_is_found_among_others_and_only_under_its_whole_name() {
        let value = "v".repeat(RANDOM_LEN);
        let mut headers = HeaderMap::new();
        let line =
            format!("a=b; xkombify_idp_session=no; kombify_idp_session={value}; kombify_idp_form=short");
        headers.insert(header::COOKIE, line.parse().unwrap());
        let cookies = Cookies::new(false);
        assert_eq!(cookies.session(&headers), Some(value));
        assert_eq!(cookies.form(&headers), None);
        assert_eq!(Cookies::new(true).session(&headers), None);
    }

    #[test]
    fn under_tls_the_session_is_bound_to_its_host() {
        let plain = Cookies::new(false).set_session("x", Duration::from_mins(1)).unwrap();
        assert_eq!(plain, "kombify_idp_session=x; HttpOnly; SameSite=Lax; Path=/; Max-Age=60");
        let secure = Cookies::new(true).set_session("x", Duration::from_mins(1)).unwrap();
        assert_eq!(
            secure,
            "__Host-kombify_idp_session=x; HttpOnly; SameSite=Lax; Path=/; Max-Age=60; Secure"
        );
    }
}
