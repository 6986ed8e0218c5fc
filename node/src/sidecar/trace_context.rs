//! Where a request stands in what it is part of: the headers of W3C Trace Context, alike for the ingress and the admin API.

use http::{HeaderMap, HeaderName, HeaderValue, Response};

use crate::driver::spans::{self, Place};

/// What a request says that it is part of.
pub const TRACEPARENT: &str = "traceparent";
/// What a request is answered to be part of (Trace Context, Level 2).
pub const TRACERESPONSE: &str = "traceresponse";

/// The place of a request in its trace; in one that begins with it if it says none, or says it wrongly, as the standard wants. Of
/// those that begin here so many are recorded, 0 to 1.
pub(crate) fn of(headers: &HeaderMap, sample: f64) -> Place {
    let mut said = headers.get_all(TRACEPARENT).iter();
    let first = said.next().and_then(|value| value.to_str().ok()?.parse().ok());
    Place::of(match first {
        Some(trace) if said.next().is_none() => trace,
        _ => spans::begin(rand::random_bool(sample)),
    })
}

/// An answer that says which part of which trace it is.
pub(crate) fn with_trace<B>(mut response: Response<B>, place: Place) -> Response<B> {
    if let Ok(value) = HeaderValue::try_from(place.own.to_string()) {
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
        let joined = of(&[SAID], 0.0);
        assert_eq!(joined.of.to_string(), SAID);
        assert_eq!(joined.own, joined.of.child(joined.own.span));
        for said in [&[][..], &["nonsense"], &[SAID, SAID]] {
            assert!(!of(said, 0.0).own.is_sampled(), "{said:?}");
            let begun = of(said, 1.0);
            assert!(begun.own.is_sampled() && begun.own.id != joined.of.id, "{said:?}");
            assert_eq!(begun.of.span, 0, "nobody asked");
        }
        let answer = with_trace(Response::new(()), joined);
        assert_eq!(answer.headers()[TRACERESPONSE], joined.own.to_string());
    }
}
