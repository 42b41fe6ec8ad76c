//! The room that sheds load.

use std::sync::Arc;
use std::time::Duration;

use kombify_core::Code;
use kombify_mesh::limits::Shed;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use crate::support::{GET_USER, Stub, answered, code, fault, request, send};

/// A stub that answers as often as the gate has permits.
fn gated() -> (Stub, Arc<Semaphore>) {
    let gate = Arc::new(Semaphore::new(0));
    let inside = Arc::clone(&gate);
    let stub = Stub::new(move |_| {
        let gate = Arc::clone(&inside);
        async move {
            gate.acquire().await.unwrap().forget();
            answered()
        }
    });
    (stub, gate)
}

/// Sends so many requests more, and waits until the stub has them.
async fn enter(room: &Shed, stub: &Stub, open: &mut JoinSet<Option<Code>>, more: usize) {
    let before = stub.reached();
    for _ in 0..more {
        let (room, stub) = (room.clone(), stub.clone());
        open.spawn(async move { code(&send(room, &stub, request(GET_USER)).await) });
    }
    stub.until_reached(before + more).await;
}

#[tokio::test]
async fn one_request_too_many_is_told_to_come_back() {
    let (room, (stub, gate), mut open) = (Shed::new(2), gated(), JoinSet::new());
    enter(&room, &stub, &mut open, 2).await;

    for _ in 0..3 {
        let response = send(room.clone(), &stub, request(GET_USER)).await;
        let fault = fault(&response);
        assert_eq!((fault.code, fault.retry_after), (Code::ServiceUnavailable, Some(Duration::from_secs(1))));
    }
    assert_eq!(stub.reached(), 2);

    gate.add_permits(2);
    assert_eq!(open.join_all().await, [None; 2], "those within are served");
}

#[tokio::test]
async fn a_place_is_free_again_after_an_answer_and_after_a_caller_who_went_away() {
    let (room, (stub, gate), mut open) = (Shed::new(2), gated(), JoinSet::new());
    enter(&room, &stub, &mut open, 2).await;

    gate.add_permits(1);
    assert_eq!(open.join_next().await.unwrap().unwrap(), None);
    enter(&room, &stub, &mut open, 1).await;

    open.shutdown().await;
    enter(&room, &stub, &mut open, 2).await;
    gate.add_permits(2);
    assert_eq!(open.join_all().await, [None; 2]);
}
