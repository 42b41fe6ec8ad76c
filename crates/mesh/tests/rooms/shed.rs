//! The room that sheds load.

use std::sync::Arc;
use std::time::Duration;

use kombify_core::Code;
use kombify_mesh::limits::Shed;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use crate::support::{GET_USER, Stub, answered, code, fault, request, send};

/// How many requests the room takes at once.
const AT_ONCE: usize = 2;

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

/// A full room.
async fn full(room: &Shed, stub: &Stub) -> JoinSet<Option<Code>> {
    let mut open = JoinSet::new();
    for _ in 0..AT_ONCE {
        let (room, stub) = (room.clone(), stub.clone());
        open.spawn(async move { code(&send(room, &stub, request(GET_USER)).await) });
    }
    stub.until_reached(AT_ONCE).await;
    open
}

#[tokio::test]
async fn one_request_too_many_is_told_to_come_back() {
    let (room, (stub, gate)) = (Shed::new(AT_ONCE), gated());
    let open = full(&room, &stub).await;

    for _ in 0..3 {
        let response = send(room.clone(), &stub, request(GET_USER)).await;
        let fault = fault(&response);
        assert_eq!((fault.code, fault.retry_after), (Code::ServiceUnavailable, Some(Duration::from_secs(1))));
    }
    assert_eq!(stub.reached(), AT_ONCE);

    gate.add_permits(AT_ONCE);
    assert_eq!(open.join_all().await, [None; AT_ONCE], "those within are served");
}

#[tokio::test]
async fn a_place_is_free_again_after_an_answer_and_after_a_caller_who_went_away() {
    let (room, (stub, gate)) = (Shed::new(AT_ONCE), gated());
    let mut open = full(&room, &stub).await;

    gate.add_permits(1);
    assert_eq!(open.join_next().await.unwrap().unwrap(), None);
    gate.add_permits(1);
    assert_eq!(code(&send(room.clone(), &stub, request(GET_USER)).await), None);
    assert_eq!(stub.reached(), AT_ONCE + 1);

    drop(open);
    gate.add_permits(0);
    let again = async {
        let mut open = full_again(&room, &stub).await;
        gate.add_permits(AT_ONCE);
        while let Some(served) = open.join_next().await {
            assert_eq!(served.unwrap(), None);
        }
    };
    tokio::time::timeout(Duration::from_secs(10), again).await.unwrap();
}

/// A room that is full once more.
async fn full_again(room: &Shed, stub: &Stub) -> JoinSet<Option<Code>> {
    tokio::task::yield_now().await;
    let before = stub.reached();
    let mut open = JoinSet::new();
    for _ in 0..AT_ONCE {
        let (room, stub) = (room.clone(), stub.clone());
        open.spawn(async move { code(&send(room, &stub, request(GET_USER)).await) });
    }
    stub.until_reached(before + AT_ONCE).await;
    open
}
