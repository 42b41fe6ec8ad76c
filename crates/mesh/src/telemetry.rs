//! Logs as JSON lines, and metrics for Prometheus. Source: the contracts, "Logs".

use std::collections::BTreeMap;
use std::fmt;

use metrics_exporter_prometheus::{BuildError, PrometheusBuilder, PrometheusHandle};
use serde_json::Value;
use tracing::field::{Field, Visit};
use tracing::{Event, Subscriber};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::layer::{Context, SubscriberExt as _};
use tracing_subscriber::registry::{LookupSpan, Scope};
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{EnvFilter, Layer};

/// The buckets of every duration, in seconds.
const DURATION_BUCKETS: [f64; 11] = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 2.5, 10.0];

/// Starts logging to the standard error, once in a process. `filter` is what `RUST_LOG` takes, for example "info".
pub fn start_logs(filter: &str) {
    let filter = EnvFilter::try_new(filter).unwrap_or_else(|_| EnvFilter::new("info"));
    let lines = tracing_subscriber::fmt::layer().event_format(JsonLine).with_writer(std::io::stderr);
    // The filter stands before everything: spans that nobody reads are not even made.
    let _ = tracing_subscriber::registry().with(filter).with(SpanFields).with(lines).try_init(); // A second start changes nothing.
}

/// Starts counting, once in a process; what comes back renders `/metrics`.
///
/// # Errors
/// - if the process counts already.
pub fn start_metrics() -> Result<PrometheusHandle, BuildError> {
    PrometheusBuilder::new().set_buckets(&DURATION_BUCKETS)?.install_recorder()
}

/// What a span adds to the lines within it.
struct Fields(BTreeMap<&'static str, Value>);

struct SpanFields;

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for SpanFields {
    fn on_new_span(
        &self,
        attributes: &tracing::span::Attributes<'_>,
        id: &tracing::Id,
        context: Context<'_, S>,
    ) {
        let mut collected = Collect::default();
        attributes.record(&mut collected);
        if let Some(span) = context.span(id) {
            span.extensions_mut().insert(Fields(collected.0));
        }
    }
}

#[derive(Default)]
struct Collect(BTreeMap<&'static str, Value>);

impl Visit for Collect {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.0.insert(field.name(), value.into());
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.0.insert(field.name(), value.into());
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.0.insert(field.name(), value.into());
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.0.insert(field.name(), ((value * 1000.0).round() / 1000.0).into());
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.0.insert(field.name(), value.into());
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.0.insert(field.name(), format!("{value:?}").into());
    }
}

/// One event as one flat JSON object: the time, the level, the message, what the spans know, what the event says.
struct JsonLine;

impl<S, N> FormatEvent<S, N> for JsonLine
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        #[expect(clippy::disallowed_methods, reason = "a log line is of the moment when it is written")]
        let now = jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%S%.3fZ").to_string();
        let mut said = Collect::default();
        event.record(&mut said);
        let mut known = BTreeMap::new();
        for span in context.event_scope().into_iter().flat_map(Scope::from_root) {
            if let Some(fields) = span.extensions().get::<Fields>() {
                known.extend(fields.0.clone());
            }
        }
        let message = said.0.remove("message").unwrap_or_default();
        known.append(&mut said.0);
        let service = known.remove("service").unwrap_or_else(|| "kombify".into());
        let level = event.metadata().level().as_str().to_ascii_lowercase();
        let first =
            [("timestamp", now.into()), ("level", level.into()), ("message", message), ("service", service)];
        for (index, (name, value)) in first.into_iter().chain(known).enumerate() {
            write!(writer, "{}{}:{value}", if index == 0 { "{" } else { "," }, Value::from(name))?;
        }
        writeln!(writer, "}}")
    }
}
