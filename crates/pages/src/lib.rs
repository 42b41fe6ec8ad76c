//! Floor 2: what every page of ours shares: one layout, one stylesheet, the headers that harden it, cookies, the defence of
//! forms.
//!
//! Refuses to know: what any page shows, and who may see it. Source: the contracts, "Pages and browsers".

pub mod cookies;
pub mod kits;
pub mod sealed;

use std::collections::BTreeMap;

use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::{Html, IntoResponse, Response};
use kombify_core::{Code, Error, Result};
use maud::{DOCTYPE, Markup, html};

const STYLE: &str = include_str!("style.css");
const ICON: &str = include_str!("icon.svg");

/// A whole page; `who` is the name of whoever is signed in.
pub fn layout(title: &str, who: Option<&str>, body: &Markup) -> Markup {
    scripted(title, who, None, body)
}

/// A whole page with a script file of this site.
pub fn scripted(title: &str, who: Option<&str>, script: Option<&str>, body: &Markup) -> Markup {
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                title { (title) " · kombify" }
                link rel="icon" href="/icon.svg";
                link rel="stylesheet" href="/style.css";
                @if let Some(script) = script {
                    script src=(script) defer {}
                }
            }
            body {
                header {
                    span.product { "kombify" }
                    @if let Some(who) = who {
                        span.who { (who) }
                    }
                }
                main {
                    h1 { (title) }
                    (body)
                }
            }
        }
    }
}

/// A page as an answer.
pub fn page(status: StatusCode, page: Markup) -> Response {
    (status, Html(page.into_string())).into_response()
}

/// A fault as a page: its code, what it says, and where to try again. The cause of an internal one goes to the log.
pub fn fault_page(fault: &Error) -> Response {
    if let Error::Internal(cause) = fault {
        tracing::error!(%cause, "request failed");
    }
    let code = fault.code();
    let status = StatusCode::from_u16(code.http()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let body = html! {
        (alert(fault))
        p { a href="/" { "Back to the start" } }
    };
    let mut response = page(status, layout("That did not work", None, &body));
    if let Some(retry_after) = fault.retry_after() {
        response.headers_mut().insert(header::RETRY_AFTER, retry_after.as_secs().max(1).into());
    }
    response
}

/// What a fault says, with its code.
pub fn alert(fault: &Error) -> Markup {
    html! {
        p role="alert" data-code=(fault.code().as_str()) { (fault) }
    }
}

/// What is wrong with a field, beside it. Where the text has another form than it must, the page says so in the words of
/// `rule`, and not by a pattern.
pub fn beside(field: &str, wrong: &BTreeMap<String, String>, rule: &str) -> Markup {
    html! {
        @if let Some(message) = wrong.get(field) {
            p id=(format!("{field}-says")) role="alert" data-code=(Code::ValidationFailed.as_str()) {
                @if message.starts_with("must match ") { "must be " (rule) } @else { (message) }
            }
        }
    }
}

/// The one stylesheet.
pub fn stylesheet() -> Response {
    let headers =
        [(header::CONTENT_TYPE, "text/css; charset=utf-8"), (header::CACHE_CONTROL, "max-age=3600")];
    (headers, STYLE).into_response()
}

/// The one icon.
pub fn icon() -> Response {
    let headers = [(header::CONTENT_TYPE, "image/svg+xml"), (header::CACHE_CONTROL, "max-age=3600")];
    (headers, ICON).into_response()
}

/// The form that signs out of this site.
pub fn sign_out() -> Markup {
    html! {
        form method="post" action="/sign-out" { button.quiet type="submit" { "Sign out" } }
    }
}

/// The policy of a page: nothing but this site's own style, and forms to `form_action`; a script file only where there is
/// one.
///
/// # Errors
/// - [`Error::Internal`] if `form_action` is no source.
pub fn policy(form_action: &str, script: bool) -> Result<HeaderValue> {
    let script = if script { "; script-src 'self'" } else { "" };
    let policy = format!(
        "default-src 'none'; style-src 'self'; img-src 'self'{script}; form-action {form_action}; frame-ancestors 'none'; base-uri 'none'"
    );
    HeaderValue::try_from(policy).map_err(Error::internal)
}

/// Hardens an answer; what it says itself stays. `secure` says whether browsers come by TLS.
pub fn harden(mut response: Response, secure: bool) -> Response {
    let default_policy = HeaderValue::from_static(
        "default-src 'none'; style-src 'self'; img-src 'self'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'",
    );
    let headers = response.headers_mut();
    for (name, value) in [
        (header::CONTENT_SECURITY_POLICY, default_policy),
        (header::X_FRAME_OPTIONS, HeaderValue::from_static("DENY")),
        (header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
        (header::REFERRER_POLICY, HeaderValue::from_static("same-origin")),
        (header::CACHE_CONTROL, HeaderValue::from_static("no-store")),
        (HeaderName::from_static("cross-origin-opener-policy"), HeaderValue::from_static("same-origin")),
    ] {
        headers.entry(name).or_insert(value);
    }
    if secure {
        let a_year = HeaderValue::from_static("max-age=31536000; includeSubDomains");
        headers.entry(header::STRICT_TRANSPORT_SECURITY).or_insert(a_year);
    }
    response
}

/// Whether a form comes from a page of `own`, this site's configured origin: never compared with `Host`.
///
/// # Errors
/// - [`Error::AuthInvalid`] if it does not, or does not say where it comes from.
pub fn same_origin(headers: &HeaderMap, own: &str) -> Result<()> {
    let mut origins = headers.get_all(header::ORIGIN).iter();
    match (origins.next(), origins.next()) {
        (Some(origin), None) if origin.as_bytes() == own.as_bytes() => Ok(()),
        _ => Err(Error::AuthInvalid("the form does not come from this site's own pages")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_is_hardened_and_keeps_what_it_says_itself() {
        let own = [(header::CACHE_CONTROL, "max-age=3600")];
        let response = harden((own, "x").into_response(), true);
        assert_eq!(response.headers()[header::CACHE_CONTROL], "max-age=3600");
        assert_eq!(response.headers()[header::X_FRAME_OPTIONS], "DENY");
        assert!(
            response.headers()[header::CONTENT_SECURITY_POLICY]
                .to_str()
                .unwrap()
                .starts_with("default-src 'none'")
        );
        assert!(response.headers().contains_key(header::STRICT_TRANSPORT_SECURITY));
        assert!(
            !harden("x".into_response(), false).headers().contains_key(header::STRICT_TRANSPORT_SECURITY)
        );
    }

    #[test]
    fn a_form_comes_from_an_own_page() {
        let headers = |origins: &[&'static str]| {
            let mut headers = HeaderMap::new();
            for origin in origins {
                headers.append(header::ORIGIN, HeaderValue::from_static(origin));
            }
            headers
        };
        let own = "http://localhost:8080";
        assert!(same_origin(&headers(&[own]), own).is_ok());
        for wrong in [&[][..], &["null"], &["http://localhost:80801"], &["http://evil.example"], &[own, own]]
        {
            assert!(same_origin(&headers(wrong), own).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn a_fault_is_shown_with_its_code_and_its_inside_is_not() {
        let internal = Error::internal("the secret inside");
        assert_eq!(fault_page(&internal).status(), StatusCode::INTERNAL_SERVER_ERROR);
        let shown = alert(&internal).into_string();
        assert_eq!(shown, r#"<p role="alert" data-code="INTERNAL_ERROR">internal error</p>"#);
        let typed = alert(&Error::invalid("slug", "must not be <b>")).into_string();
        assert!(typed.contains("slug must not be &lt;b&gt;"), "{typed}");
        let later = fault_page(&Error::unavailable("away", std::time::Duration::from_secs(5)));
        assert_eq!(later.headers()[header::RETRY_AFTER], "5");
    }

    #[test]
    fn what_people_typed_is_escaped() {
        let typed = "<script>alert(1)</script>";
        let page = layout(typed, Some(typed), &html! { p { (typed) } }).into_string();
        assert!(!page.contains("<script>"), "{page}");
    }
}
