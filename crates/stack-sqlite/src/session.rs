//! Sessions of the instance itself, and the accounts of one that stands alone.

use std::collections::BTreeSet;

use async_trait::async_trait;
use jiff::Timestamp;
use kombify_core::host::{Account, AccountStore, Session};
use kombify_core::{Change, Error, Result, Sub, TenantId};
use kombify_sqlite::ledger::Write;
use kombify_sqlite::{column, constraint, internal, query};
use rusqlite::{Connection, Row, named_params};

use crate::{StackSqlite, tenant};

/// How many ended sessions a new one takes away, so that the table stays small and no write is long.
const SWEPT: u32 = 100;

macro_rules! select_account {
    ($rest:literal) => {
        concat!("SELECT sub, login, name, password_hash FROM accounts ", $rest)
    };
}

#[async_trait]
impl AccountStore for StackSqlite {
    async fn find_account(&self, login: &str) -> Result<Option<Account>> {
        let login = login.to_owned();
        self.instance.read(move |connection| find_account(connection, &login)).await
    }

    async fn account_of(&self, sub: &Sub) -> Result<Option<Account>> {
        let sub = sub.clone();
        self.instance.read(move |connection| account_of(connection, &sub)).await
    }

    async fn add_account(&self, change: &Change, account: &Account) -> Result<()> {
        let account = account.clone();
        self.change_instance(change, move |write| add_account(write, &account)).await
    }

    async fn set_password(&self, change: &Change, sub: &Sub, password_hash: &str) -> Result<()> {
        let (sub, hash) = (sub.clone(), password_hash.to_owned());
        self.change_instance(change, move |write| set_password(write, &sub, &hash)).await
    }

    async fn open_session_by_password(
        &self,
        change: &Change,
        session: &Session,
        password_hash: &str,
    ) -> Result<()> {
        let (session, hash) = (session.clone(), password_hash.to_owned());
        self.change_instance(change, move |write| open_by_password(write, &session, &hash)).await
    }

    async fn remove_account(&self, change: &Change, sub: &Sub) -> Result<()> {
        let sub = sub.clone();
        self.change_instance(change, move |write| remove_account(write, &sub)).await
    }
}

/// Opens a session.
pub(crate) fn open(write: &Write<'_>, session: &Session) -> Result<()> {
    let Session { hash, tenant, sub, email, name, owner, roles, auth_time, create_time, expire_time } =
        session;
    // Whoever is removed loses sessions and membership in one transaction: none is opened behind it.
    if !tenant::is_placed(write.transaction, *tenant)? || !is_member(write.transaction, *tenant, sub)? {
        return Err(Error::not_found("tenant", tenant));
    }
    query::execute(
        write.transaction,
        "DELETE FROM sessions
          WHERE rowid IN (
                SELECT rowid
                  FROM sessions
                 WHERE expire_time <= :now
                 ORDER BY expire_time
                 LIMIT :swept)",
        named_params! { ":now": write.now(), ":swept": SWEPT },
    )?;
    query::execute(
        write.transaction,
        "INSERT INTO sessions (token_hash, tenant_id, sub, email, name, owner, roles, auth_time, create_time,
                               expire_time)
         VALUES (:token_hash, :tenant_id, :sub, :email, :name, :owner, :roles, :auth_time, :create_time,
                 :expire_time)",
        named_params! {
            ":token_hash": hash,
            ":tenant_id": tenant.to_string(),
            ":sub": sub.as_str(),
            ":email": email,
            ":name": name,
            ":owner": owner.as_str(),
            ":roles": serde_json::to_string(roles).map_err(Error::internal)?,
            ":auth_time": auth_time.as_microsecond(),
            ":create_time": create_time.as_microsecond(),
            ":expire_time": expire_time.as_microsecond(),
        },
    )?;
    write.audit(sub, Some(*tenant), [])
}

fn open_by_password(write: &Write<'_>, session: &Session, password_hash: &str) -> Result<()> {
    let account = account_of(write.transaction, &session.sub)?;
    if account.is_none_or(|account| account.password_hash != password_hash) {
        return Err(Error::AuthInvalid("the password was changed meanwhile"));
    }
    open(write, session)
}

fn is_member(connection: &Connection, tenant: TenantId, sub: &Sub) -> Result<bool> {
    query::exists(
        connection,
        "SELECT 1
           FROM memberships
          WHERE tenant_id = :tenant_id AND sub = :sub",
        named_params! { ":tenant_id": tenant.to_string(), ":sub": sub.as_str() },
    )
}

/// The session with a token of that hash, unless it has ended at `now`.
pub(crate) fn find(connection: &Connection, hash: &[u8; 32], now: Timestamp) -> Result<Option<Session>> {
    query::row(
        connection,
        "SELECT token_hash, tenant_id, sub, email, name, owner, roles, auth_time, create_time, expire_time
           FROM sessions
          WHERE token_hash = :token_hash AND expire_time > :now",
        named_params! { ":token_hash": hash, ":now": now.as_microsecond() },
        session,
    )
}

/// Ends the session with a token of that hash, where there is one.
pub(crate) fn end(write: &Write<'_>, hash: &[u8; 32]) -> Result<()> {
    let ended = query::row(
        write.transaction,
        "DELETE FROM sessions
          WHERE token_hash = :token_hash
         RETURNING sub, tenant_id",
        named_params! { ":token_hash": hash },
        |row| Ok((column::word::<Sub>(row, "sub")?, column::word::<TenantId>(row, "tenant_id")?)),
    )?;
    ended.map_or(Ok(()), |(sub, tenant)| write.audit(&sub, Some(tenant), []))
}

/// Ends every session of the user; says how many there were.
fn delete_all(connection: &Connection, sub: &Sub) -> Result<usize> {
    query::execute(
        connection,
        "DELETE FROM sessions
          WHERE sub = :sub",
        named_params! { ":sub": sub.as_str() },
    )
}

fn session(row: &Row<'_>) -> rusqlite::Result<Session> {
    let roles: String = row.get("roles")?;
    let roles: BTreeSet<String> =
        serde_json::from_str(&roles).map_err(|cause| column::unreadable("roles", &cause))?;
    Ok(Session {
        hash: row.get("token_hash")?,
        tenant: column::word(row, "tenant_id")?,
        sub: column::word(row, "sub")?,
        email: row.get("email")?,
        name: row.get("name")?,
        owner: column::word(row, "owner")?,
        roles,
        auth_time: column::time(row, "auth_time")?,
        create_time: column::time(row, "create_time")?,
        expire_time: column::time(row, "expire_time")?,
    })
}

/// The account with that login.
fn find_account(connection: &Connection, login: &str) -> Result<Option<Account>> {
    query::row(
        connection,
        select_account!("WHERE login = :login"),
        named_params! { ":login": login },
        account,
    )
}

/// The account of that user.
fn account_of(connection: &Connection, sub: &Sub) -> Result<Option<Account>> {
    query::row(
        connection,
        select_account!("WHERE sub = :sub"),
        named_params! { ":sub": sub.as_str() },
        account,
    )
}

/// Adds an account.
fn add_account(write: &Write<'_>, account: &Account) -> Result<()> {
    let Account { sub, login, name, password_hash } = account;
    query::attempt(
        write.transaction,
        "INSERT INTO accounts (sub, login, name, password_hash)
         VALUES (:sub, :login, :name, :password_hash)",
        named_params! {
            ":sub": sub.as_str(),
            ":login": login,
            ":name": name,
            ":password_hash": password_hash,
        },
    )
    .map_err(|fault| match constraint(&fault) {
        Some("accounts.login") => Error::Conflict(format!("the login {login} is taken")),
        Some("accounts.sub") => Error::Conflict("the user has an account already".into()),
        Some(_) | None => internal(fault),
    })?;
    write.audit(sub, None, [("login", login.clone())])
}

/// Takes away the account of somebody who is no member.
fn remove_account(write: &Write<'_>, sub: &Sub) -> Result<()> {
    let joined = query::exists(
        write.transaction,
        "SELECT 1
           FROM memberships
          WHERE sub = :sub",
        named_params! { ":sub": sub.as_str() },
    )?;
    if joined {
        return Err(Error::PreconditionFailed("the account is that of a member".into()));
    }
    let removed = query::execute(
        write.transaction,
        "DELETE FROM accounts
          WHERE sub = :sub",
        named_params! { ":sub": sub.as_str() },
    )?;
    if removed == 0 {
        return Err(Error::not_found("account", sub));
    }
    write.audit(sub, None, [])
}

/// Changes the hash of the password, and ends every session of the user.
fn set_password(write: &Write<'_>, sub: &Sub, password_hash: &str) -> Result<()> {
    let changed = query::execute(
        write.transaction,
        "UPDATE accounts
            SET password_hash = :password_hash
          WHERE sub = :sub",
        named_params! { ":sub": sub.as_str(), ":password_hash": password_hash },
    )?;
    if changed == 0 {
        return Err(Error::not_found("account", sub));
    }
    let ended = delete_all(write.transaction, sub)?;
    write.audit(sub, None, [("sessions", ended.to_string())])
}

fn account(row: &Row<'_>) -> rusqlite::Result<Account> {
    Ok(Account {
        sub: column::word(row, "sub")?,
        login: row.get("login")?,
        name: row.get("name")?,
        password_hash: row.get("password_hash")?,
    })
}
