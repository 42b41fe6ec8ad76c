//! The room that outlives a panic.

use kombify_core::Code;
use kombify_mesh::limits::CatchPanic;

use crate::support::{GET_USER, Stub, answered, body, code, fault, request, send, with};

#[tokio::test]
async fn a_panic_is_an_answer_that_says_nothing_and_the_next_request_is_served() {
    let stub = Stub::new(|request| async move {
        assert!(!request.headers().contains_key("x-panic"), "a secret of the inside");
        answered()
    });
    for _ in 0..3 {
        let response = send(CatchPanic, &stub, with(request(GET_USER), "x-panic", "now")).await;
        let fault = fault(&response);
        assert_eq!((fault.code, fault.message.as_str()), (Code::InternalError, "internal error"));
        assert!(!format!("{:?}", response.headers()).contains("secret"));
    }
    let response = send(CatchPanic, &stub, request(GET_USER)).await;
    assert_eq!((code(&response), stub.reached()), (None, 4));
    assert_eq!(body(response).await, "answer");
}
