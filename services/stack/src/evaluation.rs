//! Feature flags and entitlements for the callers of a tenant: what Admin pushed last, evaluated here. Source: contract C5.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use kombify_contracts::kombify::stack::v1::evaluation_service_server::EvaluationService;
use kombify_contracts::kombify::stack::v1::{
    Entitlements, EvaluateFlagsRequest, EvaluateFlagsResponse, Evaluation as EvaluationMessage, Evaluations,
    GetEntitlementsRequest, GetEntitlementsResponse,
};
use kombify_core::host::{HeldSet, HostStore};
use kombify_core::{Error, Plan, PlanGrant, Result, TenantScope};
use kombify_flags::{Context, Evaluation, FlagSet};
use kombify_mesh::{Opened, OrStatus as _, open_tenant};
use tonic::{Request, Response, Status};

use crate::{Host, convert};

/// When to try again where no set was pushed yet.
const PUSHED_SOON: Duration = Duration::from_secs(2);

/// The service.
pub struct Evaluator {
    host: Host,
    /// The set that was parsed last, and its version: it is parsed once.
    parsed: Mutex<Option<(u32, Arc<FlagSet>)>>,
}

impl Evaluator {
    /// The service, on a host.
    pub fn new(host: &Host) -> Self {
        Self { host: host.clone(), parsed: Mutex::default() }
    }

    async fn held(&self) -> Result<HeldSet> {
        let held = HostStore::held_flags(&*self.host.keep).await?;
        held.ok_or_else(|| Error::unavailable("the flags were not pushed to this instance yet", PUSHED_SOON))
    }

    fn parsed(&self, held: &HeldSet) -> Result<Arc<FlagSet>> {
        let mut parsed = self.parsed.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((version, set)) = &*parsed
            && *version == held.flags.version
        {
            return Ok(Arc::clone(set));
        }
        let set = Arc::new(FlagSet::parse(&held.flags.definitions)?);
        *parsed = Some((held.flags.version, Arc::clone(&set)));
        Ok(set)
    }

    async fn evaluate(
        &self,
        scope: TenantScope,
        opened: Opened<EvaluateFlagsRequest>,
    ) -> Result<Evaluations> {
        let user = opened.user()?.clone();
        let (held, tenant) = (self.held().await?, self.host.tenant(scope).await?);
        let now = self.host.clock.now();
        let context = Context {
            targeting_key: user.sub.to_string(),
            plan: PlanGrant::plan_at(tenant.grant.as_ref(), now).to_string(),
            org_id: tenant.owner.to_string(),
            roles: user.roles.iter().cloned().collect(),
            tenant_id: tenant.id.to_string(),
        };
        let overrides = match held.flags.overrides.get(&user.sub) {
            Some(overrides) => serde_json::from_str(overrides).map_err(Error::internal)?,
            None => std::collections::BTreeMap::default(),
        };
        let set = self.parsed(&held)?;
        let flags = if opened.message.keys.is_empty() {
            set.evaluate_all(&context, &overrides, now)
        } else {
            opened.message.keys.iter().map(|key| set.evaluate(key, &context, &overrides, now)).collect()
        };
        let version = convert::number(held.flags.version);
        Ok(Evaluations {
            flags: flags.into_iter().map(|evaluation| message(evaluation, version)).collect(),
            version,
            apply_time: Some(convert::time(held.apply_time)),
        })
    }

    async fn entitlements(&self, scope: TenantScope) -> Result<Entitlements> {
        let (held, tenant) = (self.held().await?, self.host.tenant(scope).await?);
        let plan: Plan = PlanGrant::plan_at(tenant.grant.as_ref(), self.host.clock.now());
        let mut entitlements = held.flags.plans.get(&plan).cloned().unwrap_or_default();
        entitlements.extend(held.flags.organisations.get(&tenant.owner).cloned().unwrap_or_default());
        Ok(Entitlements {
            plan: plan.to_string(),
            entitlements: entitlements.into_iter().collect(),
            version: convert::number(held.flags.version),
            apply_time: Some(convert::time(held.apply_time)),
        })
    }
}

fn message(evaluation: Evaluation, version: i32) -> EvaluationMessage {
    let Evaluation { key, value, variant, reason, error_code } = evaluation;
    EvaluationMessage {
        key,
        value_json: value.to_string(),
        variant,
        reason: reason.as_str().to_owned(),
        version,
        error_code: error_code.map(|code| code.as_str().to_owned()).unwrap_or_default(),
    }
}

#[tonic::async_trait]
impl EvaluationService for Evaluator {
    async fn evaluate_flags(
        &self,
        request: Request<EvaluateFlagsRequest>,
    ) -> Result<Response<EvaluateFlagsResponse>, Status> {
        let (scope, opened) = open_tenant(request).or_status()?;
        let flags = self.evaluate(scope, opened).await.or_status()?;
        Ok(Response::new(EvaluateFlagsResponse { data: Some(flags) }))
    }

    async fn get_entitlements(
        &self,
        request: Request<GetEntitlementsRequest>,
    ) -> Result<Response<GetEntitlementsResponse>, Status> {
        let (scope, _) = open_tenant(request).or_status()?;
        let entitlements = self.entitlements(scope).await.or_status()?;
        Ok(Response::new(GetEntitlementsResponse { data: Some(entitlements) }))
    }
}
