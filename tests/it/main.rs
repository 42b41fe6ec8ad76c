//! Whole flows against the running mesh.
#![expect(clippy::unwrap_used, reason = "a failed step is a failed test")]

mod floors;
mod matrix;
