//! What the rooms of a request hand to each other: header names and extensions.

use std::sync::Arc;

use crate::Error;

/// Names one request in every log and answer. Kept if well-formed, else made.
pub const REQUEST_ID: &str = "x-request-id";
/// The tenant that the caller asks for, by id or by slug.
pub const TENANT_ID: &str = "x-tenant-id";
/// The caller's promise that a repeat is a repeat.
pub const IDEMPOTENCY_KEY: &str = "idempotency-key";
/// The user's own token beside a service's.
pub const USER_TOKEN: &str = "x-kombify-user-token";
/// The error envelope as base64url JSON of at most [`ERROR_MAX_BYTES`], for gateways that can only copy.
pub const ERROR: &str = "x-kombify-error";
/// How long the value of [`ERROR`] is at most.
pub const ERROR_MAX_BYTES: usize = 4096;
/// The HTTP status of an answer that is raw bytes (`google.api.HttpBody`), as the service says it beside them: 200, 206
/// or 304; nothing else counts. Whoever makes HTTP of the answer takes it out.
pub const HTTP_STATUS: &str = "x-kombify-http-status";
/// What [`Malformed`] says, from a gateway that read the JSON to the module whose doors come first: as [`ERROR`]. Whoever
/// sends it is refused with it, so that it needs no trust.
pub const MALFORMED: &str = "x-kombify-malformed";
/// The headers with which a gateway informs about the caller. No service of ours takes identity from them.
pub const IDENTITY: [&str; 6] =
    ["x-user-id", "x-user-email", "x-user-name", "x-org-id", "x-user-roles", "x-subscription-plan"];

/// A request extension: the JSON could not become a message. The request goes on through the same doors, and is
/// refused where a message that does not decode would be: so a stranger learns nothing about the contract.
#[derive(Clone, Debug)]
pub struct Malformed(pub Arc<Error>);

/// A response extension: the gRPC path of the method that answered, for logs and metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RpcPath(pub &'static str);
