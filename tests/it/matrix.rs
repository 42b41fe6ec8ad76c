//! The authority matrix: every method against every kind of caller, by calling the rooms and the services behind them.
//!
//! The picture is kept in `authority_matrix.txt`; `UPDATE_GOLDEN=1` paints it anew, and the diff is for the reviewer.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::Request;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use kombify_admin::{Platform, PlatformDirectory, ProviderUsers, StoredKeys};
use kombify_contracts::Method;
use kombify_contracts::kombify::kits::v1::{Kit, KitSummary};
use kombify_core::directory::{Directory, Standing, TokenOnly};
use kombify_core::health::{ComponentState, Components, HealthReport, HealthStore, Metrics, Reported};
use kombify_core::host::HostStore;
use kombify_core::instance::{InstanceMode, InstanceStore, NewInstance};
use kombify_core::member::{AcceptBy, INVITATION_LIFETIME, Joining, MemberStore, NewInvitation};
use kombify_core::mesh_key::{MeshKey, MeshKeyStore};
use kombify_core::placed::{
    Basis, Founder, PlacedHome, PlacedOrganisation, PlacedStatus, PlacedTenant, Push, RevocationPush,
    TenantPush,
};
use kombify_core::stack::{NewStack, PinnedKit, StackStore};
use kombify_core::tenant::{NewTenant, TenantStore};
use kombify_core::user::{Sighting, UserStore};
use kombify_core::{
    Change, Clock, Ids, InstanceId, InvitationId, Membership, Memberships, OrgId, PlatformStore, Result,
    ServiceIdentity, StackId, TenantId, TenantRole, TenantScope, TenantStanding, UserIdentity,
};
use kombify_kits::{Kits, Place, Reach, Registry, RegistryConfig, Source};
use kombify_mesh::audit::{self, Scope};
use kombify_mesh::client::Peer;
use kombify_mesh::health::Health;
use kombify_mesh::identity::claims::ClaimNames;
use kombify_mesh::identity::issuer::Issuer;
use kombify_mesh::identity::keys::{Intervals, KeySet, KeySource, PublishedKey};
use kombify_mesh::identity::service_token::{Signer, ephemeral};
use kombify_mesh::identity::verifier::{Accepts, Verifier};
use kombify_mesh::pushed::Organisations;
use kombify_mesh::rate::{RateLimiter, RateLimits};
use kombify_mesh::server::{App, Guard, Module, ServerConfig};
use kombify_mesh::system::{SystemClock, SystemIds};
use kombify_platform_sqlite::PlatformSqlite;
use kombify_stack::{Entrance, Host, HostDirectory, KitRegistry};
use kombify_stack_sqlite::StackSqlite;
use prost::Message as _;
use serde_json::json;
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tonic::body::Body;
use tonic::service::Routes;
use tower::ServiceExt as _;

const ISSUER: &str = "http://127.0.0.1:9";
const PLATFORM_ORG: &str = "platform";

/// The kinds of callers, in the order of the columns.
const CALLERS: [&str; 12] = [
    "anonymous",
    "user",
    "viewer",
    "member",
    "admin",
    "other-tenant",
    "platform-admin",
    "service",
    "service+user",
    "wrong-service",
    "wrong-service+user",
    "two-credentials",
];

/// A right request of every method, as JSON. A method without one fails the test.
#[expect(clippy::too_many_lines, reason = "one arm for each method")]
fn sample(method: &str, house: &House) -> serde_json::Value {
    let (instance, tenant) = (house.instance.to_string(), house.tenant.to_string());
    let service = house.signers["cloud"].service().clone();
    let public_key = house.signers["cloud"].public().public_key;
    match method {
        "/kombify.audit.v1.AuditService/ListEvents"
        | "/kombify.cloud.v1.ProfileService/GetProfile"
        | "/kombify.flags.v1.FlagService/ListEntitlements"
        | "/kombify.kits.v1.KitService/ListKits"
        | "/kombify.flags.v1.FlagService/ListFlagChanges"
        | "/kombify.flags.v1.FlagService/ListFlags"
        | "/kombify.health.v1.HealthService/ListStatus"
        | "/kombify.identity.v1.IdentityService/WhoAmI"
        | "/kombify.mesh.v1.KeyService/ListKeys"
        | "/kombify.stack.v1.ActivityService/ListActivity"
        | "/kombify.stack.v1.EvaluationService/EvaluateFlags"
        | "/kombify.stack.v1.EvaluationService/GetEntitlements"
        | "/kombify.stack.v1.MemberService/ListInvitations"
        | "/kombify.stack.v1.MemberService/ListMembers"
        // The only admin cannot leave: whoever may, is told so.
        | "/kombify.stack.v1.MemberService/LeaveTenant"
        | "/kombify.stack.v1.StackService/ListStacks"
        | "/kombify.tenancy.v1.InstanceService/ListInstances"
        | "/kombify.tenancy.v1.TenantService/ListAllTenants"
        | "/kombify.tenancy.v1.TenantService/ListTenants"
        | "/kombify.users.v1.UserService/ListUsers" => json!({}),
        "/kombify.audit.v1.AuditService/ReportRefusals" => json!({"refusals": [{
            "createTime": "2026-01-01T00:00:00Z", "actor": {"sub": "admin"}, "action": "access.refused",
            "requestId": "req_1",
        }]}),
        "/kombify.cloud.v1.ProfileService/UpdateProfile" => json!({"update": {"displayName": "New"}}),
        "/kombify.mesh.v1.KeyService/RegisterKey" => json!({
            "module": service.module, "instance": service.instance, "publicKey": public_key,
            "joinSecret": "0123456789012345678901234567890123456789",
            "proof": house.signers["cloud"].prove(&service, &public_key),
        }),
        "/kombify.flags.v1.FlagService/GetFlag" | "/kombify.flags.v1.FlagService/DeleteFlag" => {
            json!({"key": "new-ui"})
        }
        "/kombify.flags.v1.FlagService/SetFlag" => json!({"key": "new-ui", "flag": {
            "definitionJson": FLAG, "reason": "test",
        }}),
        "/kombify.flags.v1.FlagService/SetOverrides" => {
            json!({"sub": "admin", "overrides": {"flagsJson": "{\"new-ui\":true}", "reason": "test"}})
        }
        "/kombify.flags.v1.FlagService/SetEntitlements" => {
            json!({"owner": "pro", "entitlements": {"entitlements": ["custom-domains"], "reason": "test"}})
        }
        "/kombify.flags.v1.FlagSyncService/ApplyFlags" => {
            json!({"version": 9, "definitionsJson": "{\"flags\":{}}"})
        }
        "/kombify.health.v1.HealthService/ReportHealth" => json!({
            "bootId": "boot", "sequence": 1, "reportTime": "2026-01-01T00:00:00Z", "status": "healthy",
            "components": {"database": "ok", "api": "ok", "agents": "ok"}, "metrics": {},
        }),
        "/kombify.identity.v1.RevocationService/RevokeSessions" => {
            json!({"sub": "other", "revokeTime": "2020-01-01T00:00:00Z"})
        }
        "/kombify.identity.v1.RevocationSyncService/ApplyRevocations"
        | "/kombify.tenancy.v1.OrganisationSyncService/ApplyOrganisations"
        | "/kombify.tenancy.v1.TenantSyncService/ApplyTenants" => {
            json!({"version": 9, "page": 1, "lastPage": true})
        }
        // Nobody has such a code: whoever may, is told that.
        "/kombify.sso.v1.LaunchService/RedeemLaunchCode"
        | "/kombify.sso.v1.SsoService/ExchangeCode"
        | "/kombify.stack.v1.MemberService/AcceptInvitation" => json!({"code": CODE}),
        "/kombify.stack.v1.AccountService/SignIn" => json!({"login": "admin", "password": "wrong"}),
        "/kombify.stack.v1.AccountService/SignOut" => json!({"token": format!("ses_{CODE}")}),
        "/kombify.stack.v1.AccountService/CreateAccount" => {
            json!({"code": CODE, "login": "new", "name": "New", "password": "long enough"})
        }
        "/kombify.stack.v1.AccountService/ChangePassword" => {
            json!({"password": "wrong", "newPassword": "long enough"})
        }
        "/kombify.stack.v1.MemberService/CreateInvitation" => json!({"email": "new@example.com", "role": "viewer"}),
        "/kombify.stack.v1.MemberService/WithdrawInvitation" => json!({"id": house.invitation.to_string()}),
        "/kombify.stack.v1.MemberService/UpdateMember" => json!({"sub": "viewer", "update": {"role": "member"}}),
        "/kombify.stack.v1.MemberService/RemoveMember" => json!({"sub": "viewer"}),
        "/kombify.stack.v1.StackService/CreateStack" => json!({"name": "new"}),
        "/kombify.stack.v1.StackService/GetStack" | "/kombify.stack.v1.StackService/DeleteStack" => {
            json!({"id": house.stack_id.to_string()})
        }
        "/kombify.stack.v1.StackService/UpdateStack" => json!({"id": house.stack_id.to_string(), "update": {"name": "renamed"}}),
        "/kombify.tenancy.v1.InstanceService/ClaimInstance" => json!({
            "name": "first", "publicKey": public_key, "joinSecret": JOIN_SECRET,
            "proof": house.signers["cloud"].prove(&ServiceIdentity { module: "stack".into(), instance: "first".into() }, &public_key),
        }),
        "/kombify.tenancy.v1.TenantReportService/ReportTenants" => json!({"tenants": [{
            "tenantId": tenant, "generation": 1, "version": 5, "members": [{"sub": "admin", "role": "admin"}],
        }]}),
        "/kombify.tenancy.v1.InstanceService/RegisterInstance" => json!({
            "name": "second", "internalEndpoint": "http://localhost:1", "publicEndpoint": "http://localhost:1",
        }),
        "/kombify.tenancy.v1.InstanceService/UpdateInstance" => {
            json!({"id": instance, "update": {"publicEndpoint": "http://localhost:2"}})
        }
        "/kombify.tenancy.v1.InstanceService/GetInstance"
        | "/kombify.tenancy.v1.InstanceService/DrainInstance"
        | "/kombify.tenancy.v1.InstanceService/ActivateInstance"
        | "/kombify.tenancy.v1.InstanceService/StartMaintenance"
        | "/kombify.tenancy.v1.InstanceService/EndMaintenance"
        | "/kombify.health.v1.HealthService/ListHealthHistory"
        // The instance has tenants: whoever may, is told that it cannot be removed.
        | "/kombify.tenancy.v1.InstanceService/RemoveInstance" => json!({"id": instance}),
        "/kombify.tenancy.v1.OrganisationService/GetOrganisation" => json!({"id": "acme"}),
        "/kombify.tenancy.v1.OrganisationService/GrantPlan" => json!({
            "id": "acme", "grant": {"plan": "pro", "endTime": "2999-01-01T00:00:00Z", "reason": "test"},
        }),
        "/kombify.tenancy.v1.TenantService/CreateTenant" => json!({"slug": "brand-new", "name": "New"}),
        "/kombify.sso.v1.LaunchService/CreateLaunchCode"
        | "/kombify.tenancy.v1.TenantService/GetTenant"
        | "/kombify.tenancy.v1.TenantService/LaunchTenant"
        | "/kombify.tenancy.v1.TenantService/DeleteTenant"
        // It is not deleted: whoever may, is told so.
        | "/kombify.tenancy.v1.TenantService/UndeleteTenant" => json!({"tenant": tenant}),
        "/kombify.tenancy.v1.TenantService/ResumeTenant"
        | "/kombify.tenancy.v1.TenantService/UndeleteTenantForOwner" => json!({"id": tenant}),
        "/kombify.tenancy.v1.TenantService/SuspendTenant" => {
            json!({"id": tenant, "suspension": {"reason": "test"}})
        }
        "/kombify.tenancy.v1.TenantService/DeleteTenantForOwner" => {
            json!({"id": tenant, "deletion": {"reason": "test"}})
        }
        // The identity provider is away: whoever may, is told so.
        "/kombify.users.v1.UserService/LockUser" => json!({"sub": "admin", "lock": {"reason": "test"}}),
        // The user of the column "admin": to everybody else that user does not exist.
        "/kombify.users.v1.UserService/GetUser"
        | "/kombify.users.v1.UserService/UnlockUser"
        | "/kombify.flags.v1.FlagService/GetOverrides" => json!({"sub": "admin"}),
        "/kombify.users.v1.UserService/UpdateUser" => {
            json!({"sub": "admin", "update": {"displayName": "New"}})
        }
        "/kombify.kits.v1.KitService/GetKit" | "/kombify.kits.v1.KitService/DownloadKit" => json!({"id": "dns"}),
        "/kombify.kits.v1.KitService/ValidateSpec" => json!({"id": "dns", "spec": {"specYaml": "name: home"}}),
        "/kombify.kits.v1.KitService/RenderSpec" => json!({"id": "dns", "spec": {"specYaml": DEFAULT_SPEC}}),
        "/kombify.kits.v1.KitService/ListTenantKits" => json!({"tenantId": house.tenant.to_string()}),
        "/kombify.kits.v1.KitService/GetTenantKit" => json!({"tenantId": house.tenant.to_string(), "kit": "dns"}),
        "/kombify.kits.v1.KitService/ResolveKit" => {
            json!({"tenantId": house.tenant.to_string(), "kit": "dns", "specYaml": DEFAULT_SPEC})
        }
        other => panic!("{other} has no sample: give it one"),
    }
}

/// The kits that we ship, for every house.
static REGISTRY: tokio::sync::OnceCell<Arc<Registry>> = tokio::sync::OnceCell::const_new();

async fn registry() -> Arc<Registry> {
    let make = || async {
        let ours = concat!(env!("CARGO_MANIFEST_DIR"), "/kits").into();
        let source = Source { name: "ours".into(), place: Place::Directory(ours), organisation: None };
        let keep = tempfile::tempdir().unwrap().keep();
        let config = RegistryConfig { sources: vec![source], keep, refresh: Duration::from_hours(1) };
        let registry = Arc::new(Registry::new(config).unwrap());
        registry.look(Reach::Everything).await;
        registry
    };
    Arc::clone(REGISTRY.get_or_init(make).await)
}

/// What Admin would have pushed: the tenant and where it is.
fn organisations(tenant: TenantId, instance: InstanceId) -> Organisations {
    let home = PlacedHome { tenant, instance, status: PlacedStatus::Active };
    let owner: OrgId = "org".parse().unwrap();
    let items = vec![PlacedOrganisation { owner, grant: None, tenants: vec![home] }];
    let organisations = Organisations::default();
    organisations.apply(Push { version: 1, basis: Basis::Snapshot { page: 1, last: true }, items });
    organisations
}

/// A registry that is away: no stack of the matrix names a kit.
struct NoKits;

#[async_trait::async_trait]
impl KitRegistry for NoKits {
    async fn pin(&self, _: TenantId, _: &str, _: &str, _: &str) -> Result<PinnedKit> {
        Err(kombify_core::Error::unavailable("kits are away", Duration::from_secs(1)))
    }

    async fn list(&self, _: TenantId) -> Result<Vec<KitSummary>> {
        Ok(Vec::new())
    }

    async fn get(&self, _: TenantId, kit: &str) -> Result<Kit> {
        Err(kombify_core::Error::not_found("kit", kit))
    }
}

/// The spec of the kit dns to start from.
const DEFAULT_SPEC: &str = include_str!("../../kits/dns/default-spec.yaml");

/// A code that nobody was given.
const CODE: &str = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";

/// The join secret of the first instance.
const JOIN_SECRET: &str = "first-first-first-first-first-first-first";

/// A right definition of a flag.
const FLAG: &str =
    "{\"state\":\"ENABLED\",\"variants\":{\"on\":true,\"off\":false},\"defaultVariant\":\"off\"}";

/// The issuer's keys, and those that sign with them.
struct IssuerKeys {
    public: serde_json::Value,
    private: EncodingKey,
}

impl IssuerKeys {
    fn make() -> Self {
        let pair = Ed25519KeyPair::generate().unwrap();
        let x = URL_SAFE_NO_PAD.encode(pair.public_key().as_ref());
        let public =
            json!({"kty": "OKP", "crv": "Ed25519", "x": x, "kid": "test", "use": "sig", "alg": "EdDSA"});
        Self { public, private: EncodingKey::from_ed_der(pair.to_pkcs8v1().unwrap().as_ref()) }
    }

    fn token(&self, sub: &str, org: &str, roles: &serde_json::Value) -> String {
        let now = SystemClock.now().as_second();
        let claims = json!({
            "iss": ISSUER, "aud": ["kombify"], "sub": sub, "iat": now, "exp": now + 600,
            "urn:zitadel:iam:user:resourceowner:id": org, "urn:zitadel:iam:org:project:roles": roles,
        });
        let header = Header { kid: Some("test".into()), ..Header::new(Algorithm::EdDSA) };
        jsonwebtoken::encode(&header, &claims, &self.private).unwrap()
    }
}

struct Fixed(serde_json::Value);

#[async_trait]
impl KeySource for Fixed {
    async fn fetch(&self) -> Result<Vec<PublishedKey>> {
        Ok(vec![PublishedKey { jwk: serde_json::from_value(self.0.clone()).unwrap(), owner: None }])
    }
}

/// The platform's directory, with the roles that only a Stack could give so far.
struct WithRoles {
    platform: PlatformDirectory,
    tenant: TenantId,
}

#[async_trait]
impl Directory for WithRoles {
    async fn standing(&self, user: &UserIdentity) -> Result<Standing> {
        let standing = self.platform.standing(user).await?;
        let role = match user.sub.as_str() {
            "viewer" => TenantRole::Viewer,
            "member" => TenantRole::Member,
            _ => return Ok(standing),
        };
        let memberships = Memberships::new(vec![Membership {
            tenant: self.tenant,
            slug: "acme-home".into(),
            role,
            standing: TenantStanding::Open,
        }]);
        Ok(Standing { memberships, ..standing })
    }

    fn knows_memberships(&self) -> bool {
        true
    }
}

/// Admin, Cloud, Kits and a Stack on stores of their own, with two tenants.
struct House {
    admin: App,
    cloud: App,
    kits: App,
    stack: App,
    issuer: IssuerKeys,
    signers: BTreeMap<&'static str, Arc<Signer>>,
    tenant: TenantId,
    instance: InstanceId,
    invitation: InvitationId,
    stack_id: StackId,
    _tasks: JoinSet<()>,
    _dir: tempfile::TempDir,
}

fn clock() -> Arc<dyn Clock> {
    Arc::new(SystemClock)
}

fn module(service: &'static str) -> Module {
    Module {
        service,
        config: ServerConfig::default(),
        clock: clock(),
        ids: Arc::new(SystemIds),
        trusted_proxies: [].into(),
        health: Health::new(clock(), None),
    }
}

fn change(action: &'static str) -> Change {
    let now = SystemClock.now();
    Change::system("test", action, SystemIds.request(now), now)
}

async fn seed(store: &PlatformSqlite, instance: InstanceId, keys: &[MeshKey]) -> [TenantId; 2] {
    let now = SystemClock.now();
    let instance = NewInstance {
        id: instance,
        name: "first".into(),
        region: "local".parse().unwrap(),
        mode: InstanceMode::Shared,
        max_tenants: 50,
        internal_endpoint: "http://localhost:8080".into(),
        public_endpoint: "http://localhost:8080".into(),
        join_secret_hash: kombify_mesh::secret::hash(JOIN_SECRET),
    };
    InstanceStore::register(store, &change("instance.registered"), &instance).await.unwrap();
    for key in keys {
        MeshKeyStore::register(store, &change("mesh.key.registered"), key, None).await.unwrap();
    }
    let place = ServiceIdentity { module: "stack".into(), instance: instance.id.to_string() };
    for sequence in 1..=3 {
        let report = HealthReport {
            boot_id: "boot".into(),
            sequence,
            status: Reported::Healthy,
            components: Components {
                database: ComponentState::Ok,
                api: ComponentState::Ok,
                agents: ComponentState::Ok,
            },
            metrics: Metrics::default(),
            software_version: "1".into(),
        };
        HealthStore::report(store, &place, &report, SystemClock.now()).await.unwrap();
    }
    let mut ids = Vec::new();
    for (sub, org, slug) in [("admin", "acme", "acme-home"), ("other", "umbrella", "umbrella-home")] {
        let owner: OrgId = org.parse().unwrap();
        let sighting =
            Sighting { sub: sub.parse().unwrap(), owner: owner.clone(), token_time: now, profile: None };
        UserStore::sight(store, &change("user.created"), &sighting).await.unwrap();
        let tenant = NewTenant {
            id: SystemIds.tenant(now),
            slug: slug.parse().unwrap(),
            name: slug.into(),
            owner,
            creator: sub.parse().unwrap(),
            region: "local".parse().unwrap(),
        };
        ids.push(TenantStore::create(store, &change("tenant.created"), &tenant).await.unwrap().id);
    }
    [ids[0], ids[1]]
}

/// A Stack on which both tenants are, the first with a viewer, a member, an invitation and a stack.
async fn seed_stack(
    keep: &StackSqlite,
    instance: InstanceId,
    tenants: [TenantId; 2],
) -> (InvitationId, StackId) {
    let now = SystemClock.now();
    HostStore::remember_identity(keep, instance).await.unwrap();
    let placed = |id, slug: &str, sub: &str, owner: &str| PlacedTenant {
        id,
        slug: slug.parse().unwrap(),
        name: slug.into(),
        owner: owner.parse().unwrap(),
        grant: None,
        status: PlacedStatus::Active,
        generation: 1,
        founder: Founder {
            sub: sub.parse().unwrap(),
            email: format!("{sub}@example.com"),
            name: sub.to_owned(),
        },
        create_time: now,
    };
    let push = TenantPush {
        version: 1,
        basis: Basis::Snapshot { page: 1, last: true },
        items: vec![
            placed(tenants[0], "acme-home", "admin", "acme"),
            placed(tenants[1], "umbrella-home", "other", "umbrella"),
        ],
    };
    HostStore::apply_tenants(keep, &change("tenants.applied"), &push, 50).await.unwrap();
    let nobody =
        RevocationPush { version: 1, basis: Basis::Snapshot { page: 1, last: true }, items: Vec::new() };
    HostStore::apply_revocations(keep, &change("revocations.applied"), &nobody).await.unwrap();
    let scope = TenantScope::system(tenants[0], "seeds the matrix");
    let invite = async |email: &str, role| {
        let invitation = NewInvitation {
            id: SystemIds.invitation(now),
            email: email.into(),
            role,
            code_hash: kombify_mesh::secret::hash(email),
            expire_time: now + INVITATION_LIFETIME,
        };
        MemberStore::invite(keep, scope, &change("member.invited"), &invitation, None).await.unwrap().id
    };
    for (sub, role) in [("viewer", TenantRole::Viewer), ("member", TenantRole::Member)] {
        let email = format!("{sub}@example.com");
        invite(&email, role).await;
        let joining = Joining {
            sub: sub.parse().unwrap(),
            email: email.clone(),
            name: sub.into(),
            by: AcceptBy::Email(email),
        };
        MemberStore::accept(keep, scope, &change("member.joined"), &joining, None).await.unwrap();
    }
    let invitation = invite("invited@example.com", TenantRole::Viewer).await;
    let stack = NewStack {
        id: SystemIds.stack(now),
        name: "home".parse().unwrap(),
        kit: None,
        spec_yaml: String::new(),
    };
    StackStore::create(
        keep,
        scope,
        &change("stack.created"),
        &stack,
        kombify_core::Plan::Pro.limits().into(),
    )
    .await
    .unwrap();
    (invitation, stack.id)
}

impl House {
    #[expect(clippy::too_many_lines, reason = "the modules with all that they stand on")]
    async fn build() -> Self {
        // Only the first of many houses installs it.
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let dir = tempfile::tempdir().unwrap();
        let store =
            Arc::new(PlatformSqlite::open(&dir.path().join("platform.db"), Arc::new(SystemIds)).unwrap());
        let instance = SystemIds.instance(SystemClock.now());
        let signers: BTreeMap<_, _> = ["admin", "cloud", "sim", "stack"]
            .map(|name| {
                let instance = if name == "stack" { instance.to_string() } else { "local".to_owned() };
                let service = ServiceIdentity { module: name.into(), instance };
                (name, Arc::new(ephemeral(service, clock(), &SystemIds).unwrap()))
            })
            .into();
        let keys = ["cloud", "sim", "stack"].map(|name| signers[name].public());
        let tenants = seed(&store, instance, &keys).await;
        let tenant = tenants[0];
        let options = kombify_stack_sqlite::Options::default();
        let keep = StackSqlite::open(&dir.path().join("stack"), Arc::new(SystemIds), options).unwrap();
        let (invitation, stack_id) = seed_stack(&keep, instance, tenants).await;
        let issuer = IssuerKeys::make();
        let issuer_keys = Arc::new(KeySet::new(Fixed(issuer.public.clone()), Intervals::default()));
        let platform_store: Arc<dyn PlatformStore> = store;
        let stored = || StoredKeys::new(Arc::clone(&platform_store), signers["admin"].public());
        let platform = Platform {
            store: Arc::clone(&platform_store),
            clock: clock(),
            ids: Arc::new(SystemIds),
            issuer: Issuer::new(ISSUER).unwrap(),
            mesh_keys: Arc::new(KeySet::new(stored(), Intervals::default())),
            own_key: signers["admin"].public(),
            join_secrets: Arc::new(
                [("cloud".to_owned(), "0123456789012345678901234567890123456789".into())].into(),
            ),
            provider: ProviderUsers::new(ISSUER, None).unwrap(),
            pushes: Arc::default(),
            acknowledgements: Arc::default(),
            default_region: "local".parse().unwrap(),
        };
        let guard = |audience: &str, directory: Arc<dyn Directory>| {
            let accepts = Accepts {
                issuer: ISSUER.into(),
                audience: "kombify".into(),
                claims: ClaimNames { platform_organisation: PLATFORM_ORG.into(), ..ClaimNames::default() },
                service_audience: audience.into(),
            };
            let mesh_keys = Arc::new(KeySet::new(stored(), Intervals::default()));
            Guard {
                verifier: Arc::new(Verifier::new(accepts, Arc::clone(&issuer_keys), mesh_keys, clock())),
                directory,
                limiter: Arc::new(RateLimiter::new(RateLimits::default(), clock())),
                refusals: audit::queue(Scope::Doors, clock()).0,
                sessions: None,
            }
        };
        let directory = Arc::new(WithRoles { platform: PlatformDirectory::new(platform.clone()), tenant });
        let admin = module("admin");
        let app = |module: &Module, guard, services: &[&str], routes: Routes| {
            let (routes, _) = module.routes(services, routes).unwrap();
            module.app(None, module.rooms(guard, services, routes))
        };
        let admin_app = app(
            &admin,
            guard("service:admin", directory),
            &kombify_admin::SERVICES,
            kombify_admin::routes(&platform),
        );
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let mut tasks = JoinSet::new();
        let served = admin_app.clone();
        tasks.spawn(async move { admin.serve(listener, served, CancellationToken::new()).await });
        let peer = Peer::new("admin", &url, Arc::clone(&signers["cloud"])).unwrap();
        let cloud_guard = guard("service:cloud", Arc::new(TokenOnly));
        let cloud_routes = kombify_cloud::routes(peer.clone(), Arc::default());
        let cloud_app = app(&module("cloud"), cloud_guard, &kombify_cloud::SERVICES, cloud_routes);
        let kits = Kits {
            registry: registry().await,
            organisations: Arc::new(organisations(tenant, instance)),
            revocations: Arc::default(),
            clock: clock(),
        };
        let kits_guard = guard("service:kits", Arc::new(TokenOnly));
        let kits_app = app(&module("kits"), kits_guard, &kombify_kits::SERVICES, kombify_kits::routes(&kits));
        let host = Host {
            keep: Arc::new(keep),
            clock: clock(),
            ids: Arc::new(SystemIds),
            instance,
            origin: "http://localhost:8080".into(),
            entrance: Entrance::Platform { admin: peer, cloud: "http://localhost:3000".into() },
            kits: Arc::new(NoKits),
            max_tenants: 50,
        };
        let stack_guard =
            guard(&format!("service:stack/{instance}"), Arc::new(HostDirectory::new(host.clone())));
        let stack_app =
            app(&module("stack"), stack_guard, &kombify_stack::SERVICES, kombify_stack::routes(&host));
        Self {
            admin: admin_app,
            cloud: cloud_app,
            kits: kits_app,
            stack: stack_app,
            issuer,
            signers,
            tenant,
            instance,
            invitation,
            stack_id,
            _tasks: tasks,
            _dir: dir,
        }
    }

    /// The headers with which a kind of caller calls `module`.
    fn credentials(&self, caller: &str, module: &str, method: &Method) -> Vec<(&'static str, String)> {
        let user = |sub, org| self.issuer.token(sub, org, &json!({"user": {org: "example.com"}}));
        let bearer = |token: String| ("authorization", format!("Bearer {token}"));
        let audience = match module {
            "stack" => format!("service:stack/{}", self.instance),
            module => format!("service:{module}"),
        };
        let service = |name: &str| bearer(self.signers[name].token(&audience).unwrap());
        // A service that the method lets in, else one that is let in elsewhere.
        let named = method.access.as_ref().and_then(|access| access.services.first());
        let friend = named.map_or("cloud", String::as_str);
        match caller {
            "anonymous" => vec![],
            "user" => vec![bearer(user("somebody", "nobodys"))],
            "viewer" => vec![bearer(user("viewer", "elsewhere"))],
            "member" => vec![bearer(user("member", "elsewhere"))],
            "admin" => vec![bearer(user("admin", "acme"))],
            "other-tenant" => vec![bearer(user("other", "umbrella"))],
            "platform-admin" => {
                let roles = json!({"kombisphere_admin": {PLATFORM_ORG: "example.com"}});
                vec![bearer(self.issuer.token("root", PLATFORM_ORG, &roles))]
            }
            "service" => vec![service(friend)],
            "service+user" => vec![service(friend), ("x-kombify-user-token", user("admin", "acme"))],
            "wrong-service" => vec![service("sim")],
            "wrong-service+user" => {
                let roles = json!({"kombisphere_admin": {PLATFORM_ORG: "example.com"}});
                vec![
                    service("sim"),
                    ("x-kombify-user-token", self.issuer.token("root", PLATFORM_ORG, &roles)),
                ]
            }
            "two-credentials" => vec![bearer(user("admin", "acme")), bearer(user("admin", "acme"))],
            other => panic!("{other} is no kind of caller"),
        }
    }

    async fn call(&self, module: &str, method: &Method, caller: &str) -> String {
        let input = method.descriptor.input();
        let message =
            kombify_transcode::from_json(&input, sample(&method.path, self).to_string().as_bytes()).unwrap();
        let message = message.encode_to_vec();
        let mut frame = vec![0];
        frame.extend(u32::try_from(message.len()).unwrap().to_be_bytes());
        frame.extend(message);
        let mut request = Request::post(&method.path).header("content-type", "application/grpc");
        for (name, value) in self.credentials(caller, module, method) {
            request = request.header(name, value);
        }
        let app = match module {
            "admin" => &self.admin,
            "cloud" => &self.cloud,
            "kits" => &self.kits,
            _ => &self.stack,
        };
        let body = Body::new(http_body_util::Full::from(frame));
        let response = app.clone().oneshot(request.body(body).unwrap()).await.unwrap();
        match kombify_mesh::status::failed(&response) {
            None => "yes".to_owned(),
            Some(status) => kombify_mesh::status::read(&status).code.as_str().to_owned(),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_method_is_open_to_whom_its_contract_says_and_to_nobody_else() {
    let mut picture = format!("{:<68}", "");
    for caller in CALLERS {
        let _ = write!(picture, " {caller:<19}");
    }
    picture = format!("{}\n", picture.trim_end());
    for (module, services) in [
        ("admin", &kombify_admin::SERVICES[..]),
        ("cloud", &kombify_cloud::SERVICES),
        ("kits", &kombify_kits::SERVICES),
        ("stack", &kombify_stack::SERVICES),
    ] {
        for method in kombify_contracts::methods() {
            if !services.contains(&method.service.as_str()) {
                continue;
            }
            // Side by side: some answers wait for modules that are not here.
            let mut answers = JoinSet::new();
            for (at, caller) in CALLERS.into_iter().enumerate() {
                answers.spawn(async move { (at, House::build().await.call(module, method, caller).await) });
            }
            let answers: BTreeMap<_, _> = answers.join_all().await.into_iter().collect();
            let mut line = format!("{module:<6}{:<62}", method.path);
            for answer in answers.values() {
                let _ = write!(line, " {answer:<19}");
            }
            let _ = writeln!(picture, "{}", line.trim_end());
        }
    }
    let golden = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/authority_matrix.txt");
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(golden, &picture).unwrap();
    }
    let kept = std::fs::read_to_string(golden).unwrap_or_default();
    assert!(kept == picture, "authority_matrix.txt is not what the rooms say:\n{picture}");
}

#[test]
fn every_contract_is_in_the_matrix() {
    for method in kombify_contracts::methods() {
        let service = method.service.as_str();
        assert!(
            kombify_admin::SERVICES.contains(&service)
                || kombify_cloud::SERVICES.contains(&service)
                || kombify_kits::SERVICES.contains(&service)
                || kombify_stack::SERVICES.contains(&service),
            "{} is served by nobody",
            method.path
        );
    }
}
