//! What must hold for sessions and accounts.

use super::super::{CLOCK, IDS, change, code, scope, seconds, sub};
use super::{Keep, founder, new_session};
use crate::host::Account;
use crate::{Change, Clock as _, Code, Ids as _, TenantRole};

/// A session is found as it was opened, up to its end and not at it.
pub async fn a_session_is_good_until_its_time(keep: &Keep) {
    let tenant = keep.place("home").await.id;
    let session = keep.session(tenant, &founder("home")).await;
    let find = async |hash: &[u8; 32], now| keep.host().find_session(hash, now).await.unwrap();
    assert_eq!(find(&session.hash, session.create_time).await, Some(session.clone()));
    assert_eq!(find(&session.hash, seconds(session.expire_time, -1)).await, Some(session.clone()));
    assert_eq!(find(&session.hash, session.expire_time).await, None);
    assert_eq!(find(&[9; 32], session.create_time).await, None);
}

/// The end of a session ends no other, and comes as often as it likes.
pub async fn a_session_ends_once_and_alone(keep: &Keep) {
    let (tenant, who) = (keep.place("home").await.id, founder("home"));
    let (one, two) = (keep.session(tenant, &who).await, keep.session(tenant, &who).await);
    for _ in 0..2 {
        keep.host().end_session(&change("user.logout"), &one.hash).await.unwrap();
        assert!(!keep.is_open(&one).await);
        assert!(keep.is_open(&two).await);
    }
}

/// A sign-in takes away the sessions that have ended, and none that has not.
pub async fn ended_sessions_of_long_ago_go(keep: &Keep) {
    let tenant = keep.place("home").await.id;
    for who in ["ann", "bob"] {
        keep.join(tenant, who, TenantRole::Member).await;
    }
    let session = keep.session(tenant, "ann").await;
    for (now, stays) in [(seconds(session.expire_time, -1), true), (session.expire_time, false)] {
        let login = Change { time: now, ..change("user.login") };
        keep.host().open_session(&login, &new_session(tenant, "bob", now)).await.unwrap();
        // Looked for at a time at which it was good.
        assert_eq!(keep.is_open(&session).await, stays, "{now}");
    }
}

/// Nobody signs in for a tenant that is elsewhere.
pub async fn a_session_is_for_a_tenant_that_has_a_place(keep: &Keep) {
    keep.place("home").await;
    let now = CLOCK.now();
    let session = new_session(IDS.tenant(now), &founder("home"), now);
    assert_eq!(code(keep.host().open_session(&change("user.login"), &session).await), Code::NotFound);
    assert!(!keep.is_open(&session).await);
}

/// Nobody signs in for a tenant of others, and nobody who was removed; whoever is in again signs in again.
pub async fn a_session_is_for_a_member(keep: &Keep) {
    let (home, other) = (keep.place("home").await.id, keep.place("other").await.id);
    let open = async |tenant| {
        let session = new_session(tenant, "ann", CLOCK.now());
        let opened = keep.host().open_session(&change("user.login"), &session).await;
        assert_eq!(keep.is_open(&session).await, opened.is_ok());
        opened
    };
    keep.join(other, "ann", TenantRole::Member).await;
    assert_eq!(code(open(home).await), Code::NotFound);
    keep.join(home, "ann", TenantRole::Viewer).await;
    open(home).await.unwrap();
    keep.members().remove(scope(home), &change("member.removed"), &sub("ann"), None).await.unwrap();
    assert_eq!(code(open(home).await), Code::NotFound);
    open(other).await.unwrap();
    keep.join(home, "ann", TenantRole::Viewer).await;
    open(home).await.unwrap();
}

fn account(who: &str, login: &str) -> Account {
    Account {
        sub: sub(who),
        login: login.to_owned(),
        name: format!("Name of {who}"),
        password_hash: format!("$argon2id${who}"),
    }
}

/// A login is somebody's; the password is changed for its own user.
pub async fn an_account_is_found_by_login_and_by_user(keep: &Keep) {
    let add = async |account: &Account| keep.host().add_account(&change("account.created"), account).await;
    let (ann, bob) = (account("ann", "Ann"), account("bob", "bob"));
    for account in [&ann, &bob] {
        add(account).await.unwrap();
    }
    for taken in [account("cy", "Ann"), account("ann", "other")] {
        assert_eq!(code(add(&taken).await), Code::Conflict, "{taken:?}");
    }
    assert_eq!(keep.host().find_account("Ann").await.unwrap(), Some(ann.clone()));
    assert_eq!(keep.host().find_account("other").await.unwrap(), None);
    assert_eq!(keep.host().account_of(&sub("bob")).await.unwrap(), Some(bob.clone()));
    assert_eq!(keep.host().account_of(&sub("cy")).await.unwrap(), None);
    let set =
        async |who| keep.host().set_password(&change("account.password.changed"), &sub(who), "new").await;
    set("ann").await.unwrap();
    assert_eq!(code(set("cy").await), Code::NotFound);
    let changed = Account { password_hash: "new".into(), ..ann };
    assert_eq!(keep.host().find_account("Ann").await.unwrap(), Some(changed));
    assert_eq!(keep.host().find_account("bob").await.unwrap(), Some(bob));
}

/// A new password ends the sessions of its user, and those that the old one would open come too late.
pub async fn a_new_password_ends_every_session_and_the_old_one_opens_none(keep: &Keep) {
    let tenant = keep.place("home").await.id;
    for who in ["ann", "bob"] {
        keep.join(tenant, who, TenantRole::Member).await;
        keep.host().add_account(&change("account.created"), &account(who, who)).await.unwrap();
    }
    let open = async |who: &str, hash: &str| {
        let session = new_session(tenant, who, CLOCK.now());
        let opened = keep.host().open_session_by_password(&change("user.login"), &session, hash).await;
        assert_eq!(keep.is_open(&session).await, opened.is_ok());
        opened.map(|()| session)
    };
    let old = account("ann", "ann").password_hash;
    let ended = [open("ann", &old).await.unwrap(), keep.session(tenant, "ann").await];
    let stays = open("bob", &account("bob", "bob").password_hash).await.unwrap();
    let set = change("account.password.changed");
    keep.host().set_password(&set, &sub("ann"), "new").await.unwrap();
    for session in &ended {
        assert!(!keep.is_open(session).await);
    }
    assert!(keep.is_open(&stays).await);
    assert_eq!(code(open("ann", &old).await), Code::AuthInvalid);
    assert_eq!(code(open(&founder("home"), &old).await), Code::AuthInvalid, "it has no account");
    open("ann", "new").await.unwrap();
    keep.members().remove(scope(tenant), &change("member.removed"), &sub("ann"), None).await.unwrap();
    assert_eq!(code(open("ann", "new").await), Code::NotFound);
}

/// The login of whoever did not join is free again; a member's account stays.
pub async fn an_account_goes_unless_it_is_that_of_a_member(keep: &Keep) {
    let tenant = keep.place("home").await.id;
    let (ann, cy) = (account("ann", "ann"), account("cy", "ann"));
    let add = async |account: &Account| keep.host().add_account(&change("account.created"), account).await;
    let remove = async |who| keep.host().remove_account(&change("account.removed"), &sub(who)).await;
    add(&ann).await.unwrap();
    remove("ann").await.unwrap();
    assert_eq!(keep.host().find_account("ann").await.unwrap(), None);
    assert_eq!(code(remove("ann").await), Code::NotFound);
    add(&cy).await.unwrap();
    keep.join(tenant, "cy", TenantRole::Member).await;
    assert_eq!(code(remove("cy").await), Code::PreconditionFailed);
    assert_eq!(keep.host().find_account("ann").await.unwrap(), Some(cy));
}
