//! The room that writes down refusals of known callers, and the worker that delivers them.

use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use http::Response;
use kombify_core::audit::{ACCESS_REFUSED, Refusal};
use kombify_core::{Caller, Clock as _, Error};
use kombify_mesh::access::RefusedAtDoor;
use kombify_mesh::audit::{RefusalWorker, Refusals, Scope, queue};
use kombify_mesh::status::refuse;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tonic::body::Body;

use crate::support::{
    ADDRESS, CREATE_TENANT, GET_USER, HEALTH, LIST_USERS, Manual, REQUEST_ID, Stub, UPDATE_USER, USER_AGENT,
    ada, called, code, context, module, request, send,
};

/// How many refusals wait at most.
const QUEUE: usize = 1024;

/// Refuses everything at the door.
fn door(fault: impl Fn() -> Error + Send + Sync + 'static) -> Stub {
    Stub::new(move |_| {
        let mut response: Response<Body> = refuse(&fault());
        response.extensions_mut().insert(RefusedAtDoor);
        async move { response }
    })
}

/// What waits in the queue.
async fn waiting(worker: RefusalWorker) -> Vec<Refusal> {
    let (cancel, delivered) = (CancellationToken::new(), Mutex::new(Vec::<Refusal>::new()));
    cancel.cancel();
    worker
        .run(cancel, |batch| {
            delivered.lock().unwrap().extend(batch);
            async { Ok(()) }
        })
        .await;
    delivered.into_inner().unwrap()
}

/// What one call leaves in the queue.
async fn left(scope: Scope, path: &str, caller: &Caller, stub: &Stub) -> Vec<Refusal> {
    let (room, worker) = queue(scope, Manual::new());
    send(room, stub, called(path, caller).await).await;
    assert_eq!(stub.reached(), 1, "the room itself refuses nobody");
    waiting(worker).await
}

/// Sends so many calls of Ada that are refused, each under an id of its own.
async fn refuse_many(room: &Refusals, ids: Range<usize>) {
    let stub = door(|| Error::AuthInsufficient("not you".to_owned()));
    let (ada, mut context) = (Arc::new(ada()), context().await);
    for id in ids {
        context.request_id = format!("r{id}").parse().unwrap();
        let mut request = request(UPDATE_USER);
        request.extensions_mut().insert(Arc::clone(&ada));
        request.extensions_mut().insert(context.clone());
        assert!(code(&send(room.clone(), &stub, request).await).is_some());
    }
}

fn ids(refusals: &[Refusal]) -> Vec<&str> {
    refusals.iter().map(|refusal| refusal.request_id.as_str()).collect()
}

fn expected_ids(ids: Range<usize>) -> Vec<String> {
    ids.map(|id| format!("r{id}")).collect()
}

#[tokio::test]
async fn a_known_caller_who_was_refused_at_the_door_is_written_down() {
    for (path, action) in [(LIST_USERS, ACCESS_REFUSED), (CREATE_TENANT, "tenant.created")] {
        for scope in [Scope::Everything, Scope::Doors] {
            let stub = door(|| Error::AuthInsufficient("not you".to_owned()));
            let refusals = left(scope, path, &ada(), &stub).await;
            let [refusal] = refusals.as_slice() else { panic!("{refusals:?}") };
            assert_eq!(refusal.actor.sub.as_ref().unwrap().as_str(), "ada");
            assert_eq!((refusal.action.as_str(), refusal.target.as_str()), (action, path));
            assert_eq!((refusal.ip.as_str(), refusal.user_agent.as_str()), (ADDRESS, USER_AGENT));
            assert_eq!((refusal.request_id.as_str(), refusal.time), (REQUEST_ID, Manual::new().now()));
            assert_eq!(refusal.details["code"], "AUTH_INSUFFICIENT");
        }
    }
    let stub = door(|| Error::AuthInsufficient("not you".to_owned()));
    let refusals = left(Scope::Doors, GET_USER, &module("kits"), &stub).await;
    assert_eq!(refusals[0].actor.service.as_ref().unwrap().to_string(), "service:kits/local");
}

#[tokio::test]
async fn an_unknown_caller_and_a_method_of_others_are_not() {
    let stub = || door(|| Error::AuthRequired);
    assert!(left(Scope::Everything, LIST_USERS, &Caller::default(), &stub()).await.is_empty());
    assert!(left(Scope::Everything, HEALTH, &ada(), &stub()).await.is_empty());
    assert!(
        left(Scope::Everything, UPDATE_USER, &ada(), &Stub::ok()).await.is_empty(),
        "nothing was refused"
    );
}

#[tokio::test]
async fn what_a_use_case_refuses_is_written_down_by_the_module_that_decides() {
    let fault = |code: &str| match code {
        "CONFLICT" => Error::Conflict("taken".to_owned()),
        "PRECONDITION_FAILED" => Error::PreconditionFailed("changed".to_owned()),
        "NOT_FOUND" => Error::not_found("user", "eve"),
        "QUOTA_EXCEEDED" => Error::QuotaExceeded { resource: "stacks", limit: 2, used: 2 },
        "SERVICE_UNAVAILABLE" => Error::unavailable("no place", Duration::from_secs(1)),
        "RATE_LIMITED" => Error::RateLimited { limit: 1, retry_after: Duration::from_secs(1) },
        "VALIDATION_FAILED" => Error::invalid("name", "is required"),
        "DEADLINE_EXCEEDED" => Error::DeadlineExceeded,
        _ => Error::internal("broken"),
    };
    for (path, code, written) in [
        (CREATE_TENANT, "CONFLICT", true),
        (CREATE_TENANT, "PRECONDITION_FAILED", true),
        (CREATE_TENANT, "NOT_FOUND", true),
        (CREATE_TENANT, "QUOTA_EXCEEDED", true),
        (CREATE_TENANT, "SERVICE_UNAVAILABLE", true),
        (CREATE_TENANT, "RATE_LIMITED", false),
        (CREATE_TENANT, "VALIDATION_FAILED", false),
        (CREATE_TENANT, "DEADLINE_EXCEEDED", false),
        (CREATE_TENANT, "INTERNAL_ERROR", false),
        (GET_USER, "NOT_FOUND", true), // Whoever looks for what is not theirs.
        (GET_USER, "CONFLICT", false),
        (LIST_USERS, "NOT_FOUND", false),
        (LIST_USERS, "QUOTA_EXCEEDED", true),
    ] {
        let stub = || Stub::refusing(move || fault(code));
        let refusals = left(Scope::Everything, path, &ada(), &stub()).await;
        let codes: Vec<_> = refusals.iter().map(|refusal| refusal.details["code"].as_str()).collect();
        assert_eq!(codes, if written { vec![code] } else { vec![] }, "{path}");
        let refusals = left(Scope::Doors, path, &ada(), &stub()).await;
        assert!(refusals.is_empty(), "{path} {code}: another module's to tell");
    }
}

#[tokio::test]
async fn a_full_queue_loses_and_keeps_nobody_waiting() {
    let (room, worker) = queue(Scope::Everything, Manual::new());
    let refused = refuse_many(&room, 0..QUEUE + 10);
    timeout(Duration::from_mins(1), refused).await.unwrap();
    let kept = waiting(worker).await;
    assert_eq!(ids(&kept), expected_ids(0..QUEUE), "the first are kept");
}

#[tokio::test]
async fn an_answer_does_not_wait_for_a_worker_that_is_gone() {
    let (room, worker) = queue(Scope::Everything, Manual::new());
    drop(worker);
    refuse_many(&room, 0..3).await;
}

#[tokio::test(start_paused = true)]
async fn refusals_are_delivered_in_their_order_and_in_batches() {
    let (room, worker) = queue(Scope::Everything, Manual::new());
    refuse_many(&room, 0..250).await;
    let (cancel, batches) = (CancellationToken::new(), Mutex::new(Vec::<Vec<Refusal>>::new()));
    let deliver = |batch: Vec<Refusal>| {
        batches.lock().unwrap().push(batch);
        async { Ok(()) }
    };
    let feed = async {
        sleep(Duration::from_secs(1)).await;
        refuse_many(&room, 250..260).await;
        sleep(Duration::from_secs(1)).await;
        assert_eq!(batches.lock().unwrap().concat().len(), 260, "delivered before it ends");
        cancel.cancel();
    };
    tokio::join!(worker.run(cancel.clone(), deliver), feed);
    let batches = batches.into_inner().unwrap();
    assert!(batches.iter().all(|batch| (1..=100).contains(&batch.len())), "{:?}", batches.len());
    assert_eq!(ids(&batches.concat()), expected_ids(0..260));
}

#[tokio::test(start_paused = true)]
async fn a_delivery_that_fails_is_tried_again_and_nothing_is_lost_or_twice() {
    let (room, worker) = queue(Scope::Everything, Manual::new());
    let (cancel, tries, delivered) =
        (CancellationToken::new(), AtomicUsize::new(0), Mutex::new(Vec::<Refusal>::new()));
    let deliver = |batch: Vec<Refusal>| {
        let fails = tries.fetch_add(1, Ordering::Relaxed) < 3;
        if !fails {
            delivered.lock().unwrap().extend(batch);
        }
        async move { if fails { Err(Error::unavailable("away", Duration::from_secs(1))) } else { Ok(()) } }
    };
    let feed = async {
        refuse_many(&room, 0..5).await;
        sleep(Duration::from_millis(500)).await;
        refuse_many(&room, 5..8).await;
        sleep(Duration::from_secs(10)).await;
        cancel.cancel();
    };
    tokio::join!(worker.run(cancel.clone(), deliver), feed);
    assert_eq!(ids(&delivered.into_inner().unwrap()), expected_ids(0..8));
    assert!(tries.into_inner() >= 4);
}

#[tokio::test(start_paused = true)]
async fn what_is_left_is_delivered_when_it_ends() {
    let (room, worker) = queue(Scope::Everything, Manual::new());
    refuse_many(&room, 0..QUEUE).await;
    assert_eq!(ids(&waiting(worker).await), expected_ids(0..QUEUE));
    refuse_many(&room, 0..1).await;
}

#[tokio::test(start_paused = true)]
async fn a_log_that_stays_away_does_not_keep_the_module_from_ending() {
    let (room, worker) = queue(Scope::Everything, Manual::new());
    refuse_many(&room, 0..3).await;
    let cancel = CancellationToken::new();
    let deliver = |_: Vec<Refusal>| async { Err(Error::unavailable("away", Duration::from_secs(1))) };
    let end = async {
        sleep(Duration::from_secs(5)).await;
        cancel.cancel();
    };
    let ended = async { tokio::join!(worker.run(cancel.clone(), deliver), end) };
    timeout(Duration::from_secs(30), ended).await.unwrap();
}
