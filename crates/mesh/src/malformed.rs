//! JSON that did not become a message: it is refused where a message that does not decode would be, behind the doors.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::{HeaderMap, HeaderValue, Request, Response};
use jiff::Timestamp;
use kombify_core::Error;
use kombify_core::error::Envelope;
use kombify_core::wire::{ERROR_MAX_BYTES, MALFORMED, Malformed};
use tonic::body::Body;

use crate::room::{Inner, Room, forward};
use crate::status::refuse;

/// The room before the codec: here the request was read as JSON, or a gateway says that it was not to be read.
#[derive(Clone, Copy, Debug)]
pub struct RefuseMalformed;

impl Room for RefuseMalformed {
    async fn pass(&self, request: Request<Body>, inner: impl Inner) -> Response<Body> {
        if let Some(Malformed(fault)) = request.extensions().get::<Malformed>() {
            return refuse(fault);
        }
        match carried(request.headers()) {
            Some(fault) => refuse(&fault),
            None => forward(inner, request).await,
        }
    }
}

/// Lets a malformed request take its fault along to the module that answers for it.
pub fn carry(request: &mut Request<Body>) {
    let Some(Malformed(fault)) = request.extensions().get::<Malformed>().cloned() else { return };
    let write = |fault: &Error| {
        let json = serde_json::to_vec(&Envelope::of(fault, "", Timestamp::UNIX_EPOCH)).ok()?;
        let text = URL_SAFE_NO_PAD.encode(json);
        HeaderValue::try_from(text).ok().filter(|text| text.len() <= ERROR_MAX_BYTES)
    };
    // So many wrong fields that they do not fit are told as one.
    let value = write(&fault).or_else(|| write(&Error::invalid("", fault.to_string())));
    if let Some(value) = value {
        request.headers_mut().insert(MALFORMED, value);
    }
}

fn carried(headers: &HeaderMap) -> Option<Error> {
    let json = URL_SAFE_NO_PAD.decode(headers.get(MALFORMED)?).ok()?;
    Some(serde_json::from_slice::<Envelope>(&json).ok()?.into_fault())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[test]
    fn a_fault_is_carried_whole_or_as_one_sentence() {
        let many =
            (0..200).map(|index| (format!("field{index}"), "must not be there at all".to_owned())).collect();
        for (fault, fields) in
            [(Error::invalid("update.theme", "must be light"), 1), (Error::Invalid(many), 1)]
        {
            let mut request = Request::new(Body::empty());
            request.extensions_mut().insert(Malformed(Arc::new(fault)));
            carry(&mut request);
            let fault = carried(request.headers()).unwrap();
            assert_eq!(fault.code().as_str(), "VALIDATION_FAILED");
            assert_eq!(fault.details().fields.len(), fields);
        }
        let mut request = Request::new(Body::empty());
        carry(&mut request);
        assert!(carried(request.headers()).is_none());
    }
}
