//! Where a call stands in what it is part of, across nodes and programs: W3C Trace Context, Level 1.

use std::fmt;
use std::str::FromStr;

/// A place in a trace: what a request's `traceparent` header says, and what is handed on with every call.
///
/// ```
/// use anabranch::Trace;
///
/// let header = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
/// let trace: Trace = header.parse()?;
/// assert_eq!((trace.to_string().as_str(), trace.is_sampled()), (header, true));
/// # Ok::<(), anabranch::TraceError>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Trace {
    /// Which trace; not 0.
    pub id: u128,
    /// Which part of it asks; not 0, but where nobody does: a trace that begins with what is asked.
    pub span: u64,
    /// Whether it is recorded (bit 0); the other bits have no meaning yet.
    pub flags: u8,
}

/// It is no `traceparent`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("it is not VERSION-TRACE-SPAN-FLAGS in lower-case hexadecimal digits, as W3C Trace Context has it")]
pub struct TraceError;

impl Trace {
    /// Whether somebody records it.
    pub fn is_sampled(&self) -> bool {
        self.flags & 1 == 1
    }

    /// The same trace, from a part of it that this one asked.
    #[must_use]
    pub fn child(&self, span: u64) -> Trace {
        Trace {
            // 0 is no span's.
            span: span.max(1),
            ..*self
        }
    }
}

impl FromStr for Trace {
    type Err = TraceError;

    fn from_str(text: &str) -> Result<Trace, TraceError> {
        let is_hex = |part: &str| part.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        let mut parts = text.split('-');
        let mut part = |digits: usize| {
            let part = parts.next().filter(|part| part.len() == digits && is_hex(part));
            part.ok_or(TraceError)
        };
        let (version, id, span, flags) = (part(2)?, part(32)?, part(16)?, part(2)?);
        // A later version may say more behind what this one knows.
        if version == "ff" || version == "00" && parts.next().is_some() {
            return Err(TraceError);
        }
        let trace = Trace {
            id: u128::from_str_radix(id, 16).map_err(|_| TraceError)?,
            span: u64::from_str_radix(span, 16).map_err(|_| TraceError)?,
            flags: u8::from_str_radix(flags, 16).map_err(|_| TraceError)?,
        };
        if trace.id == 0 || trace.span == 0 {
            return Err(TraceError);
        }
        Ok(trace)
    }
}

impl fmt::Display for Trace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "00-{:032x}-{:016x}-{:02x}", self.id, self.span, self.flags)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_the_standard_has_is_a_trace() {
        let id = "4bf92f3577b34da6a3ce929d0e0e4736";
        let of = |text: String| text.parse::<Trace>();
        let trace = of(format!("00-{id}-00f067aa0ba902b7-00")).unwrap();
        assert!(!trace.is_sampled());
        assert_eq!(trace.child(0).span, 1);
        assert!(of(format!("cc-{id}-00f067aa0ba902b7-01-what-comes-later")).is_ok());
        for bad in [
            String::new(),
            format!("00-{id}-00f067aa0ba902b7"),
            format!("00-{id}-00f067aa0ba902b7-01-more"),
            format!("ff-{id}-00f067aa0ba902b7-01"),
            format!("00-{}-00f067aa0ba902b7-01", id.to_uppercase()),
            format!("00-{}-00f067aa0ba902b7-01", "0".repeat(32)),
            format!("00-{id}-0000000000000000-01"),
            format!("00-{id}-+0f067aa0ba902b7-01"),
            format!("00-{id}é-00f067aa0ba902b7-01"),
        ] {
            assert_eq!(of(bad.clone()), Err(TraceError), "{bad}");
        }
    }
}
