//! Whole flows against the running mesh.
#![expect(clippy::unwrap_used, reason = "a failed step is a failed test")]

mod answer;
mod browser;
mod floors;
mod homelab;
mod house;
mod kits;
mod matrix;
mod openapi;
mod peer;
mod readme;
mod rotation;
mod story;
