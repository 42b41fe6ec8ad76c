//! Invitations to a tenant, and the index of their codes.

use jiff::Timestamp;
use kombify_core::member::{AcceptBy, Invitation, InvitationStatus, NewInvitation};
use kombify_core::page::Position;
use kombify_core::{Error, InvitationId, Listed, Page, Result, Sub, TenantId, TenantRole, TenantScope};
use kombify_sqlite::ledger::Write;
use kombify_sqlite::query::Start;
use kombify_sqlite::{column, query};
use rusqlite::{Connection, Row, named_params};

use crate::{member, tenant};

macro_rules! select {
    ($rest:literal) => {
        concat!(
            "SELECT invitation_id, email, role, status, inviter, create_time, expire_time
               FROM invitations
            ",
            $rest
        )
    };
}

/// In instance.db: the code with that hash leads to the tenant. Codes whose time is over by `now` go.
pub(crate) fn index(
    connection: &Connection,
    tenant: TenantId,
    (hash, expire_time): (&[u8; 32], Timestamp),
    now: Timestamp,
) -> Result<()> {
    if !tenant::is_placed(connection, tenant)? {
        return Err(Error::not_found("tenant", tenant));
    }
    query::execute(
        connection,
        "DELETE FROM invitation_codes
          WHERE expire_time <= :now",
        named_params! { ":now": now.as_microsecond() },
    )?;
    query::execute(
        connection,
        "INSERT INTO invitation_codes (code_hash, tenant_id, expire_time)
         VALUES (:code_hash, :tenant_id, :expire_time)",
        named_params! {
            ":code_hash": hash,
            ":tenant_id": tenant.to_string(),
            ":expire_time": expire_time.as_microsecond(),
        },
    )
    .map(drop)
}

/// In instance.db: the code with that hash leads nowhere.
pub(crate) fn forget(connection: &Connection, hash: &[u8; 32]) -> Result<()> {
    query::execute(
        connection,
        "DELETE FROM invitation_codes
          WHERE code_hash = :code_hash",
        named_params! { ":code_hash": hash },
    )
    .map(drop)
}

/// In instance.db: the tenant that a code with that hash leads to.
pub(crate) fn tenant_of(connection: &Connection, hash: &[u8; 32]) -> Result<Option<TenantId>> {
    query::row(
        connection,
        "SELECT tenant_id
           FROM invitation_codes
           JOIN tenants USING (tenant_id)
          WHERE code_hash = :code_hash AND placed = 1",
        named_params! { ":code_hash": hash },
        |row| column::word(row, "tenant_id"),
    )
}

/// Makes an invitation, or finds the one that the same request made before.
pub(crate) fn invite(
    write: &Write<'_>,
    scope: TenantScope,
    new: &NewInvitation,
    limit: Option<u32>,
) -> Result<Invitation> {
    if let Some(earlier) = write.repeated()? {
        return get(write.transaction, earlier.parse().map_err(Error::internal)?, write.change.time);
    }
    refuse_a_second(write, &new.email)?;
    let used = member::count(write.transaction)?.saturating_add(pending(write)?);
    member::refuse_over(limit, used)?;
    insert(write, new)?;
    let details = [("email", new.email.clone()), ("role", new.role.to_string())];
    write.audit(&new.id, Some(scope.tenant()), details)?;
    write.promise(&new.id.to_string())?;
    get(write.transaction, new.id, write.change.time)
}

/// A part of the invitations, newest first.
pub(crate) fn list(connection: &Connection, page: &Page, now: Timestamp) -> Result<Listed<Invitation>> {
    let start = Start::of(page);
    let invitations = query::rows(
        connection,
        select!(
            "WHERE (create_time, invitation_id) < (:time, :id)
             ORDER BY create_time DESC, invitation_id DESC
             LIMIT :limit"
        ),
        named_params! { ":time": start.time, ":id": start.id, ":limit": start.limit },
        |row| invitation(row, now),
    )?;
    let position = |invitation: &Invitation| Position {
        create_time: invitation.create_time,
        id: invitation.id.to_string(),
    };
    Ok(page.cut(invitations, position))
}

/// Withdraws an invitation; answers with the hash of its code, which leads nowhere from now on.
pub(crate) fn withdraw(write: &Write<'_>, scope: TenantScope, id: InvitationId) -> Result<[u8; 32]> {
    let before = get(write.transaction, id, write.change.time)?;
    match before.status {
        InvitationStatus::Pending => {}
        status @ (InvitationStatus::Accepted | InvitationStatus::Withdrawn | InvitationStatus::Expired) => {
            let status = status.as_str();
            return Err(Error::PreconditionFailed(format!("the invitation is not pending: it is {status}")));
        }
    }
    let hash = settle(write, id, "withdrawn")?;
    write.audit(&id, Some(scope.tenant()), [("email", before.email)])?;
    Ok(hash)
}

/// The pending invitation that somebody accepts, and its role.
pub(crate) fn fitting(write: &Write<'_>, by: &AcceptBy) -> Result<(InvitationId, TenantRole)> {
    let (email, hash) = match by {
        AcceptBy::Code(hash) => (None, Some(hash)),
        // Nobody's address is empty: such an invitation is for whoever has the code.
        AcceptBy::Email(email) => (Some(email.as_str()).filter(|email| !email.is_empty()), None),
    };
    let found = query::row(
        write.transaction,
        "SELECT invitation_id, role
           FROM invitations
          WHERE status = 'pending' AND expire_time > :now AND (code_hash = :code_hash OR email = :email)
          ORDER BY create_time, invitation_id
          LIMIT 1",
        named_params! { ":now": write.now(), ":code_hash": hash, ":email": email },
        |row| Ok((column::word(row, "invitation_id")?, column::word(row, "role")?)),
    )?;
    found.ok_or_else(|| {
        Error::not_found("invitation", if hash.is_some() { "of that code" } else { "for that address" })
    })
}

/// Says what has become of an invitation; answers with the hash of its code.
pub(crate) fn settle(write: &Write<'_>, id: InvitationId, status: &str) -> Result<[u8; 32]> {
    let hash = query::row(
        write.transaction,
        "UPDATE invitations
            SET status = :status
          WHERE invitation_id = :invitation_id
        RETURNING code_hash",
        named_params! { ":invitation_id": id.to_string(), ":status": status },
        |row| row.get("code_hash"),
    )?;
    hash.ok_or_else(|| Error::not_found("invitation", id))
}

fn refuse_a_second(write: &Write<'_>, email: &str) -> Result<()> {
    if email.is_empty() {
        return Ok(());
    }
    if member::has_address(write.transaction, email)? {
        return Err(Error::Conflict("the address belongs to a member already".into()));
    }
    let invited = query::exists(
        write.transaction,
        "SELECT 1
           FROM invitations
          WHERE status = 'pending' AND expire_time > :now AND email = :email",
        named_params! { ":now": write.now(), ":email": email },
    )?;
    if invited { Err(Error::Conflict("the address has a pending invitation already".into())) } else { Ok(()) }
}

fn pending(write: &Write<'_>) -> Result<u32> {
    let count = query::row(
        write.transaction,
        "SELECT COUNT(*)
           FROM invitations
          WHERE status = 'pending' AND expire_time > :now",
        named_params! { ":now": write.now() },
        |row| row.get(0),
    )?;
    Ok(count.unwrap_or_default())
}

fn insert(write: &Write<'_>, new: &NewInvitation) -> Result<()> {
    let NewInvitation { id, email, role, code_hash, expire_time } = new;
    query::execute(
        write.transaction,
        "INSERT INTO invitations (invitation_id, email, role, inviter, code_hash, create_time, expire_time)
         VALUES (:invitation_id, :email, :role, :inviter, :code_hash, :now, :expire_time)",
        named_params! {
            ":invitation_id": id.to_string(),
            ":email": email,
            ":role": role.as_str(),
            ":inviter": inviter(write)?.as_str(),
            ":code_hash": code_hash,
            ":now": write.now(),
            ":expire_time": expire_time.as_microsecond(),
        },
    )
    .map(drop)
}

/// Who invites: the user, else the module that acts for itself.
fn inviter(write: &Write<'_>) -> Result<Sub> {
    let actor = &write.change.actor;
    actor.sub.clone().map_or_else(|| actor.key().parse().map_err(Error::internal), Ok)
}

fn get(connection: &Connection, id: InvitationId, now: Timestamp) -> Result<Invitation> {
    let found = query::row(
        connection,
        select!("WHERE invitation_id = :invitation_id"),
        named_params! { ":invitation_id": id.to_string() },
        |row| invitation(row, now),
    )?;
    found.ok_or_else(|| Error::not_found("invitation", id))
}

fn invitation(row: &Row<'_>, now: Timestamp) -> rusqlite::Result<Invitation> {
    let (status, expire_time): (String, _) = (row.get("status")?, column::time(row, "expire_time")?);
    let status = match status.as_str() {
        "pending" if expire_time <= now => InvitationStatus::Expired,
        "pending" => InvitationStatus::Pending,
        "accepted" => InvitationStatus::Accepted,
        "withdrawn" => InvitationStatus::Withdrawn,
        other => return Err(column::unreadable("status", &other)),
    };
    Ok(Invitation {
        id: column::word(row, "invitation_id")?,
        email: row.get("email")?,
        role: column::word(row, "role")?,
        status,
        inviter: column::word(row, "inviter")?,
        create_time: column::time(row, "create_time")?,
        expire_time,
    })
}
