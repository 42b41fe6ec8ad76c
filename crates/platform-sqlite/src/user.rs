//! Users.

use async_trait::async_trait;
use jiff::Timestamp;
use kombify_core::clock::rfc3339_seconds;
use kombify_core::page::Position;
use kombify_core::user::{
    OwnProfile, ProviderProfile, Revoked, Sighting, Theme, User, UserFilter, UserPatch, UserStore,
};
use kombify_core::{Change, Error, Etag, Listed, OrgId, Page, Result, Sub};
use rusqlite::{Connection, Row, named_params};

use crate::{PlatformSqlite, organisation, revocation};
use kombify_sqlite::ledger::Write;
use kombify_sqlite::query::Start;
use kombify_sqlite::{column, query};

macro_rules! select {
    ($rest:literal) => {
        concat!(
            "SELECT users.sub AS sub, owner, email, name, picture, display_name, avatar_url, locale, timezone, theme,
                    email_notices, identity_time, users.create_time AS create_time, update_time,
                    users.version AS version, plan, plan_end_time, revoke_time, locked
               FROM users
               JOIN organisations ON org_id = owner
               LEFT JOIN revocations ON revocations.sub = users.sub
            ",
            $rest
        )
    };
}

#[async_trait]
impl UserStore for PlatformSqlite {
    async fn sight(&self, change: &Change, sighting: &Sighting) -> Result<User> {
        let sighting = sighting.clone();
        self.write(change, move |write| {
            match find(write.transaction, &sighting.sub)? {
                None => insert(write, &sighting)?,
                Some(user) => refresh(write, &user, &sighting)?,
            }
            get(write.transaction, &sighting.sub)
        })
        .await
    }

    async fn find(&self, sub: &Sub) -> Result<Option<User>> {
        let sub = sub.clone();
        self.db.read(move |connection| find(connection, &sub)).await
    }

    async fn update(&self, change: &Change, sub: &Sub, etag: Option<Etag>, patch: UserPatch) -> Result<User> {
        let sub = sub.clone();
        self.write(change, move |write| {
            let user = get(write.transaction, &sub)?;
            Etag::check(etag, user.etag)?;
            let own = patch.apply(user.own.clone());
            if own != user.own {
                set_own(write, &sub, &own)?;
            }
            write.audit(&sub, None, [])?;
            get(write.transaction, &sub)
        })
        .await
    }

    async fn set_lock(&self, change: &Change, sub: &Sub, locked: bool, reason: &str) -> Result<Revoked> {
        let (sub, reason) = (sub.clone(), reason.to_owned());
        self.write(change, move |write| {
            get(write.transaction, &sub)?;
            let version = revocation::set_lock(write, &sub, locked)?;
            write.audit(&sub, None, [("reason", reason)])?;
            Ok(Revoked { user: get(write.transaction, &sub)?, version })
        })
        .await
    }

    async fn revoke(&self, change: &Change, sub: &Sub, revoke_time: Timestamp) -> Result<Revoked> {
        let sub = sub.clone();
        self.write(change, move |write| {
            get(write.transaction, &sub)?;
            let (version, changed) = revocation::end_sign_ins(write, &sub, revoke_time)?;
            if changed {
                write.audit(&sub, None, [("revokeTime", rfc3339_seconds(revoke_time))])?;
            }
            Ok(Revoked { user: get(write.transaction, &sub)?, version })
        })
        .await
    }

    async fn list(&self, filter: &UserFilter, page: &Page) -> Result<Listed<User>> {
        let (filter, page) = (filter.clone(), page.clone());
        self.db.read(move |connection| list(connection, &filter, &page)).await
    }
}

fn find(connection: &Connection, sub: &Sub) -> Result<Option<User>> {
    query::row(connection, select!("WHERE users.sub = :sub"), named_params! { ":sub": sub.as_str() }, user)
}

fn get(connection: &Connection, sub: &Sub) -> Result<User> {
    find(connection, sub)?.ok_or_else(|| Error::not_found("user", sub))
}

fn insert(write: &Write<'_>, sighting: &Sighting) -> Result<()> {
    let Sighting { sub, owner, token_time, profile } = sighting;
    organisation::see(write, owner)?;
    // Nothing is mirrored yet where userinfo could not be asked: the next token that can be asked with is newer.
    let mirrored = profile.as_ref().map_or(Timestamp::UNIX_EPOCH, |_| *token_time);
    let ProviderProfile { email, name, picture } = profile.clone().unwrap_or_default();
    query::execute(
        write.transaction,
        "INSERT INTO users (sub, owner, email, name, picture, identity_time, create_time, update_time)
         VALUES (:sub, :owner, :email, :name, :picture, :identity_time, :now, :now)",
        named_params! {
            ":sub": sub.as_str(),
            ":owner": owner.as_str(),
            ":email": email,
            ":name": name,
            ":picture": picture,
            ":identity_time": mirrored.as_microsecond(),
            ":now": write.now(),
        },
    )?;
    write.audit(sub, None, [])
}

fn refresh(write: &Write<'_>, user: &User, sighting: &Sighting) -> Result<()> {
    let Sighting { sub, owner, token_time, profile } = sighting;
    if token_time.as_microsecond() <= user.identity_time.as_microsecond() {
        return Ok(());
    }
    // Without userinfo nothing newer is mirrored: the same token may still bring it.
    let mirrored = profile.as_ref().map_or(user.identity_time, |_| *token_time);
    let profile = profile.as_ref().unwrap_or(&user.profile);
    let changed = *profile != user.profile || *owner != user.owner;
    if !changed && mirrored == user.identity_time {
        return Ok(());
    }
    organisation::see(write, owner)?;
    let ProviderProfile { email, name, picture } = profile;
    query::execute(
        write.transaction,
        "UPDATE users
            SET owner = :owner, email = :email, name = :name, picture = :picture, identity_time = :identity_time,
                update_time = CASE WHEN :changed THEN :now ELSE update_time END,
                version = version + :changed
          WHERE sub = :sub",
        named_params! {
            ":sub": sub.as_str(),
            ":owner": owner.as_str(),
            ":email": email,
            ":name": name,
            ":picture": picture,
            ":identity_time": mirrored.as_microsecond(),
            ":changed": changed,
            ":now": write.now(),
        },
    )
    .map(drop)
}

fn set_own(write: &Write<'_>, sub: &Sub, own: &OwnProfile) -> Result<()> {
    let OwnProfile { display_name, avatar_url, locale, timezone, theme, email_notices } = own;
    query::execute(
        write.transaction,
        "UPDATE users
            SET display_name = :display_name, avatar_url = :avatar_url, locale = :locale, timezone = :timezone,
                theme = :theme, email_notices = :email_notices, update_time = :now, version = version + 1
          WHERE sub = :sub",
        named_params! {
            ":sub": sub.as_str(),
            ":display_name": display_name,
            ":avatar_url": avatar_url,
            ":locale": locale,
            ":timezone": timezone,
            ":theme": theme.map(Theme::as_str),
            ":email_notices": email_notices,
            ":now": write.now(),
        },
    )
    .map(drop)
}

fn list(connection: &Connection, filter: &UserFilter, page: &Page) -> Result<Listed<User>> {
    let UserFilter { search, owner } = filter;
    let start = Start::of(page);
    let users = query::rows(
        connection,
        select!(
            r"WHERE (email LIKE :search ESCAPE '\'
                     OR CASE display_name WHEN '' THEN name ELSE display_name END LIKE :search ESCAPE '\')
                AND (:owner IS NULL OR owner = :owner)
                AND (users.create_time, users.sub) < (:time, :id)
              ORDER BY users.create_time DESC, users.sub DESC
              LIMIT :limit"
        ),
        named_params! {
            ":search": query::containing(search),
            ":owner": owner.as_ref().map(OrgId::as_str),
            ":time": start.time,
            ":id": start.id,
            ":limit": start.limit,
        },
        user,
    )?;
    Ok(page.cut(users, |user| Position { create_time: user.create_time, id: user.sub.to_string() }))
}

fn user(row: &Row<'_>) -> rusqlite::Result<User> {
    let theme: Option<String> = row.get("theme")?;
    Ok(User {
        sub: column::word(row, "sub")?,
        owner: column::word(row, "owner")?,
        profile: ProviderProfile {
            email: row.get("email")?,
            name: row.get("name")?,
            picture: row.get("picture")?,
        },
        own: OwnProfile {
            display_name: row.get("display_name")?,
            avatar_url: row.get("avatar_url")?,
            locale: row.get("locale")?,
            timezone: row.get("timezone")?,
            theme: Theme::parse(&theme.unwrap_or_default())
                .map_err(|cause| column::unreadable("theme", &cause))?,
            email_notices: row.get("email_notices")?,
        },
        grant: column::grant(row)?,
        create_time: column::time(row, "create_time")?,
        update_time: column::time(row, "update_time")?,
        revocation: revocation::revocation(row)?,
        identity_time: column::time(row, "identity_time")?,
        etag: column::etag(row)?,
    })
}
