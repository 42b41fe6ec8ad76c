//! Access: the contract's rule of a method, held against its caller; and [`open`], the second half of it.

use std::sync::Arc;

use aws_lc_rs::digest;
use http::{Request, Response};
use kombify_contracts::Method;
use kombify_contracts::kombify::contract::v1::{Access, Door, TenantRole as ContractRole};
use kombify_core::wire::{IDEMPOTENCY_KEY, RpcPath, TENANT_ID};
use kombify_core::{
    Actor, Caller, Change, Clock, Error, Idempotency, Result, TenantRole, TenantScope, UserIdentity,
};
use tonic::body::Body;

use crate::context::Context;
use crate::room::{Inner, Room, forward};
use crate::status::refuse;

/// Methods of others, which everybody may call: they carry no options of ours.
const OF_OTHERS: [&str; 3] = [
    "/grpc.health.v1.Health/",
    "/grpc.reflection.v1.ServerReflection/",
    "/grpc.reflection.v1alpha.ServerReflection/",
];

/// What access granted: the caller, the method, and what the headers promise. A request extension.
#[derive(Clone, Debug)]
pub struct Grant {
    caller: Arc<Caller>,
    method: &'static Method,
    context: Context,
    tenant: Option<String>,
    idempotency_key: Option<String>,
    time: jiff::Timestamp,
}

/// A response extension: the refusal came from access itself, not from the service behind it.
#[derive(Clone, Copy, Debug)]
pub struct RefusedAtDoor;

/// The room that holds the contract's rule against the caller.
#[derive(Clone)]
pub struct Enforce {
    /// The process's clock.
    pub clock: Arc<dyn Clock>,
}

/// Decides whether `caller` may knock at the door that `access` names.
///
/// # Errors
/// - [`Error::AuthRequired`] if the door needs somebody, and nobody is known.
/// - [`Error::AuthInsufficient`] if the door is not for this caller.
pub fn decide(access: &Access, caller: &Caller) -> Result<()> {
    let refused = |message: &str| Err(Error::AuthInsufficient(message.to_owned()));
    match access.door() {
        Door::Public => Ok(()),
        Door::Unspecified => refused("the method has no door"),
        Door::User | Door::Tenant => match (caller.user(), caller.service()) {
            (Some(_), _) => Ok(()),
            (None, Some(_)) => {
                refused("this method is for users: send the user's token beside the service's")
            }
            (None, None) => Err(Error::AuthRequired),
        },
        Door::Platform => match (caller.user(), caller.service()) {
            (Some(user), None) if access.platform_roles.iter().any(|role| user.roles.contains(role)) => {
                Ok(())
            }
            (Some(_), None) => refused("this method is for the platform's own people"),
            (_, Some(_)) => refused("this method is for people who call themselves"),
            (None, None) => Err(Error::AuthRequired),
        },
        Door::Service => match (caller.user(), caller.service()) {
            (None, Some(service)) if access.services.contains(&service.module) => Ok(()),
            (None, Some(_)) => refused("this method is for other modules"),
            (Some(_), _) => refused("this method is for modules that act for themselves"),
            (None, None) => Err(Error::AuthRequired),
        },
    }
}

impl Enforce {
    fn grant(&self, request: &Request<Body>, method: &'static Method) -> Result<Grant> {
        let missing = || Error::internal("a request without a caller: the identity room is missing");
        let caller = request.extensions().get::<Arc<Caller>>().cloned().ok_or_else(missing)?;
        let context = request.extensions().get::<Context>().cloned().ok_or_else(missing)?;
        let access = method.access.as_ref().ok_or_else(|| Error::internal("a method without access"))?;
        decide(access, &caller)?;
        let header = |name: &'static str| {
            let mut values = request.headers().get_all(name).iter();
            match (values.next(), values.next()) {
                (None, _) => Ok(None),
                (Some(value), None) => {
                    match value.to_str().ok().filter(|text| (1..=128).contains(&text.len())) {
                        Some(text) => Ok(Some(text.to_owned())),
                        None => Err(Error::invalid(name, "must be 1 to 128 visible characters")),
                    }
                }
                (Some(_), Some(_)) => Err(Error::invalid(name, "must be given once")),
            }
        };
        let idempotency_key = if access.idempotency_key { header(IDEMPOTENCY_KEY)? } else { None };
        Ok(Grant {
            caller,
            method,
            context,
            tenant: header(TENANT_ID)?,
            idempotency_key,
            time: self.clock.now(),
        })
    }
}

impl Room for Enforce {
    async fn pass(&self, mut request: Request<Body>, inner: impl Inner) -> Response<Body> {
        let path = request.uri().path();
        let Some(method) = kombify_contracts::method(path) else {
            if OF_OTHERS.iter().any(|prefix| path.starts_with(prefix)) {
                return forward(inner, request).await;
            }
            return refuse(&Error::NotImplemented(path.to_owned()));
        };
        let mut response = match self.grant(&request, method) {
            Ok(grant) => {
                request.extensions_mut().insert(grant);
                forward(inner, request).await
            }
            Err(fault) => {
                let mut response = refuse(&fault);
                response.extensions_mut().insert(RefusedAtDoor);
                response
            }
        };
        response.extensions_mut().insert(RpcPath(&method.path));
        response
    }
}

/// A request that access let in: who, the change that it makes, and the message.
#[derive(Debug)]
pub struct Opened<R> {
    /// Who calls.
    pub caller: Arc<Caller>,
    /// What every write carries.
    pub change: Change,
    /// The tenant that `X-Tenant-ID` names.
    pub tenant_header: Option<String>,
    /// The message.
    pub message: R,
}

impl<R> Opened<R> {
    /// The user who calls: there is one behind every door for users.
    ///
    /// # Errors
    /// - [`Error::AuthRequired`] if there is none.
    pub fn user(&self) -> Result<&UserIdentity> {
        self.caller.user().ok_or(Error::AuthRequired)
    }
}

/// Opens a request of a service method.
///
/// # Errors
/// - [`Error::Internal`] if the request came past the access room.
pub fn open<R: prost::Message>(request: tonic::Request<R>) -> Result<Opened<R>> {
    let (_, mut extensions, message) = request.into_parts();
    let missing = || Error::internal("a request came past the access room");
    let Grant { caller, method, context, tenant, idempotency_key, time } =
        extensions.remove().ok_or_else(missing)?;
    let idempotency = idempotency_key.map(|key| {
        let digest = digest::digest(&digest::SHA256, &message.encode_to_vec());
        let mut bytes = [0; 32];
        bytes.copy_from_slice(digest.as_ref());
        Idempotency { key, method: method.path.clone(), tenant: None, digest: bytes }
    });
    let change = Change {
        actor: Actor::of(&caller),
        action: method.access.as_ref().map_or("", |access| access.audit.as_str()),
        request_id: context.request_id,
        idempotency,
        ip: context.ip,
        user_agent: context.user_agent,
        time,
    };
    Ok(Opened { caller, change, tenant_header: tenant, message })
}

/// Opens a request of a method for tenants: the tenant is what the request's field names, else the header, else the
/// caller's only one; and the caller has the role there that the contract asks.
///
/// # Errors
/// - [`Error::Invalid`] if the field and the header differ, or if neither names a tenant and the caller has several.
/// - [`Error::NotFound`] if the caller is no member.
/// - [`Error::AuthInsufficient`] if the caller's role is too small.
pub fn open_tenant<R: prost::Message + kombify_contracts::Request>(
    request: tonic::Request<R>,
) -> Result<(TenantScope, Opened<R>)> {
    let method = request.extensions().get::<Grant>().map(|grant| grant.method);
    let needed = match method.and_then(|method| method.access.as_ref()).map(Access::tenant_role) {
        Some(ContractRole::Viewer) => TenantRole::Viewer,
        Some(ContractRole::Member) => TenantRole::Member,
        Some(ContractRole::Admin) => TenantRole::Admin,
        Some(ContractRole::Unspecified) | None => {
            return Err(Error::internal("a tenant's method without a role"));
        }
    };
    let entered = request.extensions().get::<Grant>().map(|grant| Arc::clone(&grant.context.entered));
    let mut opened = open(request)?;
    let (field, header) = (opened.message.tenant(), opened.tenant_header.as_deref());
    let memberships = opened.caller.memberships();
    let named = match (field.filter(|field| !field.is_empty()), header) {
        (Some(field), Some(header)) => {
            let same = field == header
                || matches!((memberships.find(field), memberships.find(header)), (Some(a), Some(b)) if a == b);
            if !same {
                return Err(Error::invalid(TENANT_ID, "names another tenant than the request"));
            }
            field.to_owned()
        }
        (Some(one), None) | (None, Some(one)) => one.to_owned(),
        (None, None) => match memberships.only() {
            Some(only) => only.slug.clone(),
            None => {
                return Err(Error::invalid(
                    TENANT_ID,
                    "must name a tenant: you are not a member of exactly one",
                ));
            }
        },
    };
    if let (Some(entered), Some(membership)) = (entered, memberships.find(&named)) {
        let _ = entered.set(membership.tenant); // A request is opened once.
    }
    let scope = opened.caller.enter(&named, needed)?;
    if let Some(idempotency) = &mut opened.change.idempotency {
        idempotency.tenant = Some(scope.tenant());
    }
    Ok((scope, opened))
}
