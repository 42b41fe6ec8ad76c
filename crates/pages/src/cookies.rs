//! Cookies: no script reads them, and under TLS no other host plants them.

use axum::http::HeaderValue;
use kombify_core::{Error, Result};

/// From which sites' requests a browser sends a cookie along.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SameSite {
    /// From this site's pages, and when the user follows a link here.
    Lax,
    /// From every site; browsers ask for TLS.
    None,
}

impl SameSite {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Lax => "Lax",
            Self::None => "None",
        }
    }
}

/// The header that sets a cookie for so many seconds. `secure` says whether browsers come by TLS; then the name begins with
/// `__Host-` (RFC 6265bis, 4.1.3.2).
///
/// # Errors
/// - [`Error::Internal`] if name or value cannot stand in a header.
pub fn set(name: &str, value: &str, seconds: u64, same_site: SameSite, secure: bool) -> Result<HeaderValue> {
    let tls = if secure { "; Secure" } else { "" };
    let same_site = same_site.as_str();
    let text = format!("{name}={value}; HttpOnly; SameSite={same_site}; Path=/; Max-Age={seconds}{tls}");
    let mut header = HeaderValue::try_from(text).map_err(Error::internal)?;
    header.set_sensitive(true);
    Ok(header)
}

/// The header that takes a cookie away.
///
/// # Errors
/// - [`Error::Internal`] if the name cannot stand in a header.
pub fn clear(name: &str, secure: bool) -> Result<HeaderValue> {
    set(name, "", 0, SameSite::Lax, secure)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cookie_says_all_that_protects_it() {
        let cookie = set("__Host-s", "v", 60, SameSite::None, true).unwrap();
        assert_eq!(cookie, "__Host-s=v; HttpOnly; SameSite=None; Path=/; Max-Age=60; Secure");
        assert_eq!(clear("s", false).unwrap(), "s=; HttpOnly; SameSite=Lax; Path=/; Max-Age=0");
        assert!(set("s", "a\nb", 1, SameSite::Lax, false).is_err());
    }
}
