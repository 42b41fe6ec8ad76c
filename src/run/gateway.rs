//! The embedded gateway.

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use kombify_core::ServiceIdentity;
use kombify_gateway::Gateway;
use kombify_mesh::client::Peer;
use kombify_mesh::identity::keys::{KeySet, KeySource, PublishedKey};
use kombify_mesh::identity::service_token::Signer;
use kombify_mesh::join;
use kombify_mesh::report::NoCounts;
use tokio::net::TcpListener;
use tonic::service::Routes;

use super::base::Base;
use super::modules::{INSTANCE, follow_health, report_health, secret_file, serve};
use super::process::{Process, Stage};
use crate::Fault;
use crate::data::Data;

/// The keys of a module to which no module speaks for itself.
struct NoKeys;

#[async_trait]
impl KeySource for NoKeys {
    async fn fetch(&self) -> kombify_core::Result<Vec<PublishedKey>> {
        Ok(Vec::new())
    }
}

/// Starts it.
///
/// # Errors
/// - if it cannot be put together.
pub fn start(
    base: &Base,
    data: &Data,
    issuer_keys: Arc<KeySet>,
    listener: TcpListener,
    process: &mut Process,
) -> Result<(), Fault> {
    let own = ServiceIdentity { module: "gateway".into(), instance: INSTANCE.into() };
    let signer = Arc::new(Signer::open(&data.file("keys/gateway.pkcs8"), own, base.clock())?);
    let admin = Peer::new("admin", &base.endpoints.admin, Arc::clone(&signer))?;
    let (stranger, secret) = (
        Peer::anonymous(&base.endpoints.admin)?,
        secret_file(&data.file("join/gateway.secret"), &*base.ids)?,
    );
    // It holds nothing that Admin decides: its check is a fence, and whoever stands behind it is the lock.
    process.spawn(Stage::Rest, |cancel| join::register(stranger, signer, secret, String::new(), cancel));
    let no_keys = Arc::new(KeySet::new(NoKeys, base.intervals()));
    let module = base.module("gateway", base.health());
    report_health(base, (module.health.clone(), Arc::new(NoCounts)), admin, None, process);
    let services = kombify_gateway::public_services();
    let (routes, reporter) = module.routes(&services, Routes::default())?;
    follow_health(&module, reporter, services.iter().map(ToString::to_string).collect(), process);
    let gateway = Gateway {
        module: module.clone(),
        config: base.config.gateway.clone(),
        verifier: base.verifier("gateway", issuer_keys, no_keys),
        upstreams: BTreeMap::from([
            ("admin".to_owned(), base.endpoints.admin.clone()),
            ("cloud".to_owned(), base.endpoints.cloud.clone()),
            ("stack".to_owned(), base.endpoints.stack.clone()),
            ("kits".to_owned(), base.endpoints.kits.clone()),
        ]),
        cloud: base.endpoints.cloud.clone(),
    };
    let transcode = base.transcode_methods(kombify_gateway::public_methods())?;
    let app = gateway.app(routes, &transcode)?;
    serve(module, Stage::Gateway, listener, app, process);
    Ok(())
}
