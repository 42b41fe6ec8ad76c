//! Cloud's pages, plain and made here: who you are and your tenants; the way in and out is in `sign_in`.

use std::sync::Arc;

use axum::Router;
use axum::extract::rejection::QueryRejection;
use axum::extract::{DefaultBodyLimit, Form, FromRequest as _, Query, Request, State};
use axum::http::{Extensions, HeaderMap, HeaderValue, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use kombify_contracts::kombify::tenancy::v1::tenant_service_client::TenantServiceClient;
use kombify_contracts::kombify::tenancy::v1::{
    CreateTenantRequest, LaunchTenantRequest, ListTenantsRequest, Tenant,
};
use kombify_contracts::kombify::users::v1::GetUserRequest;
use kombify_contracts::kombify::users::v1::user_service_client::UserServiceClient;
use kombify_core::{Code, Error, Result};
use kombify_mesh::context::Context;
use kombify_mesh::status::to_fault;
use kombify_pages::{alert, beside, fault_page, layout, page, same_origin};
use maud::{Markup, html};
use serde::Deserialize;

use crate::portal::Portal;
use crate::session::Session;
use crate::{backchannel, kits, launch, sign_in};

/// The paths that are pages, exactly.
pub const PAGES: &[&str] = &[
    "/",
    "/backchannel-logout",
    "/callback",
    "/icon.svg",
    "/kit",
    "/kits",
    "/launch",
    "/launch.js",
    "/open",
    "/sign-in",
    "/sign-out",
    "/style.css",
    "/tenants",
];

/// How large a form may be, in bytes.
const FORM_MAX_BYTES: usize = 16 * 1024;

/// How many tenants the page shows.
const SHOWN: i32 = 100;

/// The pages of `portal`.
pub fn pages(portal: Portal) -> Router {
    let portal = Arc::new(portal);
    Router::new()
        .route("/", get(home))
        .route("/sign-in", get(sign_in::sign_in))
        .route("/callback", get(sign_in::callback))
        .route("/sign-out", post(sign_in::sign_out))
        .route("/tenants", get(to_start).post(create_tenant))
        .route("/open", get(open_tenant))
        .route("/kit", get(kits::show))
        .route("/kits", get(kits::list))
        .route("/launch", get(launch::show))
        .route("/launch.js", get(launch::script))
        .route("/backchannel-logout", post(backchannel::logout))
        .route("/icon.svg", get(|| async { kombify_pages::icon() }))
        .route("/style.css", get(|| async { kombify_pages::stylesheet() }))
        .layer(DefaultBodyLimit::max(FORM_MAX_BYTES))
        .layer(middleware::from_fn(count))
        .layer(middleware::map_response_with_state(portal.is_secure(), harden))
        .with_state(portal)
}

/// What a request for a page counts as, by the caller's address. What only shows something is counted where it is asked for, by its user;
/// the identity provider speaks for everybody from one address, and what it did not sign changes nothing.
fn class(path: &str) -> Option<&'static str> {
    match path {
        "/callback" => Some("sign-in"),
        "/launch" | "/open" | "/sign-in" | "/sign-out" | "/tenants" => Some("other"),
        _ => None,
    }
}

/// Counts a request before anything of it is read.
async fn count(request: Request, next: Next) -> Response {
    let counted = class(request.uri().path())
        .map_or(Ok(()), |class| kombify_mesh::pages::count(request.extensions(), class));
    match counted {
        Ok(()) => next.run(request).await,
        Err(fault) => fault_page(&fault),
    }
}

async fn harden(State(secure): State<bool>, response: Response) -> Response {
    kombify_pages::harden(response, secure)
}

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
        fault_page(&self.0)
    }
}

/// Sends the browser on.
pub(crate) fn see_other(to: &str) -> Result<Response> {
    let location = HeaderValue::try_from(to).map_err(Error::internal)?;
    Ok((StatusCode::SEE_OTHER, [(header::LOCATION, location)]).into_response())
}

/// Where only forms lead: whoever comes there otherwise, as by reloading the page that a form left, goes to the start.
async fn to_start() -> Result<Response, Fault> {
    Ok(see_other("/")?)
}

/// The fields of the form for a new tenant.
const FIELDS: [&str; 2] = ["slug", "name"];

/// What they must be, in words.
const SLUG_RULE: &str = "3 to 40 small letters, digits and hyphens; a letter first, no hyphen last";
const NAME_RULE: &str = "1 to 100 characters, not all of them blanks";

/// What the form for a new tenant says.
#[derive(Clone, Default, Deserialize)]
#[serde(default)]
struct NewTenant {
    slug: String,
    name: String,
}

/// `GET /`.
async fn home(
    State(portal): State<Arc<Portal>>,
    extensions: Extensions,
    headers: HeaderMap,
) -> Result<Response, Fault> {
    let (session, answered) = match Session::read(&portal, &headers).await {
        Ok(session) => {
            let typed = NewTenant::default();
            let shown = render(&portal, &extensions, &headers, &session, &typed, None).await;
            (Some(session), shown)
        }
        Err(fault) => (None, Err(fault)),
    };
    Ok(settle(&portal, session.as_ref(), answered)?)
}

/// Whether a fault says that nobody is signed in here, or not any more.
pub(crate) fn is_signed_out(fault: &Error) -> bool {
    matches!(fault.code(), Code::AuthInvalid | Code::AuthRequired)
}

/// Ends an answer: what was renewed is kept; a session that counts no more is forgotten, and the page says why.
pub(crate) fn settle(
    portal: &Portal,
    session: Option<&Session>,
    answered: Result<Response>,
) -> Result<Response> {
    let mut response = match answered {
        Ok(response) => response,
        Err(fault) if is_signed_out(&fault) => {
            let mut response = page(StatusCode::OK, signed_out_page(&fault));
            // What the browser may still have counts no more.
            Session::forget(portal, &mut response)?;
            return Ok(response);
        }
        Err(fault) => fault_page(&fault),
    };
    if let Some(session) = session {
        session.keep_renewed(portal, &mut response)?;
    }
    Ok(response)
}

/// `POST /tenants`.
async fn create_tenant(
    State(portal): State<Arc<Portal>>,
    extensions: Extensions,
    headers: HeaderMap,
    request: Request,
) -> Result<Response, Fault> {
    same_origin(&headers, &portal.origin)?;
    // Read only now: a form of another site is not waited for.
    let form = Form::<NewTenant>::from_request(request, &()).await;
    let Form(typed) = form.map_err(|_| Error::invalid("", "the form cannot be read"))?;
    let (session, answered) = match Session::read(&portal, &headers).await {
        Ok(session) => {
            let created = create(&portal, &extensions, &headers, &session, &typed).await;
            (Some(session), created)
        }
        Err(fault) => (None, Err(fault)),
    };
    Ok(settle(&portal, session.as_ref(), answered)?)
}

async fn create(
    portal: &Portal,
    extensions: &Extensions,
    headers: &HeaderMap,
    session: &Session,
    typed: &NewTenant,
) -> Result<Response> {
    let NewTenant { slug, name } = typed.clone();
    let request = CreateTenantRequest { slug, name, region: String::new() };
    let created = for_user(extensions, headers, session, async {
        TenantServiceClient::new(portal.admin.clone()).create_tenant(request).await
    });
    match created.await {
        Ok(_) => see_other("/"),
        Err(fault)
            if matches!(fault.code(), Code::ValidationFailed | Code::Conflict | Code::ServiceUnavailable) =>
        {
            render(portal, extensions, headers, session, typed, Some(&fault)).await
        }
        Err(fault) => Err(fault),
    }
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct ToOpen {
    tenant: String,
}

/// `GET /open?tenant=`: the browser goes to the tenant's own instance, where the launch begins.
async fn open_tenant(
    State(portal): State<Arc<Portal>>,
    extensions: Extensions,
    headers: HeaderMap,
    wanted: Result<Query<ToOpen>, QueryRejection>,
) -> Result<Response, Fault> {
    let Query(ToOpen { tenant }) =
        wanted.map_err(|_| Error::invalid("tenant", "must be the slug of a tenant"))?;
    let (session, answered) = match Session::read(&portal, &headers).await {
        Ok(session) => {
            let launched = launch_url(&portal, &extensions, &headers, &session, tenant).await;
            (Some(session), launched.and_then(|url| see_other(&url)))
        }
        Err(fault) => (None, Err(fault)),
    };
    Ok(settle(&portal, session.as_ref(), answered)?)
}

/// Where a tenant is opened, as Admin says.
pub(crate) async fn launch_url(
    portal: &Portal,
    extensions: &Extensions,
    headers: &HeaderMap,
    session: &Session,
    tenant: String,
) -> Result<String> {
    let launched = for_user(extensions, headers, session, async {
        TenantServiceClient::new(portal.admin.clone()).launch_tenant(LaunchTenantRequest { tenant }).await
    });
    Ok(launched.await?.data.unwrap_or_default().redirect_url)
}

/// Makes a call at another module in the name of the session's user.
pub(crate) async fn for_user<T>(
    extensions: &Extensions,
    headers: &HeaderMap,
    session: &Session,
    call: impl Future<Output = Result<tonic::Response<T>, tonic::Status>>,
) -> Result<T> {
    let context = Context::of_page(extensions, headers, Some(&session.tokens.access));
    context.scope(call).await.map(tonic::Response::into_inner).map_err(|status| to_fault(&status))
}

async fn render(
    portal: &Portal,
    extensions: &Extensions,
    headers: &HeaderMap,
    session: &Session,
    typed: &NewTenant,
    fault: Option<&Error>,
) -> Result<Response> {
    let listed = for_user(extensions, headers, session, async {
        let request = ListTenantsRequest { limit: SHOWN, cursor: String::new() };
        TenantServiceClient::new(portal.admin.clone()).list_tenants(request).await
    });
    let tenants = listed.await?.data;
    let name = own_name(portal, extensions, headers, session).await;
    let status = fault.map_or(StatusCode::OK, |fault| {
        StatusCode::from_u16(fault.code().http()).unwrap_or(StatusCode::BAD_REQUEST)
    });
    let mut response = page(status, home_page(session, &name, &tenants, typed, fault));
    // Signing out leads to the provider.
    let provider =
        reqwest::Url::parse(&portal.issuer).map_err(Error::internal)?.origin().ascii_serialization();
    let policy = kombify_pages::policy(&format!("'self' {provider}"), false)?;
    response.headers_mut().insert(header::CONTENT_SECURITY_POLICY, policy);
    Ok(response)
}

/// What the user wants to be called. What the provider says is the next best, where Admin does not tell.
async fn own_name(
    portal: &Portal,
    extensions: &Extensions,
    headers: &HeaderMap,
    session: &Session,
) -> String {
    let asked = for_user(extensions, headers, session, async {
        let request = GetUserRequest { sub: session.sub.clone() };
        UserServiceClient::new(portal.admin.clone()).get_user(request).await
    });
    let user = asked.await.ok().and_then(|answer| answer.data).unwrap_or_default();
    if user.display_name.is_empty() { session.shown_name().to_owned() } else { user.display_name }
}

/// The page for whoever is not signed in; the fault says why somebody is not any more.
fn signed_out_page(fault: &Error) -> Markup {
    let body = html! {
        @if fault.code() == Code::AuthInvalid {
            (alert(fault))
        }
        p { "Run your homelab: sign in to see your tenants." }
        p { a href="/sign-in" { "Sign in" } }
    };
    layout("Your homelabs", None, &body)
}

fn home_page(
    session: &Session,
    name: &str,
    tenants: &[Tenant],
    typed: &NewTenant,
    fault: Option<&Error>,
) -> Markup {
    let wrong = fault.map(|fault| fault.details().fields).unwrap_or_default();
    let body = html! {
        p { "You are " strong { (name) } @if !session.email.is_empty() { " (" (session.email) ")" } "." }
        h2 { "Tenants" }
        @if tenants.is_empty() {
            p { "You are a member of no tenant yet." }
        } @else {
            table id="tenants" {
                thead { tr { th { "Name" } th { "Slug" } th.wide { "Plan" } th { "Status" } th { "" } } }
                tbody { @for tenant in tenants { (row(tenant)) } }
            }
        }
        form method="post" action="/tenants" {
            h3 { "Create a tenant" }
            @if let Some(fault) = fault && !FIELDS.iter().any(|field| wrong.contains_key(*field)) {
                (alert(fault))
            }
            label for="slug" { "Slug" }
            input id="slug" name="slug" value=(typed.slug) required minlength="3" maxlength="40" autocomplete="off"
                aria-describedby="slug-says" aria-invalid=[wrong.contains_key("slug").then_some("true")];
            (beside("slug", &wrong, SLUG_RULE))
            p.note { (SLUG_RULE) "." }
            label for="name" { "Name" }
            input id="name" name="name" value=(typed.name) required maxlength="100" autocomplete="off"
                aria-describedby="name-says" aria-invalid=[wrong.contains_key("name").then_some("true")];
            (beside("name", &wrong, NAME_RULE))
            button type="submit" { "Create tenant" }
        }
        p { a href="/kits" { "StackKits" } " are what stacks are made of." }
        (kombify_pages::sign_out())
    };
    layout("Your homelabs", Some(name), &body)
}

fn row(tenant: &Tenant) -> Markup {
    html! {
        tr {
            td { (tenant.name) }
            td { (tenant.slug) }
            td.wide { (tenant.plan) }
            td { (tenant.status) }
            td {
                @if tenant.status == "active" {
                    // A link and no form: where a form may lead is in the page's policy.
                    a href=(format!("/open?tenant={}", tenant.slug)) aria-label=(format!("Open {}", tenant.slug)) {
                        "Open"
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_page_that_asks_others_is_counted() {
        let limits = kombify_mesh::rate::RateLimits::default();
        for path in PAGES {
            let uncounted = matches!(
                *path,
                "/" | "/backchannel-logout" | "/icon.svg" | "/kit" | "/kits" | "/launch.js" | "/style.css"
            );
            assert_eq!(class(path).is_none(), uncounted, "{path}");
            assert!(class(path).is_none_or(|class| limits.0.contains_key(class)), "{path}");
        }
    }
}
