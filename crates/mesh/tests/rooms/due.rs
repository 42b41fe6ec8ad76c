//! The room with the clock.

use std::convert::Infallible;
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream;
use http::Response;
use http_body::Frame;
use http_body_util::{BodyExt as _, StreamBody};
use kombify_core::Code;
use kombify_mesh::context::Deadline;
use kombify_mesh::limits::Due;
use tokio::time::{Instant, sleep};
use tonic::body::Body;

use crate::support::{GET_USER, HEALTH, Stub, answered, body, code, fault, request, send, with};

const DUE: Due =
    Due { default: Duration::from_secs(10), longest: Duration::from_mins(1), idle: Duration::from_secs(5) };

/// How far a timer may be late: they tick in milliseconds.
const TICK: Duration = Duration::from_millis(2);

#[tokio::test(start_paused = true)]
async fn an_answer_that_is_not_there_in_time_is_a_deadline_that_passed() {
    let stub = Stub::silent();
    for (timeout, wanted) in [
        (None, 10_000),
        (Some("1S"), 1_000),
        (Some("250m"), 250),
        (Some("1M"), 60_000),
        (Some("61S"), 60_000),
        (Some("99999999H"), 60_000),
    ] {
        let wanted = Duration::from_millis(wanted);
        let request = match timeout {
            Some(timeout) => with(request(GET_USER), "grpc-timeout", timeout),
            None => request(GET_USER),
        };
        let begun = Instant::now();
        let response = send(DUE, &stub, request).await;
        let elapsed = begun.elapsed();
        assert_eq!(code(&response), Some(Code::DeadlineExceeded), "{timeout:?}");
        assert!(elapsed >= wanted && elapsed <= wanted + TICK, "{timeout:?}: {elapsed:?}");
        let deadline = stub.last().extensions().get::<Deadline>().copied();
        assert_eq!(deadline, Some(Deadline(begun + wanted)), "{timeout:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_answer_in_time_passes() {
    let stub = Stub::new(|_| async {
        sleep(Duration::from_millis(9_990)).await;
        answered()
    });
    let response = send(DUE, &stub, request(GET_USER)).await;
    assert_eq!(code(&response), None);
    assert_eq!(body(response).await, "answer");
}

#[tokio::test(start_paused = true)]
async fn what_is_too_late_is_dropped() {
    struct Told(tokio::sync::mpsc::UnboundedSender<()>);
    impl Drop for Told {
        fn drop(&mut self) {
            let _ = self.0.send(());
        }
    }
    let (sender, mut dropped) = tokio::sync::mpsc::unbounded_channel();
    let stub = Stub::new(move |_| {
        let told = Told(sender.clone());
        async move {
            std::future::pending::<()>().await;
            drop(told);
            answered()
        }
    });
    send(DUE, &stub, request(GET_USER)).await;
    assert_eq!(dropped.try_recv(), Ok(()), "nobody works for an answer that nobody waits for");
}

#[tokio::test]
async fn a_malformed_timeout_is_refused() {
    let stub = Stub::ok();
    for timeout in ["", "1", "S", "1s", "abc", "-1S", "1.5S", "123456789S", "1 S", "1\u{e9}"] {
        let response = send(DUE, &stub, with(request(GET_USER), "grpc-timeout", timeout)).await;
        let fault = fault(&response);
        assert_eq!(fault.code, Code::ValidationFailed, "{timeout:?}");
        assert!(fault.details.fields.contains_key("grpc-timeout"), "{timeout:?}");
    }
    assert_eq!(stub.reached(), 0);
}

/// A stub whose answer comes in parts, each after a pause of so many seconds.
fn streaming(pauses: &'static [u64]) -> Stub {
    Stub::new(move |_| async move {
        let parts = stream::unfold(pauses, |left| async move {
            let (pause, left) = left.split_first()?;
            sleep(Duration::from_secs(*pause)).await;
            Some((Ok::<_, Infallible>(Frame::data(Bytes::from_static(b"x"))), left))
        });
        Response::new(Body::new(StreamBody::new(parts)))
    })
}

#[tokio::test(start_paused = true)]
async fn what_others_stream_is_bounded_by_its_silence_alone() {
    let response = send(DUE, &streaming(&[4, 4, 4, 4, 4]), request(HEALTH)).await;
    assert_eq!(body(response).await, "xxxxx", "it may take longer than a request");

    let begun = Instant::now();
    let response = send(DUE, &streaming(&[4, 3600, 1]), request(HEALTH)).await;
    assert!(response.into_body().collect().await.is_err());
    let elapsed = begun.elapsed();
    assert!(elapsed >= Duration::from_secs(9) && elapsed <= Duration::from_secs(9) + 2 * TICK, "{elapsed:?}");
}
