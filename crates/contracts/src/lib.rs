//! Floor 0: the contracts. What `proto/` says, as Rust: messages, clients and servers, descriptors, checks.
//! Written by the build; it knows no rule that is not in `proto/`, and nothing of who serves or calls.

use std::sync::LazyLock;

use prost_reflect::DescriptorPool;

pub mod check;
pub mod codec;
mod method;

#[cfg(test)]
mod contract_rules;
#[cfg(test)]
mod contract_tests;
#[cfg(test)]
mod oracle_tests;
#[cfg(test)]
mod samples;

#[expect(
    clippy::all,
    clippy::pedantic,
    clippy::allow_attributes,
    missing_docs,
    unused_qualifications,
    reason = "generated"
)]
mod generated {
    include!(concat!(env!("OUT_DIR"), "/kombify.rs"));

    pub(crate) mod checks {
        include!(concat!(env!("OUT_DIR"), "/checks.rs"));
    }
}

/// Messages for the tests of the checks.
#[cfg(test)]
#[expect(clippy::all, clippy::pedantic, reason = "generated")]
mod fixture {
    include!(concat!(env!("OUT_DIR"), "/fixture/kombify.rs"));

    pub(crate) mod checks {
        include!(concat!(env!("OUT_DIR"), "/fixture/checks.rs"));
    }
}

pub use check::{Check, Violation, Violations, check};
pub use generated::{google, kombify};
pub use method::{Http, Method, method, methods};

/// The request of a method.
pub trait Request {
    /// The tenant that the request names, by id or by slug: in the field that the method's access rule names.
    fn tenant(&self) -> Option<&str>;
}

/// The descriptors of every file of the contracts and of all that they import, encoded, with our options and
/// comments.
pub fn file_descriptor_set() -> &'static [u8] {
    include_bytes!(concat!(env!("OUT_DIR"), "/kombify.bin"))
}

static DESCRIPTORS: LazyLock<DescriptorPool> =
    LazyLock::new(|| DescriptorPool::decode(file_descriptor_set()).expect("the build has decoded it before"));

/// The descriptors of every file of the contracts and of all that they import.
pub fn descriptors() -> &'static DescriptorPool {
    &DESCRIPTORS
}
