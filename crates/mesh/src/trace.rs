//! W3C trace context (<https://www.w3.org/TR/trace-context/>): the trace that a request belongs to.

use kombify_core::Ids;

/// The header that carries it.
pub const TRACEPARENT: &str = "traceparent";

/// The trace of a request and the span that stands above it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TraceContext {
    trace_id: String,
    span_id: String,
    sampled: bool,
}

impl TraceContext {
    /// The trace that `traceparent` names, with a span of our own; a new trace where it names none.
    pub fn continue_from(traceparent: Option<&str>, ids: &dyn Ids) -> Self {
        let parent = traceparent.and_then(parse);
        let (trace_id, sampled) = parent.unwrap_or_else(|| (hex(&random::<16>(ids)), true));
        Self { trace_id, span_id: hex(&random::<8>(ids)), sampled }
    }

    /// The trace's id: 32 hexadecimal digits.
    pub fn trace_id(&self) -> &str {
        &self.trace_id
    }

    /// The header for calls that this request causes.
    pub fn header(&self) -> String {
        format!("00-{}-{}-{:02x}", self.trace_id, self.span_id, u8::from(self.sampled))
    }
}

fn random<const N: usize>(ids: &dyn Ids) -> [u8; N] {
    let mut bytes = [0; N];
    ids.fill(&mut bytes);
    bytes
}

fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

fn parse(header: &str) -> Option<(String, bool)> {
    let mut parts = header.split('-');
    let (version, trace, parent, flags) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
    let is_hex = |text: &str, length: usize| {
        text.len() == length && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
    };
    let not_zero = |text: &str| text.bytes().any(|byte| byte != b'0');
    let version_ok = is_hex(version, 2) && version != "ff" && (version != "00" || parts.next().is_none());
    let well_formed = version_ok
        && is_hex(trace, 32)
        && not_zero(trace)
        && is_hex(parent, 16)
        && not_zero(parent)
        && is_hex(flags, 2);
    let sampled = u8::from_str_radix(flags, 16).ok()? & 1 == 1;
    well_formed.then(|| (trace.to_owned(), sampled))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::system::SystemIds;

    #[test]
    fn a_trace_goes_on_and_a_broken_one_starts_anew() {
        let given = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        let trace = TraceContext::continue_from(Some(given), &SystemIds);
        assert_eq!(trace.trace_id(), "4bf92f3577b34da6a3ce929d0e0e4736");
        assert_ne!(trace.header(), given, "the span is our own");
        for broken in [
            "",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7",
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
            "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-more",
        ] {
            let trace = TraceContext::continue_from(Some(broken), &SystemIds);
            assert_ne!(trace.trace_id(), "4bf92f3577b34da6a3ce929d0e0e4736", "{broken}");
            assert_eq!(trace.trace_id().len(), 32);
        }
    }
}
