//! Each room of the mesh alone: what it lets pass, what it refuses, and what it leaves behind. Two guards in a row hide
//! each other, so each test wraps one room around a stub.
#![expect(clippy::unwrap_used, reason = "a failed step is a failed test")]

mod client;
mod complete;
mod drain;
mod due;
mod enforce;
mod health;
mod identify;
mod keys;
mod limit;
mod malformed;
mod mint;
mod name;
mod open;
mod panic;
mod refusals;
mod shed;
mod signer;
mod support;
mod tell;
mod weigh;
