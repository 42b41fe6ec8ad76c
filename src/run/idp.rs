//! The development identity provider.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use kombify_idp::Idp;
use kombify_mesh::health::DatabaseCheck;
use kombify_mesh::server::Pages;
use tokio::net::TcpListener;
use tonic::service::Routes;

use super::base::Base;
use super::modules::{follow_health, secret_file, serve};
use super::process::{Process, Stage};
use crate::Fault;
use crate::data::Data;

/// The file with the token by which Admin locks users at the development provider.
pub const SERVICE_TOKEN: &str = "join/idp-users.secret";

struct IdpCheck(Idp);

#[async_trait]
impl DatabaseCheck for IdpCheck {
    async fn check(&self) -> kombify_core::Result<()> {
        self.0.check().await
    }
}

/// Opens its database. It knows two clients: the command line and Cloud.
///
/// # Errors
/// - one line that says what is not right with the file, and what to do.
pub fn open(base: &Base, data: &Data) -> Result<Idp, Fault> {
    let cloud = &base.endpoints.cloud;
    let config = kombify_idp::Config {
        issuer: base.endpoints.idp.clone(),
        audience: base.config.oidc.audience.clone(),
        access_token_lifetime: Duration::from_secs(base.config.idp.access_token_seconds),
        refresh_token_lifetime: Duration::from_hours(720),
        session_lifetime: Duration::from_hours(12),
        publish_ahead: Duration::from_secs(base.config.idp.publish_ahead_seconds),
        sign_ins_per_minute: base.config.rates.0.get("sign-in").map_or(u32::MAX, |limit| limit.free),
        default_org: base.config.oidc.default_organisation.clone(),
        service_token: Some(secret_file(&data.file(SERVICE_TOKEN), &*base.ids)?),
        clients: vec![
            kombify_idp::Client {
                id: crate::token::CLIENT.into(),
                redirect_uris: vec![crate::token::REDIRECT.into()],
                post_logout_redirect_uris: Vec::new(),
                backchannel_logout_uri: None,
            },
            kombify_idp::Client {
                id: base.config.oidc.client_id.clone(),
                redirect_uris: vec![format!("{cloud}/callback")],
                post_logout_redirect_uris: vec![format!("{cloud}/")],
                backchannel_logout_uri: Some(format!("{cloud}/backchannel-logout")),
            },
        ],
    };
    Ok(Idp::open(&data.file("idp.db"), config, base.clock(), base.ids())?)
}

/// Starts it.
///
/// # Errors
/// - if it cannot be put together.
pub fn start(
    base: &Base,
    data: &Data,
    idp: &Idp,
    listener: TcpListener,
    process: &mut Process,
) -> Result<(), Fault> {
    let health = base.health().with_database(Arc::new(IdpCheck(idp.clone())), data.dir().to_owned());
    let module = base.module("idp", health);
    let (routes, reporter) = module.routes(&[], Routes::default())?;
    follow_health(&module, reporter, Vec::new(), process);
    let pages = Pages { router: idp.router(), paths: None };
    let app = module.app(Some(pages), module.bounded(routes));
    serve(module, Stage::Rest, listener, app, process);
    let worker = idp.clone();
    process.spawn(Stage::Rest, |cancel| async move { worker.run(cancel).await });
    Ok(())
}
