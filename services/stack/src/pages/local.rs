//! Signing in where a Stack stands alone: by a local account, made with an invitation's code.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::{Extensions, HeaderMap, StatusCode};
use axum::response::Response;
use kombify_contracts::kombify::stack::v1::account_service_client::AccountServiceClient;
use kombify_contracts::kombify::stack::v1::{CreateAccountRequest, Session, SignInRequest};
use kombify_core::{Code, Error, Result};
use kombify_pages::cookies::SameSite;
use kombify_pages::page;
use maud::{Markup, html};
use serde::Deserialize;

use super::calls::{Calls, answer};
use super::{Fault, Portal, form, see_other};
use crate::Entrance;

/// How long the session's cookie is kept, in seconds: as long as the session.
const SESSION_SECONDS: u64 = 12 * 3600;

#[derive(Default, Deserialize)]
#[serde(default)]
pub(super) struct SignIn {
    login: String,
    password: String,
}

#[derive(Default, Deserialize)]
#[serde(default)]
pub(super) struct Join {
    code: String,
    login: String,
    name: String,
    password: String,
}

/// `GET /sign-in`.
pub(super) async fn show_sign_in(State(portal): State<Arc<Portal>>) -> Result<Response, Fault> {
    elsewhere(&portal)?;
    Ok(page(StatusCode::OK, sign_in_page("", None)))
}

/// `POST /sign-in`.
pub(super) async fn sign_in(
    State(portal): State<Arc<Portal>>,
    extensions: Extensions,
    headers: HeaderMap,
    request: Request,
) -> Result<Response, Fault> {
    elsewhere(&portal)?;
    portal.check_origin(&headers)?;
    let typed = form::<SignIn>(request).await;
    let SignIn { login, password } = typed.map_err(|_| Error::invalid("", "the form cannot be read"))?;
    let calls = Calls::new(portal.calls.clone(), &extensions, &headers, None);
    let request = SignInRequest { login: login.clone(), password };
    match answer(AccountServiceClient::new(calls).sign_in(request).await) {
        Ok(signed_in) => Ok(enter(&portal, &signed_in.data.unwrap_or_default())?),
        Err(fault) if matches!(fault.code(), Code::AuthInvalid | Code::ValidationFailed) => {
            Ok(page(status(&fault), sign_in_page(&login, Some(&fault))))
        }
        Err(fault) => Err(fault.into()),
    }
}

/// `GET /join`.
pub(super) async fn show_join(State(portal): State<Arc<Portal>>) -> Result<Response, Fault> {
    elsewhere(&portal)?;
    Ok(page(StatusCode::OK, join_page(&Join::default(), None)))
}

/// `POST /join`.
pub(super) async fn join(
    State(portal): State<Arc<Portal>>,
    extensions: Extensions,
    headers: HeaderMap,
    request: Request,
) -> Result<Response, Fault> {
    elsewhere(&portal)?;
    portal.check_origin(&headers)?;
    let typed = form::<Join>(request).await;
    let typed = typed.map_err(|_| Error::invalid("", "the form cannot be read"))?;
    let calls = Calls::new(portal.calls.clone(), &extensions, &headers, None);
    let request = CreateAccountRequest {
        code: typed.code.trim().to_owned(),
        login: typed.login.clone(),
        name: typed.name.clone(),
        password: typed.password.clone(),
    };
    match answer(AccountServiceClient::new(calls).create_account(request).await) {
        Ok(created) => Ok(enter(&portal, &created.data.unwrap_or_default())?),
        Err(fault) if fault.code().http() < 500 => Ok(page(status(&fault), join_page(&typed, Some(&fault)))),
        Err(fault) => Err(fault.into()),
    }
}

/// In every other mode people sign in at the identity provider.
fn elsewhere(portal: &Portal) -> Result<()> {
    match portal.host.entrance {
        Entrance::Alone => Ok(()),
        Entrance::Platform { .. } => Err(Error::not_found("page", "of local accounts")),
    }
}

fn enter(portal: &Portal, session: &Session) -> Result<Response> {
    let mut response = see_other("/")?;
    let cookie = &portal.session_cookie;
    portal.set_cookie(&mut response, cookie, &session.token, SESSION_SECONDS, SameSite::Lax)?;
    Ok(response)
}

fn status(fault: &Error) -> StatusCode {
    StatusCode::from_u16(fault.code().http()).unwrap_or(StatusCode::BAD_REQUEST)
}

fn alert(fault: Option<&Error>) -> Markup {
    html! {
        @if let Some(fault) = fault {
            p role="alert" data-code=(fault.code().as_str()) { (fault) }
        }
    }
}

fn field(id: &str, label: &str, kind: &str, autocomplete: &str, value: &str) -> Markup {
    html! {
        label for=(id) { (label) }
        input id=(id) name=(id) type=(kind) autocomplete=(autocomplete) value=(value) required;
    }
}

fn sign_in_page(login: &str, fault: Option<&Error>) -> Markup {
    let body = html! {
        form method="post" action="/sign-in" {
            (alert(fault))
            (field("login", "Login", "text", "username", login))
            (field("password", "Password", "password", "current-password", ""))
            button type="submit" { "Sign in" }
        }
        p { "Invited? " a href="/join" { "Create an account" } }
    };
    kombify_pages::layout("Sign in", None, &body)
}

fn join_page(typed: &Join, fault: Option<&Error>) -> Markup {
    let body = html! {
        form method="post" action="/join" {
            (alert(fault))
            (field("code", "Invitation code", "text", "off", &typed.code))
            (field("login", "Login", "text", "username", &typed.login))
            (field("name", "Name", "text", "name", &typed.name))
            (field("password", "Password", "password", "new-password", ""))
            p.note { "A password has at least 10 characters." }
            button type="submit" { "Create account" }
        }
    };
    kombify_pages::layout("Create an account", None, &body)
}
