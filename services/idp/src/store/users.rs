//! The users.

use std::time::Duration;

use jiff::Timestamp;
use kombify_core::{Error, Result};
use kombify_sqlite::internal;
use rusqlite::{Connection, OptionalExtension as _, Transaction, params};

use super::{Store, sessions, time};

/// How many users there are at most: anybody may sign up.
const USERS_MAX: i64 = 10_000;

/// A user.
#[derive(Clone)]
pub(crate) struct User {
    pub(crate) sub: String,
    /// As [`fold`] leaves it.
    pub(crate) login: String,
    /// As [`fold`] leaves it; it counts as verified.
    pub(crate) email: String,
    pub(crate) name: String,
    pub(crate) org: String,
    /// Each with the organisation that grants it.
    pub(crate) roles: Vec<(String, String)>,
    pub(crate) password_hash: String,
    /// Whether the user is kept out.
    pub(crate) locked: bool,
    pub(crate) create_time: Timestamp,
    /// How often the user changed, its creation counted.
    pub(crate) sequence: i64,
    /// When it changed last.
    pub(crate) change_time: Timestamp,
}

/// How logins and addresses are kept and compared.
pub(crate) fn fold(text: &str) -> String {
    text.trim().to_lowercase()
}

impl Store {
    /// Adds a user.
    ///
    /// # Errors
    /// - [`Error::Conflict`] if the login or the address is somebody's.
    /// - [`Error::Unavailable`] if there are too many users.
    pub(crate) async fn add_user(&self, user: User) -> Result<()> {
        self.database
            .write("idp.user.add", move |transaction| {
                let taken: bool = transaction
                    .query_row(
                        "SELECT EXISTS (SELECT 1 FROM users WHERE ?1 IN (login, email) OR ?2 IN (login, email))",
                        params![user.login, user.email],
                        |row| row.get(0),
                    )
                    .map_err(internal)?;
                if taken {
                    return Err(Error::Conflict(format!("{} is taken: somebody signs in with it", user.email)));
                }
                let count: i64 =
                    transaction.query_row("SELECT COUNT(*) FROM users", [], |row| row.get(0)).map_err(internal)?;
                if count >= USERS_MAX {
                    return Err(Error::unavailable("there are too many users", Duration::from_hours(1)));
                }
                transaction
                    .execute(
                        "INSERT INTO users (sub, login, email, name, org, password_hash, create_time,
                                            sequence, change_time)
                         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)",
                        params![
                            user.sub,
                            user.login,
                            user.email,
                            user.name,
                            user.org,
                            user.password_hash,
                            user.create_time.as_millisecond(),
                            user.sequence,
                            user.change_time.as_millisecond()
                        ],
                    )
                    .map_err(internal)?;
                for (role, org) in &user.roles {
                    transaction
                        .execute(
                            "INSERT OR IGNORE INTO user_roles (sub, role, org) VALUES (?1, ?2, ?3)",
                            params![user.sub, role, org],
                        )
                        .map_err(internal)?;
                }
                Ok(())
            })
            .await
    }

    /// Locks the user, with an end of every session and of all that came of it, or ends the lock. Says whether it was not so
    /// already. Those of `clients` that got tokens will be told.
    pub(crate) async fn set_lock(
        &self,
        sub: &str,
        locked: bool,
        clients: Vec<String>,
        now: Timestamp,
    ) -> Result<bool> {
        let sub = sub.to_owned();
        let name = if locked { "idp.user.lock" } else { "idp.user.unlock" };
        self.database
            .write(name, move |transaction| {
                let changed = transaction
                    .execute(
                        "UPDATE users SET locked_time = CASE WHEN ?2 THEN ?3 END, sequence = sequence + 1,
                                          change_time = ?3
                          WHERE sub = ?1 AND (locked_time IS NOT NULL) <> ?2",
                        params![sub, locked, now.as_millisecond()],
                    )
                    .map_err(internal)?;
                if locked {
                    end_sessions(transaction, &sub, &clients, now)?;
                }
                Ok(changed > 0)
            })
            .await
    }

    pub(crate) async fn find_user(&self, sub: &str) -> Result<Option<User>> {
        let sub = sub.to_owned();
        self.database.read(move |connection| load(connection, "sub = ?1", &sub)).await
    }

    /// The user who signs in with `login`, the short name or the address, as [`fold`] leaves it.
    pub(crate) async fn find_user_by_login(&self, login: &str) -> Result<Option<User>> {
        let login = login.to_owned();
        self.database.read(move |connection| load(connection, "?1 IN (login, email)", &login)).await
    }
}

/// Refuses whoever is locked.
///
/// # Errors
/// - [`Error::AuthInsufficient`] for a locked user.
pub(super) fn check_lock(connection: &Connection, sub: &str) -> Result<()> {
    let locked: bool = connection
        .query_row(
            "SELECT EXISTS (SELECT 1 FROM users WHERE sub = ?1 AND locked_time IS NOT NULL)",
            [sub],
            |row| row.get(0),
        )
        .map_err(internal)?;
    if locked { Err(Error::AuthInsufficient("this account is locked".into())) } else { Ok(()) }
}

fn end_sessions(transaction: &Transaction<'_>, sub: &str, clients: &[String], now: Timestamp) -> Result<()> {
    let mut statement = transaction
        .prepare_cached(
            "SELECT sid FROM sessions WHERE sub = ?1
              UNION
             SELECT sid FROM grants WHERE sub = ?1
              UNION
             SELECT sid FROM codes WHERE sub = ?1",
        )
        .map_err(internal)?;
    let sids: Vec<String> =
        statement.query_map([sub], |row| row.get(0)).and_then(Iterator::collect).map_err(internal)?;
    sids.iter().try_for_each(|sid| sessions::end(transaction, sid, clients, now))
}

fn load(connection: &Connection, condition: &'static str, value: &str) -> Result<Option<User>> {
    let user = connection
        .query_row(
            &format!(
                "SELECT sub, login, email, name, org, password_hash, create_time, locked_time IS NOT NULL,
                        sequence, change_time
                   FROM users
                  WHERE {condition}"
            ),
            [value],
            |row| {
                Ok(User {
                    sub: row.get(0)?,
                    login: row.get(1)?,
                    email: row.get(2)?,
                    name: row.get(3)?,
                    org: row.get(4)?,
                    roles: Vec::new(),
                    password_hash: row.get(5)?,
                    create_time: time(row.get(6)?),
                    locked: row.get(7)?,
                    sequence: row.get(8)?,
                    change_time: time(row.get(9)?),
                })
            },
        )
        .optional()
        .map_err(internal)?;
    let Some(mut user) = user else { return Ok(None) };
    let mut statement = connection
        .prepare_cached("SELECT role, org FROM user_roles WHERE sub = ?1 ORDER BY role, org")
        .map_err(internal)?;
    user.roles = statement
        .query_map([&user.sub], |row| Ok((row.get(0)?, row.get(1)?)))
        .and_then(Iterator::collect)
        .map_err(internal)?;
    Ok(Some(user))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::House;

    fn user(sub: &str, login: &str, email: &str) -> User {
        User {
            sub: sub.into(),
            login: login.into(),
            email: email.into(),
            name: "A".into(),
            org: "o".into(),
            roles: vec![
                ("user".into(), "o".into()),
                ("admin".into(), "p".into()),
                ("admin".into(), "o".into()),
            ],
            password_hash: "h".into(),
            locked: false,
            create_time: Timestamp::UNIX_EPOCH,
            sequence: 1,
            change_time: Timestamp::UNIX_EPOCH,
        }
    }

    #[tokio::test]
    async fn a_user_is_found_by_login_and_address_and_neither_is_given_twice() {
        let house = House::open();
        let store = &house.issuer().store;
        store.add_user(user("1", "ann", "ann@example.com")).await.unwrap();
        for login in ["ann", "ann@example.com"] {
            let found = store.find_user_by_login(login).await.unwrap().unwrap();
            assert_eq!(found.sub, "1");
            assert_eq!(found.roles.len(), 3);
        }
        assert!(store.find_user_by_login("1").await.unwrap().is_none());
        assert!(store.find_user("2").await.unwrap().is_none());
        for (login, email) in [
            ("ann", "b@example.com"),
            ("b", "ann@example.com"),
            ("ann@example.com", "b@example.com"),
            ("b", "ann"),
        ] {
            let fault = store.add_user(user("2", login, email)).await.unwrap_err();
            assert_eq!(fault.code().as_str(), "CONFLICT", "{login} {email}");
        }
        store.add_user(user("2", "b", "b@example.com")).await.unwrap();
    }
}
