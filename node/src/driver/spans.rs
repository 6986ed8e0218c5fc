//! Parts of traces, as spans of `tracing`: from where a call comes in, through other nodes, to its function and its commit.
//!
//! A call that belongs to no trace has none, and costs nothing. An exporter finds in the fields what it needs to put the parts of
//! all nodes together: `trace_id`, `span_id`, `parent_id`, `is_sampled` and `role`; `error` is set where one ends with one.

use std::fmt;

use crate::trace::Trace;

/// The target of all of them.
pub(crate) const TARGET: &str = "anabranch::trace";

/// What a part of a trace is part of, and the part itself.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place {
    /// Which part asks for it.
    pub of: Trace,
    pub own: Trace,
}

impl Place {
    /// A new part of this.
    pub fn of(of: Trace) -> Place {
        let own = of.child(rand::random());
        Place { of, own }
    }
}

/// The span of a part of a trace that has its place already: `span!("name", role, place, entity, method)`.
macro_rules! span {
    ($name:literal, $role:literal, $place:expr, $entity:expr, $method:expr) => {{
        let $crate::driver::spans::Place { of, own } = $place;
        tracing::info_span!(
            target: $crate::driver::spans::TARGET,
            $name,
            trace_id = format_args!("{:032x}", own.id),
            span_id = format_args!("{:016x}", own.span),
            parent_id = format_args!("{:016x}", of.span),
            is_sampled = own.is_sampled(),
            role = $role,
            entity = %$entity,
            method = %$method,
            error = tracing::field::Empty,
        )
    }};
}
pub(crate) use span;

/// The span of a new part of a trace, and where what it calls stands: `part!("name", role, trace, entity, method)`.
macro_rules! part {
    ($name:literal, $role:literal, $of:expr, $entity:expr, $method:expr) => {{
        let of: Option<$crate::trace::Trace> = $of;
        match of.map($crate::driver::spans::Place::of) {
            None => (tracing::Span::none(), None),
            Some(place) => {
                let span = $crate::driver::spans::span!($name, $role, place, $entity, $method);
                (span, Some(place.own))
            }
        }
    }};
}
pub(crate) use part;

/// A part has ended so.
pub(crate) fn end<T, E: fmt::Display>(span: &tracing::Span, result: &Result<T, E>) {
    if let Err(error) = result
        && !span.is_none()
    {
        span.record("error", tracing::field::display(error));
    }
}

/// A trace that begins with what is asked for.
pub(crate) fn begin(is_sampled: bool) -> Trace {
    Trace {
        id: rand::random::<u128>().max(1),
        span: 0,
        flags: u8::from(is_sampled),
    }
}
