//! The way into a Stack from the API's host: it leads to Cloud, which knows who the browser's user is. Source: contract C6.

use axum::Router;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use serde::Deserialize;

#[derive(Deserialize)]
struct Wanted {
    #[serde(default)]
    tenant: String,
}

/// `GET /kombistack/sso/start?tenant=<slug or id>`.
pub fn router(cloud: String) -> Router {
    Router::new().route("/kombistack/sso/start", get(start)).with_state(cloud)
}

async fn start(State(cloud): State<String>, wanted: Result<Query<Wanted>, QueryRejection>) -> Response {
    let tenant = wanted.map(|Query(wanted)| wanted.tenant).unwrap_or_default();
    // Whether it exists is nothing that this address tells: every well-formed name leads on.
    let location = HeaderValue::try_from(format!("{cloud}/launch?tenant={tenant}"));
    match location.ok().filter(|_| is_name(&tenant)) {
        Some(location) => (StatusCode::SEE_OTHER, [(header::LOCATION, location)]).into_response(),
        None => (StatusCode::BAD_REQUEST, "tenant must be the slug or the id of a tenant\n").into_response(),
    }
}

/// Whether it is a slug or an id, by its letters.
fn is_name(tenant: &str) -> bool {
    (3..=50).contains(&tenant.len())
        && tenant.starts_with(|first: char| first.is_ascii_lowercase())
        && tenant
            .bytes()
            .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"_-".contains(&byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn ask(query: &str) -> (u16, String) {
        let query = Query::try_from_uri(&format!("http://gateway/x{query}").parse().unwrap());
        let answer = start(State("http://localhost:3000".into()), query).await;
        let location = answer.headers().get(header::LOCATION).map(|to| to.to_str().unwrap().to_owned());
        (answer.status().as_u16(), location.unwrap_or_default())
    }

    #[tokio::test]
    async fn every_well_formed_name_leads_to_cloud_and_nothing_else_does() {
        assert_eq!(ask("?tenant=home").await, (303, "http://localhost:3000/launch?tenant=home".into()));
        for wrong in
            ["", "?tenant=", "?tenant=ab", "?tenant=Home", "?tenant=a%20b", "?tenant=a%0d%0ab", "?x=home"]
        {
            assert_eq!(ask(wrong).await, (400, String::new()), "{wrong}");
        }
    }
}
