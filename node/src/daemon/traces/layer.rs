//! Reads the spans of traces, and hands them on when they end.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use tokio::sync::mpsc;
use tracing::Subscriber;
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing_subscriber::layer::Context;
use tracing_subscriber::registry::LookupSpan;

use super::Part;

/// The layer of `tracing` that does.
pub(super) struct Parts {
    pub(super) queue: mpsc::Sender<Part>,
    /// Parts for which there was no room.
    pub(super) lost: Arc<AtomicU64>,
}

impl<S: Subscriber + for<'a> LookupSpan<'a>> tracing_subscriber::Layer<S> for Parts {
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        let Some(span) = context.span(id) else { return };
        let mut part = Part {
            name: attributes.metadata().name(),
            began_ns: now_ns(),
            ..Part::default()
        };
        attributes.record(&mut part);
        if part.is_sampled {
            span.extensions_mut().insert(part);
        }
    }

    fn on_record(&self, id: &Id, values: &Record<'_>, context: Context<'_, S>) {
        let Some(span) = context.span(id) else { return };
        if let Some(part) = span.extensions_mut().get_mut::<Part>() {
            values.record(part);
        }
    }

    fn on_close(&self, id: Id, context: Context<'_, S>) {
        let Some(span) = context.span(&id) else { return };
        let part = span.extensions_mut().remove::<Part>();
        let Some(mut part) = part else { return };
        part.ended_ns = now_ns();
        if self.queue.try_send(part).is_err() {
            self.lost.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl Visit for Part {
    fn record_bool(&mut self, field: &Field, value: bool) {
        if field.name() == "is_sampled" {
            self.is_sampled = value;
        }
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.record_debug(field, &format_args!("{value}"));
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        let text = format!("{value:?}");
        match field.name() {
            "trace_id" => self.trace = text,
            "span_id" => self.span = text,
            "parent_id" => self.parent = text,
            "role" => self.role = text,
            "entity" => self.entity = text,
            "method" => self.method = text,
            "error" => self.error = Some(text),
            _ => {}
        }
    }
}

fn now_ns() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}
