//! What must hold for stacks.

use super::super::{all_pages, change, change_by, code, promised, scope, seconds};
use super::{Keep, new_stack, places};
use crate::stack::{NewStack, PinnedKit, SPEC_MAX_BYTES, Stack, StackLimits, StackPatch};
use crate::{Change, Code, Error, Etag, Idempotency, Page, Result, TenantId};

async fn create(keep: &Keep, tenant: TenantId, new: &NewStack, limit: u32) -> Result<Stack> {
    keep.stacks().create(scope(tenant), &change("stack.created"), new, places(limit)).await
}

async fn update(
    keep: &Keep,
    stack: &Stack,
    etag: Option<Etag>,
    patch: StackPatch,
    limit: u32,
) -> (Change, Result<Stack>) {
    let update = change("stack.updated");
    let result =
        keep.stacks().update(scope(stack.tenant), &update, stack.id, etag, patch, places(limit)).await;
    (update, result)
}

async fn find(keep: &Keep, stack: &Stack) -> Option<Stack> {
    keep.stacks().find(scope(stack.tenant), stack.id).await.unwrap()
}

fn kit(version: &str) -> PinnedKit {
    PinnedKit { id: "media".into(), version: version.into(), digest: format!("sha256:{version}") }
}

fn spec(text: &str) -> StackPatch {
    StackPatch { spec_yaml: Some(text.to_owned()), ..StackPatch::default() }
}

fn name(text: &str) -> StackPatch {
    StackPatch { name: Some(text.parse().unwrap()), ..StackPatch::default() }
}

fn over(fault: &Error) -> Option<(&'static str, u32, u32)> {
    if let Error::QuotaExceeded { resource, limit, used } = fault {
        Some((resource, *limit, *used))
    } else {
        None
    }
}

/// A created stack is found as it was answered.
pub async fn a_stack_is_found_as_it_was_made(keep: &Keep) {
    let tenant = keep.place("home").await.id;
    let created = change("stack.created");
    let new = NewStack { kit: Some(kit("1.0.0")), ..new_stack("attic") };
    let stack = keep.stacks().create(scope(tenant), &created, &new, places(2)).await.unwrap();
    assert_eq!((stack.id, stack.tenant, &stack.name), (new.id, tenant, &new.name));
    assert_eq!((&stack.kit, &stack.spec_yaml), (&new.kit, &new.spec_yaml));
    assert_eq!((stack.create_time, stack.update_time), (created.time, created.time));
    assert_eq!(find(keep, &stack).await, Some(stack.clone()));
    let draft = keep.stack(tenant, "cellar").await;
    assert_eq!(draft.kit, None);
    let listed = keep.stacks().list(scope(tenant), &Page::first()).await.unwrap().items;
    assert_eq!(listed, [draft, stack.clone()]);
    let rows = keep.log(tenant, "stack.created").await;
    assert_eq!((rows[1].target.clone(), rows[1].tenant), (stack.id.to_string(), Some(tenant)));
    assert_eq!(rows[1].details["name"], "attic");
}

/// Two stacks of a tenant have two names, whether they are made or renamed; a name that nobody has is free.
pub async fn a_name_is_taken_until_its_stack_is_gone(keep: &Keep) {
    let tenant = keep.place("home").await.id;
    let attic = keep.stack(tenant, "attic").await;
    let cellar = keep.stack(tenant, "cellar").await;
    assert_eq!(code(create(keep, tenant, &new_stack("attic"), 9).await), Code::Conflict);
    // What stands against it is said before a missing place.
    assert_eq!(code(create(keep, tenant, &new_stack("attic"), 2).await), Code::Conflict);
    assert_eq!(code(update(keep, &cellar, None, name("attic"), 9).await.1), Code::Conflict);
    assert_eq!(find(keep, &cellar).await, Some(cellar.clone()));
    update(keep, &attic, None, name("roof"), 9).await.1.unwrap();
    update(keep, &cellar, None, name("attic"), 9).await.1.unwrap();
    keep.stacks().delete(scope(tenant), &change("stack.deleted"), attic.id, None).await.unwrap();
    assert_eq!(find(keep, &attic).await, None);
    create(keep, tenant, &new_stack("roof"), 9).await.unwrap();
    let gone = keep.stacks().delete(scope(tenant), &change("stack.deleted"), attic.id, None).await;
    assert_eq!(code(gone), Code::NotFound);
    assert_eq!(code(update(keep, &attic, None, spec("x"), 9).await.1), Code::NotFound);
}

/// What is over is refused with the numbers; a deleted one gives its place back.
pub async fn a_tenant_has_no_more_stacks_than_its_limit(keep: &Keep) {
    let tenant = keep.place("home").await.id;
    let first = create(keep, tenant, &new_stack("one"), 2).await.unwrap();
    create(keep, tenant, &new_stack("two"), 2).await.unwrap();
    let fault = create(keep, tenant, &new_stack("three"), 2).await.unwrap_err();
    assert_eq!(over(&fault), Some(("stacks", 2, 2)), "{fault}");
    keep.stacks().delete(scope(tenant), &change("stack.deleted"), first.id, None).await.unwrap();
    create(keep, tenant, &new_stack("three"), 2).await.unwrap();
    let other = keep.place("other").await.id;
    create(keep, other, &new_stack("one"), 1).await.unwrap();
}

/// Where the storage is used up, nothing grows: what is there is read, renamed, made smaller and deleted.
pub async fn nothing_grows_beyond_the_storage_of_the_plan(keep: &Keep) {
    let tenant = keep.place("home").await.id;
    let stack = create(keep, tenant, &new_stack("attic"), 2).await.unwrap();
    let full = StackLimits { stacks: 2, storage_gb: 0 };
    let grow = |text: &str| (change("stack.updated"), spec(text));
    let new = new_stack("cellar");
    let fault = keep.stacks().create(scope(tenant), &change("stack.created"), &new, full).await.unwrap_err();
    assert_eq!(over(&fault), Some(("storage", 0, 1)), "{fault}");
    let (update, patch) = grow(&"x".repeat(stack.spec_yaml.len() + 1));
    let fault = keep.stacks().update(scope(tenant), &update, stack.id, None, patch, full).await.unwrap_err();
    assert_eq!(over(&fault), Some(("storage", 0, 1)), "{fault}");
    assert_eq!(find(keep, &stack).await, Some(stack.clone()));
    for patch in [name("roof"), spec("x")] {
        let update = change("stack.updated");
        keep.stacks().update(scope(tenant), &update, stack.id, None, patch, full).await.unwrap();
    }
    keep.stacks().delete(scope(tenant), &change("stack.deleted"), stack.id, None).await.unwrap();
}

/// What is not named stays.
pub async fn an_update_sets_what_it_names(keep: &Keep) {
    let tenant = keep.place("home").await.id;
    let mut stack = keep.stack(tenant, "attic").await;
    let pin = |kit| StackPatch { kit: Some(kit), ..StackPatch::default() };
    for patch in
        [name("roof"), spec("name: roof\n"), pin(Some(kit("1.0.0"))), pin(Some(kit("1.1.0"))), pin(None)]
    {
        let expected = Stack {
            name: patch.name.clone().unwrap_or_else(|| stack.name.clone()),
            spec_yaml: patch.spec_yaml.clone().unwrap_or_else(|| stack.spec_yaml.clone()),
            kit: patch.kit.clone().unwrap_or_else(|| stack.kit.clone()),
            ..stack.clone()
        };
        let (updated, after) = update(keep, &stack, Some(stack.etag), patch, 1).await;
        let after = after.unwrap();
        assert_ne!(after.etag, stack.etag);
        assert_eq!(after, Stack { update_time: updated.time, etag: after.etag, ..expected });
        assert_eq!(find(keep, &after).await, Some(after.clone()));
        stack = after;
    }
}

/// A change to what is so already is a row of the log and nothing else.
pub async fn what_is_so_already_keeps_its_version(keep: &Keep) {
    let tenant = keep.place("home").await.id;
    let stack = keep.stack(tenant, "attic").await;
    for patch in [StackPatch::default(), name("attic"), spec(&stack.spec_yaml)] {
        assert_eq!(update(keep, &stack, Some(stack.etag), patch, 1).await.1.unwrap(), stack);
    }
    assert_eq!(keep.log(tenant, "stack.updated").await.len(), 3);
}

/// An etag is good for one change, and for the deletion of what it was read from.
pub async fn a_stack_needs_the_present_etag(keep: &Keep) {
    let tenant = keep.place("home").await.id;
    let stack = keep.stack(tenant, "attic").await;
    let after = update(keep, &stack, Some(stack.etag), spec("one"), 1).await.1.unwrap();
    let late = update(keep, &stack, Some(stack.etag), spec("two"), 1).await.1;
    assert_eq!(code(late), Code::PreconditionFailed);
    let delete = async |etag| {
        keep.stacks().delete(scope(tenant), &change("stack.deleted"), stack.id, Some(etag)).await
    };
    assert_eq!(code(delete(stack.etag).await), Code::PreconditionFailed);
    assert_eq!(find(keep, &stack).await, Some(after.clone()));
    delete(after.etag).await.unwrap();
}

/// On a smaller plan the oldest stacks are changed as before; the others wait for a larger one, or go.
pub async fn what_is_over_the_limit_is_only_read_and_deleted(keep: &Keep) {
    let tenant = keep.place("home").await.id;
    let stacks =
        [keep.stack(tenant, "one").await, keep.stack(tenant, "two").await, keep.stack(tenant, "three").await];
    update(keep, &stacks[1], None, spec("changed"), 2).await.1.unwrap();
    let fault = update(keep, &stacks[2], None, spec("changed"), 2).await.1.unwrap_err();
    assert_eq!(over(&fault), Some(("stacks", 2, 3)), "{fault}");
    assert_eq!(find(keep, &stacks[2]).await.as_ref(), Some(&stacks[2]));
    keep.stacks().delete(scope(tenant), &change("stack.deleted"), stacks[0].id, None).await.unwrap();
    update(keep, &stacks[2], None, spec("changed"), 2).await.1.unwrap();
    let delete = keep.stacks().delete(scope(tenant), &change("stack.deleted"), stacks[2].id, None).await;
    delete.unwrap();
}

/// The longest spec is kept as it came; one byte more is refused.
pub async fn a_spec_has_its_bound(keep: &Keep) {
    let tenant = keep.place("home").await.id;
    let longest = "ä".repeat(SPEC_MAX_BYTES / 2);
    let new = NewStack { spec_yaml: longest.clone(), ..new_stack("attic") };
    let stack = create(keep, tenant, &new, 2).await.unwrap();
    assert_eq!(stack.spec_yaml, longest);
    let longer = format!("{longest}x");
    let new = NewStack { spec_yaml: longer.clone(), ..new_stack("cellar") };
    assert_eq!(code(create(keep, tenant, &new, 2).await), Code::ValidationFailed);
    assert_eq!(code(update(keep, &stack, None, spec(&longer), 2).await.1), Code::ValidationFailed);
}

/// A repeat has no second effect; another request under the key is a conflict; what is gone stays gone, and an error is
/// not kept. A key is good for a day.
pub async fn a_repeat_answers_with_the_same_stack_as_it_is_now(keep: &Keep) {
    let tenant = keep.place("home").await.id;
    let key = |by, request| promised(change_by(by, "stack.created"), "key-1", request);
    let call = async |change: Change, new: &NewStack, limit| {
        keep.stacks().create(scope(tenant), &change, new, places(limit)).await
    };
    assert_eq!(code(call(key("ann", 1), &new_stack("attic"), 0).await), Code::QuotaExceeded);
    let first = key("ann", 1);
    let made = call(first.clone(), &new_stack("attic"), 1).await.unwrap();
    let after = update(keep, &made, None, spec("changed"), 1).await.1.unwrap();
    assert_eq!(call(key("ann", 1), &new_stack("attic"), 1).await.unwrap(), after);
    assert_eq!(code(call(key("ann", 2), &new_stack("cellar"), 9).await), Code::Conflict);
    let bob = call(key("bob", 2), &new_stack("cellar"), 9).await.unwrap();
    assert_ne!(bob.id, made.id);
    assert_eq!(keep.log(tenant, "stack.created").await.len(), 2);
    keep.stacks().delete(scope(tenant), &change("stack.deleted"), made.id, None).await.unwrap();
    assert_eq!(code(call(key("ann", 1), &new_stack("attic"), 9).await), Code::NotFound);
    let next_day = Change { time: seconds(first.time, Idempotency::KEPT_HOURS * 3600), ..key("ann", 1) };
    assert_ne!(call(next_day, &new_stack("attic"), 9).await.unwrap().id, made.id);
}

/// Stacks of the same moment are each on one page, newest first and then by id.
pub async fn pages_hold_every_stack_once_and_in_order(keep: &Keep) {
    let tenant = keep.place("home").await.id;
    let moment = change("stack.created");
    let mut ids = Vec::new();
    for number in [2, 0, 3, 1] {
        let new = new_stack(&format!("stack-{number}"));
        keep.stacks().create(scope(tenant), &moment, &new, places(9)).await.unwrap();
        ids.push(new.id.to_string());
    }
    ids.sort_by(|one, other| other.cmp(one));
    for limit in [1, 3, 4, 5] {
        let listed = all_pages(limit, |page| async move { keep.stacks().list(scope(tenant), &page).await });
        let found: Vec<String> = listed.await.iter().map(|stack| stack.id.to_string()).collect();
        assert_eq!(found, ids, "{limit} a page");
    }
}
