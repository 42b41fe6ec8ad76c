//! What must hold for users.

use std::slice;

use super::{CLOCK, Pair, all_pages, change, code, instance_id, org, seconds, sighting, stack, sub};
use crate::revocation::Revocation;
use crate::sync::SyncKind;
use crate::user::{ProviderProfile, Revoked, Sighting, Theme, User, UserFilter, UserPatch, UserStore};
use crate::{Change, Clock as _, Code, Etag, Page, ServiceIdentity};

/// The first sighting makes the user and the organisation and leaves one audit row; the second leaves none.
pub async fn first_sight_makes_a_user_and_is_audited_once(pair: &Pair) {
    let change = change("user.created");
    let seen = sighting("ann", "org-1", 100);
    let user = pair.users().sight(&change, &seen).await.unwrap();
    assert_eq!(user.sub, seen.sub);
    assert_eq!(user.owner, seen.owner);
    assert_eq!(Some(&user.profile), seen.profile.as_ref());
    assert_eq!((user.create_time, user.update_time), (change.time, change.time));
    assert_eq!(user.identity_time, seen.token_time);
    assert_eq!(user.grant, None);
    assert_eq!(UserStore::find(&*pair.b, &seen.sub).await.unwrap(), Some(user.clone()));
    assert!(pair.organisations().find(&org("org-1")).await.unwrap().is_some());
    assert_eq!(pair.sight(&seen).await, user);
    let rows = pair.rows_of("user.created").await;
    assert_eq!(rows.len(), 1);
    assert_eq!((rows[0].target.as_str(), rows[0].tenant), ("ann", None));
}

/// A newer token brings the provider's news; what the user set stays and stays stronger.
pub async fn a_newer_token_refreshes_what_the_provider_says_and_keeps_what_the_user_set(pair: &Pair) {
    pair.sight(&sighting("ann", "org-1", 100)).await;
    let patch = UserPatch {
        display_name: Some("Annie".into()),
        theme: Some(Some(Theme::Dark)),
        ..UserPatch::default()
    };
    let own = pair.users().update(&change("user.updated"), &sub("ann"), None, patch).await.unwrap();
    let news =
        ProviderProfile { email: "new@example.org".into(), name: "Ann New".into(), picture: String::new() };
    let seen = Sighting { profile: Some(news.clone()), ..sighting("ann", "org-2", 200) };
    let user = pair.sight(&seen).await;
    assert_eq!(user.profile, news);
    assert_eq!(user.owner, org("org-2"));
    assert_eq!(user.identity_time, seen.token_time);
    assert_eq!(user.own, own.own);
    assert_eq!(user.display_name(), "Annie");
    assert_eq!(user.create_time, own.create_time);
    assert!(user.update_time > own.update_time);
    assert_ne!(user.etag, own.etag);
    assert!(pair.organisations().find(&org("org-2")).await.unwrap().is_some());
}

/// A token that is older than the mirrored one, or the same, changes nothing, whatever comes with it.
pub async fn an_older_token_changes_nothing(pair: &Pair) {
    let user = pair.sight(&sighting("ann", "org-1", 100)).await;
    for second in [100, 99] {
        let other = ProviderProfile { email: "old@example.org".into(), ..ProviderProfile::default() };
        let seen = Sighting { profile: Some(other), ..sighting("ann", "org-2", second) };
        assert_eq!(pair.sight(&seen).await, user);
    }
}

/// Where userinfo could not be asked, what is mirrored stays; the same token may bring it later.
pub async fn a_sighting_without_userinfo_keeps_what_is_mirrored_and_a_later_one_brings_it(pair: &Pair) {
    let blind = Sighting { profile: None, ..sighting("ann", "org-1", 100) };
    assert_eq!(pair.sight(&blind).await.profile, ProviderProfile::default());
    let seen = sighting("ann", "org-1", 100);
    assert_eq!(Some(pair.sight(&seen).await.profile), seen.profile);
    let blind = Sighting { profile: None, ..sighting("ann", "org-2", 200) };
    let user = pair.sight(&blind).await;
    assert_eq!((Some(user.profile), user.owner), (seen.profile, org("org-2")));
    let seen = Sighting {
        profile: Some(ProviderProfile { name: "Ann New".into(), ..ProviderProfile::default() }),
        ..sighting("ann", "org-2", 200)
    };
    assert_eq!(pair.sight(&seen).await.profile.name, "Ann New");
}

/// A newer token with nothing new leaves version and update time.
pub async fn what_looks_the_same_keeps_its_version(pair: &Pair) {
    let before = pair.sight(&sighting("ann", "org-1", 100)).await;
    let after = pair.sight(&sighting("ann", "org-1", 200)).await;
    assert_eq!((after.etag, after.update_time), (before.etag, before.update_time));
    assert!(after.identity_time > before.identity_time);
}

/// A patch changes the fields that it names; an empty text gives way to the provider's.
pub async fn an_update_sets_what_it_names_and_an_empty_text_falls_back(pair: &Pair) {
    let before = pair.sight(&sighting("ann", "org-1", 100)).await;
    let patch = UserPatch {
        display_name: Some("Annie".into()),
        avatar_url: Some("https://example.org/me.png".into()),
        locale: Some("de-AT".into()),
        timezone: Some("Europe/Vienna".into()),
        theme: Some(Some(Theme::System)),
        email_notices: Some(true),
    };
    let update = change("user.updated");
    let set = pair.users().update(&update, &sub("ann"), Some(before.etag), patch.clone()).await.unwrap();
    assert_eq!(set.own, patch.apply(before.own));
    assert_eq!((set.display_name(), set.avatar_url()), ("Annie", "https://example.org/me.png"));
    assert_eq!(set.update_time, update.time);
    assert_eq!(set.profile, before.profile);
    let clear = UserPatch { display_name: Some(String::new()), theme: Some(None), ..UserPatch::default() };
    let cleared = pair.users().update(&change("user.updated"), &sub("ann"), None, clear).await.unwrap();
    assert_eq!(cleared.display_name(), "Name of ann");
    assert_eq!((cleared.own.theme, cleared.own.locale.as_str()), (None, "de-AT"));
    assert!(cleared.own.email_notices);
    assert_eq!(UserStore::find(&*pair.b, &sub("ann")).await.unwrap(), Some(cleared));
}

/// An update for another version than the present one changes nothing.
pub async fn an_update_needs_the_present_etag(pair: &Pair) {
    let first = pair.sight(&sighting("ann", "org-1", 100)).await;
    let patch = |name: &str| UserPatch { display_name: Some(name.to_owned()), ..UserPatch::default() };
    let update = |etag: Etag, name: &str| {
        let patch = patch(name);
        async move { pair.users().update(&change("user.updated"), &sub("ann"), Some(etag), patch).await }
    };
    let second = update(first.etag, "one").await.unwrap();
    assert_ne!(second.etag, first.etag);
    assert_eq!(code(update(first.etag, "two").await), Code::PreconditionFailed);
    assert_eq!(pair.users().find(&sub("ann")).await.unwrap(), Some(second));
}

/// Who was never seen is neither found nor updated.
pub async fn an_update_of_a_stranger_finds_nothing(pair: &Pair) {
    assert_eq!(pair.users().find(&sub("nobody")).await.unwrap(), None);
    let update =
        pair.users().update(&change("user.updated"), &sub("nobody"), None, UserPatch::default()).await;
    assert_eq!(code(update), Code::NotFound);
}

/// Users who were made in the same moment are each on one page, newest first and then by `sub`.
pub async fn pages_hold_every_user_once_and_in_order(pair: &Pair) {
    let moment = change("user.created");
    for who in ["u3", "u1", "u5", "u2", "u4"] {
        pair.users().sight(&moment, &sighting(who, "org-1", 100)).await.unwrap();
    }
    pair.sight(&sighting("u0", "org-1", 100)).await;
    for limit in [1, 2, 3, 6, 7] {
        let filter = UserFilter::default();
        let users = all_pages(limit, |page| {
            let filter = &filter;
            async move { pair.users().list(filter, &page).await }
        });
        let subs: Vec<String> = users.await.iter().map(|user| user.sub.to_string()).collect();
        assert_eq!(subs, ["u0", "u5", "u4", "u3", "u2", "u1"], "{limit} a page");
    }
}

/// A search looks into the address and the name that is shown, ignores case, and knows no wildcards.
pub async fn a_search_finds_addresses_and_shown_names_and_takes_every_letter_as_it_is(pair: &Pair) {
    for (who, name) in [("ann", "100% Ann"), ("bob", "Bob_Smith"), ("cy", r"C\Y"), ("dee", "Bob Smith")] {
        let profile = ProviderProfile {
            email: format!("{who}@example.org"),
            name: name.into(),
            picture: String::new(),
        };
        pair.sight(&Sighting { profile: Some(profile), ..sighting(who, "org-1", 100) }).await;
    }
    let hide = UserPatch { display_name: Some("Deirdre".into()), ..UserPatch::default() };
    pair.users().update(&change("user.updated"), &sub("dee"), None, hide).await.unwrap();
    let cases: [(&str, &[&str]); 10] = [
        ("", &["dee", "cy", "bob", "ann"]),
        ("ANN@", &["ann"]),
        ("bob", &["bob"]), // Dee's "Bob Smith" is not shown any more.
        ("deirdre", &["dee"]),
        ("example.org", &["dee", "cy", "bob", "ann"]),
        ("%", &["ann"]),
        ("_", &["bob"]),
        (r"\", &["cy"]),
        ("b_b", &[]),
        ("nobody", &[]),
    ];
    for (search, expected) in cases {
        let filter = UserFilter { search: search.to_owned(), owner: None };
        let listed = pair.users().list(&filter, &Page::first()).await.unwrap();
        let subs: Vec<&str> = listed.items.iter().map(|user| user.sub.as_str()).collect();
        assert_eq!(subs, expected, "{search:?}");
    }
}

/// The filter by organisation leaves out everybody else.
pub async fn a_list_of_an_organisation_holds_its_users_only(pair: &Pair) {
    for (who, owner) in [("ann", "org-1"), ("bob", "org-2"), ("cy", "org-1")] {
        pair.sight(&sighting(who, owner, 100)).await;
    }
    let filter = UserFilter { search: String::new(), owner: Some(org("org-1")) };
    let listed = pair.users().list(&filter, &Page::first()).await.unwrap();
    let subs: Vec<&str> = listed.items.iter().map(|user| user.sub.as_str()).collect();
    assert_eq!(subs, ["cy", "ann"]);
    assert_eq!(listed.next_cursor, "");
}

async fn set_lock(pair: &Pair, change: &Change, locked: bool) -> Revoked {
    pair.users().set_lock(change, &sub("ann"), locked, "a reason").await.unwrap()
}

/// A lock ends the sign-ins of before for good, and every one while it lasts; it shows in every read.
pub async fn a_lock_ends_every_sign_in_and_its_end_only_those_of_before(pair: &Pair) {
    let seen = pair.sight(&sighting("ann", "org-1", 100)).await;
    assert_eq!(seen.revocation, None);
    let lock = change("user.locked");
    let user = set_lock(pair, &lock, true).await.user;
    assert_eq!(user, User { revocation: Some(Revocation { time: lock.time, locked: true }), ..seen });
    assert_eq!(UserStore::find(&*pair.b, &sub("ann")).await.unwrap(), Some(user.clone()));
    let all = pair.users().list(&UserFilter::default(), &Page::first()).await.unwrap();
    assert_eq!(all.items, slice::from_ref(&user));
    let ended = set_lock(pair, &change("user.unlocked"), false).await.user;
    assert_eq!(ended, User { revocation: Some(Revocation { time: lock.time, locked: false }), ..user });
    for action in ["user.locked", "user.unlocked"] {
        let rows = pair.rows_of(action).await;
        assert_eq!(
            (rows.len(), rows[0].target.as_str(), rows[0].details["reason"].as_str()),
            (1, "ann", "a reason")
        );
    }
}

/// Locking who is locked ends the sign-ins of before anew, and tells every module again, under a version of its own; ending
/// no lock tells nothing.
pub async fn a_lock_is_told_to_every_module_each_time(pair: &Pair) {
    pair.sight(&sighting("ann", "org-1", 100)).await;
    let stack = stack(instance_id());
    let cloud = ServiceIdentity { module: "cloud".into(), instance: "local".into() };
    for target in [&stack, &cloud] {
        pair.syncs().connect(&change("sync.connected"), target, "http://there").await.unwrap();
    }
    let none = set_lock(pair, &change("user.unlocked"), false).await;
    assert_eq!(none.user.revocation, None);
    let mut version = none.version;
    for locked in [true, true, false] {
        let change = change("user.locked");
        let told = set_lock(pair, &change, locked).await;
        assert!(told.version > version);
        version = told.version;
        if locked {
            assert_eq!(told.user.revocation, Some(Revocation { time: change.time, locked }));
        }
        for target in [&stack, &cloud] {
            assert_eq!(pair.stream(target, SyncKind::Revocations).await.pending, 1, "{target}");
        }
    }
}

/// What is revoked already changes nothing, leaves no row and tells nobody; who waits for it waits for the version of
/// the first time. A lock stays.
pub async fn a_revocation_only_moves_forward_and_is_told_once(pair: &Pair) {
    pair.sight(&sighting("ann", "org-1", 100)).await;
    let cloud = ServiceIdentity { module: "cloud".into(), instance: "local".into() };
    pair.syncs().connect(&change("sync.connected"), &cloud, "http://cloud").await.unwrap();
    let time = CLOCK.now();
    let revoke = async |time| pair.users().revoke(&change("user.logout"), &sub("ann"), time).await.unwrap();
    let first = revoke(time).await;
    assert_eq!(first.user.revocation, Some(Revocation { time, locked: false }));
    for earlier in [time, seconds(time, -1)] {
        assert_eq!(revoke(earlier).await, first);
    }
    assert_eq!(pair.rows_of("user.logout").await.len(), 1);
    assert_eq!(pair.stream(&cloud, SyncKind::Revocations).await.pending, 1);
    let later = seconds(time, 1);
    let second = revoke(later).await;
    assert_eq!(second.user.revocation, Some(Revocation { time: later, locked: false }));
    assert!(second.version > first.version);
    assert_eq!(revoke(later).await, second);
    let lock = change("user.locked");
    set_lock(pair, &lock, true).await;
    let third = revoke(seconds(lock.time, 5)).await;
    assert_eq!(third.user.revocation, Some(Revocation { time: seconds(lock.time, 5), locked: true }));
    // Of a lock, too, the moment only moves forward.
    let again = set_lock(pair, &change("user.locked"), true).await;
    assert_eq!(again.user.revocation, third.user.revocation);
}

/// Who was never seen is neither locked nor revoked.
pub async fn nobody_unknown_is_locked_or_revoked(pair: &Pair) {
    let (who, now) = (sub("nobody"), CLOCK.now());
    assert_eq!(code(pair.users().set_lock(&change("user.locked"), &who, true, "").await), Code::NotFound);
    assert_eq!(code(pair.users().set_lock(&change("user.locked"), &who, false, "").await), Code::NotFound);
    assert_eq!(code(pair.users().revoke(&change("user.logout"), &who, now).await), Code::NotFound);
    assert!(pair.rows_of("user.locked").await.is_empty());
}
