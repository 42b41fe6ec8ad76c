//! What must hold for flags, overrides and entitlements.

use std::collections::{BTreeMap, BTreeSet};

use super::{Pair, all_pages, change, change_by, code, org, sighting, sub};
use crate::flag::{Entitled, Entitlements, Flag, FlagChange, FlagKey, FlagStore, bounds};
use crate::placed::PlacedFlags;
use crate::{Code, Etag, Page, Plan, Result};

const ON: &str = r#"{"state":"ENABLED"}"#;
const OFF: &str = r#"{"state":"DISABLED"}"#;

fn key(text: &str) -> FlagKey {
    text.parse().unwrap()
}

async fn attempt(pair: &Pair, name: &str, etag: Option<Etag>, definition: &str) -> Result<Flag> {
    pair.flags().set(&change("flag.set"), &key(name), etag, definition, "a reason").await
}

async fn set(pair: &Pair, name: &str, definition: &str) -> Flag {
    attempt(pair, name, None, definition).await.unwrap()
}

async fn override_for(pair: &Pair, who: &str, flags: &str) -> Result<String> {
    pair.flags().set_overrides(&change("flag.overrides.set"), &sub(who), flags, "a reason").await
}

async fn entitle(pair: &Pair, owner: Entitled, to: &[&str]) -> Result<Entitlements> {
    let set = entitlements(owner, to);
    pair.flags().set_entitlements(&change("entitlements.set"), &set, "a reason").await
}

fn entitlements(owner: Entitled, to: &[&str]) -> Entitlements {
    Entitlements { owner, entitlements: to.iter().map(|&text| text.to_owned()).collect() }
}

async fn version(pair: &Pair) -> u32 {
    pair.syncs().flags().await.unwrap().version
}

async fn changes(pair: &Pair, name: Option<&str>) -> Vec<FlagChange> {
    let name = name.map(key);
    FlagStore::changes(&*pair.b, name.as_ref(), &Page::first()).await.unwrap().items
}

/// A flag is there as it was set, in the version of the set that it made; a new definition keeps its creation time.
pub async fn a_flag_is_found_as_it_was_set(pair: &Pair) {
    assert_eq!(pair.flags().find(&key("a")).await.unwrap(), None);
    let create = change("flag.set");
    let flag = pair.flags().set(&create, &key("a"), None, ON, "a reason").await.unwrap();
    assert_eq!((&flag.key, flag.definition.as_str()), (&key("a"), ON));
    assert_eq!((flag.create_time, flag.update_time), (create.time, create.time));
    assert_eq!(flag.version, version(pair).await);
    assert_eq!(FlagStore::find(&*pair.b, &key("a")).await.unwrap(), Some(flag.clone()));
    set(pair, "b", ON).await;
    let update = change("flag.set");
    let changed = pair.flags().set(&update, &key("a"), None, OFF, "a reason").await.unwrap();
    assert_eq!((changed.create_time, changed.update_time), (create.time, update.time));
    assert_eq!((changed.version, version(pair).await), (flag.version + 2, flag.version + 2));
    assert_ne!(changed.etag, flag.etag);
    let rows = pair.rows_of("flag.set").await;
    assert_eq!(
        (rows.len(), rows[0].target.as_str(), rows[0].details["reason"].as_str()),
        (3, "a", "a reason")
    );
}

/// Setting what is so already leaves version, flag and changes as they are; the log has a row all the same.
pub async fn what_is_so_already_makes_no_new_version(pair: &Pair) {
    let flag = set(pair, "a", ON).await;
    override_for(pair, "ann", r#"{"a":true}"#).await.unwrap();
    entitle(pair, Entitled::Plan(Plan::Pro), &["x"]).await.unwrap();
    let before = version(pair).await;
    assert_eq!(set(pair, "a", ON).await, flag);
    override_for(pair, "ann", r#"{"a":true}"#).await.unwrap();
    override_for(pair, "bob", "{}").await.unwrap();
    entitle(pair, Entitled::Plan(Plan::Pro), &["x"]).await.unwrap();
    assert_eq!((version(pair).await, changes(pair, None).await.len()), (before, 3));
    for (action, rows) in [("flag.set", 2), ("flag.overrides.set", 3), ("entitlements.set", 2)] {
        assert_eq!(pair.rows_of(action).await.len(), rows, "{action}");
    }
}

/// A definition for another version than the present one is not set, nor is such a flag deleted; a flag that is not
/// there has no version.
pub async fn a_flag_needs_the_present_etag(pair: &Pair) {
    let first = set(pair, "a", ON).await;
    let elsewhere = attempt(pair, "b", Some(first.etag), ON).await;
    assert_eq!(code(elsewhere), Code::PreconditionFailed);
    let second = attempt(pair, "a", Some(first.etag), OFF).await.unwrap();
    assert_eq!(code(attempt(pair, "a", Some(first.etag), ON).await), Code::PreconditionFailed);
    let delete = async |etag| pair.flags().delete(&change("flag.deleted"), &key("a"), Some(etag), "").await;
    assert_eq!(code(delete(first.etag).await), Code::PreconditionFailed);
    assert_eq!(pair.flags().find(&key("a")).await.unwrap(), Some(second.clone()));
    delete(second.etag).await.unwrap();
}

/// A deleted flag is nowhere; one of its key that is made later is another one.
pub async fn a_deleted_flag_is_gone_and_its_etag_never_comes_again(pair: &Pair) {
    let first = set(pair, "a", ON).await;
    let delete = async || pair.flags().delete(&change("flag.deleted"), &key("a"), None, "a reason").await;
    delete().await.unwrap();
    assert_eq!(pair.flags().find(&key("a")).await.unwrap(), None);
    assert!(pair.flags().list(&Page::first()).await.unwrap().items.is_empty());
    assert_eq!(code(delete().await), Code::NotFound);
    assert_eq!(version(pair).await, first.version + 1);
    let second = set(pair, "a", ON).await;
    assert_ne!(second.etag, first.etag);
    assert!(second.create_time > first.create_time);
    assert_eq!(pair.rows_of("flag.deleted").await.len(), 1);
}

/// Flags that were made in the same moment are each on one page, newest first and then by key.
pub async fn pages_hold_every_flag_once_and_in_order(pair: &Pair) {
    let moment = change("flag.set");
    for name in ["c", "a", "d", "b"] {
        pair.flags().set(&moment, &key(name), None, ON, "").await.unwrap();
    }
    set(pair, "0", ON).await;
    for limit in [1, 2, 4, 5, 6] {
        let flags = all_pages(limit, |page| async move { pair.flags().list(&page).await }).await;
        let keys: Vec<&str> = flags.iter().map(|flag| flag.key.as_str()).collect();
        assert_eq!(keys, ["0", "d", "c", "b", "a"], "{limit} a page");
    }
}

/// Whatever changed, the changes say what was before and after, who did it, why and when: newest first, and for one
/// flag its own.
pub async fn every_change_is_kept_with_what_was_before(pair: &Pair) {
    let set_by_ann = change_by("ann", "flag.set");
    pair.flags().set(&set_by_ann, &key("a"), None, ON, "first").await.unwrap();
    set(pair, "a", OFF).await;
    override_for(pair, "ann", r#"{"a":1}"#).await.unwrap();
    override_for(pair, "ann", r#"{"a":2}"#).await.unwrap();
    override_for(pair, "ann", "{}").await.unwrap();
    entitle(pair, Entitled::Plan(Plan::Pro), &["y", "x"]).await.unwrap();
    entitle(pair, Entitled::Plan(Plan::Pro), &[]).await.unwrap();
    pair.flags().delete(&change("flag.deleted"), &key("a"), None, "last").await.unwrap();
    let found = changes(pair, None).await;
    let first = FlagChange {
        version: 1,
        subject: "a".into(),
        before: String::new(),
        after: ON.into(),
        sub: Some(sub("ann")),
        reason: "first".into(),
        create_time: set_by_ann.time,
    };
    assert_eq!(found.last(), Some(&first));
    let shown: Vec<_> = found
        .iter()
        .rev()
        .map(|change| {
            (change.version, change.subject.as_str(), change.before.as_str(), change.after.as_str())
        })
        .collect();
    assert_eq!(
        shown,
        [
            (1, "a", "", ON),
            (2, "a", ON, OFF),
            (3, "overrides of ann", "", r#"{"a":1}"#),
            (4, "overrides of ann", r#"{"a":1}"#, r#"{"a":2}"#),
            (5, "overrides of ann", r#"{"a":2}"#, ""),
            (6, "entitlements of pro", "", r#"["x","y"]"#),
            (7, "entitlements of pro", r#"["x","y"]"#, "[]"),
            (8, "a", OFF, ""),
        ]
    );
    let versions = |changes: &[FlagChange]| changes.iter().map(|change| change.version).collect::<Vec<_>>();
    assert_eq!(versions(&changes(pair, Some("a")).await), [8, 2, 1]);
    for limit in [1, 3, 8] {
        let pages = all_pages(limit, |page| async move { pair.flags().changes(None, &page).await }).await;
        assert_eq!(pages, found, "{limit} a page");
    }
}

/// Who has no overrides has an empty object; what is set takes the place of everything before.
pub async fn overrides_are_set_and_taken_away(pair: &Pair) {
    assert_eq!(pair.flags().overrides(&sub("ann")).await.unwrap(), "{}");
    for flags in [r#"{"a":true,"b":1}"#, r#"{"c":"x"}"#] {
        assert_eq!(override_for(pair, "ann", flags).await.unwrap(), flags);
        assert_eq!(FlagStore::overrides(&*pair.b, &sub("ann")).await.unwrap(), flags);
    }
    assert_eq!(pair.flags().overrides(&sub("bob")).await.unwrap(), "{}");
    assert_eq!(override_for(pair, "ann", "{}").await.unwrap(), "{}");
    assert_eq!(pair.flags().overrides(&sub("ann")).await.unwrap(), "{}");
    assert!(pair.syncs().flags().await.unwrap().overrides.is_empty());
}

/// A plan is always there, an organisation from its first user on.
pub async fn entitlements_are_of_plans_and_of_organisations_that_were_seen(pair: &Pair) {
    let ours = || Entitled::Organisation(org("org-1"));
    assert_eq!(code(entitle(pair, ours(), &["x"]).await), Code::NotFound);
    pair.sight(&sighting("ann", "org-1", 100)).await;
    assert_eq!(entitle(pair, ours(), &["x"]).await.unwrap(), entitlements(ours(), &["x"]));
    let pro = Entitled::Plan(Plan::Pro);
    entitle(pair, pro.clone(), &["y", "x"]).await.unwrap();
    entitle(pair, ours(), &[]).await.unwrap();
    // Ever set, newest first: of one that was set again, its first time counts.
    let listed = FlagStore::entitlements(&*pair.b, &Page::first()).await.unwrap().items;
    assert_eq!(listed, [entitlements(pro, &["x", "y"]), entitlements(ours(), &[])]);
    let rows = pair.rows_of("entitlements.set").await;
    assert_eq!((rows.len(), rows[0].target.as_str()), (3, "org-1"));
}

/// Sets of the same moment are each on one page.
pub async fn pages_hold_every_entitlement_once_and_in_order(pair: &Pair) {
    pair.sight(&sighting("ann", "org-1", 100)).await;
    let moment = change("entitlements.set");
    let owners = [
        Entitled::Plan(Plan::Free),
        Entitled::Plan(Plan::Enterprise),
        Entitled::Organisation(org("org-1")),
        Entitled::Plan(Plan::Pro),
    ];
    for owner in owners {
        pair.flags().set_entitlements(&moment, &entitlements(owner, &["x"]), "").await.unwrap();
    }
    let expected = pair.flags().entitlements(&Page::first()).await.unwrap().items;
    assert_eq!(expected.len(), 4);
    for limit in [1, 2, 3, 4, 5] {
        let found = all_pages(limit, |page| async move { pair.flags().entitlements(&page).await }).await;
        assert_eq!(found, expected, "{limit} a page");
    }
}

/// What is pushed is everything at once: the definitions as they were set, in the order of their keys, in flagd's
/// format; who is entitled to nothing is not in it.
pub async fn the_set_is_pushed_whole_and_in_order(pair: &Pair) {
    let empty = PlacedFlags { definitions: r#"{"flags":{}}"#.into(), ..PlacedFlags::default() };
    assert_eq!(pair.syncs().flags().await.unwrap(), empty);
    pair.sight(&sighting("ann", "org-1", 100)).await;
    pair.sight(&sighting("bob", "org-2", 100)).await;
    set(pair, "b", ON).await;
    set(pair, "a.b-c_D", OFF).await;
    override_for(pair, "ann", r#"{"b":false}"#).await.unwrap();
    entitle(pair, Entitled::Plan(Plan::Pro), &["x"]).await.unwrap();
    entitle(pair, Entitled::Organisation(org("org-1")), &["y", "z"]).await.unwrap();
    entitle(pair, Entitled::Organisation(org("org-2")), &["y"]).await.unwrap();
    entitle(pair, Entitled::Organisation(org("org-2")), &[]).await.unwrap();
    let expected = PlacedFlags {
        version: 7,
        definitions: format!(r#"{{"flags":{{"a.b-c_D":{OFF},"b":{ON}}}}}"#),
        plans: BTreeMap::from([(Plan::Pro, BTreeSet::from(["x".to_owned()]))]),
        organisations: BTreeMap::from([(org("org-1"), BTreeSet::from(["y".to_owned(), "z".to_owned()]))]),
        overrides: BTreeMap::from([(sub("ann"), r#"{"b":false}"#.to_owned())]),
    };
    assert_eq!(pair.syncs().flags().await.unwrap(), expected);
}

fn text_of(bytes: usize) -> String {
    format!(r#""{}""#, "x".repeat(bytes - 2))
}

/// As many flags as there may be, and no more; and no more of their definitions than go into one message.
pub async fn the_flags_are_bounded(pair: &Pair) {
    for number in 0..bounds::FLAGS {
        set(pair, &format!("flag-{number}"), "{}").await;
    }
    let before = version(pair).await;
    assert_eq!(code(attempt(pair, "more", None, "{}").await), Code::Conflict);
    assert_eq!((version(pair).await, pair.flags().find(&key("more")).await.unwrap()), (before, None));
    set(pair, "flag-0", ON).await;
    pair.flags().delete(&change("flag.deleted"), &key("flag-0"), None, "").await.unwrap();
    set(pair, "more", "{}").await;
    let large = text_of(bounds::DEFINITIONS_BYTES);
    assert_eq!(code(attempt(pair, "more", None, &large).await), Code::Conflict);
    let half = text_of(bounds::DEFINITIONS_BYTES / 2);
    set(pair, "more", &half).await;
    assert_eq!(code(attempt(pair, "flag-1", None, &half).await), Code::Conflict);
    assert!(pair.syncs().flags().await.unwrap().definitions.len() <= bounds::DEFINITIONS_BYTES);
}

/// The same for overrides.
pub async fn the_overrides_are_bounded(pair: &Pair) {
    for number in 0..bounds::OVERRIDES {
        override_for(pair, &format!("user-{number}"), r#"{"a":1}"#).await.unwrap();
    }
    assert_eq!(code(override_for(pair, "more", r#"{"a":1}"#).await), Code::Conflict);
    assert_eq!(pair.flags().overrides(&sub("more")).await.unwrap(), "{}");
    override_for(pair, "user-0", r#"{"a":2}"#).await.unwrap();
    override_for(pair, "user-0", "{}").await.unwrap();
    override_for(pair, "more", r#"{"a":1}"#).await.unwrap();
    let large = format!(r#"{{"a":{}}}"#, text_of(bounds::OVERRIDES_BYTES));
    assert_eq!(code(override_for(pair, "more", &large).await), Code::Conflict);
}

/// The same for the entitlements of organisations; plans do not count.
pub async fn the_entitlements_are_bounded(pair: &Pair) {
    let organisation = |number: usize| Entitled::Organisation(org(&format!("org-{number}")));
    for number in 0..=bounds::ORGANISATIONS {
        pair.sight(&sighting(&format!("user-{number}"), &format!("org-{number}"), 100)).await;
    }
    for number in 0..bounds::ORGANISATIONS {
        entitle(pair, organisation(number), &["x"]).await.unwrap();
    }
    let more = organisation(bounds::ORGANISATIONS);
    assert_eq!(code(entitle(pair, more.clone(), &["x"]).await), Code::Conflict);
    entitle(pair, Entitled::Plan(Plan::Pro), &["x"]).await.unwrap();
    entitle(pair, organisation(0), &[]).await.unwrap();
    entitle(pair, more.clone(), &["x"]).await.unwrap();
    let large = "x".repeat(bounds::ENTITLEMENTS_BYTES);
    assert_eq!(code(entitle(pair, more, &[&large]).await), Code::Conflict);
}
