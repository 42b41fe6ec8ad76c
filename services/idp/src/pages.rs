//! The pages: no script, one stylesheet.

use std::sync::Arc;

use axum::extract::State;
use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use kombify_core::Error;
use maud::{DOCTYPE, Markup, html};

use crate::client;
use crate::issuer::Issuer;
use crate::password::{MAX_CHARS, MIN_CHARS};
use crate::store::users::User;

const STYLE: &str = include_str!("style.css");

/// A fault, as a page.
#[derive(Debug)]
pub(crate) struct Fault(Error);

impl From<Error> for Fault {
    fn from(fault: Error) -> Self {
        Self(fault)
    }
}

impl IntoResponse for Fault {
    fn into_response(self) -> Response {
        let Self(fault) = self;
        if let Error::Internal(cause) = &fault {
            tracing::error!(%cause, "request failed");
        }
        let status = StatusCode::from_u16(fault.code().http()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let body = html! {
            p role="alert" { (fault.to_string()) }
        };
        let mut response = page(status, None, layout("That did not work", &body));
        if let Some(retry_after) = fault.retry_after() {
            response.headers_mut().insert(header::RETRY_AFTER, retry_after.as_secs().max(1).into());
        }
        response
    }
}

/// What a form needs, whatever it asks.
pub(crate) struct Form<'a> {
    /// The token against forgery.
    pub(crate) csrf: &'a str,
    /// The authorization request that waits, or nothing.
    pub(crate) request: &'a str,
    /// Where the browser goes afterwards, which the policy of the page must allow.
    pub(crate) leads_to: Option<&'a str>,
}

/// One field of a form.
struct Field<'a> {
    name: &'a str,
    label: &'a str,
    kind: &'a str,
    autocomplete: &'a str,
    value: &'a str,
    error: Option<&'a str>,
}

/// The page that asks who it is.
pub(crate) fn sign_in(form: &Form<'_>, login: &str, error: Option<&str>) -> Response {
    let body = html! {
        form method="post" action="/sign-in" {
            (hidden(form))
            (field(&Field {
                name: "login", label: "Name or e-mail address", kind: "text", autocomplete: "username", value: login,
                error: None,
            }))
            (field(&Field {
                name: "password", label: "Password", kind: "password", autocomplete: "current-password", value: "", error,
            }))
            button type="submit" { "Sign in" }
        }
        p { "No account yet? " a href=(link("/sign-up", form.request)) { "Create one" } }
    };
    page(status(error.is_some()), form.leads_to, layout("Sign in", &body))
}

/// What somebody who signs up has typed, without the password, and what is wrong with it.
#[derive(Default)]
pub(crate) struct SignUp<'a> {
    pub(crate) name: &'a str,
    pub(crate) email: &'a str,
    pub(crate) name_error: Option<&'a str>,
    pub(crate) email_error: Option<&'a str>,
    pub(crate) password_error: Option<&'a str>,
}

/// The page that asks for a new account.
pub(crate) fn sign_up(form: &Form<'_>, typed: &SignUp<'_>) -> Response {
    let SignUp { name, email, name_error, email_error, password_error } = *typed;
    let wrong = [name_error, email_error, password_error].iter().any(Option::is_some);
    let body = html! {
        form method="post" action="/sign-up" {
            (hidden(form))
            (field(&Field {
                name: "name", label: "Name", kind: "text", autocomplete: "name", value: name, error: name_error,
            }))
            (field(&Field {
                name: "email", label: "E-mail address", kind: "email", autocomplete: "email", value: email,
                error: email_error,
            }))
            (field(&Field {
                name: "password", label: "Password", kind: "password", autocomplete: "new-password", value: "",
                error: password_error,
            }))
            p.note { "A password has " (MIN_CHARS) " to " (MAX_CHARS) " characters." }
            p.note { "The address counts as verified at once: this provider sends no mail." }
            button type="submit" { "Create account" }
        }
        p { "Have an account? " a href=(link("/sign-in", form.request)) { "Sign in" } }
    };
    page(status(wrong), form.leads_to, layout("Create account", &body))
}

/// The page for who is signed in and came for nothing else. `late`: who came for something that waits no more.
pub(crate) fn signed_in(user: &User, late: bool) -> Response {
    let body = html! {
        p { "You are signed in as " strong { (user.name) } " (" (user.login) ")." }
        @if late {
            p role="alert" { "The application that sent you here waits no more: go back to it and start again." }
        }
        p { a href="/oidc/v1/end_session" { "Sign out" } }
    };
    page(StatusCode::OK, None, layout("Signed in", &body))
}

/// What a sign-out that must be asked for carries along.
pub(crate) struct SignOut<'a> {
    pub(crate) csrf: &'a str,
    pub(crate) client_id: Option<&'a str>,
    pub(crate) leads_to: Option<&'a str>,
    pub(crate) state: Option<&'a str>,
}

/// The page that asks whether to sign out: any site can send a browser here.
pub(crate) fn ask_to_sign_out(user: Option<&User>, asked: &SignOut<'_>) -> Response {
    let carried = [
        ("client_id", asked.client_id),
        ("post_logout_redirect_uri", asked.leads_to),
        ("state", asked.state),
    ];
    let body = html! {
        @if let Some(user) = user {
            p { "You are signed in as " strong { (user.name) } " (" (user.login) ")." }
        }
        form method="post" action="/oidc/v1/end_session" {
            input type="hidden" name="csrf" value=(asked.csrf);
            @for (name, value) in carried {
                @if let Some(value) = value {
                    input type="hidden" name=(name) value=(value);
                }
            }
            button type="submit" { "Sign out" }
        }
    };
    page(StatusCode::OK, asked.leads_to, layout("Sign out?", &body))
}

/// The page after signing out.
pub(crate) fn signed_out() -> Response {
    let body = html! {
        p { "You are signed out." }
        p { a href="/sign-in" { "Sign in again" } }
    };
    page(StatusCode::OK, None, layout("Signed out", &body))
}

pub(crate) async fn stylesheet() -> Response {
    let headers =
        [(header::CONTENT_TYPE, "text/css; charset=utf-8"), (header::CACHE_CONTROL, "public, max-age=3600")];
    (headers, STYLE).into_response()
}

/// Gives an answer the headers that it has not set itself.
pub(crate) async fn harden(State(issuer): State<Arc<Issuer>>, mut response: Response) -> Response {
    let defaults: [(HeaderName, HeaderValue); 5] = [
        (
            header::CONTENT_SECURITY_POLICY,
            HeaderValue::from_static("default-src 'none'; frame-ancestors 'none'; base-uri 'none'"),
        ),
        (header::X_FRAME_OPTIONS, HeaderValue::from_static("DENY")),
        (header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
        (header::REFERRER_POLICY, HeaderValue::from_static("no-referrer")),
        (header::CACHE_CONTROL, HeaderValue::from_static("no-store")),
    ];
    for (name, value) in defaults {
        response.headers_mut().entry(name).or_insert(value);
    }
    if issuer.config.issuer.starts_with("https://") {
        let value = HeaderValue::from_static("max-age=31536000");
        response.headers_mut().insert(header::STRICT_TRANSPORT_SECURITY, value);
    }
    response
}

/// Lets a cookie go along with an answer.
pub(crate) fn set_cookie(response: &mut Response, cookie: Option<HeaderValue>) {
    if let Some(cookie) = cookie {
        response.headers_mut().append(header::SET_COOKIE, cookie);
    }
}

fn status(wrong: bool) -> StatusCode {
    if wrong { StatusCode::UNPROCESSABLE_ENTITY } else { StatusCode::OK }
}

fn page(status: StatusCode, leads_to: Option<&str>, markup: Markup) -> Response {
    // Chromium holds form-action against the redirects behind a form, too: where they lead must be named.
    let target = leads_to.map(|uri| format!(" {}", client::origin(uri))).unwrap_or_default();
    let policy = format!(
        "default-src 'none'; style-src 'self'; form-action 'self'{target}; frame-ancestors 'none'; base-uri 'none'"
    );
    let policy = HeaderValue::try_from(policy);
    let mut response = (status, markup.into_string()).into_response();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8"));
    headers.insert(
        header::CONTENT_SECURITY_POLICY,
        policy.unwrap_or(HeaderValue::from_static("default-src 'none'")),
    );
    // Under no-referrer a browser says "Origin: null" with the page's own forms, which are refused then.
    headers.insert(header::REFERRER_POLICY, HeaderValue::from_static("same-origin"));
    response
}

fn layout(title: &str, body: &Markup) -> Markup {
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                title { (title) " - kombify" }
                link rel="stylesheet" href="/style.css";
            }
            body {
                main {
                    h1 { (title) }
                    (body)
                }
                footer { "Development identity provider: for this machine and for tests." }
            }
        }
    }
}

fn hidden(form: &Form<'_>) -> Markup {
    html! {
        input type="hidden" name="csrf" value=(form.csrf);
        input type="hidden" name="request" value=(form.request);
    }
}

fn field(field: &Field<'_>) -> Markup {
    let Field { name, label, kind, autocomplete, value, error } = *field;
    let error_id = error.map(|_| format!("{name}-error"));
    html! {
        label for=(name) { (label) }
        input id=(name) name=(name) type=(kind) autocomplete=(autocomplete) value=(value) required
            aria-invalid=[error.map(|_| "true")] aria-describedby=[error_id.as_deref()];
        @if let (Some(error), Some(id)) = (error, &error_id) {
            p.error id=(id) role="alert" { (error) }
        }
    }
}

/// A link that keeps the request that waits; it is base64url.
fn link(path: &str, request: &str) -> String {
    if request.is_empty() { path.to_owned() } else { format!("{path}?request={request}") }
}

#[cfg(test)]
mod tests {
    use axum::body;

    use super::*;

    #[tokio::test]
    async fn what_comes_from_outside_is_escaped_and_errors_stand_by_their_field() {
        let form = Form { csrf: "token", request: "", leads_to: Some("http://localhost:3000/auth/callback") };
        let response = sign_in(&form, "\"><script>alert(1)</script>", Some("wrong & sad"));
        assert_eq!(response.status(), StatusCode::UNPROCESSABLE_ENTITY);
        let policy = response.headers()[header::CONTENT_SECURITY_POLICY].to_str().unwrap();
        assert!(policy.contains("; form-action 'self' http://localhost:3000; "), "{policy}");
        let html = body::to_bytes(response.into_body(), usize::MAX).await.unwrap();
        let html = String::from_utf8(html.to_vec()).unwrap();
        assert!(!html.contains("<script"), "{html}");
        assert!(html.contains("aria-describedby=\"password-error\""), "{html}");
        assert!(
            html.contains("<p class=\"error\" id=\"password-error\" role=\"alert\">wrong &amp; sad</p>"),
            "{html}"
        );
        assert!(html.contains("autocomplete=\"current-password\""), "{html}");
    }

    #[tokio::test]
    async fn an_internal_fault_says_nothing_of_the_inside() {
        let response = Fault::from(Error::internal("disk on fire")).into_response();
        assert_eq!(response.status(), StatusCode::INTERNAL_SERVER_ERROR);
        let html = body::to_bytes(response.into_body(), usize::MAX).await.unwrap();
        assert!(!String::from_utf8(html.to_vec()).unwrap().contains("fire"));
    }
}
