//! Cookies: no script reads them, and under TLS no other host plants them.

use axum::http::{HeaderMap, HeaderValue, header};
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

/// The value of the one cookie of that name; `None` where there is none, it is empty, or there are two: then somebody else
/// planted one, and nobody knows which.
pub fn read<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    let lines = headers.get_all(header::COOKIE).iter().filter_map(|line| line.to_str().ok());
    let mut values = lines
        .flat_map(|line| line.split(';'))
        .filter_map(|pair| pair.trim().split_once('='))
        .filter_map(|(known, value)| (known == name && !value.is_empty()).then_some(value));
    values.next().filter(|_| values.next().is_none())
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

    #[test]
    fn a_cookie_is_read_under_its_whole_name_and_never_where_there_are_two() {
        let read = |lines: &[&'static str]| {
            let mut headers = HeaderMap::new();
            for line in lines {
                headers.append(header::COOKIE, HeaderValue::from_static(line));
            }
            read(&headers, "s").map(str::to_owned)
        };
        assert_eq!(read(&["a=b; xs=no; s=v=1; sx=no"]), Some("v=1".to_owned()));
        assert_eq!(read(&["a=b", "s=v"]), Some("v".to_owned()));
        for none in [&["a=b"][..], &["s="], &["s=v; s=w"], &["s=v", "s=v"], &[]] {
            assert_eq!(read(none), None, "{none:?}");
        }
    }
}
