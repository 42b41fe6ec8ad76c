//! Members of a tenant.

use async_trait::async_trait;
use jiff::Timestamp;
use kombify_core::member::{Invitation, Joining, MEMBERS_MAX, Member, MemberStore, NewInvitation};
use kombify_core::page::Position;
use kombify_core::placed::Founder;
use kombify_core::{
    Change, Error, Etag, InvitationId, Listed, Memberships, Page, Result, Sub, TenantId, TenantRole,
    TenantScope,
};
use kombify_sqlite::ledger::Write;
use kombify_sqlite::query::Start;
use kombify_sqlite::{column, query};
use rusqlite::{Connection, Row, named_params};

use crate::{StackSqlite, invitation, name};

// Over the limit is whoever stands behind the first `:members` that are there; LIMIT takes no NULL.
macro_rules! select {
    ($rest:literal) => {
        concat!(
            "SELECT sub, email, name, role, create_time, last_sign_in_time, version,
                    COALESCE((create_time, sub) >= (
                        SELECT create_time, sub
                          FROM members
                         ORDER BY create_time, sub
                         LIMIT 1 OFFSET COALESCE(:members, 9223372036854775807)), 0) AS over_limit
               FROM members
            ",
            $rest
        )
    };
}

#[async_trait]
impl MemberStore for StackSqlite {
    async fn list(&self, scope: TenantScope, page: &Page, limit: Option<u32>) -> Result<Listed<Member>> {
        let page = page.clone();
        self.read_file(scope, move |connection| list(connection, &page, limit)).await
    }

    async fn set_role(
        &self,
        scope: TenantScope,
        change: &Change,
        sub: &Sub,
        etag: Option<Etag>,
        role: TenantRole,
        limit: Option<u32>,
    ) -> Result<Member> {
        let sub = sub.clone();
        self.change_members(scope, change, move |write| set_role(write, scope, &sub, etag, role, limit)).await
    }

    async fn remove(&self, scope: TenantScope, change: &Change, sub: &Sub, limit: Option<u32>) -> Result<()> {
        let sub = sub.clone();
        self.change_members(scope, change, move |write| remove(write, scope, &sub, limit)).await
    }

    async fn invite(
        &self,
        scope: TenantScope,
        change: &Change,
        invitation: &NewInvitation,
        limit: Option<u32>,
    ) -> Result<Invitation> {
        let (tenant, hash, now) = (scope.tenant(), invitation.code_hash, change.time);
        let expire_time = invitation.expire_time;
        // Before the invitation itself: a code that leads to a tenant without it does no harm.
        self.instance
            .write(name::beside(change.action, "indexed"), move |transaction| {
                invitation::index(transaction, tenant, (&hash, expire_time), now)
            })
            .await?;
        let new = invitation.clone();
        let made =
            self.change_file(scope, change, move |write| invitation::invite(write, scope, &new, limit)).await;
        if !made.as_ref().is_ok_and(|made| made.id == invitation.id) {
            self.forget_code(name::beside(change.action, "undone"), tenant, hash).await;
        }
        made
    }

    async fn invitations(
        &self,
        scope: TenantScope,
        page: &Page,
        now: Timestamp,
    ) -> Result<Listed<Invitation>> {
        let page = page.clone();
        self.read_file(scope, move |connection| invitation::list(connection, &page, now)).await
    }

    async fn withdraw(&self, scope: TenantScope, change: &Change, id: InvitationId) -> Result<()> {
        let hash =
            self.change_file(scope, change, move |write| invitation::withdraw(write, scope, id)).await?;
        self.forget_code(name::beside(change.action, "forgotten"), scope.tenant(), hash).await;
        Ok(())
    }

    async fn tenant_of_code(&self, code_hash: &[u8; 32]) -> Result<Option<TenantId>> {
        let hash = *code_hash;
        self.instance.read(move |connection| invitation::tenant_of(connection, &hash)).await
    }

    async fn accept(
        &self,
        scope: TenantScope,
        change: &Change,
        joining: &Joining,
        limit: Option<u32>,
    ) -> Result<Member> {
        let joining = joining.clone();
        let joined = self.change_members(scope, change, move |write| accept(write, scope, &joining, limit));
        let (member, hash) = joined.await?;
        self.forget_code(name::beside(change.action, "forgotten"), scope.tenant(), hash).await;
        Ok(member)
    }

    async fn memberships(&self, sub: &Sub, now: Timestamp) -> Result<Memberships> {
        self.memberships_of(sub, now).await
    }

    async fn note_sign_in(&self, scope: TenantScope, sub: &Sub, now: Timestamp) -> Result<()> {
        let (sub, file) = (sub.clone(), self.files.open(scope.tenant()).await?);
        let note = move |transaction: &rusqlite::Transaction<'_>| note_sign_in(transaction, &sub, now);
        file.write("member.signed_in", note).await
    }
}

impl StackSqlite {
    /// Lets a code lead nowhere. Where that fails it goes with its time: in the tenant's file nothing is behind it.
    async fn forget_code(&self, name: &'static str, tenant: TenantId, hash: [u8; 32]) {
        let forgotten =
            self.instance.write(name, move |transaction| invitation::forget(transaction, &hash)).await;
        if let Err(cause) = forgotten {
            tracing::debug!(tenant.id = %tenant, %cause, "the code of no invitation stays");
        }
    }
}

/// The first member of a tenant.
pub(crate) fn insert_founder(write: &Write<'_>, founder: &Founder, create_time: Timestamp) -> Result<()> {
    let Founder { sub, email, name } = founder;
    insert(write, (sub, email, name), TenantRole::Admin, create_time)
}

/// How many members the tenant has.
pub(crate) fn count(connection: &Connection) -> Result<u32> {
    let count = query::row(connection, "SELECT COUNT(*) FROM members", (), |row| row.get(0))?;
    Ok(count.unwrap_or_default())
}

/// Whether the address, in lower case, is a member's.
pub(crate) fn has_address(connection: &Connection, email: &str) -> Result<bool> {
    query::exists(
        connection,
        "SELECT 1
           FROM members
          WHERE email_key = :email_key",
        named_params! { ":email_key": email },
    )
}

/// Refuses what would be one more than `limit` of what counts as members.
pub(crate) fn refuse_over(limit: Option<u32>, used: u32) -> Result<()> {
    let limit = limit.unwrap_or(MEMBERS_MAX);
    if used < limit { Ok(()) } else { Err(Error::QuotaExceeded { resource: "members", limit, used }) }
}

fn list(connection: &Connection, page: &Page, limit: Option<u32>) -> Result<Listed<Member>> {
    let start = Start::of(page);
    let members = query::rows(
        connection,
        select!(
            "WHERE (create_time, sub) < (:time, :id)
             ORDER BY create_time DESC, sub DESC
             LIMIT :limit"
        ),
        named_params! {
            ":members": limit,
            ":time": start.time,
            ":id": start.id,
            ":limit": start.limit,
        },
        member,
    )?;
    let position = |member: &Member| Position { create_time: member.create_time, id: member.sub.to_string() };
    Ok(page.cut(members, position))
}

fn set_role(
    write: &Write<'_>,
    scope: TenantScope,
    sub: &Sub,
    etag: Option<Etag>,
    role: TenantRole,
    limit: Option<u32>,
) -> Result<Member> {
    let before = get(write.transaction, sub, limit)?;
    Etag::check(etag, before.etag)?;
    if before.role != role {
        refuse_without_admin(write, &before, limit)?;
        query::execute(
            write.transaction,
            "UPDATE members
                SET role = :role, version = version + 1
              WHERE sub = :sub",
            named_params! { ":sub": sub.as_str(), ":role": role.as_str() },
        )?;
    }
    let details = [("role", role.to_string()), ("before", before.role.to_string())];
    write.audit(sub, Some(scope.tenant()), details)?;
    get(write.transaction, sub, limit)
}

fn remove(write: &Write<'_>, scope: TenantScope, sub: &Sub, limit: Option<u32>) -> Result<()> {
    let before = get(write.transaction, sub, limit)?;
    // One more can act then: whoever comes next in age.
    refuse_without_admin(write, &before, limit.map(|limit| limit.saturating_add(1)))?;
    query::execute(
        write.transaction,
        "DELETE FROM members
          WHERE sub = :sub",
        named_params! { ":sub": sub.as_str() },
    )?;
    write.audit(sub, Some(scope.tenant()), [("role", before.role.to_string())])
}

/// Answers with the hash of the invitation's code, too.
fn accept(
    write: &Write<'_>,
    scope: TenantScope,
    joining: &Joining,
    limit: Option<u32>,
) -> Result<(Member, [u8; 32])> {
    let Joining { sub, email, name, by } = joining;
    let (id, role) = invitation::fitting(write, by)?;
    if find(write.transaction, sub, limit)?.is_some() {
        return Err(Error::Conflict("the user is a member already".into()));
    }
    refuse_over(limit, count(write.transaction)?)?;
    insert(write, (sub, email, name), role, write.change.time)?;
    let hash = invitation::settle(write, id, "accepted")?;
    let details = [("role", role.to_string()), ("invitationId", id.to_string())];
    write.audit(sub, Some(scope.tenant()), details)?;
    Ok((get(write.transaction, sub, limit)?, hash))
}

/// Refuses to take the role from the last admin who can act as one: who is over the plan's limit cannot. `count` is how many
/// of the oldest members can act afterwards, the member among them.
fn refuse_without_admin(write: &Write<'_>, member: &Member, count: Option<u32>) -> Result<()> {
    if member.role != TenantRole::Admin || member.over_limit {
        return Ok(());
    }
    let others = query::exists(
        write.transaction,
        "SELECT 1
           FROM (SELECT sub, role
                   FROM members
                  ORDER BY create_time, sub
                  LIMIT COALESCE(:count, -1))
          WHERE role = 'admin' AND sub <> :sub",
        named_params! { ":count": count, ":sub": member.sub.as_str() },
    )?;
    if others {
        Ok(())
    } else {
        Err(Error::PreconditionFailed(
            "nobody would be an admin any more: make somebody else one first".into(),
        ))
    }
}

fn insert(
    write: &Write<'_>,
    (sub, email, name): (&Sub, &str, &str),
    role: TenantRole,
    create_time: Timestamp,
) -> Result<()> {
    query::execute(
        write.transaction,
        "INSERT INTO members (sub, email, email_key, name, role, create_time)
         VALUES (:sub, :email, :email_key, :name, :role, :create_time)",
        named_params! {
            ":sub": sub.as_str(),
            ":email": email,
            ":email_key": email.to_lowercase(),
            ":name": name,
            ":role": role.as_str(),
            ":create_time": create_time.as_microsecond(),
        },
    )
    .map(drop)
}

fn find(connection: &Connection, sub: &Sub, limit: Option<u32>) -> Result<Option<Member>> {
    query::row(
        connection,
        select!("WHERE sub = :sub"),
        named_params! { ":members": limit, ":sub": sub.as_str() },
        member,
    )
}

fn get(connection: &Connection, sub: &Sub, limit: Option<u32>) -> Result<Member> {
    find(connection, sub, limit)?.ok_or_else(|| Error::not_found("member", sub))
}

fn note_sign_in(connection: &Connection, sub: &Sub, now: Timestamp) -> Result<()> {
    query::execute(
        connection,
        "UPDATE members
            SET last_sign_in_time = :now
          WHERE sub = :sub AND (last_sign_in_time IS NULL OR last_sign_in_time < :now)",
        named_params! { ":sub": sub.as_str(), ":now": now.as_microsecond() },
    )
    .map(drop)
}

fn member(row: &Row<'_>) -> rusqlite::Result<Member> {
    let signed_in: Option<i64> = row.get("last_sign_in_time")?;
    Ok(Member {
        sub: column::word(row, "sub")?,
        email: row.get("email")?,
        name: row.get("name")?,
        role: column::word(row, "role")?,
        over_limit: row.get("over_limit")?,
        create_time: column::time(row, "create_time")?,
        last_sign_in_time: signed_in.map(|_| column::time(row, "last_sign_in_time")).transpose()?,
        etag: column::etag(row)?,
    })
}
