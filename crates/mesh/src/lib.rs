//! Floor 2: serving and calling, the same way for every module.
//!
//! The way of a request is a row of [rooms](room::Room): each decides one thing, and none knows what a service does.
//! Refuses to know: stores, JSON bodies, and what any contract is for.

pub mod access;
pub mod audit;
pub mod client;
pub mod config;
pub mod context;
pub mod download;
pub mod edge;
pub mod handoff;
pub mod health;
pub mod identity;
pub mod join;
pub mod limits;
pub mod malformed;
pub mod pages;
pub mod pushed;
pub mod rate;
pub mod refusals;
pub mod report;
pub mod room;
pub mod secret;
pub mod server;
pub mod status;
pub mod system;
pub mod telemetry;
pub mod trace;
pub mod whoami;

pub use access::{Opened, open, open_tenant};
pub use server::{Module, ServerConfig};
pub use status::OrStatus;
