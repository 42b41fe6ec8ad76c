//! Time as an argument.

use jiff::Timestamp;

/// Where the time comes from: the system's clock in a process, a clock that is set by hand in a test.
pub trait Clock: Send + Sync + 'static {
    /// The present moment.
    fn now(&self) -> Timestamp;
}

/// A time as every answer shows it: UTC, whole seconds, RFC 3339.
pub fn rfc3339_seconds(time: Timestamp) -> String {
    time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}
