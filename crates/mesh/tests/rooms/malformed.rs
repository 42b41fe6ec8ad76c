//! The room before the codec: JSON that did not become a message.

use std::sync::Arc;

use kombify_core::wire::Malformed;
use kombify_core::{Code, Error};
use kombify_mesh::malformed::RefuseMalformed;

use crate::support::{GET_USER, Stub, code, fault, request, send};

#[tokio::test]
async fn json_that_did_not_become_a_message_is_refused_with_its_fault() {
    let stub = Stub::ok();
    let mut malformed = request(GET_USER);
    malformed.extensions_mut().insert(Malformed(Arc::new(Error::invalid("update.theme", "must be text"))));
    let response = send(RefuseMalformed, &stub, malformed).await;
    let fault = fault(&response);
    assert_eq!((fault.code, fault.message.as_str()), (Code::ValidationFailed, "update.theme must be text"));
    assert_eq!(fault.details.fields["update.theme"], "must be text");
    assert_eq!(stub.reached(), 0);
}

#[tokio::test]
async fn everything_else_passes() {
    let stub = Stub::ok();
    assert_eq!(code(&send(RefuseMalformed, &stub, request(GET_USER)).await), None);
    assert_eq!(stub.reached(), 1);
}
