//! Who may ask for a sign-in, and where an answer may go.

/// An application that signs its users in here: a public client, which proves itself by PKCE alone.
#[derive(Clone, Debug)]
pub struct Client {
    /// Its `client_id`.
    pub id: String,
    /// Where a code may be sent, compared as text. `http://127.0.0.1/...` and `http://[::1]/...` without a port match
    /// any port: a program on the user's machine listens where there is room (RFC 8252, 7.3).
    pub redirect_uris: Vec<String>,
    /// Where a browser may be sent after signing out, compared as text.
    pub post_logout_redirect_uris: Vec<String>,
    /// Where the client is told that a session has ended (`OpenID` Connect Back-Channel Logout 1.0).
    pub backchannel_logout_uri: Option<String>,
}

impl Client {
    pub(crate) fn may_redirect_to(&self, uri: &str) -> bool {
        self.redirect_uris.iter().any(|registered| registered == uri || matches_any_port(registered, uri))
    }

    pub(crate) fn may_leave_to(&self, uri: &str) -> bool {
        self.post_logout_redirect_uris.iter().any(|registered| registered == uri)
    }
}

fn matches_any_port(registered: &str, uri: &str) -> bool {
    ["http://127.0.0.1", "http://[::1]"].into_iter().any(|host| {
        let (Some(path), Some(rest)) = (registered.strip_prefix(host), uri.strip_prefix(host)) else {
            return false;
        };
        let Some(port) = rest.strip_prefix(':').and_then(|rest| rest.strip_suffix(path)) else {
            return false;
        };
        path.starts_with('/') && port.parse::<u16>().is_ok() && port.bytes().all(|byte| byte.is_ascii_digit())
    })
}

/// The origin of a URL, `scheme://host:port`; of a URL without a host its scheme with the colon.
pub(crate) fn origin(url: &str) -> String {
    match url.split_once("://") {
        Some((scheme, rest)) => {
            let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
            format!("{scheme}://{authority}")
        }
        None => format!("{}:", url.split(':').next().unwrap_or_default()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_redirect_uri_matches_as_text_and_on_loopback_at_any_port() {
        let client = Client {
            id: "cli".into(),
            redirect_uris: vec!["https://a.example/cb".into(), "http://127.0.0.1/cb".into()],
            post_logout_redirect_uris: Vec::new(),
            backchannel_logout_uri: None,
        };
        for good in [
            "https://a.example/cb",
            "http://127.0.0.1/cb",
            "http://127.0.0.1:1/cb",
            "http://127.0.0.1:65535/cb",
        ] {
            assert!(client.may_redirect_to(good), "{good}");
        }
        for bad in [
            "",
            "https://a.example/cb/",
            "https://a.example/cb?x=1",
            "https://a.example:444/cb",
            "http://127.0.0.1:1/cb2",
            "http://127.0.0.1:1/x/cb",
            "http://127.0.0.1:65536/cb",
            "http://127.0.0.1:+1/cb",
            "http://127.0.0.1:/cb",
            "http://127.0.0.1.evil.example/cb",
            "http://127.0.0.1:1@evil.example/cb",
            "http://localhost:1/cb",
        ] {
            assert!(!client.may_redirect_to(bad), "{bad}");
        }
        assert!(!client.may_leave_to("https://a.example/cb"));
    }

    #[test]
    fn an_origin_ends_before_the_path() {
        assert_eq!(origin("http://localhost:8083"), "http://localhost:8083");
        assert_eq!(origin("https://a.example/x/y?z"), "https://a.example");
        assert_eq!(origin("app:/callback"), "app:");
    }
}
