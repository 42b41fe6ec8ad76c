//! The codec of every service: decodes, then checks, before any other code sees the message.

use std::marker::PhantomData;

use prost::Message;
use tonic::codec::{Codec, DecodeBuf, Decoder};
use tonic::{Code, Status};
use tonic_prost::ProstEncoder;
use tonic_types::{ErrorDetails, FieldViolation, StatusExt};

use crate::check::{Check, Violations, check};

/// Writes `T` and reads `U`. What it has read keeps to its contract, unless it is an answer: those are
/// believed.
#[derive(Clone, Debug)]
pub struct CheckedCodec<T, U>(PhantomData<(T, U)>);

impl<T, U> Default for CheckedCodec<T, U> {
    fn default() -> Self {
        Self(PhantomData)
    }
}

impl<T, U> Codec for CheckedCodec<T, U>
where
    T: Message + Send + 'static,
    U: Message + Default + Check + Send + 'static,
{
    type Encode = T;
    type Decode = U;
    type Encoder = ProstEncoder<T>;
    type Decoder = CheckedDecoder<U>;

    fn encoder(&mut self) -> Self::Encoder {
        ProstEncoder::default()
    }

    fn decoder(&mut self) -> Self::Decoder {
        CheckedDecoder(PhantomData)
    }
}

/// The reading half of [`CheckedCodec`].
#[derive(Clone, Debug)]
pub struct CheckedDecoder<U>(PhantomData<U>);

impl<U: Message + Default + Check> Decoder for CheckedDecoder<U> {
    type Item = U;
    type Error = Status;

    fn decode(&mut self, source: &mut DecodeBuf<'_>) -> Result<Option<U>, Status> {
        // What exactly is wrong with the bytes stays here: it tells more of the inside than it helps.
        let message = U::decode(source).map_err(|_| {
            let code = if U::ANSWER { Code::Internal } else { Code::InvalidArgument };
            Status::new(code, format!("the message is not a valid {}", U::NAME))
        })?;
        if !U::ANSWER {
            check(&message)?;
        }
        Ok(Some(message))
    }
}

impl From<Violations> for Status {
    fn from(violations: Violations) -> Self {
        let fields: Vec<FieldViolation> =
            violations.as_slice().iter().map(|one| FieldViolation::new(&one.path, &one.message)).collect();
        let details = ErrorDetails::with_bad_request(fields);
        Self::with_error_details(Code::InvalidArgument, violations.to_string(), details)
    }
}

#[cfg(test)]
mod tests {
    use bytes::{BufMut, Bytes, BytesMut};
    use http_body_util::Full;
    use tonic::Streaming;

    use super::*;
    use crate::google::api::HttpBody;
    use crate::kombify::users::v1::{GetUserRequest, ListUsersRequest, ListUsersResponse};

    /// What arrives when `sent` comes over the wire where an `M` is read.
    async fn receive<M: Message + Default + Check + 'static>(sent: Vec<u8>) -> Result<M, Status> {
        let mut frame = BytesMut::new();
        frame.put_u8(0);
        frame.put_u32(u32::try_from(sent.len()).unwrap());
        frame.put_slice(&sent);
        let decoder = CheckedCodec::<M, M>::default().decoder();
        let body = Full::<Bytes>::new(frame.freeze());
        Ok(Streaming::new_request(decoder, body, None, None).message().await?.unwrap())
    }

    #[tokio::test]
    async fn a_request_that_keeps_to_its_contract_arrives() {
        let sent = GetUserRequest { sub: "ada".into() };
        assert_eq!(receive::<GetUserRequest>(sent.encode_to_vec()).await.unwrap(), sent);
    }

    #[tokio::test]
    async fn a_request_that_does_not_is_refused_with_every_wrong_field() {
        let sent = ListUsersRequest { limit: 101, search: "x".repeat(101), ..ListUsersRequest::default() };
        let status = receive::<ListUsersRequest>(sent.encode_to_vec()).await.unwrap_err();
        assert_eq!((status.code(), status.message()), (Code::InvalidArgument, "2 fields are not valid"));
        let details = status.get_details_bad_request().unwrap();
        let fields: Vec<_> =
            details.field_violations.into_iter().map(|one| (one.field, one.description)).collect();
        assert_eq!(
            fields,
            [
                ("limit".to_owned(), "must be from 0 to 100".to_owned()),
                ("search".to_owned(), "must have at most 100 characters".to_owned()),
            ]
        );
    }

    #[tokio::test]
    async fn bytes_that_are_no_message_are_refused_without_insides() {
        let status = receive::<GetUserRequest>(vec![0x0a, 0xff]).await.unwrap_err();
        assert_eq!(status.code(), Code::InvalidArgument);
        assert_eq!(status.message(), "the message is not a valid kombify.users.v1.GetUserRequest");
        let status = receive::<ListUsersResponse>(vec![0x0a, 0xff]).await.unwrap_err();
        assert_eq!(status.code(), Code::Internal);
    }

    #[tokio::test]
    async fn raw_bytes_are_an_answer() {
        let data = Bytes::from_static(b"\x1f\x8b\0\xff");
        let sent = HttpBody { content_type: "application/gzip".into(), data };
        assert_eq!(receive::<HttpBody>(sent.encode_to_vec()).await.unwrap(), sent);
        let status = receive::<HttpBody>(vec![0x0a, 0xff]).await.unwrap_err();
        let said = "the message is not a valid google.api.HttpBody";
        assert_eq!((status.code(), status.message()), (Code::Internal, said));
    }
}
