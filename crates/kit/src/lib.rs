//! Floor 2: `StackKits`: their format, the checks of a spec, the Compose file that one makes, and how kits are packed.
//!
//! Refuses to know: where kits come from, who asks, and any network. What docs/guides/stackkits.md says is what holds.

mod archive;
mod budget;
mod cases;
mod compose;
mod directory;
mod emit;
mod files;
mod graph;
mod kit;
mod manifest;
mod node;
mod placeholder;
mod problem;
mod range;
mod rules;
mod schema;
mod similar;
#[cfg(test)]
mod tests;
mod vary;
mod yaml;

pub use archive::Digest;
pub use budget::STEPS_MAX;
pub use cases::Case;
pub use files::{BYTES_MAX, FILE_BYTES_MAX, FILES_MAX, Files, Hostile, ReadError, Wrong};
pub use kit::{COMPOSE, CUE, DEFAULT_SPEC, Finding, Kit, MANIFEST, README, Rendered, SCHEMA, TESTS};
pub use manifest::{
    Architecture, Context, HealthCheck, Image, Manifest, Maturity, Os, Port, Protocol, Requirements,
    Resources, Role, Service, UseCase, Volume,
};
pub use node::{Entry, Node, Value};
pub use problem::{Code, PROBLEMS_MAX, Position, Problem, Verdict};
pub use range::read_range;
pub use schema::Schema;
pub use semver::{Version, VersionReq};
pub use vary::variations;
pub use yaml::{SPEC_MAX_BYTES, read};
