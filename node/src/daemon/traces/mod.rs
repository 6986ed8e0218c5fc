//! Parts of traces on their way to a collector: gathered as they end, sent in batches, as OTLP over HTTP with JSON (OpenTelemetry
//! Protocol 1.x).
//!
//! Not here: what is a part of a trace (`driver::spans`). Contract: nobody waits for a collector. What it does not take in time is
//! lost and counted, and the log says when that begins and ends.

mod export;
mod layer;

pub use export::{Exporter, TRACES_PATH, start};

/// A part of a trace that has ended.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Part {
    name: &'static str,
    trace: String,
    span: String,
    parent: String,
    role: String,
    entity: String,
    method: String,
    error: Option<String>,
    is_sampled: bool,
    /// Nanoseconds since 1970.
    began_ns: u64,
    ended_ns: u64,
}
