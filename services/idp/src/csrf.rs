//! Every form comes from a page of ours, in the same browser.

use aws_lc_rs::hmac;
use axum::http::{HeaderMap, HeaderValue, header};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use kombify_core::{Error, Ids, Result};

use crate::cookie::Cookies;
use crate::secret;

/// Makes and checks the tokens of forms: an HMAC over a cookie of the browser. Another port of this host may plant the
/// cookie, but cannot make the token for it, and has another origin.
pub(crate) struct Csrf {
    key: hmac::Key,
    origin: String,
}

/// What a form needs: its token, and the cookie that it is bound to where the browser has none yet.
pub(crate) struct FormToken {
    pub(crate) token: String,
    pub(crate) set_cookie: Option<HeaderValue>,
}

impl Csrf {
    /// The key lives as long as the process: a form that is older is asked for again.
    pub(crate) fn new(ids: &dyn Ids, origin: String) -> Self {
        let mut key = [0; 32];
        ids.fill(&mut key);
        Self { key: hmac::Key::new(hmac::HMAC_SHA256, &key), origin }
    }

    pub(crate) fn issue(&self, ids: &dyn Ids, cookies: &Cookies, headers: &HeaderMap) -> FormToken {
        if let Some(form) = cookies.form(headers) {
            return FormToken { token: self.token(&form), set_cookie: None };
        }
        let form = secret::random(ids);
        FormToken { token: self.token(&form), set_cookie: cookies.set_form(&form) }
    }

    /// Lets a form through that was made by [`Csrf::issue`] for this browser, and comes from our own pages as far as the
    /// browser says where from.
    ///
    /// # Errors
    /// - [`Error::AuthInsufficient`] otherwise.
    pub(crate) fn check(&self, cookies: &Cookies, headers: &HeaderMap, token: &str) -> Result<()> {
        let own_origin = headers.get_all(header::ORIGIN).iter().all(|origin| origin == self.origin.as_str());
        let good = own_origin
            && cookies.form(headers).is_some_and(|form| {
                let tag = URL_SAFE_NO_PAD.decode(token).unwrap_or_default();
                hmac::verify(&self.key, form.as_bytes(), &tag).is_ok()
            });
        let refusal = || {
            Error::AuthInsufficient(
                "this form is no longer good: go back, reload it and send it again".into(),
            )
        };
        good.then_some(()).ok_or_else(refusal)
    }

    fn token(&self, form: &str) -> String {
        URL_SAFE_NO_PAD.encode(hmac::sign(&self.key, form.as_bytes()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Counted;

    fn headers(pairs: &[(header::HeaderName, &str)]) -> HeaderMap {
        pairs.iter().map(|(name, value)| (name.clone(), value.parse().unwrap())).collect()
    }

    #[test]
    fn a_form_is_good_in_its_own_browser_and_from_our_own_pages_only() {
        let ids = Counted::default();
        let cookies = Cookies::new(false);
        let csrf = Csrf::new(&ids, "http://localhost:8083".into());
        let form = csrf.issue(&ids, &cookies, &HeaderMap::new());
        let cookie = form.set_cookie.unwrap().to_str().unwrap().split(';').next().unwrap().to_owned();
        let other = format!("kombify_idp_form={}", secret::random(&ids));

        let (mine, other, token) = (cookie.as_str(), other.as_str(), form.token.as_str());
        let (ours, theirs, nowhere) = ("http://localhost:8083", "http://localhost:3000", "null");
        for (cookie, origin, token, good) in [
            (mine, Some(ours), token, true),
            (mine, None, token, true),
            (mine, Some(theirs), token, false),
            (mine, Some(nowhere), token, false),
            (other, Some(ours), token, false),
            ("a=b", Some(ours), token, false),
            (mine, Some(ours), "", false),
            (mine, Some(ours), "forged", false),
        ] {
            let mut sent = headers(&[(header::COOKIE, cookie)]);
            sent.extend(origin.map(|origin| (header::ORIGIN, origin.parse().unwrap())));
            assert_eq!(csrf.check(&cookies, &sent, token).is_ok(), good, "{cookie} {origin:?} {token}");
        }
        let again = csrf.issue(&ids, &cookies, &headers(&[(header::COOKIE, mine)]));
        assert_eq!(again.token, form.token);
        assert!(again.set_cookie.is_none());
    }
}
