//! Launch codes.

use async_trait::async_trait;
use jiff::SignedDuration;
use kombify_core::launch::{Destination, Launch, LaunchRefusal, LaunchStore, NewLaunch, Sha256};
use kombify_core::tenant::TenantStatus;
use kombify_core::{Change, Error, InstanceId, Result, TenantId, TenantScope};
use kombify_sqlite::ledger::Write;
use kombify_sqlite::{column, query};
use rusqlite::{Row, named_params};

use crate::{PlatformSqlite, revocation};

/// How many codes that nobody asks for any more an issue takes away, so that the table stays small and no write is long.
const SWEPT: u32 = 100;

/// How long a code is kept behind its end, in hours, so that whoever comes late is told why.
const KEPT_HOURS: i64 = 1;

#[async_trait]
impl LaunchStore for PlatformSqlite {
    async fn issue(&self, scope: TenantScope, change: &Change, launch: &NewLaunch) -> Result<Destination> {
        let launch = launch.clone();
        self.write(change, move |write| {
            sweep(write)?;
            let destination = destination(write, scope.tenant())?;
            if launch.instance.is_some_and(|instance| instance != destination.instance) {
                let text = "the tenant is on another instance than the one that asked";
                return Err(Error::PreconditionFailed(text.into()));
            }
            insert(write, scope.tenant(), destination.instance, &launch)?;
            let tenant = scope.tenant();
            write.audit(&tenant, Some(tenant), [("instanceId", destination.instance.to_string())])?;
            Ok(destination)
        })
        .await
    }

    async fn redeem(
        &self,
        change: &Change,
        hash: &Sha256,
        instance: InstanceId,
        challenge: Option<&Sha256>,
    ) -> Result<Launch> {
        let (hash, challenge) = (*hash, challenge.copied());
        // A code that was used in vain stays used: what is refused then is the answer, and the write is kept.
        self.write(change, move |write| {
            let Some(used) = use_up(write, &hash, instance, challenge.as_ref())? else {
                return Ok(Err(refusal(write, &hash, instance)?.into()));
            };
            if let Some(refused) = refused_since(write, &used, instance)? {
                return Ok(Err(refused));
            }
            let tenant = used.tenant;
            write.audit(&tenant, Some(tenant), [("sub", used.sub.to_string())])?;
            Ok(Ok(used))
        })
        .await?
    }
}

fn sweep(write: &Write<'_>) -> Result<()> {
    let kept = SignedDuration::from_hours(KEPT_HOURS);
    let kept = write.change.time.saturating_sub(kept).map_err(Error::internal)?;
    query::execute(
        write.transaction,
        "DELETE FROM launch_codes
          WHERE rowid IN (
                SELECT rowid
                  FROM launch_codes
                 WHERE expire_time < :kept
                 ORDER BY expire_time
                 LIMIT :swept)",
        named_params! { ":kept": kept.as_microsecond(), ":swept": SWEPT },
    )
    .map(drop)
}

/// Where the tenant's members are let in.
fn destination(write: &Write<'_>, tenant: TenantId) -> Result<Destination> {
    let found = query::row(
        write.transaction,
        "SELECT tenants.status AS status, instance_id, public_endpoint
           FROM tenants
           JOIN instances USING (instance_id)
          WHERE tenant_id = :tenant_id AND tenants.status NOT IN ('erasing', 'erased')",
        named_params! { ":tenant_id": tenant.to_string() },
        |row| {
            let destination = Destination {
                instance: column::word(row, "instance_id")?,
                public_endpoint: row.get("public_endpoint")?,
            };
            Ok((column::word(row, "status")?, destination))
        },
    )?;
    match found {
        Some((TenantStatus::Creating | TenantStatus::Active, destination)) => Ok(destination),
        Some((TenantStatus::Suspended, _)) => Err(Error::TenantSuspended),
        Some((TenantStatus::Deleted, _)) | None => Err(Error::not_found("tenant", tenant)),
    }
}

fn insert(write: &Write<'_>, tenant: TenantId, place: InstanceId, launch: &NewLaunch) -> Result<()> {
    let NewLaunch { hash, sub, owner, roles, challenge, instance: _, auth_time, expire_time } = launch;
    query::execute(
        write.transaction,
        "INSERT INTO launch_codes (hash, tenant_id, instance_id, sub, owner, roles, challenge, auth_time,
                                   create_time, expire_time)
         VALUES (:hash, :tenant_id, :instance_id, :sub, :owner, :roles, :challenge, :auth_time, :now, :expire_time)",
        named_params! {
            ":hash": hash,
            ":tenant_id": tenant.to_string(),
            ":instance_id": place.to_string(),
            ":sub": sub.as_str(),
            ":owner": owner.as_str(),
            ":roles": serde_json::to_string(roles).map_err(Error::internal)?,
            ":challenge": challenge,
            ":auth_time": auth_time.as_microsecond(),
            ":now": write.now(),
            ":expire_time": expire_time.as_microsecond(),
        },
    )
    .map(drop)
}

/// Uses the code, if it is good: whoever comes second finds it used.
fn use_up(
    write: &Write<'_>,
    hash: &Sha256,
    instance: InstanceId,
    challenge: Option<&Sha256>,
) -> Result<Option<Launch>> {
    query::row(
        write.transaction,
        "UPDATE launch_codes
            SET used_time = :now
          WHERE hash = :hash AND used_time IS NULL AND expire_time > :now AND instance_id = :instance_id
            AND challenge IS :challenge
         RETURNING tenant_id, sub, owner, roles, auth_time,
                   COALESCE((SELECT email FROM users WHERE users.sub = launch_codes.sub), '') AS email,
                   COALESCE((SELECT CASE display_name WHEN '' THEN name ELSE display_name END
                               FROM users
                              WHERE users.sub = launch_codes.sub), '') AS name",
        named_params! {
            ":hash": hash,
            ":instance_id": instance.to_string(),
            ":challenge": challenge,
            ":now": write.now(),
        },
        launch,
    )
}

/// Why a code that is not good is not, the plainest reason first.
fn refusal(write: &Write<'_>, hash: &Sha256, instance: InstanceId) -> Result<LaunchRefusal> {
    let code = query::row(
        write.transaction,
        "SELECT used_time IS NOT NULL AS used, expire_time <= :now AS expired, instance_id <> :instance_id AS elsewhere
           FROM launch_codes
          WHERE hash = :hash",
        named_params! { ":hash": hash, ":instance_id": instance.to_string(), ":now": write.now() },
        |row| Ok((row.get("used")?, row.get("expired")?, row.get("elsewhere")?)),
    )?;
    Ok(match code {
        None => LaunchRefusal::Unknown,
        Some((true, _, _)) => LaunchRefusal::Used,
        Some((false, true, _)) => LaunchRefusal::Expired,
        Some((false, false, true)) => LaunchRefusal::OtherInstance,
        Some((false, false, false)) => LaunchRefusal::OtherChallenge,
    })
}

/// What has come between since the code was issued.
fn refused_since(write: &Write<'_>, launch: &Launch, instance: InstanceId) -> Result<Option<Error>> {
    let revoked = revocation::of(write.transaction, &launch.sub)?;
    if revoked.is_some_and(|revocation| revocation.check(launch.auth_time).is_err()) {
        return Ok(Some(LaunchRefusal::Revoked.into()));
    }
    match destination(write, launch.tenant) {
        Ok(destination) if destination.instance == instance => Ok(None),
        Ok(_) => Ok(Some(LaunchRefusal::OtherInstance.into())),
        Err(fault @ (Error::TenantSuspended | Error::NotFound { .. })) => Ok(Some(fault)),
        Err(fault) => Err(fault),
    }
}

fn launch(row: &Row<'_>) -> rusqlite::Result<Launch> {
    let roles: String = row.get("roles")?;
    Ok(Launch {
        tenant: column::word(row, "tenant_id")?,
        sub: column::word(row, "sub")?,
        owner: column::word(row, "owner")?,
        roles: serde_json::from_str(&roles).map_err(|cause| column::unreadable("roles", &cause))?,
        email: row.get("email")?,
        name: row.get("name")?,
        auth_time: column::time(row, "auth_time")?,
    })
}
