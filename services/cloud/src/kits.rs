//! Cloud's pages of the registry: which kits there are, and what one is. A stack is made of one at the tenant's own Stack.

use std::sync::Arc;

use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::http::{Extensions, HeaderMap, StatusCode};
use axum::response::Response;
use kombify_contracts::kombify::kits::v1::kit_service_client::KitServiceClient;
use kombify_contracts::kombify::kits::v1::{GetKitRequest, ListKitsRequest};
use kombify_core::{Error, Result};
use kombify_pages::{layout, page};
use maud::html;
use serde::Deserialize;

use crate::pages::{Fault, for_user, settle};
use crate::portal::Portal;
use crate::session::Session;

/// How many kits the page shows.
const SHOWN: i32 = 100;

/// `GET /kits`.
pub(crate) async fn list(
    State(portal): State<Arc<Portal>>,
    extensions: Extensions,
    headers: HeaderMap,
) -> Result<Response, Fault> {
    let (session, answered) = match Session::read(&portal, &headers).await {
        Ok(session) => {
            let shown = list_page(&portal, &extensions, &headers, &session).await;
            (Some(session), shown)
        }
        Err(fault) => (None, Err(fault)),
    };
    Ok(settle(&portal, session.as_ref(), answered)?)
}

async fn list_page(
    portal: &Portal,
    extensions: &Extensions,
    headers: &HeaderMap,
    session: &Session,
) -> Result<Response> {
    let listed = for_user(extensions, headers, session, async {
        let request = ListKitsRequest { limit: SHOWN, ..ListKitsRequest::default() };
        KitServiceClient::new(portal.kits.clone()).list_kits(request).await
    });
    let body = html! {
        p { a href="/" { "Your homelabs" } }
        (kombify_pages::kits::list(&listed.await?.data))
    };
    Ok(page(StatusCode::OK, layout("StackKits", Some(session.shown_name()), &body)))
}

/// Which kit.
#[derive(Default, Deserialize)]
#[serde(default)]
pub(crate) struct ToShow {
    id: String,
}

/// `GET /kit?id=`.
pub(crate) async fn show(
    State(portal): State<Arc<Portal>>,
    extensions: Extensions,
    headers: HeaderMap,
    wanted: Result<Query<ToShow>, QueryRejection>,
) -> Result<Response, Fault> {
    let Query(ToShow { id }) = wanted.map_err(|_| Error::invalid("id", "must be the id of a kit"))?;
    let (session, answered) = match Session::read(&portal, &headers).await {
        Ok(session) => {
            let shown = kit_page(&portal, &extensions, &headers, &session, id).await;
            (Some(session), shown)
        }
        Err(fault) => (None, Err(fault)),
    };
    Ok(settle(&portal, session.as_ref(), answered)?)
}

async fn kit_page(
    portal: &Portal,
    extensions: &Extensions,
    headers: &HeaderMap,
    session: &Session,
    id: String,
) -> Result<Response> {
    let found = for_user(extensions, headers, session, async {
        KitServiceClient::new(portal.kits.clone()).get_kit(GetKitRequest { id, version: String::new() }).await
    });
    let kit = found.await?.data.unwrap_or_default();
    let body = html! {
        p { a href="/kits" { "All StackKits" } }
        (kombify_pages::kits::one(&kit))
        p { "To use it, open one of " a href="/" { "your tenants" } " and choose it there." }
    };
    Ok(page(StatusCode::OK, layout(&kit.title, Some(session.shown_name()), &body)))
}
