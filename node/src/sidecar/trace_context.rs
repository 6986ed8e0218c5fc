//! Where a request stands in what it is part of: the headers of W3C Trace Context, alike for the ingress and the admin API.

use http::{HeaderMap, HeaderName, HeaderValue, Response};

use crate::driver::spans;
use crate::trace::Trace;

/// What a request says that it is part of.
pub const TRACEPARENT: &str = "traceparent";
/// What a request is answered to be part of (Trace Context, Level 2).
pub const TRACERESPONSE: &str = "traceresponse";

/// The trace that a request is part of; one that begins here if it says none, or says it wrongly, as the standard wants. Of those
/// that begin here so many are recorded, 0 to 1.
pub fn of(headers: &HeaderMap, sample: f64) -> Trace {
    let mut said = headers.get_all(TRACEPARENT).iter();
    let first = said.next().and_then(|value| value.to_str().ok()?.parse().ok());
    match first {
        Some(trace) if said.next().is_none() => trace,
        _ => spans::begin(rand::random_bool(sample)),
    }
}

/// An answer that says of which trace it is part.
pub fn with_trace<B>(mut response: Response<B>, trace: Trace) -> Response<B> {
    if let Ok(value) = HeaderValue::try_from(trace.to_string()) {
        let name = HeaderName::from_static(TRACERESPONSE);
        response.headers_mut().insert(name, value);
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    const SAID: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    #[test]
    fn one_good_header_is_joined_and_anything_else_begins_a_trace() {
        let of = |said: &[&'static str], sample| {
            let mut headers = HeaderMap::new();
            for value in said {
                headers.append(TRACEPARENT, HeaderValue::from_static(value));
            }
            super::of(&headers, sample)
        };
        assert_eq!(of(&[SAID], 0.0).to_string(), SAID);
        for said in [&[][..], &["nonsense"], &[SAID, SAID]] {
            assert!(!of(said, 0.0).is_sampled(), "{said:?}");
            let begun = of(said, 1.0);
            assert!(begun.is_sampled() && begun.to_string() != SAID, "{said:?}");
        }
        let answer = with_trace(Response::new(()), of(&[SAID], 0.0));
        assert_eq!(answer.headers()[TRACERESPONSE], SAID);
    }
}
